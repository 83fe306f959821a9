"""Figures of a notebook page: a picture with a caption that everybody reads and a text for those who cannot see it.

    fig, axes = plt.subplots()
    ...
    figure(fig, "Loss by step; the dashed line is the base.", alt="A curve that falls from 3 to 1 within 200 steps.")

matplotlib's own display gives a picture neither. Here it becomes one HTML figure, which notebooks, their HTML export
and the book show alike, on white ground in a light and a dark theme.
"""

from __future__ import annotations

import base64
import html
import io
import sys
from typing import Any

DPI = 150
SCREEN_DPI = 100  # at which the picture has its natural width on a page; the rest is sharpness


def figure(fig: Any, caption: str, alt: str) -> None:
    """Shows a figure with its caption and its alternative text, and closes it.

    Outside a notebook the caption is printed, and matplotlib shows the figure if it has a window to show it in.

    Args:
        fig: a matplotlib figure, or what has one: axes, or a grid of seaborn's.
        caption: the sentence below the picture: what to see in it.
        alt: what the picture shows, for readers who do not see it.

    Raises:
        ValueError: a text is missing, or they are the same.
        TypeError: there is no figure.
    """
    caption, alt = " ".join(caption.split()), " ".join(alt.split())
    if not caption or not alt:
        raise ValueError(f"parameter {'alt' if caption else 'caption'} of figure is empty; say what the picture shows")
    if caption == alt:
        raise ValueError("parameters caption and alt of figure are the same; alt describes what the caption points to")
    drawn = getattr(fig, "figure", fig)
    if not hasattr(drawn, "savefig"):
        raise TypeError(f"parameter fig must be a matplotlib figure or its axes, not {type(fig).__name__}")
    if _in_notebook():
        from IPython.display import display
        from matplotlib import pyplot

        display({"text/html": figure_html(drawn, caption, alt), "text/plain": f"{caption} [{alt}]"}, raw=True)
        pyplot.close(drawn)  # or the inline backend shows it a second time, bare
    else:
        import matplotlib

        print(caption)
        if matplotlib.get_backend() in matplotlib.backends.backend_registry.list_builtin(
            matplotlib.backends.BackendFilter.INTERACTIVE
        ):
            drawn.show()


def figure_html(fig: Any, caption: str, alt: str) -> str:
    """The figure as HTML that needs no other file."""
    buffer = io.BytesIO()
    # Without the software's name in it the same picture has the same bytes.
    fig.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    data = buffer.getvalue()
    # Bytes 16 to 24 of a PNG file are its width and height.
    width, height = (round(int.from_bytes(data[i : i + 4], "big") * SCREEN_DPI / DPI) for i in (16, 20))
    return (
        '<figure class="run-figure">'
        f'<img class="dark-light" src="data:image/png;base64,{base64.b64encode(data).decode("ascii")}" '
        f'alt="{html.escape(alt)}" width="{width}" height="{height}" '
        f'style="--natural-width: {width}px; max-width: 100%; height: auto" />'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        "</figure>"
    )


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; IPython in a terminal shows no HTML."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
