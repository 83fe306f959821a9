"""Adapters: what trains, what is saved, what comes back, and what is refused."""

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from peft import AutoPeftModel, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from pefomed.files import read_json
from pefomed.model import PefomedForConditionalGeneration
from pefomed.model.adapters import (
    base_fingerprint,
    find_adapter,
    fresh_adapter,
    load_adapter,
    lora_config,
    trainable_table,
    write_origin,
)

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def base(saved) -> PefomedForConditionalGeneration:
    """Loaded anew for each test, since an adapter changes what it is put on."""
    return PefomedForConditionalGeneration.from_pretrained(saved).eval()


@pytest.fixture(scope="session")
def trained(saved, randomise, logits_of, tmp_path_factory):
    """An adapter folder as a run leaves it, and the logits of the model that wrote it."""
    base = PefomedForConditionalGeneration.from_pretrained(saved)
    fingerprint = base_fingerprint(base)
    adapted = fresh_adapter(base, r=4, alpha=8, dropout=0.1).eval()
    with torch.no_grad():
        for index, parameter in enumerate(p for p in adapted.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.3)
    folder = tmp_path_factory.mktemp("run") / "adapter"
    adapted.save_pretrained(folder)
    write_origin(folder, fingerprint, init_from={"name": "stage1"})
    return folder, logits_of(adapted)


@pytest.fixture
def adapter(trained, tmp_path):
    """A copy of the trained adapter, to be damaged."""
    return shutil.copytree(trained[0], tmp_path / "adapter")


def change_weights(folder, change) -> None:
    """Rewrites the adapter's tensors, and the record of them, as a program would that saved such an adapter."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    write_origin(folder, read_json(folder / "adapter_origin.json")["base_fingerprint"])


# --- what trains ----------------------------------------------------------------------------------


def test_only_lora_on_queries_and_values_and_the_projector_train(base):
    adapted = fresh_adapter(base, r=4, alpha=4, dropout=0.05)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    layers = "base_model.model.model.language_model.layers"
    expected = {
        f"{layers}.{layer}.self_attn.{part}_proj.lora_{half}.default.weight"
        for layer in (0, 1)
        for part in "qv"
        for half in "AB"
    }
    projector = "base_model.model.model.multi_modal_projector.modules_to_save.default"
    assert trained == expected | {f"{projector}.weight", f"{projector}.bias"}
    assert trainable_table(adapted) == {"lora": 8 * 4 * 32, "projector": 129 * 32, "total": 8 * 4 * 32 + 129 * 32}


def test_a_fresh_adapter_changes_nothing(base, model, logits_of):
    adapted = fresh_adapter(base, r=4, alpha=4, dropout=0.05).eval()
    assert torch.equal(logits_of(adapted), logits_of(model))


def test_anything_else_that_would_train_is_refused(base):
    adapted = fresh_adapter(base, r=4, alpha=4, dropout=0.05)
    norm = adapted.get_base_model().model.vision_tower.post_layernorm
    norm.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"only LoRA and the projector may train.*post_layernorm\.weight"):
        trainable_table(adapted)


@pytest.mark.parametrize("part", ["lora_", "multi_modal_projector"])
def test_lora_and_projector_must_both_train(base, part):
    adapted = fresh_adapter(base, r=4, alpha=4, dropout=0.05)
    for name, parameter in adapted.named_parameters():
        if part in name:
            parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="LoRA and projector must both train"):
        trainable_table(adapted)


def test_the_papers_lora_scales_by_a_quarter():
    config = lora_config()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (64, 16, 0.05, "none")
    assert config.modules_to_save == ["multi_modal_projector"]


# --- saved and loaded -----------------------------------------------------------------------------


def test_an_adapter_folder_holds_what_another_program_needs(trained, saved):
    folder, _ = trained
    files = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", WEIGHTS, "adapter_origin.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth"))]
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    assert settings["task_type"] is None
    assert (settings["r"], settings["lora_alpha"], settings["lora_dropout"]) == (4, 8, 0.1)
    assert settings["modules_to_save"] == ["multi_modal_projector"]
    assert settings["target_modules"] == r".*language_model\..*\.(q_proj|v_proj)"
    assert settings["base_model_name_or_path"] == str(saved)
    assert settings["auto_mapping"]["base_model_class"] == "PefomedForConditionalGeneration"
    assert settings["auto_mapping"]["parent_library"] == "pefomed.model.modeling"
    tensors = load_file(folder / WEIGHTS)
    assert len(tensors) == 10
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.mark.parametrize("trainable", [False, True])
def test_a_saved_adapter_gives_equal_logits(base, model, trained, logits_of, trainable):
    folder, expected = trained
    loaded = load_adapter(base, folder.parent, trainable=trainable).eval()
    assert torch.equal(logits_of(loaded), expected)
    assert not torch.allclose(logits_of(model), expected, atol=1e-2)
    assert any(parameter.requires_grad for parameter in loaded.parameters()) == trainable
    if trainable:
        assert trainable_table(loaded)["total"] == 8 * 4 * 32 + 129 * 32


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
def test_peft_alone_loads_it(base, trained, logits_of):
    folder, expected = trained
    assert torch.equal(logits_of(PeftModel.from_pretrained(base, folder).eval()), expected)


@pytest.fixture
def offline(monkeypatch):
    """peft looks on the Hub for a tokenizer beside the adapter."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
def test_the_auto_class_of_peft_loads_base_and_adapter(trained, logits_of, offline):
    folder, expected = trained
    loaded = AutoPeftModel.from_pretrained(folder, import_allowlist=["pefomed.model.modeling"]).eval()
    assert type(loaded.get_base_model()) is PefomedForConditionalGeneration
    assert torch.equal(logits_of(loaded), expected)


def test_the_auto_class_of_transformers_loads_base_and_adapter(trained, logits_of, offline):
    folder, expected = trained
    loaded = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert torch.equal(logits_of(loaded), expected)


def test_merged_weights_give_equal_logits_and_save_as_a_plain_model(base, trained, logits_of, tmp_path):
    folder, expected = trained
    merged = load_adapter(base, folder, trainable=False).merge_and_unload().eval()
    assert type(merged) is PefomedForConditionalGeneration
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert torch.equal(logits_of(again), logits_of(merged))


def test_an_adapter_without_a_record_of_its_base_is_loaded(base, adapter, trained, logits_of):
    (adapter / "adapter_origin.json").unlink()
    assert torch.equal(logits_of(load_adapter(base, adapter, trainable=False).eval()), trained[1])


# --- fingerprint ----------------------------------------------------------------------------------


def test_an_adapter_on_the_base_does_not_change_its_fingerprint(base, trained):
    before = base_fingerprint(base)
    adapted = load_adapter(base, trained[0], trainable=True)
    assert base_fingerprint(adapted) == base_fingerprint(adapted.get_base_model()) == before


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        (torch.float16, (torch.float32, torch.float16, torch.bfloat16)),
        (torch.float32, (torch.float32, torch.bfloat16)),
    ],
)
def test_the_fingerprint_does_not_depend_on_the_precision_that_the_base_is_loaded_in(
    fresh_model, tmp_path, stored, loaded
):
    fresh_model.to(stored).save_pretrained(tmp_path)
    models = [PefomedForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype) for dtype in loaded]
    assert tuple(model.lm_head.weight.dtype for model in models) == loaded
    assert len({base_fingerprint(model) for model in models}) == 1


def test_the_fingerprint_tells_bases_apart(config, make_model, base):
    assert base_fingerprint(make_model(config, seed=1)) != base_fingerprint(base)
    before = base_fingerprint(base)
    with torch.no_grad():
        base.model.vision_tower.post_layernorm.bias[3] += 0.5
    assert base_fingerprint(base) != before


# --- mistakes -------------------------------------------------------------------------------------


def test_an_adapter_of_another_base_is_refused_with_both_fingerprints(config, make_model, trained):
    other = make_model(config, seed=1)
    own = read_json(trained[0] / "adapter_origin.json")["base_fingerprint"]
    message = f"trained on the base {own[:12]}, the loaded base is {base_fingerprint(other)[:12]}"
    with pytest.raises(ValueError, match=message):
        load_adapter(other, trained[0], trainable=False)


def test_a_missing_folder_is_named(base, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"{folder}: neither a run folder with adapter/ nor an adapter"):
            load_adapter(base, folder, trainable=False)


def test_a_run_folder_and_its_adapter_folder_are_both_found(trained):
    assert find_adapter(trained[0]) == find_adapter(trained[0].parent) == trained[0]


def test_missing_weights_are_named(base, adapter):
    (adapter / WEIGHTS).unlink()
    (adapter / "adapter_origin.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"{WEIGHTS}: no such file"):
        load_adapter(base, adapter, trainable=False)


@pytest.mark.parametrize("length", [0, 5, 400, -100])
@pytest.mark.parametrize("recorded", [True, False])
def test_truncated_weights_are_refused(base, adapter, length, recorded):
    data = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(data[:length])
    if not recorded:
        (adapter / "adapter_origin.json").unlink()
    with pytest.raises(ValueError, match=f"{WEIGHTS}: .*damaged") as caught:
        load_adapter(base, adapter, trainable=False)
    assert "\n" not in str(caught.value)


def test_a_single_flipped_bit_is_noticed(base, adapter):
    data = bytearray((adapter / WEIGHTS).read_bytes())
    data[-7] ^= 1
    (adapter / WEIGHTS).write_bytes(data)
    with pytest.raises(ValueError, match="damaged: not the weights that adapter_origin.json was written for"):
        load_adapter(base, adapter, trainable=False)


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"peft_type": "NOSUCH"}', '{"peft_type": "LORA", "r": "x"}'])
def test_a_damaged_adapter_configuration_is_refused(base, adapter, text):
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=f"{adapter}") as caught:
        load_adapter(base, adapter, trainable=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_a_damaged_record_of_origin_is_refused(base, adapter, text):
    (adapter / "adapter_origin.json").write_text(text)
    with pytest.raises(ValueError, match=r"adapter_origin\.json"):
        load_adapter(base, adapter, trainable=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["lora_B", "multi_modal_projector.bias"])
def test_nan_in_an_adapter_is_refused_by_name(base, adapter, value, part):
    def spoil(tensors):
        next(tensor for name, tensor in tensors.items() if part in name).view(-1)[3] = value

    change_weights(adapter, spoil)
    with pytest.raises(ValueError, match=rf"{part}.* holds NaN or infinity"):
        load_adapter(base, adapter, trainable=False)


@pytest.mark.parametrize("part", ["layers.1.self_attn.v_proj.lora_A", "multi_modal_projector.bias"])
def test_an_incomplete_adapter_is_refused(base, adapter, part):
    change_weights(adapter, lambda tensors: tensors.pop(next(name for name in tensors if part in name)))
    with pytest.raises(ValueError, match=rf"does not fit this base.*{part}"):
        load_adapter(base, adapter, trainable=False)


def test_an_adapter_with_tensors_that_have_no_place_is_refused(base, adapter):
    name = "base_model.model.model.language_model.layers.7.self_attn.q_proj.lora_A.weight"
    change_weights(adapter, lambda tensors: tensors.update({name: torch.ones(4, 32)}))
    with pytest.raises(ValueError, match=r"does not fit this base: .*layers\.7"):
        load_adapter(base, adapter, trainable=False)


def test_an_adapter_of_another_rank_is_refused(base, adapter):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "r": 8}))
    with pytest.raises(ValueError, match="damaged or does not fit this base") as caught:
        load_adapter(base, adapter, trainable=False)
    assert "\n" not in str(caught.value)


def test_a_refused_adapter_leaves_the_base_as_it_was(base, adapter, model, logits_of):
    change_weights(adapter, lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    with pytest.raises(ValueError, match="NaN"):
        load_adapter(base, adapter, trainable=False)
    assert set(base.state_dict()) == set(model.state_dict())
    assert torch.equal(logits_of(base), logits_of(model))
