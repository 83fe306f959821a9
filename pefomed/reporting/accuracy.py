"""Accuracy with its intervals: by condition, and by kind of question."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from pefomed.reporting.style import PALETTE, use_style

BREAKDOWNS = {
    "by_question_type": "Question type",
    "by_image_organ": "Organ",
    "by_phrase_type": "Phrasing",
}


def condition_table(scores: Mapping[str, Mapping]) -> pd.DataFrame:
    """Exact match in percent, one line a condition, with 95 % intervals.

    Args:
        scores: metrics.json contents by the name of the condition.
    """
    lines = []
    for name, score in scores.items():
        match = score["exact_match"]
        line = {"condition": name, "n": score["n"]["overall"]}
        for kind in ("open", "closed", "overall"):
            line[kind] = _with_interval(match[kind], match["ci95"][kind])
        line["overall, repaired normaliser"] = _with_interval(
            score["exact_match_repaired"]["overall"], score["exact_match_repaired"]["ci95"]["overall"]
        )
        lines.append(line)
    return pd.DataFrame(lines).set_index("condition")


def _with_interval(value: float | None, interval: list | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if interval is None else f"{value:.1f} ({interval[0]:.1f}-{interval[1]:.1f})"


def accuracy_by_kind(scores: Mapping, title: str = "") -> Figure:
    """Bars of exact match by question type, organ and phrasing, with 95 % intervals and counts.

    Args:
        scores: contents of one metrics.json.
        title: above all.

    Returns:
        The figure; nothing is shown or saved.
    """
    use_style()
    parts = {key: label for key, label in BREAKDOWNS.items() if scores.get(key)}
    widths = [max(2, len(scores[key])) for key in parts]
    figure, axes = plt.subplots(
        1, len(parts), figsize=(11, 4), sharey=True, squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for axis, (key, label) in zip(axes.flat, parts.items(), strict=True):
        found = sorted(scores[key].items())
        table = pd.DataFrame([{label: f"{name}\nn={cell['n']}", **cell} for name, cell in found])
        sns.barplot(data=table, x=label, y="exact_match", color=PALETTE[0], ax=axis)
        for place, (_, row) in enumerate(table.iterrows()):
            if row["ci95"] is not None:
                low, high = row["ci95"]
                middle = row["exact_match"]
                axis.errorbar(place, middle, yerr=[[middle - low], [high - middle]], color="black", capsize=3)
        axis.tick_params(axis="x", rotation=45)
        axis.set(ylabel="exact match (%)", ylim=(0, 100))
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    return figure


def accuracy_in_words(scores: Mapping) -> str:
    """Alternative text for `accuracy_by_kind`: the height of every bar.

    Args:
        scores: as there.
    """
    panels = [
        f"{label}: " + ", ".join(f"{name} {cell['exact_match']:.0f}" for name, cell in sorted(scores[key].items()))
        for key, label in BREAKDOWNS.items()
        if scores.get(key)
    ]
    return f"Bars of exact match in per cent. {'. '.join(panels)}."
