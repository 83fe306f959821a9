"""`pefomed report` as a shell calls it: exit status, what it prints, and what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pefomed.cli import OneLineErrors
from pefomed.cli_report import report
from pefomed.predictions import write_predictions

app = typer.Typer(cls=OneLineErrors, add_completion=False)
app.command("report")(report)


@app.callback()
def _group() -> None:
    """Makes `report` a subcommand."""


def answers(folder: Path) -> None:
    row = {"dataset": "vqa_rad", "task": "vqa", "answer": "yes", "answer_type": "closed"}
    write_predictions(
        folder / "predictions.jsonl",
        [{"id": f"q{i}", **row, "prediction": "yes" if i else "no"} for i in range(4)],
    )


def called(*arguments: object):
    return CliRunner().invoke(app, ["report", *map(str, arguments), "--no-progress", "--resamples", "20"])


def test_whole_runs_exit_0(tmp_path):
    answers(tmp_path / "runs" / "a")
    result = called(tmp_path / "runs", "--out", tmp_path / "tables")
    assert result.exit_code == 0, result.output
    assert "runs: 1, tables: 1, figures: 0" in result.output and "index.md" in result.output
    assert "75.0" in (tmp_path / "tables" / "vqa_vqa_rad_accuracy.md").read_text()


def test_what_is_malformed_is_named_with_exit_1(tmp_path):
    answers(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "predictions.jsonl").write_text("{}\n")
    result = called(tmp_path / "runs", "--out", tmp_path / "tables")
    assert result.exit_code == 1
    assert "left out: b: b/predictions.jsonl, line 1" in result.output
    assert (tmp_path / "tables" / "vqa_vqa_rad_accuracy.csv").is_file()
    assert "b/predictions.jsonl" in (tmp_path / "tables" / "index.md").read_text()


@pytest.mark.parametrize("mistake", ["no folder", "nothing in it", "out is a file", "out below a file", "vector"])
def test_mistakes_exit_2_with_one_line_and_write_nothing(tmp_path, mistake):
    answers(tmp_path / "runs" / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    given, words = {
        "no folder": ((tmp_path / "none", "--out", tmp_path / "t"), "no such folder"),
        "nothing in it": ((tmp_path / "empty", "--out", tmp_path / "t"), "no metrics*.json and no predictions*.jsonl"),
        "out is a file": ((tmp_path / "runs", "--out", tmp_path / "file"), "is a file"),
        "out below a file": ((tmp_path / "runs", "--out", tmp_path / "file" / "t"), "is a file"),
        "vector": ((tmp_path / "runs", "--out", tmp_path / "t", "--vector", "eps"), "parameter vector"),
    }[mistake]
    result = called(*given)
    assert result.exit_code == 2
    assert words in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "t").exists() and (tmp_path / "file").read_text() == "mine"


def test_nothing_of_training_is_imported_and_nothing_is_shown(tmp_path):
    answers(tmp_path / "runs" / "a")
    code = (
        "import sys\n"
        "from pefomed.cli_report import report\n"
        "assert 'matplotlib' not in sys.modules and 'pandas' not in sys.modules\n"
        f"report({str(tmp_path / 'runs')!r}, {str(tmp_path / 't')!r}, 8, 20, 'svg', False)\n"
        "import matplotlib\n"
        "assert matplotlib.get_backend().lower() == 'agg', matplotlib.get_backend()\n"
        "print(*[name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])\n"
    )
    environment = {"MPLBACKEND": "svg", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1]
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == ""
