"""Ratings and verdicts as tables of items and raters, ready to be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.human.agreement_measures import cluster_numbers
from pefomed.metrics.bootstrap import cluster_of
from pefomed.metrics.normalise import is_match
from pefomed.metrics.verdict_files import TOP, Verdict, Verdicts, check_score, read_verdicts
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
Source = str | Path | Verdicts | list[Verdict]
#: How many levels a score of each task has, from 0 upwards.
LEVELS = {task: top + 1 for task, top in TOP.items()}


@dataclass(frozen=True)
class RatingTable:
    """Scores of items by raters.

    Attributes:
        ids: Of the items.
        raters: Names of the columns.
        scores: Shape (items, raters), NaN where a rating is missing.
        clusters: The number of each item's image or study, shape (items,).
        k: Number of levels.
        name: The judge's model, "" where unknown.
        failed: Verdicts that the file names as failed.
    """

    ids: tuple[str, ...]
    raters: tuple[str, ...]
    scores: np.ndarray
    clusters: np.ndarray
    k: int
    name: str = ""
    failed: int = 0

    def shared_with(self, other: RatingTable) -> tuple[RatingTable, RatingTable]:
        """Both tables cut to the items that both hold, in the order of this one."""
        places = {name: place for place, name in enumerate(other.ids)}
        ours = [place for place, name in enumerate(self.ids) if name in places]
        theirs = [places[self.ids[place]] for place in ours]
        return self.rows(ours), other.rows(theirs)

    def rows(self, places: list[int]) -> RatingTable:
        """The table of some of the items."""
        clusters = cluster_numbers(self.clusters[places].tolist())
        ids = tuple(self.ids[place] for place in places)
        return replace(self, ids=ids, scores=self.scores[places], clusters=clusters)

    def with_accepted(self, matched: RatingTable) -> RatingTable:
        """This table with the items that exact match accepts and nobody rated, accepted by every rater."""
        rated = {name: self.scores[place] for place, name in enumerate(self.ids)}
        places = [i for i, name in enumerate(matched.ids) if name in rated or matched.scores[i, 0] == 1.0]
        taken = matched.rows(places)
        ones = np.ones(len(self.raters))
        scores = np.array([rated.get(name, ones) for name in taken.ids]).reshape(len(places), len(self.raters))
        return replace(taken, raters=self.raters, scores=scores)


def rows_of(predictions: str | Path | list[Row], task: str) -> list[Row]:
    """The predictions that were rated.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is malformed or of another task, or there are none.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else str(predictions)
    if not rows:
        raise ValueError(f"{source}: there are no predictions; give at least one row, or leave predictions out")
    check_rows(rows, source)
    for number, row in enumerate(rows, start=1):
        if row["task"] != task:
            raise ValueError(f"{source}, row {number}: task {row['task']!r} is not {task!r}; leave other tasks out")
    return rows


def read_table(source: Source, task: str, rows: list[Row] | None, what: str) -> RatingTable:
    """Read ratings.jsonl or judge.jsonl as a table.

    Args:
        source: The file, what `read_verdicts` made of it, or a list of `Verdict`s.
        task: Which sets the levels.
        rows: The predictions, whose order and groups the table takes; None orders items as they come.
        what: How an error names a source in memory.

    Returns:
        The table of every item that has a score; raters stand in the order in which they first come.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no scores, or one is no level of the task, is given twice, or is of an unknown id.
    """
    name, failed, where = "", 0, what
    if isinstance(source, str | Path):
        name, where, source = _model_of(Path(source)), str(source), read_verdicts(source, task)
    if isinstance(source, Verdicts):
        failed, source = len(source.failed), list(source.verdicts)
    if not source:
        raise ValueError(f"{where}: there are no scores to compare; give at least one")
    found = _checked(source, task, rows, where)
    raters = list(dict.fromkeys(rater for _, rater in found))
    seen = dict.fromkeys(name for name, _ in found)
    ids = [row["id"] for row in rows if row["id"] in seen] if rows is not None else list(seen)
    groups = {row["id"]: cluster_of(row) for row in rows or ()}
    scores = np.full((len(ids), len(raters)), np.nan)
    item_of, rater_of = ({name: i for i, name in enumerate(names)} for names in (ids, raters))
    for (item, rater), score in found.items():
        scores[item_of[item], rater_of[rater]] = score
    clusters = cluster_numbers([groups.get(item, item) for item in ids])
    return RatingTable(tuple(ids), tuple(raters), scores, clusters, LEVELS[task], name, failed)


def exact_match_table(rows: list[Row]) -> RatingTable:
    """The verdict of exact match (as published) on every prediction, as the only rater of a table."""
    scores = np.array([[float(is_match(row["prediction"], row["answer"], "medvqa"))] for row in rows])
    clusters = cluster_numbers([cluster_of(row) for row in rows])
    return RatingTable(tuple(row["id"] for row in rows), ("exact match",), scores, clusters, LEVELS["vqa"])


def _checked(verdicts: Iterable[Verdict], task: str, rows: list[Row] | None, where: str) -> dict[tuple[str, str], int]:
    known = None if rows is None else {row["id"] for row in rows}
    found: dict[tuple[str, str], int] = {}
    for verdict in verdicts:
        at = f"{where}: id {verdict.id!r}, {verdict.rater!r}"
        check_score(verdict.score, TOP[task], at)
        if (verdict.id, verdict.rater) in found:
            raise ValueError(f"{at}: there are two scores; leave one")
        if known is not None and verdict.id not in known:
            raise ValueError(f"{at}: no prediction has this id; give the predictions that were rated")
        found[verdict.id, verdict.rater] = verdict.score
    return found


def _model_of(path: Path) -> str:
    """The models that a judge.jsonl names, or "" (ratings have none). `read_verdicts` checks the lines afterwards."""
    if not path.is_file():
        return ""
    models: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("model"), str):
            models[row["model"]] = None
    return " + ".join(models)
