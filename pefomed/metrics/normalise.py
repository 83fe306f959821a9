"""When do two answers count as the same? Two normalisers, and a table of where they part.

`normalise_published` does what the published PeFoMed evaluation (MedVQAEval, after the VQA challenge's) does, oddities
included: use it to compare with published figures. `normalise_repaired` mends each oddity that changes verdicts;
`REPAIRS` lists them, each with a pair of answers that the two judge differently. Scores report both.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_ARTICLES = ("a", "an", "the")
_NUMBER_WORDS = """
    zero one two three four five six seven eight nine ten
    eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty
"""
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}

# ---- as published ---------------------------------------------------------------------------------------------------
_PUBLISHED_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_PUBLISHED_PERIODS = 32
_PUBLISHED_DIGITS = {word: digits for word, digits in _DIGITS.items() if int(digits) <= 10}
# The published table restores the apostrophes of these forms, wherever exactly one of them was left out. It works on
# lower-cased words, so its forms with a capital I never apply and are not here; neither are those (he'll, she'd, we'd,
# ...) that it lacks.
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    form[:at] + form[at + 1 :]: form for form in _CONTRACTED.split() for at, sign in enumerate(form) if sign == "'"
}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the published table has this one the wrong way round


def normalise_published(text: object) -> str:
    """Normalise an answer as the published evaluation does.

    Args:
        text: The answer; anything but a string is turned into one first.

    Returns:
        Words separated by single blanks; possibly empty.
    """
    words = _published_punctuation(str(text)).lower().split()
    words = [_PUBLISHED_DIGITS.get(word, word) for word in words]
    words = [_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(words).replace("x ray", "xray")


def _published_punctuation(text: str) -> str:
    # Both conditions look at the text as it came in, not at what earlier marks have left of it.
    has_digit_pair = re.search(r"\d,\d", text) is not None
    result = text
    for mark in _PUBLISHED_MARKS:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_blank or has_digit_pair else " ")
    return re.sub(r"\.(?!\d)", "", result, count=_PUBLISHED_PERIODS)


# ---- repaired -------------------------------------------------------------------------------------------------------
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BARE_FRACTION = re.compile(r"(?<![\w.])\.(?=\d)")
_NOT_DECIMAL_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_OTHER_MARK = re.compile(r"[^\w\s.<>+%]|_")
_SIGN = re.compile(r"([<>+%])")
_UNIT = re.compile(r"(?<=\d)(?=(?:mm|cm|ml|cc|mg|kg|hu)[23]?\b)")


def normalise_repaired(text: object) -> str:
    """Normalise an answer with the published evaluation's oddities mended; `REPAIRS` says which.

    Args:
        text: The answer; anything but a string is turned into one first.

    Returns:
        Words separated by single blanks; possibly empty.
    """
    decomposed = unicodedata.normalize("NFKD", str(text)).lower()
    result = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    result = _APOSTROPHE.sub("", result)
    result = _THOUSANDS.sub("", result)
    result = _BARE_FRACTION.sub("0.", result)
    result = _NOT_DECIMAL_POINT.sub("", result)
    result = _OTHER_MARK.sub(" ", result)
    result = _UNIT.sub(" ", _SIGN.sub(r" \1 ", result))
    words = [_DIGITS.get(word, word) for word in result.split()]
    words = [word for word in words[:-1] if word not in _ARTICLES] + words[-1:]
    return re.sub(r"\bx (rays?)\b", r"x\1", " ".join(words))


@dataclass(frozen=True)
class Repair:
    """One difference between the two normalisers, with a pair of answers that they judge differently.

    Attributes:
        name: What it is about.
        why: What the published normaliser does, and what the repaired one does instead.
        prediction: A model's answer.
        answer: The right answer.
        match: Whether the repaired normaliser lets them match; the published one says the opposite.
    """

    name: str
    why: str
    prediction: str
    answer: str
    match: bool


REPAIRS = tuple(
    Repair(*row)
    for row in (
        ("number of periods", "only 32 are removed; now all but decimal points are", "." * 40 + "fat", "fat", True),
        ("period before a digit", "always stays; now only as a decimal point", "rib no.7", "rib no7", True),
        ("leading zero", ".5 and 0.5 differ; now the zero is supplied", ".5 cm", "0.5 cm", True),
        (
            "digit,digit",
            "glues words at all marks; now drops that comma",
            "1,000 ml, left/right",
            "1000 ml left right",
            True,
        ),
        (
            "mark beside a blank",
            "deleted everywhere, gluing words; now a blank",
            "non-fat, t2 - fat",
            "non fat t2 fat",
            True,
        ),
        ("forgotten marks", "colons, quotes, * # ~ and dashes stay; now they go", "CT: 'axial'", "ct axial", True),
        ("signs with a meaning", "< > and + are deleted; now they are words", "<3 cm", ">3 cm", False),
        ("units", "3.5cm and 3.5 cm differ, as do 5% and 5 %; now a blank divides them", "3.5cm", "3.5 cm", True),
        ("number words", "end at ten; now at twenty", "twelve", "12", True),
        ("apostrophes", "some are restored; now those inside words are dropped", "its fluid", "it's fluid", True),
        ("accents", "accented letters differ from plain ones; now they do not", "naïve", "naive", True),
        ("x ray", "joined even behind another word's x; now only as a word", "apex ray", "apexray", False),
        ("article at the end", "dropped; now it stays, for there it is a name", "group A", "group", False),
        ("nothing left", "two answers without any word match; now they do not", "?", "!", False),
    )
)

NORMALISERS = {"medvqa": normalise_published, "repaired": normalise_repaired}


def normalise(text: object, normaliser: str = "medvqa") -> str:
    """Normalise an answer with the normaliser of that name.

    Args:
        text: The answer.
        normaliser: `medvqa` (as published) or `repaired`.

    Raises:
        ValueError: There is no such normaliser.
    """
    if normaliser not in NORMALISERS:
        raise ValueError(f"normaliser is {normaliser!r}; it must be one of {', '.join(NORMALISERS)}")
    return NORMALISERS[normaliser](text)


def is_match(prediction: object, answer: object, normaliser: str = "medvqa") -> bool:
    """Whether a prediction equals the answer after normalisation.

    Args:
        prediction: The model's answer.
        answer: The right answer.
        normaliser: `medvqa` (as published) or `repaired`, which also lets nothing match that has no word left.

    Raises:
        ValueError: There is no such normaliser.
    """
    ours = normalise(prediction, normaliser)
    return ours == normalise(answer, normaliser) and (normaliser == "medvqa" or ours != "")
