"""Rating sheets that came back to ratings.jsonl: all of them are right, or nothing is written.

summary = import_sheets(["sheets/ratings_jane.xlsx", "sheets/ratings_omar.csv"], "key.json", "ratings.jsonl")
print(summary)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pefomed import files
from pefomed.human.sheet_check import CheckedSheet, check_sheet
from pefomed.human.sheets import SheetKey, read_key

FAULTS_SHOWN = 20
BLANKS_SHOWN = 10


class SheetFaults(ValueError):
    """Everything that is wrong with the sheets; `faults` holds all of it, the message the first lines."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.shown()))

    def shown(self) -> list[str]:
        """The first faults, a line each, and how many more there are."""
        more = len(self.faults) - FAULTS_SHOWN
        return [*self.faults[:FAULTS_SHOWN], *([f"and {more} more faults; nothing was written"] if more > 0 else [])]


@dataclass(frozen=True)
class RaterSheet:
    """How far one rater has come: the file (None where none was given), scores given, rows, rows left blank."""

    rater: str
    path: Path | None
    rated: int
    rows: int
    blank: tuple[int, ...]

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.rater}: no sheet given"
        line = f"{self.rater}: {self.rated:,} of {self.rows:,} rated"
        if self.blank:
            shown = ", ".join(map(str, self.blank[:BLANKS_SHOWN])) + (
                ", ..." if len(self.blank) > BLANKS_SHOWN else ""
            )
            line += f"; blank in {self.path.name}: rows {shown}"
        return line


@dataclass(frozen=True)
class ImportSummary:
    """What was read and written.

    Attributes:
        raters: Every rater of the key.
        outputs: Path of the predictions -> ratings file; several where the sheets mixed several models.
        ratings: Scores written.
        changed: Predictions files that are no longer what the sheets were made from.
    """

    raters: tuple[RaterSheet, ...]
    outputs: dict[str, Path]
    ratings: int
    changed: tuple[str, ...]

    def __str__(self) -> str:
        lines = [str(rater) for rater in self.raters]
        lines += [f"beware: {path} has changed since the sheets were made from it" for path in self.changed]
        if len(self.outputs) == 1:
            return "\n".join([*lines, f"ratings: {self.ratings:,} in {next(iter(self.outputs.values()))}"])
        return "\n".join([*lines, *(f"ratings of {path}: {out}" for path, out in self.outputs.items())])


def import_sheets(sheets: Sequence[str | Path], key: str | Path, out: str | Path) -> ImportSummary:
    """Check returned sheets and write their scores.

    Args:
        sheets: xlsx files, or CSV files of their sheet Ratings (UTF-8; commas, semicolons or tabs). Rows may be
            blank; raters may be absent.
        key: The key.json of the export.
        out: Gets ratings.jsonl, {"id", "rater", "score", "sheet", "cell"} a line, in the order of the predictions,
            then of the raters. Sheets that mix several predictions files give a file for each: OUT_1.jsonl,
            OUT_2.jsonl, ..., in the order in which they were exported.

    Raises:
        FileNotFoundError: There is no such key.
        SheetFaults: Anything is wrong with a sheet. All sheets are checked to the end first.
        ValueError: The key or a parameter is wrong, or no sheet holds a score.
    """
    found = read_key(key)
    paths = [Path(path) for path in sheets]
    if not paths:
        raise ValueError("parameter sheets: no sheet given; give at least one that came back")
    outputs = _outputs(Path(out), found, [*paths, Path(key)])
    checked = [check_sheet(path, found, str(key)) for path in paths]
    faults = [fault for sheet in checked for fault in sheet.faults] + _twice(checked)
    if faults:
        raise SheetFaults(faults)
    if not any(sheet.ratings for sheet in checked):
        raise ValueError(f"{paths[0]}: no row of the {len(paths)} sheets has a score; nothing to write")
    of = {sheet.rater: sheet for sheet in checked}
    for number, path in enumerate(outputs.values()):
        files.write_text(path, "".join(_lines(found, of, number)))
    return ImportSummary(
        raters=tuple(_progress(rater, of.get(rater), len(codes)) for rater, codes in found.codes.items()),
        outputs=outputs,
        ratings=sum(len(sheet.ratings) for sheet in checked),
        changed=_changed(found),
    )


def _outputs(out: Path, key: SheetKey, inputs: list[Path]) -> dict[str, Path]:
    if out.is_dir():
        raise ValueError(f"parameter out: {out} is a folder; name a file, such as ratings.jsonl")
    paths = [one.path for one in key.predictions]
    numbered = [out.with_name(f"{out.stem}_{number}{out.suffix}") for number in range(1, len(paths) + 1)]
    outputs = dict(zip(paths, [out] if len(paths) == 1 else numbered, strict=True))
    taken = {path.resolve() for path in [*inputs, *map(Path, paths)]}
    for path in outputs.values():
        if path.resolve() in taken:
            raise ValueError(f"parameter out: {path} is a file that is read; name another")
    return outputs


def _twice(checked: list[CheckedSheet]) -> list[str]:
    faults, first = [], {}
    for sheet in checked:
        if sheet.rater is not None and sheet.rater in first:
            faults.append(
                f"{sheet.path}: the sheet of {sheet.rater!r}, as is {first[sheet.rater]}; give one sheet a rater"
            )
        elif sheet.rater is not None:
            first[sheet.rater] = sheet.path
    return faults


def _lines(key: SheetKey, of: dict[str | None, CheckedSheet], number: int) -> list[str]:
    ratings = sorted(
        (rating.item, place, rating, of[rater].path.name)
        for place, rater in enumerate(key.codes)
        if rater in of
        for rating in of[rater].ratings
    )
    raters = list(key.codes)
    return [
        json.dumps(
            {
                "id": key.items[item].id,
                "rater": raters[place],
                "score": rating.score,
                "sheet": sheet,
                "cell": rating.cell,
            },
            ensure_ascii=False,
        )
        + "\n"
        for item, place, rating, sheet in ratings
        if key.items[item].predictions == number
    ]


def _progress(rater: str, sheet: CheckedSheet | None, rows: int) -> RaterSheet:
    if sheet is None:
        return RaterSheet(rater, None, 0, rows, ())
    return RaterSheet(rater, sheet.path, len(sheet.ratings), rows, tuple(sheet.blank))


def _changed(key: SheetKey) -> tuple[str, ...]:
    there = [one for one in key.predictions if Path(one.path).is_file()]
    return tuple(one.path for one in there if files.sha256_file(one.path) != one.sha256)
