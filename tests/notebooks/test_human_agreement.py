"""notebooks/human_agreement.ipynb, run by papermill as a user runs it, on small predictions files."""

import hashlib
import json
from functools import partial
from pathlib import Path

import pytest
from running import ABSOLUTE_PATH, bare_pictures, pictures, rows_of, run_notebook, visible

from pefomed.human.sheet_import import import_sheets
from pefomed.human.sheets import RATINGS_SHEET, SCORE
from pefomed.judge.offline import OFFLINE_NAME
from pefomed.metrics.normalise import is_match
from pefomed.predictions import write_predictions

nbformat = pytest.importorskip("nbformat")
openpyxl = pytest.importorskip("openpyxl")

RATERS = 3
papermill = partial(run_notebook, "human_agreement", predictions="mine.jsonl", raters=RATERS, n_resamples=100)
FILES = {"agreement.json", "evaluations.json", "judge_offline.jsonl", "judge_offline.run.json", "key.json"}
# Reference and generated answer: equal, of one meaning, and wrong twice.
ANSWERS = (("left lung", "left lung"), ("left", "left lung"), ("yes", "no"), ("liver", "spleen"))
REPORT = "the lungs are clear without effusion or focal consolidation and the heart is normal in size today"


def vqa_rows() -> list[dict]:
    return [
        {
            **{"id": f"q{number}", "task": "vqa", "dataset": "vqa_rad", "group": f"picture {number // 2}"},
            **{"question": "what is seen?", "answer": ANSWERS[number % 4][0], "prediction": ANSWERS[number % 4][1]},
            **{"answer_type": ("open", "closed")[number % 4 == 2], "question_type": ("ABN", "POS")[number % 3 == 0]},
            **{"image_organ": ("CHEST", "ABD")[number % 2], "phrase_type": "freeform"},
        }
        for number in range(40)
    ]


def report_rows(dataset: str = "iu_xray") -> list[dict]:
    """Reports of which more and more words are wrong."""
    words = REPORT.split()
    return [
        {
            **{"id": f"r{number}", "task": "report", "dataset": dataset, "group": f"study {number}"},
            **{"question": None, "answer": REPORT},
            "prediction": " ".join([*words[: len(words) - number % 17], *["zebra"] * (number % 17)]),
        }
        for number in range(24)
    ]


def executed(folder: Path, rows: list[dict], **parameters):
    write_predictions(folder / "mine.jsonl", rows)
    return run_again(folder, **parameters)


def run_again(folder: Path, **parameters):
    finished = papermill(folder, **parameters)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return nbformat.read(folder / "out.ipynb", as_version=4)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    return folder, executed(folder, vqa_rows())


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return folder, executed(folder, report_rows(), task="report")


def left_in(folder: Path) -> Path:
    return folder / "runs" / "human_agreement"


def digests(sheets: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sheets}


def fill(sheets: list[Path], scores: tuple[int, ...]) -> None:
    """Write scores in turn into the score cells, as a rater would."""
    for path in sheets:
        book = openpyxl.load_workbook(path)
        sheet = book[RATINGS_SHEET]
        column = [cell.value for cell in sheet[1]].index(SCORE) + 1
        for row in range(2, sheet.max_row + 1):
            sheet.cell(row, column).value = scores[row % len(scores)]
        book.save(path)


def shown_by(notebook) -> str:
    """What the cells printed, without what is written in them."""
    sources = [cell.source for cell in notebook.cells]
    text = visible(notebook)
    for source in sources:
        text = text.replace(source, "")
    return text


@pytest.mark.parametrize(("name", "figures"), [("answers", 4), ("reports", 5)])
def test_it_runs_to_its_end_and_leaves_its_files(request, name, figures):
    folder, notebook = request.getfixturevalue(name)
    out = left_in(folder)
    assert {path.name for path in out.iterdir() if path.is_file()} == FILES | {"ratings_simulated.jsonl"}
    assert len(list((out / "sheets").glob("ratings_*.xlsx"))) == RATERS
    assert (pictures(notebook), bare_pictures(notebook)) == (figures, 0)


@pytest.mark.parametrize("name", ["answers", "reports"])
def test_stand_ins_are_named_as_what_they_are(request, name):
    folder, notebook = request.getfixturevalue(name)
    evaluations = json.loads((left_in(folder) / "evaluations.json").read_text())
    assert {OFFLINE_NAME, f"{RATERS} simulated raters"} == set(evaluations) - {"exact match"}
    assert all(row["rater"].startswith("simulated") for row in rows_of(left_in(folder) / "ratings_simulated.jsonl"))
    shown = shown_by(notebook)
    assert f"{RATERS} simulated raters" in shown and f"{OFFLINE_NAME} - all raters, mean" in shown


@pytest.mark.parametrize("name", ["answers", "reports"])
def test_no_path_of_the_machine_is_in_the_executed_notebook(request, name):
    folder, notebook = request.getfixturevalue(name)
    found = ABSOLUTE_PATH.search(visible(notebook))
    assert found is None, visible(notebook)[max(0, found.start() - 100) : found.end() + 100]
    assert str(folder) not in json.dumps(notebook)


def test_only_rejected_answers_are_rated(answers):
    folder, notebook = answers
    rejected = {row["id"] for row in vqa_rows() if not is_match(row["prediction"], row["answer"])}
    assert len(rejected) == 30
    assert {row["id"] for row in rows_of(left_in(folder) / "ratings_simulated.jsonl")} == rejected
    assert "30 to rate; left out: {'accepted by exact match': 10, 'not drawn': 0}" in shown_by(notebook)
    agreement = json.loads((left_in(folder) / "agreement.json").read_text())
    assert agreement["n"]["items"] == 30 and agreement["exact_match"]["all"]["accepted_unrated"] == 10


def test_all_of_fewer_than_a_hundred_reports_are_rated(reports):
    folder, notebook = reports
    agreement = json.loads((left_in(folder) / "agreement.json").read_text())
    assert agreement["n"]["items"] == 24
    assert f"{agreement['judge']['means']['icc_2_1']['n']}" == "24"
    assert f"{agreement['among_raters']['fleiss_kappa']['value']:.2f}" in shown_by(notebook)


def test_run_again_it_leaves_the_sheets_and_takes_another_judge(answers):
    folder, _ = answers
    sheets = sorted((left_in(folder) / "sheets").glob("*.xlsx"))
    fill(sheets[:1], (1, 0, 0))
    before = digests(sheets)
    lines = rows_of(left_in(folder) / "judge_offline.jsonl")
    told = [line | {"repeat": repeat, "model": "model-x"} for line in lines for repeat in (1, 2)]
    (folder / "judge.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    shown = shown_by(run_again(folder, judge_file="judge.jsonl"))
    assert digests(sheets) == before and f"left as they were: {RATERS} sheets" in shown
    assert f"model-x: {len(told)} verdicts, 0 failed" in shown
    assert f"{OFFLINE_NAME} - all" not in shown, "another judge is called the stand-in"


def test_sheets_that_came_back_take_the_place_of_simulated_raters(reports):
    folder, _ = reports
    out = left_in(folder)
    sheets = sorted((out / "sheets").glob("*.xlsx"))
    fill(sheets, (4, 2, 1))
    import_sheets(sheets, out / "key.json", folder / "ratings.jsonl")
    before = digests(sheets)
    shown = shown_by(run_again(folder, task="report", ratings="ratings.jsonl", output_dir="people"))
    assert digests(sheets) == before
    assert f"{RATERS * 24} of {RATERS * 24} ratings in ratings.jsonl are of these rows" in shown
    evaluations = json.loads((folder / "people" / "evaluations.json").read_text())
    assert set(evaluations) == {OFFLINE_NAME, f"{RATERS} raters"}
    counts = evaluations[f"{RATERS} raters"]["counts"]
    assert counts == {"0": 0, "1": RATERS * 8, "2": RATERS * 8, "3": 0, "4": RATERS * 8}
    assert not list((folder / "people").rglob("*simulated*"))
    assert "simulated" not in shown.split("parameter", 1)[1].split("n_resamples", 1)[1]


def test_of_credentialed_data_it_shows_and_hands_out_no_text(tmp_path):
    notebook = executed(tmp_path, report_rows("mimic_cxr"), task="report")
    assert "zebra" not in json.dumps(notebook) and "consolidation" not in json.dumps(notebook)
    assert "no sheets are written: the text is credentialed" in shown_by(notebook)
    assert not (left_in(tmp_path) / "sheets").exists()
    assert all("zebra" not in path.read_text() for path in left_in(tmp_path).rglob("*.json*"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"task": "captions"}, "parameter task must be one of 'vqa', 'report', not 'captions'"),
        ({"raters": 1}, "parameter raters must be at least 2, not 1"),
        ({"nosuch": 3}, "unknown parameter: nosuch; choose from agreement, embedded_run"),
    ],
)
def test_an_impossible_parameter_ends_it_with_one_clear_line(tmp_path, parameters, message):
    finished = papermill(tmp_path, **{"raters": 2, **parameters})
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (tmp_path / "runs").exists(), "something was started"
