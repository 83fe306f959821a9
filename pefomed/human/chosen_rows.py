"""Which predictions raters see: those of one task that exact match rejects, or a sample of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pefomed import files
from pefomed.human.sheets import SCALES, PredictionsFile
from pefomed.metrics.normalise import NORMALISERS, is_match
from pefomed.predictions import read_predictions

Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which predictions to rate.

    Attributes:
        rejected_only: For `vqa`, leave out what exact match accepts, as in the paper (section 3.4). Reports are not
            filtered: hardly one equals its reference.
        normaliser: The exact match's normaliser, `medvqa` or `repaired`.
        sample: How many ids to draw (the paper: 100 reports), 0 for all. Drawn are ids, so that of several models
            the same questions are rated.
        seed: Seed of the sample and of each rater's order.
    """

    rejected_only: bool = True
    normaliser: str = "medvqa"
    sample: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("sample", 0), ("seed", None)):
            value = getattr(self, name)
            if type(value) is not int or (lowest is not None and value < lowest):
                raise ValueError(f"parameter {name} must be a whole number{' from 0' * (lowest == 0)}, not {value!r}")
        if self.normaliser not in NORMALISERS:
            raise ValueError(f"parameter normaliser must be {' or '.join(NORMALISERS)}, not {self.normaliser!r}")


@dataclass(frozen=True)
class ChosenRows:
    """What raters are to see.

    Attributes:
        files: The predictions files.
        rows: Index of its file and the row, in the order of the files.
        accepted: Rows left out because exact match accepts them.
        not_sampled: Rows left out by sampling.
    """

    files: tuple[PredictionsFile, ...]
    rows: tuple[tuple[int, Row], ...]
    accepted: int
    not_sampled: int


def choose_rows(predictions: str | Path | Sequence[str | Path], task: str, selection: Selection) -> ChosenRows:
    """Read predictions and choose what raters are to see.

    Args:
        predictions: A predictions.jsonl, or several.
        task: `vqa` or `report`.
        selection: Which of the rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is malformed, of another task or given twice, or none of its rows is left.
    """
    if task not in SCALES:
        raise ValueError(f"parameter task must be {' or '.join(SCALES)}, not {task!r}")
    paths = [predictions] if isinstance(predictions, str | Path) else list(predictions)
    if not paths:
        raise ValueError("parameter predictions: no file given; give at least one predictions.jsonl")
    sources, rows = [], []
    for number, path in enumerate(paths):
        read = read_predictions(path)
        for line, row in enumerate(read, start=1):
            if row["task"] != task:
                raise ValueError(f"{path}, row {line}: task {row['task']!r} is not {task!r}; leave other tasks out")
        source = PredictionsFile(str(path), files.sha256_file(path))
        twice = next((one.path for one in sources if one.sha256 == source.sha256), None)
        if twice is not None:
            raise ValueError(f"{path}: holds the same as {twice}; give each predictions file once")
        sources.append(source)
        rows += [(number, row) for row in read]
    filtered = selection.rejected_only and task == "vqa"
    rejected = [pair for pair in rows if not (filtered and _accepts(pair[1], selection.normaliser))]
    if not rejected:
        raise ValueError(f"{paths[0]}: exact match accepts all {len(rows):,} answers, so none is left to rate")
    chosen = _sample(rejected, selection)
    return ChosenRows(tuple(sources), tuple(chosen), len(rows) - len(rejected), len(rejected) - len(chosen))


def _accepts(row: Row, normaliser: str) -> bool:
    return is_match(row["prediction"], row["answer"], normaliser)


def _sample(rows: list[tuple[int, Row]], selection: Selection) -> list[tuple[int, Row]]:
    ids = list(dict.fromkeys(row["id"] for _, row in rows))
    if not selection.sample:
        return rows
    if selection.sample > len(ids):
        raise ValueError(f"parameter sample: {selection.sample:,} ids wanted, but only {len(ids):,} are there to rate")
    drawn = set(random.Random(f"sample {selection.seed}").sample(ids, selection.sample))
    return [(number, row) for number, row in rows if row["id"] in drawn]
