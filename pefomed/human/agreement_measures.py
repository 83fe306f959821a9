"""Measures of agreement as functions of sums over items, so that a bootstrap costs one matrix product.

Every measure here depends on the ratings only through sums over items: a table of counts, one of coincidences, sums of
squares. So each item is written as a row of numbers once (`joint_rows`, `fleiss_rows`, ...), a resample of items is
a sum of such rows (`resampled_sums`), and the measure is worked out from the sums (`kappa`, `fleiss_kappa`, ...) for a
thousand resamples at a time.

Scores are arrays of shape (items, raters) that hold the levels 0 to k - 1, or NaN where a rating is missing. Where a
measure is undefined, such as a kappa where every rating is the same, it is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bounds the memory of one block of draws, as in metrics/bootstrap.py.
_DRAWS_PER_BLOCK = 4_000_000
_TINY = 1e-12


def resampled_sums(rows: np.ndarray, clusters: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Sums of the rows over resampled clusters of items.

    The same clusters, number and seed give the same draws whatever the rows are, so that measures of the same items
    are resampled together.

    Args:
        rows: One row of numbers an item, shape (items, m).
        clusters: The number of each item's cluster, 0 to clusters - 1, shape (items,).
        n_resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Shape (n_resamples, m).
    """
    n_clusters = int(clusters.max()) + 1
    totals = np.zeros((n_clusters, rows.shape[1]))
    np.add.at(totals, clusters, rows)
    generator = np.random.default_rng(seed)
    sums = np.empty((n_resamples, rows.shape[1]))
    block = max(1, _DRAWS_PER_BLOCK // n_clusters)
    for start in range(0, n_resamples, block):
        stop = min(start + block, n_resamples)
        drawn = generator.integers(n_clusters, size=(stop - start, n_clusters))
        drawn += n_clusters * np.arange(stop - start)[:, None]
        times = np.bincount(drawn.ravel(), minlength=(stop - start) * n_clusters).reshape(stop - start, n_clusters)
        sums[start:stop] = times @ totals
    return sums


def joint_rows(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """One row an item, with a 1 at its pair of levels: summed, the k x k table of two raters; shape (items, k * k)."""
    rows = np.zeros((len(first), k * k))
    both = ~(np.isnan(first) | np.isnan(second))
    rows[both, (first[both] * k + second[both]).astype(np.int64)] = 1.0
    return rows


def kappa(tables: np.ndarray, k: int, quadratic: bool = False) -> np.ndarray:
    """Cohen's kappa (1960), or the one with quadratic weights (1968), of tables of shape (..., k * k)."""
    tables = tables.reshape(*tables.shape[:-1], k, k)
    levels = np.arange(k)
    distance = np.subtract.outer(levels, levels) ** 2 if quadratic else levels[:, None] != levels
    total = tables.sum(axis=(-2, -1))
    observed = (tables * distance).sum(axis=(-2, -1)) * total
    expected = np.einsum("...i,ij,...j->...", tables.sum(axis=-1), distance.astype(float), tables.sum(axis=-2))
    return 1.0 - _ratio(observed, expected)


def share_equal(tables: np.ndarray, k: int) -> np.ndarray:
    """Per cent of items to which both raters gave the same level, of tables of shape (..., k * k)."""
    return 100.0 * _ratio(tables[..., :: k + 1].sum(axis=-1), tables.sum(axis=-1))


def fleiss_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Level counts and share of agreeing pairs of each item, shape (items, k + 1); 0 for items not rated by all."""
    counts = level_counts(scores, k)
    n_raters = scores.shape[1]
    pairs = (counts * (counts - 1)).sum(axis=1) / (n_raters * (n_raters - 1))
    complete = ~np.isnan(scores).any(axis=1)
    return np.column_stack([counts, pairs]) * complete[:, None]


def fleiss_kappa(sums: np.ndarray, n_raters: int) -> np.ndarray:
    """Fleiss' kappa (1971) of sums of `fleiss_rows`, shape (..., k + 1)."""
    ratings = sums[..., :-1].sum(axis=-1)
    by_chance = (_ratio(sums[..., :-1], ratings[..., None]) ** 2).sum(axis=-1)
    return _ratio(_ratio(sums[..., -1] * n_raters, ratings) - by_chance, 1.0 - by_chance)


def coincidence_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Krippendorff's coincidences of each item, shape (items, k * k); 0 for items with fewer than two ratings."""
    counts = level_counts(scores, k)
    n = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(k)
    return (pairs / np.maximum(n - 1, 1)[:, None, None]).reshape(len(scores), k * k)


def krippendorff_alpha(sums: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Krippendorff's alpha (2011) of sums of `coincidence_rows`, shape (..., k * k).

    Args:
        sums: The coincidences.
        k: Number of levels.
        metric: `nominal`, `ordinal` or `interval`.
    """
    tables = sums.reshape(*sums.shape[:-1], k, k)
    margins = tables.sum(axis=-1)
    if metric == "ordinal":
        # All ratings between two levels, with half of those at each: the difference of the middle ranks.
        places = margins.cumsum(axis=-1) - margins / 2
    else:
        places = np.broadcast_to(np.arange(k, dtype=np.float64), margins.shape)
    distance = (places[..., :, None] - places[..., None, :]) ** 2
    if metric == "nominal":
        distance = (distance > 0).astype(np.float64)
    total = margins.sum(axis=-1)
    observed = (tables * distance).sum(axis=(-2, -1)) * (total - 1)
    expected = (margins[..., :, None] * margins[..., None, :] * distance).sum(axis=(-2, -1))
    return 1.0 - _ratio(observed, expected)


def anova_rows(scores: np.ndarray) -> np.ndarray:
    """1, sum, squared sum, sum of squares and the ratings of each item, shape (items, 4 + raters); 0 if incomplete."""
    complete = ~np.isnan(scores).any(axis=1)
    filled = np.where(complete[:, None], scores, 0.0)
    sums = filled.sum(axis=1)
    return np.column_stack([complete, sums, sums**2, (filled**2).sum(axis=1), filled])


def icc_2(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICC(2,1) and ICC(2,k) of Shrout and Fleiss (1979), from sums of `anova_rows`, shape (..., 4 + raters).

    Two-way random effects, absolute agreement: of a single rater, and of the mean of all.
    """
    n, total, squared_sums, squares = np.moveaxis(sums[..., :4], -1, 0)
    k = sums.shape[-1] - 4
    grand = _ratio(total**2, n * k)
    between_items = _settled(squared_sums / k - grand, squares)
    between_raters = _settled(_ratio((sums[..., 4:] ** 2).sum(axis=-1), n) - grand, squares)
    items = _ratio(between_items, n - 1)
    raters = between_raters / (k - 1)
    rest = _ratio(_settled(squares - grand - between_items - between_raters, squares), (n - 1) * (k - 1))
    shift = _ratio(raters - rest, n)
    return _ratio(items - rest, items + (k - 1) * rest + k * shift), _ratio(items - rest, items + shift)


def difference_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1, difference (first minus second) and its square of each item, shape (items, 3); 0 where either is missing."""
    both = ~(np.isnan(first) | np.isnan(second))
    difference = np.where(both, np.where(both, first, 0.0) - np.where(both, second, 0.0), 0.0)
    return np.column_stack([both, difference, difference**2])


def limits_of_agreement(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Mean difference and limits of agreement, the mean +- 1.96 standard deviations (Bland and Altman 1986).

    Args:
        sums: Sums of `difference_rows`, shape (..., 3).

    Returns:
        `mean_difference`, `sd` (ddof 1), `low` and `high`, each of shape (...).
    """
    n, total, squares = np.moveaxis(sums, -1, 0)
    mean = _ratio(total, n)
    sd = np.sqrt(np.maximum(_ratio(squares - n * mean**2, n - 1), 0.0))
    return {"mean_difference": mean, "sd": sd, "low": mean - 1.96 * sd, "high": mean + 1.96 * sd}


def level_counts(scores: np.ndarray, k: int) -> np.ndarray:
    """How many raters gave each level to each item, shape (items, k)."""
    return (scores[:, :, None] == np.arange(k)).sum(axis=1).astype(np.float64)


def consensus(scores: np.ndarray, k: int) -> np.ndarray:
    """The raters' common level of each item: the majority of two levels, the median of more; NaN where there is none.

    Two levels with as many votes each, and items without ratings, have no majority. A median half-way between two
    levels goes to the lower one.
    """
    counts = level_counts(scores, k)
    n = counts.sum(axis=1)
    if k == 2:
        return np.where(counts[:, 0] == counts[:, 1], np.nan, (counts[:, 1] > counts[:, 0]).astype(np.float64))
    median = (counts.cumsum(axis=1) >= np.maximum(n, 1)[:, None] / 2).argmax(axis=1).astype(np.float64)
    return np.where(n > 0, median, np.nan)


def mean_of_raters(scores: np.ndarray) -> np.ndarray:
    """Mean of the ratings of each item, shape (items,); NaN where there is none."""
    n = (~np.isnan(scores)).sum(axis=1)
    return _ratio(np.nansum(scores, axis=1), n)


def interval(values: np.ndarray) -> tuple[list[float] | None, int]:
    """The 2.5th and 97.5th percentile over the resamples, and in how many of these the measure was undefined."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None, len(values)
    low, high = np.percentile(defined, [2.5, 97.5])
    return [float(low), float(high)], len(values) - len(defined)


def cluster_numbers(clusters: Sequence) -> np.ndarray:
    """Labels of clusters as the numbers 0, 1, ..., in the order in which they first come."""
    numbers: dict = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in clusters], dtype=np.int64)


def _settled(sums: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Sums of squares without what is only rounding: where all ratings are equal they must be 0, not 1e-11."""
    return np.where(np.abs(sums) < 1e-12 * squares, 0.0, sums)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Above over below; NaN where below is nothing."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    known = np.abs(below) > _TINY
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=known)
