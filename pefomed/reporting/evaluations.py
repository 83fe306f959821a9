"""The paper's tables of answers, with one line an evaluation: exact match, judge, raters; and its figure of them.

    evaluations = {"exact match": vqa_scores(path), "offline stand-in": verdict_scores(path, "judge.jsonl", "vqa")}
    accuracy_table(evaluations, published="vqa_rad")        # as Tables 2, 8 and 9
    kinds_table(evaluations, "by_image_organ")              # as Tables 3 and 4
    evaluations_figure(evaluations)                         # as Figures 3 to 6

Whoever makes the mapping names the evaluations; a stand-in or simulated raters must be called so. Tables and figures
of reports are in report_evaluations.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pefomed.reporting.accuracy import BREAKDOWNS
from pefomed.reporting.paper import KINDS, VQA, Score
from pefomed.reporting.style import PALETTE, use_style

_SIDES = ("open", "closed", "overall")
_ERRORS = {"sd": "standard deviation over raters or repeats", "ci95": "95 % interval over images"}


def accuracy_table(evaluations: Mapping[str, Mapping], published: str = "") -> pd.DataFrame:
    """Accuracy on open, closed and all questions, one line an evaluation, as in the paper's Tables 2, 8 and 9.

    Args:
        evaluations: By the name of the evaluation, what `vqa_scores` or `verdict_scores` returned.
        published: A data set (`vqa_rad`, `slake` or `path_vqa`): adds the paper's own lines of its two-stage model.

    Returns:
        Columns: n (questions), raters, and open, closed and overall in per cent as mean+-sd over raters or repeats,
        with the 95 % interval over images.

    Raises:
        ValueError: There are no evaluations, one has no accuracy, or the paper has no such data set.
    """
    _check(evaluations)
    lines = []
    for name, scores in evaluations.items():
        line = {"evaluation": name, "n": scores["n"]["overall"], "raters": _n_raters(scores)}
        lines.append(line | {side: cell(_accuracy(name, scores)[side]) for side in _SIDES})
    if published:
        rows = [row for row in VQA if (row.table, row.method, row.dataset) == (2, "PeFoMed", published)]
        if not rows:
            known = ", ".join(sorted({row.dataset for row in VQA}))
            raise ValueError(f"published is {published!r}; the paper has answers on {known}")
        for row in rows:
            line = {"evaluation": f"{row.evaluation} (paper, Table {row.table})", "n": "", "raters": ""}
            lines.append(line | {side: printed(getattr(row, side)) for side in _SIDES})
    return pd.DataFrame(lines).set_index("evaluation")


def kinds_table(evaluations: Mapping[str, Mapping], breakdown: str, published: bool = False) -> pd.DataFrame:
    """Accuracy by one kind of question, one line an evaluation, as in the paper's Tables 3 and 4.

    Args:
        evaluations: As for `accuracy_table`.
        breakdown: `by_question_type`, `by_image_organ` or `by_phrase_type`.
        published: Add the paper's own lines, which are of VQA-RAD.

    Returns:
        A column for each name, with its number of questions (of the evaluations; the paper prints none): per cent as
        mean+-sd, with the 95 % interval.

    Raises:
        ValueError: There are no evaluations, there is no such breakdown, or no question has this kind.
    """
    _check(evaluations)
    if breakdown not in BREAKDOWNS:
        raise ValueError(f"breakdown is {breakdown!r}; it must be one of {', '.join(BREAKDOWNS)}")
    counts = _counts(evaluations, breakdown)
    if not counts:
        raise ValueError(f"no question has a {breakdown.removeprefix('by_')}, so there is no column to make")
    lines = []
    for evaluation, scores in evaluations.items():
        found = scores.get(breakdown, {})
        cells = {_head(name, n): cell(_of_kind(found[name])) if name in found else "-" for name, n in counts.items()}
        lines.append({"evaluation": evaluation, **cells})
    if published:
        rows = [row for row in KINDS if f"by_{row.breakdown}" == breakdown]
        for evaluation in dict.fromkeys(row.evaluation for row in rows):
            means = {row.name: row.accuracy for row in rows if row.evaluation == evaluation}
            cells = {_head(name, n): printed(means.get(name)) for name, n in counts.items()}
            lines.append({"evaluation": f"{evaluation} (paper, Table {rows[0].table})", **cells})
    return pd.DataFrame(lines).set_index("evaluation")


def evaluations_figure(evaluations: Mapping[str, Mapping], title: str = "", errors: str = "sd") -> Figure:
    """Bars of accuracy by question type, organ and phrasing, a colour for each evaluation, as the paper's Figures 3-6.

    Args:
        evaluations: As for `accuracy_table`.
        title: Above all.
        errors: What the error bars are: `sd` over raters or repeats, as in the paper (none where there is one verdict
            only, such as exact match), or `ci95`, the interval over images.

    Returns:
        The figure; nothing is shown or saved.

    Raises:
        ValueError: There are no evaluations, `errors` is neither, or the questions are of no kind.
    """
    _check(evaluations)
    if errors not in _ERRORS:
        raise ValueError(f"errors is {errors!r}; it must be 'sd' or 'ci95'")
    counts = {key: _counts(evaluations, key) for key in BREAKDOWNS}
    counts = {key: found for key, found in counts.items() if found}
    if not counts:
        raise ValueError("no question has a question_type, image_organ or phrase_type, so there is no bar to draw")
    use_style()
    widths = [max(2, len(found)) for found in counts.values()]
    figure, axes = plt.subplots(
        1, len(counts), figsize=(14, 5.2), sharey=True, squeeze=False, gridspec_kw={"width_ratios": widths}
    )
    for axis, (key, found) in zip(axes.flat, counts.items(), strict=True):
        _bars(axis, evaluations, key, found, errors)
        axis.set(title=BREAKDOWNS[key], xlabel="", ylabel="accuracy (%)", ylim=(0, 100))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    for axis in axes.flat:
        axis.get_legend().remove()
    if title:
        figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.legend(
        handles, labels, title=f"error bars: {_ERRORS[errors]}", loc="lower center", ncols=min(len(labels), 4)
    )
    return figure


def kinds_in_words(evaluations: Mapping[str, Mapping]) -> str:
    """Alternative text for `evaluations_figure`: what is compared, and for which kind of question it differs most.

    Args:
        evaluations: As for `accuracy_table`.
    """
    panels = [label.lower() for key, label in BREAKDOWNS.items() if _counts(evaluations, key)]
    text = f"Bars of accuracy by {', '.join(panels)} for {', '.join(evaluations)}."
    apart: dict[str, dict[str, float]] = {}
    for key, label in BREAKDOWNS.items():
        for name in _counts(evaluations, key):
            means = {one: _of_kind(s[key][name])["mean"] for one, s in evaluations.items() if name in s.get(key, {})}
            apart[f"{label.lower()} {name}"] = {one: mean for one, mean in means.items() if mean is not None}
    apart = {kind: means for kind, means in apart.items() if len(means) > 1}
    if not apart:
        return text
    gaps = {kind: max(means.values()) - min(means.values()) for kind, means in apart.items()}
    widest = max(gaps, key=gaps.get)
    if gaps[widest] < 0.05:  # not to be told apart with one digit
        return f"{text} They are equally high for every kind."
    heights = ", ".join(f"{one} {mean:.1f} %" for one, mean in apart[widest].items())
    return f"{text} They are furthest apart at {widest}: {heights}."


def cell(entry: Mapping, digits: int = 1) -> str:
    """Mean+-sd with the 95 % interval, as far as there are such."""
    if entry["mean"] is None:
        return "-"
    spread = "" if entry.get("sd") is None else f"\N{PLUS-MINUS SIGN}{entry['sd']:.{digits}f}"
    ends = entry.get("ci95")
    interval = "" if ends is None else f" ({ends[0]:.{digits}f}-{ends[1]:.{digits}f})"
    return f"{entry['mean']:.{digits}f}{spread}{interval}"


def printed(score: Score | None, digits: int = 1) -> str:
    """A number of the paper, with its standard deviation."""
    return "-" if score is None else cell({"mean": score.mean, "sd": score.sd}, digits)


def error_bar(axis: Axes, place: float, entry: Mapping, errors: str) -> None:
    """Draw the error bar of one estimate, if it has any."""
    middle = entry["mean"]
    if errors == "sd":
        low, high = (middle, middle) if entry.get("sd") is None else (middle - entry["sd"], middle + entry["sd"])
    else:
        low, high = entry.get("ci95") or (middle, middle)
    if high > low:
        # The mean can lie outside of its own percentiles, and no reach may be negative.
        axis.errorbar(place, middle, yerr=[[max(middle - low, 0)], [max(high - middle, 0)]], color="black", capsize=2)


def _bars(axis: Axes, evaluations: Mapping[str, Mapping], key: str, counts: Mapping[str, int], errors: str) -> None:
    entries = {
        (evaluation, name): _of_kind(scores[key][name])
        for evaluation, scores in evaluations.items()
        for name in counts
        if name in scores.get(key, {})
    }
    table = pd.DataFrame(
        [
            {"kind": name, "evaluation": evaluation, "accuracy": entries.get((evaluation, name), {}).get("mean")}
            for evaluation in evaluations
            for name in counts
        ]
    )
    table["accuracy"] = table["accuracy"].astype(float)
    colours = PALETTE[: len(evaluations)]
    sns.barplot(table, x="kind", y="accuracy", hue="evaluation", order=list(counts), palette=colours, ax=axis)
    width = 0.8 / len(evaluations)
    for number, evaluation in enumerate(evaluations):
        for place, name in enumerate(counts):
            entry = entries.get((evaluation, name))
            if entry is not None and entry["mean"] is not None:
                error_bar(axis, place - 0.4 + width * (number + 0.5), entry, errors)
    axis.set_xticks(range(len(counts)), [_head(name, n) for name, n in counts.items()])
    axis.tick_params(axis="x", rotation=60)
    for label in axis.get_xticklabels():
        label.set(horizontalalignment="right", rotation_mode="anchor")


def _check(evaluations: Mapping[str, Mapping]) -> None:
    if not evaluations:
        raise ValueError("no evaluations to show; give the scores of at least one")
    for name, scores in evaluations.items():
        _accuracy(name, scores)


def _accuracy(name: str, scores: Mapping) -> dict[str, Mapping]:
    """Open, closed and overall as {"mean", "sd", "ci95"}, whoever judged."""
    if "accuracy" in scores:
        return {side: scores["accuracy"][side] for side in _SIDES}
    if "exact_match" not in scores:
        raise ValueError(f"evaluation {name!r} has no accuracy; give what vqa_scores or verdict_scores returned")
    match = scores["exact_match"]
    return {side: {"mean": match[side], "sd": None, "ci95": match["ci95"][side]} for side in _SIDES}


def _of_kind(entry: Mapping) -> Mapping:
    return entry if "mean" in entry else {"mean": entry["exact_match"], "sd": None, "ci95": entry["ci95"]}


def _n_raters(scores: Mapping) -> int:
    return len(scores["raters"]) if "raters" in scores else 1


def _counts(evaluations: Mapping[str, Mapping], key: str) -> dict[str, int]:
    """Questions of each name, the most that any evaluation has."""
    counts: dict[str, int] = {}
    for scores in evaluations.values():
        for name, entry in scores.get(key, {}).items():
            counts[name] = max(entry["n"], counts.get(name, 0))
    return dict(sorted(counts.items()))


def _head(name: str, n: int) -> str:
    return f"{name} (n={n})"
