"""The paper's tables of reports: levels and WASM by judge and raters, and lexical scores beside the best constant.

evaluations = {"offline stand-in": verdict_scores(path, "judge.jsonl", "report")}
levels_table(evaluations, published=True)               # as Table 6
level_counts_table(evaluations, published=True)         # as Tables 7 and 11
levels_figure(evaluations)
report_metrics_table({"stage 1+2": caption_scores(path)}, constant_report_scores(path), published=True)
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from pefomed.reporting.evaluations import cell, error_bar, printed
from pefomed.reporting.paper import IU_XRAY_TEST, LIKERT, REPORTS, LikertRow
from pefomed.reporting.style import PALETTE, use_style

LEVELS = ("0", "1", "2", "3", "4")
METRICS = {
    "meteor_java15": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
}
_CONDITIONS = {
    (False, False): "zero-shot",
    (True, False): "stage 1",
    (False, True): "stage 2",
    (True, True): "stage 1+2",
}


def levels_table(evaluations: Mapping[str, Mapping], published: bool = False) -> pd.DataFrame:
    """Share of reports at each level and WASM, one line an evaluation, as in the paper's Table 6.

    Args:
        evaluations: By the name of the evaluation, what `verdict_scores` returned for reports.
        published: Add the paper's own lines.

    Returns:
        Columns: n (reports), raters, level 0 to 4 (per cent, mean+-sd over raters or repeats), WASM (with the 95 %
        interval over studies).

    Raises:
        ValueError: There are no evaluations, or one has no levels.
    """
    _check(evaluations)
    lines = []
    for name, scores in evaluations.items():
        shares = {f"level {level} (%)": cell(scores["levels"][level]) for level in LEVELS}
        line = {"evaluation": name, "n": scores["n"], "raters": len(scores["raters"])}
        lines.append({**line, **shares, "WASM": cell(scores["wasm"], 2)})
    for row in LIKERT:
        if published and row.table == 6:
            shares = {f"level {level} (%)": printed(row.levels[int(level)], 2) for level in LEVELS}
            lines.append({"evaluation": _name(row), "n": row.n, "raters": "", **shares, "WASM": printed(row.wasm, 2)})
    return pd.DataFrame(lines).set_index("evaluation")


def level_counts_table(evaluations: Mapping[str, Mapping], published: bool = False) -> pd.DataFrame:
    """Verdicts at each level and WASM, one line an evaluation or a condition, as in the paper's Tables 7 and 11.

    Args:
        evaluations: As for `levels_table`.
        published: Add the paper's own lines, which are of one repeat.

    Returns:
        Columns: n (reports), verdicts (of all raters or repeats together), level 0 to 4 (verdicts), WASM.

    Raises:
        ValueError: As for `levels_table`.
    """
    _check(evaluations)
    lines = []
    for name, scores in evaluations.items():
        counts = {f"level {level}": scores["counts"][level] for level in LEVELS}
        line = {"evaluation": name, "n": scores["n"], "verdicts": sum(counts.values())}
        lines.append({**line, **counts, "WASM": cell(scores["wasm"], 2)})
    for row in LIKERT:
        if published and row.table == 11:
            counts = {f"level {level}": int(row.levels[int(level)].mean) for level in LEVELS}
            line = {"evaluation": _name(row), "n": row.n, "verdicts": row.n}
            lines.append({**line, **counts, "WASM": printed(row.wasm, 2)})
    return pd.DataFrame(lines).set_index("evaluation")


def levels_figure(evaluations: Mapping[str, Mapping], title: str = "", published: bool = False) -> Figure:
    """Bars of the share of reports at each level, a colour for each evaluation, with the sd over raters or repeats.

    Args:
        evaluations: As for `levels_table`.
        title: Above all.
        published: Add the paper's Table 6, with hatched bars.

    Returns:
        The figure; nothing is shown or saved.

    Raises:
        ValueError: As for `levels_table`.
    """
    _check(evaluations)
    use_style()
    shown = {
        f"{name} (WASM {cell(scores['wasm'], 2)})": [scores["levels"][level] for level in LEVELS]
        for name, scores in evaluations.items()
    }
    own = len(shown)
    for row in LIKERT:
        if published and row.table == 6:
            levels = [{"mean": score.mean, "sd": score.sd} for score in row.levels]
            shown[f"{_name(row)} (WASM {printed(row.wasm, 2)})"] = levels
    table = pd.DataFrame(
        [
            {"level": level, "evaluation": name, "share": entry["mean"]}
            for name, entries in shown.items()
            for level, entry in zip(LEVELS, entries, strict=True)
        ]
    )
    figure, axis = plt.subplots(figsize=(10, 4.4 + 0.3 * len(shown)))
    colours = PALETTE[: len(shown)]
    sns.barplot(table, x="level", y="share", hue="evaluation", palette=colours, ax=axis)
    width = 0.8 / len(shown)
    for number, (bars, entries) in enumerate(zip(axis.containers[: len(shown)], shown.values(), strict=True)):
        for place, (bar, entry) in enumerate(zip(bars, entries, strict=True)):
            bar.set_hatch("//" if number >= own else "")
            error_bar(axis, place - 0.4 + width * (number + 0.5), entry, "sd")
    axis.set(xlabel="level given to a report", ylabel="reports (%)", ylim=(0, None))
    axis.legend(
        title="error bars: standard deviation over raters or repeats",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        frameon=False,
    )
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    return figure


def report_metrics_table(
    scores: Mapping[str, Mapping], constant: Mapping[str, Mapping] | None = None, published: bool = False
) -> pd.DataFrame:
    """Lexical scores of reports with their 95 % intervals, with what the best constant report reaches beside them.

    Args:
        scores: By the name of the model, what `caption_scores` returned.
        constant: What `constant_report_scores` returned for the same predictions; a constant that is best by several
            scores has one line.
        published: Add PeFoMed's lines of the paper's Tables 5 and 10.

    Returns:
        Columns: n (reports), METEOR, ROUGE-L (0 to 1), CIDEr (0 to 10), BLEU-1 to BLEU-4 (0 to 1).

    Raises:
        ValueError: There are no scores, or one is not of reports.
    """
    if not scores:
        raise ValueError("no models to tabulate; give the scores of at least one")
    lines = []
    for name, found in scores.items():
        missing = [key for key in METRICS if key not in found]
        if missing:
            raise ValueError(f"model {name!r} has no {missing[0]}; give what caption_scores returned")
        ends = found.get("ci95", {})
        cells = {label: cell({"mean": found[key], "ci95": ends.get(key)}, 3) for key, label in METRICS.items()}
        lines.append({"model": name, "n": found["n"], **cells})
    for name, entry in _constants(constant or {}).items():
        cells = {label: cell({"mean": entry["scores"].get(key)}, 3) for key, label in METRICS.items()}
        lines.append({"model": name, "n": entry["n"], **cells})
    for row in REPORTS:
        if published and row.method == "PeFoMed" and row.table == 10:
            given = {"METEOR": row.meteor, "ROUGE-L": row.rouge_l, "CIDEr": row.cider}
            cells = {label: cell({"mean": given.get(label)}, 3) for label in METRICS.values()}
            lines.append(
                {"model": f"{_CONDITIONS[row.stages]} (paper, Table {row.table})", "n": IU_XRAY_TEST, **cells}
            )
    return pd.DataFrame(lines).set_index("model")


def _constants(constant: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Each distinct constant under a name that tells by which scores it is the best."""
    best: dict[str, list[str]] = {}
    for key in METRICS:
        if key in constant:
            best.setdefault(constant[key]["sha256"], []).append(key)
    return {
        f"best constant report by {', '.join(METRICS[key] for key in keys)}": constant[keys[0]]
        for keys in best.values()
    }


def _name(row: LikertRow) -> str:
    condition = f", {_CONDITIONS[row.stages]}" if row.table == 11 else ""
    return f"{row.evaluation}{condition} (paper, Table {row.table})"


def _check(evaluations: Mapping[str, Mapping]) -> None:
    if not evaluations:
        raise ValueError("no evaluations to show; give the scores of at least one")
    for name, scores in evaluations.items():
        if "levels" not in scores or "wasm" not in scores:
            raise ValueError(f"evaluation {name!r} has no levels; give what verdict_scores returned for reports")
