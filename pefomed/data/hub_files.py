"""Rows of a data set that was downloaded from the Hugging Face Hub: parquet files or a folder of `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROWS_AT_ONCE = 256  # with their pictures as Python bytes; a whole split of PathVQA would take several GB


def read_split(folder: Path, split: str, columns: tuple[str, ...] = ("image", "question", "answer")) -> Iterator[dict]:
    """Yields the undecoded rows of one split; an image is a mapping `{"bytes", "path"}`.

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
    count = 0
    for source in files or [saved]:
        try:
            if source.is_file():
                opened = pyarrow.parquet.ParquetFile(source)
                names = opened.schema_arrow.names
            else:
                opened = datasets.load_from_disk(str(source)).with_format("arrow")
                names = opened.column_names
            lacking = [name for name in columns if name not in names]
            if not lacking:
                if source.is_file():
                    batches = opened.iter_batches(ROWS_AT_ONCE, columns=list(columns))
                else:
                    batches = opened.select_columns(list(columns)).iter(ROWS_AT_ONCE)
                for batch in batches:
                    count += batch.num_rows
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source}: unreadable ({' '.join(str(error).split())})") from error
        if lacking:
            raise ValueError(f"{source}: lacks the column {lacking[0]!r}")
    if not count:
        raise ValueError(f"{folder}: the {split} split holds no rows")
