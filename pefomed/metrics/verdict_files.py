"""judge.jsonl and ratings.jsonl: who said what of which prediction, one JSON object a line.

    found = read_verdicts("run/judge.jsonl", "vqa")
    found.verdicts[0].score, len(found.failed)

Every malformed line is an error that names it: a verdict that is passed over would quietly change a score.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
#: The highest score of each task; the lowest is 0.
TOP = {"vqa": 1, "report": 4}
_JUDGE_KEYS = ("id", "repeat", "score", "status")
_RATING_KEYS = ("id", "rater", "score")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rater says of one prediction: 0 or 1 for answers, a level from 0 to 4 for reports."""

    id: str
    rater: str
    score: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A verdict that a judge was asked for and did not give."""

    id: str
    rater: str
    error: str


@dataclass(frozen=True)
class Verdicts:
    """All that a file of verdicts says, in its order."""

    verdicts: tuple[Verdict, ...]
    failed: tuple[Failure, ...] = ()


def read_verdicts(path: str | Path, task: str = "") -> Verdicts:
    """Read a judge.jsonl or a ratings.jsonl.

    Args:
        path: The file: lines with `repeat` and `status` (a judge's; the rater is "repeat 1", ...) or with `rater`.
        task: `vqa` or `report` for checking the scores against its scale; "" allows 0 to 4.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, a line is malformed, lacks a key, has a score out of range or an unknown status,
            repeats an id of the same rater, or was judged by another prompt than the first one. The message names the
            line.
    """
    path = Path(path)
    if task:
        check_task(task)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of a judge.jsonl or a ratings.jsonl")
    verdicts, failed = [], []
    seen: dict[tuple[str, str], int] = {}
    prompt = None
    for number, row in _lines(path):
        where = f"{path}, line {number}"
        found = _read_line(row, where, TOP.get(task, max(TOP.values())))
        first = seen.setdefault((found.id, found.rater), number)
        if first != number:
            raise ValueError(
                f"{where}: {found.rater!r} of id {found.id!r} is already in line {first}; keep one of them"
            )
        prompt = prompt or row.get("prompt_sha256")
        if row.get("prompt_sha256") != prompt:
            raise ValueError(f"{where}: judged by another prompt than the lines before; keep them in two files")
        (failed if isinstance(found, Failure) else verdicts).append(found)
    if not seen:
        raise ValueError(f"{path}: the file is empty; it must hold one verdict per line")
    return Verdicts(tuple(verdicts), tuple(failed))


def check_score(score: Any, top: int, where: str) -> None:
    """Raises ValueError for what is no score from 0 to `top`."""
    # True and 1.0 equal 1 but are no scores.
    if type(score) is not int or not 0 <= score <= top:
        raise ValueError(f"{where}: 'score' is {score!r}; it must be a whole number from 0 to {top}")


def check_task(task: str) -> None:
    """Raises ValueError for a task on which there are no verdicts."""
    if task not in TOP:
        raise ValueError(f"task is {task!r}; there are verdicts on {' and '.join(TOP)} only")


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            if not line.strip():
                raise ValueError(f"{where}: blank; remove the line")
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not JSON ({error}); write one object per line") from error
            if not isinstance(row, dict):
                raise ValueError(
                    f"{where}: found {type(row).__name__} instead of an object; write one {{...}} per line"
                )
            yield number, row


def _read_line(row: Row, where: str, top: int) -> Verdict | Failure:
    if "rater" in row and "repeat" in row:
        raise ValueError(f"{where}: has both 'rater' and 'repeat'; a verdict is either a person's or a judge's")
    keys = _RATING_KEYS if "rater" in row else _JUDGE_KEYS
    missing = [key for key in keys if key not in row]
    if missing:
        needed = f"a rating needs {', '.join(_RATING_KEYS)}, a judge's verdict {', '.join(_JUDGE_KEYS)}"
        raise ValueError(f"{where}: key {missing[0]!r} is missing; {needed}")
    for key in ("id", "rater"):
        if key in row and (not isinstance(row[key], str) or not row[key].strip()):
            raise ValueError(f"{where}: {key!r} is {row[key]!r}; it must be a string that is not empty")
    if "rater" not in row and (type(row["repeat"]) is not int or row["repeat"] < 0):
        raise ValueError(f"{where}: 'repeat' is {row['repeat']!r}; it must be a whole number from 0 on")
    rater = row["rater"] if "rater" in row else f"repeat {row['repeat']}"
    status = row.get("status", "ok") if "rater" in row else row["status"]
    if status == "failed":
        if row["score"] is not None:
            raise ValueError(f"{where}: failed and yet 'score' is {row['score']!r}; it must be null")
        return Failure(row["id"], rater, str(row.get("error") or ""))
    if status != "ok":
        raise ValueError(f"{where}: 'status' is {status!r}; it must be ok or failed")
    check_score(row["score"], top, where)
    return Verdict(row["id"], rater, row["score"])
