"""The base that ships: what its manifest says, and that its pre-training can be stopped and resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from pefomed.embedded.pretrain import held_out_score
from pefomed.embedded.pretrain_data import Packer
from pefomed.files import sha256_file
from pefomed.model.presets import embedded_base_folder, load_base


@pytest.fixture(scope="module")
def manifest() -> dict:
    return json.loads((embedded_base_folder() / "manifest.json").read_text())


def test_the_files_are_those_of_the_manifest(manifest):
    assert manifest["sha256"]
    for name, expected in manifest["sha256"].items():
        assert sha256_file(embedded_base_folder() / name) == expected, name


def test_it_is_small(manifest):
    size = sum(path.stat().st_size for path in embedded_base_folder().iterdir())
    assert size <= 12e6
    assert manifest["parameters"] < 6e6


def test_its_held_out_score_is_the_manifest_s(manifest):
    """On the first scenes of the same held-out stream; the bound is four standard errors of so small a sample."""
    model, processor = load_base("tiny", dtype=torch.float32)
    packer = Packer(processor.tokenizer, processor.image_token_id, processor.image_tokens)
    score = held_out_score(model, packer, 100, blind=False)
    assert abs(score - manifest["held_out"]["exact_match"]) < 4 * 50 / (800**0.5)
    assert score > manifest["held_out"]["exact_match_blank_image"] + 8, "it does not look at the picture"


def pretrain(folder, *more) -> subprocess.Popen:
    arguments = ["--tower-steps", "2", "--tower-batch", "4", "--joint-steps", "6", "--joint-batch", "2"]
    arguments += ["--save-every", "1", "--score-every", "0", "--threads", "1", "--held-out-scenes", "4", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "pefomed.embedded.pretrain", str(folder), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_pre_training_killed_and_resumed_ends_with_the_same_weights(tmp_path):
    whole = pretrain(tmp_path / "whole")
    assert whole.communicate(timeout=300) and whole.returncode == 0
    killed = pretrain(tmp_path / "killed")
    checkpoint = tmp_path / "killed" / "joint.checkpoint"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "model.safetensors").exists(), "too fast to be killed"
    resumed = pretrain(tmp_path / "killed")
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output[-2000:]
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name].equal(found[name]), name
