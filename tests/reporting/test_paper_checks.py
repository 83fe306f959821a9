"""The paper's arithmetic: what does not follow is named, what does is left alone, and a changed number is noticed."""

import collections
import dataclasses
import json

import pytest

from pefomed.reporting import paper_arithmetic, paper_checks
from pefomed.reporting.paper import LIKERT, VQA, Score
from pefomed.reporting.paper_arithmetic import (
    TEST_ORGANS,
    TEST_QUESTIONS,
    fewest_raters,
    fits_questions,
    likert_checks,
    mix_checks,
)
from pefomed.reporting.paper_checks import check_table

CHECKS = {(check.where, check.what): check for check in paper_checks.paper_checks()}


def found(what):
    (check,) = (check for (_, name), check in CHECKS.items() if name == what)
    return check


def test_no_check_is_lost_under_another_of_its_name():
    assert len(CHECKS) == len(paper_checks.paper_checks())


@pytest.mark.parametrize(
    ("what", "value"),
    [("GPT-4", 2.792), ("GPT-4, zero-shot", 0.174), ("GPT-4, stage 1", 2.800), ("GPT-4, stage 2", 2.844)],
)
def test_wasm_follows_from_the_counts(what, value):
    check = found(f"WASM from counts, {what}")
    assert round(check.found, 3) == value and check.agrees


def test_wasm_of_table_6_is_over_two_different_totals():
    by = {
        (who, below): found(f"WASM from the percentages over {below}, {who}")
        for who in ("human", "GPT-4")
        for below in ("their sum", "100 %")
    }
    assert {key: round(check.found, 3) for key, check in by.items()} == {
        ("human", "their sum"): 2.249,
        ("human", "100 %"): 2.235,
        ("GPT-4", "their sum"): 3.077,
        ("GPT-4", "100 %"): 3.046,
    }
    assert [key for key, check in by.items() if check.agrees] == [("human", "100 %"), ("GPT-4", "their sum")]


def test_table_6_does_not_sum_to_100_and_fits_eight_raters():
    assert [round(found(f"sum of levels (%), {who}").found, 2) for who in ("human", "GPT-4")] == [99.39, 99.0]
    raters = found("raters that the shares fit, human")
    assert (raters.printed, raters.found, raters.agrees) == (10, 8, False)
    assert found("raters that the shares fit, GPT-4").agrees


@pytest.mark.parametrize(
    ("what", "printed", "value"),
    [
        ("ratings at levels 2 and 3 (%)", 75, 51.01),
        ("ROUGE-L of stage 1", 0.089, 0.247),
        ("METEOR of stage 1", 0.152, 0.153),
        ("best ROUGE-L, said to be that of both stages", 0.286, 0.295),
        ("best WASM, expected of both stages", 2.79, 2.84),
        ("most reports at level 4, expected of both stages", 324, 449),
        ("pairs of models that WASM orders as CIDEr does", 6, 4),
        ("closed accuracy of LLaVA-Med with 64.8 open, 75.8 overall", 84.2, 83.1),
        ("largest standard deviation of GPT-4", 1.2, 1.3),
        ("test reports of IU-Xray, at 7:1:2 of 7,470 images", 1180, 1494),
        ("GPT-4's WASM of 100 random reports against that of all 1,180", 3.08, 2.79),
    ],
)
def test_what_does_not_follow(what, printed, value):
    check = found(what)
    assert not check.agrees
    assert (check.printed, round(check.found, 2 if value > 1 else 3)) == (printed, value)


def test_nothing_else_is_held_against_the_paper():
    wrong = [check.what for check in CHECKS.values() if not check.agrees]
    assert len(wrong) == 20
    assert sum(what.startswith("overall accuracy, MUMC") for what in wrong) == 2
    assert not [what for what in wrong if "PeFoMed" in what or "printed twice" in what]
    assert all(check.agrees for (where, _), check in CHECKS.items() if where in ("Table 8", "Table 9"))


def test_overall_accuracy_follows_from_179_open_questions():
    row = next(row for row in VQA if row.dataset == "vqa_rad" and row.method == "PeFoMed")
    fit = fits_questions(row, 451)
    assert 179 in fit and 200 not in fit, "the split of 200 open questions is another one"
    mixed = found("overall accuracy, PeFoMed, vqa_rad, exact match").found
    assert mixed == pytest.approx((62.6 * 179 + 87.1 * 272) / 451)
    assert not fits_questions(dataclasses.replace(row, overall=Score(95.0)), 451)


def test_a_changed_number_is_noticed(monkeypatch):
    changed = [dataclasses.replace(row, wasm=Score(row.wasm.mean + 0.1)) for row in LIKERT]
    monkeypatch.setattr(paper_arithmetic, "LIKERT", changed)
    assert not [check for check in likert_checks() if check.what.startswith("WASM") and check.agrees]
    rows = [
        dataclasses.replace(row, overall=Score(row.overall.mean + 0.5))
        for row in VQA
        if row.overall is not None and row.dataset == "vqa_rad"
    ]
    monkeypatch.setattr(paper_arithmetic, "VQA", [*rows, *(row for row in VQA if row.dataset == "path_vqa")])
    agreeing = [check.what for check in mix_checks() if check.agrees and "vqa_rad" in check.what]
    assert agreeing == []


def test_raters_are_told_by_the_grain_of_their_shares():
    assert fewest_raters([10.0, 90.0], 10) == 1
    assert fewest_raters([12.5, 87.5], 4) == 2
    assert fewest_raters([33.33, 66.67], 1) == 3


def test_the_numbers_of_test_questions(shared):
    rows = json.loads((shared / "data" / "vqa_rad_mevf" / "testset.json").read_text(encoding="utf-8"))
    kinds = collections.Counter(row["answer_type"].strip().lower() for row in rows)
    assert (kinds["open"], kinds["closed"]) == TEST_QUESTIONS["vqa_rad"]
    assert collections.Counter(row["image_organ"] for row in rows) == TEST_ORGANS


def test_the_table_has_a_line_a_check():
    table = check_table(CHECKS.values())
    assert list(table.columns) == ["where", "what", "printed", "follows", "agrees", "note"]
    assert len(table) == len(CHECKS)
    assert set(table["agrees"]) == {"yes", "no"}
    line = table[table["what"] == "test reports of IU-Xray, at 7:1:2 of 7,470 images"].iloc[0]
    assert (line["printed"], line["follows"]) == ("1180", "1,494")
    assert list(check_table([]).columns) == list(table.columns)
