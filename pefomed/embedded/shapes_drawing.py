"""Pixels of the general world: stamps with smooth edges, textures, backgrounds, noise and blur.

Everything is drawn at its final size on a canvas of shape (channels, 112, 112) in float32 from 0 to 1, with one
channel for a grey picture and three for a coloured one. Edges are smoothed from a signed distance (negative inside,
in pixels), which is cheaper than drawing large and shrinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

SIDE = 112
ROWS = np.arange(SIDE, dtype=np.float32)[:, None]
COLUMNS = np.arange(SIDE, dtype=np.float32)[None, :]
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

GREYS = {"black": 0.04, "dark grey": 0.27, "grey": 0.5, "light grey": 0.73, "white": 0.96}
COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "green": (0.15, 0.62, 0.2),
    "blue": (0.15, 0.28, 0.9),
    "yellow": (0.95, 0.87, 0.15),
    "orange": (0.96, 0.52, 0.06),
    "purple": (0.55, 0.15, 0.7),
    "cyan": (0.15, 0.8, 0.85),
    "pink": (0.97, 0.55, 0.75),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
}
SHAPES = ("disc", "ring", "square", "triangle", "cross", "star", "ellipse", "bar", "wedge", "crescent", "blob")
TEXTURES = ("plain", "striped", "dotted", "noisy")
PATTERNS = ("plain", "graded", "cloudy", "striped", "checked", "grainy")

_CORNERS = 2 * np.pi * np.arange(5) / 5 - np.pi / 2
_SHAPE_OF_CLOUDS = np.maximum(0.0, 1.0 - np.abs(ROWS / (SIDE - 1) * 4 - np.arange(5, dtype=np.float32)[None, :]))

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Stamp:
    """How much of each pixel a shape covers, inside the window that holds it.

    Attributes:
        rows, columns: the window in the picture.
        cover: (height, width) float32 from 0 to 1.
        along, across: the shape's own coordinates in pixels, each broadcastable to `cover`.
    """

    rows: slice
    columns: slice
    cover: np.ndarray
    along: np.ndarray
    across: np.ndarray

    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """(112, 112) bool: the pixels covered by more than `threshold`."""
        full = np.zeros((SIDE, SIDE), dtype=bool)
        full[self.rows, self.columns] = self.cover > threshold
        return full


def pick(rng: np.random.Generator, options: Sequence[Choice]) -> Choice:
    """One of `options`, each alike; about ten times faster than Generator.choice."""
    return options[int(rng.random() * len(options))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A float drawn evenly from [low, high)."""
    return low + (high - low) * rng.random()


def light_of(value: np.ndarray) -> float:
    """Luminance from 0 to 1 of one grey value or of one RGB triple."""
    return float(value[0]) if len(value) == 1 else float(value @ LUMINANCE)


def frame_coordinates(x: float, y: float, reach: float, angle: float) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Window of the picture around (x, y) and the coordinates in it, turned by `angle` radians."""
    top, bottom = max(0, int(y - reach) - 1), min(SIDE, int(y + reach) + 3)
    left, right = max(0, int(x - reach) - 1), min(SIDE, int(x + reach) + 3)
    rows, columns = slice(top, bottom), slice(left, right)
    down, over = ROWS[rows] - np.float32(y), COLUMNS[:, columns] - np.float32(x)
    if angle == 0.0:
        return rows, columns, over, down
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return rows, columns, cosine * over + sine * down, cosine * down - sine * over


def _half_planes(u: np.ndarray, v: np.ndarray, angles: np.ndarray, offset: float) -> list[np.ndarray]:
    return [np.float32(np.cos(t)) * u + np.float32(np.sin(t)) * v - np.float32(offset) for t in angles]


def _star(u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """A five-pointed star: the points outside at most one of five lines, so the second largest of five distances."""
    first, *others = _half_planes(u, v, _CORNERS + np.pi, radius * 0.32)
    second = np.full_like(first, -1e3)
    for plane in others:
        second = np.maximum(second, np.minimum(first, plane))
        first = np.maximum(first, plane)
    return second


def distance(shape: str, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance in pixels to the edge of a shape that reaches about `radius` from its centre."""
    r = np.float32(radius)
    if shape in ("disc", "blob"):
        return np.sqrt(u * u + v * v) - r
    if shape == "ring":
        width = np.float32(max(1.3, 0.16 * radius))
        return np.abs(np.sqrt(u * u + v * v) - (r - width)) - width
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.8) * r
    if shape == "triangle":
        one, two, three = _half_planes(u, v, np.array([np.pi / 2, -np.pi / 6, 7 * np.pi / 6]), 0.52 * radius)
        return np.maximum(np.maximum(one, two), three)
    if shape == "cross":
        arm, width, over, down = np.float32(0.95) * r, np.float32(0.28) * r, np.abs(u), np.abs(v)
        return np.minimum(np.maximum(over - arm, down - width), np.maximum(over - width, down - arm))
    if shape == "star":
        return _star(u, v, radius)
    if shape == "ellipse":
        return (np.sqrt(u * u + v * v / np.float32(0.3)) - r) * np.float32(0.6)
    if shape == "bar":
        return np.maximum(np.abs(u) - r, np.abs(v) - np.float32(max(1.4, 0.13 * radius)))
    if shape == "wedge":
        # A slice of 60 degrees whose tip lies on the left end and whose arc lies on the right end.
        tip = u + np.float32(0.9) * r
        straight = np.abs(v) * np.float32(0.866) - tip * np.float32(0.5)
        return np.maximum(straight, np.sqrt(tip * tip + v * v) - np.float32(1.75) * r)
    if shape == "crescent":
        bite = u - np.float32(0.5) * r
        return np.maximum(np.sqrt(u * u + v * v) - r, np.float32(0.82) * r - np.sqrt(bite * bite + v * v))
    raise ValueError(f"shapes_drawing.distance: unknown shape {shape!r}; use one of {', '.join(SHAPES)}")


def stamp(shape: str, x: float, y: float, radius: float, angle: float = 0.0) -> Stamp:
    """The pixels covered by a shape centred at column `x`, row `y`; a blob fades out softly instead of ending."""
    rows, columns, u, v = frame_coordinates(x, y, radius * 1.25, angle)
    if shape == "blob":
        cover = np.exp((u * u + v * v) * np.float32(-2.2 / radius**2))
        # The fade reaches exactly nothing at the window's edge, so no square outline shows.
        cover = np.clip((cover - 0.035) * 1.036, 0.0, 1.0)
    else:
        cover = np.clip(0.5 - distance(shape, u, v, radius), 0.0, 1.0)
    return Stamp(rows, columns, cover, u, v)


def texture_weight(texture: str, ink: Stamp, radius: float, rng: np.random.Generator) -> np.ndarray | None:
    """How strongly each pixel of the stamp takes its colour, or None for a plain fill."""
    period = np.float32(5.0 if radius < 18 else 7.0)
    if texture == "striped":
        return np.where((ink.across / period) % 1.0 < 0.5, np.float32(1.0), np.float32(0.3))
    if texture == "dotted":
        a, b = (ink.along / period) % 1.0 - 0.5, (ink.across / period) % 1.0 - 0.5
        return np.where(a * a + b * b < 0.075, np.float32(0.15), np.float32(1.0))
    if texture == "noisy":
        return 1.0 - np.float32(0.75) * rng.random(ink.cover.shape, dtype=np.float32)
    return None


def paint(canvas: np.ndarray, ink: Stamp, value: np.ndarray, weight: np.ndarray | None = None) -> None:
    """Lay the colour `value`, shape (channels,), over the canvas where the stamp covers it."""
    part = canvas[:, ink.rows, ink.columns]
    cover = ink.cover if weight is None else ink.cover * weight
    part += cover * (value[:, None, None] - part)


def background(pattern: str, value: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A canvas of the colour `value`, shape (channels,), varied by a pattern of amplitude `strength`."""
    canvas = np.empty((len(value), SIDE, SIDE), dtype=np.float32)
    canvas[:] = value[:, None, None]
    if pattern == "plain":
        return canvas
    if pattern == "cloudy":
        knots = rng.random((5, 5), dtype=np.float32) * 3.0 - 1.5
        wave = _SHAPE_OF_CLOUDS @ knots @ _SHAPE_OF_CLOUDS.T
    elif pattern == "grainy":
        wave = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    else:
        angle = between(rng, 0, 2 * np.pi) if pattern == "graded" else pick(rng, (0.0, 0.0, np.pi / 4))
        over = np.float32(np.cos(angle)) * COLUMNS + np.float32(np.sin(angle)) * ROWS
        down = np.float32(np.cos(angle)) * ROWS - np.float32(np.sin(angle)) * COLUMNS
        period = np.float32(between(rng, 9, 18))
        if pattern == "graded":
            wave = (over - over.mean()) / np.float32(SIDE / 3)
        elif pattern == "striped":
            lines = over if rng.random() < 0.5 else down
            wave = np.where((lines / period) % 1.0 < 0.5, np.float32(1), np.float32(-1))
        else:
            odd = ((over / period) % 1.0 < 0.5) ^ ((down / period) % 1.0 < 0.5)
            wave = np.where(odd, np.float32(1), np.float32(-1))
    canvas += np.float32(strength) * wave
    return canvas


def soften(canvas: np.ndarray, passes: int) -> np.ndarray:
    """Blur a canvas: each pass weighs every pixel with its neighbours by 1, 2, 1 both ways; the border row stays."""
    for _ in range(passes):
        for axis in (1, 2):
            inner = [slice(None)] * 3
            before, after = inner.copy(), inner.copy()
            inner[axis], before[axis], after[axis] = slice(1, -1), slice(None, -2), slice(2, None)
            smooth = canvas[tuple(before)] + canvas[tuple(after)]
            smooth += canvas[tuple(inner)] * np.float32(2)
            canvas[tuple(inner)] = smooth * np.float32(0.25)
    return canvas


def add_noise(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> None:
    """Add the same normal noise of standard deviation `strength` to every channel."""
    canvas += np.float32(strength) * rng.standard_normal((SIDE, SIDE), dtype=np.float32)


def to_picture(canvas: np.ndarray) -> np.ndarray:
    """The canvas as a (112, 112, 3) uint8 RGB picture."""
    levels = (np.clip(canvas, 0.0, 1.0) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    picture = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    picture[:] = levels.transpose(1, 2, 0)
    return picture
