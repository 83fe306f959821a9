"""The paper's tables and figures of evaluations, on made-up answers and reports whose scores are known."""

import matplotlib.pyplot as plt
import pytest

from pefomed.metrics.verdicts import Verdict, verdict_scores
from pefomed.metrics.vqa import vqa_scores
from pefomed.reporting.evaluations import accuracy_table, evaluations_figure, kinds_in_words, kinds_table
from pefomed.reporting.report_evaluations import (
    level_counts_table,
    levels_figure,
    levels_table,
    report_metrics_table,
)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def answers():
    """Eight questions on four images; exact match accepts every second one."""
    return [
        {
            "id": f"q{i}",
            "task": "vqa",
            "answer": "lung",
            "prediction": "lung" if i % 2 else "heart",
            "group": f"g{i // 2}",
        }
        | {"answer_type": "closed" if i < 4 else "open", "question_type": "PRES" if i < 4 else "POS"}
        | {"image_organ": "CHEST" if i < 6 else "HEAD"}
        for i in range(8)
    ]


def evaluations():
    # of the rejected answers q0, q2, q4 and q6 the first rater accepts q0 alone, the second q0 and q2
    ratings = [Verdict(f"q{i}", f"simulated {j}", int(i < 2 * j)) for i in (0, 2, 4, 6) for j in (1, 2)]
    judge = [Verdict(f"q{i}", "repeat 1", int(i != 6)) for i in range(8)]
    return {
        "exact match": vqa_scores(answers(), n_resamples=100),
        "offline stand-in": verdict_scores(answers(), judge, "vqa", n_resamples=100),
        "2 simulated raters": verdict_scores(answers(), ratings, "vqa", n_resamples=100),
    }


def reports():
    return [
        {"id": f"r{i}", "task": "report", "answer": "clear lungs", "prediction": "clear", "group": f"g{i}"}
        for i in range(4)
    ]


def levels():
    judge = [Verdict(f"r{i}", f"repeat {j}", min(i + j, 4)) for i in range(4) for j in (1, 2)]
    return {"offline stand-in": verdict_scores(reports(), judge, "report", n_resamples=100)}


def test_accuracy_has_a_line_an_evaluation():
    table = accuracy_table(evaluations())
    assert list(table.index) == ["exact match", "offline stand-in", "2 simulated raters"]
    assert list(table["raters"]) == [1, 1, 2] and set(table["n"]) == {8}
    assert table.loc["exact match", "overall"].startswith("50.0 (")
    assert table.loc["offline stand-in", "overall"].startswith("87.5 (")
    # closed: 3 of 4 and 4 of 4; open: 2 of 4 by both
    assert table.loc["2 simulated raters", "closed"].startswith("87.5±17.7 (")
    assert table.loc["2 simulated raters", "open"].startswith("50.0±0.0")


def test_the_papers_lines_can_stand_below():
    table = accuracy_table(evaluations(), published="vqa_rad")
    assert list(table.loc["human (paper, Table 2)", ["open", "closed", "overall"]]) == [
        "77.7±3.2",
        "87.6±0.2",
        "83.7±1.3",
    ]
    assert len(table) == 6
    assert len(accuracy_table(evaluations(), published="slake")) == 5
    organs = kinds_table(evaluations(), "by_image_organ", published=True)
    assert list(organs.columns) == ["CHEST (n=6)", "HEAD (n=2)"]
    assert list(organs.loc["GPT-4 (paper, Table 4)"]) == ["87.4±0.0", "86.8±1.3"]


def test_kinds_of_questions():
    table = kinds_table(evaluations(), "by_question_type")
    assert list(table.columns) == ["POS (n=4)", "PRES (n=4)"]
    assert table.loc["offline stand-in", "POS (n=4)"].startswith("75.0")
    assert table.loc["2 simulated raters", "PRES (n=4)"].startswith("87.5±17.7")


def test_bars_and_error_bars_stand_at_the_scores():
    figure = evaluations_figure(evaluations(), title="drawn")
    types, organs = figure.axes
    heights = [[bar.get_height() for bar in container] for container in bars_of(types)]
    assert heights == [[50.0, 50.0], [75.0, 100.0], [50.0, 87.5]]
    assert [label.get_text() for label in organs.get_xticklabels()] == ["CHEST (n=6)", "HEAD (n=2)"]
    # by standard deviation only two raters that differ have a bar: those of present findings, and of the chest
    ((low, high),) = spans(types)
    assert (low, high) == pytest.approx((87.5 - 17.68, 87.5 + 17.68), abs=0.01)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(evaluations())
    assert "standard deviation" in legend.get_title().get_text()


def test_the_figure_in_words_names_where_the_evaluations_are_furthest_apart():
    words = kinds_in_words(evaluations())
    assert words.startswith("Bars of accuracy by question type, organ for exact match, offline stand-in, 2 simulated")
    assert words.endswith(
        "apart at question type PRES: exact match 50.0 %, offline stand-in 100.0 %, 2 simulated raters 87.5 %."
    )
    alone = kinds_in_words({"exact match": evaluations()["exact match"]})
    assert alone == "Bars of accuracy by question type, organ for exact match."


def bars_of(axis):
    return [container for container in axis.containers if hasattr(container, "patches")]


def spans(axis):
    """The ends of the error bars."""
    lines = [line for container in axis.containers if hasattr(container, "lines") for line in container.lines[2]]
    return [(segment[0][1], segment[1][1]) for line in lines for segment in line.get_segments()]


def test_error_bars_can_be_intervals():
    figure = evaluations_figure(evaluations(), errors="ci95")
    found = spans(figure.axes[0])
    expected = evaluations()["offline stand-in"]["by_question_type"]["POS"]["ci95"]
    assert any((low, high) == pytest.approx(tuple(expected)) for low, high in found)
    assert "95 % interval" in figure.legends[0].get_title().get_text()


def test_a_kind_that_one_evaluation_lacks():
    both = evaluations()
    del both["exact match"]["by_question_type"]["POS"]
    assert kinds_table(both, "by_question_type").loc["exact match", "POS (n=4)"] == "-"
    heights = [bar.get_height() for container in bars_of(evaluations_figure(both).axes[0]) for bar in container]
    assert sum(height > 0 for height in heights) == 5


def test_levels_and_wasm():
    table = levels_table(levels(), published=True)
    # repeat 1 gives 1, 2, 3, 4 and repeat 2 gives 2, 3, 4, 4
    assert table.loc["offline stand-in", "level 4 (%)"] == "37.5±17.7"
    assert table.loc["offline stand-in", "WASM"].startswith("2.88±0.53 (")
    assert table.loc["human (paper, Table 6)", "level 1 (%)"] == "23.38±12.81"
    assert table.loc["GPT-4 (paper, Table 6)", "WASM"] == "3.08±0.03"
    counts = level_counts_table(levels(), published=True)
    assert list(counts.loc["offline stand-in"])[:7] == [4, 8, 0, 1, 2, 2, 3]
    assert list(counts.loc["GPT-4, stage 1 (paper, Table 11)"]) == [1180, 1180, 51, 170, 192, 318, 449, "2.80"]


def test_bars_of_levels():
    figure = levels_figure(levels(), published=True)
    containers = bars_of(figure.axes[0])
    assert [bar.get_height() for bar in containers[0]] == [0.0, 12.5, 25.0, 25.0, 37.5]
    assert [bar.get_height() for bar in containers[2]] == [2.80, 7.80, 17.10, 22.60, 48.70]
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names[0].startswith("offline stand-in (WASM 2.88") and names[1].startswith("human (paper, Table 6)")
    assert len(bars_of(levels_figure(levels()).axes[0])) == 1


def metrics(shift=0.0):
    keys = ("meteor_java15", "rouge_l", "cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4")
    scores = dict.fromkeys(keys, 0.1 + shift)
    return {"n": 4, **scores, "ci95": dict.fromkeys(keys, [0.05 + shift, 0.15 + shift])}


def test_report_metrics_stand_beside_the_best_constant():
    normal = {"sha256": "a", "n": 4, "scores": {"meteor_java15": None, "rouge_l": 0.3, "cider": 0.2}}
    other = {"sha256": "b", "n": 4, "scores": {"meteor_java15": 0.25, "rouge_l": 0.1, "cider": 0.1}}
    constant = {"rouge_l": normal, "cider": normal, "meteor_java15": other}
    table = report_metrics_table({"stage 2": metrics(), "stage 1+2": metrics(0.1)}, constant, published=True)
    assert list(table.index)[:4] == [
        "stage 2",
        "stage 1+2",
        "best constant report by METEOR",
        "best constant report by ROUGE-L, CIDEr",
    ]
    assert table.loc["stage 1+2", "CIDEr"] == "0.200 (0.150-0.250)"
    assert table.loc["best constant report by ROUGE-L, CIDEr", "ROUGE-L"] == "0.300"
    assert table.loc["best constant report by ROUGE-L, CIDEr", "METEOR"] == "-"
    assert table.loc["zero-shot (paper, Table 10)", "ROUGE-L"] == "0.089"
    without = metrics() | {"meteor_java15": None}
    assert report_metrics_table({"quick": without}).loc["quick", "METEOR"] == "-"


def test_the_constant_that_the_package_finds_fits_the_table():
    from pefomed.metrics.captions import caption_scores
    from pefomed.metrics.constant_report import constant_report_scores

    options = {"ptb": False, "meteor": False}
    rows = reports()
    scores = {"model": caption_scores(rows, n_resamples=20, **options)}
    table = report_metrics_table(scores, constant_report_scores(rows, **options))
    (name,) = (name for name in table.index if name.startswith("best constant"))
    # all true reports are the same here, so that the constant is right every time
    assert table.loc[name, "ROUGE-L"] == "1.000" and table.loc["model", "ROUGE-L"] < "1.000"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: accuracy_table({}), "no evaluations"),
        (lambda: accuracy_table(levels()), "'offline stand-in' has no accuracy"),
        (
            lambda: accuracy_table(evaluations(), published="roco"),
            "published is 'roco'; the paper has answers on path_vqa",
        ),
        (lambda: kinds_table(evaluations(), "by_group"), "breakdown is 'by_group'"),
        (lambda: kinds_table(evaluations(), "by_phrase_type"), "no question has a phrase_type"),
        (lambda: evaluations_figure(evaluations(), errors="se"), "errors is 'se'"),
        (lambda: levels_table({}), "no evaluations"),
        (lambda: levels_figure(evaluations()), "'exact match' has no levels"),
        (lambda: report_metrics_table({}), "no models"),
        (lambda: report_metrics_table({"m": {"n": 1}}), "model 'm' has no meteor_java15"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_questions_without_kinds_make_no_figure():
    bare = [{key: row[key] for key in ("id", "task", "answer", "prediction")} for row in answers()]
    with pytest.raises(ValueError, match="no bar to draw"):
        evaluations_figure({"exact match": vqa_scores(bare, n_resamples=10)})
