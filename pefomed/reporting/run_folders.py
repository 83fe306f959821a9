"""Folders below one, the result files in each, and how they are named where no place of the machine may stand."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

DEPTH = 8
# What tables raise for a metrics.json that somebody has changed or another program has written.
MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError)
_FILE = re.compile(r"(?P<kind>metrics|predictions|judge|ratings)(?P<suffix>(_.+)?)\.jsonl?")


@dataclass(frozen=True)
class Skipped:
    """A file, or a table, that was left out.

    Attributes:
        folder: relative to the folder that was searched.
        why: one line.
    """

    folder: str
    why: str


def walk(
    root: Path, leave_out: Path | None, depth: int, skipped: list[Skipped]
) -> tuple[list[tuple[Path, list[str]]], int]:
    """Folders with the names of their files, in the order of names, and how many folders lie too deep."""
    found, seen, too_deep = [], set(), 0
    level = [root]
    for distance in range(depth + 2):
        below: list[Path] = []
        for folder in level:
            # A link to a folder above would go round for ever.
            if (real := folder.resolve()) in seen or real == leave_out:
                continue
            if distance > depth:
                too_deep += 1
                continue
            seen.add(real)
            try:
                with os.scandir(folder) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
                    below += [Path(e.path) for e in inside if not e.name.startswith(".") and e.is_dir()]
                    found.append((folder, [entry.name for entry in inside if entry.is_file()]))
            except OSError as error:
                skipped.append(Skipped(relative(folder, root), f"cannot be read ({error.strerror})"))
        level = below
    return found, too_deep


def file_sets(names: list[str]) -> dict[str, dict[str, list[str]]]:
    """By suffix of a predictions or metrics file, the files that belong to it, by kind."""
    parts = [(name, found) for name in names if (found := _FILE.fullmatch(name)) and _ending(name, found["kind"])]
    sets: dict[str, dict[str, list[str]]] = {
        found["suffix"]: {} for _, found in parts if found["kind"] in ("metrics", "predictions")
    }
    for name, found in parts:
        # Verdicts without any predictions get a set of their own, which is then named as lacking them.
        suffix = found["suffix"] if found["suffix"] in sets else ""
        sets.setdefault(suffix, {}).setdefault(found["kind"], []).append(name)
    return sets


def _ending(name: str, kind: str) -> bool:
    return name.endswith(".json") == (kind == "metrics")


def relative(path: Path, root: Path) -> str:
    """The path below the folder that was searched, whose own name stands for itself."""
    return root.resolve().name if path == root else path.relative_to(root).as_posix()


def one_line(error: BaseException, root: Path, path: Path | None = None) -> str:
    """What was wrong, without the path of the searched folder: results name no place of the machine."""
    kind = type(error).__name__
    text = str(error) if isinstance(error, ValueError | FileNotFoundError) else f"not as it should be ({kind} {error})"
    if path is not None and str(path) not in text:
        text = f"{path}: {text}"
    return " ".join(text.replace(f"{root}{os.sep}", "").split())


def natural(text: str) -> list[tuple[int, str]]:
    """Sorts seed-2 before seed-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
