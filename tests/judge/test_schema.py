"""Replies that are verdicts, and replies that must never become one."""

import json

import pytest
from openai.lib._pydantic import to_strict_json_schema

from pefomed.judge.schema import (
    MAX_REPLY_CHARACTERS,
    allowed_scores,
    parse_plain_reply,
    parse_reply,
    reply_schema,
    response_format,
)


def reply(score, reason="same thing"):
    return json.dumps({"reason": reason, "score": score})


@pytest.mark.parametrize("parse", [parse_reply, parse_plain_reply])
@pytest.mark.parametrize(("task", "scores"), [("vqa", (0, 1)), ("report", (0, 1, 2, 3, 4))])
def test_every_allowed_score_is_read(parse, task, scores):
    assert allowed_scores(task) == scores
    for score in scores:
        found = parse(reply(score), task)
        assert type(found) is int and found == score
        assert parse(f'\n {{"score": {score}, "reason": "Score: 9 {{}} ```"}} \n', task) == score


MALFORMED = {
    "empty": "",
    "blanks": "  \n",
    "bare number": "1",
    "bare text": '"1"',
    "prose": "The score is 1.",
    "label": "Score: 1",
    "true": reply(True),
    "false": reply(False),
    "number as text": reply("1"),
    "float": reply(1.0),
    "exponent": '{"reason": "", "score": 1e0}',
    "minus zero as float": '{"reason": "", "score": -0.0}',
    "half": reply(0.5),
    "null": reply(None),
    "list": reply([1]),
    "object": reply({"value": 1}),
    "NaN": '{"reason": "", "score": NaN}',
    "Infinity": '{"reason": "", "score": Infinity}',
    "too high": reply(5),
    "negative": reply(-1),
    "enormous": reply(10**30),
    "more digits than Python reads": '{"reason": "", "score": ' + "1" * 5000 + "}",
    "leading zero": '{"reason": "", "score": 01}',
    "no score": '{"reason": "same"}',
    "no reason": '{"score": 1}',
    "empty object": "{}",
    "reason is a number": reply(1, 3),
    "reason is null": reply(1, None),
    "further key": '{"reason": "", "score": 1, "confidence": 1}',
    "other case": '{"Reason": "", "Score": 1}',
    "key twice": '{"reason": "", "score": 0, "score": 1}',
    "list of verdicts": f"[{reply(1)}]",
    "two objects": reply(1) + reply(1),
    "two objects in lines": reply(0) + "\n" + reply(1),
    "trailing prose": reply(1) + " I hope this helps.",
    "leading prose": "Here it is: " + reply(1),
    "trailing comma": '{"reason": "", "score": 1,}',
    "single quotes": "{'reason': '', 'score': 1}",
    "comment": '{"reason": "", "score": 1} // sure',
    "cut off": '{"reason": "", "score": 1',
    "byte order mark": "\ufeff" + reply(1),
    "line break in a string": '{"reason": "a\nb", "score": 1}',
    "full-width digit": '{"reason": "", "score": \uff11}',
    "nested in an object": '{"verdict": ' + reply(1) + "}",
    "too deep": "[" * 15_000,
    "too deep inside": '{"reason": ' + "[" * 9_000 + "]" * 9_000 + ', "score": 1}',
    "too long": reply(1, "a" * MAX_REPLY_CHARACTERS),
}


@pytest.mark.parametrize("parse", [parse_reply, parse_plain_reply])
@pytest.mark.parametrize("task", ["vqa", "report"])
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_exactly_a_verdict_is_refused_in_one_line(parse, task, text):
    with pytest.raises(ValueError, match="^reply: ") as caught:
        parse(text, task)
    message = str(caught.value)
    assert "\n" not in message and message.isascii() and len(message) < 400


def test_an_odd_reason_is_no_reason_to_ask_again():
    for reason in ("", "\ud800", "\u202e", "{}", "a" * 5000):
        assert parse_reply(reply(1, reason), "vqa") == 1


def test_levels_above_one_are_for_reports_only():
    assert parse_reply(reply(4), "report") == 4
    with pytest.raises(ValueError, match="'score'.*one of 0, 1"):
        parse_reply(reply(2), "vqa")


def test_text_only():
    with pytest.raises(ValueError, match="found bytes instead of text"):
        parse_reply(reply(1).encode(), "vqa")
    with pytest.raises(ValueError, match="found NoneType instead of text"):
        parse_plain_reply(None, "vqa")


@pytest.mark.parametrize("text", ["```json\n{}\n```", "```\n{}\n```", "\n```json  \r\n{}\r\n```\n", "```\n{}```"])
def test_one_code_fence_is_allowed_to_plain_servers_only(text):
    text = text.replace("{}", reply(1))
    assert parse_plain_reply(text, "vqa") == 1
    with pytest.raises(ValueError, match="not one JSON object"):
        parse_reply(text, "vqa")


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{}\n``` done",
        "Sure:\n```json\n{}\n```",
        "```json\n{}\n```\n```json\n{}\n```",
        "```python\n{}\n```",
        "```json\n{}",
        "```json {} ```",
        "``````\n{}\n``````",
        "```\nScore: 1\n```",
        "```\n```json\n{}\n```\n```",
        "`{}`",
    ],
)
def test_fences_with_anything_else_are_refused(text):
    with pytest.raises(ValueError, match="^reply: not one JSON object"):
        parse_plain_reply(text.replace("{}", reply(1)), "vqa")


@pytest.mark.parametrize("task", ["vqa", "report"])
def test_schema_is_strict_as_structured_outputs_ask(task):
    form = response_format(task)
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    schema = form["json_schema"]["schema"]
    assert schema == to_strict_json_schema(reply_schema(task))
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == ["reason", "score"]
    assert schema["properties"]["score"]["enum"] == list(allowed_scores(task))
    assert schema["properties"]["score"]["type"] == "integer"


@pytest.mark.parametrize("ask", [reply_schema, response_format, allowed_scores, lambda task: parse_reply("{}", task)])
def test_other_tasks_are_not_judged(ask):
    with pytest.raises(ValueError, match="task is 'caption'; a judge rates vqa and report only"):
        ask("caption")
