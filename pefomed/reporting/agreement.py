"""How far raters, judge and exact match agree: tables and figures of what `agreement_scores` returns.

    scores = agreement_scores("ratings.jsonl", "judge.jsonl", "predictions.jsonl", task="report")
    agreement_table(scores)
    against_table(scores)
    pairs_figure(scores)
    confusion_figure(scores)
    bland_altman_figure(scores)

Raters and judge stand under the names that the files give them, so that simulated raters and the offline stand-in are
never taken for people and GPT-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pefomed.reporting.agreement_tables import (
    EXACT_MATCH_RATED,
    MEASURES,
    against_table,
    agreement_table,
    cell,
    number,
    others_of,
    raters_named,
)
from pefomed.reporting.style import PALETTE, use_style

__all__ = [
    "against_table",
    "agreement_table",
    "bland_altman_figure",
    "confusion_figure",
    "measures_figure",
    "pairs_figure",
]


def measures_figure(scores: Mapping, title: str = "") -> Figure:
    """Points with 95 % intervals: every chance-corrected measure among the raters, and of the judge with them.

    Args:
        scores: What `agreement_scores` returned.
        title: Above all.

    Returns:
        The figure; nothing is shown or saved.
    """
    use_style()
    groups = {f"among {raters_named(scores)}": scores["among_raters"]}
    groups |= {f"{name} - raters": found["mean"] for name, found in others_of(scores, needed=False).items()}
    keys = [key for key in MEASURES if key in scores["among_raters"] and key != "percent_agreement"]
    figure, axis = plt.subplots(figsize=(10, 1.8 + 0.22 * len(keys) * (1 + len(groups))))
    for order, (name, found) in enumerate(groups.items()):
        shift = 0.2 * (order - (len(groups) - 1) / 2)
        shown = [(place + shift, found[key]) for place, key in enumerate(keys) if key in found]
        shown = [(place, entry) for place, entry in shown if entry["value"] is not None]
        for place, entry in shown:
            if entry["ci95"] is not None:
                axis.plot(entry["ci95"], [place, place], color=PALETTE[order], linewidth=2)
        values, places = [entry["value"] for _, entry in shown], [place for place, _ in shown]
        axis.plot(values, places, "o", color=PALETTE[order], label=fill(name, 40))
    undefined = {key: "" if scores["among_raters"][key]["value"] is not None else "\n(undefined)" for key in keys}
    axis.set_yticks(range(len(keys)), [fill(MEASURES[key], 24) + undefined[key] for key in keys])
    axis.axvline(0, color="grey", linewidth=1)
    axis.set(xlabel="agreement beyond chance, 95 % interval", xlim=(None, 1.02), ylim=(len(keys) - 0.5, -0.5))
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _finish(figure, title)


def pairs_figure(scores: Mapping, title: str = "") -> Figure:
    """A map of kappa between all pairs of raters, the judge and exact match; quadratic-weighted for reports.

    Args:
        scores: What `agreement_scores` returned.
        title: Above all.

    Returns:
        The figure; nothing is shown or saved.
    """
    use_style()
    key = "cohen_kappa" if scores["task"] == "vqa" else "quadratic_kappa"
    others = {name: found for name, found in others_of(scores, needed=False).items() if name != EXACT_MATCH_RATED}
    names = [*scores["raters"], *others]
    table = pd.DataFrame(np.nan, index=names, columns=names)
    for pair in scores["among_raters"][key].get("pairs", []):
        first, second = pair["raters"]
        table.loc[first, second] = table.loc[second, first] = number(pair["value"])
    for name, found in others.items():
        for rater, entry in found["by_rater"].items():
            table.loc[name, rater] = table.loc[rater, name] = number(entry[key]["value"])
    side = 2.6 + 0.62 * len(names)
    figure, axis = plt.subplots(figsize=(side + 1.2, side))
    low = min(0.0, float(np.nanmin(table.to_numpy(), initial=0.0)))
    label = MEASURES[key].removesuffix(", mean of pairs")
    sns.heatmap(
        table,
        vmin=low,
        vmax=1,
        cmap="crest",
        annot=True,
        fmt=".2f",
        annot_kws={"size": 8},
        square=True,
        ax=axis,
        cbar_kws={"label": label, "shrink": 0.8},
        linewidths=0.5,
    )
    axis.grid(False)
    _wrap_ticks(axis)
    return _finish(figure, title)


def confusion_figure(scores: Mapping, title: str = "") -> Figure:
    """What the judge, and exact match, say where the raters give each level: per cent of ratings, with their number.

    A rating is counted once for each of the judge's repeats.

    Args:
        scores: What `agreement_scores` returned, with a judge or with exact match.
        title: Above all.

    Returns:
        The figure; nothing is shown or saved.

    Raises:
        ValueError: There is neither a judge nor exact match in the scores.
    """
    use_style()
    found = others_of(scores)
    figure, axes = plt.subplots(1, len(found), figsize=(1 + 4.6 * len(found), 4.6), squeeze=False)
    levels = ["wrong", "right"] if scores["task"] == "vqa" else [str(level) for level in range(5)]
    for axis, (name, entry) in zip(axes.flat, found.items(), strict=True):
        counts = np.array(entry["confusion"], dtype=float)
        sums = counts.sum(axis=1, keepdims=True)
        shares = np.divide(100 * counts, sums, out=np.full_like(counts, np.nan), where=sums > 0)
        texts = [
            [f"{share:.0f} %\n{count:,.0f}" for share, count in zip(*line, strict=True)]
            for line in zip(np.nan_to_num(shares), counts, strict=True)
        ]
        sns.heatmap(
            shares,
            vmin=0,
            vmax=100,
            cmap="crest",
            annot=np.array(texts),
            fmt="",
            annot_kws={"size": 9},
            cbar=False,
            square=True,
            xticklabels=levels,
            yticklabels=levels,
            linewidths=0.5,
            ax=axis,
        )
        axis.set(xlabel=fill(name, 34), ylabel=f"rating by {raters_named(scores)}")
    return _finish(figure, title)


def bland_altman_figure(scores: Mapping, title: str = "") -> Figure:
    """Judge minus raters against their mean, a point a report, with the mean difference and the limits of agreement.

    Args:
        scores: What `agreement_scores` returned for reports with a judge.
        title: Above all.

    Returns:
        The figure; nothing is shown or saved.

    Raises:
        ValueError: The scores are not of reports, or have no judge.
    """
    means = scores.get("judge", {}).get("means")
    if means is None:
        raise ValueError("a Bland-Altman plot needs reports that raters and a judge both rated; give both")
    use_style()
    raters, judge = (np.array(means["points"][key]) for key in ("raters", "judge"))
    figure, axis = plt.subplots(figsize=(9, 5))
    points = pd.DataFrame({"mean": (raters + judge) / 2, "difference": judge - raters}).value_counts().reset_index()
    sns.scatterplot(
        points,
        x="mean",
        y="difference",
        size="count",
        sizes=(25, 25 + 12 * min(points["count"].max() - 1, 20)),
        legend=False,
        alpha=0.6,
        color=PALETTE[0],
        ax=axis,
    )
    limits = means["bland_altman"]
    lines = {"mean_difference": ("mean difference", "-"), "low": ("lower limit", "--"), "high": ("upper limit", "--")}
    for key, (label, style) in lines.items():
        entry = limits[key]
        if entry["value"] is None:
            continue
        axis.axhline(entry["value"], color=PALETTE[3], linestyle=style, linewidth=1.5)
        if entry["ci95"] is not None:
            axis.axhspan(*entry["ci95"], color=PALETTE[3], alpha=0.15, linewidth=0)
        axis.annotate(
            f"{label}\n{cell(entry, 2)}",
            (1.01, entry["value"]),
            xycoords=("axes fraction", "data"),
            fontsize=9,
            va="center",
        )
    axis.axhline(0, color="grey", linewidth=1)
    name = scores["judge"]["name"]
    axis.set(
        xlabel=f"mean of {name} and {raters_named(scores)} (level)",
        ylabel=fill(f"{name} minus {raters_named(scores)}", 40),
    )
    return _finish(figure, title)


def _wrap_ticks(axis: Axes) -> None:
    for ticks, rotation in ((axis.get_xticklabels(), 60), (axis.get_yticklabels(), 0)):
        for tick in ticks:
            tick.set(text=fill(tick.get_text(), 24), rotation=rotation)
    for tick in axis.get_xticklabels():
        tick.set(horizontalalignment="right", rotation_mode="anchor")


def _finish(figure: Figure, title: str) -> Figure:
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    return figure
