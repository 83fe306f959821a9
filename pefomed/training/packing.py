"""Which questions meet in a batch, and which pictures in a row of it.

The order of samples stays what `StreamSampler` makes it, an endless stream that is a function of the seed alone, but
for the questions of a picture, which come one behind another. How the pictures of a batch are put into rows is a
function of their lengths alone. Neither knows of workers, processes or restarts.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence

import numpy as np

from pefomed.training.sampling import Source, StreamSampler

CAPACITIES = 16  # row lengths that are tried for a batch


def picture_key(image: dict) -> str:
    """What pictures of a row's image column are told apart by: their content, or where they lie."""
    return hashlib.sha256(image["bytes"]).hexdigest() if image["bytes"] else image["path"]


class PictureSampler(StreamSampler):
    """`StreamSampler` in which a picture's questions follow each other, so that a batch holds few pictures.

    A pass through a source still has every row once. Where a single source is trained on, pieces are put in such an
    order that as few as possible are cut by the end of a step.

    Args:
        sources: the data sets, in the order in which their rows lie in the training set.
        seed: of the draws and shuffles.
        samples_per_epoch: length of an epoch; a whole number of optimiser steps.
        keys: of every row's picture, for example by `picture_key`.
        samples_per_step: of an optimiser step, which so has the same samples however it is shared out among processes
            and micro-batches; these cut a few pictures more.
        together: most questions of a picture that follow each other; the rest come elsewhere in the same pass. 0 for
            all of them.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        seed: int,
        samples_per_epoch: int,
        keys: Sequence[str],
        samples_per_step: int,
        together: int = 0,
    ) -> None:
        super().__init__(sources, seed, samples_per_epoch)
        if len(keys) != self.starts[-1]:
            raise ValueError(f"there are {len(keys):,} picture keys for {self.starts[-1]:,} rows; give one a row")
        if samples_per_step < 1 or together < 0:
            raise ValueError(
                f"samples_per_step must be at least 1 and together 0 or more, found {samples_per_step} and {together}"
            )
        self.samples_per_step, self.together = samples_per_step, together
        self.pictures = [
            _rows_by_key(keys[start : start + source.rows])
            for start, source in zip(self.starts[:-1], self.sources, strict=True)
        ]

    def _order(self, source: int, visit: int) -> np.ndarray:
        """The row order of one pass through a source."""
        rng = np.random.default_rng([self.seed, 1, source, visit])
        pieces = []
        for rows in self.pictures[source]:
            shuffled = rng.permutation(rows)
            size = self.together or len(rows)
            pieces += [shuffled[first : first + size] for first in range(0, len(rows), size)]
        pieces = [pieces[place] for place in rng.permutation(len(pieces))]
        if len(self.sources) > 1:  # batches are mixed of several sources, at places that only the draws know
            return np.concatenate(pieces)
        begun = visit * self.sources[source].rows % self.samples_per_step
        return np.concatenate(fill_batches(pieces, self.samples_per_step, begun))


def _rows_by_key(keys: Sequence[str]) -> list[np.ndarray]:
    """Row numbers of each picture, pictures in the order in which they are first met."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return [np.array(found) for found in rows.values()]


def fill_batches(pieces: Sequence[np.ndarray], size: int, begun: int = 0) -> list[np.ndarray]:
    """Puts pieces into an order in which batches of `size` rows cut few of them.

    Each place is taken by the first waiting piece that fits into what is left of the batch; where none does, the first
    one is cut, and its rest opens the next batch.

    Args:
        pieces: row numbers that belong together.
        size: rows of a batch.
        begun: rows that are already in the first batch.

    Returns:
        The same rows, cut at most where a batch ends.
    """
    waiting: dict[int, deque[int]] = {}
    for place, piece in enumerate(pieces):
        waiting.setdefault(len(piece), deque()).append(place)
    placed, space, rest = [], size - begun % size, None
    while rest is not None or waiting:
        if rest is None:
            fitting = [length for length in waiting if length <= space] or list(waiting)
            length = min(fitting, key=lambda length: waiting[length][0])
            rest = pieces[waiting[length].popleft()]
            if not waiting[length]:
                del waiting[length]
        placed.append(rest[:space])
        rest = rest[space:] if len(rest) > space else None
        space = space - len(placed[-1]) or size
    return placed


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of at most `capacity` tokens: longest first, each into the fullest row that still has space for it.

    Args:
        lengths: tokens of each item, none above the capacity.
        capacity: of a row, in tokens.

    Returns:
        Item numbers of each row.
    """
    rows: list[list[int]] = []
    space: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda item: (-lengths[item], item)):
        open_rows = [row for row in range(len(rows)) if space[row] >= lengths[item]]
        if open_rows:
            row = min(open_rows, key=lambda row: (space[row], row))
        else:
            row = len(rows)
            rows.append([])
            space.append(capacity)
        rows[row].append(item)
        space[row] -= lengths[item]
    return rows


def pack_rows(lengths: Sequence[int], budget: int, hidden_size: int) -> list[list[int]]:
    """Puts items into the rows of a batch, all padded to its longest, such that the batch costs least.

    A row of n tokens costs n for the weights and n * n for the attention, which does not spare what the mask hides:
    in units of a token's attention to a token, n * (6 * hidden_size + n) with the matrices of a Llama block of that
    width. Short items share a row where this saves padding.

    Args:
        lengths: tokens of each item.
        budget: most tokens of a row, unless one item alone has more.
        hidden_size: width of the language model.

    Returns:
        Item numbers of each row.
    """
    longest = max(lengths)
    capacities = np.linspace(longest, max(budget, longest), CAPACITIES).astype(int)
    plans = [best_fit(lengths, capacity) for capacity in sorted({int(capacity) for capacity in capacities})]

    def cost(rows: list[list[int]]) -> int:
        length = max(sum(lengths[item] for item in row) for row in rows)
        return len(rows) * length * (6 * hidden_size + length)

    return min(plans, key=cost)
