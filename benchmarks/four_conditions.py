"""The four conditions and the controls on phantom questions and reports, over paired seeds and two sizes of stage 2.

    python benchmarks/four_conditions.py --seeds 0 --threads 1     # and, beside it, --seeds 1 2
    python benchmarks/four_conditions.py --summary   # the runs so far -> benchmarks/results/four_conditions.json

Runs are kept under runs/conditions: TASK-IMAGES/seed-N/CONDITION, and stage 1 once for each seed under stage1/seed-N.
What is finished there is not repeated, and what was killed goes on. Two processes may work at the same time as long as
they work on different seeds. The small set's training pictures are the first of the full one's; the test is the same.
"""

import argparse
import json
import platform
from dataclasses import asdict, replace
from pathlib import Path

from pefomed.conditions import CONDITIONS, CONTROLS
from pefomed.files import read_json, write_json
from pefomed.reporting.condition_scores import BLANK, condition_scores, find_ablations
from pefomed.run_record import RECORDED_PACKAGES, installed_versions
from pefomed.settings import RunSettings, read_settings

RUNS = Path("runs/conditions")
RESULTS = Path(__file__).parent / "results" / "four_conditions.json"
STAGE1 = Path(__file__).parents[1] / "configs" / "stage1_captions_tiny.yaml"
FULL, SMALL = 500, 100
LONGEST = 64  # tokens of an answer, as many as are learnt
BATCH = 64


def stage1_settings(seed: int, runs: Path, trial: bool) -> RunSettings:
    """The shipped stage 1, which all tasks and sizes of a seed share."""
    little = ["mixture.phantoms={images: 12, seed: 1, ratio: 60}", "mixture.shapes={images: 8, ratio: 40}"]
    changes = [*little, "stage_changes.epochs=1"] if trial else []
    return replace(read_settings(STAGE1, changes), seed=seed, output_dir=str(runs / "stage1" / f"seed-{seed}"))


def stage2_settings(task: str, images: int, seed: int, folder: Path, trial: bool) -> RunSettings:
    """Stage 2 on the phantoms that the package draws by default, or on the first training pictures of them."""
    return RunSettings(
        stage=f"stage2_{task}",
        dataset_options={} if images == FULL else {"images": images} if trial else {"train_pictures": images},
        stage_changes={"epochs": 1} if trial else {},
        seed=seed,
        output_dir=str(folder),
    )


def run_blank(settings: RunSettings) -> dict:
    """Stage 2 that never sees a picture, neither in training nor in the test."""
    from pefomed.runs import evaluate_run, generate_run, train_run

    blank = replace(settings, train_images="blank")
    train_run(blank, progress=False)
    bounds = {"max_new_tokens": LONGEST, "batch_size": BATCH, "file_name": "predictions.jsonl"}
    generate_run(blank, pictures="blank", **bounds, progress=False)
    return evaluate_run(blank.output_dir)


def run_cell(task: str, images: int, seed: int, condition: str, runs: Path, trial: bool) -> None:
    """One condition of one ablation, unless it is finished."""
    from pefomed.ablation import run_conditions

    folder = runs / f"{task}-{images}" / f"seed-{seed}"
    if (folder / condition / "metrics.json").is_file():
        return
    stage2 = stage2_settings(task, images, seed, folder / condition, trial)
    if condition == BLANK:
        scores = run_blank(stage2)
    else:
        stage1 = stage1_settings(seed, runs, trial)
        bounds = {"max_new_tokens": LONGEST, "batch_size": BATCH}
        scores = run_conditions(stage1, stage2, folder, (condition,), **bounds, progress=False)[condition]
    score = scores["exact_match"]["overall"] if task == "vqa" else scores["findings"]["names"]["micro"]["f1"]
    print(f"{task}, {images} images, seed {seed}, {condition}: {score:.1f} %", flush=True)


def seconds_of_training(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds by run and seed of the runs below seed-N folders that have trained; those of stage 1 stand alone."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("seed-*/*/run.json")):
        if "train" in (durations := read_json(path)["durations"]):
            found.setdefault(path.parent.name, {})[path.parent.parent.name] = round(durations["train"])
    return found


def summary(runs: Path) -> dict:
    """Scores, differences and training times of whatever is answered so far."""
    result: dict = {
        "versions": {"python": platform.python_version(), **installed_versions(RECORDED_PACKAGES)},
        "unit": "per cent; differences are stage1+2 minus the condition, in percentage points",
        "stage1_seconds": {
            path.parent.name: round(read_json(path)["durations"]["train"])
            for path in sorted((runs / "stage1").glob("*/run.json"))
        },
    }
    for name, folder in find_ablations(runs).items():
        result[name] = {**rounded(asdict(condition_scores(folder))), "train_seconds": seconds_of_training(folder)}
        plan = min(folder.glob("seed-*/stage2/plan.json"), default=None)
        result[name]["recipe"] = read_json(plan)["stage"] if plan else {}
    return result


def rounded(value):
    """Numbers with two decimals, wherever they stand."""
    if isinstance(value, dict):
        return {str(key): rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return round(value, 2) if isinstance(value, float) else value


def main() -> None:
    known = (*CONDITIONS, *CONTROLS, BLANK)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=["vqa", "report"], choices=["vqa", "report"])
    parser.add_argument(
        "--images", type=int, nargs="*", default=[FULL, SMALL], help="pictures that stage 2 learns from"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--conditions", nargs="*", default=list(known), choices=known)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--summary", action="store_true", help="only write what the runs so far came to")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--trial", action="store_true", help=argparse.SUPPRESS)  # one epoch, and little of stage 1
    args = parser.parse_args()
    if args.summary:
        result = summary(args.runs)
        write_json(args.out, result)
        for name in find_ablations(args.runs):
            means = {
                c: entry["overall" if "overall" in entry else "F1"] for c, entry in result[name]["scores"].items()
            }
            print(name, json.dumps({c: [entry["mean"], entry["sd"]] for c, entry in means.items()}))
        return
    import torch

    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        for task in args.tasks:
            for images in args.images:
                for condition in args.conditions:
                    if condition != BLANK or images == FULL:
                        run_cell(task, images, seed, condition, args.runs, args.trial)


if __name__ == "__main__":
    main()
