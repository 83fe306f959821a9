"""Pictures with their questions and answers, side by side."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from pefomed.disclosure import refuse_credentialed
from pefomed.images import open_image
from pefomed.metrics.normalise import is_match
from pefomed.reporting.style import RIGHT, WRONG, use_style


def show_examples(
    rows: Sequence[Mapping], predictions: Mapping[str, str] | None = None, columns: int = 4, title: str = ""
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
