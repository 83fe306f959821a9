"""Stage 1 on a mixture: resumed in the middle of an epoch, with workers, with two processes, the end is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pefomed.launch import launch_command

SCRIPT = Path(__file__).with_name("train_mixture.py")


def run(run_dir: Path, base: Path, *options: str, processes: int = 1) -> subprocess.CompletedProcess:
    """Trains in processes of their own."""
    command = launch_command(processes) if processes > 1 else [sys.executable]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*command, str(SCRIPT), str(base), str(run_dir), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def adapter(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def plain(tiny_base, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("plain")
    done = run(run_dir, tiny_base, "batch_size=8")
    assert done.returncode == 0, done.stderr[-2000:]
    return run_dir


def test_two_processes_end_where_one_with_the_doubled_batch_does(tiny_base, plain, tmp_path):
    done = run(tmp_path, tiny_base, "batch_size=4", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = adapter(plain), adapter(tmp_path)
    assert expected.keys() == found.keys()
    assert json.loads((tmp_path / "plan.json").read_text())["processes"] == 2
    moved = False
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)
        moved |= "lora_B" in name and bool(value.abs().max() > 1e-3)
    assert moved, "nothing was learnt, so that equality says nothing"
    logs = [
        [json.loads(line) for line in (place / "train_log.jsonl").read_text().splitlines()]
        for place in (plain, tmp_path)
    ]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]]
    for one, two in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
    scores = [json.loads(next((place / "validation").glob("score-*.json")).read_text()) for place in (plain, tmp_path)]
    assert scores[0]["n"] == scores[1]["n"], "validation counts every row once, whoever scores it"
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_the_middle_of_the_second_epoch_it_goes_on_with_the_next_sample(
    tiny_base, plain, tmp_path, processes
):
    batch_size = f"batch_size={8 // processes}"
    stopped = run(tmp_path, tiny_base, batch_size, "die_at=9", processes=processes)
    assert stopped.returncode != 0
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()].count("checkpoint-8") == 1
    assert not (tmp_path / "adapter").exists()
    done = run(tmp_path, tiny_base, batch_size, processes=processes)
    assert done.returncode == 0, done.stderr[-2000:]
    found = adapter(tmp_path)
    for name, value in adapter(plain).items():
        if processes == 1:
            assert value.equal(found[name]), name
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_workers_change_nothing(tiny_base, plain, tmp_path):
    done = run(tmp_path, tiny_base, "batch_size=8", "workers=2")
    assert done.returncode == 0, done.stderr[-2000:]
    for name, value in adapter(plain).items():
        assert value.equal(adapter(tmp_path)[name]), name
