"""Judging predictions: predictions.jsonl in, judge.jsonl and judge.run.json out.

    settings = JudgeSettings(endpoint=Endpoint(base_url="http://127.0.0.1:8000/v1", model="my-model"), repeats=10)
    summary = judge_predictions("predictions.jsonl", "vqa", settings, "judge.jsonl")

judge.jsonl has a line for every prediction and repeat, in that order; what could not be judged stands there as
`failed` with its reason. Nothing in it depends on times or on the order in which answers came: however often a run was
killed and started again, the file is the same as long as the server's answers are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pefomed.disclosure import refuse_credentialed
from pefomed.files import write_json
from pefomed.judge.cost import Tokens
from pefomed.judge.offline import OFFLINE_NAME, offline_score
from pefomed.judge.prompts import PROMPT_VERSION, prompt_sha256
from pefomed.judge.questions import questions
from pefomed.judge.rows import PredictionRows, Row, write_lines
from pefomed.judge.schema import check_task
from pefomed.judge.settings import JudgeSettings, JudgeSummary
from pefomed.judge.store import Judged, JudgeStore
from pefomed.run_record import installed_versions, run_record


def judge_predictions(
    predictions: str | Path | list[Row], task: str, settings: JudgeSettings, out: str | Path, progress: bool = True
) -> JudgeSummary:
    """Judge all predictions in all repeats, going on from what the store holds.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        task: `vqa` or `report`; every row must be of it.
        settings: Whom to ask, how often, within which bounds; or the offline stand-in.
        out: judge.jsonl; replaced if it exists. Beside it come the record (`.run.json`) and the store (`.sqlite`).
        progress: Show the estimate and a bar on stderr.

    Returns:
        The counts. Judging is finished where its `complete` is true; else the same call tries what is left.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Rows are malformed or of another task, hold credentialed data, or key, address or model are wrong.
            What was judged before is kept in the store.
        OSError: The store or the result cannot be written.
    """
    check_task(task)
    out = Path(out)
    store_path = Path(settings.store) if settings.store else out.with_suffix(".sqlite")
    _check_paths(predictions, out, store_path)
    rows = PredictionRows(predictions, task)
    start = time.monotonic()
    counts, models = Counter[str](), Counter[str]()
    if settings.offline:
        write_lines(out, _offline_lines(rows, task, settings.repeats, counts))
        usage, details, stopped = {}, {"model": OFFLINE_NAME}, ""
    else:
        refuse_credentialed(rows, f"send it to {urlsplit(settings.endpoint.base_url).netloc}", settings.agreement)
        with JudgeStore(store_path, settings.lease_s) as store:
            stopped, omitted = _ask(rows, task, settings, store, progress)
            lines = _lines(rows, task, settings, store, stopped or "another process is asking", counts, models)
            write_lines(out, lines)
            usage = store.paid()
        details = _details(task, settings) | {"left_out": omitted, "answered_by": dict(sorted(models.items()))}
    return _summary(out, rows, settings, counts, usage, details, stopped, time.monotonic() - start)


def _check_paths(predictions: str | Path | list[Row], out: Path, store: Path) -> None:
    for name, path in (("out", out), ("store", store)):
        if path.is_dir():
            raise ValueError(f"parameter {name}: {path} is a folder; name a file")
        if not isinstance(predictions, list) and path.resolve() == Path(predictions).resolve():
            raise ValueError(f"parameter {name}: {path} holds the predictions; name another file")
    if out.resolve() == store.resolve():
        raise ValueError(f"parameter store: {store} is to hold the result; name another file")


def _ask(
    rows: PredictionRows, task: str, settings: JudgeSettings, store: JudgeStore, progress: bool
) -> tuple[str, list[str]]:
    """Ask what is not settled; returns why it was stopped, and the parameters that the server does not take."""
    from tqdm import tqdm

    from pefomed.judge.asking import Asking

    if progress:
        print(_estimate(rows, task, settings, store), file=sys.stderr)
    failed = 0
    with tqdm(total=len(rows) * settings.repeats, unit="verdict", disable=not progress, smoothing=0.05) as bar:

        def tick(settled: int, judged: Judged | None) -> None:
            nonlocal failed
            failed += judged is not None and judged.status == "failed"
            if failed:
                bar.set_postfix(failed=failed, refresh=False)
            bar.update(settled - bar.n)

        asking = Asking(task, settings, store, tick)
        run_to_end(asking.ask_all(rows))
    return asking.stopped, sorted(asking.endpoint.omit)


def run_to_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to the end, also inside a notebook, whose own loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait({task})))
    thread.start()
    try:
        thread.join()
    except BaseException:  # the notebook's stop button
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    finally:
        loop.close()
    task.result()


def _estimate(rows: PredictionRows, task: str, settings: JudgeSettings, store: JudgeStore) -> str:
    """What is left to ask, and what it may cost."""
    retry_before = 0.0 if settings.keep_failed else time.time()
    left, tokens = 0, Tokens()
    for question in questions(rows, task, settings):
        if not store.is_settled(question.key, retry_before):
            left, tokens = left + 1, tokens + question.estimate(settings.endpoint)
    text = (
        f"{left:,} of {len(rows) * settings.repeats:,} verdicts to ask for: by estimate {tokens.prompt:,} prompt "
        f"tokens (a quarter of the characters), and at most {tokens.completion:,} completion tokens"
    )
    if not settings.prices.known:
        return text
    cost = settings.prices.cost(tokens)
    return f"{text}; at most about {cost:,.2f} in the prices' currency"


def _lines(
    rows: PredictionRows,
    task: str,
    settings: JudgeSettings,
    store: JudgeStore,
    why_not: str,
    counts: Counter[str],
    models: Counter[str],
) -> Iterator[bytes]:
    """judge.jsonl out of the store; counts what it passes on."""
    for question in questions(rows, task, settings):
        judged = store.get(question.key)
        counts["not_asked" if judged is None else judged.status] += 1
        judged = judged or Judged("failed", error=f"not asked: {why_not}")
        if judged.model:
            models[judged.model] += 1
        yield _line(question.id, question.repeat, judged, settings.endpoint.model, prompt_sha256(task))


def _offline_lines(rows: PredictionRows, task: str, repeats: int, counts: Counter[str]) -> Iterator[bytes]:
    for row in rows:
        judged = Judged("ok", offline_score(row, task))
        for repeat in range(repeats):  # the same verdict each time: nothing of it is left to chance
            counts["ok"] += 1
            yield _line(row["id"], repeat, judged, OFFLINE_NAME, None)


def _line(name: str, repeat: int, judged: Judged, model: str, prompt: str | None) -> bytes:
    value = {
        "id": name,
        "repeat": repeat,
        "score": judged.score,
        "model": model,
        "reply": judged.reply,
        "prompt_sha256": prompt,
        "usage": judged.usage,
        "status": judged.status,
        "error": judged.error,
    }
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")


def _details(task: str, settings: JudgeSettings) -> dict[str, Any]:
    return {
        "model": settings.endpoint.model,
        "base_url": settings.endpoint.base_url,
        "prompt_version": PROMPT_VERSION,
        "prompt_sha256": prompt_sha256(task),
    }


def _summary(
    out: Path,
    rows: PredictionRows,
    settings: JudgeSettings,
    counts: Counter[str],
    usage: dict[str, int],
    details: dict[str, Any],
    stopped: str,
    seconds: float,
) -> JudgeSummary:
    """Write the record beside the result, and say the same in short."""
    spent = Tokens(
        usage.get("prompt_tokens", 0) + usage.get("assumed_prompt_tokens", 0),
        usage.get("completion_tokens", 0) + usage.get("assumed_completion_tokens", 0),
    )
    cost = settings.prices.cost(spent) if settings.prices.known else None
    numbers = {"n": len(rows) * settings.repeats, **{name: counts[name] for name in ("ok", "failed", "not_asked")}}
    parameters = {key: value for key, value in asdict(settings).items() if key != "endpoint"}
    if not settings.offline:
        parameters |= {"endpoint": asdict(settings.endpoint)}
    seeds = {"first_repeat": settings.seed}
    record = run_record(parameters, seeds, rows.sha256, "cpu", {"judge": seconds})
    record["packages"] |= installed_versions(("openai", "pydantic"))
    path = out.with_suffix(".run.json")
    write_json(path, details | {"counts": numbers, "stopped": stopped, "usage": usage, "cost": cost} | record)
    return JudgeSummary(out, path, **numbers, stopped=stopped, usage=usage, cost=cost)
