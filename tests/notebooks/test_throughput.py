"""notebooks/throughput.ipynb, run by papermill as a user runs it."""

import json
from functools import partial
from pathlib import Path

import pytest
from running import ABSOLUTE_PATH, run_notebook, visible

from pefomed.files import write_json

nbformat = pytest.importorskip("nbformat")

papermill = partial(run_notebook, "throughput")
FIGURE = '<figure class="run-figure">'


def write_results(folder: Path) -> None:
    """Results of a benchmark of training with numbers that nobody measured; there are none of answering."""
    speeds = {"plain-1": 1.0, "plain-8": 2.0, "cached+shared+logits at labels": 27.5}
    variants = {name: {"questions_per_second": speed, "seconds": [1 / speed] * 3} for name, speed in speeds.items()}
    points = {name: {"flops_per_question": 1e9, "achieved_gflops": 5.0, "share": 0.1} for name in speeds}
    case = {"variants": variants, "threads": 1, "roofline": {"matmul_gflops": 50.0, "variants": points}}
    growth = {"questions": [{"questions": count, "plain": 1.0, "shared": 2.0 * count} for count in (1, 10)]}
    machine = {"platform": "Linux on an abacus"}
    write_json(folder / "training.json", {"machine": machine, "cases": {"synthetic": case}, "growth": growth})


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput")
    write_results(folder / "given")
    finished = papermill(folder, limit=16, batch_size=8, repeats=1, results_dir="given")
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder, nbformat.read(folder / "out.ipynb", as_version=4)


def test_five_ways_train_alike_and_three_answer_alike(executed):
    folder, notebook = executed
    left = json.loads((folder / "runs" / "throughput" / "throughput.json").read_text())
    assert left["questions"] == {"training": 16, "answering": 16}
    assert left["largest_relative_difference_of_losses"] < 1e-4
    losses = [entry["loss"] for entry in left["training"]["variants"].values()]
    assert len(losses) == 5 and losses == pytest.approx([losses[0]] * 5, rel=1e-5)
    answering = left["answering"]["variants"]
    assert {name: entry["answers_as_one_by_one"] for name, entry in answering.items()} == {
        "plain-1": 16,
        "plain-32": 16,
        "prefix": 16,
    }
    assert left["parameters"]["batch_size"] == 8 and left["packages"]["torch"]
    assert f"{left['largest_relative_difference_of_losses']:.1e}" in visible(notebook)


def test_the_shared_rows_hold_each_picture_once(executed):
    _, notebook = executed
    assert "16 questions about 2 pictures in 2 steps" in visible(notebook)


def test_the_benchmarks_are_shown_with_their_machine_and_what_is_missing_is_said(executed):
    _, notebook = executed
    shown = visible(notebook)
    assert "training, synthetic: Linux on an abacus, 1 thread, medians of 3 runs" in shown
    assert "training, full: has not been run; python benchmarks/bench_training.py measures it" in shown
    assert "inference, synthetic: has not been run" in shown
    assert "27.5" in shown and "the paper's size has not been measured" in shown
    # Work, losses, training, answering; the benchmark's bars, growth and roof.
    assert shown.count(FIGURE) == 7


def test_no_path_of_the_machine_is_in_the_executed_notebook(executed):
    folder, notebook = executed
    found = ABSOLUTE_PATH.search(visible(notebook))
    assert found is None, visible(notebook)[max(0, found.start() - 100) : found.end() + 100]
    assert str(folder) not in json.dumps(notebook)
    assert str(folder) not in (folder / "runs" / "throughput" / "throughput.json").read_text()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nosuch": 3}, "unknown parameter: nosuch; choose from base_dir, batch_size, data_dir"),
        ({"repeats": 0}, "parameter repeats must be at least 1, not 0"),
        ({"results_dir": "/results/of/mine"}, "parameter results_dir must be a relative path"),
        ({"preset": "paper"}, "parameter base_dir is empty"),
    ],
)
def test_an_impossible_parameter_ends_it_with_one_clear_line(tmp_path, parameters, message):
    finished = papermill(tmp_path, **parameters)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (tmp_path / "runs").exists(), "something was started"
