"""The order of samples and the rows of a batch: nothing lost, pictures together, decided by the seed alone."""

from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pefomed.training.packing import PictureSampler, best_fit, fill_batches, pack_rows, picture_key
from pefomed.training.prefix import PrefixCollator
from pefomed.training.sampling import BLOCK, Source

COUNTS = np.random.default_rng(0).integers(1, 20, size=60)
# Rows of a picture need not lie together in the data.
KEYS = [f"picture {number}" for number in np.random.default_rng(1).permutation(np.repeat(np.arange(60), COUNTS))]


def stream(
    epochs: int, per_epoch: int, sources=None, keys=KEYS, seed: int = 0, batch_size: int = 16, together: int = 0
):
    sampler = PictureSampler(sources or [Source("a", len(keys))], seed, per_epoch, keys, batch_size, together)
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += list(sampler)
    return found


def runs(rows: list[int], keys=KEYS) -> list[tuple[str, int]]:
    """Pictures in order, each with the number of its rows that follow each other."""
    found: list[tuple[str, int]] = []
    for row in rows:
        if found and found[-1][0] == keys[row]:
            found[-1] = (keys[row], found[-1][1] + 1)
        else:
            found.append((keys[row], 1))
    return found


# --- order -----------------------------------------------------------------------------------------------------------


def test_every_pass_has_every_row_once_and_its_own_order():
    found = stream(2, len(KEYS))
    first, second = found[: len(KEYS)], found[len(KEYS) :]
    assert sorted(first) == sorted(second) == list(range(len(KEYS)))
    assert first != second and first != sorted(first)
    assert stream(1, len(KEYS), seed=1) != first


def test_a_pictures_questions_follow_each_other():
    assert sorted(runs(stream(1, len(KEYS)))) == sorted(Counter(KEYS).items())


def test_at_most_as_many_follow_each_other_as_asked():
    found = runs(stream(1, len(KEYS), together=4))
    assert len(found) > 120
    # Two pieces of a picture can come to lie side by side, but not often.
    assert sum(length > 4 for _, length in found) < 0.1 * len(found)
    assert Counter(key for key, length in found for _ in range(length)) == Counter(KEYS)


@pytest.mark.parametrize("epochs", [1, 2, 5, 10])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_stream_does_not_depend_on_the_length_of_an_epoch(epochs, mixed):
    """So a run that was cut into epochs, or resumed at one, goes on with the very next sample."""
    sources = [Source("a", 200, 60), Source("b", len(KEYS) - 200, 20)] if mixed else None
    total = BLOCK + 2004
    assert stream(epochs, total // epochs, sources) == stream(1, total, sources)[: total // epochs * epochs]


def test_batches_hold_few_pictures():
    rows = stream(3, len(KEYS) // 16 * 16, batch_size=16)

    def pictures(order):
        return sum(len({KEYS[row] for row in order[first : first + 16]}) for first in range(0, len(order), 16))

    apart = np.random.default_rng(0).permutation(len(rows))
    assert pictures(rows) < 0.25 * pictures([rows[place] for place in apart])
    # What is cut is a batch's last picture: never more than one a batch.
    assert pictures(rows) <= 3 * len(COUNTS) + len(rows) // 16 + 3


def test_a_mixture_keeps_its_ratios_and_its_pictures_together():
    keys = [f"{name}{row // 5}" for name in "ab" for row in range(500)]
    sources = [Source("a", 500, 3), Source("b", 500, 1)]
    rows = stream(1, 2000, sources, keys)
    assert abs(sum(row < 500 for row in rows) / 2000 - 0.75) < 0.03
    of_a = [row for row in rows if row < 500]
    assert all(length == 5 for _, length in runs(of_a, keys)[:-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": KEYS[:-1]}, f"there are {len(KEYS) - 1:,} picture keys for {len(KEYS):,} rows"),
        ({"samples_per_step": 0}, "samples_per_step must be at least 1"),
        ({"together": -1}, "together 0 or more, found 16 and -1"),
    ],
)
def test_mistakes_are_named(changes, message):
    arguments = {"keys": KEYS, "samples_per_step": 16, "together": 0, **changes}
    with pytest.raises(ValueError, match=message):
        PictureSampler([Source("a", len(KEYS))], 0, 16, **arguments)


@pytest.mark.parametrize("begun", [0, 5, 16])
def test_pieces_are_cut_where_a_batch_ends_and_nowhere_else(begun):
    pieces = np.split(np.arange(COUNTS.sum()), np.cumsum(COUNTS)[:-1])
    placed = fill_batches(pieces, 16, begun)
    assert sorted(np.concatenate(placed).tolist()) == list(range(COUNTS.sum()))
    ends = (begun + np.cumsum([len(part) for part in placed])) % 16
    whole = {(piece[0], len(piece)) for piece in pieces}
    for number, part in enumerate(placed):
        starts_batch = (ends[number - 1] if number else begun % 16) == 0
        assert (part[0], len(part)) in whole or ends[number] == 0 or starts_batch
    assert fill_batches([np.arange(3), np.arange(3, 9), np.arange(9, 11)], 5)[1].tolist() == [9, 10]


def test_pictures_are_told_apart_by_what_they_show_not_by_their_row(phantoms):
    rows = list(phantoms["train"])
    keys = [picture_key(row["image"]) for row in rows]
    assert len(set(keys)) == len({row["group"] for row in rows}) == len({row["image"]["bytes"] for row in rows})
    assert picture_key({"bytes": None, "path": "a.png"}) == "a.png"


# --- rows ------------------------------------------------------------------------------------------------------------


def test_best_fit_fills_rows_to_the_brim():
    assert best_fit([5, 3, 2, 8, 2], 10) == [[3, 2], [0, 1, 4]]
    assert best_fit([10, 10], 10) == [[0], [1]]


@pytest.mark.parametrize("seed", range(5))
def test_every_item_has_one_row_and_no_row_is_too_long(seed):
    lengths = np.random.default_rng(seed).integers(20, 700, size=30).tolist()
    rows = pack_rows(lengths, 1024, 4096)
    assert sorted(item for row in rows for item in row) == list(range(30))
    assert all(sum(lengths[item] for item in row) <= 1024 for row in rows)
    padded = len(rows) * max(sum(lengths[item] for item in row) for row in rows)
    assert padded < 1.1 * sum(lengths) < 0.8 * 30 * max(lengths), "packing leaves hardly any padding"


def test_rows_are_shared_where_that_saves_padding():
    assert pack_rows([300, 300, 300], 1024, 4096) == [[0], [1], [2]], "nothing to save"
    assert pack_rows([600, 300, 300], 1024, 4096) == [[0], [1, 2]]
    assert pack_rows([900, 100], 1024, 4096) == [[0, 1]]
    assert pack_rows([900, 100], 950, 4096) == [[0], [1]], "the budget forbids it"
    assert pack_rows([2000, 100, 100], 1024, 4096)[0][0] == 0, "one long item makes long rows"
    assert pack_rows([100, 60], 1024, 1) == [[0], [1]], "attention over long rows is dear in a narrow network"


def test_batches_are_the_same_from_any_number_of_workers(small, phantoms):
    _, processor = small
    rows = phantoms["train"]
    keys = [picture_key(image) for image in rows["image"]]
    batches = {}
    for workers in (0, 2):
        sampler = PictureSampler([Source("a", len(rows))], 3, 24, keys, samples_per_step=8)
        loader = DataLoader(rows, 8, sampler=sampler, collate_fn=PrefixCollator(processor), num_workers=workers)
        batches[workers] = list(loader)
    assert len(batches[0]) == len(batches[2]) == 3
    for alone, shared in zip(batches[0], batches[2], strict=True):
        assert set(alone) == set(shared) and all(alone[name].equal(shared[name]) for name in alone)
