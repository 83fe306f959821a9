"""A phantom and what can be wrong on it: one `Finding` a lesion, and the names under which findings are counted.

Sides are the patient's own. Pictures follow the radiological convention: the patient's left lies on the image's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REGIONS = ("CHEST", "ABD", "HEAD")
FINDINGS: dict[str, tuple[str, ...]] = {
    "CHEST": ("nodule", "consolidation", "pleural effusion", "pneumothorax", "cardiomegaly", "pacemaker"),
    "ABD": ("liver cyst", "liver mass", "splenic cyst", "splenomegaly", "renal cyst", "kidney stone", "ascites"),
    "HEAD": ("brain mass", "infarct", "haemorrhage", "hydrocephalus"),
}
# the findings that can stand in one picture up to three times
REPEATABLE = ("nodule", "liver cyst", "liver mass", "brain mass")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (or, for the pacemaker, was put there).

    Attributes:
        name: one of `FINDINGS[region]`.
        organ: the organ it belongs to, as asked about ("lung", "heart", "liver", "kidney", "spleen", "brain", ...).
        side: the patient's "left" or "right"; None where the finding has no side.
        zone: "upper"/"lower" lung, "anterior"/"lateral"/"medial" part of the liver, or the lobe of the brain.
        size: "small" or "large" where the size is asked about, else None. The two never come close to each other.
        x, y: middle of the finding in body coordinates (reference pixels from the middle of the picture).
        radius: half width in reference pixels, or the measure that the drawing needs.
    """

    name: str
    organ: str
    side: str | None = None
    zone: str | None = None
    size: str | None = None
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0


@dataclass(frozen=True)
class Facts:
    """What else is asked about a picture.

    Attributes:
        modality: "x-ray", "ct" or "mri".
        plane: "frontal", "axial" or "coronal".
        body_part: "chest", "abdomen" or "head".
        contrast: for ct, whether contrast was given; None where it does not vary and is not spoken of.
    """

    modality: str
    plane: str
    body_part: str
    contrast: bool | None


@dataclass(frozen=True, eq=False)
class Phantom:
    """One drawn picture with everything that is true of it.

    Attributes:
        region: "CHEST", "ABD" or "HEAD".
        image: uint8 (112, 112), grey.
        findings: 0 to 3 findings, none hidden by another.
        facts: modality, plane, body part and contrast.
        masks: the pixels that each finding covers, bool (112, 112).
        anatomy: the normal variants (a `ChestAnatomy`, `AbdomenAnatomy` or `HeadAnatomy`).
        noise_seed: seed of texture and noise, so that the picture can be drawn again with fewer findings.
    """

    region: str
    image: np.ndarray
    findings: tuple[Finding, ...]
    facts: Facts
    masks: dict[Finding, np.ndarray]
    anatomy: object
    noise_seed: int

    def named(self, *names: str) -> tuple[Finding, ...]:
        """The findings with one of these names."""
        return tuple(finding for finding in self.findings if finding.name in names)


def choose_names(rng: np.random.Generator, region: str, most: int = 3) -> list[str]:
    """Draw the names of 0 to `most` findings; a quarter of the pictures stay normal, some repeat one finding."""
    names = FINDINGS[region]
    wanted = min(int(rng.choice(4, p=(0.25, 0.33, 0.22, 0.20))), most)
    repeatable = [name for name in names if name in REPEATABLE]
    if wanted >= 2 and rng.random() < 0.45:
        return [repeatable[int(rng.integers(len(repeatable)))]] * wanted
    return [names[int(i)] for i in rng.permutation(len(names))[:wanted]]


def mirror(side: str) -> int:
    """The image direction of a patient's side: +1 (image right) for left, -1 (image left) for right."""
    return 1 if side == "left" else -1
