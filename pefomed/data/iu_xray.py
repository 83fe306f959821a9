"""IU-Xray (Demner-Fushman et al. 2016, doi:10.1093/jamia/ocv080): chest X-rays with their reports, as `Example` rows.

A row is one picture with the report of its study, which is how the paper counts: 590 test studies of two views are
1,180 test samples. `samples="study"` gives one row a study. Only R2Gen's form has splits of its own; the studies of
the others are parted 7:1:2. A study never straddles splits; which studies are of one patient, no form says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pefomed.data.example import Example
from pefomed.data.found import MAX_LEFT_OUT, Found, LeftOut, PictureFolder, check_folder, check_split, gather
from pefomed.data.iu_xray_files import VARIANTS, IuXrayFiles, Picture, Study, read_iu_xray_files

NAME = "iu_xray"
SECTIONS = ("findings", "impression", "both")
SAMPLES = ("view", "study")
SPLIT_BY = ("", "seed")
R2GEN_STUDIES = {"train": 2069, "val": 296, "test": 590}  # of two pictures each
PUBLISHED_TOTALS = {
    "r2gen": "2,955 studies with 5,910 pictures",
    "openi": "3,955 studies with 7,470 pictures",
    "kaggle": "3,851 studies",  # OpenI's less the 104 without a picture
}
PICTURE_PLACES = {
    "r2gen": ("images",),
    "openi": ("NLMCXR_png", "images", ""),
    "kaggle": ("images/images_normalized", "images"),
}
HIDDEN = "XXXX"  # what the de-identification left of a word


def read_iu_xray(
    data_dir: str | Path,
    split: str = "train",
    *,
    variant: str = "",
    section: str = "findings",
    samples: str = "view",
    split_by: str = "",
    seed: int = 0,
    max_left_out: float = MAX_LEFT_OUT,
) -> Found:
    """Reads one split of IU-Xray in whichever form the folder holds it.

    Args:
        data_dir: The folder with annotation.json (R2Gen), the XML reports (OpenI) or the two CSV files (Kaggle).
        split: "train", "val" or "test".
        variant: "r2gen", "openi" or "kaggle", for a folder that holds several forms.
        section: Which text of a report is the answer: "findings", "impression", or "both" of them, findings first.
            R2Gen's form has findings only. Reports without that text are real and many; they are noted, not rows.
        samples: "view" for one row a picture, or "study" for one row a study with its first frontal picture, or its
            first picture where none is known to be frontal.
        split_by: "" for R2Gen's own split where there is one; "seed" parts the studies of any form 7:1:2.
        seed: Chooses that division.
        max_left_out: Largest share of rows whose picture may be missing or empty.

    Returns:
        Rows of the task "report". The group is the study, `phrase_type` is "frontal", "lateral" or None.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is malformed, too many pictures are missing, or an argument is out of range.
    """
    check_split(NAME, split)
    _check_options(section, samples, split_by, seed)
    folder = check_folder(NAME, data_dir)
    files = read_iu_xray_files(folder, variant)
    if files.variant == "r2gen" and section != "findings":
        raise ValueError(
            f"{folder}: section is {section!r}, but R2Gen's form holds findings only; the forms "
            f"{' and '.join(VARIANTS[1:])} have it"
        )
    if files.variant == "r2gen" and not split_by:
        studies = [study for study in files.studies if study.split == split]
    else:
        studies = _part(files.studies, seed)[split]
    used = [study for study in studies if study.pictures and _text(study, section)]
    if not used:
        what = "findings or impression" if section == "both" else section
        raise ValueError(
            f"{folder}: {split}: none of {len(studies):,} studies has both {what} and a picture; choose another "
            f"section, or complete the files"
        )
    pictures = _picture_folder(folder, files)
    return gather(
        NAME,
        split,
        _rows(used, split, files.variant, section, samples, pictures, folder),
        variant=files.variant,
        max_left_out=max_left_out,
        published=R2GEN_STUDIES[split] * (2 if samples == "view" else 1) if files.variant == "r2gen" else None,
        notes=_notes(files, studies, used, section, samples, split_by, seed),
        pictures=[pictures],
    )


def _check_options(section: str, samples: str, split_by: str, seed: int) -> None:
    """Raises a ValueError that names the first option out of range."""
    for option, value, known in (("section", section, SECTIONS), ("samples", samples, SAMPLES)):
        if value not in known:
            raise ValueError(f"{NAME}: {option} is {value!r}, expected one of {', '.join(known)}")
    if split_by not in SPLIT_BY:
        raise ValueError(f"{NAME}: split_by is {split_by!r}, expected '' or 'seed'")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"{NAME}: seed is {seed!r}, expected a whole number")


def _part(studies: Sequence[Study], seed: int) -> dict[str, list[Study]]:
    """Parts studies 7:1:2 by the hash of seed and study, whatever their order; each part keeps the files' order.

    Rounded as R2Gen's split is: 2,955 studies become 2,069, 296 and 590. All studies take part, with or without text,
    so that a study lies in the same split for every section.
    """
    ranked = sorted(studies, key=lambda study: hashlib.sha256(f"{seed}:{study.id}".encode()).hexdigest())
    train, val = -(-7 * len(ranked) // 10), -(-len(ranked) // 10)  # rounded up
    split_of = {
        study.id: "train" if rank < train else "val" if rank < train + val else "test"
        for rank, study in enumerate(ranked)
    }
    return {split: [study for study in studies if split_of[study.id] == split] for split in R2GEN_STUDIES}


def _text(study: Study, section: str) -> str:
    """The text of a section with white space put in order; "" where there is none."""
    parts = {
        "findings": (study.findings,),
        "impression": (study.impression,),
        "both": (study.findings, study.impression),
    }
    return " ".join(" ".join(parts[section]).split())


def _picture_folder(folder: Path, files: IuXrayFiles) -> Path:
    """The first of the form's places that holds one of the pictures, else where they ought to be."""
    tops = {picture.file.split("/")[0] for study in files.studies for picture in study.pictures}
    places = [folder / place for place in PICTURE_PLACES[files.variant]]
    holding = [place for place in places if place.is_dir() and not tops.isdisjoint(os.listdir(place))]
    return (holding or places)[0]


def _rows(
    studies: Sequence[Study], split: str, variant: str, section: str, samples: str, pictures: Path, folder: Path
) -> Iterator[Example | LeftOut]:
    """Yields the rows of a split, study by study."""
    listed: dict[str, PictureFolder] = {}  # R2Gen has a folder a study
    for study in studies:
        answer = _text(study, section)
        for picture in study.pictures if samples == "view" else [_frontal(study)]:
            row_id = f"{variant}-{picture.id if samples == 'view' else study.id}"
            inner, _, name = picture.file.rpartition("/")
            if inner not in listed:
                listed[inner] = PictureFolder(pictures / inner)
            problem = listed[inner].problem(name)
            if problem:
                yield LeftOut(row_id, problem, (pictures / picture.file).relative_to(folder).as_posix())
                continue
            yield Example(
                id=row_id,
                dataset=NAME,
                split=split,
                task="report",
                image=listed[inner].image(name),
                answer=answer,
                image_organ="CHEST",
                phrase_type=picture.view,
                group=study.id,
            )


def _frontal(study: Study) -> Picture:
    return next((picture for picture in study.pictures if picture.view == "frontal"), study.pictures[0])


def _notes(
    files: IuXrayFiles,
    studies: Sequence[Study],
    used: Sequence[Study],
    section: str,
    samples: str,
    split_by: str,
    seed: int,
) -> Iterator[str]:
    """Yields what a user should know of a split, a sentence each."""
    pictures = sum(len(study.pictures) for study in files.studies)
    yield (
        f"The files hold {len(files.studies):,} studies with {pictures:,} pictures; published were "
        f"{PUBLISHED_TOTALS[files.variant]}."
    )
    if files.variant == "r2gen" and not split_by:
        yield "The split is R2Gen's own."
    else:
        yield f"Studies are parted 7:1:2 by the seed {seed} and their ids; this split has {len(studies):,} of them."
    without_text = sum(not _text(study, section) for study in studies)
    if without_text:
        what = "neither findings nor impression" if section == "both" else f"no {section}"
        yield f"{without_text:,} of {len(studies):,} reports have {what} and give no row."
    without_picture = len(studies) - without_text - len(used)
    if without_picture:
        yield f"{without_picture:,} more of {len(studies):,} reports have no picture and give no row."
    if section == "both":
        single = sum(not (_text(study, "findings") and _text(study, "impression")) for study in used)
        yield f"{single:,} of {len(used):,} reports in use have only one of the two sections."
    hidden = sum(HIDDEN in _text(study, section) for study in used)
    yield f"{hidden:,} of {len(used):,} reports in use hold words hidden as {HIDDEN}; these are kept."
    if samples == "view":
        yield "All pictures of a study have its report, so answers repeat."
    if files.variant == "r2gen":
        yield "The first picture of a study counts as frontal, the second as lateral; annotation.json does not say it."
    elif files.variant == "openi":
        yield "The reports do not say which picture is frontal" + (
            "; each study is shown by the first it names." if samples == "study" else "."
        )
    if files.ownerless:
        yield f"{files.ownerless:,} pictures in the files belong to no report and give no row."
