"""Scores of an ablation's conditions by seed, and their paired differences with intervals, from run folders.

    for name, folder in find_ablations("runs/conditions").items():
        scores = condition_scores(folder)
        scores.differences["stage2"]["overall"].ci95

Every score is one sum over rows divided by another: right answers by questions, or findings told rightly by findings
told or true. So one bootstrap serves them all, F1 with them, which is no mean of rows.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.conditions import CONDITIONS, CONTROLS
from pefomed.metrics.findings import DATASET as DRAWN_WORLD
from pefomed.metrics.findings import placed_findings
from pefomed.metrics.normalise import is_match
from pefomed.predictions import read_predictions

PREDICTIONS = "predictions.jsonl"
KINDS = ("open", "closed", "overall")
OF_TEXTS = ("precision", "recall", "F1")
MEASURES = {"vqa": KINDS, "report": OF_TEXTS, "caption": OF_TEXTS}
HEADLINE = {"vqa": "overall", "report": "F1", "caption": "F1"}
BLANK = "stage2_blank"  # learns and answers without looking
ORDER = (*CONDITIONS, *CONTROLS, BLANK)
_SEED_FOLDER = re.compile(r"seed-(0|[1-9]\d*)")
_DRAWS_PER_BLOCK = 4_000_000  # bounds the memory of one block to about 100 MB

Run = tuple[str, int]  # condition and seed
Row = dict[str, Any]


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two, in per cent.

    Attributes:
        by_seed: its value for every seed; None where it is undefined (precision of a model that tells no finding).
        mean: over the seeds; None where there are none, or one is undefined.
        sd: sample standard deviation over the seeds; None for fewer than two.
        ci95: [low, high] for other test pictures and the same trained models (see `condition_scores`), or None.
        ci95_seeds: [low, high] for other test pictures and other seeds, or None for fewer than two seeds.
    """

    by_seed: dict[int, float | None]
    mean: float | None
    sd: float | None
    ci95: list[float] | None
    ci95_seeds: list[float] | None


@dataclass(frozen=True)
class ConditionScores:
    """What `condition_scores` found.

    Attributes:
        task, dataset: of the predictions.
        n: for questions, how many of each answer type; for texts, how many, and how many findings are true.
        groups: pictures, studies or patients that the bootstrap draws from.
        reference: the condition that the others are compared with.
        scores: by condition and measure.
        differences: reference minus condition, by condition and measure, over the seeds that both have.
    """

    task: str
    dataset: str
    n: dict[str, int]
    groups: int
    reference: str
    scores: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]


def find_ablations(folder: str | Path) -> dict[str, Path]:
    """Folders that `condition_scores` can read, by name: this one, or those right below it.

    Raises:
        FileNotFoundError: there is no such folder, or no answered condition in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; name the one that holds the ablation's runs")
    places = [folder] if _answered(folder) else sorted(path for path in folder.iterdir() if path.is_dir())
    found = {path.resolve().name: path for path in places if _answered(path)}
    if not found:
        raise FileNotFoundError(
            f"{folder}: no CONDITION/{PREDICTIONS} or seed-N/CONDITION/{PREDICTIONS} in it or in a folder of it; "
            "run run_conditions first"
        )
    return found


def condition_scores(
    folder: str | Path, reference: str = "stage1+2", n_resamples: int = 2000, seed: int = 0
) -> ConditionScores:
    """Scores of every condition of an ablation, and how they differ from one of them.

    Questions are scored by exact match with the published normaliser, reports and captions of phantoms by their
    findings' names (micro precision, recall and F1, as in `finding_scores`).

    Intervals are percentile bootstraps (Efron and Tibshirani 1993, chapters 8 and 13), paired: one resample of groups
    serves all conditions and seeds, so that what makes a picture hard for all of them cancels in a difference. `ci95`
    resamples groups and averages over the seeds: it covers other test pictures for these very models, not another
    training. `ci95_seeds` also resamples the seeds, the same for both sides of a difference, and so covers another
    training too, but not enough of it: the spread of k seeds comes out too small by sqrt((k - 1) / k), 0.82 for three.

    Args:
        folder: with CONDITION/predictions.jsonl, or the same below folders seed-N. Folders without a whole
            predictions file do not count.
        reference: what the others are compared with.
        n_resamples: number of resamples.
        seed: of the bootstrap's draws.

    Raises:
        FileNotFoundError: no condition is answered.
        ValueError: runs are not about the same rows, or are of a task and data set without a score; the message names
            folders and row.
    """
    paths = _answered(Path(folder))
    if not paths:
        raise FileNotFoundError(f"{folder}: no condition with a {PREDICTIONS} in it; see find_ablations")
    first_path = next(iter(paths.values()))
    first = read_predictions(first_path / PREDICTIONS)
    task, dataset = _task_of(first, first_path)
    groups = [_group(row) for row in first]
    sums = {}
    for run, path in paths.items():
        rows = first if path == first_path else _aligned(path, first, first_path)
        sums[run] = _by_group([_parts(row, path) for row in rows], groups)
    values = _values(sums, n_resamples, seed)

    def estimates(of: Mapping[int, np.ndarray]) -> dict[str, Estimate]:
        return {name: _estimate({s: v[:, i] for s, v in of.items()}, seed) for i, name in enumerate(MEASURES[task])}

    found = {c: {s: values[c, s] for name, s in values if name == c} for c in dict.fromkeys(c for c, _ in paths)}
    wanted = found.get(reference, {})
    others = {name: of_seed for name, of_seed in found.items() if name != reference and wanted}
    return ConditionScores(
        task,
        dataset,
        _counts(task, len(first), next(iter(sums.values()))),
        len(set(groups)),
        reference,
        {name: estimates(of_seed) for name, of_seed in found.items()},
        {
            name: estimates({s: wanted[s] - v for s, v in of_seed.items() if s in wanted})
            for name, of_seed in others.items()
        },
    )


def check_scorable(task: str, dataset: str | None, where: str = "parameters task and dataset") -> None:
    """Refuses what has no score here, before hours are spent on answering it.

    Raises:
        ValueError: texts of a data set whose findings cannot be read out of them.
    """
    if task != "vqa" and dataset != DRAWN_WORLD:
        raise ValueError(
            f"{where}: task {task!r} of data set {dataset!r} has no score to compare conditions by; compare answers "
            f"(task 'vqa') of any data set, or reports and captions of {DRAWN_WORLD!r}"
        )


def _answered(folder: Path) -> dict[Run, Path]:
    """Answered conditions of an ablation, in the order of tables and then of seeds; a folder without seeds has 0."""
    seeds = {int(found[1]): path for path in folder.iterdir() if (found := _SEED_FOLDER.fullmatch(path.name))}
    runs = {
        (path.parent.name, seed): path.parent
        for seed, place in (seeds or {0: folder}).items()
        for path in place.glob(f"*/{PREDICTIONS}")
    }
    known = {condition: number for number, condition in enumerate(ORDER)}
    return dict(sorted(runs.items(), key=lambda run: (known.get(run[0][0], len(known)), run[0])))


def _task_of(rows: list[Row], path: Path) -> tuple[str, str]:
    """The one task and data set of the rows."""
    for number, row in enumerate(rows, start=1):
        for key in ("task", "dataset"):
            if row.get(key) != rows[0].get(key):
                raise ValueError(
                    f"{path / PREDICTIONS}, row {number}: {key} is {row.get(key)!r}, that of row 1 "
                    f"{rows[0].get(key)!r}; conditions are compared on one task and data set"
                )
    check_scorable(rows[0]["task"], rows[0].get("dataset"), str(path))
    return rows[0]["task"], rows[0].get("dataset") or ""


def _aligned(path: Path, first: list[Row], first_path: Path) -> list[Row]:
    """The rows of a run in the order of the first one's."""
    of_id = {row["id"]: row for row in read_predictions(path / PREDICTIONS)}
    asked = {row["id"] for row in first}
    alone = next((row["id"] for row in first if row["id"] not in of_id), "")
    alone = alone or next((name for name in of_id if name not in asked), "")
    if alone:
        only = path if alone in of_id else first_path
        raise ValueError(f"{first_path} and {path}: not about the same rows, first {alone!r} is in {only.name} only")
    for row in first:
        for key in ("task", "dataset", "question", "answer", "group", "answer_type"):
            if of_id[row["id"]].get(key) != row.get(key):
                raise ValueError(
                    f"{first_path} and {path}: row {row['id']!r} differs in its {key}, so they answer other data; "
                    "compare conditions on the same test split"
                )
    return [of_id[row["id"]] for row in first]


def _group(row: Row) -> Hashable:
    group = row.get("group")
    # The first element keeps an id from meeting a group of the same name.
    return ("id", row["id"]) if group is None or group == "" else ("group", str(group))


def _parts(row: Row, path: Path) -> list[tuple[int, int]]:
    """What a row adds to numerator and denominator of each measure."""
    if row["task"] == "vqa":
        # Data sets write "CLOSED", and VQA-RAD in two rows "CLOSED " with a blank.
        kind = (row.get("answer_type") or "").strip().lower()
        if kind not in ("open", "closed", ""):
            raise ValueError(
                f"{path}, row {row['id']!r}: answer_type {row['answer_type']!r} is not open, closed or null"
            )
        right = int(is_match(row["prediction"], row["answer"]))
        return [(right * member, member) for member in (int(kind == "open"), int(kind == "closed"), 1)]
    told, true = ({name for name, _ in placed_findings(row[side])} for side in ("prediction", "answer"))
    hits = len(told & true)
    return [(hits, len(told)), (hits, len(true)), (2 * hits, len(told) + len(true))]


def _by_group(parts: list[list[tuple[int, int]]], groups: list[Hashable]) -> np.ndarray:
    """Sums (groups, measures, 2) of what the rows add."""
    number_of = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(number_of), len(parts[0]), 2))
    np.add.at(sums, [number_of[group] for group in groups], np.array(parts, dtype=np.float64))
    return sums


def _counts(task: str, rows: int, sums: np.ndarray) -> dict[str, int]:
    """How many of what the scores are about."""
    below = [int(count) for count in sums[..., 1].sum(axis=0)]
    return dict(zip(KINDS, below, strict=True)) if task == "vqa" else {"texts": rows, "findings": below[1]}


def _values(sums: Mapping[Run, np.ndarray], n_resamples: int, seed: int) -> dict[Run, np.ndarray]:
    """Each run's measures in per cent (1 + resamples, measures): of all groups, then of each resample of groups, which
    draws the same ones for every run."""
    generator = np.random.default_rng(seed)
    number = len(next(iter(sums.values())))
    found = {run: [_ratios(counts.sum(axis=0, keepdims=True))] for run, counts in sums.items()}
    block = max(1, _DRAWS_PER_BLOCK // number)
    # One group says nothing about how groups differ.
    for start in range(0, n_resamples if number > 1 else 0, block):
        size = min(block, n_resamples - start)
        drawn = generator.integers(number, size=(size, number)) + number * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * number).reshape(size, number)
        for run, counts in sums.items():
            found[run].append(_ratios(np.tensordot(times.astype(np.float64), counts, axes=1)))
    return {run: np.concatenate(rows) for run, rows in found.items()}


def _ratios(sums: np.ndarray) -> np.ndarray:
    """Per cent (resamples, measures) from numerators and denominators (resamples, measures, 2); NaN over nothing."""
    above, below = 100.0 * sums[..., 0], sums[..., 1]
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _estimate(values: Mapping[int, np.ndarray], seed: int) -> Estimate:
    """From each seed's value, at 0, and its resampled values behind it; a resample without a value is left out."""
    by_seed = {number: None if np.isnan(found[0]) else float(found[0]) for number, found in values.items()}
    known = [value for value in by_seed.values() if value is not None]
    if not known or len(known) < len(by_seed):
        return Estimate(by_seed, None, None, None, None)
    drawn = np.stack([found[1:] for found in values.values()], axis=1)
    several = len(known) > 1
    chosen = np.random.default_rng([seed, 1]).integers(len(known), size=drawn.shape)
    return Estimate(
        by_seed,
        statistics.fmean(known),
        statistics.stdev(known) if several else None,
        _interval(drawn.mean(axis=1)),
        _interval(np.take_along_axis(drawn, chosen, axis=1).mean(axis=1)) if several else None,
    )


def _interval(drawn: np.ndarray) -> list[float] | None:
    drawn = drawn[~np.isnan(drawn)]
    return [float(end) for end in np.percentile(drawn, [2.5, 97.5])] if len(drawn) else None
