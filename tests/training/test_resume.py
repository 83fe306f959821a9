"""Killed at any moment and started again, training and generation end as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("train_once.py")
KILLS = 5


def start(what: str, base: Path, run_dir: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), what, str(base), str(run_dir)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-2000:]


def kill_at_random(what: str, base: Path, run_dir: Path, ready: Path, rng: random.Random, span: float) -> int:
    """Starts and kills until `KILLS` kills hit work in progress, then lets it finish; returns the kills that hit."""
    hits = 0
    for _ in range(4 * KILLS):
        if hits == KILLS:
            break
        process = start(what, base, run_dir)
        while not ready.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, span))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0][-2000:]
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hits += 1
    finish(start(what, base, run_dir))
    return hits


@pytest.fixture(scope="module")
def uninterrupted(tiny_base, tmp_path_factory) -> tuple[Path, float]:
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    began = time.monotonic()
    finish(start("train", tiny_base, run_dir))
    return run_dir, time.monotonic() - began


def test_training_killed_five_times_ends_with_the_same_weights(tiny_base, uninterrupted, tmp_path):
    run_dir = tmp_path / "killed"
    rng = random.Random(20240611)
    hits = kill_at_random("train", tiny_base, run_dir, run_dir / "plan.json", rng, span=5.0)
    assert hits >= 2, "the training ended before it could be killed: make it longer"
    expected = load_file(uninterrupted[0] / "adapter" / "adapter_model.safetensors")
    found = load_file(run_dir / "adapter" / "adapter_model.safetensors")
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name].equal(found[name]), name
    log = (uninterrupted[0] / "train_log.jsonl").read_text()
    assert (run_dir / "train_log.jsonl").read_text() == log
    assert not (run_dir / "checkpoints").exists()


def test_generation_killed_five_times_writes_the_same_answers(tiny_base, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start("generate", tiny_base, whole))
    expected = (whole / "predictions.jsonl").read_bytes()
    partial = killed / "predictions.jsonl.partial"
    hits = kill_at_random("generate", tiny_base, killed, partial, random.Random(7), span=0.6)
    assert hits >= 2, "the generation ended before it could be killed: make it longer"
    assert (killed / "predictions.jsonl").read_bytes() == expected
    assert sorted(path.name for path in killed.iterdir()) == ["predictions.jsonl"]
