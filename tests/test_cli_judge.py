"""`pefomed judge`: exit statuses, what it prints, and its help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from batch_server import BatchServer
from server import Server, error
from typer.testing import CliRunner

from pefomed.cli import app
from pefomed.predictions import write_predictions

SECRET = "sk-cli-0123456789-never-to-be-seen"


@pytest.fixture(autouse=True)
def key(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.fixture
def predictions(tmp_path) -> Path:
    rows = [
        {"id": f"{n}", "task": "vqa", "question": f"is {n} there?", "answer": "yes", "prediction": "yes"}
        for n in range(6)
    ]
    return write_predictions(tmp_path / "predictions.jsonl", rows)


def call(*arguments: str | Path):
    return CliRunner().invoke(app, ["judge", *(str(argument) for argument in arguments)])


def test_judged_by_a_server(predictions, tmp_path) -> None:
    out = tmp_path / "judge.jsonl"
    with Server() as server:
        given = ("--base-url", server.url, "--model", "mine", "--repeats", "2", "--out", out, "--no-progress")
        result = call(predictions, *given, "--price-input", "1", "--price-output", "2", "--omit", "temperature")
    assert result.exit_code == 0, result.output
    assert "12 of 12 judged, 0 failed, 0 not asked" in result.stdout and "cost so far: 0.0014" in result.stdout
    assert len(out.read_text().splitlines()) == 12 and server.bodies[0]["model"] == "mine"
    assert "temperature" not in server.bodies[0]


def test_what_failed_makes_exit_status_1_and_the_same_command_goes_on(predictions, tmp_path) -> None:
    out = tmp_path / "judge.jsonl"
    with Server(lambda body, times: error(400, "no") if times == 0 and '"is 3' in str(body) else None) as server:
        given = (predictions, "--base-url", server.url, "--out", out, "--no-progress")
        result = call(*given)
        assert result.exit_code == 1 and "5 of 6 judged, 1 failed" in result.stdout
        assert "tries them again" in result.stderr
        assert call(*given).exit_code == 0 and server.requests == 7


def test_money_that_runs_out_makes_exit_status_1_and_says_what_is_left(predictions, tmp_path) -> None:
    with Server() as server:
        # Three attempts of 300 tokens cost 0.9 at most, an answer 0.01 in fact.
        given = ("--price-input", "0", "--price-output", "1000", "--max-cost", "0.925", "--concurrency", "1")
        result = call(predictions, "--base-url", server.url, "--out", tmp_path / "j.jsonl", "--no-progress", *given)
    assert result.exit_code == 1 and "max_cost" in result.stderr
    assert "3 of 6 judged, 0 failed, 3 not asked" in result.stdout and server.requests == 3


def test_offline(predictions, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    result = call(predictions, "--offline", "--out", tmp_path / "judge.jsonl")
    assert result.exit_code == 0 and "6 of 6 judged" in result.stdout
    assert {json.loads(line)["score"] for line in (tmp_path / "judge.jsonl").read_text().splitlines()} == {1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base-url", "https://host/v1?key=hidden"], "parameter base_url holds a user, a query"),
        (["--base-url", "https://hidden@host/v1"], "parameter base_url holds a user, a query"),
        (["--base-url", "hidden"], "parameter base_url is no address"),
        (["--max-cost", "3"], "max_cost needs the prices"),
        (["--price-input", "3"], "parameter price_output is missing"),
        (["--repeats", "0"], "parameter repeats is 0"),
        (["--task", "caption"], "task is 'caption'"),
        (["--task", "report"], "task 'vqa' is not 'report'"),
        (["--concurrency", "0"], "parameter concurrency is 0"),
        (["--offline", "--batch"], "parameter batch"),
        (["--offline", "--base-url", "http://localhost/v1"], "parameter base_url"),
        (["--key", "hidden"], "No such option: --key"),
    ],
)
def test_mistakes_make_exit_status_2_and_one_line(arguments, said, predictions, tmp_path) -> None:
    result = call(predictions, "--out", tmp_path / "judge.jsonl", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert "hidden" not in result.stderr and not (tmp_path / "judge.jsonl").exists()


def test_by_batches_the_same_command_submits_looks_and_collects(predictions, tmp_path) -> None:
    with BatchServer() as server:
        given = (predictions, "--batch", "--base-url", server.url, "--out", tmp_path / "judge.jsonl")
        results = [call(*given) for _ in range(3)]
        assert server.asked == []
    assert [result.exit_code for result in results] == [0, 0, 0], results[-1].output
    assert "next: collect" in results[0].stdout and "6 of 6 judged" in results[-1].stdout
    assert len((tmp_path / "judge.jsonl").read_text().splitlines()) == 6


def test_a_wrong_key_makes_exit_status_2_and_is_not_shown(predictions, tmp_path) -> None:
    with Server(lambda body, times: error(401, f"Incorrect API key provided: {SECRET}")) as server:
        result = call(predictions, "--base-url", server.url, "--out", tmp_path / "judge.jsonl", "--no-progress")
    assert result.exit_code == 2 and "401" in result.stderr and SECRET not in result.output
    assert len(result.stderr.splitlines()) == 1


def test_no_key_makes_exit_status_2(predictions, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    result = call(predictions, "--out", tmp_path / "judge.jsonl", "--no-progress")
    assert result.exit_code == 2 and "OPENAI_API_KEY is not set" in result.stderr


def test_the_help_has_examples() -> None:
    result = call("--help")
    assert result.exit_code == 0 and "Examples:" in result.stdout and "--repeats 10" in result.stdout


def test_nothing_heavy_is_imported_for_judging() -> None:
    program = (
        "import sys; import pefomed.cli_judge; early = 'openai' in sys.modules or 'pydantic' in sys.modules; "
        "import pefomed.judge.run; heavy = {'torch', 'transformers', 'datasets', 'pandas', 'scipy', 'openai'}; "
        "print(early, sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False []\n"
