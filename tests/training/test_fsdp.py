"""The weights spread over two processes by FSDP2, with the settings for four GPUs, end where one process does.

The script makes accelerate do on the CPU what it does on GPUs only; everything else is the way a user starts it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pefomed.procedure import CLEAN
from pefomed.training.run import train_stage
from pefomed.training.stages import get_stage

SCRIPT = Path(__file__).with_name("train_fsdp.py")
CONFIG = SCRIPT.parents[2] / "configs" / "accelerate" / "fsdp2_4_gpus.yaml"


def run(base: Path, run_dir: Path, *options: str, sharded: bool = True) -> subprocess.CompletedProcess:
    """Trains in two processes that share the weights, or in one."""
    command = [sys.executable]
    if sharded:
        command += ["-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--num_processes", "2"]
        command += ["--mixed_precision", "bf16" if "bfloat16=1" in options else "no"]
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


def losses(run_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_dir / "train_log.jsonl").read_text().splitlines()]


def scores(run_dir: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((run_dir / "validation").glob("score-*.json"))]


@pytest.fixture(scope="module")
def plain(tiny_base, tmp_path_factory) -> Path:
    """One process with the doubled batch."""
    run_dir = tmp_path_factory.mktemp("plain")
    done = run(tiny_base, run_dir, "batch_size=4", sharded=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return run_dir


def test_killed_and_resumed_it_ends_where_one_process_with_the_doubled_batch_does(tiny_base, plain, tmp_path):
    # Layers are computed twice, too: the 7 B recipes need that, and it gathers the weights once more.
    stopped = run(tiny_base, tmp_path, "batch_size=2", "checkpointing=1", "die_at=7")
    assert stopped.returncode, stopped.stderr[-2000:]
    checkpoint = tmp_path / "checkpoints" / "checkpoint-6"
    assert (checkpoint / "pytorch_model_fsdp_0").is_dir(), "the weights were not sharded"
    base_bytes = (tiny_base / "model.safetensors").stat().st_size
    written = sum(path.stat().st_size for path in (checkpoint / "pytorch_model_fsdp_0").iterdir())
    assert written < base_bytes, "the frozen base is in the checkpoint"
    done = run(tiny_base, tmp_path, "batch_size=2", "checkpointing=1", "die_at=5")  # from the start it would die
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = adapter(plain), adapter(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert any("lora_B" in name and value.abs().max() > 1e-3 for name, value in expected.items()), "nothing was learnt"
    assert losses(tmp_path) == pytest.approx(losses(plain), rel=1e-5)
    assert [score["n"] for score in scores(tmp_path)] == [33, 33], "validation counts every row once"
    assert [score["loss"] for score in scores(tmp_path)] == pytest.approx(
        [score["loss"] for score in scores(plain)], rel=1e-5
    )


def test_a_bfloat16_base_trains_float32_weights_and_questions_are_answered_in_step(tiny_base, plain, tmp_path):
    done = run(tiny_base, tmp_path, "batch_size=2", "bfloat16=1", "questions=7")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gradients summed in torch.float32" in done.stdout
    assert losses(tmp_path) == pytest.approx(losses(plain), rel=0.02)
    for name, value in adapter(tmp_path).items():
        assert value.dtype == torch.float32, name
        assert not value.equal(value.bfloat16().float()), f"{name} was rounded"
    assert [score["n"] for score in scores(tmp_path)] == [7, 7]
    assert set(scores(tmp_path)[0]) == {"step", "exact_match", "open", "closed", "n"}


def test_without_validation_the_last_weights_are_put_together(tiny_base, plain, tmp_path):
    done = run(tiny_base, tmp_path, "batch_size=2", "validate=0")
    assert done.returncode == 0, done.stderr[-3000:]
    for name, value in adapter(plain).items():
        torch.testing.assert_close(adapter(tmp_path)[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_one_process_has_nothing_to_spread_the_weights_over(small, phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    stage = get_stage("stage2_vqa", "tiny", epochs=1)
    with pytest.raises(ValueError, match="needs several processes, each with a GPU"):
        train_stage(
            *small, stage, phantoms["train"], None, tmp_path, seed=3, procedure=CLEAN, data_fingerprint="drawn"
        )
