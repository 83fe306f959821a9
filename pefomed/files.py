"""Files that appear under their name only when whole.

Everything a run leaves behind is written through this module: first to a temporary neighbour in the same folder, then
flushed to the disk, then renamed. An interrupted run leaves either the former file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path` atomically.

    Args:
        path: Destination; missing parent folders are created.
        data: The whole content.

    Returns:
        The destination.

    Raises:
        OSError: The folder cannot be written; nothing of the attempt is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renaming is atomic only inside one file system, hence the same folder and not the system's temporary one.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:  # an interrupt, too, must not leave the neighbour lying about
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path` atomically, as UTF-8 with line endings left as they are.

    Args:
        path: Destination; missing parent folders are created.
        text: The whole content.

    Returns:
        The destination.
    """
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, obj: Any) -> Path:
    """Write `obj` to `path` atomically as indented JSON that ends in a newline.

    Args:
        path: Destination; missing parent folders are created.
        obj: Anything the `json` module accepts.

    Returns:
        The destination.

    Raises:
        ValueError: `obj` holds a NaN or an infinity, which JSON cannot express.
        TypeError: `obj` holds an object that JSON cannot express.
    """
    try:
        text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be written as JSON ({error}); replace NaN and infinities by None") from error
    return write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        The decoded content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not UTF-8 or not JSON; the message names file, line and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}: {error.reason})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content as 64 lower-case hexadecimal digits.

    Args:
        path: The file; it is read in blocks, so that its size does not matter.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entry, so that the rename survives a power cut (only POSIX lets a folder be opened)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
