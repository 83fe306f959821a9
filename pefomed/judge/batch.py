"""Judging through the Batch API: submit, leave, come back, collect. It costs half and takes up to a day.

    settings = JudgeSettings(endpoint=Endpoint(model="gpt-4o-2024-08-06"), repeats=10, store="judge.sqlite")
    print(submit_batch("predictions.jsonl", "vqa", settings, "judge.batch"))
    print(collect_batch("judge.batch", "judge.jsonl"))    # as often as one likes

Verdicts go into the same store as those of `judge_predictions`, and judge.jsonl is written by it: the result is the
same, and neither asks what the other has asked. What failed, expired or never came back is `failed` with its reason;
submitting again into the same folder asks for that alone.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pefomed.disclosure import refuse_credentialed
from pefomed.judge.batch_folder import STATE_FILE, BatchState, Part, locked, open_state, read_state
from pefomed.judge.batch_lines import Outcome, one_line, read_results, requested, unanswered
from pefomed.judge.batch_sending import batch_client, check_budget, endpoint_name, send, told, write_parts
from pefomed.judge.cost import Tokens
from pefomed.judge.questions import questions
from pefomed.judge.rows import PredictionRows, Row
from pefomed.judge.run import judge_predictions, run_to_end
from pefomed.judge.schema import check_task
from pefomed.judge.settings import JudgeSettings, JudgeSummary
from pefomed.judge.store import JudgeStore

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

ENDED = ("completed", "expired", "cancelled", "failed")


@dataclass(frozen=True)
class BatchProgress:
    """Where a judging by batches stands; as text it says what to do next.

    Attributes:
        folder: The batches' folder.
        unsent: Input files that were written and not sent.
        out: Requests in batches that have not ended.
        statuses: Number of batches by the server's word for their state.
        tally: What came back, over all batches: numbers by name.
        errors: What the server says of batches as a whole.
        summary: Once no batch is out: what came of the judging, as `judge_predictions` returns it.
    """

    folder: Path
    unsent: int
    out: int
    statuses: dict[str, int]
    tally: dict[str, int]
    errors: tuple[str, ...] = ()
    summary: JudgeSummary | None = None

    @property
    def complete(self) -> bool:
        """Whether every prediction was judged in every repeat."""
        return self.summary is not None and self.summary.complete

    def __str__(self) -> str:
        lines = [f"{self.folder}: batches {_counts(self.statuses) or 'none'}; requests under way: {self.out:,}"]
        lines += [f"came back: {_counts(self.tally)}"] if self.tally else []
        lines += [f"the server says: {error}" for error in self.errors]
        if self.unsent:
            lines.append(f"next: submit again; {self.unsent} input files were not sent")
        elif self.out:
            lines.append("next: collect, now and then; a batch takes up to 24 hours")
        elif self.summary is None:
            lines.append("next: collect, which writes the result")
        elif self.summary.complete:
            lines.append(f"judged: all {self.summary.n:,}; result: {self.summary.out}")
        else:
            lines.append(f"judged: {self.summary.ok:,} of {self.summary.n:,}; result: {self.summary.out}")
            lines.append("next: submit again, which asks for the failed alone, and collect")
        return "\n".join(lines)


def submit_batch(
    predictions: str | Path | list[Row],
    task: str,
    settings: JudgeSettings,
    folder: str | Path,
    progress: bool = True,
) -> BatchProgress:
    """Send all questions that the store has no verdict on and that are in no batch yet.

    Called again, it goes on where it was interrupted, and asks again for what failed.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        task: `vqa` or `report`; every row must be of it.
        settings: Whom to ask, how often; of the bounds, only `max_cost` counts: it must cover the most that all
            batches may cost, at the prices given here. `store` is a file in the folder where nothing is said.
        folder: Gets the input files and what must be remembered; one judging a folder.
        progress: Say on stderr what is being sent.

    Returns:
        Where it stands.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Rows are malformed or credentialed, the folder belongs to another judging, the bound on cost would
            be exceeded, or the server refuses. Nothing of credentialed data leaves the machine.
        ConnectionError: The server does not answer. The same call goes on.
    """
    check_task(task)
    if settings.offline:
        raise ValueError("parameter offline: the offline stand-in is asked at once, not by batches")
    rows = PredictionRows(predictions, task)
    refuse_credentialed(rows, f"send it to {urlsplit(settings.endpoint.base_url).netloc}", settings.agreement)
    with locked(Path(folder)):
        state = open_state(rows, task, settings, Path(folder))
        with JudgeStore(state.settings.store, settings.lease_s) as store:
            write_parts(state, rows, store)
            check_budget(state, store)
        unsent = [part for part in state.parts if part.status in ("written", "creating")]
        if progress and unsent:
            most = sum((part.most for part in unsent), Tokens())
            number = sum(part.requests for part in unsent)
            print(f"sending {number:,} requests in {len(unsent)} batches; {_most(most, settings)}", file=sys.stderr)
        run_to_end(send(state, unsent))
        return _progress(state)


def collect_batch(
    folder: str | Path, out: str | Path, wait: bool = False, poll_s: float = 60.0, progress: bool = True
) -> BatchProgress:
    """Look after the batches of a folder, and take over what has ended; once none is out, write judge.jsonl.

    Args:
        folder: As given to `submit_batch`.
        out: judge.jsonl; replaced if it exists. Beside it comes the record (`.run.json`).
        wait: Look again until all batches have ended.
        poll_s: Seconds between two looks.
        progress: Say on stderr how the batches stand, while waiting.

    Returns:
        Where it stands.

    Raises:
        FileNotFoundError: Nothing was submitted into the folder.
        ValueError: The server refuses, or no longer knows a batch.
        ConnectionError: The server does not answer. The same call goes on.
    """
    folder, out = Path(folder), Path(out)
    if out.is_dir():
        raise ValueError(f"parameter out: {out} is a folder; name a file")
    with locked(folder):
        state = read_state(folder)
        while True:
            with JudgeStore(state.settings.store, state.settings.lease_s) as store:
                run_to_end(_collect(state, store))
            if not wait or not any(part.status == "sent" for part in state.parts):
                break
            if progress:
                print(_counts(_progress(state).statuses), file=sys.stderr)
            time.sleep(poll_s)
        if any(part.status != "collected" for part in state.parts):
            return _progress(state)
        _check_settled(state)
        # Nothing is left to ask: this writes what the store holds, just as after any other run.
        settled = replace(state.settings, keep_failed=True)
        summary = judge_predictions(state.predictions, state.task, settled, out, progress=False)
        return replace(_progress(state), summary=summary)


def judge_by_batch(
    predictions: str | Path | list[Row],
    task: str,
    settings: JudgeSettings,
    out: str | Path,
    wait: bool = False,
    progress: bool = True,
) -> BatchProgress:
    """Do the next step, whichever it is: submit, look after what is out, write the result, ask again for what failed.

    Args:
        predictions: As for `submit_batch`.
        task: `vqa` or `report`.
        settings: As for `submit_batch`; the store is beside the result where nothing is said.
        out: judge.jsonl; the folder of the batches is beside it, with the ending `.batch`.
        wait: Stay until the result is written.
        progress: Say on stderr what is going on.

    Returns:
        Where it stands; as text, what comes next. With a `summary` that is not complete, some verdicts are missing.

    Raises:
        FileNotFoundError: As for `submit_batch`.
        ValueError: As for `submit_batch` and `collect_batch`.
        ConnectionError: The server does not answer. The same call goes on.
    """
    out = Path(out)
    folder = out.with_suffix(".batch")
    settings = replace(settings, store=settings.store or str(out.with_suffix(".sqlite")))
    under_way = (folder / STATE_FILE).is_file() and any(part.status == "sent" for part in read_state(folder).parts)
    if not under_way:
        submitted = submit_batch(predictions, task, settings, folder, progress)
        if submitted.out and not wait:
            return submitted
    return collect_batch(folder, out, wait, progress=progress)


def _check_settled(state: BatchState) -> None:
    """Raises ValueError where writing the result would mean asking, at the full price."""
    with JudgeStore(state.settings.store, state.settings.lease_s) as store:
        rows = PredictionRows(state.predictions, state.task)
        asked = questions(rows, state.task, state.settings)
        missing = sum(not store.is_settled(question.key) for question in asked)
    if missing:
        raise ValueError(f"{state.settings.store}: {missing:,} verdicts are in no batch; submit into the folder again")


async def _collect(state: BatchState, store: JudgeStore) -> None:
    """Look at every batch that is out once."""
    sent = [part for part in state.parts if part.status == "sent"]
    if not sent:
        return
    async with batch_client(state) as client:
        for part in sent:
            batch = await told(f"batch {part.batch_id}", client.batches.retrieve(part.batch_id))
            part.batch_status = batch.status
            if batch.status in ENDED and await _take_over(state, part, batch, client, store):
                part.status = "collected"
            state.save()


async def _take_over(state: BatchState, part: Part, batch: Batch, client: AsyncOpenAI, store: JudgeStore) -> bool:
    """Put what a batch has brought into the store; False where another process is asking some of it just now."""
    contents = []
    for name in (batch.output_file_id, batch.error_file_id):
        if name:
            contents.append((await told(f"file {name}", client.files.content(name))).content)
    asked = requested(state.lines(part))
    results = read_results(contents, asked, state.task, state.endpoint(part))
    said = batch.errors.data if batch.errors and batch.errors.data else []
    part.errors = [one_line(f"{error.code}: {error.message}") for error in said[:5]]
    reason = "; ".join([f"batch {batch.id} ended as {batch.status} without a result for this request", *part.errors])
    tally: Counter[str] = Counter(doubled=results.doubled, strange=results.strange, unreadable=results.unreadable)
    busy = 0
    for key in asked:
        outcome = results.outcomes.get(key) or unanswered(reason)
        tally["missing"] += key not in results.outcomes
        tally[outcome.judged.status] += 1
        if outcome.unsupported:
            store.note_unsupported(endpoint_name(state), outcome.unsupported)
        busy += not _put(store, key, outcome, part.started)
    part.tally = {name: number for name, number in tally.items() if number}
    return not busy


def _put(store: JudgeStore, key: str, outcome: Outcome, started: float) -> bool:
    """Store one outcome, once: a former call may have been killed after it. False where another process asks."""
    claimed = store.claim(key, Tokens(), Tokens(), started)
    if claimed == "ours":
        store.finish(key, outcome.judged, **outcome.paid)
        return True
    held = store.get(key)
    if outcome.judged.status == "ok" and (held is None or held.status == "failed"):
        # A verdict counts, whoever else is asking or has failed since.
        store.finish(key, outcome.judged, **outcome.paid)
        return True
    return claimed == "settled"


def _progress(state: BatchState) -> BatchProgress:
    tally: Counter[str] = Counter()
    for part in state.parts:
        tally.update(part.tally)
    sent = [part for part in state.parts if part.status in ("sent", "collected")]
    return BatchProgress(
        state.folder,
        unsent=len(state.parts) - len(sent),
        out=sum(part.requests for part in sent if part.status == "sent"),
        statuses=dict(Counter(part.batch_status or "submitted" for part in sent)),
        tally=dict(tally),
        errors=tuple(error for part in state.parts for error in part.errors),
    )


def _most(most: Tokens, settings: JudgeSettings) -> str:
    text = f"at most {most.prompt:,} prompt tokens and {most.completion:,} completion tokens"
    if not settings.prices.known:
        return text
    return f"{text}, {settings.prices.cost(most):,.2f} in the prices' currency"


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())
