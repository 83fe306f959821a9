"""The plan for the paper's sizes: counts, arithmetic against figures by hand, tables, and the GPU script."""

import argparse
import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from transformers import Blip2VisionConfig, LlamaConfig  # noqa: E402

from pefomed.model import PefomedConfig, PefomedForConditionalGeneration  # noqa: E402
from pefomed.model.adapters import fresh_adapter  # noqa: E402
from pefomed.model.presets import paper_config  # noqa: E402
from pefomed.training.stages import get_stage  # noqa: E402

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import paper_scale  # noqa: E402
import paper_scale_counts  # noqa: E402
import paper_scale_measured  # noqa: E402
from paper_scale_tables import tables  # noqa: E402

RERUN = "run `python benchmarks/paper_scale.py --write`"


def small_config(layers: int = 2) -> PefomedConfig:
    """28 px, so 4 patches and 1 image token; one block of width 8 and `layers` layers of width 16."""
    return PefomedConfig(
        vision_config=Blip2VisionConfig(
            image_size=28, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
        ),
        text_config=LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=20,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
        ),
        image_token_index=50,
    )


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(paper_scale.RESULTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sizes():
    return paper_scale_counts.count(paper_config())


def test_counts_are_the_known_ones(sizes):
    assert sizes.trainable == 56_627_200
    assert sizes.eva == 986_975_872
    assert sizes.language_model == 6_738_415_616  # LLaMA-2-7B
    assert sizes.image_tokens == 256


def test_flops_of_a_small_case_by_hand():
    sizes = paper_scale_counts.count(small_config(), lora_r=3)
    assert sizes.lora == 2 * 2 * 2 * 16 * 3 and sizes.projector == 32 * 16 + 16
    # 1 image token + 4 + 2 = 7 positions; the tower sees 4 patches and the class token.
    found = paper_scale.flops(sizes, 4, 2, checkpointing=True, tower_backward=True)
    tower = 2 * (8 * 24 + 8 * 8 + 2 * 8 * 12) * 5 + 2 * (3 * 14 * 14 * 8) * 4
    tower_attention = 4 * 5 * 5 * 8
    layers = 2 * 2 * (4 * 16 * 16 + 3 * 16 * 20) * 7
    attention = 2 * 4 * 7 * 7 * 16
    lora = 2 * 384 * 7
    assert found["tower forward"] == tower + tower_attention
    assert found["tower again and backward"] == 2 * tower + 3 * tower_attention
    assert found["language model forward"] == found["language model again"] == layers + attention + lora
    assert found["language model backward"] == layers + 2 * attention + 2 * lora
    assert found["projector"] == 2 * 2 * 528
    assert found["vocabulary head"] == 3 * 2 * 16 * 50 * 2
    assert found["total"] == sum(value for name, value in found.items() if name != "total")
    without = paper_scale.flops(sizes, 4, 2, checkpointing=False, tower_backward=True)
    assert without["language model again"] == without["tower again and backward"] == 0


def kept_bytes(layers: int, positions: int) -> int:
    """Bytes that autograd really keeps of the language model's forward pass, parameters not counted."""
    torch.manual_seed(0)
    model = PefomedForConditionalGeneration(small_config(layers)).to(torch.bfloat16)
    adapted = fresh_adapter(model, 3, 16, 0.05).train()
    owned = {parameter.untyped_storage().data_ptr() for parameter in adapted.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor too, so that no address is used again
        return tensor

    embeds = torch.randn(1, positions, 16, dtype=torch.bfloat16, requires_grad=True)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
        model.model(inputs_embeds=embeds, attention_mask=torch.ones(1, positions, dtype=torch.long), use_cache=False)
    return sum(size for size, _ in kept.values())


def test_a_layer_keeps_as_many_bytes_as_computed():
    sizes = paper_scale_counts.count(small_config(), lora_r=3)
    copies = 2 * 2 * 16 * 3 * 2  # LoRA's matrices of a layer as autocast's bfloat16, counted with the weights
    computed = paper_scale.layer_bytes(sizes, mask_bytes=4)  # on the CPU dropout's mask is float32
    assert kept_bytes(3, 24) - kept_bytes(2, 24) == 24 * computed + copies


def test_the_tower_probe_agrees_with_training(stored):
    assert stored["tower_is_differentiated"] == paper_scale_counts.tower_is_differentiated(), RERUN


def test_stages_over_four_gpus():
    assert paper_scale.split_over(get_stage("stage1_captions", "paper"), 4) == (5, 5, True)
    assert paper_scale.split_over(get_stage("stage2_vqa", "paper"), 4) == (1, 1, False)


def test_samples_and_hours(stored):
    plans = {(entry["recipe"], entry["data"]): entry for entry in stored["plans"]}
    assert plans["paper", "mixture"]["samples"]["value"] == 500_000
    assert plans["paper", "vqa_rad"]["samples"]["value"] == 50 * 3064
    assert plans["released_code", "path_vqa"]["samples"]["value"] == 5000
    assert plans["released_code", "iu_xray"]["samples"]["value"] == 400
    entry = plans["paper", "vqa_rad"]
    hours = 153_200 * entry["flops_per_sample"]["total"] / (149.7e12 * 0.35) / 3600
    assert entry["hours"]["A40"]["1"] == pytest.approx(hours)
    exchange = entry["on_4_gpus"]["exchange_hours"]
    assert exchange == pytest.approx(38_300 * 1.5 * 4 * 56_627_200 / 25e9 / 3600)
    assert entry["hours"]["A40"]["4"] == pytest.approx(hours / 4 + exchange)
    assert entry["features_bytes"] == 314 * 256 * 5632 * 2
    assert all(entry["memory_longest"]["peak_checkpointed"] < 48e9 for entry in stored["plans"])


def test_the_stored_result_is_what_the_script_computes(stored):
    given = paper_scale.arguments().parse_args([])
    assert json.loads(json.dumps(paper_scale.everything(given))) == stored, RERUN


def test_the_printed_tables_show_the_figures_and_their_steps(stored):
    printed = tables(stored)
    assert set(printed) == {"parameters", "work", "tower", "time", "memory", "features", "fsdp"}
    assert "| trained | 56,627,200 | = 23,072,768 + 33,554,432 |" in printed["parameters"]
    assert "| 153,200 = 50 x 3,064 |" in printed["time"]
    entry = next(entry for entry in stored["plans"] if (entry["recipe"], entry["data"]) == ("paper", "vqa_rad"))
    assert f"| {entry['hours']['A40']['1']:.1f} / {entry['hours']['A40']['4']:.1f} |" in printed["time"]
    assert f"| {entry['memory']['peak_checkpointed'] / 1e9:.1f} |" in printed["memory"]
    for name in ("parameters", "work", "time", "memory", "features"):
        widths = {line.count(" | ") for line in printed[name].splitlines()}
        assert len(widths) == 1, f"{name}: rows of different lengths"


def test_another_assumption_prints_other_hours(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper_scale.py", "--utilisation", "0.175"])
    paper_scale.main()
    assert "= 2,194 / (149.7 x 0.175 x 3.6) = 23.3" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="the trial is for machines without a GPU")
def test_the_gpu_script_runs_small_on_the_cpu():
    small = {"layers": 1, "width": 16, "image_size": 28, "steps": 1}
    given = argparse.Namespace(device="cpu", data=["vqa_rad"], batch_sizes=[2], **small)
    result = paper_scale_measured.measure_all(given)
    assert result["trial"] and result["gpu"] is None and result["image_tokens"] == 1
    assert [case["gradient_checkpointing"] for case in result["cases"]] == [True, False]
    for case in result["cases"]:
        assert case["steps_counted"] == 1 and case["seconds_per_sample"] > 0
        assert case["trained_parameters"] == 2 * 2 * 16 * 64 + 64 * 16 + 16
        assert case["max_memory_allocated"] is None
        assert 9 < case["last_loss"] < 12  # ln 32,000 = 10.4 for weights that know nothing


def test_the_gpu_script_makes_texts_of_the_asked_lengths():
    config = paper_scale_measured.network_config(1, 16, 28)
    processor = paper_scale_measured.make_processor(config)
    assert len(processor.tokenizer) == 32001
    row = paper_scale_measured.make_rows(processor, 28, 1, 43, 4)[0]
    assert paper_scale_measured._lengths(processor, row) == (43, 4)
    with pytest.raises(ValueError, match="prompts of 3 tokens cannot be had"):
        paper_scale_measured.make_rows(processor, 28, 1, 3, 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no CUDA GPU here"),
        (["--device", "cpu"], "--out is needed"),
        (["--device", "cpu", "--out", "t.json", "--steps", "0"], "at least 1"),
    ],
)
def test_the_gpu_script_refuses_clearly(monkeypatch, given, message):
    monkeypatch.setattr(sys, "argv", ["paper_scale_measured.py", *given])
    with pytest.raises(SystemExit, match=message):
        paper_scale_measured.main()
