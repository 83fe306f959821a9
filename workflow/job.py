"""One job of the workflow: runs a notebook, or makes a folder of answers from runs that are finished.

    python workflow/job.py page notebooks/stage2_vqa.ipynb --folder runs/book/vqa/stage2/seed0 --stamp STAMP \
        --set seed=0 --keeps pefomed.training.run --shown book/_runs/stage2_vqa.ipynb
    python workflow/job.py answer --like RUN --adapter RUN --folder FOLDER --stamp STAMP
    python workflow/job.py copy --like RUN --name zero_shot --folder FOLDER --stamp STAMP
    python workflow/job.py link NAME=FOLDER ... --folder FOLDER --stamp STAMP

A job's folder says in made_with.json what it is made with: a hash of sources, parameters and of the jobs before it.
Killed, a job goes on in its folder. Where what counts for the run has changed, the folder is emptied first; where only
the page has changed, the notebook runs again and finds its finished run. Where nothing has, the job ends at once. So
neither the time stamps of a fresh checkout nor Snakemake's memory decide what is trained anew.

Beside each executed notebook lies glued.json: the numbers that its page's prose shows.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from book_pages import glued_in
from sources import content_hash, module_sources, notebook_sources

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pefomed.files import read_json, write_json  # noqa: E402

MADE_WITH = "made_with.json"
EXECUTED = "executed.ipynb"
GLUED = "glued.json"
LOG = "papermill.log"


def job_hash(*parts: object) -> str:
    """Hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until no other process works in the folder: one may outlive a workflow that was killed."""
    lock = folder.with_name(f".{folder.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process works here; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_made(folder: Path, run: str, page: str) -> bool:
    """Whether the folder is finished as wanted; otherwise it is left as far as it can be gone on from."""
    path = folder / MADE_WITH
    made = read_json(path) if path.is_file() else {}
    if made.get("run") == run and made.get("page") == page:
        return True
    if made.get("run") != run and folder.exists():
        if not made and any(folder.iterdir()):
            raise ValueError(f"{folder}: not made by this workflow (no {MADE_WITH}); move it away or delete it")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"run": run, "page": ""})
    return False


def finish(folder: Path, run: str, page: str, stamp: Path) -> None:
    """Says that the folder is finished, to itself and to Snakemake."""
    write_json(folder / MADE_WITH, {"run": run, "page": page})
    stamp.parent.mkdir(parents=True, exist_ok=True)
    write_json(stamp, {"folder": str(folder), "run": run, "page": page})


def upstream(stamps: list[Path], part: str) -> list[str]:
    """What the jobs before this one were made with: their `run` (weights, answers) or all of it, their `page`."""
    return [read_json(path)[part] for path in stamps]


def papermill_options(values: dict[str, object]) -> list[str]:
    """Parameters for papermill: texts as they are, whatever they look like, and everything else as YAML."""
    options = []
    for name, value in values.items():
        options += ["-r", name, value] if isinstance(value, str) else ["-y", yaml.safe_dump({name: value})]
    return options


def run_page(args: argparse.Namespace) -> None:
    """Executes a notebook in the project's root, with its run in a folder of its own."""
    values = {name: yaml.safe_load(text) for name, _, text in (entry.partition("=") for entry in args.set)}
    sources = content_hash(notebook_sources(ROOT / args.notebook, ROOT, args.files), ROOT)
    page = run = job_hash(sources, values, upstream(args.after, "page"))
    if args.keeps:
        kept = content_hash(module_sources(args.keeps, ROOT), ROOT)
        run = job_hash(kept, values, upstream(args.after, "run"))
    executed = args.folder / EXECUTED
    if not (is_made(args.folder, run, page) and executed.is_file()):
        partial = executed.with_name(f".{EXECUTED}.part")
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(args.notebook), str(partial)]
        with open(args.folder / LOG, "w", encoding="utf-8") as log:
            done = subprocess.run([*command, *papermill_options(values)], cwd=ROOT, stdout=log, stderr=log)
        if done.returncode:
            tail = (args.folder / LOG).read_text(encoding="utf-8").splitlines()[-25:]
            raise RuntimeError("\n".join([f"{args.notebook} failed; {args.folder / LOG} ends with", *tail]))
        os.replace(partial, executed)
        write_json(args.folder / GLUED, glued_in(read_json(executed)["cells"]))
    if args.shown:
        args.shown.parent.mkdir(parents=True, exist_ok=True)
        if not args.shown.is_file() or args.shown.read_bytes() != executed.read_bytes():
            shutil.copyfile(executed, f"{args.shown}.part")
            os.replace(f"{args.shown}.part", args.shown)
    finish(args.folder, run, page, args.stamp)


def answer(args: argparse.Namespace) -> None:
    """The test rows of one run, answered with another run's adapter."""
    sources = content_hash(module_sources(["pefomed.runs"], ROOT), ROOT)
    key = job_hash(sources, str(args.like), str(args.adapter), upstream(args.after, "run"))
    if not is_made(args.folder, key, key):
        from dataclasses import replace

        from pefomed.runs import evaluate_run, generate_run
        from pefomed.settings import read_run_settings

        like = read_run_settings(args.like)
        settings = replace(like, output_dir=str(args.folder), init_from="")
        longest = settings.make_stage().max_text_tokens if settings.preset == "tiny" else 0
        bounds = {"max_new_tokens": longest, "batch_size": 64, "file_name": "predictions.jsonl", "progress": False}
        generate_run(settings, adapter=args.adapter, **bounds)
        evaluate_run(args.folder)
    finish(args.folder, key, key, args.stamp)


def copy(args: argparse.Namespace) -> None:
    """predictions_NAME.jsonl and metrics_NAME.json of a run, as a run folder of their own."""
    key = job_hash(str(args.like), args.name, upstream(args.after, "page"))
    if not is_made(args.folder, key, key):
        for stem, suffix in (("predictions", "jsonl"), ("metrics", "json")):
            source = args.like / f"{stem}_{args.name}.{suffix}"
            if not source.is_file():
                raise FileNotFoundError(f"{source}: no such file; the run before this job should have written it")
            shutil.copyfile(source, args.folder / f"{stem}.{suffix}")
    finish(args.folder, key, key, args.stamp)


def link(args: argparse.Namespace) -> None:
    """A folder of links in the form that `pefomed.reporting.conditions` reads."""
    targets = dict(entry.split("=", 1) for entry in args.links)
    key = job_hash(targets, upstream(args.after, "page"))
    if not is_made(args.folder, key, key):
        for name, target in targets.items():
            place = args.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(os.path.relpath(target, place.parent), target_is_directory=True)
    finish(args.folder, key, key, args.stamp)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, required=True, help="of the job's results")
    common.add_argument("--stamp", type=Path, required=True, help="written when all is done")
    common.add_argument("--after", type=Path, nargs="*", default=[], help="stamps of the jobs that this one needs")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = parser.add_subparsers(required=True)
    page = jobs.add_parser("page", parents=[common])
    page.add_argument("notebook", type=Path)
    page.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the notebook")
    page.add_argument("--keeps", nargs="*", default=[], help="modules that decide on the run; none for all of them")
    page.add_argument("--files", nargs="*", default=[], help="other files that the notebook reads")
    page.add_argument("--shown", type=Path, help="copy for the book")
    page.set_defaults(job=run_page)
    answering = jobs.add_parser("answer", parents=[common])
    answering.add_argument("--like", type=Path, required=True, help="run whose settings are used")
    answering.add_argument("--adapter", type=Path, required=True, help="run whose adapter answers")
    answering.set_defaults(job=answer)
    copying = jobs.add_parser("copy", parents=[common])
    copying.add_argument("--like", type=Path, required=True, help="run that holds the files")
    copying.add_argument("--name", required=True, help="what stands behind predictions_ and metrics_")
    copying.set_defaults(job=copy)
    linking = jobs.add_parser("link", parents=[common])
    linking.add_argument("links", nargs="+", metavar="NAME=FOLDER")
    linking.set_defaults(job=link)
    return parser.parse_args()


def main() -> None:
    """Runs the job alone in its folder."""
    args = parse_arguments()
    os.chdir(ROOT)
    with locked(args.folder):
        try:
            args.job(args)
        except (ValueError, FileNotFoundError, RuntimeError) as error:
            sys.exit(f"{args.folder}: {error}")


if __name__ == "__main__":
    main()
