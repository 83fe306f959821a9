"""PathVQA (He et al. 2020, arXiv:2003.10286): 4,998 pathology pictures and 32,795 questions, as `Example` rows.

pickle  The authors' tree: qas/{split}/{split}_qa.pkl and images/{split}/{image}.jpg.
json    The same rows as {split}_qa.json, beside images or in the pickle's place.
hf      The Hugging Face copy flaviagiammarino/path-vqa, which drops repeated rows: parquet files, or a folder written
        by `save_to_disk`.

The files hold a question and an answer and no types; both types are derived here, as PeFoMed's Figure 4 has them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pefomed.data.example import Example
from pefomed.data.found import MAX_LEFT_OUT, Found, LeftOut, PictureFolder, check_folder, check_split, gather
from pefomed.data.path_vqa_files import PathVqaRow, file_rows, hub_rows

NAME = "path_vqa"
VARIANTS = ("json", "pickle", "hf")
_OFFICIAL = {"train": 19755, "val": 6279, "test": 6761}
PUBLISHED = {"json": _OFFICIAL, "pickle": _OFFICIAL, "hf": {"train": 19654, "val": 6259, "test": 6719}}
IMAGES = "images"
WHERE_TO_GET = "https://github.com/UCSD-AI4H/PathVQA or Hugging Face flaviagiammarino/path-vqa"

ASKING_WORDS = ("what", "where", "when", "how", "why", "whose", "which", "who")
YES_NO_WORDS = ("is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would")
OTHER = "other"
_FIRST_WORDS = re.compile(r"[^a-z]*([a-z]+)(?:\s+([a-z]+))?")

TYPES_NOTE = (
    "Types are derived: closed is what is answered by yes or no, and the question type is the question's first word."
)


def read_path_vqa(
    data_dir: str | Path, split: str = "train", *, variant: str = "", max_left_out: float = MAX_LEFT_OUT
) -> Found:
    """Reads one split of PathVQA.

    Rows that the files repeat are kept, as in the published numbers; each has an id of its own, its place in the file.
    `group` is the picture. Many pictures are CMYK files, which `pefomed.images.open_image` turns into RGB.

    Args:
        data_dir: The folder of the authors' tree, of JSON files, or of the Hugging Face copy.
        split: "train", "val" or "test".
        variant: "pickle", "json" or "hf"; "" takes the one that the folder holds, JSON before the pickle of its rows.
        max_left_out: Largest share of rows that may be left out for missing pictures or empty texts.

    Raises:
        FileNotFoundError: The folder or the file of the split is missing.
        ValueError: A malformed or refused file, an unknown option, several forms, or too many rows left out.
    """
    check_split(NAME, split)
    folder = check_folder(NAME, data_dir)
    variant, source, notes = _choose_variant(folder, split, variant)
    options = {"variant": variant, "max_left_out": max_left_out, "published": PUBLISHED[variant][split]}
    if variant == "hf":
        items = (_hub_item(row, split, number) for number, row in enumerate(hub_rows(folder, split)))
        return gather(NAME, split, items, notes=notes, **options)
    rows = list(file_rows(source))
    repeated = len(rows) - len({(row.image, row.question, row.answer) for row in rows})
    if repeated:
        notes = (*notes, f"{repeated:,} rows repeat an earlier row; they are kept (the Hugging Face copy drops them).")
    images = folder / IMAGES / split
    return gather(NAME, split, _items(rows, images, split), notes=notes, pictures=(images,), **options)


def question_type(question: str) -> str:
    """Returns the question's first word in small letters, by which Figure 4 of the paper sorts PathVQA.

    "how much" and "how many" are both "how much", which the paper lists apart from "how". A question that begins with
    no word of `ASKING_WORDS` or `YES_NO_WORDS` is "other".
    """
    match = _FIRST_WORDS.match(question.lower())
    first, second = match.groups() if match else (None, None)
    if first == "how" and second in ("much", "many"):
        return "how much"
    return first if first in ASKING_WORDS or first in YES_NO_WORDS else OTHER


def answer_type(answer: str) -> str:
    """Returns "closed" for yes and no in any case, else "open"."""
    return "closed" if answer.strip().lower() in ("yes", "no") else "open"


def _choose_variant(folder: Path, split: str, variant: str) -> tuple[str, Path, tuple[str, ...]]:
    """Returns the form to read, its file (the folder, for "hf") and the notes so far."""
    if variant not in ("", *VARIANTS):
        raise ValueError(f"{NAME}: unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    inside = folder / "qas" / split
    places = {
        "json": (folder / f"{split}_qa.json", inside / f"{split}_qa.json"),
        "pickle": (inside / f"{split}_qa.pkl", folder / f"{split}_qa.pkl"),
    }
    found = {form: path for form, paths in places.items() for path in reversed(paths) if path.is_file()}
    if [*folder.glob("*.parquet"), *folder.glob("data/*.parquet")] or (folder / "dataset_dict.json").is_file():
        found["hf"] = folder
    if not variant and "hf" in found and len(found) > 1:
        raise ValueError(f"{folder}: holds PathVQA in the forms {', '.join(found)}; choose with variant=...")
    chosen = variant or next(iter(found), "")
    if chosen not in found:
        raise FileNotFoundError(
            f"{folder}: no split {split!r} of PathVQA{f' in the form {variant}' if variant else ''}; expected "
            f"qas/{split}/{split}_qa.pkl, {split}_qa.json or parquet files; available from {WHERE_TO_GET}"
        )
    unread = (
        () if variant or len(found) == 1 else ("The rows are from the JSON file; the pickle beside it is unread.",)
    )
    return chosen, found[chosen], (TYPES_NOTE, *unread)


def _items(rows: Iterable[PathVqaRow], images: Path, split: str) -> Iterator[Example | LeftOut]:
    """Yields the rows of the authors' tree; JSON and pickle hold the same rows, so they share their ids."""
    pictures = PictureFolder(images)
    for number, row in enumerate(rows):
        row_id, file_name = f"official-{split}-{number}", f"{row.image}.jpg"
        problem = _no_text(row) or pictures.problem(file_name)
        if problem:
            yield LeftOut(row_id, problem, f"{IMAGES}/{split}/{file_name}")
        else:
            yield _example(row, row_id, split, pictures.image(file_name), str(row.image))


def _hub_item(row: PathVqaRow, split: str, number: int) -> Example | LeftOut:
    row_id, data = f"hf-{split}-{number}", row.image
    problem = _no_text(row) or (None if data else "picture missing" if data is None else "picture empty")
    if problem:
        return LeftOut(row_id, problem)
    return _example(row, row_id, split, {"bytes": data, "path": None}, hashlib.sha256(data).hexdigest()[:16])


def _no_text(row: PathVqaRow) -> str | None:
    return "no question" if not row.question else "no answer" if not row.answer else None


def _example(row: PathVqaRow, row_id: str, split: str, image: dict, group: str) -> Example:
    return Example(
        id=row_id,
        dataset=NAME,
        split=split,
        task="vqa",
        image=image,
        question=row.question,
        answer=row.answer,
        answer_type=answer_type(row.answer),
        question_type=question_type(row.question),
        group=group,
    )
