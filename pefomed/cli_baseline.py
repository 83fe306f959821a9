"""`pefomed baseline`: a vision endpoint answers the questions of a data set."""

from __future__ import annotations

from typing import Annotated

import typer


def baseline(
    dataset: Annotated[str, typer.Argument(help="A name that `pefomed data list` gives, with questions.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the data set; none for drawn ones.")] = "",
    out: Annotated[str, typer.Option(metavar="PREDICTIONS.jsonl", help="Where to write the answers.")] = "",
    split: Annotated[str, typer.Option(help="train, val or test")] = "test",
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option of the loader; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most questions; 0 for all.")] = 0,
    base_url: Annotated[
        str, typer.Option(help="Any OpenAI-compatible endpoint, with its version; OpenAI where nothing is said.")
    ] = "",
    model: Annotated[str, typer.Option(help="Name of the model there; it must take pictures.")] = "gpt-4o-2024-08-06",
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Goes with every question, where the endpoint takes seeds.")] = 0,
    largest_side: Annotated[int, typer.Option(help="Pictures are scaled down to this many pixels.")] = 1024,
    encoding: Annotated[str, typer.Option(help="png or jpeg")] = "png",
    concurrency: Annotated[int, typer.Option(help="Most requests at a time.")] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds for one try of a request.")] = 60.0,
    retries: Annotated[int, typer.Option(help="Tries after the first, where no answer comes.")] = 5,
    attempts: Annotated[int, typer.Option(help="Asks for one answer, where replies are none.")] = 3,
    max_completion_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 300,
    omit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Parameter not to be sent, such as temperature; repeatable."),
    ] = None,
    refusals_as_answers: Annotated[
        bool, typer.Option("--refusals-as-answers", help="Take what a refusal says for the answer.")
    ] = False,
    agreement: Annotated[str, typer.Option(help="Use agreement that lets credentialed pictures be sent.")] = "",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Let a vision model behind an endpoint answer a data set's questions, for the table's zero-shot row.

    What was killed or left questions without an answer goes on when the same command is given again. The key is read
    from the environment variable OPENAI_API_KEY and from nowhere else. Exit status 1 says that answers are missing.

    \b
    Examples:
      pefomed baseline vqa_rad data/vqa_rad --out runs/gpt-4o/predictions.jsonl
      pefomed baseline phantoms --out predictions.jsonl --base-url http://127.0.0.1:8000/v1 --model my-model
      pefomed baseline slake data/slake --option language=zh --limit 100 --out slake.jsonl
    """
    from pefomed.data import load_dataset
    from pefomed.data.all_splits import read_options
    from pefomed.judge.endpoint import OPENAI_URL, Endpoint
    from pefomed.judge.vision import VisionSettings, answer_questions

    if not out:
        raise ValueError("parameter out is empty; name the file that gets the answers, as in --out predictions.jsonl")
    endpoint = Endpoint(
        base_url=base_url or OPENAI_URL,
        model=model,
        temperature=temperature,
        timeout_s=timeout,
        concurrency=concurrency,
        max_retries=retries,
        max_completion_tokens=max_completion_tokens,
        omit=tuple(omit or ()),
    )
    settings = VisionSettings(
        endpoint=endpoint,
        largest_side=largest_side,
        encoding=encoding,
        seed=seed,
        attempts=attempts,
        refusals_as_answers=refusals_as_answers,
        agreement=agreement,
    )
    rows = load_dataset(dataset, folder or None, split, **read_options(dataset, options or []))
    if limit:
        rows = rows.select(range(min(limit, len(rows))))
    summary = answer_questions(rows, settings, out, progress)
    print(summary)
    if not summary.complete:
        raise typer.Exit(1)
    print(f"next: pefomed evaluate {summary.out} --task vqa")
