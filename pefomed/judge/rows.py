"""Predictions as the judge goes through them: several times, a row at a time, whatever their number."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.judge.prompts import judge_messages
from pefomed.predictions import check_row, check_rows, read_predictions

Row = dict[str, Any]


class PredictionRows:
    """Checked predictions of one task, to be gone through any number of times.

    Attributes:
        sha256: Fingerprint of the file, or of the rows as JSON.
    """

    def __init__(self, predictions: str | Path | list[Row], task: str) -> None:
        """Go through all rows once and check them; of a file, no more than a line is held at a time.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: As `read_predictions` raises it, or a row is of another task, its id cannot be written, or its
                question is no text.
        """
        self._rows = predictions
        self._count = 0
        ids = array("Q")
        digest = hashlib.sha256()
        for number, row in enumerate(self._read(digest), start=1):
            where = f"{'predictions' if isinstance(predictions, list) else predictions}, row {number}"
            if row["task"] != task:
                raise ValueError(f"{where}: task {row['task']!r} is not {task!r}; leave other tasks out")
            judge_messages(row, task)  # whatever cannot be asked is told before anything is
            ids.append(_short_hash(row["id"], where))
            self._count = number
        if not self._count:
            raise ValueError("there are no predictions to judge; give at least one row")
        # Two equal hashes among so few are two equal ids; whoever reads the whole file can say in which lines.
        if len(np.unique(np.frombuffer(ids, dtype=np.uint64))) < len(ids) and not isinstance(predictions, list):
            read_predictions(predictions)
        self.sha256 = digest.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        return self._read(None)

    def __len__(self) -> int:
        return self._count

    def _read(self, digest: Any) -> Iterator[Row]:
        if isinstance(self._rows, list):
            if digest:
                check_rows(self._rows, "predictions")
                digest.update(json.dumps(self._rows, sort_keys=True).encode())
            yield from self._rows
            return
        path = Path(self._rows)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; give the path of a predictions.jsonl")
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if digest:
                    digest.update(line)
                yield _row(line, path, number)


def write_lines(path: Path, lines: Iterable[bytes]) -> Path:
    """Write a file line by line; it appears under its name only when whole.

    Args:
        path: Destination; missing parent folders are created.
        lines: Each with its line break.

    Returns:
        The destination.

    Raises:
        OSError: The folder cannot be written; nothing of the attempt is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with aside.open("xb") as file:
            for line in lines:
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:  # an interrupt, too, must not leave the neighbour lying about
        aside.unlink(missing_ok=True)
        raise
    return path


def _row(line: bytes, path: Path, number: int) -> Row:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError:  # not UTF-8 or not JSON
        row = None
    if not isinstance(row, dict):
        read_predictions(path)  # which tells what is wrong with which line
    check_row(row, f"{path}, line {number}")
    return row


def _short_hash(name: str, where: str) -> int:
    try:
        data = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: id {name!r} cannot be written as UTF-8 ({error.reason}); rename it") from error
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
