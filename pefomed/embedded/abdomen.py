"""Axial CT of the upper abdomen: sample hidden findings, draw them.

Seen from the feet: the patient's left lies on the image's right, the front of the body is up. So the liver lies on the
image's left and the spleen on its right. The liver has three places, each kidney and the spleen one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pefomed.embedded import drawing
from pefomed.embedded.drawing import Grid, Pose
from pefomed.embedded.phantom_findings import Finding, choose_names, mirror

LIVER_PLACES = {"anterior": (-18.0, -17.5), "lateral": (-30.0, 0.0), "medial": (-10.5, -0.5)}
LIVER_SIZES = {"small": (4.6, 5.3), "large": (7.8, 8.8)}
KIDNEY_X, KIDNEY_Y = 19.0, 17.0
SPLEEN_NORMAL, SPLEEN_ENLARGED = (31.0, -3.0, 7.5, 12.0), (26.0, -5.0, 14.0, 19.0)  # x, y, half axes


@dataclass(frozen=True)
class AbdomenAnatomy:
    """The normal variants of one abdomen.

    Attributes:
        pose: shift and scale of the body.
        contrast: whether contrast was given: aorta and kidneys are then white.
        liver_tone: grey of the liver, 0 to 1.
        fat: thickness of the fat under the skin, reference pixels.
        stomach: half width of the stomach, reference pixels.
    """

    pose: Pose
    contrast: bool
    liver_tone: float
    fat: float
    stomach: float


def sample_abdomen(rng: np.random.Generator) -> tuple[AbdomenAnatomy, tuple[Finding, ...]]:
    """Draw an abdomen and 0 to 3 findings that do not hide each other."""
    names = choose_names(rng, "ABD")
    if "splenomegaly" in names and "splenic cyst" in names:
        names.remove(("splenomegaly", "splenic cyst")[int(rng.integers(2))])
    liver = list(LIVER_PLACES)
    kidneys = ["right"] if "splenomegaly" in names else ["left", "right"]  # a large spleen reaches the left kidney
    findings = [finding for name in names if (finding := _sample_finding(rng, name, liver, kidneys)) is not None]
    anatomy = AbdomenAnatomy(
        pose=drawing.sample_pose(rng),
        contrast=bool(rng.random() < 0.5),
        liver_tone=float(rng.uniform(0.50, 0.57)),
        fat=float(rng.uniform(2.0, 5.0)),
        stomach=float(rng.uniform(9.0, 12.0)),
    )
    return anatomy, tuple(findings)


def _sample_finding(rng: np.random.Generator, name: str, liver: list[str], kidneys: list[str]) -> Finding | None:
    """One finding of that name; takes its place from `liver` or `kidneys`; None where no place is left."""
    if name == "ascites":
        return Finding(name, "peritoneum")
    if name == "splenomegaly":
        return Finding(name, "spleen")
    if name == "splenic cyst":
        return Finding(name, "spleen", x=SPLEEN_NORMAL[0], y=SPLEEN_NORMAL[1], radius=float(rng.uniform(5.4, 6.2)))
    if name in ("liver cyst", "liver mass"):
        zone = liver.pop(int(rng.integers(len(liver))))
        size = ("small", "large")[int(rng.integers(2))]
        x, y = LIVER_PLACES[zone]
        x, y = x + float(rng.uniform(-1, 1)), y + float(rng.uniform(-1, 1))
        return Finding(name, "liver", None, zone, size, x, y, float(rng.uniform(*LIVER_SIZES[size])))
    if not kidneys:
        return None
    side = kidneys.pop(int(rng.integers(len(kidneys))))
    if name == "renal cyst":
        x, y, radius = mirror(side) * (KIDNEY_X + 4.5), KIDNEY_Y - 1.0, float(rng.uniform(7.2, 8.2))
    else:
        x, y, radius = mirror(side) * KIDNEY_X, KIDNEY_Y, float(rng.uniform(3.4, 3.9))
    return Finding(name, "kidney", side, None, None, x, y, radius)


def draw_abdomen(
    anatomy: AbdomenAnatomy, findings: tuple[Finding, ...], noise_seed: int
) -> tuple[np.ndarray, dict[Finding, np.ndarray]]:
    """Draw an abdomen with some findings.

    Returns:
        The picture, uint8 (112, 112), and for each finding the pixels it covers, bool (112, 112).
    """
    rng = np.random.default_rng(noise_seed)
    grid = drawing.place(anatomy.pose)
    by_name = {finding.name: finding for finding in findings}
    image, rim = _draw_wall(grid, anatomy, fluid="ascites" in by_name)
    spleen = _draw_organs(image, grid, anatomy, enlarged="splenomegaly" in by_name)
    image += drawing.texture(rng, 16) * np.float32(0.025) * (image > 0.15)
    alphas: dict[Finding, np.ndarray] = {}
    for finding in findings:
        if finding.name == "ascites":
            alphas[finding] = rim
        elif finding.name == "splenomegaly":
            alphas[finding] = spleen
        elif finding.name == "kidney stone":
            alphas[finding] = drawing.disc(grid, finding.x, finding.y, finding.radius)
            drawing.paint(image, drawing.disc(grid, finding.x, finding.y, finding.radius + 3.2), 0.06)
            drawing.paint(image, alphas[finding], 1.0)
        else:
            alphas[finding] = drawing.disc(grid, finding.x, finding.y, finding.radius)
            drawing.paint(image, alphas[finding], 0.95 if finding.name == "liver mass" else 0.10)
    return drawing.develop(image, rng), {finding: alpha > 0.5 for finding, alpha in alphas.items()}


def _draw_wall(grid: Grid, anatomy: AbdomenAnatomy, fluid: bool) -> tuple[np.ndarray, np.ndarray]:
    """Skin, fat, the muscular wall and what lies around the organs; returns the picture and the rim of the belly."""
    image = np.full((drawing.SIZE, drawing.SIZE), 0.02, np.float32)
    outer = drawing.ellipse(grid, 0, 0, 49 + anatomy.fat, 39 + anatomy.fat)
    drawing.paint(image, outer, 0.30)
    drawing.paint(image, drawing.ellipse(grid, 0, 0, 49, 39), 0.50)
    cavity = drawing.ellipse(grid, 0, 0, 46.5, 36.5)
    organs = drawing.ellipse(grid, 0, 0, 41, 31)
    drawing.paint(image, cavity, 0.05 if fluid else 0.40)
    drawing.paint(image, organs, 0.14 if fluid else 0.34)
    return image, cavity * (1 - organs)


def _draw_organs(image: np.ndarray, grid: Grid, anatomy: AbdomenAnatomy, enlarged: bool) -> np.ndarray:
    """Liver, stomach, spleen, kidneys, aorta and spine; returns the mask of the spleen."""
    inside = drawing.ellipse(grid, 0, 0, 41, 31)
    liver = np.maximum(drawing.ellipse(grid, -19, -4, 22.5, 23), drawing.ellipse(grid, -3, -17, 15, 9, tilt=-0.2))
    drawing.paint(image, drawing.ellipse(grid, 15, -17, anatomy.stomach, 7.5, tilt=0.25) * inside, 0.45)
    drawing.paint(image, liver * inside, anatomy.liver_tone)
    x, y, rx, ry = SPLEEN_ENLARGED if enlarged else SPLEEN_NORMAL
    spleen = drawing.ellipse(grid, x, y, rx, ry, tilt=-0.15) * inside
    drawing.paint(image, spleen, 0.62)
    for side in ("left", "right"):
        kidney = drawing.ellipse(grid, mirror(side) * KIDNEY_X, KIDNEY_Y, 8.5, 9.5, tilt=mirror(side) * -0.3)
        drawing.paint(image, drawing.ellipse(grid, mirror(side) * KIDNEY_X, KIDNEY_Y, 10, 11), 0.28)
        drawing.paint(image, kidney, 0.80 if anatomy.contrast else 0.52)
    drawing.paint(image, drawing.disc(grid, 2.5, 7.5, 4.2), 1.0 if anatomy.contrast else 0.46)
    drawing.paint(image, drawing.disc(grid, 0, 20, 7.0), 0.92)
    drawing.paint(image, drawing.disc(grid, 0, 29, 3.0), 0.45)
    return spleen
