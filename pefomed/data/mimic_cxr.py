"""MIMIC-CXR (Johnson et al. 2019, doi:10.1038/s41597-019-0322-0): chest pictures with the text of their reports.

Lent to named persons by PhysioNet: neither pictures nor text may be shown, logged or sent anywhere; every row is
marked (`Example.credentialed`). The tree, with the official split by patient:

    files/p10/p10000032/s50414267.txt                     a study's report; also below mimic-cxr-reports/
    files/p10/p10000032/s50414267/DICOM_ID.jpg or .dcm    its pictures, as MIMIC-CXR-JPG or as MIMIC-CXR has them
    mimic-cxr-2.0.0-split.csv.gz                          dicom_id, study_id, subject_id, split
    mimic-cxr-2.0.0-metadata.csv.gz                       dicom_id, ViewPosition and more

377,110 pictures of 227,835 studies of 65,379 patients. The .jpg pictures are histogram-equalised and the .dcm pictures
are shown through their own window, so the two look different and are never mixed.

Starting reads the tables (seconds), each report of the split once, and lists each study's folder once: on a local disk
about 0.3 ms a study, so a minute or two for the training split; on a network drive far longer.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pefomed.data.example import Example
from pefomed.data.found import MAX_LEFT_OUT, Found, LeftOut, check_folder, check_split, gather
from pefomed.data.mimic_cxr_files import IMAGE_FORMATS, VIEWS, Picture, Tree, pictures_in
from pefomed.data.mimic_cxr_sections import SECTIONS

NAME = "mimic_cxr"
PUBLISHED = {"train": 368_960, "val": 2_991, "test": 5_159}
TASKS = ("report", "caption")


def read_mimic_cxr(
    data_dir: str | Path,
    split: str = "train",
    *,
    task: str = "report",
    section: str = "findings",
    views: Sequence[str] = VIEWS,
    image_format: str = "",
    max_left_out: float = MAX_LEFT_OUT,
) -> Found:
    """Reads one split of MIMIC-CXR: a row for each picture whose view is wanted and whose report has the section.

    `Found.in_files` counts all pictures of the split; the notes say how many are of other views or of studies without
    the section, neither of which counts as left out. `group` is the patient, `phrase_type` the view.

    Args:
        data_dir: The folder that holds `files` and the two tables.
        split: "train", "val" (the files' "validate") or "test".
        task: "report" or "caption"; only the task column differs.
        section: "findings", "impression" or "both", see `pefomed.data.mimic_cxr_sections`.
        views: ViewPosition values to take, () for all; then the metadata table may be absent.
        image_format: "jpg" or "dcm"; "" takes the one that the folder holds.
        max_left_out: Largest share of rows that may be left out for missing or empty pictures and reports.

    Raises:
        FileNotFoundError: The folder, `files` or a table is missing.
        ValueError: A malformed table or report, an unknown option, both formats, or too many rows left out.
    """
    check_split(NAME, split)
    _check_options(task, section, views, image_format)
    folder = check_folder(NAME, data_dir)
    tree = Tree(folder, section, image_format)
    counts: Counter[str] = Counter()
    pictures = (picture for picture in pictures_in(folder, views) if picture.split == split)
    items = _items(pictures, task, tuple(views), tree, counts)
    # Formats and counts are known once all rows have been through.
    found = gather(
        NAME, split, items, variant="", max_left_out=max_left_out, published=PUBLISHED[split], pictures=(tree.files,)
    )
    return dataclasses.replace(
        found, variant=tree.image_format, in_files=counts["in files"], notes=_notes(counts, section, views)
    )


def _items(
    pictures: Iterator[Picture], task: str, views: tuple[str, ...], tree: Tree, counts: Counter[str]
) -> Iterator[Example | LeftOut]:
    """Yields the rows of one split's pictures; `counts` is told what is passed over."""
    given = 0
    for picture in pictures:
        counts["in files"] += 1
        if views and picture.view not in views:
            counts["other view"] += 1
            continue
        text, problem = tree.report(picture.study)
        if problem:
            given += 1
            yield LeftOut(picture.dicom_id, problem, f"{picture.study}.txt")
        elif not text:
            counts["no section"] += 1
        else:
            given += 1
            yield _item(picture, task, text, tree)
    if not given:
        raise ValueError(
            f"none of the {counts['in files']:,} pictures is to be used: {counts['other view']:,} are of other views "
            f"than {', '.join(views) or 'any'}, {counts['no section']:,} of studies without the section "
            f"{tree.section!r}"
        )


def _item(picture: Picture, task: str, text: str, tree: Tree) -> Example | LeftOut:
    """Returns the row, or why there is no picture for it."""
    folder = tree.pictures(picture.study)
    file_name = f"{picture.dicom_id}.{tree.image_format or IMAGE_FORMATS[0]}"
    problem = folder.problem(file_name)
    if problem:
        return LeftOut(picture.dicom_id, problem, f"{picture.study}/{file_name}")
    return Example(
        id=picture.dicom_id,
        dataset=NAME,
        split=picture.split,
        task=task,
        image=folder.image(file_name),
        answer=text,
        phrase_type=picture.view or None,
        group=picture.patient,
    )


def _check_options(task: str, section: str, views: Sequence[str], image_format: str) -> None:
    for name, value, known in (
        ("task", task, TASKS),
        ("section", section, SECTIONS),
        ("image_format", image_format, ("", *IMAGE_FORMATS)),
    ):
        if value not in known:
            raise ValueError(f"{NAME}: unknown {name} {value!r}; choose one of {', '.join(known)}")
    if isinstance(views, str) or not all(isinstance(view, str) for view in views):
        raise ValueError(f"{NAME}: views is {views!r}; expected a list such as ['PA', 'AP'], or () for all")


def _notes(counts: Counter[str], section: str, views: Sequence[str]) -> tuple[str, ...]:
    """Returns what was passed over, in sentences."""
    notes = ["Credentialed: neither pictures nor text may be shown or passed on."]
    if counts["other view"]:
        notes.append(f"{counts['other view']:,} pictures are of other views than {', '.join(views)}.")
    if counts["no section"]:
        what = "findings or impression" if section == "both" else section
        notes.append(f"{counts['no section']:,} pictures are of studies whose report has no {what}.")
    return tuple(notes)
