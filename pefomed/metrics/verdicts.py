"""Scores made of verdicts: accuracy by a judge or by raters, levels of reports and WASM, over several raters.

    verdicts = read_verdicts("run/judge.jsonl", "vqa")
    print(format_verdict_scores(verdict_scores("run/predictions.jsonl", verdicts, "vqa")))

A rater is a person or one repeat of a judge. Every score is computed for each rater first; `mean` and `sd` are over
the raters, as in the paper's Tables 2 to 11, so that `sd` (None for a single one) tells how far raters differ, and
`ci95` how far other images would change the mean: images are resampled, raters are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.metrics.bootstrap import Interval, cluster_of
from pefomed.metrics.normalise import is_match
from pefomed.metrics.verdict_files import TOP, Failure, Verdict, Verdicts, check_score, check_task, read_verdicts
from pefomed.predictions import check_rows, read_predictions

__all__ = ["Failure", "Verdict", "Verdicts", "format_verdict_scores", "read_verdicts", "verdict_scores"]
Row = dict[str, Any]
# Bounds the memory of one block of resamples, to about 50 MB.
_WEIGHTS_PER_BLOCK = 2_000_000
_BREAKDOWNS = ("question_type", "image_organ", "phrase_type")


def verdict_scores(
    predictions: str | Path | list[Row],
    verdicts: str | Path | Verdicts | Sequence[Verdict],
    task: str,
    n_resamples: int = 2000,
    seed: int = 0,
    *,
    matched_count_as_right: bool = True,
    normaliser: str = "medvqa",
) -> dict[str, Any]:
    """Accuracy, or levels and WASM, by the verdicts of one or more raters.

    A prediction without a verdict is left out and counted, never taken for wrong. The one exception: the paper's
    raters saw only what exact match rejects, so an answer that it accepts and a rater did not see counts as right.
    Where a rater left rejected answers unrated too, this favours the model; `unrated` tells. What a judge failed at is
    always left out, and a rater without any verdict does not enter the mean.

    Args:
        predictions: The path of a predictions.jsonl, or its rows; all of the task.
        verdicts: The path of a judge.jsonl or ratings.jsonl, or what was read from it.
        task: `vqa` or `report`.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.
        matched_count_as_right: For `vqa`, whether answers that exact match accepts count as right if not rated.
        normaliser: That of this exact match.

    Returns:
        Of both tasks: `task`, `raters` (names), and counts of pairs of row and rater: `rated`, `counted_as_right`,
        `unrated`, `failed`, which add up to rows times raters.
        `vqa`: `n` ({"open", "closed", "overall"}, rows with a score), `accuracy` (the same keys, each {"mean", "sd",
        "ci95"} in per cent), `by_question_type`, `by_image_organ`, `by_phrase_type` ({name: {"n", "mean", "sd",
        "ci95"}}), `matched_count_as_right`, `normaliser`.
        `report`: `n`, `levels` ({"0": {"mean", "sd"}, ...}, per cent of a rater's reports), `counts` ({"0": ...}, of
        all raters' verdicts together), `wasm` ({"mean", "sd", "ci95"}, 0 to 4).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file or row is malformed or of another task, there are no verdicts, or one is out of range, given
            twice or of an id that is not among the predictions.
    """
    check_task(task)
    rows = _rows(predictions, task)
    found = verdicts if isinstance(verdicts, Verdicts) else _verdicts(verdicts, task)
    matched = task == "vqa" and matched_count_as_right
    accepted = [matched and is_match(row["prediction"], row["answer"], normaliser) for row in rows]
    raters, scores, pairs = _table(rows, found, task, np.array(accepted))
    clusters = [cluster_of(row) for row in rows]
    head = {"task": task, "raters": raters, **pairs}
    if task == "report":
        return head | _report_scores(scores, clusters, n_resamples, seed)
    settings = {"matched_count_as_right": matched_count_as_right, "normaliser": normaliser}
    return head | settings | _vqa_scores(rows, 100.0 * scores, clusters, n_resamples, seed)


def format_verdict_scores(scores: dict[str, Any]) -> str:
    """Lay out what `verdict_scores` returns as a plain-text table.

    Args:
        scores: The result of `verdict_scores`.

    Returns:
        Lines of equal columns, and a last one that says of how many raters and verdicts they are made.
    """
    report = scores["task"] == "report"
    lines = [f"{'' if report else 'per cent':<26}{'n':>6}  mean (sd) [95 % interval]"]
    if report:
        lines.append(f"{'WASM, 0 to 4':<26}{scores['n']:>6}  {_cell(scores['wasm'], 3)}")
        lines += [
            f"{f'level {level}, per cent':<26}{scores['counts'][level]:>6}  {_cell(entry, 1)}"
            for level, entry in scores["levels"].items()
        ]
    else:
        lines += [f"{k:<26}{scores['n'][k]:>6}  {_cell(entry, 1)}" for k, entry in scores["accuracy"].items()]
        for key in _BREAKDOWNS:
            for name, entry in scores[f"by_{key}"].items():
                lines.append(f"{f'{key} {name}'.replace('_', ' '):<26}{entry['n']:>6}  {_cell(entry, 1)}")
    raters = len(scores["raters"])
    counted = f", {scores['counted_as_right']} counted as right by exact match" if scores["counted_as_right"] else ""
    lines.append(
        f"{raters} rater{'s' * (raters != 1)}: {scores['rated']} verdicts{counted}, {scores['unrated']} unrated and "
        f"{scores['failed']} failed left out"
    )
    return "\n".join(line.rstrip() for line in lines)


def _verdicts(verdicts: str | Path | Sequence[Verdict], task: str) -> Verdicts:
    return read_verdicts(verdicts, task) if isinstance(verdicts, str | Path) else Verdicts(tuple(verdicts))


def _rows(predictions: str | Path | list[Row], task: str) -> list[Row]:
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else str(predictions)
    if not rows:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(rows, source)
    for number, row in enumerate(rows, start=1):
        if row["task"] != task:
            raise ValueError(f"{source}, row {number}: task {row['task']!r} is not {task!r}; leave other tasks out")
        if _answer_type(row) not in ("open", "closed", ""):
            raise ValueError(
                f"{source}, row {number}: 'answer_type' is {row['answer_type']!r}; it must be open, closed or null"
            )
    return rows


def _table(
    rows: list[Row], found: Verdicts, task: str, accepted: np.ndarray
) -> tuple[list[str], np.ndarray, dict[str, int]]:
    """Raters in order of appearance, scores (rows, raters) with NaN for what is left out, and counts of the pairs."""
    everything = (*found.verdicts, *found.failed)
    if not everything:
        raise ValueError("there are no verdicts to score; give at least one")
    number_of = {row["id"]: number for number, row in enumerate(rows)}
    raters = list(dict.fromkeys(one.rater for one in everything))
    column_of = {rater: number for number, rater in enumerate(raters)}
    scores = np.full((len(rows), len(raters)), np.nan)
    given = np.zeros(scores.shape, dtype=bool)
    for one in everything:
        where = f"{one.rater!r} of id {one.id!r}"
        if one.id not in number_of:
            raise ValueError(f"{where}: there is no such prediction; give the predictions that were rated")
        at = number_of[one.id], column_of[one.rater]
        if given[at]:
            raise ValueError(f"{where}: given twice; keep one of them")
        given[at] = True
        if isinstance(one, Verdict):
            check_score(one.score, TOP[task], where)
            scores[at] = one.score
    rated = ~np.isnan(scores)
    counted = accepted[:, None] & ~given & rated.any(axis=0)
    scores[counted] = 1.0
    pairs = {
        "rated": int(rated.sum()),
        "counted_as_right": int(counted.sum()),
        "unrated": int((~given & ~counted).sum()),
        "failed": len(found.failed),
    }
    return raters, scores, pairs


def _vqa_scores(
    rows: list[Row], values: np.ndarray, clusters: list[Hashable], n_resamples: int, seed: int
) -> dict[str, Any]:
    # What nobody rated is in no score, and so in no n.
    kept = np.flatnonzero(~np.isnan(values).all(axis=1))
    rows, values, clusters = [rows[i] for i in kept], values[kept], [clusters[i] for i in kept]
    types = [_answer_type(row) for row in rows]
    members = {kind: [i for i, found in enumerate(types) if found == kind] for kind in ("open", "closed")}
    members["overall"] = list(range(len(rows)))

    def over(numbers: list[int]) -> dict[str, Any]:
        return _statistics(values[numbers], [clusters[i] for i in numbers], n_resamples, seed)

    result: dict[str, Any] = {"n": {kind: len(numbers) for kind, numbers in members.items()}}
    result["accuracy"] = {kind: over(numbers) for kind, numbers in members.items()}
    for key in _BREAKDOWNS:
        # A set, so that "POS, POS" is not counted twice; one of two types counts under both.
        parts = [{part.strip() for part in (row.get(key) or "").split(",")} - {""} for row in rows]
        names = {name: [i for i, own in enumerate(parts) if name in own] for name in sorted(set().union(*parts))}
        result[f"by_{key}"] = {name: {"n": len(numbers), **over(numbers)} for name, numbers in names.items()}
    return result


def _answer_type(row: Row) -> str:
    # Data sets write "CLOSED", and VQA-RAD in two rows "CLOSED " with a blank.
    return (row.get("answer_type") or "").strip().lower()


def _report_scores(scores: np.ndarray, clusters: list[Hashable], n_resamples: int, seed: int) -> dict[str, Any]:
    levels = {}
    for level in range(TOP["report"] + 1):
        shares = np.where(np.isnan(scores), np.nan, 100.0 * (scores == level))
        levels[str(level)] = dict(zip(("mean", "sd"), _mean_and_sd(shares), strict=True))
    counts = Counter(scores[~np.isnan(scores)].astype(int).tolist())
    return {
        "n": int((~np.isnan(scores)).any(axis=1).sum()),
        "levels": levels,
        "counts": {level: counts[int(level)] for level in levels},
        "wasm": _statistics(scores, clusters, n_resamples, seed),
    }


def _statistics(values: np.ndarray, clusters: list[Hashable], n_resamples: int, seed: int) -> dict[str, Any]:
    mean, sd = _mean_and_sd(values)
    return {"mean": mean, "sd": sd, "ci95": _interval(values, clusters, n_resamples, seed).to_json()}


def _mean_and_sd(values: np.ndarray) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 1) over raters of each one's mean, from (rows, raters)."""
    means = [float(np.mean(column[~np.isnan(column)])) for column in values.T if not np.isnan(column).all()]
    return (float(np.mean(means)) if means else None), (float(np.std(means, ddof=1)) if len(means) > 1 else None)


def _interval(values: np.ndarray, clusters: list[Hashable], n_resamples: int, seed: int) -> Interval:
    """Percentile bootstrap of the mean over raters, resampling clusters; `cluster_bootstrap` of a single rater's rows.

    Every resample takes each rater's own mean anew, because raters may have rated different rows.
    """
    kept = ~np.isnan(values).all(axis=1)
    values, clusters = values[kept], [cluster for cluster, keep in zip(clusters, kept, strict=True) if keep]
    numbers: dict[Hashable, int] = {}
    membership = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    if len(numbers) < 2:
        return Interval(np.nan, np.nan)
    rated = ~np.isnan(values)
    # Sums and numbers of rows, (clusters, 2 * raters), so that one product serves both.
    sums = np.zeros((len(numbers), 2 * values.shape[1]))
    np.add.at(sums, membership, np.hstack([np.where(rated, values, 0.0), rated]))
    generator = np.random.default_rng(seed)
    block = max(1, _WEIGHTS_PER_BLOCK // len(numbers))
    means = []
    for start in range(0, n_resamples, block):
        rounds = min(block, n_resamples - start)
        drawn = (
            generator.integers(len(numbers), size=(rounds, len(numbers))) + len(numbers) * np.arange(rounds)[:, None]
        )
        weights = np.bincount(drawn.ravel(), minlength=rounds * len(numbers)).reshape(rounds, len(numbers))
        totals, sizes = np.split(weights @ sums, 2, axis=1)
        present = sizes > 0  # a resample may miss all rows of a rater
        means.append((totals / np.where(present, sizes, 1.0)).sum(axis=1) / present.sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Interval(float(low), float(high))


def _cell(entry: dict[str, Any], digits: int) -> str:
    if entry["mean"] is None:
        return "-"
    sd = "" if entry["sd"] is None else f" ({entry['sd']:.{digits}f})"
    ends = entry.get("ci95")
    return f"{entry['mean']:.{digits}f}{sd}" + (f" [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else "")
