"""Is this folder the data set that its name says, whole and sound? `pefomed data check NAME DIR`.

    report = check_dataset("vqa_rad", "data/vqa_rad")
    print(report)
    report.audit.leakage     # what test shares with train

All splits are read by the data set's own loader, compared with the published numbers, hashed, and audited
(`pefomed/data/audit.py`). Of data lent to named persons only numbers and hashes are kept, and file names never.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pefomed.data.all_splits import about_vqa_rad, read_splits
from pefomed.data.audit import Audit, audit
from pefomed.data.catalogue import DATA_SETS, DataSet
from pefomed.data.found import MAX_LEFT_OUT, Found

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm")
HIDDEN = "[hidden]"
# Patients (p and eight digits), studies (s and eight) and pictures (five groups of eight, hexadecimal) of MIMIC-CXR.
_IDENTIFIER = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-f]{8}(?:-[0-9a-f]{8}){4}|[ps]?\d{8})(?![A-Za-z0-9])")
_CHINESE = re.compile("[\u4e00-\u9fff]")


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why rows were left out, how many, and the first of them ("" where it must not be shown)."""

    reason: str
    rows: int
    first: str


@dataclasses.dataclass(frozen=True)
class SplitCheck:
    """One split: rows in its files, rows in use, the published number (None where unknown), and what was left out."""

    split: str
    in_files: int
    rows: int
    published: int | None
    left_out: tuple[Reason, ...]

    def __str__(self) -> str:
        text = f"{self.split}: {self.in_files:,} rows"
        if self.published is not None:
            as_published = self.published == self.in_files
            text += " (as published)" if as_published else f" (published were {self.published:,})"
        text += f", {self.rows:,} of them used"
        for item in self.left_out:
            text += f"; left out {item.rows:,}: {item.reason}{f' (first {item.first})' if item.first else ''}"
        return text


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """What a folder holds; `str()` says it in lines.

    Attributes:
        name: the data set.
        data_dir: the folder as it was named; "" for a drawn data set.
        variant: the form that was found.
        splits: the splits that were read.
        absent: splits whose files are not there, with what the loader said.
        unnamed_files: picture files beside the used ones that no row read here names.
        fingerprint: SHA-256 over ids, questions, answers and pictures of all splits, in any order.
        audit: counts, damaged pictures, leakage, and how far guessing gets.
        notes: what the loader says of this form.
        warnings: what a user should look at before using the folder.
    """

    name: str
    data_dir: str
    variant: str
    splits: tuple[SplitCheck, ...]
    absent: tuple[tuple[str, str], ...]
    unnamed_files: int
    fingerprint: str
    audit: Audit
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        where = f" in {self.data_dir}" if self.data_dir else ""
        form = f", form {self.variant!r}" if self.variant else ""
        lines = [f"{DATA_SETS[self.name].full_name} ({self.name}){form}{where}"]
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        lines += [str(split) for split in self.splits]
        lines += [f"{split}: not there: {why}" for split, why in self.absent]
        if self.unnamed_files:
            lines.append(f"picture files that no row read here names: {self.unnamed_files:,}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, str(self.audit), f"fingerprint of all splits: {self.fingerprint}"])

    def refuse_broken(self) -> None:
        """Raises a ValueError, which names the first, where pictures cannot be used."""
        if self.audit.broken:
            first = self.audit.broken[0]
            raise ValueError(
                f"{len(self.audit.broken):,} pictures of {self.name} cannot be used, the first in {first.split}: "
                f"{f'{first.file}: ' if first.file else ''}{first.reason}; restore them"
            )

    def as_values(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return dataclasses.asdict(self)


def check_dataset(
    name: str,
    data_dir: str | Path = "",
    *,
    max_left_out: float = MAX_LEFT_OUT,
    processes: int = 1,
    progress: bool = True,
    **options: Any,
) -> DataCheck:
    """Reads all splits of a data set, compares them with what was published, and audits them.

    VQA-RAD is read with its framed test questions, unless `drop_leaked` is given, so that they are counted.

    Args:
        name: the data set, as `pefomed data list` spells it.
        data_dir: its folder; "" for those that are drawn.
        max_left_out: largest share of a split's rows that may be left out.
        processes: how many read pictures at once.
        progress: whether long work tells on stderr how far it is.
        **options: the loader's own options.

    Raises:
        ValueError: an unknown or impossible option, the folder holds something else or something malformed, or its
            pictures need pydicom and it is not installed.
        FileNotFoundError: the folder, or the files of every split, are missing.
        ModuleNotFoundError: a package of pefomed[train] is not installed.
    """
    from pefomed.data.fingerprint import fingerprint

    if not 0 <= max_left_out <= 1:
        raise ValueError(f"parameter max_left_out must be a share from 0 to 1, not {max_left_out:g}")
    if name not in DATA_SETS:
        raise ValueError(f"parameter name: {name!r} is no dataset of this package; choose from {', '.join(DATA_SETS)}")
    entry = DATA_SETS[name]
    try:
        found, absent = read_splits(entry, data_dir, options, max_left_out)
        rows = {split: part.rows for split, part in found.items()}
        framed, notes = about_vqa_rad(data_dir, options) if name == "vqa_rad" else (None, ())
        audited = audit(
            rows, framed_ids=framed, show_text=not entry.credentialed, processes=processes, progress=progress
        )
        whole = fingerprint(itertools.chain(*rows.values()))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != "pydicom":
            raise
        message = _presentable(str(error), entry, data_dir)
        if message == str(error) and not isinstance(error, ModuleNotFoundError):
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        # An error about lent data must not drag its uncut self along.
        raise kind(message) from (None if entry.credentialed else error)
    broken = (dataclasses.replace(item, file=_shown(item.file, data_dir)) for item in audited.broken)
    audited = dataclasses.replace(audited, broken=tuple(broken))
    return DataCheck(
        name=name,
        data_dir=str(data_dir),
        variant=next(iter(found.values())).variant,
        splits=tuple(_summary(split, part, entry) for split, part in found.items()),
        absent=tuple((split, _presentable(why, entry, data_dir)) for split, why in absent.items()),
        unnamed_files=_unnamed_files(found.values(), data_dir),
        fingerprint=whole,
        audit=audited,
        notes=(*notes, *_notes(found)),
        warnings=tuple(_warnings(entry, found, absent, audited)),
    )


# What was found, in a form that may be shown


def _summary(split: str, part: Found, entry: DataSet) -> SplitCheck:
    first = {item.reason: item for item in reversed(part.left_out)}
    reasons = (
        Reason(reason, rows, "" if entry.credentialed else f"{first[reason].id} {first[reason].file}".rstrip())
        for reason, rows in part.reasons.items()
    )
    return SplitCheck(split, part.in_files, len(part.rows), part.published, tuple(reasons))


def _notes(found: Mapping[str, Found]) -> Iterator[str]:
    """The loader's notes, each once; one that does not hold for all splits names its own."""
    splits_of: dict[str, list[str]] = {}
    for split, part in found.items():
        for note in part.notes:
            splits_of.setdefault(note, []).append(split)
    for note, splits in splits_of.items():
        yield note if len(splits) == len(found) else f"{', '.join(splits)}: {note}"


def _warnings(entry: DataSet, found: Mapping[str, Found], absent: Mapping[str, str], audited: Audit) -> Iterator[str]:
    for split, part in found.items():
        if part.published is not None and part.in_files != part.published:
            what = "an excerpt" if part.in_files < part.published else "another data set or version"
            yield f"{split} has {part.in_files:,} rows where {part.published:,} were published: {what}"
    if absent:
        yield f"not all splits are there: {', '.join(absent)} missing"
    if audited.broken:
        yield f"{len(audited.broken):,} pictures cannot be used"
    if entry.name == "slake" and _both_languages(found.values()):
        counted = ", ".join(
            f"{pair.shared_pictures:,} {pair.into} pictures are in {pair.source}" for pair in audited.leakage
        )
        yield (
            "English and Chinese questions are pooled, but each language was split by itself"
            f"{f': {counted}' if counted else ''}"
        )


def _both_languages(parts: Iterable[Found]) -> bool:
    chinese = {bool(_CHINESE.search(question)) for part in parts for question in part.rows["question"]}
    return len(chinese) == 2


def _unnamed_files(parts: Iterable[Found], data_dir: str | Path) -> int:
    """Picture files in the folders of the pictures that no row, used or left out, names."""
    real_folders: dict[str, str] = {}

    def real(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        return os.path.join(real_folders[folder], name)

    named: set[str] = set()
    folders: set[str] = set()
    for part in parts:
        named.update(real(image["path"]) for image in part.rows["image"] if image["path"])
        named.update(real(os.path.join(data_dir, item.file)) for item in part.left_out if item.file)
        folders.update(os.path.realpath(folder) for folder in part.pictures)
    files = {
        os.path.join(place, name)
        for folder in folders
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(PICTURE_SUFFIXES)
    }
    return len(files - named)


def _shown(file: str, data_dir: str | Path) -> str:
    """A file's name as seen from the folder that the user named; of files elsewhere only the last folder's name."""
    path, folder = Path(file), Path(data_dir)
    for root in (folder, folder.resolve()):
        if file and data_dir and path.is_relative_to(root):
            return str(folder / path.relative_to(root))
    return os.path.join(*path.parts[-2:]) if path.is_absolute() else file


def _presentable(message: str, entry: DataSet, data_dir: str | Path) -> str:
    """A loader's message with the folder as the user named it, and without identifiers of lent data."""
    if data_dir:
        message = message.replace(str(Path(data_dir).resolve()), str(data_dir))
    return _IDENTIFIER.sub(HIDDEN, message) if entry.credentialed else message
