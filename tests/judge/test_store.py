"""The store: claims and leases, what is paid, budgets, files that are none."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pefomed.judge.cost import Budget, Prices, Tokens, estimated_tokens, most_tokens
from pefomed.judge.store import Judged, JudgeStore

SIZE = Tokens(100, 10)
VERDICT = Judged("ok", 1, '{"score": 1}', {"prompt_tokens": 90, "completion_tokens": 5}, "", "m-2024")
FAILURE = Judged("failed", error="no answer")
BUDGET = Budget(Prices(10_000, 100_000), 2.0)  # one ask of SIZE costs 2


@pytest.fixture
def store(tmp_path):
    with JudgeStore(tmp_path / "judge.sqlite") as store:
        yield store


@pytest.fixture
def other(tmp_path, store):
    """The same store in what might be another process."""
    with JudgeStore(tmp_path / "judge.sqlite") as other:
        yield other


def test_a_verdict_is_kept_as_it_was_given(store, tmp_path) -> None:
    assert store.get("k") is None and not store.is_settled("k")
    assert store.claim("k", SIZE) == "ours"
    assert store.get("k") is None
    store.finish("k", VERDICT, requests=1, prompt_tokens=90)
    assert store.get("k") == VERDICT and store.is_settled("k")
    with JudgeStore(tmp_path / "judge.sqlite") as again:
        assert again.get("k") == VERDICT and again.claim("k", SIZE) == "settled"
        assert again.paid() == {"prompt_tokens": 90, "requests": 1}


def test_what_one_asks_the_other_does_not(store, other) -> None:
    assert store.claim("k", SIZE) == "ours"
    assert other.claim("k", SIZE) == "busy"
    store.finish("k", VERDICT)
    assert other.claim("k", SIZE) == "settled" and other.get("k") == VERDICT


def test_the_claim_of_the_dead_is_taken_over_and_counted(tmp_path) -> None:
    dead = JudgeStore(tmp_path / "s", lease_s=0.1)
    living = JudgeStore(tmp_path / "s", lease_s=0.1)
    dead.claim("k", SIZE)
    time.sleep(0.15)
    assert living.claim("k", SIZE) == "ours"
    assert living.paid() == {"lost": 1, "assumed_prompt_tokens": 100, "assumed_completion_tokens": 10}
    # A late verdict of the one that seemed dead counts, as it is paid; a late failure does not.
    dead.finish("k", FAILURE)
    assert living.get("k") is None
    dead.finish("k", VERDICT)
    living.finish("k", FAILURE)
    assert living.get("k") == VERDICT


def test_a_claim_is_kept_by_renewing(tmp_path) -> None:
    living, other = JudgeStore(tmp_path / "s", lease_s=0.4), JudgeStore(tmp_path / "s", lease_s=0.4)
    living.claim("k", SIZE)
    for _ in range(6):
        time.sleep(0.1)
        living.renew()
    assert other.claim("k", SIZE) == "busy"


def test_closing_gives_claims_back(store, other) -> None:
    store.claim("asked", SIZE)
    store.claim("not asked", SIZE)
    store.unclaim("not asked")
    store.release()
    assert other.claim("asked", SIZE) == "ours" and other.claim("not asked", SIZE) == "ours"
    assert other.paid()["lost"] == 1


def test_nobody_gives_back_what_another_has_claimed(store, other) -> None:
    store.claim("k", SIZE)
    other.unclaim("k")
    other.release()
    assert other.claim("k", SIZE) == "busy"


def test_failures_are_tried_again_by_later_runs_only(store) -> None:
    before = time.time()
    store.claim("k", SIZE)
    store.finish("k", FAILURE)
    assert store.get("k") == FAILURE
    assert store.claim("k", SIZE, retry_failed_before=before) == "settled"
    assert store.claim("k", SIZE, retry_failed_before=0.0) == "settled"
    assert store.claim("k", SIZE, retry_failed_before=time.time() + 1) == "ours"


def test_the_budget_counts_what_is_paid_assumed_and_under_way_in_all_processes(store, other) -> None:
    cheap = Budget(BUDGET.prices, 5.0)
    assert store.claim("1", SIZE, budget=cheap) == "ours"
    assert other.claim("2", SIZE, budget=cheap) == "ours"
    assert store.claim("3", SIZE, budget=cheap) == "too dear"
    other.finish("2", VERDICT, prompt_tokens=50)  # half a unit instead of two
    assert store.claim("3", SIZE, budget=cheap) == "ours"
    assert store.claim("4", SIZE, budget=cheap) == "too dear"
    assert store.claim("2", SIZE, budget=cheap) == "settled"  # what is there costs nothing
    store.finish("1", VERDICT, prompt_tokens=50)
    store.pay(assumed_completion_tokens=20)
    assert store.claim("4", SIZE, budget=cheap) == "too dear"


def test_what_a_server_does_not_take_is_remembered_for_that_server(store, other) -> None:
    store.note_unsupported("http://a m", "seed")
    store.note_unsupported("http://a m", "seed")
    assert other.unsupported("http://a m") == ("seed",) and other.unsupported("http://b m") == ()


CLAIMING = """
import sys
from pefomed.judge.cost import Tokens
from pefomed.judge.store import JudgeStore
store = JudgeStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(sum(store.claim(str(key), Tokens(1, 1)) == "ours" for key in range(300)), flush=True)
sys.stdin.readline()
"""


def test_processes_that_claim_at_the_same_time_get_each_key_once(tmp_path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", CLAIMING, str(tmp_path / "s")]
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]  # they also make the store at the same time
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    shares = [int(process.stdout.readline()) for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert sum(shares) == 300


def test_other_files_are_left_alone(tmp_path) -> None:
    (tmp_path / "text").write_bytes(b"predictions and more" * 100)
    with pytest.raises(ValueError, match="text: not a judge's store"):
        JudgeStore(tmp_path / "text")
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.commit()
    foreign.close()
    before = (tmp_path / "foreign").read_bytes()
    with pytest.raises(ValueError, match="foreign: a database of another program"):
        JudgeStore(tmp_path / "foreign")
    assert (tmp_path / "foreign").read_bytes() == before


def test_a_store_of_another_version_is_told(tmp_path) -> None:
    JudgeStore(tmp_path / "s").close()
    changed = sqlite3.connect(tmp_path / "s")
    changed.execute("PRAGMA user_version = 7")
    changed.close()
    with pytest.raises(ValueError, match="version 7"):
        JudgeStore(tmp_path / "s")


def test_a_folder_is_no_store(tmp_path) -> None:
    with pytest.raises(OSError, match=str(Path(tmp_path).name)):
        JudgeStore(tmp_path)


def test_prices_and_budgets() -> None:
    assert Prices(2.5, 10.0).cost(Tokens(1_000_000, 50_000)) == 3.0
    assert Prices().cost(Tokens(5, 5)) == 0 and not Prices().known
    assert Budget(Prices(1_000_000, 0), 3).allows(Tokens(3, 9)) and not BUDGET.allows(Tokens(201, 0))
    for prices in ((1.0, None), (None, 1.0), (-1.0, 1.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="parameter price_"):
            Prices(*prices)
    with pytest.raises(ValueError, match="max_cost needs the prices"):
        Budget(Prices(), 1.0)
    with pytest.raises(ValueError, match="max_cost is 0"):
        Budget(Prices(1, 1), 0)


def test_no_text_has_more_tokens_than_are_set_aside_for_it() -> None:
    text = "pleural effusion " * 40 + "\u4e2d" * 10
    messages = [{"role": "user", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]}]
    assert most_tokens(messages, None) >= 2 * len(text.encode())
    assert most_tokens(messages, {"type": "json_schema"}) > most_tokens(messages, None) > estimated_tokens(messages)
    assert estimated_tokens(messages) >= 2 * (len(text) // 4)
