"""Files of verdicts, malformed ones among them, and the scores made of them, worked out by hand."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pefomed import files
from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.verdicts import Failure, Verdict, Verdicts, format_verdict_scores, read_verdicts, verdict_scores
from pefomed.predictions import write_predictions


def vqa(name, prediction="x", answer="y", **others):
    return {"id": name, "task": "vqa", "prediction": prediction, "answer": answer, **others}


def report(name, **others):
    return {"id": name, "task": "report", "prediction": "a", "answer": "b", **others}


def judged(name, repeat, score, **others):
    return {"id": name, "repeat": repeat, "score": score, "status": "ok", **others}


def rated(name, rater, score, **others):
    return {"id": name, "rater": rater, "score": score, "sheet": "r.xlsx", "cell": "E2", **others}


def write(path, lines):
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    return files.write_text(path, text)


ROWS = [
    vqa("1", answer_type="open", question_type="POS", image_organ="HEAD", group="a"),
    vqa("2", answer_type="OPEN ", question_type="POS, SIZE", image_organ="HEAD", group="a"),
    vqa("3", answer_type="closed", question_type="SIZE", image_organ="CHEST", phrase_type="para", group="b"),
    vqa("4", answer_type=None, question_type=None, group=None),
]


def table(scores, raters=("ann", "bob")):
    """Verdicts from one list per rater, None where there is none."""
    return [
        Verdict(str(at), rater, score)
        for rater, column in zip(raters, scores, strict=True)
        for at, score in enumerate(column, start=1)
        if score is not None
    ]


# ---- reading --------------------------------------------------------------------------------------------------------
def test_judge_file(tmp_path):
    lines = [
        judged("1", 1, 1, model="m", reply="{}", prompt_sha256="aa", usage={"prompt_tokens": 3}, error=None),
        judged("1", 2, 0, prompt_sha256="aa"),
        {"id": "2", "repeat": 1, "score": None, "status": "failed", "error": "refused", "prompt_sha256": "aa"},
        judged("2", 2, 1, prompt_sha256="aa"),
    ]
    found = read_verdicts(write(tmp_path / "judge.jsonl", lines), "vqa")
    assert found.verdicts == (Verdict("1", "repeat 1", 1), Verdict("1", "repeat 2", 0), Verdict("2", "repeat 2", 1))
    assert found.failed == (Failure("2", "repeat 1", "refused"),)


def test_ratings_file(tmp_path):
    path = write(tmp_path / "ratings.jsonl", [rated("1", "Ann", 4), rated("1", "Bob\u2028", 0)])
    assert read_verdicts(str(path)) == Verdicts((Verdict("1", "Ann", 4), Verdict("1", "Bob\u2028", 0)))
    assert read_verdicts(path, "report").failed == ()


def test_a_file_without_final_line_break_is_whole(tmp_path):
    path = files.write_text(tmp_path / "r.jsonl", json.dumps(rated("1", "Ann", 1)))
    assert len(read_verdicts(path).verdicts) == 1


GOOD = rated("1", "Ann", 1)
MALFORMED = {
    "empty file": ([], "r.jsonl: the file is empty"),
    "blank line": ([GOOD, "\n", GOOD], "line 2: blank"),
    "not JSON": ([GOOD, "{'id': 1}\n"], "line 2: not JSON"),
    "cut off": ([GOOD, '{"id": "2", "rater": "Ann", "sc'], "line 2: not JSON"),
    "two objects in a line": ([json.dumps(GOOD) + json.dumps(GOOD) + "\n"], "line 1: not JSON"),
    "too deep": (["[" * 100_000 + "\n"], "line 1: not JSON"),
    "a list": ([GOOD, "[1]\n"], "line 2: found list instead of an object"),
    "a number": (["1\n"], "line 1: found int instead of an object"),
    "null": (["null\n"], "line 1: found NoneType instead of an object"),
    "no id": ([{"rater": "Ann", "score": 1}], "line 1: key 'id' is missing"),
    "no rater and no repeat": ([{"id": "1", "score": 1}], "line 1: key 'repeat' is missing"),
    "no score": ([{"id": "1", "rater": "Ann"}], "line 1: key 'score' is missing"),
    "no status": ([{"id": "1", "repeat": 1, "score": 1}], "line 1: key 'status' is missing"),
    "a judge's and a person's": ([judged("1", 1, 1, rater="Ann")], "line 1: has both 'rater' and 'repeat'"),
    "id is a number": ([rated(1, "Ann", 1)], "line 1: 'id' is 1; it must be a string"),
    "id is empty": ([rated("", "Ann", 1)], "line 1: 'id' is ''"),
    "rater is null": ([rated("1", None, 1)], "line 1: 'rater' is None"),
    "rater is blank": ([rated("1", " ", 1)], "line 1: 'rater' is ' '"),
    "repeat is text": ([judged("1", "1", 1)], "line 1: 'repeat' is '1'"),
    "repeat is true": ([judged("1", True, 1)], "line 1: 'repeat' is True"),
    "repeat is negative": ([judged("1", -1, 1)], "line 1: 'repeat' is -1"),
    "repeat is half": ([judged("1", 1.5, 1)], "line 1: 'repeat' is 1.5"),
    "score is true": ([rated("1", "Ann", True)], "line 1: 'score' is True; it must be a whole number from 0 to 4"),
    "score is text": ([rated("1", "Ann", "1")], "line 1: 'score' is '1'"),
    "score is a float": ([rated("1", "Ann", 1.0)], "line 1: 'score' is 1.0"),
    "score is NaN": (['{"id": "1", "rater": "Ann", "score": NaN}\n'], "line 1: 'score' is nan"),
    "score is null": ([rated("1", "Ann", None)], "line 1: 'score' is None"),
    "score is too high": ([GOOD, rated("2", "Ann", 5)], "line 2: 'score' is 5"),
    "score is negative": ([judged("1", 1, -1)], "line 1: 'score' is -1"),
    "ok without score": ([judged("1", 1, None)], "line 1: 'score' is None"),
    "failed with score": ([judged("1", 1, 1, status="failed")], "line 1: failed and yet 'score' is 1"),
    "unknown status": ([judged("1", 1, 1, status="done")], "line 1: 'status' is 'done'; it must be ok or failed"),
    "status is a list": ([judged("1", 1, 1, status=[])], r"line 1: 'status' is \[\]"),
    "rated twice": (
        [GOOD, rated("2", "Ann", 1), rated("1", "Ann", 0)],
        "line 3: 'Ann' of id '1' is already in line 1",
    ),
    "judged twice": ([judged("1", 3, 1), judged("1", 3, 1)], "line 2: 'repeat 3' of id '1' is already in line 1"),
    "judged and failed": (
        [judged("1", 3, 1), judged("1", 3, None, status="failed")],
        "line 2: 'repeat 3' of id '1' is already in line 1",
    ),
    "two prompts": (
        [judged("1", 1, 1, prompt_sha256="a"), judged("2", 1, 1, prompt_sha256="b")],
        "line 2: judged by another prompt",
    ),
}


@pytest.mark.parametrize(("lines", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_files_are_refused_by_line(tmp_path, lines, message):
    path = write(tmp_path / "r.jsonl", lines)
    with pytest.raises(ValueError, match=message) as caught:
        read_verdicts(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_the_scale_of_the_task_is_checked_by_line(tmp_path):
    path = write(tmp_path / "r.jsonl", [GOOD, rated("2", "Ann", 2)])
    assert len(read_verdicts(path, "report").verdicts) == 2
    with pytest.raises(ValueError, match=r"r\.jsonl, line 2: 'score' is 2; it must be a whole number from 0 to 1"):
        read_verdicts(path, "vqa")
    with pytest.raises(ValueError, match="line 2: 'score' is 2"):
        verdict_scores([vqa("1"), vqa("2")], path, "vqa")


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(ValueError, match="line 2: not UTF-8 text"):
        read_verdicts(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; give the path of a judge.jsonl or a ratings.jsonl"):
        read_verdicts(tmp_path / "none.jsonl")


# ---- answers --------------------------------------------------------------------------------------------------------
def test_accuracy_over_raters():
    scores = verdict_scores(ROWS, table([[1, 0, 1, 1], [1, 1, 0, 1]]), "vqa")
    assert scores["raters"] == ["ann", "bob"]
    assert scores["n"] == {"open": 2, "closed": 1, "overall": 4}
    accuracy = scores["accuracy"]
    assert (accuracy["open"]["mean"], accuracy["closed"]["mean"], accuracy["overall"]["mean"]) == (75.0, 50.0, 75.0)
    assert accuracy["open"]["sd"] == pytest.approx(statistics.stdev([50, 100]))
    assert accuracy["closed"]["sd"] == pytest.approx(statistics.stdev([100, 0]))
    assert accuracy["overall"]["sd"] == 0.0
    assert accuracy["open"]["ci95"] is None  # a single image
    assert (scores["rated"], scores["counted_as_right"], scores["unrated"], scores["failed"]) == (8, 0, 0, 0)


def test_breakdowns():
    scores = verdict_scores(ROWS, table([[1, 0, 1, 1], [1, 1, 0, 1]]), "vqa")
    questions = {name: (entry["n"], entry["mean"]) for name, entry in scores["by_question_type"].items()}
    assert questions == {"POS": (2, 75.0), "SIZE": (2, 50.0)}
    assert scores["by_question_type"]["SIZE"]["sd"] == 0.0
    assert {name: entry["n"] for name, entry in scores["by_image_organ"].items()} == {"CHEST": 1, "HEAD": 2}
    assert scores["by_phrase_type"]["para"]["sd"] == pytest.approx(statistics.stdev([100, 0]))


def test_a_single_rater_has_no_standard_deviation():
    scores = verdict_scores(ROWS, table([[1, 0, 1, 1]], ["ann"]), "vqa")
    assert scores["accuracy"]["overall"]["mean"] == 75.0
    assert scores["accuracy"]["overall"]["sd"] is None


def test_what_exact_match_accepts_counts_as_right_if_not_rated():
    rows = [vqa("1"), vqa("2"), vqa("3", "Yes!", "yes"), vqa("4", "left lung", "the left lung")]
    verdicts = table([[1, 0, None, None], [0, 0, None, None]])
    counted = verdict_scores(rows, verdicts, "vqa")
    assert counted["accuracy"]["overall"]["mean"] == pytest.approx((75 + 50) / 2)
    assert (counted["n"]["overall"], counted["counted_as_right"], counted["unrated"]) == (4, 4, 0)
    left_out = verdict_scores(rows, verdicts, "vqa", matched_count_as_right=False)
    assert left_out["accuracy"]["overall"]["mean"] == pytest.approx((50 + 0) / 2)
    assert (left_out["n"]["overall"], left_out["counted_as_right"], left_out["unrated"]) == (2, 0, 4)
    assert (counted["matched_count_as_right"], left_out["matched_count_as_right"]) == (True, False)


def test_a_verdict_goes_before_exact_match():
    scores = verdict_scores([vqa("1", "yes", "yes"), vqa("2")], table([[0, 1]], ["ann"]), "vqa")
    assert scores["accuracy"]["overall"]["mean"] == 50.0


def test_the_normaliser_decides_what_is_accepted():
    rows = [vqa("1", "3.5cm", "3.5 cm"), vqa("2")]
    means = {
        name: verdict_scores(rows, table([[None, 0]], ["ann"]), "vqa", normaliser=name)["accuracy"]["overall"]["mean"]
        for name in ("medvqa", "repaired")
    }
    assert means == {"medvqa": 0.0, "repaired": 50.0}


def test_unrated_answers_are_left_out_and_counted():
    scores = verdict_scores(ROWS, table([[1, None, 0, None], [1, None, None, 0]]), "vqa")
    assert scores["unrated"] == 4 and scores["rated"] == 4
    assert scores["n"] == {"open": 1, "closed": 1, "overall": 3}
    assert scores["accuracy"]["overall"]["mean"] == 50.0
    assert scores["accuracy"]["closed"] == {"mean": 0.0, "sd": None, "ci95": None}  # only one of them rated it
    assert "POS" in scores["by_question_type"] and scores["by_question_type"]["POS"]["n"] == 1


def test_failures_are_left_out_and_counted_even_where_exact_match_accepts():
    rows = [vqa("1", "yes", "yes"), vqa("2")]
    found = Verdicts((Verdict("2", "repeat 1", 0),), (Failure("1", "repeat 1", "refused"),))
    scores = verdict_scores(rows, found, "vqa")
    assert scores["accuracy"]["overall"]["mean"] == 0.0 and scores["n"]["overall"] == 1
    assert (scores["rated"], scores["counted_as_right"], scores["unrated"], scores["failed"]) == (1, 0, 0, 1)


def test_a_rater_who_gave_no_verdict_does_not_enter_the_mean():
    rows = [vqa("1", "yes", "yes"), vqa("2")]
    found = Verdicts((Verdict("2", "repeat 1", 0),), (Failure("2", "repeat 2", "timeout"),))
    scores = verdict_scores(rows, found, "vqa")
    assert scores["raters"] == ["repeat 1", "repeat 2"]
    assert scores["accuracy"]["overall"]["mean"] == 50.0 and scores["accuracy"]["overall"]["sd"] is None
    counts = [scores[key] for key in ("rated", "counted_as_right", "unrated", "failed")]
    assert counts == [1, 1, 1, 1]


def test_nothing_but_failures_gives_no_score():
    found = Verdicts((), (Failure("1", "repeat 1", "timeout"), Failure("2", "repeat 1", "timeout")))
    scores = verdict_scores([vqa("1"), vqa("2", "yes", "yes")], found, "vqa")
    assert scores["accuracy"]["overall"] == {"mean": None, "sd": None, "ci95": None}
    assert scores["n"]["overall"] == 0 and scores["failed"] == 2
    assert verdict_scores([report("1"), report("2")], found, "report")["wasm"]["mean"] is None


# ---- intervals ------------------------------------------------------------------------------------------------------
def test_the_interval_is_the_bootstrap_of_the_mean_over_raters():
    generator = np.random.default_rng(1)
    rows = [vqa(str(i), group=f"image {i // 4}", dataset="set") for i in range(200)]
    scores = generator.integers(0, 2, size=(200, 3))
    verdicts = [Verdict(str(i), f"repeat {r}", int(scores[i, r])) for i in range(200) for r in range(3)]
    expected = cluster_bootstrap(100.0 * scores.mean(axis=1), [i // 4 for i in range(200)]).to_json()
    assert verdict_scores(rows, verdicts, "vqa")["accuracy"]["overall"]["ci95"] == pytest.approx(expected)
    other = verdict_scores(rows, verdicts, "vqa", seed=1)["accuracy"]["overall"]["ci95"]
    assert other != expected and other == pytest.approx(expected, abs=2.0)


def test_intervals_resample_groups():
    generator = np.random.default_rng(0)
    right = np.repeat(generator.integers(0, 2, size=40), 5)
    verdicts = [Verdict(str(i), "ann", int(score)) for i, score in enumerate(right)]
    widths = []
    for group in (lambda i: i // 5, lambda i: None):
        rows = [vqa(str(i), group=group(i)) for i in range(200)]
        low, high = verdict_scores(rows, verdicts, "vqa")["accuracy"]["overall"]["ci95"]
        widths.append(high - low)
    assert widths[0] > 1.8 * widths[1]


def test_the_interval_of_raters_with_different_rows_lies_around_their_mean():
    generator = np.random.default_rng(2)
    # One rater saw 300 easy rows, the other 30 hard ones: rows together are near 90 %, raters near 55 %.
    verdicts = [Verdict(str(i), "ann", int(generator.random() < 0.95)) for i in range(300)]
    verdicts += [Verdict(str(i), "bob", int(generator.random() < 0.15)) for i in range(300, 330)]
    overall = verdict_scores([vqa(str(i)) for i in range(330)], verdicts, "vqa")["accuracy"]["overall"]
    means = [100 * np.mean([v.score for v in verdicts if v.rater == rater]) for rater in ("ann", "bob")]
    assert overall["mean"] == pytest.approx(np.mean(means))
    assert overall["ci95"][0] < overall["mean"] < overall["ci95"][1] < 70


def test_blocks_of_resamples_do_not_change_the_interval(monkeypatch):
    verdicts = table([[1, 0, 1, 1], [1, None, 0, 0]])
    whole = verdict_scores(ROWS, verdicts, "vqa", n_resamples=50)["accuracy"]["overall"]
    monkeypatch.setattr("pefomed.metrics.verdicts._WEIGHTS_PER_BLOCK", 7)
    assert verdict_scores(ROWS, verdicts, "vqa", n_resamples=50)["accuracy"]["overall"] == whole


# ---- reports --------------------------------------------------------------------------------------------------------
def test_levels_and_wasm():
    rows = [report(str(i), group=f"study {i}") for i in range(1, 5)]
    scores = verdict_scores(rows, table([[4, 4, 2, 0], [3, 4, 2, 1]]), "report")
    assert scores["n"] == 4 and scores["raters"] == ["ann", "bob"]
    assert scores["counts"] == {"0": 1, "1": 1, "2": 2, "3": 1, "4": 3}
    assert sum(scores["counts"].values()) == scores["rated"] == 8
    assert {level: entry["mean"] for level, entry in scores["levels"].items()} == {
        "0": 12.5,
        "1": 12.5,
        "2": 25.0,
        "3": 12.5,
        "4": 37.5,
    }
    assert scores["levels"]["4"]["sd"] == pytest.approx(statistics.stdev([50, 25]))
    assert scores["levels"]["2"]["sd"] == 0.0
    wasm = sum(int(level) * count for level, count in scores["counts"].items()) / 8
    assert scores["wasm"]["mean"] == pytest.approx(wasm) == pytest.approx(2.5)
    assert scores["wasm"]["sd"] == 0.0
    assert scores["wasm"]["ci95"][0] < 2.5 < scores["wasm"]["ci95"][1] <= 4
    assert "accuracy" not in scores and "normaliser" not in scores


def test_unrated_reports_are_left_out_even_if_they_equal_the_true_one():
    rows = [report("1"), {**report("2"), "prediction": "b"}]
    scores = verdict_scores(rows, [Verdict("1", "ann", 1)], "report")
    assert scores["n"] == 1 and scores["wasm"]["mean"] == 1.0
    assert scores["unrated"] == 1 and scores["counted_as_right"] == 0


# ---- the whole ------------------------------------------------------------------------------------------------------
def test_from_files_to_a_result_file(tmp_path):
    predictions = write_predictions(tmp_path / "predictions.jsonl", ROWS)
    lines = [judged(row["id"], repeat, int(row["id"] != "2")) for row in ROWS for repeat in (1, 2)]
    judge = write(tmp_path / "judge.jsonl", lines)
    scores = verdict_scores(predictions, judge, "vqa")
    assert scores == verdict_scores(ROWS, read_verdicts(judge), "vqa")
    assert scores["raters"] == ["repeat 1", "repeat 2"]
    files.write_json(tmp_path / "scores.json", scores)
    assert files.read_json(tmp_path / "scores.json") == scores


def test_tables():
    answers = format_verdict_scores(verdict_scores(ROWS, table([[1, 0, 1, 1], [1, 1, 0, None]]), "vqa")).splitlines()
    assert answers[0].split()[:3] == ["per", "cent", "n"]
    assert answers[1].split() == ["open", "2", "75.0", "(35.4)"]
    assert answers[3].split()[:4] == ["overall", "4", "70.8", "(5.9)"]
    assert any(line.split()[:4] == ["question", "type", "POS", "2"] for line in answers)
    assert answers[-1] == "2 raters: 7 verdicts, 1 unrated and 0 failed left out"
    rows = [report(str(i)) for i in range(1, 5)]
    levels = format_verdict_scores(verdict_scores(rows, table([[4, 4, 2, 0]], ["ann"]), "report")).splitlines()
    assert levels[1].startswith("WASM, 0 to 4") and levels[1].split()[4:6] == ["4", "2.500"]
    assert levels[-2].split() == ["level", "4,", "per", "cent", "2", "50.0"]
    assert levels[-1].startswith("1 rater: 4 verdicts, 0 unrated")
    counted = format_verdict_scores(verdict_scores([vqa("1", "a b", "a b"), vqa("2")], [Verdict("2", "x", 0)], "vqa"))
    assert counted.endswith("1 rater: 1 verdicts, 1 counted as right by exact match, 0 unrated and 0 failed left out")


@pytest.mark.parametrize(
    ("rows", "verdicts", "task", "message"),
    [
        (
            ROWS,
            table([[1, 1, 1, 1]], ["a"]),
            "caption",
            "task is 'caption'; there are verdicts on vqa and report only",
        ),
        ([], [Verdict("1", "a", 1)], "vqa", "there are no predictions"),
        (ROWS, [], "vqa", "there are no verdicts"),
        (ROWS, [Verdict("1", "a", 1)], "report", "predictions, row 1: task 'vqa' is not 'report'"),
        ([vqa("1"), vqa("1")], [Verdict("1", "a", 1)], "vqa", "row 2: id '1' was already used"),
        ([vqa("1", answer_type="number")], [Verdict("1", "a", 1)], "vqa", "row 1: 'answer_type' is 'number'"),
        (ROWS, [Verdict("9", "a", 1)], "vqa", "'a' of id '9': there is no such prediction"),
        (ROWS, Verdicts((), (Failure("9", "a", ""),)), "vqa", "'a' of id '9': there is no such prediction"),
        (ROWS, [Verdict("1", "a", 1), Verdict("1", "a", 0)], "vqa", "'a' of id '1': given twice"),
        (ROWS, Verdicts((Verdict("1", "a", 1),), (Failure("1", "a", ""),)), "vqa", "'a' of id '1': given twice"),
        (ROWS, [Verdict("1", "a", 2)], "vqa", "'a' of id '1': 'score' is 2; it must be a whole number from 0 to 1"),
        (ROWS, [Verdict("1", "a", True)], "vqa", "'score' is True"),
        ([report("1")], [Verdict("1", "a", 5)], "report", "'score' is 5; it must be a whole number from 0 to 4"),
    ],
)
def test_mistakes(rows, verdicts, task, message):
    with pytest.raises(ValueError, match=message):
        verdict_scores(rows, verdicts, task)


def test_an_unknown_normaliser():
    with pytest.raises(ValueError, match="normaliser is 'other'"):
        verdict_scores(ROWS, [Verdict("1", "a", 1)], "vqa", normaliser="other")


def test_importing_it_loads_numpy_only():
    code = (
        "import sys\nimport pefomed.metrics.verdicts\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'scipy', 'pydantic', 'openai'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
