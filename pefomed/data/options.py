"""What can be asked of each data set: its tasks, and its loader's options with their types. Imports nothing heavy."""

from __future__ import annotations

TASKS = {
    "phantoms": ("vqa", "caption", "report"),
    "shapes": ("vqa", "caption"),
    "vqa_rad": ("vqa",),
    "slake": ("vqa",),
    "path_vqa": ("vqa",),
    "iu_xray": ("report",),
    "mimic_cxr": ("report", "caption"),
    "roco": ("caption",),
    "clef2022": ("caption",),
    "medicat": ("caption",),
}
DRAWN = ("phantoms", "shapes")  # made by the package, so without a folder

# The task is the stage's affair and no option. `tests/data/test_options.py` compares with the loaders' signatures.
OPTIONS: dict[str, dict[str, type]] = {
    "phantoms": {"images": int, "questions_per_image": int, "seed": int, "train_pictures": int},
    "shapes": {"images": int, "questions_per_image": int, "seed": int, "train_pictures": int},
    "vqa_rad": {
        "variant": str,
        "image_dir": str,
        "drop_leaked": bool,
        "val_fraction": float,
        "seed": int,
        "missing_images": str,
    },
    "slake": {"language": str, "variant": str, "max_left_out": float},
    "path_vqa": {"variant": str, "max_left_out": float},
    "iu_xray": {
        "variant": str,
        "section": str,
        "samples": str,
        "split_by": str,
        "seed": int,
        "max_left_out": float,
    },
    "mimic_cxr": {"section": str, "views": list, "image_format": str, "max_left_out": float},
    "roco": {"variant": str, "max_left_out": float},
    "clef2022": {"max_left_out": float},
    "medicat": {
        "radiology_only": bool,
        "caption": str,
        "val_fraction": float,
        "test_fraction": float,
        "seed": int,
        "file": str,
        "max_left_out": float,
    },
}
