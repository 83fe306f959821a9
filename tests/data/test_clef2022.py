"""ImageCLEFmedical Caption 2022: tables separated by tabs under the name .csv, and files that are wrong."""

import re

import pytest
from PIL import Image

from pefomed.data.clef2022 import FILE_NAME, read_clef2022
from pefomed.images import open_image

CAPTIONS = 'ID\tcaption\na\tChest, "frontal" view, supine.\nb\tKnee\nc\tCT scan (arrow), 2 cm\n'


def _folder(folder, content=CAPTIONS, part="train", pictures="abc", prefix=""):
    (folder / part).mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode()
    (folder / (prefix + FILE_NAME.format(part))).write_bytes(content)
    for name in pictures:
        Image.new("L", (4, 4), 9).save(folder / part / f"{name}.jpg")
    return folder


def test_captions_keep_what_follows_the_first_comma(tmp_path):
    found = read_clef2022(_folder(tmp_path))
    assert found.rows["answer"] == ['Chest, "frontal" view, supine.', "Knee", "CT scan (arrow), 2 cm"]
    assert found.rows["id"] == found.rows["group"] == ["a", "b", "c"]
    assert set(found.rows["task"]) == {"caption"} and set(found.rows["question"]) == {None}
    assert (found.in_files, found.published, found.left_out) == (3, 83275, ())
    assert open_image(found.rows[2]["image"]).size == (4, 4)
    assert found.pictures == (tmp_path / "train",)


def test_validation_rows(tmp_path):
    found = read_clef2022(_folder(tmp_path, part="valid"), "val")
    assert set(found.rows["split"]) == {"val"} and found.published == 7645
    with pytest.raises(FileNotFoundError, match="caption_prediction_train.csv: no such file"):
        read_clef2022(tmp_path)


def test_the_test_captions_were_never_published(tmp_path):
    with pytest.raises(
        ValueError, match="the captions of its test pictures were never published; choose train or val"
    ):
        read_clef2022(_folder(tmp_path), "test")


def test_byte_order_mark_line_ends_and_download_codes(tmp_path):
    content = b"\xef\xbb\xbf" + CAPTIONS.replace("\n", "\r\n").encode() + b"\r\n"
    found = read_clef2022(_folder(tmp_path, content, prefix="0a1b-2c3d_"))
    assert found.rows["answer"][0].endswith("supine.") and found.rows["answer"][1] == "Knee"
    _folder(tmp_path)
    with pytest.raises(ValueError, match="0a1b-2c3d_.*keep one of them"):
        read_clef2022(tmp_path)


def test_quoted_captions(tmp_path):
    lines = (
        'a\t"Mass, ""see arrow"""',
        'b\t"Bull\'s eye" sign',
        'c\t"First line,',
        "",
        'second line"',
        'd\t"Open',
        "e\tKnee",
    )
    content = "\n".join(("ID\tcaption", *lines))
    rows = read_clef2022(_folder(tmp_path, content, pictures="abcde")).rows
    assert rows["answer"] == ['Mass, "see arrow"', '"Bull\'s eye" sign', "First line,\n\nsecond line", '"Open', "Knee"]


def test_what_cannot_be_used_is_counted(tmp_path):
    folder = _folder(tmp_path, CAPTIONS + "d\t \ne\tGone\n", pictures="bcd")
    (folder / "train" / "a.jpg").write_bytes(b"")
    found = read_clef2022(folder, max_left_out=0.6)
    assert found.rows["id"] == ["b", "c"] and found.in_files == 5
    assert found.reasons == {"picture empty": 1, "no caption": 1, "picture missing": 1}
    assert [(item.id, item.file) for item in found.left_out][0] == ("a", "train/a.jpg")
    with pytest.raises(ValueError, match=r"clef2022, train: 3 of 5 rows cannot be used"):
        read_clef2022(folder)


MALFORMED = {
    "commas": (CAPTIONS.replace("\t", ","), "line 1: the columns are separated by ',', not by tabs"),
    "semicolons": (CAPTIONS.replace("\t", ";"), "line 1: the columns are separated by ';', not by tabs"),
    "concepts": ("ID\tcuis\na\tC1;C2\n", "line 1: expected the header ID, tab, caption, found 'ID\\tcuis'"),
    "no header": ("a\tChest\nb\tKnee\n", "line 1: expected the header ID, tab, caption"),
    "cut line": (CAPTIONS + "d", "line 5: 1 columns, expected ID, tab, caption: 'd'"),
    "three columns": (CAPTIONS + "d\tx\ty\n", "line 5: 3 columns, expected ID, tab, caption"),
    "twice": (CAPTIONS + "b\tAnkle\n", "line 5: id 'b' already stands in line 3"),
    "no id": (CAPTIONS + "\tAnkle\n", "line 5: the id is empty"),
    "dots": (
        CAPTIONS + "../valid/a\tAnkle\n",
        "line 5: picture '../valid/a.jpg' is not the name of a file inside train",
    ),
    "absolute": (
        CAPTIONS + "/elsewhere/a\tAnkle\n",
        "line 5: picture '/elsewhere/a.jpg' is not the name of a file inside train",
    ),
    "empty": ("", "line 1: expected the header ID, tab, caption, found ''"),
    "header only": ("ID\tcaption\n", "holds no rows below the header"),
    "not UTF-8": (CAPTIONS.encode() + b"d\tcaf\xe9\n", "line 5: not UTF-8 (byte 0xe9)"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(case, tmp_path):
    content, message = MALFORMED[case]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_clef2022(_folder(tmp_path, content), max_left_out=1.0)
    assert "\n" not in str(caught.value) and FILE_NAME.format("train") in str(caught.value)


def test_wrong_folders_and_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_clef2022(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="unknown split 'valid'; choose one of train, val"):
        read_clef2022(tmp_path, "valid")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        read_clef2022(tmp_path / "file")
