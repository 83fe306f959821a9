"""What the caption data sets on disk have in common: lines and tables read a row at a time, and captions checked.

Nothing here holds a whole file: a row is read, checked, handed on and forgotten. Only the ids and where they stand are
kept, because two rows with one id are an error that should name both.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pefomed.data.example import Example
from pefomed.data.found import LeftOut, PictureFolder

_PART_OF_A_PATH = re.compile(r"[/\\\0]")


class CaptionRow(NamedTuple):
    """One picture and its caption, as the file has them.

    Attributes:
        line: where the row begins, counted from 1.
        id: unique within the data set.
        caption: as in the file; blanks around it do not matter.
        picture: name of the picture's file, without a folder.
        group: what must not straddle splits; "" for the picture itself.
    """

    line: int
    id: str
    caption: str
    picture: str
    group: str = ""


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields each line with its number from 1, line end included; a byte order mark is dropped.

    Only line feeds end a line: captions hold the other characters that Python's text files take for line ends.

    Raises:
        ValueError: a line is not UTF-8.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                found = f"byte 0x{raw[error.start]:02x}"
                raise ValueError(f"{path}, line {number}: not UTF-8 ({found}); save the file as UTF-8") from error


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a comma-separated file with a header: the line a row begins in, and its named columns.

    Quotes, commas and line breaks within quoted fields are kept; blank lines hold no row.

    Args:
        path: the file.
        columns: the wanted columns, in the order in which to return them; capitals do not matter.

    Raises:
        ValueError: the file is empty or not UTF-8, a column is missing, a row has more or fewer fields than the
            header, or a quoted field does not end.
    """
    # strict: a field whose quote never closes would otherwise swallow the rest of the file as one caption
    reader = csv.reader((line for _, line in read_lines(path)), strict=True)
    begins, places, width = 1, None, 0
    try:
        for fields in reader:
            line, begins = begins, reader.line_num + 1
            if not fields:
                continue
            if places is None:
                places, width = _places(path, fields, columns), len(fields)
            elif len(fields) != width:
                raise ValueError(f"{path}, line {line}: {len(fields)} fields, the header has {width}; quote commas")
            else:
                yield line, [fields[place] for place in places]
    except csv.Error as error:
        raise ValueError(f"{path}, line {begins}: not a row of comma-separated fields ({error})") from error
    if places is None:
        raise ValueError(f"{path}: is empty; expected the columns {', '.join(columns)}")


def _places(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Returns where in the header each wanted column stands."""
    names = [name.strip().lower() for name in header]
    missing = [column for column in columns if column.lower() not in names]
    if missing:
        raise ValueError(
            f"{path}, line 1: no column {missing[0]!r} in the header {','.join(header)!r:.80}; expected the "
            f"comma-separated columns {', '.join(columns)}"
        )
    return [names.index(column.lower()) for column in columns]


def caption_items(
    rows: Iterable[CaptionRow], path: Path, pictures: PictureFolder, data_dir: Path, *, dataset: str, split: str
) -> Iterator[Example | LeftOut]:
    """Turns a file's rows into examples of the task "caption", or into what must be left out.

    Args:
        rows: the file's rows.
        path: the file, for messages.
        pictures: the folder of the pictures.
        data_dir: the data set's folder, which holds the pictures' folder.
        dataset: the data set's name.
        split: "train", "val" or "test".

    Raises:
        ValueError: a row has no id, an id occurs twice, or a picture's name leads out of its folder.
    """
    folder = pictures.folder.relative_to(data_dir).as_posix()
    lines: dict[str, int] = {}
    for row in rows:
        if not row.id:
            raise ValueError(f"{path}, line {row.line}: the id is empty")
        if row.id in lines:
            raise ValueError(f"{path}, line {row.line}: id {row.id!r} already stands in line {lines[row.id]}")
        lines[row.id] = row.line
        if not is_plain_name(row.picture):
            raise ValueError(
                f"{path}, line {row.line}: picture {row.picture!r:.120} is not the name of a file inside {folder}"
            )
        caption = row.caption.strip()
        problem = pictures.problem(row.picture) if caption else "no caption"
        if problem:
            yield LeftOut(row.id, problem, f"{folder}/{row.picture}")
        else:
            yield Example(
                id=row.id,
                dataset=dataset,
                split=split,
                task="caption",
                image=pictures.image(row.picture),
                answer=caption,
                group=row.group or row.id,
            )


def is_plain_name(name: str) -> bool:
    """Whether a name is a file's alone: nothing of a path that could lead elsewhere."""
    return bool(name) and name not in (".", "..") and not _PART_OF_A_PATH.search(name)
