"""How long and how much memory a set of 400,000 captions takes from nothing to its first batch of pictures.

    python benchmarks/bench_data.py                     # -> benchmarks/results/large_index.json
    python benchmarks/bench_data.py --rows 20000 --out small.json

Writes an invented set in the form of ImageCLEFmedical Caption 2022 into a temporary folder, then reads it in a fresh
process by `read_clef2022`, and in another by the plain procedure: the csv module into a list of dicts, one look at the
file system per row, `datasets.Dataset.from_list`. Both decode the first 16 pictures; both meet a warm file cache. They
run in turn, and the median run by seconds stands for each.
"""

import argparse
import csv
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "large_index.json"
BATCH = 16
LINKS = 50_000  # names a file may have on common file systems: 65,000
SIZE = (256, 256)
FILE_NAME = "ImageCLEFmedCaption_2022_caption_prediction_train.csv"
BOUNDS = {"seconds": 20.0, "peak_mb": 1000.0}
WORDS = """axial coronal sagittal contrast enhanced computed tomography radiograph ultrasound magnetic resonance image
of the chest abdomen pelvis brain showing a large small round mass lesion effusion fracture (arrow), with without in
the left right upper lower lobe and no sign of dilatation before after treatment"""


def write_set(folder: Path, rows: int) -> float:
    """Writes captions of 5 to 40 invented words and as many picture names; returns the mean caption's characters."""
    # Pillow is imported in a process of its own: on Linux, a child's peak memory begins at its parent's.
    drawing = f"from PIL import Image; Image.linear_gradient('L').resize({SIZE}).save(__import__('sys').argv[1])"
    subprocess.run([sys.executable, "-c", drawing, str(folder / "picture.jpg")], check=True)
    picture = (folder / "picture.jpg").read_bytes()
    (folder / "train").mkdir()
    words, chance, characters, source = WORDS.split(), random.Random(0), 0, ""
    with (folder / FILE_NAME).open("w", encoding="utf-8") as file:
        file.write("ID\tcaption\n")
        for number in range(rows):
            name = f"ImageCLEFmedCaption_2022_train_{number:06d}"
            caption = " ".join(chance.choices(words, k=chance.randint(5, 40)))
            characters += len(caption)
            file.write(f"{name}\t{caption}\n")
            path = f"{folder}/train/{name}.jpg"
            if number % LINKS:
                os.link(source, path)
            else:
                Path(path).write_bytes(picture)
                source = path
    return characters / rows


def read_ours(folder: Path) -> tuple[int, list]:
    """The loader of the package."""
    from pefomed.data.clef2022 import read_clef2022

    rows = read_clef2022(folder).rows
    return len(rows), rows[:BATCH]["image"]


def read_plainly(folder: Path) -> tuple[int, list]:
    """What one writes in a notebook."""
    import datasets

    with (folder / FILE_NAME).open(encoding="utf-8", newline="") as file:
        found = [
            {"id": row["ID"], "caption": row["caption"], "image": os.path.join(folder, "train", f"{row['ID']}.jpg")}
            for row in csv.DictReader(file, delimiter="\t")
        ]
    rows = datasets.Dataset.from_list([row for row in found if os.path.isfile(row["image"])])
    return len(rows), rows[:BATCH]["image"]


PROCEDURES = {"read_clef2022": read_ours, "plain": read_plainly}


def measure(procedure: str, folder: Path, started: float) -> dict:
    """Runs one procedure up to its first batch; called in a process that did nothing before."""
    count, images = PROCEDURES[procedure](folder)
    listed = time.time() - started
    from pefomed.images import open_image

    if [open_image(image).size for image in images] != [SIZE] * BATCH:
        raise SystemExit("the first batch is not what was written")
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rows": count,
        "seconds": round(time.time() - started, 2),
        "seconds_until_indexed": round(listed, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),  # what a busy machine does not lengthen
        "peak_mb": round(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6, 1),
    }


def in_a_fresh_process(procedure: str, folder: Path) -> dict:
    """Measures from before the interpreter starts: its imports count."""
    command = [sys.executable, __file__, "--measure", procedure, str(folder), repr(time.time())]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def compare(rows: int, repeats: int) -> dict:
    """Writes the set and measures both procedures in turn; the median run by seconds stands for each."""
    with tempfile.TemporaryDirectory() as temporary:
        characters = write_set(Path(temporary), rows)
        runs: dict[str, list[dict]] = {name: [] for name in PROCEDURES}
        for _ in range(repeats):
            for name in PROCEDURES:
                runs[name].append(in_a_fresh_process(name, Path(temporary)))
    median = {name: sorted(found, key=lambda run: run["seconds"])[len(found) // 2] for name, found in runs.items()}
    ours, plain = median["read_clef2022"], median["plain"]
    from importlib.metadata import version  # only now: see write_set

    return {
        "rows": rows,
        "mean_caption_characters": round(characters, 1),
        "first_batch": BATCH,
        "bounds": BOUNDS,
        "within_bounds": all(max(run[key] for run in runs["read_clef2022"]) < BOUNDS[key] for key in BOUNDS),
        "median": median,
        "ratio_plain_to_ours": {
            key: round(plain[key] / ours[key], 2) for key in ("seconds", "cpu_seconds", "peak_mb")
        },
        "runs": runs,
        "load_average_per_core": round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("datasets", "pyarrow")}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", nargs=3, metavar=("PROCEDURE", "FOLDER", "STARTED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        procedure, folder, started = given.measure
        print(json.dumps(measure(procedure, Path(folder), float(started))))
        return
    result = compare(given.rows, given.repeats)
    from pefomed.files import write_json

    write_json(given.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
