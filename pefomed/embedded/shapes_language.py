"""What can be said about a picture of the general world: captions, and questions with short true answers.

The question forms are in the modules `shapes_..._forms`: a name, the wordings, and a function that finds in a scene
what to ask about. Where a form can be answered yes or no its function first tosses a coin for the answer it wants.
Answers that the world makes more frequent than their rivals are thinned out by `_KEEP`, measured over drawn scenes, so
that guessing from the question alone stays close to chance.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from pefomed.embedded.shapes_container_forms import CONTAINER_FORMS
from pefomed.embedded.shapes_drawing import pick
from pefomed.embedded.shapes_object_forms import OBJECT_FORMS
from pefomed.embedded.shapes_scene import Container, Item, Scene
from pefomed.embedded.shapes_view import PLURALS, Form, View, named, noun

_NUMBER_WORDS = ("no", "one", "two", "three", "four")
_TRIES_PER_QUESTION = 30

# Form name -> answer -> share of the found questions that are asked; 1 where not listed.
_KEEP: dict[str, dict[str, float]] = {
    "anything inside": {"yes": 0.67},
    "background tone": {"dark": 0.74},
    "colour": {"white": 0.67, "black": 0.67},
    "colour count": {"0": 0.56, "1": 0.51},
    "container brightness": {"brighter": 0.62},
    "container count": {"2": 0.43},
    "container shape": {"ellipse": 0.48},
    "core brightness": {"brighter": 0.74},
    "core large": {"no": 0.72},
    "core presence": {"no": 0.4},
    "core size": {"small": 0.78},
    "edge": {"sharp": 0.17},
    "equal brightness": {"yes": 0.33},
    "equal size": {"yes": 0.5},
    "filled check": {"no": 0.22},
    "filled part": {"neither": 0.36},
    "frame": {"no": 0.66},
    "grain": {"no": 0.52},
    "grey or coloured": {"grey": 0.55},
    "larger side": {"neither": 0.2},
    "line kind": {"none": 0.28},
    "line presence": {"no": 0.51},
    "mark brightness check": {"yes": 0.82},
    "mark colour": {"black": 0.53},
    "mark count": {"1": 0.47, "0": 0.32},
    "mark inside": {"no": 0.58},
    "mark presence": {"no": 0.65},
    "mark size": {"small": 0.71},
    "marks inside": {"1": 0.48, "0": 0.45},
    "mirror": {"no": 0.28},
    "object presence": {"yes": 0.61},
    "odd colour": {"white": 0.36, "dark grey": 0.69, "grey": 0.66, "black": 0.28, "light grey": 0.56},
    "outline": {"no": 0.5},
    "same colour": {"no": 0.34},
    "same shape": {"no": 0.26},
    "shape count": {"0": 0.33, "1": 0.33},
    "side used": {"yes": 0.34},
    "size": {"small": 0.79},
    "size presence": {"yes": 0.76},
    "smaller side": {"neither": 0.22},
    "texture": {"plain": 0.1},
    "texture presence": {"no": 0.39},
    "what inside": {"nothing": 0.17, "blob": 0.72, "ring": 0.81, "spot": 0.48},
    "which holds": {"both": 0.78, "neither": 0.34},
    "which marked": {"both": 0.46, "neither": 0.64},
}


def _lottery(forms: tuple[Form, ...]) -> tuple[Form, ...]:
    return tuple(form for form in forms for _ in range(form.weight))


_LOTTERY = {"objects": _lottery(OBJECT_FORMS), "containers": _lottery(CONTAINER_FORMS)}


def scene_questions(scene: Scene, rng: np.random.Generator, n: int) -> list[tuple[str, str, str]]:
    """Ask about a scene.

    Args:
        scene: a drawn scene.
        rng: draws the forms, the wordings and what is asked about.
        n: how many questions; fewer come back only where the scene has not enough different ones to ask (above
            about twenty).

    Returns:
        Rows of question, answer and form name; all lower case, no question twice.
    """
    view, forms = View(scene), _LOTTERY[scene.kind]
    asked: dict[str, tuple[str, str, str]] = {}
    for _ in range(_TRIES_PER_QUESTION * n):
        if len(asked) == n:
            break
        form = pick(rng, forms)
        found = form.find(view, rng)
        if found is None:
            continue
        slots, answer = found
        keep = _KEEP.get(form.name, {}).get(answer)
        if keep is not None and rng.random() > keep:
            continue
        question = pick(rng, form.wordings).format(*slots)
        # The wordings say "a"; only an ellipse and something orange need "an".
        question = question.replace(" a ellipse", " an ellipse").replace(" a orange", " an orange")
        asked.setdefault(question, (question, answer, form.name))
    return list(asked.values())


def scene_caption(scene: Scene, rng: np.random.Generator) -> str:
    """One or two lower-case sentences stating what a scene shows."""
    if scene.kind == "objects":
        return _objects_caption(scene, rng)
    return _containers_caption(scene, rng)


def article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _ground(scene: Scene) -> str:
    tone = f"{scene.ground_tone} " if scene.ground_tone else ""
    return f"{tone}{scene.pattern} background"


def _object_phrase(item: Item, many: bool, rng: np.random.Generator) -> str:
    """The object with its properties and place; among many objects each leaves out one of them."""
    left_out = pick(rng, ("size", "texture", "place")) if many else ""
    size = f"{item.size} " if left_out != "size" else ""
    texture = f"{item.texture} " if item.texture != "plain" and left_out != "texture" else ""
    phrase = article(f"{size}{texture}{item.colour} {item.shape}")
    place = (item.place or item.side or item.height) if left_out != "place" else ""
    if not place:
        return phrase
    where = f"in the {place}" if place == "centre" else f"at the {place}" if item.place else f"in the {place} half"
    return f"{phrase} {where}"


def _objects_caption(scene: Scene, rng: np.random.Generator) -> str:
    items = list(scene.items)
    if rng.random() < 0.5:
        items.reverse()
    listed = _join([_object_phrase(item, len(items) > 2, rng) for item in items])
    ground = article(_ground(scene))
    picture = "grey" if scene.grey else "coloured"
    choice = rng.random()
    if choice < 0.35:
        return f"{listed} on {ground}."
    if choice < 0.7:
        return f"a {picture} picture with {listed}. the background is {scene.pattern}."
    count = _NUMBER_WORDS[len(items)]
    return f"{count} {'object' if len(items) == 1 else 'objects'} on {ground}: {listed}."


def _containers_caption(scene: Scene, rng: np.random.Generator) -> str:
    return f"{_containers_sentence(scene, rng)} {_marks_sentence(scene, rng)}"


def _containers_sentence(scene: Scene, rng: np.random.Generator) -> str:
    first = scene.containers[0]
    word = noun(first)
    extras = []
    if scene.rim:
        extras.append("an outline")
    if scene.lines:
        extras.append("repeated " + ("arcs" if scene.lines == "arcs" else "straight lines"))
    with_extras = f" with {_join(extras)}" if extras else ""
    if len(scene.containers) == 1:
        tone = "" if scene.grey else f"{first.colour} "
        if scene.grey and first.tone:
            tone = "bright " if first.tone == "brighter" else "dark "
        return f"one large {tone}{word}{with_extras} on {article(_ground(scene))}."
    left, right = scene.containers
    plural = "ellipses" if word == "ellipse" else "boxes"
    inside = " inside a frame" if scene.frame else ""
    between = f" and {article(scene.core.size + ' core')} between them" if scene.core else ""
    sentence = f"two {plural}{with_extras}{inside}{between}"
    if not scene.grey:
        sentence += f", the left {left.colour} and the right {right.colour}"
    notes = []
    if left.area > 1.2 * right.area or right.area > 1.2 * left.area:
        notes.append(f"the {'left' if left.area > right.area else 'right'} one is larger")
    elif scene.mirror:
        notes.append(pick(rng, ("the two sides are mirror images", "both sides look the same")))
    if scene.grey and abs(left.light - right.light) > 0.12:
        notes.append(f"the {'left' if left.light > right.light else 'right'} one is brighter")
    return f"{sentence}; {_join(notes)}." if notes else f"{sentence}."


def _marks_sentence(scene: Scene, rng: np.random.Generator) -> str:
    if not scene.items:
        return pick(rng, ("nothing is inside.", "it is empty inside.", "there are no marks inside."))
    if len(scene.items) > 2:
        return _many_marks_sentence(scene)
    phrases = [_mark_phrase(item, scene) for item in scene.items]
    return f"there {'are' if len(phrases) > 1 else 'is'} {_join(phrases)}."


def _many_marks_sentence(scene: Scene) -> str:
    """How many marks of which kind each container holds."""
    groups = Counter((item.holder, item.shape) for item in scene.items)
    parts = []
    for (holder, shape), count in sorted(groups.items()):
        phrase = article(shape) if count == 1 else f"{_NUMBER_WORDS[count]} {PLURALS[shape]}"
        parts.append(f"{phrase} in the {named(scene.containers[holder])}")
    return f"there are {_join(parts)}."


def _mark_phrase(item: Item, scene: Scene) -> str:
    container = scene.containers[item.holder]
    tone = {"brighter": "bright ", "darker": "dark ", "": ""}[item.tone] if scene.grey else f"{item.colour} "
    size = f"{item.size} " if item.size else ""
    place = f"{item.part} of the " if item.part else mark_place(item, container)
    return f"{article(f'{size}{tone}{item.shape}')} in the {place}{named(container)}"


def mark_place(item: Item, container: Container) -> str:
    """ "upper part of the " or "lower part of the ", or "" for a mark near the container's middle height."""
    offset = item.y - container.y
    return "upper part of the " if offset < -6 else "lower part of the " if offset > 6 else ""
