"""Every question that a phantom can answer, each with its answer, in the manner of VQA-RAD.

A `Question` belongs to a form: one thing asked, in several wordings, with a fixed set of possible answers. The builder
of the data set picks among these questions so that, form by form, all answers come up about equally often. Nothing is
asked where the answer would be ambiguous: the place and the size of a finding only if it is the only one of that name.
"""

from __future__ import annotations

from collections.abc import Iterator

from pefomed.embedded.phantom_findings import FINDINGS, Finding, Phantom
from pefomed.embedded.phantom_lesion_questions import attributes, count, position, size
from pefomed.embedded.phantom_question import HALVES, SIDES, Question, affected_sides, yes_no

SHORT = {"liver cyst": "cyst", "liver mass": "mass", "renal cyst": "cyst", "kidney stone": "stone"}
WITHOUT_ARTICLE = ("cardiomegaly", "splenomegaly", "ascites", "hydrocephalus")
MODALITIES = ("x-ray", "ct", "mri")
PLANES = ("frontal", "axial", "coronal")
BODY_PARTS = ("chest", "abdomen", "head")


def questions_about(phantom: Phantom) -> list[Question]:
    """Every question that the phantom answers without ambiguity."""
    parts = (_kind_of_image, _abnormal, _presence, position, size, count, attributes, _organs, _sides_compared)
    return [question for part in parts for question in part(phantom)]


def _a(name: str) -> str:
    """The name with its article."""
    if name in WITHOUT_ARTICLE:
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _kind_of_image(phantom: Phantom) -> Iterator[Question]:
    """Modality, plane and part of the body."""
    facts = phantom.facts
    yield Question(
        "modality", "MODALITY", "open", facts.modality, MODALITIES,
        ("what imaging modality is shown?", "what type of image is this?"), ("which modality was used?",),
    )  # fmt: skip
    yield Question(
        "which of the modalities", "MODALITY", "closed", facts.modality, MODALITIES,
        ("is this an x-ray, ct or mri?",), ("was this image taken by x-ray, ct or mri?",),
    )  # fmt: skip
    if phantom.region == "ABD":
        yield yes_no(
            "contrast", "MODALITY", bool(facts.contrast), ("was contrast given?",), ("is this image with contrast?",)
        )
    yield Question(
        "plane", "PLANE", "open", facts.plane, PLANES,
        ("in what plane is this image?", "what is the plane of this image?"), ("which plane is shown?",),
    )  # fmt: skip
    yield Question(
        "which of the planes", "PLANE", "closed", facts.plane, PLANES,
        ("is this image frontal, axial or coronal?",), ("is the plane frontal, axial or coronal?",),
    )  # fmt: skip
    yield Question(
        "body part", "ORGAN", "open", facts.body_part, BODY_PARTS,
        ("what part of the body is shown?",), ("which body part is this?",),
    )  # fmt: skip
    yield Question(
        "which of the body parts", "ORGAN", "closed", facts.body_part, BODY_PARTS,
        ("is this the chest, abdomen or head?",), ("is the chest, abdomen or head shown?",),
    )  # fmt: skip


def _abnormal(phantom: Phantom) -> Iterator[Question]:
    """Whether anything is wrong, and what."""
    region = phantom.region
    names = {finding.name for finding in phantom.findings}
    diseases = names - {"pacemaker"}  # a device is neither normal nor an abnormality: with it alone nothing is asked
    if diseases or not names:
        yield yes_no(
            f"normal {region}", "ABN", not names,
            ("is this image normal?", "does this image look normal?"), ("would you call this image normal?",),
        )  # fmt: skip
        yield yes_no(
            f"abnormal {region}", "ABN", bool(names),
            ("is there an abnormality?", "is there anything abnormal?"), ("is an abnormality present in this image?",),
        )  # fmt: skip
    if len(diseases) == 1 or not names:
        answers = (*(name for name in FINDINGS[region] if name != "pacemaker"), "none")
        yield Question(
            f"what abnormality {region}", "ABN", "open", next(iter(diseases), "none"), answers,
            ("what abnormality is seen?", "what is abnormal in this image?"), ("which abnormality is present?",),
        )  # fmt: skip
    for place, inside in _places(phantom):
        yield yes_no(
            f"abnormal {place}", "ABN", bool(inside),
            (f"is there an abnormality in the {place}?",), (f"is the {place} abnormal?",),
        )  # fmt: skip


def _places(phantom: Phantom) -> list[tuple[str, tuple[Finding, ...]]]:
    """Both lungs, hemispheres or kidneys, and the liver, each with the findings inside."""
    organ, half = {"CHEST": ("lung", "lung"), "HEAD": ("brain", "hemisphere"), "ABD": ("kidney", "kidney")}[
        phantom.region
    ]
    places = [
        (f"{side} {half}", tuple(f for f in phantom.findings if f.organ == organ and f.side == side)) for side in SIDES
    ]
    if phantom.region == "ABD":
        places.append(("liver", tuple(f for f in phantom.findings if f.organ == "liver")))
    return places


def _presence(phantom: Phantom) -> Iterator[Question]:
    """Whether a named finding is there, and what lies in a lung, a hemisphere, a kidney or the liver."""
    for name in FINDINGS[phantom.region]:
        yield yes_no(
            f"present {name}", "PRES", bool(phantom.named(name)),
            (f"is there {_a(name)}?", f"does this image show {_a(name)}?"), (f"is {_a(name)} present?",),
        )  # fmt: skip
    for place, inside in _places(phantom):
        names = {finding.name for finding in inside}
        possible = {
            "CHEST": ("nodule", "consolidation", "pleural effusion", "pneumothorax"),
            "HEAD": ("brain mass", "infarct", "haemorrhage"),
            "ABD": ("liver cyst", "liver mass") if place == "liver" else ("renal cyst", "kidney stone"),
        }[phantom.region]
        if len(names) <= 1:
            answers = (*(SHORT.get(name, name) for name in possible), "none")
            yield Question(
                f"what is in {place}", "PRES", "open",
                next((SHORT.get(name, name) for name in names), "none"), answers,
                (f"what is in the {place}?", f"what is seen in the {place}?"), (f"what does the {place} show?",),
            )  # fmt: skip


def _organs(phantom: Phantom) -> Iterator[Question]:
    """Which organ is affected."""
    organs = {finding.organ for finding in phantom.findings}
    askable = ("lung", "heart", "liver", "spleen", "kidney", "brain")
    if len(organs) == 1 and organs <= set(askable):
        yield Question(
            "which organ", "ORGAN", "open", next(iter(organs)), askable,
            ("which organ is abnormal?", "which organ is affected?"), ("what organ has the abnormality?",),
        )  # fmt: skip
    if phantom.region == "ABD":
        with_cyst = {finding.organ for finding in phantom.findings if finding.name.endswith("cyst")}
        if len(with_cyst) == 1:
            yield Question(
                "organ of cyst", "ORGAN", "open", next(iter(with_cyst)), ("liver", "spleen", "kidney"),
                ("which organ contains the cyst?",), ("the cyst is in what organ?",),
            )  # fmt: skip
        for organ in ("liver", "spleen", "kidney"):
            yield yes_no(
                f"{organ} affected", "ORGAN", organ in organs,
                (f"is the {organ} affected?",), (f"is the {organ} abnormal?",),
            )  # fmt: skip


def _sides_compared(phantom: Phantom) -> Iterator[Question]:
    """Which of two lungs, hemispheres or kidneys is normal."""
    one, many = HALVES[phantom.region]
    affected = affected_sides(phantom)
    answer = {0: "both", 2: "neither"}.get(len(affected)) or ("right" if affected == {"left"} else "left")
    yield Question(
        f"normal {one}", "OTHER", "open", answer, (*SIDES, "both", "neither"),
        (f"which {one} is normal?",), (f"which {one} has no abnormality?",),
    )  # fmt: skip
    if phantom.region == "ABD":  # both kidneys are too seldom abnormal to be asked about
        return
    yield yes_no(
        f"both {many}", "OTHER", len(affected) == 2,
        (f"are both {many} abnormal?",), (f"do both {many} have an abnormality?",),
    )  # fmt: skip
    affected_ones = {0: "neither", 2: "both"}.get(len(affected)) or next(iter(affected))
    yield Question(
        f"which of the {many}", "OTHER", "closed", affected_ones, (*SIDES, "both", "neither"),
        (f"is the left, right, both or neither {one} abnormal?",),
        (f"is there an abnormality in the left, right, both or neither {one}?",),
    )  # fmt: skip
