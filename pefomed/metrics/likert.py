"""Reports rated from 0 (nothing alike) to 4 (very alike): the distribution of the levels, and WASM, its mean.

    wasm([22, 118, 267, 449, 324])   # 2.792, Table 7 of the paper
    likert_scores([4, 3, 3, 0], clusters=["a", "a", "b", "c"])

WASM is the paper's weighted average score: the sum of each level times its number of reports, over all reports.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.sample_size import small_sample_warning

LEVELS = (0, 1, 2, 3, 4)


def wasm(counts: Sequence[float] | Mapping[Any, float]) -> float:
    """Weighted average of the levels, from how many reports have each.

    Args:
        counts: Five numbers for the levels 0 to 4, or numbers by level (0 or "0"), a missing one being none. Numbers
            need not be whole, so that means over raters and per cent will do.

    Returns:
        A number from 0 to 4.

    Raises:
        ValueError: There are not five numbers, a level is not one of 0 to 4, a number is negative or not finite, or
            all are 0.
    """
    numbers = _by_level(counts) if isinstance(counts, Mapping) else list(counts)
    if len(numbers) != len(LEVELS):
        raise ValueError(f"counts has {len(numbers)} numbers; give five, one for each of the levels 0 to 4")
    for level, number in enumerate(numbers):
        if not isinstance(number, Real) or not math.isfinite(number) or number < 0:
            raise ValueError(f"counts, level {level}: found {number!r}; it must be a number of 0 or more")
    total = sum(numbers)
    if not total:
        raise ValueError("counts holds no report at any level; give at least one")
    return float(sum(level * number for level, number in enumerate(numbers)) / total)


def level_counts(scores: Sequence[float]) -> dict[str, int]:
    """How many reports have each level.

    Args:
        scores: One level per report.

    Returns:
        {"0": .., "1": .., "2": .., "3": .., "4": ..}, as metrics.json holds it.

    Raises:
        ValueError: A score is not a whole number from 0 to 4.
    """
    levels = _levels(scores)
    return {str(level): levels.count(level) for level in LEVELS}


def likert_scores(
    scores: Sequence[float], clusters: Sequence[Hashable] | None = None, n_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The distribution of the levels and WASM, with 95 % intervals.

    Args:
        scores: One level per report.
        clusters: One label per report; reports of one label are resampled together. None makes each a cluster of its
            own.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n`, `counts` ({"0": .., ..}), `levels` ({"0": {"share", "ci95"}, ..}, per cent), `wasm` ({"value", "ci95"}, 0
        to 4) and `warning`, a line where there are too few reports to tell, else None. An interval is `[low, high]`,
        or None with a single cluster.

    Raises:
        ValueError: There are no scores, one is not a whole number from 0 to 4, or `clusters` has another length.
    """
    if not len(scores):
        raise ValueError("there are no scores; give the level of at least one report")
    levels = np.array(_levels(scores))
    labels = list(range(len(levels))) if clusters is None else list(clusters)
    counts = level_counts(scores)
    shares = {str(level): 100.0 * (levels == level) for level in LEVELS}
    return {
        "n": len(levels),
        "counts": counts,
        "levels": {
            name: {"share": float(hits.mean()), "ci95": cluster_bootstrap(hits, labels, n_resamples, seed).to_json()}
            for name, hits in shares.items()
        },
        "wasm": {"value": wasm(counts), "ci95": cluster_bootstrap(levels, labels, n_resamples, seed).to_json()},
        "warning": small_sample_warning({"the rating": (len(levels), len(set(labels)))}),
    }


def _by_level(counts: Mapping[Any, float]) -> list[float]:
    numbers = {str(level): 0.0 for level in LEVELS}
    for level, number in counts.items():
        if str(level) not in numbers:
            raise ValueError(f"counts names level {level!r}; the levels are 0, 1, 2, 3 and 4")
        numbers[str(level)] = number
    return list(numbers.values())


def _levels(scores: Sequence[float]) -> list[int]:
    for number, score in enumerate(scores, start=1):
        # True is a 1 to Python, but whoever gives it means something else.
        if isinstance(score, bool | np.bool_) or not isinstance(score, Real) or score not in LEVELS:
            raise ValueError(f"scores, number {number}: found {score!r}; a level is a whole number from 0 to 4")
    return [int(score) for score in scores]
