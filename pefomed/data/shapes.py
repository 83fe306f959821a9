"""The general world on which the embedded base was pre-trained, as a data set: drawn on the spot.

load_shapes("train", task="caption")        # 500 pictures, one caption each
load_shapes("val")                          # 60 pictures x 4 questions

Mixed into a fine-tuning, it lets a model rehearse what it could do before; on its own it shows what was forgotten.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import datasets
import numpy as np
from PIL import Image

from pefomed.data.example import SPLITS, make_dataset
from pefomed.embedded.shapes import Scene, draw_scene
from pefomed.embedded.shapes_language import scene_caption, scene_questions

NAME = "shapes"
DEFAULT_IMAGES = {"train": 500, "val": 60, "test": 200}
TASKS = ("vqa", "caption")
# Pre-training and its held-out scoring draw their scenes from seeds below this one.
FIRST_SEED = 1 << 62
MOST_IMAGES = 1 << 20  # pictures a split can have under one seed


def load_shapes(
    split: str,
    task: str = "vqa",
    images: int | None = None,
    questions_per_image: int = 4,
    seed: int = 0,
    train_pictures: int | None = None,
) -> datasets.Dataset:
    """Draw one split of the general world, of pictures that the embedded base has never seen.

    Args:
        split: "train", "val" or "test".
        task: "vqa" or "caption". The same split and seed show the same pictures for both.
        images: how many pictures; None takes 500, 60 or 200 by split.
        train_pictures: how many in "train" alone, so that a large one is not validated on as large a set.
        questions_per_image: for "vqa" only; above about twenty a picture may have fewer to ask.
        seed: seed of the data set; two seeds share no picture.

    Returns:
        A `datasets.Dataset` of Example columns, the pictures as RGB PNG of 112 x 112 pixels; the question type is the
        name of the question's form, and answers other than yes and no are open.

    Raises:
        ValueError: for an unknown split or task, counts that are not positive, too many pictures, or a negative seed.
    """
    if task not in TASKS:
        raise ValueError(f"shapes: task is {task!r}, expected one of {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"shapes: split is {split!r}, expected one of {', '.join(SPLITS)}")
    if split == "train" and train_pictures is not None:
        images = train_pictures
    images = DEFAULT_IMAGES[split] if images is None else images
    for name, count in (("images", images), ("questions_per_image", questions_per_image)):
        if count < 1:
            raise ValueError(f"shapes: {name} is {count}, expected 1 or more")
    scene_seed(split, images - 1, seed)  # too many pictures are refused before the first is drawn
    rows = _vqa_rows(split, images, questions_per_image, seed) if task == "vqa" else _caption_rows(split, images, seed)
    return make_dataset(rows)


def scene_seed(split: str, number: int, seed: int = 0) -> int:
    """The seed of picture `number` of a split; no two splits or data set seeds, nor pre-training, share one.

    Raises:
        ValueError: for an unknown split or a number or seed out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"shapes: split is {split!r}, expected one of {', '.join(SPLITS)}")
    if not 0 <= number < MOST_IMAGES or seed < 0:
        raise ValueError(
            f"shapes: picture {number} of seed {seed}, expected a number below {MOST_IMAGES} and a seed of 0 or more"
        )
    return FIRST_SEED + (seed * len(SPLITS) + SPLITS.index(split)) * MOST_IMAGES + number


def png(scene: Scene) -> bytes:
    """The picture as the bytes of an RGB PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _vqa_rows(split: str, images: int, questions_per_image: int, seed: int) -> Iterator[dict]:
    for number in range(images):
        scene, rng = _drawn(split, "vqa", number, seed)
        picture = png(scene)
        for turn, (question, answer, form) in enumerate(scene_questions(scene, rng, questions_per_image)):
            yield _row(split, "vqa", number, picture, answer) | {
                "id": f"{NAME}-{split}-{number:05d}-{turn}",
                "question": question,
                "answer_type": "closed" if answer in ("yes", "no") else "open",
                "question_type": form,
            }


def _caption_rows(split: str, images: int, seed: int) -> Iterator[dict]:
    for number in range(images):
        scene, rng = _drawn(split, "caption", number, seed)
        row = _row(split, "caption", number, png(scene), scene_caption(scene, rng))
        yield row | {"id": f"{NAME}-{split}-{number:05d}-caption"}


def _drawn(split: str, task: str, number: int, seed: int) -> tuple[Scene, np.random.Generator]:
    """A picture, and the generator of what is said about it."""
    own = scene_seed(split, number, seed)
    return draw_scene(own), np.random.default_rng([own, TASKS.index(task)])


def _row(split: str, task: str, number: int, picture: bytes, answer: str) -> dict:
    """The columns that both tasks fill in."""
    return {
        "dataset": NAME,
        "split": split,
        "task": task,
        "image": {"bytes": picture, "path": None},
        "answer": answer,
        "group": f"shape-{split}-{number}",
    }
