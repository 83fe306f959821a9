"""Findings of generated reports with their intervals: by condition, and finding by finding."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pefomed.embedded.phantom_findings import FINDINGS
from pefomed.reporting.style import PALETTE, use_style

PARTS = {"CHEST": "Chest", "ABD": "Abdomen", "HEAD": "Head"}
FAMILIES = {"names": "name", "places": "name, side and place"}


def findings_table(scores: Mapping[str, Mapping]) -> pd.DataFrame:
    """Precision, recall and F1 of findings in percent, one line a condition, with 95 % intervals.

    Args:
        scores: by the name of the condition, what `report_scores` or `finding_scores` returned.

    Returns:
        Columns: n (texts), findings (true ones), precision, recall and F1 over all findings, mean F1 over the names,
        F1 with side and place, recall of normal pictures, and texts whose findings are all right.

    Raises:
        ValueError: for no condition, or one without scores of findings.
    """
    if not scores:
        raise ValueError("no conditions to tabulate; give the scores of at least one")
    lines = []
    for name, score in scores.items():
        found = _findings(score, f"condition {name!r}")
        micro, macro, placed = found["names"]["micro"], found["names"]["macro"], found["places"]["micro"]
        exact = found["names"]["exact_set"]
        lines.append(
            {
                "condition": name,
                "n": found["n"],
                "findings": micro["n"],
                "precision": _with_interval(micro["precision"], micro["ci95"]["precision"]),
                "recall": _with_interval(micro["recall"], micro["ci95"]["recall"]),
                "F1": _with_interval(micro["f1"], micro["ci95"]["f1"]),
                "F1, mean over names": _with_interval(macro["f1"], macro["ci95"]["f1"]),
                "F1, with side and place": _with_interval(placed["f1"], placed["ci95"]["f1"]),
                "normal, recall": _with_interval(found["normal"]["recall"], found["normal"]["ci95"]["recall"]),
                "all findings right": _with_interval(exact["share"], exact["ci95"]),
            }
        )
    return pd.DataFrame(lines).set_index("condition")


def f1_by_finding(scores: Mapping, title: str = "") -> Figure:
    """Bars of F1 for each finding, by its name alone and with side and place, with 95 % intervals and counts.

    Args:
        scores: what `report_scores` or `finding_scores` returned.
        title: above all.

    Returns:
        The figure, one panel for each part of the body; findings that are neither true nor told are left out.
        Nothing is shown or saved.

    Raises:
        ValueError: for scores without findings, or where every text is normal.
    """
    found = _findings(scores, "the scores")
    by_name = found["names"]["by_finding"]
    if not by_name:
        raise ValueError("no finding is true or told in these scores, so there is no bar to draw")
    use_style()
    parts = {part: [name for name in names if name in by_name] for part, names in FINDINGS.items()}
    parts = {part: names for part, names in parts.items() if names}
    widths = [max(2, len(names)) for names in parts.values()]
    figure, axes = plt.subplots(
        1, len(parts), figsize=(13, 5.4), sharey=True, squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for axis, (part, names) in zip(axes.flat, parts.items(), strict=True):
        _bars(axis, found, names)
        axis.set(title=PARTS[part], xlabel="", ylabel="F1 (%)", ylim=(0, 100))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    for axis in axes.flat:
        axis.get_legend().remove()
    figure.legend(handles, labels, title="a finding is right by its", loc="outside lower center", ncols=2)
    if title:
        figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    return figure


def f1_in_words(scores: Mapping) -> str:
    """Alternative text for `f1_by_finding`: the height of every bar.

    Args:
        scores: as there.

    Raises:
        ValueError: for scores without findings.
    """
    found = _findings(scores, "the scores")
    bars = [
        f"{name} {found['names']['by_finding'][name]['f1']:.0f} and {found['places']['by_finding'][name]['f1']:.0f}"
        for names in FINDINGS.values()
        for name in names
        if name in found["names"]["by_finding"]
    ]
    return f"Bars of F1 in per cent, by {' and by '.join(FAMILIES.values())}: {', '.join(bars)}."


def _bars(axis: Axes, found: Mapping, names: list[str]) -> None:
    table = pd.DataFrame(
        [
            {"finding": name, "right by": label, **found[family]["by_finding"][name]}
            for family, label in FAMILIES.items()
            for name in names
        ]
    )
    sns.barplot(data=table, x="finding", y="f1", hue="right by", palette=PALETTE[:2], ax=axis)
    for container, label in zip(tuple(axis.containers), FAMILIES.values(), strict=True):
        for bar, (_, row) in zip(container, table[table["right by"] == label].iterrows(), strict=True):
            middle, place = row["f1"], bar.get_x() + bar.get_width() / 2
            if row["ci95"]["f1"] is not None:
                low, high = row["ci95"]["f1"]
                # The score can lie outside of its own percentiles, and no reach may be negative.
                reach = [[max(middle - low, 0)], [max(high - middle, 0)]]
                axis.errorbar(place, middle, yerr=reach, color="black", capsize=3)
    counts = [found["names"]["by_finding"][name]["n"] for name in names]
    axis.set_xticks(range(len(names)), [f"{name} (n={n})" for name, n in zip(names, counts, strict=True)])
    axis.tick_params(axis="x", rotation=60)
    for label in axis.get_xticklabels():
        label.set(horizontalalignment="right", rotation_mode="anchor")


def _findings(scores: Mapping, what: str) -> Mapping:
    found = scores.get("findings", scores)
    if "names" not in found or "places" not in found:
        raise ValueError(f"{what}: there are no scores of findings; only reports and captions of phantoms have them")
    return found


def _with_interval(value: float | None, interval: list | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if interval is None else f"{value:.1f} ({interval[0]:.1f}-{interval[1]:.1f})"
