"""The data of a run: three splits of one data set or of a mixture, cut to a limit, fingerprinted, described.

Every picture of a small set is seen to be whole before anything is trained; those of a large one are read as they come
(`pefomed/training/broken.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pefomed.files import write_text
from pefomed.procedure import Procedure
from pefomed.settings import MIXTURE, RunSettings

if TYPE_CHECKING:
    import datasets

    from pefomed.data.found import Found
    from pefomed.training.sampling import Source

SPLITS = ("train", "val", "test")
# VQA-RAD has no validation split; a run needs one to choose its best epoch without looking at the test split.
RUN_VAL_FRACTION = 0.1
LARGE = 20_000  # rows of a split; decoding more pictures than that beforehand would take longer than a user waits
LEFT_OUT_FILE = "left_out.jsonl"
GROUPS = {"iu_xray": "studies", "mimic_cxr": "patients", "medicat": "papers"}  # what `group` is, if not a picture


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set, or a mixture, as a run uses it.

    Attributes:
        train, val, test: rows of the schema, of a mixture one data set behind the other; `val` and `test` are None
            where the data has none (captions are learnt, seldom tested).
        sources: rows and ratio of each data set in `train`.
        left_out: rows that could not be used, each {"dataset", "split", "id", "reason", "file"}.
        fingerprint: changes with the rows, their pictures, and with which split a row is in.
        description: the same in words, without paths of the machine.
    """

    train: datasets.Dataset
    val: datasets.Dataset | None
    test: datasets.Dataset | None
    sources: tuple[Source, ...]
    left_out: tuple[dict[str, str], ...]
    fingerprint: str
    description: str


def load_splits(settings: RunSettings) -> Splits:
    """The data of a run, each split of each data set cut to the settings' limit.

    Raises:
        ValueError: a data set is malformed, or a split that the stage needs is empty.
        FileNotFoundError: a file is missing.
    """
    from datasets import concatenate_datasets

    from pefomed.data.fingerprint import fingerprint
    from pefomed.training.sampling import Source

    found = {(name, split): part for name in settings.parts for split, part in _read(settings, name).items()}
    joined: dict[str, datasets.Dataset | None] = {}
    for split in SPLITS:
        parts = [found[name, split].rows for name in settings.parts if (name, split) in found]
        joined[split] = concatenate_datasets(parts) if parts else None
    if joined["train"] is None:
        raise ValueError(f"{settings.dataset}: the train split holds no rows")
    sources = tuple(
        Source(name, len(found[name, "train"].rows), settings.mixture.get(name, {}).get("ratio", 1.0))
        for name in settings.parts
    )
    left_out = tuple(
        {"dataset": name, "split": split, **dataclasses.asdict(item)}
        for (name, split), part in found.items()
        for item in part.left_out
    )
    prints = {
        split: fingerprint(rows, by_size=len(rows) > LARGE) for split, rows in joined.items() if rows is not None
    }
    whole = hashlib.sha256("".join(f"{split} {value}\n" for split, value in prints.items()).encode()).hexdigest()
    description = " ".join(_description(settings, name, found) for name in settings.parts)
    return Splits(joined["train"], joined["val"], joined["test"], sources, left_out, whole, description)


def _read(settings: RunSettings, name: str) -> dict[str, Found]:
    """One data set's splits; those that a stage can do without may be missing."""
    from pefomed.data import read_dataset

    task, options = settings.task_of(name), loader_options(settings, name)
    data_dir = options.pop("data_dir", "") or None
    captions = settings.stage == "stage1_captions"
    found: dict[str, Found] = {}
    for split in SPLITS:
        if split == "val" and options.get("val_fraction") == 0:
            continue
        if captions and split not in splits_of(name, options):
            continue
        part = read_dataset(name, data_dir, split, **options, **({"task": task} if _several_tasks(name) else {}))
        if not len(part.rows):
            raise ValueError(f"{name}: the {split} split holds no rows")
        found[split] = dataclasses.replace(part, rows=limit_rows(part.rows, settings.limit))
    return found


def splits_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The splits that a data set has: CLEF2022's test captions were never published, MedICaT has none of its own."""
    if name == "clef2022":
        return ("train", "val")
    if name == "medicat":
        return ("train", *(split for split in ("val", "test") if options.get(f"{split}_fraction")))
    return SPLITS


def _several_tasks(name: str) -> bool:
    from pefomed.data.options import TASKS

    return len(TASKS[name]) > 1


def loader_options(settings: RunSettings, name: str) -> dict[str, Any]:
    """Folder and options of one data set; VQA-RAD gets a validation split where nothing else is asked for."""
    parted = {"val_fraction": RUN_VAL_FRACTION} if name == "vqa_rad" else {}
    if settings.dataset != MIXTURE:
        return {**parted, "data_dir": settings.data_dir, **settings.dataset_options}
    return {**parted, **{key: value for key, value in settings.mixture[name].items() if key != "ratio"}}


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


def _description(settings: RunSettings, name: str, found: Mapping[tuple[str, str], Found]) -> str:
    parts = {split: found[name, split] for split in SPLITS if (name, split) in found}
    counts = "; ".join(
        f"{split} {len(part.rows):,} rows about {len(set(part.rows['group'])):,} {GROUPS.get(name, 'pictures')}"
        for split, part in parts.items()
    )
    used = f"Used here: {counts}" + (f" (limit {settings.limit:,} rows a split)." if settings.limit else ".")
    left_out = sum(len(part.left_out) for part in parts.values())
    used += f" {left_out:,} rows left out." if left_out else ""
    options = loader_options(settings, name)
    data_dir = options.pop("data_dir", "")
    if name == "vqa_rad":
        from pefomed.data.vqa_rad import describe_vqa_rad

        described = describe_vqa_rad(data_dir, **options)
        return f"{dataclasses.replace(described, data_dir=Path(data_dir).resolve().name)} {used}"
    variant = next(iter(parts.values())).variant
    notes = " ".join(dict.fromkeys(note for part in parts.values() for note in part.notes))
    form = "drawn by the package" if variant == "drawn" else f"form {variant!r}"
    return " ".join(f"{name}, {form}. {used} {notes}".split())


def write_left_out(splits: Splits, run_dir: str | Path) -> None:
    """Lists in the run's folder the rows that could not be used, where there are any."""
    if splits.left_out:
        write_text(Path(run_dir) / LEFT_OUT_FILE, "".join(json.dumps(row) + "\n" for row in splits.left_out))


def without_broken(splits: Splits, procedure: Procedure, max_broken: float) -> Splits:
    """Decodes every picture of the splits that are not large, and leaves out the rows of those that are broken.

    Raises:
        ValueError: more than `max_broken` of a split's rows.
    """
    changes: dict[str, Any] = {}
    left_out = list(splits.left_out)
    for split in SPLITS:
        rows = getattr(splits, split)
        if rows is None or len(rows) > LARGE:
            continue
        broken = broken_pictures(rows, procedure)
        if len(broken) > max_broken * len(rows):
            name, error = next(iter(broken.items()))
            raise ValueError(
                f"{len(broken):,} of {len(rows):,} {split} rows have pictures that cannot be read, more than "
                f"max_broken ({max_broken:g}); first {name}: {error}"
            )
        if broken:
            kept = [index for index, name in enumerate(rows["id"]) if name not in broken]
            changes[split] = rows.select(kept)
            if split == "train":
                changes["sources"] = _recounted(splits, set(kept))
            left_out += [
                {"dataset": rows[0]["dataset"], "split": split, "id": name, "reason": "picture broken", "file": error}
                for name, error in broken.items()
            ]
    return dataclasses.replace(splits, **changes, left_out=tuple(left_out))


def _recounted(splits: Splits, kept: set[int]) -> tuple[Source, ...]:
    """The sources with as many rows as are left of each."""
    start, sources = 0, []
    for source in splits.sources:
        rows = sum(index in kept for index in range(start, start + source.rows))
        sources.append(dataclasses.replace(source, rows=rows))
        start += source.rows
    return tuple(sources)


def check_pictures(rows: datasets.Dataset, procedure: Procedure) -> int:
    """Decodes every picture once, so that a damaged one is told before hours of training and not after.

    Returns:
        The number of different pictures.

    Raises:
        ValueError: a picture is damaged, missing, empty or too large; the message names its file or row.
    """
    broken = broken_pictures(rows, procedure)
    if broken:
        raise ValueError(next(iter(broken.values())))
    return len(set(_picture_keys(rows)))


def broken_pictures(rows: datasets.Dataset, procedure: Procedure) -> dict[str, str]:
    """Errors by row id of the pictures that cannot be decoded; a picture that several rows show is decoded once."""
    from pefomed.images import open_image

    errors: dict[bytes | str, str] = {}
    broken: dict[str, str] = {}
    for name, image, key in zip(rows["id"], rows["image"], _picture_keys(rows), strict=True):
        if key not in errors:
            errors[key] = ""
            try:
                open_image(
                    image["bytes"] if image["bytes"] else image["path"],
                    name=image["path"] or f"picture of row {name}",
                    window_16bit=procedure.window_16bit,
                    drop_alpha=procedure.drop_alpha,
                    apply_exif=procedure.apply_exif,
                )
            except (ValueError, OSError) as error:
                errors[key] = str(error)
        if errors[key]:
            broken[name] = errors[key]
    return broken


def _picture_keys(rows: datasets.Dataset) -> list[bytes | str]:
    return [hashlib.sha256(image["bytes"]).digest() if image["bytes"] else image["path"] for image in rows["image"]]
