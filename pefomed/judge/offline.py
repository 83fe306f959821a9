"""The offline stand-in for a judge: rules instead of a language model, the same verdict every time, no network.

    offline_score(row, "vqa")

It lets everything that needs verdicts run without a key. It is not a language model and its verdicts are never to be
shown as one's: it knows the few synonyms of `judge.synonyms` and takes all else for different.

Answers, in this order (what is compared are the words of `content_words`, never parts of words):
1. Equal after either normaliser: 1. One of both without any word: 0.
2. The true answer is yes or no: 1 if the generated one says the same and does not name another side or the like.
3. The question asks whether something is there, the true answer tells where or what, and the generated one is a bare
   yes or no: yes is right, or no if the true answer denies (the paper's Table 1, third case).
4. Wrong are: a denial on one side only; another value on an axis such as the sides, or none where the true answer has
   one (left for both, no side for left; "bilateral" is both); other numbers; alternatives ("left or right").
5. Right are: all words of the true answer with at most `MAX_EXTRA_WORDS` more (first case of Table 1); and a part of
   them, where the question itself says the rest (second case: the head, asked for a part of the pancreas).
6. All else: 0.

Reports get the highest level whose bound their agreement reaches:
- of the drawn world ("phantoms"), if either report tells a finding: `FINDING_LEVELS` on the mean of two F1 scores, of
  the findings by name and of the findings by name, side and place; sizes are not compared;
- all others: `TEXT_LEVELS` on the F1 score of their words, each counted as often as it occurs. The bounds are round
  numbers, fitted to nothing: such levels say little about meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from pefomed.judge.prompts import FIELDS
from pefomed.judge.schema import check_task
from pefomed.judge.synonyms import AXES, NEGATIONS, content_words
from pefomed.metrics.findings import DATASET as DRAWN_WORLD
from pefomed.metrics.findings import placed_findings
from pefomed.metrics.normalise import is_match, normalise_repaired

Row = dict[str, Any]
OFFLINE_NAME = "offline stand-in"
MAX_EXTRA_WORDS = 5
#: (least agreement, level); below the last one, the level is 0.
FINDING_LEVELS = ((1.0, 4), (0.75, 3), (0.5, 2), (0.01, 1))
TEXT_LEVELS = ((0.8, 4), (0.6, 3), (0.4, 2), (0.2, 1))

_YES = frozenset(("yes", "yeah", "true", "correct"))
_NO = frozenset(("no", "false", "0"))  # "none" is normalised to 0
_THERE = frozenset(("present", "visible", "seen", "identified", "positive"))
_POLAR = re.compile(r"(is|are|was|were|do|does|did|has|have|can|could)\b(?!.*\bor\b)")
_PRESENCE = re.compile(r"\b(there|present|visible|seen|shown|show|visuali[sz]ed|identified|evident|have|has)\b")


def offline_score(row: Row, task: str) -> int:
    """The stand-in's verdict on one prediction.

    Args:
        row: A prediction; of its keys, `question`, `answer`, `prediction` and, for reports, `dataset` are used.
        task: `vqa` or `report`.

    Returns:
        0 or 1 for `vqa`, a level from 0 to 4 for `report`.

    Raises:
        ValueError: There is no judging such a task, the row is of another one, or a text is not a string.
    """
    check_task(task)
    if row.get("task", task) != task:
        raise ValueError(f"row {row.get('id')!r}: task {row['task']!r} cannot be judged as {task!r}; leave it out")
    for _, key in FIELDS[task]:
        if not isinstance(row.get(key), str) and not (key == "question" and row.get(key) is None):
            raise ValueError(f"row {row.get('id')!r}: {key!r} is {type(row.get(key)).__name__}; it must be a string")
    if task == "report":
        return _report_level(row["prediction"], row["answer"], row.get("dataset") == DRAWN_WORLD)
    return int(_same_answer(row["prediction"], row["answer"], row.get("question") or ""))


def _same_answer(prediction: str, answer: str, question: str) -> bool:
    said, true = normalise_repaired(prediction).split(), normalise_repaired(answer).split()
    if not said or not true:
        return False
    if is_match(prediction, answer) or is_match(prediction, answer, "repaired"):
        return True
    asked = normalise_repaired(question)
    generated, wanted = content_words(prediction), content_words(answer)
    if true[0] in _YES | _NO and (len(true) == 1 or not asked or _POLAR.match(asked)):
        polarity = _polarity(said)
        return polarity is not None and polarity == _polarity(true) and not _contradict(generated, wanted)
    if _POLAR.match(asked) and _PRESENCE.search(asked) and len(said) == 1 and said[0] in _YES | _NO:
        return (said[0] in _YES) != _denies(wanted)
    return _same_content(generated, wanted, content_words(question))


def _same_content(generated: list[str], wanted: list[str], asked: list[str]) -> bool:
    if _denies(generated) != _denies(wanted) or ("or" in generated and "or" not in wanted):
        return False
    if any(axis & set(wanted) and axis & set(wanted) != axis & set(generated) for axis in AXES):
        return False
    if _numbers(wanted) and _numbers(wanted) != _numbers(generated):
        return False
    missing = set(wanted) - set(generated)
    if not missing:
        return bool(wanted) and len(set(generated) - set(wanted)) <= MAX_EXTRA_WORDS
    # Something must be left that the question did not say, or a mere echo of it would be an answer.
    told = set(generated) - set(asked)
    return bool(told) and set(generated) <= set(wanted) and missing <= set(asked)


def _polarity(words: list[str]) -> bool | None:
    """Whether an answer says yes, or None where it says neither or both."""
    yes = not _YES.isdisjoint(words)
    no = not (_NO | NEGATIONS).isdisjoint(words)
    if not yes and not no and (not _THERE.isdisjoint(words) or words[0] == "there"):
        return True
    return None if yes == no else yes


def _denies(words: Collection[str]) -> bool:
    return not NEGATIONS.isdisjoint(words)


def _contradict(generated: list[str], wanted: list[str]) -> bool:
    """Whether both name something on an axis, and not the same."""
    found = ((axis & set(generated), axis & set(wanted)) for axis in AXES)
    return any(ours and theirs and ours != theirs for ours, theirs in found)


def _numbers(words: list[str]) -> set[str]:
    return {word for word in words if word[0].isdigit()}


def _report_level(generated: str, actual: str, drawn_world: bool) -> int:
    if drawn_world:
        told, true = placed_findings(generated), placed_findings(actual)
        if told or true:
            names = [Counter({name for name, _ in found}) for found in (told, true)]
            return _level((_f1(*names) + _f1(Counter(told), Counter(true))) / 2, FINDING_LEVELS)
    return _level(_f1(Counter(content_words(generated)), Counter(content_words(actual))), TEXT_LEVELS)


def _f1(ours: Counter, theirs: Counter) -> float:
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 0.0


def _level(agreement: float, levels: tuple[tuple[float, int], ...]) -> int:
    return next((level for bound, level in levels if agreement >= bound), 0)
