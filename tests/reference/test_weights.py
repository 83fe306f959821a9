"""The larger record's weights after conversion, and the counts and names at the paper's full size."""

import pytest
import torch

from pefomed.model import PefomedForConditionalGeneration
from pefomed.model.adapters import fresh_adapter, trainable_table
from pefomed.model.checkpoints import read_checkpoint, translate
from pefomed.model.convert import check_complete
from pefomed.model.presets import paper_config
from pefomed.training.stages import STAGES

WHOLE = "weights/full_state.safetensors"
OWNED = {WHOLE: ("",)}


def test_converted_weights(record, large, large_model):
    """EVA file, LLaMA folder and checkpoint together make the state that the published code ran with."""
    state = read_checkpoint(record.folder / WHOLE)
    base = large.base().state_dict()
    for name, tensor in state.items():
        if name.endswith("inv_freq"):
            ours = large_model.get_base_model().model.language_model.rotary_emb.inv_freq
            record.close(WHOLE, name, ours, relative=1e-6)
        elif name.endswith(("q_bias", "v_bias")):
            pair = {other: state[other] for other in _query_and_value(name)}
            joined = base[next(iter(translate(pair, large.config).base))].chunk(3)
            assert not joined[1].any()  # keys have no bias
            record.exact(WHOLE, name, joined[0 if name.endswith("q_bias") else 2])
        elif ".lora_" in name or name.startswith("llama_proj"):
            record.exact(WHOLE, name, large.trained_parameter(large_model, name, tensor))
        else:
            record.exact(WHOLE, name, base[large.our_names(name, tensor)[0]])


def _query_and_value(name):
    block = name.rpartition(".")[0]
    return f"{block}.q_bias", f"{block}.v_bias"


@pytest.mark.parametrize("file", ["checkpoint_0.pth", "checkpoint_0_peft03names.pth"])
def test_both_name_forms_of_checkpoints(record, large, file):
    whole = translate(read_checkpoint(record.folder / WHOLE), large.config)
    translated = translate(read_checkpoint(record.folder / "weights" / file), large.config)
    assert not translated.unknown
    assert set(translated.adapter) == set(whole.adapter) and len(translated.adapter) == 8
    assert all(torch.equal(translated.adapter[name], whole.adapter[name]) for name in whole.adapter)
    assert len(translated.base) == 2
    assert all(torch.equal(translated.base[name], whole.base[name]) for name in translated.base)


@pytest.fixture(scope="module")
def full_size():
    """The paper's network without memory, with the published code's LoRA."""
    stage = STAGES["stage2_vqa"]["released_code"]
    with torch.device("meta"):
        model = PefomedForConditionalGeneration(paper_config())
        return fresh_adapter(model, stage.lora_r, stage.lora_alpha, stage.lora_dropout)


def test_trainable_counts(record, full_size):
    recorded = record.json("params.json")
    table = trainable_table(full_size)
    assert table["total"] == recorded["trainable_total"] == 56_627_200
    assert table["lora"] == recorded["trainable_lora"] == 33_554_432
    assert table["projector"] == recorded["trainable_llama_proj"] == 23_072_768
    trained = [parameter for parameter in full_size.parameters() if parameter.requires_grad]
    assert len(trained) == recorded["trainable_tensors"] == 130
    layer = full_size.get_base_model().model.language_model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == recorded["lora_scaling_r64_alpha16"] == 0.25


def test_frozen_counts(record, full_size):
    recorded = record.json("params.json")
    model = full_size.get_base_model()
    tower = sum(parameter.numel() for parameter in model.model.vision_tower.parameters())
    layer_norm = sum(parameter.numel() for parameter in model.model.vision_tower.post_layernorm.parameters())
    assert layer_norm == recorded["ln_vision_params"]
    # Ours stores the key bias, which is always zero, beside those of query and value: 1,408 numbers in 39 blocks.
    zero_key_biases = 39 * 1408
    assert tower - layer_norm - zero_key_biases == recorded["eva_vit_g_params_img448"] == 986_975_872
    language = [*model.model.language_model.named_parameters(), *model.lm_head.named_parameters()]
    base = sum(parameter.numel() for name, parameter in language if ".lora_" not in name)
    assert base == recorded["llama_base_params"] == 6_738_415_616
    assert paper_config().image_tokens == 256


def test_full_size_names_and_shapes(record):
    """Every published tensor, by its published name, has one place here, and no place stays empty."""
    state = {}
    for pattern, facts in record.json("params.json")["full_size_key_patterns"].items():
        numbers = range(facts["count"]) if ".N." in pattern else [0]
        for number in numbers:
            state[pattern.replace(".N.", f".{number}.")] = torch.empty(facts["shape"], device="meta")
    assert len(state) == record.json("params.json")["full_state_dict_keys_total"] == 966
    translated = translate(state, paper_config())
    assert not translated.unknown
    assert len(translated.set_aside) == 32 and all("inv_freq" in name for name in translated.set_aside)
    check_complete(translated.base, paper_config())
    assert len(translated.adapter) == 128


def test_every_listed_array_was_compared(record, request):
    record.assert_complete(request, OWNED)
