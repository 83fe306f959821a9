"""`pefomed judge`: a language model, or the offline stand-in, rates predictions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pefomed.judge.settings import JudgeSettings, JudgeSummary


def judge(
    predictions: Annotated[str, typer.Argument(metavar="PREDICTIONS.jsonl", help="Of this package or any model.")],
    task: Annotated[str, typer.Option(help="vqa or report")] = "vqa",
    out: Annotated[str, typer.Option(metavar="JUDGE.jsonl", help="Where to write the verdicts.")] = "judge.jsonl",
    offline: Annotated[
        bool, typer.Option("--offline", help="Rules instead of a language model: no network, key or cost.")
    ] = False,
    base_url: Annotated[
        str, typer.Option(help="Any OpenAI-compatible endpoint, with its version; OpenAI where nothing is said.")
    ] = "",
    model: Annotated[str, typer.Option(help="Name of the model there.")] = "gpt-4o-2024-08-06",
    repeats: Annotated[int, typer.Option(help="Independent verdicts on each prediction; the paper has 10.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first repeat, where the endpoint takes seeds.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 0.0,
    concurrency: Annotated[int, typer.Option(help="Most requests at a time.")] = 16,
    tokens_in_flight: Annotated[int, typer.Option(help="Most tokens at a time, by estimate.")] = 200_000,
    timeout: Annotated[float, typer.Option(help="Seconds for one try of a request.")] = 60.0,
    retries: Annotated[int, typer.Option(help="Tries after the first, where no answer comes.")] = 5,
    attempts: Annotated[int, typer.Option(help="Asks for one verdict, where replies are none.")] = 3,
    max_completion_tokens: Annotated[int, typer.Option(help="Longest reply.")] = 300,
    structured: Annotated[bool, typer.Option(help="Ask for replies by JSON schema.")] = True,
    omit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Parameter not to be sent, such as temperature; repeatable."),
    ] = None,
    price_input: Annotated[float | None, typer.Option(help="Price of a million prompt tokens.")] = None,
    price_output: Annotated[float | None, typer.Option(help="Price of a million completion tokens.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Stop before all that the store paid for costs more; needs both prices.")
    ] = None,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Do not ask again for what failed in an earlier run.")
    ] = False,
    store: Annotated[
        str, typer.Option(metavar="FILE.sqlite", help="What was asked; beside OUT where nothing is said.")
    ] = "",
    agreement: Annotated[str, typer.Option(help="Use agreement that lets credentialed text be sent.")] = "",
    batch: Annotated[
        bool, typer.Option("--batch", help="By the Batch API: one call submits, the same call later collects.")
    ] = False,
    progress: Annotated[bool, typer.Option(help="Show the estimate and a progress bar.")] = True,
) -> None:
    """Rate predictions by a language model. What was killed goes on when the same command is given again.

    The key is read from the environment variable OPENAI_API_KEY and from nowhere else. Nothing is asked or paid twice.
    Exit status 1 says that some verdicts are missing; each stands in JUDGE.jsonl as failed, with its reason.

    \b
    Examples:
      pefomed judge predictions.jsonl --task vqa --offline --out judge.jsonl
      pefomed judge predictions.jsonl --task vqa --repeats 10 --out judge.jsonl
      pefomed judge predictions.jsonl --task report --base-url http://127.0.0.1:8000/v1 --model my-model
      pefomed judge predictions.jsonl --price-input 2.5 --price-output 10 --max-cost 5
      pefomed judge predictions.jsonl --task vqa --batch --out judge.jsonl
    """
    from pefomed.judge.endpoint import OPENAI_URL, Endpoint
    from pefomed.judge.settings import JudgeSettings

    if offline and (batch or base_url):
        raise ValueError(f"parameter {'batch' if batch else 'base_url'} is for endpoints; leave it or --offline out")
    endpoint = Endpoint(
        base_url=base_url or OPENAI_URL,
        model=model,
        temperature=temperature,
        timeout_s=timeout,
        concurrency=concurrency,
        max_tokens_in_flight=tokens_in_flight,
        max_retries=retries,
        structured=structured,
        max_completion_tokens=max_completion_tokens,
        omit=tuple(omit or ()),
    )
    settings = JudgeSettings(
        endpoint=endpoint,
        offline=offline,
        repeats=repeats,
        seed=seed,
        attempts=attempts,
        price_input=price_input,
        price_output=price_output,
        max_cost=max_cost,
        keep_failed=keep_failed,
        agreement=agreement,
        store=store,
    )
    summary = _batch(predictions, task, settings, out, progress) if batch else None
    if not batch:
        from pefomed.judge.run import judge_predictions

        summary = judge_predictions(predictions, task, settings, out, progress)
    if summary is None:  # batches are out, and nothing is wrong with that
        return
    _tell(summary)
    if not summary.complete:
        raise typer.Exit(1)
    print(f"verdicts: {summary.out}")


def _tell(summary: JudgeSummary) -> None:
    print(f"{summary.ok:,} of {summary.n:,} judged, {summary.failed:,} failed, {summary.not_asked:,} not asked")
    if summary.usage:
        numbers = ", ".join(f"{name.replace('_', ' ')} {amount:,}" for name, amount in summary.usage.items())
        print(f"paid so far: {numbers}")
    if summary.cost is not None:
        print(f"cost so far: {summary.cost:,.4f}, assumed tokens at the most that they can be")
    if summary.stopped:
        print(f"stopped: {summary.stopped}", file=sys.stderr)
    if not summary.complete:
        print(f"missing verdicts and their reasons: {summary.out}; the same command tries them again", file=sys.stderr)


def _batch(predictions: str, task: str, settings: JudgeSettings, out: str, progress: bool) -> JudgeSummary | None:
    """Do the next step, whichever it is; None as long as batches are out."""
    from pefomed.judge.batch import judge_by_batch

    found = judge_by_batch(predictions, task, settings, out, progress=progress)
    print(found)
    return found.summary
