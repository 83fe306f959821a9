"""The question forms about separate objects.

Each form's function looks in a scene for something to ask about. It returns the words for the wordings' slots and the
true answer, or None where the scene has nothing fit for the form. An object is named by a property which no other
object shares and which the question does not ask for.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np

from pefomed.embedded.shapes_drawing import SHAPES, TEXTURES, pick
from pefomed.embedded.shapes_picture_forms import PICTURE_FORMS
from pefomed.embedded.shapes_scene import compare
from pefomed.embedded.shapes_view import LEAST_LIGHT, PLURALS, Form, Found, View, coin, yes

_SIZES = ("small", "medium", "large")
_LEAST_OFFSET = 9.0


def _options(view: View, kind: str) -> tuple[str, ...]:
    return {"shape": SHAPES, "colour": view.colours, "size": _SIZES, "texture": TEXTURES}[kind]


def _value(view: View, rng: np.random.Generator, kind: str) -> Found:
    item = view.any_item(rng)
    name = view.name(item, kind, rng)
    if name is None or (kind == "texture" and item.size == "small"):
        return None
    return (name,), getattr(item, kind)


def _verify(view: View, rng: np.random.Generator, kind: str) -> Found:
    item, want = view.any_item(rng), coin(rng)
    name, true = view.name(item, kind, rng), getattr(item, kind)
    if name is None or (kind == "texture" and item.size == "small"):
        return None
    asked = true if want else pick(rng, [option for option in _options(view, kind) if option != true])
    return (name, asked), yes(want)


def _present(view: View, rng: np.random.Generator, kind: str) -> Found:
    here = {getattr(item, kind) for item in view.items}
    want = coin(rng)
    options = [option for option in _options(view, kind) if (option in here) == want and option != "plain"]
    return ((pick(rng, options),), yes(want)) if options else None


def _present_both(view: View, rng: np.random.Generator) -> Found:
    """Colour and shape together; half of the "no" questions mix the colour of one object with the shape of another."""
    here = {(item.colour, item.shape) for item in view.items}
    item, want = view.any_item(rng), coin(rng)
    if want:
        return (item.colour, item.shape), "yes"
    if len(view.items) > 1 and coin(rng):
        pair = (item.colour, view.any_item(rng).shape)
    else:
        pair = (item.colour, pick(rng, SHAPES)) if coin(rng) else (pick(rng, view.colours), item.shape)
    return (pair, "no") if pair not in here else None


def _side_used(view: View, rng: np.random.Generator) -> Found:
    sides, heights, want = {o.side for o in view.items}, {o.height for o in view.items}, coin(rng)
    # An object near the middle lies on both sides, so it settles nothing.
    options = [side for side in ("left", "right") if "" not in sides and (side in sides) == want]
    options += [side for side in ("upper", "lower") if "" not in heights and (side in heights) == want]
    return ((pick(rng, options),), yes(want)) if options else None


def _count(view: View, rng: np.random.Generator) -> Found:
    return (), str(len(view.items))


def _count_of(view: View, rng: np.random.Generator, kind: str) -> Found:
    value = pick(rng, _options(view, kind)) if coin(rng) else getattr(view.any_item(rng), kind)
    phrase = PLURALS[value] if kind == "shape" else f"{value} objects"
    return (phrase,), str(view.counts[value])


def _where(view: View, rng: np.random.Generator, kind: str) -> Found:
    item = view.any_item(rng)
    name, answer = view.name(item, "", rng), getattr(item, kind)
    return ((name,), answer) if name and answer else None


def _verify_side(view: View, rng: np.random.Generator) -> Found:
    item, want = view.any_item(rng), coin(rng)
    true = pick(rng, (item.side, item.height))
    name = view.name(item, "", rng)
    if not name or not true:
        return None
    other = {"left": "right", "right": "left", "upper": "lower", "lower": "upper"}[true]
    return (name, true if want else other), yes(want)


def _relation(view: View, rng: np.random.Generator, axis: str, verify: bool) -> Found:
    both = view.two_items(rng)
    if both is None:
        return None
    first, second = both
    offset = (first.x - second.x) if axis == "x" else (first.y - second.y)
    names = view.name(first, "", rng), view.name(second, "", rng)
    if abs(offset) < _LEAST_OFFSET or None in names:
        return None
    words = ("left", "right") if axis == "x" else ("above", "below")
    true = words[int(offset > 0)]
    if not verify:
        return names, true
    asked = pick(rng, words)
    phrase = asked if axis == "y" else f"{asked} of"
    return (names[0], phrase, names[1]), yes(asked == true)


def _side_by_side(view: View, rng: np.random.Generator, kind: str) -> Found:
    """Two objects compared by size or brightness; the answer is a shape, so the two shapes must differ."""
    both = view.two_items(rng)
    if both is None or view.counts[both[0].shape] > 1 or view.counts[both[1].shape] > 1:
        return None
    first, second = both
    if kind == "size":
        if first.size == second.size:
            return None
        more = first if first.reach > second.reach else second
    else:
        if not compare(first.light, second.light, LEAST_LIGHT):
            return None
        more = first if first.light > second.light else second
    return (first.shape, second.shape), more.shape


def _most(view: View, rng: np.random.Generator, which: str) -> Found:
    """The shape of the object furthest out in one direction, the largest, the smallest or the brightest."""
    measure = {
        "leftmost": lambda o: -o.x,
        "rightmost": lambda o: o.x,
        "top": lambda o: -o.y,
        "bottom": lambda o: o.y,
        "largest": lambda o: o.reach,
        "smallest": lambda o: -o.reach,
        "brightest": lambda o: o.light * 100,
        "darkest": lambda o: -o.light * 100,
    }[which]
    if len(view.items) < 2:
        return None
    ranked = sorted(view.items, key=measure)
    least = {"largest": 3.5, "smallest": 3.5, "brightest": 12, "darkest": 12}.get(which, _LEAST_OFFSET)
    if measure(ranked[-1]) - measure(ranked[-2]) < least or len({o.shape for o in view.items}) == 1:
        return None
    return (which,), ranked[-1].shape


def _extreme(view: View, rng: np.random.Generator, options: tuple[str, ...]) -> Found:
    return _most(view, rng, pick(rng, options))


def _all_same(view: View, rng: np.random.Generator, kind: str) -> Found:
    if len(view.items) < 2:
        return None
    return (), yes(len({getattr(item, kind) for item in view.items}) == 1)


def _odd_one(view: View, rng: np.random.Generator, kind: str, answer: str) -> Found:
    """The one object of three or four whose shape or colour differs from all the others, which agree."""
    values = Counter(getattr(item, kind) for item in view.items)
    if len(view.items) < 3 or len(values) != 2 or min(values.values()) != 1 or max(values.values()) < 2:
        return None
    odd = next(item for item in view.items if values[getattr(item, kind)] == 1)
    told = getattr(odd, answer)
    return ((), told) if told else None


def _tone(view: View, rng: np.random.Generator) -> Found:
    item = view.any_item(rng)
    name = view.name(item, "colour", rng)
    return ((name,), item.tone) if name and item.tone else None


def _edge(view: View, rng: np.random.Generator) -> Found:
    blobs = [item for item in view.items if item.shape == "blob"]
    item = pick(rng, blobs) if blobs else view.any_item(rng)
    name = view.name(item, "shape", rng)
    return ((name,), "soft" if item.shape == "blob" else "sharp") if name else None


OBJECT_FORMS = (
    *PICTURE_FORMS,
    Form("shape", 5, partial(_value, kind="shape"), ("what shape is the {0}?", "what is the {0}?", "name the {0}.")),
    Form("colour", 4, partial(_value, kind="colour"), ("what colour is the {0}?", "which colour has the {0}?")),
    Form("size", 2, partial(_value, kind="size"), ("how large is the {0}?", "what size is the {0}?")),
    Form("texture", 2, partial(_value, kind="texture"), ("what is the texture of the {0}?", "how is the {0} filled?")),
    Form("place", 4, partial(_where, kind="place"), ("where is the {0}?", "in which part is the {0}?")),
    Form("side", 2, partial(_where, kind="side"), ("is the {0} on the left or right?", "on which side is the {0}?")),
    Form(
        "half",
        2,
        partial(_where, kind="height"),
        ("in which half is the {0}?", "is the {0} in the upper or lower half?"),
    ),
    Form("side check", 1, _verify_side, ("is the {0} in the {1} half?", "does the {0} lie in the {1} half?")),
    Form("shape check", 1, partial(_verify, kind="shape"), ("is the {0} a {1}?", "does the {0} look like a {1}?")),
    Form("colour check", 1, partial(_verify, kind="colour"), ("is the {0} {1}?", "is {1} the colour of the {0}?")),
    Form("size check", 1, partial(_verify, kind="size"), ("is the {0} {1}?", "is the size of the {0} {1}?")),
    Form(
        "texture check", 1, partial(_verify, kind="texture"), ("is the {0} {1}?", "does the {0} have a {1} texture?")
    ),
    Form(
        "shape presence",
        2,
        partial(_present, kind="shape"),
        ("is there a {0}?", "do you see a {0}?", "is a {0} shown?"),
    ),
    Form("colour presence", 1, partial(_present, kind="colour"), ("is there a {0} object?", "is anything {0}?")),
    Form("size presence", 1, partial(_present, kind="size"), ("is there a {0} object?", "is any object {0}?")),
    Form("texture presence", 1, partial(_present, kind="texture"), ("is there a {0} object?", "is any object {0}?")),
    Form(
        "object presence", 2, _present_both, ("is there a {0} {1}?", "do you see a {0} {1}?", "is a {0} {1} present?")
    ),
    Form("side used", 1, _side_used, ("is there an object in the {0} half?", "does the {0} half hold an object?")),
    Form(
        "object count", 3, _count, ("how many objects are there?", "how many shapes are shown?", "count the objects.")
    ),
    Form("shape count", 2, partial(_count_of, kind="shape"), ("how many {0} are there?", "count the {0}.")),
    Form("colour count", 2, partial(_count_of, kind="colour"), ("how many {0} are there?", "count the {0}.")),
    Form("left or right of", 2, partial(_relation, axis="x", verify=False), ("is the {0} left or right of the {1}?",)),
    Form("above or below", 2, partial(_relation, axis="y", verify=False), ("is the {0} above or below the {1}?",)),
    Form(
        "beside check",
        1,
        partial(_relation, axis="x", verify=True),
        ("is the {0} {1} the {2}?", "does the {0} lie {1} the {2}?"),
    ),
    Form(
        "above check",
        1,
        partial(_relation, axis="y", verify=True),
        ("is the {0} {1} the {2}?", "does the {0} lie {1} the {2}?"),
    ),
    Form(
        "larger of two",
        2,
        partial(_side_by_side, kind="size"),
        ("which is larger, the {0} or the {1}?", "is the {0} or the {1} larger?"),
    ),
    Form(
        "brighter of two",
        2,
        partial(_side_by_side, kind="light"),
        ("which is brighter, the {0} or the {1}?", "is the {0} or the {1} brighter?"),
    ),
    Form(
        "outermost",
        3,
        partial(_extreme, options=("leftmost", "rightmost", "top", "bottom")),
        ("what is the {0} object?", "which shape is the {0} one?"),
    ),
    Form(
        "largest",
        2,
        partial(_extreme, options=("largest", "smallest")),
        ("what is the {0} object?", "which shape is the {0} one?"),
    ),
    Form(
        "brightest",
        2,
        partial(_extreme, options=("brightest", "darkest")),
        ("what is the {0} object?", "which shape is the {0} one?"),
    ),
    Form(
        "same shape",
        1,
        partial(_all_same, kind="shape"),
        ("do all objects have the same shape?", "are the shapes alike?"),
    ),
    Form(
        "same colour",
        1,
        partial(_all_same, kind="colour"),
        ("do all objects have the same colour?", "are the colours alike?"),
    ),
    Form(
        "odd shape",
        3,
        partial(_odd_one, kind="shape", answer="shape"),
        ("which shape is the odd one out?", "which shape differs from the rest?"),
    ),
    Form(
        "odd colour",
        2,
        partial(_odd_one, kind="colour", answer="colour"),
        ("which colour is the odd one out?", "which colour differs from the rest?"),
    ),
    Form(
        "odd side",
        2,
        partial(_odd_one, kind="shape", answer="side"),
        ("on which side is the odd shape?", "where does the shape differ, left or right?"),
    ),
    Form(
        "brightness",
        2,
        _tone,
        ("is the {0} brighter or darker than the background?", "compared with the background, how bright is the {0}?"),
    ),
    Form("edge", 1, _edge, ("is the edge of the {0} sharp or soft?", "how is the edge of the {0}?")),
)
