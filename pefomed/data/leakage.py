"""What of one split is known from another: pictures, questions, and questions put in other words.

A picture counts as shared when its file is, byte for byte, in both splits. Pictures that only look alike are counted
apart, as a hint. Questions are compared on the same picture (the same file content) after lower-casing and dropping
all signs, so that "Is it normal?" and "is it normal" are one question.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from pefomed.data.picture_hashes import MAX_DISTANCE, near_duplicates
from pefomed.metrics import normalise_published

# A template changes these and keeps the others: "Is there a fracture?" becomes "Is/Are there fracture in this image".
FUNCTION_WORDS = """
    a an the is are was were be there this that these those does do did has have it its of in on at to for with from by
    and or any what which where how can you see seen show shown image picture
"""
_WORDS = re.compile(r"[\u4e00-\u9fff]|[^\W_]+")  # Chinese is written without blanks: each character is a word
SAME_WORDS_RULE = (
    "the same picture and answer, a different question, and after leaving out function words one question's words are "
    "all in the other's"
)
LOADER_RULE = "marked by the data set's own loader"


@dataclasses.dataclass(frozen=True)
class SplitContent:
    """The columns of one split that leakage is looked for in, in the order of its rows.

    Attributes:
        ids: row ids.
        pictures: the SHA-256 of each row's picture; "" where it could not be read.
        questions: the questions; None for captions and reports.
        answers: answers, captions or reports.
        groups: what must not straddle splits.
        hashes: the difference hash of each picture that could be decoded, by SHA-256.
    """

    ids: Sequence[str]
    pictures: Sequence[str]
    questions: Sequence[str | None]
    answers: Sequence[str]
    groups: Sequence[str]
    hashes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Leakage:
    """What of `into` (say, test) can be known from `source` (say, train).

    Attributes:
        source: the split that is learnt from.
        into: the split that is asked.
        pictures: different pictures of `into`.
        shared_pictures: of these, how many are in `source` too, byte for byte.
        rows_on_shared: rows of `into` about shared pictures.
        shared_groups: groups that both splits name; the same names need not be the same patient.
        similar_pictures: pictures of `into` that are not shared and differ in at most `max_distance` bits of their
            difference hash from one in `source`: a hint, no proof.
        max_distance: that bound, of 64 bits.
        questions: rows of `into` that have a question.
        same_questions: rows of `into` whose question is asked in `source` on the same picture.
        same_answers: of these, how many are answered there with the same words.
        framed: rows of `source` that put a question of `into` in other words, by `framed_rule`.
        framed_rule: how these were found.
    """

    source: str
    into: str
    pictures: int
    shared_pictures: int
    rows_on_shared: int
    shared_groups: int
    similar_pictures: int
    max_distance: int
    questions: int
    same_questions: int
    same_answers: int
    framed: int
    framed_rule: str

    def __str__(self) -> str:
        of_all = " (all of them)" if self.shared_pictures == self.pictures else ""
        text = (
            f"{self.source} -> {self.into}: {self.shared_pictures:,} of {self.pictures:,} {self.into} pictures"
            f"{of_all} are also in {self.source}, byte for byte, under {self.rows_on_shared:,} {self.into} rows; "
            f"{self.similar_pictures:,} more perhaps, by what they show (a hint: at most {self.max_distance} of 64 "
            f"bits differ)."
        )
        if self.questions:
            text += (
                f" {self.same_questions:,} of {self.questions:,} {self.into} questions are asked in {self.source} on "
                f"the same picture, {self.same_answers:,} of them with the same answer. {self.framed:,} {self.source} "
                f"rows are framed versions of {self.into} questions."
            )
        if self.shared_groups not in (0, self.shared_pictures):  # where a group is a picture, it is told already
            text += f" {self.shared_groups:,} groups have the same name in both."
        return text


def find_leakage(
    source: str,
    into: str,
    contents: dict[str, SplitContent],
    *,
    framed_ids: Collection[str] | None = None,
    max_distance: int = MAX_DISTANCE,
) -> Leakage:
    """Compares two splits.

    Args:
        source: name of the split that is learnt from.
        into: name of the split that is asked.
        contents: the splits by name.
        framed_ids: ids of rows that the data set's loader knows to be framed versions of `into`'s questions; None to
            look for such rows by `SAME_WORDS_RULE`, which finds 172 of the 284 that are known in VQA-RAD, and 2 more.
        max_distance: how many bits of the difference hash may differ in pictures that look alike.
    """
    known, asked = contents[source], contents[into]
    pictures = set(asked.pictures) - {""}
    shared = pictures & set(known.pictures)
    alone = {asked.hashes[picture] for picture in pictures - shared if picture in asked.hashes}
    alike = near_duplicates(alone, known.hashes.values(), max_distance)
    answered = _by_question(known)
    same = [
        (row, answered[key])
        for row, key in enumerate(_keys(asked))
        if key is not None and key[0] in shared and key in answered
    ]
    if framed_ids is None:
        framed, rule = _reworded(known, asked), SAME_WORDS_RULE
    else:
        framed, rule = sum(name in framed_ids for name in known.ids), LOADER_RULE
    return Leakage(
        source=source,
        into=into,
        pictures=len(pictures),
        shared_pictures=len(shared),
        rows_on_shared=sum(picture in shared for picture in asked.pictures),
        shared_groups=len(set(known.groups) & set(asked.groups)),
        similar_pictures=sum(asked.hashes.get(picture) in alike for picture in pictures - shared),
        max_distance=max_distance,
        questions=sum(question is not None for question in asked.questions),
        same_questions=len(same),
        same_answers=sum(normalise_published(asked.answers[row]) in answers for row, answers in same),
        framed=framed,
        framed_rule=rule,
    )


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without signs; each Chinese character is a word."""
    return _WORDS.findall(text.lower())


def _keys(content: SplitContent) -> list[tuple[str, str] | None]:
    """Picture and normalised question of each row; None for a row without a question or a readable picture."""
    return [
        (picture, " ".join(words_of(question))) if picture and question is not None else None
        for picture, question in zip(content.pictures, content.questions, strict=True)
    ]


def _by_question(content: SplitContent) -> dict[tuple[str, str], set[str]]:
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for key, answer in zip(_keys(content), content.answers, strict=True):
        if key is not None:
            answers[key].add(normalise_published(answer))
    return answers


def _reworded(known: SplitContent, asked: SplitContent) -> int:
    """How many rows of `known` are, by `SAME_WORDS_RULE`, a question of `asked` in other words."""
    questions: dict[tuple[str, str], list[tuple[str, frozenset[str]]]] = defaultdict(list)
    for key, answer in zip(_keys(asked), asked.answers, strict=True):
        if key is not None:
            questions[key[0], normalise_published(answer)].append((key[1], _content_words(key[1])))
    count = 0
    for key, answer in zip(_keys(known), known.answers, strict=True):
        there = questions.get((key[0], normalise_published(answer)), ()) if key is not None else ()
        own = _content_words(key[1]) if there else frozenset()
        count += any(key[1] != text and own and other and (own <= other or other <= own) for text, other in there)
    return count


def _content_words(question: str) -> frozenset[str]:
    return frozenset(question.split()).difference(FUNCTION_WORDS.split())
