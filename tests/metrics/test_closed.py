"""The rule for closed questions: polarity, negation, options named by the question, and what stays undecided."""

import json

import pytest

from pefomed.metrics.closed import RULE, closed_verdict, polarity, question_options
from pefomed.metrics.normalise import is_match


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"),
        ("Yes, there is.", "yes"),
        ("the answer is yes", "yes"),
        ("There is a mass", "yes"),
        ("effusion is present, as in the last image", "yes"),
        ("there is cardiomegaly without effusion", "yes"),
        ("no", "no"),
        ("No, it is not.", "no"),
        ("not seen", "no"),
        ("There isn't any", "no"),
        ("there is no fracture", "no"),
        ("No, the mass is seen in the right lung", "no"),
        ("none", "no"),
        ("absent", "no"),
        ("pneumothorax is not present", "no"),
        ("yes and no", None),
        ("yes, there is no mass", None),
        ("there is no yes", None),
        ("pneumothorax", None),
        ("", None),
        ("not sure", None),
        ("it cannot be determined", None),
        ("I don't know", None),
        ("know nose northern eyes", None),
    ],
)
def test_polarity(text, expected):
    assert polarity(text) == expected


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Is the lesion on the left or right side of the brain?", ["left", "right"]),
        ("Is it in the gray or white matter?", ["gray", "white"]),
        ("Is this image normal or abnormal?", ["normal", "abnormal"]),
        ("Was this a contrast CT or a non-contrast CT?", ["contrast", "noncontrast"]),
        ("Was this image taken with or without contrast?", ["with", "without"]),
        ("Do you suspect vascular process or a genetic process?", ["vascular", "genetic"]),
        ("Is this a T1 weighted, T2 weighted, or FLAIR image?", ["t1", "t2", "flair"]),
        ("Which is the biggest in this image,lung,liver or heart?", ["lung", "liver", "heart"]),
        ("Which organ is abnormal, heart or lung?", ["heart", "lung"]),
        ("If the image is AP, is the heart normal or enlarged?", ["normal", "enlarged"]),
        ("Is it frontal or axial or coronal?", ["frontal", "axial", "coronal"]),
        ("What is the cause of this finding: medical process or physical injury?", ["process", "physical"]),
        ("is the left, right, both or neither kidney abnormal?", ["left", "right", "both", "neither"]),
        ("is this an x-ray, ct or mri?", ["xray", "ct", "mri"]),
        ("Is this a pneumonia vs. pleural effusion?", ["pneumonia", "pleural"]),
        ("Does this image use contrast or not?", []),
        ("Is there a mass?", []),
        ("", []),
        ("or", []),
        (" or ?", []),
    ],
)
def test_options(question, options):
    assert question_options(question) == options


SIDE = "Is the lesion on the left or right side?"


@pytest.mark.parametrize(
    ("prediction", "answer", "question", "verdict"),
    [
        ("yes, there is", "yes", "Is there a mass or a cyst?", True),
        ("no, there is not", "yes", None, False),
        ("not seen", "No", None, True),
        ("a cyst", "no", "Is there a mass or a cyst?", None),
        ("it is on the left side", "left", SIDE, True),
        ("right", "Left side", SIDE, False),
        ("left and right", "left", SIDE, None),
        ("not the left", "right", SIDE, None),
        ("not the left", "left", SIDE, None),
        ("in the upper lobe", "left", SIDE, None),
        ("leftover", "left", SIDE, None),
        ("without contrast", "with contrast", "Is it with or without contrast?", False),
        ("without any contrast", "without contrast", "Is it with or without contrast?", True),
        ("no contrast", "contrast", "Does this CT have contrast or no contrast?", False),
        ("neither of them", "neither", "is the left, right, both or neither kidney abnormal?", True),
        ("The Liver.", "liver", None, True),
        ("the liver, i think", "liver", None, False),
        ("maybe", "Maybe", "Is this an infectious process?", True),
        ("yes", "Maybe", "Is this an infectious process?", False),
        ("yes", "no, it is clear", None, False),
    ],
)
def test_verdicts(prediction, answer, question, verdict):
    assert closed_verdict(prediction, answer, question) is verdict


def test_what_exact_match_accepts_is_right():
    for text in ("yes and no", "not sure", "left and right", "?"):
        assert is_match(text, text.upper())
        assert closed_verdict(text, text.upper(), SIDE) is True


def test_the_rule_is_stated():
    assert "first polarity word decides" in RULE and "Undecided counts as wrong" in RULE


def test_options_of_vqa_rad_hold_the_answer(shared):
    rows = json.loads((shared / "data" / "vqa_rad_official" / "VQA_RAD Dataset Public.json").read_text("utf-8"))
    choices = [
        row
        for row in rows
        if row["answer_type"].strip() == "CLOSED" and str(row["answer"]).strip().lower() not in ("yes", "no")
    ]
    # A prediction that wraps the true answer in a sentence is right wherever the question's options were found.
    right = [
        closed_verdict(f"I think it is {row['answer']} here", str(row["answer"]), row["question"]) for row in choices
    ]
    assert len(choices) == 106
    assert right.count(True) >= 90
