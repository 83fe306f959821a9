"""VQA-RAD (Lau et al. 2018, doi:10.1038/sdata.2018.251): 315 radiographs and 2,248 questions, as `Example` rows.

No form of it has a validation split. "val" is carved out of the training rows by picture: the same pictures for every
question of them, for a given seed, in both JSON forms. "test" is never touched. Beware that nearly all test pictures
also occur among the training rows, by the authors' design; `describe_vqa_rad` counts them.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pefomed.data.example import SPLITS, Example, make_dataset
from pefomed.data.fingerprint import fingerprint
from pefomed.data.vqa_rad_files import VqaRadFiles, VqaRadRow, read_vqa_rad
from pefomed.images import safe_join

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

VAL_FRACTION = 0.0  # the published splits; runs set a tenth of the training pictures apart (pefomed/splits.py)
PUBLISHED_ROWS = {"official": (1797, 451), "mevf": (3064, 451), "hf": (1793, 451)}
IMAGE_FOLDERS = ("images", "VQA_RAD Image Folder", "VQA_RAD_Image_Folder", "VQA_RAD_Images")


@dataclasses.dataclass(frozen=True)
class VqaRadDescription:
    """What a VQA-RAD folder holds and what of it is used; `str()` says it in a paragraph.

    Attributes:
        data_dir: The folder.
        variant: "official", "mevf" or "hf".
        published: Rows (train, test) of this form as it was published.
        in_files: Rows (train, test) of this folder's files.
        rows: Rows in use for each of "train", "val" and "test".
        closed: Closed questions among them.
        open: Open questions among them.
        images: Different pictures in use.
        unused_images: Picture files that no question names, 0 for the "hf" form.
        shared_images: Test pictures that also occur in train or val.
        leaked: Training rows that are framed versions of test questions.
        dropped_leaked: How many of these were left out.
        dropped_missing: Rows left out because their picture file is missing.
        answer_types_from: "the files", or how they were derived.
        corrections: How often which odd spelling was put right.
        fingerprint: Hash of ids, questions, answers and picture files of all rows in use, however train and val part.
    """

    data_dir: str
    variant: str
    published: tuple[int, int]
    in_files: tuple[int, int]
    rows: Mapping[str, int]
    closed: Mapping[str, int]
    open: Mapping[str, int]
    images: int
    unused_images: int
    shared_images: int
    leaked: int
    dropped_leaked: int
    dropped_missing: int
    answer_types_from: str
    corrections: Mapping[str, int]
    fingerprint: str

    @property
    def complete(self) -> bool:
        """Whether the files hold as many rows as were published in this form."""
        return self.in_files == self.published

    def __str__(self) -> str:
        splits = "; ".join(
            f"{split} {self.rows[split]:,} ({self.closed[split]:,} closed, {self.open[split]:,} open)"
            for split in SPLITS
        )
        train, test = self.published
        whole = "all of them" if self.complete else f"published were {train:,} and {test:,}"
        corrected = ", ".join(f"{count:,} {what}" for what, count in self.corrections.items() if count)
        return (
            f"VQA-RAD in the form {self.variant!r} in {self.data_dir}: {self.in_files[0]:,} train and "
            f"{self.in_files[1]:,} test rows in the files ({whole}). In use: {splits}; {self.images:,} pictures, "
            f"{self.unused_images:,} more files without a question, {self.shared_images:,} of the test pictures also "
            f"in train or val. {self.leaked:,} training rows are framed versions of test questions, "
            f"{self.dropped_leaked:,} of them left out; {self.dropped_missing:,} rows left out for missing pictures. "
            f"Answer types from {self.answer_types_from}. Put right: {corrected or 'nothing'}. "
            f"Fingerprint {self.fingerprint}."
        )


@dataclasses.dataclass(frozen=True)
class _Selection:
    """The rows in use of all three splits, and what was left out."""

    files: VqaRadFiles
    examples: tuple[Example, ...]
    unused_images: int
    dropped_leaked: int
    dropped_missing: int


def load_vqa_rad(
    data_dir: str | Path,
    split: str = "train",
    *,
    variant: str | None = None,
    image_dir: str | Path | None = None,
    drop_leaked: bool = True,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    missing_images: str = "error",
) -> datasets.Dataset:
    """Loads one split of VQA-RAD in whichever form the folder holds it.

    Pictures are referred to by path and not opened (the Hugging Face copy holds them as bytes). What is left out is
    said in the data set's `info.description` and logged.

    Args:
        data_dir: The folder with the official JSON file, with trainset.json and testset.json, or with parquet files.
        split: "train", "val" (carved out of train) or "test".
        variant: "official", "mevf" or "hf", for a folder that holds several forms.
        image_dir: The folder of the pictures; the default looks inside and beside `data_dir`.
        drop_leaked: Leave out training rows that are framed versions of test questions (form "mevf": 284 rows).
        val_fraction: Share of the training pictures whose questions become "val" instead of "train"; 0, the default,
            keeps all of the published training rows in "train" and has no "val".
        seed: Chooses these pictures.
        missing_images: "error", or "drop" to leave out rows whose picture file is missing.

    Returns:
        Rows of `EXAMPLE_FEATURES`. Ids start with the form, since the forms number the questions differently.

    Raises:
        FileNotFoundError: The folder, one of its files or a picture is missing.
        ValueError: The folder holds something else, a row is malformed, or an argument is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    chosen = _select(data_dir, variant, image_dir, drop_leaked, val_fraction, seed, missing_images)
    examples = [example for example in chosen.examples if example.split == split]
    if not examples:
        hint = "; pass val_fraction > 0" if split == "val" else ""
        raise ValueError(f"{data_dir}: no rows in the split {split!r} (val_fraction={val_fraction}){hint}")
    dataset = make_dataset(examples)
    dataset.info.description = (
        f"VQA-RAD, form {chosen.files.variant!r}, split {split!r}: {len(examples):,} rows. Left out of train and val: "
        f"{chosen.dropped_leaked:,} framed versions of test questions; of all splits: {chosen.dropped_missing:,} rows "
        f"without a picture."
    )
    logger.log(logging.WARNING if chosen.dropped_missing else logging.INFO, dataset.info.description)
    return dataset


def describe_vqa_rad(
    data_dir: str | Path,
    *,
    variant: str | None = None,
    image_dir: str | Path | None = None,
    drop_leaked: bool = True,
    val_fraction: float = VAL_FRACTION,
    seed: int = 0,
    missing_images: str = "error",
) -> VqaRadDescription:
    """Counts what a VQA-RAD folder holds and hashes its pictures; arguments and errors are `load_vqa_rad`'s."""
    chosen = _select(data_dir, variant, image_dir, drop_leaked, val_fraction, seed, missing_images)
    examples, files = chosen.examples, chosen.files
    per_split = collections.Counter((example.split, example.answer_type) for example in examples)
    groups = {split: {example.group for example in examples if example.split == split} for split in SPLITS}
    in_files = collections.Counter(row.split for row in files.rows)
    derived = (
        "the answers: yes and no are closed, all else is open (the official files also close choices like 'left')"
    )
    return VqaRadDescription(
        data_dir=str(data_dir),
        variant=files.variant,
        published=PUBLISHED_ROWS[files.variant],
        in_files=(in_files["train"], in_files["test"]),
        rows={split: per_split[split, "open"] + per_split[split, "closed"] for split in SPLITS},
        closed={split: per_split[split, "closed"] for split in SPLITS},
        open={split: per_split[split, "open"] for split in SPLITS},
        images=len(set.union(*groups.values())),
        unused_images=chosen.unused_images,
        shared_images=len(groups["test"] & (groups["train"] | groups["val"])),
        leaked=sum(row.leaked for row in files.rows),
        dropped_leaked=chosen.dropped_leaked,
        dropped_missing=chosen.dropped_missing,
        answer_types_from=derived if files.variant == "hf" else "the files",
        corrections=files.corrections,
        fingerprint=fingerprint(example.as_row() for example in examples),
    )


def _select(
    data_dir: str | Path,
    variant: str | None,
    image_dir: str | Path | None,
    drop_leaked: bool,
    val_fraction: float,
    seed: int,
    missing_images: str,
) -> _Selection:
    """Reads the files, finds the pictures, leaves out what is to be left out and parts val from train."""
    if isinstance(val_fraction, bool) or not isinstance(val_fraction, (int, float)) or not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction!r}, expected a number from 0 up to but not including 1")
    if missing_images not in ("error", "drop"):
        raise ValueError(f"missing_images is {missing_images!r}, expected 'error' or 'drop'")
    files = read_vqa_rad(data_dir, variant)
    unused = 0
    images: dict[str | bytes, dict | None]
    if files.variant == "hf":
        images = {row.image: {"bytes": row.image, "path": None} for row in files.rows}
    else:
        folder = find_image_folder(data_dir, [str(row.image) for row in files.rows], image_dir)
        images = _image_files(files.rows, folder, missing_images)
        pictures = [path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
        unused = sum(path.name not in images for path in pictures)
    val_groups = _val_groups((row.group for row in files.rows if row.split == "train"), val_fraction, seed)
    kept = [row for row in files.rows if not (drop_leaked and row.leaked)]
    examples = tuple(_example(row, images[row.image], val_groups) for row in kept if images[row.image])
    return _Selection(files, examples, unused, len(files.rows) - len(kept), len(kept) - len(examples))


def _example(row: VqaRadRow, image: Mapping, val_groups: set[str]) -> Example:
    return Example(
        id=row.id,
        dataset="vqa_rad",
        split="val" if row.split == "train" and row.group in val_groups else row.split,
        task="vqa",
        image=image,
        question=row.question,
        answer=row.answer,
        answer_type=row.answer_type,
        question_type=row.question_type,
        image_organ=row.image_organ,
        phrase_type=row.phrase_type,
        group=row.group,
    )


def _val_groups(groups: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Chooses a share of the groups by the hash of seed and name, whatever their order and number of rows."""
    unique = sorted(set(groups), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).hexdigest())
    return set(unique[: max(1, round(fraction * len(unique))) if fraction else 0])


def find_image_folder(data_dir: str | Path, names: Sequence[str], image_dir: str | Path | None = None) -> Path:
    """Returns the folder that holds the pictures of a JSON form: the first one that holds any of them.

    Looked at are `data_dir` itself, the `IMAGE_FOLDERS` inside and beside it, and those inside the folders beside it;
    `image_dir`, where given, is taken instead.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if image_dir is not None:
        if not Path(image_dir).is_dir():
            raise FileNotFoundError(f"{image_dir}: no such image folder")
        return Path(image_dir).resolve()
    here = Path(data_dir).resolve()
    around = [here, here.parent, *sorted(path for path in here.parent.iterdir() if path.is_dir() and path != here)]
    for folder in (here, *(folder / name for folder in around for name in IMAGE_FOLDERS)):
        if folder.is_dir() and not {path.name for path in folder.iterdir()}.isdisjoint(names):
            return folder
    raise FileNotFoundError(
        f"{data_dir}: found none of the {len(set(names)):,} pictures (such as {names[0]!r}) inside or beside it; put "
        f"them into 'VQA_RAD Image Folder' there or pass image_dir"
    )


def _image_files(rows: Sequence[VqaRadRow], folder: Path, missing_images: str) -> dict[str | bytes, dict | None]:
    """Returns the image column's value for each file name, None for a missing file.

    Raises:
        ValueError: A name leads out of the folder.
        FileNotFoundError: Files are missing and may not be.
    """
    images: dict[str | bytes, dict | None] = {}
    for row in rows:
        if row.image in images:
            continue
        try:
            path = safe_join(folder, str(row.image))
        except ValueError as error:
            raise ValueError(f"row {row.id}: image_name {error}") from error
        images[row.image] = {"bytes": None, "path": str(path)} if path.is_file() else None
    missing = [name for name, image in images.items() if image is None]
    if len(missing) == len(images):
        raise FileNotFoundError(f"{folder}: holds none of the {len(images):,} pictures that the rows name")
    if missing and missing_images == "error":
        raise FileNotFoundError(
            f"{folder}: {len(missing):,} of {len(images):,} pictures are missing, the first is {missing[0]!r}; "
            f"restore them or pass missing_images='drop'"
        )
    return images
