"""What a picture of the general world contains: the facts that its questions and captions are made from.

Left and right are the picture's own left and right. Brightness facts are measured on the drawn picture, never assumed,
so a statement about them holds whatever the background, the texture and the noise did to the colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pefomed.embedded.shapes_drawing import SIDE

MIDDLE = (SIDE - 1) / 2
CLEARLY = 0.08
MARKS = ("spot", "blob", "ring", "wedge", "bar", "filling", "gap")


@dataclass(frozen=True)
class Item:
    """One object, or one mark inside a container.

    Attributes:
        shape: one of `shapes_drawing.SHAPES` for an object, one of `MARKS` for a mark.
        colour: its colour's name, "" where the picture's colours are not named.
        size: "small", "medium" or "large"; "" for a mark whose size has no word (a filling, a gap, a wedge, a bar).
        texture: one of `shapes_drawing.TEXTURES`.
        x, y: the centre in pixels, the top left pixel being (0, 0).
        reach: distance in pixels from the centre to the outermost point, about.
        mask: (112, 112) bool, its visible pixels.
        holder: index of the container that holds it, -1 for none.
        part: "top" or "bottom" for a filling, else "".
        light, around: mean luminance from 0 to 1 of the mask and of what surrounds it.
    """

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    reach: float
    mask: np.ndarray
    holder: int = -1
    part: str = ""
    light: float = 0.0
    around: float = 0.0

    @property
    def tone(self) -> str:
        """ "brighter" or "darker" than its surroundings, "" where the two are too close to say."""
        return compare(self.light, self.around)

    @property
    def side(self) -> str:
        """ "left" or "right" half of the picture, "" near the middle."""
        return half(self.x - MIDDLE, "left", "right")

    @property
    def height(self) -> str:
        """ "upper" or "lower" half of the picture, "" near the middle."""
        return half(self.y - MIDDLE, "upper", "lower")

    @property
    def place(self) -> str:
        """One of nine places ("top left", "top", ..., "centre"), "" near a border between two of them."""
        over, down = third(self.x, "left", "right"), third(self.y, "top", "bottom")
        if "?" in (over, down):
            return ""
        return f"{down} {over}".strip() or "centre"


@dataclass(frozen=True)
class Container:
    """A large ellipse or rounded box. `side` is "left", "right" or "" (the only one); `area` is in pixels."""

    shape: str
    side: str
    colour: str
    x: float
    y: float
    area: float
    mask: np.ndarray
    light: float = 0.0
    around: float = 0.0

    @property
    def tone(self) -> str:
        """ "brighter" or "darker" than what surrounds it, "" where the two are too close to say."""
        return compare(self.light, self.around)


@dataclass(frozen=True)
class Scene:
    """A drawn picture and its facts.

    Attributes:
        image: (112, 112, 3) uint8 RGB.
        kind: "objects" or "containers".
        grey: whether the picture has no colour.
        pattern: the background's, one of `shapes_drawing.PATTERNS`.
        grainy: whether strong noise covers the whole picture.
        ground: (112, 112) bool, the pixels of the background.
        ground_light: mean luminance of the background.
        items: objects or marks; none of them is hidden by another.
        containers: none, one, or the left and the right one.
        frame: whether one large outline surrounds both containers.
        rim: whether the containers have an outline.
        lines: "arcs", "lines" or "" - repeated thin lines laid over the containers.
        core: the object between two containers, or None.
        mirror: whether the left and right container mirror each other, marks included; None without a pair.
    """

    image: np.ndarray
    kind: str
    grey: bool
    pattern: str
    grainy: bool
    ground: np.ndarray
    ground_light: float
    items: tuple[Item, ...]
    containers: tuple[Container, ...] = ()
    frame: bool = False
    rim: bool = False
    lines: str = ""
    core: Item | None = None
    mirror: bool | None = None

    @property
    def ground_tone(self) -> str:
        """ "dark" or "bright" background, "" for one in between."""
        return "dark" if self.ground_light < 0.36 else "bright" if self.ground_light > 0.64 else ""


def compare(light: float, around: float, margin: float = CLEARLY) -> str:
    """ "brighter", "darker", or "" within `margin`."""
    return "brighter" if light > around + margin else "darker" if light < around - margin else ""


def half(offset: float, low: str, high: str, margin: float = 6.0) -> str:
    """`low` or `high` by the sign of an offset in pixels, "" within `margin`."""
    return low if offset < -margin else high if offset > margin else ""


def third(position: float, low: str, high: str) -> str:
    """`low`, "" (the middle) or `high` by thirds of the picture, "?" within three pixels of a border."""
    share = position / (SIDE - 1)
    if min(abs(share - 0.36), abs(share - 0.64)) < 0.03:
        return "?"
    return low if share < 0.36 else high if share > 0.64 else ""


def mean_light(light: np.ndarray, mask: np.ndarray) -> float:
    """Mean of `light` (112, 112) over a mask; 0.5 for an empty one."""
    count = np.count_nonzero(mask)
    return float(np.einsum("ij,ij->", light, mask.astype(np.float32))) / count if count else 0.5


def measured(thing: Item | Container, light: np.ndarray, around: float) -> Item | Container:
    """The same item or container with its brightness measured on the picture."""
    return replace(thing, light=mean_light(light, thing.mask), around=around)
