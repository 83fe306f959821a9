"""The published normaliser against every recorded verdict, and the repaired one against its table."""

import json
from pathlib import Path

import pytest

from pefomed.metrics.normalise import REPAIRS, is_match, normalise, normalise_published, normalise_repaired

SMALL = json.loads((Path(__file__).parents[1] / "reference" / "data" / "vqa_match.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("item", SMALL["items"], ids=lambda item: f"{item['prediction']}|{item['answer']}")
def test_recorded_pair(item):
    assert normalise_published(item["prediction"]) == item["normalised_prediction"]
    assert normalise_published(item["answer"]) == item["normalised_answer"]
    assert is_match(item["prediction"], item["answer"]) == bool(item["correct"])


def test_every_recorded_item_of_the_published_evaluation(shared):
    items = json.loads((shared / "reference" / "medvqa_eval.json").read_text(encoding="utf-8"))["items"]
    assert len(items) == 111
    for item in items:
        assert normalise_published(item["prediction"]) == item["normalised_prediction"], item
        assert normalise_published(item["ground_truth"]) == item["normalised_ground_truth"], item
        assert is_match(item["prediction"], item["ground_truth"]) == bool(item["correct"]), item


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("." * 32 + "b", "b"),
        ("." * 33 + "b", ".b"),
        ("3.5.", "3.5"),
        ("no.7", "no.7"),
        ("left-right, 1,2 rib/lung", "leftright 12 riblung"),
        ("left-right, rib", "left right rib"),
        ("left-right - rib", "leftright rib"),
        ("lung,\nleft", "lung left"),
        ("apex rays", "apexrays"),
        ("none of ten", "0 of 10"),
        ("Eleven", "eleven"),
        ("ow's'at y'allll couldn'tve couldnt've twas", "'ow's'at y'all'll couldn't've couldn't've 'twas"),
        ("somebody'd im hell shed", "somebodyd im hell shed"),
        (None, "0"),
        (2.5, "2.5"),
    ],
)
def test_published_oddities(text, expected):
    assert normalise_published(text) == expected


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.name)
def test_each_repair_changes_a_verdict(repair):
    assert is_match(repair.prediction, repair.answer, "repaired") is repair.match
    assert is_match(repair.prediction, repair.answer, "medvqa") is not repair.match


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Left Lung.", "left lung"),
        ("u.s.", "us"),
        (".5", "0.5"),
        ("10.50 mm.", "10.50 mm"),
        ("1,000,000", "1000000"),
        ("levels 1,2,3", "levels 1 2 3"),
        ("6.5 x 6.2 x 8.8cm", "6.5 x 6.2 x 8.8 cm"),
        ("5cm²", "5 cm2"),
        ("T2-weighted", "t2 weighted"),
        ("chest X-rays", "chest xrays"),
        ("patient’s “left”", "patients left"),
        ("vitamin A", "vitamin a"),
        ("a", "a"),
        ("none", "0"),
        ("50%", "50 %"),
        ("iliac_crest", "iliac crest"),
        ("", ""),
        ("...", ""),
    ],
)
def test_repaired(text, expected):
    assert normalise_repaired(text) == expected


@pytest.mark.parametrize("item", SMALL["items"], ids=lambda item: f"{item['prediction']}|{item['answer']}")
def test_repaired_is_idempotent(item):
    for text in (item["prediction"], item["answer"]):
        assert normalise_repaired(normalise_repaired(text)) == normalise_repaired(text)


def test_repaired_departs_from_the_small_record_only_where_the_table_says():
    changed = {
        (item["prediction"], item["answer"])
        for item in SMALL["items"]
        if is_match(item["prediction"], item["answer"], "repaired") != bool(item["correct"])
    }
    # unit, possessive apostrophe, nothing left (twice)
    assert changed == {("6.5 mm", "6.5mm"), ("patients", "patient's"), ("", ""), ("the", "")}


def test_repair_names_differ_and_each_says_why():
    assert len({repair.name for repair in REPAIRS}) == len(REPAIRS)
    assert all(len(repair.why) > 10 for repair in REPAIRS)


def test_unknown_normaliser():
    with pytest.raises(ValueError, match="'vqa'; it must be one of medvqa, repaired"):
        normalise("yes", "vqa")
