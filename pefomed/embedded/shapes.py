"""The general world on which the embedded model's base is trained: drawn pictures without any anatomy.

About half of the pictures show separate objects (`shapes_objects`), half show containers with marks inside them
(`shapes_containers`); about five in eight are grey. What to say about a picture is in `shapes_language`.
"""

from __future__ import annotations

import numpy as np

from pefomed.embedded.shapes_containers import containers_scene
from pefomed.embedded.shapes_drawing import SHAPES, SIDE
from pefomed.embedded.shapes_objects import objects_scene
from pefomed.embedded.shapes_scene import MARKS, Container, Item, Scene

__all__ = ["PATCH_CLASSES", "Container", "Item", "Scene", "draw_scene", "segmentation_targets"]

PATCH = 14
PATCH_CLASSES = (
    "background",
    *SHAPES,
    *(mark for mark in MARKS if mark not in SHAPES),
    "core",
    "ellipse container",
    "box container",
)
_PATCH_CLASS = {name: index for index, name in enumerate(PATCH_CLASSES)}
_GREY_SHARE = {"objects": 0.47, "containers": 0.78}
_LEAST_SHARE = 0.12


def draw_scene(seed: int) -> Scene:
    """Draw one picture of the general world.

    Args:
        seed: a whole number of at least 0; the same seed always gives the same picture and facts.

    Returns:
        The scene; its image is (112, 112, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    kind = "objects" if rng.random() < 0.5 else "containers"
    grey = bool(rng.random() < _GREY_SHARE[kind])
    return objects_scene(rng, grey) if kind == "objects" else containers_scene(rng, grey)


def segmentation_targets(scene: Scene) -> np.ndarray:
    """What is to be seen in each of the 8 x 8 patches of 14 x 14 pixels, row by row.

    Args:
        scene: a drawn scene.

    Returns:
        (64,) int64 indices into `PATCH_CLASSES`. The item or mark that covers most of a patch wins where it covers
        at least an eighth of it; then a container which covers at least half; else 0, the background.
    """
    labels = np.zeros(64, dtype=np.int64)
    for container in scene.containers:
        labels[_shares(container.mask) >= 0.5] = _PATCH_CLASS[f"{container.shape} container"]
    best = np.full(64, _LEAST_SHARE, dtype=np.float32)
    for item in (*scene.items, *([scene.core] if scene.core else [])):
        share = _shares(item.mask)
        wins = share > best
        labels[wins] = _PATCH_CLASS[item.shape]
        best[wins] = share[wins]
    return labels


def _shares(mask: np.ndarray) -> np.ndarray:
    """(64,) float32: the share of each patch that a (112, 112) mask covers."""
    across = SIDE // PATCH
    return mask.reshape(across, PATCH, across, PATCH).mean(axis=(1, 3), dtype=np.float32).reshape(-1)
