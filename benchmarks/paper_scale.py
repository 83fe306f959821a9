"""What training at the paper's sizes costs in memory and time, by arithmetic. Nothing here is measured.

    python benchmarks/paper_scale.py --write              # -> results/paper_scale.json, for book/full_size.ipynb
    python benchmarks/paper_scale.py --utilisation 0.2    # prints the tables under another assumption

Parameters are counted on the network itself, assembled on torch's meta device (shapes without memory). Everything
assumed stands in `TEXT`, `GPUS` and the arguments. `benchmarks/paper_scale_measured.py` measures the same on a GPU.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

from paper_scale_counts import Sizes, count, tower_is_differentiated
from paper_scale_tables import tables

from pefomed.data.catalogue import DATA_SETS
from pefomed.files import write_json
from pefomed.model.presets import paper_config
from pefomed.training.stages import Stage, get_stage

RESULTS = Path(__file__).parent / "results" / "paper_scale.json"
GB = 1e9
# Dense bfloat16 TFLOP/s by the vendor's data sheets, and memory in GB. The paper trained on four A40.
GPUS = {"A40": (149.7, 48), "A100": (312.0, 80), "H100 SXM": (989.0, 80)}


@dataclass(frozen=True)
class Text:
    """Mean tokens of a data set's texts in LLaMA-2's vocabulary, and how many pictures its training split has.

    Attributes:
        prompt: `<s>`, the template and the instruction; the image's tokens not counted.
        answer: with `</s>`; the positions that are learnt.
        pictures: different pictures of the training split; 0 where every sample may be a new one.
        source: where the lengths come from.
    """

    prompt: int
    answer: int
    pictures: int
    source: str


TEXT = {
    "mixture": Text(
        23,
        51,
        0,
        "captions of 71 ROCO samples have 37 tokens and of 10 MedICaT samples 44, CLEF2022 taken as ROCO, MIMIC-CXR "
        "findings assumed 80: = (60 x 37 + 60 x 37 + 20 x 44 + 60 x 80) / 200",
    ),
    "vqa_rad": Text(43, 4, 314, "counted on all 3,064 training questions"),
    "slake": Text(41, 3, 450, "counted on 52 English training questions"),
    "path_vqa": Text(54, 5, 2599, "counted on 120 training questions"),
    "iu_xray": Text(27, 56, 4138, "counted on 60 training reports"),
}
PLANS = (
    ("stage1_captions", "paper", "mixture"),
    ("stage1_captions", "released_code", "mixture"),
    *(
        ("stage2_vqa", recipe, name)
        for recipe in ("paper", "released_code")
        for name in ("vqa_rad", "slake", "path_vqa")
    ),
    ("stage2_report", "paper", "iu_xray"),
    ("stage2_report", "released_code", "iu_xray"),
)
# The form whose training split the paper counts.
FORMS = {"vqa_rad": "mevf", "slake": "official", "path_vqa": "json", "iu_xray": "r2gen"}


def flops(sizes: Sizes, prompt: int, answer: int, checkpointing: bool, tower_backward: bool) -> dict[str, int]:
    """Floating-point operations of one training sample: 2 per matrix element and token, per pass.

    Args:
        sizes: of the network.
        prompt, answer: tokens.
        checkpointing: whether layers are run forward a second time.
        tower_backward: whether the tower is run again and differentiated (only with checkpointing).

    Attention counts the whole square of positions, 4 x positions^2 x width a layer forward, twice that backward.
    Backward through a frozen matrix is one product (towards its input), through a trained one two.
    """
    n = sizes.image_tokens + prompt + answer
    seen = sizes.patches + 1
    tower_matrices = 2 * (sizes.tower_weights * seen + sizes.patch_weights * sizes.patches)
    tower_attention = 4 * seen**2 * sizes.tower_width * sizes.tower_blocks
    matrices, lora = 2 * sizes.layer_weights * n, 2 * sizes.lora * n
    attention = 4 * n**2 * sizes.width * sizes.layers
    again = tower_backward and checkpointing
    parts = {
        "tower forward": tower_matrices + tower_attention,
        "tower again and backward": (2 * tower_matrices + 3 * tower_attention) * again,
        "language model forward": matrices + attention + lora,
        "language model again": (matrices + attention + lora) * checkpointing,
        "language model backward": matrices + 2 * attention + 2 * lora,
        # Its input is frozen: only the weights' gradient. trl computes the head's logits a second time going back.
        "projector": 2 * 2 * sizes.projector * sizes.image_tokens,
        "vocabulary head": 3 * 2 * sizes.width * sizes.vocabulary * answer,
    }
    return parts | {"total": sum(parts.values())}


def layer_bytes(sizes: Sizes, mask_bytes: int = 1) -> int:
    """Bytes that one layer keeps of one token for its backward pass, bfloat16 with float32 norms.

    Two norms keep a float32 copy and a number each; LoRA on q and v a mask, its input and its inner product each;
    attention q, k, v, its output and a float32 number a head; the gated MLP three tensors of its own width. Frozen
    matrices keep nothing.
    """
    d = sizes.width
    norms = 2 * (4 * d + 4)
    lora = 2 * ((mask_bytes + 2) * d + 2 * sizes.lora_r)
    attention = 4 * 2 * d + 4 * sizes.heads
    return norms + lora + attention + 3 * 2 * sizes.mlp


def memory(
    sizes: Sizes, batch: int, prompt: int, answer: int, tower_backward: bool, other_gb: float
) -> dict[str, float]:
    """Bytes on one GPU by part, and the peak with and without checkpointing."""
    tokens = batch * (sizes.image_tokens + prompt + answer)
    kept_tower = batch * (sizes.patches + 1) * sizes.tower_width * 2 * sizes.tower_blocks * tower_backward
    parts = {
        "frozen": 2 * (sizes.tower + sizes.language_model) + 4 * sizes.projector,  # peft keeps the first projector
        "trained": sizes.trainable * (4 + 4 + 8 + 2),  # weights, gradients, two moments, autocast's bfloat16 copy
        "activations": tokens * sizes.layers * layer_bytes(sizes),
        "activations_checkpointed": tokens * (sizes.layers * 2 * sizes.width + layer_bytes(sizes)) + kept_tower,
        # Only label positions are scored, in tiles of bfloat16; a second tile for safety.
        "head": 2 * 2 * batch * answer * sizes.vocabulary,
        "other": int(other_gb * GB),
    }
    fixed = sum(parts[name] for name in ("frozen", "trained", "head", "other"))
    peaks = {f"peak{kind}": fixed + parts[f"activations{kind}"] for kind in ("", "_checkpointed")}
    return parts | peaks


def split_over(stage: Stage, gpus: int) -> tuple[int, int, bool]:
    """batch_size and gradient_accumulation on each of several GPUs, and whether a step keeps its samples."""
    share, rest = divmod(stage.batch_size * stage.gradient_accumulation, gpus)
    if rest:
        return stage.batch_size, 1, False
    batch = min((size for size in range(1, share + 1) if share % size == 0), key=lambda b: abs(b - stage.batch_size))
    return batch, share // batch, True


def plan(sizes: Sizes, key: tuple[str, str, str], given: argparse.Namespace, tower_backward: bool) -> dict:
    """All figures of one stage, recipe and data set, each with the step that leads to it."""
    stage, text = get_stage(key[0], key[1]), TEXT[key[2]]
    per_step = stage.batch_size * stage.gradient_accumulation
    if stage.steps_per_epoch:
        samples = stage.epochs * stage.steps_per_epoch * per_step
        how = f"= {stage.epochs} x {stage.steps_per_epoch:,} x {per_step}"
    else:
        layouts = {layout.variant: layout.rows for layout in DATA_SETS[key[2]].layouts}
        rows = layouts[FORMS[key[2]]]["train"]
        samples, how = stage.epochs * rows, f"= {stage.epochs} x {rows:,}"
    work = flops(sizes, text.prompt, text.answer, stage.gradient_checkpointing, tower_backward)
    batch, accumulation, same = split_over(stage, 4)
    samples_4 = samples if same or not stage.steps_per_epoch else samples * 4
    steps_4 = -(-samples_4 // (4 * batch * accumulation))
    exchange = steps_4 * 2 * 3 / 4 * 4 * sizes.trainable / (given.link_gb_s * GB) / 3600
    hours = {}
    for name, (peak, _) in GPUS.items():
        rate = peak * 1e12 * given.utilisation * 3600
        hours[name] = {"1": samples * work["total"] / rate, "4": samples_4 * work["total"] / rate / 4 + exchange}
    longest = (stage.batch_size, text.prompt, stage.max_text_tokens, tower_backward, given.other_gb)
    return {
        "stage": key[0],
        "recipe": key[1],
        "data": key[2],
        "samples": {"value": samples, "step": how},
        "length": {
            "value": sizes.image_tokens + text.prompt + text.answer,
            "step": f"= {sizes.image_tokens} + {text.prompt} + {text.answer}",
        },
        "flops_per_sample": work,
        "batch_size": stage.batch_size,
        "gradient_accumulation": stage.gradient_accumulation,
        "on_4_gpus": {
            "batch_size": batch,
            "gradient_accumulation": accumulation,
            "same_step": same,
            "samples": samples_4,
            "steps": steps_4,
            "exchange_hours": exchange,
        },
        "hours": hours,
        "memory": memory(sizes, stage.batch_size, text.prompt, text.answer, tower_backward, given.other_gb),
        "memory_longest": memory(sizes, *longest),
        "features_bytes": text.pictures * sizes.image_tokens * 4 * sizes.tower_width * 2,
        "features_save": (work["tower forward"] + work["tower again and backward"]) / work["total"],
    }


def everything(given: argparse.Namespace) -> dict:
    """The whole result, as it is written to the JSON file."""
    sizes, tower_backward = count(paper_config()), tower_is_differentiated()
    return {
        "measured": False,
        "assumed": {
            "utilisation": given.utilisation,
            "link_gb_s": given.link_gb_s,
            "other_gb": given.other_gb,
            "gpus": {name: {"bf16_tflops": peak, "memory_gb": gb} for name, (peak, gb) in GPUS.items()},
            "text": {name: asdict(text) for name, text in TEXT.items()},
        },
        "sizes": asdict(sizes) | {"trainable": sizes.trainable},
        "tower_is_differentiated": tower_backward,
        "layer_bytes_per_token": layer_bytes(sizes),
        "plans": [plan(sizes, key, given, tower_backward) for key in PLANS],
        "fsdp": sharding(sizes, given),
    }


def sharding(sizes: Sizes, given: argparse.Namespace) -> dict[str, float]:
    """What sharding the frozen weights over 4 GPUs would save, and cost each time that they are gathered."""
    frozen = 2 * (sizes.tower + sizes.language_model)
    moved = frozen * 3 / 4
    return {"saved_bytes": moved, "gather_seconds": moved / (given.link_gb_s * GB)}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utilisation", type=float, default=0.35, help="assumed share of the GPU's peak")
    parser.add_argument("--link-gb-s", type=float, default=25.0, help="assumed GB/s between GPUs")
    parser.add_argument("--other-gb", type=float, default=2.0, help="assumed: CUDA, workspaces, passing tensors")
    parser.add_argument("--write", action="store_true", help="write the JSON file")
    return parser


def main() -> None:
    given = arguments().parse_args()
    if not 0 < given.utilisation <= 1 or given.link_gb_s <= 0 or given.other_gb < 0:
        raise SystemExit("--utilisation must lie in (0, 1], --link-gb-s above 0, --other-gb at 0 or above")
    result = everything(given)
    if given.write:
        write_json(RESULTS, result)
        return
    print("\n\n".join(tables(result).values()))


if __name__ == "__main__":
    main()
