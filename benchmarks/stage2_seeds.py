"""Stage 2 on the embedded data over several seeds, with and without looking, on the test split.

    python benchmarks/stage2_seeds.py --seeds 0 1 2 --train-images real blank --threads 2
    python benchmarks/stage2_seeds.py --summary        # the runs so far -> benchmarks/results/stage2_seeds.json

Runs are kept under runs/seeds/ and resumed there; each is scored on the test split once it is trained.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

from pefomed.files import read_json, write_json
from pefomed.runs import RunSettings, evaluate_run, generate_run, train_run

RUNS = Path("runs/seeds")
RESULTS = Path(__file__).parent / "results" / "stage2_seeds.json"


def one_run(seed: int, train_images: str) -> None:
    """Trains, answers the test split (a blind model sees black pictures there too), and scores."""
    settings = RunSettings(output_dir=str(RUNS / f"{train_images}-{seed}"), seed=seed, train_images=train_images)
    result = train_run(settings, progress=False)
    path = generate_run(settings, pictures=train_images, max_new_tokens=64, batch_size=64, progress=False)
    scores = evaluate_run(settings.output_dir, path.name)
    overall = scores["exact_match"]["overall"]
    print(f"{train_images} seed {seed}: exact match {overall:.1f} %, trained in {result.seconds:.0f} s", flush=True)


def zero_shot() -> None:
    """The base alone on the test split."""
    settings = RunSettings(output_dir=str(RUNS / "zero-shot"))
    generate_run(settings, zero_shot=True, max_new_tokens=64, batch_size=64, progress=False)
    scores = evaluate_run(settings.output_dir, "predictions_zero_shot.jsonl")
    print(f"zero-shot: exact match {scores['exact_match']['overall']:.1f} %", flush=True)


def summary() -> dict:
    """Exact match of every run so far, and mean and standard deviation over seeds."""
    found: dict[str, list[dict]] = {}
    for path in sorted(RUNS.glob("*/metrics*.json")):
        condition, _, seed = path.parent.name.rpartition("-")
        condition = "zero-shot" if path.parent.name == "zero-shot" else f"stage 2, {condition} pictures"
        match = read_json(path)["exact_match"]
        line = {kind: round(match[kind], 2) for kind in ("open", "closed", "overall")}
        line["ci95"] = [round(bound, 2) for bound in match["ci95"]["overall"]]
        if condition != "zero-shot":
            line |= {"seed": int(seed), "seconds": read_json(path.parent / "run.json")["durations"].get("train")}
        found.setdefault(condition, []).append(line)
    result = {}
    for condition, lines in found.items():
        overall = [line["overall"] for line in lines]
        spread = round(statistics.stdev(overall), 2) if len(overall) > 1 else None
        result[condition] = {"mean": round(statistics.mean(overall), 2), "sd": spread, "runs": lines}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Stage 2 on the embedded data over several seeds.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--train-images", nargs="*", default=["real", "blank"], choices=["real", "blank"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--summary", action="store_true", help="only write what the runs so far came to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.summary:
        zero_shot()
        for seed in args.seeds:
            for train_images in args.train_images:
                one_run(seed, train_images)
    write_json(RESULTS, summary())
    print(json.dumps({condition: [line["mean"], line["sd"]] for condition, line in summary().items()}))


if __name__ == "__main__":
    main()
