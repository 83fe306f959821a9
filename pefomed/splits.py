"""The data set of a run: three splits, cut to a limit, fingerprinted, described, every picture seen to be whole."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pefomed.procedure import Procedure
from pefomed.settings import RunSettings

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "val", "test")
# VQA-RAD has no validation split; a run needs one to choose its best epoch without looking at the test split.
RUN_VAL_FRACTION = 0.1


class Splits(NamedTuple):
    """A data set as a run uses it.

    Attributes:
        train, val, test: rows of the schema; `val` is None where the training rows are not to be parted.
        fingerprint: changes with the rows, their pictures, and with which split a row is in.
        description: the same in words, without paths of the machine.
    """

    train: datasets.Dataset
    val: datasets.Dataset | None
    test: datasets.Dataset
    fingerprint: str
    description: str


def load_splits(settings: RunSettings) -> Splits:
    """The data set of a run, each split cut to the settings' limit.

    Raises:
        ValueError: the data set is malformed, or a split is empty.
        FileNotFoundError: a file is missing.
    """
    from pefomed.data import load_dataset
    from pefomed.data.fingerprint import fingerprint

    options = loader_options(settings)
    wanted = [split for split in SPLITS if split != "val" or options.get("val_fraction") != 0]
    found: dict[str, datasets.Dataset] = {}
    for split in wanted:
        rows = load_dataset(settings.dataset, settings.data_dir or None, split, **options)
        if not len(rows):
            raise ValueError(f"{settings.dataset}: the {split} split holds no rows")
        found[split] = limit_rows(rows, settings.limit)
    prints = {split: fingerprint(rows) for split, rows in found.items()}
    whole = hashlib.sha256("".join(f"{split} {value}\n" for split, value in prints.items()).encode()).hexdigest()
    return Splits(found["train"], found.get("val"), found["test"], whole, _description(settings, found))


def loader_options(settings: RunSettings) -> dict:
    """The loader's options, with a tenth of VQA-RAD's training pictures set apart where nothing else is asked for."""
    parted = {"val_fraction": RUN_VAL_FRACTION} if settings.dataset == "vqa_rad" else {}
    return {**parted, **settings.dataset_options}


def limit_rows(rows: datasets.Dataset, limit: int) -> datasets.Dataset:
    """The first `limit` rows, a picture's questions together before the next picture's; 0 for all.

    The rows stay in their order, so that a limit past the end changes nothing.
    """
    if limit == 0 or limit >= len(rows):
        return rows
    of_group: dict[str, list[int]] = {}
    for index, group in enumerate(rows["group"]):
        of_group.setdefault(group, []).append(index)
    together = [index for indices in of_group.values() for index in indices]
    return rows.select(sorted(together[:limit]))


def _description(settings: RunSettings, found: Mapping[str, datasets.Dataset]) -> str:
    counts = "; ".join(
        f"{split} {len(rows):,} rows about {len(set(rows['group'])):,} pictures" for split, rows in found.items()
    )
    used = f"Used here: {counts}" + (f" (limit {settings.limit:,} rows a split)." if settings.limit else ".")
    if settings.dataset != "vqa_rad":
        return f"Phantoms, drawn by the package. {used}"
    from pefomed.data.vqa_rad import describe_vqa_rad

    described = describe_vqa_rad(settings.data_dir, **loader_options(settings))
    return f"{dataclasses.replace(described, data_dir=Path(settings.data_dir).resolve().name)} {used}"


def check_pictures(rows: datasets.Dataset, procedure: Procedure) -> int:
    """Decodes every picture once, so that a damaged one is told before hours of training and not after.

    Returns:
        The number of different pictures.

    Raises:
        ValueError: a picture is damaged, empty or too large; the message names its file or row.
        FileNotFoundError: a picture is missing.
    """
    from pefomed.images import open_image

    seen: set[bytes | str] = set()
    for name, image in zip(rows["id"], rows["image"], strict=True):
        key = hashlib.sha256(image["bytes"]).digest() if image["bytes"] else image["path"]
        if key in seen:
            continue
        seen.add(key)
        open_image(
            image["bytes"] if image["bytes"] else image["path"],
            name=image["path"] or f"picture of row {name}",
            window_16bit=procedure.window_16bit,
            drop_alpha=procedure.drop_alpha,
            apply_exif=procedure.apply_exif,
        )
    return len(seen)
