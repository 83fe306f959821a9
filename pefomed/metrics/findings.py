"""Findings told by generated reports and captions of the drawn world, against those that the true text tells.

    scores = finding_scores("run/predictions.jsonl")
    scores["names"]["micro"]["f1"]

Only the drawn world ("phantoms") can be scored so: its language is known word for word, so that reading the findings
back out of a text is exact for every text in that language. A generated text is read by the same rule, that a sentence
denies its findings if it begins with "no" or "there is no"; a denial put in other words counts as a finding told.

Every score is in per cent, 0 to 100, unrounded, or None where it is undefined: precision where nothing is told, recall
where nothing is true. An interval is `[low, high]`, or None where it is undefined. Rows are clustered by `group`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.embedded.phantom_findings import FINDINGS, REGIONS
from pefomed.embedded.phantom_language import PHRASES, findings_in_report
from pefomed.metrics.bootstrap import Interval, cluster_bootstrap, cluster_of
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
DATASET = "phantoms"
TASKS = ("report", "caption")
NAMES = tuple(name for region in REGIONS for name in FINDINGS[region])
NO_PLACE = "not stated"
_MEASURES = ("precision", "recall", "f1")
# The phrase of a finding without article and size: what is left is its name with side and place.
_PLACED = {
    name: re.compile(
        re.sub(r"^an? ({size} )?", "", phrase).format(side="(?P<side>left|right)", zone="(?P<zone>[a-z]+)")
    )
    for name, phrase in PHRASES.items()
}


@dataclass(frozen=True)
class _Claim:
    """One finding of one picture: told by the generated text, true (told by the true text), or both."""

    name: str
    told: bool
    true: bool
    cluster: Hashable


def finding_scores(predictions: str | Path | list[Row], n_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Precision, recall and F1 of the findings that generated reports or captions tell.

    A text's findings are a set: two nodules count as one, or as two where names are taken with their places and the
    places differ. A finding of another part of the body is a wrong one like any other.

    A true text without any finding ("normal") has nothing to find: it adds nothing to precision, recall and F1 where
    the generated text is silent too, and lowers the precision by every finding invented. It is a right row in
    `exact_set` if nothing was invented, and `normal` scores "no finding" as a class of its own, which is neither in
    `micro` nor in `macro`. A generated text that names no finding says "normal", even an empty one.

    Args:
        predictions: The path of a predictions.jsonl, or its rows; `answer` is the true text.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n` (rows), `normal`, and `names` (a finding is right by its name) and `places` (by name, side and place as far
        as the language states them), both with
        `micro`, over all findings, and `macro`, mean over the names that are true somewhere (one never told counts
        with precision 0);
        `exact_set` ({"n", "share", "ci95"}), the rows whose whole set is right;
        `by_finding` ({name: scores}), for every name that is true or told somewhere.
        Scores are {"n": how often true, "told": how often told, "precision", "recall", "f1", "ci95"}; those of `macro`
        have the number of names as `n` and no `told`. Made of plain dicts, lists, numbers, strings and None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no rows, or one is malformed, of another data set, or neither a report nor a caption.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    _check(rows, "predictions" if isinstance(predictions, list) else str(predictions))
    clusters = [cluster_of(row) for row in rows]
    told, true = ([placed_findings(row[side]) for row in rows] for side in ("prediction", "answer"))
    normal = [_Claim("normal", not a, not b, cluster) for a, b, cluster in zip(told, true, clusters, strict=True)]
    return {
        "n": len(rows),
        "normal": _measures(normal, n_resamples, seed),
        "names": _family(_without_places(told), _without_places(true), clusters, n_resamples, seed),
        "places": _family(told, true, clusters, n_resamples, seed),
    }


def placed_findings(text: str) -> frozenset[tuple[str, str]]:
    """The findings that a text says are there, each with its side and place.

    Args:
        text: A report or caption, generated or true.

    Returns:
        Pairs of name and place: `("nodule", "right upper")`, `("ascites", "")` for a finding to which the language
        gives no place, `("nodule", "not stated")` where it would but the text does not.
    """
    found: set[tuple[str, str]] = set()
    for sentence in (" ".join(part.split()) for part in text.lower().split(".")):
        for name in (name for region in REGIONS for name in findings_in_report(sentence, region)):
            matches = list(_PLACED[name].finditer(sentence))
            found.update((name, " ".join(match.groups())) for match in matches)
            if len(matches) < sentence.count(name):
                found.add((name, NO_PLACE))
    return frozenset(found)


def _check(rows: list[Row], source: str) -> None:
    if not rows:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(rows, source)
    for number, row in enumerate(rows, start=1):
        if row["task"] not in TASKS:
            raise ValueError(
                f"{source}, row {number}: task {row['task']!r} tells no findings; leave in reports and captions only"
            )
        if row.get("dataset") != DATASET:
            raise ValueError(
                f"{source}, row {number}: data set {row.get('dataset')!r}; findings can be read only out of "
                f"{DATASET!r}, whose language is known word for word; leave other rows out"
            )


def _without_places(texts: list[frozenset[tuple[str, str]]]) -> list[frozenset[tuple[str, str]]]:
    return [frozenset((name, "") for name, _ in found) for found in texts]


def _family(
    told: list[frozenset], true: list[frozenset], clusters: list[Hashable], n_resamples: int, seed: int
) -> dict[str, Any]:
    """All scores for one way of telling findings apart."""
    claims = [
        _Claim(key[0], key in a, key in b, cluster)
        for a, b, cluster in zip(told, true, clusters, strict=True)
        for key in sorted(a | b)
    ]
    right = [a == b for a, b in zip(told, true, strict=True)]
    share, ci95 = _mean(right, clusters, n_resamples, seed)
    seen = {claim.name for claim in claims}
    return {
        "micro": _measures(claims, n_resamples, seed),
        "macro": _macro(claims, n_resamples, seed),
        "exact_set": {"n": len(right), "share": share, "ci95": ci95},
        "by_finding": {
            name: _measures([claim for claim in claims if claim.name == name], n_resamples, seed)
            for name in NAMES
            if name in seen
        },
    }


def _measures(claims: list[_Claim], n_resamples: int, seed: int) -> dict[str, Any]:
    told = [claim for claim in claims if claim.told]
    true = [claim for claim in claims if claim.true]
    # F1 is twice the hits over all told plus all true: the mean over both lists, one after the other.
    values = {
        "precision": [(claim.true, claim.cluster) for claim in told],
        "recall": [(claim.told, claim.cluster) for claim in true],
        "f1": [(claim.told and claim.true, claim.cluster) for claim in (*told, *true)],
    }
    scores = {
        key: _mean([hit for hit, _ in pairs], [cluster for _, cluster in pairs], n_resamples, seed)
        for key, pairs in values.items()
    }
    means = {key: mean for key, (mean, _) in scores.items()}
    return {"n": len(true), "told": len(told), **means, "ci95": {key: ci95 for key, (_, ci95) in scores.items()}}


def _mean(
    hits: list[bool], clusters: list[Hashable], n_resamples: int, seed: int
) -> tuple[float | None, list[float] | None]:
    """Per cent of hits with its 95 % interval."""
    if not hits:
        return None, None
    values = 100.0 * np.array(hits, dtype=np.float64)
    return float(values.mean()), cluster_bootstrap(values, clusters, n_resamples, seed).to_json()


def _macro(claims: list[_Claim], n_resamples: int, seed: int) -> dict[str, Any]:
    """Mean scores over the findings that are true somewhere, which does not depend on what a model tells.

    `cluster_bootstrap` resamples one mean; here every finding has its own, and all must come from the same resample.
    """
    names = sorted({claim.name for claim in claims if claim.true})
    if not names:
        return {"n": 0, **dict.fromkeys(_MEASURES), "ci95": dict.fromkeys(_MEASURES)}
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(claim.cluster for claim in claims))}
    counts = np.zeros((len(numbers), 3, len(names)))  # hits, told, true
    for claim in claims:
        if claim.name in names:
            counts[numbers[claim.cluster], :, names.index(claim.name)] += (
                claim.told and claim.true,
                claim.told,
                claim.true,
            )
    ci95: dict[str, list[float] | None] = dict.fromkeys(_MEASURES)
    if len(numbers) > 1:
        draws = _resampled(counts, n_resamples, seed)
        ends = np.percentile([_macro_of(sums) for sums in draws if sums[2].any()], [2.5, 97.5], axis=0)
        ci95 = {key: Interval(*map(float, ends[:, i])).to_json() for i, key in enumerate(_MEASURES)}
    means = _macro_of(counts.sum(axis=0))
    return {"n": len(names), **dict(zip(_MEASURES, map(float, means), strict=True)), "ci95": ci95}


def _resampled(counts: np.ndarray, n_resamples: int, seed: int) -> Iterable[np.ndarray]:
    """The counts (clusters, 3, findings) summed over as many drawn clusters as there are, once per resample."""
    generator = np.random.default_rng(seed)
    for _ in range(n_resamples):
        drawn = generator.integers(len(counts), size=len(counts))
        yield np.tensordot(np.bincount(drawn, minlength=len(counts)), counts, axes=1)


def _macro_of(sums: np.ndarray) -> np.ndarray:
    """Mean precision, recall and F1 in per cent over the findings with a true one, from (3, findings) sums."""
    hits, told, true = sums[:, sums[2] > 0]
    return 100.0 * np.array(
        [(hits / np.maximum(told, 1)).mean(), (hits / true).mean(), (2 * hits / (told + true)).mean()]
    )
