"""Closed questions answered in a sentence: is "yes, there is" a yes?

Exact match calls "yes, there is" wrong where the answer is "yes". The rule here reads what such an answer decides for,
and is stated in `RULE`, which goes into every result: closed accuracies compare only where their rules do.

    closed_verdict("Yes, there is.", "yes")                                     # True
    closed_verdict("it lies on the left side", "right", "left or right lung?")  # False
    closed_verdict("there is no yes", "no")                                     # None: undecided
"""

from __future__ import annotations

import re
from functools import lru_cache

from pefomed.metrics.normalise import is_match, normalise_repaired

RULE = (
    "An answer that equals the true one after normalisation is right. Where the true answer begins with yes or no, "
    "the first polarity word decides: affirming are yes, there is, present, seen and the like, denying no, not, none, "
    "without, absent and the like; yes together with a denying word, no polarity word, or 'not sure' is undecided. "
    "Where the question names options (x or y) and the true answer is one of them, the one option that the prediction "
    "contains decides; none, several, or a denying word that is no option is undecided. Any other answer has to be "
    "equal. Undecided counts as wrong."
)


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_YES = _set("yes yeah yep affirmative")
_AFFIRMING = _YES | _set(
    "present seen visible visualized visualised identified noted evident apparent detected demonstrated observed "
    "found positive true correct"
)
# As the repaired normaliser leaves them: without apostrophes, and "none" as a number.
_DENYING = _set(
    "no nope not non 0 never neither nor nothing without absent absence negative false incorrect lack lacks cannot "
    "cant isnt arent wasnt werent doesnt dont didnt hasnt havent couldnt"
)
_THERE = _set("is are was were")
_NO_ANSWER = re.compile(
    r"\b(not sure|unsure|uncertain|unclear|not clear|unknown|indeterminate|maybe|not know|dont know"
    r"|(cannot|can not|cant|not) (be )?(determined?|assess(ed)?|tell|said|say))\b"
)

# ---- options named by a question ------------------------------------------------------------------------------------
_OR = re.compile(r"\s*,?\s+(?:or|vs\.?|versus)\s+")
_SENTENCE_END = re.compile(r"[?!;:]|\.(?!\d)(?!\s*[a-z])")
_VERBS = _set("is are was were be does do did has have had can could would should")
# Skipped where an option is looked for; "with", "more" and the like are options themselves and not among them.
_FUNCTION_WORDS = _VERBS | _set("a an the this that these those it its there of in on at by to for from as just")
_ASKING = _set("what which who where how")
# How many words on either side of "or" are compared: in "vascular process or genetic process" the nearest is shared.
_NEAR = 3


# Closed answers are few and repeat.
@lru_cache(maxsize=50_000)
def closed_verdict(prediction: str, answer: str, question: str | None = None) -> bool | None:
    """Whether the answer to a closed question is right, by `RULE`.

    Args:
        prediction: The model's answer.
        answer: The true answer.
        question: The question, from which options are read ("left or right?"); without it, only answers that begin
            with yes or no are read, and others have to be equal.

    Returns:
        True or False, or None where the prediction decides for nothing.
    """
    if is_match(prediction, answer) or is_match(prediction, answer, "repaired"):
        return True
    true_words = _words(answer)
    if true_words not in (["yes"], ["no"]):
        options = question_options(question or "")
        wanted = [option for option in options if option in true_words]
        if len(wanted) == 1:
            chosen = _chosen(prediction, options)
            return None if chosen is None else chosen == wanted[0]
    if true_words[:1] in (["yes"], ["no"]):
        found = polarity(prediction)
        return None if found is None else found == true_words[0]
    return False


def polarity(text: str) -> str | None:
    """What an answer in free words says to a yes/no question: "yes", "no", or None where it is undecided.

    Args:
        text: The answer, such as "no, it is not" ("no"), "not seen" ("no") or "yes and no" (None).
    """
    words = _words(text)
    if _NO_ANSWER.search(" ".join(words)) or (_YES.intersection(words) and _DENYING.intersection(words)):
        return None
    for place, word in enumerate(words):
        if word in _DENYING:
            return "no"
        if word in _AFFIRMING:
            return "yes"
        if word == "there" and _THERE.intersection(words[place + 1 : place + 2]):
            return "no" if _DENYING.intersection(words[place + 2 : place + 3]) else "yes"
    return None


def question_options(question: str) -> list[str]:
    """The word by which each option of a choice question is known.

    Args:
        question: Such as "Is the lesion in gray or white matter?".

    Returns:
        One word an option, as the repaired normaliser writes it: `["gray", "white"]`. Empty where the question names
        no options, or where two of them have no word of their own.
    """
    parts = _SENTENCE_END.split(question.lower())
    sentence = next((part for part in parts if _OR.search(part)), None)
    if sentence is None:
        return []
    *before, last = _OR.split(sentence)
    pieces = [piece for part in before for piece in part.split(",")]
    segments = [_content(piece) for piece in (*pieces[_list_start(pieces) :], last.split(",")[0])]
    # The first option ends beside the list, after the words that introduce it; the last one begins the rest.
    segments = [segments[0][-_NEAR:], *segments[1:-1], segments[-1][:_NEAR]]
    options = []
    for place, segment in enumerate(segments):
        others = {word for number, other in enumerate(segments) if number != place for word in other}
        own = [word for word in (reversed(segment) if place == 0 else segment) if word not in others]
        options.append(own[0] if own else "")
    return [] if "" in options or {"not", "no"}.intersection(options) else options


def _list_start(pieces: list[str]) -> int:
    """Number of the piece that holds the first option of a list such as "left, right or both"."""
    first = len(pieces) - 1
    # A piece with a verb introduces the list; what stands before it is another clause.
    while first > 0 and not _VERBS.intersection(pieces[first].split()):
        first -= 1
    only_asks = _ASKING.intersection(pieces[first].split()) and first < len(pieces) - 1
    return first + 1 if only_asks else first


def _chosen(prediction: str, options: list[str]) -> str | None:
    words = _words(prediction)
    found = [option for option in options if option in words]
    denies = (_DENYING - set(options)).intersection(words)
    if len(found) != 1 or denies or _NO_ANSWER.search(" ".join(words)):
        return None
    return found[0]


def _content(text: str) -> list[str]:
    return [word for word in _words(text) if word not in _FUNCTION_WORDS]


def _words(text: str) -> list[str]:
    # "non-contrast" and "non contrast" are one word, which "contrast" does not occur in.
    return normalise_repaired(re.sub(r"\bnon[-\s]+(?=\w)", "non", text.lower())).split()
