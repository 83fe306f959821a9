"""The question forms about the marks inside containers; see `shapes_view` for what a form is."""

from __future__ import annotations

import numpy as np

from pefomed.embedded.shapes_drawing import pick
from pefomed.embedded.shapes_scene import MARKS, Item, half
from pefomed.embedded.shapes_view import (
    PLURALS,
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


def _inside(view: View, index: int) -> list[Item]:
    return [item for item in view.items if item.holder == index]


def _only(view: View, rng: np.random.Generator) -> tuple[str, Item] | None:
    """A mark with a name that fits it alone."""
    if not view.items:
        return None
    item = view.any_item(rng)
    if len(view.items) == 1 and coin(rng):
        return "mark", item
    return (item.shape, item) if view.counts[item.shape] == 1 else None


def _any_inside(view: View, rng: np.random.Generator) -> Found:
    index, container = one_container(view, rng)
    return (named(container),), yes(bool(_inside(view, index)))


def _what_inside(view: View, rng: np.random.Generator) -> Found:
    index, container = one_container(view, rng)
    shapes = {item.shape for item in _inside(view, index)}
    return ((named(container),), next(iter(shapes), "nothing")) if len(shapes) < 2 else None


def _is_inside(view: View, rng: np.random.Generator) -> Found:
    index, container = one_container(view, rng)
    here, want = {item.shape for item in _inside(view, index)}, coin(rng)
    elsewhere = {item.shape for item in view.items} - here
    if want:
        options = sorted(here)
    else:
        options = sorted(elsewhere) if elsewhere and coin(rng) else [mark for mark in MARKS if mark not in here]
    return ((pick(rng, options), named(container)), yes(want)) if options else None


def _any_where(view: View, rng: np.random.Generator) -> Found:
    here, want = {item.shape for item in view.items}, coin(rng)
    options = [mark for mark in MARKS if (mark in here) == want]
    return ((pick(rng, options),), yes(want)) if options else None


def _which_holds(view: View, rng: np.random.Generator) -> Found:
    if both_containers(view) is None:
        return None
    mark = pick(rng, MARKS) if not view.items or rng.random() < 0.3 else view.any_item(rng).shape
    holders = {item.holder for item in view.items if item.shape == mark}
    return (view.noun, mark), _holders(holders)


def _which_marked(view: View, rng: np.random.Generator) -> Found:
    return ((view.noun,), _holders({item.holder for item in view.items})) if both_containers(view) else None


def _holders(holders: set[int]) -> str:
    if not holders:
        return "neither"
    return "both" if len(holders) == 2 else ("left", "right")[next(iter(holders))]


def _count_of(view: View, rng: np.random.Generator) -> Found:
    mark = view.any_item(rng).shape if view.items and rng.random() < 0.7 else pick(rng, MARKS)
    return (PLURALS[mark],), str(view.counts[mark])


def _count_all(view: View, rng: np.random.Generator) -> Found:
    return (), str(len(view.items))


def _count_inside(view: View, rng: np.random.Generator) -> Found:
    index, container = one_container(view, rng)
    return (named(container),), str(len(_inside(view, index)))


def _mark_side(view: View, rng: np.random.Generator) -> Found:
    subject = _only(view, rng)
    return ((subject[0],), subject[1].side) if subject and subject[1].side else None


def _mark_height(view: View, rng: np.random.Generator) -> Found:
    """Upper or lower part of the container that holds the mark."""
    subject = _only(view, rng)
    if subject is None:
        return None
    container = view.scene.containers[subject[1].holder]
    answer = half(subject[1].y - container.y, "upper", "lower")
    return ((subject[0], noun(container)), answer) if answer else None


def _mark_quarter(view: View, rng: np.random.Generator) -> Found:
    """Upper or lower, left or right: of the two containers, or of the only container's halves."""
    subject = _only(view, rng)
    if subject is None:
        return None
    item, container = subject[1], view.scene.containers[subject[1].holder]
    down = half(item.y - container.y, "upper", "lower")
    over = container.side or half(item.x - container.x, "left", "right")
    return ((subject[0],), f"{down} {over}") if down and over else None


def _mark_tone(view: View, rng: np.random.Generator) -> Found:
    subject = _only(view, rng)
    if subject is None or not subject[1].tone:
        return None
    return (subject[0], noun(view.scene.containers[subject[1].holder])), subject[1].tone


def _mark_tone_check(view: View, rng: np.random.Generator) -> Found:
    """Is there a bright or dark mark of a kind: "no" questions give a mark that is there the wrong brightness."""
    if not view.items:
        return None
    item, want = view.any_item(rng), coin(rng)
    tones = {o.tone for o in view.items if o.shape == item.shape}
    options = [tone for tone in ("brighter", "darker") if (tone in tones) == want]
    if not options or "" in tones:
        return None
    return ({"brighter": "bright", "darker": "dark"}[pick(rng, options)], item.shape), yes(want)


def _mark_colour(view: View, rng: np.random.Generator) -> Found:
    subject = _only(view, rng)
    return ((subject[0],), subject[1].colour) if subject and subject[1].colour else None


def _mark_size(view: View, rng: np.random.Generator) -> Found:
    subject = _only(view, rng)
    return ((subject[0],), subject[1].size) if subject and subject[1].size else None


def _mark_shape(view: View, rng: np.random.Generator) -> Found:
    return ((), view.items[0].shape) if len(view.items) == 1 else None


def _filled(view: View, rng: np.random.Generator) -> Found:
    index, container = one_container(view, rng)
    parts, want = {item.part for item in _inside(view, index) if item.part}, coin(rng)
    if not parts and rng.random() < 0.75:
        return None
    options = [part for part in ("top", "bottom") if (part in parts) == want]
    return ((pick(rng, options), named(container)), yes(want)) if options else None


def _filled_part(view: View, rng: np.random.Generator) -> Found:
    index, container = one_container(view, rng)
    parts = {item.part for item in _inside(view, index) if item.part}
    if not parts and rng.random() < 0.9:
        return None
    return ((named(container),), next(iter(parts), "neither")) if len(parts) < 2 else None


MARK_FORMS = (
    Form("anything inside", 2, _any_inside, ("is there anything inside the {0}?", "does the {0} hold a mark?")),
    Form(
        "what inside", 5, _what_inside, ("what is inside the {0}?", "what does the {0} hold?", "what is in the {0}?")
    ),
    Form("mark inside", 3, _is_inside, ("is there a {0} inside the {1}?", "does the {1} hold a {0}?")),
    Form("mark presence", 3, _any_where, ("is there a {0}?", "do you see a {0}?", "is a {0} shown?")),
    Form("which holds", 4, _which_holds, ("which {0} holds the {1}?", "on which side is a {1}?")),
    Form("which marked", 3, _which_marked, ("which {0} has a mark inside?", "which side holds something?")),
    Form("mark count", 3, _count_of, ("how many {0} are there?", "count the {0}.")),
    Form("all marks", 2, _count_all, ("how many marks are there?", "count the marks inside.")),
    Form("marks inside", 2, _count_inside, ("how many marks are inside the {0}?", "count the marks in the {0}.")),
    Form("mark side", 2, _mark_side, ("is the {0} on the left or right?", "on which side is the {0}?")),
    Form(
        "mark height",
        2,
        _mark_height,
        ("is the {0} in the upper or lower part of the {1}?", "in which part of the {1} is the {0}?"),
    ),
    Form("mark place", 4, _mark_quarter, ("in which quarter is the {0}?", "which quarter holds the {0}?")),
    Form(
        "mark brightness",
        2,
        _mark_tone,
        ("is the {0} brighter or darker than the {1}?", "compared with the {1}, how bright is the {0}?"),
    ),
    Form("mark brightness check", 2, _mark_tone_check, ("is there a {0} {1}?", "do you see a {0} {1}?")),
    Form("mark colour", 2, _mark_colour, ("what colour is the {0}?", "which colour has the {0}?")),
    Form("mark size", 3, _mark_size, ("how large is the {0}?", "what size is the {0}?")),
    Form("mark shape", 4, _mark_shape, ("what kind of mark is inside?", "what is the mark?", "name the mark.")),
    Form("filled check", 2, _filled, ("is the {0} of the {1} filled?", "is there a filling at the {0} of the {1}?")),
    Form(
        "filled part",
        2,
        _filled_part,
        ("which part of the {0} is filled?", "is the top or the bottom of the {0} filled?"),
    ),
)
