"""All splits of a data set with what its loader left out, whichever loader it is.

Most loaders tell it themselves (`pefomed/data/found.py`); what VQA-RAD's tells in another way is told alike here.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pefomed.data import read_dataset
from pefomed.data.catalogue import DataSet
from pefomed.data.found import Found
from pefomed.data.options import DRAWN, OPTIONS


def read_options(name: str, changes: Iterable[str]) -> dict[str, Any]:
    """Reads options of a data set's loader as a command line gives them, `KEY=VALUE` with a YAML value.

    Raises:
        ValueError: one is written otherwise, of another type, given twice, or given by another parameter.
    """
    from pefomed.settings import parse_yaml, typed

    options: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ValueError(f"--option {change}: expected KEY=VALUE, as in language=zh")
        if key in options or key in ("data_dir", "split", "max_left_out"):
            raise ValueError(f"--option {change}: {key} is given twice or by a parameter of its own")
        wanted = OPTIONS.get(name, {}).get(key)  # None for what the loader knows better, or not at all
        value = text if wanted is str else parse_yaml(text, f"--option {change}")  # file=2019 stays a text
        options[key] = value if wanted is None else typed(f"--option {key}", value, wanted)
    return options


def read_splits(
    entry: DataSet, data_dir: str | Path, options: Mapping[str, Any], max_left_out: float
) -> tuple[dict[str, Found], dict[str, str]]:
    """Reads every split that the data set has with these options; those whose files are missing are told apart."""
    found: dict[str, Found] = {}
    absent: dict[str, str] = {}
    first_error: FileNotFoundError | None = None
    for split in entry.splits:
        share = f"{split}_fraction"  # such a split exists only where a share of the others is set apart for it
        if share in OPTIONS[entry.name] and not options.get(share):
            continue
        try:
            found[split] = _read_split(entry.name, data_dir, split, options, max_left_out)
        except FileNotFoundError as error:
            first_error = first_error or error
            absent[split] = str(error)
    if not found and first_error is not None:
        raise first_error
    return found, absent


def _read_split(name: str, data_dir: str | Path, split: str, options: Mapping[str, Any], max_left_out: float) -> Found:
    if name == "vqa_rad":
        return _read_vqa_rad(data_dir, split, options, max_left_out)
    bound = {} if name in DRAWN else {"max_left_out": max_left_out}
    return read_dataset(name, data_dir or None, split, **bound, **options)


# VQA-RAD, whose loader has other ways of telling what it found


def _read_vqa_rad(data_dir: str | Path, split: str, options: Mapping[str, Any], max_left_out: float) -> Found:
    """One split of VQA-RAD with what its loader leaves out told as other loaders tell it."""
    from pefomed.data.example import Example
    from pefomed.data.found import LeftOut, gather
    from pefomed.data.vqa_rad import PUBLISHED_ROWS, find_image_folder
    from pefomed.data.vqa_rad_files import read_vqa_rad

    options = {"drop_leaked": False, **options, "missing_images": "drop"}
    rows = read_dataset("vqa_rad", data_dir or None, split, **options).rows
    files = read_vqa_rad(data_dir, options.get("variant"))
    left_out: list[LeftOut] = []
    pictures: tuple[Path, ...] = ()
    if files.variant != "hf":
        folder = find_image_folder(data_dir, [str(row.image) for row in files.rows], options.get("image_dir"))
        there = {row.image: (folder / str(row.image)).is_file() for row in files.rows}
        left_out = [
            LeftOut(row.id, "picture missing", str(row.image))
            for row in files.rows
            if row.split == split and not there[row.image]
        ]
        pictures = (folder,)
    train, test = PUBLISHED_ROWS[files.variant]
    parted = options.get("val_fraction") or options["drop_leaked"]
    return gather(
        "vqa_rad",
        split,
        itertools.chain((Example(**row) for row in rows), left_out),
        variant=files.variant,
        max_left_out=max_left_out,
        published=test if split == "test" else None if parted else train,
        pictures=pictures,
    )


def about_vqa_rad(data_dir: str | Path, options: Mapping[str, Any]) -> tuple[Collection[str] | None, Sequence[str]]:
    """The rows known to be framed test questions (form "mevf" alone has such rows), and what was put right."""
    from pefomed.data.vqa_rad import describe_vqa_rad
    from pefomed.data.vqa_rad_files import read_vqa_rad

    described = describe_vqa_rad(data_dir, **{"drop_leaked": False, **options, "missing_images": "drop"})
    corrected = ", ".join(f"{count:,} {what}" for what, count in described.corrections.items() if count)
    notes = [f"Answer types come from {described.answer_types_from}. Put right: {corrected or 'nothing'}."]
    if described.dropped_leaked:
        notes.append(f"{described.dropped_leaked:,} framed versions of test questions are left out of train.")
    if described.variant != "mevf":
        return None, notes
    return {row.id for row in read_vqa_rad(data_dir, "mevf").rows if row.leaked}, notes
