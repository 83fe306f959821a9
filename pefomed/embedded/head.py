"""T1-weighted MR of the head after contrast, axial or coronal: sample hidden findings, draw them.

The patient's left lies on the image's right. Axial: the face is up, so the upper places are the frontal lobes and the
lower ones the occipital lobes. Coronal: the crown is up, the upper places are parietal, the lower ones temporal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pefomed.embedded import drawing
from pefomed.embedded.drawing import Grid, Pose
from pefomed.embedded.phantom_findings import Finding, choose_names, mirror

LOBES = {"axial": ("frontal", "occipital"), "coronal": ("parietal", "temporal")}
PLACES = {"frontal": (19.5, -23.0), "occipital": (19.5, 22.0), "parietal": (22.0, -24.0), "temporal": (23.0, 4.0)}
SIZES = {
    "brain mass": {"small": (6.0, 6.8), "large": (10.2, 11.2)},
    "haemorrhage": {"small": (5.6, 6.4), "large": (10.0, 11.2)},
}
BRAIN = {"axial": (0.0, 0.0, 35.0, 44.0), "coronal": (0.0, -10.0, 38.0, 33.0)}  # x, y, half axes


@dataclass(frozen=True)
class HeadAnatomy:
    """The normal variants of one head.

    Attributes:
        pose: shift and scale of the head.
        plane: "axial" or "coronal".
        ventricle: width of the ventricles: 0 to 0.6 is normal, 2.3 to 3 enlarged, nothing lies between.
        brain_tone: grey of the brain, 0 to 1.
        scalp: thickness of the scalp, reference pixels.
    """

    pose: Pose
    plane: str
    ventricle: float
    brain_tone: float
    scalp: float


def sample_head(rng: np.random.Generator) -> tuple[HeadAnatomy, tuple[Finding, ...]]:
    """Draw a head and 0 to 3 findings, each in a quadrant of its own."""
    names = choose_names(rng, "HEAD")
    plane = ("axial", "coronal")[int(rng.integers(2))]
    free = [(side, lobe) for side in ("left", "right") for lobe in LOBES[plane]]
    findings = [_sample_finding(rng, name, free) for name in names]
    enlarged = "hydrocephalus" in names
    anatomy = HeadAnatomy(
        pose=drawing.sample_pose(rng),
        plane=plane,
        ventricle=float(rng.uniform(2.3, 3) if enlarged else rng.uniform(0, 0.6)),
        brain_tone=float(rng.uniform(0.45, 0.53)),
        scalp=float(rng.uniform(2.5, 4.0)),
    )
    return anatomy, tuple(findings)


def _sample_finding(rng: np.random.Generator, name: str, free: list[tuple[str, str]]) -> Finding:
    """One finding of that name in a free quadrant, which it takes from `free`."""
    if name == "hydrocephalus":
        return Finding(name, "ventricles")
    side, lobe = free.pop(int(rng.integers(len(free))))
    across, y = PLACES[lobe]
    x, y = mirror(side) * (across + float(rng.uniform(-1, 1))), y + float(rng.uniform(-1.5, 1.5))
    size = ("small", "large")[int(rng.integers(2))] if name in SIZES else None
    radius = float(rng.uniform(*SIZES[name][size])) if size else float(rng.uniform(0.42, 0.52))
    return Finding(name, "brain", side, lobe, size, x, y, radius)


def draw_head(
    anatomy: HeadAnatomy, findings: tuple[Finding, ...], noise_seed: int
) -> tuple[np.ndarray, dict[Finding, np.ndarray]]:
    """Draw a head with some findings. The radius of an infarct is the half angle of its wedge, radians.

    Returns:
        The picture, uint8 (112, 112), and for each finding the pixels it covers, bool (112, 112).
    """
    rng = np.random.default_rng(noise_seed)
    grid = drawing.place(anatomy.pose)
    image, brain = (_draw_axial if anatomy.plane == "axial" else _draw_coronal)(grid, anatomy)
    image += brain * drawing.texture(rng, 15) * np.float32(0.06)
    ventricles = _draw_ventricles(image, grid, anatomy)
    alphas: dict[Finding, np.ndarray] = {}
    for finding in findings:
        if finding.name == "hydrocephalus":
            alphas[finding] = ventricles
        elif finding.name == "infarct":
            alphas[finding] = brain * _infarct(grid, anatomy.plane, finding) * (1 - ventricles)
            drawing.paint(image, alphas[finding], 0.14)
        elif finding.name == "haemorrhage":
            alphas[finding] = drawing.blob(grid, finding.x, finding.y, finding.radius, phase=finding.x)
            drawing.paint(image, alphas[finding], 0.98)
        else:
            alphas[finding] = drawing.disc(grid, finding.x, finding.y, finding.radius)
            drawing.paint(image, drawing.disc(grid, finding.x, finding.y, finding.radius + 2.0), 0.30)
            drawing.paint(image, alphas[finding], 1.0)
            drawing.paint(image, drawing.disc(grid, finding.x, finding.y, finding.radius - 2.8), 0.10)
    return drawing.develop(image, rng), {finding: alpha > 0.5 for finding, alpha in alphas.items()}


def _draw_axial(grid: Grid, anatomy: HeadAnatomy) -> tuple[np.ndarray, np.ndarray]:
    """Scalp, skull, brain and falx seen from below; returns the picture and the brain's mask."""
    image = np.full((drawing.SIZE, drawing.SIZE), 0.02, np.float32)
    drawing.paint(image, drawing.ellipse(grid, 0, 0, 38 + anatomy.scalp, 47 + anatomy.scalp), 0.82)
    drawing.paint(image, drawing.ellipse(grid, 0, 0, 38, 47), 0.06)
    brain = drawing.ellipse(grid, *BRAIN["axial"])
    drawing.paint(image, brain, anatomy.brain_tone)
    drawing.paint(image, brain * drawing.soft(np.abs(grid.u) - 0.6), 0.72)
    return image, brain


def _draw_coronal(grid: Grid, anatomy: HeadAnatomy) -> tuple[np.ndarray, np.ndarray]:
    """Scalp, skull, brain, cerebellum and neck seen from the front; returns the picture and the brain's mask."""
    image = np.full((drawing.SIZE, drawing.SIZE), 0.02, np.float32)
    drawing.paint(image, drawing.soft(np.abs(grid.u) - 24) * drawing.soft(20 - grid.v), 0.42)
    drawing.paint(image, drawing.ellipse(grid, 0, -9, 41 + anatomy.scalp, 36.5 + anatomy.scalp), 0.82)
    drawing.paint(image, drawing.ellipse(grid, 0, -9, 41, 36.5), 0.06)
    brain = drawing.ellipse(grid, *BRAIN["coronal"])
    drawing.paint(image, brain, anatomy.brain_tone)
    drawing.paint(image, brain * drawing.soft(np.abs(grid.u) - 0.6) * drawing.soft(grid.v + 12), 0.72)
    cerebellum = drawing.ellipse(grid, 0, 30, 25, 11)
    drawing.paint(image, drawing.ellipse(grid, 0, 30, 28, 14), 0.06)
    drawing.paint(image, cerebellum, anatomy.brain_tone - 0.04)
    image += cerebellum * np.sin(grid.v * np.float32(2.1)) * np.float32(0.10)
    drawing.paint(image, drawing.soft(np.abs(grid.u) - 5) * drawing.soft(16 - grid.v), 0.58)
    return image, brain


def _draw_ventricles(image: np.ndarray, grid: Grid, anatomy: HeadAnatomy) -> np.ndarray:
    """The two dark lateral ventricles; returns their mask."""
    wide = anatomy.ventricle
    both = np.zeros_like(image)
    for side in ("left", "right"):
        if anatomy.plane == "axial":
            shape = drawing.ellipse(grid, mirror(side) * (4.5 + 1.9 * wide), 0, 2.6 + 1.9 * wide, 10 + 2.4 * wide)
        else:
            tilt = -0.5 * mirror(side)
            shape = drawing.ellipse(
                grid, mirror(side) * (5.0 + 1.6 * wide), -10, 2.4 + 1.7 * wide, 7.5 + 1.4 * wide, -tilt
            )
        both = np.maximum(both, shape)
    drawing.paint(image, both, 0.07)
    return both


def _infarct(grid: Grid, plane: str, finding: Finding) -> np.ndarray:
    """A wedge from the depth of the brain through the finding's place out to the cortex."""
    x, y = BRAIN[plane][0], BRAIN[plane][1]
    apex = (x + 0.35 * (finding.x - x), y + 0.35 * (finding.y - y))
    return drawing.wedge(grid, apex, (finding.x, finding.y), finding.radius)
