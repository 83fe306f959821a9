"""One container of the general world and the pixels of the marks inside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pefomed.embedded import shapes_drawing as draw
from pefomed.embedded.shapes_drawing import COLUMNS, ROWS, SIDE, Stamp, between, pick

_REACH = {"small": (4.2, 6.2), "medium": (8.5, 11.0), "large": (14.5, 20.0)}
WHOLE = slice(0, SIDE)


@dataclass(frozen=True)
class Vessel:
    """A container while drawn: (u, v) are its own coordinates, `depth` is 0 in its centre and 1 on its edge."""

    shape: str
    x: float
    y: float
    a: float
    b: float
    tilt: float
    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    value: np.ndarray
    colour: str


def make_vessel(
    shape: str, x: float, y: float, a: float, b: float, tilt: float, value: np.ndarray, colour: str
) -> Vessel:
    """A container centred at (x, y) with half axes a and b in pixels, turned by `tilt` radians."""
    _, _, u, v = draw.frame_coordinates(x, y, 2 * SIDE, tilt)
    p, q = u * np.float32(1 / a), v * np.float32(1 / b)
    p, q = p * p, q * q
    # A box with round corners is the fourth-power sibling of the ellipse.
    depth = np.sqrt(p + q) if shape == "ellipse" else np.sqrt(np.sqrt(p * p + q * q))
    cover = np.clip(0.5 - (depth - 1.0) * np.float32(min(a, b)), 0.0, 1.0)
    return Vessel(shape, x, y, a, b, tilt, u, v, depth, cover, value, colour)


def mark_ink(
    rng: np.random.Generator, shape: str, vessel: Vessel, flip: bool
) -> tuple[Stamp, str, float, float, float, str]:
    """The pixels of one mark in a container, its size's word, its reach, its centre, and its part for a filling."""
    if shape == "filling":
        part = pick(rng, ("top", "bottom"))
        return (*_region(_filling(rng, vessel, part, flip), vessel), part)
    if shape == "gap":
        return (*_region(_gap(rng, vessel, flip), vessel), "")
    if shape == "wedge":
        return (*_region(_wedge(rng, vessel), vessel), "")
    least = min(vessel.a, vessel.b)
    if shape == "bar":
        size, reach = "", between(rng, 0.4, 0.62) * least + 2
        turn = between(rng, 0, np.pi)
        ink_shape, room = "bar", reach * 0.8
    else:
        fits = [word for word, (low, _) in _REACH.items() if low < 0.66 * least - 1]
        size = pick(rng, fits)
        low, high = _REACH[size]
        reach = max(between(rng, low, min(high, max(low + 0.1, 0.66 * least))), 5.2 if shape == "ring" else 0.0)
        turn, room = 0.0, reach
        ink_shape = "disc" if shape == "spot" else shape
    x, y = _spot_inside(rng, vessel, room, flip)
    ink = draw.stamp(ink_shape, x, y, reach, -turn if flip else turn)
    inside = vessel.cover[ink.rows, ink.columns]
    return replace(ink, cover=ink.cover * inside), size, reach, x, y, ""


def _spot_inside(rng: np.random.Generator, vessel: Vessel, room: float, flip: bool) -> tuple[float, float]:
    """A point of the container at least about `room` pixels from its edge."""
    turn, far = between(rng, 0, 2 * np.pi), rng.random() ** 0.5
    u = max(vessel.a - room - 3, 0) * far * np.cos(turn)
    v = max(vessel.b - room - 3, 0) * far * np.sin(turn)
    if flip:
        u = -u
    cosine, sine = np.cos(vessel.tilt), np.sin(vessel.tilt)
    return float(vessel.x + cosine * u - sine * v), float(vessel.y + sine * u + cosine * v)


def _region(cover: np.ndarray, vessel: Vessel) -> tuple[Stamp, str, float, float, float]:
    """A mark drawn over the whole picture: its stamp, no size word, its reach and its centre of gravity."""
    weight = max(float(cover.sum()), 1e-3)
    x, y = float((cover * COLUMNS).sum()) / weight, float((cover * ROWS).sum()) / weight
    return Stamp(WHOLE, WHOLE, cover, cover, cover), "", min(vessel.a, vessel.b), x, y


def _filling(rng: np.random.Generator, vessel: Vessel, part: str, flip: bool) -> np.ndarray:
    """The container's top or bottom beyond a slightly sloping or bent line."""
    start, slope = between(rng, 0.25, 0.6) * vessel.b, between(rng, -0.35, 0.35)
    over, down = COLUMNS - np.float32(vessel.x), ROWS - np.float32(vessel.y)
    if flip:
        over = -over
    level = down if part == "bottom" else -down
    bend = np.float32(between(rng, -0.2, 0.3) / vessel.a) * over * over
    return np.clip(level - np.float32(start) + np.float32(slope) * over + bend + 0.5, 0.0, 1.0) * vessel.cover


def _gap(rng: np.random.Generator, vessel: Vessel, flip: bool) -> np.ndarray:
    """A thin crescent along one side of the border: the container less itself shifted."""
    turn = between(rng, 0, 2 * np.pi)
    shift = between(rng, 4.5, 8.0)
    u, v = vessel.u + np.float32(np.cos(turn) * shift), vessel.v + np.float32(np.sin(turn) * shift)
    p, q = (u / np.float32(vessel.a)) ** 2, (v / np.float32(vessel.b)) ** 2
    depth = np.sqrt(p + q) if vessel.shape == "ellipse" else np.sqrt(np.sqrt(p * p + q * q))
    return np.clip((depth - 1.0) * np.float32(min(vessel.a, vessel.b)) + 0.5, 0.0, 1.0) * vessel.cover


def _wedge(rng: np.random.Generator, vessel: Vessel) -> np.ndarray:
    """A slice that widens from a point inside the container to its border."""
    turn, start, spread = between(rng, 0, 2 * np.pi), between(rng, 0.1, 0.4), between(rng, 0.3, 0.5)
    cosine, sine = np.cos(turn), np.sin(turn)
    u, v = vessel.u - np.float32(start * vessel.a * cosine), vessel.v - np.float32(start * vessel.b * sine)
    along, across = np.float32(cosine) * u + np.float32(sine) * v, np.float32(cosine) * v - np.float32(sine) * u
    edge = np.abs(across) * np.float32(np.cos(spread)) - along * np.float32(np.sin(spread))
    return np.clip(0.5 - edge, 0.0, 1.0) * vessel.cover
