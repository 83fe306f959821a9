"""The notebooks that evaluate and judge, run by papermill as a user runs them, on small predictions files."""

import json
from pathlib import Path

import pytest
from running import ABSOLUTE_PATH, bare_pictures, pictures, rows_of, run_notebook, visible
from server import Server

from pefomed.judge.offline import OFFLINE_NAME
from pefomed.predictions import write_predictions

nbformat = pytest.importorskip("nbformat")

TASKS = {"evaluate_vqa": "vqa", "judge_vqa": "vqa", "evaluate_report": "report", "judge_report": "report"}
KEY = "sk-notebook-0123456789-never-to-be-seen"
REPORT = "the lungs are clear without effusion or focal consolidation and the heart is normal in size today"
# Reference and generated answer: equal, of one meaning, and wrong twice.
ANSWERS = (("left lung", "left lung"), ("ct", "computed tomography"), ("yes", "no"), ("liver", "spleen"))


def rows_of_task(task: str, dataset: str, shift: int = 0) -> list[dict]:
    """Rows in the form of predictions.jsonl; another shift gives another model's."""
    rows = []
    for number in range(30):
        answer, prediction = ANSWERS[number % 4]
        row = {"id": f"row {number}", "task": task, "dataset": dataset, "group": f"picture {number // 2}"}
        if task == "vqa":
            row |= {"question": "what is seen?", "answer": answer, "answer_type": ("open", "closed")[number % 4 == 2]}
            row |= {"prediction": prediction if (number + shift) % 5 else "nothing", "image_organ": "CHEST"}
            row |= {"question_type": ("ABN", "POS")[number % 3 == 0], "phrase_type": ("freeform", "para")[number % 2]}
        else:
            words, wrong = REPORT.split(), (number + 3 * shift) % 17
            row |= {"answer": REPORT, "prediction": " ".join([*words[: len(words) - wrong], *["zebra"] * wrong])}
        rows.append(row)
    return rows


def run(name: str, folder: Path, **parameters):
    finished = run_notebook(name, folder, predictions="mine.jsonl", **parameters)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return nbformat.read(folder / "out.ipynb", as_version=4)


def prepared(folder: Path, task: str, dataset: str) -> Path:
    write_predictions(folder / "mine.jsonl", rows_of_task(task, dataset))
    write_predictions(folder / "other.jsonl", rows_of_task(task, dataset, shift=1))
    return folder


@pytest.fixture(scope="module", params=TASKS)
def executed(request, tmp_path_factory):
    """Each notebook once, on a file of the paper's data sets with a baseline."""
    name, task = request.param, TASKS[request.param]
    folder = prepared(tmp_path_factory.mktemp(name), task, {"vqa": "vqa_rad", "report": "iu_xray"}[task])
    return name, folder, run(name, folder, baseline="other.jsonl")


def test_it_shows_its_figures_and_the_papers_lines(executed):
    name, _, notebook = executed
    assert pictures(notebook) == {"evaluate_vqa": 1, "judge_vqa": 1, "evaluate_report": 1, "judge_report": 2}[name]
    assert bare_pictures(notebook) == 0
    assert "(paper, Table " in visible(notebook)


def test_no_path_of_the_machine_is_in_the_executed_notebook(executed):
    _, folder, notebook = executed
    found = ABSOLUTE_PATH.search(visible(notebook))
    assert found is None, visible(notebook)[max(0, found.start() - 100) : found.end() + 100]
    assert str(folder) not in json.dumps(notebook)


def test_its_files_hold_what_it_shows(executed):
    name, folder, notebook = executed
    out = folder / "runs" / name
    if name.startswith("evaluate"):
        scores = json.loads((out / "metrics.json").read_text())
        compared = json.loads((out / "comparison.json").read_text())
        assert all(entry["n"] == 30 for entry in compared.values())
        shown = scores["exact_match"]["overall"] if name == "evaluate_vqa" else scores["rouge_l"]
        assert f"{shown:.1f}" in visible(notebook) if name == "evaluate_vqa" else f"{shown:.3f}" in visible(notebook)
    else:
        lines = rows_of(out / "judge.jsonl")
        assert len(lines) == 30 and {line["model"] for line in lines} == {OFFLINE_NAME}
        assert len(rows_of(out / "judge_baseline.jsonl")) == 30
        assert OFFLINE_NAME in visible(notebook) and json.loads((out / "scores.json").read_text())


def test_the_best_constant_report_stands_beside_the_models(executed):
    name, folder, notebook = executed
    if name == "evaluate_report":
        scores = json.loads((folder / "runs" / name / "metrics.json").read_text())
        # One text is every patient's true report, so that a constant is perfect and the model is not.
        assert scores["constant_report"]["rouge_l"]["scores"]["rouge_l"] == 1.0 > scores["rouge_l"]
        assert "best constant report by" in visible(notebook)


@pytest.mark.parametrize("name", ["evaluate_report", "judge_report"])
def test_no_text_of_a_credentialed_set_is_shown(name, tmp_path):
    notebook = run(name, prepared(tmp_path, "report", "mimic_cxr"))
    assert "zebra" not in visible(notebook) and "focal consolidation" not in visible(notebook)


def test_an_endpoint_judges_and_its_key_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prepared(tmp_path, "vqa", "slake")
    with Server() as server:
        given = {"judge": "endpoint", "base_url": server.url, "model": "mine", "repeats": 2}
        notebook = run("judge_vqa", tmp_path, **given, price_input=1.0, price_output=1.0)
        asked = len(server.bodies)
        run("judge_vqa", tmp_path, **given, price_input=1.0, price_output=1.0)
    assert 0 < asked == len(server.bodies)  # the second time nothing is asked
    assert {line["model"] for line in rows_of(tmp_path / "runs" / "judge_vqa" / "judge.jsonl")} == {"mine"}
    assert OFFLINE_NAME not in "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("evaluate_vqa", {"n_resamples": 5}, "n_resamples"),
        ("judge_vqa", {"judge": "gpt"}, "'offline', 'endpoint'"),
        ("judge_report", {"repeats": 0}, "repeats"),
        ("evaluate_report", {"prediction": "x.jsonl"}, "predictions"),
    ],
)
def test_a_wrong_parameter_ends_it_with_one_line(name, parameters, message, tmp_path):
    finished = run_notebook(name, tmp_path, **parameters)
    assert finished.returncode == 1
    assert message in finished.stderr


def test_the_embedded_run_is_made_where_there_is_none(tmp_path):
    finished = run_notebook("evaluate_vqa", tmp_path, limit=16, epochs=1, n_resamples=100)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert len(rows_of(tmp_path / "runs" / "stage2_vqa" / "predictions.jsonl")) == 16
    assert json.loads((tmp_path / "runs" / "evaluate_vqa" / "metrics.json").read_text())["n"]["overall"] == 16
