"""Predictions to rating sheets: one xlsx a rater, in an order of the rater's own, blind to the model.

summary = export_sheets("run/predictions.jsonl", "vqa", "sheets", raters=10)
print(summary)
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pefomed import files
from pefomed.disclosure import refuse_credentialed
from pefomed.human import sheets
from pefomed.human.chosen_rows import ChosenRows, Selection, choose_rows
from pefomed.human.pictures import NOT_HANDED_ON, Pictures, find_pictures, thumbnail
from pefomed.human.sheets import CellText, Item, SheetKey
from pefomed.human.workbook import SheetRow, build_workbook

PAPER_RATERS = 10
LONGEST_NAME = 60
MOST_RATERS = 1000


@dataclass(frozen=True)
class ExportSummary:
    """What was written.

    Attributes:
        sheets: One path a rater, in the order of the raters.
        key: The key file.
        rows: Rows of each sheet.
        accepted: Predictions left out because exact match accepts them.
        not_sampled: Predictions left out by sampling.
        cut: Texts longer than a cell can hold, cut at the end.
        replaced: Characters that no xlsx file can hold, replaced by U+FFFD.
        pictures: Rows with a picture, or None where none were given.
        withheld: Rows whose picture was left out because its data set's terms forbid handing it on.
        kept: Sheets that an export that was stopped had written already, left as they were.
    """

    sheets: tuple[Path, ...]
    key: Path
    rows: int
    accepted: int
    not_sampled: int
    cut: int
    replaced: int
    pictures: int | None
    withheld: int
    kept: int

    def __str__(self) -> str:
        lines = [f"{len(self.sheets)} sheets of {self.rows:,} rows: {self.sheets[0].parent}"]
        if self.kept:
            lines.append(f"left as they were: {self.kept} sheets of the same export")
        if self.accepted:
            lines.append(f"left out: {self.accepted:,} predictions that exact match accepts")
        if self.not_sampled:
            lines.append(f"left out: {self.not_sampled:,} predictions not in the sample")
        if self.cut:
            lines.append(f"cut: {self.cut:,} texts longer than the {sheets.CELL_LIMIT:,} characters of a cell")
        if self.replaced:
            lines.append(f"replaced: {self.replaced:,} characters that a spreadsheet cannot hold")
        if self.pictures is not None:
            lines.append(f"pictures: {self.pictures:,} of {self.rows:,} rows")
        if self.withheld:
            lines.append(f"pictures withheld: {self.withheld:,} rows of data sets that may not be handed on")
        return "\n".join([*lines, f"key (not for raters): {self.key}"])


def export_sheets(
    predictions: str | Path | Sequence[str | Path],
    task: str,
    out_dir: str | Path,
    raters: int | Sequence[str] = PAPER_RATERS,
    selection: Selection | None = None,
    *,
    pictures: Pictures | None = None,
    agreement: str = "",
    key: str | Path = "",
    overwrite: bool = False,
    progress: bool = False,
) -> ExportSummary:
    """Write a rating sheet for each rater, and the key that says what its codes stand for.

    The sheets hold question, reference and answer under opaque codes: no id, model, condition or score. The same
    arguments give the same bytes.

    Args:
        predictions: A predictions.jsonl, or several (of several models), which are mixed in every sheet.
        task: `vqa` (scores 0 and 1) or `report` (0 to 4).
        out_dir: Gets `ratings_NAME.xlsx` for each rater.
        raters: How many ("rater 1", ...), or their names.
        selection: Which predictions; as in the paper where nothing is said.
        pictures: Picture bytes by row id, or a folder (see `find_pictures`).
        agreement: Name of the use agreement, where rows are of a credentialed data set and it allows this. Pictures
            of such a data set stay out of the sheets even then.
        key: Where the key goes; `key.json` beside `out_dir` where nothing is said.
        overwrite: Replace sheets and key that exist.
        progress: Name each sheet on stderr once it is written.

    Raises:
        FileNotFoundError: A file or the folder of pictures does not exist.
        ValueError: A parameter, a file or a picture is wrong, no row is left, rows are credentialed, or a sheet or
            the key exists. Only what a stopped export has left is taken up again: an equal key with some of its
            sheets missing.
    """
    names = _rater_names(raters)
    selection = selection or Selection()
    folder = Path(out_dir)
    key_path = _key_path(folder, key)
    chosen = choose_rows(predictions, task, selection)
    refuse_credentialed((row for _, row in chosen.rows), "write rating sheets", agreement)
    texts = [
        (_shown(row.get("question")), _answer(row["answer"]), _answer(row["prediction"])) for _, row in chosen.rows
    ]
    new = _new_key(task, selection, chosen, texts, names)
    paths = {name: folder / f"ratings_{_slug(name)}.xlsx" for name in names}
    todo = _to_write(paths, key_path, new, overwrite)
    images = _images(pictures, chosen)
    files.write_json(key_path, sheets.as_values(new))
    for name in todo:
        rows = [
            SheetRow(code, *(part.text for part in texts[index]), images[index])
            for code, index in new.codes[name].items()
        ]
        files.write_bytes(paths[name], build_workbook(name, task, rows))
        if progress:
            print(f"written: {paths[name]}", file=sys.stderr)
    every = [part for row in texts for part in row]
    return ExportSummary(
        sheets=tuple(paths.values()),
        key=key_path,
        rows=len(texts),
        accepted=chosen.accepted,
        not_sampled=chosen.not_sampled,
        cut=sum(part.cut for part in every),
        replaced=sum(part.replaced for part in every),
        pictures=None if pictures is None else sum(image is not None for image in images),
        withheld=0 if pictures is None else sum(row.get("dataset") in NOT_HANDED_ON for _, row in chosen.rows),
        kept=len(paths) - len(todo),
    )


def _rater_names(raters: int | Sequence[str]) -> list[str]:
    if isinstance(raters, int) and not isinstance(raters, bool):
        if not 1 <= raters <= MOST_RATERS:
            raise ValueError(f"parameter raters must be from 1 to {MOST_RATERS:,}, not {raters}")
        return [f"rater {number}" for number in range(1, raters + 1)]
    if isinstance(raters, str | bool) or not raters or len(raters) > MOST_RATERS:
        raise ValueError(f"parameter raters must be a number or a list of 1 to {MOST_RATERS:,} names, not {raters!r}")
    names: list[str] = []
    for name in raters:
        if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(
                f"parameter raters: {name!r} is no name; a name has 1 to {LONGEST_NAME} printable characters"
            )
        names.append(name.strip())
    slugs = [_slug(name) for name in names]
    for number, slug in enumerate(slugs):
        if slug in slugs[:number]:
            other = names[slugs.index(slug)]
            raise ValueError(
                f"parameter raters: {names[number]!r} and {other!r} would share one file; tell them apart"
            )
    return names


def _slug(name: str) -> str:
    # Lower case, for file systems that take "Jane" and "jane" for one file.
    return re.sub(r"[^\w.-]+", "_", name.lower())


def _key_path(folder: Path, key: str | Path) -> Path:
    inside = folder.resolve()
    path = Path(key) if key else (folder if folder.name not in ("", "..") else inside).with_name("key.json")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"parameter out_dir: {folder} is a file; name a folder")
    if path.is_dir():
        raise ValueError(f"parameter key: {path} is a folder; name a file")
    if path.resolve().is_relative_to(inside):
        raise ValueError(f"parameter key: {path} lies in the folder of the sheets; keep it apart from what raters get")
    return path


def _shown(question: object) -> CellText:
    return sheets.cell_text(question if isinstance(question, str) else "")


def _answer(text: str) -> CellText:
    return sheets.cell_text(text if text.strip() else sheets.EMPTY)


def _new_key(
    task: str, selection: Selection, chosen: ChosenRows, texts: list[tuple[CellText, ...]], names: list[str]
) -> SheetKey:
    items = tuple(
        Item(number, row["id"], sheets.fingerprint(*(part.text for part in shown)))
        for (number, row), shown in zip(chosen.rows, texts, strict=True)
    )
    codes = {name: {} for name in names}
    for name in names:
        order = list(range(len(items)))
        random.Random(f"order {selection.seed} {name}").shuffle(order)
        codes[name] = {_code(chosen, items[index], name): index for index in order}
    settings = asdict(selection) | {"rejected_only": selection.rejected_only and task == "vqa"}
    return SheetKey(task, settings, chosen.files, items, codes)


def _code(chosen: ChosenRows, item: Item, rater: str) -> str:
    """12 letters and digits; the first is a letter, lest a program take a code for a number such as 12E4."""
    told = "\x1f".join((chosen.files[item.predictions].sha256, item.id, rater))
    digest = hashlib.sha256(told.encode("utf-8", errors="surrogatepass")).digest()
    return "k" + base64.b32encode(digest).decode("ascii").lower()[:11]


def _to_write(paths: dict[str, Path], key: Path, new: SheetKey, overwrite: bool) -> list[str]:
    """The raters whose sheets are to be written: all, or those that a stopped export has not come to."""
    folder = next(iter(paths.values())).parent
    there = sorted(path for path in folder.glob("ratings_*") if path.suffix.lower() in (".xlsx", ".csv"))
    if overwrite or not (there or key.exists()):
        return list(paths)
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing and set(there) <= set(paths.values()) and key.is_file() and _equals(key, new):
        return missing
    if there:
        listed = ", ".join(path.name for path in there[:5]) + (f" and {len(there) - 5} more" * (len(there) > 5))
        raise ValueError(
            f"{folder}: holds {listed}, in which a rater may have written; name another folder, or overwrite them"
        )
    raise ValueError(f"{key}: is the key of other sheets; name another key file, or overwrite it")


def _equals(path: Path, new: SheetKey) -> bool:
    try:
        return sheets.read_key(path) == new
    except ValueError:  # something else of that name
        return False


def _images(pictures: Pictures | None, chosen: ChosenRows) -> list[bytes | None]:
    if pictures is None:
        return [None] * len(chosen.rows)
    rows = [row for _, row in chosen.rows]
    small: dict[bytes | Path, bytes] = {}  # many questions share one picture
    images: list[bytes | None] = []
    for row, source in zip(rows, find_pictures(pictures, rows), strict=True):
        if source is not None and source not in small:
            small[source] = thumbnail(
                source, f"picture of {row['id']!r}" if isinstance(source, bytes) else str(source)
            )
        images.append(None if source is None else small[source])
    return images
