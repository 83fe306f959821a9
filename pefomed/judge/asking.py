"""Asking all questions of a run: bounded in requests, tokens and money, each answer stored as it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pefomed.judge.cost import Tokens, usage_tokens
from pefomed.judge.endpoint import ask, make_client
from pefomed.judge.errors import AskError, BadReply, NoAnswer, Unsupported, WrongEndpoint
from pefomed.judge.questions import Question, questions
from pefomed.judge.schema import parse_plain_reply, parse_reply, response_format
from pefomed.judge.settings import JudgeSettings
from pefomed.judge.store import Judged, JudgeStore

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ANOTHER_SEED = 1_000_000  # far beyond any number of repeats


class Asking:
    """One run over all questions.

    Attributes:
        stopped: Why asking was stopped before its end; "" where it was not.
    """

    def __init__(
        self, task: str, settings: JudgeSettings, store: JudgeStore, tick: Callable[[int, Judged | None], None]
    ) -> None:
        """Prepare.

        Args:
            task: `vqa` or `report`.
            settings: How to ask.
            store: Where questions are claimed and answers kept.
            tick: Is told the number of questions that are settled, and the last one's outcome if it came just now.
        """
        self.task, self.settings, self.store, self._tick = task, settings, store, tick
        self.stopped = ""
        self._wrong: WrongEndpoint | None = None
        self._name = f"{settings.endpoint.base_url} {settings.endpoint.model}"
        omit = dict.fromkeys((*settings.endpoint.omit, *store.unsupported(self._name)))
        self.endpoint = replace(settings.endpoint, omit=tuple(omit))
        self._form = response_format(task) if settings.endpoint.structured else None
        self._settled = self._running = self._tokens = self._silent = 0
        self._changed = asyncio.Event()
        # What failed from now on is not tried again in this run, whichever process tried it.
        self._retry_before = 0.0 if settings.keep_failed else time.time()

    async def ask_all(self, rows: Iterable[dict[str, Any]]) -> None:
        """Ask all that is not settled, and wait for what other processes are asking.

        Args:
            rows: Predictions; gone through once, and again for what was busy.

        Raises:
            WrongEndpoint: Key, address or model are wrong.
            OSError: The store cannot be written.
        """
        heart = asyncio.create_task(self._renew())
        try:
            async with make_client(self.endpoint) as client:
                while await self._sweep(rows, client) and not self.stopped:
                    await asyncio.sleep(min(1.0, self.settings.lease_s / 4))
        except ExceptionGroup as group:  # one store, one cause: a full disk need not be told by every task
            raise group.exceptions[0] from None
        finally:
            heart.cancel()
        if self._wrong:
            raise self._wrong

    async def _sweep(self, rows: Iterable[dict[str, Any]], client: AsyncOpenAI) -> int:
        """Go through all questions; returns how many another process was asking."""
        self._settled = busy = 0
        async with asyncio.TaskGroup() as group:
            for number, question in enumerate(questions(rows, self.task, self.settings)):
                if number % 20 == 0:  # a long row of settled ones must not keep replies and leases waiting
                    await asyncio.sleep(0)
                state = "settled"
                if not self.store.is_settled(question.key, self._retry_before):
                    state = await self._admit(question)
                if self.stopped:
                    break
                if state == "ours":
                    group.create_task(self._settle(question, client))
                elif state == "settled":
                    self._count(None)
                else:
                    busy += 1
        return busy

    async def _admit(self, question: Question) -> str:
        """Wait until the bounds allow one more request, and claim the question."""
        size = question.estimate(self.endpoint).total
        most = question.most(self.endpoint, self._form)
        reserve, bounds = most * self.settings.attempts, self.settings.endpoint
        while not self.stopped:
            fits = self._running == 0 or self._tokens + size <= bounds.max_tokens_in_flight
            if self._running < bounds.concurrency and fits:
                budget = self.settings.budget
                state = self.store.claim(question.key, reserve, most, self._retry_before, budget)
                if state == "ours":
                    self._running, self._tokens = self._running + 1, self._tokens + size
                if state != "too dear":
                    return state
                if not self._running:
                    self.stopped = f"one more request might exceed max_cost {self.settings.max_cost:g}"
                    break
            self._changed.clear()
            await self._changed.wait()
        return "stopped"

    async def _settle(self, question: Question, client: AsyncOpenAI) -> None:
        try:
            judged, paid = await self._ask(question, client)
            self.store.finish(question.key, judged, **paid)
            self._count(judged)
        except WrongEndpoint as error:
            self.store.unclaim(question.key)
            self._wrong, self.stopped = error, str(error)
        finally:
            self._running -= 1
            self._tokens -= question.estimate(self.endpoint).total
            self._changed.set()

    async def _ask(self, question: Question, client: AsyncOpenAI) -> tuple[Judged, dict[str, int]]:
        """Ask until there is a verdict, a reason why there is none, or the last attempt; and what that ask cost."""
        attempt = 1
        while True:
            endpoint = self.endpoint
            form = None if "response_format" in endpoint.omit else self._form
            seed = question.seed + _ANOTHER_SEED * (attempt - 1)
            try:
                reply = await ask(client, endpoint, question.messages, form, seed)
                self._silent = 0
                paid = self._paid(question, reply.usage) | {"retries": reply.retries}
                try:
                    score = (parse_reply if form else parse_plain_reply)(reply.text, self.task)
                except ValueError as error:
                    self.store.pay(retries=reply.retries)
                    raise BadReply(str(error), reply.usage, reply.text, answered=True) from error
                return Judged("ok", score, reply.text, reply.usage, "", reply.model), paid
            except Unsupported as error:
                self._leave_out(error.parameter)  # each at most once, as what was not sent is not complained of
            except WrongEndpoint:
                raise
            except AskError as error:
                paid = self._paid(question, error.usage) if error.answered else {"unanswered": 1}
                failed = Judged("failed", None, error.text, error.usage, self._reason(error, attempt))
                if not isinstance(error, BadReply) or attempt == self.settings.attempts:
                    return failed, paid | {"malformed": int(isinstance(error, BadReply))}
                self.store.pay(**paid, malformed=1)
                attempt += 1

    def _reason(self, error: AskError, attempt: int) -> str:
        """One line for the failed; after many requests without any answer in between, asking is stopped."""
        if not isinstance(error, NoAnswer):
            self._silent = 0
            return f"{error}; asked {attempt} times" if attempt > 1 else str(error)
        self._silent += 1
        if self._silent >= max(20, 2 * self.settings.endpoint.concurrency):
            self.stopped = f"the endpoint left {self._silent} requests in a row without an answer, the last: {error}"
        return str(error)

    def _leave_out(self, parameter: str) -> None:
        """Do without a parameter from now on, in this run and in later ones with this store."""
        if parameter not in self.endpoint.omit:
            self.store.note_unsupported(self._name, parameter)
            self.endpoint = replace(self.endpoint, omit=(*self.endpoint.omit, parameter))

    def _paid(self, question: Question, usage: dict[str, int]) -> dict[str, int]:
        tokens = usage_tokens(usage)
        if tokens:
            return {"requests": 1, "prompt_tokens": tokens.prompt, "completion_tokens": tokens.completion}
        most: Tokens = question.most(self.endpoint, self._form)
        assumed = {"assumed_prompt_tokens": most.prompt, "assumed_completion_tokens": most.completion}
        return {"requests": 1, "unreported": 1, **assumed}

    def _count(self, judged: Judged | None) -> None:
        self._settled += 1
        self._tick(self._settled, judged)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.settings.lease_s / 4)
            self.store.renew()
