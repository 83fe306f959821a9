"""One hash for a data set's content, whatever the order of its rows: run records carry it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pefomed.files import sha256_file


def fingerprint(rows: Iterable[Mapping[str, Any]], by_size: bool = False) -> str:
    """Returns a SHA-256 over ids, questions, answers and image files, independent of the order of the rows.

    Args:
        rows: Rows with at least the columns id, question, answer and image, for example a `datasets.Dataset`. Images
            are hashed as stored, not decoded; a file that several rows name is read once.
        by_size: take a picture file's name and size for its content: reading a terabyte of files takes hours.

    Returns:
        64 hexadecimal digits.

    Raises:
        FileNotFoundError: An image file is missing.
    """
    of_file: dict[str, str] = {}
    digests = []
    for row in rows:
        data, path = row["image"].get("bytes"), row["image"].get("path")
        if data is not None:
            image = hashlib.sha256(data).hexdigest()
        elif path in of_file:
            image = of_file[path]
        else:
            image = f"{os.path.basename(path)} {os.stat(path).st_size}" if by_size else sha256_file(path)
            of_file[path] = image
        # JSON keeps the four parts apart: ("a", "bc") and ("ab", "c") differ.
        parts = json.dumps([row["id"], row["question"], row["answer"], image])
        digests.append(hashlib.sha256(parts.encode()).hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
