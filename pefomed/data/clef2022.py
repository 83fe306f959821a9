"""ImageCLEFmedical Caption 2022: radiology pictures of open-access articles with their captions, for stage 1.

Rückert et al. 2022, https://ceur-ws.org/Vol-3180/paper-95.pdf. The files are called .csv and are separated by tabs:
read with commas, every caption would end at its first comma. The test captions of the challenge were never published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pefomed.data.caption_files import CaptionRow, caption_items, read_lines
from pefomed.data.found import MAX_LEFT_OUT, Found, PictureFolder, check_folder, check_split, gather

NAME = "clef2022"
FOLDERS = {"train": "train", "val": "valid"}
PUBLISHED_ROWS = {"train": 83275, "val": 7645}
FILE_NAME = "ImageCLEFmedCaption_2022_caption_prediction_{}.csv"
NOTES = ("The pictures come from the extended ROCO set: pictures of ROCO's test split may be among them.",)

_QUOTED = re.compile(r'"(?:[^"]|"")*"')  # a whole field in quotes, those within doubled


def read_clef2022(data_dir: str | Path, split: str = "train", *, max_left_out: float = MAX_LEFT_OUT) -> Found:
    """Reads one split of ImageCLEFmedical Caption 2022.

    Args:
        data_dir: the folder with ImageCLEFmedCaption_2022_caption_prediction_train.csv and ..._valid.csv (downloads
            may put a code before the name) and the folders train and valid of pictures.
        split: "train" or "val"; there are no captions for "test".
        max_left_out: largest share of rows without a usable picture or caption.

    Returns:
        Rows of the task "caption"; id and group are the picture's name without ".jpg".

    Raises:
        FileNotFoundError: the folder or the split's file is missing.
        ValueError: the split "test", a file separated by commas, a malformed row, an id that occurs twice, or too many
            rows that cannot be used; the message names file and line.
    """
    if split == "test":
        raise ValueError(f"{NAME}: the captions of its test pictures were never published; choose train or val")
    check_split(NAME, split, FOLDERS)
    folder = check_folder(NAME, data_dir)
    path = _captions_file(folder, FOLDERS[split])
    pictures = folder / FOLDERS[split]
    return gather(
        NAME,
        split,
        caption_items(_rows(path), path, PictureFolder(pictures), folder, dataset=NAME, split=split),
        variant="official",
        max_left_out=max_left_out,
        published=PUBLISHED_ROWS[split],
        notes=NOTES,
        pictures=[pictures],
    )


def _captions_file(folder: Path, part: str) -> Path:
    """Returns the file of a split, whatever code its download put before the name."""
    name = FILE_NAME.format(part)
    found = sorted(folder.glob(f"*{name}"))
    if len(found) > 1:
        raise ValueError(f"{folder}: holds {' and '.join(path.name for path in found)}; keep one of them")
    if not found:
        raise FileNotFoundError(f"{folder / name}: no such file; {NAME} comes from https://www.imageclef.org/2022")
    return found[0]


def _rows(path: Path) -> Iterator[CaptionRow]:
    """Yields id, tab and caption of each line; a caption that opens with a quote may go on over several lines."""
    lines = read_lines(path)
    _check_header(path, next(lines, (1, ""))[1])
    row: CaptionRow | None = None
    for number, line in lines:
        line = line.rstrip("\r\n")
        if row and _goes_on(row.caption, line):
            row = row._replace(caption=f"{row.caption}\n{line}")
        elif line.strip():
            if row:
                yield _unquoted(row)
            row = _row(path, number, line)
    if row is None:
        raise ValueError(f"{path}: holds no rows below the header")
    yield _unquoted(row)


def _check_header(path: Path, header: str) -> None:
    names = [name.strip().strip('"').lower() for name in header.split("\t")]
    if names == ["id", "caption"]:
        return
    if re.split(r"[,;]", header.strip().lower())[:2] == ["id", "caption"]:
        raise ValueError(
            f"{path}, line 1: the columns are separated by {header.strip()[2]!r}, not by tabs; captions hold "
            f"commas, so a rewritten copy may have cut them: use the file as it was distributed"
        )
    raise ValueError(f"{path}, line 1: expected the header ID, tab, caption, found {header.strip()!r:.60}")


def _row(path: Path, number: int, line: str) -> CaptionRow:
    fields = line.split("\t")
    if len(fields) != 2:
        raise ValueError(f"{path}, line {number}: {len(fields)} columns, expected ID, tab, caption: {line!r:.60}")
    name = fields[0].strip().strip('"')
    return CaptionRow(number, name, fields[1].strip(), f"{name}.jpg")


def _goes_on(caption: str, line: str) -> bool:
    """Whether a line without a tab belongs to the caption before it, whose opening quote is not closed yet."""
    return caption.startswith('"') and caption.count('"') % 2 == 1 and "\t" not in line


def _unquoted(row: CaptionRow) -> CaptionRow:
    """Takes the quotes of a quoted field off; a caption that merely begins with a quoted word keeps its quotes."""
    if row.caption.startswith('"') and _QUOTED.fullmatch(row.caption):
        return row._replace(caption=row.caption[1:-1].replace('""', '"'))
    return row
