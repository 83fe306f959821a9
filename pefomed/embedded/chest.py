"""Frontal chest radiographs: sample hidden findings, draw them.

The patient's left lies on the image's right. Each lung has an upper and a lower place; a place holds one finding at
most, so nothing hides behind anything else. A large heart covers the lower left place, which then stays empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pefomed.embedded import drawing
from pefomed.embedded.drawing import Grid, Pose
from pefomed.embedded.phantom_findings import Finding, choose_names, mirror

LUNG_X, LUNG_Y, LUNG_RX, LUNG_RY = 23.0, -5.0, 18.0, 36.0
# half widths of the heart in reference pixels: the gap between the two ranges keeps "enlarged" unambiguous
HEART_NORMAL, HEART_ENLARGED = (11.5, 13.5), (22.0, 25.0)
SIZES = {
    "nodule": {"small": (5.2, 6.2), "large": (9.6, 11.0)},
    "pleural effusion": {"small": (11.0, 14.0), "large": (26.0, 30.0)},  # height above the lung's base
    "pneumothorax": {"small": (7.0, 8.0), "large": (14.0, 16.0)},  # width of the air
}
PLACES = {"upper": (-24.0, -18.0), "lower": (8.0, 13.0)}  # range of y


@dataclass(frozen=True)
class ChestAnatomy:
    """The normal variants of one chest.

    Attributes:
        pose: shift and scale of the body.
        heart: half width of the heart in reference pixels.
        lung_tone: grey of the lungs, 0 to 1.
        rib_gap: distance from rib to rib in reference pixels.
        rib_phase: where the first rib lies, radians.
        stomach_bubble: whether air stands in the stomach under the left diaphragm.
    """

    pose: Pose
    heart: float
    lung_tone: float
    rib_gap: float
    rib_phase: float
    stomach_bubble: bool


def sample_chest(rng: np.random.Generator) -> tuple[ChestAnatomy, tuple[Finding, ...]]:
    """Draw a chest and 0 to 3 findings that do not hide each other."""
    names = choose_names(rng, "CHEST")
    enlarged = "cardiomegaly" in names
    free = [(side, zone) for side in ("left", "right") for zone in ("upper", "lower")]
    if enlarged:
        free.remove(("left", "lower"))
    # whole-lung findings first: they need more room than the others
    order = ("cardiomegaly", "pneumothorax", "pleural effusion", "pacemaker", "consolidation", "nodule")
    findings = [
        finding for name in sorted(names, key=order.index) if (finding := _sample_finding(rng, name, free)) is not None
    ]
    anatomy = ChestAnatomy(
        pose=drawing.sample_pose(rng),
        heart=float(rng.uniform(*(HEART_ENLARGED if enlarged else HEART_NORMAL))),
        lung_tone=float(rng.uniform(0.25, 0.32)),
        rib_gap=float(rng.uniform(9.0, 11.0)),
        rib_phase=float(rng.uniform(0, 2 * np.pi)),
        stomach_bubble=bool(rng.random() < 0.5),
    )
    return anatomy, tuple(findings)


def _sample_finding(rng: np.random.Generator, name: str, free: list[tuple[str, str]]) -> Finding | None:
    """One finding of that name in a free place, which it takes from `free`; None where no place is left for it."""
    if name == "cardiomegaly":
        return Finding(name, "heart")
    zones = {"pacemaker": ("upper",), "pleural effusion": ("lower",), "pneumothorax": ("upper", "lower")}
    needed = zones.get(name)
    sides = [side for side in ("left", "right") if needed and (side, needed[0]) in free]
    if name == "pneumothorax":
        # with a large heart the lower left place is gone, but the air beside the upper lung still shows
        sides = [side for side in sides if (side, "lower") in free or not any(place == "lower" for _, place in free)]
    if needed is None:
        if not free:
            return None
        side, zone = free[int(rng.integers(len(free)))]
    elif not sides:
        return None
    else:
        side, zone = sides[int(rng.integers(len(sides)))], needed[0]
    for place in needed or (zone,):
        if (side, place) in free:
            free.remove((side, place))
    size = ("small", "large")[int(rng.integers(2))] if name in SIZES else None
    radius = float(rng.uniform(*SIZES[name][size])) if size else float(rng.uniform(12.0, 14.0))
    x, y = _position(rng, name, side, zone)
    organ = {"pacemaker": "chest wall"}.get(name, "lung")
    kept_zone = zone if name in ("nodule", "consolidation") else None
    return Finding(name, organ, side, kept_zone, size, x, y, radius)


def _position(rng: np.random.Generator, name: str, side: str, zone: str) -> tuple[float, float]:
    """The middle of a finding in body coordinates."""
    if name == "pacemaker":
        return mirror(side) * 29.0, float(rng.uniform(-32, -29))
    # lower findings keep to the outside, away from the heart
    across = (27.5, 29.5) if zone == "lower" else (21.0, 26.0)
    return mirror(side) * float(rng.uniform(*across)), float(rng.uniform(*PLACES[zone]))


def draw_chest(
    anatomy: ChestAnatomy, findings: tuple[Finding, ...], noise_seed: int
) -> tuple[np.ndarray, dict[Finding, np.ndarray]]:
    """Draw a chest with some findings.

    Returns:
        The picture, uint8 (112, 112), and for each finding the pixels it covers, bool (112, 112).
    """
    rng = np.random.default_rng(noise_seed)
    grid = drawing.place(anatomy.pose)
    lungs = {side: _lung(grid, side) for side in ("left", "right")}
    image = _draw_torso(grid, anatomy, lungs, rng)
    alphas: dict[Finding, np.ndarray] = {}
    for finding in findings:  # the air and the fluid lie behind the heart's outline
        if finding.name == "pneumothorax":
            alphas[finding] = _draw_pneumothorax(image, grid, lungs[finding.side], finding)
        elif finding.name == "pleural effusion":
            alphas[finding] = _draw_effusion(image, grid, lungs[finding.side], finding)
    heart = _draw_heart(image, grid, anatomy.heart)
    alphas = {finding: alpha * (1 - heart) for finding, alpha in alphas.items()}
    patches = drawing.texture(rng, 18)
    for finding in findings:
        if finding.name == "nodule":
            alphas[finding] = drawing.disc(grid, finding.x, finding.y, finding.radius, edge=1.5)
            drawing.paint(image, alphas[finding], 0.86)
        elif finding.name == "consolidation":
            cloud = drawing.haze(grid, finding.x, finding.y, finding.radius, finding.radius)
            alphas[finding] = cloud * lungs[finding.side]
            drawing.paint(image, alphas[finding] * (0.78 + 0.22 * patches), 0.74)
        elif finding.name == "pacemaker":
            alphas[finding] = _draw_pacemaker(image, grid, finding)
        elif finding.name == "cardiomegaly":
            alphas[finding] = heart
    return drawing.develop(image, rng), {finding: alpha > 0.5 for finding, alpha in alphas.items()}


def _lung(grid: Grid, side: str) -> np.ndarray:
    """One lung: an ellipse cut off below by the dome of the diaphragm."""
    middle = np.float32(mirror(side) * LUNG_X)
    dome = 24 + ((grid.u - middle) / 18) ** 2 * 5
    shape = drawing.ellipse(grid, float(middle), LUNG_Y, LUNG_RX, LUNG_RY)
    return shape * drawing.soft(grid.v - dome)


def _draw_torso(
    grid: Grid, anatomy: ChestAnatomy, lungs: dict[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Air, soft tissue, both lungs, the ribs, clavicles and spine."""
    image = np.full((drawing.SIZE, drawing.SIZE), 0.03, np.float32)
    drawing.paint(image, drawing.barrel(grid, 0, 22, 51, 74), 0.50)
    both = lungs["left"] + lungs["right"]
    drawing.paint(image, both, anatomy.lung_tone)
    # ribs slope away from the spine on both sides
    height = grid.v - np.float32(0.010) * (np.abs(grid.u) - 14) ** 2
    stripes = np.clip(np.cos(height * np.float32(2 * np.pi / anatomy.rib_gap) + np.float32(anatomy.rib_phase)), 0, 1)
    image += stripes**2 * both * np.float32(0.09)
    image += drawing.texture(rng, 14) * np.float32(0.03)
    for side in ("left", "right"):
        clavicle = drawing.line(grid, (mirror(side) * 5.0, -35.0), (mirror(side) * 42.0, -43.0), 3.5)
        image += clavicle * np.float32(0.13)
    drawing.paint(image, drawing.soft(np.abs(grid.u) - 6.5, edge=2.0) * drawing.soft(-50 - grid.v), 0.62)
    if anatomy.stomach_bubble:
        drawing.paint(image, drawing.ellipse(grid, 20, 39, 8, 4.5), 0.30)
    return image


def _draw_heart(image: np.ndarray, grid: Grid, half_width: float) -> np.ndarray:
    """The heart, leaning to the patient's left; returns its mask."""
    middle = 5.5 + 0.25 * (half_width - HEART_NORMAL[0])
    heart = drawing.ellipse(grid, middle, 14.0, half_width, 8.0 + 0.55 * half_width, tilt=0.35, edge=1.5)
    drawing.paint(image, heart, 0.68)
    return heart


def _draw_effusion(image: np.ndarray, grid: Grid, lung: np.ndarray, finding: Finding) -> np.ndarray:
    """Fluid at the base of a lung; its surface climbs towards the chest wall (the meniscus)."""
    outward = grid.u * mirror(finding.side)
    surface = 29 - np.float32(finding.radius) - 7 * np.clip((outward - 20) / 20, 0, 1) ** 2
    fluid = lung * drawing.soft(surface - grid.v, edge=1.5)
    drawing.paint(image, fluid, 0.72)
    return fluid


def _draw_pneumothorax(image: np.ndarray, grid: Grid, lung: np.ndarray, finding: Finding) -> np.ndarray:
    """Black air between the chest wall and the collapsed lung, with the lung's thin white edge."""
    inward = mirror(finding.side) * (LUNG_X - 0.55 * finding.radius)
    radius = drawing.radius_of(
        grid, inward, LUNG_Y + 0.5 * finding.radius, LUNG_RX - 0.55 * finding.radius, LUNG_RY - 0.45 * finding.radius
    )
    reach = np.float32(LUNG_RX - 0.55 * finding.radius)
    air = lung * drawing.soft((1 - radius) * reach)
    drawing.paint(image, air, 0.02)
    drawing.paint(image, lung * drawing.soft(np.abs(radius - 1) * reach - np.float32(0.8)), 0.75)
    return air


def _draw_pacemaker(image: np.ndarray, grid: Grid, finding: Finding) -> np.ndarray:
    """A white box below the clavicle and a wire to the heart; the mask is the box."""
    case = drawing.box(grid, finding.x, finding.y, 6.5, 5.0)
    turn = (mirror(finding.side) * 4.0, -24.0)
    wire = np.maximum(
        drawing.line(grid, (finding.x, finding.y), turn, 2.0), drawing.line(grid, turn, (4.0, 16.0), 2.0)
    )
    drawing.paint(image, np.maximum(case, wire), 1.0)
    return case
