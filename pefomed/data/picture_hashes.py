"""Which pictures are the same, and which only look alike: hashes of files, and of what they show.

The SHA-256 of a file proves that two files are one picture. The difference hash is a hint and no more: it keeps 64
bits of how grey values rise and fall, so scaled and re-compressed copies agree in nearly all of them, and so do
different chest radiographs now and then, or any two pictures that are all but empty.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pefomed.images import open_image

BITS = 64
MAX_DISTANCE = 3  # of 64 bits; among VQA-RAD's 314 pictures, 12 of 49,141 pairs are as close
_SECONDS_BETWEEN_LINES = 10.0
_FILES_AT_ONCE = 16  # a worker's share at a time

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class PictureFacts:
    """What reading a picture told.

    Attributes:
        sha256: of the encoded file; "" where it could not be read.
        dhash: 64 bits of what it shows; None where it could not be decoded.
        problem: why it could not be read or decoded; "" for a good one.
    """

    sha256: str
    dhash: int | None = None
    problem: str = ""


def read_picture(image: Mapping[str, Any]) -> PictureFacts:
    """Reads, hashes and decodes one picture once.

    Args:
        image: the image column of a row, `{"bytes", "path"}`.
    """
    name = str(image.get("path") or "picture")
    data = image.get("bytes")
    try:
        data = Path(image["path"]).read_bytes() if data is None else data
    except FileNotFoundError:
        return PictureFacts("", problem="no such picture file")
    except OSError as error:
        return PictureFacts("", problem=error.strerror or type(error).__name__)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        return PictureFacts(sha256, difference_hash(open_image(data, name=name)))
    except ValueError as error:
        return PictureFacts(sha256, problem=str(error).removeprefix(f"{name}: "))


def read_pictures(
    images: Iterable[Mapping[str, Any]], total: int, processes: int = 1, progress: bool = True
) -> Iterator[PictureFacts]:
    """Reads pictures in their order.

    Args:
        images: image columns, `{"bytes", "path"}`; with one process they are asked for one at a time.
        total: how many there are, for the progress line.
        processes: how many read at once. More than 1 starts new interpreters, so a script that asks for them must
            guard its own work by `if __name__ == "__main__"`.
        progress: whether long work tells on stderr how far it is.

    Raises:
        ValueError: `processes` is below 1.
    """
    if processes < 1:
        raise ValueError(f"parameter processes must be at least 1, not {processes}")
    if processes == 1:
        facts: Iterable[PictureFacts] = map(read_picture, images)
        yield from told(facts, total, "pictures") if progress else facts
        return
    context = multiprocessing.get_context("spawn")  # forking a process that has threads (Arrow's) can hang
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        facts = pool.map(read_picture, images, chunksize=_FILES_AT_ONCE)
        yield from told(facts, total, "pictures") if progress else facts


def told(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Hands items on, with a line on stderr every ten seconds; short work says nothing."""
    spoken = time.monotonic()
    for number, item in enumerate(items, start=1):
        if time.monotonic() - spoken >= _SECONDS_BETWEEN_LINES:
            print(f"{what}: {number:,} of {total:,}", file=sys.stderr, flush=True)
            spoken = time.monotonic()
        yield item


def difference_hash(image: Image.Image) -> int:
    """The 64-bit difference hash (dHash): a bit for each pair of neighbours in a row, set where the right is brighter.

    The picture is reduced to 9 x 8 grey values, each the mean of its part of the picture.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def near_duplicates(
    hashes: Iterable[int], among: Iterable[int], max_distance: int = MAX_DISTANCE
) -> dict[int, tuple[int, int]]:
    """Finds, for each hash, the nearest of others that differ in few bits, without comparing every pair.

    The 64 bits are cut into one band more than bits may differ. Two hashes that are close enough then agree wholly in
    at least one band, so each is compared with those that share a band with it, and with no others.

    Args:
        hashes: the hashes to find neighbours for.
        among: the hashes to look among.
        max_distance: how many of the 64 bits may differ, 0 to 15.

    Returns:
        `{hash: (nearest of among, bits that differ)}` for those that have one; of equally near ones the smallest.

    Raises:
        ValueError: `max_distance` is out of range.
    """
    if not 0 <= max_distance <= 15:
        raise ValueError(f"parameter max_distance must be from 0 to 15 bits, not {max_distance}")
    known = np.array(sorted(set(among)), dtype=np.uint64)
    bands = _bands(max_distance + 1)
    places: list[dict[int, np.ndarray]] = [_by_band(known, shift, mask) for shift, mask in bands]
    found: dict[int, tuple[int, int]] = {}
    for value in set(hashes):
        shared = [
            table[key]
            for table, (shift, mask) in zip(places, bands, strict=True)
            if (key := value >> shift & mask) in table
        ]
        if not shared:
            continue
        candidates = known[np.unique(np.concatenate(shared))]
        distances = _bit_count(candidates ^ np.uint64(value))
        nearest = int(distances.argmin())
        if distances[nearest] <= max_distance:
            found[value] = (int(candidates[nearest]), int(distances[nearest]))
    return found


def _bands(count: int) -> list[tuple[int, int]]:
    """Cuts the 64 bits into bands of nearly equal width: shift and mask of each."""
    edges = [BITS * number // count for number in range(count + 1)]
    return [(low, (1 << (high - low)) - 1) for low, high in zip(edges, edges[1:], strict=False)]


def _by_band(values: np.ndarray, shift: int, mask: int) -> dict[int, np.ndarray]:
    """The places of the values that have the same bits in a band, by these bits."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, value in enumerate(values.tolist()):
        places[value >> shift & mask].append(place)
    return {key: np.array(listed) for key, listed in places.items()}


def _bit_count(values: np.ndarray) -> np.ndarray:
    """How many bits of each 64-bit number are set."""
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
