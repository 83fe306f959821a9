"""`pefomed evaluate`: scores of anybody's predictions, and of two runs against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

TASKS = ("vqa", "report", "caption")
# What two runs are compared by where nothing is said.
_COMPARED = {"vqa": ("exact_match",), "report": ("rouge_l", "cider"), "caption": ("rouge_l", "cider")}


def evaluate(
    predictions: Annotated[str, typer.Argument(metavar="PREDICTIONS.jsonl", help="Of this package or any model.")],
    task: Annotated[str, typer.Option(help="vqa, report or caption")] = "vqa",
    out: Annotated[str, typer.Option(metavar="METRICS.json", help="Where to write the scores as well.")] = "",
    meteor: Annotated[bool, typer.Option(help="METEOR, which takes most of the time.")] = True,
    ptb: Annotated[bool, typer.Option(help="Penn Treebank tokens; otherwise lower case, split at blanks.")] = True,
    constant: Annotated[bool, typer.Option(help="The best constant report beside the model's scores.")] = True,
    cut_references: Annotated[
        int, typer.Option(metavar="WORDS", help="Clean references and keep so many words; 0 for all.")
    ] = 0,
    one_per_group: Annotated[
        bool, typer.Option("--one-per-group", help="Only the first row of each group, as of a study with two views.")
    ] = False,
    cider_corpus: Annotated[
        str, typer.Option(metavar="TEXTS.jsonl", help="Rows with 'answer' in which CIDEr counts words.")
    ] = "",
    training: Annotated[
        str, typer.Option(metavar="TRAIN.jsonl", help="Rows with 'answer': further candidates for a constant report.")
    ] = "",
    compare: Annotated[
        str, typer.Option(metavar="OTHER.jsonl", help="Predictions of another run over the same items.")
    ] = "",
    compare_by: Annotated[
        list[str] | None, typer.Option(metavar="SCORE", help="Score of the comparison, such as cider; repeatable.")
    ] = None,
) -> None:
    """Score predictions, with 95 % intervals and breakdowns. Needs no GPU and none of the training packages.

    Reports and captions: METEOR 1.5, ROUGE-L, CIDEr and BLEU beside those of the best constant report, diversity and
    repetition. With --compare the differences are those of PREDICTIONS over OTHER.

    \b
    Examples:
      pefomed evaluate runs/stage2_vqa_tiny/predictions.jsonl
      pefomed evaluate predictions.jsonl --task vqa --out metrics.json
      pefomed evaluate runs/stage2_report_tiny/predictions.jsonl --task report --out metrics.json
      pefomed evaluate predictions.jsonl --task report --no-meteor --no-ptb        # without Java
      pefomed evaluate predictions.jsonl --task report --one-per-group --cut-references 50
      pefomed evaluate predictions.jsonl --task caption --cider-corpus train.jsonl
      pefomed evaluate runs/both/predictions.jsonl --compare runs/stage2/predictions.jsonl
    """
    settings = {
        **{"--no-ptb": not ptb, "--cut-references": cut_references, "--one-per-group": one_per_group},
        **{"--cider-corpus": cider_corpus},
    }
    others = {"--no-meteor": not meteor, "--no-constant": not constant, "--training": training}
    _check(predictions, task, out, [name for name, value in (settings | others).items() if value])
    _check_comparison(task, compare, compare_by or [], meteor, [name for name, value in settings.items() if value])
    if task == "vqa":
        from pefomed.metrics.vqa import format_scores, vqa_scores

        scores = vqa_scores(predictions)
        text = format_scores(scores)
    else:
        from pefomed.metrics.report import format_report_scores, report_scores

        _check_tasks(predictions, task)
        scores = report_scores(
            predictions,
            lexical=True,
            ptb=ptb,
            meteor=meteor,
            cut_references=cut_references,
            one_per_group=one_per_group,
            corpus=cider_corpus,
            constant=constant,
            training=training,
        )
        text = format_report_scores(scores)
    if compare:
        scores["comparison"], compared = _comparison(compare, predictions, compare_by or _COMPARED[task])
        text = f"{text}\n\n{compared}"
    if out:
        from pefomed.files import write_json

        write_json(out, scores)
    print(text)


def _check(predictions: str, task: str, out: str, for_reports: list[str]) -> None:
    if task not in TASKS:
        raise ValueError(f"parameter task must be {', '.join(TASKS[:-1])} or {TASKS[-1]}, not {task!r}")
    if task == "vqa" and for_reports:
        raise ValueError(f"parameter {for_reports[0]} is for reports and captions; leave it out or give --task report")
    if out and Path(out).is_dir():
        raise ValueError(f"parameter out: {out} is a folder; name a file")
    if out and Path(out).exists() and Path(predictions).exists() and Path(out).samefile(predictions):
        raise ValueError(f"parameter out: {out} holds the predictions, which would be lost; name another file")


def _check_comparison(task: str, compare: str, scores: list[str], meteor: bool, settings: list[str]) -> None:
    """Before seconds go into scores that a misspelt name would then throw away."""
    if scores and not compare:
        raise ValueError("parameter compare_by needs --compare OTHER.jsonl; give it or leave compare_by out")
    if not compare:
        return
    if not Path(compare).is_file():
        raise FileNotFoundError(f"parameter compare: {compare}: no such file; give the path of a predictions.jsonl")
    if settings:
        raise ValueError(
            f"parameter {settings[0]} does not reach the comparison, which takes all rows, Penn Treebank tokens and "
            "whole references; leave it or --compare out"
        )
    from pefomed.metrics.compare import CAPTION_SCORES
    from pefomed.metrics.vqa import SCORES

    known = tuple(SCORES) if task == "vqa" else CAPTION_SCORES
    for score in scores:
        if score not in known:
            raise ValueError(f"parameter compare_by must be one of {', '.join(known)} for {task}, not {score!r}")
        if score == "meteor_java15" and not meteor:
            raise ValueError("parameter compare_by asks for meteor_java15, which --no-meteor leaves out; give one")


def _check_tasks(path: str, task: str) -> None:
    from pefomed.predictions import read_predictions

    for number, row in enumerate(read_predictions(path), start=1):
        if row["task"] != task:
            raise ValueError(f"{path}, row {number}: task {row['task']!r} is not {task!r}; leave other tasks out")


def _comparison(other: str, predictions: str, scores: list[str] | tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The results by score, and their lines."""
    from pefomed.metrics.compare import compare_runs, format_comparison

    results = {score: compare_runs(other, predictions, score) for score in scores}
    lines = [f"first: {other}", f"second: {predictions}", *map(format_comparison, results.values())]
    return {"first": str(other), "second": str(predictions), **results}, "\n".join(lines)
