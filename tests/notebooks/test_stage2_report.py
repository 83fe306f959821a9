"""notebooks/stage2_report.ipynb, run by papermill as a user runs it."""

import json
from functools import partial
from pathlib import Path

import pytest
from running import ABSOLUTE_PATH, bare_pictures, pictures, rows_of, run_notebook, visible

from pefomed.data.phantoms import png
from pefomed.embedded.phantoms import draw_phantom

nbformat = pytest.importorskip("nbformat")

papermill = partial(run_notebook, "stage2_report")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    finished = papermill(folder, limit=24, epochs=1)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder, nbformat.read(folder / "out.ipynb", as_version=4)


def test_the_embedded_default_runs_to_its_end(executed):
    folder, notebook = executed
    run = folder / "runs" / "stage2_report"
    names = {path.name for path in run.iterdir()}
    assert {"adapter", "predictions.jsonl", "metrics.json", "run.json"} <= names
    assert {"predictions_zero_shot.jsonl", "predictions_blank.jsonl", "predictions_shuffled.jsonl"} <= names
    assert not [name for name in names if name.endswith(".partial")]
    reports = rows_of(run / "predictions.jsonl")
    assert len(reports) == 24 and {(row["task"], row["condition"]) for row in reports} == {("report", "stage2")}
    assert all("stopped" in row and row["instruction"].startswith("[report] ") for row in reports)
    assert pictures(notebook) in (3, 4)  # without a finding, true or told, there are no bars to draw
    assert bare_pictures(notebook) == 0


def test_what_it_shows_is_what_the_files_say(executed):
    folder, notebook = executed
    scores = json.loads((folder / "runs" / "stage2_report" / "metrics.json").read_text())
    assert f"{scores['mean_words']['prediction']:.1f}" in visible(notebook)
    assert f"{scores['findings']['names']['exact_set']['share']:.1f}" in visible(notebook)
    assert f"cut at the bound (%), known for {scores['n']}" in visible(notebook)


def test_no_path_of_the_machine_is_in_the_executed_notebook(executed):
    folder, notebook = executed
    found = ABSOLUTE_PATH.search(visible(notebook))
    assert found is None, visible(notebook)[max(0, found.start() - 100) : found.end() + 100]
    assert str(folder) not in json.dumps(notebook)


def test_run_again_it_trains_nothing_anew(executed):
    folder, _ = executed
    weights = folder / "runs" / "stage2_report" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    finished = papermill(folder, limit=24, epochs=1, controls=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nosuch": 3}, "unknown parameter: nosuch; choose from base_dir, controls, data_dir"),
        ({"epochs": "many"}, "parameter epochs must be int, not 'many'"),
        ({"controls": 1}, "parameter controls must be bool, not 1"),
        ({"num_processes": 0}, "parameter num_processes must be at least 1, not 0"),
        ({"dataset": "vqa_rad"}, "parameter dataset must be one of 'phantoms', 'iu_xray', 'mimic_cxr', not 'vqa_rad'"),
        ({"section": "history"}, "parameter section must be one of '', 'findings', 'impression', 'both'"),
        ({"section": "both"}, "parameter dataset_options has no entry 'section'"),
        ({"data_dir": "/data/of/mine"}, "parameter data_dir must be a relative path"),
        ({"dataset": "iu_xray"}, "parameter data_dir is empty"),
    ],
)
def test_an_impossible_parameter_ends_it_with_one_clear_line(tmp_path, parameters, message):
    finished = papermill(tmp_path, **parameters)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (tmp_path / "runs").exists(), "something was started"


@pytest.mark.slow
def test_reports_of_iu_xray_run_to_their_end(shared, tmp_path):
    """The text is R2Gen's, of real studies; the films are drawn, since R2Gen's annotation comes without pictures."""
    annotation = json.loads((shared / "data" / "iu_xray_r2gen" / "annotation.json").read_text())
    annotation = {split: rows[:8] for split, rows in annotation.items()}
    (tmp_path / "iu_xray").mkdir()
    (tmp_path / "iu_xray" / "annotation.json").write_text(json.dumps(annotation))
    named = [name for rows in annotation.values() for row in rows for name in row["image_path"]]
    for seed, name in enumerate(named):
        film = tmp_path / "iu_xray" / "images" / name
        film.parent.mkdir(parents=True, exist_ok=True)
        film.write_bytes(png(draw_phantom(seed, "CHEST")))
    finished = papermill(tmp_path, dataset="iu_xray", data_dir="iu_xray", epochs=1, controls=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    run = tmp_path / "runs" / "stage2_report"
    assert len(rows_of(run / "predictions.jsonl")) == 16, "a row for each view"
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "findings are known of phantoms only" in visible(notebook)
    assert (pictures(notebook), bare_pictures(notebook)) == (3, 0)
    assert str(tmp_path) not in (run / "run.json").read_text() + visible(notebook)


@pytest.mark.slow
def test_two_processes_train_together_and_name_no_machine(tmp_path):
    finished = papermill(tmp_path, limit=16, epochs=1, controls=False, num_processes=2)
    assert finished.returncode == 0, finished.stderr[-3000:]
    plan = json.loads((tmp_path / "runs" / "stage2_report" / "plan.json").read_text())
    assert (plan["processes"], plan["rows"]) == (2, 16)
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert not ABSOLUTE_PATH.search(visible(notebook))


def mimic_cxr(folder: Path) -> None:
    """A credentialed data set's tree with invented text."""
    rows, views = ["dicom_id,study_id,subject_id,split"], ["dicom_id,subject_id,study_id,ViewPosition"]
    for number in range(12):
        subject, study, split = 10000000 + number, 50000000 + number, ("train", "validate", "test")[number % 3]
        place = folder / "files" / "p10" / f"p{subject}" / f"s{study}"
        place.mkdir(parents=True)
        place.with_suffix(".txt").write_text(f" FINDINGS:\n\n The zebra is number {number}.\n")
        (place / f"film-{number}.jpg").write_bytes(png(draw_phantom(number, "CHEST")))
        rows.append(f"film-{number},{study},{subject},{split}")
        views.append(f"film-{number},{subject},{study},PA")
    (folder / "mimic-cxr-2.0.0-split.csv").write_text("\n".join(rows) + "\n")
    (folder / "mimic-cxr-2.0.0-metadata.csv").write_text("\n".join(views) + "\n")


def test_of_credentialed_data_it_shows_numbers_only(tmp_path):
    mimic_cxr(tmp_path / "mimic")
    finished = papermill(tmp_path, dataset="mimic_cxr", data_dir="mimic", epochs=1, controls=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    reports = rows_of(tmp_path / "runs" / "stage2_report" / "predictions.jsonl")
    assert len(reports) == 4 and all("zebra" in row["answer"] for row in reports)
    assert "zebra" not in json.dumps(notebook)
    assert not [row for row in reports if row["prediction"] and row["prediction"] in json.dumps(notebook)]
    assert (pictures(notebook), bare_pictures(notebook)) == (1, 0), "the curves and nothing else"
    assert f"texts: {len(reports)}" in visible(notebook)
