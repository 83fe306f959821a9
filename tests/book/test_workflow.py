"""workflow/: the graph of jobs, and the job that runs a notebook only when it must."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_book import write_notebook
from sources import content_hash, module_sources, named_files, notebook_code, notebook_sources, reads_runs

REPOSITORY = Path(__file__).resolve().parents[2]


def dry_run(*options: str, target: str = "runs") -> dict[str, int]:
    """How many jobs of each rule Snakemake would run into an empty folder."""
    pytest.importorskip("snakemake")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock", "-n", target, *options]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", finished.stdout, re.M)}


def test_the_embedded_reproduction_has_all_its_jobs(tmp_path):
    jobs = dry_run("--profile", "workflow/profiles/local", "--config", f"runs={tmp_path}/runs")
    config = yaml.safe_load((REPOSITORY / "workflow" / "config.yaml").read_text())
    seeds = len(config["seeds"])
    assert seeds == 3
    assert jobs["stage1"] == seeds
    assert jobs["stage2"] == 2 * 2 * seeds  # questions and reports; after stage 1 and without it
    assert jobs["stage2_blind"] == jobs["blank"] == seeds
    assert jobs["stage1_answers"] == 2 * seeds
    assert jobs["zero_shot"] == 2
    assert jobs["notebook"] == len(config["evaluations"]) + len(config["ablations"]) + len(config["notebooks"])


def test_every_page_is_a_job_and_every_shown_notebook_a_page(tmp_path):
    from book_pages import pages

    jobs = dry_run("--profile", "workflow/profiles/local", "--config", f"runs={tmp_path}/runs", target="all")
    assert jobs["chapter"] == len(list((REPOSITORY / "book").glob("*.ipynb")))
    config = yaml.safe_load((REPOSITORY / "workflow" / "config.yaml").read_text())
    made = {"stage1_captions", *(task["notebook"] for task in config["tasks"].values())}
    made |= {*config["evaluations"], *config["ablations"], *config["notebooks"]}
    shown = {page.source.stem for page in pages(REPOSITORY) if page.docname.startswith("notebooks/")}
    assert shown == made


def test_fewer_seeds_are_fewer_jobs(tmp_path):
    jobs = dry_run("--profile", "workflow/profiles/local", "--config", f"runs={tmp_path}/runs", "seeds=[0]")
    assert (jobs["stage1"], jobs["stage2"], jobs["stage2_blind"]) == (1, 4, 1)


def test_the_paper_s_profile_is_planned_with_the_same_graph(tmp_path):
    profile = yaml.safe_load((REPOSITORY / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    # Without the plugin Snakemake does not know the executor; everything else is as on the cluster.
    options = ["--profile", "workflow/profiles/slurm", "--executor", "local", "--config", f"runs={tmp_path}/runs"]
    jobs = dry_run(*options)
    assert (jobs["stage1"], jobs["stage2"], jobs["stage2_blind"], jobs["notebook"]) == (3, 4 * 2 * 3, 3, 12)


def test_sources_are_found_through_imports(tmp_path):
    (tmp_path / "pefomed" / "data").mkdir(parents=True)
    for name, code in {
        "__init__": "",
        "one": "def f():\n    from pefomed.data import two\n",
        "data/__init__": "",
        "data/two": "import json\n",
        "three": "",
    }.items():
        (tmp_path / "pefomed" / f"{name}.py").write_text(code)
    found = [path.relative_to(tmp_path).as_posix() for path in module_sources(["pefomed.one"], tmp_path)]
    assert found == ["pefomed/data/__init__.py", "pefomed/data/two.py", "pefomed/one.py"]


def test_only_code_counts_as_a_change(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""Text."""\ndef f():\n    """More."""\n    return 1\n')
    first = content_hash([path], tmp_path)
    path.write_text("def f():  # a comment\n\n    return 1\n")
    assert content_hash([path], tmp_path) == first
    path.write_text("def f():\n    return 2\n")
    assert content_hash([path], tmp_path) != first


def test_a_notebook_s_own_files_and_runs_are_seen(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.json").write_text("{}")
    code = "%pip install x\nif True:\n    %pip install y\nrows = 'data/table.json', 'data/none.json', args.runs_dir"
    write_notebook(tmp_path / "page.ipynb", [("code", code, [])])
    assert named_files(notebook_code(tmp_path / "page.ipynb"), tmp_path) == [tmp_path / "data" / "table.json"]
    assert tmp_path / "data" / "table.json" in notebook_sources(tmp_path / "page.ipynb", tmp_path)
    assert reads_runs(tmp_path / "page.ipynb")


@pytest.fixture
def project(tmp_path) -> Path:
    """A project with one notebook that counts how often it was run, in its run's folder."""
    (tmp_path / "workflow").mkdir()
    for name in ("job.py", "sources.py", "book_pages.py"):
        (tmp_path / "workflow" / name).write_text((REPOSITORY / "workflow" / name).read_text())
    (tmp_path / "pefomed").symlink_to(REPOSITORY / "pefomed")
    write_counter(tmp_path)
    return tmp_path


def write_counter(project: Path, text: str = "first") -> None:
    code = (
        f"from pathlib import Path\nplace = Path(output_dir) / 'count'  # {text}\n"
        "count = int(place.read_text()) + 1 if place.exists() else 1\n"
        "place.write_text(str(count))\nassert seed >= 0, 'a seed below nothing'"
    )
    parameters = 'output_dir: str = "x"  # folder\nseed: int = 0  # seed'
    write_notebook(project / "page.ipynb", [("code", parameters, ["parameters"]), ("code", code, [])])


def run_job(project: Path, seed: int = 0, keeps: bool = True) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "workflow/job.py",
        "page",
        "page.ipynb",
        "--folder",
        "runs/one",
        "--stamp",
        "done/one.json",
    ]
    command += ["--shown", "shown/page.ipynb", "--set", 'output_dir="runs/one"', f"seed={seed}"]
    command += ["--keeps", "pefomed.plain_yaml"] if keeps else []
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)


def count(project: Path) -> int:
    return int((project / "runs" / "one" / "count").read_text())


@pytest.mark.slow
def test_a_job_runs_again_only_when_something_counts(project):
    pytest.importorskip("papermill")
    assert run_job(project).returncode == 0
    first = (project / "done" / "one.json").read_text()
    assert json.loads((project / "shown" / "page.ipynb").read_text())["cells"]
    # Nothing has changed, and the stamp is lost, as in a fresh checkout: nothing is run.
    (project / "done" / "one.json").unlink()
    assert run_job(project).returncode == 0
    assert count(project) == 1 and (project / "done" / "one.json").read_text() == first
    # Only the page has changed: it runs again, on the run that is there.
    write_counter(project, "second")
    assert run_job(project).returncode == 0
    assert count(project) == 2
    # A parameter has changed: the run begins anew.
    assert run_job(project, seed=1).returncode == 0
    assert count(project) == 1


@pytest.mark.slow
def test_a_job_that_fails_says_why_and_goes_on_from_its_folder(project):
    pytest.importorskip("papermill")
    failed = run_job(project, seed=-1)
    assert failed.returncode == 1
    assert "a seed below nothing" in failed.stderr and not (project / "done").exists()
    assert not (project / "shown").exists()
    assert run_job(project, seed=-1).returncode == 1
    assert count(project) == 2


def test_a_folder_that_it_has_not_made_is_left_alone(project):
    (project / "runs" / "one").mkdir(parents=True)
    (project / "runs" / "one" / "mine.txt").touch()
    refused = run_job(project)
    assert refused.returncode == 1 and "not made by this workflow" in refused.stderr
    assert (project / "runs" / "one" / "mine.txt").exists()


def test_a_copy_and_links(project):
    done = project / "done"
    (project / "runs" / "one").mkdir(parents=True)
    done.mkdir()
    (done / "one.json").write_text('{"run": "a", "page": "b"}')
    for stem, suffix in (("predictions", "jsonl"), ("metrics", "json")):
        (project / "runs" / "one" / f"{stem}_blank.{suffix}").write_text(stem)
    base = [sys.executable, "workflow/job.py"]
    after = ["--after", "done/one.json"]
    copy = [*base, "copy", "--like", "runs/one", "--name", "blank", "--folder", "runs/two", "--stamp", "done/two.json"]
    subprocess.run([*copy, *after], cwd=project, check=True, timeout=60)
    assert (project / "runs" / "two" / "metrics.json").read_text() == "metrics"
    link = [*base, "link", "seed-0/stage2=runs/two", "--folder", "runs/all", "--stamp", "done/all.json"]
    subprocess.run([*link, "--after", "done/two.json"], cwd=project, check=True, timeout=60)
    assert (project / "runs" / "all" / "seed-0" / "stage2" / "predictions.jsonl").read_text() == "predictions"
