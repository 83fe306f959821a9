"""Analytic drawing on a 112 x 112 grid: soft masks, textures and the last step to 8-bit pixels.

Every mask is a float32 array of shape (112, 112) with values from 0 (outside) to 1 (inside) and an edge about one
pixel wide. Coordinates are reference pixels measured from the middle of the picture: `u` grows to the image's right,
`v` grows downwards. A `Pose` moves and scales the whole body, so anatomy is written once, in reference pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZE = 112
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - np.float32((SIZE - 1) / 2)


@dataclass(frozen=True)
class Pose:
    """Where the body lies: shift in pixels (right, down) and scale (1 = reference size)."""

    right: float = 0.0
    down: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Grid:
    """Body coordinates of every pixel, two (112, 112) float32 arrays in reference pixels."""

    u: np.ndarray
    v: np.ndarray


def sample_pose(rng: np.random.Generator) -> Pose:
    """A small random shift and scale: up to 3 px each way, 0.94 to 1.04."""
    return Pose(float(rng.uniform(-3, 3)), float(rng.uniform(-3, 3)), float(rng.uniform(0.94, 1.04)))


def place(pose: Pose) -> Grid:
    """The body coordinates of every pixel under `pose`."""
    scale = np.float32(1 / pose.scale)
    return Grid((_COLUMNS - np.float32(pose.right)) * scale, (_ROWS - np.float32(pose.down)) * scale)


def soft(distance: np.ndarray, edge: float = 1.0) -> np.ndarray:
    """A mask from a signed distance in pixels (negative inside); the edge is `edge` pixels wide."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / edge), 0, 1)


def radius_of(grid: Grid, x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    """Elliptic radius around (x, y): 0 in the middle, 1 on the ellipse; `tilt` in radians, clockwise as seen."""
    du, dv = grid.u - np.float32(x), grid.v - np.float32(y)
    if tilt:
        cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        du, dv = cosine * du + sine * dv, cosine * dv - sine * du
    return np.sqrt((du * np.float32(1 / rx)) ** 2 + (dv * np.float32(1 / ry)) ** 2)


def ellipse(grid: Grid, x: float, y: float, rx: float, ry: float, tilt: float = 0.0, edge: float = 1.0) -> np.ndarray:
    """A filled ellipse with half axes rx and ry."""
    return soft((radius_of(grid, x, y, rx, ry, tilt) - 1) * np.float32(min(rx, ry)), edge)


def disc(grid: Grid, x: float, y: float, radius: float, edge: float = 1.0) -> np.ndarray:
    """A filled circle."""
    return ellipse(grid, x, y, radius, radius, edge=edge)


def barrel(grid: Grid, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """A rounded rectangle (super-ellipse of the fourth power), the outline of a torso."""
    across = np.square((grid.u - np.float32(x)) * np.float32(1 / rx))
    down = np.square((grid.v - np.float32(y)) * np.float32(1 / ry))
    radius = np.sqrt(np.sqrt(across * across + down * down))
    return soft((radius - 1) * np.float32(min(rx, ry)))


def blob(grid: Grid, x: float, y: float, radius: float, phase: float) -> np.ndarray:
    """A circle with a wavy outline; `phase` (radians) turns the waves."""
    du, dv = grid.u - np.float32(x), grid.v - np.float32(y)
    angle = np.arctan2(dv, du)
    outline = 1 + 0.16 * np.sin(3 * angle + np.float32(phase)) + 0.10 * np.sin(5 * angle + np.float32(2 * phase))
    return soft(np.sqrt(du * du + dv * dv) - np.float32(radius) * outline, edge=1.5)


def box(grid: Grid, x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """A filled upright rectangle."""
    across = np.abs(grid.u - np.float32(x)) - np.float32(half_width)
    along = np.abs(grid.v - np.float32(y)) - np.float32(half_height)
    return soft(np.maximum(across, along))


def line(grid: Grid, start: tuple[float, float], end: tuple[float, float], width: float) -> np.ndarray:
    """A straight stroke from start to end, each (x, y)."""
    across, down = end[0] - start[0], end[1] - start[1]
    du, dv = grid.u - np.float32(start[0]), grid.v - np.float32(start[1])
    along = np.clip((du * np.float32(across) + dv * np.float32(down)) / np.float32(across**2 + down**2), 0, 1)
    distance = np.sqrt((du - along * np.float32(across)) ** 2 + (dv - along * np.float32(down)) ** 2)
    return soft(distance - np.float32(width / 2))


def wedge(grid: Grid, apex: tuple[float, float], towards: tuple[float, float], half_angle: float) -> np.ndarray:
    """An endless wedge that opens from `apex` in the direction of `towards`; `half_angle` in radians."""
    length = float(np.hypot(towards[0] - apex[0], towards[1] - apex[1]))
    dx, dy = (towards[0] - apex[0]) / length, (towards[1] - apex[1]) / length
    du, dv = grid.u - np.float32(apex[0]), grid.v - np.float32(apex[1])
    forward, sideways = du * np.float32(dx) + dv * np.float32(dy), np.abs(dv * np.float32(dx) - du * np.float32(dy))
    return soft(sideways * np.float32(np.cos(half_angle)) - forward * np.float32(np.sin(half_angle)))


def haze(grid: Grid, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """A cloud without an edge: dense in the middle, 1/2 at about 0.9 of the radii, nothing beyond 1.5 of them."""
    return np.clip(1.25 - np.float32(0.9) * radius_of(grid, x, y, rx, ry) ** 2, 0, 1)


def paint(image: np.ndarray, mask: np.ndarray, tone: float) -> None:
    """Lay `tone` (0 black to 1 white) over `image` where `mask` says so, in place."""
    image += mask * (np.float32(tone) - image)


def texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth ripples between -1 and 1: random values on `cells` x `cells` squares, bilinear in between."""
    corners = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    position = np.linspace(0, cells, SIZE, endpoint=False, dtype=np.float32)
    low = position.astype(np.int64)
    weight = np.zeros((SIZE, cells + 1), np.float32)
    weight[np.arange(SIZE), low], weight[np.arange(SIZE), low + 1] = 1 - (position - low), position - low
    return weight @ corners @ weight.T


def blur(image: np.ndarray) -> np.ndarray:
    """A binomial 3 x 3 blur; the border repeats."""
    padded = np.pad(image, 1, mode="edge")
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (across[:-2] + 2 * across[1:-1] + across[2:]) * np.float32(1 / 16)


def develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, jitter brightness and contrast, add noise: float tones 0 to 1 -> uint8 pixels (112, 112)."""
    gain, offset, grain = rng.uniform(0.88, 1.06), rng.uniform(-0.02, 0.05), rng.uniform(0.015, 0.035)
    noise = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    exposed = blur(image) * np.float32(gain) + np.float32(offset) + noise * np.float32(grain)
    return np.round(np.clip(exposed, 0, 1) * 255).astype(np.uint8)
