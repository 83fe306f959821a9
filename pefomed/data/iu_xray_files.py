"""The three forms in which IU-Xray is handed around, read into one kind of study.

r2gen   annotation.json of Chen et al. 2020 (R2Gen): 2,955 studies of two pictures with their findings, parted into
        2,069/296/590, and pictures such as images/CXR2384_IM-0942/0.png.
openi   The original collection (Demner-Fushman et al. 2016, https://openi.nlm.nih.gov): 3,955 XML reports, 104 of
        them without a picture, and 7,470 pictures in one folder.
kaggle  indiana_reports.csv and indiana_projections.csv, made from the reports that have pictures; the only form that
        says of every picture whether it is frontal or lateral.

All of the text has been de-identified: hidden words read XXXX.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

from pefomed.data.example import SPLITS
from pefomed.files import read_json

VARIANTS = ("r2gen", "openi", "kaggle")
VIEWS = ("frontal", "lateral")
REPORT_PLACES = ("ecgen-radiology", "")
ANNOTATION, REPORTS, PROJECTIONS = "annotation.json", "indiana_reports.csv", "indiana_projections.csv"


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture: its id, its file below the folder of pictures, where it is named, "frontal", "lateral" or None."""

    id: str
    file: str
    where: str
    view: str | None = None


@dataclasses.dataclass(frozen=True)
class Study:
    """One report as its file has it, where it stands, and its pictures; `split` is None where the form has none."""

    id: str
    where: str
    findings: str
    impression: str
    pictures: tuple[Picture, ...]
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class IuXrayFiles:
    """All studies of a folder.

    Attributes:
        variant: "r2gen", "openi" or "kaggle".
        studies: in the files' order, the XML reports by their number.
        ownerless: rows for pictures that belong to no report (form "kaggle").
    """

    variant: str
    studies: tuple[Study, ...]
    ownerless: int = 0


def read_iu_xray_files(folder: Path, variant: str = "") -> IuXrayFiles:
    """Reads whichever form of IU-Xray lies in a folder.

    Args:
        folder: The folder.
        variant: "r2gen", "openi" or "kaggle", for a folder that holds several forms.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The folder holds several forms, or a file is malformed; the message names file and row.
    """
    if variant not in ("", *VARIANTS):
        raise ValueError(f"iu_xray: variant is {variant!r}, expected one of {', '.join(VARIANTS)}")
    found = _variants_in(folder, variant)
    if len(found) > 1:
        raise ValueError(f"{folder}: holds IU-Xray in the forms {' and '.join(found)}; choose one with variant")
    if not found:
        raise FileNotFoundError(
            f"{folder}: no IU-Xray{f' in the form {variant!r}' if variant else ''}; expected {ANNOTATION} (R2Gen), "
            f"ecgen-radiology/*.xml (OpenI), or {REPORTS} with {PROJECTIONS} (Kaggle)"
        )
    if "r2gen" in found:
        return IuXrayFiles("r2gen", _together(_r2gen_studies(folder / ANNOTATION)))
    if "openi" in found:
        return IuXrayFiles("openi", _together(_openi_study(path) for path in _report_files(folder)))
    pictures = _kaggle_pictures(folder / PROJECTIONS)
    studies = _together(_kaggle_studies(folder / REPORTS, pictures))
    rows = sum(len(group) for group in pictures.values())
    return IuXrayFiles("kaggle", studies, rows - sum(len(study.pictures) for study in studies))


def _variants_in(folder: Path, variant: str) -> list[str]:
    """The forms that a folder holds; only the one asked for, where one is."""
    found = []
    if variant in ("", "r2gen") and (folder / ANNOTATION).is_file():
        found.append("r2gen")
    if variant in ("", "openi") and _report_files(folder):
        found.append("openi")
    if variant in ("", "kaggle") and any((folder / name).is_file() for name in (REPORTS, PROJECTIONS)):
        found.append("kaggle")
    return found


def _together(studies: Iterable[Study]) -> tuple[Study, ...]:
    """Collects studies; raises a ValueError for one that occurs twice and for a picture that does or leads outside."""
    first_study: dict[str, str] = {}
    first_picture: dict[str, str] = {}
    collected = []
    for study in studies:
        if study.id in first_study:
            raise ValueError(f"{study.where}: study {study.id!r} occurs twice, first in {first_study[study.id]}")
        first_study[study.id] = study.where
        for picture in study.pictures:
            here = f"{picture.where}: picture {picture.file!r}"
            path = PureWindowsPath(picture.file)  # knows both slashes and drives
            if not picture.file.strip() or "\0" in picture.file or path.anchor or ".." in path.parts:
                raise ValueError(f"{here} leads out of the data set's folder or is no file name")
            # A picture in two studies could stand in two splits.
            if picture.file in first_picture:
                raise ValueError(f"{here} occurs twice, first in {first_picture[picture.file]}")
            first_picture[picture.file] = picture.where
        collected.append(study)
    return tuple(collected)


# R2Gen


def _r2gen_studies(path: Path) -> Iterator[Study]:
    """Yields the checked rows of annotation.json."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object with the keys train, val and test, found {_kind(content)}")
    blank = [key for key in content if not key.strip()]
    if blank and "test" not in content:
        raise ValueError(
            f"{path}: the key {blank[0]!r} is blank: this is the public copy whose key 'test' was overwritten with "
            f'blanks; make it read "test" again (R2Gen\'s file holds 590 studies under it)'
        )
    if set(content) != set(SPLITS):
        raise ValueError(f"{path}: found the keys {', '.join(map(repr, content))}, expected train, val and test")
    for split in SPLITS:
        rows = content[split]
        if not isinstance(rows, list) or not rows:
            raise ValueError(f"{path}: {split} must be a list of studies, found {_kind(rows)}")
        for number, row in enumerate(rows):
            where = f"{path}: {split} row {number}"
            yield _r2gen_study(row, split, where)


def _r2gen_study(row: Any, split: str, where: str) -> Study:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object, found {_kind(row)}")
    if "subject_id" in row or "study_id" in row:
        raise ValueError(f"{where}: names a patient or study of MIMIC-CXR; R2Gen's annotation of that is no IU-Xray")
    for key in ("id", "report", "image_path", "split"):
        if key not in row:
            raise ValueError(f"{where}: lacks the key {key!r}")
        if key != "image_path" and not isinstance(row[key], str):
            raise ValueError(f"{where}: {key} must be a string, found {_kind(row[key])}")
    if not row["id"].strip():
        raise ValueError(f"{where}: id is empty")
    if row["split"] != split:
        raise ValueError(f"{where}: split is {row['split']!r} but the row lies under {split!r}")
    paths = row["image_path"]
    if not isinstance(paths, list) or len(paths) != 2 or not all(isinstance(path, str) for path in paths):
        raise ValueError(f"{where}: image_path must be a list of two file names, found {paths!r:.80}")
    pictures = (Picture(f"{row['id']}-{number}", path, where, VIEWS[number]) for number, path in enumerate(paths))
    return Study(row["id"], where, row["report"], "", tuple(pictures), split)


# OpenI


def _report_files(folder: Path) -> list[Path]:
    """The XML reports of a folder by their number; raises a ValueError where two places hold some."""
    found = [
        # Archives made on a Mac hold a "._1.xml" beside every "1.xml", which is no report.
        [path for path in (folder / place).glob("*.xml") if not path.name.startswith(".")]
        for place in REPORT_PLACES
    ]
    if all(found):
        raise ValueError(f"{folder}: both this folder and {REPORT_PLACES[0]}/ in it hold XML reports; leave one")
    return sorted(max(found, key=len), key=lambda path: (len(path.name), path.name))


def _openi_study(path: Path) -> Study:
    root = _safe_xml(path)
    if root.tag != "eCitation":
        raise ValueError(f"{path}: the outermost element is {root.tag!r}, expected 'eCitation', a report of OpenI")
    number = _id_of(root, "pmcId")
    name = _id_of(root, "uId") or (f"CXR{number}" if number else "")
    if not name:
        raise ValueError(f"{path}: neither uId nor pmcId has an id")
    texts: dict[str, str] = {"FINDINGS": "", "IMPRESSION": ""}
    for part in root.iter("AbstractText"):
        label = part.get("Label", "").strip().upper()
        if label in texts:
            texts[label] += " " + "".join(part.itertext())
    pictures = []
    for element in root.iter("parentImage"):
        picture = element.get("id", "").strip()
        if not picture:
            raise ValueError(f"{path}: a parentImage has no id")
        pictures.append(Picture(picture, f"{picture}.png", str(path)))
    return Study(name, str(path), texts["FINDINGS"], texts["IMPRESSION"], tuple(pictures))


def _id_of(root: ElementTree.Element, tag: str) -> str:
    element = root.find(tag)
    return "" if element is None else element.get("id", "").strip()


def _safe_xml(path: Path) -> ElementTree.Element:
    """Parses a file without a document type: entities can make a few bytes grow into gigabytes or fetch files.

    The text is decoded first, so that no declared encoding can hide a document type from the search for it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}: {error.reason})") from error
    for declaration in ("<!DOCTYPE", "<!ENTITY"):
        if declaration in text:
            line = text[: text.index(declaration)].count("\n") + 1
            raise ValueError(f"{path}: line {line}: {declaration} refused; reports of OpenI declare no entities")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not well-formed XML ({error}); fetch the file again") from error


# Kaggle


def _kaggle_studies(path: Path, pictures: dict[str, list[Picture]]) -> Iterator[Study]:
    """Yields the reports."""
    for where, row in _csv_rows(path, ("uid", "findings", "impression")):
        uid = _uid(row, where)
        yield Study(f"CXR{uid}", where, row["findings"], row["impression"], tuple(pictures.get(uid, ())))


def _kaggle_pictures(path: Path) -> dict[str, list[Picture]]:
    """Returns the pictures of every uid."""
    pictures: dict[str, list[Picture]] = {}
    for where, row in _csv_rows(path, ("uid", "filename", "projection")):
        view = row["projection"].strip().lower()
        if view not in ("", *VIEWS):
            raise ValueError(f"{where}: projection is {row['projection']!r:.60}, expected Frontal or Lateral")
        name = row["filename"].strip()
        picture = Picture(name.removesuffix(".png").removesuffix(".dcm"), name, where, view or None)
        pictures.setdefault(_uid(row, where), []).append(picture)
    return pictures


def _uid(row: dict[str, str], where: str) -> str:
    uid = row["uid"].strip()
    if not (uid.isascii() and uid.isdigit()):
        raise ValueError(f"{where}: uid is {row['uid']!r:.60}, expected a number")
    return uid


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows of a comma-separated file with a header, each with where it ends."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the Kaggle form needs {REPORTS} and {PROJECTIONS}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise ValueError(
                    f"{path}: line 1: lacks the column {missing[0]!r}; expected a header with commas, found "
                    f"{','.join(header)!r:.80}"
                )
            for values in filter(None, reader):  # an empty line holds nothing
                where = f"{path}: line {reader.line_num}"
                if len(values) != len(header):
                    raise ValueError(f"{where}: {len(values)} values for {len(header)} columns; a cut or broken line")
                yield where, dict(zip(header, values, strict=True))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text (after line {reader.line_num}: {error.reason})") from error
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}; a cut or broken line") from error


def _kind(value: Any) -> str:
    return "an empty list" if value == [] else f"{type(value).__name__} {value!r:.60}"
