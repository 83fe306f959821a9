"""ROCO, Radiology Objects in COntext: pictures from open-access articles with their captions, in three forms.

v1      Pelka et al. 2018 (doi:10.1007/978-3-030-01364-6_20), https://github.com/razorx89/roco-dataset: the folders
        train, validation and test, in each radiology/captions.txt ("ROCO_00001<TAB> caption") and the pictures
        radiology/images/ROCO_00001.jpg.
kaggle  The mirror on Kaggle: the same folders below all_data, with a table id,name,caption
        (train/radiologytraindata.csv or train/radiology/traindata.csv) and pictures under the articles' file names.
        It holds captions.txt as well; with the table, a folder counts as "kaggle".
v2      Rückert et al. 2024 (doi:10.1038/s41597-024-03496-6): train_captions.csv (ID,Caption) and train/ID.jpg,
        likewise valid and test.

Of v1 and its mirror only the radiology pictures are read, not the folders non-radiology.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pefomed.data.caption_files import CaptionRow, caption_items, read_lines, read_table
from pefomed.data.found import MAX_LEFT_OUT, Found, PictureFolder, check_folder, check_split, gather

NAME = "roco"
VARIANTS = ("v1", "kaggle", "v2")
SPLITS = ("train", "val", "test")
PUBLISHED_ROWS = {
    "v1": {"train": 65420, "val": 8175, "test": 8176},
    "v2": {"train": 59958, "val": 9904, "test": 9927},
}
V1_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
V2_FOLDERS = {"train": "train", "val": "valid", "test": "test"}
ROOTS = ("", "data", "all_data")  # the repository's own folder, and the mirror's
WHERE_TO_GET = "https://github.com/razorx89/roco-dataset (v1) or https://zenodo.org/records/10821435 (v2)"
NOTES = {
    "v2": "ROCOv2 takes up pictures of ROCO v1, perhaps in other splits: do not train on one and test on the other.",
}

_ID = re.compile(r"ROCO_\d+")


def read_roco(
    data_dir: str | Path, split: str = "train", *, variant: str = "", max_left_out: float = MAX_LEFT_OUT
) -> Found:
    """Reads one split of ROCO in whichever form the folder holds it.

    Args:
        data_dir: the folder that holds train, validation and test (v1), all_data or its content (the mirror), or
            train_captions.csv (v2).
        split: "train", "val" or "test".
        variant: "v1", "kaggle" or "v2", for a folder that holds several; "" finds it.
        max_left_out: largest share of rows without a usable picture or caption.

    Returns:
        Rows of the task "caption"; id and group are the picture's number, such as "ROCO_00001".

    Raises:
        FileNotFoundError: the folder or the split's file is missing.
        ValueError: the folder holds several forms, a row is malformed, an id occurs twice, or too many rows cannot be
            used; the message names file and line.
    """
    check_split(NAME, split)
    folder = check_folder(NAME, data_dir)
    if variant not in ("", *VARIANTS):
        raise ValueError(f"{NAME}: unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    variant, root = _find_variant(folder, variant)
    path = _captions_file(root, variant, split)
    if path is None:
        expected = _candidates(root, variant, split)[0]
        raise FileNotFoundError(
            f"{expected}: no such file; {root} holds {NAME} in the form {variant}, without {split}"
        )
    v1_pictures = root / V1_FOLDERS[split] / "radiology" / "images"
    pictures = root / V2_FOLDERS[split] if variant == "v2" else v1_pictures
    rows = _text_rows(path) if variant == "v1" else _table_rows(path, variant)
    return gather(
        NAME,
        split,
        caption_items(rows, path, PictureFolder(pictures), folder, dataset=NAME, split=split),
        variant=variant,
        max_left_out=max_left_out,
        published=PUBLISHED_ROWS.get(variant, {}).get(split),
        notes=[NOTES[variant]] if variant in NOTES else [],
        pictures=[pictures],
    )


def _candidates(root: Path, variant: str, split: str) -> list[Path]:
    """Returns where the captions of a split may lie, the usual place first."""
    if variant == "v2":
        return [root / f"{V2_FOLDERS[split]}_captions.csv"]
    folder = root / V1_FOLDERS[split]
    if variant == "v1":
        return [folder / "radiology" / "captions.txt"]
    places = (
        (folder, "radiology{}data.csv"),
        (folder / "radiology", "{}data.csv"),
        (folder / "radiology", "radiology{}data.csv"),
        (root, "radiology{}data.csv"),
    )
    return [place / name.format(word) for place, name in places for word in dict.fromkeys((split, folder.name))]


def _captions_file(root: Path, variant: str, split: str) -> Path | None:
    return next((path for path in _candidates(root, variant, split) if path.is_file()), None)


def _find_variant(folder: Path, wanted: str) -> tuple[str, Path]:
    """Returns the form that a folder holds, and the folder of its splits."""
    found = {
        variant: root
        for root in (folder / name for name in reversed(ROOTS))  # the folder itself wins
        for variant in VARIANTS
        if any(_captions_file(root, variant, split) for split in SPLITS)
    }
    if not wanted and "kaggle" in found:
        found.pop("v1", None)  # the mirror's own copy of captions.txt; it names no picture that the mirror has
    if len(found) > 1 and not wanted:
        raise ValueError(f"{folder}: holds ROCO in the forms {' and '.join(sorted(found))}; choose with variant=...")
    variant = wanted or next(iter(found), "")
    if variant not in found:
        raise FileNotFoundError(
            f"{folder}: no ROCO{f' in the form {variant}' if variant else ''}; expected test/radiology/captions.txt "
            f"(v1), all_data/test/radiologytestdata.csv (kaggle) or test_captions.csv (v2); from {WHERE_TO_GET}"
        )
    return variant, found[variant]


def _text_rows(path: Path) -> Iterator[CaptionRow]:
    """Yields the rows of captions.txt: number, tab, a blank, caption; nothing is quoted."""
    empty = True
    for number, line in read_lines(path):
        if not line.strip():
            continue
        empty = False
        name, tab, caption = line.partition("\t")
        if not tab or not _ID.fullmatch(name.strip()):
            raise ValueError(
                f"{path}, line {number}: expected a picture's number, a tab and a caption, found {line.strip()!r:.60}"
            )
        yield CaptionRow(number, name.strip(), caption, f"{name.strip()}.jpg")
    if empty:
        raise ValueError(f"{path}: holds no rows")


def _table_rows(path: Path, variant: str) -> Iterator[CaptionRow]:
    """Yields the rows of a table of captions: ID,Caption or id,name,caption."""
    empty = True
    columns = ("ID", "Caption", "ID") if variant == "v2" else ("id", "caption", "name")
    for line, (name, caption, picture) in read_table(path, columns):
        empty = False
        picture = f"{picture.strip()}.jpg" if variant == "v2" else picture.strip()
        yield CaptionRow(line, name.strip(), caption, picture)
    if empty:
        raise ValueError(f"{path}: holds no rows below the header")
