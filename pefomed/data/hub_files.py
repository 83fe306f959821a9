"""Rows of a data set that was downloaded from the Hugging Face Hub: parquet files or a folder of `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_split(folder: Path, split: str, columns: tuple[str, ...] = ("image", "question", "answer")) -> list[dict]:
    """Returns the undecoded rows of one split; an image is a mapping `{"bytes", "path"}`.

    Args:
        folder: The folder that holds `split*.parquet`, `data/split*.parquet` or a folder written by `save_to_disk`.
        split: Name of the split, with which the files' names start.
        columns: The columns to return.

    Raises:
        FileNotFoundError: Nothing there belongs to the split.
        ValueError: A file is damaged, lacks a column or the split holds no rows.
    """
    import datasets
    import pyarrow
    import pyarrow.parquet

    files = sorted(path for place in (folder, folder / "data") for path in place.glob(f"{split}*.parquet"))
    saved = folder / split
    if not files and not saved.is_dir():
        raise FileNotFoundError(f"{folder}: no {split}*.parquet and no folder {split!r} written by save_to_disk")
    rows: list[dict[str, Any]] = []
    for source in files or [saved]:
        try:
            if source.is_file():
                table = pyarrow.parquet.read_table(source)
            else:
                table = datasets.load_from_disk(str(source)).with_format("arrow")[:]
        except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source}: unreadable ({' '.join(str(error).split())})") from error
        lacking = [name for name in columns if name not in table.column_names]
        if lacking:
            raise ValueError(f"{source}: lacks the column {lacking[0]!r}")
        rows += table.select(list(columns)).to_pylist()
    if not rows:
        raise ValueError(f"{folder}: the {split} split holds no rows")
    return rows
