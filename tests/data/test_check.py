"""`check_dataset` on folders drawn here in the official layouts, on the shared samples, and on impostors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pefomed.data.all_splits import read_options
from pefomed.data.catalogue import DATA_SETS
from pefomed.data.check import HIDDEN, _presentable, check_dataset
from pefomed.data.example import make_dataset
from pefomed.data.found import Found, LeftOut
from pefomed.data.vqa_rad import PUBLISHED_ROWS


def draw(path: Path) -> None:
    """A picture of its own under every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(list(path.name.encode() + path.parent.name.encode())).integers(0, 256, (8, 9))
    Image.fromarray(patches.astype(np.uint8)).resize((36, 32), Image.Resampling.NEAREST).save(path)


def vqa_rad_rows(numbers: range, picture: int = 0, **changes) -> list[dict]:
    return [
        {
            "qid": number,
            "image_name": f"synpic{picture + number % 3}.jpg",
            "image_organ": "CHEST",
            "question": f"Is shadow number {number} there?",
            "question_type": "PRES",
            "answer": "Yes" if number % 2 else "No",
            "answer_type": "CLOSED",
            "phrase_type": "freeform",
            **changes,
        }
        for number in numbers
    ]


def vqa_rad(folder: Path, train: list[dict], test: list[dict]) -> Path:
    for number in range(6):
        draw(folder / "images" / f"synpic{number}.jpg")
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}set.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    framed = vqa_rad_rows(range(7, 8), phrase_type="frame", question="Is/Are there shadow number 6 ?", answer="No")
    framed[0]["image_name"] = "synpic0.jpg"
    return vqa_rad(tmp_path / "data", vqa_rad_rows(range(6)) + framed, vqa_rad_rows(range(6, 7)))


# VQA-RAD


def test_a_small_folder(small: Path) -> None:
    report = check_dataset("vqa_rad", small)
    assert (report.variant, report.data_dir) == ("mevf", str(small))
    assert [(one.split, one.in_files, one.rows, one.published) for one in report.splits] == [
        ("train", 7, 7, 3064),
        ("test", 1, 1, 451),
    ]
    assert report.unnamed_files == 3 and report.absent == ()
    assert report.audit.leakage[0].framed == 1
    assert report.warnings == (
        "train has 7 rows where 3,064 were published: an excerpt",
        "test has 1 rows where 451 were published: an excerpt",
    )
    text = str(report)
    assert "train: 7 rows (published were 3,064), 7 of them used" in text and report.fingerprint in text
    assert json.loads(json.dumps(report.as_values()))["splits"][0]["in_files"] == 7


def test_missing_pictures_are_left_out_within_the_bound(small: Path) -> None:
    (small / "images" / "synpic1.jpg").unlink()
    with pytest.raises(ValueError, match=r"vqa_rad, train: 2 of 7 rows cannot be used \(2 picture missing; first"):
        check_dataset("vqa_rad", small)
    report = check_dataset("vqa_rad", small, max_left_out=0.5)
    reason = report.splits[0].left_out[0]
    assert (reason.reason, reason.rows, reason.first) == ("picture missing", 2, "mevf-1 synpic1.jpg")
    assert "left out 2: picture missing (first mevf-1 synpic1.jpg)" in str(report)
    with pytest.raises(ValueError, match="max_left_out must be a share from 0 to 1, not 2"):
        check_dataset("vqa_rad", small, max_left_out=2)


def test_options_of_the_loader(small: Path) -> None:
    dropped = check_dataset("vqa_rad", small, drop_leaked=True)
    assert dropped.splits[0].rows == 6 and dropped.splits[0].published is None
    assert "1 framed versions of test questions are left out of train." in dropped.notes
    parted = check_dataset("vqa_rad", small, val_fraction=0.4, seed=1)
    assert [one.split for one in parted.splits] == ["train", "val", "test"]
    assert sum(one.rows for one in parted.splits) == 8
    assert parted.fingerprint == check_dataset("vqa_rad", small).fingerprint != dropped.fingerprint
    with pytest.raises(ValueError, match="'vqa_rad' has no option 'language'"):
        check_dataset("vqa_rad", small, language="en")


def test_vqa_med_that_poses_as_vqa_rad(tmp_path: Path) -> None:
    rows = vqa_rad_rows(range(6))
    for row in rows:
        del row["phrase_type"]
    with pytest.raises(ValueError, match="none with the key 'phrase_type': not VQA-RAD but probably VQA-Med 2019"):
        check_dataset("vqa_rad", vqa_rad(tmp_path / "data_RAD", rows, rows))


def test_a_larger_set_than_published_is_another_one(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED_ROWS, "mevf", (5, 1))
    assert check_dataset("vqa_rad", small).warnings == (
        "train has 7 rows where 5 were published: another data set or version",
    )


def test_a_broken_picture_is_told_with_the_folder_as_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small / "images" / "synpic2.jpg"
    path.write_bytes(path.read_bytes()[:200])
    monkeypatch.chdir(small.parent)
    report = check_dataset("vqa_rad", "data")
    assert report.audit.broken[0].file == "data/images/synpic2.jpg" and "damaged" in report.audit.broken[0].reason
    assert str(small.parent) not in str(report) + json.dumps(report.as_values())
    with pytest.raises(ValueError, match=r"1 pictures of vqa_rad cannot be used, the first in train: data/images/"):
        report.refuse_broken()
    shutil.rmtree(small / "images")
    with pytest.raises(FileNotFoundError, match="data: found none of the 3 pictures") as caught:
        check_dataset("vqa_rad", "data")
    assert str(small) not in str(caught.value)


def test_pictures_beside_the_folder_are_named_shortly(small: Path) -> None:
    (small / "images").rename(small.parent / "images")
    (small.parent / "images" / "synpic0.jpg").write_bytes(b"")
    assert check_dataset("vqa_rad", small).audit.broken[0].file == "images/synpic0.jpg"


def test_the_published_split(shared: Path) -> None:
    report = check_dataset("vqa_rad", shared / "data" / "vqa_rad_mevf")
    assert report.variant == "mevf" and report.warnings == () and report.unnamed_files == 1
    assert [(one.in_files, one.rows, one.published) for one in report.splits] == [(3064, 3064, 3064), (451, 451, 451)]
    pair = report.audit.leakage[0]
    assert (pair.shared_pictures, pair.pictures, pair.framed) == (203, 203, 284)
    text = str(report)
    assert "203 of 203 test pictures (all of them) are also in train, byte for byte" in text
    assert "284 train rows are framed versions of test questions." in text


# Data sets with loaders that tell what they left out


def slake(folder: Path) -> Path:
    """Three splits of two languages; the Chinese training question is about the English test picture."""

    def row(qid: int, picture: int, language: str) -> dict:
        draw(folder / "imgs" / f"xmlab{picture}" / "source.jpg")
        return {
            "qid": qid,
            "img_id": picture,
            "img_name": f"xmlab{picture}/source.jpg",
            "question": "Which organ is shown?" if language == "en" else "图中是什么器官？",
            "answer": "Liver" if language == "en" else "肝",
            "q_lang": language,
            "location": "Abdomen",
            "modality": "CT",
            "answer_type": "OPEN",
            "base_type": "vqa",
            "content_type": "Organ",
            "triple": ["vhead", "_", "_"],
        }

    splits = {
        "train": [row(0, 1, "en"), row(1, 2, "en"), row(2, 4, "zh")],
        "validate": [row(3, 3, "en"), row(4, 3, "zh")],
        "test": [row(5, 4, "en"), row(6, 5, "zh")],
    }
    for name, rows in splits.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def test_pooled_languages_are_warned_of(tmp_path: Path) -> None:
    folder = slake(tmp_path / "slake")
    english = check_dataset("slake", folder)
    assert not [warning for warning in english.warnings if "pooled" in warning]
    assert [pair.shared_pictures for pair in english.audit.leakage] == [0, 0, 0]
    pooled = check_dataset("slake", folder, language="all")
    assert pooled.warnings[-1] == (
        "English and Chinese questions are pooled, but each language was split by itself: 0 val pictures are in "
        "train, 1 test pictures are in train, 0 test pictures are in val"
    )


def test_pictures_that_nobody_names_are_counted(tmp_path: Path) -> None:
    folder = slake(tmp_path / "slake")
    assert check_dataset("slake", folder).unnamed_files == 1, "the picture of the Chinese test question"
    draw(folder / "imgs" / "xmlab1" / "mask.png")
    (folder / "imgs" / "xmlab1" / "notes.txt").write_text("no picture")
    (folder / "imgs" / "xmlab2" / "source.jpg").write_bytes(b"")
    report = check_dataset("slake", folder, max_left_out=0.5)
    assert report.unnamed_files == 2, "an empty picture is named all the same"
    assert report.splits[0].left_out[0].reason == "picture empty"


def test_a_folder_with_some_of_the_splits(tmp_path: Path) -> None:
    folder = slake(tmp_path / "slake")
    (folder / "test.json").unlink()
    report = check_dataset("slake", folder)
    assert [one.split for one in report.splits] == ["train", "val"]
    assert report.absent[0][0] == "test" and "no test.json" in report.absent[0][1]
    assert "not all splits are there: test missing" in report.warnings and report.audit.guesses == ()
    for path in folder.glob("*.json"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no SLAKE"):
        check_dataset("slake", folder)


def test_a_blanked_key_in_the_annotation_of_iu_xray(tmp_path: Path) -> None:
    def study(split: str, number: int) -> dict:
        paths = [f"CXR{number}_IM-1/{view}.png" for view in (0, 1)]
        for path in paths:
            draw(tmp_path / "images" / path)
        return {"id": f"CXR{number}_IM-1", "report": f"Heart {number}.", "image_path": paths, "split": split}

    content = {split: [study(split, number)] for number, split in enumerate(("train", "val", "test"))}
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    report = check_dataset("iu_xray", tmp_path)
    assert [(one.rows, one.published) for one in report.splits] == [(2, 4138), (2, 592), (2, 1180)]
    assert [one.groups for one in report.audit.splits] == [1, 1, 1]
    content["    "] = content.pop("test")
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the key '    ' is blank.*make it read \"test\" again"):
        check_dataset("iu_xray", tmp_path)


def test_samples(shared: Path, tmp_path: Path) -> None:
    report = check_dataset("roco", shared / "data" / "rocov2_sample")
    assert report.variant == "v2" and [one.rows for one in report.splits] == [30, 8, 8]
    assert report.audit.broken == () and report.unnamed_files == 0
    report = check_dataset("medicat", shared / "data" / "medicat_sample")
    assert [one.rows for one in report.splits] == [6] and report.unnamed_files == 4
    folder = shutil.copytree(shared / "data" / "slake", tmp_path / "slake")
    for name in {row["img_name"] for path in folder.glob("*.json") for row in json.loads(path.read_text())}:
        draw(folder / "imgs" / name)
    report = check_dataset("slake", folder, language="all")
    assert [one.in_files for one in report.splits] == [77, 46, 38]
    assert [pair.shared_pictures for pair in report.audit.leakage] == [1, 0, 0]
    folder = tmp_path / "path_vqa"
    shutil.copytree(shared / "data" / "path_vqa", folder)
    for split in ("train", "val", "test"):
        for row in json.loads((folder / f"{split}_qa.json").read_text()):
            draw(folder / "images" / split / f"{row['image']}.jpg")
    both = [check_dataset("path_vqa", folder, variant=variant) for variant in ("json", "pickle")]
    assert [one.rows for one in both[0].splits] == [120, 120, 120] and both[0].audit == both[1].audit
    guess = both[0].audit.guesses[0]
    assert (guess.answer, guess.rows, guess.matches) == ("yes", 120, 33)


# Drawn data sets


def test_a_drawn_data_set() -> None:
    report = check_dataset("phantoms", images=4, questions_per_image=3)
    assert [(one.split, one.rows, one.published) for one in report.splits] == [
        ("train", 12, None),
        ("val", 12, None),
        ("test", 12, None),
    ]
    assert report.variant == "drawn" and report.audit.broken == () and report.warnings == ()
    assert report.fingerprint == check_dataset("phantoms", images=4, questions_per_image=3, processes=1).fingerprint
    assert check_dataset("phantoms", images=3, task="report").audit.guesses == ()
    with pytest.raises(ValueError, match="takes no data_dir"):
        check_dataset("phantoms", "somewhere")


# Data lent to named persons

SUBJECT, STUDY, DICOM = "p19999990", "s59999990", "0a0b0c0d-1a1b1c1d-2a2b2c2d-3a3b3c3d-4a4b4c4d"


def test_of_lent_data_only_numbers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str, data_dir: Path, split: str, **options) -> Found:
        path = tmp_path / SUBJECT / f"{DICOM}{split}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture")
        row = {
            "id": f"{DICOM}-{split}",
            "dataset": "mimic_cxr",
            "split": split,
            "task": "report",
            "image": {"bytes": None, "path": str(path)},
            "answer": f"secret words {split}",
            "group": f"{SUBJECT}-{split}",
        }
        left_out = (LeftOut(f"{STUDY}", "no report", f"files/{SUBJECT}/{STUDY}.txt"),)
        return Found(make_dataset([row, row | {"id": f"{STUDY}-{split}"}]), "jpg", 3, left_out, pictures=(tmp_path,))

    monkeypatch.setattr("pefomed.data.all_splits.read_dataset", read)
    report = check_dataset("mimic_cxr", tmp_path)
    everything = str(report) + json.dumps(report.as_values())
    for secret in (SUBJECT, STUDY, DICOM, "secret", "59999990"):
        assert secret not in everything
    assert "left out 1: no report" in everything and "2 rows" not in report.warnings
    with pytest.raises(ValueError, match="3 pictures of mimic_cxr cannot be used, the first in train: cannot be read"):
        report.refuse_broken()


def test_a_tree_of_lent_data(tmp_path: Path) -> None:
    splits, views = ["dicom_id,study_id,subject_id,split"], ["dicom_id,subject_id,study_id,ViewPosition"]
    for number, split in enumerate(("train", "train", "validate", "test")):
        dicom, study, subject = f"0000000{number}{DICOM[8:]}", 50414260 + number, 10000030 + number
        place = tmp_path / "files" / "p10" / f"p{subject}" / f"s{study}"
        draw(place / f"{dicom}.jpg")
        place.with_suffix(".txt").write_text(f" FINAL REPORT\n FINDINGS: Invented words {number}.\n")
        splits.append(f"{dicom},{study},{subject},{split}")
        views.append(f"{dicom},{subject},{study},PA")
    for name, lines in (("split", splits), ("metadata", views)):
        (tmp_path / f"mimic-cxr-2.0.0-{name}.csv").write_text("\n".join(lines) + "\n")
    report = check_dataset("mimic_cxr", tmp_path)
    assert [(one.rows, one.published) for one in report.splits] == [(2, 368_960), (1, 2_991), (1, 5_159)]
    assert [pair.shared_pictures for pair in report.audit.leakage] == [0, 0, 0] and report.unnamed_files == 0
    everything = str(report) + json.dumps(report.as_values())
    for secret in ("p1000003", "5041426", DICOM[8:], "nvented"):
        assert secret not in everything
    (place / f"{dicom}.jpg").unlink()
    with pytest.raises(ValueError, match="1 picture missing") as caught:
        check_dataset("mimic_cxr", tmp_path)
    assert DICOM[8:] not in str(caught.value) and str(study) not in str(caught.value)


def test_dicom_pictures_without_pydicom(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments, **options):
        raise ModuleNotFoundError(f"{small}/x.dcm: DICOM files need pydicom", name="pydicom")

    monkeypatch.setattr("pefomed.data.check.audit", missing)
    with pytest.raises(ValueError, match=r"x.dcm: DICOM files need pydicom"):
        check_dataset("vqa_rad", small)


def test_identifiers_are_taken_out_of_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = f"{tmp_path}/files/p10/{SUBJECT}/{STUDY}.txt: not UTF-8; {DICOM}.jpg, {SUBJECT}_{STUDY}, line 12345"

    def read(*arguments, **options) -> Found:
        raise ValueError(message)

    monkeypatch.setattr("pefomed.data.all_splits.read_dataset", read)
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        check_dataset("mimic_cxr", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/files/p10/{HIDDEN}/{HIDDEN}.txt: not UTF-8; {HIDDEN}.jpg, {HIDDEN}_{HIDDEN}, line 12345"
    )
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert _presentable(f"a {STUDY}", DATA_SETS["roco"], "") == f"a {STUDY}"


# What is asked


def test_options_as_a_command_line_gives_them() -> None:
    options = read_options("medicat", ["radiology_only=false", "file=2019", "val_fraction=0.1", "seed=3"])
    assert options == {"radiology_only": False, "file": "2019", "val_fraction": 0.1, "seed": 3}
    assert read_options("mimic_cxr", ["views=[PA, AP]"]) == {"views": ["PA", "AP"]}
    for change, words in (
        ("language", "expected KEY=VALUE"),
        ("=zh", "expected KEY=VALUE"),
        ("split=test", "split is given twice or by a parameter of its own"),
        ("seed=[", "not plain YAML"),
    ):
        with pytest.raises(ValueError, match=f"--option .*{words}"):
            read_options("slake", [change])
    with pytest.raises(ValueError, match="given twice"):
        read_options("slake", ["language=en", "language=zh"])


def test_unknown_and_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'imagenet' is no dataset of this package; choose from phantoms, .*vqa_rad"):
        check_dataset("imagenet", tmp_path)
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        check_dataset("vqa_rad", tmp_path / "absent")
    with pytest.raises(ValueError, match="pass data_dir"):
        check_dataset("vqa_rad")
