"""Scores of visual question answering, beside each other, with 95 % intervals and breakdowns.

    scores = vqa_scores("run/predictions.jsonl")
    print(format_scores(scores))

Exact match with two normalisers; recall, precision and F1 of the answer's words; accuracy on closed questions by a
stated rule. Every score is in per cent, 0 to 100, unrounded. An interval is `[low, high]` in the same unit, or None
where it is undefined (no row, or rows of a single cluster). Rows are clustered by `group` (within their data set), a
row without one being a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.metrics.bootstrap import cluster_bootstrap, cluster_of
from pefomed.metrics.closed import RULE, closed_verdict
from pefomed.metrics.normalise import is_match
from pefomed.metrics.sample_size import small_sample_warning
from pefomed.metrics.tokens import token_overlap
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
#: The name of every score in metrics.json, and what tables call it.
SCORES = {
    "exact_match": "exact match",
    "exact_match_repaired": "exact match, repaired",
    "token_recall": "token recall",
    "token_precision": "token precision",
    "token_f1": "token F1",
    "closed_accuracy": "closed accuracy",
}
_TOKEN_SCORES = ("token_recall", "token_precision", "token_f1")
_KINDS = ("open", "closed", "overall")
_BREAKDOWNS = ("question_type", "image_organ", "phrase_type")


@dataclass(frozen=True)
class _Table:
    """Checked rows with the answer type (open, closed or None) and the cluster of each, and how to resample them."""

    rows: list[Row]
    types: list[str | None]
    clusters: list[Hashable]
    n_resamples: int
    seed: int


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
        `n` ({"open", "closed", "overall"}), `exact_match` (the same keys, `n` and `ci95` with the same keys,
        `normaliser`), and `by_question_type`, `by_image_organ`, `by_phrase_type` ({name: {"n", "exact_match",
        "ci95"}}). A row whose answer type is null counts in `overall` only; one of two question types ("POS, PRES")
        counts under both; one without any in none. A score over no rows is None.

    Raises:
        ValueError: There are no rows, a row is malformed, an answer type is unknown, or there is no such normaliser.
    """
    table = _table(predictions, n_resamples, seed)
    values = _matches(table, normaliser)
    result: dict[str, Any] = {"n": _counts(table.types)}
    result["exact_match"] = _by_answer_type(table, values) | {"normaliser": normaliser}
    return result | _breakdowns(table, values)


def token_scores(
    predictions: list[Row], normaliser: str = "medvqa", n_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Mean recall, precision and F1 of the answer's words in the prediction.

    LLaVA-Med scores open questions by the recall (Li et al. 2023; `token_overlap` tells how). Long predictions do not
    lower it: read it beside the precision and the exact match, never instead. Arguments and errors are those of
    `exact_match`.

    Returns:
        `n`, `token_recall`, `token_precision` and `token_f1`, in the shape of `exact_match`'s first two keys.
    """
    table = _table(predictions, n_resamples, seed)
    return {"n": _counts(table.types), **_token_scores(table, normaliser)}


def token_recall(
    predictions: list[Row], normaliser: str = "medvqa", n_resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """`n` and `token_recall` of `token_scores`."""
    found = token_scores(predictions, normaliser, n_resamples, seed)
    return {"n": found["n"], "token_recall": found["token_recall"]}


def vqa_scores(predictions: str | Path | list[Row], n_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Everything that metrics.json holds for visual question answering.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        What `exact_match` returns for the published normaliser, in the same shape `exact_match_repaired` (the repaired
        one), `token_recall`, `token_precision` and `token_f1`, then `closed_accuracy` ({"value", "n", "ci95",
        "undecided", "rule"}, over the closed rows; see `closed_verdict`), and `warning`, a line where there are too
        few rows to tell (see `small_sample_warning`), else None. Made of plain dicts, lists, numbers, strings and
        None, ready for `files.write_json`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file or a row is malformed, or a row's task is not `vqa`.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else str(predictions)
    table = _table(rows, n_resamples, seed, source)
    for number, row in enumerate(rows, start=1):
        if row["task"] != "vqa":
            raise ValueError(f"{source}, row {number}: task {row['task']!r} is not 'vqa'; leave other tasks out")
    values = _matches(table, "medvqa")
    repaired = _matches(table, "repaired")
    return {
        "n": _counts(table.types),
        "exact_match": _by_answer_type(table, values) | {"normaliser": "medvqa"},
        "exact_match_repaired": _by_answer_type(table, repaired) | {"normaliser": "repaired"},
        **_token_scores(table, "medvqa"),
        "closed_accuracy": _closed_accuracy(table),
        **_breakdowns(table, values),
        "warning": small_sample_warning(
            {kind: (len(rows), len({table.clusters[at] for at in rows})) for kind, rows in _rows_of(table).items()}
        ),
    }


def item_scores(predictions: list[Row], score: str) -> np.ndarray:
    """One score for every row on its own, to be compared with another run's.

    Args:
        predictions: Rows as `read_predictions` returns them.
        score: A name in `SCORES`. Of `closed_accuracy`, open rows and rows without an answer type are NaN.

    Returns:
        Per cent, shape (n,).

    Raises:
        ValueError: There are no rows, a row is malformed, or there is no such score.
    """
    if score not in SCORES:
        raise ValueError(f"score is {score!r}; it must be one of {', '.join(SCORES)}")
    table = _table(predictions, n_resamples=1, seed=0)
    if score == "closed_accuracy":
        verdicts = _closed_verdicts(table)
        return np.array([100.0 * bool(verdicts[at]) if at in verdicts else np.nan for at in range(len(table.rows))])
    if score in _TOKEN_SCORES:
        return _overlaps(table, "medvqa")[score]
    return _matches(table, "repaired" if score == "exact_match_repaired" else "medvqa")


def format_scores(scores: dict[str, Any]) -> str:
    """Lay out what `vqa_scores` returns as a plain-text table.

    Args:
        scores: The result of `vqa_scores`.

    Returns:
        Lines of equal columns: one for every score, over open, closed and all questions, then the breakdowns of the
        exact match, then the warning if there is one.
    """
    lines = [f"{'per cent [95 % interval]':<28}" + "".join(f"{kind:<22}" for kind in _KINDS)]
    lines.append(f"{'n':<28}" + "".join(f"{scores['n'][kind]:>5}{'':17}" for kind in _KINDS))
    for key, label in SCORES.items():
        score = scores[key]
        if key == "closed_accuracy":
            score = {"open": None, "closed": score["value"], "overall": None, "ci95": {"closed": score["ci95"]}}
        cells = "".join(f"{_cell(score[kind], score['ci95'].get(kind)):<22}" for kind in _KINDS)
        lines.append(f"{label:<28}{cells}")
    closed = scores["closed_accuracy"]
    if closed["undecided"]:
        lines.append(f"{'':<28}{closed['undecided']} of {closed['n']} closed answers undecided, counted as wrong")
    lines.append(f"{'exact match by':<28}{'n':>5}  ")
    for key in _BREAKDOWNS:
        for name, entry in scores[f"by_{key}"].items():
            label = f"{key.replace('_', ' ')} {name}"
            lines.append(f"{label:<28}{entry['n']:>5}  {_cell(entry['exact_match'], entry['ci95'])}")
    if scores.get("warning"):
        lines.append(scores["warning"])
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: float | None, ci95: list[float] | None) -> str:
    if value is None:
        return "    -"
    return f"{value:5.1f} [{ci95[0]:.1f}, {ci95[1]:.1f}]" if ci95 else f"{value:5.1f}"


def _table(predictions: list[Row], n_resamples: int, seed: int, source: str = "predictions") -> _Table:
    if not predictions:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(predictions, source)
    types: list[str | None] = []
    for number, row in enumerate(predictions, start=1):
        # Data sets write "CLOSED", and VQA-RAD in two rows "CLOSED " with a blank.
        kind = (row.get("answer_type") or "").strip().lower()
        if kind not in ("open", "closed", ""):
            raise ValueError(
                f"{source}, row {number}: 'answer_type' is {row['answer_type']!r}; it must be open, closed or null"
            )
        types.append(kind or None)
    return _Table(predictions, types, [cluster_of(row) for row in predictions], n_resamples, seed)


def _matches(table: _Table, normaliser: str) -> np.ndarray:
    return np.array([100.0 * is_match(row["prediction"], row["answer"], normaliser) for row in table.rows])


def _overlaps(table: _Table, normaliser: str) -> dict[str, np.ndarray]:
    """Per cent for every row, by the names of the token scores."""
    found = [token_overlap(row["prediction"], row["answer"], normaliser) for row in table.rows]
    return dict(zip(_TOKEN_SCORES, 100.0 * np.array(found).T, strict=True))


def _token_scores(table: _Table, normaliser: str) -> dict[str, Any]:
    values = _overlaps(table, normaliser)
    return {name: _by_answer_type(table, values[name]) | {"normaliser": normaliser} for name in _TOKEN_SCORES}


def _closed_verdicts(table: _Table) -> dict[int, bool | None]:
    """Verdicts by the numbers of the closed rows."""
    closed = {at: table.rows[at] for at, kind in enumerate(table.types) if kind == "closed"}
    return {at: closed_verdict(row["prediction"], row["answer"], row.get("question")) for at, row in closed.items()}


def _closed_accuracy(table: _Table) -> dict[str, Any]:
    verdicts = _closed_verdicts(table)
    values = np.zeros(len(table.rows))
    values[[at for at, verdict in verdicts.items() if verdict]] = 100.0
    value, ci95 = _score(table, values, list(verdicts))
    undecided = list(verdicts.values()).count(None)
    return {"value": value, "n": len(verdicts), "ci95": ci95, "undecided": undecided, "rule": RULE}


def _counts(types: list[str | None]) -> dict[str, int]:
    return {"open": types.count("open"), "closed": types.count("closed"), "overall": len(types)}


def _rows_of(table: _Table) -> dict[str, list[int]]:
    """Numbers of the open, the closed and all rows."""
    members = {kind: [at for at, found in enumerate(table.types) if found == kind] for kind in ("open", "closed")}
    return members | {"overall": list(range(len(table.rows)))}


def _by_answer_type(table: _Table, values: np.ndarray) -> dict[str, Any]:
    scores = {kind: _score(table, values, rows) for kind, rows in _rows_of(table).items()}
    means = {kind: mean for kind, (mean, _) in scores.items()}
    return means | {"n": _counts(table.types), "ci95": {kind: ci95 for kind, (_, ci95) in scores.items()}}


def _breakdowns(table: _Table, values: np.ndarray) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key in _BREAKDOWNS:
        members: dict[str, list[int]] = {}
        for at, row in enumerate(table.rows):
            # A set, so that "POS, POS" is not counted twice.
            for name in {part.strip() for part in (row.get(key) or "").split(",")} - {""}:
                members.setdefault(name, []).append(at)
        scores = {name: _score(table, values, rows) for name, rows in sorted(members.items())}
        result[f"by_{key}"] = {
            name: {"n": len(members[name]), "exact_match": mean, "ci95": ci95} for name, (mean, ci95) in scores.items()
        }
    return result


def _score(table: _Table, values: np.ndarray, rows: list[int]) -> tuple[float | None, list[float] | None]:
    """Mean and 95 % interval over some of the rows."""
    if not rows:
        return None, None
    clusters = [table.clusters[at] for at in rows]
    interval = cluster_bootstrap(values[rows], clusters, table.n_resamples, table.seed)
    return float(values[rows].mean()), interval.to_json()
