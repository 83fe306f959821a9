"""What a rating sheet looks like, and the key that says which prediction each of its codes stands for.

A sheet shows a question, a reference and an answer beside an opaque code. Everything else (id, model, condition,
score, file) stays in the key, which raters do not get.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pefomed import files

SCALES = {"vqa": (0, 1), "report": (0, 1, 2, 3, 4)}
RATINGS_SHEET, INSTRUCTIONS_SHEET = "Ratings", "Instructions"
CODE, NUMBER, PICTURE, QUESTION = "Code", "No.", "Picture", "Question"
REFERENCE, ANSWER, SCORE = "Reference", "Answer to judge", "Score"
EMPTY = "(empty)"  # what a rater sees where a model answered nothing

CELL_LIMIT = 32_767  # UTF-16 units in one cell of an xlsx file
_CUT = " [cut]"
# What XML 1.0 cannot carry, neither raw nor escaped.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPE = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
_KEY_VERSION = 1


@dataclass(frozen=True)
class CellText:
    """Text as a cell can hold it.

    Attributes:
        text: The text.
        replaced: Characters that no xlsx file can hold, each replaced by U+FFFD.
        cut: Whether the end is missing, and says so.
    """

    text: str
    replaced: int
    cut: bool


def cell_text(text: str) -> CellText:
    """Make any text fit for a cell; line breaks become plain line feeds."""
    text, replaced = _ILLEGAL.subn("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    # Spreadsheet programs read _x0041_ as the letter A; this keeps it as it is written.
    text = _ESCAPE.sub("_x005F_", text)
    units = text.encode("utf-16-le")
    if len(units) <= 2 * CELL_LIMIT:
        return CellText(text, replaced, False)
    kept = units[: 2 * (CELL_LIMIT - len(_CUT))].decode("utf-16-le", errors="ignore")
    return CellText(kept + _CUT, replaced, True)


def canonical(text: str) -> str:
    """Text without what spreadsheet programs change in passing: white space, escapes, composed letters."""
    text = text.replace("_x000D_", "\n").replace("_x005F_", "_")
    return " ".join(unicodedata.normalize("NFC", text).split())


def fingerprint(question: str, reference: str, answer: str) -> str:
    """16 hexadecimal digits by which the texts of a row are known again."""
    joined = "\x1f".join(canonical(text) for text in (question, reference, answer))
    return hashlib.sha256(joined.encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True)
class PredictionsFile:
    """One predictions.jsonl that sheets were made from: its path as it was given, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Item:
    """One prediction that is rated: its file (index into `SheetKey.predictions`), its id, its texts' fingerprint."""

    predictions: int
    id: str
    text: str


@dataclass(frozen=True)
class SheetKey:
    """What the codes of a set of sheets stand for.

    Attributes:
        task: `vqa` or `report`.
        settings: How the rows were chosen and put in order.
        predictions: The files that the rows come from.
        items: The predictions, in the order of those files.
        codes: For each rater, code -> index into `items`, in the order of the rater's sheet.
    """

    task: str
    settings: dict[str, Any]
    predictions: tuple[PredictionsFile, ...]
    items: tuple[Item, ...]
    codes: dict[str, dict[str, int]]


def as_values(key: SheetKey) -> dict[str, Any]:
    """The key as plain values, ready for `files.write_json`."""
    return {"version": _KEY_VERSION, **asdict(key)}


def read_key(path: str | Path) -> SheetKey:
    """Read what `pefomed ratings export` wrote as key.json.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such key; the message names file and place.
    """
    value = files.read_json(path)

    def check(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"{path}: {what}; give the key.json that was written with the sheets, unchanged")

    check(isinstance(value, dict) and {"task", "items", "codes"} <= value.keys(), "not the key of rating sheets")
    check(value.get("version") == _KEY_VERSION, f"version {value.get('version')!r} is not {_KEY_VERSION}")
    check(value["task"] in tuple(SCALES), f"task {value['task']!r} is not one of {', '.join(SCALES)}")
    check(isinstance(value.get("settings"), dict), "'settings' is not an object")
    found: dict[str, list[Any]] = {"predictions": [], "items": []}
    for name, kind in (("predictions", PredictionsFile), ("items", Item)):
        check(isinstance(value.get(name), list) and value[name] != [], f"{name!r} is not a list of objects")
        for number, entry in enumerate(value[name], start=1):
            types = dict.fromkeys(kind.__annotations__, str) | ({"predictions": int} if kind is Item else {})
            shaped = isinstance(entry, dict) and {key: type(part) for key, part in entry.items()} == types
            check(shaped, f"entry {number} of {name!r} is not of the keys {', '.join(types)}")
            found[name].append(kind(**entry))
    for number, item in enumerate(found["items"], start=1):
        check(0 <= item.predictions < len(found["predictions"]), f"entry {number} of 'items' names no file")
    check(isinstance(value["codes"], dict) and value["codes"] != {}, "'codes' is not an object of raters")
    for rater, codes in value["codes"].items():
        check(isinstance(codes, dict) and codes != {}, f"rater {rater!r} has no codes")
        indices = list(codes.values())
        whole = all(type(index) is int and 0 <= index < len(found["items"]) for index in indices)
        check(whole and len(set(indices)) == len(indices), f"a code of rater {rater!r} names no item of its own")
    every = [code for codes in value["codes"].values() for code in codes]
    check(len(set(every)) == len(every), "a code is given to two raters")
    return SheetKey(
        value["task"], value["settings"], tuple(found["predictions"]), tuple(found["items"]), value["codes"]
    )
