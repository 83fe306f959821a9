"""What the frozen tower makes of each picture, encoded once for all its questions, epochs and runs.

    store = FeatureStore(model.model, collator.store, Path("runs/features"))
    store.fill(rows)                       # before training; killed and called again it goes on
    store.features(row["image"], row["id"])

On disk the features of one tower, preprocessing, number type and kind of device lie in a folder of their own, named by
the hash of all that: a change of any makes a new store, and nothing out of date is ever met.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import PIL
import torch
from accelerate import PartialState
from tqdm import tqdm

from pefomed import __version__
from pefomed.files import sha256_file, write_json
from pefomed.model.modeling import PefomedModel
from pefomed.procedure import Procedure
from pefomed.training.broken import BrokenPictures
from pefomed.training.shards import Shards, explained
from pefomed.training.tower import tower_fingerprint, tower_on

if TYPE_CHECKING:
    from pefomed.training.collator import PixelStore, TrainingCollator

BLANK = "blank"  # the key of the black picture
GB = 10**9
SHARD_BYTES = 64 * 10**6
SHARD_PICTURES = 64  # also a bound on what a killed process has encoded in vain


@dataclass
class FeatureStore:
    """What the frozen tower makes of each picture, in memory or in files.

    Every picture is encoded alone: in batches its last bits would depend on its company, and so on when a run was
    killed. Decoding takes longer than encoding on a GPU, so that batches would gain little.

    Attributes:
        model: the base, whose `encode_images` is asked wherever its tower lies.
        pixels: reads pictures.
        folder: of all stores on disk; None to keep features in memory.
        max_bytes: bound on what is kept.
        kept: features [image_tokens, 4 d] in memory by picture.
        shards: those on disk.
        keys_of_paths: so that a picture's file is hashed once.

    Raises:
        ValueError: the procedure crops pictures at random.
    """

    model: PefomedModel
    pixels: PixelStore
    folder: Path | None = None
    max_bytes: int = 32 * GB
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    shards: Shards | None = None
    keys_of_paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_random_crops(self.pixels.procedure)
        if self.folder is not None and self.shards is None:
            made_of = store_identity(self.model, self.pixels)
            key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
            self.shards = Shards(Path(self.folder) / key)
            with explained(self.shards.folder):
                if not (self.shards.folder / "store.json").is_file():
                    write_json(self.shards.folder / "store.json", made_of)

    def __len__(self) -> int:
        return len(self.kept) + (len(self.shards.of_key) if self.shards else 0)

    @property
    def bytes_each(self) -> int:
        """Size of one picture's features."""
        config = self.model.config
        width = config.vision_config.hidden_size * config.tokens_per_group
        return config.image_tokens * width * self.model.vision_tower.dtype.itemsize

    def features(self, image: dict, name: str) -> torch.Tensor:
        """[image_tokens, 4 d] of a row's image column, in the machine's memory.

        Raises:
            ValueError, OSError: the picture cannot be read.
        """
        key = self._key(image)
        found = self._find(key)
        return self._keep(key, self._encode(self._read(image, name))) if found is None else found

    def blank(self) -> torch.Tensor:
        """[image_tokens, 4 d] of a black picture."""
        found = self._find(BLANK)
        return self._keep(BLANK, self._encode(self.pixels.blank())) if found is None else found

    def fill(
        self,
        rows: Sequence[dict],
        *,
        blank_images: bool = False,
        broken: BrokenPictures | None = None,
        progress: bool = True,
    ) -> int:
        """Encodes those of the rows' pictures that are not there yet.

        Args:
            rows: rows of the schema, or a `datasets.Dataset`.
            blank_images: only the black picture will be shown.
            broken: where unreadable pictures are written down; None makes one an error.
            progress: whether to say the size and to show a bar.

        Returns:
            How many pictures this process encoded.

        Raises:
            ValueError: the features are larger than the bound or the disk, or the folder cannot be written. What was
                encoded before stays.
        """
        wanted = {} if blank_images else self._wanted(rows, broken)
        if blank_images or broken is not None:
            wanted[BLANK] = -1
        self._check_bound(len(wanted))
        damaged = self._refresh()
        missing = [key for key in wanted if self._find(key) is None]
        if progress:
            print(self._said(len(wanted), len(missing), damaged), flush=True)
        if not missing:
            return 0
        self._check_disk(len(missing))
        # Several processes begin in different places, so that they meet late and encode little twice.
        first = secrets.randbelow(len(missing)) if self.shards else 0
        order = missing[first:] + missing[:first]
        return self._encode_all([(key, wanted[key]) for key in order], rows, broken, progress)

    def _encode_all(self, order, rows, broken, progress) -> int:
        """Encodes pictures by (key, number of a row that shows it), and keeps them shard by shard."""
        count, shard = 0, {}
        largest = min(SHARD_PICTURES, max(1, SHARD_BYTES // self.bytes_each))
        for key, number in tqdm(order, disable=not progress, file=sys.stdout, mininterval=10, desc="pictures encoded"):
            if self._find(key) is not None:  # another process was faster
                continue
            row = None if number < 0 else rows[number]
            try:
                pixels = self.pixels.blank() if row is None else self._read(row["image"], row["id"])
            except (ValueError, OSError) as error:
                if broken is None:
                    raise
                broken.add(row["id"], error)
                continue
            shard[key] = self._encode(pixels)
            count += 1
            if len(shard) == largest:
                self._put(shard)
                shard = {}
        self._put(shard)
        return count

    def _wanted(self, rows: Sequence[dict], broken: BrokenPictures | None) -> dict[str, int]:
        """Keys of all pictures, each with the number of the first row that shows it."""
        wanted: dict[str, int] = {}
        for number, row in enumerate(rows):
            try:
                wanted.setdefault(self._key(row["image"]), number)
            except OSError as error:
                if broken is None:
                    raise
                broken.add(row["id"], error)
        return wanted

    def _key(self, image: dict) -> str:
        """Hash of a picture's content as it is stored."""
        if image["bytes"]:
            return hashlib.sha256(image["bytes"]).hexdigest()
        path = image["path"]
        if path not in self.keys_of_paths:
            self.keys_of_paths[path] = sha256_file(path)
        return self.keys_of_paths[path]

    def _find(self, key: str) -> torch.Tensor | None:
        found = None if self.shards is None else self.shards.get(key)
        return self.kept.get(key) if found is None else found

    def _keep(self, key: str, features: torch.Tensor) -> torch.Tensor:
        """Keeps in memory a picture that was met without having been asked for, where the bound allows."""
        if (len(self.kept) + 1) * self.bytes_each <= self.max_bytes:
            self.kept[key] = features
        return features

    def _put(self, features: dict[str, torch.Tensor]) -> None:
        if self.shards is None:
            self.kept.update(features)
        elif features:
            with explained(self.shards.folder):
                self.shards.write(features)

    def _read(self, image: dict, name: str) -> np.ndarray:
        return self.pixels.to_pixels(self.pixels.picture(image, name))

    @torch.no_grad()
    def _encode(self, pixels: np.ndarray) -> torch.Tensor:
        """[image_tokens, 4 d] of pixels [3, size, size], encoded alone."""
        device = self.model.vision_tower.device
        return self.model.encode_images(torch.from_numpy(pixels).unsqueeze(0).to(device))[0].cpu()

    def _refresh(self) -> int:
        if self.shards is None:
            return 0
        with explained(self.shards.folder):
            self.shards.remove_left_behind()
            return self.shards.refresh()

    def _said(self, pictures: int, missing: int, damaged: int) -> str:
        """The size, before the work."""
        total = pictures * self.bytes_each
        told = f"{total / GB:.3g} GB" if total >= GB / 10 else f"{total / 1e6:.3g} MB"
        size = f"{pictures:,} pictures x {self.bytes_each / 1e6:.3g} MB = {told}"
        place = "memory" if self.shards is None else str(self.shards.folder)
        again = f", {damaged} damaged files removed" if damaged else ""
        return f"features of the frozen tower: {size} in {place}; {missing:,} to encode{again}"

    def _check_bound(self, pictures: int) -> None:
        size = pictures * self.bytes_each
        if size > self.max_bytes:
            raise ValueError(
                f"parameter features_max_gb: the features of {pictures:,} pictures take {size / GB:.3g} GB, more than "
                f"{self.max_bytes / GB:.3g} GB; raise it, or choose features=off"
            )

    def _check_disk(self, missing: int) -> None:
        if self.shards is None:
            return
        free, size = shutil.disk_usage(self.shards.folder).free, missing * self.bytes_each
        if size > free:
            raise ValueError(
                f"parameter features_dir: {self.shards.folder}: {missing:,} pictures need {size / GB:.3g} GB, but "
                f"{free / GB:.3g} GB of the disk are free; make room, or choose another folder"
            )


def filled_store(
    model: PefomedModel,
    collator: TrainingCollator,
    data: Sequence[datasets.Dataset],
    folder: Path | None,
    max_gb: float,
    progress: bool,
) -> FeatureStore:
    """A store with all that a collator will meet in the data sets, encoded on this process's device."""
    shown = datasets.concatenate_datasets([rows.select_columns(["id", "image"]) for rows in data])
    with tower_on(model, PartialState().device):
        store = FeatureStore(model, collator.store, folder, int(max_gb * GB))
        store.fill(shown, blank_images=collator.blank_images, broken=collator.broken, progress=progress)
    return store


def refuse_random_crops(procedure: Procedure) -> None:
    """Raises ValueError where no two visits to a picture show the same pixels."""
    if procedure.augment_training_images:
        raise ValueError(
            f"procedure {procedure.name!r} crops pictures at random, so that no features can be kept; choose "
            "features=off"
        )


def store_identity(model: PefomedModel, pixels: PixelStore) -> dict:
    """All that features depend on but the picture: a change of any of it makes another store."""
    procedure, tower = pixels.procedure, model.vision_tower
    prepared = {
        "processor": json.loads(json.dumps(pixels.processor.image_processor.to_dict(), default=str)),
        "window_16bit": procedure.window_16bit,
        "drop_alpha": procedure.drop_alpha,
        "apply_exif": procedure.apply_exif,
        "pefomed": __version__,
        "pillow": PIL.__version__,
    }
    kind = {"dtype": str(tower.dtype), "device": tower.device.type}
    return {"tower": tower_fingerprint(model), "preprocessing": prepared, **kind}
