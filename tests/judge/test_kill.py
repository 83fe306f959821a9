"""Killed at random moments, and by two at a time: nothing is lost, nothing but what was under way is asked twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from server import Server, error

from pefomed.judge.endpoint import Endpoint
from pefomed.judge.run import judge_predictions
from pefomed.judge.settings import JudgeSettings
from pefomed.predictions import write_predictions

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
SCRIPT = Path(__file__).with_name("judge_and_kill.py")
ITEMS, CONCURRENCY = 120, 8


def start(predictions: Path, url: str, out: Path, **options) -> subprocess.Popen:
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), str(predictions), url, str(out), "--concurrency", str(CONCURRENCY), *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def predictions_in(folder: Path) -> Path:
    rows = [
        {"id": f"{n}", "task": "vqa", "question": f"is {n} there?", "answer": "yes", "prediction": "no"}
        for n in range(ITEMS)
    ]
    return write_predictions(folder / "predictions.jsonl", rows)


def test_killed_again_and_again_and_the_file_is_as_if_nothing_had_been(tmp_path) -> None:
    predictions = predictions_in(tmp_path)
    with Server(latency=0.02) as server:
        process = start(predictions, server.url, tmp_path / "killed.jsonl", kills=6, seed=1, most=15)
        told = json.loads(process.communicate(timeout=120)[0])
        asked = dict(server.asked)
        # The judge's address is a part of what is asked: the same server, so that models and addresses agree.
        settings = JudgeSettings(Endpoint(base_url=server.url, model="judge", concurrency=CONCURRENCY))
        judge_predictions(predictions, "vqa", settings, tmp_path / "whole.jsonl", progress=False)
    assert told == {"killed": 6, "status": 0}
    assert len(asked) == ITEMS
    assert ITEMS < sum(asked.values()) <= ITEMS + told["killed"] * CONCURRENCY
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    record = json.loads((tmp_path / "killed.run.json").read_text())
    assert record["counts"] == {"n": ITEMS, "ok": ITEMS, "failed": 0, "not_asked": 0}
    # Every request is accounted for: by an answer that was stored, or as lost with the process that waited for it.
    assert record["usage"]["requests"] == ITEMS
    assert record["usage"].get("lost", 0) >= sum(asked.values()) - ITEMS


def test_two_processes_share_a_store_and_faults_and_kills(tmp_path) -> None:
    predictions = predictions_in(tmp_path)

    def script(body, times):
        return (
            error(500, "oops") if times == 0 and zlib.crc32(body["messages"][1]["content"].encode()) % 3 == 0 else None
        )

    with Server(script, latency=0.02) as server:
        out = tmp_path / "judge.jsonl"
        both = [start(predictions, server.url, out, kills=2, seed=seed, most=20) for seed in (1, 2)]
        told = [json.loads(process.communicate(timeout=120)[0]) for process in both]
        answered = dict(server.answered)
    assert [each["status"] for each in told] == [0, 0]
    assert len(answered) == ITEMS
    assert sum(answered.values()) <= ITEMS + sum(each["killed"] for each in told) * CONCURRENCY
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(n) for n in range(ITEMS)]
    assert {row["status"] for row in rows} == {"ok"}
