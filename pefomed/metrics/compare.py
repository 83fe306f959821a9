"""Is one run better than another on the same questions? Paired tests, and what so many questions could show at all.

    result = compare_runs("stage2/predictions.jsonl", "both/predictions.jsonl", "exact_match")
    print(format_comparison(result))

Both runs answer the same items, so what counts is the difference on each. Three answers stand side by side: a 95 %
interval of the mean difference by a bootstrap over whole clusters; a permutation test that swaps the runs in whole
clusters; and, for right and wrong, McNemar's test, which is the customary one but takes items for independent, as the
questions about one image are not: where they disagree, believe the first two.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.disclosure import CREDENTIALED_DATASETS
from pefomed.metrics.bootstrap import cluster_bootstrap, cluster_of
from pefomed.metrics.sample_size import ENOUGH_CLUSTERS
from pefomed.metrics.vqa import SCORES, item_scores
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
#: Scores that are right or wrong for each item.
BINARY_SCORES = ("exact_match", "exact_match_repaired", "closed_accuracy")
#: Scores of reports and captions that each text has by itself, unlike BLEU.
CAPTION_SCORES = ("meteor_java15", "rouge_l", "cider")
#: Below this many items on which the runs differ, no test says much: of five, all would have to go the same way.
ENOUGH_DISCORDANT = 10
_EXACT_BELOW = 25  # discordant pairs; above, the chi-squared distribution is close enough
# A two-sided test at 5 % finds a true difference of this many standard errors in 8 of 10 repetitions.
_ERRORS_TO_SHOW = 1.959964 + 0.841621
_NAMED = 3


def compare_runs(
    first: str | Path | list[Row],
    second: str | Path | list[Row],
    score: str = "exact_match",
    *,
    allow_missing: bool = False,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two runs over the same items by one score.

    Args:
        first: The path of a predictions.jsonl, or its rows.
        second: The same of the other run.
        score: For questions a name in `pefomed.metrics.vqa.SCORES`, in per cent; for reports and captions
            `meteor_java15`, `rouge_l` (0 to 1) or `cider` (0 to 10), as the mean over the texts.
        allow_missing: Leave out, and count, items that only one run has, in place of refusing them.
        n_resamples: Resamples of the bootstrap and of the permutation test.
        seed: Seed of both.

    Returns:
        What `compare_values` returns, with `score` and `missing` ({"first", "second"}: items that this run lacks).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file or row is malformed, the ids differ, an item's task or true answer differs between the
            files, or the score does not fit the task.
    """
    rows = [_read(run, name) for run, name in ((first, "first"), (second, "second"))]
    pairs, missing = _paired(*rows, allow_missing)
    values = [_values([pair[side] for pair in pairs], score) for side in (0, 1)]
    # An outsider's file may lack the groups that the other has.
    clusters = [cluster_of(a if a.get("group") not in (None, "") else b) for a, b in pairs]
    scored = np.flatnonzero(~np.isnan(values[0]))
    if not len(scored):
        raise ValueError(f"score {score!r} applies to none of the {len(pairs)} items; choose another one")
    result = compare_values(
        values[0][scored],
        values[1][scored],
        [clusters[at] for at in scored],
        binary=score in BINARY_SCORES,
        n_resamples=n_resamples,
        seed=seed,
    )
    return {"score": score, "missing": missing} | result


def compare_values(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    *,
    binary: bool = False,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two runs by any score that each item has by itself, such as a judge's verdict.

    Args:
        first: The first run's score of each item, shape (n,).
        second: The second run's, in the same order.
        clusters: One label per item; items of one label are resampled together. None makes each a cluster of its own.
        binary: The scores are right (any number but 0) or wrong (0): give McNemar's test too.
        n_resamples: Resamples of the bootstrap and of the permutation test.
        seed: Seed of both.

    Returns:
        `n`, `clusters` (how many), `first`, `second` (means), `difference` (second minus first), `ci95` of the
        difference, `p_value` (two-sided, the permutation test), `discordant` (items with different scores), `mcnemar`
        (None unless binary; see `mcnemar_test`), `smallest_difference` (the smallest true one that would be found in 8
        of 10 repetitions at 5 %, from the spread seen; None where no item differs or there is a single cluster) and
        `warning`, a line where fewer than 10 items differ or there are fewer than 20 clusters, else None.

    Raises:
        ValueError: There are no items, the lengths differ, or a score is not finite.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    labels = list(range(len(first))) if clusters is None else list(clusters)
    if not len(first) or first.shape != second.shape or len(labels) != len(first):
        sizes = f"{len(first)} and {len(second)} scores and {len(labels)} clusters"
        raise ValueError(f"found {sizes}; give as many of each, 1 or more")
    differences = second - first
    interval = cluster_bootstrap(differences, labels, n_resamples, seed)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    membership = np.array([numbers[label] for label in labels])
    discordant = int(np.count_nonzero(differences))
    smallest = _smallest_difference(differences, membership)
    return {
        "n": len(first),
        "clusters": len(numbers),
        "first": float(first.mean()),
        "second": float(second.mean()),
        "difference": float(differences.mean()),
        "ci95": interval.to_json(),
        "p_value": _permutation_p(np.bincount(membership, weights=differences), n_resamples, seed),
        "discordant": discordant,
        "mcnemar": mcnemar_test(first, second) if binary else None,
        "smallest_difference": smallest,
        "warning": _warning(discordant, len(numbers), smallest),
    }


def mcnemar_test(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """McNemar's test of two runs that are right or wrong on the same items, by statsmodels.

    It takes items for independent: with several questions about one image its p-value is too small.

    Args:
        first: The first run's scores; 0 is wrong, anything else right.
        second: The second run's.

    Returns:
        `only_first`, `only_second` (items that only this run has right), `method` (exact binomial below 25 such items,
        else chi-squared with continuity correction), `statistic` (of the exact method the smaller of the two numbers)
        and `p_value`.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    a, b = np.asarray(first) != 0, np.asarray(second) != 0
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    exact = table[0][1] + table[1][0] < _EXACT_BELOW
    found = mcnemar(table, exact=exact, correction=True)
    return {
        "only_first": table[0][1],
        "only_second": table[1][0],
        "method": "exact binomial" if exact else "chi-squared with continuity correction",
        "statistic": float(found.statistic),
        "p_value": float(found.pvalue),
    }


def format_comparison(result: dict[str, Any]) -> str:
    """Lay out what `compare_runs` or `compare_values` returns as a few plain-text lines."""
    ends = f"[{result['ci95'][0]:.3g}, {result['ci95'][1]:.3g}]" if result["ci95"] else "-"
    lines = [
        f"{result.get('score', 'score')}: {result['n']} items in {result['clusters']} clusters, "
        f"{result['discordant']} with different scores",
        f"first {result['first']:.4g}, second {result['second']:.4g}, difference {result['difference']:+.3g}",
        f"95 % interval of the difference, clusters resampled: {ends}",
        f"permutation test, clusters swapped: {_probability(result['p_value'])}",
    ]
    if found := result["mcnemar"]:
        lines.append(
            f"McNemar ({found['method']}, takes items for independent): {_probability(found['p_value'])}, "
            f"right only in first {found['only_first']}, only in second {found['only_second']}"
        )
    if missing := {side: number for side, number in result.get("missing", {}).items() if number}:
        lines.append(f"left out: {', '.join(f'{number} items the {side} lacks' for side, number in missing.items())}")
    return "\n".join([*lines, *([result["warning"]] if result["warning"] else [])])


def _read(run: str | Path | list[Row], name: str) -> list[Row]:
    if not isinstance(run, list):
        return read_predictions(run)
    check_rows(run, name)
    return run


def _paired(first: list[Row], second: list[Row], allow_missing: bool) -> tuple[list[tuple[Row, Row]], dict[str, int]]:
    """Rows of the same id, in the first run's order, and how many each run lacks."""
    by_id = [{row["id"]: row for row in rows} for rows in (first, second)]
    missing = {
        "first": [name for name in by_id[1] if name not in by_id[0]],
        "second": [name for name in by_id[0] if name not in by_id[1]],
    }
    for side, names in missing.items():
        if names and not allow_missing:
            raise ValueError(
                f"the {side} run lacks {len(names)} ids that the other has: {', '.join(map(repr, names[:_NAMED]))}"
                f"{', ...' if len(names) > _NAMED else ''}; give runs over the same items or allow missing ones"
            )
    pairs = [(row, by_id[1][name]) for name, row in by_id[0].items() if name in by_id[1]]
    if not pairs:
        raise ValueError("the two runs have no id in common; give runs over the same items")
    for a, b in pairs:
        for key in ("task", "answer"):
            if a[key] != b[key]:  # answers may be of a data set that forbids showing them
                shown = f" ({a[key]!r} and {b[key]!r})" if a.get("dataset") not in CREDENTIALED_DATASETS else ""
                raise ValueError(
                    f"id {a['id']!r}: {key!r} differs between the first run and the second{shown}; "
                    "give runs over the same data"
                )
    return pairs, {side: len(names) for side, names in missing.items()}


def _values(rows: list[Row], score: str) -> np.ndarray:
    """The score of every row by itself; NaN where it does not apply."""
    if score not in SCORES and score not in CAPTION_SCORES:
        raise ValueError(f"score is {score!r}; it must be one of {', '.join((*SCORES, *CAPTION_SCORES))}")
    for row in rows:
        if (row["task"] == "vqa") != (score in SCORES):
            raise ValueError(f"id {row['id']!r}: score {score!r} does not fit task {row['task']!r}; choose another")
    if score in SCORES:
        return item_scores(rows, score)
    from pefomed.metrics.coco import score_corpus

    predictions, answers = [row["prediction"] for row in rows], [[row["answer"]] for row in rows]
    return np.asarray(score_corpus(predictions, answers, meteor=score == "meteor_java15").items[score])


def _permutation_p(sums: np.ndarray, n_resamples: int, seed: int) -> float:
    """Two-sided p-value of a sum over clusters, were the runs' names exchanged at random in whole clusters."""
    generator = np.random.default_rng(seed)
    total = abs(sums.sum())
    as_far = 0
    for _ in range(n_resamples):
        swapped = sums[generator.random(len(sums)) < 0.5].sum()
        # A hair's breadth for sums that are equal but for rounding.
        as_far += abs(sums.sum() - 2 * swapped) >= total - 1e-9 * (1 + total)
    return (1 + int(as_far)) / (1 + n_resamples)


def _smallest_difference(differences: np.ndarray, membership: np.ndarray) -> float | None:
    sums = np.bincount(membership, weights=differences - differences.mean())
    if len(sums) < 2 or not differences.any():
        return None
    error = math.sqrt(len(sums) / (len(sums) - 1) * float(np.square(sums).sum())) / len(differences)
    return _ERRORS_TO_SHOW * error if error else None


def _warning(discordant: int, clusters: int, smallest: float | None) -> str | None:
    reasons = []
    if discordant < ENOUGH_DISCORDANT:
        reasons.append(f"only {discordant} items differ (below {ENOUGH_DISCORDANT})")
    if clusters < ENOUGH_CLUSTERS:
        reasons.append(f"there are only {clusters} clusters (below {ENOUGH_CLUSTERS})")
    if not reasons:
        return None
    shown = "no difference could be shown" if smallest is None else f"only a difference of {smallest:.3g} would show"
    return f"too few to tell: {' and '.join(reasons)}; {shown}"


def _probability(value: float) -> str:
    """A p value with four digits; none is zero."""
    return "p < 0.0001" if value < 5e-5 else f"p = {value:.4f}"
