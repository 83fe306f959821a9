"""Which files a notebook's result depends on, read from the code itself.

A notebook names modules of the package; these name others. Together they are its sources, wherever in a file the
imports stand. Whether a source changed is a matter of its code: comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = "pefomed"


def notebook_code(path: Path) -> str:
    """All code cells of a notebook, one below the other, without IPython's own commands."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code").splitlines()
    # A command stands where a statement may have to.
    return "\n".join(
        line.replace(line.lstrip(), "pass") if line.lstrip()[:1] in "%!" and line.strip() else line for line in lines
    )


def imported_modules(code: str) -> set[str]:
    """Names of the package's modules, and of what might be one, that the code imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == PACKAGE}


def module_file(name: str, root: Path) -> Path | None:
    """The file of a module or package; None for a name that is neither."""
    place = root.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _direct(path: Path, root: Path) -> frozenset[Path]:
    found = (module_file(name, root) for name in imported_modules(path.read_text(encoding="utf-8")))
    return frozenset(other for other in found if other)


def module_sources(names: Iterable[str], root: Path) -> list[Path]:
    """Files of these modules and of all that they import, directly or not, sorted."""
    todo, found = [path for name in names if (path := module_file(name, root))], set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += _direct(path, root)
    # What ships with the embedded base is part of it.
    if any("embedded" in path.parts for path in found):
        found |= {path for path in (root / PACKAGE / "embedded" / "weights").glob("*") if path.is_file()}
    return sorted(found)


def named_files(code: str, root: Path) -> list[Path]:
    """Files of the repository, runs aside, that the code names in a string of its own."""
    texts = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    texts = {text for text in texts if isinstance(text, str) and "/" in text and len(text) < 200 and "\n" not in text}
    inside = [root / text for text in texts if not text.startswith(("/", "runs/", ".."))]
    return sorted(path for path in inside if path.is_file())


def notebook_sources(path: Path, root: Path, files: Iterable[str] = ()) -> list[Path]:
    """A notebook, the package's modules that it needs, and the files that it or the caller names."""
    code = notebook_code(path)
    return [path, *module_sources(imported_modules(code), root), *named_files(code, root), *(root / f for f in files)]


def reads_runs(path: Path) -> bool:
    """Whether a page reads the reproduction's runs: it uses its parameter of that name."""
    return "args.runs_dir" in notebook_code(path)


def content_hash(paths: Iterable[Path], root: Path) -> str:
    """Hash of what files say; of Python only the code, of notebooks only the cells' text."""
    digest = hashlib.sha256()
    for path in paths:
        data = path.read_bytes() if path.is_file() else b"absent"
        if path.suffix == ".py":
            data = _code_only(data.decode("utf-8")).encode()
        elif path.suffix == ".ipynb":
            cells = json.loads(data)["cells"]
            data = json.dumps([[c["cell_type"], "".join(c["source"]), c["metadata"]] for c in cells]).encode()
        digest.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _code_only(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)
