"""Questions a second in training: the published procedure against kept features and shared pictures.

    compare(Case(name="synthetic"), [Variant("plain", 8), Variant("cached+shared+logits at labels", 20)])

Everything goes through `PefomedTrainer`, which is trl's SFTTrainer, with the same optimiser, in the same order of
questions, on pictures that are decoded beforehand for all alike. What a variant is made of:

    plain                            pixels of every question through the tower, one question a sequence, right
                                     padding, logits at all positions: the published code's procedure
    cached                           the frozen tower's output kept from one pass over the pictures
    cached+shared                    and the questions about a picture behind one copy of it
    cached+shared+logits at labels   and logits for the learnt tokens alone: a `Stage` with `frozen_features` and
                                     `shared_prefix`
    cached+logits at labels          the same without the sharing, to tell what that adds

Each is measured in a process of its own, in turn, since what an allocator went through before shows in times. On one
CPU thread the seconds are the processor's, which other work on the machine lengthens less than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pefomed.files import read_json, write_json

CASES = ("synthetic", "phantoms", "full")
DEVICES = {"cpu": "float32", "cuda": "bfloat16"}
# Whether features are kept, questions share their picture, and logits are taken at labels alone.
KINDS = {
    "plain": (False, False, False),
    "cached": (True, False, False),
    "cached+logits at labels": (True, False, True),
    "cached+shared": (True, True, False),
    "cached+shared+logits at labels": (True, True, True),
}
OURS = "cached+shared+logits at labels"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained on, and where.

    Attributes:
        name: "synthetic" (random weights: tower 192 wide, Llama 256 wide, 6 layers each, vocabulary 32,000),
            "phantoms" (the shipped base on drawn pictures), or "full" (the paper's sizes, random weights).
        pictures: different pictures.
        questions: about each of them.
        image_tokens: positions of a picture; "phantoms" has its own.
        text_tokens: mean of prompt and answer together, 16 of them a question's own; "phantoms" has its own.
        layers, width: of tower and language model in a trial of the script; 0 for the case's own.
        device: "cpu" (float32) or "cuda" (bfloat16).
        threads: of the CPU.
    """

    name: str
    pictures: int = 10
    questions: int = 10
    image_tokens: int = 256
    text_tokens: int = 40
    layers: int = 0
    width: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self):
        if self.name not in CASES:
            raise ValueError(f"case must be one of {', '.join(CASES)}, not {self.name!r}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be cpu or cuda, not {self.device!r}")
        for name in ("pictures", "questions", "image_tokens", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"case {name} must be at least 1, not {getattr(self, name)}")

    @property
    def dtype(self) -> str:
        """Type of the frozen weights."""
        return DEVICES[self.device]


@dataclass(frozen=True)
class Variant:
    """How a case is trained.

    Attributes:
        kind: one of `KINDS`.
        batch_size: questions an optimiser step.
    """

    kind: str
    batch_size: int

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"variant must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.batch_size < 1:
            raise ValueError(f"variant batch_size must be at least 1, not {self.batch_size}")

    @property
    def label(self) -> str:
        return f"{self.kind}, batch {self.batch_size}"


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: steps are taken until so much time has passed.
        steps: but at least so many.
        warm_up: steps before that are not counted.
    """

    seconds: float = 6.0
    steps: int = 3
    warm_up: int = 1


def compare(
    case: Case,
    variants: Sequence[Variant],
    repeats: int = 3,
    effort: Effort = Effort(),  # noqa: B008
    epochs: Sequence[int] = (1, 3, 50),
    kept: str | Path | None = None,
) -> dict:
    """Measures all variants of a case in turn, `repeats` times, and takes medians.

    Of a kind that comes with several batch sizes the fastest is taken that needs no more memory than the fastest plain
    variant, or, where none is that small, the one that needs least.

    Args:
        case: what is trained on.
        variants: at least one of kind "plain".
        repeats: processes for each variant.
        effort: how long each of them measures.
        epochs: for how many passes the time with the encoding of the features is worked out.
        kept: file in which finished measurements are kept, so that a killed comparison goes on.

    Returns:
        sizes, device, dtype, threads, repeats; variants by "plain-8", "cached", ..., each with questions_per_second,
        seconds (a question, each repeat), wall_seconds, peak_mb, loss (of the first questions, before any step),
        batch_size, encode_seconds, work (counts a question) and end_to_end (questions a second by number of epochs);
        tried (questions a second of all batch sizes, null for what did not fit into memory), best_plain, ratios.

    Raises:
        ValueError: no plain variant was given, or none fits.
        RuntimeError: a measurement failed.
    """
    runs: dict[Variant, list[dict]] = {variant: [] for variant in variants}
    for repeat in range(repeats):
        for variant, done in runs.items():
            if done and "out_of_memory" in done[0]:
                continue
            done.append(measured_apart(case, variant, effort, repeat, kept))
            said = "out of memory" if "out_of_memory" in done[-1] else _said(done[-1])
            print(f"{case.name} {variant.label}, {repeat + 1} of {repeats}: {said}", flush=True)
    found = {variant: _medians(variant, done, epochs) for variant, done in runs.items() if "peak_mb" in done[0]}
    plain = {f"plain-{variant.batch_size}": one for variant, one in found.items() if variant.kind == "plain"}
    if not plain:
        raise ValueError(f"case {case.name}: no plain variant was measured, to which the others could be compared")
    best = max(plain, key=lambda name: plain[name]["questions_per_second"])
    chosen = dict(plain)
    for kind in dict.fromkeys(variant.kind for variant in found if variant.kind != "plain"):
        same = [one for variant, one in found.items() if variant.kind == kind]
        chosen[kind] = _fastest_that_fits(same, plain[best]["peak_mb"])
    tried: dict[str, dict] = {}
    for variant in runs:
        speed = found[variant]["questions_per_second"] if variant in found else None
        tried.setdefault(variant.kind, {})[str(variant.batch_size)] = speed
    return {
        "sizes": next(done[0]["sizes"] for done in runs.values() if "sizes" in done[0]),
        "device": case.device,
        "dtype": case.dtype,
        "threads": case.threads,
        "repeats": repeats,
        "variants": chosen,
        "tried": tried,
        "best_plain": best,
        "ratios": _ratios(chosen, best),
    }


def measured_apart(case: Case, variant: Variant, effort: Effort, repeat: int, kept: str | Path | None) -> dict:
    """`pefomed.throughput_measure.measure` in another process, unless `kept` has it from an earlier call."""
    asked = {"case": asdict(case), "variant": asdict(variant), "effort": asdict(effort)}
    return _kept_or_made(["--measure", json.dumps(asked)], case.threads, f"{json.dumps(asked)} {repeat}", kept)


def matmul_apart(case: Case, kept: str | Path | None = None) -> float:
    """Floating-point operations a second that products of large matrices reach on the case's device, in 1e9."""
    arguments = ["--matmul", case.device, "--threads", str(case.threads)]
    return _kept_or_made(arguments, case.threads, " ".join(arguments), kept)["gflops"]


def alternate_apart(case: Case, batch_size: int, turns: int, kept: str | Path | None = None) -> dict[str, list[float]]:
    """`pefomed.throughput_measure.alternate` in another process."""
    asked = json.dumps({"case": asdict(case), "batch_size": batch_size, "turns": turns})
    return _kept_or_made(["--alternate", asked], case.threads, asked, kept)


def _kept_or_made(arguments: list[str], threads: int, name: str, kept: str | Path | None) -> dict:
    before = read_json(kept) if kept and Path(kept).is_file() else {}
    if name not in before:
        before[name] = _in_a_fresh_process(arguments, threads)
        if kept:
            write_json(kept, before)
    return before[name]


def _in_a_fresh_process(arguments: list[str], threads: int) -> dict:
    command = [sys.executable, "-m", "pefomed.throughput", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"a measurement failed: {' '.join(arguments)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _said(one: dict) -> str:
    speed = 1 / one["seconds_per_question"]
    return f"{speed:.2f} questions/s, {one['peak_mb']:,.0f} MB, first loss {one['loss']:.6f}"


def _medians(variant: Variant, done: list[dict], epochs: Sequence[int]) -> dict:
    """One variant's row of the result: the median run stands for it."""
    median = sorted(done, key=lambda run: run["seconds_per_question"])[len(done) // 2]
    each, encoding = median["seconds_per_question"], median["encode_seconds"]
    asked = median["sizes"]["pictures"] * median["sizes"]["questions"]
    return {
        "questions_per_second": round(1 / each, 3),
        "batch_size": variant.batch_size,
        "seconds": [run["seconds_per_question"] for run in done],
        "wall_seconds": [run["wall_seconds_per_question"] for run in done],
        "peak_mb": median["peak_mb"],
        "loss": median["loss"],
        "first_step_loss": median["first_step_loss"],
        "steps": median["steps"],
        "encode_seconds": encoding,
        "end_to_end": {str(n): round(n * asked / (encoding + n * asked * each), 3) for n in epochs},
        "work": median["work"],
    }


def _fastest_that_fits(same: list[dict], peak_mb: float) -> dict:
    small = [one for one in same if one["peak_mb"] <= peak_mb]
    if small:
        return max(small, key=lambda one: one["questions_per_second"])
    return min(same, key=lambda one: one["peak_mb"])


def _ratios(chosen: dict[str, dict], best_plain: str) -> dict[str, float]:
    """How many times as fast as others `OURS` is, and how much memory it needs of the best plain variant's."""
    if OURS not in chosen:
        return {}
    ours, best = chosen[OURS], chosen[best_plain]

    def times(name: str) -> float:
        return round(ours["questions_per_second"] / chosen[name]["questions_per_second"], 3)

    ratios = {"to_best_plain": times(best_plain), "peak_mb_to_best_plain": round(ours["peak_mb"] / best["peak_mb"], 3)}
    if "plain-1" in chosen:
        ratios["to_plain_1"] = times("plain-1")
    for name in (name for name in KINDS if name in chosen and name != OURS):
        ratios[f"to_{name}"] = times(name)
    for epochs, speed in ours["end_to_end"].items():
        ratios[f"end_to_end_{epochs}_to_best_plain"] = round(speed / best["end_to_end"][epochs], 3)
    return ratios


def answered(arguments: Sequence[str] | None = None) -> dict:
    """One measurement in this process, as the command line asks for it."""
    parser = argparse.ArgumentParser(description="One measurement for pefomed.throughput, as a line of JSON.")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--measure", type=json.loads, help="JSON with case, variant and effort")
    asked.add_argument("--alternate", type=json.loads, help="JSON with case, batch_size and turns")
    asked.add_argument("--matmul", choices=tuple(DEVICES), help="matrix products on this device")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    from pefomed import throughput_measure

    if given.matmul:
        return {"gflops": throughput_measure.matmul_gflops(given.matmul, given.threads)}
    if given.alternate:
        return throughput_measure.alternate(**given.alternate | {"case": Case(**given.alternate["case"])})
    case, variant, effort = (given.measure[name] for name in ("case", "variant", "effort"))
    return throughput_measure.measure(Case(**case), Variant(**variant), Effort(**effort))


if __name__ == "__main__":
    print(json.dumps(answered()))
