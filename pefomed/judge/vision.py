"""Baselines by a vision endpoint: the questions themselves, with their pictures, into predictions.jsonl.

    settings = VisionSettings(endpoint=Endpoint(model="gpt-4o-2024-08-06", max_completion_tokens=100))
    rows = load_dataset("vqa_rad", "data/vqa_rad", "test")
    print(answer_questions(rows, settings, "runs/gpt-4o/predictions.jsonl"))

This is the zero-shot row of the paper's Table 2 (there: GPT-4V). Pictures are decoded, scaled down and encoded anew:
no file name and no metadata leave the machine. A question without an answer has no prediction: it is listed with its
reason, and asked again by the same call; predictions.jsonl appears once all are answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pefomed import files
from pefomed.disclosure import refuse_credentialed
from pefomed.judge.endpoint import OPTIONAL_PARAMETERS, Endpoint, ask, make_client
from pefomed.judge.errors import AskError, BadReply, NoAnswer, Refusal, Unsupported, WrongEndpoint
from pefomed.judge.run import run_to_end
from pefomed.judge.vision_messages import ENCODINGS, PROMPT, Row, question_text, vision_messages
from pefomed.predictions import KEYS, PredictionWriter
from pefomed.run_record import installed_versions, run_record

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ANOTHER_SEED = 1_000_000  # goes with the next ask after a useless reply


@dataclass(frozen=True)
class VisionSettings:
    """How to ask.

    Attributes:
        endpoint: Whom to ask; of its bounds, `concurrency` counts, and tokens in flight do not.
        largest_side: Pictures are scaled down to this many pixels on their longer side; smaller ones stay as they are.
        encoding: `png`, or `jpeg` at quality 95.
        seed: Goes with every ask, where the server takes seeds.
        attempts: Asks for one answer, as long as useless replies come.
        refusals_as_answers: Take the text of a refusal for the answer, as a reader would; it counts as wrong.
        agreement: Name of the use agreement under which credentialed data may be sent; see `pefomed.disclosure`.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    largest_side: int = 1024
    encoding: str = "png"
    seed: int = 0
    attempts: int = 3
    refusals_as_answers: bool = False
    agreement: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what can never work."""
        for name, least in (("largest_side", 16), ("seed", 0), ("attempts", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"parameter {name} is {value!r}; it must be a whole number of at least {least}")
        if self.encoding not in ENCODINGS:
            raise ValueError(f"parameter encoding is {self.encoding!r}; it must be one of {', '.join(ENCODINGS)}")


@dataclass(frozen=True)
class VisionSummary:
    """What came of it; as text it says so.

    Attributes:
        out: predictions.jsonl; it is there if `complete`.
        n: Questions.
        answered: Those that have an answer by now.
        failures: Reason by id, of those that were asked for in vain by this call.
        not_asked: Left when asking was stopped.
        stopped: Why it was stopped; "" where it was not.
        usage: Tokens of this call as the server states them, and counts of requests, refusals and others.
    """

    out: Path
    n: int
    answered: int
    failures: dict[str, str]
    not_asked: int
    stopped: str
    usage: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every question has an answer."""
        return self.answered == self.n

    def __str__(self) -> str:
        lines = [
            f"{self.answered:,} of {self.n:,} answered, {len(self.failures):,} failed, {self.not_asked:,} not asked"
        ]
        lines += [f"stopped: {self.stopped}"] if self.stopped else []
        if self.usage:
            counts = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in self.usage.items())
            lines.append(f"this call: {counts}")
        if self.failures:
            lines.append(f"reasons: {failures_file(self.out)}")
        lines.append(f"predictions: {self.out}" if self.complete else "the same call asks for what is missing")
        return "\n".join(lines)


def failures_file(out: Path) -> Path:
    """Where the failed questions of the last call are listed, beside predictions.jsonl."""
    return out.with_suffix(".failed.jsonl")


def answer_questions(
    rows: Sequence[Row], settings: VisionSettings, out: str | Path, progress: bool = True
) -> VisionSummary:
    """Ask all questions that have no answer yet.

    Args:
        rows: Rows of the schema (`pefomed.data.example`), all of the task `vqa`; a `datasets.Dataset` or a list.
        settings: Whom to ask, and how.
        out: predictions.jsonl. Beside it come the record (`.run.json`) and the list of failures (`.failed.jsonl`).
        progress: Show a bar on stderr.

    Returns:
        The counts. Where its `complete` is false, the same call goes on.

    Raises:
        ValueError: There are no rows, or rows of another task or of credentialed data, or key, address or model are
            wrong. What was answered before is kept.
        OSError: The answers cannot be written.
    """
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"parameter out: {out} is a folder; name a file")
    ids, fingerprint = _checked(rows, settings)
    start = time.monotonic()
    with PredictionWriter(out, fingerprint) as writer:
        asking = _Asking(rows, settings, writer)
        run_to_end(asking.ask_all(progress))
        answered = len(writer.done_ids)
        left_out = sorted(set(asking.endpoint.omit))
        if answered == len(ids):
            writer.finish(ids)
    failures = {name: asking.failures[name] for name in ids if name in asking.failures}
    left = len(ids) - answered - len(failures)
    summary = VisionSummary(out, len(ids), answered, failures, left, asking.stopped, dict(asking.usage))
    _write_beside(summary, settings, fingerprint, left_out, time.monotonic() - start)
    return summary


class _Asking:
    """One call: workers that take the next question, ask it and write the answer down."""

    def __init__(self, rows: Sequence[Row], settings: VisionSettings, writer: PredictionWriter) -> None:
        self.rows, self.settings, self.writer = rows, settings, writer
        self.endpoint = settings.endpoint
        self.failures: dict[str, str] = {}
        self.usage: Counter[str] = Counter()
        self.stopped = ""
        self._silent = 0

    async def ask_all(self, progress: bool) -> None:
        """Ask what has no answer yet.

        Raises:
            WrongEndpoint: Key, address or model are wrong.
            OSError: The answers cannot be written.
        """
        from tqdm import tqdm

        done = set(self.writer.done_ids)
        waiting = iter([index for index, name in enumerate(_column(self.rows, "id")) if name not in done])
        with tqdm(total=len(self.rows), initial=len(done), unit="answer", disable=not progress) as bar:
            try:
                async with make_client(self.endpoint) as client, asyncio.TaskGroup() as group:
                    for _ in range(self.endpoint.concurrency):
                        group.create_task(self._work(waiting, client, bar))
            except* (OSError, ValueError) as found:
                raise found.exceptions[0] from None

    async def _work(self, waiting: Iterator[int], client: AsyncOpenAI, bar: Any) -> None:
        for index in waiting:
            row = self.rows[index]
            try:
                await self._answer(row, client)
            except WrongEndpoint:
                raise
            except AskError as error:
                self._note_failure(row["id"], error)
            bar.update()
            bar.set_postfix({"failed": len(self.failures)} if self.failures else {}, refresh=False)
            if self.stopped:
                return

    async def _answer(self, row: Row, client: AsyncOpenAI) -> None:
        size, encoding = self.settings.largest_side, self.settings.encoding
        try:
            # In a thread: decoding a large picture must not hold up the others' answers.
            messages = await asyncio.to_thread(vision_messages, row, size, encoding)
        except (FileNotFoundError, ValueError) as error:
            self.failures[row["id"]] = " ".join(str(error).split())
            self.usage["unusable_pictures"] += 1
            return
        answer = await self._ask(messages, client)
        self._silent = 0
        self.writer.append([_prediction(row, self.settings, answer)])

    async def _ask(self, messages: list[dict[str, Any]], client: AsyncOpenAI) -> dict[str, Any]:
        """Ask until there is an answer; returns what it adds to the prediction."""
        attempt = 1
        while True:
            try:
                seed = self.settings.seed + _ANOTHER_SEED * (attempt - 1)
                reply = await ask(client, self.endpoint, messages, None, seed)
                self._count(reply.usage)
                return {"prediction": reply.text.strip(), "answered_by": reply.model, "usage": reply.usage}
            except Unsupported as error:
                if error.parameter not in OPTIONAL_PARAMETERS or error.parameter in self.settings.endpoint.omit:
                    raise
                # Several workers may find out at the same time.
                omit = tuple(dict.fromkeys((*self.endpoint.omit, error.parameter)))
                self.endpoint = replace(self.endpoint, omit=omit)
            except AskError as error:
                if error.answered:
                    self._count(error.usage)
                if isinstance(error, Refusal):
                    self.usage["refusals"] += 1
                    if self.settings.refusals_as_answers:
                        said = {"prediction": error.text.strip() or str(error), "refused": True}
                        return {**said, "usage": error.usage}
                if not isinstance(error, BadReply) or attempt == self.settings.attempts:
                    raise
                attempt += 1

    def _note_failure(self, name: str, error: AskError) -> None:
        """List a failure; after many requests without any answer in between, stop."""
        self.failures[name] = str(error)
        self._silent = self._silent + 1 if isinstance(error, NoAnswer) else 0
        if self._silent >= max(20, 2 * self.endpoint.concurrency):
            self.stopped = f"the endpoint left {self._silent} requests in a row without an answer, the last: {error}"

    def _count(self, usage: dict[str, int]) -> None:
        self.usage["requests"] += 1
        self.usage.update(usage or {"unreported": 1})


def _checked(rows: Sequence[Row], settings: VisionSettings) -> tuple[list[str], str]:
    """Ids in order, and a fingerprint of everything that can change an answer but the pictures themselves."""
    asked, what = [], f"send it to {urlsplit(settings.endpoint.base_url).netloc}"
    texts = [_column(rows, key) for key in ("id", "dataset", "task", "question", "answer")]
    for number, (name, dataset, task, question, answer) in enumerate(zip(*texts, strict=True), start=1):
        if task != "vqa" or not isinstance(question, str):
            raise ValueError(f"rows, row {number} (id {name!r}): task {task!r} is not 'vqa'; only questions are asked")
        refuse_credentialed([{"id": name, "dataset": dataset}], what, settings.agreement)
        asked.append([name, question, answer])
    if not asked:
        raise ValueError("there are no questions to ask; give at least one row")
    endpoint = settings.endpoint
    how = [PROMPT, endpoint.base_url, endpoint.model, endpoint.temperature, endpoint.max_completion_tokens]
    how += [settings.largest_side, settings.encoding, settings.seed, settings.refusals_as_answers]
    text = json.dumps([how, asked], sort_keys=True)
    return [name for name, _, _ in asked], hashlib.sha256(text.encode("ascii")).hexdigest()


def _column(rows: Sequence[Row], key: str) -> list[Any]:
    # A data set gives a column without reading the pictures of its rows.
    return [row.get(key) for row in rows] if isinstance(rows, list) else list(rows[key])


def _prediction(row: Row, settings: VisionSettings, answer: dict[str, Any]) -> Row:
    """One line of predictions.jsonl, its keys in the file's order, then what the endpoint told beside the answer."""
    made = {"instruction": f"{PROMPT}\n\n{question_text(row)}", "prediction": answer["prediction"]}
    made |= {"model": settings.endpoint.model, "condition": "zero_shot"}
    return {key: made.get(key, row.get(key)) for key in KEYS} | {k: v for k, v in answer.items() if k not in made}


def _write_beside(
    summary: VisionSummary, settings: VisionSettings, fingerprint: str, left_out: list[str], seconds: float
) -> None:
    listed = failures_file(summary.out)
    if summary.failures:
        lines = (json.dumps({"id": name, "error": error}) for name, error in summary.failures.items())
        files.write_text(listed, "\n".join(lines) + "\n")
    else:
        listed.unlink(missing_ok=True)
    counts = {"n": summary.n, "answered": summary.answered, "failed": len(summary.failures)}
    counts["not_asked"] = summary.not_asked
    details = {"model": settings.endpoint.model, "base_url": settings.endpoint.base_url, "left_out": left_out}
    details |= {"counts": counts, "stopped": summary.stopped, "usage": summary.usage}
    record = run_record(asdict(settings), settings.seed, fingerprint, "none (asks an endpoint)", {"answer": seconds})
    record["packages"] |= installed_versions(("openai",))
    files.write_json(summary.out.with_suffix(".run.json"), details | record)
