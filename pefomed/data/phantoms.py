"""The embedded medical world as a data set: drawn on the spot, nothing to download.

load_phantoms("train")                      # 500 pictures x 8 questions
load_phantoms("test", task="report")        # 200 pictures, one report each
"""

from __future__ import annotations

import io

import datasets
import numpy as np
from PIL import Image

from pefomed.data.example import make_dataset
from pefomed.embedded.phantoms import Phantom, build_vqa, caption, patient_seed, report, split_phantoms

NAME = "phantoms"
DEFAULT_IMAGES = {"train": 500, "val": 60, "test": 200}
TASKS = ("vqa", "caption", "report")


def load_phantoms(
    split: str,
    task: str = "vqa",
    images: int | None = None,
    questions_per_image: int = 8,
    seed: int = 0,
    train_pictures: int | None = None,
) -> datasets.Dataset:
    """Draw one split of the embedded medical world.

    Args:
        split: "train", "val" or "test".
        task: "vqa", "caption" or "report". The same split and seed show the same patients for every task.
        images: how many pictures; None takes 500, 60 or 200 by split.
        train_pictures: how many in "train" alone, so that less can be learnt from and as much be tested.
        questions_per_image: for "vqa" only.
        seed: seed of the data set; two seeds share no patient.

    Returns:
        A `datasets.Dataset` of Example columns, the pictures as grey PNG of 112 x 112 pixels.

    Raises:
        ValueError: for an unknown split or task, or counts that are not positive.
    """
    if split not in DEFAULT_IMAGES:
        raise ValueError(f"phantoms: split is {split!r}, expected one of {', '.join(DEFAULT_IMAGES)}")
    if task not in TASKS:
        raise ValueError(f"phantoms: task is {task!r}, expected one of {', '.join(TASKS)}")
    if split == "train" and train_pictures is not None:
        images = train_pictures
    images = DEFAULT_IMAGES[split] if images is None else images
    if images < 1:
        raise ValueError(f"phantoms: images is {images}, expected 1 or more")
    rows = (
        _vqa_rows(split, images, questions_per_image, seed) if task == "vqa" else _text_rows(split, task, images, seed)
    )
    return make_dataset(rows)


def png(phantom: Phantom) -> bytes:
    """The picture as the bytes of a grey PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(phantom.image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _vqa_rows(split: str, images: int, questions_per_image: int, seed: int) -> list[dict]:
    rows: list[dict] = []
    encoded: dict[str, bytes] = {}
    for index, asked in enumerate(build_vqa(split, images, questions_per_image, seed)):
        if asked.group not in encoded:
            encoded[asked.group] = png(asked.phantom)
        number, turn = divmod(index, questions_per_image)
        row = _row(split, "vqa", number, encoded[asked.group], asked.answer)
        row |= {
            "id": f"{NAME}-{split}-{number:05d}-{turn}",
            "question": asked.question,
            "answer_type": asked.answer_type,
            "question_type": asked.question_type,
            "image_organ": asked.image_organ,
            "phrase_type": asked.phrase_type,
        }
        rows.append(row)
    return rows


def _text_rows(split: str, task: str, images: int, seed: int) -> list[dict]:
    write = {"caption": caption, "report": report}[task]
    rng = np.random.default_rng([patient_seed(split, 0, seed), TASKS.index(task)])
    rows = []
    for number, phantom in enumerate(split_phantoms(split, images, seed)):
        row = _row(split, task, number, png(phantom), write(phantom, rng))
        rows.append(row | {"id": f"{NAME}-{split}-{number:05d}-{task}", "image_organ": phantom.region})
    return rows


def _row(split: str, task: str, number: int, picture: bytes, answer: str) -> dict:
    """The columns that every task fills in."""
    return {
        "dataset": NAME,
        "split": split,
        "task": task,
        "image": {"bytes": picture, "path": None},
        "answer": answer,
        "group": f"phantom-{split}-{number}",
    }
