"""Scores of visual question answering: exact match and token recall, with 95 % intervals and breakdowns.

    scores = vqa_scores("run/predictions.jsonl")
    print(format_scores(scores))

Every score is in per cent, 0 to 100, unrounded. An interval is `[low, high]` in the same unit, or None where it is
undefined (no row, or rows of a single cluster). Rows are clustered by `group` (within their data set), a row without
one being a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.normalise import is_match, normalise
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
_BREAKDOWNS = ("question_type", "image_organ", "phrase_type")


def exact_match(
    predictions: list[Row], normaliser: str = "medvqa", n_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Share of predictions that equal the answer after normalisation (the accuracy of the paper's Table 2).

    Args:
        predictions: Rows as `read_predictions` returns them.
        normaliser: `medvqa` (as published) or `repaired`.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n` ({"open", "closed", "overall"}), `exact_match` (the same keys, `ci95` with the same keys, `normaliser`),
        and `by_question_type`, `by_image_organ`, `by_phrase_type` ({name: {"n", "exact_match", "ci95"}}). A row whose
        answer type is null counts in `overall` only; one of two question types ("POS, PRES") counts under both; one
        without any in none. A score over no rows is None.

    Raises:
        ValueError: There are no rows, a row is malformed, an answer type is unknown, or there is no such normaliser.
    """
    types = _answer_types(predictions)
    values = np.array([100.0 * is_match(row["prediction"], row["answer"], normaliser) for row in predictions])
    clusters = [_cluster(row) for row in predictions]
    result: dict[str, Any] = {"n": _counts(types)}
    result["exact_match"] = _by_answer_type(values, clusters, types, n_resamples, seed) | {"normaliser": normaliser}
    for key in _BREAKDOWNS:
        members = _members(predictions, key)
        scores = {name: _score(values, clusters, rows, n_resamples, seed) for name, rows in members.items()}
        result[f"by_{key}"] = {
            name: {"n": len(members[name]), "exact_match": mean, "ci95": ci95} for name, (mean, ci95) in scores.items()
        }
    return result


def token_recall(
    predictions: list[Row], normaliser: str = "medvqa", n_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Mean share of the answer's words that occur in the prediction.

    LLaVA-Med scores open questions so (Li et al. 2023). Both sides are normalised and taken as sets of words, so
    neither order nor repetition counts. An answer of which normalisation leaves no word has recall 0. Long predictions
    are not punished: read it beside the exact match, never instead.

    Args:
        predictions: Rows as `read_predictions` returns them.
        normaliser: `medvqa` (as published) or `repaired`.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n` and `token_recall`, in the shape of `exact_match`'s first two keys.

    Raises:
        ValueError: As for `exact_match`.
    """
    types = _answer_types(predictions)
    values = np.array([100.0 * _recall(row["prediction"], row["answer"], normaliser) for row in predictions])
    scores = _by_answer_type(values, [_cluster(row) for row in predictions], types, n_resamples, seed)
    return {"n": _counts(types), "token_recall": scores | {"normaliser": normaliser}}


def vqa_scores(predictions: str | Path | list[Row], n_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Everything that metrics.json holds for visual question answering.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        What `exact_match` returns for the published normaliser, `exact_match_repaired` (the repaired one) and
        `token_recall`. Made of plain dicts, lists, numbers, strings and None, ready for `files.write_json`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file or a row is malformed, or a row's task is not `vqa`.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else predictions
    check_rows(rows, str(source))
    for number, row in enumerate(rows, start=1):
        if row["task"] != "vqa":
            raise ValueError(f"{source}, row {number}: task {row['task']!r} is not 'vqa'; leave other tasks out")
    scores = exact_match(rows, "medvqa", n_resamples, seed)
    repaired = exact_match(rows, "repaired", n_resamples, seed)["exact_match"]
    recall = token_recall(rows, "medvqa", n_resamples, seed)["token_recall"]
    head = {"n": scores.pop("n"), "exact_match": scores.pop("exact_match")}
    return head | {"exact_match_repaired": repaired, "token_recall": recall} | scores


def format_scores(scores: dict[str, Any]) -> str:
    """Lay out what `vqa_scores` returns as a plain-text table.

    Args:
        scores: The result of `vqa_scores`.

    Returns:
        Lines of equal columns: rows of the answer types with all three scores, then the breakdowns with the exact
        match.
    """
    columns = ("exact_match", "exact_match_repaired", "token_recall")
    lines = [f"{'per cent [95 % interval]':<26}{'n':>6}  {'exact match':<20}{'repaired':<20}{'token recall':<20}"]
    for kind in ("open", "closed", "overall"):
        cells = "".join(f"{_cell(scores[column][kind], scores[column]['ci95'][kind]):<20}" for column in columns)
        lines.append(f"{kind:<26}{scores['n'][kind]:>6}  {cells}")
    for key in _BREAKDOWNS:
        for name, entry in scores[f"by_{key}"].items():
            label = f"{key.replace('_', ' ')} {name}"
            lines.append(f"{label:<26}{entry['n']:>6}  {_cell(entry['exact_match'], entry['ci95'])}")
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: float | None, ci95: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:5.1f} [{ci95[0]:.1f}, {ci95[1]:.1f}]" if ci95 else f"{value:5.1f}"


def _recall(prediction: str, answer: str, normaliser: str) -> float:
    wanted = set(normalise(answer, normaliser).split())
    found = wanted.intersection(normalise(prediction, normaliser).split())
    return len(found) / len(wanted) if wanted else 0.0


def _answer_types(predictions: list[Row]) -> list[str | None]:
    if not predictions:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(predictions, "predictions")
    types: list[str | None] = []
    for number, row in enumerate(predictions, start=1):
        # Data sets write "CLOSED", and VQA-RAD in two rows "CLOSED " with a blank.
        kind = (row.get("answer_type") or "").strip().lower()
        if kind not in ("open", "closed", ""):
            raise ValueError(
                f"predictions, row {number}: 'answer_type' is {row['answer_type']!r}; it must be open, closed or null"
            )
        types.append(kind or None)
    return types


def _cluster(row: Row) -> Hashable:
    group = row.get("group")
    # The first element keeps an id from meeting a group of the same name.
    return ("id", row["id"]) if group is None or group == "" else ("group", row.get("dataset"), str(group))


def _counts(types: list[str | None]) -> dict[str, int]:
    return {"open": types.count("open"), "closed": types.count("closed"), "overall": len(types)}


def _members(predictions: list[Row], key: str) -> dict[str, list[int]]:
    """Row numbers under each name of a breakdown, names sorted."""
    members: dict[str, list[int]] = {}
    for number, row in enumerate(predictions):
        # A set, so that "POS, POS" is not counted twice.
        for name in {part.strip() for part in (row.get(key) or "").split(",")} - {""}:
            members.setdefault(name, []).append(number)
    return dict(sorted(members.items()))


def _by_answer_type(
    values: np.ndarray, clusters: list[Hashable], types: list[str | None], n_resamples: int, seed: int
) -> dict[str, Any]:
    rows_of = {kind: [number for number, found in enumerate(types) if found == kind] for kind in ("open", "closed")}
    rows_of["overall"] = list(range(len(types)))
    scores = {kind: _score(values, clusters, rows, n_resamples, seed) for kind, rows in rows_of.items()}
    return {kind: mean for kind, (mean, _) in scores.items()} | {
        "ci95": {kind: ci95 for kind, (_, ci95) in scores.items()}
    }


def _score(
    values: np.ndarray, clusters: list[Hashable], rows: list[int], n_resamples: int, seed: int
) -> tuple[float | None, list[float] | None]:
    """Mean and 95 % interval over some of the rows."""
    if not rows:
        return None, None
    interval = cluster_bootstrap(values[rows], [clusters[number] for number in rows], n_resamples, seed)
    return float(values[rows].mean()), interval.to_json()
