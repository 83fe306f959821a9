"""The question forms about containers; see `shapes_view` for what a form is."""

from __future__ import annotations

from functools import partial

import numpy as np

from pefomed.embedded.shapes_drawing import COLOURS, pick
from pefomed.embedded.shapes_mark_forms import MARK_FORMS
from pefomed.embedded.shapes_picture_forms import PICTURE_FORMS
from pefomed.embedded.shapes_scene import Container, compare
from pefomed.embedded.shapes_view import (
    LEAST_LIGHT,
    Form,
    Found,
    View,
    both_containers,
    coin,
    named,
    noun,
    one_container,
    yes,
)

_LEAST_AREA_RATIO = 1.25
_MOST_EQUAL_RATIO = 1.08


def _how_many(view: View, rng: np.random.Generator) -> Found:
    plural = "ellipses" if view.scene.containers[0].shape == "ellipse" else "boxes"
    return (plural if coin(rng) else "containers",), str(len(view.scene.containers))


def _container_shape(view: View, rng: np.random.Generator) -> Found:
    return (), noun(view.scene.containers[0])


def _container_colour(view: View, rng: np.random.Generator) -> Found:
    _, container = one_container(view, rng)
    return ((named(container),), container.colour) if container.colour else None


def _container_colour_check(view: View, rng: np.random.Generator) -> Found:
    _, container = one_container(view, rng)
    want = coin(rng)
    if not container.colour:
        return None
    asked = container.colour if want else pick(rng, [name for name in COLOURS if name != container.colour])
    return (named(container), asked), yes(want)


def _container_tone(view: View, rng: np.random.Generator) -> Found:
    _, container = one_container(view, rng)
    return ((named(container),), container.tone) if container.tone else None


def _area_ratio(left: Container, right: Container) -> float:
    return max(left.area, right.area) / min(left.area, right.area)


def _equal_size(view: View, rng: np.random.Generator) -> Found:
    pair = both_containers(view)
    if pair is None or _MOST_EQUAL_RATIO < _area_ratio(*pair) < _LEAST_AREA_RATIO:
        return None
    return (), yes(_area_ratio(*pair) < _LEAST_AREA_RATIO)


def _which_larger(view: View, rng: np.random.Generator, word: str) -> Found:
    pair = both_containers(view)
    if pair is None:
        return None
    left, right = pair
    if _area_ratio(left, right) < _LEAST_AREA_RATIO:
        return ((word,), "neither") if _area_ratio(left, right) < _MOST_EQUAL_RATIO else None
    return (word,), "left" if (left.area > right.area) == (word == "larger") else "right"


def _alike(view: View, rng: np.random.Generator) -> Found:
    """Whether both containers are equally bright."""
    pair = both_containers(view)
    if pair is None:
        return None
    apart = abs(pair[0].light - pair[1].light)
    return None if 0.05 < apart < LEAST_LIGHT else ((), yes(apart < LEAST_LIGHT))


def _which_brighter(view: View, rng: np.random.Generator, word: str) -> Found:
    pair = both_containers(view)
    told = compare(pair[0].light, pair[1].light, LEAST_LIGHT) if pair else ""
    return ((word,), "left" if told == word else "right") if told else None


def _mirror(view: View, rng: np.random.Generator) -> Found:
    return ((), yes(view.scene.mirror)) if view.scene.mirror is not None else None


def _lines(view: View, rng: np.random.Generator) -> Found:
    if view.scene.pattern == "striped":
        return None
    return (), {"": "none", "arcs": "arcs", "lines": "straight"}[view.scene.lines]


def _lines_check(view: View, rng: np.random.Generator) -> Found:
    return ((), yes(bool(view.scene.lines))) if view.scene.pattern != "striped" else None


def _rim(view: View, rng: np.random.Generator) -> Found:
    return (view.noun,), yes(view.scene.rim)


def _frame(view: View, rng: np.random.Generator) -> Found:
    return ((), yes(view.scene.frame)) if both_containers(view) else None


def _core_check(view: View, rng: np.random.Generator) -> Found:
    return ((), yes(view.scene.core is not None)) if both_containers(view) else None


def _core_size(view: View, rng: np.random.Generator) -> Found:
    return ((), view.scene.core.size) if view.scene.core else None


def _core_large(view: View, rng: np.random.Generator) -> Found:
    return ((), yes(view.scene.core.size == "large")) if view.scene.core else None


def _core_tone(view: View, rng: np.random.Generator) -> Found:
    core, pair = view.scene.core, both_containers(view)
    if core is None or pair is None:
        return None
    told = {compare(core.light, container.light) for container in pair}
    answer = told.pop() if len(told) == 1 else ""
    return ((), answer) if answer else None


CONTAINER_FORMS = (
    *PICTURE_FORMS,
    *MARK_FORMS,
    Form("container count", 1, _how_many, ("how many {0} are there?", "how many large {0} are shown?")),
    Form(
        "container shape", 1, _container_shape, ("what is the shape of the container?", "is it an ellipse or a box?")
    ),
    Form("container colour", 2, _container_colour, ("what colour is the {0}?", "which colour has the {0}?")),
    Form("container colour check", 1, _container_colour_check, ("is the {0} {1}?", "is {1} the colour of the {0}?")),
    Form(
        "container brightness",
        1,
        _container_tone,
        (
            "is the {0} brighter or darker than its surroundings?",
            "compared with its surroundings, how bright is the {0}?",
        ),
    ),
    Form("equal size", 1, _equal_size, ("are both sides equally large?", "do the two have the same size?")),
    Form("larger side", 2, partial(_which_larger, word="larger"), ("which side is {0}?", "which one is {0}?")),
    Form("smaller side", 1, partial(_which_larger, word="smaller"), ("which side is {0}?", "which one is {0}?")),
    Form("equal brightness", 1, _alike, ("are both sides equally bright?", "do the two have the same brightness?")),
    Form("brighter side", 1, partial(_which_brighter, word="brighter"), ("which side is {0}?", "which one is {0}?")),
    Form("darker side", 1, partial(_which_brighter, word="darker"), ("which side is {0}?", "which one is {0}?")),
    Form(
        "mirror",
        2,
        _mirror,
        ("are the two sides mirror images?", "are the two sides symmetric?", "do both sides look the same?"),
    ),
    Form("line kind", 2, _lines, ("what kind of repeated lines are there?", "which lines cross the picture?")),
    Form("line presence", 1, _lines_check, ("are there repeated lines?", "do lines cross the picture?")),
    Form("outline", 1, _rim, ("does the {0} have an outline?", "is there an outline around the {0}?")),
    Form("frame", 1, _frame, ("is there a frame around both?", "are both inside a frame?")),
    Form("core presence", 1, _core_check, ("is there a core between the two?", "do you see a core in the middle?")),
    Form("core size", 2, _core_size, ("how large is the core?", "what size is the core?")),
    Form("core large", 1, _core_large, ("is the core large?", "is the core in the middle large?")),
    Form(
        "core brightness",
        1,
        _core_tone,
        ("is the core brighter or darker than the two sides?", "compared with both sides, how bright is the core?"),
    ),
)
