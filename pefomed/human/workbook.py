"""One rater's workbook: instructions, and a sheet whose only open cells are the scores."""

from __future__ import annotations

import datetime
import io
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

from openpyxl import Workbook
from openpyxl.cell.cell import Cell
from openpyxl.drawing.image import Image
from openpyxl.styles import Alignment, Font, PatternFill, Protection
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.worksheet import Worksheet

from pefomed.human import sheets
from pefomed.human.rubric import INTRODUCTIONS, RUBRICS, RULES

ROW_LIMIT = 1_048_575  # rows of an xlsx sheet, less the header
_WIDTHS = {sheets.CODE: 17, sheets.NUMBER: 6, sheets.PICTURE: 47, sheets.SCORE: 9}
_TEXT_WIDTHS = {"vqa": 40, "report": 70}
_TALLEST = 409  # points, the format's limit for a row
_LINE, _POINTS_PER_PIXEL = 15, 0.75
_DATE = datetime.datetime(2000, 1, 1)
_TOP = Alignment(wrap_text=True, vertical="top")
_BOLD = Font(bold=True)
_HEADER_FILL, _SCORE_FILL = PatternFill("solid", fgColor="D9E1F2"), PatternFill("solid", fgColor="FFF2CC")


@dataclass(frozen=True)
class SheetRow:
    """One row of a rating sheet; the texts are fit for cells (`sheets.cell_text`), the picture is a JPEG or None."""

    code: str
    question: str
    reference: str
    answer: str
    picture: bytes | None = None


def build_workbook(rater: str, task: str, rows: Sequence[SheetRow]) -> bytes:
    """Lay out one rater's sheet.

    Args:
        rater: Name of the rater, shown on the instructions.
        task: `vqa` or `report`.
        rows: The rows, in the order in which the rater is to see them.

    Returns:
        The bytes of an xlsx file; the same for the same arguments.

    Raises:
        ValueError: There are more rows than a sheet can hold.
    """
    if len(rows) > ROW_LIMIT:
        raise ValueError(f"{len(rows):,} rows are more than the {ROW_LIMIT:,} of a sheet; take a sample")
    workbook = Workbook()
    _instructions(workbook.active, rater, task)
    _ratings(workbook.create_sheet(sheets.RATINGS_SHEET), task, rows)
    workbook.properties.creator = "pefomed"
    workbook.properties.created = _DATE
    out = io.BytesIO()
    workbook.save(out)
    return _without_times(out.getvalue())


def _instructions(sheet: Worksheet, rater: str, task: str) -> None:
    sheet.title = sheets.INSTRUCTIONS_SHEET
    lines: list[tuple[str, str, str]] = [("Rater", rater, ""), ("", INTRODUCTIONS[task], "")]
    lines += [(f"{number}.", rule, "") for number, rule in enumerate(RULES, start=1)]
    lines.append(("Score", "What it means", "How to recognise it"))
    lines += [(f"{level.score}  {level.name}", level.meaning, level.applies) for level in RUBRICS[task]]
    for number, line in enumerate(lines, start=1):
        for column, text in enumerate(line, start=1):
            if text:
                cell = _write(sheet, number, column, text)
                cell.font = _BOLD if column == 1 or line[0] == "Score" else Font()
    for letter, width in zip("ABC", (24, 75, 75), strict=True):
        sheet.column_dimensions[letter].width = width
    sheet.protection.sheet = True


def _ratings(sheet: Worksheet, task: str, rows: Sequence[SheetRow]) -> None:
    titles = [sheets.CODE, sheets.NUMBER]
    titles += [sheets.PICTURE] if any(row.picture for row in rows) else []
    titles += [sheets.QUESTION] if any(row.question for row in rows) else []
    titles += [sheets.REFERENCE, sheets.ANSWER, sheets.SCORE]
    column = {title: number for number, title in enumerate(titles, start=1)}
    for title, number in column.items():
        cell = _write(sheet, 1, number, title)
        cell.font, cell.fill = _BOLD, _HEADER_FILL
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTHS.get(title, _TEXT_WIDTHS[task])
    for number, row in enumerate(rows, start=1):
        _row(sheet, column, number, row, _TEXT_WIDTHS[task])
    # Below the header and right of the number, so that both stay in view.
    sheet.freeze_panes = sheet.cell(2, column[sheets.NUMBER] + 1)
    letter = get_column_letter(column[sheets.SCORE])
    validation = _validation(task)
    validation.add(f"{letter}2:{letter}{len(rows) + 1}")
    sheet.add_data_validation(validation)
    # No password: it keeps hands from slipping, it does not lock anybody out.
    sheet.protection.sheet = True
    sheet.protection.formatColumns = sheet.protection.formatRows = False


def _row(sheet: Worksheet, column: dict[str, int], number: int, row: SheetRow, width: int) -> None:
    line = number + 1
    texts = {sheets.CODE: row.code, sheets.QUESTION: row.question}
    texts |= {sheets.REFERENCE: row.reference, sheets.ANSWER: row.answer}
    for title, text in texts.items():
        if title in column and text:
            _write(sheet, line, column[title], text)
    sheet.cell(line, column[sheets.CODE]).font = Font(color="999999", size=8)
    sheet.cell(line, column[sheets.NUMBER], number).alignment = _TOP
    score = sheet.cell(line, column[sheets.SCORE])
    score.fill, score.protection = _SCORE_FILL, Protection(locked=False)
    score.alignment = Alignment(horizontal="center", vertical="top")
    if row.picture:
        picture = Image(io.BytesIO(row.picture))
        sheet.add_image(picture, f"{get_column_letter(column[sheets.PICTURE])}{line}")
        # A row of stated height no longer grows with its text, so the text's own height is estimated.
        lines = max(sum(math.ceil((len(part) + 1) / width) for part in text.split("\n")) for text in texts.values())
        height = max(picture.height * _POINTS_PER_PIXEL + 4, lines * _LINE + 4)
        sheet.row_dimensions[line].height = min(height, _TALLEST)


def _write(sheet: Worksheet, row: int, column: int, text: str) -> Cell:
    """Puts text in a cell as text, whatever it looks like: "=1+1", "#N/A", "007" and "1/2" stay what they are."""
    cell = sheet.cell(row, column)
    cell.value = text
    cell.data_type = "s"
    cell.number_format = "@"
    # Without the prefix, a program would take "=1+1" for a formula as soon as somebody opens the cell to edit it.
    cell.quotePrefix = text[:1] in "=+-@'"
    cell.alignment = _TOP
    return cell


def _validation(task: str) -> DataValidation:
    scale = sheets.SCALES[task]
    wanted = "0 (wrong) or 1 (right)" if task == "vqa" else f"a whole number from {scale[0]} to {scale[-1]}"
    return DataValidation(
        type="list",
        formula1=f'"{",".join(str(score) for score in scale)}"',
        allow_blank=True,
        showErrorMessage=True,
        errorStyle="stop",
        errorTitle="No such score",
        error=f"Enter {wanted}, or leave the cell blank. See the sheet {sheets.INSTRUCTIONS_SHEET}.",
    )


def _without_times(data: bytes) -> bytes:
    """The same archive without the time of its making, so that equal sheets are equal files."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                stamp = f"{_DATE.isoformat()}Z".encode()
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, content)
            entry = zipfile.ZipInfo(name, _DATE.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return out.getvalue()
