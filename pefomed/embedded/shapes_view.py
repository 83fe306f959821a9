"""A scene as the question forms look at it, and what a question form is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pefomed.embedded.shapes_drawing import COLOURS, GREYS, SHAPES, pick
from pefomed.embedded.shapes_scene import MARKS, Container, Item, Scene

Found = tuple[tuple[str, ...], str] | None
PLURALS = {shape: f"{shape}s" for shape in (*SHAPES, *MARKS)} | {"cross": "crosses"}
LEAST_LIGHT = 0.12


class View:
    """A scene with what the forms keep looking up: the items, and how many of them share each property."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.items = scene.items
        self.colours = tuple(GREYS) if scene.grey else tuple(COLOURS)
        self.counts = Counter(value for item in scene.items for value in (item.shape, item.colour, item.size))
        self.textures = Counter(item.texture for item in scene.items)
        self.noun = noun(scene.containers[0]) if scene.containers else ""

    def name(self, item: Item, hidden: str, rng: np.random.Generator) -> str | None:
        """A phrase that only fits this object and does not tell its property `hidden`; None where there is none."""
        if len(self.items) == 1 and rng.random() < 0.4:
            return "object"
        ways = []
        if hidden != "shape":
            if self.counts[item.shape] == 1:
                ways.append(item.shape)
            elif hidden != "colour" and not any(
                o is not item and o.shape == item.shape and o.colour == item.colour for o in self.items
            ):
                ways.append(f"{item.colour} {item.shape}")
        if hidden != "colour" and self.counts[item.colour] == 1:
            ways.append(f"{item.colour} object")
        if hidden != "size" and self.counts[item.size] == 1:
            ways.append(f"{item.size} object")
        if hidden != "texture" and item.texture != "plain" and self.textures[item.texture] == 1:
            ways.append(f"{item.texture} object")
        return pick(rng, ways) if ways else None

    def any_item(self, rng: np.random.Generator) -> Item:
        """One of the items."""
        return pick(rng, self.items)

    def two_items(self, rng: np.random.Generator) -> tuple[Item, Item] | None:
        """Two different items in random order, or None where there are fewer."""
        if len(self.items) < 2:
            return None
        first = int(rng.random() * len(self.items))
        second = (first + 1 + int(rng.random() * (len(self.items) - 1))) % len(self.items)
        return self.items[first], self.items[second]


@dataclass(frozen=True)
class Form:
    """A question form: its name, how often it is drawn, its finder and its wordings with slots {0}, {1}, ..."""

    name: str
    weight: int
    find: Callable[[View, np.random.Generator], Found]
    wordings: tuple[str, ...]


def coin(rng: np.random.Generator) -> bool:
    """True half of the time."""
    return bool(rng.random() < 0.5)


def yes(truth: bool) -> str:
    """ "yes" or "no"."""
    return "yes" if truth else "no"


def noun(container: Container) -> str:
    """ "ellipse" or "box"."""
    return "ellipse" if container.shape == "ellipse" else "box"


def named(container: Container) -> str:
    """The container's side and noun."""
    return f"{container.side} {noun(container)}".strip()


def one_container(view: View, rng: np.random.Generator) -> tuple[int, Container]:
    """One of the containers and its index."""
    index = int(rng.random() * len(view.scene.containers))
    return index, view.scene.containers[index]


def both_containers(view: View) -> tuple[Container, Container] | None:
    """The left and the right container, or None where there is only one or none."""
    containers = view.scene.containers
    return (containers[0], containers[1]) if len(containers) == 2 else None
