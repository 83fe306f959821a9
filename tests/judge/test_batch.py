"""The Batch API through the real client and a real server: what is sent, what comes back, and crashes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from batch_server import BatchServer, End, all_answered, answered, expired, refused

from pefomed.disclosure import AGREEMENTS
from pefomed.judge import batch, batch_sending
from pefomed.judge.batch import collect_batch, judge_by_batch, submit_batch
from pefomed.judge.batch_folder import read_state
from pefomed.judge.cost import Tokens
from pefomed.judge.endpoint import Endpoint
from pefomed.judge.run import judge_predictions
from pefomed.judge.settings import JudgeSettings
from pefomed.judge.store import Judged, JudgeStore
from pefomed.predictions import write_predictions


class Killed(BaseException):
    """What stands for SIGKILL: nothing of ours catches it."""


def rows(number: int = 5) -> list[dict]:
    return [
        {"id": f"q{i}", "task": "vqa", "question": f"what is in picture {i}?", "answer": "lung", "prediction": f"{i}"}
        for i in range(number)
    ]


def settings(server: BatchServer, folder: Path, **changes) -> JudgeSettings:
    endpoint = Endpoint(base_url=server.url, model="judge", timeout_s=5.0, max_retries=1)
    return JudgeSettings(endpoint=endpoint, store=str(folder / "judge.sqlite"), **changes)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(batch_sending, "_PAUSE_S", 0.0)


def collect(folder: Path, out: Path):
    return collect_batch(folder, out, wait=True, poll_s=0.0, progress=False)


def test_submit_leave_come_back_collect_gives_what_a_plain_run_gives(tmp_path, secret, capsys):
    predictions = write_predictions(tmp_path / "predictions.jsonl", rows())
    folder, out = tmp_path / "out.batch", tmp_path / "batch" / "judge.jsonl"
    with BatchServer() as server:
        wanted = settings(server, tmp_path, repeats=3, price_input=2.0, price_output=8.0)
        first = submit_batch(predictions, "vqa", wanted, folder)
        assert (first.out, first.unsent, first.summary) == (15, 0, None)
        assert "next: collect" in str(first)
        assert "sending 15 requests in 1 batches; at most" in capsys.readouterr().err
        predictions.unlink()  # the folder has a copy of its own
        early = collect_batch(folder, out)
        assert early.statuses == {"in_progress": 1} and early.summary is None and not out.exists()
        late = collect_batch(folder, out)
        assert late.complete and late.statuses == {"completed": 1} and late.tally == {"ok": 15}
        assert "judged: all 15" in str(late)
        assert server.asked == []

        # The store knows everything: a plain run asks nothing.
        again = judge_predictions(rows(), "vqa", wanted, tmp_path / "again" / "judge.jsonl", progress=False)
        assert server.asked == [] and again.complete
        fresh = replace(wanted, store="")
        plain = judge_predictions(rows(), "vqa", fresh, tmp_path / "plain" / "judge.jsonl", progress=False)
        assert len(server.asked) == 15
        assert out.read_bytes() == plain.out.read_bytes() == again.out.read_bytes()
        assert late.summary.cost == plain.cost
        assert late.summary.usage["requests"] == late.summary.usage["batched"] == 15
        sent = server.sent()
    # The very same requests as those of the plain run.
    as_text = [json.dumps(request["body"], sort_keys=True) for request in sent]
    assert sorted(as_text) == sorted(json.dumps(body, sort_keys=True) for body in server.asked)
    assert {(request["method"], request["url"]) for request in sent} == {("POST", "/v1/chat/completions")}
    assert len({request["custom_id"] for request in sent}) == 15
    assert all(len(request["custom_id"]) <= 64 for request in sent)
    assert len({row["score"] for row in read(out)}) == 2
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in written


def test_partial_results_end_as_failed_and_only_those_are_submitted_again(tmp_path):
    def bad_day(requests, number):
        if number:
            return all_answered(requests, number)
        output = [
            answered(requests[0]),
            answered(requests[1], "Score: 1"),
            answered(requests[2], finish_reason="length"),
            b"not JSON\n",
            answered(requests[7])[:40] + b"\n",
            answered({**requests[0], "custom_id": "of-nobody"}),
            answered(requests[0], '{"reason": "another", "score": 0}'),
        ]
        errors = [refused(requests[3], 429, "slow down"), expired(requests[4]), expired(requests[0])]
        return End("expired", output[::-1], errors)

    folder, out = tmp_path / "folder", tmp_path / "judge.jsonl"
    with BatchServer(bad_day) as server:
        wanted = settings(server, tmp_path)
        submit_batch(rows(8), "vqa", wanted, folder, progress=False)
        keys = [request["custom_id"] for request in server.sent()]
        result = collect(folder, out)
        assert result.tally == {"doubled": 2, "strange": 1, "unreadable": 2, "missing": 3, "ok": 1, "failed": 7}
        assert not result.complete and (result.summary.ok, result.summary.failed) == (1, 7)
        assert "submit again" in str(result)
        judged = {row["id"]: row for row in read(out)}
        assert [judged[f"q{i}"]["status"] for i in range(8)] == ["ok"] + ["failed"] * 7
        assert "not one JSON object" in judged["q1"]["error"] and judged["q1"]["reply"] == "Score: 1"
        assert "cut off" in judged["q2"]["error"]
        assert "slow down" in judged["q3"]["error"]
        assert "batch_expired" in judged["q4"]["error"]
        assert "ended as expired without a result" in judged["q5"]["error"]
        # Of two verdicts on one question the first that the file holds counts, and none is made of a failure.
        assert judged["q0"]["score"] == 0
        assert result.summary.usage["requests"] == 3 and result.summary.usage["prompt_tokens"] == 300

        second = submit_batch(rows(8), "vqa", wanted, folder, progress=False)
        assert second.out == 7 and len(server.batches) == 2
        sent = server.sent()
        assert [request["custom_id"] for request in sent] == keys[1:]
        # Where a useless reply came, another seed; where none came, the same.
        assert [request["body"]["seed"] for request in sent] == [1_000_000, 1_000_000, 0, 0, 0, 0, 0]
        last = collect(folder, out)
        assert last.complete and last.statuses == {"expired": 1, "completed": 1}
        plain = judge_predictions(rows(8), "vqa", replace(wanted, store=""), tmp_path / "p" / "j.jsonl", False)
        assert read(plain.out)[1:] == read(out)[1:]
        assert server.asked and last.summary.usage["requests"] == 10


def test_a_batch_that_fails_as_a_whole_says_why(tmp_path):
    said = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
    ends = [End("failed", said=[said]), End("cancelled", output=[]), End("completed")]
    with BatchServer(lambda requests, number: ends[number]) as server:
        wanted = settings(server, tmp_path)
        for status in ("failed", "cancelled", "completed"):
            submit_batch(rows(2), "vqa", wanted, tmp_path / "f", progress=False)
            result = collect(tmp_path / "f", tmp_path / "judge.jsonl")
            assert result.tally["missing"] == result.tally["failed"] == 2 * len(server.batches)
            assert result.statuses[status] == 1
        assert "token_limit_exceeded: Enqueued token limit reached" in str(result)
        assert "ended as completed without" in read(tmp_path / "judge.jsonl")[0]["error"]
        kept = replace(wanted, keep_failed=True)
        assert submit_batch(rows(2), "vqa", kept, tmp_path / "f", progress=False).out == 0
        assert len(server.batches) == 3


def test_a_parameter_that_the_server_does_not_take_is_left_out_of_the_next_batch(tmp_path):
    def end(requests, number):
        if "temperature" not in requests[0]["body"]:
            return all_answered(requests, number)
        return End(errors=[refused(one, 400, "Unsupported value: 'temperature'", "temperature") for one in requests])

    with BatchServer(end) as server:
        wanted = settings(server, tmp_path)
        for _ in range(2):
            submit_batch(rows(2), "vqa", wanted, tmp_path / "f", progress=False)
            result = collect(tmp_path / "f", tmp_path / "judge.jsonl")
        assert result.complete
        assert "temperature" in server.sent(0)[0]["body"] and "temperature" not in server.sent(1)[0]["body"]


def test_a_server_without_schemas_may_fence_its_verdicts(tmp_path):
    fenced = '```json\n{"reason": "r", "score": 1}\n```'
    with BatchServer(lambda asked, number: End(output=[answered(one, fenced) for one in asked])) as server:
        plain = settings(server, tmp_path)
        without = replace(plain, endpoint=replace(plain.endpoint, structured=False))
        submit_batch(rows(2), "vqa", without, tmp_path / "f", progress=False)
        assert "response_format" not in server.sent()[0]["body"]
        assert collect(tmp_path / "f", tmp_path / "judge.jsonl").complete
        submit_batch(rows(2), "vqa", plain, tmp_path / "g", progress=False)
        assert not collect(tmp_path / "g", tmp_path / "other.jsonl").complete  # with a schema, a fence is a fault


def test_input_files_stay_within_the_bounds(tmp_path, monkeypatch):
    with BatchServer() as server:
        monkeypatch.setattr(batch_sending, "MOST_REQUESTS", 4)
        submit_batch(rows(10), "vqa", settings(server, tmp_path), tmp_path / "f", progress=False)
        assert [len(server.sent(i)) for i in range(3)] == [4, 4, 2]
        line = max(len(line) for line in server.files["file-0"].splitlines(keepends=True))
        monkeypatch.setattr(batch_sending, "MOST_BYTES", 2 * line)
        (tmp_path / "b").mkdir()
        submit_batch(rows(5), "vqa", settings(server, tmp_path / "b"), tmp_path / "g", progress=False)
        assert [len(server.sent(i)) for i in range(3, 6)] == [2, 2, 1]
        assert all(len(data) <= 2 * line for data in list(server.files.values())[3:])
        assert collect(tmp_path / "f", tmp_path / "judge.jsonl").tally == {"ok": 10}


def test_equal_questions_are_asked_once(tmp_path):
    twins = [{**row, "id": f"{row['id']} {twin}"} for row in rows(3) for twin in "ab"]
    with BatchServer() as server:
        assert submit_batch(twins, "vqa", settings(server, tmp_path), tmp_path / "f", progress=False).out == 3
        assert collect(tmp_path / "f", tmp_path / "judge.jsonl").summary.n == 6


def test_what_a_plain_run_has_judged_is_not_submitted(tmp_path):
    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        judge_predictions(rows(2), "vqa", wanted, tmp_path / "judge.jsonl", progress=False)
        assert submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False).out == 3
        # Called again while it is out, nothing is sent twice.
        assert submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False).out == 3
        assert len(server.batches) == 1


@pytest.mark.parametrize("moment", range(6))
def test_killed_anywhere_while_submitting_no_batch_is_made_twice(tmp_path, monkeypatch, moment):
    """Dies before or after each of the three steps that a state is saved after, and then submits again."""
    save, saves = batch_sending.BatchState.save, []

    def dying(state):
        saves.append(state)
        if len(saves) == moment // 2 + 2:  # the first says that there is nothing yet
            if moment % 2:
                save(state)
            raise Killed
        save(state)

    monkeypatch.setattr(batch_sending, "MOST_REQUESTS", 3)
    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        monkeypatch.setattr(batch_sending.BatchState, "save", dying)
        with pytest.raises(Killed):
            submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False)
        monkeypatch.setattr(batch_sending.BatchState, "save", save)
        submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False)
        assert len(server.batches) == 2
        assert sorted(len(server.sent(i)) for i in range(2)) == [2, 3]
        assert collect(tmp_path / "f", tmp_path / "judge.jsonl").tally == {"ok": 5}


def test_killed_between_the_making_of_a_batch_and_its_remembering(tmp_path, monkeypatch):
    save = batch_sending.BatchState.save

    def dying(state):
        if state.parts and state.parts[0].batch_id:
            raise Killed
        save(state)

    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        submit_batch(rows(1), "vqa", settings(server, tmp_path / "x"), tmp_path / "x" / "f", progress=False)
        monkeypatch.setattr(batch_sending.BatchState, "save", dying)
        with pytest.raises(Killed):
            submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False)
        assert len(server.batches) == 2 and read_state(tmp_path / "f").parts[0].status == "creating"
        monkeypatch.setattr(batch_sending.BatchState, "save", save)
        for i in range(5):  # others come in between, so that the list has several pages
            submit_batch(rows(1), "vqa", settings(server, tmp_path / str(i)), tmp_path / str(i) / "f", progress=False)
        with_collect = collect_batch(tmp_path / "f", tmp_path / "judge.jsonl")
        assert with_collect.unsent == 1 and "submit again; 1 input files" in str(with_collect)
        submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False)
        assert len(server.batches) == 7
        assert read_state(tmp_path / "f").parts[0].batch_id == "batch-1"
        metadata = server.batches[1]["metadata"]
        assert metadata["pefomed_sha256"] == read_state(tmp_path / "f").parts[0].sha256
        assert server.batches[0]["metadata"]["pefomed_part"] != metadata["pefomed_part"]


@pytest.mark.parametrize("fault", ["lose", "cut", 500])
def test_an_answer_that_is_lost_makes_no_second_batch(tmp_path, fault):
    with BatchServer() as server:
        tries = []

        def once(method, path):
            if (method, path) != ("POST", "/v1/batches"):
                return None
            tries.append(path)
            return fault if len(tries) == 1 else None

        server.fault = once
        submit_batch(rows(2), "vqa", settings(server, tmp_path), tmp_path / "f", progress=False)
        assert len(server.batches) == 1
        assert len(tries) == (1 if fault == "lose" else 2)
        assert server.requests.count("GET /v1/batches") == 1


@pytest.mark.parametrize("cut_at", range(1, 6))
def test_killed_while_taking_over_nothing_is_lost_or_counted_twice(tmp_path, monkeypatch, cut_at):
    def end(asked, number):
        return End(output=[answered(one, "no" if i == 1 else None) for i, one in enumerate(asked)])

    with BatchServer(end) as server:
        submit_batch(rows(), "vqa", settings(server, tmp_path, lease_s=0.1), tmp_path / "f", progress=False)
        put, done = batch._put, []

        def dying(*arguments):
            done.append(put(*arguments))
            if len(done) == cut_at:
                raise Killed
            return done[-1]

        monkeypatch.setattr(batch, "_put", dying)
        with pytest.raises(Killed):
            collect(tmp_path / "f", tmp_path / "judge.jsonl")
        monkeypatch.setattr(batch, "_put", put)
        result = collect(tmp_path / "f", tmp_path / "judge.jsonl")
        assert (result.summary.ok, result.summary.failed) == (4, 1)
        assert result.summary.usage == {
            **dict.fromkeys(("requests", "batched"), 5),
            "malformed": 1,
            "prompt_tokens": 500,
            "completion_tokens": 50,
        }


def test_what_another_process_is_asking_keeps_the_batch_open(tmp_path):
    def end(asked, number):
        return End(output=[answered(asked[0])], errors=[expired(asked[1])])

    with BatchServer(end) as server:
        wanted = settings(server, tmp_path)
        submit_batch(rows(2), "vqa", wanted, tmp_path / "f", progress=False)
        keys = [request["custom_id"] for request in server.sent()]
        with JudgeStore(wanted.store) as other:
            assert [other.claim(key, Tokens(1, 1)) for key in keys] == ["ours", "ours"]
            for _ in range(2):
                found = collect_batch(tmp_path / "f", tmp_path / "judge.jsonl")
            # A verdict counts at once; a failure waits for what the other process finds.
            assert found.out == 2 and found.summary is None
            assert other.get(keys[0]).status == "ok" and other.get(keys[1]) is None
            other.finish(keys[1], Judged("ok", 1, "r"), requests=1)
        result = collect_batch(tmp_path / "f", tmp_path / "judge.jsonl")
        assert result.complete and result.summary.usage["requests"] == 2


def test_a_server_that_does_not_answer_is_told_in_one_line_and_the_call_goes_on_later(tmp_path, secret):
    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        server.fault = lambda method, path: 503
        with pytest.raises(
            ConnectionError, match=r"upload of requests-001\.jsonl: the endpoint answers 503"
        ) as caught:
            submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        assert secret not in str(caught.value)
        server.fault = lambda method, path: "cut"
        with pytest.raises(ConnectionError, match="no answer"):
            submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        server.fault = lambda method, path: None
        submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        server.fault = lambda method, path: "cut" if path.endswith("/content") else None
        with pytest.raises(ConnectionError, match=r"file batch-0-output_file_id: no answer"):
            collect(tmp_path / "f", tmp_path / "judge.jsonl")
        server.fault = lambda method, path: None
        assert collect(tmp_path / "f", tmp_path / "judge.jsonl").complete
        assert len(server.batches) == 1


def test_a_server_that_refuses_is_told_in_one_line(tmp_path, secret):
    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        server.fault = lambda method, path: 401 if path == "/v1/batches" else None
        with pytest.raises(ValueError, match=r"batch of requests-001\.jsonl: the endpoint answers 401") as caught:
            submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        assert secret not in str(caught.value) and "\n" not in str(caught.value)
        server.fault = lambda method, path: None
        submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        assert len(server.batches) == 1
        server.batches.clear()
        with pytest.raises(ValueError, match="batch batch-0: the endpoint answers 404"):
            collect(tmp_path / "f", tmp_path / "judge.jsonl")


def test_credentialed_rows_are_refused_before_the_first_byte(tmp_path):
    lent = [*rows(), {**rows(1)[0], "id": "lent", "answer": "another", "dataset": "mimic_cxr"}]
    with BatchServer() as server:
        with pytest.raises(ValueError, match="refused to send it to 127.0.0.1:"):
            submit_batch(lent, "vqa", settings(server, tmp_path), tmp_path / "f", progress=False)
        assert server.requests == [] and not (tmp_path / "f").exists()
        leave = settings(server, tmp_path, agreement=AGREEMENTS["mimic_cxr"])
        assert submit_batch(lent, "vqa", leave, tmp_path / "f", progress=False).out == 6


def test_the_bound_on_cost_counts_what_is_out(tmp_path):
    with BatchServer() as server:
        prices = {"price_input": 1.0, "price_output": 1.0}
        wanted = settings(server, tmp_path, **prices)
        submit_batch(rows(5), "vqa", wanted, tmp_path / "f", progress=False)
        one = read_state(tmp_path / "f").parts[0].most.total / 5 / 1e6
        (tmp_path / "x").mkdir()
        bound = settings(server, tmp_path / "x", **prices, max_cost=4.5 * one)
        with pytest.raises(ValueError, match=r"max_cost is .* may come to 0\.0"):
            submit_batch(rows(5), "vqa", bound, tmp_path / "g", progress=False)
        assert len(server.batches) == 1
        enough = replace(bound, max_cost=5.5 * one)
        submit_batch(rows(5), "vqa", enough, tmp_path / "g", progress=False)
        assert len(server.batches) == 2


def test_mistakes_are_told(tmp_path):
    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        with pytest.raises(FileNotFoundError, match="submit a batch into this folder first"):
            collect_batch(tmp_path / "none", tmp_path / "judge.jsonl")
        with pytest.raises(ValueError, match="offline"):
            submit_batch(rows(), "vqa", replace(wanted, offline=True), tmp_path / "f")
        with pytest.raises(ValueError, match="row 1: task 'vqa' is not 'report'"):
            submit_batch(rows(), "report", wanted, tmp_path / "f")
        submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        for other in (replace(wanted, repeats=2), replace(wanted, endpoint=replace(wanted.endpoint, model="b"))):
            with pytest.raises(ValueError, match="of other predictions, or of another task"):
                submit_batch(rows(), "vqa", other, tmp_path / "f")
        with pytest.raises(ValueError, match="is a folder; name a file"):
            collect_batch(tmp_path / "f", tmp_path)
        with batch.locked(tmp_path / "f"), pytest.raises(ValueError, match="another process"):
            collect_batch(tmp_path / "f", tmp_path / "judge.jsonl")
        (tmp_path / "f" / "batch.json").write_text('{"version": 9}')
        with pytest.raises(ValueError, match=r"batch\.json: not the record of a batch of version 1 \(found 9\)"):
            collect_batch(tmp_path / "f", tmp_path / "judge.jsonl")
        (tmp_path / "f" / "batch.json").write_text('{"version": 1, "settings": {}}')
        with pytest.raises(ValueError, match=r"batch\.json: damaged"):
            collect_batch(tmp_path / "f", tmp_path / "judge.jsonl")


def test_a_store_that_was_lost_is_no_reason_to_pay_the_full_price(tmp_path):
    with BatchServer() as server:
        wanted = settings(server, tmp_path)
        submit_batch(rows(), "vqa", wanted, tmp_path / "f", progress=False)
        assert collect(tmp_path / "f", tmp_path / "judge.jsonl").complete
        Path(wanted.store).unlink()
        with pytest.raises(ValueError, match=r"judge\.sqlite: 5 verdicts are in no batch; submit"):
            collect(tmp_path / "f", tmp_path / "judge.jsonl")
        assert server.asked == []


def test_one_call_does_the_next_step(tmp_path):
    ends = [lambda asked, number: End(output=[answered(one) for one in asked[1:]]), all_answered]
    with BatchServer(lambda asked, number: ends[number](asked, number)) as server:
        wanted = replace(settings(server, tmp_path), store="")
        out = tmp_path / "judge.jsonl"
        steps = [judge_by_batch(rows(), "vqa", wanted, out, progress=False) for _ in range(7)]
        assert [(step.out, step.summary is not None, step.complete) for step in steps] == [
            (5, False, False),
            (5, False, False),
            (0, True, False),
            (1, False, False),
            (1, False, False),
            (0, True, True),
            (0, True, True),
        ]
        assert (tmp_path / "judge.sqlite").is_file() and (tmp_path / "judge.batch").is_dir()
        assert len(server.batches) == 2 and server.asked == []
