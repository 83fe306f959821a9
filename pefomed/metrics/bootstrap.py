"""95 % intervals for scores whose rows are not independent.

Several questions are asked about one image, so their verdicts rise and fall together. Resampling rows would pretend to
more evidence than there is; resampling whole clusters (images, studies, patients) does not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Bounds the memory of one block of draws: 4 million indices and as many gathered sums and sizes, about 100 MB.
_DRAWS_PER_BLOCK = 4_000_000


class Interval(NamedTuple):
    """A 95 % interval in the unit of the values; both ends are NaN where the data cannot give one."""

    low: float
    high: float

    def to_json(self) -> list[float] | None:
        """`[low, high]`, or None where the interval is undefined (JSON knows no NaN)."""
        return None if math.isnan(self.low) else [self.low, self.high]


def cluster_bootstrap(
    values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable], n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean, resampling clusters with replacement (Efron and Tibshirani 1993, chapters 8
    and 13).

    Each resample draws as many clusters as there are and takes the sum of their values over the number of their rows.
    The same arguments give the same interval. Where every value is equal, so are both ends: the bootstrap cannot see
    what never happened in the sample.

    Args:
        values: One number per row, shape (n,).
        clusters: One hashable label per row, shape (n,).
        n_resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        The 2.5th and 97.5th percentile. Both are NaN with no rows, or with a single cluster, which says nothing about
        how clusters differ.

    Raises:
        ValueError: `values` and `clusters` differ in length, a value is not finite, or `n_resamples` is below 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) != len(clusters):
        raise ValueError(
            f"values has shape {values.shape} but there are {len(clusters)} clusters; give one cluster per value"
        )
    if not np.isfinite(values).all():
        raise ValueError("values holds NaN or infinity; remove such rows first")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be at least 1")

    number_of: dict[Hashable, int] = {}
    membership = np.array([number_of.setdefault(label, len(number_of)) for label in clusters], dtype=np.int64)
    n_clusters = len(number_of)
    if n_clusters < 2:
        return Interval(math.nan, math.nan)
    sums = np.bincount(membership, weights=values)
    sizes = np.bincount(membership).astype(np.float64)

    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    block = max(1, _DRAWS_PER_BLOCK // n_clusters)
    for start in range(0, n_resamples, block):
        stop = min(start + block, n_resamples)
        drawn = generator.integers(n_clusters, size=(stop - start, n_clusters))
        means[start:stop] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def cluster_of(row: Mapping[str, Any]) -> Hashable:
    """What a row of predictions is resampled with: its `group` within its data set, or, without one, itself."""
    group = row.get("group")
    # The first element keeps an id from meeting a group of the same name.
    return ("id", row["id"]) if group is None or group == "" else ("group", row.get("dataset"), str(group))
