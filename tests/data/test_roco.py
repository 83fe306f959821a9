"""ROCO: samples of both versions, the mirror's layout, captions with every mark, and folders that are wrong."""

import collections
import re

import pytest
from PIL import Image

from pefomed.data.example import make_dataset
from pefomed.data.roco import PUBLISHED_ROWS, read_roco
from pefomed.images import open_image


def _picture(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# The real samples


def test_rocov2_sample(shared):
    folder = shared / "data" / "rocov2_sample"
    found = {split: read_roco(folder, split) for split in ("train", "val", "test")}
    assert {split: (part.in_files, len(part.rows)) for split, part in found.items()} == {
        "train": (30, 30),
        "val": (8, 8),
        "test": (8, 8),
    }
    assert {split: part.published for split, part in found.items()} == {"train": 59958, "val": 9904, "test": 9927}
    assert all(part.variant == "v2" and not part.left_out for part in found.values())
    rows = [row for part in found.values() for row in part.rows]
    assert len(make_dataset(rows)) == 46, "ids differ and no group straddles splits"
    assert {row["task"] for row in rows} == {"caption"} and {row["question"] for row in rows} == {None}
    assert all(row["group"] == row["id"] and row["answer"] == row["answer"].strip() for row in rows)
    assert sum("," in row["answer"] for row in rows) > 5 and not [row for row in rows if row["answer"].startswith('"')]
    assert open_image(rows[0]["image"]).mode == "RGB"


def test_roco_v1_sample_has_captions_but_no_pictures(shared):
    folder = shared / "data" / "roco_v1"
    with pytest.raises(
        ValueError, match=r"25 of 25 rows cannot be used \(25 picture missing; first ROCO_00001 test/rad"
    ):
        read_roco(folder, "test", max_left_out=1.0)
    with pytest.raises(
        FileNotFoundError, match=r"train/radiology/captions.txt: no such file; .* form v1, without train"
    ):
        read_roco(folder, "train")


def test_roco_v1_sample_with_drawn_pictures(shared, tmp_path):
    captions = (shared / "data" / "roco_v1" / "test" / "radiology" / "captions.txt").read_bytes()
    _write(tmp_path / "test" / "radiology" / "captions.txt", captions)
    numbers = [line.split(b"\t")[0].decode() for line in captions.splitlines()]
    for number in numbers[:-1]:
        _picture(tmp_path / "test" / "radiology" / "images" / f"{number}.jpg")
    found = read_roco(tmp_path, "test", max_left_out=0.05)
    assert (found.in_files, len(found.rows), found.variant, found.published) == (25, 24, "v1", 8176)
    assert found.rows["id"] == numbers[:-1] and found.reasons == {"picture missing": 1}
    assert found.rows["answer"][0] == "Axial MRI (coronal view)."
    assert "hydro-aériques" in found.rows["answer"][9]


# Drawn folders


V1 = (
    'ROCO_00001\t Chest, "frontal" view; heart large.\r\n'
    "ROCO_00002\t  Niveaux hydro-aériques\u2028coliques\n"
    "\n"
    "ROCO_00003\t 3.5 cm\tcyst"
)


def _v1(folder, content=V1, pictures=(1, 2, 3), part="train"):
    _write(folder / part / "radiology" / "captions.txt", content)
    _write(folder / part / "non-radiology" / "captions.txt", "ROCO_00009\t A flow chart\n")
    for number in pictures:
        _picture(folder / part / "radiology" / "images" / f"ROCO_0000{number}.jpg", number)
    return folder


def test_v1_marks_and_line_ends(tmp_path):
    found = read_roco(_v1(tmp_path, b"\xef\xbb\xbf" + V1.encode()))
    assert found.rows["id"] == ["ROCO_00001", "ROCO_00002", "ROCO_00003"]
    assert found.rows["answer"] == [
        'Chest, "frontal" view; heart large.',
        "Niveaux hydro-aériques\u2028coliques",
        "3.5 cm\tcyst",
    ]
    assert found.rows["split"] == ["train"] * 3 and found.rows["dataset"] == ["roco"] * 3
    assert found.pictures == (tmp_path / "train" / "radiology" / "images",)
    assert len(read_roco(_v1(tmp_path / "clone" / "data", part="validation").parent, "val").rows) == 3


def test_what_cannot_be_used_is_counted(tmp_path):
    folder = _v1(tmp_path, V1 + "\nROCO_00004\t  \nROCO_00005\t Gone", pictures=(1, 3, 4))
    _write(folder / "train" / "radiology" / "images" / "ROCO_00002.jpg", b"")
    found = read_roco(folder, max_left_out=0.7)
    assert found.rows["id"] == ["ROCO_00001", "ROCO_00003"] and found.in_files == 5
    assert found.reasons == {"picture empty": 1, "no caption": 1, "picture missing": 1}
    assert [item.file for item in found.left_out][0] == "train/radiology/images/ROCO_00002.jpg"
    with pytest.raises(ValueError, match=r"roco, train: 3 of 5 rows cannot be used .*first ROCO_00002"):
        read_roco(folder)


KAGGLE = 'id,name,caption\nROCO_00001, PMC1_a.jpg ,"Chest, ""frontal"" view\n"\nROCO_00002,PMC2_b.jpg,Knee\n'


@pytest.mark.parametrize(
    "table", ["{}/radiology{}data.csv", "{}/radiology/{}data.csv", "{}/radiology/radiology{}data.csv"]
)
@pytest.mark.parametrize("root", ["", "all_data"])
def test_the_mirror_wherever_its_tables_lie(table, root, tmp_path):
    for split, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        _write(tmp_path / root / table.format(part, split), KAGGLE)
        _v1(tmp_path / root, pictures=(), part=part)
        for name in ("PMC1_a.jpg", "PMC2_b.jpg"):
            _picture(tmp_path / root / part / "radiology" / "images" / name)
        found = read_roco(tmp_path, split)
        assert (found.variant, found.published, found.in_files) == ("kaggle", None, 2)
        assert found.rows["answer"] == ['Chest, "frontal" view', "Knee"]
        assert found.rows["id"] == ["ROCO_00001", "ROCO_00002"] and set(found.rows["split"]) == {split}
        assert open_image(found.rows[0]["image"]).size == (4, 4)
    with pytest.raises(ValueError, match="3 of 3 rows cannot be used"):
        read_roco(tmp_path, "test", variant="v1")


def _v2(folder, content, pictures=("a", "b")):
    _write(folder / "train_captions.csv", content)
    for name in pictures:
        _picture(folder / "train" / f"{name}.jpg")
    return folder


def test_v2_quotes_bom_and_line_ends(tmp_path):
    content = b'\xef\xbb\xbfID,Caption\r\na,"Mass, 21 \xc3\x97 10 cm, ""see arrow"""\r\n\r\nb,Knee\r\n'
    found = read_roco(_v2(tmp_path, content))
    assert found.rows["answer"] == ['Mass, 21 × 10 cm, "see arrow"', "Knee"] and found.rows["id"] == ["a", "b"]
    assert found.published == PUBLISHED_ROWS["v2"]["train"] and "ROCO v1" in found.notes[0]


def test_several_forms_in_one_folder(tmp_path):
    folder = _v2(_v1(tmp_path), "ID,Caption\na,Knee\n")
    with pytest.raises(ValueError, match="in the forms v1 and v2; choose with variant"):
        read_roco(folder)
    assert collections.Counter(len(read_roco(folder, variant=form).rows) for form in ("v1", "v2")) == {3: 1, 1: 1}


MALFORMED_V1 = {
    "no tab": ("ROCO_00001\t x\nROCO_00002 y\n", "captions.txt, line 2: expected a picture's number, a tab"),
    "cut line": ("ROCO_00001\t x\nROCO_0", "captions.txt, line 2: expected a picture's number"),
    "another id": ("PMC1\t x\n", "line 1: expected a picture's number, a tab and a caption, found 'PMC1\\t x'"),
    "path as id": ("../../ROCO_00001\t x\n", "line 1: expected a picture's number"),
    "twice": ("ROCO_00001\t x\nROCO_00002\t y\nROCO_00001\t z\n", "line 3: id 'ROCO_00001' already stands in line 1"),
    "empty": ("\n", "captions.txt: holds no rows"),
    "not UTF-8": (b"ROCO_00001\t x\nROCO_00002\t caf\xe9\n", "captions.txt, line 2: not UTF-8 (byte 0xe9)"),
}

MALFORMED_V2 = {
    "tabs": (
        "ID\tCaption\na\tx\n",
        "line 1: no column 'ID' in the header 'ID\\tCaption'; expected the comma-separated",
    ),
    "other columns": ("ID,CUIs\na,C1\n", "line 1: no column 'Caption' in the header 'ID,CUIs'"),
    "unquoted comma": ("ID,Caption\na,Mass, 2 cm\n", "line 2: 3 fields, the header has 2"),
    "cut in a quote": ('ID,Caption\na,x\nb,"Mass, 2', "line 3: not a row of comma-separated fields (unexpected end"),
    "stray quote": ('ID,Caption\na,"Mass" left\n', "line 2: not a row of comma-separated fields"),
    "cut line": ("ID,Caption\na,x\nb\n", "line 3: 1 fields, the header has 2"),
    "twice": ('ID,Caption\na,"x\ny"\nb,y\na,z\n', "line 5: id 'a' already stands in line 2"),
    "no id": ("ID,Caption\n,x\n", "line 2: the id is empty"),
    "dots": ("ID,Caption\n../secret,x\n", "line 2: picture '../secret.jpg' is not the name of a file inside train"),
    "absolute": ("ID,Caption\n/etc/passwd,x\n", "line 2: picture '/etc/passwd.jpg' is not the name of a file"),
    "empty": ("", "train_captions.csv: is empty; expected the columns ID, Caption"),
    "header only": ("ID,Caption\n", "train_captions.csv: holds no rows below the header"),
    "not UTF-8": (b"ID,Caption\na,caf\xe9\n", "train_captions.csv, line 2: not UTF-8 (byte 0xe9)"),
}


@pytest.mark.parametrize(
    ("draw", "content", "message"),
    [
        *((_v1, *case) for case in MALFORMED_V1.values()),
        *((_v2, *case) for case in MALFORMED_V2.values()),
    ],
    ids=[*(f"v1 {name}" for name in MALFORMED_V1), *(f"v2 {name}" for name in MALFORMED_V2)],
)
def test_malformed_files(draw, content, message, tmp_path):
    folder = draw(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_roco(folder, max_left_out=1.0)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_the_mirror_names_only_its_own_pictures(tmp_path):
    _write(tmp_path / "train" / "radiologytraindata.csv", "id,name,caption\nROCO_00001,../../../secret.jpg,x\n")
    with pytest.raises(ValueError, match=r"line 2: picture '../../../secret.jpg' is not the name of a file inside"):
        read_roco(tmp_path)


def test_wrong_folders_and_options(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_roco(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no ROCO; expected test/radiology/captions.txt \(v1\)"):
        read_roco(tmp_path)
    with pytest.raises(FileNotFoundError, match="no ROCO in the form kaggle"):
        read_roco(_v1(tmp_path), variant="kaggle")
    with pytest.raises(ValueError, match="unknown variant 'v3'; choose one of v1, kaggle, v2"):
        read_roco(tmp_path, variant="v3")
    with pytest.raises(ValueError, match="unknown split 'valid'; choose one of train, val, test"):
        read_roco(tmp_path, "valid")
