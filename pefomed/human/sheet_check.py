"""One returned rating sheet: every cell checked, every fault named, every score tied to its prediction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from openpyxl.utils import get_column_letter

from pefomed.human import sheets
from pefomed.human.sheet_read import Odd, SheetTable, Value, read_sheet
from pefomed.human.sheets import SCALES, SheetKey

_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0+)?")
_NEEDED = (sheets.CODE, sheets.REFERENCE, sheets.ANSWER, sheets.SCORE)


@dataclass(frozen=True)
class Rating:
    """One score that a rater gave: index into the key's items, the score, and the cell it stands in."""

    item: int
    score: int
    cell: str


@dataclass
class CheckedSheet:
    """What one returned sheet holds.

    Attributes:
        path: The file.
        rater: Whose sheet it is, by its codes; None where no code is known.
        ratings: Its scores, in the order of the sheet.
        blank: Row numbers without a score.
        faults: One line for each fault.
    """

    path: Path
    rater: str | None = None
    ratings: list[Rating] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def check_sheet(path: str | Path, key: SheetKey, key_name: str) -> CheckedSheet:
    """Read one sheet and check all of it.

    Args:
        path: The xlsx or CSV file.
        key: The key of its export.
        key_name: How faults name the key.
    """
    checked = CheckedSheet(Path(path))
    try:
        table = read_sheet(path)
    except (ValueError, FileNotFoundError) as error:
        checked.faults.append(str(error))
        return checked
    checked.faults += [f"{table.where}, cells {cells} are merged; take them apart" for cells in table.merged]
    columns = _columns(table, checked.faults)
    if columns is not None:
        _check_rows(table, columns, key, key_name, checked)
    return checked


def _columns(table: SheetTable, faults: list[str]) -> dict[str, int] | None:
    """Column index by title, or None where the header is not to be read."""
    header = table.rows[0][1] if table.rows and table.rows[0][0] == 1 else ()
    titles = [sheets.canonical(value) if isinstance(value, str) else None for value in header]
    before = len(faults)
    for title in (*_NEEDED, sheets.QUESTION):
        if titles.count(title) > 1:
            faults.append(f"{table.where}, row 1: {titles.count(title)} columns are called {title!r}; leave one")
        elif title not in titles and title in _NEEDED:
            faults.append(f"{table.where}, row 1: no column is called {title!r}; put the header back as it was")
    return None if len(faults) > before else {title: n for n, title in enumerate(titles) if title is not None}


def _check_rows(
    table: SheetTable, columns: dict[str, int], key: SheetKey, key_name: str, checked: CheckedSheet
) -> None:
    owner = {code: rater for rater, codes in key.codes.items() for code in codes}
    lines = [(number, {t: row[at] for t, at in columns.items() if at < len(row)}) for number, row in table.rows[1:]]
    codes = [_text(line.get(sheets.CODE)).strip() for _, line in lines]
    known = [owner[code] for code in codes if code in owner]
    if not known:
        checked.faults.append(
            f"{table.where}: none of its {sum(code != '' for code in codes)} codes is in {key_name}; "
            "give the key that was written with this sheet"
        )
        return
    checked.rater = max(dict.fromkeys(known), key=known.count)
    seen: dict[str, int] = {}
    for (number, line), code in zip(lines, codes, strict=True):
        where = f"{table.where}, cell {_cell(columns[sheets.CODE], number)}"
        if not any(_text(value).strip() for value in line.values()):
            continue
        if fault := _code_fault(code, owner.get(code), checked.rater, seen, key_name):
            checked.faults.append(f"{where}: {fault}")
            continue
        seen[code] = number
        item = key.codes[checked.rater][code]
        texts = (_text(line.get(title)) for title in (sheets.QUESTION, sheets.REFERENCE, sheets.ANSWER))
        if sheets.fingerprint(*texts) != key.items[item].text:
            checked.faults.append(
                f"{where}: the texts of row {number} are not those given out with its code; a row was moved or changed"
            )
            continue
        _take_score(table.where, columns[sheets.SCORE], number, line.get(sheets.SCORE), key.task, item, checked)
    _check_order(table.where, list(seen), key.codes[checked.rater], checked)


def _code_fault(code: str, owner: str | None, rater: str, seen: dict[str, int], key_name: str) -> str:
    if not code:
        return "the code is missing; put it back, or clear the row if it is your own"
    if owner is None:
        return f"code {code[:40]!r} is not in {key_name}; put the code back as it was"
    if owner != rater:
        return f"code {code!r} is of the sheet of {owner!r}, but this is the sheet of {rater!r}; remove the row"
    if code in seen:
        return f"code {code!r} stands in row {seen[code]} already; remove one of the two rows"
    return ""


def _take_score(
    where: str, column: int, number: int, value: Value, task: str, item: int, checked: CheckedSheet
) -> None:
    cell = _cell(column, number)
    score, found = _score(value)
    if not found:
        checked.blank.append(number)
    elif score in SCALES[task]:
        checked.ratings.append(Rating(item, score, cell))
    else:
        scale = (
            " or ".join(map(str, SCALES[task])) if task == "vqa" else f"a whole number from 0 to {SCALES[task][-1]}"
        )
        checked.faults.append(f"{where}, cell {cell}: {found}; enter {scale}, or leave it blank")


def _score(value: Value) -> tuple[int | None, str]:
    """The whole number of a cell, or None, and what the cell holds in words; no words for a blank cell.

    Programs that read or write CSV, and cells formatted as text, turn 1 into "1" or "1.0": text counts as the number
    if it is that and nothing but blanks besides. TRUE does not: nobody can tell whether it was meant as "right".
    """
    if isinstance(value, Odd):
        return None, f"found {value.kind}, {value.text[:40]!r}"
    if isinstance(value, bool):
        return None, f"found {str(value).upper()}, no number"
    if isinstance(value, int | float):
        return (int(value) if value == value // 1 else None), f"found the number {value}"
    text = (value or "").strip()
    match = _WHOLE.fullmatch(text)
    return (int(match.group(1)) if match else None), f"found the text {text[:40]!r}" if text else ""


def _check_order(where: str, found: list[str], codes: dict[str, int], checked: CheckedSheet) -> None:
    if checked.faults:  # a row that is faulty would be called missing as well
        return
    there = set(found)
    missing = [number for number, code in enumerate(codes, start=1) if code not in there]
    if missing:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        checked.faults.append(
            f"{where}: {len(missing)} of {len(codes)} rows are missing, No. {listed}; put them back, blank if unrated"
        )
    elif found != list(codes):
        first = next(number for number, (a, b) in enumerate(zip(found, codes, strict=True), start=1) if a != b)
        checked.faults.append(
            f"{where}: the rows were moved, the first that differs is row {first + 1}; sort them by {sheets.NUMBER!r}"
        )


def _text(value: Value) -> str:
    if isinstance(value, Odd):
        return value.text
    return "" if value is None else str(value)


def _cell(column: int, row: int) -> str:
    return f"{get_column_letter(column + 1)}{row}"
