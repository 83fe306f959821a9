"""Rating sheets in: what is accepted, and every way in which a sheet can be wrong."""

import csv
import datetime
import io
import json
import random
import re
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from openpyxl import Workbook, load_workbook

from pefomed.human import sheet_read
from pefomed.human.chosen_rows import Selection
from pefomed.human.sheet_export import export_sheets
from pefomed.human.sheet_import import SheetFaults, import_sheets
from pefomed.human.sheets import read_key
from pefomed.predictions import write_predictions

N = 6
SCORE = "F"  # Code, No., Question, Reference, Answer to judge, Score


def prediction(number, task="vqa", text="right lung"):
    answer = "left lung, 3.50 cm;\nupper lobe"
    return {"id": f"q{number}", "task": task, "question": "Where?", "answer": answer, "prediction": f"{text} {number}"}


def export(folder, task="vqa", raters=3, **options):
    path = write_predictions(folder / "predictions.jsonl", [prediction(number, task) for number in range(N)])
    return export_sheets(path, task, folder / "sheets", raters, **options)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The bytes of an export of six answers to three raters."""
    folder = tmp_path_factory.mktemp("originals")
    summary = export(folder)
    return SimpleNamespace(sheets=[path.read_bytes() for path in summary.sheets], key=summary.key.read_bytes())


@pytest.fixture
def given(tmp_path, originals):
    """The same files in a folder of the test's own: three sheets and their key."""
    paths = [tmp_path / f"ratings_rater_{number}.xlsx" for number in (1, 2, 3)]
    for path, data in zip(paths, originals.sheets, strict=True):
        path.write_bytes(data)
    (tmp_path / "key.json").write_bytes(originals.key)
    return SimpleNamespace(sheets=paths, key=tmp_path / "key.json", out=tmp_path / "ratings.jsonl", folder=tmp_path)


def change(path, edit):
    book = load_workbook(path)
    edit(book["Ratings"])
    book.save(path)
    return path


def fill(path, scores=(1, 0, 1, 1, 0, 1)):
    def edit(sheet):
        for row, score in enumerate(scores, start=2):
            sheet[f"{SCORE}{row}"] = score

    return change(path, edit)


def as_csv(path, delimiter=",", encoding="utf-8-sig", ending="\r\n"):
    """A CSV as spreadsheet programs save it: every cell as it is shown."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ending)
    for row in load_workbook(path)["Ratings"].iter_rows(values_only=True):
        writer.writerow(["" if value is None else value for value in row])
    target = path.with_suffix(".csv")
    target.write_bytes(out.getvalue().encode(encoding))
    return target


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def faults_of(given, sheets=None):
    with pytest.raises(SheetFaults) as caught:
        import_sheets(sheets or given.sheets[:1], given.key, given.out)
    assert not list(given.folder.glob("ratings*.jsonl")), "something was written"
    return caught.value


# ---- what is accepted -----------------------------------------------------------------------------------------------
def test_scores_reach_their_predictions(given):
    key = read_key(given.key)
    wanted = {}
    for rater, path in zip(key.codes, given.sheets, strict=True):
        scores = [random.Random(rater).randint(0, 1) for _ in range(N)]
        fill(path, scores)
        for place, (index, score) in enumerate(zip(key.codes[rater].values(), scores, strict=True), start=2):
            wanted[key.items[index].id, rater] = (score, path.name, f"{SCORE}{place}")
    summary = import_sheets(given.sheets, given.key, given.out)
    rows = read(given.out)
    assert {(row["id"], row["rater"]): (row["score"], row["sheet"], row["cell"]) for row in rows} == wanted
    assert [(row["id"], row["rater"]) for row in rows] == [
        (f"q{n}", f"rater {r}") for n in range(N) for r in (1, 2, 3)
    ]
    assert list(rows[0]) == ["id", "rater", "score", "sheet", "cell"]
    assert summary.ratings == 18
    assert str(summary).splitlines()[0] == "rater 1: 6 of 6 rated"


def test_partly_filled_sheets_and_absent_raters(given):
    fill(given.sheets[0], (1, None, "  ", 0, "", 1))
    summary = import_sheets(given.sheets[:2], given.key, given.out)
    assert len(read(given.out)) == 3
    lines = str(summary).splitlines()
    assert lines[0] == "rater 1: 3 of 6 rated; blank in ratings_rater_1.xlsx: rows 3, 4, 6"
    assert lines[1] == "rater 2: 0 of 6 rated; blank in ratings_rater_2.xlsx: rows 2, 3, 4, 5, 6, 7"
    assert lines[2] == "rater 3: no sheet given"


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1 ", "1.0", "\u00a01"])
def test_ways_of_writing_one(given, value):
    fill(given.sheets[0], (value,))
    import_sheets(given.sheets[:1], given.key, given.out)
    assert [row["score"] for row in read(given.out)] == [1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_csv_says_what_the_sheet_says(given, delimiter, encoding, ending):
    fill(given.sheets[0])
    import_sheets(given.sheets[:1], given.key, given.out)
    wanted = [{**row, "sheet": "ratings_rater_1.csv"} for row in read(given.out)]
    import_sheets([as_csv(given.sheets[0], delimiter, encoding, ending)], given.key, given.out)
    assert read(given.out) == wanted


def test_programs_may_change_what_does_not_matter(given):
    def edit(sheet):
        sheet.protection.sheet = False
        sheet.column_dimensions["A"].hidden = True
        sheet["H3"] = "my own note beside the table"
        sheet["E2"] = f"  {sheet['E2'].value}\r\n"
        sheet["E3"] = sheet["E3"].value.replace("\n", "_x000D_\n")
        sheet.append([])

    fill(change(given.sheets[0], edit))
    book = load_workbook(given.sheets[0])
    book.create_sheet("Notes").merge_cells("A1:B2")
    del book["Instructions"]
    book.save(given.sheets[0])
    assert import_sheets(given.sheets[:1], given.key, given.out).ratings == N


def test_texts_in_a_table_of_their_own(given):
    given.sheets[0].write_bytes(with_shared_strings(fill(given.sheets[0]).read_bytes()))
    assert import_sheets(given.sheets[:1], given.key, given.out).ratings == N


def test_hostile_texts_come_back_unchanged(tmp_path):
    texts = ("=1+1", "\x07 bell", "_x0041_", "#N/A", "007", "a\rb", "e\u0301", "a" * 40_000, "'quoted", "1/2", "TRUE")
    rows = [{**prediction(number), "prediction": text} for number, text in enumerate(texts)]
    path = write_predictions(tmp_path / "p.jsonl", rows)
    summary = export_sheets(path, "vqa", tmp_path / "sheets", 1)
    fill(summary.sheets[0], [1] * len(texts))
    for sheet in (summary.sheets[0], as_csv(summary.sheets[0])):
        assert import_sheets([sheet], summary.key, tmp_path / "r.jsonl").ratings == len(texts)


def test_reports_take_five_levels(tmp_path):
    summary = export(tmp_path, "report", 1)
    fill(summary.sheets[0], (0, 1, 2, 3, 4, "4"))
    import_sheets(summary.sheets, summary.key, tmp_path / "r.jsonl")
    assert sorted(row["score"] for row in read(tmp_path / "r.jsonl")) == [0, 1, 2, 3, 4, 4]


def test_several_models_give_a_file_each(tmp_path):
    paths = [
        write_predictions(tmp_path / f"{name}.jsonl", [prediction(number, text=name) for number in range(3)])
        for name in ("liver", "spleen")
    ]
    summary = export_sheets(paths, "vqa", tmp_path / "sheets", 1)
    answers = [row[4] for row in load_workbook(summary.sheets[0])["Ratings"].iter_rows(min_row=2, values_only=True)]
    fill(summary.sheets[0], [int(answer.startswith("liver")) for answer in answers])
    imported = import_sheets(summary.sheets, summary.key, tmp_path / "ratings.jsonl")
    assert list(imported.outputs) == [str(path) for path in paths]
    for name, wanted in (("ratings_1.jsonl", 1), ("ratings_2.jsonl", 0)):
        assert [(row["id"], row["score"]) for row in read(tmp_path / name)] == [(f"q{n}", wanted) for n in range(3)]
    assert not (tmp_path / "ratings.jsonl").exists()


def test_predictions_that_changed_are_named(tmp_path):
    summary = export(tmp_path, raters=1)
    fill(summary.sheets[0])
    assert import_sheets(summary.sheets, summary.key, tmp_path / "r.jsonl").changed == ()
    write_predictions(tmp_path / "predictions.jsonl", [prediction(1, text="another")])
    changed = import_sheets(summary.sheets, summary.key, tmp_path / "r.jsonl")
    assert changed.changed == (str(tmp_path / "predictions.jsonl"),)
    assert "has changed since" in str(changed)


# ---- wrong scores ---------------------------------------------------------------------------------------------------
WRONG_SCORES = [
    (5, "found the number 5; enter 0 or 1, or leave it blank"),
    (2, "found the number 2"),
    (-1, "found the number -1"),
    (1.5, "found the number 1.5"),
    (1e300, "found the number"),
    ("5", "found the text '5'"),
    ("yes", "found the text 'yes'"),
    ("1.5", "found the text '1.5'"),
    ("1,0", "found the text '1,0'"),
    ("+1", "found the text"),
    ("-0", "found the text '-0'"),
    ("0 or 1", "found the text '0 or 1'"),
    ("\uff11", "found the text '\uff11'"),
    ("①", "found the text '①'"),
    ("x" * 5000, f"found the text '{'x' * 40}'"),
    (True, "found TRUE, no number"),
    (False, "found FALSE, no number"),
    ("=1", "found a formula, '=1'"),
    ("=SUM(F3:F7)", "found a formula"),
    ("#DIV/0!", "found an error value, '#DIV/0!'"),
    (datetime.datetime(1900, 1, 1), "found a date or time"),
    (datetime.time(0, 0), "found a date or time"),
]


@pytest.mark.parametrize(("value", "message"), WRONG_SCORES, ids=[str(value)[:12] for value, _ in WRONG_SCORES])
def test_wrong_scores(given, value, message):
    fill(given.sheets[0], (1, value, 0))
    (fault,) = faults_of(given).faults
    assert fault.startswith(f"{given.sheets[0]}, sheet 'Ratings', cell F3: {message}")
    assert "\n" not in fault


@pytest.mark.parametrize("value", ["TRUE", "yes", "1.5", "5", "=1", "WAHR", "1 "])
def test_wrong_scores_in_csv(given, value):
    fill(given.sheets[0], (1, value, 0))
    if value == "1 ":  # nothing is wrong with it
        assert import_sheets([as_csv(given.sheets[0])], given.key, given.out).ratings == 3
        return
    (fault,) = faults_of(given, [as_csv(given.sheets[0])]).faults
    assert "ratings_rater_1.csv, cell F3: found the text" in fault


@pytest.mark.parametrize("value", [5, -1, 2.5, "high"])
def test_wrong_levels_of_reports(tmp_path, value):
    summary = export(tmp_path, "report", 1)
    fill(summary.sheets[0], (4, value))
    with pytest.raises(SheetFaults, match="cell F3: found the .*; enter a whole number from 0 to 4"):
        import_sheets(summary.sheets, summary.key, tmp_path / "r.jsonl")


# ---- wrong sheets ---------------------------------------------------------------------------------------------------
def swap(cells):
    def edit(sheet):
        first, second = sheet[cells[0]], sheet[cells[1]]
        first.value, second.value = second.value, first.value

    return edit


def move_row(sheet):
    rows = [[cell.value for cell in row] for row in sheet.iter_rows(min_row=2)]
    for number, row in enumerate([*rows[1:], rows[0]], start=2):
        for column, value in enumerate(row, start=1):
            sheet.cell(number, column).value = value


def copy_row(sheet):
    for cell in sheet[3]:
        sheet.cell(8, cell.column).value = cell.value


def assign(cell, value):
    def edit(sheet):
        sheet[cell] = value

    return edit


WRONG_SHEETS = {
    "code changed": (assign("A4", "kaaaaaaaaaaa"), ["cell A4: code 'kaaaaaaaaaaa' is not in", "put the code back"]),
    "code a number": (assign("A4", 12), ["cell A4: code '12' is not in"]),
    "code a formula": (assign("A4", "=A3"), ["cell A4: code '=A3' is not in"]),
    "code missing": (assign("A4", None), ["cell A4: the code is missing"]),
    "code column missing": (lambda sheet: sheet.delete_cols(1), ["row 1: no column is called 'Code'"]),
    "code header changed": (assign("A1", "Id"), ["row 1: no column is called 'Code'; put the header back"]),
    "all codes changed": (
        lambda sheet: [assign(f"A{row}", f"k{row}")(sheet) for row in range(2, N + 2)],
        ["none of its 6 codes is in", "give the key that was written with this sheet"],
    ),
    "codes swapped": (swap(("A3", "A5")), ["cell A3: the texts of row 3", "cell A5: the texts of row 5"]),
    "answers sorted alone": (swap(("E3", "E5")), ["cell A3: the texts of row 3 are not those given out", "cell A5"]),
    "answer changed": (assign("E3", "left lung"), ["cell A3: the texts of row 3"]),
    "reference removed": (assign("D3", None), ["cell A3: the texts of row 3"]),
    "question changed": (assign("C3", "Why?"), ["cell A3: the texts of row 3"]),
    "reference a formula": (assign("D3", "=E3"), ["cell A3: the texts of row 3"]),
    "row moved": (move_row, ["the rows were moved, the first that differs is row 2; sort them by 'No.'"]),
    "row twice": (copy_row, ["cell A8: code", "stands in row 3 already; remove one of the two rows"]),
    "row removed": (lambda sheet: sheet.delete_rows(4), ["1 of 6 rows are missing, No. 3; put them back"]),
    "row of one's own": (assign("F9", 1), ["cell A9: the code is missing"]),
    "row put in above": (lambda sheet: sheet.insert_rows(1), ["row 1: no column is called 'Code'", "'Score'"]),
    "score column missing": (lambda sheet: sheet.delete_cols(6), ["row 1: no column is called 'Score'"]),
    "score column twice": (assign("G1", "Score"), ["row 1: 2 columns are called 'Score'; leave one"]),
    "question header missing": (assign("C1", None), ["cell A2: the texts of row 2"]),
    "scores merged": (lambda sheet: sheet.merge_cells("F2:F4"), ["cells F2:F4 are merged; take them apart"]),
    "answers merged": (lambda sheet: sheet.merge_cells("D3:E3"), ["cells D3:E3 are merged", "cell A3: the texts"]),
    "sheet renamed": (
        lambda sheet: setattr(sheet, "title", "Sheet1"),
        ["has no sheet 'Ratings', only 'Instructions'"],
    ),
    "sheet emptied": (lambda sheet: sheet.delete_rows(1, 9), ["row 1: no column is called 'Code'"]),
}


@pytest.mark.parametrize("case", WRONG_SHEETS)
def test_wrong_sheets(given, case):
    edit, messages = WRONG_SHEETS[case]
    change(fill(given.sheets[0]), edit)
    faults = faults_of(given).faults
    assert all(fault.startswith(str(given.sheets[0])) for fault in faults)
    assert not [fault for fault in faults if "\n" in fault]
    assert not [message for message in messages if not any(message in fault for fault in faults)], faults


def test_a_row_of_another_rater(given):
    row = [cell.value for cell in load_workbook(given.sheets[1])["Ratings"][3]]
    change(fill(given.sheets[0]), lambda sheet: sheet.append(row))
    (fault,) = faults_of(given).faults
    assert "cell A8: code" in fault
    assert "is of the sheet of 'rater 2', but this is the sheet of 'rater 1'" in fault


def test_the_same_rater_twice(given):
    copy = given.folder / "copy.xlsx"
    copy.write_bytes(fill(given.sheets[0]).read_bytes())
    (fault,) = faults_of(given, [given.sheets[0], fill(given.sheets[1]), copy]).faults
    assert fault == f"{copy}: the sheet of 'rater 1', as is {given.sheets[0]}; give one sheet a rater"
    assert "as is" in faults_of(given, [given.sheets[0], given.sheets[0]]).faults[0]
    assert "as is" in faults_of(given, [given.sheets[0], as_csv(given.sheets[0])]).faults[0]


def test_the_key_of_another_export(given, tmp_path):
    other = export(tmp_path / "other", selection=Selection(sample=3), raters=["jane"])
    fill(given.sheets[0])
    with pytest.raises(SheetFaults, match=r"none of its 6 codes is in .*key\.json; give the key"):
        import_sheets(given.sheets[:1], other.key, given.out)


# ---- files that are no sheets ---------------------------------------------------------------------------------------
def zipped(**parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return out.getvalue()


def rezipped(data, name, edit):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            content = source.read(entry)
            target.writestr(entry, edit(content) if entry == name else content)
    return out.getvalue()


def with_shared_strings(data):
    """The same workbook with its texts in a table of their own, as Excel and LibreOffice save them."""
    texts = []

    def shared(match):
        texts.append(match.group(2))
        return b'%s t="s"><v>%d</v></c>' % (match.group(1), len(texts) - 1)

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in ("xl/worksheets/sheet1.xml", RATINGS_PART):
            part = re.sub(
                rb'(<c r="\w+"(?: s="\d+")?) t="inlineStr"><is>(.*?)</is></c>', shared, archive.read(name), flags=re.S
            )
            data = rezipped(data, name, lambda _, part=part: part)
    main = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    table = b'<sst xmlns="%s">%s</sst>' % (main, b"".join(b"<si>%s</si>" % text for text in texts))
    kind = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    data = rezipped(data, "[Content_Types].xml", lambda part: part.replace(b"</Types>", kind.encode()))
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", table)
    assert len(texts) > 30
    return out.getvalue()


RATINGS_PART = "xl/worksheets/sheet2.xml"
BROKEN_FILES = {
    "empty": (lambda data: b"", "the file is empty"),
    "text": (lambda data: b"Code,No.\n", "no xlsx file; save the sheet as .xlsx"),
    "binary": (lambda data: bytes(range(256)), "no xlsx file"),
    "password or old xls": (lambda data: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + data, "protected by a password, or an"),
    "cut short": (lambda data: data[: len(data) // 2], "damaged, cannot be read as xlsx"),
    "zip of something else": (lambda data: zipped(readme="x"), "a ZIP archive, but no xlsx file"),
    "OpenDocument": (lambda data: zipped(mimetype="x", content_xml="x"), "an OpenDocument sheet under another name"),
    "workbook without parts": (lambda data: zipped(xl__workbook_xml="<workbook/>"), "damaged"),
    "sheet is no XML": (lambda data: rezipped(data, RATINGS_PART, lambda _: b"<sheetData>"), "damaged"),
    "sheet cut in the middle": (lambda data: rezipped(data, RATINGS_PART, lambda x: x[: len(x) // 2]), "damaged"),
    "shared strings missing": (
        lambda data: rezipped(with_shared_strings(data), "xl/sharedStrings.xml", lambda _: b"<sst xmlns='x'/>"),
        "damaged",
    ),
    "document type": (
        lambda data: rezipped(data, RATINGS_PART, lambda x: b'<!DOCTYPE a [<!ENTITY b "c">]>' + x),
        "sheet2.xml declares a document type",
    ),
    "styles broken": (lambda data: rezipped(data, "xl/styles.xml", lambda x: x.replace(b"<", b"&", 9)), "damaged"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_files_that_are_no_sheets(given, case):
    spoil, message = BROKEN_FILES[case]
    given.sheets[0].write_bytes(spoil(given.sheets[0].read_bytes()))
    (fault,) = faults_of(given).faults
    assert fault.startswith(str(given.sheets[0]))
    assert message in fault
    assert "\n" not in fault


BROKEN_CSV = {
    "UTF-16": (lambda text: text.encode("utf-16"), "not UTF-8 text"),
    "Latin-1": (lambda text: (text + "é").encode("latin-1"), "not UTF-8 text"),
    "open quote": (lambda text: text.encode() + b'"', "not CSV"),
    "instructions": (lambda text: b"Rater,rater 1\n", "no column is called 'Code'"),
    "only blank lines": (lambda text: b"\n\n\n", "no column is called 'Code'"),
    "header cut off": (lambda text: text.split("\n", 1)[1].encode(), "no column is called 'Code'"),
    "cut short": (lambda text: text[: text.rindex("\nk")].encode(), "1 of 6 rows are missing, No. 6"),
    "a xlsx called csv": (lambda text: b"PK\x03\x04\xff\xfe", "not UTF-8 text"),
    "a huge cell": (lambda text: text.encode() + b'"' + b"a" * 200_000 + b'"', "not CSV"),
}


@pytest.mark.parametrize("case", BROKEN_CSV)
def test_broken_csv(given, case):
    spoil, message = BROKEN_CSV[case]
    path = as_csv(fill(given.sheets[0]), encoding="utf-8", ending="\n")
    path.write_bytes(spoil(path.read_text(encoding="utf-8")))
    faults = faults_of(given, [path]).faults
    assert message in faults[0]
    assert str(path) in faults[0]


def test_a_zip_bomb_is_not_unpacked(given, monkeypatch):
    monkeypatch.setattr(sheet_read, "load_workbook", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(sheet_read, "LARGEST_TEXT", 2**24)
    bomb = rezipped(given.sheets[0].read_bytes(), RATINGS_PART, lambda _: b" " * (2**24 + 1))
    assert len(bomb) < 2**17
    given.sheets[0].write_bytes(bomb)
    assert "more than any rating sheet" in faults_of(given).faults[0]


def test_a_zip_bomb_that_understates_its_size_is_not_unpacked_either(given):
    size = 2**24
    bomb = bytearray(rezipped(fill(given.sheets[0]).read_bytes(), RATINGS_PART, lambda part: part + b" " * size))
    entry = bomb.rindex(RATINGS_PART.encode()) - 46  # in the directory at the end
    assert bomb[entry : entry + 4] == b"PK\x01\x02"
    bomb[entry + 24 : entry + 28] = (5000).to_bytes(4, "little")
    given.sheets[0].write_bytes(bomb)
    tracemalloc.start()
    (fault,) = faults_of(given).faults
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "damaged" in fault
    assert peak < size / 2


@pytest.mark.parametrize("suffix", [".xlsx", ".csv"])
def test_a_file_that_is_too_large(given, suffix, monkeypatch):
    monkeypatch.setattr(sheet_read, "LARGEST_FILE", 100)
    monkeypatch.setattr(sheet_read, "LARGEST_CSV", 100)
    path = given.sheets[0] if suffix == ".xlsx" else as_csv(given.sheets[0])
    assert "bytes are more than the 100 of any rating sheet" in faults_of(given, [path]).faults[0]


def test_a_merge_of_the_whole_sheet_costs_nothing(given):
    whole = b'<mergeCells count="1"><mergeCell ref="A1:XFD1048576"/></mergeCells>'
    spoil = lambda part: part.replace(b"</sheetData>", b"</sheetData>" + whole)  # noqa: E731
    given.sheets[0].write_bytes(rezipped(fill(given.sheets[0]).read_bytes(), RATINGS_PART, spoil))
    assert "cells A1:XFD1048576 are merged" in faults_of(given).faults[0]


def test_a_cell_at_the_far_end_is_harmless(given):
    change(fill(given.sheets[0]), assign("XFD1048576", 1))
    assert import_sheets(given.sheets[:1], given.key, given.out).ratings == N


def test_damage_anywhere_is_one_clear_fault(given):
    """Whichever bytes are damaged: either the sheet still reads as it was, or there are faults that name the file."""
    data = fill(given.sheets[0]).read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(150):
        spoiled = bytearray(data)
        for _ in range(generator.choice((1, 4, 40))):
            spoiled[generator.randrange(len(spoiled))] = generator.randrange(256)
        given.sheets[0].write_bytes(spoiled)
        try:
            import_sheets(given.sheets[:1], given.key, given.out)
        except SheetFaults as faults:
            refused += 1
            assert all(fault.startswith(str(given.sheets[0])) for fault in faults.faults)
            assert not [fault for fault in faults.faults if "\n" in fault]
    assert refused > 75


def test_damaged_parts_are_one_clear_fault(given):
    """The same inside the archive, where the checksums are right and the content is not."""
    data = with_shared_strings(fill(given.sheets[0]).read_bytes())
    generator, tries = random.Random(1), 60
    names = ["xl/workbook.xml", RATINGS_PART, "xl/sharedStrings.xml", "xl/styles.xml", "[Content_Types].xml"]
    names.append("xl/_rels/workbook.xml.rels")
    refused = 0
    for _ in range(tries):

        def spoil(part):
            spoiled = bytearray(part)
            for _ in range(generator.choice((1, 3))):
                at = generator.randrange(len(spoiled))
                spoiled[at : at + generator.choice((1, 30))] = generator.choice((b"", b"9", b'"', b"<", b"\x00"))
            return bytes(spoiled)

        given.sheets[0].write_bytes(rezipped(data, generator.choice(names), spoil))
        try:
            import_sheets(given.sheets[:1], given.key, given.out)
        except SheetFaults as faults:
            refused += 1
            assert all(fault.startswith(str(given.sheets[0])) for fault in faults.faults)
        except ValueError as error:  # a damaged reference may leave every score blank
            assert "has a score" in str(error)
    assert refused > tries / 2


# ---- all faults at once ---------------------------------------------------------------------------------------------
def test_all_faults_of_all_sheets_are_named(given):
    fill(given.sheets[0], ("yes", 5, 1, 1.5, True, 0))
    given.sheets[1].write_bytes(b"nothing")
    fill(given.sheets[2], (1, 7))
    missing = given.folder / "missing.xlsx"
    faults = faults_of(given, [*given.sheets, missing])
    assert [fault.split(": ")[0].rsplit(" ", 1)[-1] for fault in faults.faults[:4]] == ["F2", "F3", "F5", "F6"]
    assert len(faults.faults) == 7
    assert str(faults) == "\n".join(faults.faults)
    assert "missing.xlsx: no such file" in faults.faults[5] + faults.faults[6]


def test_twenty_faults_are_shown_and_the_rest_counted(given):
    wide = [fill(path, ("no",) * N) for path in given.sheets]
    more = [given.folder / f"{number}.xlsx" for number in range(7)]
    faults = faults_of(given, [*wide, *more])
    assert len(faults.faults) == 25
    assert len(str(faults).splitlines()) == 21
    assert str(faults).endswith("and 5 more faults; nothing was written")


def test_former_ratings_stay_where_sheets_are_wrong(given):
    fill(given.sheets[0])
    import_sheets(given.sheets[:1], given.key, given.out)
    before = given.out.read_bytes()
    fill(given.sheets[0], (7,))
    with pytest.raises(SheetFaults):
        import_sheets(given.sheets[:1], given.key, given.out)
    assert given.out.read_bytes() == before


def test_mistakes_beside_the_sheets(given):
    with pytest.raises(ValueError, match=r"no row of the 2 sheets has a score; nothing to write"):
        import_sheets(given.sheets[:2], given.key, given.out)
    with pytest.raises(ValueError, match="no sheet given"):
        import_sheets([], given.key, given.out)
    with pytest.raises(FileNotFoundError, match="no_key.json: no such file"):
        import_sheets(given.sheets, given.folder / "no_key.json", given.out)
    with pytest.raises(ValueError, match="is a folder; name a file"):
        import_sheets(given.sheets, given.key, given.folder)
    for path in (given.key, given.sheets[1]):
        with pytest.raises(ValueError, match="is a file that is read; name another"):
            import_sheets(given.sheets, given.key, path)


def test_a_workbook_of_somebody_else(given):
    book = Workbook()
    book.active.title = "Ratings"
    book.active.append(["Patient", "Score"])
    book.save(given.sheets[0])
    faults = faults_of(given).faults
    assert [fault.split("called ")[1].split(";")[0] for fault in faults] == [
        "'Code'",
        "'Reference'",
        "'Answer to judge'",
    ]


WRONG_KEYS = {
    "a list": lambda key: [],
    "another file": lambda key: {"n": 3},
    "version": lambda key: {**key, "version": 2},
    "task": lambda key: {**key, "task": "caption"},
    "settings": lambda key: {**key, "settings": 3},
    "no items": lambda key: {**key, "items": []},
    "item of other keys": lambda key: {**key, "items": [{"id": "q0"}]},
    "item of no file": lambda key: {**key, "items": [{**item, "predictions": 4} for item in key["items"]]},
    "item with a number": lambda key: {**key, "items": [{**item, "id": 3} for item in key["items"]]},
    "predictions": lambda key: {**key, "predictions": None},
    "no raters": lambda key: {**key, "codes": {}},
    "rater without codes": lambda key: {**key, "codes": {**key["codes"], "rater 1": {}}},
    "code of no item": lambda key: {**key, "codes": {"rater 1": {"k": 99}}},
    "code of text": lambda key: {**key, "codes": {"rater 1": {"k": "q0"}}},
    "code of true": lambda key: {**key, "codes": {"rater 1": {"k": True}}},
    "two codes of one item": lambda key: {**key, "codes": {"rater 1": {"k": 0, "l": 0}}},
    "code of two raters": lambda key: {**key, "codes": {"rater 1": {"k": 0}, "rater 2": {"k": 1}}},
}


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_wrong_keys(given, case):
    key = json.loads(given.key.read_text())
    given.key.write_text(json.dumps(WRONG_KEYS[case](key)))
    with pytest.raises(
        ValueError, match=r"key\.json: .*give the key\.json that was written with the sheets"
    ) as caught:
        import_sheets(given.sheets, given.key, given.out)
    assert "\n" not in str(caught.value)
    assert not Path(given.out).exists()


def test_a_key_that_is_no_json(given):
    given.key.write_text("{")
    with pytest.raises(ValueError, match=r"key\.json: not JSON \(line 1"):
        import_sheets(given.sheets, given.key, given.out)
