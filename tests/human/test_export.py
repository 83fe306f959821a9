"""Rating sheets out: who sees what, in which order, and what no sheet may hold."""

import hashlib
import io
import json
import zipfile

import pytest
from openpyxl import load_workbook
from PIL import Image

from pefomed.disclosure import AGREEMENTS
from pefomed.human.chosen_rows import Selection
from pefomed.human.rubric import RUBRICS
from pefomed.human.sheet_export import export_sheets
from pefomed.human.sheets import CELL_LIMIT, SCALES, canonical, cell_text, fingerprint, read_key
from pefomed.predictions import write_predictions

ALL = Selection(rejected_only=False)
HOSTILE = (
    *(
        "=1+1",
        '=HYPERLINK("http://127.0.0.1","x")',
        "+1",
        "-lung",
        "@SUM(A1)",
        "'quoted",
        "#N/A",
        "TRUE",
        "007",
        "1/2",
    ),
    *(
        "bell \x07 here",
        "nul \x00",
        "a\x0bb",
        "\ufffe\uffff",
        "a\rb\r\nc",
        "_x0041_",
        "<b>&amp;</b>",
        "肺 左",
        "🫁" * 3,
    ),
    *("  padded  ", "", " \n ", "]]>", "a" * 40_000, "🫁" * 20_000, "line\n" * 300),
)


def vqa(name, prediction="right lung", answer="left lung", **others):
    row = {"id": name, "task": "vqa", "question": "Where is it?", "answer": answer, "prediction": prediction}
    return {**row, "model": "secret-model-7b", "condition": "stage1+2", "answer_type": "open", **others}


def picture(colour="red", size=(600, 300)):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def made(folder, rows, raters=2, selection=None, **options):
    path = write_predictions(folder / "predictions.jsonl", rows)
    return export_sheets(path, rows[0]["task"], folder / "sheets", raters, selection, **options)


def ratings(path):
    return load_workbook(path)["Ratings"]


def texts(path, title="Answer to judge"):
    rows = list(ratings(path).iter_rows(values_only=True))
    return [row[rows[0].index(title)] for row in rows[1:]]


def test_only_what_exact_match_rejects(tmp_path):
    rows = [vqa("a"), vqa("b", "The left lung."), vqa("c", "left LUNG"), vqa("d", "liver")]
    summary = made(tmp_path, rows)
    assert (summary.rows, summary.accepted) == (2, 2)
    assert sorted(texts(summary.sheets[0])) == ["liver", "right lung"]
    assert "left out: 2 predictions that exact match accepts" in str(summary)
    whole = made(tmp_path, rows, selection=ALL, overwrite=True)
    assert (whole.rows, whole.accepted) == (4, 0)


def test_the_normaliser_decides_what_is_rejected(tmp_path):
    rows = [vqa("a", "3.5cm", "3.5 cm"), vqa("b")]
    assert made(tmp_path, rows).rows == 2
    assert made(tmp_path, rows, selection=Selection(normaliser="repaired"), overwrite=True).rows == 1


def test_reports_are_all_shown(tmp_path):
    same = {"id": "a", "task": "report", "answer": "Clear lungs.", "prediction": "Clear lungs."}
    summary = made(tmp_path, [same, {**same, "id": "b", "prediction": "Effusion."}])
    assert summary.rows == 2
    header = [cell.value for cell in ratings(summary.sheets[0])[1]]
    assert header == ["Code", "No.", "Reference", "Answer to judge", "Score"]  # nobody asked a question
    assert read_key(summary.key).settings["rejected_only"] is False


def test_no_sheet_tells_the_model(tmp_path):
    first = [vqa(f"id-of-row-{number}", f"liver {number}") for number in range(8)]
    second = [{**row, "model": "other-model", "condition": "zero_shot", "prediction": "spleen"} for row in first]
    paths = [write_predictions(tmp_path / f"{name}.jsonl", rows) for name, rows in (("one", first), ("two", second))]
    pictures = {row["id"]: picture() for row in first}
    summary = export_sheets(paths, "vqa", tmp_path / "sheets", 2, pictures=pictures)
    assert summary.rows == 16
    secrets = [
        b"secret-model",
        b"other-model",
        b"stage1",
        b"zero_shot",
        b"id-of-row",
        b"jsonl",
        str(tmp_path).encode(),
    ]
    for sheet in summary.sheets:
        with zipfile.ZipFile(sheet) as archive:
            everything = [name.encode() + archive.read(name) for name in archive.namelist()]
        assert len(everything) > 10
        found = [secret for secret in secrets for part in everything if secret in part]
        assert not found
        properties = load_workbook(sheet).properties
        told = (properties.title, properties.subject, properties.keywords, properties.lastModifiedBy)
        assert (properties.creator, *told) == ("pefomed", None, None, None, None)
        # the two models' answers are mixed, not one after the other
        assert len({text == "spleen" for text in texts(sheet)[:8]}) == 2


def test_each_rater_has_an_order_and_codes_of_their_own(tmp_path):
    rows = [vqa(f"{number}", f"liver {number}") for number in range(30)]
    summary = made(tmp_path, rows, ["Jane Roe", "omar"])
    jane, omar = summary.sheets
    assert (jane.name, omar.name) == ("ratings_jane_roe.xlsx", "ratings_omar.xlsx")
    assert texts(jane) != texts(omar)
    assert sorted(texts(jane)) == sorted(texts(omar)) == sorted(row["prediction"] for row in rows)
    assert texts(jane) != [row["prediction"] for row in rows]
    assert not set(texts(jane, "Code")) & set(texts(omar, "Code"))
    before = texts(jane)
    assert texts(made(tmp_path, rows, ["Jane Roe"], Selection(seed=1), overwrite=True).sheets[0]) != before
    assert "Jane Roe" in [cell.value for row in load_workbook(omar)["Instructions"].iter_rows() for cell in row] + [
        cell.value for row in load_workbook(jane)["Instructions"].iter_rows() for cell in row
    ]


def test_the_key_says_what_each_code_stands_for(tmp_path):
    rows = [vqa("a", "liver"), vqa("b", "left lung"), vqa("c", "spleen")]
    summary = made(tmp_path, rows)
    assert summary.key == tmp_path / "key.json"
    key = read_key(summary.key)
    content = (tmp_path / "predictions.jsonl").read_bytes()
    assert [one.sha256 for one in key.predictions] == [hashlib.sha256(content).hexdigest()]
    assert key.task == "vqa"
    for rater, sheet in zip(("rater 1", "rater 2"), summary.sheets, strict=True):
        ids = [key.items[key.codes[rater][code]].id for code in texts(sheet, "Code")]
        answers = {row["id"]: row["prediction"] for row in rows}
        assert [answers[name] for name in ids] == texts(sheet)
    assert list(key.codes["rater 1"]) == texts(summary.sheets[0], "Code")


def test_equal_arguments_give_equal_bytes(tmp_path):
    rows = [vqa("a"), vqa("b", "=1")]
    path = write_predictions(tmp_path / "p.jsonl", rows)
    both = [
        export_sheets(path, "vqa", tmp_path / name / "sheets", 2, pictures={"a": picture()}) for name in ("one", "two")
    ]
    for first, second in zip(both[0].sheets, both[1].sheets, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert both[0].key.read_bytes() == both[1].key.read_bytes()
    with zipfile.ZipFile(both[0].sheets[0]) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {2000}


def test_any_text_comes_through_as_text(tmp_path):
    summary = made(tmp_path, [vqa(str(number), text) for number, text in enumerate(HOSTILE)], 1, ALL)
    assert summary.rows == len(HOSTILE)
    assert summary.cut == 2
    assert summary.replaced == sum(text.count(c) for text in HOSTILE for c in "\x07\x00\x0b\ufffe\uffff")
    sheet = ratings(summary.sheets[0])
    key = read_key(summary.key)
    for line in sheet.iter_rows(min_row=2):
        text = HOSTILE[int(key.items[key.codes["rater 1"][line[0].value]].id)]
        cell = line[4]
        assert cell.data_type == "s"
        assert len(cell.value.encode("utf-16-le")) // 2 <= CELL_LIMIT
        if text and text[0] in "=+-@'":
            assert cell.quotePrefix
        if len(text) > 10_000:
            assert cell.value.endswith(" [cut]")
            assert cell.value[:10_000] == text[:10_000]
        elif text.strip():
            assert canonical(cell.value) == canonical(cell_text(text).text)
        else:
            assert cell.value == "(empty)"
    # no formula anywhere, by the file's own bytes
    with zipfile.ZipFile(summary.sheets[0]) as archive:
        parts = [archive.read(name) for name in archive.namelist() if name.startswith("xl/worksheets/")]
    assert len(parts) == 2
    assert not [part for part in parts if b"<f>" in part or b"<f " in part]


@pytest.mark.parametrize("text", ["_x0041_", "_x005F_", "x_x000D_y", "_x0041_x0042_"])
def test_what_looks_like_an_escape_is_escaped(text):
    shown = cell_text(text).text
    assert "_x005F_" in shown
    assert fingerprint("", "", shown) == fingerprint("", "", cell_text(text).text)


def test_the_longest_text_fits_and_one_more_is_cut():
    assert cell_text("a" * CELL_LIMIT) == cell_text("a" * CELL_LIMIT)
    assert not cell_text("a" * CELL_LIMIT).cut
    longer = cell_text("a" * (CELL_LIMIT + 1))
    assert longer.cut
    assert len(longer.text) == CELL_LIMIT


@pytest.mark.parametrize("task", ["vqa", "report"])
def test_cells_take_scores_only_and_the_rest_is_locked(tmp_path, task):
    summary = made(tmp_path, [{**vqa("a"), "task": task}, {**vqa("b"), "task": task}], 1)
    sheet = ratings(summary.sheets[0])
    (validation,) = sheet.data_validations.dataValidation
    assert validation.type == "list"
    assert validation.formula1.strip('"').split(",") == [str(score) for score in SCALES[task]]
    assert str(validation.sqref) == "F2:F3"
    assert validation.showErrorMessage
    assert validation.errorStyle == "stop"
    assert "blank" in validation.error
    assert sheet.freeze_panes == "C2"
    assert sheet.protection.sheet
    locked = {cell.column_letter: cell.protection.locked for cell in sheet[2]}
    assert locked == {"A": True, "B": True, "C": True, "D": True, "E": True, "F": False}
    assert all(cell.alignment.wrap_text for cell in sheet[2][2:5])
    told = " ".join(str(c) for row in load_workbook(summary.sheets[0])["Instructions"].values for c in row if c)
    assert all(level.meaning in told and level.applies in told for level in RUBRICS[task])
    assert tuple(level.score for level in RUBRICS[task]) == SCALES[task]


def test_a_sample_draws_the_same_ids_of_every_model(tmp_path):
    names = [f"{number}" for number in range(40)]
    paths = [
        write_predictions(tmp_path / f"{model}.jsonl", [vqa(name, f"{model} {name}") for name in names])
        for model in ("liver", "spleen")
    ]
    summary = export_sheets(paths, "vqa", tmp_path / "sheets", 1, Selection(sample=10, seed=3))
    assert (summary.rows, summary.not_sampled) == (20, 60)
    drawn = [{item.id for item in read_key(summary.key).items if item.predictions == number} for number in (0, 1)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 10
    other = export_sheets(paths, "vqa", tmp_path / "b" / "sheets", 1, Selection(sample=10, seed=4))
    assert {item.id for item in read_key(other.key).items} != drawn[0]


def test_pictures_small_and_without_metadata(tmp_path):
    exif = Image.Exif()
    exif[270] = "Jane Roe, born 1970"
    out = io.BytesIO()
    Image.new("RGB", (900, 600), "blue").save(out, "JPEG", exif=exif)
    assert b"Jane Roe" in out.getvalue()
    summary = made(tmp_path, [vqa("a"), vqa("b"), vqa("c")], 1, pictures={"a": out.getvalue(), "b": picture()})
    assert summary.pictures == 2
    sheet = ratings(summary.sheets[0])
    assert [cell.value for cell in sheet[1]][2] == "Picture"
    assert sorted((image.width, image.height) for image in sheet._images) == [(320, 160), (320, 213)]
    shown = {image.anchor._from.row for image in sheet._images}
    key = read_key(summary.key)
    assert {key.items[key.codes["rater 1"][sheet.cell(row + 1, 1).value]].id for row in shown} == {"a", "b"}
    with zipfile.ZipFile(summary.sheets[0]) as archive:
        media = [archive.read(name) for name in archive.namelist() if name.startswith("xl/media/")]
    assert len(media) == 2
    assert not [part for part in media if b"Jane Roe" in part]


def test_pictures_of_a_folder_by_id_or_group(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("a.png", "deep/scan7.jpg", "one/twice.png", "two/twice.png", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())
    rows = [
        vqa("a"),
        vqa("b", group="scan7.jpg"),
        vqa("c", group="deep/scan7"),
        vqa("d", group="twice"),  # nobody can tell which
        vqa("../pictures/a"),  # out of the folder and in again
        vqa("notes"),
    ]
    assert made(tmp_path, rows, 1, pictures=folder).pictures == 3


def test_pictures_that_may_not_be_handed_on_stay_out(tmp_path):
    rows = [vqa("a"), vqa("b", dataset="path_vqa"), vqa("c", dataset="vqa_rad"), vqa("d", dataset="mimic_cxr")]
    pictures = {
        row["id"]: picture(colour) for row, colour in zip(rows, ("red", "blue", "green", "black"), strict=True)
    }
    agreement = AGREEMENTS["mimic_cxr"]
    summary = made(tmp_path, rows, 1, pictures=pictures, agreement=agreement)
    assert (summary.pictures, summary.withheld) == (2, 2)
    assert "withheld: 2 rows" in str(summary)
    assert len(ratings(summary.sheets[0])._images) == 2


@pytest.mark.parametrize("agreement", ["", "yes", "mimic_cxr"])
def test_credentialed_rows_are_refused(tmp_path, agreement):
    rows = [vqa("a"), vqa("b", dataset="mimic_cxr")]
    with pytest.raises(ValueError, match="refused to write rating sheets: row 'b' is of mimic_cxr"):
        made(tmp_path, rows, 1, agreement=agreement)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.jsonl"]


def test_sheets_are_not_overwritten(tmp_path):
    rows = [vqa("a"), vqa("b")]
    first = made(tmp_path, rows)
    filled = load_workbook(first.sheets[0])
    filled["Ratings"]["F2"] = 1
    filled.save(first.sheets[0])
    before = first.sheets[0].read_bytes()
    with pytest.raises(ValueError, match=r"holds ratings_rater_1\.xlsx, ratings_rater_2\.xlsx, in which a rater may"):
        made(tmp_path, rows)
    with pytest.raises(ValueError, match="in which a rater may"):
        made(tmp_path, rows, ["jane"])
    assert first.sheets[0].read_bytes() == before
    made(tmp_path, rows, overwrite=True)
    assert first.sheets[0].read_bytes() != before


def test_a_stopped_export_goes_on_and_leaves_what_is_filled(tmp_path):
    rows = [vqa("a"), vqa("b")]
    first = made(tmp_path, rows, 3)
    whole = [path.read_bytes() for path in first.sheets]
    first.sheets[1].unlink()
    first.sheets[0].write_bytes(b"as a rater left it")
    again = made(tmp_path, rows, 3)
    assert again.kept == 2
    assert [path.read_bytes() for path in again.sheets] == [b"as a rater left it", whole[1], whole[2]]
    first.sheets[1].unlink()
    with pytest.raises(ValueError, match="in which a rater may"):
        made(tmp_path, rows, 3, Selection(seed=5))  # another export


def test_the_key_of_other_sheets_is_not_overwritten(tmp_path):
    made(tmp_path, [vqa("a")])
    with pytest.raises(ValueError, match=r"key\.json: is the key of other sheets"):
        export_sheets(tmp_path / "predictions.jsonl", "vqa", tmp_path / "more", 3)
    assert not (tmp_path / "more").exists()
    named = export_sheets(tmp_path / "predictions.jsonl", "vqa", tmp_path / "more", 3, key=tmp_path / "more.json")
    assert named.key == tmp_path / "more.json"


def test_a_file_that_is_no_key_is_not_taken_for_one(tmp_path):
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(ValueError, match="is the key of other sheets"):
        made(tmp_path, [vqa("a")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raters": 0}, "raters must be from 1 to 1,000, not 0"),
        ({"raters": -3}, "not -3"),
        ({"raters": True}, "not True"),
        ({"raters": "jane"}, "not 'jane'"),
        ({"raters": []}, r"not \[\]"),
        ({"raters": ["jane", " "]}, "' ' is no name"),
        ({"raters": ["jane", "x" * 61]}, "is no name"),
        ({"raters": ["a\nb"]}, "is no name"),
        ({"raters": ["Jane", "jane"]}, "'jane' and 'Jane' would share one file"),
        ({"raters": ["a b", "a/b"]}, "would share one file"),
        ({"selection": Selection(sample=9)}, "sample: 9 ids wanted, but only 2 are there"),
        ({"key": "sheets/key.json"}, "lies in the folder of the sheets"),
        ({"key": "."}, "is a folder; name a file"),
        ({"pictures": "nowhere"}, "nowhere: no such folder"),
        ({"pictures": {"a": "a.png"}}, "'a' is str, not the bytes of a file"),
        ({"pictures": {"a": b"no picture"}}, "picture of 'a'"),
    ],
)
def test_mistakes(tmp_path, options, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_predictions("predictions.jsonl", [vqa("a"), vqa("b")])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export_sheets("predictions.jsonl", "vqa", "sheets", **{"raters": 2, **options})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": -1}, "sample must be a whole number from 0, not -1"),
        ({"sample": 1.5}, "not 1.5"),
        ({"sample": True}, "not True"),
        ({"seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"normaliser": "strict"}, "normaliser must be medvqa or repaired, not 'strict'"),
    ],
)
def test_mistakes_in_the_selection(changes, message):
    with pytest.raises(ValueError, match=message):
        Selection(**changes)


def test_mistakes_in_the_predictions(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl", [vqa("a", "left lung")])
    copy = write_predictions(tmp_path / "q.jsonl", [vqa("a", "left lung")])
    with pytest.raises(ValueError, match="exact match accepts all 1 answers"):
        export_sheets(path, "vqa", tmp_path / "sheets")
    with pytest.raises(ValueError, match=r"row 1: task 'vqa' is not 'report'"):
        export_sheets(path, "report", tmp_path / "sheets")
    with pytest.raises(ValueError, match="task must be vqa or report, not 'caption'"):
        export_sheets(path, "caption", tmp_path / "sheets")
    with pytest.raises(ValueError, match=r"q\.jsonl: holds the same as .*p\.jsonl"):
        export_sheets([path, copy], "vqa", tmp_path / "sheets")
    with pytest.raises(ValueError, match="no file given"):
        export_sheets([], "vqa", tmp_path / "sheets")
    with pytest.raises(FileNotFoundError, match="nothing.jsonl"):
        export_sheets(tmp_path / "nothing.jsonl", "vqa", tmp_path / "sheets")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        export_sheets(path, "vqa", tmp_path / "file")


def test_sheets_in_the_working_folder_have_their_key_outside(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_predictions("p.jsonl", [vqa("a")])
    summary = export_sheets("p.jsonl", "vqa", ".", 1)
    assert summary.key == tmp_path / "key.json"
    assert json.loads(summary.key.read_text())["task"] == "vqa"
