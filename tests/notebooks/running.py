"""Running a notebook as a user runs it, and what a reader then sees."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

FIGURE = re.compile(
    r'<figure class="run-figure"><img [^>]*alt="([^"]*)"[^>]*><figcaption>(.*?)</figcaption></figure>', re.S
)
PIXELS = re.compile(r"(?<=base64,)[\w+/=]+")
FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(home|Users|root|tmp|mnt|opt|var|usr|work|srv)/\w|[A-Z]:\\\\\w")


def run_notebook(name: str, folder: Path, *options: str, **parameters) -> subprocess.CompletedProcess:
    """Runs notebooks/NAME.ipynb with `folder` as working directory, so that every path in it is relative."""
    given = [part for key, value in parameters.items() for part in ("-p", key, str(value))]
    notebook = str(FOLDER / f"{name}.ipynb")
    return subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", notebook, "out.ipynb", *given, *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )


def visible(notebook) -> str:
    """Everything a reader of an executed notebook can see or find, pictures aside."""
    texts = []
    for cell in notebook.cells:
        texts.append(cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), *output.get("traceback", [])]
            texts += [PIXELS.sub("", "".join(value)) for kind, value in data.items() if kind.startswith("text/")]
    return "\n".join(texts)


def pictures(notebook) -> int:
    """How many figures the executed notebook shows, each with a caption and a text for those who do not see it."""
    texts = [found.groups() for data in _outputs(notebook) for found in FIGURE.finditer(data.get("text/html", ""))]
    assert all(alt.strip() and caption.strip() and alt != caption for alt, caption in texts), texts
    return len(texts)


def bare_pictures(notebook) -> int:
    """How many figures it shows as pixels alone, without a caption and such a text."""
    return sum(any(kind.startswith("image/") for kind in data) for data in _outputs(notebook))


def _outputs(notebook) -> list[dict]:
    return [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]


def rows_of(path: Path) -> list[dict]:
    """The lines of a JSON lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
