"""Pictures of one large container, or of a left and a right one, with marks inside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pefomed.embedded import shapes_drawing as draw
from pefomed.embedded.shapes_drawing import COLUMNS, LUMINANCE, ROWS, SIDE, Stamp, between, pick
from pefomed.embedded.shapes_marks import WHOLE, Vessel, make_vessel, mark_ink
from pefomed.embedded.shapes_scene import MARKS, MIDDLE, Container, Item, Scene, half, mean_light

_TRIES = 10


@dataclass(frozen=True)
class _Layout:
    """The containers as drawn, before any mark.

    Attributes:
        pattern: the background's pattern.
        vessels: the only container, or the left and the right one.
        alike: whether two containers have the same size and brightness.
        around: the value of what surrounds the containers, shape (channels,).
        outside: (112, 112) bool, the background.
        surrounding: (112, 112) bool, what surrounds the containers: the frame's inside, else the background.
        frame, rim, lines: as in `Scene`.
    """

    pattern: str
    vessels: list[Vessel]
    alike: bool
    around: np.ndarray
    outside: np.ndarray
    surrounding: np.ndarray
    frame: bool
    rim: bool
    lines: str


def containers_scene(rng: np.random.Generator, grey: bool) -> Scene:
    """Draw one or two containers with their marks."""
    canvas, layout = _empty_containers(rng, grey)
    taken = np.zeros((SIDE, SIDE), dtype=bool)
    pair = len(layout.vessels) == 2
    core = _core(canvas, rng, grey, layout, taken) if pair and rng.random() < 0.35 else None
    items, mirrored = _marks(canvas, rng, grey, layout, taken, core is None)
    grainy = layout.pattern == "grainy"
    grain = between(rng, 0.04, 0.065) if not grainy and rng.random() < 0.25 else between(rng, 0.0, 0.015)
    if rng.random() < 0.3:
        draw.soften(canvas, pick(rng, (1, 2)))
    draw.add_noise(canvas, grain, rng)
    light = canvas[0] if grey else np.einsum("c,cij->ij", LUMINANCE, canvas)
    containers = _measured_containers(layout, light, taken)
    inside = [container.light for container in containers]
    if core is not None:
        core = replace(core, light=mean_light(light, core.mask), around=sum(inside) / 2)
    ground = layout.outside & ~taken
    return Scene(
        image=draw.to_picture(canvas),
        kind="containers",
        grey=grey,
        pattern=layout.pattern,
        grainy=grain > 0.03 or grainy,
        ground=ground,
        ground_light=mean_light(light, ground),
        items=tuple(replace(o, light=mean_light(light, o.mask), around=inside[o.holder]) for o in items),
        containers=containers,
        frame=layout.frame,
        rim=layout.rim,
        lines=layout.lines,
        core=core,
        mirror=layout.alike and (mirrored or not items) if pair else None,
    )


def _empty_containers(rng: np.random.Generator, grey: bool) -> tuple[np.ndarray, _Layout]:
    """The canvas with background, frame, containers, their outlines and the lines over them."""
    pattern = pick(rng, ("plain", "plain", "graded", "cloudy", "grainy", "striped", "checked"))
    strength = 0.0 if pattern == "plain" else between(rng, 0.03, 0.07)
    around = _near(rng, pick(rng, (0.04, 0.1, 0.2, 0.45, 0.75, 0.92)), grey)
    canvas = draw.background(pattern, around, strength, rng)
    outside = surrounding = np.ones((SIDE, SIDE), dtype=bool)
    frame = bool(rng.random() < 0.3)
    if frame:
        whole = _frame(rng, grey, around)
        _lay(canvas, whole.cover, whole.value)
        if rng.random() < 0.6:
            _outline(canvas, rng, whole, grey)
        outside, surrounding, around = whole.cover < 0.02, whole.depth < 0.93, whole.value
    vessels, alike = _vessels(rng, grey, around, frame or rng.random() < 0.65, frame)
    rim = bool(rng.random() < 0.35)
    rim_value = _apart(rng, draw.light_of(vessels[0].value), 0.25, 0.5, grey)[0]
    for vessel in vessels:
        _lay(canvas, vessel.cover, vessel.value)
        if rim:
            band = np.clip(2.0 - np.abs((vessel.depth - 1.0) * min(vessel.a, vessel.b)), 0.0, 1.0)
            _lay(canvas, band, rim_value)
        outside, surrounding = outside & (vessel.depth > 1.12), surrounding & (vessel.depth > 1.12)
    lines = pick(rng, ("arcs", "lines")) if rng.random() < 0.35 else ""
    if lines:
        _repeated_lines(canvas, rng, lines, vessels)
    return canvas, _Layout(pattern, vessels, alike, around, outside, surrounding, frame, rim, lines)


def _measured_containers(layout: _Layout, light: np.ndarray, taken: np.ndarray) -> tuple[Container, ...]:
    """The containers' facts; their brightness is that of the part which neither marks nor the outline cover."""
    near = mean_light(light, layout.surrounding & ~taken)
    return tuple(
        Container(
            shape=v.shape,
            side="" if len(layout.vessels) == 1 else half(v.x - MIDDLE, "left", "right"),
            colour=v.colour,
            x=v.x,
            y=v.y,
            area=_area(v),
            mask=v.depth < 1.0,
            light=mean_light(light, (v.depth < 0.88) & ~taken),
            around=near,
        )
        for v in layout.vessels
    )


def _near(rng: np.random.Generator, level: float, grey: bool) -> np.ndarray:
    """A value close to a grey level, slightly tinted in a coloured picture."""
    spread = 0.03 if grey else 0.09
    return np.array([level + between(rng, -spread, spread) for _ in range(1 if grey else 3)], np.float32).clip(0, 1)


def _apart(rng: np.random.Generator, light: float, least: float, most: float, grey: bool) -> tuple[np.ndarray, str]:
    """A value whose luminance differs from `light` by `least` to `most`, and its colour's name ("" in grey)."""
    if not grey:
        lights = {name: draw.light_of(np.array(value, np.float32)) for name, value in draw.COLOURS.items()}
        fit = [name for name, own in lights.items() if abs(own - light) > least + 0.06]
        name = pick(rng, fit)
        return np.array(draw.COLOURS[name], np.float32) + np.float32(between(rng, -0.03, 0.03)), name
    step = between(rng, least, most)
    up, down = light + step <= 0.98, light - step >= 0.02
    if not up and not down:
        step = least
    rise = rng.random() < 0.5 if up == down else up
    return np.array([light + step if rise else light - step], np.float32).clip(0, 1), ""


def _frame(rng: np.random.Generator, grey: bool, ground: np.ndarray) -> Vessel:
    shape = pick(rng, ("ellipse", "box"))
    value, colour = _apart(rng, draw.light_of(ground), 0.15, 0.5, grey)
    a, b = between(rng, 46, 53), between(rng, 42, 53)
    x, y = MIDDLE + between(rng, -2, 2), MIDDLE + between(rng, -2, 2)
    return make_vessel(shape, x, y, a, b, 0.0, value, colour)


def _outline(canvas: np.ndarray, rng: np.random.Generator, vessel: Vessel, grey: bool) -> None:
    value, _ = _apart(rng, draw.light_of(vessel.value), 0.25, 0.6, grey)
    width = between(rng, 1.5, 2.5)
    _lay(canvas, np.clip(width - np.abs((vessel.depth - 0.96) * min(vessel.a, vessel.b)), 0.0, 1.0), value)


def _vessels(
    rng: np.random.Generator, grey: bool, around: np.ndarray, pair: bool, frame: bool
) -> tuple[list[Vessel], bool]:
    """One container, or a left and a right one; and whether those two are alike in size and brightness."""
    shape = pick(rng, ("ellipse", "ellipse", "box"))
    light = draw.light_of(around)
    value, colour = _apart(rng, light, 0.16, 0.55, grey)
    y = MIDDLE + between(rng, -5, 5)
    if not pair:
        a, b = between(rng, 30, 48), between(rng, 30, 48)
        x = MIDDLE + between(rng, -5, 5)
        return [make_vessel(shape, x, y, a, b, between(rng, -0.3, 0.3), value, colour)], True
    gap = between(rng, 20, 25) if frame else between(rng, 25, 30)
    a = min(between(rng, 13.5, 20) if frame else between(rng, 16, 25), gap - 3)
    b = between(rng, 15, 29) if frame else between(rng, 20, 46)
    tilt = between(rng, -0.25, 0.25)
    sizes, values = [1.0, 1.0], [(value, colour), (value, colour)]
    fate, other = rng.random(), int(rng.random() * 2)
    unlike = _unlike(rng, value, light, grey) if 0.3 <= fate < 0.55 else None
    if fate < 0.3 or (fate < 0.55 and unlike is None):
        sizes[other] = between(rng, 0.6, 0.76)
    elif fate < 0.55:
        values[other] = unlike
    both = [
        make_vessel(
            shape,
            MIDDLE + sign * gap + between(rng, -0.7, 0.7),
            y + between(rng, -0.7, 0.7),
            a * sizes[i],
            b * sizes[i],
            sign * tilt,
            *values[i],
        )
        for i, sign in enumerate((-1, 1))
    ]
    return both, fate >= 0.55


def _unlike(rng: np.random.Generator, value: np.ndarray, around: float, grey: bool) -> tuple[np.ndarray, str] | None:
    """A value clearly apart both from the other container's and from what surrounds them, None where none is found."""
    for _ in range(_TRIES):
        other, name = _apart(rng, draw.light_of(value), 0.16, 0.45, grey)
        if abs(draw.light_of(other) - around) > 0.14:
            return other, name
    return None


def _lay(canvas: np.ndarray, cover: np.ndarray, value: np.ndarray) -> None:
    draw.paint(canvas, Stamp(WHOLE, WHOLE, cover, cover, cover), value)


def _repeated_lines(canvas: np.ndarray, rng: np.random.Generator, lines: str, vessels: list[Vessel]) -> None:
    """Faint thin lines, straight or bent, over the containers or over everything."""
    period = np.float32(between(rng, 8, 13))
    slope = np.float32(between(rng, -0.5, 0.5))
    over = COLUMNS - np.float32(MIDDLE)
    curve = np.float32(pick(rng, (-1, 1)) * between(rng, 0.008, 0.014))
    bend = curve * over * over if lines == "arcs" else slope * over
    phase = ((ROWS + bend) / period) % np.float32(1.0)
    ridge = np.clip(1.6 - np.abs(phase - 0.5) * period, 0.0, 1.0)
    if rng.random() < 0.6:
        ridge = ridge * np.maximum(vessels[0].cover, vessels[-1].cover)
    canvas += np.float32(pick(rng, (-1, 1)) * between(rng, 0.09, 0.15)) * ridge


def _core(canvas: np.ndarray, rng: np.random.Generator, grey: bool, layout: _Layout, taken: np.ndarray) -> Item | None:
    """A round object between the two containers, small or large; it may lie over their inner edges."""
    size = pick(rng, ("small", "large"))
    reach = between(rng, 6.0, 8.0) if size == "small" else between(rng, 14.0, 19.0)
    if size == "large" and min(v.a for v in layout.vessels) < 14:
        return None
    unlike = _unlike(rng, layout.vessels[0].value, draw.light_of(layout.around), grey)
    if unlike is None:
        return None
    value, colour = unlike
    x, y = MIDDLE + between(rng, -4, 4), MIDDLE + between(rng, -6, 22)
    ink = draw.stamp("disc", x, y, reach)
    draw.paint(canvas, ink, value)
    taken |= ink.mask(0.02)
    return Item("core", colour, size, "plain", x, y, reach, ink.mask())


def _marks(
    canvas: np.ndarray, rng: np.random.Generator, grey: bool, layout: _Layout, taken: np.ndarray, coreless: bool
) -> tuple[list[Item], bool]:
    """Draw the marks; return them and whether each has its mirror image in the other container."""
    vessels = layout.vessels
    fate = rng.random()
    items: list[Item] = []
    if fate < 0.2:
        return items, False
    if fate < 0.55 and len(vessels) == 2 and layout.alike and coreless:
        shape = pick(rng, ("spot", "blob", "ring", "filling", "bar"))
        seed = int(rng.random() * 2**31)
        colour = _apart(rng, draw.light_of(vessels[0].value), 0.22, 0.6, grey)
        for holder in (0, 1):
            _draw_mark(canvas, np.random.default_rng(seed), shape, vessels, holder, colour, taken, items, holder == 1)
        return items, len(items) == 2
    count = pick(rng, (1, 1, 1, 2, 2, 3, 4))
    many = pick(rng, ("spot", "spot", "ring", "blob")) if count > 2 else ""
    for _ in range(count):
        shape = many or pick(rng, MARKS[:-1] if layout.rim else MARKS)
        holder = int(rng.random() * len(vessels))
        shade = _apart(rng, draw.light_of(vessels[holder].value), 0.14, 0.6, grey)
        _draw_mark(canvas, rng, shape, vessels, holder, shade, taken, items, False)
    return items, False


def _draw_mark(
    canvas: np.ndarray,
    rng: np.random.Generator,
    shape: str,
    vessels: list[Vessel],
    holder: int,
    shade: tuple[np.ndarray, str],
    taken: np.ndarray,
    items: list[Item],
    flip: bool,
) -> None:
    """Draw one mark where it covers nothing drawn before; leave it out where no such place is found."""
    vessel = vessels[holder]
    for _ in range(_TRIES):
        ink, size, reach, x, y, part = mark_ink(rng, shape, vessel, flip)
        mask, wide = ink.mask(0.35 if shape == "blob" else 0.5), ink.mask(0.04)
        visible = np.count_nonzero(mask)
        if visible < 24 or (wide & taken).any() or (shape == "gap" and visible < 60):
            continue
        draw.paint(canvas, ink, shade[0])
        # One pixel more on every side keeps two marks from touching.
        taken |= wide
        items.append(Item(shape, shade[1], size, "plain", x, y, reach, mask, holder, part))
        return


def _area(vessel: Vessel) -> float:
    # The fourth-power box fills 0.927 of its rectangle, the ellipse pi / 4 of it.
    return vessel.a * vessel.b * (np.pi if vessel.shape == "ellipse" else 3.708)
