"""`pefomed ratings` from the shell: the whole way, what is refused, and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from openpyxl import load_workbook
from typer.testing import CliRunner

from pefomed.cli import OneLineErrors
from pefomed.cli_ratings import ratings_app
from pefomed.predictions import write_predictions

app = typer.Typer(cls=OneLineErrors, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(ratings_app, name="ratings")


@app.callback()
def main() -> None:
    """As the command `pefomed` takes it in."""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(*arguments: str | Path):
    return CliRunner().invoke(app, ["ratings", *map(str, arguments)])


def predictions(name: str = "p.jsonl", task: str = "vqa", **others) -> str:
    said = ("left lung", "right lung", "both", "yes", "liver", "spleen", "no", "left")
    rows = [
        {"id": f"q{n}", "task": task, "answer": "left lung", "prediction": text, "group": f"g{n % 4}", **others}
        for n, text in enumerate(said)
    ]
    write_predictions(name, rows)
    return name


def fill(path: Path, scores) -> None:
    book = load_workbook(path)
    sheet = book["Ratings"]
    column = [cell.value for cell in sheet[1]].index("Score") + 1
    for row, score in enumerate(scores, start=2):
        sheet.cell(row, column).value = score
    book.save(path)


@pytest.mark.parametrize("command", [[], ["export"], ["import"], ["simulate"], ["agreement"]], ids=" ".join)
def test_every_command_has_an_example_in_its_help(command) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert f"pefomed ratings {' '.join(command)}".strip() in result.stdout.split("Example")[1]


def test_the_whole_way() -> None:
    result = call("export", predictions(), "--names", "jane,omar,li", "--out-dir", "sheets")
    assert result.exit_code == 0, result.stderr
    assert "3 sheets of 7 rows: sheets" in result.stdout
    assert "left out: 1 predictions that exact match accepts" in result.stdout
    sheets = sorted(Path("sheets").iterdir())
    assert [path.name for path in sheets] == ["ratings_jane.xlsx", "ratings_li.xlsx", "ratings_omar.xlsx"]
    fill(sheets[0], (1, 0, 1, 0, 0, 1, 1))
    fill(sheets[1], (1, 0, 1))
    result = call("import", *sheets, "--key", "key.json", "--out", "ratings.jsonl")
    assert result.exit_code == 0, result.stderr
    assert "jane: 7 of 7 rated" in result.stdout
    assert "li: 3 of 7 rated; blank in ratings_li.xlsx: rows 5, 6, 7, 8" in result.stdout
    assert "omar: 0 of 7 rated" in result.stdout
    assert "ratings: 10 in ratings.jsonl" in result.stdout
    result = call("agreement", "ratings.jsonl", "--predictions", "p.jsonl", "--resamples", 50)
    assert result.exit_code == 0, result.stderr
    assert "7 items, 2 raters, 10 ratings, 4 missing" in result.stdout
    assert "exact match against the raters" in result.stdout


def test_faults_come_one_a_line_with_exit_status_2() -> None:
    call("export", predictions(), "--raters", 2, "--out-dir", "sheets")
    fill(Path("sheets/ratings_rater_1.xlsx"), ("yes", 5, 1, True))
    Path("sheets/ratings_rater_2.xlsx").write_bytes(b"")
    result = call("import", "sheets/ratings_rater_1.xlsx", "sheets/ratings_rater_2.xlsx", "--out", "ratings.jsonl")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("pefomed: error: sheets/ratings_rater_") for line in lines)
    assert [word for line in lines for word in ("E2", "E3", "E5", "empty") if word in line] == [
        "E2",
        "E3",
        "E5",
        "empty",
    ]
    assert not Path("ratings.jsonl").exists()


def test_simulated_raters_agree_as_they_should() -> None:
    write_predictions(
        "many.jsonl",
        [{"id": f"{n}", "task": "vqa", "answer": "yes", "prediction": ("no", "yes")[n % 2]} for n in range(300)],
    )
    exact = ("simulate", "many.jsonl", "--truth", "exact-match", "--all", "--raters", 3)
    result = call(*exact, "--reliability", "1.0", "--out", "sure.jsonl")
    assert result.exit_code == 0, result.stderr
    assert "simulated 3: true score given for 1.00 of 0, 1.00 of 1" in result.stdout
    assert "simulated ratings: 900 in sure.jsonl" in result.stdout
    assert call(*exact, "--reliability", "0.9,0.7,0.7", "--out", "unsure.jsonl").exit_code == 0
    kappas = {}
    for name in ("sure", "unsure"):
        out = f"{name}.json"
        result = call("agreement", f"{name}.jsonl", "--judge", "sure.jsonl", "--resamples", 50, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert "simulated" not in result.stdout.splitlines()[0]
        kappas[name] = json.loads(Path(out).read_text())["among_raters"]["fleiss_kappa"]["value"]
    assert kappas["sure"] == pytest.approx(1.0)
    # errors of probability p and q leave (1 - 2p)(1 - 2q) of a kappa: 0.32, 0.32 and 0.16
    assert kappas["unsure"] == pytest.approx(0.8 / 3, abs=0.1)


def test_reports_from_the_stand_in() -> None:
    predictions("r.jsonl", "report")
    assert call("simulate", "r.jsonl", "--task", "report", "--sample", 5, "--out", "r1.jsonl").exit_code == 0
    assert len(Path("r1.jsonl").read_text().splitlines()) == 50
    result = call("agreement", "r1.jsonl", "--task", "report", "--judge", "r1.jsonl", "--resamples", 20)
    assert result.exit_code == 0, result.stderr
    assert "ICC(2,1)" in result.stdout
    assert "Bland-Altman" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("export", "p.jsonl", "--out-dir", "s", "--raters", 2, "--names", "a"),
            "raters and names exclude each other",
        ),
        (("export", "p.jsonl"), "Missing option '--out-dir'"),
        (("export", "none.jsonl", "--out-dir", "s"), "none.jsonl: no such file"),
        (("export", "p.jsonl", "--out-dir", "s", "--task", "caption"), "task must be vqa or report"),
        (("export", "p.jsonl", "--out-dir", "s", "--names", "a,,b"), "'' is no name"),
        (("export", "p.jsonl", "--out-dir", "s", "--images", "none"), "none: no such folder"),
        (("export", "m.jsonl", "--out-dir", "s"), "refused to write rating sheets"),
        (("export", "m.jsonl", "--out-dir", "s", "--agreement", "yes"), "refused to write rating sheets"),
        (("import", "s.xlsx"), "key.json: no such file"),
        (("simulate", "p.jsonl", "--reliability", "high"), "'high' is no number"),
        (("simulate", "p.jsonl", "--reliability", "0.9,0.8"), "2 for 10 raters"),
        (("simulate", "p.jsonl", "--reliability", "2"), "reliability must be a number from 0 to 1, not 2.0"),
        (("simulate", "p.jsonl", "--raters", 0), "whole number from 1, not 0"),
        (("simulate", "p.jsonl", "--out", "p.jsonl"), "p.jsonl is a file that is read"),
        (("simulate", "p.jsonl", "--out", "."), "is a folder; name a file"),
        (("simulate", "p.jsonl", "--truth", "none.jsonl"), "none.jsonl: no such file"),
        (("agreement", "none.jsonl"), "none.jsonl: no such file"),
        (("agreement", "p.jsonl", "--out", "p.jsonl"), "p.jsonl is a file that is read"),
    ],
)
def test_mistakes_are_one_line(arguments, message) -> None:
    predictions()
    predictions("m.jsonl", dataset="mimic_cxr")
    result = call(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("pefomed: error: ")
    assert message in result.stderr
    assert not Path("s").exists()


def test_credentialed_rows_may_be_simulated_here() -> None:
    predictions("m.jsonl", dataset="mimic_cxr")
    assert call("simulate", "m.jsonl", "--out", "r.jsonl").exit_code == 0  # nothing leaves, and no text is written
    assert "lung" not in Path("r.jsonl").read_text()
