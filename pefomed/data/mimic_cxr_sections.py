"""Findings and impression of a free-text chest report in the manner of MIMIC-CXR.

A report is a run of lines. Headings stand at the beginning of a line (in capitals also further along it) and end with
a colon; in capitals they may stand alone without one. What is taken for a heading:

    findings, impression   also misspelt, in the plural, CONCLUSION for impression, and both in one ("FINDINGS AND
                           IMPRESSION"), which then is the findings and the impression alike
    the views              "PA AND LATERAL CHEST:", "PORTABLE CHEST, 5:30 P.M." and "REPORT:": what follows is the
                           findings of a report that has no findings by name
    everything known       EXAMINATION, INDICATION, HISTORY, TECHNIQUE, COMPARISON, RECOMMENDATION, NOTIFICATION, ...

Any other word in capitals with a colon ("LUNGS:") is text of the section that it stands in. Of a report with the
banner FINAL REPORT only what follows counts: what precedes is a wet read, preliminary findings or an addendum. These
three, wherever they stand, last until that banner, a drawn line or the end.

Limits: text under no heading belongs to no section, though it may describe the picture; a paragraph that begins like a
view in capitals ends an impression before it; corrections in an addendum are not carried into the report; signatures
stay in the last section; phrases that refer to earlier pictures stay. Paragraphs become one line.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator

SECTIONS = ("findings", "impression", "both")

# What a heading may begin with when it opens neither findings nor impression.
OTHER_HEADINGS = re.compile(
    r"(ACCESSION|ATTESTATION|CLINICAL|COMMENT|COMMUNICATION|COMPARISON|COMPARED|CONTRAST|DATE|DICTATED|DOSE|EXAM|"
    r"EXAMINATION|HISTORY|INDICATION|MEDICAL|METHOD|NOTIFICATION|PROCEDURE|RADIATION|REASON|RECOMMENDATION|SIGNED|STUDY|"
    r"STUDIES|TECHNIQUE|TYPE|UNDERLYING)S?\b"
)
# In small letters the same words may be prose, so that only these are headings there, and only as a whole.
SMALL_HEADINGS = re.compile(
    r"CLINICAL (HISTORY|INFORMATION)|HISTORY|REASON FOR EXAM(INATION)?|"
    r"(COMPARISON|EXAM|EXAMINATION|INDICATION|NOTIFICATION|RECOMMENDATION|STUDY|TECHNIQUE)S?"
)
ASIDE = ("ADDENDUM", "FINAL ADDENDUM", "WET READ", "PRELIM", "PRELIMINARY", "PROVISIONAL FINDINGS", "PFI")
VIEW_WORDS = {"CHEST", "RADIOGRAPH", "RADIOGRAPHS", "RADIOGRAPHY", "VIEW", "VIEWS", "PORTABLE", "XRAY", "FILM"}

_BANNER = re.compile(r"\W*FINAL REPORT\W*", re.IGNORECASE)
_MAY_BE_HEADING = re.compile(r":|FINDINGS|IMPRESSION|^[^a-z]+$")  # spares most lines the closer look
_LETTER = re.compile(r"[A-Za-z]")
_DRAWN_LINE = re.compile(r"\s*[_=-]{10,}\s*")
# A colon between digits is a time of day.
_CAPITALS = re.compile(r"\s*([A-Z](?:[A-Z0-9 ,./&()\\'_+-]|(?<=\d):(?=\d)){1,90}?)\s*(?:(?<!\d):|:(?!\d))")
_SMALL = re.compile(r"\s*([A-Z][A-Za-z /&]{2,40}?)\s*:")
_WITHOUT_COLON = re.compile(r"\s*(FINDINGS|IMPRESSION)\s+(?=[A-Z][a-z]|\d\.)")
_INSIDE_A_LINE = re.compile(
    r"(?<=[a-z0-9.;:?!)_])[ \t]+(?=(?:FINDINGS?|IMPRESSIONS?|CONCLUSIONS?|COMPARISONS?|INDICATION|TECHNIQUE|HISTORY|"
    r"CLINICAL HISTORY|RECOMMENDATIONS?|RECOMMENDATION\(S\)|NOTIFICATION|FINDINGS (?:AND|OR) IMPRESSION|"
    r"FINDINGS ?/ ?IMPRESSION)[ \t]*:)"
)


@dataclasses.dataclass(frozen=True)
class Sections:
    """The text of a report's sections in one line each, "" where there is none."""

    findings: str = ""
    impression: str = ""

    def text(self, section: str) -> str:
        """Returns "findings", "impression" or "both": what there is of the two, findings first, the same text once."""
        if section != "both":
            return {"findings": self.findings, "impression": self.impression}[section]
        return " ".join(dict.fromkeys(part for part in (self.findings, self.impression) if part))


def parse_sections(report: str) -> Sections:
    """Returns the findings and the impression of a report; see above for what counts as either."""
    parts: dict[str, list[str]] = {}
    section = "other"
    for line in _lines(report):
        opened, text = _heading(line, section, section in parts)
        section = opened or section
        if _DRAWN_LINE.fullmatch(text):
            section = "other" if section == "aside" else section
        elif text.strip():
            parts.setdefault(section, []).extend(text.split())
    # Blanked words alone, "___", are no text.
    texts = {name: " ".join(words) for name, words in parts.items() if any(map(_LETTER.search, words))}
    combined = texts.get("combined", "")
    return Sections(
        findings=texts.get("findings") or combined or texts.get("view", ""),
        impression=texts.get("impression") or combined,
    )


def _lines(report: str) -> Iterator[str]:
    """Yields the lines of the report proper, a heading inside a line at the beginning of a line of its own."""
    lines = report.splitlines()
    banners = [number for number, line in enumerate(lines) if _BANNER.fullmatch(line)]
    for line in lines[banners[0] + 1 :] if banners else lines:
        yield from _INSIDE_A_LINE.sub("\n", line).split("\n")


def _heading(line: str, section: str, filled: bool) -> tuple[str | None, str]:
    """Returns the section that a line opens, or None, and the rest of the line.

    Args:
        line: The line.
        section: The section that it stands in.
        filled: Whether that section has text already.
    """
    if _BANNER.fullmatch(line):
        return "other", ""
    if section == "aside" or not _MAY_BE_HEADING.search(line):
        return None, line
    for pattern in (_CAPITALS, _WITHOUT_COLON, _SMALL):
        match = pattern.match(line)
        opened = _opened_by(match.group(1), section, filled) if match else None
        if opened is not None:
            return opened, line[match.end() :]
    # Without a colon a line in capitals is a heading where it is short, or names the views before any section.
    if line.isupper():
        words = _words(line)
        opened = _opened_by(line, section, filled)
        if opened in ("findings", "impression", "combined") and all(map(_is_main, words)):
            return opened, ""
        if opened == "aside" and len(words) <= 3:
            return opened, ""
        if opened in ("view", "other") and section in ("view", "other") and (opened == "view" or len(words) <= 3):
            return opened, ""
    return None, line


def _opened_by(heading: str, section: str, filled: bool) -> str | None:
    """Returns the section that a heading opens, or None where it is none or belongs to the text."""
    words, capitals = _words(heading), heading.isupper()
    whole = " ".join(words)
    if any(whole.startswith(name) if capitals else whole == name for name in ASIDE):
        return "aside"
    named = {name for word in words if (name := _main_section(word))}
    # "FINDINGS" may have company in capitals ("CHEST FINDINGS"); in small letters that is a sentence.
    if named and (_main_section(words[0]) or _main_section(words[-1]) if capitals else all(map(_is_main, words))):
        return "combined" if len(named) == 2 else named.pop()
    if not capitals:
        return "other" if SMALL_HEADINGS.fullmatch(whole) else None
    if OTHER_HEADINGS.match(whole):
        return "other"
    if words == ["REPORT"] or (VIEW_WORDS & set(words) and not {"TUBE", "TUBES"} & set(words)):
        # The first words of findings, or of an impression, may name the views once more.
        return None if section in ("findings", "combined") or (section == "impression" and not filled) else "view"
    return None


def _words(heading: str) -> list[str]:
    """Returns the words in capitals, without the "(S)" of "RECOMMENDATION(S)"."""
    return re.sub(r"\bS\b|[^A-Z]+", " ", heading.upper().replace("X-RAY", "XRAY")).split()


def _is_main(word: str) -> bool:
    return word in ("AND", "OR") or _main_section(word) is not None


@functools.lru_cache(maxsize=4096)
def _main_section(word: str) -> str | None:
    """Returns "findings" or "impression" for these words, however spelt, and for CONCLUSION."""
    if word.startswith("CONCLUSION"):
        return "impression"
    for name in ("FINDINGS", "IMPRESSION"):
        if word[0] == name[0] and difflib.SequenceMatcher(None, word, name).ratio() >= 0.85:
            return name.lower()
    return None
