"""Pictures that turn out to be broken while a large set is trained on: counted, listed, bounded.

A set of hundreds of thousands of pictures is not decoded through before training; the collator finds out. A row whose
picture cannot be read is left out of its batch's loss and written down; too many of them end the training.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from transformers import TrainerCallback

from pefomed.data.found import MAX_LEFT_OUT

FILE = "broken_pictures.jsonl"


@dataclass
class BrokenPictures:
    """Where they are written down; data loading processes share the file.

    Attributes:
        file: one JSON object a line: id and error.
        rows: size of the training set.
        max_share: largest share of them that may be broken.
        said: ids that this process has written.
    """

    file: Path
    rows: int
    max_share: float = MAX_LEFT_OUT
    said: set[str] = field(default_factory=set)

    def add(self, row_id: str, error: Exception) -> None:
        """Writes a row down, once. One short write to a file opened for appending is never mixed with another's."""
        if row_id in self.said:
            return
        self.said.add(row_id)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"id": row_id, "error": " ".join(str(error).split())}) + "\n"
        handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def found(self) -> dict[str, str]:
        """Errors by row id."""
        if not self.file.is_file():
            return {}
        rows = [json.loads(line) for line in self.file.read_text().splitlines() if line.endswith("}")]
        return {row["id"]: row["error"] for row in rows}

    def check(self) -> int:
        """Returns how many rows are broken.

        Raises:
            ValueError: they are more than the allowed share of the training set.
        """
        found = self.found()
        if len(found) > self.max_share * self.rows:
            name, error = next(iter(found.items()))
            raise ValueError(
                f"{len(found):,} of {self.rows:,} training rows have pictures that cannot be read, more than "
                f"{self.max_share:.2%}; first {name}: {error}. All are listed in {self.file}"
            )
        return len(found)


class BoundBroken(TrainerCallback):
    """Looks at every step whether too many pictures were broken."""

    def __init__(self, broken: BrokenPictures) -> None:
        self.broken = broken

    def on_step_end(self, args, state, control, **kwargs):
        if self.broken.file.is_file():
            self.broken.check()
