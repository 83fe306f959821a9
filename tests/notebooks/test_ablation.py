"""notebooks/ablation.ipynb, run by papermill as a user runs it, on a random network."""

import json
from functools import partial
from pathlib import Path

import pytest
from running import ABSOLUTE_PATH, PIXELS, bare_pictures, pictures, run_notebook

nbformat = pytest.importorskip("nbformat")

from pefomed.files import read_json  # noqa: E402
from pefomed.predictions import write_predictions  # noqa: E402

papermill = partial(run_notebook, "ablation")
SMALL = {"base_dir": "base", "images": 4, "stage1_images": 10, "epochs": 1, "limit": 16}


def outputs(folder: Path) -> str:
    """Everything that the executed notebook shows, pictures aside."""
    texts = []
    for cell in nbformat.read(folder / "out.ipynb", as_version=4).cells:
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), *output.get("traceback", [])]
            texts += [
                PIXELS.sub("", "".join(value))
                for kind, value in output.get("data", {}).items()
                if kind.startswith("text/")
            ]
    return "\n".join(texts)


@pytest.fixture(scope="module")
def executed(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "base").symlink_to(tiny_base)
    finished = papermill(folder, **SMALL)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_it_trains_all_conditions_and_shows_what_the_files_say(executed):
    runs = executed / "runs" / "ablation" / "phantoms-vqa-4" / "seed-0"
    shown = outputs(executed)
    for condition in ("zero_shot", "stage1", "stage2", "stage1+2", "stage2_long", "replay+2"):
        assert read_json(runs / condition / "metrics.json")["n"]["overall"] == 16
    overall = read_json(runs / "stage2" / "metrics.json")["exact_match"]["overall"]
    assert f"{overall:.1f}" in shown
    assert "stage 1+2 minus replay alone" in shown and "16 overall, about 2 pictures" in shown
    found = ABSOLUTE_PATH.search(shown)
    assert found is None, shown[max(0, found.start() - 100) : found.end() + 100]
    assert str(executed) not in json.dumps(nbformat.read(executed / "out.ipynb", as_version=4))


@pytest.mark.slow
def test_run_again_it_reads_and_with_other_parameters_it_refuses(executed):
    runs = executed / "runs" / "ablation" / "phantoms-vqa-4" / "seed-0"
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/predictions.jsonl")}
    finished = papermill(executed, **SMALL)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 6
    finished = papermill(executed, **{**SMALL, "limit": 8})
    assert finished.returncode == 1
    assert "holds another ablation (different: stage1 limit, stage2 limit)" in finished.stderr


def test_answered_runs_are_read_without_any_training(tmp_path):
    true = ["there is a small left pneumothorax.", "there is ascites.", "the brain is normal."]
    for size in (100, 500):
        for seed in (0, 1, 2):
            for condition, told in (("zero_shot", "clear."), ("stage2", true[0]), ("stage1+2", true[1])):
                row = {"dataset": "phantoms", "task": "report", "prediction": told}
                rows = [{**row, "id": str(i), "answer": true[i % 3], "group": f"p{i}"} for i in range(9)]
                write_predictions(
                    tmp_path / "given" / f"report-{size}" / f"seed-{seed}" / condition / "predictions.jsonl", rows
                )
    finished = papermill(tmp_path, runs_dir="given", task="report")
    assert finished.returncode == 0, finished.stderr[-3000:]
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert (pictures(notebook), bare_pictures(notebook)) == (2, 0), "one figure for each ablation"
    shown = outputs(tmp_path)
    assert "report-100: phantoms, 9 texts, 6 findings, about 9 pictures" in shown
    assert "40.0 (" in shown and "+40.0, +40.0, +40.0" in shown
    assert "report-500, F1: stage1+2 against stage2: not told apart (3 seeds)" in shown
    assert not (tmp_path / "runs").exists(), "something was trained"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"task": "caption"}, "parameter task must be one of 'vqa', 'report', not 'caption'"),
        ({"seeds": 0}, "parameter seeds must be"),
        ({"runs_dir": "/data/of/mine"}, "parameter runs_dir must be a relative path"),
        ({"task": "report", "dataset": "slake"}, "task 'report' of data set 'slake' has no score"),
    ],
)
def test_an_impossible_parameter_ends_it_with_one_clear_line(tmp_path, parameters, message):
    finished = papermill(tmp_path, **parameters)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (tmp_path / "runs").exists(), "something was started"
