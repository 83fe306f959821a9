"""The question forms about the picture as a whole; see `shapes_view` for what a form is."""

from __future__ import annotations

import numpy as np

from pefomed.embedded.shapes_drawing import PATTERNS, pick
from pefomed.embedded.shapes_scene import Scene
from pefomed.embedded.shapes_view import Form, Found, View, coin, yes


def _pattern_shows(scene: Scene) -> bool:
    """Neither grain nor lines laid over the whole picture hide the background's own pattern."""
    return not scene.lines and (not scene.grainy or scene.pattern == "grainy")


def _pattern(view: View, rng: np.random.Generator) -> Found:
    scene = view.scene
    return ((), scene.pattern) if _pattern_shows(scene) else None


def _verify_pattern(view: View, rng: np.random.Generator) -> Found:
    scene, want = view.scene, coin(rng)
    if not _pattern_shows(scene):
        return None
    asked = scene.pattern if want else pick(rng, [pattern for pattern in PATTERNS if pattern != scene.pattern])
    return (asked,), yes(want)


def _ground_tone(view: View, rng: np.random.Generator) -> Found:
    return ((), view.scene.ground_tone) if view.scene.ground_tone else None


def _grey(view: View, rng: np.random.Generator) -> Found:
    return (), "grey" if view.scene.grey else "coloured"


def _grainy(view: View, rng: np.random.Generator) -> Found:
    return (), yes(view.scene.grainy)


PICTURE_FORMS = (
    Form("background pattern", 2, _pattern, ("what is the background like?", "which pattern has the background?")),
    Form(
        "background check", 1, _verify_pattern, ("is the background {0}?", "does the picture have a {0} background?")
    ),
    Form("background tone", 1, _ground_tone, ("is the background dark or bright?", "how bright is the background?")),
    Form("grey or coloured", 1, _grey, ("is the picture grey or coloured?", "what kind of colours are used?")),
    Form("grain", 1, _grainy, ("is the picture grainy?", "is there noise in the picture?")),
)
