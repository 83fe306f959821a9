"""`pefomed report`: the paper's tables and figures of finished runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def report(
    runs: Annotated[str, typer.Argument(metavar="RUNS_DIR", help="A run's folder, or one with runs below it.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Gets the tables, the figures and index.md.")] = "tables",
    depth: Annotated[int, typer.Option(help="How many folders deep to search.")] = 8,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of what is not in a metrics.json.")] = 2000,
    vector: Annotated[str, typer.Option(help="Vector format of figures, beside PNG: pdf or svg")] = "pdf",
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Make every table and figure that finished runs give, with the paper's own numbers beside them.

    Found below RUNS_DIR are metrics*.json, predictions*.jsonl, judge*.jsonl and ratings*.jsonl, and ablations. Each
    table is written as CSV and Markdown, each figure as PNG and PDF; index.md and index.json say what they are made
    of. Exit status 1 says that something was malformed and left out; it is named, and the rest is made.

    \b
    Examples:
      pefomed report runs
      pefomed report runs/stage2_vqa_tiny --out runs/stage2_vqa_tiny/tables
      pefomed report runs/conditions --out tables --vector svg
    """
    import matplotlib

    # Whatever this shell inherited, such as a notebook's own backend: nothing is shown here.
    matplotlib.use("Agg")
    from pefomed.reporting.tables_folder import write_tables

    summary = write_tables(runs, out, depth, resamples, vector, progress)
    for one in summary.skipped:
        print(f"left out: {one.folder}: {one.why}", file=sys.stderr)
    if summary.too_deep:
        print(f"not searched: {summary.too_deep} folders deeper than {depth}; see --depth", file=sys.stderr)
    if summary.left_over:
        names = ", ".join(summary.left_over[:5]) + (", ..." if len(summary.left_over) > 5 else "")
        print(f"not of these runs: {len(summary.left_over)} other files in {out}: {names}", file=sys.stderr)
    print(f"runs: {summary.runs}, tables: {summary.tables}, figures: {summary.figures}")
    print(f"index: {summary.index}")
    if summary.skipped:
        print(f"left out because malformed: {len(summary.skipped)}", file=sys.stderr)
        raise typer.Exit(1)
