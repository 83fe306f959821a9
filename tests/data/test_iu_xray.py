"""IU-Xray: the real annotations and reports of two forms, the third drawn by the tests, and folders that are wrong."""

import collections
import csv
import json
import re
import shutil

import pytest
from PIL import Image

from pefomed.data.iu_xray import NAME, read_iu_xray
from pefomed.images import open_image

# The real files


@pytest.fixture(scope="module")
def r2gen(shared, tmp_path_factory):
    """The real annotation of 180 studies, with drawn pictures for all but the training ones."""
    folder = tmp_path_factory.mktemp("r2gen")
    annotation = shared / "data" / "iu_xray_r2gen" / "annotation.json"
    shutil.copy(annotation, folder / "annotation.json")
    content = json.loads(annotation.read_text(encoding="utf-8"))
    for number, row in enumerate([*content["val"], *content["test"]]):
        for path in row["image_path"]:
            _draw(folder / "images" / path, number)
    return folder


@pytest.fixture(scope="module")
def openi(shared, tmp_path_factory):
    """The 25 real reports below ecgen-radiology and drawn pictures below NLMCXR_png."""
    folder = tmp_path_factory.mktemp("openi")
    shutil.copytree(shared / "data" / "openi_xml", folder / "ecgen-radiology")
    for path in (folder / "ecgen-radiology").glob("*.xml"):
        for name in re.findall(r'<parentImage id="([^"]+)"', path.read_text(encoding="utf-8")):
            _draw(folder / "NLMCXR_png" / f"{name}.png", int(path.stem))
    return folder


def _draw(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def test_r2gen_counts(r2gen):
    found = read_iu_xray(r2gen, "test")
    rows = found.rows
    assert (found.variant, found.in_files, found.published, len(rows)) == ("r2gen", 120, 1180, 120)
    assert found.left_out == () and found.pictures == (r2gen / "images",)
    assert rows[0]["id"] == "r2gen-CXR3030_IM-1405-0" and rows[0]["group"] == "CXR3030_IM-1405"
    assert len(set(rows["group"])) == 60 and rows[0]["answer"] == rows[1]["answer"]
    assert collections.Counter(rows["phrase_type"]) == {"frontal": 60, "lateral": 60}
    assert set(rows["dataset"]) == {NAME} and set(rows["task"]) == {"report"} and set(rows["split"]) == {"test"}
    assert set(rows["question"]) == set(rows["answer_type"]) == set(rows["question_type"]) == {None}
    assert set(rows["image_organ"]) == {"CHEST"}
    assert sum("XXXX" in answer for answer in rows["answer"]) == 34
    assert "17 of 60 reports in use hold words hidden as XXXX; these are kept." in found.notes
    assert open_image(rows[0]["image"]).size == (4, 4)


def test_r2gen_reports_are_the_files_own(r2gen):
    content = json.loads((r2gen / "annotation.json").read_text(encoding="utf-8"))
    study = read_iu_xray(r2gen, "val", samples="study")
    assert study.rows["answer"] == [row["report"] for row in content["val"]]
    assert (len(study.rows), study.published, set(study.rows["phrase_type"])) == (60, 296, {"frontal"})
    assert study.rows[0]["id"] == "r2gen-CXR2279_IM-0865" and study.rows[0]["image"]["path"].endswith("0865/0.png")


def test_missing_pictures_of_the_real_annotation(r2gen):
    with pytest.raises(ValueError, match=r"120 of 120 rows cannot be used \(120 picture missing; first r2gen-CXR2384"):
        read_iu_xray(r2gen, "train")
    first = json.loads((r2gen / "annotation.json").read_text(encoding="utf-8"))["train"][0]
    found = read_iu_xray(r2gen, "train", split_by="seed", max_left_out=1.0)
    assert found.in_files == 252 and 0 < len(found.rows) < 252, "126 of 180 studies are parted off"
    assert found.reasons == {"picture missing": 252 - len(found.rows)}
    _draw(r2gen / "images" / first["image_path"][0])
    (r2gen / "images" / first["image_path"][1]).write_bytes(b"")
    found = read_iu_xray(r2gen, "train", max_left_out=1.0)
    shutil.rmtree(r2gen / "images" / first["id"])
    assert found.rows["id"] == ["r2gen-CXR2384_IM-0942-0"]
    assert found.reasons == {"picture missing": 118, "picture empty": 1}
    assert found.left_out[0].file == "images/CXR2384_IM-0942/1.png"


@pytest.mark.parametrize(("section", "studies"), [("findings", 22), ("impression", 24), ("both", 24)])
def test_openi_counts(openi, section, studies):
    parts = {split: read_iu_xray(openi, split, section=section) for split in ("train", "val", "test")}
    assert sum(len(part.rows) for part in parts.values()) == 2 * studies
    groups = {split: set(part.rows["group"]) for split, part in parts.items()}
    assert len(set.union(*groups.values())) == studies == sum(map(len, groups.values()))
    assert all(part.left_out == () and part.published is None for part in parts.values())
    notes = [note for part in parts.values() for note in part.notes]
    assert "The files hold 25 studies with 50 pictures; published were 3,955 studies with 7,470 pictures." in notes
    sizes = [int(re.search(r"this split has (\d+)", part.notes[1])[1]) for part in parts.values()]
    assert sizes == [18, 3, 4]
    without = sum(int(note.split()[0]) for note in notes if "give no row" in note)
    assert without == 25 - studies


def test_openi_texts(openi):
    def answers(section):
        found = [read_iu_xray(openi, split, section=section) for split in ("train", "val", "test")]
        return {row["id"]: row["answer"] for part in found for row in part.rows}

    findings, impression, both = answers("findings"), answers("impression"), answers("both")
    first = "openi-CXR1_1_IM-0001-3001"
    assert findings[first].startswith("The cardiac silhouette") and "no XXXX of a pleural" in findings[first]
    assert impression[first] == "Normal chest x-XXXX."
    assert both[first] == f"{findings[first]} {impression[first]}"
    assert "openi-CXR3_IM-1384-1001" not in findings, "report 3 has an impression only"
    assert both["openi-CXR3_IM-1384-1001"] == impression["openi-CXR3_IM-1384-1001"]
    assert not [name for name in both if name.startswith("openi-CXR16")], "report 16 has no text at all"


def test_openi_study_and_flat_folder(openi, tmp_path):
    for path in [*(openi / "ecgen-radiology").iterdir(), *(openi / "NLMCXR_png").iterdir()]:
        shutil.copy(path, tmp_path / path.name)
    flat, deep = read_iu_xray(tmp_path, samples="study"), read_iu_xray(openi, samples="study")
    assert flat.rows["id"] == deep.rows["id"] and flat.pictures == (tmp_path,)
    assert flat.rows["id"] == sorted(flat.rows["id"], key=lambda name: int(name.removeprefix("openi-CXR")))
    assert set(flat.rows["phrase_type"]) == {None}
    assert any("the first it names" in note for note in flat.notes)


# R2Gen's form, drawn


def _row(number, split, **changes):
    name = f"CXR{number}_IM-{number:04d}"
    row = {
        "id": name,
        "report": f"Invented  report\n{number}. ",
        "image_path": [f"{name}/0.png", f"{name}/1.png"],
        "split": split,
    }
    return {**row, **changes}


def _rows(train=7, val=1, test=2):
    numbers = iter(range(1, train + val + test + 1))
    sizes = {"train": train, "val": val, "test": test}
    return {split: [_row(next(numbers), split) for _ in range(size)] for split, size in sizes.items()}


def _r2gen_folder(folder, content, pictures=True):
    folder.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "annotation.json").write_bytes(data)
    for row in [row for rows in _rows().values() for row in rows] if pictures else ():
        for path in row["image_path"]:
            _draw(folder / "images" / path)
    return folder


def test_the_paper_counts_1180_test_samples(tmp_path):
    content = _rows(2069, 296, 590)
    folder = _r2gen_folder(tmp_path, content, pictures=False)
    for row in content["test"]:
        (folder / "images" / row["id"]).mkdir(parents=True)
        for path in row["image_path"]:
            (folder / "images" / path).write_bytes(b"x")  # listed, not opened
    own = read_iu_xray(folder, "test")
    seeded = {split: read_iu_xray(folder, split, split_by="seed", max_left_out=1.0) for split in content}
    assert len(own.rows) == own.published == own.in_files == 1180
    assert {split: found.in_files for split, found in seeded.items()} == {"train": 4138, "val": 592, "test": 1180}
    assert all(found.published == found.in_files for found in seeded.values())
    assert sum(len(found.rows) for found in seeded.values()) == 1180 > len(seeded["test"].rows)


def test_white_space_is_put_in_order(tmp_path):
    assert read_iu_xray(_r2gen_folder(tmp_path, _rows()), "val").rows["answer"] == ["Invented report 8."] * 2


def test_a_report_without_text_is_a_note_not_a_fault(tmp_path):
    content = _rows()
    content["train"][2]["report"] = " \n"
    found = read_iu_xray(_r2gen_folder(tmp_path, content), max_left_out=0)
    assert len(found.rows) == 12 == found.in_files and found.left_out == ()
    assert "1 of 7 reports have no findings and give no row." in found.notes


def test_the_copy_with_the_blanked_key(tmp_path):
    content = _rows()
    content["    "] = content.pop("test")
    folder = _r2gen_folder(tmp_path, content)
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="the public copy whose key 'test' was overwritten with blanks") as caught:
            read_iu_xray(folder, split)
        message = str(caught.value)
        assert "annotation.json: the key '    ' is blank" in message and 'make it read "test" again' in message


def test_sections_that_r2gen_lacks(tmp_path):
    folder = _r2gen_folder(tmp_path, _rows())
    for section in ("impression", "both"):
        with pytest.raises(ValueError, match="holds findings only; the forms openi and kaggle have it"):
            read_iu_xray(folder, section=section)


def _changed(**changes):
    content = _rows()
    content["val"][0].update(changes)
    return content


def _without(key):
    content = _rows()
    del content["val"][0][key]
    return content


VAL_ROW = "annotation.json: val row 0: "
MALFORMED_ANNOTATIONS = {
    "cut in the middle": (json.dumps(_rows()).encode()[:300], "annotation.json: not JSON (line 1, column"),
    "empty file": (b"", "annotation.json: not JSON"),
    "not UTF-8": (json.dumps(_rows()).encode().replace(b"Invented", b"\xe9"), "annotation.json: not UTF-8"),
    "list": ([1], "expected an object with the keys train, val and test, found list [1]"),
    "no val": (
        {k: v for k, v in _rows().items() if k != "val"},
        "found the keys 'train', 'test', expected train, val",
    ),
    "other key": ({**_rows(), "dev": []}, "found the keys 'train', 'val', 'test', 'dev'"),
    "empty split": ({**_rows(), "val": []}, "val must be a list of studies, found an empty list"),
    "split is an object": ({**_rows(), "val": {}}, "val must be a list of studies, found dict"),
    "row is a string": ({**_rows(), "val": ["x"]}, VAL_ROW + "expected an object, found str 'x'"),
    "no report": (_without("report"), VAL_ROW + "lacks the key 'report'"),
    "no pictures": (_without("image_path"), VAL_ROW + "lacks the key 'image_path'"),
    "report is null": (_changed(report=None), VAL_ROW + "report must be a string, found NoneType"),
    "id is a number": (_changed(id=5), VAL_ROW + "id must be a string, found int 5"),
    "id is blank": (_changed(id=" "), VAL_ROW + "id is empty"),
    "id twice": (_changed(id="CXR1_IM-0001"), VAL_ROW + "study 'CXR1_IM-0001' occurs twice, first in"),
    "picture twice": (_changed(image_path=["a.png", "a.png"]), VAL_ROW + "picture 'a.png' occurs twice"),
    "picture of another study": (_changed(image_path=["CXR1_IM-0001/0.png", "b.png"]), "train row 0"),
    "one picture": (_changed(image_path=["a.png"]), VAL_ROW + "image_path must be a list of two file names"),
    "pictures as text": (_changed(image_path="ab"), VAL_ROW + "image_path must be a list of two"),
    "other split": (_changed(split="train"), VAL_ROW + "split is 'train' but the row lies under 'val'"),
    "dots": (_changed(image_path=["../../x.png", "a.png"]), VAL_ROW + "picture '../../x.png' leads out"),
    "absolute": (_changed(image_path=["/etc/x.png", "a.png"]), VAL_ROW + "picture '/etc/x.png' leads out"),
    "dots of another system": (_changed(image_path=["..\\x.png", "a.png"]), "leads out"),
    "MIMIC-CXR": (_changed(subject_id=1), VAL_ROW + "names a patient or study of MIMIC-CXR"),
}


@pytest.mark.parametrize("case", MALFORMED_ANNOTATIONS)
def test_malformed_annotations(case, tmp_path):
    content, message = MALFORMED_ANNOTATIONS[case]
    folder = _r2gen_folder(tmp_path, content, pictures=False)
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            read_iu_xray(folder, split, max_left_out=1.0)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


# OpenI's form, drawn


def _report(number, findings="Invented findings.", impression="Invented impression.", pictures=1, **changes):
    if isinstance(pictures, int):
        pictures = "".join(f'<parentImage id="CXR{number}_IM-{i}"/>' for i in range(pictures))
    start = changes.get("start", '<?xml version="1.0" encoding="utf-8"?>\n')
    root = changes.get("root", "eCitation")
    ids = changes.get("ids", f'<uId id="CXR{number}"/><pmcId id="{number}"/>')
    sections = {"COMPARISON": "", "INDICATION": "Cough", "FINDINGS": findings, "IMPRESSION": impression}
    texts = "".join(f'<AbstractText Label="{label}">{text}</AbstractText>' for label, text in sections.items())
    abstract = f"<MedlineCitation><Article><Abstract>{texts}</Abstract></Article></MedlineCitation>"
    return f"{start}<{root}>{ids}{abstract}{pictures}</{root}>"


def _openi_folder(folder, reports, place="ecgen-radiology"):
    (folder / place).mkdir(parents=True, exist_ok=True)
    for number, report in enumerate(reports, 1):
        data = report if isinstance(report, bytes) else report.encode()
        (folder / place / f"{number}.xml").write_bytes(data)
        for name in re.findall(rb'parentImage id="([\w-]+)"', data):
            _draw(folder / "images" / f"{name.decode()}.png")
    return folder


def test_reports_without_text_or_picture_do_not_count_as_broken(tmp_path):
    reports = [_report(n, findings="" if n % 2 else "Clear.", pictures=n % 4 // 2) for n in range(1, 41)]
    folder = _openi_folder(tmp_path, reports)
    parts = [read_iu_xray(folder, split, max_left_out=0) for split in ("train", "val", "test")]
    assert sum(len(part.rows) for part in parts) == 10, "every fourth report has findings and a picture"
    text = " ".join(note for part in parts for note in part.notes)
    assert sum(map(int, re.findall(r"(\d+) of \d+ reports have no findings", text))) == 20
    assert sum(map(int, re.findall(r"(\d+) more of \d+ reports have no picture", text))) == 10


def test_the_division_depends_on_seed_and_id_alone(tmp_path):
    reports = [_report(number) for number in range(1, 31)]
    first = _openi_folder(tmp_path / "a", reports)
    second = _openi_folder(tmp_path / "b", reversed(reports))

    def groups(folder, split, **options):
        return set(read_iu_xray(folder, split, **options).rows["group"])

    for split, size in (("train", 21), ("val", 3), ("test", 6)):
        assert groups(first, split) == groups(second, split) and len(groups(first, split)) == size
        assert groups(first, split) == groups(first, split, split_by="seed", section="both")
    assert groups(first, "test", seed=1) != groups(first, "test")


def test_small_oddities_of_reports(tmp_path):
    odd = [
        _report(1, ids='<pmcId id="1"/>'),
        _report(2, start="\ufeff<?xml version='1.0' encoding='utf-8'?>"),
        _report(3, findings="Size &lt; 2 cm, <b>clear</b>\n  lungs."),
        _report(4, start='<?xml version="1.0" encoding="utf-16"?>'),
        _report(5).replace("FINDINGS", "findings"),
        *(_report(number) for number in range(6, 11)),
    ]
    folder = _openi_folder(tmp_path, odd)
    (folder / "ecgen-radiology" / "._1.xml").write_bytes(b"\x00\x05\x16\x07 left by a Mac")
    rows = [row for split in ("train", "val", "test") for row in read_iu_xray(folder, split).rows]
    assert {row["group"] for row in rows} == {f"CXR{number}" for number in range(1, 11)}
    assert {row["answer"] for row in rows if row["group"] == "CXR3"} == {"Size < 2 cm, clear lungs."}


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
MALFORMED_REPORTS = {
    "a billion laughs": (
        _report(2, findings="&l9;", start=f'<!DOCTYPE eCitation [<!ENTITY l0 "ha">{LAUGHS}]>'),
        "2.xml: line 1: <!DOCTYPE refused",
    ),
    "a file from outside": (
        _report(2, findings="&x;", start='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "<!DOCTYPE refused",
    ),
    "a document type elsewhere": (_report(2, start='\n\n<!DOCTYPE a SYSTEM "http://x/a.dtd">'), "line 3: <!DOCTYPE"),
    "a document type in another encoding": (
        _report(2, start='<?xml version="1.0" encoding="utf-16"?><!DOCTYPE eCitation []>').encode("utf-16"),
        "2.xml: not UTF-8 text",
    ),
    "an entity that nobody declared": (_report(2, findings="&x;"), "2.xml: not well-formed XML (undefined entity"),
    "cut": (_report(2)[:-30], "2.xml: not well-formed XML"),
    "empty": ("", "2.xml: not well-formed XML (no element found"),
    "not UTF-8": (_report(2).encode().replace(b"Invented", b"\xe9"), "2.xml: not UTF-8 text (byte"),
    "something else": (_report(2, root="svg"), "the outermost element is 'svg', expected 'eCitation'"),
    "no id": (_report(2, ids="<uId/>"), "neither uId nor pmcId has an id"),
    "id twice": (_report(1, pictures=0), "study 'CXR1' occurs twice, first in"),
    "picture without id": (_report(2, pictures="<parentImage/>"), "2.xml: a parentImage has no id"),
    "picture twice": (_report(2, pictures='<parentImage id="CXR1_IM-0"/>'), "picture 'CXR1_IM-0.png' occurs twice"),
    "dots": (_report(2, pictures='<parentImage id="../x"/>'), "picture '../x.png' leads out"),
    "absolute": (_report(2, pictures='<parentImage id="/x"/>'), "picture '/x.png' leads out"),
}


@pytest.mark.parametrize("case", MALFORMED_REPORTS)
def test_malformed_reports(case, tmp_path):
    report, message = MALFORMED_REPORTS[case]
    folder = _openi_folder(tmp_path, [_report(1), report, _report(3)])
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_iu_xray(folder, max_left_out=1.0)
    assert "\n" not in str(caught.value) and "2.xml" in str(caught.value)


def test_reports_in_two_places(tmp_path):
    _openi_folder(tmp_path, [_report(1)])
    _openi_folder(tmp_path, [_report(1)], place="")
    with pytest.raises(ValueError, match="both this folder and ecgen-radiology/ in it hold XML reports"):
        read_iu_xray(tmp_path)


# Kaggle's form, drawn

REPORT_COLUMNS = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]


def _kaggle_folder(folder, reports, projections, place="images/images_normalized"):
    for name, header, rows in (
        ("indiana_reports.csv", REPORT_COLUMNS, reports),
        ("indiana_projections.csv", ["uid", "filename", "projection"], projections),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, bytes):
            (folder / name).write_bytes(rows)
            continue
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([header, *rows])
        for _, file, *_ in rows if name == "indiana_projections.csv" else ():
            if re.fullmatch(r"[\w.-]+\.png", file):
                _draw(folder / place / file)
    return folder


def _kaggle_report(uid, findings="Invented, quoted\nfindings XXXX.", impression="Invented."):
    return [uid, "normal", "normal", "Xray Chest PA and Lateral", "Cough", "None.", findings, impression]


KAGGLE_REPORTS = [_kaggle_report(uid, findings="" if uid == 4 else "Clear, XXXX\nlungs.") for uid in range(1, 11)]
KAGGLE_PROJECTIONS = [
    [uid, f"{uid}_IM-0{view}.dcm.png", kind]
    for uid in range(1, 11)
    for view, kind in enumerate(("Lateral", "Frontal"))
    if uid != 5
]


def _kaggle(folder, **options):
    return [read_iu_xray(folder, split, **options) for split in ("train", "val", "test")]


@pytest.mark.parametrize("place", ["images/images_normalized", "images"])
def test_kaggle(tmp_path, place):
    folder = _kaggle_folder(tmp_path, KAGGLE_REPORTS, [*KAGGLE_PROJECTIONS, [77, "77_IM.png", ""]], place)
    parts = _kaggle(folder)
    rows = [row for part in parts for row in part.rows]
    assert {part.variant for part in parts} == {"kaggle"} and {part.pictures for part in parts} == {(folder / place,)}
    assert len(rows) == 16, "ten reports, one without findings, one without pictures, two views each"
    row = next(row for row in rows if row["id"] == "kaggle-1_IM-01")
    assert (row["group"], row["phrase_type"], row["answer"]) == ("CXR1", "frontal", "Clear, XXXX lungs.")
    assert open_image(row["image"]).size == (4, 4)
    notes = " ".join(note for part in parts for note in part.notes)
    assert "1 pictures in the files belong to no report" in notes and "published were 3,851 studies" in notes
    assert len(re.findall("1 of . reports have no findings", notes)) == 1
    assert len(re.findall("1 more of . reports have no picture", notes)) == 1


def test_kaggle_study_takes_the_first_frontal_picture(tmp_path):
    folder = _kaggle_folder(tmp_path, KAGGLE_REPORTS, [*KAGGLE_PROJECTIONS[:-1], [10, "odd.png", "Lateral"]])
    rows = {row["id"]: row for part in _kaggle(folder, samples="study") for row in part.rows}
    assert len(rows) == 8
    assert rows["kaggle-CXR1"]["image"]["path"].endswith("1_IM-01.dcm.png"), "the frontal one, named second"
    assert rows["kaggle-CXR10"]["image"]["path"].endswith("10_IM-00.dcm.png"), "no frontal one: the first"
    assert rows["kaggle-CXR10"]["phrase_type"] == "lateral"


def test_kaggle_sections(tmp_path):
    reports = [
        _kaggle_report(1, "Clear.", "Normal."),
        _kaggle_report(2, "", "Normal."),
        _kaggle_report(3, "Clear.", ""),
    ]
    reports += [_kaggle_report(uid) for uid in range(4, 11)]
    folder = _kaggle_folder(tmp_path, reports, KAGGLE_PROJECTIONS)
    parts = _kaggle(folder, section="both", samples="study")
    answers = {row["group"]: row["answer"] for part in parts for row in part.rows}
    assert [answers[f"CXR{n}"] for n in (1, 2, 3)] == ["Clear. Normal.", "Normal.", "Clear."]
    single = [note for part in parts for note in part.notes if "only one of the two sections" in note]
    assert sum(int(note.split()[0]) for note in single) == 2


def test_kaggle_pictures_missing_and_empty(tmp_path):
    folder = _kaggle_folder(tmp_path, KAGGLE_REPORTS, KAGGLE_PROJECTIONS)
    whole = read_iu_xray(folder)
    first, second = (row["image"]["path"].rpartition("/")[2] for row in whole.rows.select([0, 1]))
    (folder / "images" / "images_normalized" / first).unlink()
    (folder / "images" / "images_normalized" / second).write_bytes(b"")
    with pytest.raises(
        ValueError, match=rf"2 of {len(whole.rows)} rows cannot be used \(1 picture missing, 1 picture"
    ):
        read_iu_xray(folder)
    found = read_iu_xray(folder, max_left_out=0.5)
    assert found.in_files == len(whole.rows) == len(found.rows) + 2
    assert [(item.reason, item.file.rpartition("/")[2]) for item in found.left_out] == [
        ("picture missing", first),
        ("picture empty", second),
    ]


def _csv(header, *lines):
    return "\n".join([header, *lines]).encode()


HEADER = ",".join(REPORT_COLUMNS)
VIEWS = "uid,filename,projection"
MALFORMED_TABLES = {
    "semicolons": (_csv(HEADER.replace(",", ";")), None, "reports.csv: line 1: lacks the column 'uid'"),
    "tabs": (None, _csv(VIEWS.replace(",", "\t")), "projections.csv: line 1: lacks the column 'uid'"),
    "no impression": (_csv(HEADER[:-11]), None, "reports.csv: line 1: lacks the column 'impression'"),
    "no header": (None, b"1,1_IM-00.png,Frontal", "projections.csv: line 1: lacks the column 'uid'"),
    "empty file": (b"", None, "reports.csv: line 1: lacks the column 'uid'"),
    "cut line": (_csv(HEADER, "1,a,b,c,d,e,f,g", "2,normal,no"), None, "reports.csv: line 3: 3 values for 8 columns"),
    "bare comma": (_csv(HEADER, "1,a,b,c,d,e,f,g,h"), None, "reports.csv: line 2: 9 values for 8 columns"),
    "cut in quotes": (_csv(HEADER, '1,a,b,c,d,e,f,"no end'), None, "line 2: unexpected end of data"),
    "not UTF-8": (_csv(HEADER, "1,a,b,c,d,e,f,g").replace(b"f,", b"\xe9,"), None, "reports.csv: not UTF-8 text"),
    "uid is text": (_csv(HEADER, "one,a,b,c,d,e,f,g"), None, "reports.csv: line 2: uid is 'one', expected a number"),
    "uid is empty": (None, _csv(VIEWS, ",a.png,Frontal"), "projections.csv: line 2: uid is ''"),
    "uid twice": ([KAGGLE_REPORTS[0]] * 2, None, "study 'CXR1' occurs twice, first in"),
    "picture twice": (
        None,
        [[1, "a.png", "Frontal"], [2, "a.png", "Frontal"]],
        "line 3: picture 'a.png' occurs twice",
    ),
    "other projection": (None, [[1, "a.png", "Oblique"]], "line 2: projection is 'Oblique', expected Frontal or"),
    "dots": (None, [[1, "../a.png", "Frontal"]], "projections.csv: line 2: picture '../a.png' leads out"),
    "absolute": (None, [[1, "C:\\a.png", "Frontal"]], "projections.csv: line 2: picture 'C:"),
    "no file name": (None, [[1, " ", "Frontal"]], "projections.csv: line 2: picture '' leads out"),
}


@pytest.mark.parametrize("case", MALFORMED_TABLES)
def test_malformed_tables(case, tmp_path):
    reports, projections, message = MALFORMED_TABLES[case]
    reports = KAGGLE_REPORTS if reports is None else reports
    folder = _kaggle_folder(tmp_path, reports, KAGGLE_PROJECTIONS if projections is None else projections)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_iu_xray(folder, max_left_out=1.0)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_pictures_in_deeper_folders(tmp_path):
    projections = [[uid, f"deeper/{uid}.png", "Frontal"] for uid in range(1, 11)]
    folder = _kaggle_folder(tmp_path, KAGGLE_REPORTS, projections)
    with pytest.raises(
        ValueError, match=r"picture missing; first kaggle-deeper/\d images/images_normalized/deeper/\d"
    ):
        read_iu_xray(folder)
    for _, name, _ in projections:
        _draw(folder / "images" / name)
    assert sum(len(part.rows) for part in _kaggle(folder)) == 9


def test_a_split_without_any_text(tmp_path):
    folder = _kaggle_folder(tmp_path, [_kaggle_report(uid, findings="") for uid in range(1, 11)], KAGGLE_PROJECTIONS)
    with pytest.raises(
        ValueError, match="val: none of 1 studies has both findings and a picture; choose another sect"
    ):
        read_iu_xray(folder, "val")
    assert sum(len(part.rows) for part in _kaggle(folder, section="impression")) == 18


# Folders and options


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="iu_xray: data_dir .* does not exist"):
        read_iu_xray(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="is a file; name the folder"):
        read_iu_xray(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"no IU-Xray; expected annotation.json \(R2Gen\), ecgen-radiology/"):
        read_iu_xray(tmp_path)
    folder = _kaggle_folder(tmp_path / "both", KAGGLE_REPORTS, KAGGLE_PROJECTIONS)
    _r2gen_folder(folder, _rows())
    with pytest.raises(ValueError, match="in the forms r2gen and kaggle; choose one with variant"):
        read_iu_xray(folder)
    assert read_iu_xray(folder, variant="kaggle").variant == "kaggle"
    assert read_iu_xray(folder, variant="r2gen").variant == "r2gen"
    with pytest.raises(FileNotFoundError, match="no IU-Xray in the form 'openi'"):
        read_iu_xray(folder, variant="openi")
    (folder / "indiana_projections.csv").unlink()
    with pytest.raises(FileNotFoundError, match="indiana_projections.csv: no such file; the Kaggle form needs"):
        read_iu_xray(folder, variant="kaggle")


@pytest.mark.parametrize(
    "options",
    [
        {"split": "dev"},
        {"variant": "mimic"},
        {"section": "report"},
        {"samples": "patient"},
        {"split_by": "patient"},
        {"seed": 1.5},
        {"seed": True},
    ],
)
def test_wrong_options(options, tmp_path):
    folder = _r2gen_folder(tmp_path, _rows())
    with pytest.raises(ValueError, match=f"iu_xray: .*{next(iter(options.values()))}"):
        read_iu_xray(folder, **options)
