"""The command: help, the whole way from a configuration to scores, exit statuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from pefomed import runs
from pefomed.cli import app
from pefomed.data.phantoms import load_phantoms
from pefomed.files import read_json
from pefomed.predictions import read_predictions, write_predictions

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = (
    ["data"],
    ["data", "list"],
    ["data", "check"],
    ["train"],
    ["generate"],
    ["ask"],
    ["evaluate"],
    ["judge"],
    ["baseline"],
    ["report"],
    ["ratings"],
    ["ratings", "export"],
    ["ratings", "import"],
    ["ratings", "simulate"],
    ["ratings", "agreement"],
    ["convert"],
)


def call(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def config(tiny_base: Path, folder: Path, name: str = "run") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(
        f"base_dir: {tiny_base}\noutput_dir: {folder / name}\n"
        "dataset_options: {images: 4, questions_per_image: 4}\n"
        "stage_changes: {epochs: 1, batch_size: 8, lora_r: 4}\n"
    )
    return path


def test_help_comes_at_once() -> None:
    def seconds() -> float:
        start = time.monotonic()
        command = [sys.executable, "-m", "pefomed.cli", "--help"]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        return time.monotonic() - start

    # The best of three: other work on the machine can only make it slower.
    assert min(seconds() for _ in range(3)) < 1


def test_the_command_imports_nothing_heavy_before_it_is_told_what_to_do() -> None:
    code = (
        "import sys, pefomed.cli, pefomed.settings, pefomed.runs\n"
        "print([n for n in ('torch', 'transformers', 'datasets', 'peft', 'trl', 'numpy') if n in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_help_lists_the_commands() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for words in ("Examples:", "data", "train", "generate", "evaluate", "convert", "--debug", "Exit status"):
        assert words in result.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_in_its_help(command: list[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"pefomed {' '.join(command)}" in result.stdout.split("Example")[1]


def test_data_list_names_every_data_set() -> None:
    from pefomed.data import DATASETS

    result = call("data", "list")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in DATASETS)
    assert "https://osf.io/89kps" in result.stdout


def test_data_check_counts_the_phantoms() -> None:
    result = call("data", "check", "phantoms", "--option", "images=40", "--option", "seed=2")
    assert result.exit_code == 0, result.stderr
    assert "train: 320 rows about 40 pictures in 40 groups" in result.stdout
    assert "every picture could be decoded" in result.stdout
    assert "leakage train -> test: 0 of 40 test pictures are also in train" in result.stdout


def test_data_check_describes_vqa_rad(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "vqa_rad_mevf"
    result = call("data", "check", "vqa_rad", folder, "--variant", "mevf", "--json", tmp_path / "check.json")
    assert result.exit_code == 0, result.stderr
    assert f"form 'mevf' in {folder}" in result.stdout
    assert "203 of 203 test pictures (all of them) are also in train" in result.stdout
    assert "284 train rows are framed versions of test questions" in result.stdout
    written = read_json(tmp_path / "check.json")
    assert written["audit"]["leakage"][0]["framed"] == 284 and written["fingerprint"] in result.stdout


def test_data_check_of_a_damaged_picture_prints_the_report_and_fails(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "data" / "images").mkdir(parents=True)
    row = {
        "image_organ": "CHEST",
        "question": "is there a shadow?",
        "question_type": "PRES",
        "answer": "yes",
        "answer_type": "CLOSED",
        "phrase_type": "freeform",
    }
    for number, split in enumerate(("train", "test")):
        path = tmp_path / "data" / "images" / f"{number}.png"
        Image.new("L", (9, 8), 100 * number).save(path)
        rows = [row | {"qid": number, "image_name": path.name}]
        (tmp_path / "data" / f"{split}set.json").write_text(json.dumps(rows))
    path.write_bytes(path.read_bytes()[:50])
    written = tmp_path / "check.json"
    result = call("data", "check", "vqa_rad", tmp_path / "data", "--json", written)
    assert result.exit_code == 2
    assert f"cannot be used, the first in test: {path}: damaged" in result.stderr
    assert "pictures that cannot be used: 1" in result.stdout
    assert read_json(written)["audit"]["broken"][0]["file"] == str(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--option", "language"], "--option language: expected KEY=VALUE"),
        (["--option", "images=x"], "--option images must be"),
        (["--variant", "mevf"], "has no option 'variant'"),
        (["--processes", "0"], "processes must be at least 1"),
        (["--max-left-out", "1.5"], "max_left_out must be a share"),
        (["--json", "."], "parameter json: . is a folder"),
    ],
)
def test_data_check_of_wrong_options(arguments: list[str], words: str) -> None:
    result = call("data", "check", "phantoms", *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert words in result.stderr and len(result.stderr.splitlines()) == 1


def test_from_a_configuration_to_scores(tiny_base: Path, tmp_path: Path) -> None:
    path = config(tiny_base, tmp_path)
    result = call("train", path, "--set", "seed=3", "--set", "stage_changes.lora_r=2", "--no-progress")
    assert result.exit_code == 0, result.stderr
    run = tmp_path / "run"
    assert f"adapter: {run / 'adapter'}" in result.stdout
    assert "validation at step 2: exact match" in result.stdout
    plan = read_json(run / "plan.json")
    assert (plan["seed"], plan["stage"]["lora_r"], plan["stage"]["epochs"]) == (3, 2, 1)

    result = call("generate", run, "--max-new-tokens", 3, "--no-progress")
    assert result.exit_code == 0, result.stderr
    assert f"predictions: {run / 'predictions.jsonl'}" in result.stdout
    result = call("generate", run, "--pictures", "shuffled", "--split", "val", "--max-new-tokens", 3, "--no-progress")
    assert result.exit_code == 0, result.stderr
    assert f"--out {run / 'metrics_val_shuffled.json'}" in result.stdout

    row = next(iter(load_phantoms("test", images=4, questions_per_image=4)))
    picture = tmp_path / "own.png"
    picture.write_bytes(row["image"]["bytes"])
    result = call("ask", run, picture, row["question"], "--max-new-tokens", 3)
    assert result.exit_code == 0, result.stderr
    answers = {entry["id"]: entry["prediction"] for entry in read_predictions(run / "predictions.jsonl")}
    assert result.stdout.removesuffix("\n") == answers[row["id"]]
    result = call("ask", run, picture)
    assert result.exit_code == 2 and "say what to ask about the picture" in result.stderr
    result = call("ask", run, tmp_path / "nosuch.png", "is there a nodule?")
    assert result.exit_code == 2 and "no such picture file" in result.stderr

    result = call("evaluate", run / "predictions.jsonl", "--task", "vqa", "--out", run / "metrics.json")
    assert result.exit_code == 0, result.stderr
    assert "overall" in result.stdout
    assert read_json(run / "metrics.json")["n"]["overall"] == 16
    assert len(read_predictions(run / "predictions_val_shuffled.jsonl")) == 16


def test_zero_shot_needs_no_training(tiny_base: Path, tmp_path: Path) -> None:
    result = call("generate", config(tiny_base, tmp_path), "--zero-shot", "--max-new-tokens", 2, "--no-progress")
    assert result.exit_code == 0, result.stderr
    rows = read_predictions(tmp_path / "run" / "predictions_zero_shot.jsonl")
    assert {row["condition"] for row in rows} == {"zero_shot"}


def test_evaluate_takes_anybodys_predictions(tmp_path: Path) -> None:
    rows = [{"id": str(n), "task": "vqa", "answer": "yes", "prediction": "Yes." if n else "no"} for n in range(4)]
    path = write_predictions(tmp_path / "mine.jsonl", rows)
    result = call("evaluate", path)
    assert result.exit_code == 0, result.stderr
    assert "75.0" in result.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.jsonl"]


def test_convert_writes_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    small = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, vocab_size=64)
    monkeypatch.setattr("pefomed.model.presets.paper_config", lambda: SimpleNamespace(text_config=small))
    name = "llama_model.base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
    state = {"llama_proj.weight": torch.ones(8, 5632), "llama_proj.bias": torch.zeros(8)}
    for layer in range(2):
        for matrix in "qv":
            state[name.format(layer, matrix, "A")] = torch.ones(4, 8)
            state[name.format(layer, matrix, "B")] = torch.zeros(8, 4)
    torch.save({"model": state, "epoch": 3}, tmp_path / "x.pth")

    result = call("convert", tmp_path / "x.pth", tmp_path / "out", "--lora-alpha", 32)
    assert result.exit_code == 0, result.stderr
    assert "10 tensors used" in result.stdout
    assert f"adapter: {tmp_path / 'out' / 'adapter'}" in result.stdout
    settings = read_json(tmp_path / "out" / "adapter" / "adapter_config.json")
    assert (settings["r"], settings["lora_alpha"]) == (4, 32)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["adapter"]


def test_ctrl_c_says_that_the_same_command_goes_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train_run", interrupted)
    result = call("train", config(tiny_base, tmp_path))
    assert result.exit_code == 130
    assert result.stderr.strip() == "interrupted; the same command goes on from what is finished"


@pytest.mark.parametrize("position", [0, 2])
def test_debug_shows_the_traceback_wherever_it_stands(position: int) -> None:
    arguments = ["train", "nowhere.yaml"]
    arguments.insert(position, "--debug")
    result = call(*arguments)
    assert isinstance(result.exception, FileNotFoundError)


def test_a_missing_training_package_is_named(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments):
        raise ModuleNotFoundError("No module named 'peft'", name="peft")

    monkeypatch.setattr(runs, "train_run", missing)
    result = call("train", config(tiny_base, tmp_path))
    assert result.exit_code == 2
    assert result.stderr.strip() == ("pefomed: error: this needs peft; install it with: pip install 'pefomed[train]'")


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_a_real_interrupt_ends_with_130(tiny_base: Path, tmp_path: Path) -> None:
    path = config(tiny_base, tmp_path)
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 100000"))
    command = [sys.executable, "-m", "pefomed.cli", "train", str(path), "--no-progress"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell's background job ignores interrupts, and hands that on to whatever it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "validation").is_dir() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # nothing is left running, whatever became of it
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "interrupted; the same command goes on from what is finished"
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "adapter").exists()
