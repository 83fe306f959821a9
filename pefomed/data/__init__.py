"""Data sets as rows of one schema (`pefomed.data.example`): `load_dataset(name, data_dir, split)`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

DATASETS = ("vqa_rad", "phantoms")


def load_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", **options: Any
) -> datasets.Dataset:
    """Loads one split of a data set as a `datasets.Dataset` with the columns of `pefomed.data.example.Example`.

    Args:
        name: "vqa_rad" (real, on disk; see `pefomed.data.vqa_rad.load_vqa_rad`) or "phantoms" (drawn by the package;
            see `pefomed.data.phantoms.load_phantoms`).
        data_dir: The folder of a data set on disk; the drawn one has none.
        split: "train", "val" or "test".
        **options: Whatever else the data set's own loader takes.

    Raises:
        ValueError: An unknown name, split or option, or a data set that is malformed or needs a folder.
        FileNotFoundError: The folder or a file in it is missing.
    """
    if name == "vqa_rad":
        from pefomed.data.vqa_rad import load_vqa_rad as load

        if not data_dir:
            raise ValueError("data set 'vqa_rad' lies on disk: pass data_dir, the folder that holds it")
        places = (data_dir, split)
    elif name == "phantoms":
        from pefomed.data.phantoms import load_phantoms as load

        if data_dir:
            raise ValueError(f"data set 'phantoms' is drawn, not read: it takes no data_dir, found {str(data_dir)!r}")
        places = (split,)
    else:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(DATASETS)}")
    taken = list(inspect.signature(load).parameters)[len(places) :]
    unknown = sorted(set(options) - set(taken))
    if unknown:
        raise ValueError(f"data set {name!r} has no option {unknown[0]!r}; its options are {', '.join(taken)}")
    return load(*places, **options)
