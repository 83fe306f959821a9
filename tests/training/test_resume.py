"""Killed at any moment and started again, training and generation end as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

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


def kill_at_random(what: str, base: Path, run_dir: Path, rng: random.Random) -> None:
    """Starts and kills `KILLS` times, a few steps into the work and a random moment after, then lets it finish."""
    for number in range(KILLS):
        process = start(what, base, run_dir)
        for _ in range(rng.randint(1, 5)):
            line = process.stdout.readline()
            while line and line != "step\n":
                line = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))  # reaches into the step, the checkpoint after it, the next validation
        assert process.poll() is None, f"kill {number}: the work had ended: {process.communicate()[0][-2000:]}"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(what, base, run_dir))


def test_training_killed_five_times_ends_with_the_same_weights(tiny_base, tmp_path):
    uninterrupted, run_dir = tmp_path / "uninterrupted", tmp_path / "killed"
    finish(start("train", tiny_base, uninterrupted))
    kill_at_random("train", tiny_base, run_dir, random.Random(20240611))
    expected = load_file(uninterrupted / "adapter" / "adapter_model.safetensors")
    found = load_file(run_dir / "adapter" / "adapter_model.safetensors")
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name].equal(found[name]), name
    log = (uninterrupted / "train_log.jsonl").read_text()
    assert (run_dir / "train_log.jsonl").read_text() == log
    assert not (run_dir / "checkpoints").exists()


def test_generation_killed_five_times_writes_the_same_answers(tiny_base, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start("generate", tiny_base, whole))
    expected = (whole / "predictions.jsonl").read_bytes()
    kill_at_random("generate", tiny_base, killed, random.Random(7))
    assert (killed / "predictions.jsonl").read_bytes() == expected
    assert sorted(path.name for path in killed.iterdir()) == ["predictions.jsonl"]
