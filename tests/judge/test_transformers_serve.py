"""The judge against `transformers serve`, a real server that nobody here wrote, with two tiny chat models.

One model replies with the same verdict to everything, the other with random tokens. It needs fastapi and uvicorn,
which `pip install 'transformers[serving]'` brings; without them the test is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pefomed.cli_judge import judge
from pefomed.predictions import write_predictions

NEEDED = ("torch", "transformers", "fastapi", "uvicorn")
MISSING = [package for package in NEEDED if importlib.util.find_spec(package) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}; pip install 'transformers[serving]'"),
]

VERDICT = '{"reason": "the same meaning", "score": 1}'
START_S = 150.0
ROWS = [
    {"id": f"q{i}", "task": "vqa", "question": f"what is in picture {i}?", "answer": "lung", "prediction": "lungs"}
    for i in range(4)
]


def make_model(folder: Path, always_verdict: bool) -> None:
    """Save a LLaMA of one layer and a tokenizer with a chat template, in which the verdict is one token."""
    import torch
    from tokenizers import AddedToken
    from transformers import LlamaConfig, LlamaForCausalLM

    from pefomed.embedded.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["is there a pleural effusion? yes no"], 400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|assistant|>"]})
    tokenizer.add_tokens([AddedToken(VERDICT, normalized=False)])
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}<|assistant|>"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8192,
        initializer_range=0.5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if always_verdict:
        asked, verdict = tokenizer.convert_tokens_to_ids(["<|assistant|>", VERDICT])
        with torch.no_grad():
            # Nothing but the last token counts, and each of the two is followed by the one that is wanted.
            model.model.layers[0].self_attn.o_proj.weight.zero_()
            model.model.layers[0].mlp.down_proj.weight.zero_()
            embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
            head.zero_()
            head[verdict], head[config.eos_token_id] = 10 * embeddings[asked], 10 * embeddings[verdict]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's address, and the folder of its models."""
    folder = tmp_path_factory.mktemp("serve")
    make_model(folder / "verdict", always_verdict=True)
    make_model(folder / "random", always_verdict=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from transformers.cli.transformers import app; app()"
    command = [sys.executable, "-c", program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_until_healthy(process, f"http://127.0.0.1:{port}/health", folder / "log")
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_healthy(process: subprocess.Popen, url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            opener.open(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"transformers serve did not start:\n{log.read_text()[-3000:]}")


def run_judge(server, model: str, folder: Path, *more: str):
    """`pefomed judge` on four rows; returns exit status, lines of judge.jsonl and the record."""
    url, models = server
    app = typer.Typer()
    app.command()(judge)
    predictions, out = write_predictions(folder / "predictions.jsonl", ROWS), folder / "judge.jsonl"
    command = [str(predictions), "--out", str(out), "--base-url", url, "--model", str(models / model), "--no-progress"]
    done = CliRunner().invoke(app, [*command, "--repeats", "2", "--concurrency", "2", "--timeout", "120", *more])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return done.exit_code, lines, json.loads(out.with_suffix(".run.json").read_text())


def test_a_model_that_gives_verdicts_is_a_judge(server, tmp_path):
    status, lines, record = run_judge(server, "verdict", tmp_path)
    assert status == 0
    assert [(line["id"], line["repeat"]) for line in lines] == [(f"q{i}", k) for i in range(4) for k in range(2)]
    assert {(line["status"], line["score"], line["reply"], line["error"]) for line in lines} == {
        ("ok", 1, VERDICT, "")
    }
    # The verdict and the end: the server counts both.
    assert {line["usage"]["completion_tokens"] for line in lines} == {2}
    assert all(line["usage"]["prompt_tokens"] > 500 for line in lines)
    assert record["counts"] == {"n": 8, "ok": 8, "failed": 0, "not_asked": 0}
    assert record["usage"]["requests"] == 8


def test_random_tokens_are_no_verdict_and_no_item_is_lost(server, tmp_path):
    more = ["--attempts", "2", "--max-completion-tokens", "20"]
    status, lines, record = run_judge(server, "random", tmp_path, *more)
    assert status == 1
    assert [(line["id"], line["repeat"]) for line in lines] == [(f"q{i}", k) for i in range(4) for k in range(2)]
    assert {(line["status"], line["score"]) for line in lines} == {("failed", None)}
    assert all("asked 2 times" in line["error"] for line in lines)
    assert all("cut off at 20 tokens" in line["error"] or "reply" in line["error"] for line in lines)
    assert record["counts"] == {"n": 8, "ok": 0, "failed": 8, "not_asked": 0}
    assert record["usage"]["malformed"] == 16


def test_a_model_that_is_not_there_ends_with_a_reason(server, tmp_path):
    url, _ = server
    app = typer.Typer()
    app.command()(judge)
    predictions, out = write_predictions(tmp_path / "predictions.jsonl", ROWS[:1]), tmp_path / "judge.jsonl"
    command = [str(predictions), "--out", str(out), "--base-url", url, "--model", "none/such", "--no-progress"]
    done = CliRunner().invoke(app, [*command, "--retries", "0"])
    # The server answers 500 where the API has 404, so that it is the item's failure and not the user's mistake.
    assert done.exit_code == 1
    (line,) = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert line["status"] == "failed" and "status 500" in line["error"]
