"""Pictures with their questions and answers side by side, or with captions and reports below them."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pefomed.disclosure import CREDENTIALED_DATASETS, refuse_credentialed
from pefomed.images import open_image
from pefomed.metrics.normalise import is_match
from pefomed.reporting.style import PALETTE, RIGHT, WRONG, use_style

LINE = 0.17  # height of a line of text in inches


def show_examples(
    rows: Sequence[Mapping], predictions: Mapping[str, str] | None = None, columns: int = 3, title: str = ""
) -> Figure:
    """A grid of pictures, each with its question, the true answer and, if given, the model's.

    Args:
        rows: rows of the schema, a dozen at most to stay readable.
        predictions: answers of a model by row id; right ones are marked with a tick, wrong ones with a cross.
        columns: pictures a line.
        title: above all.

    Returns:
        The figure; nothing is shown or saved.

    Raises:
        ValueError: for no rows, or rows of a credentialed data set.
    """
    if not rows:
        raise ValueError("no rows to show")
    refuse_credentialed(rows, "draw examples")
    use_style()
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.2 * columns, 4.1 * lines), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, row in zip(axes.flat, rows, strict=False):
        axis.imshow(open_image(dict(row["image"]), name=row["id"]))
        axis.set_title(textwrap.fill(row["question"] or row["task"], 34), fontsize=9, loc="left")
        text, colour = f"answer: {row['answer']}", "black"
        if predictions is not None:
            right = is_match(predictions[row["id"]], row["answer"])
            text += f"\nmodel: {predictions[row['id']]} {'✓' if right else '✗'}"
            colour = RIGHT if right else WRONG
        axis.text(0, -0.03, text, transform=axis.transAxes, va="top", fontsize=9, color=colour, wrap=True)
    if title:
        figure.suptitle(title)
    figure.tight_layout()
    return figure


def pick_examples(rows: Iterable[Mapping], most: int = 8) -> list[Mapping]:
    """The first rows that may be shown, one of each group (picture, study or patient).

    Args:
        rows: rows of the schema; no more of them are read than needed.
        most: how many at most.

    Returns:
        Fewer than `most`, or none, where the rest is credentialed.
    """
    picked: dict[str, Mapping] = {}
    for row in rows:
        if len(picked) == most:
            break
        if row["dataset"] not in CREDENTIALED_DATASETS:
            picked.setdefault(row["group"], row)
    return list(picked.values())


def show_texts(
    rows: Sequence[Mapping],
    predictions: Mapping[str, Mapping[str, str]] | None = None,
    columns: int = 2,
    title: str = "",
    longest: int = 500,
) -> Figure:
    """A grid of pictures, each with its true text below it and, if given, what models wrote.

    Args:
        rows: rows of the schema, a dozen at most to stay readable.
        predictions: by the name of a condition, its texts by row id; in colours of their own.
        columns: pictures a line.
        title: above all.
        longest: characters of a text past which it is cut, marked by [...].

    Returns:
        The figure; nothing is shown or saved. A line of the grid is as high as its longest texts need.

    Raises:
        ValueError: for no rows, or rows of a credentialed data set.
    """
    if not rows:
        raise ValueError("no rows to show")
    refuse_credentialed(rows, "draw examples")
    use_style()
    cells = [_texts_of(row, predictions or {}, longest) for row in rows]
    lines = [range(start, min(start + columns, len(rows))) for start in range(0, len(rows), columns)]
    heights = [LINE * max(sum(text.count("\n") + 2 for text, _ in cells[i]) for i in line) for line in lines]
    ratios = [ratio for height in heights for ratio in (3.0, height)]
    figure, axes = plt.subplots(
        2 * len(lines),
        columns,
        figsize=(3.4 * columns, sum(ratios) + 0.4 * len(lines) + 0.5),
        squeeze=False,
        height_ratios=ratios,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for line, indices in enumerate(lines):
        for column, index in enumerate(indices):
            row, picture, below = rows[index], axes[2 * line, column], axes[2 * line + 1, column]
            picture.imshow(open_image(dict(row["image"]), name=row["id"]))
            picture.set_anchor("SW")  # flush with its texts
            heading = textwrap.fill(row["question"] or row["task"], 38)
            picture.set_title(heading, fontsize=9, loc="left", parse_math=False)
            _write_below(below, cells[index], heights[line])
    if title:
        figure.suptitle(title)
    return figure


def _texts_of(row: Mapping, predictions: Mapping[str, Mapping[str, str]], longest: int) -> list[tuple[str, tuple]]:
    """The true text of a row and those of models, wrapped, each with its colour."""
    texts = {"true": row["answer"], **{name: of_row[row["id"]] for name, of_row in predictions.items()}}
    colours = ["black", *(PALETTE[i % len(PALETTE)] for i in range(len(predictions)))]
    return [
        (textwrap.fill(f"{name}: {textwrap.shorten(text, longest, placeholder=' [...]') or '(nothing)'}", 44), colour)
        for (name, text), colour in zip(texts.items(), colours, strict=True)
    ]


def _write_below(axis: Axes, texts: Sequence[tuple[str, tuple]], height: float) -> None:
    """Writes texts under each other into an axis of `height` inches."""
    down = 0.0
    for text, colour in texts:
        axis.text(
            0, 1 - down / height, text, transform=axis.transAxes, va="top", fontsize=9, color=colour, parse_math=False
        )
        down += LINE * (text.count("\n") + 1.5)
