"""Questions about single findings: where they lie, how large they are, how many there are, how they look."""

from __future__ import annotations

from collections.abc import Iterator

from pefomed.embedded.phantom_findings import FINDINGS, REPEATABLE, Finding, Phantom
from pefomed.embedded.phantom_question import HALVES, SIDES, Question, affected_sides, yes_no

NUMBERS = ("none", "one", "two", "three")
# the organ whose enlargement is a finding, and how it is spoken of
SIZED_ORGANS = {
    "CHEST": ("cardiomegaly", "is the heart", "the heart"),
    "ABD": ("splenomegaly", "is the spleen", "the spleen"),
    "HEAD": ("hydrocephalus", "are the ventricles", "the ventricles"),
}
SHAPES = {"brain mass": "ring", "infarct": "wedge", "haemorrhage": "irregular"}


def position(phantom: Phantom) -> Iterator[Question]:
    """Side, zone or lobe of findings that have one."""
    for name in FINDINGS[phantom.region]:
        found = phantom.named(name)
        sides = {finding.side for finding in found} - {None}
        if sides:
            side = "both" if len(sides) == 2 else next(iter(sides))
            yield Question(
                f"side of {name}", "POS", "open", side, (*SIDES, "both") if name in REPEATABLE else SIDES,
                (f"on which side is the {name}?", f"which side is the {name} on?"), (f"the {name} is on what side?",),
            )  # fmt: skip
        if len(sides) == 1:
            yield Question(
                f"left or right {name}", "POS", "closed", side, SIDES,
                (f"is the {name} on the left or right?",), (f"is it a left or right {name}?",),
            )  # fmt: skip
        if len(found) == 1 and found[0].zone:
            yield from _zone(phantom, found[0])


def _zone(phantom: Phantom, finding: Finding) -> Iterator[Question]:
    """Where exactly a single finding lies."""
    name = finding.name
    if phantom.region == "CHEST":
        places = tuple(f"{side} {zone} lung" for side in SIDES for zone in ("upper", "lower"))
        yield Question(
            f"where is {name}", "POS", "open", f"{finding.side} {finding.zone} lung", places,
            (f"where is the {name}?",), (f"in what location is the {name}?",),
        )  # fmt: skip
        yield Question(
            f"upper or lower {name}", "POS", "closed", finding.zone, ("upper", "lower"),
            (f"is the {name} in the upper or lower lung?",), (f"is it an upper or lower lung {name}?",),
        )  # fmt: skip
    elif phantom.region == "HEAD":
        yield Question(
            f"lobe of {name}", "POS", "open", finding.zone, ("frontal", "occipital", "parietal", "temporal"),
            (f"in which lobe is the {name}?",), (f"what lobe contains the {name}?",),
        )  # fmt: skip
    else:
        yield Question(
            f"part of {name}", "POS", "open", finding.zone, ("anterior", "lateral", "medial"),
            (f"in which part of the liver is the {name}?",), (f"what part of the liver contains the {name}?",),
        )  # fmt: skip


def size(phantom: Phantom) -> Iterator[Question]:
    """Size of heart, spleen and ventricles, and of findings."""
    name, verb_and_organ, organ = SIZED_ORGANS[phantom.region]
    enlarged = bool(phantom.named(name))
    yield yes_no(
        f"enlarged {organ}", "SIZE", enlarged,
        (f"{verb_and_organ} enlarged?",), (f"{verb_and_organ} larger than normal?",),
    )  # fmt: skip
    yield Question(
        f"size of {organ}", "SIZE", "open", "enlarged" if enlarged else "normal", ("normal", "enlarged"),
        (f"what is the size of {organ}?",), (f"how large is {organ}?".replace("is the vent", "are the vent"),),
    )  # fmt: skip
    yield Question(
        "what is enlarged", "SIZE", "open", organ.removeprefix("the ") if enlarged else "none",
        ("heart", "spleen", "ventricles", "none"), ("which structure is enlarged?",), ("what is larger than normal?",),
    )  # fmt: skip
    for name in FINDINGS[phantom.region]:
        found = phantom.named(name)
        if len(found) == 1 and found[0].size:
            extent = found[0].size
            yield Question(
                f"size of {name}", "SIZE", "open", extent, ("small", "large"),
                (f"what is the size of the {name}?",), (f"how large is the {name}?",),
            )  # fmt: skip
            yield Question(
                f"small or large {name}", "SIZE", "closed", extent, ("small", "large"),
                (f"is the {name} small or large?",), (f"is it a small or large {name}?",),
            )  # fmt: skip


def count(phantom: Phantom) -> Iterator[Question]:
    """How many nodules, lesions of the liver or the brain, affected lungs or hemispheres."""
    counted = {
        "CHEST": (("nodule", "nodules", phantom.named("nodule")),),
        "ABD": (("liver lesion", "liver lesions", phantom.named("liver cyst", "liver mass")),),
        "HEAD": (
            ("brain mass", "brain masses", phantom.named("brain mass")),
            ("brain lesion", "brain lesions", tuple(f for f in phantom.findings if f.organ == "brain")),
        ),
    }[phantom.region]
    for thing, things, found in counted:
        yield Question(
            f"number of {things}", "COUNT", "open", NUMBERS[len(found)], NUMBERS,
            (f"how many {things} are there?", f"how many {things} are seen?"), (f"what is the number of {things}?",),
        )  # fmt: skip
        yield yes_no(
            f"several {things}", "COUNT", len(found) > 1,
            (f"are there multiple {things}?",), (f"is there more than one {thing}?",),
        )  # fmt: skip
    if phantom.region != "ABD":
        many = HALVES[phantom.region][1]
        yield Question(
            f"number of {many}", "COUNT", "open", NUMBERS[len(affected_sides(phantom))], NUMBERS[:3],
            (f"how many {many} are abnormal?",), (f"how many {many} have an abnormality?",),
        )  # fmt: skip


def attributes(phantom: Phantom) -> Iterator[Question]:
    """Shape, density and colour of a kind of lesion that stands alone."""
    lesions = {
        "CHEST": (("opacity", phantom.named("nodule", "consolidation")),),
        "ABD": (
            ("liver lesion", phantom.named("liver cyst", "liver mass")),
            ("kidney lesion", phantom.named("renal cyst", "kidney stone")),
        ),
        "HEAD": (("brain lesion", phantom.named("brain mass", "infarct", "haemorrhage")),),
    }[phantom.region]
    for lesion, found in lesions:
        names = {finding.name for finding in found}
        if len(names) == 1:
            yield from _looks(lesion, names.pop())


def _looks(lesion: str, name: str) -> Iterator[Question]:
    """The look of a lesion, by the name of the finding."""
    if lesion == "opacity":
        look, looks = {"nodule": "round", "consolidation": "hazy"}[name], ("round", "hazy")
    elif lesion == "brain lesion":
        look, looks = SHAPES[name], tuple(SHAPES.values())
    else:
        look, looks = "hypodense" if name.endswith("cyst") else "hyperdense", ("hyperdense", "hypodense")
    yield Question(
        f"look of {lesion}", "ATTRIB", "open", look, looks,
        (f"how does the {lesion} look?",), (f"how would you describe the {lesion}?",),
    )  # fmt: skip
    choice = ", ".join(looks[:-1]) + f" or {looks[-1]}"
    yield Question(
        f"choice of {lesion}", "ATTRIB", "closed", look, looks,
        (f"is the {lesion} {choice}?",), (f"does the {lesion} look {choice}?",),
    )  # fmt: skip
    if lesion == "opacity" or name == "brain mass":  # a ring is both: white outside, black inside
        return
    colour = "black" if name.endswith("cyst") or name == "infarct" else "white"
    yield Question(
        f"colour of {lesion}", "COLOR", "open", colour, ("black", "white"),
        (f"what colour is the {lesion}?",), (f"which colour does the {lesion} have?",),
    )  # fmt: skip
    yield Question(
        f"black or white {lesion}", "COLOR", "closed", colour, ("black", "white"),
        (f"is the {lesion} black or white?",), (f"does the {lesion} look black or white?",),
    )  # fmt: skip
