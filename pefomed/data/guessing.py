"""How far guessing gets: the test questions answered without a look at picture or question."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pefomed.metrics import normalise_published

if TYPE_CHECKING:
    import datasets

KINDS = ("answer_type", "question_type")


@dataclasses.dataclass(frozen=True)
class Guess:
    """How the test rows of one kind are answered without looking: always the most frequent training answer.

    Attributes:
        kind: "all", "answer_type" or "question_type".
        value: "closed", say, or VQA-RAD's "PRES"; "" for all rows.
        rows: test rows of this kind.
        overall_matches: how many the most frequent answer of all training rows gets right.
        answer: the most frequent answer among the training rows of this kind; "" where it must not be shown.
        matches: how many that one gets right; where no training row is of this kind, the overall answer is given.
    """

    kind: str
    value: str
    rows: int
    overall_matches: int
    answer: str
    matches: int


def ranked(answers: Mapping[str, int]) -> list[tuple[str, int]]:
    """Most frequent first, equally frequent ones by the alphabet, so that no order of rows matters."""
    return sorted(answers.items(), key=lambda item: (-item[1], item[0]))


def guesses(splits: Mapping[str, datasets.Dataset], show_text: bool) -> Iterator[Guess]:
    """The majority answer's exact matches on the questions of test, by the published evaluation's normaliser."""
    if not {"train", "test"} <= set(splits) or splits["test"][0]["question"] is None:
        return
    train, test = (_typed_answers(splits[split]) for split in ("train", "test"))
    overall = _majority(row["answer"] for row in train)
    for kind in ("all", *KINDS):
        values = sorted({row[kind] for row in test} - {None})
        for value in values:
            asked = [row["answer"] for row in test if row[kind] == value]
            learnt = [row["answer"] for row in train if row[kind] == value]
            own = _majority(learnt) if learnt else overall
            yield Guess(
                kind=kind,
                value=value,
                rows=len(asked),
                overall_matches=asked.count(overall),
                answer=own if show_text else "",
                matches=asked.count(own),
            )


def _typed_answers(rows: datasets.Dataset) -> list[dict[str, str | None]]:
    """Normalised answer and kinds of each row; a question of several types stays one kind, "POS, PRES"."""
    answers = map(normalise_published, rows["answer"])
    columns = zip(answers, *(rows[kind] for kind in KINDS), strict=True)
    return [{"all": "", "answer": answer, **dict(zip(KINDS, kinds, strict=True))} for answer, *kinds in columns]


def _majority(answers: Iterable[str]) -> str:
    return ranked(collections.Counter(answers))[0][0]
