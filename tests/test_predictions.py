"""predictions.jsonl: what is refused, and that a killed writer loses and invents nothing."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pefomed import files
from pefomed.predictions import KEYS, REQUIRED_KEYS, PredictionWriter, read_predictions, write_predictions


def row(name, prediction="yes", **others):
    return {"id": name, "task": "vqa", "answer": "yes", "prediction": prediction, **others}


def line(**others):
    return json.dumps({**row("x"), **others})


GOOD = json.dumps(row("first"))


# ---- reading --------------------------------------------------------------------------------------------------------
def test_unknown_keys_and_odd_characters_are_kept(tmp_path):
    rows = [
        row("1", 'é\u2028 \u0085 \n "quoted" 肺', confidence=0.5, extra={"a": [1, None]}, group=7),
        row("2", "", answer_type=None, group=None, question_type="POS, PRES"),
    ]
    path = write_predictions(tmp_path / "p.jsonl", rows)
    assert read_predictions(path) == rows
    assert path.read_bytes().count(b"\n") == 2


def test_a_missing_last_newline_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(f"{GOOD}\r\n{line()}".encode())
    assert [one["id"] for one in read_predictions(path)] == ["first", "x"]


MALFORMED = {
    "empty file": (b"", r"p\.jsonl: the file is empty"),
    "not JSON": (f"{GOOD}\nyes\n", "line 2: not JSON"),
    "torn": (f"{GOOD}\n{line()[:-5]}", "line 2: not JSON"),
    "two objects in a line": (f"{GOOD} {line()}\n", "line 1: not JSON .*Extra data"),
    "a JSON array": (f"{GOOD}\n[1]\n", "line 2: found a list"),
    "a JSON string": ('"yes"\n', "line 1: found a string"),
    "one pretty-printed object": (json.dumps(row("x"), indent=1), "line 1: not JSON"),
    "blank line": (f"{GOOD}\n\n{line()}\n", "line 2: blank"),
    "only newlines": ("\n\n", "line 1: blank"),
    "duplicate id": (f"{GOOD}\n{line()}\n{GOOD}\n", "line 3: id 'first' was already used in line 1"),
    "id is an integer": (f"{GOOD}\n{line(id=3)}\n", "line 2: 'id' is an integer"),
    "id is empty": (line(id=""), "line 1: 'id' is empty"),
    "prediction is null": (line(prediction=None), "line 1: 'prediction' is null"),
    "prediction is a list": (line(prediction=["yes"]), "line 1: 'prediction' is a list"),
    "answer is a number": (line(answer=1.5), "line 1: 'answer' is a number"),
    "answer is a boolean": (line(answer=True), "line 1: 'answer' is true or false"),
    "task is unknown": (line(task="VQA"), "line 1: 'task' is 'VQA'; it must be one of caption, vqa, report"),
    "answer type is a list": (line(answer_type=["open"]), "line 1: 'answer_type' is a list"),
    "question type is NaN": (line(question_type=float("nan")), "line 1: 'question_type' is a number"),
    "group is an object": (line(group={}), "line 1: 'group' is an object"),
    "not UTF-8": (GOOD.encode() + b"\n" + line().encode().replace(b"yes", b"\xff"), "line 2: not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: not UTF-8"),
    "byte-order mark": (GOOD.encode("utf-8-sig"), "line 1: not JSON .*BOM"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path, case):
    content, message = MALFORMED[case]
    path = tmp_path / "p.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", REQUIRED_KEYS)
def test_missing_key(tmp_path, key):
    path = tmp_path / "p.jsonl"
    path.write_text(GOOD + "\n" + json.dumps({k: v for k, v in row("x").items() if k != key}))
    with pytest.raises(ValueError, match=f"line 2: required key '{key}' is missing"):
        read_predictions(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_predictions(tmp_path / "absent.jsonl")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_predictions(tmp_path)


def test_required_keys_are_among_all_keys():
    assert set(REQUIRED_KEYS) < set(KEYS)
    assert len(set(KEYS)) == len(KEYS) == 15


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions to write"),
        ([row("1"), row("1")], "row 2: id '1' was already used"),
        ([row("1", score=float("nan"))], "'1': cannot be written as JSON"),
        ([row("1", score={1, 2})], "'1': cannot be written as JSON"),
        ([row("1", "\ud800")], "'1': cannot be written as JSON"),
        (["yes"], "row 1: found a string"),
    ],
)
def test_what_is_not_written(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        write_predictions(tmp_path / "p.jsonl", rows)
    assert list(tmp_path.iterdir()) == []


# ---- writing --------------------------------------------------------------------------------------------------------
NAMES = [f"q{number}" for number in range(6)]
TEXTS = {name: f"naïve answer “{name}” 肺\nsecond line" for name in NAMES}


def answers(names):
    return [row(name, TEXTS[name]) for name in names]


def write_all(path, fingerprint="f"):
    with PredictionWriter(path, fingerprint) as writer:
        todo = [name for name in reversed(NAMES) if name not in writer.done_ids]
        for start in range(0, len(todo), 2):
            writer.append(answers(todo[start : start + 2]))
        return writer.finish(NAMES)


def test_final_order_and_no_leftovers(tmp_path):
    path = write_all(tmp_path / "run" / "predictions.jsonl")
    assert read_predictions(path) == answers(NAMES)
    assert list(path.parent.iterdir()) == [path]


def test_no_final_file_before_the_end(tmp_path):
    path = tmp_path / "predictions.jsonl"
    with PredictionWriter(path, "f") as writer:
        writer.append(answers(NAMES[:5]))
        assert not path.exists()
        with pytest.raises(ValueError, match="1 predictions are missing, first 'q5'"):
            writer.finish(NAMES)
        assert not path.exists()
    with PredictionWriter(path, "f") as writer:
        assert writer.done_ids == NAMES[:5]


def test_a_former_final_file_stays_until_the_new_one_is_whole(tmp_path):
    path = write_predictions(tmp_path / "predictions.jsonl", [row("old")])
    with PredictionWriter(path, "f") as writer:
        writer.append(answers(NAMES))
        assert [one["id"] for one in read_predictions(path)] == ["old"]
        writer.finish(NAMES)
    assert [one["id"] for one in read_predictions(path)] == NAMES


def test_cut_at_every_byte_of_the_last_two_lines(tmp_path):
    whole = tmp_path / "whole.jsonl"
    expected = write_all(whole).read_bytes()
    path = tmp_path / "predictions.jsonl"
    writer = PredictionWriter(path, "f")
    writer.append(answers(NAMES[:4]))
    writer.close()
    data, sidecar = writer.partial.read_bytes(), writer.sidecar.read_bytes()
    lines = data.splitlines(keepends=True)
    assert len(lines) == 4
    for cut in range(len(b"".join(lines[:2])), len(data) + 1):
        writer.partial.write_bytes(data[:cut])
        writer.sidecar.write_bytes(sidecar)
        with PredictionWriter(path, "f") as resumed:
            assert resumed.done_ids == NAMES[: data[:cut].count(b"\n")]
            resumed.append(answers([name for name in NAMES if name not in resumed.done_ids]))
            resumed.finish(NAMES)
        assert path.read_bytes() == expected
        path.unlink()
    assert [one.name for one in tmp_path.iterdir()] == ["whole.jsonl"]


@pytest.mark.parametrize("sidecar", ["other", "absent", "malformed"])
def test_rows_of_other_parameters_are_kept_aside(tmp_path, sidecar):
    path = tmp_path / "predictions.jsonl"
    for number in (1, 2):
        with PredictionWriter(path, "f") as writer:
            writer.append(answers(NAMES[:2]))
        if sidecar == "absent":
            writer.sidecar.unlink()
        elif sidecar == "malformed":
            writer.sidecar.write_text("{")
        kept = writer.partial.read_bytes()
        with (
            pytest.warns(UserWarning, match=rf"other parameters.*partial\.old-{number}, starting afresh"),
            PredictionWriter(path, "g" if sidecar == "other" else "f") as writer,
        ):
            assert writer.done_ids == []
        assert (tmp_path / f"predictions.jsonl.partial.old-{number}").read_bytes() == kept
        writer.partial.unlink()
    if sidecar == "other":
        old = files.read_json(tmp_path / "predictions.jsonl.partial.old-1.json")
        assert old == {"fingerprint": "f"}


def test_an_empty_partial_file_is_nobodys(tmp_path, recwarn):
    path = tmp_path / "predictions.jsonl"
    PredictionWriter(path, "f").close()
    assert write_all(path, "g") == path
    assert not recwarn.list


def test_a_damaged_whole_line_is_refused(tmp_path):
    path = tmp_path / "predictions.jsonl"
    with PredictionWriter(path, "f") as writer:
        writer.append(answers(NAMES[:2]))
    writer.partial.write_bytes(b"\0" * 10 + writer.partial.read_bytes())
    with pytest.raises(ValueError, match=r"predictions\.jsonl\.partial, line 1: not JSON"):
        PredictionWriter(path, "f")


def test_killed_between_the_final_file_and_the_clearing_up(tmp_path, monkeypatch):
    path = tmp_path / "predictions.jsonl"
    unlink = Path.unlink

    def interrupted(self, missing_ok=False):
        if self.suffix == ".partial":
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with PredictionWriter(path, "f") as writer, monkeypatch.context() as patch:
        writer.append(answers(NAMES))
        patch.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.finish(NAMES)
    expected = path.read_bytes()
    assert write_all(path).read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([], "holds 0 ids"),
        ([*NAMES[:3], NAMES[0]], "holds 4 ids, 3 different"),
        (NAMES, "3 predictions are missing, first 'q3'"),
        (NAMES[:2], "lacks 1 written ids, first 'q2'"),
    ],
)
def test_wrong_final_order(tmp_path, order, message):
    with PredictionWriter(tmp_path / "p.jsonl", "f") as writer:
        writer.append(answers(NAMES[:3]))
        with pytest.raises(ValueError, match=message):
            writer.finish(order)
        assert writer.finish(NAMES[:3]).exists()


def test_refused_batches_leave_no_trace(tmp_path):
    with PredictionWriter(tmp_path / "p.jsonl", "f") as writer:
        writer.append(answers(NAMES[:1]))
        for batch in ([row("q1"), row("q0")], [row("q1"), row("q1")], [row("q1"), row("q2", score=float("inf"))]):
            with pytest.raises(ValueError, match="p.jsonl"):
                writer.append(batch)
        assert writer.done_ids == ["q0"]
        assert writer.partial.read_bytes().count(b"\n") == 1
    with pytest.raises(ValueError, match="closed"):
        writer.append(answers(["q1"]))


def test_a_failed_write_is_taken_back(tmp_path, monkeypatch):
    with PredictionWriter(tmp_path / "p.jsonl", "f") as writer:
        writer.append(answers(NAMES[:2]))

        def full(descriptor):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                writer.append(answers(NAMES[2:4]))
        assert writer.done_ids == NAMES[:2]
        writer.append(answers(NAMES[2:]))
        assert read_predictions(writer.finish(NAMES)) == answers(NAMES)


def test_two_writers_on_one_file_are_found_out(tmp_path):
    path = tmp_path / "p.jsonl"
    with PredictionWriter(path, "f") as one:
        with pytest.raises(ValueError, match="another process is writing these predictions; wait for it"):
            PredictionWriter(path, "f")
        one.append(answers(NAMES))
        one.partial.write_bytes(2 * one.partial.read_bytes())  # as a second writer does where nothing can be locked
        with pytest.raises(ValueError, match=re.escape("line 7: id 'q0' was already used in line 1")):
            one.finish(NAMES)
    assert not path.exists()


KILLED = """
import sys, time
from pefomed.predictions import PredictionWriter
names = [f"q{number}" for number in range(300)]
with PredictionWriter(sys.argv[1], "f") as writer:
    todo = [name for name in names if name not in set(writer.done_ids)]
    print("open", flush=True)
    for start in range(0, len(todo), 3):
        time.sleep(0.003)
        batch = todo[start : start + 3]
        writer.append({"id": n, "task": "vqa", "answer": "é", "prediction": n * 300} for n in batch)
    writer.finish(names)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_at_random_moments_and_resumed(tmp_path):
    root = Path(__file__).parents[1]

    def start(path):
        command = [sys.executable, "-c", KILLED, str(path)]
        return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)

    whole = tmp_path / "whole" / "predictions.jsonl"
    assert start(whole).wait(timeout=60) == 0
    path = tmp_path / "killed" / "predictions.jsonl"
    moments = random.Random(0)
    kills = 0
    for _ in range(5):
        process = start(path)
        process.stdout.readline()  # it has opened the file; the moment counts from here
        time.sleep(moments.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        kills += process.wait(timeout=60) == -signal.SIGKILL
        if path.exists():
            break
    assert kills > 0
    assert start(path).wait(timeout=60) == 0
    assert path.read_bytes() == whole.read_bytes()
    # a kill during the very last write may leave the hidden neighbour that it was written to
    assert [one for one in path.parent.iterdir() if not one.name.startswith(".")] == [path]
