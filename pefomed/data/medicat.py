"""MedICaT (Subramanian et al. 2020, doi:10.18653/v1/2020.findings-emnlp.191): figures of open-access papers.

One line of JSON a figure, in s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl, and the pictures in
figures/{pdf_hash}_{fig_uri}; https://github.com/allenai/medicat says how to obtain them. There are no splits: every
figure is a training figure unless a share of the papers is set apart, all figures of a paper together.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pefomed.data.caption_files import CaptionRow, caption_items, is_plain_name, read_lines
from pefomed.data.found import MAX_LEFT_OUT, Found, PictureFolder, check_folder, check_split, gather

NAME = "medicat"
FILE_NAME = "s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl"
PUBLISHED_FIGURES = 217060
CAPTIONS = ("s2_caption", "s2orc_caption")
TYPES = {"pdf_hash": str, "fig_uri": str, "radiology": bool}


@dataclasses.dataclass(frozen=True)
class _Choice:
    """Which figures to read, and which of their two captions."""

    split: str
    radiology_only: bool
    caption: str
    val_fraction: float
    test_fraction: float
    seed: int

    def split_of(self, paper: str) -> str:
        """The split of a paper: the hash of seed and paper is a number from 0 to 1, test lowest, train highest."""
        digest = hashlib.sha256(f"{self.seed}:{paper}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        if place < self.test_fraction:
            return "test"
        return "val" if place < self.test_fraction + self.val_fraction else "train"


def read_medicat(
    data_dir: str | Path,
    split: str = "train",
    *,
    radiology_only: bool = True,
    caption: str = "s2_caption",
    val_fraction: float = 0.0,
    test_fraction: float = 0.0,
    seed: int = 0,
    file: str = "",
    max_left_out: float = MAX_LEFT_OUT,
) -> Found:
    """Reads the figures of MedICaT, or the share of them that lies in one split.

    Args:
        data_dir: the folder with the .jsonl file and the folder figures.
        split: "train", or "val" or "test" where a share of the papers is set apart.
        radiology_only: leave out figures that are not marked as radiology (endoscopy, histology, charts).
        caption: "s2_caption", which every figure of the official sample has, or "s2orc_caption"; where the chosen one
            is null or empty, the other is taken.
        val_fraction: share of the papers whose figures are "val".
        test_fraction: share of the papers whose figures are "test".
        seed: chooses these papers.
        file: the .jsonl file's name; "" takes the official one, or the only one.
        max_left_out: largest share of figures without a usable picture or caption.

    Returns:
        Rows of the task "caption"; the id is the picture's name, the group its paper.

    Raises:
        FileNotFoundError: the folder or its .jsonl file is missing.
        ValueError: an option is out of range, the split is empty, there are several .jsonl files, a line is malformed,
            a figure occurs twice, or too many cannot be used; the message names file and line.
    """
    check_split(NAME, split)
    choice = _Choice(split, radiology_only, caption, val_fraction, test_fraction, seed)
    _check_choice(choice)
    folder = check_folder(NAME, data_dir)
    path = _figures_file(folder, file)
    pictures = folder / "figures"
    counts: collections.Counter[str] = collections.Counter()
    rows = _rows(path, choice, counts)
    first = next(rows, None)
    if first is None:
        raise ValueError(
            f"{path}: no figure for the split {split!r} among {counts['figures']:,} (of them {counts['other']:,} not "
            f"radiology and {counts['elsewhere']:,} in other splits); choose another split, share or seed"
        )
    items = caption_items(
        itertools.chain([first], rows), path, PictureFolder(pictures), folder, dataset=NAME, split=split
    )
    whole = split == "train" and not (radiology_only or val_fraction or test_fraction)
    found = gather(
        NAME,
        split,
        items,
        variant="official",
        max_left_out=max_left_out,
        published=PUBLISHED_FIGURES if whole else None,
        pictures=[pictures],
    )
    return dataclasses.replace(found, notes=_notes(counts, choice))  # the counts are known once all rows are read


def _check_choice(choice: _Choice) -> None:
    """Raises a ValueError for an option out of range, and for a split that these options leave empty."""
    if choice.caption not in CAPTIONS:
        raise ValueError(f"{NAME}: caption is {choice.caption!r}, expected one of {', '.join(CAPTIONS)}")
    shares = {"val": choice.val_fraction, "test": choice.test_fraction}
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise ValueError(
                f"{NAME}: {name}_fraction is {share!r}, expected a number from 0 up to but not including 1"
            )
    if sum(shares.values()) >= 1:
        raise ValueError(
            f"{NAME}: val_fraction and test_fraction add up to {sum(shares.values()):g}, leaving no train"
        )
    if shares.get(choice.split) == 0:
        raise ValueError(
            f"{NAME}: has no split {choice.split!r} of its own; pass {choice.split}_fraction > 0 to set papers apart"
        )


def _figures_file(folder: Path, file: str) -> Path:
    """Returns the file of figures: the named one, the official one, or the only one."""
    if file:
        if not is_plain_name(file):
            raise ValueError(f"{NAME}: file is {file!r}, expected the name of a file inside {folder}")
        names = [file]
    else:
        names = sorted(path.name for path in folder.glob("*.jsonl"))
        if FILE_NAME in names:
            names = [FILE_NAME]  # the release has a second one, of subfigures
    if len(names) > 1:
        raise ValueError(f"{folder}: holds {', '.join(names)}; choose one with file=...")
    if not names or not (folder / names[0]).is_file():
        wanted = names[0] if names else FILE_NAME
        raise FileNotFoundError(f"{folder / wanted}: no such file; https://github.com/allenai/medicat gives it out")
    return folder / names[0]


def _rows(path: Path, choice: _Choice, counts: collections.Counter[str]) -> Iterator[CaptionRow]:
    """Yields the chosen figures and counts the others."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        figure = _figure(path, number, line)
        counts["figures"] += 1
        if choice.radiology_only and not figure["radiology"]:
            counts["other"] += 1
        elif choice.split_of(figure["pdf_hash"]) != choice.split:
            counts["elsewhere"] += 1
        else:
            text = figure[choice.caption] or ""
            if not text.strip():
                text = next(figure[key] or "" for key in CAPTIONS if key != choice.caption)
                counts["second caption"] += bool(text.strip())
            picture = f"{figure['pdf_hash']}_{figure['fig_uri']}"
            yield CaptionRow(number, picture, text, picture, group=figure["pdf_hash"])


def _figure(path: Path, number: int, line: str) -> dict[str, Any]:
    """Reads one line and checks the keys that are used."""
    where = f"{path}, line {number}"
    try:
        figure = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error}); the line may be cut") from error
    if not isinstance(figure, dict):
        raise ValueError(f"{where}: expected an object, found {type(figure).__name__}")
    for key in (*TYPES, *CAPTIONS):
        if key not in figure:
            raise ValueError(f"{where}: lacks the key {key!r}")
        value, kind = figure[key], TYPES.get(key, str)
        if not isinstance(value, kind) and not (key in CAPTIONS and value is None):
            raise ValueError(f"{where}: {key} must be {kind.__name__}, found {type(value).__name__} {value!r:.60}")
        if key in ("pdf_hash", "fig_uri") and not value.strip():
            raise ValueError(f"{where}: {key} is empty")
    return figure


def _notes(counts: collections.Counter[str], choice: _Choice) -> tuple[str, ...]:
    notes = []
    if choice.radiology_only:
        notes.append(f"{counts['other']:,} of {counts['figures']:,} figures are not radiology and were not read.")
    if counts["second caption"]:
        other = next(key for key in CAPTIONS if key != choice.caption)
        notes.append(f"Figures without {choice.caption}, whose {other} was taken: {counts['second caption']:,}.")
    if choice.val_fraction or choice.test_fraction:
        notes.append("MedICaT has no splits; these were made by paper.")
    return tuple(notes)
