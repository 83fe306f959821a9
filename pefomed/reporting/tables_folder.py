"""`pefomed report`: all tables and figures of finished runs in one folder, with an index of what each is made of.

    summary = write_tables("runs", "tables")
    print(summary.index, summary.tables, summary.figures, summary.skipped)

The same runs give the same bytes. Every file appears only when it is whole, and the index comes last.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from pefomed.files import sha256_file, write_bytes, write_json, write_text
from pefomed.reporting.paper_tables import NOTE, Product, products
from pefomed.reporting.run_folders import DEPTH, MALFORMED, Skipped, one_line, relative
from pefomed.reporting.run_results import Found, find_results
from pefomed.run_record import installed_versions

VECTORS = ("pdf", "svg")
PACKAGES = (
    *("pefomed", "numpy", "pandas", "matplotlib", "seaborn"),
    *("scikit-learn", "statsmodels", "krippendorff", "pingouin"),
)
# Dates and versions that would make two files of the same figure differ.
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
_DPI = 150


@dataclass(frozen=True)
class TablesSummary:
    """What `write_tables` did.

    Attributes:
        index: index.md.
        runs, tables, figures: how many.
        skipped: what was malformed; the rest was made.
        too_deep: folders that were not searched.
        left_over: files in the folder that are not of these runs.
    """

    index: Path
    runs: int
    tables: int
    figures: int
    skipped: tuple[Skipped, ...]
    too_deep: int
    left_over: tuple[str, ...]


def write_tables(
    runs: str | Path,
    out: str | Path,
    depth: int = DEPTH,
    n_resamples: int = 2000,
    vector: str = "pdf",
    progress: bool = False,
) -> TablesSummary:
    """Write every table and figure that the runs below a folder give.

    Args:
        runs: the folder; a run's own, or one with runs, ablations, verdicts and ratings at any place below it.
        out: gets NAME.csv and NAME.md of each table, NAME.png and NAME.pdf of each figure, index.md and index.json.
        depth: how many folders deep to search.
        n_resamples: bootstrap resamples of whatever is not in a metrics.json.
        vector: `pdf` or `svg`, of figures.
        progress: whether to show bars.

    Raises:
        FileNotFoundError: there is no such folder, or nothing of a run in it.
        ValueError: a parameter is impossible.
        OSError: the folder cannot be written.
    """
    from tqdm import tqdm

    root, out = Path(runs), Path(out)
    _check(root, out, n_resamples, vector)
    found = find_results(root, out, depth, n_resamples, progress)
    skipped = list(found.skipped)
    entries: list[dict] = []
    taken: set[str] = {"index"}
    bar = tqdm(products(found, root, skipped, n_resamples), desc="writing", unit="file", disable=not progress)
    for product in bar:
        stem = _free_name(product, taken)
        try:
            files = _write(product, out / stem, vector)
        except MALFORMED as error:
            if isinstance(error, OSError):  # the disk's fault, and the next file's too
                raise
            skipped.append(Skipped(product.name, one_line(error, root)))
            continue
        entries.append(_entry(product, files, root))
    _write_index(entries, found, skipped, root, out)
    names = {name for entry in entries for name in entry["files"]} | {"index.md", "index.json"}
    left_over = tuple(sorted(path.name for path in out.iterdir() if path.name not in names))
    figures = sum(entry["what"] == "figure" for entry in entries)
    counts = len(found.results), len(entries) - figures, figures
    return TablesSummary(out / "index.md", *counts, tuple(skipped), found.too_deep, left_over)


def to_markdown(table: pd.DataFrame) -> str:
    """A table with its index as Markdown; a bar in a cell does not end it."""
    flat = table.reset_index()
    lines = [[str(column) for column in flat.columns], ["---"] * len(flat.columns)]
    lines += [["" if pd.isna(value) else str(value) for value in row] for row in flat.itertuples(index=False)]
    cells = [[" ".join(text.replace("|", "\\|").split()) for text in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as a PNG, PDF or SVG file that holds no date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=_DPI, metadata=_METADATA[kind])
    return buffer.getvalue()


def _check(root: Path, out: Path, n_resamples: int, vector: str) -> None:
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"parameter out: {place} is a file; choose a folder")
    if out.resolve() == root.resolve():
        raise ValueError(f"parameter out: {out} is the folder of the runs; choose another, or one in it")
    if vector not in VECTORS:
        raise ValueError(f"parameter vector must be {' or '.join(VECTORS)}, not {vector!r}")
    if n_resamples < 1:
        raise ValueError(f"parameter resamples must be at least 1, not {n_resamples}")


def _free_name(product: Product, taken: set[str]) -> str:
    """The product's name, with a number where another one has it, in capitals or not. A table and a figure share."""
    kind, number, stem = "figure" if product.is_figure else "table", 1, product.name
    while f"{kind} {stem.lower()}" in taken or stem.lower() in taken:
        number += 1
        stem = f"{product.name}_{number}"
    taken.add(f"{kind} {stem.lower()}")
    return stem


def _write(product: Product, path: Path, vector: str) -> list[str]:
    """Make one table or figure and write it; returns the names of its files."""
    if not product.is_figure:
        table = product.make()
        csv = table.reset_index().to_csv(index=False, lineterminator="\n")
        note = f"\n{product.note}\n" if product.note else ""
        runs = "".join(f"- {run}\n" for run in product.runs)
        text = f"# {product.title}\n\n{to_markdown(table)}{note}\nMade of:\n\n{runs}"
        # Not with_suffix: names of runs may hold points.
        files = {f"{path.name}.csv": csv.encode("utf-8"), f"{path.name}.md": text.encode("utf-8")}
    else:
        with _own_figures():
            figure = product.make()
            files = {f"{path.name}.{kind}": figure_bytes(figure, kind) for kind in ("png", vector)}
    for name, data in files.items():
        write_bytes(path.parent / name, data)
    return list(files)


@contextmanager
def _own_figures() -> Iterator[None]:
    """Figures that are made in here look alike whatever the session's settings are, and are gone behind it."""
    before = set(plt.get_fignums())
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Ids in an SVG are drawn by chance otherwise.
        matplotlib.rcParams["svg.hashsalt"] = "pefomed"
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)


def _entry(product: Product, files: list[str], root: Path) -> dict:
    return {
        "what": "figure" if product.is_figure else "table",
        "title": product.title,
        "like_in_paper": product.kind,
        "note": product.note,
        "files": files,
        "runs": list(product.runs),
        "inputs": {relative(path, root): sha256_file(path) for path in product.inputs},
    }


def _write_index(entries: list[dict], found: Found, skipped: list[Skipped], root: Path, out: Path) -> None:
    versions = {"python": platform.python_version(), **installed_versions(PACKAGES)}
    index = {
        "searched": root.resolve().name,
        "note": NOTE,
        "made": entries,
        "skipped": [{"folder": one.folder, "why": one.why} for one in skipped],
        "folders_too_deep": found.too_deep,
        "versions": versions,
    }
    lines = [f"# Tables and figures of {root.resolve().name}\n", f"{NOTE}\n"]
    for what in ("table", "figure"):
        made = [entry for entry in entries if entry["what"] == what]
        if made:
            lines.append(
                f"## {what.capitalize()}s\n\n{to_markdown(pd.DataFrame(map(_line, made)).set_index('title'))}"
            )
    if skipped:
        lines.append("## Left out\n\n" + "".join(f"- {one.folder}: {one.why}\n" for one in skipped))
    if found.too_deep:
        lines.append(f"{found.too_deep} folders lie too deep and were not searched.\n")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines.append(f"Hashes of all inputs are in index.json. Made with {listed}.\n")
    write_text(out / "index.md", "\n".join(lines))
    write_json(out / "index.json", index)


def _line(entry: dict) -> dict[str, str]:
    links = ", ".join(f"[{name.rpartition('.')[2]}]({name})" for name in entry["files"])
    runs = f"{entry['runs'][0]} and {len(entry['runs']) - 1} more" if len(entry["runs"]) > 1 else entry["runs"][0]
    return {"title": entry["title"], "files": links, "like in the paper": entry["like_in_paper"], "runs": runs}
