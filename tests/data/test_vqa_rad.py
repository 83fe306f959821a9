"""VQA-RAD: the real files with every known trap, the copy from the Hugging Face Hub, and folders that are wrong."""

import collections
import io
import json
import os
import re
import time

import pytest
from PIL import Image

from pefomed.data import load_dataset
from pefomed.data.vqa_rad import describe_vqa_rad
from pefomed.data.vqa_rad_files import QUESTION_TYPES, read_vqa_rad
from pefomed.images import open_image


@pytest.fixture(scope="module")
def official(shared):
    return shared / "data" / "vqa_rad_official"


@pytest.fixture(scope="module")
def mevf(shared):
    return shared / "data" / "vqa_rad_mevf"


def _load(folder, split="train", **options):
    return load_dataset("vqa_rad", folder, split, **{"val_fraction": 0, **options})


# The real files


def test_official_counts(official):
    train, test = _load(official), _load(official, "test")
    assert (len(train), len(test)) == (1797, 451)
    assert collections.Counter(train["phrase_type"]) == {"freeform": 1206, "para": 591}
    assert collections.Counter(test["phrase_type"]) == {"test_freeform": 308, "test_para": 143}
    assert collections.Counter(test["answer_type"]) == {"closed": 272, "open": 179}
    assert collections.Counter(test["image_organ"]) == {"CHEST": 174, "ABD": 158, "HEAD": 119}
    assert set(train["dataset"]) == {"vqa_rad"} and set(train["task"]) == {"vqa"}


def test_official_traps(official):
    rows = [*_load(official), *_load(official, "test")]
    assert len({row["id"] for row in rows}) == 2248 and rows[0]["id"] == "official-0"
    assert not [row for row in rows if "NULL" in row.values()]
    numbers = [row["answer"] for row in rows if row["answer"] in ("4", "2", "12")]
    assert all(isinstance(row["answer"], str) and row["answer"] == row["answer"].strip() for row in rows)
    assert len(numbers) >= 5
    assert {row["answer_type"] for row in rows} == {"open", "closed"}
    types = {part for row in rows for part in row["question_type"].split(", ")}
    assert types == set(QUESTION_TYPES)
    assert sum(row["question_type"] == "POS, PRES" for row in rows) == 6
    assert len({row["group"] for row in rows}) == 314
    ids = {row["id"] for row in rows}
    assert {"official-2036", "official-2037"} <= ids, "two rows lack question_rephrase"


def test_mevf_counts(mevf):
    everything, test = _load(mevf, drop_leaked=False), _load(mevf, "test")
    assert (len(everything), len(test), len(_load(mevf))) == (3064, 451, 3064 - 284)
    assert collections.Counter(everything["phrase_type"]) == {"frame": 1267, "freeform": 1206, "para": 591}
    assert collections.Counter(test["answer_type"]) == {"closed": 272, "open": 179}
    assert len(set(test["group"])) == 203 and set(test["group"]) <= set(everything["group"])
    assert "284 framed versions of test questions" in _load(mevf).info.description


def test_the_leaked_rows_are_those_that_the_official_file_frames_from_test_questions(official, mevf):
    rows = json.loads((official / "VQA_RAD Dataset Public.json").read_text(encoding="utf-8"))
    frames = {
        (row["image_name"], row["question_frame"].strip(), str(row["answer"]).strip())
        for row in rows
        if row["phrase_type"].startswith("test") and row["question_frame"] != "NULL"
    }
    leaked = [row for row in read_vqa_rad(mevf).rows if row.leaked]
    assert len(leaked) == 284 and {row.phrase_type for row in leaked} == {"frame"}
    assert all((row.image, row.question, row.answer) in frames for row in leaked)


def test_both_forms_hold_the_same_test_questions_and_official_training_rows(official, mevf):
    def content(dataset):
        return collections.Counter(zip(dataset["group"], dataset["question"], dataset["answer"], strict=True))

    assert content(_load(official, "test")) == content(_load(mevf, "test"))
    train = _load(mevf, drop_leaked=False)
    assert content(_load(official)) == content(train.filter(lambda kind: kind != "frame", input_columns="phrase_type"))


def test_val_is_carved_out_of_train_by_picture(official, mevf):
    parts = {
        split: load_dataset("vqa_rad", official, split, val_fraction=0.1, seed=1) for split in ("train", "val", "test")
    }
    assert len(parts["train"]) + len(parts["val"]) == 1797 and len(parts["test"]) == 451
    assert not set(parts["train"]["group"]) & set(parts["val"]["group"])
    assert len(set(parts["val"]["group"])) == 31 and set(parts["val"]["split"]) == {"val"}
    same = load_dataset("vqa_rad", mevf, "val", val_fraction=0.1, seed=1)
    assert len(set(same["group"]) ^ set(parts["val"]["group"])) <= 2, (
        "both forms choose the same pictures, but for one"
    )
    other = load_dataset("vqa_rad", official, "val", val_fraction=0.1, seed=2)
    assert set(other["group"]) != set(parts["val"]["group"])
    with pytest.raises(ValueError, match="pass val_fraction > 0"):
        _load(official, "val")


def test_descriptions(official, mevf):
    described = describe_vqa_rad(official)
    assert described.variant == "official" and described.complete and described.in_files == (1797, 451)
    assert sum(described.rows.values()) == 2248 and described.rows["test"] == 451
    assert described.closed["test"] == 272 and described.open["test"] == 179
    assert sum(described.closed.values()) == 1299 and sum(described.open.values()) == 949
    assert (described.images, described.unused_images, described.shared_images) == (314, 1, 202)
    assert described.corrections["answers that were numbers"] == 5
    assert described.corrections["answer types with a trailing blank"] == 2
    mevf_described = describe_vqa_rad(mevf)
    assert (mevf_described.leaked, mevf_described.dropped_leaked) == (284, 284)
    assert mevf_described.rows["train"] + mevf_described.rows["val"] == 2780
    kept = describe_vqa_rad(mevf, drop_leaked=False)
    assert (kept.leaked, kept.dropped_leaked, kept.shared_images) == (284, 0, 203)
    paragraph = str(mevf_described)
    assert "\n" not in paragraph and "284 training rows are framed versions of test questions" in paragraph
    assert mevf_described.fingerprint in paragraph
    assert described.fingerprint == describe_vqa_rad(official, val_fraction=0.3, seed=9).fingerprint
    assert len({described.fingerprint, mevf_described.fingerprint, kept.fingerprint}) == 3


def test_pictures_are_referred_to_and_open(official):
    start = time.perf_counter()
    test = _load(official, "test")
    assert time.perf_counter() - start < 5, "loading opens no picture"
    image = test[0]["image"]
    assert image["bytes"] is None and os.path.isabs(image["path"])
    assert open_image(image).mode == "RGB"


def test_pictures_of_the_other_form(official, mevf):
    folder = official / "VQA_RAD Image Folder"
    assert _load(mevf, "test", image_dir=folder)["image"] == _load(mevf, "test")["image"]
    with pytest.raises(FileNotFoundError, match="nowhere: no such image folder"):
        _load(mevf, image_dir=official / "nowhere")


# Small folders, drawn by the tests


def _row(number, split="train", **changes):
    row = {
        "qid": number,
        "image_name": f"synpic{number % 4}.jpg",
        "image_organ": "CHEST",
        "question": f"Question {number}?",
        "question_type": "PRES",
        "answer": "Yes",
        "answer_type": "CLOSED",
        "phrase_type": "freeform" if split == "train" else "test_freeform",
    }
    return {**row, **changes}


def _official_folder(folder, rows, images=("synpic0.jpg", "synpic1.jpg", "synpic2.jpg", "synpic3.jpg")):
    pictures = folder / "VQA_RAD Image Folder"
    pictures.mkdir(parents=True)
    for number, name in enumerate(images):
        Image.new("L", (4, 4), number * 10).save(pictures / name)
    content = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    (folder / "VQA_RAD Dataset Public.json").write_bytes(content)
    return folder


ROWS = [_row(0, qid="0"), *(_row(i) for i in range(1, 8)), _row(8, "test"), _row(9, "test")]


def test_a_small_folder(tmp_path):
    folder = _official_folder(tmp_path / "data", ROWS)
    assert (len(_load(folder)), len(_load(folder, "test"))) == (8, 2)
    described = describe_vqa_rad(folder)
    assert not described.complete and "published were 1,797 and 451" in str(described)
    renamed = folder / "VQA_RAD_Dataset_Public.json"
    (folder / "VQA_RAD Dataset Public.json").rename(renamed)
    assert len(_load(folder)) == 8


def _changed(number, **changes):
    return [*ROWS[:number], {**ROWS[number], **changes}, *ROWS[number + 1 :]]


def _without(number, key):
    return [*ROWS[:number], {k: v for k, v in ROWS[number].items() if k != key}, *ROWS[number + 1 :]]


MALFORMED = {
    "cut in the middle": (json.dumps(ROWS).encode()[:700], "not JSON (line 1, column"),
    "empty file": (b"", "not JSON"),
    "not UTF-8": (json.dumps(ROWS).encode().replace(b"Yes", b"Y\xe9s"), "not UTF-8"),
    "object": ({"rows": ROWS}, "expected a JSON list of questions, found dict"),
    "empty list": ([], "holds no rows"),
    "row is a list": ([*ROWS, [1, 2]], "row 10: expected an object, found list"),
    "missing key": (_without(3, "answer"), "row 3: lacks the key 'answer'"),
    "missing phrase type": (_without(3, "phrase_type"), "row 3: lacks the key 'phrase_type'"),
    "answer is a list": (_changed(3, answer=["Yes"]), "row 3 (qid 3): answer must be a string, found list"),
    "answer is a truth value": (_changed(3, answer=True), "answer must be a string, found bool"),
    "answer is NULL": (_changed(3, answer="NULL"), "answer is empty or 'NULL'"),
    "question is a number": (_changed(3, question=5), "question must be a string, found int 5"),
    "question is blank": (_changed(3, question="  "), "question is empty"),
    "image name is null": (_changed(3, image_name=None), "image_name is empty"),
    "unknown answer type": (_changed(3, answer_type="BOTH"), "answer_type is 'BOTH', expected one of open, closed"),
    "unknown phrase type": (_changed(3, phrase_type="frame"), "phrase_type is 'frame', expected one of freeform"),
    "unknown organ": (_changed(3, image_organ="KNEE"), "image_organ is 'KNEE'"),
    "unknown question type": (_changed(3, question_type="modality?"), "question_type is 'modality?'"),
    "qid is a float": (_changed(3, qid=3.5), "qid must be a number or a string"),
    "duplicate qid": (_changed(3, qid="0"), "qid '0' occurs twice"),
    "no test rows": (ROWS[:8], "the test split holds no rows"),
    "no training rows": (ROWS[8:], "the train split holds no rows"),
    "path with dots": (_changed(3, image_name="../../secret.jpg"), "row official-3: image_name '../../secret.jpg'"),
    "absolute path": (_changed(3, image_name="/etc/passwd"), "'/etc/passwd': leads out of"),
    "another data set": ([_row(i, phrase_type=0) for i in range(9)], "phrase_type must be a string"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(case, tmp_path):
    rows, message = MALFORMED[case]
    folder = _official_folder(tmp_path / "data", rows)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        _load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value) or "row official-" in str(caught.value)


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        _load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    with pytest.raises(FileNotFoundError, match="not a folder"):
        _load(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no VQA-RAD; expected 'VQA_RAD Dataset Public.json', trainset.json"):
        _load(tmp_path / "empty")
    folder = _official_folder(tmp_path / "x" / "data", ROWS, images=())
    with pytest.raises(FileNotFoundError, match="found none of the 4 pictures"):
        _load(folder)
    (folder / "VQA_RAD Image Folder").rmdir()
    with pytest.raises(FileNotFoundError, match="found none of the 4 pictures"):
        _load(folder)
    with pytest.raises(FileNotFoundError, match="no VQA-RAD in the form mevf"):
        _load(folder, variant="mevf")


def test_missing_pictures_are_counted(tmp_path):
    folder = _official_folder(tmp_path / "data", ROWS, images=("synpic0.jpg", "synpic2.jpg", "synpic3.jpg"))
    with pytest.raises(FileNotFoundError, match=r"1 of 4 pictures are missing, the first is 'synpic1.jpg'"):
        _load(folder)
    train = _load(folder, missing_images="drop")
    assert len(train) == 6 and "of all splits: 3 rows without a picture" in train.info.description
    assert describe_vqa_rad(folder, missing_images="drop").dropped_missing == 3


def test_a_picture_that_links_out_of_the_folder(tmp_path):
    folder = _official_folder(tmp_path / "data", ROWS)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "VQA_RAD Image Folder" / "synpic1.jpg").unlink()
    (folder / "VQA_RAD Image Folder" / "synpic1.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(ValueError, match="row official-1: image_name 'synpic1.jpg': leads out of"):
        _load(folder)


@pytest.mark.parametrize(
    "options", [{"val_fraction": 1}, {"val_fraction": "0.1"}, {"missing_images": "skip"}, {"variant": "kaggle"}]
)
def test_wrong_options(options, tmp_path):
    folder = _official_folder(tmp_path / "data", ROWS)
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        _load(folder, **options)


def _mevf_folder(folder, train, test):
    _official_folder(folder, ROWS)
    (folder / "VQA_RAD Dataset Public.json").unlink()
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}set.json").write_text(json.dumps(rows))
    return folder


def test_vqa_med_posing_as_vqa_rad(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "phrase_type"} for row in ROWS]
    folder = _mevf_folder(tmp_path / "data_RAD", rows, rows)
    with pytest.raises(ValueError, match="10 rows, none with the key 'phrase_type': not VQA-RAD but probably VQA-Med"):
        _load(folder)


def test_mevf_needs_both_files_and_one_form_at_a_time(tmp_path):
    folder = _mevf_folder(tmp_path / "data", [_row(1)], [_row(2)])
    assert len(_load(folder)) == 1
    _official = _official_folder(tmp_path / "other", ROWS)
    (_official / "VQA_RAD Dataset Public.json").rename(folder / "VQA_RAD Dataset Public.json")
    with pytest.raises(ValueError, match="in the forms official and mevf; choose with variant"):
        _load(folder)
    assert len(_load(folder, variant="official")) == 8 and len(_load(folder, variant="mevf")) == 1
    (folder / "VQA_RAD Dataset Public.json").unlink()
    (folder / "testset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"testset.json: no such file"):
        _load(folder)


def test_leaks_of_an_excerpt_are_judged_with_caution(tmp_path):
    test = [_row(2, answer="Liver", answer_type="OPEN")]
    framed = _row(3, image_name="synpic2.jpg", phrase_type="frame", answer="Liver", answer_type="OPEN")
    elsewhere = _row(7, phrase_type="frame")
    folder = _mevf_folder(tmp_path / "a", [_row(6), elsewhere, framed], test)
    assert [row.id for row in read_vqa_rad(folder).rows if row.leaked] == ["mevf-3"]
    renumbered = {**framed, "qid": "x17"}  # the number no longer says what it was made from
    folder = _mevf_folder(tmp_path / "b", [_row(6), elsewhere, renumbered], test)
    assert [row.id for row in read_vqa_rad(folder).rows if row.leaked] == ["mevf-x17"]


# The copy from the Hugging Face Hub


def _encoded(value):
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "JPEG")
    return buffer.getvalue()


def _hub_dataset(answers):
    import datasets

    rows = {
        "image": [{"bytes": _encoded(i // 2 * 40), "path": None} for i in range(len(answers))],
        "question": [f"question {i}?" for i in range(len(answers))],
        "answer": answers,
    }
    features = datasets.Features(
        {"image": datasets.Image(), "question": datasets.Value("string"), "answer": datasets.Value("string")}
    )
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture(params=["parquet", "save_to_disk"])
def hub_folder(request, tmp_path):
    import datasets

    parts = {"train": _hub_dataset(["yes", "no", "liver", "yes", "left"]), "test": _hub_dataset(["no", "ct"])}
    folder = tmp_path / "vqa-rad"
    if request.param == "save_to_disk":
        datasets.DatasetDict(parts).save_to_disk(str(folder))
    else:
        (folder / "data").mkdir(parents=True)
        for split, part in parts.items():
            part.to_parquet(str(folder / "data" / f"{split}-00000-of-00001-0123456789abcdef.parquet"))
    return folder


def test_hub_copy(hub_folder):
    train, test = _load(hub_folder), _load(hub_folder, "test")
    assert train["id"] == [f"hf-train-{i}" for i in range(5)] and len(test) == 2
    assert train["answer_type"] == ["closed", "closed", "open", "closed", "open"]
    assert set(train["question_type"]) == set(train["image_organ"]) == {None}
    assert len(set(train["group"])) == 3, "rows with the same picture form a group"
    assert open_image(train[0]["image"]).size == (4, 4)
    described = describe_vqa_rad(hub_folder)
    assert described.variant == "hf" and "yes and no are closed" in str(described)
    val = load_dataset("vqa_rad", hub_folder, "val", val_fraction=0.4)
    rest = load_dataset("vqa_rad", hub_folder, "train", val_fraction=0.4)
    assert len(val) + len(rest) == 5 and not set(val["group"]) & set(rest["group"])


def test_damaged_hub_copies(tmp_path):
    folder = tmp_path / "vqa-rad"
    folder.mkdir()
    part = _hub_dataset(["yes", "no"])
    part.to_parquet(str(folder / "train.parquet"))
    with pytest.raises(FileNotFoundError, match=r"no test\*.parquet"):
        _load(folder)
    whole = (folder / "train.parquet").read_bytes()
    (folder / "test.parquet").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"test.parquet: unreadable"):
        _load(folder)
    part.remove_columns("answer").to_parquet(str(folder / "test.parquet"))
    with pytest.raises(ValueError, match="lacks the column 'answer'"):
        _load(folder)
    part.select([]).to_parquet(str(folder / "test.parquet"))
    with pytest.raises(ValueError, match="the test split holds no rows"):
        _load(folder)
    _hub_dataset(["yes", ""]).to_parquet(str(folder / "test.parquet"))
    with pytest.raises(ValueError, match="test row 1: the answer is empty"):
        _load(folder)
