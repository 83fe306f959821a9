"""`pefomed evaluate`: reports, comparisons, and one clear line for every mistake. None of these needs Java."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pefomed.cli import OneLineErrors
from pefomed.cli_evaluate import evaluate
from pefomed.files import read_json
from pefomed.metrics import vqa_scores
from pefomed.predictions import write_predictions

APP = typer.Typer(cls=OneLineErrors, add_completion=False, rich_markup_mode=None)
APP.command()(evaluate)
APP.callback()(lambda: None)
WITHOUT_JAVA = ("--no-meteor", "--no-ptb")


def call(*arguments):
    return CliRunner().invoke(APP, ["evaluate", *map(str, arguments)])


def report(name, prediction, answer, **others):
    return {"id": str(name), "task": "report", "prediction": prediction, "answer": answer, **others}


def question(name, prediction):
    return {"id": str(name), "task": "vqa", "prediction": prediction, "answer": "yes", "answer_type": "closed"}


@pytest.fixture
def reports(tmp_path):
    rows = [
        report(1, "the lungs are clear .", "the lungs are clear . no effusion .", group="a"),
        report(2, "a nodule .", "a nodule is seen .", group="a"),
        report(3, "no effusion .", "the heart is enlarged .", group="b"),
    ]
    return write_predictions(tmp_path / "reports.jsonl", rows)


@pytest.fixture
def questions(tmp_path):
    paths = []
    for run, right in (("first", 10), ("second", 25)):
        rows = [question(number, "yes" if number < right else "no") for number in range(30)]
        paths.append(write_predictions(tmp_path / f"{run}.jsonl", rows))
    return paths


def test_questions(questions, tmp_path):
    result = call(questions[0], "--out", tmp_path / "metrics.json")
    assert result.exit_code == 0, result.stderr
    assert "33.3" in result.stdout
    assert read_json(tmp_path / "metrics.json") == vqa_scores(questions[0])


def test_reports_with_the_best_constant(reports, tmp_path):
    result = call(reports, "--task", "report", *WITHOUT_JAVA, "--out", tmp_path / "metrics.json")
    assert result.exit_code == 0, result.stderr
    assert "best constant by CIDEr: " in result.stdout
    assert "different texts" in result.stdout
    scores = read_json(tmp_path / "metrics.json")
    assert scores["constant_report"]["rouge_l"]["n"] == scores["n"] == 3
    assert scores["meteor_java15"] is None
    assert scores["settings"]["tokenisation"] != "ptb"


def test_settings_reach_the_scores(reports, tmp_path):
    options = ("--cut-references", 3, "--one-per-group", "--cider-corpus", reports, "--training", reports)
    result = call(reports, "--task", "report", *WITHOUT_JAVA, *options, "--out", tmp_path / "m.json")
    assert result.exit_code == 0, result.stderr
    scores = read_json(tmp_path / "m.json")
    assert scores["n"] == 2
    settings = scores["settings"]
    assert (settings["cut_references"], settings["one_per_group"], settings["documents"]) == (3, True, 3)
    assert (scores["constant_report"]["cider"]["candidates"], scores["constant_report"]["cider"]["n"]) == (3, 2)
    result = call(reports, "--task", "report", *WITHOUT_JAVA, "--no-constant", "--out", tmp_path / "m.json")
    assert result.exit_code == 0, result.stderr
    assert "constant_report" not in read_json(tmp_path / "m.json")


def test_two_runs_are_compared(questions, tmp_path):
    first, second = questions
    options = ("--compare", first, "--compare-by", "exact_match", "--compare-by", "closed_accuracy")
    result = call(second, *options, "--out", tmp_path / "m.json")
    assert result.exit_code == 0, result.stderr
    found = read_json(tmp_path / "m.json")["comparison"]
    assert (found["first"], found["second"]) == (str(first), str(second))
    assert found["exact_match"]["difference"] == pytest.approx(50.0), "of PREDICTIONS over OTHER"
    assert found.keys() == {"first", "second", "exact_match", "closed_accuracy"}
    assert "difference +50" in result.stdout


def test_help_has_examples():
    result = call("--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "pefomed evaluate predictions.jsonl --task report" in result.stdout


def other_ids(questions: list[Path], reports: Path) -> list:
    rows = [question(number, "yes") for number in range(5)]
    return [questions[0], "--compare", write_predictions(questions[0].with_name("few.jsonl"), rows)]


MISTAKES = {
    "unknown task": (lambda q, r: [r, "--task", "chat"], ("task", "'chat'")),
    "task of the rows": (lambda q, r: [r, "--task", "caption"], ("reports.jsonl, row 1", "'report' is not 'caption'")),
    "reports as questions": (lambda q, r: [r], ("reports.jsonl", "row 1", "'report'")),
    "no file": (lambda q, r: ["absent.jsonl", "--task", "report"], ("absent.jsonl", "no such file")),
    "out is a folder": (lambda q, r: [q[0], "--out", q[0].parent], ("out", "is a folder")),
    "out is the predictions": (lambda q, r: [q[0], "--out", q[0]], ("out", "would be lost")),
    "cut of questions": (lambda q, r: [q[0], "--cut-references", 5], ("--cut-references", "--task report")),
    "meteor of questions": (lambda q, r: [q[0], "--no-meteor"], ("--no-meteor", "--task report")),
    "cut below nothing": (lambda q, r: [r, "--task", "report", "--cut-references", -1], ("cut_references is -1",)),
    "no corpus": (
        lambda q, r: [r, "--task", "report", *WITHOUT_JAVA, "--cider-corpus", "absent.jsonl"],
        ("absent.jsonl", "no such file"),
    ),
    "no training file": (
        lambda q, r: [r, "--task", "report", *WITHOUT_JAVA, "--training", "absent.jsonl"],
        ("absent.jsonl", "no such file"),
    ),
    "nothing to compare with": (lambda q, r: [q[0], "--compare", "absent.jsonl"], ("compare", "absent.jsonl")),
    "other ids": (other_ids, ("lacks 25 ids", "'5'")),
    "score without a comparison": (lambda q, r: [q[0], "--compare-by", "exact_match"], ("compare_by", "--compare")),
    "unknown score": (
        lambda q, r: [q[0], "--compare", q[1], "--compare-by", "cider"],
        ("compare_by", "exact_match", "'cider'"),
    ),
    "comparison of cut references": (
        lambda q, r: [r, "--task", "report", "--compare", r, "--cut-references", 5],
        ("--cut-references", "--compare"),
    ),
    "comparison by what is left out": (
        lambda q, r: [r, "--task", "report", "--compare", r, "--no-meteor", "--compare-by", "meteor_java15"],
        ("meteor_java15", "--no-meteor"),
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case, questions, reports):
    arguments, words = MISTAKES[case]
    before = questions[0].read_bytes()
    result = call(*arguments(questions, reports))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1, "one line"
    for word in words:
        assert word in result.stderr
    assert questions[0].read_bytes() == before


def test_no_text_of_a_credentialed_data_set_is_told(tmp_path):
    rows = [
        report(n, "secret words", f"secret words {word}", dataset="mimic_cxr")
        for n, word in enumerate(("here", "there", "now"))
    ]
    path = write_predictions(tmp_path / "p.jsonl", rows)
    result = call(path, "--task", "report", *WITHOUT_JAVA, "--out", tmp_path / "m.json")
    assert result.exit_code == 0, result.stderr
    assert "withheld" in result.stdout
    assert "secret" not in result.stdout + result.stderr
    assert "secret" not in json.dumps(read_json(tmp_path / "m.json"))
