"""The PhysioNet tree of MIMIC-CXR: its two tables as one run of pictures, and its reports and pictures by study."""

from __future__ import annotations

import csv
import dataclasses
import functools
import gzip
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pefomed.data.found import PictureFolder
from pefomed.data.mimic_cxr_sections import parse_sections

SPLIT_NAMES = {"train": "train", "validate": "val", "test": "test"}
VIEWS = ("PA", "AP")  # the frontal ones
IMAGE_FORMATS = ("jpg", "dcm")
SPLIT_FILE, METADATA_FILE = "mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-metadata.csv"
SPLIT_COLUMNS, METADATA_COLUMNS = ("dicom_id", "study_id", "subject_id", "split"), ("dicom_id", "ViewPosition")
WHERE_TO_GET = "https://physionet.org/content/mimic-cxr-jpg (credentialed)"

_DICOM_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*")
_USED = "\0used"  # no view is called so
_STUDIES_KEPT = 1024  # the official file has a study's rows together; a few patients' worth bears other orders


@dataclasses.dataclass(frozen=True)
class Picture:
    """One row of the tables.

    Attributes:
        dicom_id: Its id and its file's name without the ending.
        patient: "p10000032".
        study: Where the study lies below `files`: "p10/p10000032/s50414267".
        split: "train", "val" or "test".
        view: ViewPosition, "" where the tables do not say.
    """

    dicom_id: str
    patient: str
    study: str
    split: str
    view: str


def pictures_in(folder: Path, views: Sequence[str]) -> Iterator[Picture]:
    """Yields all pictures of the tables in the order of the split file.

    Args:
        folder: The folder of the tables.
        views: The views that will be asked for; the metadata table may be absent only where there are none.

    Raises:
        FileNotFoundError: A table is missing.
        ValueError: A malformed table, a repeated picture or a patient of two splits.
    """
    path = _table_file(folder, SPLIT_FILE)
    seen = _views(folder, views)
    unknown_view = None if seen else ""
    split_of: dict[str, str] = {}
    for line, (dicom_id, study_id, subject_id, split) in _table(path, SPLIT_COLUMNS):
        where = f"{path}, line {line}"
        _check_row(where, dicom_id, study_id, subject_id, split)
        if split_of.setdefault(subject_id, split) != split:
            raise ValueError(f"{where}: patient {subject_id} is in the splits {split_of[subject_id]!r} and {split!r}")
        view = seen.get(dicom_id, unknown_view)
        if view is None:
            raise ValueError(f"{where}: dicom_id {dicom_id!r} has no row in {METADATA_FILE}; use both of one release")
        if view is _USED:
            raise ValueError(f"{where}: dicom_id {dicom_id!r} occurs for the second time")
        seen[dicom_id] = _USED
        study = f"p{subject_id[:2]}/p{subject_id}/s{study_id}"
        yield Picture(dicom_id, f"p{subject_id}", study, SPLIT_NAMES[split], view)


class Tree:
    """Reports and pictures by study, each looked at once for as long as a study's rows stand close together.

    Args:
        folder: The data set's folder.
        section: The section to take.
        image_format: "jpg" or "dcm"; "" until the first picture is found.

    Raises:
        FileNotFoundError: The data set's folder has no `files`.
    """

    def __init__(self, folder: Path, section: str, image_format: str):
        self.files = _existing(folder, "files", is_folder=True)
        unpacked = folder / "mimic-cxr-reports" / "files"
        self.reports = unpacked if unpacked.is_dir() else self.files
        self.section = section
        self.chosen, self.image_format = bool(image_format), image_format
        self.report = functools.lru_cache(_STUDIES_KEPT)(self._report)
        self.pictures = functools.lru_cache(_STUDIES_KEPT)(self._pictures)

    def _report(self, study: str) -> tuple[str, str]:
        """Returns the section's text, "" where there is none, and why the report cannot be used, "" where it can."""
        path = self.reports / f"{study}.txt"
        try:
            report = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return "", "report missing"
        except (OSError, UnicodeDecodeError) as error:
            # What a decoder complains of is text of the report, so only the kind is told.
            raise ValueError(f"{path}: unreadable report ({type(error).__name__})") from None
        if not report.strip():
            return "", "report empty"
        return parse_sections(report).text(self.section), ""

    def _pictures(self, study: str) -> PictureFolder:
        """Lists a study's folder; the first picture of all decides on the format."""
        pictures = PictureFolder(self.files / study)
        if not self.chosen:
            for ending in sorted({name.rpartition(".")[2] for name in pictures.sizes} & set(IMAGE_FORMATS)):
                if self.image_format not in ("", ending):
                    raise ValueError(
                        f"{self.files}: holds .dcm and .jpg pictures (both by {study}), which look different; "
                        "choose with image_format='jpg' or 'dcm'"
                    )
                self.image_format = ending
        return pictures


def _check_row(where: str, dicom_id: str, study_id: str, subject_id: str, split: str) -> None:
    """Refuses a row that is not of the published form; its values name files, so nothing may lead elsewhere."""
    if not _DICOM_ID.fullmatch(dicom_id):
        raise ValueError(f"{where}: dicom_id {dicom_id!r:.80} is no name of a picture without its ending")
    for column, value in (("study_id", study_id), ("subject_id", subject_id)):
        if not (value.isascii() and value.isdigit() and len(value) > 2):
            raise ValueError(f"{where}: {column} {value!r:.80} is no whole number, as 10000032 is")
    if split not in SPLIT_NAMES:
        raise ValueError(f"{where}: split {split!r:.80}; expected one of {', '.join(SPLIT_NAMES)}")


def _views(folder: Path, views: Sequence[str]) -> dict[str, str]:
    """Returns the view of each picture by dicom_id; {} where no view is asked for and there is no table of them."""
    try:
        path = _table_file(folder, METADATA_FILE)
    except FileNotFoundError:
        if views:
            raise
        return {}
    found: dict[str, str] = {}
    for line, (dicom_id, view) in _table(path, METADATA_COLUMNS):
        if dicom_id in found:
            raise ValueError(f"{path}, line {line}: dicom_id {dicom_id!r:.80} occurs for the second time")
        found[dicom_id] = sys.intern(view)
    there = set(found.values())
    unknown = [view for view in views if view not in there and view not in VIEWS]
    if unknown:
        raise ValueError(f"{path}: no picture of the view {unknown[0]!r}; there are {', '.join(sorted(there))}")
    return found


def _table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and these columns of each line of a table, compressed or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            lacking = [name for name in columns if name not in header]
            if lacking:
                raise ValueError(f"{path}: the first line lacks {lacking[0]!r}; found {','.join(header)!r:.120}")
            places = [header.index(name) for name in columns]
            for line in lines:
                if len(line) != len(header):
                    raise ValueError(
                        f"{path}, line {lines.line_num}: {len(line)} values in a table of {len(header)} columns"
                    )
                yield lines.line_num, [line[place].strip() for place in places]
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged table ({' '.join(f'{type(error).__name__}: {error}'.split())})") from error


def _table_file(folder: Path, name: str) -> Path:
    """Returns the compressed table or, where there is none, the plain one."""
    compressed = folder / f"{name}.gz"
    return compressed if compressed.is_file() else _existing(folder, name)


def _existing(folder: Path, name: str, is_folder: bool = False) -> Path:
    path = folder / name
    if not (path.is_dir() if is_folder else path.is_file()):
        kind = "folder" if is_folder else "file"
        also = "" if is_folder else ".gz"
        raise FileNotFoundError(f"{path}{also}: no such {kind}; MIMIC-CXR is available from {WHERE_TO_GET}")
    return path
