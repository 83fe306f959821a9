"""The published numbers, cell by cell against the tables as they were extracted from the paper."""

import csv
import itertools

import pytest

from pefomed.reporting.paper import KINDS, LIKERT, REPORTS, VQA, Score

DATASETS = ("vqa_rad", "slake", "path_vqa")
SIDES = ("open", "closed", "overall")


@pytest.fixture
def table(shared):
    def read(number):
        (path,) = (shared / "paper").glob(f"table{number:02d}_*.csv")
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read


def cell(text):
    if not text:
        return None
    mean, _, sd = text.partition("±")
    return Score(float(mean), float(sd) if sd else None)


def stages(line):
    return (line["stage1"] == "yes", line["stage2"] == "yes")


def millions(text):
    return {"M": 1.0, "B": 1000.0}[text[-1]] * float(text[:-1]) if text else None


def test_table_2(table):
    expected = []
    for line, dataset in itertools.product(table(2), DATASETS):
        scores = [cell(line[f"{dataset}_{side}"]) for side in SIDES]
        if any(scores):
            expected.append(
                (line["method"], line["decoder"], line["metric_open"], line["metric_closed"], dataset)
                + (*scores, millions(line["trainable_params"]))
            )
    found = [
        (row.method, row.decoder, row.open_evaluation, row.evaluation, row.dataset)
        + (row.open, row.closed, row.overall, row.parameters)
        for row in VQA
        if row.table == 2
    ]
    assert found == expected and len(found) == 33


@pytest.mark.parametrize(("number", "datasets"), [(8, ("slake", "path_vqa")), (9, ("vqa_rad",))])
def test_ablations_of_vqa(table, number, datasets):
    expected = []
    for line, dataset in itertools.product(table(number), datasets):
        names = SIDES if number == 9 else [f"{dataset}_{side}" for side in SIDES]
        expected.append((line["evaluation"], stages(line), dataset, *(cell(line[name]) for name in names)))
    found = [
        (row.evaluation, row.stages, row.dataset, row.open, row.closed, row.overall)
        for row in VQA
        if row.table == number
    ]
    assert found == expected and found


def test_kinds_of_questions(table):
    expected = [(3, line["evaluation"], "freeform", cell(line["freeform"])) for line in table(3)]
    organs = {"CHEST": "chest", "HEAD": "head", "ABD": "abdomen"}
    expected += [
        (4, line["evaluation"], name, cell(line[column])) for line in table(4) for name, column in organs.items()
    ]
    assert [(row.table, row.evaluation, row.name, row.accuracy) for row in KINDS] == expected


def test_reports(table):
    names = ("meteor", "rouge_l", "cider")
    expected = [
        (5, line["method"], line["decoder"], (True, True) if line["method"] == "PeFoMed" else None)
        + tuple(float(line[name]) if line[name] else None for name in names)
        for line in table(5)
    ]
    expected += [(10, "PeFoMed", "LLM", stages(line), *(float(line[name]) for name in names)) for line in table(10)]
    found = [(row.table, row.method, row.decoder, row.stages, row.meteor, row.rouge_l, row.cider) for row in REPORTS]
    assert found == expected


def test_levels(table):
    def levels(line):
        return tuple(cell(line[f"level_{level}"]) for level in range(5))

    expected = [(6, line["evaluation"], (True, True), levels(line), cell(line["wasm"])) for line in table(6)]
    expected += [(7, "GPT-4", (True, True), levels(line), cell(line["wasm"])) for line in table(7)]
    expected += [(11, "GPT-4", stages(line), levels(line), cell(line["wasm"])) for line in table(11)]
    found = [(row.table, row.evaluation, row.stages, row.levels, row.wasm) for row in LIKERT]
    assert found == expected
    assert {row.unit for row in LIKERT if row.table == 6} == {"per cent"}
    assert {(row.unit, row.n) for row in LIKERT if row.table != 6} == {("reports", 1180)}
