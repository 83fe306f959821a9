"""What counts as a judge's reply: one JSON object with a reason and a score, and nothing else.

    parse_reply('{"reason": "another word for the same", "score": 1}', "vqa")  # 1

A number is never fished out of prose. A text that is not exactly a verdict raises ValueError; the client asks again,
or records the item as failed.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

TASKS = ("vqa", "report")
#: Longer replies are refused unread: a verdict has one short sentence.
MAX_REPLY_CHARACTERS = 20_000
# The fence may name its language; nothing may stand before or after it, and no second fence inside.
_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n((?:(?!```).)*?)\r?\n?```", re.DOTALL)


def _whole_number(value: Any) -> Any:
    # Python holds True and 1.0 for equal to 1, and a Literal goes by equality.
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value


class VqaVerdict(BaseModel):
    """Whether a generated answer means the same as the true one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    # The reason comes first: servers generate the keys in this order, and a score after its reason is thought over.
    reason: str
    score: Annotated[Literal[0, 1], BeforeValidator(_whole_number)]


class ReportVerdict(BaseModel):
    """How close a generated report comes to the actual one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    reason: str
    score: Annotated[Literal[0, 1, 2, 3, 4], BeforeValidator(_whole_number)]


def reply_schema(task: str) -> type[BaseModel]:
    """The pydantic model of a reply.

    Args:
        task: `vqa` or `report`.

    Raises:
        ValueError: There is no judging such a task.
    """
    check_task(task)
    return VqaVerdict if task == "vqa" else ReportVerdict


def response_format(task: str) -> dict[str, Any]:
    """The `response_format` of a request to a server with structured outputs.

    Args:
        task: `vqa` or `report`.

    Returns:
        A strict JSON schema as the OpenAI API takes it: no key beside the stated ones, all of them required.

    Raises:
        ValueError: There is no judging such a task.
    """
    schema = reply_schema(task).model_json_schema()
    return {"type": "json_schema", "json_schema": {"name": f"{task}_verdict", "strict": True, "schema": schema}}


def allowed_scores(task: str) -> tuple[int, ...]:
    """Every score that a verdict may have: 0 and 1, or the levels 0 to 4.

    Args:
        task: `vqa` or `report`.

    Raises:
        ValueError: There is no judging such a task.
    """
    check_task(task)
    return (0, 1) if task == "vqa" else (0, 1, 2, 3, 4)


def parse_reply(text: str, task: str) -> int:
    """The score of a reply that is a verdict as JSON and nothing else; blanks around the object do not count.

    Args:
        text: The reply's whole text.
        task: `vqa` or `report`.

    Returns:
        0 or 1 for `vqa`, 0 to 4 for `report`.

    Raises:
        ValueError: The text is anything else: no JSON, more than one object, words around it, a key too many, missing
            or given twice, a score that is no whole number (1.0, "1" and true are none) or out of range.
    """
    model = reply_schema(task)
    if not isinstance(text, str):
        raise ValueError(f"reply: found {type(text).__name__} instead of text; expected one JSON object")
    if len(text) > MAX_REPLY_CHARACTERS:
        raise ValueError(f"reply: {len(text)} characters; a verdict has at most {MAX_REPLY_CHARACTERS}")
    try:
        reply = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError(f"reply: nested too deeply, {_shown(text)}; expected one JSON object") from error
    except ValueError as error:
        raise ValueError(f"reply: not one JSON object ({error}), found {_shown(text)}") from error
    try:
        return model.model_validate(reply).score
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:40] or "reply"
        choices = ", ".join(map(str, allowed_scores(task)))
        fault = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"reply: {ascii(where)}: {fault}; found {_shown(text)}; expected the keys 'reason' (a string) and "
            f"'score' (one of {choices})"
        ) from error


def parse_plain_reply(text: str, task: str) -> int:
    """The score of a reply from a server without structured outputs.

    The form is as strict as that of `parse_reply`, but for one thing that such servers do: the object may stand in a
    code fence, a single one, with nothing before or after it.

    Args:
        text: The reply's whole text.
        task: `vqa` or `report`.

    Raises:
        ValueError: As for `parse_reply`.
    """
    fenced = _FENCED.fullmatch(text.strip()) if isinstance(text, str) else None
    return parse_reply(fenced.group(1) if fenced else text, task)


def check_task(task: str) -> None:
    """Raises ValueError for a task that is not judged."""
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; a judge rates {' and '.join(TASKS)} only")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        # JSON lets the last one win, so that a second score would quietly replace the first.
        raise ValueError("a key is given twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _shown(text: str) -> str:
    """The beginning of a text on one line, whatever it holds."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
