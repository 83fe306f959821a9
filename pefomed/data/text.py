"""The published code's two ways of cleaning text, character for character.

They belong to `procedure="released_code"`: decimals fall apart ("3.5" becomes "3 5" in captions and "35" in questions)
and long reports lose their end, so the clean procedure uses neither. Recorded outputs of the published classes are in
tests/data/test_text.py's reference file.
"""

from __future__ import annotations

import re

PUNCTUATION = '.!"()*#:;~'
_TO_BLANKS = str.maketrans(PUNCTUATION, " " * len(PUNCTUATION))
_TO_NOTHING = str.maketrans("", "", PUNCTUATION)


def clean_caption(text: str, max_words: int = 50) -> str:
    """Lower-cases, turns punctuation into blanks, joins runs of white space and keeps `max_words` words.

    The published code treats targets, training prompts and evaluation instructions this way. A run of two or more
    white-space characters becomes one blank, a single tab or line break stays; words are what single blanks separate.
    """
    text = re.sub(r"\s{2,}", " ", text.lower().translate(_TO_BLANKS))
    return _first_words(text.rstrip("\n").strip(" "), max_words)


def clean_question(text: str, max_words: int = 50) -> str:
    """Lower-cases, deletes punctuation, strips blanks on the right and keeps `max_words` words.

    The published code defines this for questions but uses `clean_caption` on the instruction that holds the question.
    """
    return _first_words(text.lower().translate(_TO_NOTHING).rstrip(" "), max_words)


def _first_words(text: str, max_words: int) -> str:
    return " ".join(text.split(" ")[:max_words])
