"""Findings in generated texts: scores computed by hand, places, normal texts, intervals, mistakes."""

import numpy as np
import pytest

from pefomed import files
from pefomed.data.phantoms import load_phantoms
from pefomed.embedded.phantom_findings import FINDINGS
from pefomed.metrics import finding_scores
from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.findings import NAMES, placed_findings
from pefomed.predictions import write_predictions


def row(name, prediction, answer, **others):
    return {"id": name, "dataset": "phantoms", "task": "report", "prediction": prediction, "answer": answer, **others}


ROWS = [
    # a nodule at its place, the effusion on the wrong side, a pacemaker invented
    row(
        "1",
        "frontal chest x-ray. there is a small nodule in the right upper lung. the image shows a large left pleural "
        "effusion. the image shows a pacemaker over the left chest. no consolidation or pneumothorax.",
        "frontal chest x-ray. there is a large nodule in the right upper lung. there is a large right pleural "
        "effusion. no consolidation or pneumothorax.",
        group="a",
    ),
    # one of two nodules missed
    row(
        "2",
        "there is a small nodule in the left lower lung.",
        "there is a small nodule in the left lower lung. there is a small nodule in the right lower lung.",
        group="b",
    ),
    # normal and said to be
    row("3", "axial ct of the abdomen. the liver and kidneys are normal. no ascites.", "no ascites.", group="c"),
    # normal, but a finding of another part of the body invented
    row("4", "there is a large brain mass in the left frontal lobe.", "the spleen size is normal.", group="d"),
    # missed altogether
    row("5", "the brain is normal.", "there is hydrocephalus.", group="e"),
]


def test_scores_by_hand():
    scores = finding_scores(ROWS)
    names, places = scores["names"], scores["places"]
    assert scores["n"] == 5
    # true: nodule, effusion | nodule | - | - | hydrocephalus; told: the same and pacemaker | nodule | - | mass | -
    micro = names["micro"]
    assert (micro["n"], micro["told"]) == (4, 5)
    assert micro["precision"] == pytest.approx(100 * 3 / 5)
    assert micro["recall"] == pytest.approx(100 * 3 / 4)
    assert micro["f1"] == pytest.approx(100 * 6 / 9)
    # over nodule (1, 1, 1), effusion (1, 1, 1) and hydrocephalus (0, 0, 0); what was only invented has no recall
    macro = names["macro"]
    assert macro["n"] == 3 and "told" not in macro
    assert [macro[key] for key in ("precision", "recall", "f1")] == pytest.approx([200 / 3] * 3)
    assert list(names["by_finding"]) == ["nodule", "pleural effusion", "pacemaker", "brain mass", "hydrocephalus"]
    assert (names["exact_set"]["n"], names["exact_set"]["share"]) == (5, 40.0)
    # with places: told 1 of 3 right | 1 of 1 | 0 of 1; true 1 of 2 found | 1 of 2 | 0 of 1
    micro = places["micro"]
    assert (micro["n"], micro["told"]) == (5, 5)
    assert micro["precision"] == pytest.approx(40) and micro["recall"] == pytest.approx(40)
    nodule = places["by_finding"]["nodule"]
    assert (nodule["n"], nodule["precision"], nodule["f1"]) == (3, 100.0, pytest.approx(80.0))
    assert nodule["recall"] == pytest.approx(200 / 3)
    macro = places["macro"]
    assert macro["recall"] == pytest.approx((200 / 3 + 0 + 0) / 3)
    assert macro["precision"] == pytest.approx(100 / 3)
    assert places["exact_set"]["share"] == 20.0


def test_normal_is_a_class_of_its_own():
    normal = finding_scores(ROWS)["normal"]
    # true in rows 3 and 4, told in 3 and 5
    assert (normal["n"], normal["told"]) == (2, 2)
    assert (normal["precision"], normal["recall"], normal["f1"]) == (50.0, 50.0, 50.0)
    silent = finding_scores([row("1", "", "no ascites.", group=1), row("2", "clear.", "", group=2)])
    assert silent["normal"]["recall"] == silent["names"]["exact_set"]["share"] == 100.0
    assert silent["names"]["by_finding"] == {}
    micro, macro = silent["names"]["micro"], silent["names"]["macro"]
    assert micro["precision"] is micro["recall"] is micro["f1"] is macro["f1"] is macro["ci95"]["f1"] is None


def test_undefined_scores_are_none():
    by_finding = finding_scores(ROWS)["names"]["by_finding"]
    assert by_finding["pacemaker"]["recall"] is None and by_finding["pacemaker"]["precision"] == 0.0
    assert by_finding["hydrocephalus"]["precision"] is None and by_finding["hydrocephalus"]["recall"] == 0.0
    assert by_finding["hydrocephalus"]["f1"] == 0.0
    # one picture says nothing about how pictures differ
    assert by_finding["hydrocephalus"]["ci95"] == {"precision": None, "recall": None, "f1": None}


def test_places():
    text = """The image shows a pacemaker over the RIGHT chest.
    There is a small nodule
    in the left upper lung and a nodule. there is ascites, an infarct in the left lobe"""
    assert placed_findings(text) == {
        ("pacemaker", "right"),
        ("nodule", "left upper"),
        ("nodule", "not stated"),
        ("ascites", ""),
        ("infarct", "not stated"),
    }
    assert placed_findings("no nodule or pacemaker. there is no ascites. no other abnormality.") == frozenset()
    assert placed_findings("a large liver mass in the medial part, a left kidney stone and a splenic cyst.") == {
        ("liver mass", "medial"),
        ("kidney stone", "left"),
        ("splenic cyst", ""),
    }


def test_no_name_hides_in_another():
    assert sorted(NAMES) == sorted(name for names in FINDINGS.values() for name in names)
    assert [(a, b) for a in NAMES for b in NAMES if a != b and a in b] == []


@pytest.mark.parametrize("task", ["report", "caption"])
def test_true_texts_score_full_marks_against_themselves(task):
    rows = load_phantoms("val", task=task).remove_columns("image").to_list()
    scores = finding_scores([{**one, "prediction": one["answer"]} for one in rows], n_resamples=20)
    full = dict.fromkeys(("precision", "recall", "f1"), 100.0)
    for family in ("names", "places"):
        assert scores[family]["exact_set"]["share"] == 100.0
        parts = [scores[family]["micro"], scores[family]["macro"], *scores[family]["by_finding"].values()]
        assert all({key: part[key] for key in full} == full for part in parts)
    assert scores["normal"]["f1"] == 100.0 and scores["normal"]["n"] == sum(
        not placed_findings(one["answer"]) for one in rows
    )
    assert scores["places"]["micro"]["n"] > scores["names"]["micro"]["n"] > 30, "some findings stand at two places"
    shifted = [{**one, "prediction": other["answer"]} for one, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    assert finding_scores(shifted, n_resamples=20)["names"]["micro"]["f1"] < 20


def test_intervals_resample_groups():
    generator = np.random.default_rng(0)
    rows, hits, groups = [], [], []
    for patient in range(30):
        right = bool(generator.random() < 0.6)
        for turn in range(4):
            told = "there is ascites." if right else "there is cardiomegaly."
            rows.append(row(f"{patient}-{turn}", told, "there is ascites.", group=patient))
            hits.append(100.0 * right)
            groups.append(patient)
    scores = finding_scores(rows)["names"]
    expected = cluster_bootstrap(hits, groups).to_json()
    assert scores["micro"]["ci95"]["recall"] == scores["exact_set"]["ci95"] == expected
    # a single true name: its recall and their mean are the same thing, from the same draws
    assert scores["macro"]["ci95"]["recall"] == pytest.approx(expected)
    alone = finding_scores([{**one, "group": None} for one in rows])["names"]["macro"]["ci95"]["recall"]
    assert expected[1] - expected[0] > 1.6 * (alone[1] - alone[0])


def test_interval_of_the_mean_over_names_by_hand():
    # two patients, one name each: a resample has one patient twice (its name alone) or both
    rows = [
        row("1", "there is ascites.", "there is ascites.", group="a"),
        row("2", "", "there is cardiomegaly.", group="b"),
    ]
    macro = finding_scores(rows)["names"]["macro"]
    assert macro["f1"] == 50.0 and macro["ci95"]["f1"] == [0.0, 100.0]


def test_ready_for_metrics_json(tmp_path):
    path = write_predictions(tmp_path / "predictions.jsonl", ROWS)
    scores = finding_scores(path, n_resamples=50)
    files.write_json(tmp_path / "metrics.json", scores)
    assert files.read_json(tmp_path / "metrics.json") == scores == finding_scores(ROWS, n_resamples=50)
    assert scores != finding_scores(ROWS, n_resamples=50, seed=1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        ([ROWS[0], {**ROWS[1], "dataset": "iu_xray"}], "row 2: data set 'iu_xray'; findings can be read only out of"),
        ([{key: value for key, value in ROWS[0].items() if key != "dataset"}], "row 1: data set None"),
        ([ROWS[0], {**ROWS[1], "task": "vqa"}], "row 2: task 'vqa' tells no findings"),
        ([ROWS[0], ROWS[0]], "row 2: id '1' was already used"),
        ([{**ROWS[0], "answer": None}], "row 1: 'answer' is null"),
    ],
)
def test_mistakes(rows, message):
    with pytest.raises(ValueError, match=message):
        finding_scores(rows)


def test_the_file_is_named(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl", [{**ROWS[0], "dataset": "roco"}])
    with pytest.raises(ValueError, match=r"p\.jsonl, row 1: data set 'roco'"):
        finding_scores(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        finding_scores(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="n_resamples is 0"):
        finding_scores(ROWS, n_resamples=0)
