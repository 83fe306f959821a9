"""The conditions of an ablation side by side: a table like the paper's, the differences, and a figure.

for name, folder in find_ablations("runs/conditions").items():
    scores = condition_scores(folder)
    conditions_table(scores)
    differences_table(scores)
    conditions_figure(scores, title=name)
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from pefomed.conditions import CONDITIONS
from pefomed.reporting.condition_scores import (
    BLANK,
    HEADLINE,
    MEASURES,
    ConditionScores,
    Estimate,
    check_scorable,
    condition_scores,
    find_ablations,
)
from pefomed.reporting.style import PALETTE, use_style

__all__ = [
    "ConditionScores",
    "Estimate",
    "check_scorable",
    "condition_scores",
    "conditions_figure",
    "conditions_table",
    "differences_table",
    "find_ablations",
]

# Name in tables and figures, and what each stage was, as in the paper's Tables 8 to 11.
LABELS = {
    "zero_shot": ("zero-shot", "no", "no"),
    "stage1": ("stage 1", "yes", "no"),
    "stage2": ("stage 2", "no", "yes"),
    "stage1+2": ("stage 1+2", "yes", "yes"),
    "stage2_long": ("stage 2, steps of both", "no", "longer"),
    "replay+2": ("replay alone, stage 2", "no captions", "yes"),
    BLANK: ("stage 2, no pictures", "no", "blind"),
}


def conditions_table(scores: ConditionScores) -> pd.DataFrame:
    """One line a condition as in the paper's Tables 8 to 10: which stages it had, and each measure in per cent, as the
    mean over the seeds with the interval over test pictures; n counts test rows."""
    n = scores.n["overall" if scores.task == "vqa" else "texts"]
    lines = []
    for condition, found in scores.scores.items():
        label, first, second = LABELS.get(condition, (condition, "", ""))
        head = found[HEADLINE[scores.task]]
        line = {"condition": label, "stage 1": first, "stage 2": second, "n": n, "seeds": len(head.by_seed)}
        line |= {measure: _cell(entry.mean, entry.ci95) for measure, entry in found.items()}
        spread = {f"sd of {HEADLINE[scores.task]} over seeds": "-" if head.sd is None else f"{head.sd:.1f}"}
        lines.append({**line, **spread})
    return pd.DataFrame(lines).set_index("condition")


def differences_table(scores: ConditionScores) -> pd.DataFrame:
    """The reference minus each other condition in percentage points: for every seed, and the mean with the interval
    for other test pictures and with the one for other pictures and seeds (see `Estimate`).

    Raises:
        ValueError: there is nothing to compare.
    """
    if not scores.differences:
        raise ValueError(f"condition {scores.reference!r} and another one must be answered to be compared")
    lines = []
    for condition, found in scores.differences.items():
        for measure, entry in found.items():
            each = ", ".join("-" if value is None else f"{value:+.1f}" for value in entry.by_seed.values())
            line = {"comparison": f"{_label(scores.reference)} minus {_label(condition)}", "measure": measure}
            line |= {"by seed": each or "-", "mean, other pictures": _cell(entry.mean, entry.ci95, "+")}
            lines.append({**line, "mean, other pictures and seeds": _cell(entry.mean, entry.ci95_seeds, "+")})
    return pd.DataFrame(lines).set_index(["comparison", "measure"])


def conditions_figure(scores: ConditionScores, title: str = "") -> Figure:
    """A panel for each measure: a point for every seed, and mean and interval over test pictures of each condition.

    Conditions that are not the paper's stand below a line, in another colour. The figure is neither shown nor saved.
    """
    use_style()
    conditions = list(scores.scores)
    labels = [_label(condition) for condition in conditions]
    colours = [PALETTE[0] if condition in CONDITIONS else PALETTE[1] for condition in conditions]
    figure, axes = plt.subplots(3, 1, figsize=(8, 3 * (1 + 0.4 * len(conditions))))
    for axis, measure in zip(axes, MEASURES[scores.task], strict=True):
        found = {condition: entries[measure] for condition, entries in scores.scores.items()}
        points = pd.DataFrame(
            [
                {"condition": _label(condition), "score": np.nan if value is None else value}
                for condition, entry in found.items()
                for value in entry.by_seed.values()
            ]
        )
        hue = {"hue": "condition", "hue_order": labels, "palette": colours, "legend": False}
        sns.stripplot(points, x="score", y="condition", order=labels, **hue, size=6, alpha=0.6, jitter=False, ax=axis)
        for place, entry in enumerate(found.values()):
            if entry.mean is not None:
                # The mean can lie outside of its own percentiles, and no reach may be negative.
                low, high = entry.ci95 or (entry.mean, entry.mean)
                reach = [[max(entry.mean - low, 0)], [max(high - entry.mean, 0)]]
                axis.errorbar(entry.mean, place, xerr=reach, fmt="|", color="black", capsize=4)
        own = sum(condition in CONDITIONS for condition in conditions)
        if 0 < own < len(conditions):
            axis.axhline(own - 0.5, color="grey", linestyle="--", linewidth=1)
        unit = "exact match" if scores.task == "vqa" else "of findings"
        axis.set(xlabel=f"{measure}, {unit} (%)" if unit == "of findings" else f"{unit}, {measure} (%)", ylabel="")
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    return figure


def _label(condition: str) -> str:
    return LABELS.get(condition, (condition,))[0]


def _cell(value: float | None, interval: list[float] | None, sign: str = "") -> str:
    if value is None:
        return "-"
    ends = "" if interval is None else f" ({interval[0]:{sign}.1f} to {interval[1]:{sign}.1f})"
    return f"{value:{sign}.1f}{ends}"
