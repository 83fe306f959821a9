"""Answers a second: one prompt at a time, plain batches, and from one prefix for each picture.

    python benchmarks/bench_inference.py                                  # -> benchmarks/results/inference.json
    python benchmarks/bench_inference.py --case synthetic --questions 3   # prints only
    python benchmarks/bench_inference.py --case full --device cuda --dtype bfloat16    # adds the paper's size

`phantoms` is the shipped base on drawn pictures, 8 questions each. `synthetic` has random weights: a tower 192 wide
and a Llama 256 wide, 6 layers each, a vocabulary of 32,000, 256 image tokens, 10 questions a picture of about 40 text
tokens, 24 of them alike, and 4 tokens an answer, as it never ends by itself. `full` is the paper's size with random
weights. Plain batches are left-padded `generate` calls with the pixels of every prompt, tried at each of
`--plain-batches`; the ratio is to the best. `prefix+features` has the tower's output of an earlier visit to the
pictures. Every variant runs in a process of its own, in turn, `--repeats` times; pictures are decoded before the clock
starts, and one batch warms up. The median run stands for each. On one CPU thread the seconds are the processor's,
which other work on the machine lengthens less than those of the clock. A file that is there already keeps the cases
that were not measured anew.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "inference.json"
CASES = ("phantoms", "synthetic")
PROMPT_SETS = {
    "phantoms": (24, 8, 16),
    "synthetic": (3, 10, 4),
    "full": (16, 10, 4),
}  # pictures, questions, new tokens
PREFIX_BATCH = 16
OURS = ("prefix", "prefix+features")


def synthetic_config():
    """The configuration of case `synthetic`."""
    from transformers import Blip2VisionConfig, LlamaConfig

    from pefomed.model import PefomedConfig

    tower = Blip2VisionConfig(
        image_size=448, hidden_size=192, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4
    )
    llama = LlamaConfig(
        vocab_size=32000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        pad_token_id=0,
    )
    return PefomedConfig(vision_config=tower, text_config=llama, image_token_index=32000)


def random_case(case: str, pictures: int, questions: int, device: str, dtype: str):
    """Model of random weights, prompts [picture][question] of random ids, and pixels [pictures, 3, 448, 448]."""
    import torch

    from pefomed.model import PefomedForConditionalGeneration
    from pefomed.model.presets import paper_config

    torch.manual_seed(0)
    config = synthetic_config() if case == "synthetic" else paper_config()
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model = PefomedForConditionalGeneration(config).eval()
    torch.set_default_dtype(torch.float32)
    common = torch.randint(3, 32000, (24,)).tolist()
    head = [1, *common[:8], *[config.image_token_index] * 256, *common[8:]]
    own = [[torch.randint(3, 32000, (8 + n % 17,)).tolist() for n in range(questions)] for _ in range(pictures)]
    prompts = [[head + tail for tail in asked] for asked in own]
    return model, prompts, torch.randn(pictures, 3, 448, 448).to(device), 0, 2


def phantoms_case(pictures: int, questions: int, device: str, dtype: str):
    """The shipped base, and prompts and pixels of drawn pictures."""
    import numpy as np
    import torch

    from pefomed.data import load_dataset
    from pefomed.inference.generate import prompts_of
    from pefomed.model.presets import load_base
    from pefomed.procedure import CLEAN
    from pefomed.training.collator import PixelStore

    model, processor = load_base("tiny", dtype=getattr(torch, dtype))
    rows = list(load_dataset("phantoms", split="test", images=pictures, questions_per_image=questions))
    ids = [ids for _, ids in prompts_of(rows, processor, CLEAN, seed=0)]
    store = PixelStore(processor)
    pixels = np.stack([store.pixels(row["image"], row["id"]) for row in rows[::questions]])
    prompts = [ids[start : start + questions] for start in range(0, len(ids), questions)]
    tokenizer = processor.tokenizer
    return (
        model.to(device),
        prompts,
        torch.from_numpy(pixels).to(device),
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
    )


def batches_of(variant: str, prompts: list) -> list:
    """Batches of pictures of (picture, question); a plain batch names a picture once for every question."""
    from pefomed.inference.prefix import picture_batches

    asked = [(i, j) for i, same in enumerate(prompts) for j in range(len(same))]
    size = PREFIX_BATCH if variant in OURS else int(variant.removeprefix("plain-"))
    keys = [i for i, _ in asked] if variant in OURS else range(len(asked))
    numbers = picture_batches(keys, [len(prompts[i][j]) for i, j in asked], size)
    return [[[asked[n] for n in same] for same in batch] for batch in numbers]


def answer(variant: str, model, prompts, seen, batch, pad: int, end: int, new_tokens: int, beams: int):
    """New ids [rows, n] of one batch by one variant."""
    from pefomed.inference.prefix import generate_answers
    from pefomed.training.collator import left_padded

    shown = seen[[same[0][0] for same in batch]]
    ids = [[prompts[i][j] for i, j in same] for same in batch]
    if variant in OURS:
        return generate_answers(model, ids, shown, pad=pad, end=end, max_new_tokens=new_tokens, num_beams=beams)
    whole = [row for (row,) in ids]
    padded = left_padded(whole, pad).to(shown.device)
    out = model.generate(
        input_ids=padded,
        attention_mask=left_padded([[1] * len(row) for row in whole], 0).to(shown.device),
        pixel_values=shown,
        do_sample=False,
        num_beams=beams,
        max_new_tokens=new_tokens,
        pad_token_id=pad,
        eos_token_id=end,
    )
    return out[:, padded.shape[1] :]


def measure(variant: str, given: argparse.Namespace) -> dict:
    """Seconds, peak memory and answers of one variant; called in a process that did nothing before."""
    import torch

    torch.set_num_threads(given.threads)
    pictures, questions, new_tokens = given.sizes
    make = phantoms_case if given.case == "phantoms" else lambda *sizes: random_case(given.case, *sizes)
    model, prompts, seen, pad, end = make(pictures, questions, given.device, given.dtype)
    settings = (pad, end, new_tokens, given.beams)
    batches, answers, on_gpu = batches_of(variant, prompts), {}, given.device != "cpu"
    with torch.inference_mode():
        if variant == "prefix+features":  # kept from an earlier visit, one picture at a time
            seen = torch.cat([model.model.encode_images(one.unsqueeze(0)) for one in seen])
        answer(variant, model, prompts, seen, batches[0], *settings)
        clock = time.process_time if given.threads == 1 and not on_gpu else time.perf_counter
        start, wall_start = clock(), time.perf_counter()
        for batch in batches:
            new = answer(variant, model, prompts, seen, batch, *settings).tolist()  # waits for the GPU, too
            for (i, j), row in zip((asked for same in batch for asked in same), new, strict=True):
                answers[f"{i}.{j}"] = row[: row.index(end)] if end in row else row
        seconds, wall = clock() - start, time.perf_counter() - wall_start
    unit = 1 if sys.platform == "darwin" else 1024
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peak_mb = round(peak / 1e6, 1)
    found = {"seconds": round(seconds, 3), "wall_seconds": round(wall, 3), "peak_mb": peak_mb, "answers": answers}
    return found | ({"accelerator": torch.cuda.get_device_name()} if on_gpu else {})


def in_a_fresh_process(variant: str, arguments: list[str]) -> dict:
    """`measure` in another process: what an allocator went through before shows in times."""
    command = [sys.executable, __file__, *arguments, "--measure", variant]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(given: argparse.Namespace) -> dict:
    """All variants of one case in turn; medians and ratios."""
    pictures, questions, new_tokens = given.sizes
    plain = [f"plain-{size}" for size in given.plain_batches]
    variants = ["plain-1", *plain, *OURS]
    arguments = ["--case", given.case, "--device", given.device, "--dtype", given.dtype]
    for name in ("threads", "beams"):
        arguments += [f"--{name}", str(getattr(given, name))]
    arguments += ["--pictures", str(pictures), "--questions", str(questions), "--new-tokens", str(new_tokens)]
    runs: dict[str, list[dict]] = {variant: [] for variant in variants}
    for _ in range(given.repeats):
        for variant in variants:
            runs[variant].append(in_a_fresh_process(variant, arguments))
    alone = runs["plain-1"][0]["answers"]
    found = {}
    for variant in variants:
        median = sorted(runs[variant], key=lambda run: run["seconds"])[given.repeats // 2]
        found[variant] = {
            "questions_per_second": round(len(alone) / median["seconds"], 2),
            "seconds": [run["seconds"] for run in runs[variant]],
            "wall_seconds": [run["wall_seconds"] for run in runs[variant]],
            "peak_mb": median["peak_mb"],
            "answers_as_one_by_one": sum(alone[name] == row for name, row in median["answers"].items()),
        }
    speed = {variant: found[variant]["questions_per_second"] for variant in variants}
    best = max(plain, key=speed.get)
    machine = {"platform": f"{platform.system()} {platform.machine()}", "processors": os.cpu_count()}
    machine |= {name: run[name] for run in runs["prefix"][:1] for name in ("accelerator",) if name in run}
    return {
        "pictures": pictures,
        "questions_per_picture": questions,
        "new_tokens": new_tokens,
        "beams": given.beams,
        "device": given.device,
        "dtype": given.dtype,
        "threads": given.threads,
        "ratio_prefix_to_one_by_one": round(speed["prefix"] / speed["plain-1"], 2),
        "ratio_prefix_to_best_plain_batch": round(speed["prefix"] / speed[best], 2),
        "ratio_features_to_one_by_one": round(speed["prefix+features"] / speed["plain-1"], 2),
        "ratio_features_to_best_plain_batch": round(speed["prefix+features"] / speed[best], 2),
        "ratio_peak_mb_prefix_to_best_plain_batch": round(found["prefix"]["peak_mb"] / found[best]["peak_mb"], 2),
        "best_plain_batch": best,
        "variants": found,
        "machine": machine,
        "load_average_at_end": round(os.getloadavg()[0], 1),
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=tuple(PROMPT_SETS), help="default: phantoms and synthetic, into the results")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--questions", type=int)
    parser.add_argument("--new-tokens", type=int)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--plain-batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, help=f"default for whole cases: {RESULTS.name}")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write where a file is named or every case ran at its own size."""
    given = parsed()
    sizes = (given.pictures, given.questions, given.new_tokens)
    found = {}
    for case in [given.case] if given.case else CASES:
        given.case = case
        given.sizes = tuple(size or default for size, default in zip(sizes, PROMPT_SETS[case], strict=True))
        if given.measure:
            print(json.dumps(measure(given.measure, given)))
            return
        found[case] = compare(given)
        print(case, json.dumps(found[case], indent=2), flush=True)
    from pefomed.files import read_json, write_json
    from pefomed.run_record import installed_versions

    packages = installed_versions(("torch", "transformers"))
    out = given.out or (RESULTS if not any(sizes) and ("full" in found or len(found) > 1) else None)
    if out:
        kept = read_json(out) if out.is_file() else {}
        write_json(out, kept | {case: entry | {"packages": packages} for case, entry in found.items()})


if __name__ == "__main__":
    main()
