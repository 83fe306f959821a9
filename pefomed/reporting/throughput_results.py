"""What the benchmarks of training and answering wrote, and what its names mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pefomed.files import read_json

KINDS = {"plain": "plain", "cached": "features kept", "shared": "shared prefix"}
CASES = {
    "synthetic": "synthetic: random weights, small and with a large vocabulary",
    "phantoms": "phantoms: embedded scale, drawn phantoms",
    "full": "full: the paper's size, random weights",
}


def read_speed(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What the benchmarks of training and answering wrote.

    Args:
        folder: of training.json and inference.json; one that has not been measured yet may be missing.

    Returns:
        "training" and "inference", each with `cases` by name; training has `growth` and `roofline`, too, where they
        were measured. Without the file there are no cases.

    Raises:
        ValueError: a file is not JSON, or not what the benchmark writes.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in ("training", "inference"):
        path = Path(folder) / f"{name}.json"
        content = read_json(path) if path.is_file() else {"cases": {}}
        if not isinstance(content, dict):
            raise ValueError(f"{path}: not a table of cases; run `python benchmarks/bench_{name}.py` again")
        rest = {} if "cases" in content else {"cases": {k: v for k, v in content.items() if _is_case(v)}}
        found[name] = content | rest
        for case, entry in found[name]["cases"].items():
            if not _is_case(entry):
                raise ValueError(f"{path}: case {case!r} has no variants; run the benchmark again")
    return found


def _is_case(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("variants"), Mapping) and bool(entry["variants"])


def kind_of(variant: str) -> str:
    """`plain`, `cached` (the tower's output is kept), or `shared` (and a picture is read once for its questions)."""
    if "shared" in variant or variant.startswith("prefix"):
        return "shared"
    return "cached" if variant.startswith("cached") else "plain"


def label_of(variant: str) -> str:
    """A variant's name in words; a name that no benchmark gives stays as it is."""
    kind, _, batch = variant.partition("-")
    if kind == "plain" and batch.isdecimal():
        return "plain, one at a time" if batch == "1" else f"plain, {batch} at a time"
    words = {
        "cached": "features kept",
        "shared": "shared prefix",
        "prefix": "from one prefix",
        "features": "features kept",
    }
    return ", ".join(words.get(part, part) for part in variant.split("+"))


def best_plain(case: Mapping) -> str:
    """The plain variant of a case with the most questions a second; the ratios are to this one.

    Raises:
        ValueError: nothing plain was measured.
    """
    speeds = {
        name: found["questions_per_second"] for name, found in case["variants"].items() if kind_of(name) == "plain"
    }
    if not speeds:
        raise ValueError(f"no plain variant to compare with among {', '.join(case['variants'])}")
    return max(speeds, key=speeds.__getitem__)


def measured_on(results: Mapping, case: Mapping | None = None) -> str:
    """On what something was measured, in one line: machine, threads, number type, repeats, packages."""
    case = case or {}
    machine = case.get("machine") or results.get("machine") or {}
    words = [f"{value} {key}" if isinstance(value, (int, float)) else str(value) for key, value in machine.items()]
    if case.get("threads"):
        words.append(f"{case['threads']} thread" + ("s" if case["threads"] > 1 else ""))
    words += [str(case[key]) for key in ("device", "dtype") if case.get(key)]
    repeats = {len(found.get("seconds", ())) for found in case.get("variants", {}).values()} - {0}
    words += [f"medians of {count} runs" for count in sorted(repeats)]
    packages = case.get("packages") or results.get("packages") or {}
    words += [f"{name} {packages[name]}" for name in ("torch", "transformers", "trl") if name in packages]
    return ", ".join(words) or "a machine that was not recorded"
