"""Questions a second in training: the published procedure, kept features, shared pictures, logits at labels alone.

    python benchmarks/bench_training.py                          # all but `full` -> benchmarks/results/training.json
    python benchmarks/bench_training.py --case phantoms          # one case into the same file
    python benchmarks/bench_training.py --case full --device cuda --dtype bfloat16
    python benchmarks/bench_training.py --case full --layers 2 --width 32 --image-tokens 16 --pictures 2 --questions 2
        --seconds 0 --out t.json                                 # a trial on the CPU, all on one line

`pefomed.throughput` says what is compared and how. `synthetic` has random weights: a tower 192 wide and a Llama 256
wide, 6 layers each, a vocabulary of 32,000, 256 image tokens, 10 questions a picture of 40 text tokens, 24 of them
alike. `phantoms` is the shipped base on drawn pictures, 8 questions each. `full` is the paper's size with sequences as
in VQA-RAD: 43 tokens of prompt, 4 of answer. `growth` follows the cost from 1 to 40 questions a picture, 64 to 1,024
image tokens, and 10 to 1,000 pictures of 64 image tokens; `single` is one question a picture, where
sharing must cost nothing. The roofline sets the operations that the formulas of `paper_scale.py` give for the batches
as they were against measured products of large matrices.

Finished measurements are kept beside the output in `.training.json.part`: killed and started again, it goes on.
"""

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from pefomed.files import read_json, write_json
from pefomed.run_record import installed_versions
from pefomed.throughput import DEVICES, OURS, Case, Effort, Variant, alternate_apart, compare, matmul_apart

RESULTS = Path(__file__).parent / "results" / "training.json"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")
CASES = {
    "synthetic": Case(name="synthetic", pictures=10),
    "phantoms": Case(name="phantoms", pictures=24, questions=8),
    "full": Case(name="full", pictures=16, text_tokens=47),
}
PLAIN_BATCHES = {"synthetic": (1, 4, 8, 16), "phantoms": (1, 16), "full": (1, 4, 8, 16, 32)}
# Where several are tried, the fastest that needs no more memory than plain at its best stands for the kind.
CACHED_BATCHES = {"synthetic": (1,), "phantoms": (16,), "full": (8, 16)}
SHARED_BATCHES = {"synthetic": (10,), "phantoms": (16,), "full": (20, 40, 80, 160)}
SINGLE_TURNS = 10
EPOCHS = (1, 3, 50)
GROWTH_BATCH = 10  # questions a step of the shared variants, or the next multiple of the questions a picture
VQA_RAD = {"questions": 3064, "pictures": 314, "epochs": 50}  # training rows as the paper counts them


def variants_of(case: str, plain: Sequence[int], shared: Sequence[int]) -> list[Variant]:
    """All variants of a case."""
    found = [Variant("plain", size) for size in plain]
    found += [Variant("cached", size) for size in CACHED_BATCHES[case]]
    found += [Variant("cached+shared", shared[0])]
    return found + [Variant(OURS, size) for size in shared]


def flops_per_question(case: Case, work: dict, lora_r: int) -> float:
    """Floating-point operations of a question by formula, from the shapes of the batches that were trained on.

    As in `paper_scale.flops`: 2 per matrix element and token and pass, the whole square of positions in attention,
    backward once the forward's products through frozen matrices and twice through trained ones. Rows are counted with
    their padding; logits at as many positions as were asked for, forward and back to their input.
    """
    from paper_scale_counts import count

    from pefomed.throughput_cases import network_config

    sizes = count(network_config(case), lora_r)
    seen = sizes.patches + 1
    tower = 2 * (sizes.tower_weights * seen + sizes.patch_weights * sizes.patches)
    tower += 4 * seen**2 * sizes.tower_width * sizes.tower_blocks
    matrices = work["positions"] * (4 * sizes.layer_weights + 6 * sizes.lora)
    attention = work["attended"] * 12 * sizes.width * sizes.layers
    projector = work["projected"] * 4 * sizes.projector * sizes.image_tokens
    head = work["logits"] * 4 * sizes.width * sizes.vocabulary
    return work["encoded"] * tower + matrices + attention + projector + head


def roofline(case: Case, variants: dict, kept: Path) -> dict:
    """Operations by formula, what was achieved of them a second, and its share of large matrix products' speed."""
    from pefomed.training.stages import get_stage

    lora_r = get_stage("stage2_vqa", "paper" if case.name == "full" else "tiny").lora_r
    peak = matmul_apart(case, kept)
    print(f"{case.name}: products of large matrices reach {peak:,.1f} GFLOP/s", flush=True)
    rows = {}
    for name, variant in variants.items():
        flops = flops_per_question(case, variant["work"], lora_r)
        achieved = flops * variant["questions_per_second"] / 1e9
        rows[name] = {
            "flops_per_question": round(flops),
            "achieved_gflops": round(achieved, 2),
            "share": round(achieved / peak, 4),
        }
    return {"matmul_gflops": peak, "variants": rows}


def stage2_minutes(result: dict) -> dict:
    """What the paper's 50 epochs of VQA-RAD take at the measured speeds, the encoding of the pictures included."""
    minutes = {}
    for name, variant in result["variants"].items():
        encoding = variant["encode_seconds"] / result["sizes"]["pictures"] * VQA_RAD["pictures"]
        steps = VQA_RAD["epochs"] * VQA_RAD["questions"] / variant["questions_per_second"]
        minutes[name] = round((encoding + steps) / 60, 2)
    return VQA_RAD | {"minutes": minutes}


def grown(case: Case, others: Sequence[str], given: argparse.Namespace, kept: Path) -> dict:
    """One point of the growth: plain and cached at batch size 1, shared at `GROWTH_BATCH` or a little more."""
    batch = case.questions * -(-GROWTH_BATCH // case.questions)
    sizes = {"plain": 1, "cached": 1, OURS: batch}
    variants = [Variant(kind, sizes[kind]) for kind in ("plain", *others, OURS)]
    found = compare(case, variants, 1, Effort(given.seconds / 2, steps=1), EPOCHS, kept)["variants"]
    plain, ours = found["plain-1"], found[OURS]
    saved = 1 / plain["questions_per_second"] - 1 / ours["questions_per_second"]
    names = {"plain": plain, **{kind: found[kind] for kind in others}, "shared": ours}
    row = {name: one["questions_per_second"] for name, one in names.items()}
    return row | {
        "batch_size": {name: one["batch_size"] for name, one in names.items()},
        "peak_mb": {name: one["peak_mb"] for name, one in names.items()},
        "ratio": round(ours["questions_per_second"] / plain["questions_per_second"], 3),
        "end_to_end_ratio": {
            epochs: round(speed / plain["end_to_end"][epochs], 3) for epochs, speed in ours["end_to_end"].items()
        },
        "encode_seconds": ours["encode_seconds"],
        # Passes over the questions after which the encoding has been saved again.
        "paid_off_after_epochs": round(ours["encode_seconds"] / (saved * case.pictures * case.questions), 4),
    }


def single(given: argparse.Namespace, kept: Path) -> dict:
    """With one question a picture there is nothing to share: whether the attempt costs anything, by the same loss."""
    seconds = alternate_apart(replace(CASES["synthetic"], questions=1), GROWTH_BATCH, SINGLE_TURNS, kept)
    cached, shared = (median(seconds[name]) for name in ("cached", "shared"))
    found = {"cached": round(1 / cached, 3), "shared": round(1 / shared, 3), "ratio": round(cached / shared, 3)}
    print(f"one question a picture: {found}", flush=True)
    return found | {"batch_size": GROWTH_BATCH, "seconds": seconds}


def growth(given: argparse.Namespace, kept: Path) -> dict:
    """How cost grows with questions a picture, image tokens and pictures."""
    base = CASES["synthetic"]
    found: dict[str, list[dict]] = {"questions": [], "image_tokens": [], "pictures": []}
    for questions in (1, 3, 10, 40):
        case = replace(base, questions=questions, pictures=base.pictures if questions > 3 else 20)
        found["questions"].append({"questions": questions} | grown(case, ("cached",), given, kept))
    for tokens in (64, 256, 1024):
        case = replace(base, image_tokens=tokens)
        found["image_tokens"].append({"image_tokens": tokens} | grown(case, ("cached",), given, kept))
    for pictures in (10, 100, 1000):
        case = replace(base, image_tokens=64, pictures=pictures)
        found["pictures"].append({"pictures": pictures, "image_tokens": 64} | grown(case, (), given, kept))
    return found


def measured_case(name: str, given: argparse.Namespace, kept: Path) -> dict:
    """One case with all its variants and, but for the shipped base, its roofline."""
    case = sized(name, given)
    plain = given.plain_batches or PLAIN_BATCHES[name]
    variants = variants_of(name, plain, given.shared_batches or SHARED_BATCHES[name])
    on_gpu = case.device != "cpu"
    effort = Effort(given.seconds, 5, 3) if on_gpu else Effort(given.seconds, steps=1)
    repeats = given.repeats or (1 if name == "full" else 3)
    found = compare(case, variants, repeats, effort, given.epochs, kept)
    if name != "phantoms":
        found["roofline"] = roofline(case, found["variants"], kept)
    if name == "full":
        found |= {"trial": case.layers > 0 or case.width > 0 or not on_gpu, "stage2": stage2_minutes(found)}
    return found


def sized(name: str, given: argparse.Namespace) -> Case:
    """A case with the sizes that were asked for in place of its own."""
    names = ("pictures", "questions", "image_tokens", "text_tokens", "layers", "width", "device", "threads")
    asked = {one: getattr(given, one) for one in names if getattr(given, one) is not None}
    return replace(CASES[name], **asked)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=(*CASES, "growth", "single"), help="default: all but full")
    for name in ("pictures", "questions", "image-tokens", "text-tokens", "layers", "width"):
        parser.add_argument(f"--{name}", type=int, help="in place of the case's own")
    parser.add_argument("--plain-batches", type=int, nargs="+")
    parser.add_argument("--shared-batches", type=int, nargs="+")
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS, help="passes to share the encoding among")
    parser.add_argument("--repeats", type=int, help="processes for each variant; default 3, of full 1")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured in each process, half in growth")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=tuple(DEVICES))
    parser.add_argument("--dtype", choices=tuple(DEVICES.values()), help="float32 on the CPU, bfloat16 on a GPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if given.dtype and given.dtype != DEVICES[given.device or "cpu"]:
        parser.error(f"--dtype {given.dtype} does not go with --device {given.device or 'cpu'}")
    trial = any(getattr(given, name) for name in ("pictures", "questions", "image_tokens", "layers", "width"))
    trial = trial or (given.case == "full" and given.device != "cuda")
    if trial and given.out == RESULTS:
        parser.error(f"--out is needed for other sizes than the cases' own: {RESULTS.name} is for these")
    if given.case in ("growth", "single") and (trial or given.device == "cuda"):
        parser.error(f"--case {given.case} has sizes of its own and runs on the CPU")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and puts what was measured into the output beside what it has of other cases."""
    given = parsed(arguments)
    kept = given.out.with_name(f".{given.out.name}.part")
    result = read_json(given.out) if given.out.is_file() else {}
    cases = result.setdefault("cases", {})
    for name in [given.case] if given.case else ["synthetic", "phantoms", "growth", "single"]:
        if name in ("growth", "single"):
            result[name] = {"growth": growth, "single": single}[name](given, kept)
        else:
            cases[name] = measured_case(name, given, kept)
            cases[name] |= {"packages": installed_versions(PACKAGES)}
            print(f"{name}: {cases[name]['ratios']}", flush=True)
    if "roofline" in cases.get("synthetic", {}):
        result["roofline"] = cases["synthetic"]["roofline"]
    result["machine"] = {"platform": f"{platform.system()} {platform.machine()}", "processors": os.cpu_count()}
    result["packages"] = installed_versions(PACKAGES)
    write_json(given.out, result)
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
