"""Scores of generated reports and captions that need no published metric.

scores = report_scores("run/predictions.jsonl")
print(format_report_scores(scores))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pefomed.metrics.findings import DATASET, TASKS, finding_scores
from pefomed.metrics.repetition import SIDES, repetition_scores, words
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
_MEASURES = ("precision", "recall", "f1")


def report_scores(predictions: str | Path | list[Row], n_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Length, repetition and, for the drawn world, findings of generated reports or captions.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n` (texts), `mean_words` ({"prediction", "answer"}), `empty` (per cent of generated texts without a word),
        `repetition` (see `repetition_scores`) and, if every row is of "phantoms", `findings` (see `finding_scores`).
        Made of plain dicts, lists, numbers, strings and None, ready for `files.write_json`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no rows, a row is malformed, or its task is neither `report` nor `caption`.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else predictions
    if not rows:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(rows, str(source))
    for number, row in enumerate(rows, start=1):
        if row["task"] not in TASKS:
            raise ValueError(
                f"{source}, row {number}: task {row['task']!r} is no 'report' or 'caption'; leave other tasks out"
            )
    lengths = {side: [len(words(row[side])) for row in rows] for side in SIDES}
    scores: dict[str, Any] = {
        "n": len(rows),
        "mean_words": {side: sum(lengths[side]) / len(rows) for side in SIDES},
        "empty": 100.0 * lengths["prediction"].count(0) / len(rows),
        "repetition": repetition_scores(rows),
    }
    if all(row.get("dataset") == DATASET for row in rows):
        scores["findings"] = finding_scores(rows, n_resamples, seed)
    return scores


def format_report_scores(scores: dict[str, Any]) -> str:
    """Lay out what `report_scores` returns as plain-text tables.

    Args:
        scores: The result of `report_scores`.

    Returns:
        Lines of equal columns: length and repetition of generated and true texts, then the findings if there are any.
    """
    repetition = scores["repetition"]
    lines = [f"{'texts: ' + str(scores['n']):<38}{'generated':>10}{'true':>10}"]
    for label, pair in (
        ("mean words", scores["mean_words"]),
        ("with a repeated sentence (%)", repetition["repeated_sentence"]),
        ("repeated runs of four words (%)", repetition["repeated_4grams"]),
    ):
        lines.append(f"{label:<38}" + "".join(f"{_number(pair[side]):>10}" for side in SIDES))
    lines.append(
        f"{'longest loop (words)':<38}" + "".join(f"{repetition['longest_loop'][side]:>10}" for side in SIDES)
    )
    lines.append(f"{'without a word (%)':<38}{_number(scores['empty']):>10}")
    if repetition["cut"]:
        label = f"cut at the bound (%), known for {repetition['cut']['n']}"
        lines.append(f"{label:<38}{_number(repetition['cut']['share']):>10}")
    if "findings" in scores:
        lines += ["", *_finding_lines(scores["findings"])]
    return "\n".join(line.rstrip() for line in lines)


def _finding_lines(findings: dict[str, Any]) -> list[str]:
    heads = "".join(f"{measure:<23}" for measure in ("precision", "recall", "F1"))
    lines = [f"{'per cent [95 % interval]':<38}{'n':>6}  {heads}"]
    names, places = findings["names"], findings["places"]
    for label, entry in (
        ("findings", names["micro"]),
        ("findings, mean over names", names["macro"]),
        ("findings with side and place", places["micro"]),
        ("the same, mean over names", places["macro"]),
        ("normal (no finding)", findings["normal"]),
        *names["by_finding"].items(),
    ):
        cells = "".join(f"{_cell(entry[measure], entry['ci95'][measure]):<23}" for measure in _MEASURES)
        lines.append(f"{label:<38}{entry['n']:>6}  {cells}")
    for label, family in (("all findings right", names), ("the same with side and place", places)):
        exact = family["exact_set"]
        lines.append(f"{label:<38}{exact['n']:>6}  {_cell(exact['share'], exact['ci95'])}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cell(value: float | None, ci95: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:5.1f} [{ci95[0]:.1f}, {ci95[1]:.1f}]" if ci95 else f"{value:5.1f}"
