"""What a loader finds in a folder: the rows of a split, and what it had to leave out, counted and bounded.

Every loader of a data set on disk yields `Example`s and `LeftOut`s in the order of its files and hands them to
`gather`, which never holds more than a few thousand rows outside Arrow: a set of 400,000 captions starts in seconds.
Pictures are listed, not opened; whoever reads a row decodes it.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pefomed.data.example import SPLITS, Example, make_dataset

if TYPE_CHECKING:
    import datasets

MAX_LEFT_OUT = 0.01  # share of a split's rows; more than that is a broken copy, not a few broken files


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A row that cannot be used.

    Attributes:
        id: the row's id, or where it stands: "captions.txt, line 12".
        reason: a few words, the same for all rows of its kind: "picture missing", "picture empty", "no caption".
        file: the picture's or text's file, relative to the data set's folder; "" where there is none.
    """

    id: str
    reason: str
    file: str = ""


@dataclasses.dataclass(frozen=True)
class Found:
    """One split of a data set as it lies on disk.

    Attributes:
        rows: the usable rows, of the schema in `pefomed.data.example`.
        variant: which of the data set's forms the folder holds.
        in_files: rows of this split in the files, usable or not.
        left_out: the others.
        published: rows of this split as published in this form, where that is known.
        notes: what a user should know, a sentence each: how answer types were derived, which rows share a picture.
        pictures: folders that hold the pictures, for looking for files that nobody names.
    """

    rows: datasets.Dataset
    variant: str
    in_files: int
    left_out: tuple[LeftOut, ...] = ()
    published: int | None = None
    notes: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many rows were left out for which reason."""
        return Counter(item.reason for item in self.left_out)


def gather(
    name: str,
    split: str,
    items: Iterable[Example | LeftOut],
    *,
    variant: str,
    max_left_out: float = MAX_LEFT_OUT,
    published: int | None = None,
    notes: Iterable[str] = (),
    pictures: Iterable[Path] = (),
) -> Found:
    """Puts the rows of one split together.

    Args:
        name: the data set's, for messages.
        split: "train", "val" or "test".
        items: usable rows and rows to leave out, in the files' order.
        variant: which of the data set's forms was found.
        max_left_out: largest share of rows that may be left out, 0 for none.
        published: rows of this split as published, where known.
        notes: sentences for the user.
        pictures: folders of the pictures.

    Raises:
        ValueError: no usable row, a row outside the schema, a repeated id, or too many rows to leave out.
    """
    left_out: list[LeftOut] = []

    def usable() -> Iterator[Example]:
        for item in items:
            if isinstance(item, LeftOut):
                left_out.append(item)
            else:
                yield item

    rows = None
    try:
        rows = make_dataset(usable())
    except ValueError as error:
        if not str(error).startswith("no rows"):
            raise ValueError(f"{name}, {split}: {error}") from error
    total = len(left_out) + (len(rows) if rows is not None else 0)
    if rows is None or len(left_out) > max_left_out * total:
        reasons = ", ".join(f"{n:,} {why}" for why, n in Counter(item.reason for item in left_out).items())
        first = f"; first {left_out[0].id} {left_out[0].file}".rstrip() if left_out else ""
        raise ValueError(
            f"{name}, {split}: {len(left_out):,} of {total:,} rows cannot be used ({reasons or 'there are none'}"
            f"{first}); put the files right, or allow a larger share with max_left_out (now {max_left_out:g})"
        )
    return Found(rows, variant, total, tuple(left_out), published, tuple(notes), tuple(pictures))


def check_split(name: str, split: str, known: Iterable[str] = SPLITS) -> None:
    """Raises a ValueError that names the splits that there are, where `split` is not one of them."""
    known = tuple(known)
    if split not in known:
        raise ValueError(f"{name}: unknown split {split!r}; choose one of {', '.join(known)}")


def check_folder(name: str, data_dir: str | Path) -> Path:
    """Returns the folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is a file.
    """
    folder = Path(data_dir)
    if not folder.exists():
        raise FileNotFoundError(f"{name}: data_dir {folder} does not exist; name the folder that holds the data set")
    if not folder.is_dir():
        raise ValueError(f"{name}: data_dir {folder} is a file; name the folder that holds the data set")
    return folder


class PictureFolder:
    """The names of a folder's files, read once: asking the file system for 400,000 pictures would take minutes.

    Args:
        folder: a folder of pictures; it need not exist, every picture is missing then.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.sizes: dict[str, int] = {}
        if self.folder.is_dir():
            with os.scandir(self.folder) as entries:
                self.sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def problem(self, file_name: str) -> str | None:
        """None for a usable picture, else why it is not: "picture missing" or "picture empty".

        A name with a folder in it, such as "../secret.png", is never a file of this folder, so always missing.
        """
        size = self.sizes.get(file_name)
        return None if size else "picture missing" if size is None else "picture empty"

    def image(self, file_name: str) -> dict:
        """The image column of a picture in this folder."""
        return {"bytes": None, "path": os.path.join(self.folder, file_name)}
