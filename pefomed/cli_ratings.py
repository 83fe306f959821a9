"""`pefomed ratings`: sheets for human raters out and in, simulated raters, and how far raters and judges agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

ratings_app = typer.Typer(
    rich_markup_mode=None,
    help="""Rating sheets for human raters, and how far the raters, a judge and exact match agree.

    \b
    Examples:
      pefomed ratings export runs/vqa/predictions.jsonl --task vqa --raters 10 --out-dir sheets
      pefomed ratings import sheets/ratings_*.xlsx --key key.json --out ratings.jsonl
      pefomed ratings agreement ratings.jsonl --judge judge.jsonl --predictions runs/vqa/predictions.jsonl
    """,
)

Task = Annotated[str, typer.Option(help="vqa or report")]


@ratings_app.command("export")
def ratings_export(
    predictions: Annotated[
        list[str], typer.Argument(metavar="PREDICTIONS.jsonl...", help="Of one model, or of several, to be mixed.")
    ],
    out_dir: Annotated[str, typer.Option(help="Gets one xlsx a rater.")],
    task: Task = "vqa",
    raters: Annotated[int, typer.Option(min=0, help="How many raters; the paper has 10.")] = 0,
    names: Annotated[str, typer.Option(metavar="A,B,C", help="Their names, in place of their number.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also the answers that exact match accepts; reports are always all.")
    ] = False,
    sample: Annotated[int, typer.Option(help="How many ids to draw; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the sample and of each rater's order.")] = 0,
    normaliser: Annotated[str, typer.Option(help="Of exact match: medvqa or repaired")] = "medvqa",
    images: Annotated[
        str, typer.Option(metavar="DIR", help="Pictures to show, called as a row's id or group is.")
    ] = "",
    key: Annotated[str, typer.Option(metavar="KEY.json", help="Beside OUT_DIR where nothing is said.")] = "",
    agreement: Annotated[str, typer.Option(help="Use agreement that lets credentialed text be handed on.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace sheets and key that exist.")] = False,
    progress: Annotated[bool, typer.Option(help="Name each sheet once it is written.")] = True,
) -> None:
    """Write a blinded rating sheet for each rater, and the key that reads them in. Keep the key from the raters.

    \b
    Examples:
      pefomed ratings export runs/vqa/predictions.jsonl --out-dir sheets
      pefomed ratings export predictions.jsonl --task report --names jane,omar --sample 100 --out-dir sheets
      pefomed ratings export runs/a/predictions.jsonl runs/b/predictions.jsonl --all --out-dir sheets --key k.json
      pefomed ratings export predictions.jsonl --images "data/vqa_rad/VQA_RAD Image Folder" --out-dir sheets
    """
    from pefomed.human.chosen_rows import Selection
    from pefomed.human.sheet_export import PAPER_RATERS, export_sheets

    if raters and names:
        raise ValueError("parameters raters and names exclude each other; give one of them")
    who = names.split(",") if names else raters or PAPER_RATERS
    print(
        export_sheets(
            predictions,
            task,
            out_dir,
            who,
            Selection(not everything, normaliser, sample, seed),
            pictures=images or None,
            agreement=agreement,
            key=key,
            overwrite=overwrite,
            progress=progress,
        )
    )


@ratings_app.command("import")
def ratings_import(
    sheets: Annotated[list[str], typer.Argument(metavar="SHEETS...", help="xlsx, or CSV of the sheet Ratings.")],
    key: Annotated[str, typer.Option(metavar="KEY.json", help="What export wrote beside the sheets.")] = "key.json",
    out: Annotated[str, typer.Option(metavar="RATINGS.jsonl", help="Gets the scores.")] = "ratings.jsonl",
) -> None:
    """Check every cell of the sheets that came back and write their scores. Where anything is wrong, nothing is.

    \b
    Examples:
      pefomed ratings import sheets/ratings_*.xlsx --key key.json --out ratings.jsonl
      pefomed ratings import from_jane.csv from_omar.xlsx --out ratings.jsonl
    """
    from pefomed.human.sheet_import import SheetFaults, import_sheets

    try:
        summary = import_sheets(sheets, key, out)
    except SheetFaults as faults:  # the one error of more than one line
        for line in faults.shown():
            print(f"pefomed: error: {' '.join(line.split())}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(summary)


@ratings_app.command("simulate")
def ratings_simulate(
    predictions: Annotated[str, typer.Argument(metavar="PREDICTIONS.jsonl", help="What is rated.")],
    task: Task = "vqa",
    truth: Annotated[
        str, typer.Option(metavar="offline|exact-match|JUDGE.jsonl", help="Whose verdict the raters stray from.")
    ] = "offline",
    raters: Annotated[int, typer.Option(help="How many raters.")] = 10,
    reliability: Annotated[
        str, typer.Option(metavar="P,P,...", help="How often each gives the true score; one for all, or one each.")
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also the answers that exact match accepts; reports are always all.")
    ] = False,
    sample: Annotated[int, typer.Option(help="How many ids to draw; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the sample and of the raters' errors.")] = 0,
    out: Annotated[str, typer.Option(metavar="RATINGS.jsonl", help="Gets the scores.")] = "ratings.jsonl",
) -> None:
    """Write ratings of simulated raters, who stray from a given verdict with stated probabilities.

    \b
    Examples:
      pefomed ratings simulate runs/vqa/predictions.jsonl --out simulated.jsonl
      pefomed ratings simulate predictions.jsonl --task report --raters 3 --reliability 0.9,0.7,0.5
      pefomed ratings simulate predictions.jsonl --truth judge.jsonl
    """
    from pefomed.human.chosen_rows import Selection, choose_rows
    from pefomed.human.simulated import simulate, simulated_raters, true_scores, write_simulated

    if Path(out).is_dir():
        raise ValueError(f"parameter out: {out} is a folder; name a file, such as ratings.jsonl")
    if Path(out).resolve() in (Path(predictions).resolve(), Path(truth).resolve()):
        raise ValueError(f"parameter out: {out} is a file that is read; name another")
    chosen = choose_rows(predictions, task, Selection(not everything, sample=sample, seed=seed))
    people = simulated_raters(task, raters, _reliabilities(reliability, raters))
    verdicts = simulate(true_scores([row for _, row in chosen.rows], task, truth), task, people, seed)
    write_simulated(out, verdicts)
    for person in people:
        shares = ", ".join(f"{person.matrix[score][score]:.2f} of {score}" for score in range(len(person.matrix)))
        print(f"{person.name}: true score given for {shares}")
    print(f"simulated ratings: {len(verdicts):,} in {out}")


@ratings_app.command("agreement")
def ratings_agreement(
    ratings: Annotated[str, typer.Argument(metavar="RATINGS.jsonl", help="What import or simulate wrote.")],
    task: Task = "vqa",
    judge: Annotated[str, typer.Option(metavar="JUDGE.jsonl", help="To be compared with the raters.")] = "",
    predictions: Annotated[
        str, typer.Option(metavar="PREDICTIONS.jsonl", help="Gives what intervals resample, and exact match.")
    ] = "",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    out: Annotated[str, typer.Option(metavar="AGREEMENT.json", help="Where to write everything as well.")] = "",
) -> None:
    """Say how far the raters agree with each other, with a judge and with exact match, with 95 % intervals.

    \b
    Examples:
      pefomed ratings agreement ratings.jsonl
      pefomed ratings agreement ratings.jsonl --judge judge.jsonl --predictions predictions.jsonl --out agreement.json
      pefomed ratings agreement ratings.jsonl --task report --judge judge.jsonl
    """
    from pefomed.files import write_json
    from pefomed.human.agreement import agreement_scores
    from pefomed.human.agreement_text import format_agreement

    if out and Path(out).is_dir():
        raise ValueError(f"parameter out: {out} is a folder; name a file")
    if out and Path(out).resolve() in {Path(path).resolve() for path in (ratings, judge, predictions) if path}:
        raise ValueError(f"parameter out: {out} is a file that is read; name another")
    scores = agreement_scores(ratings, judge or None, predictions or None, task=task, n_resamples=resamples, seed=seed)
    if out:
        write_json(out, scores)
    print(format_agreement(scores))


def _reliabilities(text: str, raters: int) -> list[float] | None:
    if not text:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"parameter reliability: {text!r} is no number, nor several with commas between") from None
    return values * raters if len(values) == 1 else values
