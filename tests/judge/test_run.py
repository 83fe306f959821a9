"""A whole run: the file it writes, faults, retries, fallbacks, bounds, money, refusals, secrets."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from pathlib import Path

import pytest
from server import PRICE_TOKENS, Answer, Server, error, verdict

from pefomed.disclosure import AGREEMENTS
from pefomed.judge.endpoint import Endpoint
from pefomed.judge.errors import WrongEndpoint
from pefomed.judge.offline import OFFLINE_NAME, offline_score
from pefomed.judge.prompts import prompt_sha256
from pefomed.judge.run import judge_predictions
from pefomed.judge.settings import JudgeSettings
from pefomed.metrics.verdict_files import read_verdicts
from pefomed.predictions import write_predictions

OF_THE_ENDPOINT = ("concurrency", "max_tokens_in_flight", "max_retries", "structured", "timeout_s", "model")


def make_rows(number: int, **changes) -> list[dict]:
    """Predictions, each of which asks something else."""
    return [
        {"id": f"row-{n}", "task": "vqa", "question": f"is {n} there?", "answer": "yes", "prediction": "no", **changes}
        for n in range(number)
    ]


def judge(server: Server, predictions, folder: Path, task: str = "vqa", out: str = "judge.jsonl", **changes):
    given = {name: changes.pop(name) for name in OF_THE_ENDPOINT if name in changes}
    endpoint = Endpoint(**{"base_url": server.url, "model": "judge", "timeout_s": 5.0, "max_retries": 3} | given)
    settings = JudgeSettings(**{"endpoint": endpoint, "lease_s": 1.0} | changes)
    return judge_predictions(predictions, task, settings, folder / out, progress=False)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def number_of(body: dict) -> int:
    """The row that a request is about."""
    return int("".join(letter for letter in body["messages"][1]["content"] if letter.isdigit()))


def record(folder: Path) -> dict:
    return json.loads((folder / "judge.run.json").read_text())


def test_every_prediction_and_repeat_stands_in_the_file_in_its_order(tmp_path) -> None:
    with Server() as server:
        summary = judge(server, make_rows(20), tmp_path, repeats=3)
    found = lines(tmp_path / "judge.jsonl")
    assert [(row["id"], row["repeat"]) for row in found] == [(f"row-{n}", k) for n in range(20) for k in range(3)]
    expected = {(number_of(body), body["seed"]): verdict(body) for body in server.bodies}
    for row in found:
        text = expected[int(row["id"][4:]), row["repeat"]]
        assert row == {
            **{"id": row["id"], "repeat": row["repeat"], "score": json.loads(text)["score"], "model": "judge"},
            **{"reply": text, "prompt_sha256": prompt_sha256("vqa"), "usage": PRICE_TOKENS},
            **{"status": "ok", "error": ""},
        }
    assert (summary.n, summary.ok, summary.complete, summary.stopped) == (60, 60, True, "")
    assert len(read_verdicts(tmp_path / "judge.jsonl", "vqa").verdicts) == 60


def test_the_record_says_who_judged_by_what_at_which_cost(tmp_path) -> None:
    with Server() as server:
        path = write_predictions(tmp_path / "predictions.jsonl", make_rows(5))
        summary = judge(server, path, tmp_path, price_input=10.0, price_output=100.0)
    found = record(tmp_path)
    assert found["model"] == "judge" and found["base_url"] == server.url and found["answered_by"] == {"judge-2024": 5}
    assert found["prompt_sha256"] == prompt_sha256("vqa") and found["prompt_version"]
    assert found["counts"] == {"n": 5, "ok": 5, "failed": 0, "not_asked": 0}
    assert found["usage"] == {"requests": 5, "prompt_tokens": 500, "completion_tokens": 50}
    assert found["cost"] == summary.cost == pytest.approx(0.01)
    assert found["parameters"]["endpoint"]["max_retries"] == 3 and len(found["data_fingerprint"]) == 64


def test_the_same_call_again_asks_nothing_and_writes_the_same(tmp_path) -> None:
    with Server() as server:
        judge(server, make_rows(10), tmp_path)
        before = (tmp_path / "judge.jsonl").read_bytes()
        (tmp_path / "judge.jsonl").unlink()
        judge(server, make_rows(10), tmp_path)
        assert server.requests == 10 and (tmp_path / "judge.jsonl").read_bytes() == before
        judge(server, make_rows(12), tmp_path, repeats=2)  # more of the same: only what is new is asked
        assert server.requests == 24
        judge(server, make_rows(12), tmp_path, repeats=2, model="another")
        assert server.requests == 48


def test_predictions_that_ask_the_same_are_asked_once(tmp_path) -> None:
    rows = [{**row, "question": "is it?"} for row in make_rows(6)]
    with Server() as server:
        summary = judge(server, rows, tmp_path, concurrency=4)
    assert server.requests == 1 and summary.ok == 6


def test_reports(tmp_path) -> None:
    rows = make_rows(3, task="report")
    rows = [{**row, "prediction": f"text {n}"} for n, row in enumerate(rows)]
    with Server(lambda body, times: Answer(content='{"reason": "alike", "score": 3}')) as server:
        judge(server, rows, tmp_path, task="report")
    assert [row["score"] for row in lines(tmp_path / "judge.jsonl")] == [3, 3, 3]


FAULTS = [
    error(429, "slow down", retry_after="0.01"),
    error(500, "oops"),
    Answer(cut=True),
    Answer(delay=30.0),
    Answer(drip=0.05),
    Answer(body=b'{"choices": ['),
    Answer(body=b'{"choices": []}'),
    Answer(content="Score: 1"),
    Answer(content='{"reason": "x", "score": 7}'),
    Answer(content='{"score": 1}', changes={"finish_reason": "length"}),
    Answer(message={"content": None, "refusal": "no"}),
    error(400, "this one not"),
]


def test_with_faults_in_three_of_ten_answers_every_item_ends_judged_or_failed(tmp_path) -> None:
    def script(body, times):
        dice = zlib.crc32(f"{number_of(body)} {times}".encode())
        return FAULTS[dice // 1000 % len(FAULTS)] if dice % 10 < 3 else None

    with Server(script) as server:
        summary = judge(server, make_rows(100), tmp_path, concurrency=32, timeout_s=1.0)
        found = lines(tmp_path / "judge.jsonl")
        assert [row["id"] for row in found] == [f"row-{n}" for n in range(100)]
        assert {row["status"] for row in found} == {"ok", "failed"} and summary.not_asked == 0
        assert summary.ok + summary.failed == 100 and summary.ok > 75
        assert all(row["error"] and row["score"] is None for row in found if row["status"] == "failed")
        # What was refused or rejected at first is not for ever: the next run tries it, and only it.
        asked = server.requests
        again = judge(server, make_rows(100), tmp_path, concurrency=32, timeout_s=1.0)
        assert again.ok > summary.ok and server.requests - asked < 100 - summary.ok + 60


def test_useless_replies_are_asked_for_again_with_another_seed_and_paid(tmp_path) -> None:
    with Server(lambda body, times: Answer(content="Score: 1") if times < 2 else None) as server:
        judge(server, make_rows(1), tmp_path, seed=5)
    assert [body["seed"] for body in server.bodies] == [5, 1_000_005, 2_000_005]
    assert record(tmp_path)["usage"] == {
        **{"requests": 3, "malformed": 2, "prompt_tokens": 300, "completion_tokens": 30}
    }
    assert lines(tmp_path / "judge.jsonl")[0]["usage"] == PRICE_TOKENS


def test_after_the_last_attempt_it_failed_and_says_why(tmp_path) -> None:
    with Server(lambda body, times: Answer(content="Score: 1")) as server:
        summary = judge(server, make_rows(2), tmp_path, attempts=2)
    found = lines(tmp_path / "judge.jsonl")
    assert server.requests == 4 and not summary.complete and summary.failed == 2
    assert found[0]["reply"] == "Score: 1" and found[0]["score"] is None
    assert "not one JSON object" in found[0]["error"] and found[0]["error"].endswith("asked 2 times")


def test_what_failed_is_tried_by_the_next_run_unless_told_otherwise(tmp_path) -> None:
    def script(body, times):
        return error(400, "not now") if times == 0 else None

    with Server(script) as server:
        assert judge(server, make_rows(4), tmp_path).failed == 4
        assert judge(server, make_rows(4), tmp_path, keep_failed=True).failed == 4 and server.requests == 4
        assert judge(server, make_rows(4), tmp_path).ok == 4 and server.requests == 8


def test_a_parameter_that_the_server_lacks_is_left_out_once_for_all(tmp_path) -> None:
    def script(body, times):
        for name in ("response_format", "seed", "max_completion_tokens"):
            if name in body:
                return error(400, f"Unsupported parameter: '{name}'", name)
        return Answer(content=f"```json\n{verdict(body)}\n```")  # as servers without schemas like to do

    with Server(script) as server:
        summary = judge(server, make_rows(30), tmp_path, concurrency=4)
        assert summary.ok == 30 and server.requests <= 30 + 3 * 4
        assert record(tmp_path)["left_out"] == ["max_completion_tokens", "response_format", "seed"]
        assert summary.usage["requests"] == 30
        asked = server.requests
        judge(server, make_rows(40), tmp_path, concurrency=4)
        assert server.requests - asked == 10  # remembered by the store


def test_fenced_replies_are_no_verdicts_where_a_schema_was_asked_for(tmp_path) -> None:
    with Server(lambda body, times: Answer(content=f"```json\n{verdict(body)}\n```")) as server:
        assert judge(server, make_rows(1), tmp_path, attempts=1).failed == 1
        assert judge(server, make_rows(1), tmp_path, structured=False).ok == 1


def test_no_more_requests_than_allowed_are_under_way(tmp_path) -> None:
    with Server(latency=0.05) as server:
        judge(server, make_rows(40), tmp_path, concurrency=5)
        assert server.most_under_way == 5
        server.most_under_way = 0
        judge(server, make_rows(6), tmp_path, out="other.jsonl", concurrency=5, max_tokens_in_flight=1)
        assert server.most_under_way == 1


def test_sixty_four_at_a_time(tmp_path) -> None:
    with Server(latency=1.0) as server:
        assert judge(server, make_rows(130), tmp_path, concurrency=64, max_tokens_in_flight=10**6).ok == 130
    assert 32 < server.most_under_way <= 64


def test_money_is_not_overspent_and_what_is_done_is_kept(tmp_path) -> None:
    prices = {"price_input": 100.0, "price_output": 1000.0, "attempts": 1}  # an answer costs 0.02, at most 0.6
    with Server() as server:
        first = judge(server, make_rows(100), tmp_path, max_cost=1.5, concurrency=8, **prices)
        assert 0 < first.ok < 100 and first.not_asked == 100 - first.ok and first.failed == 0
        assert first.cost <= 1.5 and "max_cost 1.5" in first.stopped and not first.complete
        left = [row for row in lines(tmp_path / "judge.jsonl") if row["status"] == "failed"]
        assert len(left) == first.not_asked and all(row["error"].startswith("not asked: ") for row in left)
        again = judge(server, make_rows(100), tmp_path, max_cost=1.5, concurrency=8, **prices)
        assert again.ok == first.ok and again.cost == first.cost  # the bound is on the store, not on a call
        assert judge(server, make_rows(100), tmp_path, max_cost=50.0, **prices).ok == 100
        assert server.requests == 100


def test_a_server_that_states_no_usage_is_reckoned_at_the_most_it_can_cost(tmp_path) -> None:
    def script(body, times):
        choice = {"index": 0, "message": {"role": "assistant", "content": verdict(body)}, "finish_reason": "stop"}
        return Answer(body=json.dumps({"choices": [choice]}).encode())

    with Server(script) as server:
        summary = judge(server, make_rows(3), tmp_path, price_input=1.0, price_output=1.0)
    assert summary.ok == 3 and summary.usage["unreported"] == 3
    assert summary.usage["assumed_completion_tokens"] == 900 and summary.usage["assumed_prompt_tokens"] > 3000
    assert summary.cost > 0


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_ends_the_run_at_once_and_loses_nothing(status: int, tmp_path) -> None:
    def script(body, times):
        return error(status, "no such thing") if number_of(body) >= 10 else None

    with Server(script) as server:
        with pytest.raises(WrongEndpoint, match="no such thing"):
            judge(server, make_rows(150), tmp_path, concurrency=4)
        assert server.requests < 30 and not (tmp_path / "judge.jsonl").exists()
        server.script = None
        asked = len(server.asked)
        assert judge(server, make_rows(150), tmp_path, concurrency=16).ok == 150
        assert all(times == 1 for question, times in server.asked.items() if number_in(question) < 10) and asked


def number_in(question: str) -> int:
    return number_of({"messages": json.loads(question)[0]})


def test_a_server_that_leaves_all_without_an_answer_is_given_up(tmp_path) -> None:
    with Server(lambda body, times: error(503, "down") if number_of(body) >= 5 else None) as server:
        summary = judge(server, make_rows(300), tmp_path, concurrency=4, max_retries=0)
    assert summary.ok == 5 and 20 <= summary.failed < 30 and summary.not_asked == 295 - summary.failed
    assert "in a row without an answer" in summary.stopped and "503" in summary.stopped
    assert len(lines(tmp_path / "judge.jsonl")) == 300


def test_credentialed_rows_are_refused_before_anything_is_sent(tmp_path) -> None:
    rows = make_rows(30)
    rows[-1]["dataset"] = "mimic_cxr"
    with Server() as server:
        for agreement in ("", "yes"):
            with pytest.raises(ValueError, match="'row-29' is of mimic_cxr"):
                judge(server, rows, tmp_path, agreement=agreement)
        assert server.requests == 0 and not (tmp_path / "judge.sqlite").exists()
        assert judge(server, rows, tmp_path, agreement=AGREEMENTS["mimic_cxr"]).ok == 30


def test_the_key_is_written_nowhere(tmp_path, secret, capfd) -> None:
    def script(body, times):
        number = number_of(body)
        if number == 0:
            return error(400, f"Incorrect API key provided: {secret}")
        if number == 1:
            return Answer(content=f"the key is {secret}")
        return Answer(content=json.dumps({"reason": f"{secret} says so", "score": 1}))

    with Server(script) as server:
        endpoint = Endpoint(base_url=server.url, model="judge")
        judge_predictions(make_rows(4), "vqa", JudgeSettings(endpoint), tmp_path / "judge.jsonl", progress=True)
        assert server.headers[0]["authorization"] == f"bearer {secret}"
    written = b"".join(Path(where, name).read_bytes() for where, _, names in os.walk(tmp_path) for name in names)
    shown = "".join(capfd.readouterr())
    assert b"says so" in written and "verdicts to ask for" in shown and "failed=2" in shown
    assert secret.encode() not in written and secret not in shown


def test_inside_a_running_loop_as_a_notebook_has_one(tmp_path) -> None:
    async def cell(server):
        return judge(server, make_rows(5), tmp_path)

    with Server() as server:
        assert asyncio.run(cell(server)).ok == 5


def test_offline_asks_nobody_and_needs_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    rows = [{**row, "dataset": "mimic_cxr"} for row in make_rows(3)]  # nothing leaves the machine
    rows[1]["prediction"] = "Yes."
    settings = JudgeSettings(offline=True, repeats=2)
    summary = judge_predictions(rows, "vqa", settings, tmp_path / "judge.jsonl", progress=False)
    found = lines(tmp_path / "judge.jsonl")
    assert [row["score"] for row in found] == [offline_score(row, "vqa") for row in rows for _ in range(2)]
    assert found[2]["score"] == 1 and found[0]["score"] == 0
    assert {row["model"] for row in found} == {OFFLINE_NAME} and record(tmp_path)["model"] == OFFLINE_NAME
    assert summary.complete and {path.name for path in tmp_path.iterdir()} == {"judge.jsonl", "judge.run.json"}


def faulty(number: int, line: bytes) -> bytes:
    """A predictions file whose given line is replaced."""
    whole = [json.dumps(row).encode() + b"\n" for row in make_rows(5)]
    whole[number - 1] = line
    return b"".join(whole)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no predictions|empty"),
        (faulty(3, b"{\n"), "line 3: not JSON"),
        (faulty(3, b"\n"), "line 3: blank"),
        (faulty(3, b"[]\n"), "line 3: found a list"),
        (faulty(2, b'{"id": "x", "task": "vqa", "answer": "y"}\n'), "line 2: required key 'prediction'"),
        (faulty(4, json.dumps(make_rows(1)[0]).encode() + b"\n"), "line 4: id 'row-0' was already used in line 1"),
        (faulty(4, json.dumps(make_rows(1, task="report")[0]).encode() + b"\n"), "row 4: task 'report'"),
        (faulty(4, json.dumps(make_rows(1, id="\ud800")[0]).encode() + b"\n"), "row 4: id .* UTF-8"),
        (faulty(4, b'{"id": "\xff"}\n'), "line 4: not UTF-8"),
        (faulty(5, json.dumps(make_rows(1, id="z", question=5)[0]).encode() + b"\n"), "row 'z': 'question' is int"),
    ],
)
def test_malformed_predictions_are_told_before_anybody_is_asked(data: bytes, said: str, tmp_path) -> None:
    (tmp_path / "predictions.jsonl").write_bytes(data)
    with Server() as server, pytest.raises(ValueError, match=said):
        judge(server, tmp_path / "predictions.jsonl", tmp_path)
    assert server.requests == 0


def test_files_that_would_be_overwritten_or_cannot_be(tmp_path) -> None:
    path = write_predictions(tmp_path / "predictions.jsonl", make_rows(1))
    with Server() as server:
        with pytest.raises(ValueError, match="parameter out: .* holds the predictions"):
            judge(server, path, tmp_path, out="predictions.jsonl")
        with pytest.raises(ValueError, match="parameter store: .* holds the predictions"):
            judge(server, path, tmp_path, store=str(path))
        with pytest.raises(ValueError, match="parameter store: .* to hold the result"):
            judge(server, path, tmp_path, store=str(tmp_path / "judge.jsonl"))
        with pytest.raises(ValueError, match="parameter out: .* is a folder"):
            judge(server, path, tmp_path, out=".")
        with pytest.raises(FileNotFoundError, match="no such file"):
            judge(server, tmp_path / "missing.jsonl", tmp_path)
        with pytest.raises(ValueError, match="task is 'caption'"):
            judge(server, path, tmp_path, task="caption")
        assert server.requests == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("repeats", 0), ("repeats", 1.0), ("seed", -1), ("attempts", True), ("lease_s", 0), ("max_cost", 1.0)],
)
def test_faulty_settings_are_named(name: str, value) -> None:
    with pytest.raises(ValueError, match=f"parameter {name}"):
        JudgeSettings(**{name: value})
