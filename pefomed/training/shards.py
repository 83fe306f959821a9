"""Tensors in files that several processes may add to and any may be killed over.

    <folder>/<sha256>.safetensors

A file is named by the hash of its own content. One with another content than its name says is damaged: it is removed,
and whoever wants its tensors makes them again. Files appear whole and are never changed, and a tensor that two
processes wrote does no harm.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from pefomed.files import sha256_file, write_bytes

LEFT_BEHIND_SECONDS = 600  # a temporary file without a new byte for so long belongs to a dead process


@dataclass
class Shards:
    """Tensors by key in the files of one folder.

    Attributes:
        folder: where they lie; made by the first write.
        of_key: the open file that holds a tensor. Files are mapped into memory, not read.
        checked: names of the files whose content has been found right.
    """

    folder: Path
    of_key: dict[str, safe_open] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)

    def refresh(self) -> int:
        """Takes in files that have appeared since the last call; returns how many were damaged and are removed."""
        damaged = 0
        for path in sorted(self.folder.glob("?" * 64 + ".safetensors")):
            if path.name in self.checked:
                continue
            try:
                whole = sha256_file(path) == path.stem
                if not whole:
                    path.unlink(missing_ok=True)
                    damaged += 1
                    continue
                opened = safe_open(path, "pt")
            except FileNotFoundError:  # another process has found it damaged, too
                continue
            for key in opened.keys():  # noqa: SIM118
                self.of_key.setdefault(key, opened)
            self.checked.add(path.name)
        return damaged

    def get(self, key: str) -> torch.Tensor | None:
        """A tensor, read from the disk where it is used; None where no file holds it."""
        opened = self.of_key.get(key)
        return None if opened is None else opened.get_tensor(key)

    def write(self, tensors: dict[str, torch.Tensor]) -> None:
        """Puts a file of tensors into the folder."""
        data = save({key: value.contiguous() for key, value in tensors.items()})
        write_bytes(self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors", data)
        self.refresh()

    def remove_left_behind(self) -> None:
        """Removes temporary files of processes that were killed while writing."""
        for path in self.folder.glob(".*.part"):
            try:
                if time.time() - path.stat().st_mtime > LEFT_BEHIND_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # it has just got its name, or another process removed it
                continue


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """One clear line for a folder that cannot be written, be it full, read-only or no folder."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"parameter features_dir: {folder} cannot be used ({error.strerror or error}); what was encoded is kept: "
            "make room or choose another folder, then start again"
        ) from error
