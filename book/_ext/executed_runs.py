"""Shows under a clean notebook's page what its last run came to: the executed copy in book/_runs.

A page `book/NAME` or `notebooks/NAME` is written, reviewed and launched without outputs. Where book/_runs/NAME.ipynb
exists, its text takes the page's place while Sphinx reads; the page keeps its name, so that links, downloads and
launch buttons lead to the clean notebook. A copy whose cells differ from the page's is of an older page, and is warned
of.

The book's repository is known from the environment variable PEFOMED_REPOSITORY or from git's remote `origin`. Without
one on GitHub there are no buttons that would need it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
FOLDERS = ("book", "notebooks")
COPIES = "book/_runs"
COLAB = "https://colab.research.google.com"
# A line that tqdm draws again and again: `Epoch 1:  40%|####      | 4/10 [00:01<00:02]`, or `12it [00:00, 33.1it/s]`.
PROGRESS = re.compile(r"\d+%\|.*\||\d+it \[\d|\| *\d+/\d+ \[")


def executed_copy(app: Sphinx, docname: str) -> Path | None:
    """Where the executed copy of a page lies, if the page is a notebook that can have one."""
    folder, _, name = docname.rpartition("/")
    if folder not in FOLDERS or Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return None
    return Path(app.srcdir) / COPIES / f"{name}.ipynb"


def show_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts the executed copy in the place of the text that Sphinx has just read."""
    copy = executed_copy(app, docname)
    if copy is None:
        return
    # Noted although it may not exist: the page is read again as soon as it does.
    app.env.note_dependency(str(copy))
    if not copy.is_file():
        return
    executed = json.loads(copy.read_text(encoding="utf-8"))
    if sources(executed) != sources(json.loads(source[0])):
        LOGGER.warning(
            "%s/%s.ipynb is a run of an older page; run the workflow again: make book",
            COPIES,
            copy.stem,
            location=docname,
            type="executed_runs",
        )
    executed["cells"] = [cell for cell in executed["cells"] if not is_injected(cell)]
    for cell in executed["cells"]:
        if "outputs" in cell:
            cell["outputs"] = shown_outputs(cell["outputs"])
    source[0] = json.dumps(executed)


def is_injected(cell: dict[str, Any]) -> bool:
    """Whether papermill has added the cell: the workflow's folders, mostly, which tell a reader nothing."""
    return "injected-parameters" in cell["metadata"].get("tags", [])


def sources(notebook: dict[str, Any]) -> list[str]:
    """The cells' text, without what papermill adds."""
    return [
        text if isinstance(text := cell["source"], str) else "".join(text)
        for cell in notebook["cells"]
        if not is_injected(cell)
    ]


def shown_outputs(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs without progress bars, and with the pieces of one stream put together."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] != "stream":
            kept.append(output)
            continue
        text = without_progress("".join(output["text"]))
        if not text.strip():
            continue
        if kept and kept[-1]["output_type"] == "stream" and kept[-1]["name"] == output["name"]:
            kept[-1]["text"] += text
        else:
            kept.append({**output, "text": text})
    return kept


def without_progress(text: str) -> str:
    """What a terminal would still show in the end, less its progress bars."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(line for line in lines if not PROGRESS.search(line))


def repository_url(folder: Path) -> str:
    """Web address of the repository on GitHub; empty where none is known."""
    address = os.environ.get("PEFOMED_REPOSITORY", "")
    if not address:
        command = ["git", "-C", str(folder), "remote", "get-url", "origin"]
        try:
            address = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""
    # Without what may stand before the host's name: a user's, or a credential that must not be published.
    found = re.fullmatch(r"(?:\w+://)?(?:[^@/]*@)?github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?", address)
    return f"https://github.com/{found[1]}/{found[2]}" if found else ""


def add_repository(app: Sphinx, config: Config) -> None:
    """Buttons that lead to the repository and open a page on Colab."""
    url = repository_url(Path(app.srcdir))
    if url:
        config.html_theme_options.update(
            repository_url=url,
            repository_branch=os.environ.get("PEFOMED_BRANCH", "main"),
            use_repository_button=True,
            launch_buttons={"colab_url": COLAB, "notebook_interface": "jupyterlab"},
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the two steps with Sphinx."""
    app.connect("source-read", show_executed)
    app.connect("config-inited", add_repository)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
