"""The run record is complete, can be written as JSON, and tells nothing about the person who ran it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pefomed import run_record as module
from pefomed.run_record import git_state, installed_versions, publishable, run_record


def example_record(**parameters: object) -> dict:
    return run_record(parameters, {"training": 42}, "sha256:0", "cpu", {"train": 1.23456})


def test_the_record_has_every_field_and_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET_VARIABLE", "do-not-tell")
    record = example_record(lr=1e-5, steps=3, dataset="embedded")
    text = json.dumps(record, allow_nan=False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["created"])
    assert record["parameters"] == {"lr": 1e-5, "steps": 3, "dataset": "embedded"}
    assert record["seeds"] == {"training": 42}
    assert record["data_fingerprint"] == "sha256:0"
    assert record["device"] == "cpu"
    assert record["durations"] == {"train": 1.235}
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["packages"]["numpy"]
    assert "do-not-tell" not in text
    assert "git_revision" in record and "git_modified" in record


def test_a_single_seed_and_no_data() -> None:
    record = run_record({}, 7, None, "cpu", {})
    assert record["seeds"] == 7 and record["data_fingerprint"] is None


def test_packages_that_are_not_installed_are_left_out() -> None:
    versions = installed_versions(("numpy", "no-such-package-at-all"))
    assert list(versions) == ["numpy"]


def test_making_a_record_does_not_import_torch() -> None:
    code = "import sys; from pefomed.run_record import run_record; run_record({}, 0, None, 'cpu', {}); "
    code += "print('torch' in sys.modules, 'transformers' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=module.PACKAGE_FOLDER.parent, check=True
    )
    assert finished.stdout.split() == ["False", "False"]


def test_machine_paths_are_made_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = publishable(
        {
            "below": str(tmp_path / "runs" / "demo"),
            "path": tmp_path / "data",
            "here": str(tmp_path),
            "outside": "/home/jane/datasets/vqa_rad",
            "home": "~/models/llama",
            "upwards": "../../jane/images",
            "windows": r"C:\Users\jane\data",
            "relative": "runs/demo",
            "root": "/",
            "nested": {"dirs": ["/home/jane/a", ("b", 3)]},
            "text": "a/b or c: neither",
            "number": 3,
            "nothing": None,
        }
    )
    assert shown == {
        "below": "runs/demo",
        "path": "data",
        "here": ".",
        "outside": "vqa_rad",
        "home": "llama",
        "upwards": "images",
        "windows": "data",
        "relative": "runs/demo",
        "root": ".",
        "nested": {"dirs": ["a", ["b", 3]]},
        "text": "a/b or c: neither",
        "number": 3,
        "nothing": None,
    }
    assert "jane" not in json.dumps(shown)


def test_upwards_and_back_again_is_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert publishable({"p": f"../{tmp_path.name}/runs"}) == {"p": "runs"}


def test_credentials_are_withheld() -> None:
    shown = publishable(
        {
            "api_key": "abc",
            "token": "abc",
            "max_new_tokens": 5,
            "keyword": "lung",
            "base_url": "https://jane:pw@host.example/v1",
            "judge": {"api_key": "abc"},
            "password": "",
        }
    )
    assert shown == {
        "api_key": "(not recorded)",
        "token": "(not recorded)",
        "max_new_tokens": 5,
        "keyword": "lung",
        "base_url": "https://host.example/v1",
        "judge": {"api_key": "(not recorded)"},
        "password": "",
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with one commit, a package folder and a file."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    (root / "package").mkdir(parents=True)
    (root / "package" / "module.py").write_text("x = 1\n")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(root), *identity, *command], check=True)
    return root


def test_git_revision_and_modification(checkout: Path) -> None:
    revision, modified = git_state(checkout / "package")
    assert re.fullmatch(r"[0-9a-f]{40}", revision or "") and modified is False
    (checkout / "untracked.txt").write_text("a result, not code")
    assert git_state(checkout / "package") == (revision, False)
    (checkout / "package" / "module.py").write_text("x = 2\n")
    assert git_state(checkout / "package") == (revision, True)


def test_git_variables_of_a_hook_do_not_mislead(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere/.git")
    assert git_state(checkout / "package")[0] is not None


def test_somebody_elses_repository_is_not_reported(checkout: Path) -> None:
    installed = checkout / "environment" / "site-packages" / "package"
    installed.mkdir(parents=True)
    assert git_state(installed) == (None, None)


def test_no_repository_and_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == (None, None)


def test_a_repository_without_commits(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert git_state(tmp_path / "package") == (None, None)
