"""The cluster bootstrap against hand-made cases and a simulated truth."""

import math

import numpy as np
import pytest

from pefomed.metrics import bootstrap
from pefomed.metrics.bootstrap import Interval, cluster_bootstrap


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_same_arguments_same_interval():
    values = np.random.default_rng(1).random(200)
    clusters = np.arange(200) // 4
    assert cluster_bootstrap(values, clusters) == cluster_bootstrap(values.tolist(), clusters.tolist())
    assert cluster_bootstrap(values, clusters, seed=1) != cluster_bootstrap(values, clusters, seed=2)


def test_labels_do_not_matter_only_who_shares_them():
    values = np.random.default_rng(2).random(30)
    assert cluster_bootstrap(values, [f"image {i // 3}" for i in range(30)]) == cluster_bootstrap(
        values, [("x", i // 3) for i in range(30)]
    )


def test_identical_values_within_clusters_widen_the_interval():
    verdicts = np.repeat(np.random.default_rng(3).integers(0, 2, size=50), 8)
    clustered = cluster_bootstrap(verdicts, np.repeat(np.arange(50), 8))
    unclustered = cluster_bootstrap(verdicts, np.arange(400))
    # eight equal rows are worth one: the width grows by the square root of eight
    assert width(clustered) / width(unclustered) == pytest.approx(math.sqrt(8), rel=0.12)


def test_against_the_normal_interval_of_independent_rows():
    values = np.random.default_rng(4).integers(0, 2, size=500).astype(float)
    interval = cluster_bootstrap(values, range(500))
    half = 1.96 * values.std() / math.sqrt(500)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)


def test_clusters_of_unequal_size_are_weighted_by_their_rows():
    # Two clusters: 9 rows of 1 and 1 row of 0. A resample is (both large) 1, (both small) 0, or mixed 0.9, never 0.5.
    low, high = cluster_bootstrap([1.0] * 9 + [0.0], ["large"] * 9 + ["small"])
    assert (low, high) == (0.0, 1.0)
    # With 40 such pairs the interval lies round 0.9, the mean over rows, not round 0.5, the mean over clusters.
    values = ([1.0] * 9 + [0.0]) * 40
    clusters = [(pair, row == 9) for pair in range(40) for row in range(10)]
    low, high = cluster_bootstrap(values, clusters)
    assert 0.8 < low < 0.9 < high < 1.0


def test_blocks_of_draws_do_not_change_the_interval(monkeypatch):
    values = np.random.default_rng(5).random(90)
    clusters = np.arange(90) // 2
    whole = cluster_bootstrap(values, clusters, n_resamples=400)
    monkeypatch.setattr(bootstrap, "_DRAWS_PER_BLOCK", 45 * 64)
    assert cluster_bootstrap(values, clusters, n_resamples=400) == whole


@pytest.mark.parametrize(("correlated", "share"), [(False, 0.8), (True, 0.6)])
def test_coverage_of_simulated_verdicts(correlated, share):
    """Of 300 simulated data sets, about 95 % of the intervals hold the truth, also where clusters agree within."""
    generator = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        of_cluster = generator.beta(share * 2, (1 - share) * 2, size=(80, 1)) if correlated else share
        verdicts = (generator.random((80, 4)) < of_cluster).ravel()
        low, high = cluster_bootstrap(verdicts, np.repeat(np.arange(80), 4), n_resamples=400)
        covered += low <= share <= high
    # 300 draws at 95 % have a standard error of 1.3 points; a percentile interval of 80 clusters is a little narrow
    assert 0.90 <= covered / 300 <= 0.985


def test_rows_as_clusters_would_undercover_where_clusters_agree():
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        verdicts = np.repeat(generator.random(60) < 0.7, 6)
        low, high = cluster_bootstrap(verdicts, np.arange(360), n_resamples=200)
        covered += low <= 0.7 <= high
    assert covered / 200 < 0.75


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], ["a"]), ([1.0, 0.0, 1.0], ["a", "a", "a"])])
def test_undefined_without_two_clusters(values, clusters):
    interval = cluster_bootstrap(values, clusters)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.to_json() is None


def test_equal_values_give_a_point():
    assert cluster_bootstrap([1.0] * 6, range(6)).to_json() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "clusters", "n_resamples", "message"),
    [
        ([1.0, 2.0], ["a"], 10, "1 clusters"),
        ([[1.0], [2.0]], ["a", "b"], 10, r"shape \(2, 1\)"),
        ([1.0, math.nan], ["a", "b"], 10, "NaN"),
        ([1.0, 2.0], ["a", "b"], 0, "n_resamples is 0"),
    ],
)
def test_wrong_arguments(values, clusters, n_resamples, message):
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap(values, clusters, n_resamples)
