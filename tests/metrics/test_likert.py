"""WASM against the paper's counts, the distribution, and levels that are none."""

import csv

import numpy as np
import pytest

from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.likert import level_counts, likert_scores, wasm

PAPER = {
    "table07_iu_xray_likert_test.csv": [2.792],
    "table11_ablation_iu_xray_likert.csv": [0.174, 2.800, 2.844, 2.792],
}


@pytest.mark.parametrize("name", PAPER)
def test_wasm_of_the_papers_counts(shared, name):
    with (shared / "paper" / name).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [wasm([int(row[f"level_{level}"]) for level in range(5)]) for row in rows]
    assert [round(value, 3) for value in found] == PAPER[name]
    assert [round(value, 2) for value in found] == [float(row["wasm"]) for row in rows]


def test_wasm_takes_counts_by_level():
    assert wasm([22, 118, 267, 449, 324]) == pytest.approx((118 + 2 * 267 + 3 * 449 + 4 * 324) / 1180)
    assert wasm({"4": 1, "0": 1}) == wasm({4: 1, 0: 1}) == wasm([1, 0, 0, 0, 1]) == 2.0
    assert wasm([7.75, 23.38, 21.88, 29.13, 17.25]) == pytest.approx(2.25, abs=0.01)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2, 3, 4], "counts has 4 numbers; give five"),
        ([1, 2, 3, 4, 5, 6], "counts has 6 numbers"),
        ([0, 0, 0, 0, 0], "no report at any level"),
        ([1, -1, 0, 0, 0], "level 1: found -1"),
        ([1, 0, float("nan"), 0, 0], "level 2: found nan"),
        ([1, 0, 0, "3", 0], "level 3: found '3'"),
        ({"5": 1}, "names level '5'"),
        ({}, "no report at any level"),
    ],
)
def test_mistaken_counts(counts, message):
    with pytest.raises(ValueError, match=message):
        wasm(counts)


def test_level_counts():
    assert level_counts([4, 0, 4, np.int64(3), 2.0]) == {"0": 1, "1": 0, "2": 1, "3": 1, "4": 2}
    assert wasm(level_counts([4, 0, 4, 3, 2])) == 2.6


@pytest.mark.parametrize("score", [5, -1, 2.5, "3", None, True, float("nan")])
def test_mistaken_levels(score):
    with pytest.raises(ValueError, match=r"scores, number 2: found .*whole number from 0 to 4"):
        level_counts([1, score])


def test_likert_scores_resample_clusters():
    scores = [0, 0, 0, 4, 4, 4, 2, 3]
    clusters = ["a", "a", "a", "b", "b", "b", "c", "d"]
    found = likert_scores(scores, clusters)
    assert (found["n"], found["wasm"]["value"]) == (8, 17 / 8)
    assert found["wasm"]["ci95"] == cluster_bootstrap(scores, clusters).to_json()
    assert found["wasm"]["ci95"] != likert_scores(scores)["wasm"]["ci95"]
    assert found["counts"] == {"0": 3, "1": 0, "2": 1, "3": 1, "4": 3}
    assert found["levels"]["4"]["share"] == 37.5
    assert found["levels"]["1"] == {"share": 0.0, "ci95": [0.0, 0.0]}
    assert sum(level["share"] for level in found["levels"].values()) == 100.0
    assert "8 rows in 4 clusters" in found["warning"]


def test_likert_scores_of_enough_reports_warn_of_nothing():
    assert likert_scores([0, 1, 2, 3, 4] * 20, n_resamples=10)["warning"] is None
    assert likert_scores([0, 1, 2, 3, 4] * 20, [0, 1] * 50, n_resamples=10)["warning"]
    assert likert_scores([3], n_resamples=10)["wasm"] == {"value": 3.0, "ci95": None}


def test_likert_scores_need_scores_and_as_many_clusters():
    with pytest.raises(ValueError, match="there are no scores"):
        likert_scores([])
    with pytest.raises(ValueError, match="1 clusters"):
        likert_scores([1, 2], ["a"])
