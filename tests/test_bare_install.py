"""What `pip install pefomed` gives, without the extras: predictions are evaluated, judged and rated without torch.

An environment of exactly the core's packages is laid out in links, and python runs with it and with nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
GPU_STACK = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "sentencepiece", "papermill")


def core_packages() -> list[str]:
    """The core's requirements, and what these require."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo, seen = [Requirement(text) for text in project["dependencies"]], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        for inner in map(Requirement, metadata.requires(name) or []):
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(inner)
    return sorted(seen)


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    for name in core_packages():
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
            place = folder / top
            if not place.exists() and top != "__pycache__":
                place.symlink_to(Path(distribution.locate_file(top)).resolve())
    (folder / "pefomed").symlink_to(REPOSITORY / "pefomed")
    return folder


@pytest.fixture(scope="module")
def predictions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    rows = [
        {"id": f"q{n}", "task": "vqa", "question": "what?", "answer": "left lung", "group": f"picture {n // 3}"}
        | {"prediction": "left lung" if n % 3 else "spleen", "answer_type": "open", "image_organ": "CHEST"}
        for n in range(60)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reports = [
        {"id": f"r{n}", "task": "report", "answer": f"the heart is normal. nodule {n}.", "prediction": "clear lungs."}
        for n in range(6)
    ]
    ratings = [{"id": f"q{n}", "rater": name, "score": int(n % 3 > 0)} for n in range(60) for name in ("a", "b")]
    (folder / "ratings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ratings))
    (folder / "report.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reports))
    return folder


def python(bare: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    # -S leaves out the environment that the tests run in.
    variables = {**os.environ, "PYTHONPATH": str(bare), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=cwd, env=variables, capture_output=True, text=True, timeout=300
    )


def test_the_gpu_stack_is_not_there(bare, tmp_path) -> None:
    code = (
        f"import importlib.util as u; print([n for n in {GPU_STACK!r} if u.find_spec(n)], bool(u.find_spec('openai')))"
    )
    assert python(bare, "-c", code, cwd=tmp_path).stdout.split("\n")[0] == "[] True"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "predictions.jsonl", "--out", "metrics.json"), "exact match"),
        (("evaluate", "report.jsonl", "--task", "report", "--no-meteor", "--out", "report.json"), "best constant"),
        (("judge", "predictions.jsonl", "--offline", "--out", "judge.jsonl"), "60 of 60 judged"),
        (
            ("ratings", "export", "predictions.jsonl", "--task", "vqa", "--raters", "2", "--out-dir", "sheets"),
            "2 sheets",
        ),
        (
            ("ratings", "simulate", "predictions.jsonl", "--task", "vqa", "--raters", "3", "--out", "simulated.jsonl"),
            "simulated",
        ),
        (("ratings", "agreement", "ratings.jsonl", "--task", "vqa", "--predictions", "predictions.jsonl"), "kappa"),
        (("report", ".", "--out", "tables", "--no-progress"), "table"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_predictions_file_is_enough(arguments, said, bare, predictions) -> None:
    finished = python(bare, "-m", "pefomed.cli", *arguments, cwd=predictions)
    assert finished.returncode == 0, finished.stderr
    assert said.lower() in finished.stdout.lower()


def test_the_evaluate_modules_load(bare, tmp_path) -> None:
    code = (
        "from pefomed.metrics.evaluate_modules.wasm.wasm import Wasm; import sys; "
        "print(Wasm().compute(predictions=[4, 2], references=[4, 4])['wasm'], 'torch' in sys.modules)"
    )
    finished = python(bare, "-c", code, cwd=tmp_path)
    assert finished.stdout.split() == ["3.0", "False"], finished.stderr


def test_training_says_what_is_missing(bare, predictions) -> None:
    finished = python(
        bare, "-m", "pefomed.cli", "generate", str(REPOSITORY / "configs/stage2_vqa_tiny.yaml"), cwd=predictions
    )
    assert finished.returncode == 2
    assert "pip install 'pefomed[train]'" in finished.stderr and "Traceback" not in finished.stderr
