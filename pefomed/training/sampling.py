"""The order of training samples: one endless stream, a function of the seed and of nothing else.

Sample p of the stream is the same whatever the number of processes, workers and restarts: its source is drawn by the
mixture's ratios, and each source is gone through in shuffled passes, every row once before any row twice. An epoch is
the next stretch of the stream, so that a run which resumes in the middle of one goes on with the very next sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

BLOCK = 4096  # sources are drawn this many at a time, each block by a generator of its own


@dataclass(frozen=True)
class Source:
    """One data set of a mixture.

    Attributes:
        name: the data set's.
        rows: how many it has; the sources' rows lie one behind the other in the training set.
        ratio: its share of the samples, in any unit. The published stage 1 has CLEF2022 60, ROCO 60, MedICaT 20 and
            MIMIC-CXR 60.
    """

    name: str
    rows: int
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"mixture: data set {self.name!r} has no training rows")
        if not 0 < self.ratio < float("inf"):
            raise ValueError(f"mixture: the ratio of {self.name!r} must be a number above 0, not {self.ratio!r}")


class StreamSampler(Sampler[int]):
    """Row numbers of one epoch after another.

    Args:
        sources: the data sets, in the order in which their rows lie in the training set.
        seed: of the draws and shuffles.
        samples_per_epoch: length of an epoch; a whole number of optimiser steps, so that no batch needs filling up.
    """

    def __init__(self, sources: Sequence[Source], seed: int, samples_per_epoch: int) -> None:
        if not sources:
            raise ValueError("mixture: no data set")
        self.sources, self.seed, self.samples_per_epoch = tuple(sources), seed, samples_per_epoch
        self.epoch = 0
        ratios = np.array([source.ratio for source in sources], dtype=float)
        self.bounds = np.cumsum(ratios / ratios.sum())[:-1]
        self.starts = np.cumsum([0] + [source.rows for source in sources])

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer, also when it resumes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __iter__(self) -> Iterator[int]:
        begin = self.epoch * self.samples_per_epoch
        taken = self._taken_before(begin)
        orders: dict[int, tuple[int, np.ndarray]] = {}
        for position in range(begin, begin + self.samples_per_epoch):
            if position == begin or position % BLOCK == 0:
                drawn = self._sources_of(position // BLOCK)
            source = int(drawn[position % BLOCK])
            visit, place = divmod(int(taken[source]), self.sources[source].rows)
            if orders.get(source, (-1,))[0] != visit:
                orders[source] = (visit, self._order(source, visit))
            taken[source] += 1
            yield int(self.starts[source] + orders[source][1][place])

    def _sources_of(self, block: int) -> np.ndarray:
        """Which source each position of a block draws from."""
        draws = np.random.default_rng([self.seed, 0, block]).random(BLOCK)
        return np.searchsorted(self.bounds, draws, side="right")

    def _taken_before(self, position: int) -> np.ndarray:
        """How many samples each source has given before a position."""
        taken = np.zeros(len(self.sources), dtype=np.int64)
        for block in range(-(-position // BLOCK)):
            drawn = self._sources_of(block)[: position - block * BLOCK]
            taken += np.bincount(drawn, minlength=len(self.sources))
        return taken

    def _order(self, source: int, visit: int) -> np.ndarray:
        """The row order of one pass through a source."""
        return np.random.default_rng([self.seed, 1, source, visit]).permutation(self.sources[source].rows)
