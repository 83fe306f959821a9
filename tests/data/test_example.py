"""The schema of all data sets."""

import dataclasses
import re

import datasets
import pytest

from pefomed.data import DATASETS, load_dataset
from pefomed.data.example import COLUMNS, EXAMPLE_FEATURES, Example, make_dataset
from pefomed.data.fingerprint import fingerprint


def _row(**changes):
    row = {
        "id": "a",
        "dataset": "drawn",
        "split": "train",
        "task": "vqa",
        "image": {"bytes": b"picture", "path": None},
        "question": "Is it?",
        "answer": "yes",
        "answer_type": "closed",
        "group": "patient 1",
    }
    return {**row, **changes}


def test_columns():
    assert (
        *("id", "dataset", "split", "task", "image", "question", "answer", "answer_type"),
        *("question_type", "image_organ", "phrase_type", "group"),
    ) == COLUMNS
    assert tuple(field.name for field in dataclasses.fields(Example)) == COLUMNS
    assert isinstance(EXAMPLE_FEATURES["image"], datasets.Image)


def test_rows_come_back_as_they_were():
    example = Example(**_row(id="b", answer="no"))
    dataset = make_dataset([_row(), example])
    assert dataset.features == EXAMPLE_FEATURES
    assert dataset[0] == {**dict.fromkeys(COLUMNS), **_row()}
    assert dataset[1]["answer"] == "no" and dataset[1]["image"]["bytes"] == b"picture"
    caption = make_dataset([_row(task="caption", question=None, answer_type=None, answer="")])
    assert caption[0]["question"] is None and caption[0]["answer"] == ""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([_row(), _row(answer="no")], "row 1: id 'a' is already used by row 0"),
        ([_row(split="validation")], "row 0 (id 'a'): split is 'validation', expected one of train, val, test"),
        ([_row(task="segmentation")], "task is 'segmentation'"),
        ([_row(answer_type="CLOSED")], "answer_type is 'CLOSED'"),
        ([_row(answer=3)], "answer must be a string, found int 3"),
        ([_row(answer=None)], "answer must be a string, found NoneType"),
        ([_row(id=7)], "id must be a string, found int 7"),
        ([_row(id=" ")], "id is empty"),
        ([_row(group=None)], "group must be a string"),
        ([_row(question=None)], "needs a question"),
        ([_row(image="a.png")], "image must be {'bytes': ..., 'path': ...}, found str"),
        ([_row(image={"bytes": None, "path": None})], "neither bytes nor a path"),
        ([_row(image={"bytes": "text", "path": None})], "image bytes must be bytes"),
        ([_row(organ="HEAD")], "unknown column 'organ'"),
        ([_row(), _row(id="b", split="test")], "group 'patient 1' lies in the splits 'train' and 'test'"),
    ],
)
def test_rows_outside_the_schema(rows, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make_dataset(rows)
    assert "\n" not in str(caught.value)


def test_several_splits_with_groups_of_their_own():
    assert len(make_dataset([_row(), _row(id="b", split="test", group="patient 2")])) == 2


def test_fingerprint(tmp_path):
    rows = [_row(id=name, answer=name) for name in "abc"]
    whole = fingerprint(make_dataset(rows))
    assert len(whole) == 64 and whole == fingerprint(rows[::-1])
    assert whole != fingerprint(rows[:2])
    for column in ("id", "question", "answer"):
        assert whole != fingerprint([*rows[:2], {**rows[2], column: "other"}])
    assert whole != fingerprint([*rows[:2], _row(id="c", answer="c", image={"bytes": b"other", "path": None})])
    (tmp_path / "picture.png").write_bytes(b"picture")
    by_path = [{**row, "image": {"bytes": None, "path": str(tmp_path / "picture.png")}} for row in rows]
    assert whole == fingerprint(by_path), "what counts is the picture, not where it lies"
    with pytest.raises(FileNotFoundError, match="gone"):
        fingerprint([_row(image={"bytes": None, "path": str(tmp_path / "gone.png")})])


def test_load_dataset_errors():
    with pytest.raises(ValueError, match=f"unknown data set 'vqa-rad'; choose one of {', '.join(DATASETS)}"):
        load_dataset("vqa-rad")
    with pytest.raises(ValueError, match="pass data_dir"):
        load_dataset("vqa_rad")
    with pytest.raises(ValueError, match="has no option 'fraction'; its options are variant, image_dir"):
        load_dataset("vqa_rad", "somewhere", fraction=0.2)
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        load_dataset("vqa_rad", "somewhere", "validation")


def test_load_drawn_data():
    pytest.importorskip("pefomed.data.phantoms")
    dataset = load_dataset("phantoms", split="val", images=2)
    assert dataset.features == EXAMPLE_FEATURES and set(dataset["split"]) == {"val"}
    with pytest.raises(ValueError, match="takes no data_dir"):
        load_dataset("phantoms", "folder")
    with pytest.raises(ValueError, match="has no option 'val_fraction'"):
        load_dataset("phantoms", val_fraction=0.1)
