"""The table and the bars of findings, from scores."""

import subprocess
import sys

import matplotlib.pyplot as plt
import pytest

from pefomed.metrics import finding_scores, report_scores
from pefomed.reporting.findings import f1_by_finding, f1_in_words, findings_table


def rows(told: str) -> list[dict]:
    true = ["there is a small left pneumothorax.", "there is ascites.", "the brain is normal."] * 2
    return [
        {
            "id": str(number),
            "dataset": "phantoms",
            "task": "report",
            "answer": text,
            "prediction": told or text,
            "group": str(number),
        }
        for number, text in enumerate(true)
    ]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_table_has_a_line_a_condition():
    table = findings_table({"stage 1": report_scores(rows("")), "blank": finding_scores(rows("there is ascites."))})
    assert list(table.index) == ["stage 1", "blank"]
    assert list(table["n"]) == [6, 6] and list(table["findings"]) == [4, 4]
    assert table.loc["stage 1", "F1, with side and place"] == "100.0 (100.0-100.0)"
    assert table.loc["blank", "precision"].startswith("33.3 (") and table.loc["blank", "recall"].startswith("50.0 (")
    assert table.loc["blank", "F1"].startswith("40.0 (") and table.loc["blank", "normal, recall"].startswith("0.0 (")


def test_a_score_that_is_undefined_is_a_dash():
    line = findings_table({"silent": finding_scores(rows("nothing to see."))}).loc["silent"]
    assert line["precision"] == "-" and line["recall"].startswith("0.0 (")


def test_bars_stand_at_the_scores():
    # right by name everywhere, on the wrong side for the pneumothorax
    scores = finding_scores([{**one, "prediction": one["answer"].replace("left", "right")} for one in rows("")])
    figure = f1_by_finding(scores, title="stage 1")
    chest, abdomen = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["Chest", "Abdomen"]
    assert [label.get_text() for label in chest.get_xticklabels()] == ["pneumothorax (n=2)"]
    assert [[bar.get_height() for bar in bars] for bars in chest.containers[:2]] == [[100.0], [0.0]]
    assert [[bar.get_height() for bar in bars] for bars in abdomen.containers[:2]] == [[100.0], [100.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["name", "name, side and place"]


def test_bars_in_words_are_the_bars():
    scores = finding_scores([{**one, "prediction": one["answer"].replace("left", "right")} for one in rows("")])
    assert f1_in_words(scores) == (
        "Bars of F1 in per cent, by name and by name, side and place: pneumothorax 100 and 0, ascites 100 and 100."
    )


def test_intervals_are_drawn():
    mixed = rows("")
    mixed[0]["prediction"] = "clear."
    scores = finding_scores(mixed)["names"]["by_finding"]["pneumothorax"]
    figure = f1_by_finding(finding_scores(mixed))
    drawn = figure.axes[0].collections[0].get_segments()[0][:, 1]
    assert list(drawn) == pytest.approx(scores["ci95"]["f1"])


def test_mistakes():
    with pytest.raises(ValueError, match="no conditions"):
        findings_table({})
    other = report_scores([{**one, "dataset": "roco"} for one in rows("")])
    with pytest.raises(ValueError, match="condition 'zero-shot': there are no scores of findings"):
        findings_table({"zero-shot": other})
    with pytest.raises(ValueError, match="the scores: there are no scores of findings"):
        f1_by_finding(other)
    with pytest.raises(ValueError, match="the scores: there are no scores of findings"):
        f1_in_words(other)
    with pytest.raises(ValueError, match="no finding is true or told"):
        f1_by_finding(finding_scores([{**one, "answer": "clear."} for one in rows("clear.")]))


def test_needs_no_torch():
    code = "import pefomed.reporting.findings, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
