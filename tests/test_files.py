"""Files appear whole or not at all, and mistakes in them are named."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pefomed import files


def test_write_text_creates_parents_and_keeps_every_character(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note.txt"
    text = "Pneumothorax – rechts\r\nzweite Zeile 肺\n"
    assert files.write_text(path, text) == path
    assert path.read_bytes() == text.encode("utf-8")


def test_json_round_trip_is_readable_and_ends_in_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    content = {"lr": 1e-5, "name": "Lunge – 肺", "steps": [1, 2], "none": None}
    files.write_json(path, content)
    assert files.read_json(path) == content
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n") and "肺" in text


def test_nothing_but_the_file_remains_in_the_folder(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "x.bin", b"one")
    files.write_bytes(tmp_path / "x.bin", b"two")
    assert (tmp_path / "x.bin").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["x.bin"]


def test_a_failed_write_keeps_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_text(tmp_path / "metrics.json", "former")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "half of the ne")
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_an_interrupt_leaves_no_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(tmp_path / "x", "content")
    assert os.listdir(tmp_path) == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    versions = {b"a" * 300_000, b"b" * 300_000}
    files.write_bytes(path, min(versions))
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for version in versions:
            files.write_bytes(path, version)
    done.set()
    reader.join()
    assert seen and set(seen) <= versions


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
def test_new_files_get_the_permissions_that_open_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    files.write_text(tmp_path / "atomic", "x")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_json_without_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.json: cannot be written as JSON .*replace NaN"):
        files.write_json(tmp_path / "metrics.json", {"exact_match": float("nan")})
    assert not (tmp_path / "metrics.json").exists()


def test_malformed_json_is_named_with_its_position(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"a": 1,\n "b": }\n')
    with pytest.raises(ValueError, match=r"run\.json: not JSON \(line 2, column 7: "):
        files.read_json(path)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"run\.json: not UTF-8 text \(byte 7"):
        files.read_json(path)


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.json: no such file"):
        files.read_json(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match=r"gone\.bin: no such file"):
        files.sha256_file(tmp_path / "gone.bin")


def test_sha256_of_known_content(tmp_path: Path) -> None:
    path = files.write_bytes(tmp_path / "abc", b"abc")
    assert files.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
