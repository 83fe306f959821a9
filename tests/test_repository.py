"""What holds for the repository as a whole: versions agree, importing is cheap, files are clean."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import pefomed

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "pefomed"

packaging_requirements = pytest.importorskip("packaging.requirements")
canonicalize_name = pytest.importorskip("packaging.utils").canonicalize_name
Requirement = packaging_requirements.Requirement

IMPORT_SECONDS = 0.3
# People install these to evaluate predictions of any model, on machines without a GPU stack.
TORCH_FREE = (
    *("files", "images", "predictions", "procedure", "notebook", "run_record", "embedded_answers"),
    *("cli", "cli_evaluate", "cli_judge", "cli_ratings", "metrics", "judge", "human", "reporting"),
)

# The fictional user of the tests is called jane.
MACHINE_PATH = re.compile(
    r"(?<![\w.~:/-])/((work|root|tmp)\b|(home|Users)/(?!jane\b)\w)|\b[A-Z]:\\Users\\(?!jane\b)\w"
)


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def direct_requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, the package's own extras left out."""
    table = project()
    texts = list(table["dependencies"]) + [text for extra in table["optional-dependencies"].values() for text in extra]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != "pefomed"]


def constraints() -> dict[str, str]:
    """Exact versions by canonical name."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt: every line is NAME==VERSION or a comment"
    return {canonicalize_name(name): version for name, version in pairs}


def tracked_files() -> list[Path]:
    """Files under version control, or about to be."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in listed if (REPOSITORY / name).is_file()]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_the_tested_version_lies_in_the_range(requirement: Requirement) -> None:
    pinned = constraints()
    name = canonicalize_name(requirement.name)
    assert name in pinned, f"{requirement} of pyproject.toml has no line in constraints.txt"
    assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes {pinned[name]} of constraints.txt"


def test_constraints_are_sorted_and_portable() -> None:
    names = list(constraints())
    assert names == sorted(set(names))
    # A local label such as +cpu would bind everybody to one build of torch.
    assert not [name for name, version in constraints().items() if "+" in version]
    assert "://" not in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms need a few other packages")
def test_everything_that_is_installed_indirectly_is_constrained() -> None:
    pinned, todo, seen = constraints(), direct_requirements(), set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        assert name in pinned, f"{name} has no line in constraints.txt"
        # torch itself says exactly which accelerator libraries its build needs.
        required = [] if name == "torch" else metadata.requires(name) or []
        for inner in map(Requirement, required):
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(inner)


def test_the_core_needs_no_gpu_stack() -> None:
    todo, seen = [Requirement(text) for text in project()["dependencies"]], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        for inner in map(Requirement, metadata.requires(name) or []):
            if inner.marker is None or inner.marker.evaluate({"extra": ""}):
                todo.append(inner)
    assert "openai" in seen and "pandas" in seen  # the walk walks
    assert not seen & {"torch", "transformers", "trl", "peft", "accelerate", "torchvision"}


def fresh_interpreter(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_importing_the_package_is_quick() -> None:
    code = "from time import perf_counter as now; start = now(); import pefomed; print(now() - start)"
    # The best of five: other work on the machine can only make it slower.
    best = min(float(fresh_interpreter(code)) for _ in range(5))
    assert best < IMPORT_SECONDS


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, pefomed; print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    assert fresh_interpreter(code) == "[]"


def test_what_evaluates_imports_neither_torch_nor_transformers() -> None:
    paths = [path for name in TORCH_FREE for path in (PACKAGE / f"{name}.py", *sorted((PACKAGE / name).rglob("*.py")))]
    # evaluate itself imports transformers and torch wherever they are installed.
    kept = [path for path in paths if path.is_file() and "evaluate_modules" not in path.parts]
    parts = [path.relative_to(REPOSITORY).with_suffix("").parts for path in kept]
    modules = [".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts]
    assert "pefomed.notebook" in modules
    code = f"""
import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
    heavy = [name for name in ("torch", "transformers", "datasets", "peft", "trl") if name in sys.modules]
    if heavy:
        print(module, "imports", *heavy)
        break
"""
    assert fresh_interpreter(code) == ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < 350, "one concept, one module: take it apart"


def test_no_text_file_names_a_path_of_a_machine() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights and images
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or str(REPOSITORY) in line:
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_the_citation_can_be_read_and_agrees() -> None:
    import yaml

    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == pefomed.__version__
    assert citation["license"] == project()["license"]
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("PeFoMed: ")
    assert all({"given-names", "family-names"} == author.keys() for author in paper["authors"])
    assert paper["url"].endswith("2401.02797")


def test_the_changelog_knows_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == pefomed.__version__


def test_continuous_integration_can_be_run() -> None:
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
