"""How much generated texts repeat themselves, which small models do where they do not know how to go on.

    repetition_scores("run/predictions.jsonl")["repeated_sentence"]

The same is counted in the true texts, because these repeat themselves too: two findings are told in like words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
SIDES = ("prediction", "answer")
NGRAM = 4
_SENTENCE_END = re.compile(r"[.!?;]+(?=\s|$)|\n")
# A word may hold a mark inside: x-ray, 3.5, patient's.
_WORD = re.compile(r"\w+(?:[-.'’/]\w+)*")


def repetition_scores(predictions: str | Path | list[Row]) -> dict[str, Any]:
    """Repeated sentences, repeated runs of four words, and loops, of generated and of true texts.

    Letter case and punctuation do not count. Whether a text was cut at the bound on its tokens cannot be seen in it:
    that is told only for rows with the key `stopped` (true where the model ended the text itself).

    Args:
        predictions: The path of a predictions.jsonl, or its rows, of any data set and task.

    Returns:
        `n` (texts) and, each as {"prediction", "answer"}:
        `repeated_sentence`, per cent of texts in which a sentence occurs twice;
        `repeated_4grams`, mean per cent of a text's runs of four words that occurred in it before, which is
        1 - distinct / all, over the texts with at least four words; None where there are none;
        `longest_loop`, words in the longest stretch of any text in which the same words are said again and again
        without another between them (see the function of that name).
        `cut` is {"n": rows with `stopped`, "share": per cent of them that were cut}, or None without such rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no rows, one is malformed, or its `stopped` is neither true, false nor null.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else str(predictions)
    if not rows:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(rows, source)
    texts = {side: [row[side] for row in rows] for side in SIDES}
    spoken = {side: [words(text) for text in texts[side]] for side in SIDES}
    return {
        "n": len(rows),
        "repeated_sentence": {
            side: 100.0 * float(np.mean([repeats_a_sentence(text) for text in texts[side]])) for side in SIDES
        },
        "repeated_4grams": {side: _mean_repeated(spoken[side]) for side in SIDES},
        "longest_loop": {side: max(map(longest_loop, spoken[side])) for side in SIDES},
        "cut": _cut(rows, source),
    }


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def repeats_a_sentence(text: str) -> bool:
    """Whether a sentence of at least one word occurs twice in the text, anywhere."""
    sentences = [tuple(words(part)) for part in _SENTENCE_END.split(text)]
    spoken = [sentence for sentence in sentences if sentence]
    return len(set(spoken)) < len(spoken)


def repeated_share(spoken: list[str]) -> float | None:
    """Share, 0 to 1, of the runs of four words that occurred before; None for fewer than four words."""
    runs = list(zip(*(spoken[start:] for start in range(NGRAM)), strict=False))
    return 1.0 - len(set(runs)) / len(runs) if runs else None


def longest_loop(spoken: list[str]) -> int:
    """How many words the longest stretch has in which some words are said at least twice in a row.

    Args:
        spoken: The words of one text.

    Returns:
        0 without such a stretch. "the the" has 2; "no mass no mass no" has 5: the last, unfinished turn counts.
    """
    number_of: dict[str, int] = {}
    numbers = np.array([number_of.setdefault(word, len(number_of)) for word in spoken], dtype=np.int64)
    # A turn of four words or more, said twice, repeats a run of four words.
    longest_turn = len(spoken) // 2 if repeated_share(spoken) else NGRAM - 1
    best = 0
    for turn in range(1, min(longest_turn, len(spoken) // 2) + 1):
        differs = np.flatnonzero(numbers[turn:] != numbers[:-turn])
        again = int(np.diff(differs, prepend=-1, append=len(numbers) - turn).max()) - 1
        if again >= turn:
            best = max(best, again + turn)
    return best


def _mean_repeated(spoken: list[list[str]]) -> float | None:
    shares = [share for share in map(repeated_share, spoken) if share is not None]
    return 100.0 * float(np.mean(shares)) if shares else None


def _cut(rows: list[Row], source: str) -> dict[str, Any] | None:
    known = []
    for number, row in enumerate(rows, start=1):
        stopped = row.get("stopped")
        if stopped is None:
            continue
        if not isinstance(stopped, bool):
            raise ValueError(f"{source}, row {number}: 'stopped' is {stopped!r}; it must be true, false or null")
        known.append(stopped)
    return {"n": len(known), "share": 100.0 * known.count(False) / len(known)} if known else None
