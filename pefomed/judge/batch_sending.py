"""Sending a judging's questions as batches: input files within the API's bounds, and each batch made once.

A batch is paid for, so it must not be made twice. Before one is made, a random mark of it is written down; the mark
goes into the batch's metadata. After a crash or an answer that did not arrive, the server's batches are searched for
it before another is made.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pefomed.judge.batch_folder import BatchState, Part
from pefomed.judge.batch_lines import URL, one_line, request_line, requested
from pefomed.judge.cost import Tokens
from pefomed.judge.endpoint import make_client
from pefomed.judge.questions import Question, questions
from pefomed.judge.rows import PredictionRows, write_lines
from pefomed.judge.store import JudgeStore

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

# The API's bounds on an input file.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
UPLOAD_TIMEOUT_S = 900.0
_ANOTHER_SEED = 1_000_000  # far beyond any number of repeats
_DAY_S = 86_400.0  # the server's clock may differ from ours
_TRIES, _PAUSE_S = 5, 1.0


def write_parts(state: BatchState, rows: PredictionRows, store: JudgeStore) -> None:
    """Write what is to be asked into input files within the API's bounds.

    Args:
        state: Gets a part for each file, and is saved.
        rows: Predictions.
        store: Says what is settled, and which parameters the server does not take.
    """
    # Whatever was written and never sent is written anew: the store may know more by now.
    state.parts = [part for part in state.parts if part.status != "written"]
    omit = sorted({*state.settings.endpoint.omit, *store.unsupported(endpoint_name(state))})
    endpoint = replace(state.settings.endpoint, omit=tuple(omit))
    number = max((part.round for part in state.parts), default=-1) + 1
    waiting = _to_ask(state, rows, store)
    held = next(waiting, None)
    while held is not None:
        digest, keys, size, most = hashlib.sha256(), 0, 0, Tokens()

        def lines() -> Iterator[bytes]:
            nonlocal held, keys, size, most
            while held is not None and keys < MOST_REQUESTS:
                line = request_line(held, endpoint, state.task, _seed(held, store, number))
                if size and size + len(line) > MOST_BYTES:
                    return
                digest.update(line)  # noqa: B023  the generator is used up within this turn of the loop
                keys, size, most = keys + 1, size + len(line), most + held.most(endpoint, state.task)
                yield line
                held = next(waiting, None)

        name = f"requests-{len(state.parts) + 1:03}.jsonl"
        write_lines(state.folder / name, lines())
        mark = secrets.token_hex(16)
        part = Part(name, digest.hexdigest(), mark, number, keys, most.prompt, most.completion, omit)
        state.parts.append(part)
    state.save()


def _to_ask(state: BatchState, rows: PredictionRows, store: JudgeStore) -> Iterator[Question]:
    """Every question once that has no verdict and is in no batch."""
    taken = {key for part in state.parts if part.status != "collected" for key in requested(state.lines(part))}
    retry_before = 0.0 if state.settings.keep_failed else time.time()
    for question in questions(rows, state.task, state.settings):
        if question.key not in taken and not store.is_settled(question.key, retry_before):
            taken.add(question.key)  # predictions that ask the same share the verdict
            yield question


def _seed(question: Question, store: JudgeStore, number: int) -> int:
    """As in a plain run: the question's own, but another one where that has brought a useless reply."""
    held = store.get(question.key)
    answered = held is not None and bool(held.reply or held.usage)
    return question.seed + (_ANOTHER_SEED * max(1, number) if answered else 0)


def check_budget(state: BatchState, store: JudgeStore) -> None:
    """Raises ValueError where paying for all that is out and all that is to be sent might exceed the bound."""
    budget = state.settings.budget
    if budget is None:
        return
    paid = store.paid()
    spent: Counter[str] = Counter()
    for name, amount in paid.items():
        spent[name.removeprefix("assumed_")] += amount
    most = Tokens(spent["prompt_tokens"], spent["completion_tokens"])
    most = sum((part.most for part in state.parts if part.status != "collected"), most)
    if not budget.allows(most):
        raise ValueError(
            f"parameter max_cost is {budget.most:g}, but the batches and what was paid before may come to "
            f"{budget.prices.cost(most):,.2f}; raise it, or judge fewer predictions or repeats at a time"
        )


async def send(state: BatchState, parts: list[Part]) -> None:
    """Upload input files and make their batches, one after the other.

    Args:
        state: Is saved after every step.
        parts: Those to be sent; one may have a batch already of which we do not know.

    Raises:
        ValueError: The server refuses.
        ConnectionError: It does not answer.
    """
    if not parts:
        return
    async with batch_client(state) as client:
        for part in parts:
            if not part.file_id:
                upload = client.files.create(file=state.folder / part.name, purpose="batch")
                part.file_id = (await told(f"upload of {part.name}", upload)).id
                state.save()
            doubtful = part.status == "creating"
            part.status, part.started = "creating", part.started or time.time()
            state.save()
            found = await _find(client, part) if doubtful else None
            part.batch_id = (found or await _create(client, state, part)).id
            part.status = "sent"
            state.save()


async def _create(client: AsyncOpenAI, state: BatchState, part: Part) -> Batch:
    """Make a batch, once: after a try that brought no answer, whether one was made is looked up."""
    once = client.with_options(max_retries=0)  # the retries of `openai` do not look
    metadata = {"pefomed_part": part.mark, "pefomed_sha256": part.sha256, "pefomed_task": state.task}
    attempt = 0
    while True:
        try:
            making = once.batches.create(
                completion_window="24h", endpoint=URL, input_file_id=part.file_id, metadata=metadata
            )
            return await told(f"batch of {part.name}", making)
        except ValueError:  # refused, so there is none
            part.status = "written"
            state.save()
            raise
        except ConnectionError:
            attempt += 1
            if attempt == _TRIES:
                raise
            await asyncio.sleep(_PAUSE_S * 2**attempt)
            found = await _find(client, part)
            if found is not None:
                return found


async def _find(client: AsyncOpenAI, part: Part) -> Batch | None:
    """The batch that bears a part's mark; None where there is none."""
    page = await told("list of batches", client.batches.list(limit=100))
    while True:
        for batch in page.data:
            if (batch.metadata or {}).get("pefomed_part") == part.mark:
                return batch
        oldest = page.data[-1].created_at if page.data else 0  # the newest come first
        if not page.has_next_page() or (oldest or float("inf")) < part.started - _DAY_S:
            return None
        page = await told("list of batches", page.get_next_page())


async def told(what: str, call: Awaitable[Any]) -> Any:
    """Wait for a call to the server.

    Args:
        what: What it is about, for the message.
        call: The call.

    Raises:
        ValueError: The server refuses, or its answer is none.
        ConnectionError: It does not answer, or only with its own errors.
    """
    import openai

    # `from None`: the original holds the request, which holds the key.
    try:
        answer = await call
    except openai.APIStatusError as error:
        said, status = one_line(str(error)), error.status_code
        if status in (408, 409, 429) or status >= 500:
            raise ConnectionError(f"{what}: the endpoint answers {status}: {said}; call again") from None
        raise ValueError(
            f"{what}: the endpoint answers {status}: {said}; check OPENAI_API_KEY, base_url, and that it has batches"
        ) from None
    except openai.APIConnectionError as error:
        cause = type(error.__cause__ or error).__name__
        raise ConnectionError(f"{what}: no answer ({cause}); call again") from None
    except ValueError:  # a body that is not JSON, though it says so
        raise ConnectionError(f"{what}: the answer is not JSON; check base_url, or call again") from None
    identity = getattr(answer, "id", "none needed")
    if isinstance(answer, str) or not isinstance(identity, str) or not identity:
        raise ConnectionError(f"{what}: the answer is not of the API; check base_url, or call again")
    return answer


def batch_client(state: BatchState) -> AsyncOpenAI:
    """The client of a judging, patient enough for whole files."""
    endpoint = state.settings.endpoint
    return make_client(replace(endpoint, timeout_s=max(endpoint.timeout_s, UPLOAD_TIMEOUT_S)))


def endpoint_name(state: BatchState) -> str:
    """The endpoint and model, as a plain run calls them in the store."""
    return f"{state.settings.endpoint.base_url} {state.settings.endpoint.model}"
