"""Rating sheets as they come back, xlsx or CSV, read into plain cells; nothing in them is run or trusted.

Sheets travel by mail through programs and hands, so a file may be anything: no spreadsheet at all, damaged, or made
to fill the memory. Bounds are checked before anything is unpacked, pictures are never opened, and formulas are kept
as text.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from pefomed.human.sheets import RATINGS_SHEET

LARGEST_FILE = 512 * 2**20  # bytes; pictures may make a sheet large
LARGEST_CSV = 64 * 2**20
LARGEST_TEXT = 256 * 2**20  # bytes of all XML parts, unpacked
MOST_PARTS = 100_000
MOST_COLUMNS = 30  # what lies right of them is none of ours
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=[\"']([^\"']{1,40})[\"']")
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# What zipfile, the XML parser and openpyxl raise on damaged files (found by damaging files; see the tests).
_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, OSError, EOFError, OverflowError),
    *(RuntimeError, AssertionError, SyntaxError, zipfile.BadZipFile, zlib.error, struct.error, InvalidFileException),
)


@dataclass(frozen=True)
class Odd:
    """A cell that holds neither text nor a number: what it is, and what it shows."""

    kind: str
    text: str


Value = str | int | float | bool | Odd | None


@dataclass(frozen=True)
class SheetTable:
    """The cells of a rating sheet.

    Attributes:
        where: File, and sheet where the file has several; how errors name it.
        rows: Row number from 1, and the values from column A on; rows without any value are left out.
        merged: References of merged cells.
    """

    where: str
    rows: tuple[tuple[int, tuple[Value, ...]], ...]
    merged: tuple[str, ...]


def read_sheet(path: str | Path) -> SheetTable:
    """Read the sheet Ratings of an xlsx file, or a CSV of it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read as either; one line that names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the sheets that came back")
    is_csv = path.suffix.lower() == ".csv"
    limit, size = (LARGEST_CSV if is_csv else LARGEST_FILE), path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: {size:,} bytes are more than the {limit:,} of any rating sheet")
    if size == 0:
        raise ValueError(f"{path}: the file is empty; ask for the sheet once more")
    return _read_csv(path) if is_csv else _read_xlsx(path)


def _read_xlsx(path: Path) -> SheetTable:
    with path.open("rb") as file:
        start = file.read(8)
    if start == _OLE:
        raise ValueError(f"{path}: protected by a password, or an old .xls; save it as .xlsx without a password")
    if not start.startswith(b"PK"):
        raise ValueError(f"{path}: no xlsx file; save the sheet as .xlsx, or as .csv")
    try:
        with warnings.catch_warnings():
            # openpyxl warns of features of Excel that it does not know; no score depends on them.
            warnings.simplefilter("ignore", UserWarning)
            return _unpack(path)
    except _Refused:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path}: damaged, cannot be read as xlsx ({reason}); ask for it once more") from error


def _unpack(path: Path) -> SheetTable:
    with zipfile.ZipFile(path) as archive:
        _check_parts(path, archive)
    with contextlib.closing(load_workbook(path, read_only=True, keep_links=False)) as workbook:
        if RATINGS_SHEET not in workbook.sheetnames:
            there = ", ".join(repr(name) for name in workbook.sheetnames[:5])
            raise _Refused(f"{path}: has no sheet {RATINGS_SHEET!r}, only {there}; do not rename or remove it")
        sheet = workbook[RATINGS_SHEET]
        if not hasattr(sheet, "iter_rows"):
            raise _Refused(f"{path}: {RATINGS_SHEET!r} is a chart; give the sheet as it was sent")
        sheet.reset_dimensions()  # what a file says of its own size is not to be relied on
        rows = tuple(_xlsx_rows(sheet))
    with zipfile.ZipFile(path) as archive:
        merged = _MERGED.findall(archive.read(_part(archive)))
    return SheetTable(
        f"{path}, sheet {RATINGS_SHEET!r}", rows, tuple(name.decode("ascii", "replace") for name in merged)
    )


class _Refused(ValueError):
    """A file that can be read but is not taken: its message is complete already."""


def _check_parts(path: Path, archive: zipfile.ZipFile) -> None:
    parts = archive.infolist()
    names = [part.filename for part in parts]
    if "mimetype" in names and "content.xml" in names:
        raise _Refused(f"{path}: an OpenDocument sheet under another name; save it as .xlsx")
    if "xl/workbook.xml" not in names:
        raise _Refused(f"{path}: a ZIP archive, but no xlsx file; save the sheet as .xlsx")
    text = [part for part in parts if part.filename.endswith((".xml", ".rels", ".vml"))]
    unpacked = sum(part.file_size for part in text)
    # zipfile unpacks no more of a part than the size it states, so that the stated sizes can be relied on.
    if unpacked > LARGEST_TEXT or len(parts) > MOST_PARTS:
        raise _Refused(
            f"{path}: unpacks to {unpacked:,} bytes in {len(parts):,} parts, more than any rating sheet "
            f"({LARGEST_TEXT:,} bytes); not opened"
        )
    for part in text:
        with archive.open(part) as file:
            if b"<!DOCTYPE" in file.read(4096):
                raise _Refused(f"{path}: {part.filename} declares a document type, as no spreadsheet program does")


def _part(archive: zipfile.ZipFile) -> str:
    """Name of the part that holds the sheet Ratings (openpyxl tells merged cells only where it unpacks everything)."""
    names = {name.lstrip("/") for name in archive.namelist()}
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    wanted = [e.get(_RELATION) for e in book.iter() if e.tag.endswith("}sheet") and e.get("name") == RATINGS_SHEET]
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    targets = [e.get("Target", "") for e in relations if e.get("Id") in wanted]
    for target in targets:
        for name in (target.lstrip("/"), f"xl/{target}"):
            if name in names:
                return name
    raise KeyError(f"no part for the sheet {RATINGS_SHEET}")


def _xlsx_rows(sheet: Any) -> Iterator[tuple[int, tuple[Value, ...]]]:
    former = None
    for number, row in enumerate(sheet.iter_rows(max_col=MOST_COLUMNS), start=1):
        if row is former:  # openpyxl repeats one object for rows that are not there, of which there may be a million
            continue
        former = row
        values = tuple(_value(cell) for cell in row)
        if any(value is not None for value in values):
            yield number, values


def _value(cell: Any) -> Value:
    value = cell.value
    if value is None:
        return None
    if cell.data_type == "f":
        return Odd("a formula", str(value))
    if cell.data_type == "e":
        return Odd("an error value", str(value))
    if isinstance(value, str | bool | int | float):
        return value
    return Odd("a date or time", str(value))


def _read_csv(path: Path) -> SheetTable:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV UTF-8, or as .xlsx") from error
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    rows = []
    try:
        # newline="" keeps line breaks inside quoted cells; strict refuses a quote that is never closed.
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1):
            if any(row):
                rows.append((number, tuple(cell if cell else None for cell in row[:MOST_COLUMNS])))
    except csv.Error as error:
        raise ValueError(f"{path}, row {len(rows) + 1}: not CSV ({error}); save the sheet once more") from error
    return SheetTable(str(path), tuple(rows), ())
