"""MIMIC-CXR: trees drawn by the tests, every text invented, none of it from the data set; and trees that are wrong."""

import builtins
import gzip
import json
import os
import re
import traceback

import numpy as np
import pytest
from PIL import Image

from pefomed.data.example import Example
from pefomed.data.mimic_cxr import read_mimic_cxr
from pefomed.data.mimic_cxr_sections import Sections, parse_sections
from pefomed.images import open_image

SPLIT, METADATA = "mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-metadata.csv.gz"
REPORT = """\
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 FINDINGS:

 Invented study {study}.  The zebra is in the
 left lung.

 IMPRESSION:

 Zebra {study}.
"""
# subject, study, split, (view of each picture)
STUDIES = (
    (10000017, 50000001, "train", ("PA", "LATERAL")),
    (10000017, 50000002, "train", ("AP",)),
    (11000029, 50000003, "train", ("", "PA", "PA")),
    (12000031, 50000004, "validate", ("AP",)),
    (19000043, 50000005, "test", ("PA", "LL")),
)


def _id(study, number):
    return f"{study:08x}-{number:08x}-0a0b0c0d-01234567-89abcdef"


def _study(subject, study):
    return f"p{str(subject)[:2]}/p{subject}/s{study}"


def _write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def _tree(folder, *, ending="jpg", reports="files", packed=True, studies=STUDIES):
    """Draws a tree of grey pictures; metadata stand in another order than the splits."""
    splits, metadata = ["dicom_id,study_id,subject_id,split"], []
    for subject, study, split, views in studies:
        place = folder / "files" / _study(subject, study)
        place.mkdir(parents=True)
        report = folder / reports / f"{_study(subject, study)}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(REPORT.format(study=study))
        for number, view in enumerate(views):
            Image.new("L", (3, 2), 40).save(place / f"{_id(study, number)}.{ending}", "JPEG")
            splits.append(f"{_id(study, number)},{study},{subject},{split}")
            metadata.append(f"{_id(study, number)},{subject},{study},{view},2544")
    metadata = ["dicom_id,subject_id,study_id,ViewPosition,Columns", *reversed(metadata)]
    for name, lines in ((SPLIT, splits), (METADATA, metadata)):
        _write(folder / (name if packed else name.removesuffix(".gz")), "\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tree(tmp_path):
    return _tree(tmp_path / "mimic-cxr")


def _report(tree, number, text):
    subject, study, *_ = STUDIES[number]
    (tree / "files" / f"{_study(subject, study)}.txt").write_text(text)


def _change(tree, name, old, new):
    text = gzip.decompress((tree / name).read_bytes()).decode()
    assert old in text
    _write(tree / name, text.replace(old, new, 1))


# Rows


def test_rows_of_the_frontal_pictures(tree):
    found = read_mimic_cxr(tree, "train")
    rows = list(found.rows)
    assert [row["id"] for row in rows] == [_id(*pair) for pair in ((50000001, 0), (50000002, 0), (50000003, 1))] + [
        _id(50000003, 2)
    ]
    assert [row["phrase_type"] for row in rows] == ["PA", "AP", "PA", "PA"]
    assert [row["group"] for row in rows] == ["p10000017"] * 2 + ["p11000029"] * 2
    assert rows[0]["answer"] == "Invented study 50000001. The zebra is in the left lung."
    assert {(row["task"], row["dataset"], row["split"], row["question"]) for row in rows} == {
        ("report", "mimic_cxr", "train", None)
    }
    assert open_image(rows[0]["image"]).size == (3, 2) and rows[0]["image"]["bytes"] is None
    assert (found.variant, found.in_files, found.published, found.left_out) == ("jpg", 6, 368_960, ())
    assert any(note.startswith("2 pictures are of other views than PA, AP") for note in found.notes)


def test_the_other_splits_and_their_published_sizes(tree):
    val, test = read_mimic_cxr(tree, "val"), read_mimic_cxr(tree, "test")
    assert (len(val.rows), val.published, set(val.rows["split"])) == (1, 2_991, {"val"})
    assert (len(test.rows), test.published, test.in_files) == (1, 5_159, 2)


def test_sections_task_and_views(tree):
    impression = read_mimic_cxr(tree, "test", section="impression", task="caption", views=())
    assert list(impression.rows["answer"]) == ["Zebra 50000005."] * 2
    assert list(impression.rows["phrase_type"]) == ["PA", "LL"] and set(impression.rows["task"]) == {"caption"}
    both = read_mimic_cxr(tree, "test", section="both")
    assert both.rows[0]["answer"] == "Invented study 50000005. The zebra is in the left lung. Zebra 50000005."
    everything = read_mimic_cxr(tree, "train", views=())
    assert list(everything.rows["phrase_type"]) == ["PA", "LATERAL", "AP", None, "PA", "PA"]
    assert list(read_mimic_cxr(tree, "train", views=["LATERAL"]).rows["id"]) == [_id(50000001, 1)]


def test_unpacked_tables_and_reports_of_their_own_folder(tmp_path):
    tree = _tree(tmp_path, packed=False, reports="mimic-cxr-reports/files")
    assert len(read_mimic_cxr(tree, "train").rows) == 4
    (tree / METADATA.removesuffix(".gz")).unlink()
    assert set(read_mimic_cxr(tree, "train", views=()).rows["phrase_type"]) == {None}


def test_dicom_pictures(tmp_path):
    found = read_mimic_cxr(_tree(tmp_path, ending="dcm"), "test")
    assert found.variant == "dcm" and found.rows[0]["image"]["path"].endswith(".dcm")


def test_both_forms_of_pictures_must_be_chosen_from(tree):
    for subject, study, _, views in STUDIES[:2]:
        for number in range(len(views)):
            (tree / "files" / _study(subject, study) / f"{_id(study, number)}.dcm").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds \.dcm and \.jpg pictures.*choose with image_format"):
        read_mimic_cxr(tree, "train")
    assert read_mimic_cxr(tree, "train", image_format="jpg").rows[0]["image"]["path"].endswith(".jpg")
    found = read_mimic_cxr(tree, "train", image_format="dcm", max_left_out=0.5)
    assert len(found.rows) == 2 and found.reasons == {"picture missing": 2}


def test_each_report_and_each_folder_is_looked_at_once(tree, monkeypatch):
    listed, opened = [], []
    scandir, open_file = os.scandir, builtins.open
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(
        "io.open", lambda path, *rest, **more: opened.append(str(path)) or open_file(path, *rest, **more)
    )
    read_mimic_cxr(tree, "train", views=())
    studies = [path for path in listed if "files" in path]
    assert len(studies) == len(set(studies)) == 3
    reports = [path for path in opened if path.endswith(".txt")]
    assert len(reports) == len(set(reports)) == 3


def test_the_rows_are_marked_and_not_shown(tree):
    rows = list(read_mimic_cxr(tree, "train").rows)
    assert all(Example(**row).credentialed for row in rows)
    show_examples = pytest.importorskip("pefomed.reporting.examples").show_examples
    with pytest.raises(ValueError, match="refused to draw examples: row '.*' is of mimic_cxr") as caught:
        show_examples(rows)
    assert "zebra" not in str(caught.value).lower()


# What is left out, and what is a fact of the data


def test_a_study_without_the_section_is_counted_and_does_not_count_against_the_bound(tree):
    _report(tree, 2, "FINAL REPORT\n IMPRESSION: Nothing but a zebra.\n")
    found = read_mimic_cxr(tree, "train", max_left_out=0)
    assert len(found.rows) == 2 and not found.left_out and found.in_files == 6
    assert "2 pictures are of studies whose report has no findings." in found.notes
    assert len(read_mimic_cxr(tree, "train", section="both").rows) == 4


def test_missing_and_empty_reports_and_pictures_are_left_out(tree):
    (tree / "files" / f"{_study(10000017, 50000002)}.txt").unlink()
    folder = tree / "files" / _study(11000029, 50000003)
    (folder / f"{_id(50000003, 1)}.jpg").unlink()
    (folder / f"{_id(50000003, 2)}.jpg").write_bytes(b"")
    found = read_mimic_cxr(tree, "train", max_left_out=0.75)
    assert found.reasons == {"report missing": 1, "picture missing": 1, "picture empty": 1}
    assert found.left_out[0].file == "p10/p10000017/s50000002.txt" and found.left_out[1].id == _id(50000003, 1)
    with pytest.raises(ValueError, match="mimic_cxr, train: 3 of 4 rows cannot be used .*1 report missing"):
        read_mimic_cxr(tree, "train", max_left_out=0.7)
    _report(tree, 0, " \n")
    with pytest.raises(ValueError, match="1 report empty"):
        read_mimic_cxr(tree, "train", max_left_out=1.0)


def test_a_tree_without_any_picture(tree):
    for path in tree.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(ValueError, match=r"4 of 4 rows cannot be used \(4 picture missing; first .*\.jpg\)"):
        read_mimic_cxr(tree, "train", max_left_out=1.0)


# Files that are wrong


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (SPLIT, "dicom_id,study_id", "dicom_id;study_id", "the first line lacks 'dicom_id'; found"),
        (SPLIT, ",train", ",practice", "line 2: split 'practice'; expected one of train, validate, test"),
        (SPLIT, ",train", "", "line 2: 3 values in a table of 4 columns"),
        (SPLIT, "10000017", "10000017.0", "line 2: subject_id '10000017.0' is no whole number"),
        (SPLIT, "50000001,1", "../../50000001,1", "line 2: study_id '../../50000001' is no whole number"),
        (SPLIT, "\n02faf081", "\n../../02faf081", "line 2: dicom_id '../../02faf081"),
        (SPLIT, "\n02faf081", "\n/02faf081", "line 2: dicom_id '/02faf081"),
        (SPLIT, "\n02faf081", '\n"02faf081', "damaged table"),
        (SPLIT, "00000001-0a0b", "00000000-0a0b", "line 3: dicom_id '02faf081-00000000-0a0b0c0d-01234567-89abcdef' o"),
        (SPLIT, "50000002,10000017,train", "50000002,10000017,test", "patient 10000017 is in the splits 'train' and"),
        (METADATA, "02faf081-00000000", "02faf081-0000000f", "line 2: dicom_id '02faf081-00000000-0a0b0c0d-"),
        (METADATA, "02faf081-00000001", "02faf081-00000000", "occurs for the second time"),
        (METADATA, "ViewPosition", "View", "the first line lacks 'ViewPosition'"),
    ],
)
def test_a_wrong_table_is_one_line_that_names_file_and_line(tree, name, old, new, message):
    assert f"{50000001:08x}" == "02faf081"
    _change(tree, name, old, new)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_mimic_cxr(tree, "train")
    assert name.removesuffix(".gz") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["plain", "truncated", "binary"])
def test_damaged_tables(tree, content):
    whole = (tree / SPLIT).read_bytes()
    damaged = {"plain": gzip.decompress(whole), "truncated": whole[:-20], "binary": gzip.compress(b"\xff\xfe\x00")}
    (tree / SPLIT).write_bytes(damaged[content])
    with pytest.raises(ValueError, match=f"{SPLIT}: damaged table"):
        read_mimic_cxr(tree, "train")


def test_an_empty_table(tree):
    _write(tree / SPLIT, "")
    with pytest.raises(ValueError, match="the first line lacks 'dicom_id'"):
        read_mimic_cxr(tree, "train")


def test_an_unreadable_report_is_named_and_not_quoted(tree):
    path = tree / "files" / f"{_study(10000017, 50000001)}.txt"
    path.write_bytes(b"FINDINGS: a zebra \xff\xfe in the lung")
    with pytest.raises(ValueError, match="s50000001.txt: unreadable report") as caught:
        read_mimic_cxr(tree, "train")
    assert "zebra" not in "".join(traceback.format_exception(caught.value))
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="s50000001.txt: unreadable report"):
        read_mimic_cxr(tree, "train")


def test_what_is_missing_is_named(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_mimic_cxr(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="files: no such folder; MIMIC-CXR is available from"):
        read_mimic_cxr(tmp_path / "empty")
    for name in (METADATA, SPLIT):
        (tree / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
            read_mimic_cxr(tree)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validate"}, "unknown split 'validate'; choose one of train, val, test"),
        ({"task": "vqa"}, "unknown task 'vqa'"),
        ({"section": "history"}, "unknown section 'history'; choose one of findings, impression, both"),
        ({"image_format": "png"}, "unknown image_format 'png'"),
        ({"views": "PA"}, r"views is 'PA'; expected a list"),
        ({"views": ["PA", "OBLIQUE"]}, "no picture of the view 'OBLIQUE'; there are"),
        ({"split": "val", "views": ["LL"]}, "none of the 1 pictures is to be used: 1 are of other views than LL"),
    ],
)
def test_wrong_options(tree, options, message):
    with pytest.raises(ValueError, match=message):
        read_mimic_cxr(tree, **options)


# Sections: every report here is invented

REPORTS = {
    "heading, then text": ("FINDINGS:\n\n Zebra seen.\n\n IMPRESSION:\n Zebra.", "Zebra seen.", "Zebra."),
    "text in the heading's line": (
        " FINDINGS:  Zebra seen.\n more.\n IMPRESSION:Zebra.",
        "Zebra seen. more.",
        "Zebra.",
    ),
    "other sections end them": (
        "FINDINGS: One.\nCOMPARISON: None.\nIMPRESSION: Two.\nRECOMMENDATION(S): Three.\nNOTIFICATION: Four.",
        "One.",
        "Two.",
    ),
    "before and between": (
        "INDICATION: Cough.\nTECHNIQUE: PA.\nFINDINGS: One.\n DOSE: 3\nIMPRESSION: Two.",
        "One.",
        "Two.",
    ),
    "misspelt": ("FINDIGNS: One.\nIMPRESSON: Two.", "One.", "Two."),
    "misspelt again": ("FINDING: One.\nIMPRESSIONS: Two.", "One.", "Two."),
    "small letters": ("Comparison: None.\nFindings: One.\nImpression: Two.\nRecommendation: Three.", "One.", "Two."),
    "conclusion": ("FINDINGS: One.\nCONCLUSION: Two.", "One.", "Two."),
    "company": ("CHEST FINDINGS: One.\nFINDINGS IN THE ABDOMEN: Two.\nIMPRESSION: Three.", "One. Two.", "Three."),
    "both in one": ("HISTORY: x\nFINDINGS AND IMPRESSION: Zebra.", "Zebra.", "Zebra."),
    "both with a stroke": ("FINDINGS/IMPRESSION:\n Zebra.", "Zebra.", "Zebra."),
    "both, with an impression of its own": ("FINDINGS AND IMPRESSION: One.\nIMPRESSION: Two.", "One.", "Two."),
    "without a colon": ("FINDINGS\n One.\nIMPRESSION\n Two.", "One.", "Two."),
    "without a colon in the line": ("FINDINGS The zebra.\nIMPRESSION 1. Zebra.", "The zebra.", "1. Zebra."),
    "inside a line": ("HISTORY: Cough.  FINDINGS: One. IMPRESSION: Two.", "One.", "Two."),
    "both inside a line": ("Clear. FINDINGS AND IMPRESSION: One.", "One.", "One."),
    "a view with text": ("HISTORY: x\n PA AND LATERAL CHEST RADIOGRAPH:  Zebra.\n IMPRESSION: Two.", "Zebra.", "Two."),
    "a view in its own line": (
        "PORTABLE CHEST, 5:30 P.M., ___\n\n Zebra seen.\n\n IMPRESSION: Two.",
        "Zebra seen.",
        "Two.",
    ),
    "a view with a time": ("AP CHEST, 5:30 P.M., ___:\n\n HISTORY:  Cough.\n\n IMPRESSION:  Two.", "", "Two."),
    "a view as a title": ("CHEST RADIOGRAPH PERFORMED ON ___\nCOMPARISON: None.\nFINDINGS: One.", "One.", ""),
    "a view's text yields to findings": ("CHEST, TWO VIEWS: Title.\nFINDINGS: One.", "One.", ""),
    "a view inside findings": (
        "FINDINGS:\nPORTABLE CHEST: One.\nSECOND VIEW: Two.",
        "PORTABLE CHEST: One. SECOND VIEW: Two.",
        "",
    ),
    "a view begins an impression": ("IMPRESSION:\nAP CHEST: One.\n", "", "AP CHEST: One."),
    "a second examination": ("IMPRESSION: One.\nPORTABLE CHEST: Two.\nIMPRESSION: Three.", "Two.", "One. Three."),
    "report": ("INDICATION: x\nREPORT: One.\nCONCLUSION: Two.", "One.", "Two."),
    "parts of the findings": (
        "FINDINGS:\nLUNGS: Clear.\nHEART: Normal.\nIMPRESSION: x",
        "LUNGS: Clear. HEART: Normal.",
        "x",
    ),
    "capitals throughout": (
        "FINDINGS: NORMAL HEART.\nCHEST TUBE IN PLACE.\nFINDINGS ARE STABLE.\nIMPRESSION: NO ZEBRA.\nCHEST IS CLEAR.",
        "NORMAL HEART. CHEST TUBE IN PLACE. FINDINGS ARE STABLE.",
        "NO ZEBRA. CHEST IS CLEAR.",
    ),
    "the word in a sentence": (
        "FINDINGS: These findings: one.\nThe impression is two.\nFindings consistent with: three.",
        "These findings: one. The impression is two. Findings consistent with: three.",
        "",
    ),
    "banner": (
        "WET READ: x 5:30\n FINDINGS: Early.\n____________________\n  FINAL REPORT\nFINDINGS: One.",
        "One.",
        "",
    ),
    "wet read with a drawn line": (
        "WET READ: Early.\n IMPRESSION: No.\n__________________\nIMPRESSION: Two.",
        "",
        "Two.",
    ),
    "preliminary": ("PROVISIONAL FINDINGS IMPRESSION (PFI): Early.\n FINAL REPORT\nIMPRESSION: Two.", "", "Two."),
    "addendum first": (
        "FINAL ADDENDUM\nADDENDUM: Late.\n____________________\nFINAL REPORT\nFINDINGS: One.",
        "One.",
        "",
    ),
    "addendum last": ("FINAL REPORT\nFINDINGS: One.\nIMPRESSION: Two.\nADDENDUM:\nIMPRESSION: Late.", "One.", "Two."),
    "addendum alone": ("ADDENDUM: Late.\nIMPRESSION: Late.", "", ""),
    "said twice": ("FINDINGS: One.\nIMPRESSION: Two.\nFINDINGS: Three.", "One. Three.", "Two."),
    "blanked": (
        "FINDINGS: ___\nIMPRESSION: Compared to ___ 5:30,\n 4.5\n ___ same.",
        "",
        "Compared to ___ 5:30, 4.5 ___ same.",
    ),
    "empty sections": ("FINDINGS:\n\nIMPRESSION:\n\n", "", ""),
    "no heading": ("The zebra is in the lung.", "", ""),
    "nothing": ("", "", ""),
    "windows lines": ("FINDINGS: One.\r\nmore\r\n\r\nIMPRESSION: Two.\r\n", "One. more", "Two."),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_sections(kind):
    report, findings, impression = REPORTS[kind]
    assert parse_sections(report) == Sections(findings, impression)


def test_both_says_nothing_twice():
    assert parse_sections("FINDINGS AND IMPRESSION: Zebra.").text("both") == "Zebra."
    assert parse_sections("FINDINGS: One.\nIMPRESSION: Two.").text("both") == "One. Two."
    assert parse_sections("IMPRESSION: Two.").text("both") == "Two."


def test_any_text_is_parsed_in_time():
    rng = np.random.default_rng(0)
    parts = [
        "FINDINGS",
        "IMPRESSION",
        ":",
        " ",
        "\n",
        "A",
        "a",
        "5",
        "_",
        "/",
        "AND",
        "CHEST",
        "ADDENDUM",
        "\t",
        "=",
        ".",
    ]
    for _ in range(200):
        sections = parse_sections("".join(rng.choice(parts, 200)))
        assert "\n" not in sections.findings + sections.impression
    for hostile in (
        " " * 30_000,
        "A " * 15_000,
        "_" * 30_000,
        "A5:" * 10_000,
        "FINDINGS " * 3000,
        " \t" * 15_000 + ":",
    ):
        assert json.dumps(parse_sections(hostile).text("both")) is not None
