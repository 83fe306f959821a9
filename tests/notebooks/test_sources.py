"""Every notebook is committed clean: no outputs, declared parameters, no traces of a machine or a credential."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path for folder in ("book", "notebooks") for path in (REPOSITORY / folder).glob("*.ipynb"))

DECLARATION = re.compile(r"[a-z][a-z0-9_]*: (bool|int|float|str) = [^=#]+  # [^=\s][^=]*")
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/~)\]}>-])/(home|Users|root|tmp|mnt|opt|var|usr|work|srv|scratch|content)/|\b[A-Z]:\\"
)
CREDENTIAL = re.compile(
    r"sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{12,}|AIza[\w-]{20,}|xox[abprs]-[\w-]{8,}"
    r"|(?i:api_?key|token|secret|password)['\"]?\s*[:=]\s*['\"][^'\"\s]{8,}['\"]"
)


def test_the_notebook_that_make_demo_runs_is_there() -> None:
    assert (REPOSITORY / "notebooks" / "stage2_vqa.ipynb").is_file()


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_valid_and_has_the_kernel_python3(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}, "metadata of an editor or of a run"


def test_it_has_no_outputs(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert cell.outputs == [], "strip the outputs: .venv/bin/python -m nbstripout notebooks/*.ipynb"
        assert cell.execution_count is None
        assert set(cell.metadata) <= {"tags"}, "metadata of an editor or of a run"


def test_it_begins_with_declared_parameters(notebook: nbformat.NotebookNode) -> None:
    cells = code_cells(notebook)
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert "google.colab" in cells[0].source and cells[0].metadata.get("tags") == ["hide-input"]
    assert len(tagged) == 1 and tagged[0] is cells[1], "the cell behind the installing one is tagged `parameters`"
    for line in tagged[0].source.splitlines():
        assert DECLARATION.fullmatch(line), f"not of the form `name: type = value  # help`: {line}"


def test_parameters_are_checked_next(notebook: nbformat.NotebookNode) -> None:
    assert re.search(r"check_parameters\(\s*globals\(\)", code_cells(notebook)[2].source)


def test_it_names_no_machine_and_no_credential(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        for line in cell.source.splitlines():
            assert not ABSOLUTE_PATH.search(line), f"absolute path: {line}"
            assert not CREDENTIAL.search(line), f"looks like a credential: {line}"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
@pytest.mark.skipif(not NOTEBOOKS, reason="there are no notebooks")
def test_ruff_is_content(command: list[str]) -> None:
    pytest.importorskip("ruff")
    finished = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *map(str, NOTEBOOKS)], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    "line",
    [
        'data_dir = "/home/jane/data"',
        "see /scratch/x",
        r"C:\data",
        "sk-abcdefghijklmnopqrst",
        'api_key = "0123456789"',
        "hf_abcdefghijklmnopqrstuv",
    ],
)
def test_the_patterns_find_what_they_are_for(line: str) -> None:
    assert ABSOLUTE_PATH.search(line) or CREDENTIAL.search(line)


@pytest.mark.parametrize(
    "line",
    ['output_dir: str = "runs/tmp/x"  # results', "https://host.example/home/x", 'token = ""', "task/risk-averse"],
)
def test_the_patterns_leave_harmless_lines_alone(line: str) -> None:
    assert not ABSOLUTE_PATH.search(line) and not CREDENTIAL.search(line)


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ('dataset: str = "embedded"  # which data set', True),
        ("lr: float = 1e-5  # learning rate", True),
        ("lr = 1e-5  # learning rate", False),
        ("lr: float = 1e-5", False),
        ("lr: float = 1e-5 # one space", False),
        ("lr: float = 1e-5  # two = signs", False),
        ("sizes: list = []  # unsupported", False),
        ("import os", False),
    ],
)
def test_the_form_of_a_declaration(line: str, good: bool) -> None:
    assert bool(DECLARATION.fullmatch(line)) is good
