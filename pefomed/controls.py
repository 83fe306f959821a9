"""The prompt's control texts, and how text of users and data sets is kept from forging them.

Text is data: a question that holds `[/INST]` must not end the prompt, an answer that holds `</s>` must not end the
target, and neither may bring in a second image. Tokenizers are told so as well (control tokens are put in by id); this
module makes it true of the prompt's text itself, whatever reads it.
"""

from __future__ import annotations

import re
import unicodedata

IMAGE_PLACEHOLDER = "<ImageHere>"

CONTROLS = (
    *("<s>", "</s>", "<unk>", "<pad>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    *("<Img>", "</Img>", IMAGE_PLACEHOLDER),
    *("[vqa]", "[report]", "[caption]"),
)

# Lookahead: overlapping controls are all found.
_PATTERNS = tuple(re.compile(f"(?=({re.escape(control.casefold())}))") for control in CONTROLS)


def escape_controls(text: str) -> str:
    """Breaks up every control text by blanks behind its first and before its last character; deletes nothing.

    A control counts whatever its case, in full-width letters, and with white space or invisible characters inside.
    "[/INST]" becomes "[ /INST ]". Escaping twice changes nothing more.

    Raises:
        ValueError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise ValueError(f"expected text, found {type(text).__name__} {text!r:.60}")
    skeleton, position = _skeleton(text)
    blanks = set()  # indices in text before which a blank is put
    for pattern in _PATTERNS:
        for match in pattern.finditer(skeleton):
            first, last = position[match.start(1)], position[match.end(1) - 1]
            second, last_but_one = position[match.start(1) + 1], position[match.end(1) - 2]
            if " " not in text[first:second]:
                blanks.add(first + 1)
            if " " not in text[last_but_one:last]:
                blanks.add(last)
    return "".join(" " + character if i in blanks else character for i, character in enumerate(text))


def _skeleton(text: str) -> tuple[str, list[int]]:
    """Returns what a lax reader would see, without blanks and invisible characters, and each character's origin."""
    letters: list[str] = []
    position: list[int] = []
    for i, character in enumerate(text):
        if character.isspace() or unicodedata.category(character) in ("Cf", "Cc", "Mn", "Me"):
            continue
        # One compatibility letter may stand for several ("ﬆ" is "st").
        for letter in unicodedata.normalize("NFKC", character).casefold():
            if not letter.isspace():
                letters.append(letter)
                position.append(i)
    return "".join(letters), position


def split_at_image(prompt: str) -> tuple[str, str]:
    """Splits a prompt at its image placeholder, whatever the placeholder's case.

    Returns:
        The text before and the text behind the image.

    Raises:
        ValueError: The prompt does not hold exactly one placeholder.
    """
    parts = re.split(re.escape(IMAGE_PLACEHOLDER), prompt, flags=re.IGNORECASE)
    if len(parts) != 2:
        raise ValueError(f"a prompt needs exactly one {IMAGE_PLACEHOLDER}, found {len(parts) - 1}: {prompt!r:.120}")
    return parts[0], parts[1]
