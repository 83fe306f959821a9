"""Everything that is scored on reports without a published metric, and its table."""

import pytest

from pefomed import files
from pefomed.data.phantoms import load_phantoms
from pefomed.metrics import finding_scores, format_report_scores, repetition_scores, report_scores
from pefomed.predictions import write_predictions


def row(name, prediction, answer, **others):
    return {"id": name, "task": "report", "prediction": prediction, "answer": answer, **others}


ROWS = [
    row("1", "the lungs are clear. the lungs are clear.", "there is cardiomegaly.", group="a", stopped=False),
    row("2", "", "the lungs are clear.", group="b", stopped=True),
]


def test_any_data_set():
    scores = report_scores(ROWS)
    assert list(scores) == ["n", "mean_words", "empty", "repetition"], "findings can be told for phantoms only"
    assert (scores["n"], scores["mean_words"], scores["empty"]) == (2, {"prediction": 4.0, "answer": 3.5}, 50.0)
    assert scores["repetition"] == repetition_scores(ROWS)


def test_findings_need_every_row_to_be_drawn():
    drawn = [{**one, "dataset": "phantoms"} for one in ROWS]
    assert report_scores(drawn)["findings"] == finding_scores(drawn)
    assert "findings" not in report_scores([drawn[0], ROWS[1]])


def test_true_reports_score_full_marks(tmp_path):
    rows = load_phantoms("val", task="report", images=30).remove_columns("image").to_list()
    path = write_predictions(tmp_path / "predictions.jsonl", [{**one, "prediction": one["answer"]} for one in rows])
    scores = report_scores(path, n_resamples=20)
    files.write_json(tmp_path / "metrics.json", scores)
    assert files.read_json(tmp_path / "metrics.json") == scores
    assert scores["findings"]["places"]["exact_set"]["share"] == 100.0
    assert scores["mean_words"]["prediction"] == scores["mean_words"]["answer"] > 15
    assert scores["repetition"]["repeated_4grams"]["prediction"] == scores["repetition"]["repeated_4grams"]["answer"]


def test_table():
    lines = [" ".join(line.split()) for line in format_report_scores(report_scores(ROWS)).splitlines()]
    assert lines == [
        "texts: 2 generated true",
        "mean words 4.0 3.5",
        "with a repeated sentence (%) 50.0 0.0",
        "repeated runs of four words (%) 20.0 0.0",
        "longest loop (words) 8 0",
        "without a word (%) 50.0",
        "cut at the bound (%), known for 2 50.0",
    ]


def test_table_of_findings():
    told = "there is cardiomegaly."
    rows = [
        {**row(str(number), told, told if number < 3 else "no nodule.", group=number), "dataset": "phantoms"}
        for number in range(4)
    ]
    text = format_report_scores(report_scores(rows))
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines() if line}
    assert lines["cardiomegaly"][:3] == ["cardiomegaly", "3", "75.0"]
    assert "100.0 [100.0, 100.0]" in text
    assert lines["normal (no finding)"][3:] == ["1", "-", "0.0", "0.0"]
    assert lines["all findings right"][3:5] == ["4", "75.0"]
    header = next(line for line in text.splitlines() if line.startswith("per cent"))
    cardiomegaly = next(line for line in text.splitlines() if line.startswith("cardiomegaly"))
    assert cardiomegaly[header.index("recall") - 2 : header.index("recall")] == "  ", "columns stand apart"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        (
            [ROWS[0], {**ROWS[1], "task": "vqa"}],
            "row 2: task 'vqa' is no 'report' or 'caption'; leave other tasks out",
        ),
        ([ROWS[0], ROWS[0]], "row 2: id '1' was already used"),
    ],
)
def test_mistakes(rows, message):
    with pytest.raises(ValueError, match=message):
        report_scores(rows)


def test_the_file_is_named(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl", [{**ROWS[0], "task": "vqa"}])
    with pytest.raises(ValueError, match=r"p\.jsonl, row 1: task 'vqa'"):
        report_scores(path)
