"""Data sets as rows of one schema (`pefomed.data.example`): `load_dataset(name, data_dir, split)`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pefomed.data.options import DRAWN, TASKS

if TYPE_CHECKING:
    import datasets

    from pefomed.data.found import Found

DATASETS = tuple(TASKS)


def load_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", **options: Any
) -> datasets.Dataset:
    """Loads one split of a data set as a `datasets.Dataset` with the columns of `pefomed.data.example.Example`.

    Args:
        name: One of `DATASETS`; `pefomed data list` says what each is and where it is to be had.
        data_dir: The folder of a data set on disk; "phantoms" and "shapes" are drawn and have none.
        split: "train", "val" or "test".
        **options: Whatever else the data set's own loader takes; see `pefomed/data/NAME.py`.

    Raises:
        ValueError: An unknown name, split or option, or a data set that is malformed or needs a folder.
        FileNotFoundError: The folder or a file in it is missing.
    """
    return read_dataset(name, data_dir, split, **options).rows


def read_dataset(name: str, data_dir: str | Path | None = None, split: str = "train", **options: Any) -> Found:
    """As `load_dataset`, with what was left out and which of the data set's forms was found."""
    from pefomed.data.found import Found

    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(DATASETS)}")
    if name in DRAWN and data_dir:
        raise ValueError(f"data set {name!r} is drawn, not read: it takes no data_dir, found {str(data_dir)!r}")
    if name not in DRAWN and not data_dir:
        raise ValueError(f"data set {name!r} lies on disk: pass data_dir, the folder that holds it")
    places = (split,) if name in DRAWN else (data_dir, split)
    module = importlib.import_module(f"pefomed.data.{name}")
    read = getattr(module, f"load_{name}", None) or getattr(module, f"read_{name}")
    taken = list(inspect.signature(read).parameters)[len(places) :]
    unknown = sorted(set(options) - set(taken))
    if unknown:
        raise ValueError(f"data set {name!r} has no option {unknown[0]!r}; its options are {', '.join(taken)}")
    found = read(*places, **options)
    return found if isinstance(found, Found) else Found(found, "drawn" if name in DRAWN else "", len(found))
