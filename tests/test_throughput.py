"""The comparison of training speeds: equal losses, shapes of the work, medians, ratios, resuming, and the script."""

import argparse
import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import numpy as np  # noqa: E402

from pefomed import throughput  # noqa: E402
from pefomed.procedure import CLEAN  # noqa: E402
from pefomed.throughput import KINDS, OURS, Case, Effort, Variant, compare  # noqa: E402
from pefomed.throughput_cases import OWN_TOKENS, build, network_config  # noqa: E402
from pefomed.throughput_measure import alternate, measure  # noqa: E402
from pefomed.training.collator import TrainingCollator, encode_row  # noqa: E402
from pefomed.training.prefix import PrefixCollator, share_prefix  # noqa: E402

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import bench_training  # noqa: E402
import paper_scale  # noqa: E402
import paper_scale_counts  # noqa: E402

SMALL = Case(name="synthetic", pictures=2, questions=3, image_tokens=4, layers=1, width=16)
SHORT = Effort(seconds=0.0, steps=1, warm_up=1)


@pytest.fixture(scope="module", autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def measured() -> dict[str, dict]:
    """Every kind at the same batch size, in this process."""
    return {kind: measure(SMALL, Variant(kind, 3), SHORT) for kind in KINDS}


@pytest.fixture
def in_this_process(monkeypatch):
    """Measurements without a process for each."""
    monkeypatch.setattr(throughput, "_in_a_fresh_process", lambda arguments, threads: throughput.answered(arguments))


@pytest.mark.parametrize("loss", ["loss", "first_step_loss"])
def test_all_variants_begin_with_the_same_loss(measured, loss):
    for kind in KINDS:
        assert measured[kind][loss] == pytest.approx(measured["plain"][loss], rel=1e-6), kind
    assert measured["plain"][loss] == pytest.approx(np.log(32000), abs=1)


def test_the_plain_variant_is_the_published_procedure(measured):
    work = measured["plain"]["work"]
    assert work["encoded"] == work["projected"] == 1
    assert work["logits"] == work["positions"] >= 44  # 4 of the picture, 40 of text, and padding


def test_what_each_variant_saves(measured):
    work = {kind: one["work"] for kind, one in measured.items()}
    assert all(work[kind]["encoded"] == 0 for kind in KINDS if kind != "plain")
    assert work["cached"]["positions"] == work["plain"]["positions"]
    assert work["cached+shared"]["positions"] < work["plain"]["positions"] - 15
    assert work["cached+shared"]["projected"] == pytest.approx(1 / 3, abs=1e-3)
    assert work["cached+shared"]["logits"] == work["cached+shared"]["positions"]
    assert work[OURS]["logits"] == work["cached+logits at labels"]["logits"] == 4  # three words and </s>


def test_encoding_is_timed_where_features_are_kept(measured):
    assert measured["plain"]["encode_seconds"] == 0
    assert measured[OURS]["encode_seconds"] > 0


def test_sharing_and_not_sharing_take_turns(monkeypatch):
    collated = []
    for module, name in ((TrainingCollator, "cached"), (PrefixCollator, "shared")):
        call = module.__call__
        monkeypatch.setattr(
            module, "__call__", lambda self, rows, call=call, name=name: collated.append(name) or call(self, rows)
        )
    seconds = alternate(SMALL, batch_size=2, turns=2)
    assert collated[:16] == (["cached"] * 4 + ["shared"] * 4) * 2
    assert {name: len(found) for name, found in seconds.items()} == {"cached": 4, "shared": 4}
    assert min(map(min, seconds.values())) > 0


def test_texts_have_the_lengths_that_were_asked_for():
    _, processor, rows, _ = build(
        Case(name="synthetic", pictures=13, questions=13, image_tokens=4, layers=1, width=16)
    )
    encoded = [encode_row(processor, row, CLEAN, 64, np.random.default_rng(0)) for row in rows]
    lengths = [len(one.input_ids) - 4 for one in encoded]
    assert np.mean(lengths) == 40 and (min(lengths), max(lengths)) == (34, 46)
    shared = share_prefix(encoded[:13], processor.image_token_id)
    assert len(shared.prefix) == 4 + 40 - OWN_TOKENS
    assert len({tuple(one.input_ids) for one in encoded[:13]}) == 13


def made_up(speeds: dict, memory: dict):
    """Stands in for a process: speeds and memory by kind and batch size."""
    calls = []

    def answer(arguments: list[str], threads: int) -> dict:
        calls.append(arguments)
        asked = json.loads(arguments[1])["variant"]
        variant = (asked["kind"], asked["batch_size"])
        if variant not in speeds:
            return {"out_of_memory": True}
        same = sum(call == arguments for call in calls)
        seconds = (1, 3, 2)[same - 1] / speeds[variant] / 2  # the median is 1 / speed
        return {
            "seconds_per_question": seconds,
            "wall_seconds_per_question": seconds,
            "encode_seconds": 0.0 if asked["kind"] == "plain" else 30.0,
            "peak_mb": memory[variant],
            "loss": 10.0,
            "first_step_loss": 10.0,
            "steps": 3,
            "work": {"positions": 1},
            "sizes": {"pictures": 10, "questions": 10},
        }

    return answer, calls


SPEEDS = {("plain", 1): 2.0, ("plain", 8): 4.0, (OURS, 10): 20.0, (OURS, 20): 40.0}
MEMORY = {("plain", 1): 500, ("plain", 8): 900, (OURS, 10): 600, (OURS, 20): 1000}
MADE_UP = [Variant("plain", 1), Variant("plain", 8), Variant("plain", 64), Variant(OURS, 10), Variant(OURS, 20)]


def test_medians_ratios_and_the_bound_on_memory(monkeypatch):
    answer, calls = made_up(SPEEDS, MEMORY)
    monkeypatch.setattr(throughput, "_in_a_fresh_process", answer)
    found = compare(SMALL, MADE_UP, 3, SHORT, (1, 3))
    assert list(found["variants"]) == ["plain-1", "plain-8", OURS]
    assert found["best_plain"] == "plain-8"
    ours = found["variants"][OURS]
    # Batch 20 is faster, but needs more memory than plain at its best.
    assert (ours["questions_per_second"], ours["batch_size"], ours["peak_mb"]) == (20.0, 10, 600)
    assert ours["seconds"] == [0.025, 0.075, 0.05]
    assert found["tried"][OURS] == {"10": 20.0, "20": 40.0} and found["tried"]["plain"]["64"] is None
    assert ours["end_to_end"] == {"1": pytest.approx(100 / 35, abs=1e-3), "3": pytest.approx(300 / 45, abs=1e-3)}
    assert found["ratios"]["to_best_plain"] == 5.0 and found["ratios"]["to_plain_1"] == 10.0
    assert found["ratios"]["peak_mb_to_best_plain"] == pytest.approx(600 / 900, abs=1e-3)
    assert found["ratios"]["end_to_end_3_to_best_plain"] == pytest.approx(300 / 45 / 4, abs=1e-3)
    assert len(calls) == 4 * 3 + 1  # what did not fit is not tried again
    kinds = [json.loads(call[1])["variant"]["batch_size"] for call in calls]
    assert kinds[:5] == [1, 8, 64, 10, 20] and kinds[5:9] == [1, 8, 10, 20]  # in turn


def test_a_killed_comparison_goes_on(monkeypatch, tmp_path):
    answer, calls = made_up(SPEEDS, MEMORY)

    def killed(arguments, threads):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(arguments, threads)

    monkeypatch.setattr(throughput, "_in_a_fresh_process", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(SMALL, MADE_UP, 1, SHORT, kept=tmp_path / "kept.json")
    monkeypatch.setattr(throughput, "_in_a_fresh_process", answer)
    again = compare(SMALL, MADE_UP, 1, SHORT, kept=tmp_path / "kept.json")
    assert len(calls) == 5 and list(again["variants"]) == ["plain-1", "plain-8", OURS]
    compare(SMALL, MADE_UP, 1, Effort(seconds=1.0), kept=tmp_path / "kept.json")
    assert len(calls) == 10  # other arguments are measured anew


def test_mistakes_are_told(monkeypatch):
    with pytest.raises(ValueError, match="case must be one of synthetic, phantoms, full, not 'x'"):
        Case(name="x")
    with pytest.raises(ValueError, match="variant must be one of plain, .*not 'x'"):
        Variant("x", 1)
    with pytest.raises(ValueError, match="image_tokens=63"):
        build(Case(name="synthetic", image_tokens=63))
    with pytest.raises(ValueError, match="text_tokens=20"):
        build(Case(name="synthetic", image_tokens=4, text_tokens=20, layers=1, width=16))
    monkeypatch.setattr(throughput, "_in_a_fresh_process", made_up({}, {})[0])
    with pytest.raises(ValueError, match="no plain variant was measured"):
        compare(SMALL, MADE_UP, 1, SHORT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="device cuda: CUDA is not available here"):
        measure(Case(name="full", device="cuda"), Variant("plain", 1), SHORT)


def test_what_the_other_process_says_of_its_failure_is_passed_on():
    with pytest.raises(RuntimeError, match="a measurement failed: --matmul moon.*\n(.*\n)*.*invalid choice: 'moon'"):
        throughput.matmul_apart(argparse.Namespace(device="moon", threads=1))


@pytest.mark.slow
def test_a_measurement_in_a_process_of_its_own():
    found = throughput.measured_apart(SMALL, Variant(OURS, 3), SHORT, 0, None)
    assert found["steps"] == 1 and found["peak_mb"] > 0
    assert found["loss"] == pytest.approx(measure(SMALL, Variant("plain", 1), SHORT)["loss"], rel=1e-6)


def test_operations_are_those_of_the_papers_arithmetic():
    case = Case(name="full", layers=2, width=32, image_tokens=16)
    length = 16 + 43 + 4
    work = {"positions": length, "attended": length**2, "logits": 4, "encoded": 1, "projected": 1}
    sizes = paper_scale_counts.count(network_config(case), 64)
    expected = paper_scale.flops(sizes, 43, 4, checkpointing=False, tower_backward=False)
    head = 4 * 32 * 32000 * 4  # without the second forward pass of trl's own loss
    expected = expected["total"] - expected["vocabulary head"] + head
    assert bench_training.flops_per_question(case, work, 64) == expected


def test_the_script_tries_the_full_case_on_the_cpu(in_this_process, tmp_path, capsys):
    out = tmp_path / "training.json"
    out.write_text(json.dumps({"cases": {"synthetic": {"variants": {}}}}))
    sizes = ["--layers", "1", "--width", "32", "--image-tokens", "4", "--pictures", "2", "--questions", "2"]
    batches = ["--plain-batches", "1", "2", "--shared-batches", "2", "--seconds", "0"]
    bench_training.main(["--case", "full", *sizes, *batches, "--out", str(out)])
    written = json.loads(out.read_text())
    assert set(written) == {"cases", "machine", "packages"} and set(written["cases"]) == {"synthetic", "full"}
    full = written["cases"]["full"]
    assert full["trial"] is True and full["sizes"]["text_tokens"] == pytest.approx(47, abs=6)
    assert set(full["variants"]) == {"plain-1", "plain-2", "cached", "cached+shared", OURS}
    losses = [one["loss"] for one in full["variants"].values()]
    assert losses == pytest.approx([losses[0]] * 5, rel=1e-6)
    assert set(full["roofline"]["variants"]) == set(full["variants"]) == set(full["stage2"]["minutes"])
    share = full["roofline"]["variants"]["plain-1"]
    achieved = share["flops_per_question"] * full["variants"]["plain-1"]["questions_per_second"] / 1e9
    assert share["achieved_gflops"] == pytest.approx(achieved, abs=0.01)
    assert full["stage2"]["minutes"][OURS] == pytest.approx(
        (
            full["variants"][OURS]["encode_seconds"] / 2 * 314
            + 50 * 3064 / full["variants"][OURS]["questions_per_second"]
        )
        / 60,
        abs=0.01,
    )
    assert list(tmp_path.iterdir()) == [out]
    assert capsys.readouterr().out.count("questions/s") == 2 + 2 + 1 + 1


def test_the_scripts_own_file_is_kept_from_trials(capsys):
    for arguments in (["--case", "full"], ["--pictures", "3"]):
        with pytest.raises(SystemExit):
            bench_training.parsed(arguments)
        assert "--out is needed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench_training.parsed(["--case", "full", "--device", "cuda", "--dtype", "float32"])
    assert "does not go with --device cuda" in capsys.readouterr().err
