"""The judge under load: items a second, random kills, memory; against a server on loopback.

    python benchmarks/bench_judge.py --part latency    # 6,761 items, 1 s latency, 64 at a time; and one by one
    python benchmarks/bench_judge.py --part kills      # 100 SIGKILLs over 2,000 items
    python benchmarks/bench_judge.py --part memory     # 10,000, 50,000 and 100,000 items without latency
    python benchmarks/bench_judge.py --part latency --scale 0.01 --repeats 1    # prints only

Each part writes its own entry of benchmarks/results/judge.json. The server is a process of its own; it and the judge
share the machine, so that whatever else runs there shows in the times. Beside `latency` stands the plain procedure, in
turn with ours: one request after another through the same client, for a share of the items that takes as long. The
median run by seconds stands for each, and each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pefomed.files import read_json, write_json
from pefomed.run_record import installed_versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "judge.json"
CONCURRENCY = 64
LATENCY_ITEMS, LATENCY_BOUND_S = 6761, 130.0  # PathVQA's test questions; what the run may take
KILL_ITEMS, KILLS = 2000, 100
MEMORY_ITEMS = (10_000, 50_000, 100_000)


def write_items(path: Path, number: int) -> Path:
    """A predictions file, each row of which asks something else; line by line, as memory is measured here."""
    with path.open("w") as file:
        for n in range(number):
            row = {"id": f"{n}", "task": "vqa", "question": f"is finding {n} present in the image?"}
            file.write(json.dumps(row | {"answer": "yes", "prediction": "no, it is not"}) + "\n")
    return path


@contextmanager
def server(latency: float, forget: bool = False) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """A server in another process: its address, and a function that ends it and returns what it was asked."""
    options = ["--latency", str(latency), *(["--forget"] if forget else [])]
    command = [sys.executable, str(ROOT / "tests" / "judge" / "server.py"), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), lambda: json.loads(process.communicate()[0])
    finally:
        if process.poll() is None:
            process.communicate()


def judge_once(predictions: str, url: str, out: str, concurrency: str) -> dict[str, Any]:
    """Judge a file in this process; its seconds and its largest memory."""
    from pefomed.judge.endpoint import Endpoint
    from pefomed.judge.run import judge_predictions
    from pefomed.judge.settings import JudgeSettings

    endpoint = Endpoint(base_url=url, model="judge", concurrency=int(concurrency), max_tokens_in_flight=10**9)
    start = time.monotonic()
    summary = judge_predictions(predictions, "vqa", JudgeSettings(endpoint), out, progress=sys.stderr.isatty())
    return {
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(time.process_time(), 1),
        "judged": summary.ok,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def judge_in_another_process(predictions: Path, url: str, out: Path, concurrency: int = CONCURRENCY) -> dict[str, Any]:
    """`judge_once` in a fresh process, so that no memory is left from an earlier one."""
    command = [sys.executable, __file__, "--child", str(predictions), url, str(out), str(concurrency)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure_latency(folder: Path, items: int, repeats: int) -> dict[str, Any]:
    """All items at one second each, 64 at a time, in turn with a share of them one after another."""
    sizes = {"plain": (max(1, items // CONCURRENCY), 1), "ours": (items, CONCURRENCY)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sizes}
    for number in range(repeats):
        for name, (count, concurrency) in sizes.items():
            place = folder / f"{name}-{number}"
            place.mkdir()
            runs[name].append(judge_slow_server(place, count, concurrency))
            print(f"{name}: {runs[name][-1]}", flush=True)
    plain, ours = (sorted(runs[name], key=lambda run: run["seconds"])[repeats // 2] for name in sizes)
    return {
        "items": items,
        "concurrency": CONCURRENCY,
        "latency_s": 1.0,
        "ideal_s": round(-(-items // CONCURRENCY) * 1.0, 1),
        "bound_s": LATENCY_BOUND_S,
        **ours,
        "plain": {"items": sizes["plain"][0], "concurrency": 1, **plain},
        "ratio_items_per_second": round(ours["items_per_second"] / plain["items_per_second"], 2),
        "ratio_peak_mib": round(ours["peak_mib"] / plain["peak_mib"], 2),
        "runs": runs,
    }


def judge_slow_server(folder: Path, items: int, concurrency: int) -> dict[str, Any]:
    """Items at one second each, from the start of the process to the file."""
    predictions = write_items(folder / "predictions.jsonl", items)
    with server(1.0) as (url, finish):
        start = time.monotonic()
        found = judge_in_another_process(predictions, url, folder / "judge.jsonl", concurrency)
        whole = round(time.monotonic() - start, 1)
        asked = finish()
    counts = {"with_start_s": whole, "requests": asked["requests"], "most_under_way": asked["most"]}
    return counts | found | {"items_per_second": round(found["judged"] / found["seconds"], 2)}


def measure_kills(folder: Path, items: int, kills: int) -> dict[str, Any]:
    """Killed at random moments, then left to finish; beside it a run that nobody disturbs."""
    predictions = write_items(folder / "predictions.jsonl", items)
    with server(0.2) as (url, finish):
        script = str(ROOT / "tests" / "judge" / "judge_and_kill.py")
        most = max(1, items // (4 * kills))  # leaves work for the last kill
        options = ["--kills", str(kills), "--seed", "1", "--most", str(most), "--concurrency", "16"]
        command = [sys.executable, script, str(predictions), url, str(folder / "killed.jsonl"), *options]
        start = time.monotonic()
        told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        seconds = round(time.monotonic() - start, 1)
        judge_in_another_process(predictions, url, folder / "whole.jsonl")
        asked = finish()
    # The undisturbed run asks each once more, of the same server.
    times = {int(number) - 1: count for number, count in asked["asked"].items()}
    rows = [json.loads(line) for line in (folder / "killed.jsonl").read_text().splitlines()]
    return {
        "items": items,
        "kills": told["killed"],
        "concurrency": 16,
        "latency_s": 0.2,
        "seconds": seconds,
        "judged": sum(row["status"] == "ok" for row in rows),
        "items_by_times_asked": {str(number): times[number] for number in sorted(times)},
        "asked_again": sum((number - 1) * count for number, count in times.items()),
        "most_under_way_when_killed": told["killed"] * 16,
        "same_file_as_undisturbed": (folder / "killed.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes(),
    }


def measure_memory(folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The largest memory of a process by its number of items."""
    found = {}
    for items in sizes:
        predictions = write_items(folder / f"{items}.jsonl", items)
        with server(0.0, forget=True) as (url, _):
            found[f"{items}"] = judge_in_another_process(predictions, url, folder / f"judge-{items}.jsonl")
        print(f"{items:,} items: {found[f'{items}']}", flush=True)
    return {"concurrency": CONCURRENCY, "latency_s": 0.0, "by_items": found}


def main() -> None:
    """Measure one part and put it into the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("latency", "kills", "memory"))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the items and kills; below 1 writes nothing"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of latency's two procedures")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "EMPTY"
    if arguments.child:
        print(json.dumps(judge_once(*arguments.child)))
        return
    if not arguments.part:
        parser.error("name a part: --part latency, kills or memory")
    scale = arguments.scale
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.part == "latency":
            found = measure_latency(folder, int(LATENCY_ITEMS * scale), arguments.repeats)
        elif arguments.part == "kills":
            found = measure_kills(folder, int(KILL_ITEMS * scale), int(KILLS * scale))
        else:
            found = measure_memory(folder, tuple(int(items * scale) for items in MEMORY_ITEMS))
    machine = {"platform": f"{platform.system()} {platform.machine()}", "processors": os.cpu_count()}
    found |= {"load_at_end": round(os.getloadavg()[0], 1), **machine, "packages": installed_versions(("openai",))}
    print(json.dumps(found, indent=2))
    if scale == 1.0:
        write_json(RESULTS, (read_json(RESULTS) if RESULTS.is_file() else {}) | {arguments.part: found})


if __name__ == "__main__":
    main()
