"""predictions.jsonl: what a model answered, one JSON object a line.

The file is the meeting point of the package: generation writes it, and every metric, judge, rating sheet and figure
reads it, whichever model it came from. Only `id`, `task`, `answer` and `prediction` are required; unknown keys are
kept as they are.

    rows = read_predictions("run/predictions.jsonl")

    with PredictionWriter("run/predictions.jsonl", fingerprint="adapter 3f2a, greedy, 300 tokens") as writer:
        for batch in batches_without(writer.done_ids):
            writer.append(answer(batch))
        writer.finish(order=ids)
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pefomed import files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TASKS = ("caption", "vqa", "report")
REQUIRED_KEYS = ("id", "task", "answer", "prediction")
#: Every key this package writes, in the order in which it writes them.
KEYS = (
    *("id", "dataset", "split", "task", "question", "instruction", "answer", "prediction"),
    *("answer_type", "question_type", "image_organ", "phrase_type", "group", "model", "condition"),
)
# Scores are broken down by these: a wrong type would quietly move rows to another line of a table.
_TEXT_OR_NULL = ("dataset", "answer_type", "question_type", "image_organ", "phrase_type")


def check_row(row: Any, where: str) -> None:
    """Check one row of predictions.

    Args:
        row: What should be a prediction.
        where: How to name the row in an error, such as `predictions.jsonl, line 3`.

    Raises:
        ValueError: The row is not an object, lacks a required key, names an unknown task, or has a value of the wrong
            type.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where}: found {_kind(row)} instead of an object; write one {{...}} per line")
    missing = [key for key in REQUIRED_KEYS if key not in row]
    if missing:
        raise ValueError(
            f"{where}: required key {missing[0]!r} is missing; every row needs {', '.join(REQUIRED_KEYS)}"
        )
    for key in REQUIRED_KEYS:
        if not isinstance(row[key], str):
            raise ValueError(f"{where}: {key!r} is {_kind(row[key])}; it must be a string")
    if not row["id"]:
        raise ValueError(f"{where}: 'id' is empty; give every row an id of its own")
    if row["task"] not in TASKS:
        raise ValueError(f"{where}: 'task' is {row['task']!r}; it must be one of {', '.join(TASKS)}")
    for key in _TEXT_OR_NULL:
        if not isinstance(row.get(key), str | None):
            raise ValueError(f"{where}: {key!r} is {_kind(row[key])}; it must be a string or null")
    if not isinstance(row.get("group"), str | int | None) or isinstance(row.get("group"), bool):
        raise ValueError(f"{where}: 'group' is {_kind(row['group'])}; it must be a string, an integer or null")


def check_rows(rows: Iterable[Any], where: str, done: Iterable[str] = ()) -> None:
    """Check rows that are in memory, one by one and for repeated ids.

    Args:
        rows: What should be predictions.
        where: How to name their source in an error.
        done: Ids that are taken already.

    Raises:
        ValueError: A row fails `check_row`, or an id occurs twice or is taken.
    """
    seen = set(done)
    for number, row in enumerate(rows, start=1):
        check_row(row, f"{where}, row {number}")
        if row["id"] in seen:
            raise ValueError(f"{where}, row {number}: id {row['id']!r} was already used; ids must differ")
        seen.add(row["id"])


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Read a predictions.jsonl.

    Args:
        path: The file.

    Returns:
        One dict per line, in the order of the file, with every key it holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty or not UTF-8, or a line is malformed, fails `check_row` or repeats an id. The
            message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of a predictions.jsonl")
    rows = _parse(path.read_bytes(), path)
    if not rows:
        raise ValueError(f"{path}: the file is empty; it must hold one prediction per line")
    return rows


def write_predictions(path: str | Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write a whole predictions.jsonl at once, atomically.

    Args:
        path: Destination; replaced if it exists.
        rows: Predictions, at least one.

    Returns:
        The destination.

    Raises:
        ValueError: There are no rows, a row fails `check_row`, or an id occurs twice.
    """
    rows = list(rows)
    if not rows:
        raise ValueError(f"{path}: no predictions to write; a predictions file holds at least one row")
    check_rows(rows, str(path))
    return files.write_bytes(path, b"".join(_encode(row, Path(path)) for row in rows))


class PredictionWriter:
    """Writes predictions batch by batch, survives being killed at any moment, and picks up where it stopped.

    Rows go to `<path>.partial`, which only grows, one synced write per batch. `<path>.partial.json` beside it holds
    the fingerprint of what is being generated. Opening again reads the whole lines back into `done_ids` and cuts off a
    torn last line. A partial file with another fingerprint (or none) holds other answers: it is not continued but
    renamed to `<path>.partial.old-1` (or -2, ...), with a warning, and writing starts afresh. `predictions.jsonl`
    itself is not touched before `finish`. One process per file: a second one is refused at once, or, without locks,
    by `finish`.

    Args:
        path: Where predictions.jsonl is to appear.
        fingerprint: Any text that changes whenever the answers could: weights, prompts, decoding, data.

    Raises:
        ValueError: A whole line of the partial file is not a prediction, or another process is writing the file.
    """

    def __init__(self, path: str | Path, fingerprint: str) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.sidecar = self.path.with_name(f"{self.path.name}.partial.json")
        self._file = self._open()
        try:
            if self.partial.stat().st_size > 0 and not self._same_fingerprint(fingerprint):
                self._file.close()
                self._set_aside()
                self._file = self._open()
            self._done = {row["id"]: None for row in self._recover()}
            # Before the first row, so that rows never lie about without a statement of what they are.
            files.write_json(self.sidecar, {"fingerprint": fingerprint})
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> io.FileIO:
        """The partial file, locked where the system can do that (Windows cannot)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = self.partial.open("ab", buffering=0)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            raise ValueError(
                f"{self.path}: another process is writing these predictions; wait for it, or choose another folder"
            ) from error
        return handle

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def done_ids(self) -> list[str]:
        """Ids already on the disk, in the order in which they were written."""
        return list(self._done)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add one batch; it is on the disk when this returns, or not there at all when this raises.

        Args:
            rows: Predictions.

        Raises:
            ValueError: The writer is closed, a row fails `check_row`, or an id was written before.
        """
        if self._file.closed:
            raise ValueError(f"{self.path}: this writer is closed; open a new PredictionWriter to go on")
        rows = list(rows)
        check_rows(rows, f"{self.path}, batch", self._done)
        chunk = memoryview(b"".join(_encode(row, self.path) for row in rows))
        size = os.fstat(self._file.fileno()).st_size
        try:
            while chunk:  # an unbuffered write may take only part of what it is given
                chunk = chunk[self._file.write(chunk) :]
            os.fsync(self._file.fileno())
        except BaseException:  # a full disk or an interrupt: the next batch must not be glued to half a line
            self._file.truncate(size)
            raise
        self._done.update((row["id"], None) for row in rows)

    def finish(self, order: Sequence[str]) -> Path:
        """Write predictions.jsonl in the given order, then remove the partial file and close.

        Args:
            order: Every id once, in the order of the data set.

        Returns:
            The path of predictions.jsonl.

        Raises:
            ValueError: `order` is empty, repeats an id, names one that was not written, or lacks one that was.
        """
        # From the disk and not from memory: what two processes wrote into one file shows up here as repeated ids.
        rows = {row["id"]: row for row in _parse(self.partial.read_bytes(), self.partial)}
        asked = set(order)
        if not asked or len(asked) != len(order):
            raise ValueError(f"{self.path}: the order holds {len(order)} ids, {len(asked)} different; give each once")
        missing = [name for name in order if name not in rows]
        if missing:
            raise ValueError(f"{self.path}: {len(missing)} predictions are missing, first {missing[0]!r}; append them")
        extra = [name for name in rows if name not in asked]
        if extra:
            raise ValueError(f"{self.path}: the order lacks {len(extra)} written ids, first {extra[0]!r}; add them")
        write_predictions(self.path, (rows[name] for name in order))
        self.close()
        # The sidecar goes last: a partial file without one would be taken for somebody else's.
        self.partial.unlink()
        self.sidecar.unlink()
        return self.path

    def close(self) -> None:
        """Close the partial file and leave it, to be resumed later."""
        self._file.close()

    def _same_fingerprint(self, fingerprint: str) -> bool:
        try:
            return files.read_json(self.sidecar) == {"fingerprint": fingerprint}
        except (FileNotFoundError, ValueError):  # none, or not ours
            return False

    def _set_aside(self) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.partial.name}.old-{number}")).exists():
            number += 1
        # The sidecar first: killed in between, the rows have no fingerprint and are set aside at the next opening.
        if self.sidecar.exists():
            self.sidecar.rename(aside.with_name(f"{aside.name}.json"))
        self.partial.rename(aside)
        warnings.warn(
            f"{self.partial}: written with other parameters, so not continued; kept as {aside.name}, starting afresh",
            stacklevel=3,
        )

    def _recover(self) -> list[dict[str, Any]]:
        """Cut a torn last line off the partial file, and return the rows of the others."""
        if not self.partial.exists():
            return []
        data = self.partial.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        rows = _parse(whole, self.partial)
        if len(whole) < len(data):
            os.truncate(self.partial, len(whole))
        return rows


def _parse(data: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error
    # Not splitlines(): it would also break at characters that may stand inside a JSON string, such as U+2028.
    lines = text.removesuffix("\n").split("\n") if text else []
    rows: list[dict[str, Any]] = []
    first_seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            raise ValueError(f"{where}: blank; remove the line")
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: not JSON (column {error.colno}: {error.msg}); write one object per line"
            ) from error
        check_row(row, where)
        if row["id"] in first_seen:
            raise ValueError(
                f"{where}: id {row['id']!r} was already used in line {first_seen[row['id']]}; ids must differ"
            )
        first_seen[row["id"]] = number
        rows.append(row)
    return rows


def _encode(row: dict[str, Any], path: Path) -> bytes:
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except (ValueError, TypeError) as error:  # NaN, a lone surrogate, an object that JSON does not know
        raise ValueError(
            f"{path}, prediction {row['id']!r}: cannot be written as JSON ({error}); use plain values"
        ) from error


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "an integer"}
    names[float] = "a number"
    return "null" if value is None else names.get(type(value), type(value).__name__)
