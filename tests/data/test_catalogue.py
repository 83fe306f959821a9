"""The catalogue: complete, in agreement with the loaders, and printed at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pefomed.data import DATASETS
from pefomed.data.catalogue import DATA_SETS, list_data_sets
from pefomed.data.options import DRAWN, OPTIONS

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_data_set_is_described() -> None:
    assert set(DATA_SETS) == set(DATASETS)
    listed = list_data_sets()
    for name, entry in DATA_SETS.items():
        assert entry.name == name and f"{name}: {entry.full_name}" in listed
        assert all((entry.about, entry.citation, entry.licence, entry.obtain, entry.tasks, entry.layouts))
        assert all(layout.files for layout in entry.layouts)
        assert name in DRAWN or "http" in entry.obtain
        assert all(set(layout.rows) <= set(entry.splits) for layout in entry.layouts)
    assert max(map(len, listed.splitlines())) <= 120


def test_only_mimic_cxr_is_credentialed() -> None:
    assert [name for name, entry in DATA_SETS.items() if entry.credentialed] == ["mimic_cxr"]
    assert "only counts and hashes of it are printed" in str(DATA_SETS["mimic_cxr"])


def test_layouts_are_named_as_the_loaders_name_them() -> None:
    for name, entry in DATA_SETS.items():
        named = {layout.variant for layout in entry.layouts}
        assert ("variant" in OPTIONS[name]) == (named != {""})


def published(name: str) -> dict[str, dict[str, int]]:
    return {layout.variant: dict(layout.rows) for layout in DATA_SETS[name].layouts}


def test_counts_are_those_of_the_loaders() -> None:
    from pefomed.data import clef2022, iu_xray, mimic_cxr, path_vqa, roco, slake, vqa_rad

    assert published("vqa_rad") == {
        variant: dict(zip(("train", "test"), counts, strict=True))
        for variant, counts in vqa_rad.PUBLISHED_ROWS.items()
    }
    assert published("slake") == dict.fromkeys(slake.VARIANTS, slake.PUBLISHED["en"])
    assert published("path_vqa") == path_vqa.PUBLISHED
    assert published("roco") == {**roco.PUBLISHED_ROWS, "kaggle": {}}
    assert published("mimic_cxr") == {"": mimic_cxr.PUBLISHED}
    assert published("clef2022") == {"": clef2022.PUBLISHED_ROWS}
    views = {split: 2 * studies for split, studies in iu_xray.R2GEN_STUDIES.items()}
    assert published("iu_xray") == {"r2gen": views, "openi": {}, "kaggle": {}}


@pytest.mark.parametrize("name", ["phantoms", "shapes"])
def test_counts_of_the_drawn_sets(name: str) -> None:
    from pefomed.data import load_dataset, phantoms, shapes

    rows = published(name)[""]
    pictures = {"phantoms": phantoms.DEFAULT_IMAGES, "shapes": shapes.DEFAULT_IMAGES}[name]
    few = len(load_dataset(name, split="val", images=3))
    assert rows == {split: count * few // 3 for split, count in pictures.items()}


def test_the_list_comes_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pefomed.data.catalogue import list_data_sets; list_data_sets()\n"
        "print([n for n in ('torch', 'datasets', 'pyarrow', 'numpy', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

    def seconds() -> float:
        start = time.monotonic()
        command = [sys.executable, "-m", "pefomed.cli", "data", "list"]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
        return time.monotonic() - start

    # The best of three: other work on the machine can only make it slower.
    assert min(seconds() for _ in range(3)) < 1
