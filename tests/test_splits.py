"""The data of a run: mixtures, rows left out, broken pictures within and beyond the bound."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pefomed.procedure import CLEAN
from pefomed.settings import RunSettings
from pefomed.splits import LEFT_OUT_FILE, load_splits, without_broken, write_left_out

SMALL = {"phantoms": {"images": 6, "ratio": 60}, "shapes": {"images": 2, "questions_per_image": 3, "ratio": 40}}


def stage1(**changes) -> RunSettings:
    return RunSettings(stage="stage1_captions", output_dir="x", **{"dataset": "mixture", "mixture": SMALL, **changes})


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    grey = np.random.default_rng(number).integers(0, 255, (20, 20), dtype=np.uint8)
    Image.fromarray(grey).save(buffer, format="JPEG")
    return buffer.getvalue()


def write_clef(folder: Path, train: int, missing: int = 0, broken: int = 0) -> None:
    """A small ImageCLEF 2022 folder: the first `missing` pictures are not there, the next `broken` ones are cut."""
    for split, count in (("train", train), ("valid", 4)):
        (folder / split).mkdir(parents=True)
        lines = ["ID\tcaption"]
        for number in range(count):
            lines.append(f"{split}_{number:05d}\tA film, number {number}.")
            if split == "train" and number < missing:
                continue
            cut = split == "train" and number < missing + broken
            picture = jpeg(number)
            (folder / split / f"{split}_{number:05d}.jpg").write_bytes(picture[:100] if cut else picture)
        name = f"ImageCLEFmedCaption_2022_caption_prediction_{split}.csv"
        (folder / name).write_text("\n".join(lines) + "\n")


def test_a_mixture_is_its_data_sets_one_behind_the_other_with_their_ratios():
    splits = load_splits(stage1())
    assert [(source.name, source.rows, source.ratio) for source in splits.sources] == [
        ("phantoms", 6, 60),
        ("shapes", 6, 40),
    ]
    assert splits.train["dataset"] == ["phantoms"] * 6 + ["shapes"] * 6
    assert splits.train["task"] == ["caption"] * 6 + ["vqa"] * 6
    assert set(splits.val["dataset"]) == set(splits.test["dataset"]) == {"phantoms", "shapes"}
    assert "phantoms" in splits.description and "shapes" in splits.description


def test_the_limit_holds_for_each_data_set_of_a_mixture():
    splits = load_splits(stage1(limit=3))
    assert [source.rows for source in splits.sources] == [3, 3]


def test_the_fingerprint_of_a_mixture_changes_with_any_of_its_data_sets():
    other = {**SMALL, "shapes": {**SMALL["shapes"], "seed": 1}}
    assert load_splits(stage1()).fingerprint != load_splits(stage1(mixture=other)).fingerprint
    assert load_splits(stage1()).fingerprint == load_splits(stage1()).fingerprint


def test_captions_without_test_or_validation_rows_are_fine(tmp_path):
    write_clef(tmp_path, train=5)
    splits = load_splits(stage1(dataset="clef2022", mixture={}, data_dir=str(tmp_path)))
    assert (len(splits.train), len(splits.val), splits.test) == (5, 4, None)


def test_missing_and_broken_pictures_within_the_bound_are_left_out_and_listed(tmp_path):
    write_clef(tmp_path / "data", train=40, missing=1, broken=1)
    settings = stage1(
        dataset="clef2022",
        mixture={},
        data_dir=str(tmp_path / "data"),
        dataset_options={"max_left_out": 0.05},
        max_broken=0.05,
    )
    splits = without_broken(load_splits(settings), CLEAN, settings.max_broken)
    assert len(splits.train) == 38 and splits.sources[0].rows == 38
    write_left_out(splits, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LEFT_OUT_FILE).read_text().splitlines()]
    assert [(line["dataset"], line["split"], line["reason"]) for line in lines] == [
        ("clef2022", "train", "picture missing"),
        ("clef2022", "train", "picture broken"),
    ]
    assert "1 rows left out" in splits.description


@pytest.mark.parametrize(("missing", "broken", "words"), [(2, 0, "cannot be used"), (0, 2, "more than max_broken")])
def test_beyond_the_bound_they_are_an_error(tmp_path, missing, broken, words):
    write_clef(tmp_path, train=40, missing=missing, broken=broken)
    settings = stage1(dataset="clef2022", mixture={}, data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=words) as error:
        without_broken(load_splits(settings), CLEAN, settings.max_broken)
    assert "train" in str(error.value) and "\n" not in str(error.value)


def test_a_source_keeps_count_of_its_own_broken_pictures(tmp_path):
    write_clef(tmp_path, train=40, broken=1)
    mixture = {"clef2022": {"data_dir": str(tmp_path), "ratio": 2}, "phantoms": {"images": 3, "ratio": 1}}
    splits = without_broken(load_splits(stage1(mixture=mixture)), CLEAN, 0.05)
    assert [source.rows for source in splits.sources] == [39, 3]
    assert len(splits.train) == 42


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mixture": {}}, "parameter mixture is empty"),
        ({"mixture": {"rocko": {}}}, "parameter mixture must be one of"),
        ({"mixture": {"phantoms": 3}}, "parameter mixture.phantoms must be a table"),
        ({"mixture": {"phantoms": {"images": "many"}}}, "parameter mixture.phantoms.images must be int"),
        ({"mixture": {"phantoms": {"size": 3}}}, "parameter mixture.phantoms has no entry 'size'"),
        ({"mixture": {"phantoms": {"ratio": 0}}}, "parameter mixture.phantoms.ratio must be above 0"),
        ({"mixture": {"roco": {"ratio": 60}}}, "parameter mixture.roco.data_dir is empty"),
        ({"mixture": {"phantoms": {"data_dir": "here"}}}, "parameter mixture.phantoms.data_dir must be empty"),
        ({"mixture": {"vqa_rad": {"data_dir": "x"}}}, "'vqa_rad' has vqa rows, but stage 'stage1_captions' learns"),
        ({"data_dir": "x"}, "takes data_dir and options for each of its data sets"),
        ({"dataset": "phantoms"}, "parameter mixture belongs to dataset 'mixture'"),
        ({"max_broken": 1.0}, "parameter max_broken must be from 0 to below 1"),
        ({"stage": "stage2_report", "dataset": "slake", "mixture": {}, "data_dir": "x"}, "'slake' has vqa rows"),
    ],
)
def test_an_impossible_mixture_is_refused_by_name(changes, words):
    with pytest.raises(ValueError, match="^parameter|^dataset") as error:
        RunSettings(
            **{"stage": "stage1_captions", "output_dir": "x", "dataset": "mixture", "mixture": SMALL, **changes}
        )
    assert words in str(error.value)
