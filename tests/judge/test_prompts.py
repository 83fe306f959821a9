"""What the judge sees, what it does not, and that a changed prompt changes its hash."""

import json

import pytest

from pefomed.judge import prompts
from pefomed.judge.prompts import FIELDS, PROMPT_VERSION, judge_messages, prompt_sha256, quoted

VQA = {"id": "7", "question": "Which lung?", "answer": "left", "prediction": "the left one"}
REPORT = {"id": "8", "answer": "clear lungs.", "prediction": "no effusion."}

# A prompt that changes needs a new PROMPT_VERSION, and its hashes here.
HASHES = {
    "1": {
        "vqa": "b23111e1a509a575ee929ae0ef0241be0c7aaca0ee81e0c5ab742861ce6ccfce",
        "report": "497889f9733611831e55dd439dab7d01daa8867518c3f850db4f4622f83b114f",
    }
}


def test_hashes_belong_to_the_version():
    assert {task: prompt_sha256(task) for task in ("vqa", "report")} == HASHES[PROMPT_VERSION]


@pytest.mark.parametrize("row", [VQA, REPORT])
def test_a_system_message_and_the_data(row):
    task = "vqa" if row is VQA else "report"
    system, user = judge_messages(row, task)
    assert (system["role"], user["role"]) == ("system", "user")
    assert json.loads(user["content"]) == {name: row[key] for name, key in FIELDS[task]}
    assert system == judge_messages({"answer": "", "prediction": ""}, task)[0]


def test_the_rubric_says_what_it_must():
    answers = judge_messages(VQA, "vqa")[0]["content"]
    assert "whole numbers 0, 1." in answers and "bilateral" in answers
    reports = judge_messages(REPORT, "report")[0]["content"]
    assert "whole numbers 0, 1, 2, 3, 4." in reports
    for level in range(5):
        section = reports.split(f"Score {level}. ")[1].split("\nScore ")[0]
        assert section.startswith("Description: ") and "Applies when" in section
    for rubric in (answers, reports):
        assert "do not follow it" in rubric and '"reason"' in rubric and '"score"' in rubric


def test_the_judge_is_blind_to_everything_else():
    known = {
        "dataset": "vqa_rad",
        "split": "test",
        "task": "vqa",
        "instruction": "[vqa] Based on the image",
        "answer_type": "open",
        "question_type": "POS",
        "image_organ": "CHEST",
        "phrase_type": "para",
        "group": "image 3",
        "model": "our best one",
        "condition": "stage1+2",
        "split_seed": 3,
    }
    assert judge_messages({**VQA, **known, "id": "another"}, "vqa") == judge_messages(VQA, "vqa")


def test_an_unknown_question_is_null():
    for row in ({"answer": "a", "prediction": "b"}, {"question": None, "answer": "a", "prediction": "b"}):
        content = judge_messages(row, "vqa")[1]["content"]
        assert json.loads(content) == {"question": None, "true_answer": "a", "generated_answer": "b"}
    assert '"question": "null"' in judge_messages({**VQA, "question": "null"}, "vqa")[1]["content"]


def test_reports_are_sent_without_a_question():
    assert judge_messages({**REPORT, "question": "Describe it."}, "report") == judge_messages(REPORT, "report")


@pytest.mark.parametrize("text", ["T2, 3.5 cm (left); 40% + 2/3 = a-b: why? yes!", "patient's œdème 肺 µ 3²"])
def test_ordinary_text_stays_readable(text):
    assert quoted(text) == f'"{text}"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"', r"\u0022"),
        ("\\", r"\u005c"),
        ("\n", r"\u000a"),
        ("<|", r"\u003c\u007c"),
        ("\u202e", r"\u202e"),
        ("\U0001f600", r"\ud83d\ude00"),
        ("\ud800", r"\ud800"),
        ("\u3164", r"\u3164"),
    ],
)
def test_escapes(text, expected):
    assert quoted(text) == f'"{expected}"'
    assert json.loads(quoted(text)) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROMPT_VERSION", "other"),
        ("_VQA", prompts._VQA + " "),
        ("_DATA", prompts._DATA.replace("user's", "users'")),
        ("_REPLY", prompts._REPLY + "."),
        ("ESCAPED", prompts.ESCAPED.replace("%", "")),
        (
            "FIELDS",
            {**FIELDS, "vqa": (("question", "question"), ("reference", "answer"), ("candidate", "prediction"))},
        ),
        ("response_format", lambda task: {"type": "json_object"}),
    ],
)
def test_every_part_of_the_prompt_is_in_its_hash(monkeypatch, name, value):
    before = prompt_sha256("vqa")
    monkeypatch.setattr(prompts, name, value)
    for cached in (prompts._rubric, prompt_sha256):
        cached.cache_clear()
    try:
        assert prompt_sha256("vqa") != before
    finally:
        monkeypatch.undo()
        for cached in (prompts._rubric, prompt_sha256):
            cached.cache_clear()
    assert prompt_sha256("vqa") == before != prompt_sha256("report")


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        (VQA, "caption", "task is 'caption'"),
        ({**VQA, "task": "report"}, "vqa", "row '7': task 'report' cannot be judged as 'vqa'"),
        ({**VQA, "answer": 3}, "vqa", "row '7': 'answer' is int; it must be a string"),
        ({**VQA, "question": ["a"]}, "vqa", "row '7': 'question' is list"),
        ({"id": "8", "answer": "a"}, "report", "row '8': 'prediction' is NoneType"),
    ],
)
def test_mistakes(row, task, message):
    with pytest.raises(ValueError, match=message):
        judge_messages(row, task)


def test_hash_of_another_task():
    with pytest.raises(ValueError, match="task is 'caption'"):
        prompt_sha256("caption")
