"""One measure of agreement with its interval: the value from a library, the interval from resampled sums.

An estimate is a dict: `value` (None where undefined, with the reason under `why`), `ci95` (None with fewer than two
clusters), `n` (items that it is worked out from) and, where a resample had no value, `undefined_resamples`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pefomed.human import agreement_measures as measures

Draws = Callable[[np.ndarray], np.ndarray]
Columns = tuple[np.ndarray, np.ndarray]
_ONE_RATER = "there is only one rater"
_ALL_EQUAL = "every rating is the same, so that nothing tells agreement from chance"


def draws_of(clusters: np.ndarray, n_resamples: int, seed: int) -> Draws:
    """The resamples of items in these clusters; NaN with a single cluster, which says nothing about others."""
    if clusters.max() == 0:
        return lambda rows: np.full((1, rows.shape[1]), np.nan)
    return lambda rows: measures.resampled_sums(rows, clusters, n_resamples, seed)


def estimate(value: Any, resamples: np.ndarray | None, n: int, why: str) -> dict[str, Any]:
    """A measure as it stands in the result; NaN is undefined, for the reason `why`."""
    if np.isnan(value):
        return {"value": None, "ci95": None, "n": n, "why": why}
    ci95, undefined = measures.interval(resamples)
    return {"value": float(value), "ci95": ci95, "n": n} | (
        {"undefined_resamples": undefined} if ci95 and undefined else {}
    )


@dataclass(frozen=True)
class Pairs:
    """Pairs of columns of scores that are to be compared.

    Attributes:
        columns: The pairs, each two arrays of shape (items,).
        tables: Counts of each pair's levels, shape (pairs, k * k).
        drawn: The same of every resample, shape (resamples, pairs, k * k).
        k: Number of levels.
    """

    columns: list[Columns]
    tables: np.ndarray
    drawn: np.ndarray
    k: int

    def some(self, places: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.columns[places], self.tables[places], self.drawn[:, places], self.k)


def make_pairs(columns: list[Columns], k: int, draws: Draws) -> Pairs:
    """Count and resample all pairs at once."""
    if not columns:
        return Pairs([], np.empty((0, k * k)), np.empty((1, 0, k * k)), k)
    rows = np.hstack([measures.joint_rows(first, second, k) for first, second in columns])
    shape = (-1, len(columns), k * k)
    return Pairs(columns, rows.sum(axis=0).reshape(shape[1:]), draws(rows).reshape(shape), k)


def pair_estimates(pairs: Pairs, names: list[list[str]] | None = None) -> dict[str, Any]:
    """Percent agreement and kappas: the mean over the pairs.

    Args:
        pairs: What to compare.
        names: The two raters of each pair; None leaves single pairs out of the result.

    Returns:
        `percent_agreement`, `cohen_kappa` and, with more than two levels, `quadratic_kappa`. With more than one pair
        each also has `min` and `max` over the pairs and `undefined_pairs`, and with names `pairs` ([{"raters", and an
        estimate}]).
    """
    k = pairs.k
    result = {"percent_agreement": _over_pairs(pairs, names, lambda tables: measures.share_equal(tables, k), _equal)}
    for name, quadratic in (("cohen_kappa", False), ("quadratic_kappa", True))[: 1 + (k > 2)]:
        result[name] = _over_pairs(
            pairs,
            names,
            lambda tables, quadratic=quadratic: measures.kappa(tables, k, quadratic),
            lambda first, second, quadratic=quadratic: _cohen(first, second, k, quadratic),
        )
    return result


def fleiss(scores: np.ndarray, k: int, draws: Draws) -> dict[str, Any]:
    """Fleiss' kappa over the items that all raters rated; `dropped` counts the others."""
    complete = ~np.isnan(scores).any(axis=1)
    n, n_raters = int(complete.sum()), scores.shape[1]
    dropped = {"dropped": len(scores) - n}
    if n_raters < 2 or not n:
        why = _ONE_RATER if n_raters < 2 else f"no item was rated by all {n_raters} raters"
        return estimate(np.nan, None, n, why) | dropped
    rows = measures.fleiss_rows(scores, k)
    value = measures.fleiss_kappa(rows.sum(axis=0), n_raters)
    if not np.isnan(value):
        from statsmodels.stats.inter_rater import fleiss_kappa

        value = fleiss_kappa(measures.level_counts(scores[complete], k))
    return estimate(value, measures.fleiss_kappa(draws(rows), n_raters), n, _ALL_EQUAL) | dropped


def alpha(scores: np.ndarray, k: int, metric: str, draws: Draws) -> dict[str, Any]:
    """Krippendorff's alpha over the items with two ratings or more."""
    n = int(((~np.isnan(scores)).sum(axis=1) > 1).sum())
    if not n:
        return estimate(np.nan, None, n, _why_no_pair(scores.shape[1], n))
    rows = measures.coincidence_rows(scores, k)
    value = measures.krippendorff_alpha(rows.sum(axis=0), k, metric)
    if not np.isnan(value):
        import krippendorff

        value = krippendorff.alpha(scores.T, value_domain=np.arange(k), level_of_measurement=metric)
    return estimate(value, measures.krippendorff_alpha(draws(rows), k, metric), n, _ALL_EQUAL)


def icc(scores: np.ndarray, draws: Draws) -> tuple[dict[str, Any], dict[str, Any]]:
    """ICC(2,1) and ICC(2,k) over the items that all raters rated; `dropped` counts the others.

    The values come from sums of squares too: pingouin needs longer for one than these for a thousand resamples.
    """
    n, n_raters = int((~np.isnan(scores)).all(axis=1).sum()), scores.shape[1]
    dropped = {"dropped": len(scores) - n}
    if n_raters < 2 or n < 2:
        why = _ONE_RATER if n_raters < 2 else f"fewer than two items were rated by all {n_raters} raters"
        empty = estimate(np.nan, None, n, why) | dropped
        return empty, dict(empty)
    rows = measures.anova_rows(scores)
    values, resamples = measures.icc_2(rows.sum(axis=0)), measures.icc_2(draws(rows))
    single, average = (estimate(values[i], resamples[i], n, _ALL_EQUAL) | dropped for i in (0, 1))
    return single, average


def bland_altman(first: np.ndarray, second: np.ndarray, draws: Draws) -> dict[str, Any]:
    """Estimates of the mean difference (first minus second), its standard deviation and the limits of agreement.

    Returns:
        `mean_difference`, `sd`, `low` and `high` (see `agreement_measures.limits_of_agreement`), each an estimate.
    """
    rows = measures.difference_rows(first, second)
    values, resamples = measures.limits_of_agreement(rows.sum(axis=0)), measures.limits_of_agreement(draws(rows))
    n = int(rows[:, 0].sum())
    why = "no item has both" if not n else "a single item has no spread"
    return {name: estimate(value, resamples[name], n, why) for name, value in values.items()}


def _over_pairs(pairs: Pairs, names: list[list[str]] | None, of_tables: Callable, library: Callable) -> dict[str, Any]:
    closed = of_tables(pairs.tables)
    values = np.array([_value(closed[i], library, *columns) for i, columns in enumerate(pairs.columns)])
    drawn = of_tables(pairs.drawn)
    counts = pairs.tables.sum(axis=1).astype(int)
    shared = [~(np.isnan(first) | np.isnan(second)) for first, second in pairs.columns]
    items = int(np.any(shared, axis=0).sum()) if shared else 0
    known = values[~np.isnan(values)]
    why = _why_no_pair(len(values) + 1, items)
    entry = estimate(known.mean() if len(known) else np.nan, _nanmean(drawn), items, why)
    if len(values) > 1:
        entry |= {"min": float(known.min()), "max": float(known.max())} if len(known) else {}
        entry["undefined_pairs"] = len(values) - len(known)
    if names is not None:
        entry["pairs"] = [
            {"raters": pair, **estimate(values[i], drawn[:, i], int(counts[i]), _why_no_pair(2, int(counts[i])))}
            for i, pair in enumerate(names)
        ]
    return entry


def _value(closed_form: float, library: Callable, first: np.ndarray, second: np.ndarray) -> float:
    """The library's value over the items that both rated, unless the measure is undefined."""
    both = ~(np.isnan(first) | np.isnan(second))
    return float("nan") if np.isnan(closed_form) else library(first[both], second[both])


def _equal(first: np.ndarray, second: np.ndarray) -> float:
    return 100.0 * float(np.mean(first == second))


def _cohen(first: np.ndarray, second: np.ndarray, k: int, quadratic: bool) -> float:
    from sklearn.metrics import cohen_kappa_score

    weights = "quadratic" if quadratic else None
    return float(cohen_kappa_score(first.astype(int), second.astype(int), labels=np.arange(k), weights=weights))


def _why_no_pair(n_raters: int, items: int) -> str:
    if n_raters < 2:
        return _ONE_RATER
    return _ALL_EQUAL if items else "no item was rated by two raters"


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over the pairs of each resample, shape (resamples,); NaN where no pair is defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=1)
