"""Figures and tables from rows and scores."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from pefomed.metrics import vqa_scores
from pefomed.reporting.accuracy import accuracy_by_kind, accuracy_in_words, condition_table
from pefomed.reporting.examples import pick_examples, show_examples, show_texts
from pefomed.reporting.training import curves_in_words, training_curves


def picture(colour: int) -> dict:
    buffer = io.BytesIO()
    Image.new("L", (20, 30), colour).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(n: int = 6) -> list[dict]:
    return [
        {
            "id": f"q{i}",
            "dataset": "drawn",
            "task": "vqa",
            "image": picture(40 * i),
            "question": "is there a nodule?" if i % 2 else "which organ is shown?",
            "answer": "yes" if i % 2 else "chest",
            "answer_type": "closed" if i % 2 else "open",
            "question_type": "PRES" if i % 2 else "ORGAN",
            "image_organ": "CHEST",
            "phrase_type": "freeform",
            "group": f"g{i // 2}",
        }
        for i in range(n)
    ]


def scores() -> dict:
    predictions = [{**row, "prediction": "yes"} for row in rows()]
    for row in predictions:
        row.pop("image")
    return vqa_scores(predictions)


def texts(figure) -> str:
    return "\n".join(text.get_text() for axis in figure.axes for text in [axis.title, *axis.texts]) + "\n".join(
        axis.get_title(loc="left") for axis in figure.axes
    )


def test_examples_show_question_answer_and_verdict():
    shown = texts(show_examples(rows(), {f"q{i}": "yes" for i in range(6)}))
    assert "is there a nodule?" in shown and "answer: chest" in shown
    assert shown.count("✓") == 3 and shown.count("✗") == 3


def test_no_picture_of_a_credentialed_data_set_is_drawn():
    lent = [{**row, "dataset": "mimic_cxr"} for row in rows(2)]
    with pytest.raises(ValueError, match="refused to draw examples: row 'q0' is of mimic_cxr"):
        show_examples(lent)


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows to show"):
        show_examples([])


def test_the_table_has_a_line_a_condition_with_n_and_interval():
    table = condition_table({"zero-shot": scores(), "stage 2": scores()})
    assert list(table.index) == ["zero-shot", "stage 2"]
    assert table.loc["stage 2", "n"] == 6
    assert table.loc["stage 2", "closed"].startswith("100.0 (")
    assert table.loc["stage 2", "overall"].startswith("50.0 (")


def test_bars_stand_at_the_scores():
    figure = accuracy_by_kind(scores(), title="all")
    heights = sorted(bar.get_height() for bar in figure.axes[0].patches)
    assert heights == [0.0, 100.0]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["ORGAN\nn=3", "PRES\nn=3"]


def test_bars_in_words_are_the_bars():
    words = accuracy_in_words(scores())
    assert (
        words
        == "Bars of exact match in per cent. Question type: ORGAN 0, PRES 100. Organ: CHEST 50. Phrasing: freeform 50."
    )


def test_curves_in_words_say_where_they_begin_and_end():
    log = [{"step": s, "loss": 3.0 / s, "learning_rate": rate} for s, rate in ((1, 1e-4), (10, 1e-3), (20, 5e-4))]
    told = "Three panels of curves: training loss 3.00 at step 1, 0.15 at step 20; "
    told += "learning rate at most 1.0e-03, at the end 5.0e-04; "
    assert curves_in_words(log, []) == f"{told}no validation."
    losses = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.5}]
    assert curves_in_words(log, losses) == f"{told}validation loss 2.00 at step 10, 1.50 at step 20."
    matches = [{"step": 20, "exact_match": 50.0, "open": None, "closed": 60.0}]
    assert curves_in_words(log, matches).endswith("exact match on validation questions in per cent 50.0 at step 20.")


def test_curves_show_every_logged_step():
    log = [{"step": s, "loss": 3.0 / s, "learning_rate": 1e-3} for s in (1, 10, 20)]
    validation = [{"step": s, "exact_match": 50.0, "open": 40.0, "closed": 60.0} for s in (10, 20)]
    figure = training_curves(log, validation)
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 10, 20]
    assert {text.get_text() for text in figure.axes[2].get_legend().get_texts()} == {"open", "closed", "all"}
    assert len(training_curves(log, []).axes[2].lines) == 0
    assert [axis.lines[0].get_marker() for axis in training_curves(log[:1], []).axes[:2]] == ["o", "o"]


def test_a_loss_of_captions_is_drawn_with_the_step_that_was_kept():
    log = [{"step": s, "loss": 3.0 / s, "learning_rate": 1e-3} for s in (1, 10, 20)]
    validation = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.5}, {"step": 30, "loss": 1.7}]
    axis = training_curves(log, validation).axes[2]
    curve, kept = axis.lines
    assert list(curve.get_xdata()) == [10, 20, 30] and list(curve.get_ydata()) == [2.0, 1.5, 1.7]
    assert (list(kept.get_xdata()), list(kept.get_ydata())) == ([20], [1.5])
    assert axis.get_ylabel() == "loss (nats per token)" and axis.get_ylim()[1] > 2.0


def reports() -> list[dict]:
    told = "the lungs are clear. " * 6
    return [{**row, "task": "report", "question": None, "answer": told} for row in rows()]


def test_long_texts_stand_wrapped_below_their_pictures():
    written = {"zero-shot": {f"q{i}": "" for i in range(6)}, "stage 2": {f"q{i}": "a $5 fee, $6" for i in range(6)}}
    figure = show_texts(reports(), written, columns=4, title="Test pictures")
    figure.canvas.draw()  # a dollar sign must not begin a formula
    assert sum(len(axis.images) for axis in figure.axes) == 6
    below = [text for axis in figure.axes for text in axis.texts]
    assert len(below) == 18
    assert max(len(line) for text in below for line in text.get_text().split("\n")) <= 44
    shown = texts(figure)
    assert "true: the lungs" in shown and shown.count("zero-shot: (nothing)") == 6 and "stage 2: a $5 fee, $6" in shown
    colours = [text.get_color() for text in below[:3]]
    assert colours[0] == "black" and len({str(colour) for colour in colours}) == 3
    heights = [text.get_window_extent() for text in below[:3]]
    assert heights[0].y0 > heights[1].y1 and heights[1].y0 > heights[2].y1, "texts overlap"


def test_a_text_past_the_bound_says_that_it_is_cut():
    shown = texts(show_texts(reports()[:1], longest=30))
    assert "[...]" in shown and shown.count("clear") == 1


def test_nothing_of_a_credentialed_data_set_is_picked_or_drawn():
    lent = [{**row, "dataset": "mimic_cxr"} for row in reports()]
    with pytest.raises(ValueError, match="refused to draw examples: row 'q0' is of mimic_cxr"):
        show_texts([*reports(), *lent])
    with pytest.raises(ValueError, match="no rows to show"):
        show_texts([])
    assert pick_examples(lent) == []
    assert [row["id"] for row in pick_examples([lent[0], *reports()], 2)] == ["q0", "q2"]


def test_no_more_rows_are_read_than_are_picked():
    def endless():
        yield from rows()
        raise AssertionError("read on")

    assert len(pick_examples(endless(), 2)) == 2


def test_figures_need_no_torch():
    code = "import pefomed.reporting.accuracy, pefomed.reporting.examples, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
