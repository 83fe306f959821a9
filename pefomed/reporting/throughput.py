"""How fast training and answering are: tables and figures from what the benchmarks wrote.

    speed = read_speed("benchmarks/results")
    variants_table(speed["training"]["cases"]["synthetic"])
    speed_figure(speed["training"]["cases"])
    growth_figure(speed["training"]["growth"])
    roofline_figure(speed["training"]["roofline"])

Speeds are medians of repeats in one run, in which the plain procedure and ours took turns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from pefomed.reporting.style import PALETTE, use_style
from pefomed.reporting.throughput_results import (
    CASES,
    KINDS,
    best_plain,
    kind_of,
    label_of,
    measured_on,
    read_speed,
)

__all__ = [
    "CASES",
    "KINDS",
    "best_plain",
    "growth_figure",
    "kind_of",
    "label_of",
    "measured_on",
    "read_speed",
    "roofline_figure",
    "speed_figure",
    "variants_table",
]

COLOURS = dict(zip(KINDS, (PALETTE[0], PALETTE[1], PALETTE[2]), strict=True))
MARKERS = dict(zip(KINDS, ("o", "s", "^"), strict=True))
GROWTH = {"questions": "questions about a picture", "image_tokens": "tokens of a picture", "pictures": "pictures"}
POINT_MARKERS = "osD^vP*Xph"


def variants_table(case: Mapping) -> pd.DataFrame:
    """One line a variant: questions a second, how often the plain procedure's, and peak memory.

    Args:
        case: an entry of `cases`.

    Returns:
        Also the first loss, or how many answers are those of one question at a time, where the case has them.
    """
    variants, best = case["variants"], best_plain(case)
    lines = []
    for name, found in variants.items():
        speed = found["questions_per_second"]
        line = {"variant": label_of(name)}
        if any("batch_size" in other for other in variants.values()):
            line["questions a step"] = str(found.get("batch_size", "-"))
        line["questions/s"] = _short(speed)
        if "plain-1" in variants:
            line["x plain, one at a time"] = _short(speed / variants["plain-1"]["questions_per_second"])
        line["x best plain"] = _short(speed / variants[best]["questions_per_second"])
        for key, label, form in (
            ("peak_mb", "peak memory (MB)", ",.0f"),
            ("loss", "first loss", ".6f"),
            ("answers_as_one_by_one", "answers as one by one", ",d"),
        ):
            if any(key in other for other in variants.values()):
                line[label] = "-" if found.get(key) is None else format(found[key], form)
        lines.append(line)
    return pd.DataFrame(lines).set_index("variant")


def speed_figure(cases: Mapping[str, Mapping], title: str = "") -> Figure:
    """Bars of questions a second, a panel for each case; whiskers from the slowest repeat to the fastest.

    Beside each bar stands how often it is the best plain one.

    Raises:
        ValueError: there are no cases, or nothing plain was measured in one.
    """
    if not cases:
        raise ValueError("no cases to show; measure at least one")
    use_style()
    heights = [1.1 + 0.55 * len(case["variants"]) for case in cases.values()]
    figure, axes = plt.subplots(
        len(cases), 1, figsize=(7.6, sum(heights) + 0.6), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis, (name, case) in zip(axes.flat, cases.items(), strict=True):
        variants, best = case["variants"], best_plain(case)
        base = variants[best]["questions_per_second"]
        table = pd.DataFrame(
            [
                (textwrap.fill(label_of(key), 22), found["questions_per_second"], kind_of(key))
                for key, found in variants.items()
            ],
            columns=["variant", "speed", "kind"],
        )
        sns.barplot(
            table,
            x="speed",
            y="variant",
            hue="kind",
            palette=COLOURS,
            dodge=False,
            legend=False,
            saturation=1,
            ax=axis,
        )
        for place, found in enumerate(variants.values()):
            low, high = _spread(found)
            axis.plot([low, high], [place, place], color="black", linewidth=1.2)
            ratio = found["questions_per_second"] / base
            axis.text(high, place, f"  {_short(found['questions_per_second'])} (x {_short(ratio)})", va="center")
        widest = max(_spread(found)[1] for found in variants.values())
        trial = ", a trial" if case.get("trial") else ""
        axis.set(
            title=CASES.get(name, name) + trial,
            xlabel="questions/s (x best plain)",
            ylabel="",
            xlim=(0, 1.35 * widest),
        )
    shown = {kind_of(name) for case in cases.values() for name in case["variants"]}
    if title:
        figure.suptitle(title)
    _legend_below(figure, [Patch(color=COLOURS[kind], label=KINDS[kind]) for kind in KINDS if kind in shown])
    return figure


def growth_figure(growth: Mapping[str, Sequence[Mapping]], title: str = "") -> Figure:
    """How speed and peak memory change with questions a picture, tokens a picture, and pictures; log axes.

    Args:
        growth: rows by what grows; each has its size and, by kind of variant, questions a second and `peak_mb`.
        title: above all.

    Raises:
        ValueError: nothing was measured.
    """
    measured = {key: list(growth[key]) for key in GROWTH if growth.get(key)}
    if not measured:
        raise ValueError(f"no growth was measured; expected at least one of {', '.join(GROWTH)}")
    use_style()
    with_memory = any(row.get("peak_mb") for rows in measured.values() for row in rows)
    width = 1 + with_memory
    figure, axes = plt.subplots(
        len(measured), width, figsize=(4 * width, 3.1 * len(measured) + 0.6), squeeze=False, sharex="row"
    )
    for line, (key, rows) in enumerate(measured.items()):
        _lines(axes[line, 0], [(row[key], row) for row in rows], "questions/s")
        if with_memory:
            _lines(axes[line, 1], [(row[key], row.get("peak_mb") or {}) for row in rows], "peak memory (MB)")
        for axis in axes[line]:
            axis.set_xlabel(GROWTH[key])
            _plain_ticks(axis, [row[key] for row in rows])
    if title:
        figure.suptitle(title)
    handles = {handle.get_label(): handle for axis in axes.flat for handle in axis.get_lines()}
    _legend_below(figure, list(handles.values()))
    return figure


def roofline_figure(roofline: Mapping, title: str = "") -> Figure:
    """Each variant by its work a question and its speed, below the roof that the machine's matrix product makes.

    To the left is less work; nearer to the roof is better use of the machine, whose share stands in the legend.

    Args:
        roofline: `matmul_gflops` (measured) and, by variant, `flops_per_question`, `achieved_gflops` and `share`.
        title: above all.

    Raises:
        ValueError: there are no variants.
    """
    variants = roofline.get("variants")
    if not variants:
        raise ValueError("no variants below the roof; measure at least one")
    use_style()
    figure, axis = plt.subplots(figsize=(7.6, 6.4))
    works = [found["flops_per_question"] / 1e9 for found in variants.values()]
    ends = [min(works) / 2, max(works) * 2]
    peak = roofline["matmul_gflops"]
    axis.plot(ends, [peak / work for work in ends], color="black", label=f"roof: {peak:,.0f} GFLOP/s, matrix product")
    for number, ((name, found), work) in enumerate(zip(variants.items(), works, strict=True)):
        speed = found["achieved_gflops"] / work
        label = f"{label_of(name)}: {100 * found['share']:.0f} %"
        axis.plot(
            work,
            speed,
            POINT_MARKERS[number % len(POINT_MARKERS)],
            color=COLOURS[kind_of(name)],
            markersize=9,
            markeredgecolor="black",
            linestyle="none",
            label=textwrap.fill(label, 34),
        )
        axis.plot([work, work], [speed, peak / work], color="grey", linestyle=":", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="work a question (GFLOP, by formula)", ylabel="questions/s")
    for side in (axis.xaxis, axis.yaxis):
        _readable(side)
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.13), ncols=2, frameon=False, title="share of the roof")
    if title:
        axis.set_title(title)
    figure.tight_layout()
    return figure


def _spread(found: Mapping) -> tuple[float, float]:
    """Questions a second of the slowest and of the fastest repeat."""
    speed, seconds = found["questions_per_second"], sorted(found.get("seconds") or [1.0])
    median = seconds[len(seconds) // 2]
    return speed * median / seconds[-1], speed * median / seconds[0]


def _lines(axis: Axes, points: list[tuple[float, Mapping]], label: str) -> None:
    """A line for each kind over the sizes at which it was measured."""
    for kind, name in KINDS.items():
        measured = [(size, row[kind]) for size, row in points if row.get(kind) is not None]
        if measured:
            style = {"color": COLOURS[kind], "marker": MARKERS[kind], "label": name}
            axis.plot(*zip(*measured, strict=True), **style)
    axis.set(xscale="log", yscale="log", ylabel=label)
    _readable(axis.yaxis)


def _readable(side: Axis) -> None:
    """Marks of a logarithmic axis at 1, 2, 5 and so on, closer where it is short, as plain numbers."""
    low, high = side.get_view_interval()
    side.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 5 * low else range(1, 10)))
    side.set_major_formatter(lambda value, _: f"{value:,g}")
    side.set_minor_formatter(NullFormatter())


def _plain_ticks(axis: Axes, sizes: Sequence[float]) -> None:
    """The measured sizes themselves as marks of a logarithmic axis."""
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend_below(figure: Figure, handles: list) -> None:
    """The legend in a strip of its own under all panels."""
    figure.tight_layout(rect=(0, 0.4 / figure.get_figheight(), 1, 1))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
