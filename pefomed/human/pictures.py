"""Pictures for rating sheets: which may be shown, where they are found, and how small they are made."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pefomed.disclosure import CREDENTIALED_DATASETS
from pefomed.images import open_image

# Data sets whose pictures one may look at but not hand on. Sheets leave the machine, so theirs stay out of them.
NOT_HANDED_ON = {
    **dict.fromkeys(CREDENTIALED_DATASETS, "its use agreement"),
    "path_vqa": "the rights of the books' publishers",
    "clef2022": "the end user agreement of ImageCLEF",
    "medicat": "the terms on which it was given out",
}
LONGEST_SIDE = 320  # pixels
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".jp2", ".dcm")

Row = dict[str, Any]
Pictures = Mapping[str, bytes] | str | Path


def find_pictures(pictures: Pictures, rows: Sequence[Row]) -> list[bytes | Path | None]:
    """The picture of each row that has one and may show it.

    Args:
        pictures: The bytes of a picture file by row id, or a folder. In a folder, a row's picture is the file whose
            name, with or without the folders above it and with or without its suffix, equals the row's `id` or else
            its `group`; a name that several files share counts for none of them.
        rows: Rows of predictions.

    Returns:
        Bytes, path or None for each row.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The folder holds no picture, or a picture is not given as bytes.
    """
    if isinstance(pictures, Mapping):
        for name, data in pictures.items():
            if not isinstance(data, bytes):
                raise ValueError(f"parameter pictures: {name!r} is {type(data).__name__}, not the bytes of a file")
    named = pictures if isinstance(pictures, Mapping) else _folder(Path(pictures))
    return [None if row.get("dataset") in NOT_HANDED_ON else _of(row, named) for row in rows]


def _of(row: Row, named: Mapping[str, bytes | Path | None]) -> bytes | Path | None:
    found = named.get(row["id"])
    return named.get(str(row.get("group") or "")) if found is None else found


def thumbnail(source: bytes | Path, name: str) -> bytes:
    """A small JPEG of a picture, without whatever else its file held (patient's name, camera, place).

    Raises:
        ValueError: The picture is broken; the message names it.
    """
    image = open_image(source, name=name)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def _folder(folder: Path) -> dict[str, Path | None]:
    """Every name by which a picture below the folder may be called; None where several files bear it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give the folder that holds the pictures")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise ValueError(f"{folder}: no picture in it; its files should end in {', '.join(SUFFIXES)}")
    named: dict[str, Path | None] = {}
    for path in files:
        parts = path.relative_to(folder).parts
        for start in range(len(parts)):
            whole = "/".join(parts[start:])
            for name in (whole, whole[: -len(path.suffix)]):
                named[name] = None if name in named else path
    return named
