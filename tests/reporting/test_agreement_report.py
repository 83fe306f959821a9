"""Tables and figures of agreement: they hold the scores, and the names of raters and judge as the data give them."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from pefomed.human.agreement import agreement_scores
from pefomed.metrics.verdicts import Verdict
from pefomed.reporting.agreement import (
    against_table,
    agreement_table,
    bland_altman_figure,
    confusion_figure,
    measures_figure,
    pairs_figure,
)

SIMULATED = ("simulated rater 1", "simulated rater 2", "simulated rater 3")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def verdicts(scores, raters):
    return [
        Verdict(f"q{i}", rater, int(score))
        for i, line in enumerate(scores)
        for rater, score in zip(raters, line, strict=True)
    ]


def predictions(n=24):
    return [{"id": f"q{i}", "task": "vqa", "answer": "a", "prediction": "a" if i % 2 else "b"} for i in range(n)]


def scores_of(task, k, raters=SIMULATED, judge=True):
    generator = np.random.default_rng(0)
    truth = generator.integers(k, size=(24, 1))
    rated = np.clip(truth + generator.integers(-1, 2, size=(24, 3)), 0, k - 1)
    judged = verdicts(np.clip(rated[:, :2] + 1, 0, k - 1), ("repeat 1", "repeat 2")) if judge else None
    rows = predictions() if task == "vqa" else None
    return agreement_scores(
        verdicts(rated, raters), judged, rows, task=task, judge_name="offline stand-in", n_resamples=50
    )


def texts(figure):
    axes = [
        [*axis.texts, *axis.get_xticklabels(), *axis.get_yticklabels(), axis.xaxis.label, axis.yaxis.label]
        for axis in figure.axes
    ]
    legends = [axis.get_legend().get_texts() for axis in figure.axes if axis.get_legend() is not None]
    return " | ".join(text.get_text().replace("\n", " ") for found in (*axes, *legends) for text in found)


def test_the_table_holds_every_measure_of_raters_and_repeats():
    scores = scores_of("report", 5)
    table = agreement_table(scores)
    assert set(table.index.get_level_values("among")) == {"3 simulated raters", "repeats of offline stand-in"}
    line = table.loc[("3 simulated raters", "Krippendorff's alpha, ordinal")]
    entry = scores["among_raters"]["krippendorff_ordinal"]
    assert line["value (95 % interval)"] == "{:.2f} ({:.2f} to {:.2f})".format(entry["value"], *entry["ci95"])
    assert line["n"] == 24 and line["note"] == ""
    kappas = scores["among_raters"]["cohen_kappa"]
    pairs = table.loc[("3 simulated raters", "Cohen's kappa, mean of pairs"), "range over pairs"]
    assert pairs == f"{kappas['min']:.2f} to {kappas['max']:.2f}"


def test_an_undefined_measure_is_a_dash_with_its_reason():
    ratings = verdicts(np.ones((6, 2)), SIMULATED[:2])
    scores = agreement_scores(ratings, task="vqa", n_resamples=20)
    line = agreement_table(scores).loc[("2 simulated raters", "Fleiss' kappa")]
    assert line["value (95 % interval)"] == "-" and "every rating is the same" in line["note"]
    assert "(undefined)" in texts(measures_figure(scores))


def test_judge_and_exact_match_against_the_raters():
    scores = scores_of("vqa", 2)
    table = against_table(scores)
    assert list(table.index[:5]) == [
        *(f"offline stand-in - {rater}" for rater in SIMULATED),
        "offline stand-in - all raters, mean",
        "offline stand-in - majority of raters",
    ]
    assert any(name.startswith("exact match - ") for name in table.index), "all was rated, so there is one line only"
    assert table.index[-1] == "raters among themselves, mean"
    share = scores["judge"]["by_rater"][SIMULATED[0]]["percent_agreement"]["value"]
    assert table.loc[f"offline stand-in - {SIMULATED[0]}", "agreement (%)"].startswith(f"{share:.1f} (")
    assert "quadratic-weighted kappa" in against_table(scores_of("report", 5)).columns


def test_where_only_rejected_answers_were_rated_exact_match_stands_twice():
    ratings = [one for one in verdicts(np.eye(24, 3), SIMULATED) if int(one.id[1:]) % 2 == 0]
    scores = agreement_scores(ratings, predictions=predictions(), task="vqa", n_resamples=20)
    names = " ".join(against_table(scores).index)
    assert "exact match, rated answers - " in names and "exact match, all answers - " in names
    shown = texts(pairs_figure(scores))
    assert "exact match, all answers" in shown and "rated answers" not in shown


def test_points_of_measures_stand_at_the_values():
    scores = scores_of("report", 5)
    figure = measures_figure(scores, title="drawn")
    drawn = {x for line in figure.axes[0].lines if line.get_marker() == "o" for x in line.get_xdata()}
    expected = {entry["value"] for name, entry in scores["among_raters"].items() if name != "percent_agreement"}
    assert expected <= drawn
    assert "among 3 simulated raters" in texts(figure) and "offline stand-in" in texts(figure)


def test_the_map_of_pairs_is_symmetric_and_named():
    scores = scores_of("report", 5)
    figure = pairs_figure(scores)
    values = figure.axes[0].collections[0].get_array().reshape(4, 4)
    assert np.ma.allclose(values, values.T)
    pair = scores["among_raters"]["quadratic_kappa"]["pairs"][0]
    assert pair["raters"] == [SIMULATED[0], SIMULATED[1]] and values[0, 1] == pytest.approx(pair["value"])
    assert values[3, 0] == pytest.approx(scores["judge"]["by_rater"][SIMULATED[0]]["quadratic_kappa"]["value"])
    assert "offline stand-in" in texts(figure) and SIMULATED[2] in texts(figure)


def test_confusion_is_in_per_cent_of_each_rating():
    scores = scores_of("report", 5)
    figure = confusion_figure(scores)
    values = figure.axes[0].collections[0].get_array().reshape(5, 5)
    assert np.allclose(values.sum(axis=1), 100)
    counts = scores["judge"]["confusion"]
    assert values[1, 2] == pytest.approx(100 * counts[1][2] / sum(counts[1]))
    assert "rating by 3 simulated raters" in texts(figure) and "offline stand-in" in texts(figure)
    assert len(confusion_figure(scores_of("vqa", 2)).axes) == 2


def test_bland_altman_shows_every_report_and_the_limits():
    scores = scores_of("report", 5)
    figure = bland_altman_figure(scores)
    axis = figure.axes[0]
    heights = {round(float(y), 9) for y in axis.collections[0].get_offsets()[:, 1]}
    points = scores["judge"]["means"]["points"]
    differences = np.array(points["judge"]) - np.array(points["raters"])
    assert heights == {round(float(value), 9) for value in differences}
    limits = scores["judge"]["means"]["bland_altman"]
    lines = [line.get_ydata()[0] for line in axis.lines]
    assert lines[:3] == [limits[key]["value"] for key in ("mean_difference", "low", "high")]
    assert "offline stand-in minus 3 simulated raters" in texts(figure)


def test_people_are_not_called_simulated():
    shown = texts(confusion_figure(scores_of("report", 5, raters=("Ada", "Ben", "simulated rater 1"))))
    assert "3 raters (1 simulated)" in shown
    assert "simulated" not in texts(confusion_figure(scores_of("report", 5, raters=("Ada", "Ben", "Cleo"))))


def test_what_cannot_be_drawn_is_told():
    alone = scores_of("report", 5, judge=False)
    with pytest.raises(ValueError, match="needs reports that raters and a judge both rated"):
        bland_altman_figure(alone)
    with pytest.raises(ValueError, match="there is neither a judge nor exact match"):
        against_table(alone)
    ratings, judge = [Verdict("a", "x", 1), Verdict("a", "y", 1)], [Verdict("b", "repeat 1", 1)]
    elsewhere = agreement_scores(ratings, judge, task="vqa", n_resamples=20)
    with pytest.raises(ValueError, match="no item has both a rating and a verdict"):
        confusion_figure(elsewhere)


def test_agreement_needs_no_model_library():
    code = (
        "import sys, pefomed.human.agreement, pefomed.reporting.agreement, pefomed.reporting.evaluations\n"
        "import pefomed.reporting.report_evaluations, pefomed.reporting.paper_checks\n"
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr
