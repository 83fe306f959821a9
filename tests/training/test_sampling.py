"""The stream of samples: complete passes, the asked ratios, the same whatever stretch of it is looked at."""

from collections import Counter

import pytest

from pefomed.training.sampling import BLOCK, Source, StreamSampler


def stream(sources, epochs: int, per_epoch: int, seed: int = 0) -> list[int]:
    sampler = StreamSampler(sources, seed, per_epoch)
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += list(sampler)
    return found


def test_a_single_source_is_gone_through_once_before_anything_comes_twice():
    found = stream([Source("a", 10)], epochs=4, per_epoch=5)
    assert sorted(found[:10]) == sorted(found[10:]) == list(range(10))
    assert found[:10] != found[10:], "the second pass has the order of the first"


@pytest.mark.parametrize("epochs", [1, 2, 5, 10])
def test_the_stream_does_not_depend_on_the_length_of_an_epoch(epochs):
    sources = [Source("a", 700, 60), Source("b", 40, 20), Source("c", 9, 60)]
    total = 2 * BLOCK + 2008
    assert stream(sources, epochs, total // epochs) == stream(sources, 1, total)


def test_every_source_gives_its_share_and_its_rows_equally_often():
    sources = [
        Source("clef2022", 500, 60),
        Source("roco", 300, 60),
        Source("medicat", 90, 20),
        Source("mimic", 70, 60),
    ]
    found = stream(sources, epochs=1, per_epoch=20_000)
    start = 0
    for source in sources:
        counts = Counter(row for row in found if start <= row < start + source.rows)
        assert abs(sum(counts.values()) / 20_000 - source.ratio / 200) < 0.012
        assert set(counts) == set(range(start, start + source.rows))
        assert max(counts.values()) - min(counts.values()) <= 1, "a row came twice before another came once"
        start += source.rows


def test_another_seed_is_another_order():
    sources = [Source("a", 50), Source("b", 50)]
    assert stream(sources, 1, 100, seed=1) != stream(sources, 1, 100, seed=2)


@pytest.mark.parametrize("ratio", [0, -1.0, float("inf"), float("nan")])
def test_a_ratio_is_a_number_above_zero(ratio):
    with pytest.raises(ValueError, match="mixture: the ratio of 'roco' must be a number above 0"):
        Source("roco", 10, ratio)


def test_an_empty_data_set_has_no_place_in_a_mixture():
    with pytest.raises(ValueError, match="'roco' has no training rows"):
        Source("roco", 0)
    with pytest.raises(ValueError, match="no data set"):
        StreamSampler([], 0, 10)
