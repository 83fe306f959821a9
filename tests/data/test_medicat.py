"""MedICaT: the official sample, splits by paper, the two captions, and files that are wrong."""

import json
import re

import pytest
from PIL import Image

from pefomed.data.example import make_dataset
from pefomed.data.medicat import FILE_NAME, read_medicat
from pefomed.images import open_image


@pytest.fixture(scope="module")
def sample(shared):
    return shared / "data" / "medicat_sample"


# The official sample


def test_radiology_figures_of_the_sample(sample):
    found = read_medicat(sample)
    assert (len(found.rows), found.in_files, found.left_out, found.published) == (6, 6, (), None)
    assert len(set(found.rows["group"])) == 4
    assert all(row["id"].startswith(f"{row['group']}_") and row["id"].endswith(".png") for row in found.rows)
    assert set(found.rows["task"]) == {"caption"} and set(found.rows["question"]) == {None}
    assert found.notes == ("4 of 10 figures are not radiology and were not read.",)
    assert all(open_image(row["image"]).mode == "RGB" for row in found.rows)


def test_all_figures_of_the_sample(sample):
    found = read_medicat(sample, radiology_only=False)
    assert (len(found.rows), found.published, found.notes) == (10, 217060, ())
    assert len(set(found.rows["group"])) == 5


def test_the_sample_lacks_one_s2orc_caption(sample):
    found = read_medicat(sample, caption="s2orc_caption")
    assert len(found.rows) == 6 and not [row for row in found.rows if not row["answer"]]
    assert found.notes[1] == "Figures without s2orc_caption, whose s2_caption was taken: 1."


# Drawn folders


def _figure(paper, number, **changes):
    figure = {
        "pdf_hash": paper,
        "fig_key": f"Figure{number}",
        "fig_uri": f"1-Figure{number}-1.png",
        "s2_caption": f'Fig. {number}. Chest, "frontal" view\nof paper {paper}',
        "s2orc_caption": f"Chest view of paper {paper}",
        "s2orc_references": None,
        "radiology": True,
        "scope": False,
        "predicted_type": "Medical images",
        "oa_info": {"doi": None},
    }
    return {**figure, **changes}


def _folder(folder, figures, name="sample.jsonl", pictures=True):
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    lines = [figure if isinstance(figure, (str, bytes)) else json.dumps(figure) for figure in figures]
    content = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    (folder / name).write_bytes(content)
    for figure in figures if pictures else ():
        if isinstance(figure, dict):
            Image.new("L", (4, 4)).save(folder / "figures" / f"{figure['pdf_hash']}_{figure['fig_uri']}")
    return folder


FIGURES = [_figure(f"{paper:02x}", number) for paper in range(40) for number in (1, 2)]


def test_splits_are_made_by_paper(tmp_path):
    folder = _folder(tmp_path, FIGURES)
    shares = {"val_fraction": 0.2, "test_fraction": 0.3}
    found = {split: read_medicat(folder, split, **shares) for split in ("train", "val", "test")}
    assert len(make_dataset([row for part in found.values() for row in part.rows])) == 80, "no paper in two splits"
    assert {split: len(part.rows) for split, part in found.items()} == {"train": 36, "val": 20, "test": 24}
    assert all(set(part.rows["split"]) == {split} and part.published is None for split, part in found.items())
    again = read_medicat(_folder(tmp_path / "reversed", FIGURES[::-1]), "test", **shares)
    assert set(again.rows["id"]) == set(found["test"].rows["id"]), "the order of the lines does not matter"
    other = read_medicat(folder, "test", seed=1, **shares)
    assert set(other.rows["id"]) != set(found["test"].rows["id"])
    without_val = read_medicat(folder, "test", test_fraction=0.3)
    assert without_val.rows["id"] == found["test"].rows["id"], "the test papers do not depend on the share of val"


def test_a_split_that_would_be_empty(tmp_path):
    folder = _folder(tmp_path, FIGURES[:2])
    with pytest.raises(ValueError, match="medicat: has no split 'test' of its own; pass test_fraction > 0"):
        read_medicat(folder, "test", val_fraction=0.1)
    with pytest.raises(ValueError, match=r"no figure for the split 'val' among 2 \(of them 0 not radiology and 2 in"):
        read_medicat(folder, "val", val_fraction=1e-9)
    blank = _folder(tmp_path / "chart", [_figure("a", 1, radiology=False)])
    with pytest.raises(ValueError, match=r"no figure for the split 'train' among 1 \(of them 1 not radiology"):
        read_medicat(blank)


def test_captions_and_what_replaces_them(tmp_path):
    figures = [
        _figure("a", 1),
        _figure("b", 1, s2_caption=None),
        _figure("c", 1, s2_caption="  ", s2orc_caption="Knee, lateral"),
        _figure("d", 1, s2_caption=None, s2orc_caption=""),
    ]
    found = read_medicat(_folder(tmp_path, figures), max_left_out=0.25)
    assert found.rows["answer"] == [
        'Fig. 1. Chest, "frontal" view\nof paper a',
        "Chest view of paper b",
        "Knee, lateral",
    ]
    assert found.reasons == {"no caption": 1} and found.left_out[0].id == "d_1-Figure1-1.png"
    assert "Figures without s2_caption, whose s2orc_caption was taken: 2." in found.notes
    chosen = read_medicat(tmp_path, caption="s2orc_caption", max_left_out=0.25)
    assert chosen.rows["answer"][0] == "Chest view of paper a"


def test_pictures_that_are_missing_or_empty(tmp_path):
    folder = _folder(tmp_path, FIGURES)
    (folder / "figures" / "00_1-Figure1-1.png").unlink()
    (folder / "figures" / "00_1-Figure2-1.png").write_bytes(b"")
    found = read_medicat(folder, max_left_out=0.03)
    assert found.reasons == {"picture missing": 1, "picture empty": 1} and found.in_files == 80
    assert found.left_out[0].file == "figures/00_1-Figure1-1.png"
    with pytest.raises(ValueError, match="medicat, train: 2 of 80 rows cannot be used"):
        read_medicat(folder)


def test_byte_order_mark_and_line_ends(tmp_path):
    folder = _folder(tmp_path, FIGURES)
    whole = (folder / "sample.jsonl").read_bytes()
    (folder / "sample.jsonl").write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert len(read_medicat(folder).rows) == 80


def test_which_file_is_read(tmp_path):
    folder = _folder(tmp_path, FIGURES[:2])
    _folder(folder, FIGURES[:4], name="other.jsonl")
    with pytest.raises(ValueError, match="holds other.jsonl, sample.jsonl; choose one with file="):
        read_medicat(folder)
    assert len(read_medicat(folder, file="other.jsonl").rows) == 4
    assert len(read_medicat(_folder(folder, FIGURES, name=FILE_NAME)).rows) == 80, "the official name comes first"
    with pytest.raises(FileNotFoundError, match="third.jsonl: no such file"):
        read_medicat(folder, file="third.jsonl")
    with pytest.raises(ValueError, match="file is '../sample.jsonl', expected the name of a file inside"):
        read_medicat(folder, file="../sample.jsonl")


def _without(key):
    return {name: value for name, value in _figure("b", 1).items() if name != key}


MALFORMED = {
    "cut line": (json.dumps(_figure("b", 1))[:60], "line 2: not JSON ("),
    "table": ("pdf_hash,fig_uri,s2_caption", "line 2: not JSON ("),
    "list": ("[1, 2]", "line 2: expected an object, found list"),
    "missing picture name": (_without("fig_uri"), "line 2: lacks the key 'fig_uri'"),
    "missing caption": (_without("s2orc_caption"), "line 2: lacks the key 's2orc_caption'"),
    "caption is a list": (_figure("b", 1, s2_caption=["x"]), "line 2: s2_caption must be str, found list ['x']"),
    "radiology is a word": (_figure("b", 1, radiology="true"), "line 2: radiology must be bool, found str 'true'"),
    "paper is a number": (_figure(7, 1), "line 2: pdf_hash must be str, found int 7"),
    "paper is blank": (_figure(" ", 1), "line 2: pdf_hash is empty"),
    "twice": (_figure("a", 1), "line 2: id 'a_1-Figure1-1.png' already stands in line 1"),
    "dots": (_figure("b", 1, fig_uri="/../../x.png"), "line 2: picture 'b_/../../x.png' is not the name of a file"),
    "absolute": (_figure("/etc/passwd", 1, fig_uri="x"), "line 2: picture '/etc/passwd_x' is not the name of a file"),
    "not UTF-8": (b'{"pdf_hash": "caf\xe9"}', "line 2: not UTF-8 (byte 0xe9)"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_lines(case, tmp_path):
    line, message = MALFORMED[case]
    folder = _folder(tmp_path, [_figure("a", 1)])
    _folder(folder, [_figure("a", 1), line, _figure("c", 1)], pictures=False)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_medicat(folder, max_left_out=1.0)
    assert "\n" not in str(caught.value) and "sample.jsonl, line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caption": "caption"}, "caption is 'caption', expected one of s2_caption, s2orc_caption"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0, expected a number from 0 up to"),
        ({"test_fraction": "0.1"}, "test_fraction is '0.1', expected a number"),
        ({"test_fraction": 0.5, "val_fraction": 0.5}, "add up to 1, leaving no train"),
        ({"split": "valid"}, "unknown split 'valid'"),
    ],
)
def test_wrong_options(options, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_medicat(_folder(tmp_path, FIGURES[:2]), **options)


def test_empty_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="no figure for the split 'train' among 0"):
        read_medicat(_folder(tmp_path, []))
    with pytest.raises(FileNotFoundError, match=f"{FILE_NAME}: no such file"):
        read_medicat(tmp_path / "figures")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_medicat(tmp_path / "nowhere")
