"""Texts of reports and captions over several runs: lexical scores against the best constant, and how texts look."""

from __future__ import annotations

import json
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from pefomed.reporting.paper import REPORTS
from pefomed.reporting.run_results import Result
from pefomed.reporting.style import PALETTE, use_style

SHOWN = {"meteor_java15": ("METEOR", "meteor"), "rouge_l": ("ROUGE-L", "rouge_l"), "cider": ("CIDEr", "cider")}


def same_settings(results: list[Result]) -> list[list[Result]]:
    """Results with lexical scores, those together that were tokenised, cut and counted alike, with the same best
    constant: others do not compare."""
    alike: dict[str, list[Result]] = {}
    for one in results:
        if "rouge_l" in one.scores:
            key = [one.scores.get("settings"), one.scores.get("constant_report")]
            alike.setdefault(json.dumps(key, sort_keys=True), []).append(one)
    return list(alike.values())


def lexical_figure(
    scores: Mapping[str, Mapping],
    constant: Mapping[str, Mapping] | None = None,
    title: str = "",
    published: bool = False,
) -> Figure:
    """METEOR, ROUGE-L and CIDEr of every model with 95 % intervals, and lines where the best constant report stands.

    Args:
        scores: By the name of the model, what `caption_scores` returned.
        constant: What `constant_report_scores` returned for the same references.
        title: Above all.
        published: Also a line where the paper's two-stage model stands on IU-Xray (Table 5).

    Returns:
        The figure; nothing is shown or saved.

    Raises:
        ValueError: There are no scores.
    """
    if not scores:
        raise ValueError("no models to show; give the scores of at least one")
    use_style()
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(13, 2.2 + 0.4 * len(scores)), sharey=True)
    ours = next(row for row in REPORTS if row.table == 5 and row.method == "PeFoMed")
    names = list(scores)
    for axis, (key, (label, of_paper)) in zip(axes, SHOWN.items(), strict=True):
        table = pd.DataFrame([{"model": name, "score": scores[name][key]} for name in names])
        table["score"] = table["score"].astype(float)
        sns.stripplot(table, x="score", y="model", order=names, color=PALETTE[0], size=8, jitter=False, ax=axis)
        for place, name in enumerate(names):
            ends = scores[name].get("ci95", {}).get(key)
            if ends is not None:
                axis.plot(ends, [place, place], color=PALETTE[0], linewidth=2)
        if constant and key in constant:
            best = constant[key]["scores"][key]
            axis.axvline(best, color=PALETTE[3], linestyle="--", label="best constant report")
        if published:
            printed = getattr(ours, of_paper)
            axis.axvline(printed, color="grey", linestyle=":", label="paper, Table 5 (IU-Xray, 7 billion parameters)")
        axis.set(xlabel=label, ylabel="", xlim=(0, None), ylim=(len(names) - 0.5, -0.5))
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if title:
        figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.35 / figure.get_figheight(), 1, 1))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=2, frameon=False)
    return figure


def texts_table(scores: Mapping[str, Mapping]) -> pd.DataFrame:
    """How generated texts look beside the true ones, one line a model.

    Args:
        scores: By the name of the model, what `report_scores` returned; older files have no diversity.

    Returns:
        Columns: n (texts), and of generated and true texts the mean number of words, the share with a repeated
        sentence, the number of different texts, and the share that tells only normal findings.
    """
    lines = []
    for name, found in scores.items():
        line = {"model": name, "n": found["n"], "without a word (%)": _number(found.get("empty"))}
        diversity = found.get("diversity", {})
        for label, pair, digits in (
            ("mean words", found.get("mean_words", {}), 1),
            ("with a repeated sentence (%)", found.get("repetition", {}).get("repeated_sentence", {}), 1),
            ("different texts", diversity.get("distinct", {}), 0),
            ("only normal findings (%)", diversity.get("normal", {}), 1),
        ):
            for side, who in (("prediction", "generated"), ("answer", "true")):
                line[f"{label}, {who}"] = _number(pair.get(side), digits)
        lines.append(line)
    return pd.DataFrame(lines).set_index("model")


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
