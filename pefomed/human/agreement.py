"""How far human raters, the judge and exact match agree, with 95 % intervals over resampled images or studies.

    scores = agreement_scores("ratings.jsonl", "judge.jsonl", "predictions.jsonl", task="vqa")
    scores["among_raters"]["fleiss_kappa"]   # {"value": 0.71, "ci95": [0.62, 0.79], "n": 98, ...}

Every measure is a dict of `value` (None where undefined, with the reason under `why`), `ci95` and `n`, the number of
items that it is worked out from. Cohen's and Fleiss' kappa and Krippendorff's alpha come from scikit-learn,
statsmodels and krippendorff; their resamples, and the intraclass correlations, from sums over items
(agreement_measures.py). Percentages are 0 to 100, everything else is on its own scale.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from pefomed.human import agreement_measures as measures
from pefomed.human.agreement_estimates import (
    Draws,
    alpha,
    bland_altman,
    draws_of,
    fleiss,
    icc,
    make_pairs,
    pair_estimates,
)
from pefomed.human.agreement_tables import LEVELS, RatingTable, Source, exact_match_table, read_table, rows_of


def agreement_scores(
    ratings: Source,
    judge: Source | None = None,
    predictions: Any = None,
    *,
    task: str,
    judge_name: str = "",
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement among the raters, of the judge with the raters, and of exact match with the raters.

    Args:
        ratings: A ratings.jsonl, what `read_verdicts` made of one, or a list of `Verdict`s.
        judge: A judge.jsonl, or the same in memory; its repeats are taken as raters.
        predictions: A predictions.jsonl or its rows. They give the images or studies that are resampled (without them
            every item stands for itself) and, for task `vqa`, the exact match.
        task: `vqa` (levels 0 and 1) or `report` (levels 0 to 4).
        judge_name: What to call the judge; "" takes the model's name from judge.jsonl.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `task`, `n` ({"items", "rated_twice", "rated_by_all", "ratings", "missing"}), `raters`, `among_raters` (see
        `_among`), and where given `judge` and `exact_match` (see `_against`). `judge` also has its `name` and
        `among_repeats`. `exact_match` has `rated`, over what was rated, and `all`, where a prediction that exact match
        accepts and nobody rated counts as accepted by every rater, as in the paper (`accepted_unrated` of them).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An unknown task, a score outside of its levels, a repeated or unknown id, or no ratings.
    """
    if task not in LEVELS:
        raise ValueError(f"task is {task!r}; agreement is measured for {' and '.join(LEVELS)}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be at least 1")
    rows = None if predictions is None else rows_of(predictions, task)
    table = read_table(ratings, task, rows, "ratings")
    options = (n_resamples, seed)
    given = ~np.isnan(table.scores)
    scores: dict[str, Any] = {
        "task": task,
        "n": {
            "items": len(table.ids),
            "rated_twice": int((given.sum(axis=1) > 1).sum()),
            "rated_by_all": int(given.all(axis=1).sum()),
            "ratings": int(given.sum()),
            "missing": int((~given).sum()),
        },
        "raters": list(table.raters),
        "among_raters": _among(table, *options),
    }
    if judge is not None:
        judged = read_table(judge, task, rows, "judge")
        scores["judge"] = {"name": judge_name or judged.name or "judge", "failed": judged.failed}
        scores["judge"] |= _against(table, judged, *options) | {"among_repeats": _among(judged, *options)}
    if rows is not None and task == "vqa":
        matched = exact_match_table(rows)
        widened = table.with_accepted(matched)
        scores["exact_match"] = {
            "rated": _against(table, matched, *options),
            "all": _against(widened, matched, *options) | {"accepted_unrated": len(widened.ids) - len(table.ids)},
        }
    return scores


def _among(table: RatingTable, n_resamples: int, seed: int) -> dict[str, Any]:
    """Every measure of agreement among the raters of one table.

    Returns:
        `percent_agreement` and `cohen_kappa` (also `quadratic_kappa` for reports) over all pairs of raters (see
        `pair_estimates`); `fleiss_kappa`; `krippendorff_nominal`, or `_ordinal` and `_interval` for reports; `icc_2_1`
        and `icc_2_k` for reports. Fleiss' kappa and ICC need items rated by all; `dropped` counts the others.
    """
    scores, k = table.scores, table.k
    draws = draws_of(table.clusters, n_resamples, seed)
    pairs = list(combinations(range(len(table.raters)), 2))
    names = [[table.raters[a], table.raters[b]] for a, b in pairs]
    result = pair_estimates(make_pairs([(scores[:, a], scores[:, b]) for a, b in pairs], k, draws), names)
    result["fleiss_kappa"] = fleiss(scores, k, draws)
    for metric in ("nominal",) if k == 2 else ("ordinal", "interval"):
        result[f"krippendorff_{metric}"] = alpha(scores, k, metric, draws)
    if k > 2:
        result["icc_2_1"], result["icc_2_k"] = icc(scores, draws)
    return result


def _against(table: RatingTable, other: RatingTable, n_resamples: int, seed: int) -> dict[str, Any]:
    """How far the repeats of a judge, or exact match, agree with the raters, over the items that both have.

    Returns:
        `n`; `by_rater` ({rater: measures}) and `mean` (over all raters), each the mean over the repeats, so that they
        compare one verdict with one rating as among the raters; `consensus`: with the raters' majority, or their
        median level for reports, and `ties`, the items without a majority; `confusion`, where row i, column j counts
        the pairs of a rating i and a verdict j. For reports also `means`: the raters' mean rating and the judge's
        (`icc_2_1`, `bland_altman` of judge minus raters, and its `points`).
    """
    ours, theirs = table.shared_with(other)
    if not len(ours.ids):
        return {"n": 0, "why": "no item has both a rating and a verdict"}
    draws, k = draws_of(ours.clusters, n_resamples, seed), table.k
    verdicts = list(theirs.scores.T)
    pairs = make_pairs([(ratings, verdict) for ratings in ours.scores.T for verdict in verdicts], k, draws)
    width = len(verdicts)
    common = measures.consensus(ours.scores, k)
    result: dict[str, Any] = {
        "n": len(ours.ids),
        "by_rater": {
            rater: pair_estimates(pairs.some(slice(i * width, (i + 1) * width))) for i, rater in enumerate(ours.raters)
        },
        "mean": pair_estimates(pairs),
        "consensus": pair_estimates(make_pairs([(common, verdict) for verdict in verdicts], k, draws))
        | {"ties": int(np.isnan(common).sum())},
        "confusion": pairs.tables.sum(axis=0).astype(int).reshape(k, k).tolist(),
    }
    if k > 2:
        result["means"] = _means(ours, theirs, draws)
    return result


def _means(ours: RatingTable, theirs: RatingTable, draws: Draws) -> dict[str, Any]:
    raters, judge = measures.mean_of_raters(ours.scores), measures.mean_of_raters(theirs.scores)
    return {
        "icc_2_1": icc(np.column_stack([raters, judge]), draws)[0],
        "bland_altman": bland_altman(judge, raters, draws),
        "points": {"id": list(ours.ids), "raters": raters.tolist(), "judge": judge.tolist()},
    }
