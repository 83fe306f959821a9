"""Words that a prediction and the true answer have in common: LLaVA-Med's measure for open questions."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pefomed.metrics.normalise import normalise

# Answers repeat, and several scores normalise the same ones.
_normalised = lru_cache(maxsize=50_000)(normalise)


class TokenOverlap(NamedTuple):
    """Shares, 0 to 1, of two texts' words that are common to both."""

    recall: float
    precision: float
    f1: float


def token_overlap(prediction: str, answer: str, normaliser: str = "medvqa") -> TokenOverlap:
    """Recall, precision and F1 of the answer's words in a prediction (recall: Li et al. 2023, LLaVA-Med).

    Both sides are normalised and taken as sets of words, so neither order nor repetition counts; LLaVA-Med's published
    code weighs a common word by how often the prediction says it, which differs only where words are repeated.

    Args:
        prediction: The model's answer.
        answer: The true answer.
        normaliser: `medvqa` (as published) or `repaired`.

    Returns:
        Shares, 0 to 1; all are 0 where a side has no word.

    Raises:
        ValueError: There is no such normaliser.
    """
    wanted = set(_normalised(answer, normaliser).split())
    told = set(_normalised(prediction, normaliser).split())
    common = len(wanted & told)
    if not common:
        return TokenOverlap(0.0, 0.0, 0.0)
    return TokenOverlap(common / len(wanted), common / len(told), 2 * common / (len(wanted) + len(told)))
