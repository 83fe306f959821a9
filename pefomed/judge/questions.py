"""The questions to a judge: one for each prediction and repeat, with the key under which its verdict is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pefomed.judge.cost import Tokens, estimated_tokens, most_tokens
from pefomed.judge.endpoint import Endpoint
from pefomed.judge.prompts import judge_messages, prompt_sha256
from pefomed.judge.settings import JudgeSettings


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: The prediction's.
        repeat: From 0.
        seed: Goes with the first ask.
        key: SHA-256 of all that can change the answer. Predictions that ask the same share it, and the verdict.
        messages: Chat messages.
    """

    id: str
    repeat: int
    seed: int
    key: str
    messages: list[dict[str, str]]

    def estimate(self, endpoint: Endpoint) -> Tokens:
        """Tokens of one ask, roughly."""
        return Tokens(estimated_tokens(self.messages), endpoint.max_completion_tokens)

    def most(self, endpoint: Endpoint, response_format: dict[str, Any] | None) -> Tokens:
        """Tokens of one ask at most, with or without a JSON schema."""
        return Tokens(most_tokens(self.messages, response_format), endpoint.max_completion_tokens)


def questions(rows: Iterable[dict[str, Any]], task: str, settings: JudgeSettings) -> Iterator[Question]:
    """All questions, in the order of the predictions, then of the repeats.

    Args:
        rows: Predictions.
        task: `vqa` or `report`.
        settings: Their endpoint, seed and repeats make the keys; nothing else of them does.

    Raises:
        ValueError: As for `judge_messages`.
    """
    endpoint = settings.endpoint
    asked = {
        "base_url": endpoint.base_url,
        "model": endpoint.model,
        "prompt_sha256": prompt_sha256(task),
        "temperature": None if endpoint.temperature is None else float(endpoint.temperature),
        "structured": endpoint.structured,
        "max_completion_tokens": endpoint.max_completion_tokens,
    }
    head = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for row in rows:
        messages = judge_messages(row, task)
        body = head.copy()
        body.update(json.dumps(messages, sort_keys=True).encode())
        for repeat in range(settings.repeats):
            whole = body.copy()
            seed = settings.seed + repeat
            whole.update(f"\nrepeat {repeat}, seed {seed}".encode())
            yield Question(row["id"], repeat, seed, whole.hexdigest(), messages)
