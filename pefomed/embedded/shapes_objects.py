"""Pictures of one to four separate objects on a background."""

from __future__ import annotations

import numpy as np

from pefomed.embedded import shapes_drawing as draw
from pefomed.embedded.shapes_drawing import between, pick
from pefomed.embedded.shapes_scene import Item, Scene, mean_light

_REACH = {"small": (6.5, 8.5), "medium": (12.0, 15.0), "large": (21.0, 26.0)}
_COUNTS = (1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)
_TRIES = 14
_LEAST_LIGHT_APART = 0.17
_LEAST_COLOUR_APART = 0.45


def objects_scene(rng: np.random.Generator, grey: bool) -> Scene:
    """Draw one to four separate objects on a background."""
    pattern = pick(rng, draw.PATTERNS)
    strength = 0.0 if pattern == "plain" else between(rng, 0.05, 0.13)
    ground, names = _ground_and_colours(rng, grey, strength)
    canvas = draw.background(pattern, ground, strength, rng)
    free = np.ones((draw.SIDE, draw.SIDE), dtype=bool)
    items: list[Item] = []
    for shape, name, texture in _wishes(rng, names):
        placed = _place(rng, items)
        if placed is None:
            break
        size, reach, x, y = placed
        # Bars and blobs are too thin or too soft to carry a texture, small objects too small.
        textured = size != "small" and shape in ("disc", "square", "triangle", "cross", "star", "ellipse", "crescent")
        texture = texture if textured else "plain"
        ink = draw.stamp(shape, x, y, reach, _turn(rng, shape))
        draw.paint(canvas, ink, _value(rng, name, grey), draw.texture_weight(texture, ink, reach, rng))
        mask = ink.mask(0.35 if shape == "blob" else 0.5)
        free &= ~ink.mask(0.02)
        items.append(Item(shape, name, size, texture, x, y, reach, mask))
    noise = between(rng, 0.05, 0.08) if pattern != "grainy" and rng.random() < 0.2 else between(rng, 0.0, 0.015)
    if rng.random() < 0.25:
        draw.soften(canvas, pick(rng, (1, 2, 3)))
    draw.add_noise(canvas, noise, rng)
    light = canvas[0] if grey else np.einsum("c,cij->ij", draw.LUMINANCE, canvas)
    ground_light = mean_light(light, free)
    finished = tuple(
        Item(**{**vars(item), "light": mean_light(light, item.mask), "around": ground_light}) for item in items
    )
    grainy = noise > 0.03 or pattern == "grainy"
    return Scene(draw.to_picture(canvas), "objects", grey, pattern, grainy, free, ground_light, finished)


def _ground_and_colours(rng: np.random.Generator, grey: bool, strength: float) -> tuple[np.ndarray, list[str]]:
    """The background's value and the names of the colours which stand out from it, in random order."""
    if grey:
        level = pick(rng, (0.04, 0.15, 0.3, 0.5, 0.7, 0.85, 0.96)) + between(rng, -0.04, 0.04)
        ground = np.array([level], dtype=np.float32)
        least = _LEAST_LIGHT_APART + strength
        names = [name for name, value in draw.GREYS.items() if abs(value - level) > least]
    else:
        middle = pick(rng, (0.1, 0.2, 0.5, 0.8, 0.9))
        ground = np.array([middle + between(rng, -0.1, 0.1) for _ in range(3)], dtype=np.float32).clip(0, 1)
        names = [
            name
            for name, value in draw.COLOURS.items()
            if sum(abs(a - b) for a, b in zip(value, ground, strict=True)) > _LEAST_COLOUR_APART + 2 * strength
        ]
    order = np.argsort(rng.random(len(names)))
    return ground, [names[i] for i in order]


def _wishes(rng: np.random.Generator, names: list[str]) -> list[tuple[str, str, str]]:
    """Shape, colour and texture of each object; groups often share one of them, sometimes with one odd object out."""
    count = pick(rng, _COUNTS)
    shapes = [pick(rng, draw.SHAPES) for _ in range(count)]
    colours = [pick(rng, names) for _ in range(count)]
    textures = [pick(rng, draw.TEXTURES) if rng.random() < 0.55 else "plain" for _ in range(count)]
    if count > 1:
        theme = rng.random()
        odd = int(rng.random() * count) if rng.random() < 0.6 else -1
        for i in range(count):
            if i != odd and theme < 0.35:
                shapes[i] = shapes[(odd + 1) % count]
            elif i != odd and theme < 0.6:
                colours[i] = colours[(odd + 1) % count]
    return list(zip(shapes, colours, textures, strict=True))


def _place(rng: np.random.Generator, items: list[Item]) -> tuple[str, float, float, float] | None:
    """A size and a centre clear of the other objects and of the picture's edge, or None where there is no room."""
    size = pick(rng, ("small", "medium", "large"))
    for attempt in range(_TRIES):
        if attempt == _TRIES // 2:
            size = "small"
        reach = between(rng, *_REACH[size])
        margin = reach * 1.05 + 1
        x, y = between(rng, margin, draw.SIDE - 1 - margin), between(rng, margin, draw.SIDE - 1 - margin)
        if all((x - o.x) ** 2 + (y - o.y) ** 2 > (1.1 * (reach + o.reach) + 2) ** 2 for o in items):
            return size, reach, x, y
    return None


def _turn(rng: np.random.Generator, shape: str) -> float:
    """The angle in radians: any for shapes that stay themselves when turned, a slight one for the rest."""
    if shape in ("disc", "ring", "blob"):
        return 0.0
    if shape in ("square", "cross", "star", "triangle"):
        return between(rng, -0.3, 0.3)
    return between(rng, 0.0, 2 * np.pi)


def _value(rng: np.random.Generator, name: str, grey: bool) -> np.ndarray:
    """The colour's value with a slight jitter, shape (1,) or (3,)."""
    if grey:
        return np.array([draw.GREYS[name] + between(rng, -0.035, 0.035)], dtype=np.float32)
    return np.array([part + between(rng, -0.05, 0.05) for part in draw.COLOURS[name]], dtype=np.float32)
