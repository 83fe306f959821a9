"""What is said about a phantom: its caption and its report, both from the hidden findings, in lower case.

A report names every finding with its side, place and size, then the pertinent absent ones. `findings_in_report`
reads the names back out of any report, a generated one too, for finding-level scores.
"""

from __future__ import annotations

import numpy as np

from pefomed.embedded.phantom_findings import FINDINGS, Finding, Phantom

# {size}, {side} and {zone} are filled in from the finding
PHRASES = {
    "nodule": "a {size} nodule in the {side} {zone} lung",
    "consolidation": "a consolidation in the {side} {zone} lung",
    "pleural effusion": "a {size} {side} pleural effusion",
    "pneumothorax": "a {size} {side} pneumothorax",
    "cardiomegaly": "cardiomegaly",
    "pacemaker": "a pacemaker over the {side} chest",
    "liver cyst": "a {size} liver cyst in the {zone} part",
    "liver mass": "a {size} liver mass in the {zone} part",
    "splenic cyst": "a splenic cyst",
    "splenomegaly": "splenomegaly",
    "renal cyst": "a {side} renal cyst",
    "kidney stone": "a {side} kidney stone",
    "ascites": "ascites",
    "brain mass": "a {size} brain mass in the {side} {zone} lobe",
    "infarct": "an infarct in the {side} {zone} lobe",
    "haemorrhage": "a {size} haemorrhage in the {side} {zone} lobe",
    "hydrocephalus": "hydrocephalus",
}
NORMAL = {
    "CHEST": ("the lungs are clear.", "the heart size is normal."),
    "ABD": ("the liver and kidneys are normal.", "the spleen size is normal."),
    "HEAD": ("the brain is normal.", "the size of the ventricles is normal."),
}
# the findings whose absence a report mentions
DENIED = {
    "CHEST": ("nodule", "consolidation", "pleural effusion", "pneumothorax"),
    "ABD": ("liver cyst", "liver mass", "kidney stone", "ascites"),
    "HEAD": ("brain mass", "infarct", "haemorrhage"),
}
# what makes the sentence about the size of this organ untrue
ENLARGEMENT = {"CHEST": "cardiomegaly", "ABD": "splenomegaly", "HEAD": "hydrocephalus"}


def phrase(finding: Finding) -> str:
    """The finding in words, with an article: "a small nodule in the right upper lung"."""
    return PHRASES[finding.name].format(size=finding.size, side=finding.side, zone=finding.zone)


def view(phantom: Phantom) -> str:
    """What kind of picture it is: "axial ct of the abdomen with contrast"."""
    facts = phantom.facts
    if phantom.region == "CHEST":
        return "frontal chest x-ray"
    given = {True: " with contrast", False: " without contrast", None: ""}[facts.contrast]
    return f"{facts.plane} {facts.modality} of the {facts.body_part}{given}"


def join(parts: list[str], word: str) -> str:
    """Parts as a list in a sentence: "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def in_reading_order(findings: tuple[Finding, ...], region: str) -> list[Finding]:
    """Findings in the order in which they are told: by name, then the right side before the left."""
    names = FINDINGS[region]
    return sorted(findings, key=lambda f: (names.index(f.name), f.side != "right", f.zone or ""))


def caption(phantom: Phantom, rng: np.random.Generator) -> str:
    """One sentence that names the kind of picture and every finding."""
    if not phantom.findings:
        return (f"normal {view(phantom)}.", f"{view(phantom)} without abnormality.")[int(rng.integers(2))]
    told = join([phrase(finding) for finding in in_reading_order(phantom.findings, phantom.region)], "and")
    return f"{view(phantom)}, {('showing', 'which shows')[int(rng.integers(2))]} {told}."


def report(phantom: Phantom, rng: np.random.Generator) -> str:
    """Two to five sentences: the technique, each finding, what is normal, and which findings are absent."""
    opening = ("there is", "the image shows")[int(rng.integers(2))]
    sentences = [f"{view(phantom)}."]
    told = in_reading_order(phantom.findings, phantom.region)
    sentences += [f"{opening} {phrase(finding)}." for finding in told]
    present = {finding.name for finding in phantom.findings}
    if not told:
        sentences.append(NORMAL[phantom.region][0])
    if len(told) <= 1 and ENLARGEMENT[phantom.region] not in present:
        sentences.append(NORMAL[phantom.region][1])
    absent = [name for name in DENIED[phantom.region] if name not in present]
    sentences.append(f"no {join(absent, 'or')}." if absent else "no other abnormality.")
    return " ".join(sentences)


def findings_in_report(text: str, region: str) -> frozenset[str]:
    """The names of the findings that a report says are there; sentences that begin with "no" deny theirs.

    Args:
        text: a report or caption, as `report` and `caption` write them or as a model generated it.
        region: "CHEST", "ABD" or "HEAD".

    Raises:
        ValueError: for an unknown region.
    """
    if region not in FINDINGS:
        raise ValueError(f"region: found {region!r}, expected one of {', '.join(FINDINGS)}")
    sentences = [" ".join(sentence.split()) for sentence in text.lower().split(".")]
    affirmed = [sentence for sentence in sentences if not sentence.startswith(("no ", "there is no "))]
    return frozenset(name for name in FINDINGS[region] if any(name in sentence for sentence in affirmed))
