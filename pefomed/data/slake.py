"""SLAKE (Liu et al. 2021, doi:10.1109/ISBI48211.2021.9434010): 642 pictures, 14,028 questions in English and Chinese.

official  train.json, validate.json and test.json beside the folder imgs. The Hugging Face copy BoKelvin/SLAKE is the
          same but for the name validation.json, and for imgs.zip, which has to be unpacked.
hf        English only, as parquet files or a folder written by `save_to_disk`: picture, question and answer, no types.

The authors split each language by itself. Whoever pools the languages trains on pictures of the other language's test
questions; the notes of what is found count these pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pefomed.data.example import Example
from pefomed.data.found import MAX_LEFT_OUT, Found, LeftOut, PictureFolder, check_folder, check_split, gather
from pefomed.data.hub_files import read_split
from pefomed.files import read_json

NAME = "slake"
VARIANTS = ("official", "hf")
LANGUAGES = ("en", "zh")
FILES = {"train": ("train.json",), "val": ("validate.json", "validation.json"), "test": ("test.json",)}
PUBLISHED = {
    "en": {"train": 4919, "val": 1053, "test": 1061},
    "zh": {"train": 4916, "val": 1046, "test": 1033},
    "all": {"train": 9835, "val": 2099, "test": 2094},
}
IMAGES = "imgs"
REQUIRED_KEYS = ("qid", "img_name", "question", "answer", "q_lang", "location", "answer_type", "content_type")
WHERE_TO_GET = "https://www.med-vqa.com/slake or Hugging Face BoKelvin/SLAKE"
_IMAGE_NAME = re.compile(r"(\w[\w. -]{0,99})/(\w[\w. -]{0,99})", re.ASCII)  # one folder and a file, nothing hidden
_CHINESE = re.compile("[\u4e00-\u9fff]")


@dataclasses.dataclass(frozen=True)
class SlakeRow:
    """One question of a JSON file, stripped of blanks; empty texts are ""."""

    qid: str
    image: str
    question: str
    answer: str
    language: str
    answer_type: str
    content_type: str
    location: str


def read_slake(
    data_dir: str | Path,
    split: str = "train",
    *,
    language: str = "en",
    variant: str = "",
    max_left_out: float = MAX_LEFT_OUT,
) -> Found:
    """Reads one split of SLAKE.

    `question_type` is the files' content_type (Organ, Position, KG, ...), `image_organ` their location (Lung, Abdomen,
    Brain_Tissue, ...) and `group` the picture. The form "hf" has neither types nor organs.

    Args:
        data_dir: The folder with train.json, validate.json or validation.json, test.json and imgs, or with parquet.
        split: "train", "val" or "test".
        language: "en", as in the paper, "zh" or "all".
        variant: "official" or "hf"; "" takes the one that the folder holds.
        max_left_out: Largest share of rows that may be left out for missing pictures or empty texts.

    Returns:
        The rows; with `language="all"` a note counts the pictures that this split shares with the others.

    Raises:
        FileNotFoundError: The folder or the file of the split is missing, or the pictures are still packed.
        ValueError: A malformed file or row, an unknown option, both forms in one folder, or too many rows left out.
    """
    check_split(NAME, split)
    folder = check_folder(NAME, data_dir)
    if language not in PUBLISHED:
        raise ValueError(f"{NAME}: unknown language {language!r}; choose one of {', '.join(PUBLISHED)}")
    variant = _choose_variant(folder, variant)
    options = {"variant": variant, "max_left_out": max_left_out, "published": PUBLISHED[language][split]}
    if variant == "hf":
        if language != "en":
            raise ValueError(
                f"{folder}: the parquet copy of SLAKE holds English questions only, not language={language!r}; get "
                f"the JSON files from {WHERE_TO_GET}"
            )
        note = "Answer types are derived from the answers: yes and no are closed (the JSON files also close choices)."
        return gather(NAME, split, _hub_items(folder, split), notes=(note,), **options)
    images = folder / IMAGES
    if not images.is_dir() and (folder / f"{IMAGES}.zip").is_file():
        raise FileNotFoundError(
            f"{folder}: {IMAGES}.zip is not unpacked; unpack it there, which makes the folder imgs"
        )
    notes = tuple(_notes_on_sharing(folder, split)) if language == "all" else ()
    items = _items(_find_file(folder, split), images, split, language)
    return gather(NAME, split, items, notes=notes, pictures=(images,), **options)


def _choose_variant(folder: Path, variant: str) -> str:
    """Returns the form that the folder holds, or checks that it holds the one asked for."""
    if variant not in ("", *VARIANTS):
        raise ValueError(f"{NAME}: unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    parquet = [*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]
    holds = {
        "official": any((folder / name).is_file() for names in FILES.values() for name in names),
        "hf": bool(parquet) or (folder / "dataset_dict.json").is_file(),
    }
    found = [form for form in VARIANTS if holds[form] and variant in ("", form)]
    if len(found) > 1:
        raise ValueError(f"{folder}: holds SLAKE in the forms official and hf; choose with variant=...")
    if not found:
        raise FileNotFoundError(
            f"{folder}: no SLAKE{f' in the form {variant}' if variant else ''}; expected train.json, validate.json "
            f"and test.json, or parquet files; available from {WHERE_TO_GET}"
        )
    return found[0]


def _find_file(folder: Path, split: str) -> Path:
    paths = [folder / name for name in FILES[split] if (folder / name).is_file()]
    if len(paths) > 1:
        raise ValueError(f"{folder}: holds both {' and '.join(FILES[split])}, two names of one file; remove one")
    if not paths:
        raise FileNotFoundError(f"{folder}: no {' or '.join(FILES[split])}, the questions of the split {split!r}")
    return paths[0]


def read_rows(path: Path) -> Iterator[tuple[str, SlakeRow]]:
    """Yields the checked rows of a JSON file in all languages, each with its place for messages.

    Raises:
        ValueError: The file is not a JSON list, or a row is malformed; the message names file and row (from 0).
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a JSON list of questions, found {type(content).__name__}")
    if not content:
        raise ValueError(f"{path}: holds no rows")
    first_use: dict[str, int] = {}
    for number, row in enumerate(content):
        where = f"{path}: row {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: expected an object, found {type(row).__name__}")
        checked = _check_row(row, where)
        if checked.qid in first_use:
            raise ValueError(f"{where}: qid {checked.qid} is already used by row {first_use[checked.qid]}")
        first_use[checked.qid] = number
        yield where, checked


def _check_row(row: Mapping[str, Any], where: str) -> SlakeRow:
    missing = [key for key in REQUIRED_KEYS if key not in row]
    if missing:
        raise ValueError(f"{where}: lacks the key {missing[0]!r}; SLAKE's rows have {', '.join(REQUIRED_KEYS)}")
    qid = row["qid"]
    if isinstance(qid, bool) or not isinstance(qid, int):
        raise ValueError(f"{where}: qid must be a whole number, found {type(qid).__name__} {qid!r:.60}")
    texts = {}
    for key in REQUIRED_KEYS[1:]:
        if not isinstance(row[key], str):
            raise ValueError(f"{where}: {key} must be a string, found {type(row[key]).__name__} {row[key]!r:.60}")
        texts[key] = row[key].strip()
    language, answer_type = texts["q_lang"].lower(), texts["answer_type"].lower()
    for key, value, allowed in (("q_lang", language, LANGUAGES), ("answer_type", answer_type, ("open", "closed"))):
        if value not in allowed:
            raise ValueError(f"{where}: {key} is {row[key]!r:.60}, expected one of {', '.join(allowed)}")
    if not _IMAGE_NAME.fullmatch(texts["img_name"]):
        raise ValueError(f"{where}: img_name is {row['img_name']!r:.60}, expected a name such as 'xmlab1/source.jpg'")
    return SlakeRow(
        qid=str(qid),
        image=texts["img_name"],
        question=texts["question"],
        answer=texts["answer"],
        language=language,
        answer_type=answer_type,
        content_type=texts["content_type"],
        location=texts["location"],
    )


def _items(path: Path, images: Path, split: str, language: str) -> Iterator[Example | LeftOut]:
    """Yields the rows of the JSON form in the languages asked for."""
    folders: dict[str, PictureFolder] = {}
    for _, row in read_rows(path):
        if language not in ("all", row.language):
            continue
        place, file_name = row.image.split("/")
        if place not in folders:
            folders[place] = PictureFolder(images / place)
        row_id = f"official-{row.qid}"
        problem = _no_text(row.question, row.answer) or folders[place].problem(file_name)
        if problem:
            yield LeftOut(row_id, problem, f"{IMAGES}/{row.image}")
            continue
        yield Example(
            id=row_id,
            dataset=NAME,
            split=split,
            task="vqa",
            image=folders[place].image(file_name),
            question=row.question,
            answer=row.answer,
            answer_type=row.answer_type,
            question_type=row.content_type or None,
            image_organ=row.location or None,
            group=row.image,
        )


def _no_text(question: str, answer: str) -> str | None:
    return "no question" if not question else "no answer" if not answer else None


def _notes_on_sharing(folder: Path, split: str) -> Iterator[str]:
    """Yields a sentence for each other split: how many of its pictures lie in this one when languages are pooled."""
    own = {row.image for _, row in read_rows(_find_file(folder, split))}
    for other, names in FILES.items():
        if other == split:
            continue
        if not any((folder / name).is_file() for name in names):
            yield f"All languages are read; there is no file of the split {other!r} to look for shared pictures in."
            continue
        theirs = {row.image for _, row in read_rows(_find_file(folder, other))}
        yield (
            f"All languages are read: {len(own & theirs):,} of the {len(theirs):,} pictures of the split {other!r} "
            f"also occur in {split!r}, since SLAKE splits each language by itself."
        )


def _hub_items(folder: Path, split: str) -> Iterator[Example | LeftOut]:
    """Yields the rows of the parquet form; pictures are bytes, and their hash is the group."""
    hub_split = "validation" if split == "val" else split
    for number, row in enumerate(read_split(folder, hub_split)):
        where = f"{folder}: {hub_split} row {number}"
        row_id, image = f"hf-{split}-{number}", row["image"]
        for key in ("question", "answer"):
            if row[key] is not None and not isinstance(row[key], str):
                raise ValueError(f"{where}: {key} must be a string, found {type(row[key]).__name__} {row[key]!r:.60}")
        if not isinstance(image, Mapping):
            raise ValueError(f"{where}: image must be a picture's bytes, found {type(image).__name__}")
        data, question, answer = image.get("bytes"), (row["question"] or "").strip(), (row["answer"] or "").strip()
        if _CHINESE.search(question):
            raise ValueError(
                f"{where}: a Chinese question in the English copy; get the JSON files from {WHERE_TO_GET}"
            )
        problem = _no_text(question, answer) or (
            None if data else "picture missing" if data is None else "picture empty"
        )
        if problem:
            yield LeftOut(row_id, problem)
            continue
        yield Example(
            id=row_id,
            dataset=NAME,
            split=split,
            task="vqa",
            image={"bytes": data, "path": None},
            question=question,
            answer=answer,
            answer_type="closed" if answer.lower() in ("yes", "no") else "open",
            group=hashlib.sha256(data).hexdigest()[:16],
        )
