"""The three forms in which VQA-RAD is handed around, read into one kind of row.

official  The authors' release (https://osf.io/89kps): one JSON file of 2,248 rows and a folder of 315 pictures.
mevf      trainset.json (3,064) and testset.json (451), which PeFoMed and most papers use: the official rows, and 1,267
          training rows made by setting a question's content into a frame ("Is/Are there edema ?"). 284 of those are
          framed versions of *test* questions.
hf        The Hugging Face copy flaviagiammarino/vqa-rad: parquet files, or a folder written by `save_to_disk`. Lower
          case, and neither types nor organs.

All three test splits are the same 451 questions. What each form spells oddly is put right here, and counted.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pefomed.data.hub_files import read_split
from pefomed.files import read_json

VARIANTS = ("official", "mevf", "hf")
QUESTION_TYPES = ("ABN", "ATTRIB", "COLOR", "COUNT", "MODALITY", "ORGAN", "PLANE", "POS", "PRES", "SIZE", "OTHER")
MISSPELT_TYPES = {"ATRIB": "ATTRIB", "PRSE": "PRES"}
ORGANS = ("HEAD", "CHEST", "ABD")
PHRASE_TYPES = {
    "official": ("freeform", "para", "test_freeform", "test_para"),
    "mevf": ("freeform", "para", "frame"),
}
REQUIRED_KEYS = (
    "qid",
    "image_name",
    "image_organ",
    "question",
    "question_type",
    "answer",
    "answer_type",
    "phrase_type",
)
WHERE_TO_GET = "https://osf.io/89kps (official) or Hugging Face flaviagiammarino/vqa-rad"


@dataclasses.dataclass(frozen=True)
class VqaRadRow:
    """One question as its file has it, with odd spellings put right.

    `image` is the file name of the two JSON forms and the file's bytes of the Hugging Face copy; `leaked` marks the
    framed version of a test question among the training rows.
    """

    id: str
    qid: str
    split: str
    image: str | bytes
    question: str
    answer: str
    answer_type: str
    question_type: str | None
    image_organ: str | None
    phrase_type: str | None
    group: str
    leaked: bool = False


@dataclasses.dataclass(frozen=True)
class VqaRadFiles:
    """All rows of a folder.

    Attributes:
        variant: "official", "mevf" or "hf".
        rows: Training rows and then test rows, in the files' order.
        corrections: How often which odd spelling was put right.
    """

    variant: str
    rows: tuple[VqaRadRow, ...]
    corrections: Mapping[str, int]


def read_vqa_rad(data_dir: str | Path, variant: str | None = None) -> VqaRadFiles:
    """Reads whichever form of VQA-RAD lies in a folder.

    Args:
        data_dir: The folder.
        variant: The form to read where the folder holds several.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: It holds no or several forms, another data set, or a malformed row; the message names file and row.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        kind = "not a folder" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {kind}; VQA-RAD is available from {WHERE_TO_GET}")
    if variant not in (None, *VARIANTS):
        raise ValueError(f"unknown VQA-RAD variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    found = _variants_in(folder)
    if variant is None and len(found) > 1:
        raise ValueError(f"{folder}: holds VQA-RAD in the forms {' and '.join(found)}; choose with variant=...")
    variant = variant or next(iter(found), None)
    if variant not in found:
        raise FileNotFoundError(
            f"{folder}: no VQA-RAD{f' in the form {variant}' if variant else ''}; expected 'VQA_RAD Dataset "
            f"Public.json', trainset.json with testset.json, or parquet files; available from {WHERE_TO_GET}"
        )
    corrections: collections.Counter[str] = collections.Counter()
    if variant == "official":
        rows = list(_json_rows(found[variant], variant, None, corrections))
    elif variant == "mevf":
        rows = [
            row
            for split in ("train", "test")
            for row in _json_rows(folder / f"{split}set.json", variant, split, corrections)
        ]
        rows = _mark_leaked(rows)
    else:
        rows = list(_hugging_face_rows(folder))
    rows.sort(key=lambda row: row.split == "test")  # stable: training rows first
    _check_together(rows, folder)
    return VqaRadFiles(variant, tuple(rows), dict(corrections))


def _variants_in(folder: Path) -> dict[str, Path]:
    """Returns the forms that a folder holds, with the file or folder that shows each."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        # Downloads replace the blanks of the official name by underscores or drop them.
        if path.stem.lower().replace("_", "").replace(" ", "") == "vqaraddatasetpublic":
            found["official"] = path
        elif path.name in ("trainset.json", "testset.json"):
            found["mevf"] = path
        elif path.name in ("dataset_dict.json", "dataset_info.json", "state.json"):
            found["hf"] = path
    if any(folder.glob("*.parquet")) or any(folder.glob("data/*.parquet")):
        found["hf"] = folder
    return found


def _json_rows(
    path: Path, variant: str, split: str | None, corrections: collections.Counter[str]
) -> Iterator[VqaRadRow]:
    """Yields the checked rows of one JSON file; without a split, phrase_type tells it."""
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a JSON list of questions, found {type(content).__name__}")
    if not content:
        raise ValueError(f"{path}: holds no rows")
    if all(isinstance(row, dict) and "phrase_type" not in row for row in content):
        raise ValueError(
            f"{path}: {len(content):,} rows, none with the key 'phrase_type': not VQA-RAD but probably VQA-Med 2019, "
            f"which goes round under the name data_RAD (12,792 rows); get VQA-RAD from {WHERE_TO_GET}"
        )
    for number, row in enumerate(content):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object, found {type(row).__name__}")
        missing = [key for key in REQUIRED_KEYS if key not in row]
        if missing:
            raise ValueError(f"{where}: lacks the key {missing[0]!r}")
        yield _json_row(row, f"{where} (qid {row['qid']!r})", variant, split, corrections)


def _json_row(
    row: dict[str, Any], where: str, variant: str, split: str | None, corrections: collections.Counter[str]
) -> VqaRadRow:
    """Checks one row, turns "NULL" into None and puts odd spellings right."""
    answer = row["answer"]
    if isinstance(answer, int) and not isinstance(answer, bool):  # five official rows: 4, 2, 2, 12, 12
        corrections["answers that were numbers"] += 1
        answer = str(answer)
    values = {key: _text(row, key, where) for key in REQUIRED_KEYS if key not in ("qid", "answer")}
    values["answer"] = _text({"answer": answer}, "answer", where)
    for key in ("image_name", "question", "answer", "answer_type", "phrase_type"):
        if values[key] is None:
            raise ValueError(f"{where}: {key} is empty or 'NULL'")
    # "0" in the first official row, a number in all others
    if isinstance(row["qid"], bool) or not isinstance(row["qid"], (int, str)) or not str(row["qid"]).strip():
        raise ValueError(f"{where}: qid must be a number or a string")
    answer_type = values["answer_type"].lower()
    corrections["answer types with a trailing blank"] += row["answer_type"] != row["answer_type"].strip()
    phrase_type, organ = values["phrase_type"], values["image_organ"]
    for key, value, allowed in (
        ("answer_type", answer_type, ("open", "closed")),
        ("phrase_type", phrase_type, PHRASE_TYPES[variant]),
        ("image_organ", organ, (None, *ORGANS)),
    ):
        if value not in allowed:
            raise ValueError(f"{where}: {key} is {row[key]!r}, expected one of {', '.join(map(str, allowed))}")
    return VqaRadRow(
        id=f"{variant}-{row['qid']}",
        qid=str(row["qid"]).strip(),
        split=split or ("test" if phrase_type.startswith("test_") else "train"),
        image=values["image_name"],
        question=values["question"],
        answer=values["answer"],
        answer_type=answer_type,
        question_type=_question_type(values["question_type"], where, corrections),
        image_organ=organ,
        phrase_type=phrase_type,
        group=values["image_name"],
    )


def _text(row: Mapping[str, Any], key: str, where: str) -> str | None:
    """Returns the stripped text under a key, or None for "NULL", "" and null."""
    value = row[key]
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{where}: {key} must be a string, found {type(value).__name__} {value!r:.60}")
    value = (value or "").strip()
    return None if value in ("", "NULL") else value


def _question_type(text: str | None, where: str, corrections: collections.Counter[str]) -> str | None:
    """Returns the type or types in the documented spelling, joined by ", " in the file's order."""
    if text is None:
        return None
    given = [part.strip() for part in text.split(",")]
    names = [MISSPELT_TYPES.get(part.upper(), part.upper()) for part in given]
    for name in names:
        if name not in QUESTION_TYPES:
            raise ValueError(f"{where}: question_type is {text!r}, expected one of {', '.join(QUESTION_TYPES)}")
    corrections["question types spelt otherwise"] += given != names
    return ", ".join(names)


def _mark_leaked(rows: list[VqaRadRow]) -> list[VqaRadRow]:
    """Marks the framed training rows that were made from a test question.

    The files number the rows of both splits in one sequence in which a framed row directly follows the row it was made
    from, with the same picture and answer. Where the numbers do not say it (an excerpt, or a file numbered anew), a
    framed row counts as leaked as soon as a test row has its picture, answer and question type.
    """
    by_number = {int(row.qid): row for row in rows if row.qid.isascii() and row.qid.isdigit()}
    in_test = {(row.image, row.answer, row.question_type) for row in rows if row.split == "test"}
    marked = []
    for row in rows:
        if row.phrase_type == "frame" and row.split == "train":
            parent = by_number.get(int(row.qid) - 1) if row.qid.isascii() and row.qid.isdigit() else None
            key = (row.image, row.answer, row.question_type)
            known = parent and parent.phrase_type != "frame" and (parent.image, parent.answer) == key[:2]
            row = dataclasses.replace(row, leaked=parent.split == "test" if known else key in in_test)
        marked.append(row)
    return marked


def _hugging_face_rows(folder: Path) -> Iterator[VqaRadRow]:
    """Yields the rows of the Hugging Face copy; pictures are bytes, and their hash is the group."""
    for split in ("train", "test"):
        for number, row in enumerate(read_split(folder, split)):
            where = f"{folder}: {split} row {number}"
            image = row["image"]
            data = image.get("bytes") if isinstance(image, Mapping) else None
            if not data or not isinstance(data, bytes):
                raise ValueError(f"{where}: the image has no bytes")
            question, answer = _text(row, "question", where), _text(row, "answer", where)
            if question is None or answer is None:
                raise ValueError(f"{where}: the {'question' if question is None else 'answer'} is empty")
            yield VqaRadRow(
                id=f"hf-{split}-{number}",
                qid=f"{split}-{number}",
                split=split,
                image=data,
                question=question,
                answer=answer,
                answer_type="closed" if answer.lower() in ("yes", "no") else "open",
                question_type=None,
                image_organ=None,
                phrase_type=None,
                group=hashlib.sha256(data).hexdigest()[:16],
            )


def _check_together(rows: list[VqaRadRow], folder: Path) -> None:
    """Raises a ValueError where a qid occurs twice or a split is empty."""
    seen: set[str] = set()
    for row in rows:
        if row.qid in seen:
            raise ValueError(f"{folder}: qid {row.qid!r} occurs twice")
        seen.add(row.qid)
    for split in ("train", "test"):
        if not any(row.split == split for row in rows):
            raise ValueError(f"{folder}: the {split} split holds no rows")
