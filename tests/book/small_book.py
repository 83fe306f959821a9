"""Writing, executing and building a small book with the real one's configuration, extensions and style."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

INDEX = """# Start

A page of prose that cites {cite}`author2020` and leads to [the numbers](numbers.ipynb), with $a^2 = \\boldsymbol{b}$.

$$ \\text{a formula that is wider than a telephone} = \\sum_{i=1}^{n} \\frac{x_i + y_i + z_i + u_i + v_i}{2n} + C $$

```{index} marginalia
```

| one | two | three | four | five | six | seven |
| --- | --- | --- | --- | --- | --- | --- |
| something long | something long | something long | something long | something long | something long | x |

```{bibliography}
```
"""
BIBLIOGRAPHY = "@article{author2020, author={Ann Author}, title={A Title}, journal={A Journal}, year={2020}}\n"
TOC = """format: jb-book
root: book/index
parts:
  - caption: Part
    chapters:
      - file: book/numbers
        sections:
          - file: notebooks/plain
"""
PARAMETERS = 'runs_dir: str = "runs"  # folder of runs'
NUMBERS = [
    (
        "markdown",
        "# Numbers\n\nThe spirometry says {glue:text}`score:.1f`. See [the other](../notebooks/plain.ipynb).",
        [],
    ),
    ("code", PARAMETERS, ["parameters"]),
    (
        "code",
        "import json\nimport pathlib\nimport sys\n\nprint('bar:  50' + '%|#####     | 1/2', file=sys.stderr)",
        ["hide-input"],
    ),
    (
        "code",
        "from myst_nb import glue\n\nscore = json.loads(pathlib.Path('runs/metrics.json').read_text())['score']\n"
        "glue('score', score, display=False)",
        [],
    ),
    ("markdown", "```{exercise} Try\n:label: try-one\nWhat is one plus one?\n```", []),
    ("markdown", "```{solution-start} try-one\n:class: dropdown\n```", []),
    ("code", "print('unfolded', 1 + 1)", []),
    ("markdown", "```{solution-end}\n```", []),
    (
        "code",
        "import matplotlib.pyplot as plt\nimport pandas as pd\nfrom pefomed.notebook_figures import figure\n\n"
        "fig, axes = plt.subplots()\naxes.plot([1, 2], [3, 4])\n"
        "figure(fig, 'A line & its end.', alt='A \"rising\" line, 3 < 4.')\n"
        "pd.DataFrame({f'a long name {i}': [1.5] for i in range(12)})",
        [],
    ),
]
PLAIN = [("markdown", "# Plain\n\nNever run.", []), ("code", PARAMETERS, ["parameters"])]


def is_run(notebook: Path) -> bool:
    """Whether the real book has an executed copy of a page, and of the page as it is now."""
    extension = pytest.importorskip("executed_runs", reason="Sphinx is not installed")
    copy = REPOSITORY / "book" / "_runs" / notebook.name
    return copy.is_file() and len({tuple(extension.sources(json.loads(p.read_text()))) for p in (copy, notebook)}) == 1


def write_notebook(path: Path, cells) -> None:
    """A clean notebook of (kind, text, tags)."""
    listed = []
    for number, (kind, text, tags) in enumerate(cells):
        cell = {"id": f"cell-{number}", "cell_type": kind, "source": text, "metadata": {"tags": tags} if tags else {}}
        listed.append(cell if kind == "markdown" else {**cell, "outputs": [], "execution_count": None})
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": listed, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def write_book(folder: Path) -> None:
    """The sources of the small book."""
    for name in ("_ext", "_static"):
        shutil.copytree(
            REPOSITORY / "book" / name, folder / "book" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "_config.yml", folder)
    (folder / "_toc.yml").write_text(TOC)
    (folder / "book" / "index.md").write_text(INDEX)
    (folder / "book" / "references.bib").write_text(BIBLIOGRAPHY)
    write_notebook(folder / "book" / "numbers.ipynb", NUMBERS)
    write_notebook(folder / "notebooks" / "plain.ipynb", PLAIN)
    (folder / "runs").mkdir()
    (folder / "runs" / "metrics.json").write_text('{"score": 61.25}')


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Builds as `make book` does."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-n", "-W", "--keep-going"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PEFOMED_")}
    return subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=300
    )


def execute(folder: Path, name: str = "numbers") -> subprocess.CompletedProcess:
    """Runs a page as the workflow does."""
    copy = folder / "book" / "_runs" / f"{name}.ipynb"
    copy.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", f"book/{name}.ipynb", str(copy)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
