"""Simulated raters: they stray as often as they say, always in the same way, and never under another name."""

import json
from collections import Counter

import pytest

from pefomed.human.simulated import (
    RELIABILITIES,
    SimulatedRater,
    reliability_matrix,
    simulate,
    simulated_raters,
    true_scores,
    write_simulated,
)
from pefomed.metrics.verdict_files import Verdict, read_verdicts

MANY = 6000


def rows(task="vqa"):
    answers = [("left lung", "left lung"), ("right lung", "left lung"), ("both", "bilateral")]
    return [
        {"id": str(n), "task": task, "question": "Where?", "answer": answer, "prediction": said}
        for n, (said, answer) in enumerate(answers)
    ]


@pytest.mark.parametrize("task", ["vqa", "report"])
@pytest.mark.parametrize("reliability", [0.0, 0.5, 0.9, 1.0])
def test_matrices(task, reliability):
    matrix = reliability_matrix(task, reliability)
    assert [sum(row) for row in matrix] == pytest.approx([1.0] * len(matrix))
    assert [row[true] for true, row in enumerate(matrix)] == [reliability] * len(matrix)
    SimulatedRater("simulated 1", matrix)


def test_errors_fall_off_with_distance():
    row = reliability_matrix("report", 0.5)[1]
    assert row == pytest.approx((0.5 * 0.5 / 1.375, 0.5, 0.5 * 0.5 / 1.375, 0.5 * 0.25 / 1.375, 0.5 * 0.125 / 1.375))
    assert reliability_matrix("vqa", 0.9)[0] == pytest.approx((0.9, 0.1))


@pytest.mark.parametrize("task", ["vqa", "report"])
def test_frequencies_are_the_stated_probabilities(task):
    (rater,) = simulated_raters(task, 1, [0.7])
    for true, probabilities in enumerate(rater.matrix):
        verdicts = simulate({f"{n}": true for n in range(MANY)}, task, [rater])
        counts = Counter(verdict.score for verdict in verdicts)
        # five standard errors of the most uncertain share
        found = [counts[score] / MANY for score in range(len(probabilities))]
        assert found == pytest.approx(probabilities, abs=5 * 0.5 / MANY**0.5)


def test_certain_raters_never_stray():
    truth = {str(n): n % 5 for n in range(200)}
    sure = simulate(truth, "report", simulated_raters("report", 2, [1.0, 1.0]))
    assert all(verdict.score == truth[verdict.id] for verdict in sure)
    never = simulate(truth, "report", simulated_raters("report", 1, [0.0]))
    assert not [verdict for verdict in never if verdict.score == truth[verdict.id]]


def test_raters_err_independently_and_by_seed():
    truth = {str(n): 1 for n in range(MANY)}
    raters = simulated_raters("vqa", 2, [0.8, 0.8])
    scores = {(v.id, v.rater): v.score for v in simulate(truth, "vqa", raters)}
    both = sum(scores[name, "simulated 1"] == scores[name, "simulated 2"] == 0 for name in truth) / MANY
    assert both == pytest.approx(0.04, abs=0.013)
    other = {(v.id, v.rater): v.score for v in simulate(truth, "vqa", raters, seed=1)}
    assert 0.25 < sum(scores[pair] != other[pair] for pair in scores) / len(scores) < 0.39


def test_what_is_said_of_an_id_depends_on_nothing_else():
    raters = simulated_raters("report", 3)
    whole = simulate({str(n): n % 5 for n in range(50)}, "report", raters)
    assert whole == simulate({str(n): n % 5 for n in range(50)}, "report", raters)
    part = simulate({str(n): n % 5 for n in (40, 3)}, "report", raters[1:])
    assert set(part) < set(whole)
    assert [(v.id, v.rater) for v in part] == [(i, r) for i in ("40", "3") for r in ("simulated 2", "simulated 3")]


def test_default_raters():
    raters = simulated_raters("vqa")
    assert [rater.name for rater in raters] == [f"simulated {number}" for number in range(1, 11)]
    shares = [rater.matrix[1][1] for rater in raters]
    assert (shares[0], shares[-1]) == pytest.approx(RELIABILITIES["vqa"])
    assert shares == sorted(shares, reverse=True)
    assert len(simulated_raters("report", 1)) == 1


def test_truths(tmp_path):
    assert true_scores(rows(), "vqa", "exact-match") == {"0": 1, "1": 0, "2": 0}
    assert true_scores(rows(), "vqa") == {"0": 1, "1": 0, "2": 1}
    path = tmp_path / "judge.jsonl"
    scores = {"0": (4, 4, 0), "1": (1, 2, 3), "2": (0, 0, 4)}
    path.write_text(
        "".join(
            json.dumps({"id": name, "repeat": repeat, "score": score, "status": "ok"}) + "\n"
            for name, given in scores.items()
            for repeat, score in enumerate(given)
        )
    )
    assert true_scores(rows("report"), "report", path) == {"0": 4, "1": 2, "2": 0}
    with pytest.raises(ValueError, match="has no score for 1 of 4 rows, first 'new'"):
        true_scores([*rows("report"), {**rows("report")[0], "id": "new"}], "report", path)
    with pytest.raises(ValueError, match="exact match knows no levels of reports"):
        true_scores(rows("report"), "report", "exact-match")
    with pytest.raises(FileNotFoundError, match="nothing.jsonl"):
        true_scores(rows(), "vqa", tmp_path / "nothing.jsonl")


def test_files_say_that_they_are_simulated(tmp_path):
    verdicts = simulate(true_scores(rows(), "vqa"), "vqa", simulated_raters("vqa", 2))
    path = write_simulated(tmp_path / "r.jsonl", verdicts)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 6
    assert {line["sheet"] for line in lines} == {"simulated"}
    assert all(line["rater"].startswith("simulated ") for line in lines)
    assert read_verdicts(path, "vqa").verdicts == tuple(verdicts)
    with pytest.raises(ValueError, match="rater 'jane' is not simulated"):
        write_simulated(tmp_path / "r.jsonl", [Verdict("0", "jane", 1)])
    with pytest.raises(ValueError, match="no verdicts to write"):
        write_simulated(tmp_path / "r.jsonl", [])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SimulatedRater("jane", ((1.0, 0.0), (0.0, 1.0))), "'jane' does not begin with 'simulated'"),
        (lambda: SimulatedRater("simulated 1", ((0.5, 0.4), (0.0, 1.0))), "row 0 of 'simulated 1'"),
        (lambda: SimulatedRater("simulated 1", ((1.0, 0.0), (-0.5, 1.5))), "row 1 of 'simulated 1'"),
        (lambda: SimulatedRater("simulated 1", ((1.0,), (0.0, 1.0))), "must hold 2 probabilities"),
        (lambda: reliability_matrix("caption", 0.5), "task must be vqa or report, not 'caption'"),
        (lambda: reliability_matrix("vqa", 1.5), "reliability must be a number from 0 to 1, not 1.5"),
        (lambda: reliability_matrix("vqa", float("nan")), "not nan"),
        (lambda: reliability_matrix("vqa", True), "not True"),
        (lambda: simulated_raters("caption"), "task must be"),
        (lambda: simulated_raters("vqa", 0), "whole number from 1, not 0"),
        (lambda: simulated_raters("vqa", 2, [0.5]), "1 for 2 raters; give one for each"),
        (lambda: simulate({"a": 2}, "vqa", simulated_raters("vqa", 1)), "'a' has 2, not one of 0, 1"),
        (lambda: simulate({"a": True}, "vqa", simulated_raters("vqa", 1)), "'a' has True"),
        (lambda: simulate({"a": 1}, "vqa", simulated_raters("report", 1)), "has 5 levels; vqa has 2"),
        (lambda: simulate({"a": 1}, "vqa", simulated_raters("vqa", 1) * 2), "two raters have one name"),
        (lambda: simulate({"a": 1}, "caption", ()), "task must be"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
