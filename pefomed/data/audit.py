"""What a data set holds, what is broken in it, what one split knows of another, and how far guessing gets.

    report = audit({"train": train_rows, "test": test_rows})
    print(report)                       # counts, damaged pictures, leakage, answers, the majority answer's score
    report.leakage[0].shared_pictures   # the same as numbers

Every picture file is read, hashed and decoded once, however many rows name it.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pefomed.data.example import SPLITS
from pefomed.data.guessing import Guess, guesses, ranked
from pefomed.data.leakage import Leakage, SplitContent, find_leakage
from pefomed.data.picture_hashes import MAX_DISTANCE, PictureFacts, read_pictures
from pefomed.metrics import normalise_published

if TYPE_CHECKING:
    import datasets

PRINTED_PICTURES = 10
PRINTED_ROWS = 5  # kinds of question with fewer test rows say little
TOP_ANSWERS = 5
PRINTED_CHARACTERS = 60  # of an answer, which may be a whole report


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """One split in numbers.

    Attributes:
        split: its name.
        rows: its rows.
        pictures: different picture files that they name.
        repeated_pictures: files with the same content as another file of the split.
        groups: different groups: images, studies or patients.
        closed, open, untyped: rows by answer type.
        answers: different answers, captions or reports after the published normalisation.
        top_answers: the most frequent ones with their counts; none for data that must not be shown.
    """

    split: str
    rows: int
    pictures: int
    repeated_pictures: int
    groups: int
    closed: int
    open: int
    untyped: int
    answers: int
    top_answers: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class BrokenPicture:
    """A picture that cannot be used: the file (or row, for pictures without a file), its split, and why."""

    file: str
    split: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found; `str()` says it in lines.

    Attributes:
        splits: each split in numbers.
        broken: pictures that cannot be read or decoded, all of them.
        leakage: for each pair of splits, what the second has in common with the first.
        guesses: the majority answer's exact matches on test; empty without questions in train and test.
    """

    splits: tuple[SplitSummary, ...]
    broken: tuple[BrokenPicture, ...]
    leakage: tuple[Leakage, ...]
    guesses: tuple[Guess, ...]

    def __str__(self) -> str:
        return "\n".join(itertools.chain(*(part(self) for part in (_about_splits, _about_leakage, _about_guesses))))


def audit(
    splits: Mapping[str, datasets.Dataset],
    *,
    framed_ids: Collection[str] | None = None,
    max_distance: int = MAX_DISTANCE,
    show_text: bool = True,
    processes: int = 1,
    progress: bool = True,
) -> Audit:
    """Audits the splits of a data set.

    Args:
        splits: rows of `pefomed.data.example.EXAMPLE_FEATURES` by split.
        framed_ids: ids of rows that the loader knows to be framed versions of test questions; None to look for them.
        max_distance: bits of the difference hash that may differ in pictures that look alike.
        show_text: whether answers and file names may be kept; False keeps numbers only.
        processes: how many read pictures at once.
        progress: whether long work tells on stderr how far it is.

    Raises:
        ValueError: there is no split, or an option is out of range.
    """
    if not splits:
        raise ValueError("nothing to audit: pass the rows of at least one split")
    names = [split for split in SPLITS if split in splits]
    keys = {split: _picture_keys(splits[split]) for split in names}
    facts = _facts(splits, keys, processes, progress)
    contents = {split: _content(splits[split], keys[split], facts) for split in names}
    return Audit(
        splits=tuple(_summary(split, splits[split], keys[split], facts, show_text) for split in names),
        broken=tuple(_broken(splits, keys, facts, show_text)),
        leakage=tuple(
            find_leakage(
                source,
                into,
                contents,
                framed_ids=framed_ids if into == "test" else None,
                max_distance=max_distance,
            )
            for source, into in itertools.combinations(names, 2)
        ),
        guesses=tuple(guesses(splits, show_text)),
    )


# Pictures


def _picture_keys(rows: datasets.Dataset) -> list[str]:
    """What tells each row's picture from others: its path, or the hash of its bytes."""
    return [image["path"] or "" if image["bytes"] is None else _bytes_key(image["bytes"]) for image in _images(rows)]


def _bytes_key(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _images(rows: datasets.Dataset) -> Iterator[Mapping[str, Any]]:
    for batch in rows.select_columns("image").iter(batch_size=256):
        yield from batch["image"]


def _facts(
    splits: Mapping[str, datasets.Dataset], keys: Mapping[str, list[str]], processes: int, progress: bool
) -> dict[str, PictureFacts]:
    """Reads every different picture of all splits once."""
    first: dict[str, tuple[str, int]] = {}
    for split, names in keys.items():
        for row, key in enumerate(names):
            first.setdefault(key, (split, row))
    images = (splits[split][row]["image"] for split, row in first.values())
    return dict(zip(first, read_pictures(images, len(first), processes, progress), strict=True))


def _broken(
    splits: Mapping[str, datasets.Dataset],
    keys: Mapping[str, list[str]],
    facts: Mapping[str, PictureFacts],
    show_text: bool,
) -> Iterator[BrokenPicture]:
    for split, names in keys.items():
        told: set[str] = set()
        for number, key in enumerate(names):
            if facts[key].problem and key not in told:
                told.add(key)
                row = splits[split][number]
                named = row["image"]["path"] or f"picture of row {row['id']}"
                file, reason = (named, facts[key].problem) if show_text else ("", "cannot be read or decoded")
                yield BrokenPicture(file, split, reason)


def _content(rows: datasets.Dataset, keys: list[str], facts: Mapping[str, PictureFacts]) -> SplitContent:
    return SplitContent(
        ids=list(rows["id"]),
        pictures=[facts[key].sha256 for key in keys],
        questions=list(rows["question"]),
        answers=list(rows["answer"]),
        groups=list(rows["group"]),
        hashes={facts[key].sha256: facts[key].dhash for key in set(keys) if facts[key].dhash is not None},
    )


# Answers


def _summary(
    split: str, rows: datasets.Dataset, keys: list[str], facts: Mapping[str, PictureFacts], show_text: bool
) -> SplitSummary:
    types = collections.Counter(rows["answer_type"])
    answers = collections.Counter(map(normalise_published, rows["answer"]))
    files = set(keys)
    readable = [facts[key].sha256 for key in files if facts[key].sha256]
    return SplitSummary(
        split=split,
        rows=len(rows),
        pictures=len(files),
        repeated_pictures=len(readable) - len(set(readable)),
        groups=len(set(rows["group"])),
        closed=types["closed"],
        open=types["open"],
        untyped=types[None],
        answers=len(answers),
        top_answers=tuple((text, n) for text, n in ranked(answers)[:TOP_ANSWERS]) if show_text else (),
    )


# In words


def _about_splits(found: Audit) -> Iterator[str]:
    for one in found.splits:
        types = f"{one.closed:,} closed and {one.open:,} open" if one.closed or one.open else "no answer types"
        types += f", {one.untyped:,} of no type" if one.untyped and (one.closed or one.open) else ""
        repeated = f" ({one.repeated_pictures:,} repeat another file)" if one.repeated_pictures else ""
        top = ", ".join(f"{_shortened(text)!r} {count:,}" for text, count in one.top_answers if count > 1)
        if top and not (one.closed or one.open):  # reports would fill the screen
            top = f"occurs {one.top_answers[0][1]:,} times"
        yield (
            f"{one.split}: {one.rows:,} rows about {one.pictures:,} pictures{repeated} in {one.groups:,} groups; "
            f"{types}; {one.answers:,} different answers{f', the commonest {top}' if top else ''}"
        )
    yield f"pictures that cannot be used: {len(found.broken):,}" if found.broken else "every picture could be decoded"
    for picture in found.broken[:PRINTED_PICTURES]:
        if picture.file:
            yield f"  {picture.split}: {picture.file}: {picture.reason}"
    if len(found.broken) > PRINTED_PICTURES and found.broken[0].file:
        yield f"  and {len(found.broken) - PRINTED_PICTURES:,} more"


def _about_leakage(found: Audit) -> Iterator[str]:
    for pair in found.leakage:
        yield f"leakage {pair}"
    rules: dict[str, list[str]] = {}
    for pair in found.leakage:
        if pair.questions:
            rules.setdefault(pair.framed_rule, []).append(f"{pair.source} -> {pair.into}")
    for rule, pairs in rules.items():
        yield f"  framed versions, {', '.join(pairs)}: {rule}"


def _about_guesses(found: Audit) -> Iterator[str]:
    if not found.guesses:
        return
    yield "guessing without looking: exact match on test of always giving the most frequent training answer"
    rare = 0
    for guess in found.guesses:
        answer = f" {_shortened(guess.answer)!r}" if guess.answer else ""
        own = f"{100 * guess.matches / guess.rows:.1f} %"
        if guess.kind == "all":
            yield f"  all {guess.rows:,} rows:{answer} {own}"
        elif guess.rows < PRINTED_ROWS:
            rare += 1
        else:
            that = f"{100 * guess.overall_matches / guess.rows:.1f} %"
            yield f"  {guess.kind} {guess.value} ({guess.rows:,} rows): that answer {that}, its own{answer} {own}"
    if rare:
        yield f"  and {rare:,} kinds of fewer than {PRINTED_ROWS} rows"


def _shortened(text: str) -> str:
    return text if len(text) <= PRINTED_CHARACTERS else f"{text[: PRINTED_CHARACTERS - 3]}..."
