"""The one schema: every data set of the package, real or drawn, becomes rows of these twelve columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import pyarrow
from datasets.fingerprint import generate_random_fingerprint

from pefomed.disclosure import CREDENTIALED_DATASETS

SPLITS = ("train", "val", "test")
TASKS = ("caption", "vqa", "report")
ANSWER_TYPES = ("open", "closed")

# The image stays undecoded: a row holds {"bytes", "path"} and pefomed.images.open_image decodes it, with our own
# size bound and our own treatment of 16-bit and transparent files.
EXAMPLE_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "dataset": datasets.Value("string"),
        "split": datasets.Value("string"),
        "task": datasets.Value("string"),
        "image": datasets.Image(decode=False),
        "question": datasets.Value("string"),
        "answer": datasets.Value("string"),
        "answer_type": datasets.Value("string"),
        "question_type": datasets.Value("string"),
        "image_organ": datasets.Value("string"),
        "phrase_type": datasets.Value("string"),
        "group": datasets.Value("string"),
    }
)
COLUMNS = tuple(EXAMPLE_FEATURES)
ROWS_AT_ONCE = 4096  # as Python objects; the rest of a large set lies in Arrow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One image with one text to learn or to predict.

    Attributes:
        id: Unique within its data set.
        dataset: Name of the data set, as `load_dataset` takes it.
        split: "train", "val" or "test".
        task: "caption", "vqa" or "report".
        image: `{"bytes": encoded file or None, "path": file name or None}`, at least one of them given.
        question: The question of a "vqa" row; None for the other tasks.
        answer: The answer, caption or report, as its data set spells it.
        answer_type: "open", "closed" or None where the data set does not say.
        question_type: VQA-RAD's names (ABN, ATTRIB, COLOR, COUNT, MODALITY, ORGAN, PLANE, POS, PRES, SIZE, OTHER);
            several are joined by ", "; None where unknown.
        image_organ: "CHEST", "ABD", "HEAD" or None.
        phrase_type: "freeform", "para", VQA-RAD's "test_freeform", "test_para" and "frame", or None.
        group: What must not straddle splits: the image, study or patient.
    """

    id: str
    dataset: str
    split: str
    task: str
    image: Mapping[str, Any]
    question: str | None = None
    answer: str
    answer_type: str | None = None
    question_type: str | None = None
    image_organ: str | None = None
    phrase_type: str | None = None
    group: str

    @property
    def credentialed(self) -> bool:
        """Whether the use agreement of its data set forbids passing it on; the column `dataset` carries the mark."""
        return self.dataset in CREDENTIALED_DATASETS

    def as_row(self) -> dict[str, Any]:
        """Returns the row of `EXAMPLE_FEATURES` columns."""
        return {name: getattr(self, name) for name in COLUMNS}


def make_dataset(rows: Iterable[Example | Mapping[str, Any]]) -> datasets.Dataset:
    """Checks rows against the schema and returns them as a `datasets.Dataset`.

    Rows may hold one split or several; with several, no group may occur in two of them.

    Args:
        rows: `Example`s, or mappings with the columns of `EXAMPLE_FEATURES`; columns that may be null may be absent.

    Raises:
        ValueError: For no rows at all, an unknown or missing column, a value outside the schema, a repeated id,
            or a group that lies in two splits. The message names the row.
    """
    tables: list[pyarrow.Table] = []
    chunk: list[dict[str, Any]] = []
    first_use: dict[str, int] = {}
    split_of_group: dict[str, str] = {}
    for number, row in enumerate(rows):
        row = row.as_row() if isinstance(row, Example) else _complete(row, number)
        _check_values(row, number)
        if row["id"] in first_use:
            raise ValueError(f"row {number}: id {row['id']!r} is already used by row {first_use[row['id']]}")
        first_use[row["id"]] = number
        split = split_of_group.setdefault(row["group"], row["split"])
        if split != row["split"]:
            raise ValueError(
                f"row {number} (id {row['id']!r}): group {row['group']!r} lies in the splits {split!r} and "
                f"{row['split']!r}; a group must stay within one split"
            )
        chunk.append(row)
        if len(chunk) == ROWS_AT_ONCE:
            tables.append(pyarrow.Table.from_pylist(chunk, schema=EXAMPLE_FEATURES.arrow_schema))
            chunk = []
    if chunk:
        tables.append(pyarrow.Table.from_pylist(chunk, schema=EXAMPLE_FEATURES.arrow_schema))
    if not tables:
        raise ValueError("no rows: a data set needs at least one example")
    # Left to itself, `datasets` would pickle the whole table to name it.
    return datasets.Dataset(pyarrow.concat_tables(tables), fingerprint=generate_random_fingerprint())


def _complete(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Returns the row with all columns, in order; optional ones that are absent become None."""
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown:
        raise ValueError(f"row {number}: unknown column {unknown[0]!r}; the columns are {', '.join(COLUMNS)}")
    return {name: row.get(name) for name in COLUMNS}


def _check_values(row: Mapping[str, Any], number: int) -> None:
    """Raises a ValueError that names the row and column for the first value outside the schema."""
    where = f"row {number} (id {row['id']!r})"
    for name in COLUMNS:
        value = row[name]
        if name == "image":
            _check_image(value, where)
        elif value is None and name in ("question", "answer_type", "question_type", "image_organ", "phrase_type"):
            continue
        elif not isinstance(value, str):
            raise ValueError(f"{where}: {name} must be a string, found {type(value).__name__} {value!r:.60}")
        elif not value.strip() and name != "answer":
            raise ValueError(f"{where}: {name} is empty")
    for name, allowed in (("split", SPLITS), ("task", TASKS), ("answer_type", (*ANSWER_TYPES, None))):
        if row[name] not in allowed:
            raise ValueError(f"{where}: {name} is {row[name]!r}, expected one of {', '.join(map(str, allowed))}")
    if row["task"] == "vqa" and row["question"] is None:
        raise ValueError(f"{where}: a row of the task 'vqa' needs a question")


def _check_image(image: Any, where: str) -> None:
    """Raises a ValueError unless the image is {"bytes", "path"} with at least one of them given."""
    if not isinstance(image, Mapping) or not set(image) <= {"bytes", "path"}:
        raise ValueError(f"{where}: image must be {{'bytes': ..., 'path': ...}}, found {type(image).__name__}")
    data, path = image.get("bytes"), image.get("path")
    if not (data or path):
        raise ValueError(f"{where}: image has neither bytes nor a path")
    if not (data is None or isinstance(data, bytes)) or not (path is None or isinstance(path, str)):
        raise ValueError(f"{where}: image bytes must be bytes and image path a string")
