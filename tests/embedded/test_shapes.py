"""The general world: what the questions and captions say must be true in the drawn pixels."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from pefomed.embedded.shapes import PATCH_CLASSES, Scene, draw_scene, segmentation_targets
from pefomed.embedded.shapes_container_forms import CONTAINER_FORMS
from pefomed.embedded.shapes_drawing import COLOURS, GREYS, LUMINANCE, SHAPES, distance
from pefomed.embedded.shapes_language import scene_caption, scene_questions
from pefomed.embedded.shapes_object_forms import OBJECT_FORMS
from pefomed.embedded.shapes_scene import Item

SCENES = 600


@cache
def scenes() -> tuple[Scene, ...]:
    return tuple(draw_scene(seed) for seed in range(SCENES))


@cache
def questions() -> tuple[tuple[Scene, str, str, str], ...]:
    rng = np.random.default_rng(3)
    return tuple((scene, *row) for scene in scenes() for row in scene_questions(scene, rng, 8))


def luminance(scene: Scene) -> np.ndarray:
    return scene.image.astype(np.float64) @ LUMINANCE.astype(np.float64) / 255


def near(item: Item, distance_px: int) -> np.ndarray:
    """The mask grown by some pixels on every side."""
    grown = item.mask.copy()
    for _ in range(distance_px):
        padded = np.pad(grown, 1)
        grown = grown | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
    return grown


def test_picture_depends_on_the_seed_alone():
    first, again, other = draw_scene(11), draw_scene(11), draw_scene(12)
    assert np.array_equal(first.image, again.image)
    assert [item.shape for item in first.items] == [item.shape for item in again.items]
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (112, 112, 3)
    assert first.image.dtype == np.uint8


def test_mix_of_pictures():
    kinds = Counter(scene.kind for scene in scenes())
    assert 0.42 * SCENES < kinds["objects"] < 0.58 * SCENES
    assert 0.55 < np.mean([scene.grey for scene in scenes()]) < 0.7
    for scene in scenes():
        channels_agree = np.ptp(scene.image.astype(int), axis=2).max() == 0
        assert channels_agree or not scene.grey


def test_every_item_is_visible_and_hides_no_other():
    for seed, scene in enumerate(scenes()):
        everything = np.zeros((112, 112), dtype=int)
        for item in scene.items:
            assert item.mask.sum() >= 20, (seed, item.shape)
            everything += item.mask
        if scene.core is not None:
            everything += scene.core.mask
        assert everything.max() <= 1, seed


def test_marks_lie_in_the_container_that_holds_them():
    for seed, scene in enumerate(scenes()):
        for item in scene.items:
            if scene.kind == "containers":
                outside = item.mask & ~scene.containers[item.holder].mask
                assert outside.sum() <= 0.1 * item.mask.sum() + 2, (seed, item.shape)
            rows, columns = np.nonzero(item.mask)
            if item.shape not in ("wedge", "crescent", "gap"):
                assert abs(columns.mean() - item.x) < 3.5, (seed, item.shape)
                assert abs(rows.mean() - item.y) < 3.5, (seed, item.shape)


def test_brightness_words_hold_in_the_pixels():
    checked = 0
    for seed, scene in enumerate(scenes()):
        light = luminance(scene)
        for item in (*scene.items, *([scene.core] if scene.core else [])):
            if scene.kind == "objects":
                around = light[scene.ground].mean()
            elif item is scene.core:
                continue
            else:
                ring = scene.containers[item.holder].mask.copy()
                for other in (*scene.items, *([scene.core] if scene.core else [])):
                    ring &= ~near(other, 2)
                around = np.median(light[ring])
            if item.tone:
                gap = light[item.mask].mean() - around
                assert (gap > 0) == (item.tone == "brighter"), (seed, item.shape, gap)
                checked += 1
    assert checked > SCENES


def test_size_words_hold_in_the_pixels():
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)
    for scene in scenes():
        for item in scene.items:
            if item.size and item.shape in ("disc", "ring", "square", "cross", "star", "triangle", "spot"):
                rows, columns = np.nonzero(item.mask)
                spans[scene.kind, item.size].append(max(np.ptp(rows), np.ptp(columns)) + 1)
    for kind in ("objects", "containers"):
        assert max(spans[kind, "small"]) < min(spans[kind, "medium"]), kind
        assert max(spans[kind, "medium"]) < min(spans[kind, "large"]), kind


def test_colour_words_hold_in_the_pixels():
    checked = 0
    for seed, scene in enumerate(scenes()):
        palette = {name: (grey,) * 3 for name, grey in GREYS.items()} if scene.grey else COLOURS
        for item in scene.items:
            if scene.kind == "objects" and item.texture == "plain" and item.shape in ("disc", "square", "triangle"):
                seen = np.median(scene.image[item.mask], axis=0) / 255
                nearest = min(palette, key=lambda name: np.abs(np.array(palette[name]) - seen).sum())
                assert nearest == item.colour, (seed, item.shape)
                checked += 1
    assert checked > 100


def test_containers_compare_as_told():
    larger = mirrored = 0
    for seed, scene in enumerate(scenes()):
        if len(scene.containers) != 2:
            continue
        left, right = scene.containers
        assert np.nonzero(left.mask)[1].mean() < 56 < np.nonzero(right.mask)[1].mean()
        ratio = left.mask.sum() / right.mask.sum()
        if left.area > 1.25 * right.area or right.area > 1.25 * left.area:
            assert (ratio > 1) == (left.area > right.area), seed
            larger += 1
        if scene.mirror:
            mirrored += 1
            assert 0.93 < ratio < 1.07, seed
            assert abs(left.light - right.light) < 0.08, seed
            if scene.items:
                first, second = scene.items
                assert first.shape == second.shape, seed
                assert abs((first.x - left.x) + (second.x - right.x)) < 2.5, seed
    assert larger > 40
    assert mirrored > 30


def test_fillings_lie_at_the_end_they_are_said_to_fill():
    for scene in scenes():
        for item in scene.items:
            if item.part:
                container = scene.containers[item.holder]
                assert (item.y > container.y) == (item.part == "bottom")


def test_questions_and_answers_are_short_lower_case_and_different():
    per_scene: dict[int, list[str]] = defaultdict(list)
    for scene, question, answer, form in questions():
        assert question == question.lower()
        assert question[-1] in "?."
        assert "{" not in question
        assert " a ellipse" not in question
        assert " a orange" not in question
        assert answer == answer.lower()
        assert 1 <= len(answer.split()) <= 3
        assert form
        per_scene[id(scene)].append(question)
    assert all(len(asked) == len(set(asked)) == 8 for asked in per_scene.values())


def test_named_objects_are_the_only_ones_of_their_kind():
    for scene, question, answer, form in questions():
        shapes = [item.shape for item in scene.items]
        if form == "shape" and question.startswith("what shape is the "):
            name = question.removeprefix("what shape is the ").rstrip("?")
            quality = name.removesuffix(" object")
            fits = [i for i in scene.items if name == "object" or quality in (i.colour, i.size, i.texture)]
            assert [i.shape for i in fits] == [answer]
        elif form in ("object count", "all marks"):
            assert answer == str(len(shapes))
        elif form == "odd shape":
            assert shapes.count(answer) == 1


@pytest.mark.parametrize("form", ["left or right of", "above or below"])
def test_relations_hold(form: str):
    checked = 0
    for scene, question, answer, name in questions():
        if name != form:
            continue
        found = [item for item in scene.items if f"the {item.shape} " in question or f"the {item.shape}?" in question]
        by_text = sorted(found, key=lambda item: question.index(f"the {item.shape}"))
        if len(by_text) == 2 and by_text[0].shape != by_text[1].shape and question.count(" object") == 0:
            first, second = by_text
            offset = first.x - second.x if form == "left or right of" else first.y - second.y
            assert (offset < 0) == (answer in ("left", "above"))
            checked += 1
    assert checked > 5


def test_there_are_many_forms_with_different_names():
    names = [form.name for form in OBJECT_FORMS + CONTAINER_FORMS]
    assert len(set(names)) >= 60
    assert len({form.name for form in OBJECT_FORMS}) == len(OBJECT_FORMS)
    assert len({form.name for form in CONTAINER_FORMS}) == len(CONTAINER_FORMS)
    asked = {form for *_, form in questions()}
    assert len(asked) >= 60


def test_guessing_from_the_form_alone_stays_near_chance():
    answers: dict[str, Counter] = defaultdict(Counter)
    for _, _, answer, form in questions():
        answers[form][answer] += 1
    total = sum(sum(counts.values()) for counts in answers.values())
    assert sum(max(counts.values()) for counts in answers.values()) / total < 0.45
    both = Counter(answer for _, _, answer, _ in questions() if answer in ("yes", "no"))
    assert 0.45 < both["yes"] / both.total() < 0.55


def test_captions_state_the_facts():
    rng = np.random.default_rng(5)
    for scene in scenes():
        caption = scene_caption(scene, rng)
        assert caption == caption.lower()
        assert caption.endswith(".")
        assert len(caption.split()) <= 55
        for item in scene.items:
            assert item.shape in caption
        if scene.kind == "containers" and not scene.items:
            assert "nothing" in caption or "empty" in caption or "no marks" in caption


def test_patch_labels_follow_the_masks():
    for scene in scenes()[:200]:
        labels = segmentation_targets(scene)
        assert labels.shape == (64,)
        assert labels.dtype == np.int64
        assert 0 <= labels.min() <= labels.max() < len(PATCH_CLASSES)
        for item in scene.items:
            if item.size == "large" and item.shape in ("disc", "square"):
                patch = int(item.y) // 14 * 8 + int(item.x) // 14
                assert PATCH_CLASSES[labels[patch]] == item.shape


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="unknown shape 'heart'"):
        distance("heart", np.zeros((2, 2)), np.zeros((2, 2)), 5.0)
    for shape in SHAPES:
        assert distance(shape, np.full((1, 1), 200.0), np.full((1, 1), 90.0), 10.0).min() > 0


def test_drawing_is_cheap():
    start = time.process_time()
    for seed in range(200):
        draw_scene(seed)
    # Measured at about one millisecond; the bound leaves room for slow and busy machines.
    assert (time.process_time() - start) / 200 < 0.01
