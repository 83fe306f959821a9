"""The files of PathVQA, read into rows: the authors' pickles, the same rows as JSON, and the Hugging Face copy.

A pickle is a program, so the authors' are not simply loaded. `read_plain_pickle` first looks through the instructions
and lets only those pass that make lists, dictionaries, strings, bytes, numbers, True, False and None. Whatever could
name, call or build anything else is refused before the first instruction has run.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import pickletools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pefomed.data.hub_files import read_split
from pefomed.files import read_json

MAX_PICKLE_BYTES = 2**25  # 32 MiB; the largest official file has about 3
TEXTS = ("image", "question", "answer")

# Tuples and sets are not among them: PathVQA has none, and a deeply nested tuple as a key overflows Python's stack.
_PLAIN_OPCODES = frozenset().union(
    ("PROTO", "FRAME", "STOP", "MARK", "POP"),
    ("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    ("FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    ("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
)
# What Python's unpickler raises on damaged files
_DAMAGED = (pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, EOFError, OverflowError)
_STORES = ("PUT", "BINPUT", "LONG_BINPUT")


@dataclasses.dataclass(frozen=True)
class PathVqaRow:
    """One question, stripped of blanks; an empty text is "".

    Attributes:
        where: File and row (from 0), for messages.
        image: The picture's name without ".jpg", or its bytes, or None where the copy has no bytes.
        question: The question.
        answer: The answer.
    """

    where: str
    image: str | bytes | None
    question: str
    answer: str


def read_plain_pickle(path: Path) -> Any:
    """Returns the plain data in a pickle file; no code in it is run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is too large, damaged, or holds more than plain data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_PICKLE_BYTES:
        raise ValueError(f"{path}: {size:,} bytes are more than the {MAX_PICKLE_BYTES:,} that are read of a pickle")
    data = path.read_bytes()
    try:
        refused = _first_refused(data)
        if not refused:
            return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
    except _DAMAGED as error:
        raise ValueError(f"{path}: a damaged pickle ({' '.join(str(error).split())})") from error
    raise ValueError(
        f"{path}: the pickle holds more than lists, dictionaries, strings and numbers ({refused}), which may be code; "
        f"it is not opened. Get the file anew, or the Hugging Face copy flaviagiammarino/path-vqa"
    )


def _first_refused(data: bytes) -> str:
    """Returns the first instruction that does more than make plain data, or ""."""
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if opcode.name not in _PLAIN_OPCODES:
            return f"{opcode.name} {argument!r:.60} at byte {position}"
        # Pickles number what they store from 0. A number out of the blue would reserve that much memory.
        if opcode.name in _STORES and not 0 <= argument <= count:
            return f"{opcode.name} {argument} at byte {position}"
    return ""


class _PlainUnpickler(pickle.Unpickler):
    """Refuses everything by which a pickle reaches for code, should it ever get here."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"refused {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("refused a persistent id")


def file_rows(path: Path) -> Iterator[PathVqaRow]:
    """Yields the rows of `{split}_qa.pkl` or `{split}_qa.json`: a list of {image, question, answer}.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or refused, or a row is malformed.
    """
    content = read_plain_pickle(path) if path.suffix == ".pkl" else read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of questions, found {type(content).__name__}")
    if not content:
        raise ValueError(f"{path}: holds no rows")
    for number, row in enumerate(content):
        where = f"{path}: row {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: expected image, question and answer, found {type(row).__name__}")
        missing = [key for key in TEXTS if key not in row]
        if missing:
            raise ValueError(f"{where}: lacks the key {missing[0]!r}; PathVQA's rows have {', '.join(TEXTS)}")
        image, question, answer = (_text(row, key, where) for key in TEXTS)
        if image in ("", ".", "..") or "/" in image or "\\" in image or "\0" in image:
            raise ValueError(f"{where}: image is {image!r:.60}, expected a name such as 'train_0000'")
        yield PathVqaRow(where, image, question, answer)


def hub_rows(folder: Path, split: str) -> Iterator[PathVqaRow]:
    """Yields the rows of the Hugging Face copy.

    Args:
        folder: The folder with the parquet files or one written by `save_to_disk`.
        split: "train", "val" or "test"; the copy's own name of "val" is "validation".

    Raises:
        FileNotFoundError: Nothing there belongs to the split.
        ValueError: A file is damaged, or a row is malformed.
    """
    split = "validation" if split == "val" else split
    for number, row in enumerate(read_split(folder, split)):
        where = f"{folder}: {split} row {number}"
        image = row["image"]
        if not isinstance(image, Mapping):
            raise ValueError(f"{where}: image must be a picture's bytes, found {type(image).__name__}")
        texts = {key: "" if row[key] is None else _text(row, key, where) for key in ("question", "answer")}
        yield PathVqaRow(where, image.get("bytes"), **texts)


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    # Only the type is told: printing a value out of a pickle could take forever.
    if not isinstance(row[key], str):
        raise ValueError(f"{where}: {key} must be a string, found {type(row[key]).__name__}")
    return row[key].strip()
