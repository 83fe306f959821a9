"""A book that asks nothing of another host.

MathJax is taken from a Python package and copied beside the pages. Thebe, which would run cells on a server that this
book does not have, is left out.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

PACKAGE = "sphinx-mathjax-offline"
INSIDE = f"{PACKAGE}/static/mathjax"  # its folder has a hyphen in its name and cannot be imported
# The whole of it is 24 MB. This renders TeX, its rarer macros and its fonts.
NEEDED = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copies what is not there yet beside the other static files."""
    if error is not None or app.builder.format != "html":
        return
    package = Path(str(distribution(PACKAGE).locate_file(INSIDE)))
    for name in NEEDED:
        source, target = package / name, Path(app.outdir) / "_static" / "mathjax" / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def use_copy(app: Sphinx, config: Config) -> None:
    """Pages load the copy, and not the one that Sphinx knows on the net."""
    config.mathjax_path = "mathjax/tex-chtml.js"


def leave_out_thebe(app: Sphinx) -> None:
    """Unregisters what Jupyter Book has registered on every page, twice where there are launch buttons."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if getattr(one.handler, "__module__", "") != "sphinx_thebe"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the steps with Sphinx."""
    app.connect("config-inited", use_copy)
    app.connect("builder-inited", leave_out_thebe)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
