"""Scores of whole prediction files: recorded aggregates, breakdowns, clusters, and the shape of metrics.json."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pefomed import files
from pefomed.metrics import exact_match, format_scores, token_recall, vqa_scores
from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.vqa import item_scores, token_scores
from pefomed.predictions import write_predictions

SMALL = json.loads((Path(__file__).parents[1] / "reference" / "data" / "vqa_match.json").read_text(encoding="utf-8"))


def row(name, prediction, answer, **others):
    return {"id": name, "task": "vqa", "prediction": prediction, "answer": answer, **others}


ROWS = [
    row("1", "yes", "Yes", answer_type="closed", question_type="PRES", image_organ="HEAD", group="a"),
    row("2", "no", "yes", answer_type="closed", question_type="PRES, POS", image_organ="HEAD", group="a"),
    row("3", "the left lung", "left lung", answer_type="open", question_type="POS", image_organ="CHEST", group="b"),
    row("4", "right lung", "left lung", answer_type="open", question_type=None, phrase_type="para", group="c"),
    row("5", "3.5cm", "3.5 cm", answer_type=None, question_type="SIZE", group=None),
]


def test_small_recorded_aggregates():
    rows = [
        row(str(number), item["prediction"], item["answer"], answer_type=item["answer_type"])
        for number, item in enumerate(SMALL["items"])
    ]
    scores = exact_match(rows, n_resamples=10)["exact_match"]
    recorded = SMALL["accuracy"]
    assert round(scores["overall"], 2) == recorded["overall"]
    assert round(scores["closed"], 2) == recorded["perAnswerType"]["CLOSED"]
    assert round(scores["open"], 2) == recorded["perAnswerType"]["OPEN"]


def test_recorded_aggregates_of_the_published_evaluation(shared):
    record = json.loads((shared / "reference" / "medvqa_eval.json").read_text(encoding="utf-8"))
    rows = [
        row(
            str(item["qid"]),
            str(item["prediction"]),
            str(item["ground_truth"]),
            # the record has a third type; ours are open, closed and none
            answer_type=None if item["answer_type"] == "OTHER_TYPE" else item["answer_type"],
            question_type=item["question_type"],
        )
        for item in record["items"]
    ]
    result = exact_match(rows, n_resamples=10)
    accuracy = record["accuracy"]
    assert round(result["exact_match"]["overall"], 2) == accuracy["overall"]
    assert round(result["exact_match"]["open"], 2) == accuracy["perAnswerType"]["OPEN"]
    assert round(result["exact_match"]["closed"], 2) == accuracy["perAnswerType"]["CLOSED"]
    ours = {name: round(entry["exact_match"], 2) for name, entry in result["by_question_type"].items()}
    assert ours == accuracy["perQuestionType"]
    third = exact_match([one for one in rows if one["answer_type"] is None], n_resamples=10)["exact_match"]
    assert round(third["overall"], 2) == accuracy["perAnswerType"]["OTHER_TYPE"]


def test_answer_types_and_breakdowns():
    result = exact_match(ROWS)
    assert result["n"] == {"open": 2, "closed": 2, "overall": 5}
    scores = result["exact_match"]
    assert (scores["open"], scores["closed"], scores["overall"]) == (50.0, 50.0, 40.0)
    assert scores["normaliser"] == "medvqa"
    # both closed rows are of one image, so nothing is known about how images differ
    assert scores["ci95"]["closed"] is None
    assert scores["ci95"]["open"] == [0.0, 100.0]
    questions = {name: (entry["n"], entry["exact_match"]) for name, entry in result["by_question_type"].items()}
    assert questions == {"POS": (2, 50.0), "PRES": (2, 50.0), "SIZE": (1, 0.0)}
    assert {name: entry["n"] for name, entry in result["by_image_organ"].items()} == {"CHEST": 1, "HEAD": 2}
    assert result["by_phrase_type"] == {"para": {"n": 1, "exact_match": 0.0, "ci95": None}}
    assert exact_match(ROWS, "repaired")["exact_match"]["overall"] == 60.0


def test_a_doubled_question_type_counts_once():
    result = exact_match([row("1", "a", "b", question_type="POS, POS,"), row("2", "b", "b", question_type=" POS ")])
    assert {name: entry["n"] for name, entry in result["by_question_type"].items()} == {"POS": 2}


def test_answer_types_as_data_sets_write_them():
    rows = [row("1", "yes", "yes", answer_type="CLOSED "), row("2", "lung", "lung", answer_type="OPEN")]
    assert exact_match(rows)["n"] == {"open": 1, "closed": 1, "overall": 2}


def test_intervals_resample_groups():
    generator = np.random.default_rng(0)
    rows, values, images = [], [], []
    for image in range(40):
        right = generator.random() < 0.5
        for question in range(5):
            rows.append(row(f"{image}-{question}", "yes", "yes" if right else "no", group=f"image{image}"))
            values.append(100.0 * right)
            images.append(image)
    expected = cluster_bootstrap(values, images).to_json()
    assert exact_match(rows)["exact_match"]["ci95"]["overall"] == expected
    ungrouped = exact_match([{**one, "group": None} for one in rows])["exact_match"]["ci95"]["overall"]
    assert expected[1] - expected[0] > 1.8 * (ungrouped[1] - ungrouped[0])


def test_groups_of_different_data_sets_stay_apart():
    rows = [row(str(i), "yes", "yes" if i < 2 else "no", group="1", dataset=f"set{i // 2}") for i in range(4)]
    assert exact_match(rows)["exact_match"]["ci95"]["overall"] == [0.0, 100.0]
    together = exact_match([{**one, "dataset": "one"} for one in rows])
    assert together["exact_match"]["ci95"]["overall"] is None


def test_token_recall():
    rows = [
        row("1", "opacity in the left lung", "Left lung", answer_type="open"),
        row("2", "lung", "left lung", answer_type="open"),
        row("3", "left left", "left left upper lobe", answer_type="open"),
        row("4", "", "lung", answer_type="open"),
        row("5", "anything", "the", answer_type="open"),
        row("6", "yes it is", "yes", answer_type="closed"),
    ]
    scores = token_recall(rows)["token_recall"]
    assert scores["open"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 0 + 0) / 5)
    assert scores["closed"] == 100.0
    assert scores["ci95"]["open"][0] < scores["open"] < scores["ci95"]["open"][1]
    assert token_recall([row("1", "12 ribs", "twelve ribs")], "repaired")["token_recall"]["overall"] == 100.0


def test_token_precision_and_f1():
    rows = [
        row("1", "opacity in the left lung", "Left lung", answer_type="open", group="a"),
        row("2", "lung", "left lung", answer_type="open", group="a"),
        row("3", "left left", "left left upper lobe", answer_type="open", group="b"),
        row("4", "", "lung", answer_type="open", group="c"),
        row("5", "anything", "the", answer_type="open", group="d"),
        row("6", "yes it is", "yes", answer_type="closed", group="d"),
    ]
    scores = token_scores(rows)
    # articles go, so the first prediction has four words, two of them right
    precision = [1 / 2, 1, 1, 0, 0]
    assert scores["token_precision"]["open"] == pytest.approx(100 * np.mean(precision))
    recall = [1, 1 / 2, 1 / 3, 0, 0]
    harmonic = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precision, recall, strict=True)]
    assert scores["token_f1"]["open"] == pytest.approx(100 * np.mean(harmonic))
    assert scores["token_precision"]["closed"] == pytest.approx(100 / 3)
    assert scores["token_f1"]["n"] == {"open": 5, "closed": 1, "overall": 6}
    expected = cluster_bootstrap(100 * np.array(precision), ["a", "a", "b", "c", "d"]).to_json()
    assert scores["token_precision"]["ci95"]["open"] == pytest.approx(expected)
    assert scores["token_recall"] == token_recall(rows)["token_recall"] == vqa_scores(rows)["token_recall"]


def test_closed_accuracy():
    side = {"question": "Is it on the left or right side?", "answer_type": "closed"}
    rows = [
        row("1", "yes, there is", "yes", answer_type="CLOSED ", group="a"),
        row("2", "no, it is not", "yes", answer_type="closed", group="a"),
        row("3", "yes and no", "yes", answer_type="closed", group="b"),
        row("4", "on the left", "left", **side, group="b"),
        row("5", "right", "left", **side, group="c"),
        row("6", "the whole lung", "lung", answer_type="open", group="c"),
        row("7", "yes, there is", "yes", answer_type=None, group="c"),
    ]
    scores = vqa_scores(rows)
    closed = scores["closed_accuracy"]
    assert (closed["value"], closed["n"], closed["undecided"]) == (40.0, 5, 1)
    assert closed["ci95"] == cluster_bootstrap([100, 0, 0, 100, 0], ["a", "a", "b", "b", "c"]).to_json()
    assert "Undecided counts as wrong" in closed["rule"]
    assert scores["exact_match"]["closed"] == 0.0
    assert "1 of 5 closed answers undecided" in format_scores(scores)
    no_closed = vqa_scores([row("6", "lung", "lung", answer_type="open")])["closed_accuracy"]
    assert {**no_closed, "rule": ""} == {"value": None, "n": 0, "ci95": None, "undecided": 0, "rule": ""}


def test_item_scores_average_to_the_scores():
    scores = vqa_scores(ROWS)
    for name in ("exact_match", "exact_match_repaired", "token_recall", "token_precision", "token_f1"):
        values = item_scores(ROWS, name)
        assert values.shape == (5,)
        assert values.mean() == pytest.approx(scores[name]["overall"])
    closed = item_scores(ROWS, "closed_accuracy")
    assert np.isnan(closed).tolist() == [False, False, True, True, True]
    assert np.nanmean(closed) == scores["closed_accuracy"]["value"] == 50.0
    with pytest.raises(ValueError, match="score is 'bleu'; it must be one of exact_match"):
        item_scores(ROWS, "bleu")


def test_a_warning_where_there_are_too_few_rows():
    warning = vqa_scores(ROWS)["warning"]
    assert warning.startswith(
        "too few to tell: open has 2 rows in 2 clusters, closed has 2 rows in 1 clusters, overall"
    )
    assert warning in format_scores(vqa_scores(ROWS))
    many = [row(str(i), "yes", "yes", answer_type="closed") for i in range(100)]
    assert vqa_scores(many, n_resamples=10)["warning"] is None
    assert vqa_scores(many[1:], n_resamples=10)["warning"]
    crowded = vqa_scores([{**one, "group": i % 19} for i, one in enumerate(many)], n_resamples=10)
    assert "closed has 100 rows in 19 clusters" in crowded["warning"] and "open" not in crowded["warning"]


def test_everything_for_metrics_json(tmp_path):
    path = write_predictions(tmp_path / "predictions.jsonl", ROWS)
    scores = vqa_scores(path)
    assert list(scores)[:4] == ["n", "exact_match", "exact_match_repaired", "token_recall"]
    assert list(scores)[4:7] == ["token_precision", "token_f1", "closed_accuracy"]
    assert list(scores)[7:] == ["by_question_type", "by_image_organ", "by_phrase_type", "warning"]
    assert scores["exact_match_repaired"]["normaliser"] == "repaired"
    keys = {"open", "closed", "overall", "n", "ci95", "normaliser"}
    for name in ("exact_match", "exact_match_repaired", "token_recall", "token_precision", "token_f1"):
        assert scores[name].keys() == keys
        assert scores[name]["n"] == scores["n"]
    files.write_json(tmp_path / "metrics.json", scores)
    assert files.read_json(tmp_path / "metrics.json") == scores
    assert vqa_scores(ROWS) == scores


def test_table():
    lines = format_scores(vqa_scores(ROWS)).splitlines()
    assert lines[0].split() == ["per", "cent", "[95", "%", "interval]", "open", "closed", "overall"]
    assert lines[1].split() == ["n", "2", "2", "5"]
    shown = {line[:28].strip(): line[28:].split() for line in lines[2:8]}
    assert list(shown) == [
        *("exact match", "exact match, repaired", "token recall"),
        *("token precision", "token F1", "closed accuracy"),
    ]
    assert shown["exact match"][:4] == ["50.0", "[0.0,", "100.0]", "50.0"] and shown["exact match"][4] == "40.0"
    assert shown["closed accuracy"] == ["-", "50.0", "-"]
    assert any(line.split() == ["question", "type", "SIZE", "1", "0.0"] for line in lines)
    only_closed = format_scores(vqa_scores([row("1", "yes", "yes", answer_type="closed")]))
    assert only_closed.splitlines()[2].split() == ["exact", "match", "-", "100.0", "100.0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        ([row("1", "a", "b", answer_type="number")], "row 1: 'answer_type' is 'number'"),
        ([row("1", "a", "b"), {**row("2", "a", "b"), "task": "report"}], "row 2: task 'report'"),
        ([row("1", "a", "b"), row("1", "a", "b")], "row 2: id '1' was already used"),
        ([row("1", 3, "b")], "row 1: 'prediction' is an integer"),
    ],
)
def test_mistakes(rows, message):
    with pytest.raises(ValueError, match=message):
        vqa_scores(rows)


def test_file_of_another_task_is_named(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl", [{**row("1", "a", "b"), "task": "caption"}])
    with pytest.raises(ValueError, match=r"p\.jsonl, row 1: task 'caption'"):
        vqa_scores(path)


def test_importing_the_metrics_loads_no_model_library():
    code = (
        "import sys\n"
        "import pefomed.predictions, pefomed.metrics\n"
        "assert 'numpy' not in sys.modules, 'the exports should be lazy'\n"
        "from pefomed.metrics import exact_match, token_recall, vqa_scores, format_scores, cluster_bootstrap\n"
        "rows = [{'id': '1', 'task': 'vqa', 'answer': 'a', 'prediction': 'a'}]\n"
        "exact_match(rows), vqa_scores(rows)\n"
        "import pefomed.metrics.compare, pefomed.metrics.likert\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'scipy', 'statsmodels', 'evaluate'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(pefomed.metrics.__all__) <= set(dir(pefomed.metrics))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exports_stay_functions_after_their_modules_are_imported():
    import pefomed.metrics
    import pefomed.metrics.vqa

    assert callable(pefomed.metrics.exact_match)
    with pytest.raises(AttributeError, match="nothing"):
        _ = pefomed.metrics.nothing
