"""The `pefomed` command: what the notebooks do, from a shell.

Every subcommand is a few lines around a function of the library. Whatever the user got wrong ends with exit status 2
and one line on stderr; Ctrl-C ends with 130. Nothing heavy is imported before a subcommand needs it.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pefomed.cli_baseline import baseline
from pefomed.cli_data import data_app
from pefomed.cli_evaluate import evaluate
from pefomed.cli_judge import judge
from pefomed.cli_ratings import ratings_app
from pefomed.cli_report import report

# typer brings its own copy of click or uses the installed one, by version: this is either's class of usage errors.
USAGE_ERROR = typer.BadParameter.__mro__[1]
TRAINING_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors", "pyarrow")
OPTIONAL_PACKAGES = {**dict.fromkeys(TRAINING_PACKAGES, "train"), "pydicom": "dicom"}

LARGEST_IMAGE = 1792  # four times the paper's side; the position table grows with its square


class OneLineErrors(TyperGroup):
    """Tells a user's mistake in one line; `--debug`, wherever it stands, shows the traceback as well."""

    def main(self, args: list[str] | None = None, prog_name: str | None = None, **extra: Any) -> None:
        args = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in args
        extra["standalone_mode"] = False
        try:
            code = super().main(args=[text for text in args if text != "--debug"], prog_name="pefomed", **extra)
        except USAGE_ERROR as error:
            command = error.ctx.command_path if error.ctx else "pefomed"
            code = complain(f"{error.format_message().rstrip('.')}; see {command} --help")
        except ModuleNotFoundError as error:
            if debug or (error.name or "").split(".")[0] not in OPTIONAL_PACKAGES:
                raise
            missing = (error.name or "").split(".")[0]
            code = complain(
                f"this needs {missing}; install it with: pip install 'pefomed[{OPTIONAL_PACKAGES[missing]}]'"
            )
        except (ValueError, OSError) as error:
            if debug:
                raise
            code = complain(str(error) or type(error).__name__)
        if code == 130:
            print("interrupted; the same command goes on from what is finished", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)


def complain(message: str) -> int:
    """Prints an error as one line on stderr; returns the exit status of a user's mistake."""
    print(f"pefomed: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def quiet_libraries() -> None:
    """Loading bars, reports and deprecation warnings of the libraries would bury the one line that matters."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=rf"({'|'.join(TRAINING_PACKAGES)})(\.|$)")


app = typer.Typer(cls=OneLineErrors, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(data_app, name="data")
app.add_typer(ratings_app, name="ratings")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Fine-tune multimodal language models on medical pictures, answer questions with them, score the answers.

    \b
    Examples:
      pefomed train configs/stage2_vqa_tiny.yaml
      pefomed generate runs/stage2_vqa_tiny
      pefomed evaluate runs/stage2_vqa_tiny/predictions.jsonl --out runs/stage2_vqa_tiny/metrics.json
      pefomed judge runs/stage2_vqa_tiny/predictions.jsonl --offline --out runs/stage2_vqa_tiny/judge.jsonl

    Exit status: 0 for success, 1 where something is left undone, 2 for a mistake in what was asked or given, 130 after
    Ctrl-C.
    """


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="STAGE_CONFIG.yaml", help="Settings of the run; see configs/.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Put in place of the file's; repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Fine-tune LoRA and projector. A run that was killed goes on when the same command is given again.

    \b
    Examples:
      pefomed train configs/stage2_vqa_tiny.yaml
      pefomed train configs/stage2_vqa_tiny.yaml --set seed=1 --set output_dir=runs/seed1
      pefomed train configs/stage1_captions_tiny.yaml
      pefomed train configs/stage2_vqa_tiny.yaml --set stage_changes.epochs=1 --set limit=200
      accelerate launch --config_file configs/accelerate/ddp_4_gpus.yaml -m pefomed.cli train \\
          configs/stage2_vqa_vqa_rad_paper.yaml
    """
    from pefomed.runs import train_run
    from pefomed.settings import read_settings

    settings = read_settings(config, changes or [])
    quiet_libraries()
    result = train_run(settings, progress, workers)
    if int(os.environ.get("RANK", "0")):  # of several processes one speaks
        return
    print(f"trained: {result.trainable['total']:,} parameters in {result.seconds:.0f} s")
    for row in result.validation:
        score = f"exact match {row['exact_match']:.1f} %" if "exact_match" in row else f"loss {row['loss']:.3f}"
        print(f"validation at step {row['step']}: {score}")
    if result.broken:
        print(f"left out: {result.broken:,} training rows whose pictures could not be read, see broken_pictures.jsonl")
    print(f"adapter: {result.adapter}")
    print(f"next: pefomed generate {settings.output_dir}")


@app.command()
def conditions(
    config: Annotated[str, typer.Argument(metavar="STAGE2.yaml", help="Settings of stage 2.")],
    stage1: Annotated[str, typer.Option(metavar="STAGE1.yaml", help="Settings of stage 1.")],
    output_dir: Annotated[str, typer.Option(help="Gets a run folder for each condition.")],
    stage1_run: Annotated[str, typer.Option(help="Run of stage 1; in OUTPUT_DIR where nothing is said.")] = "",
    controls: Annotated[bool, typer.Option("--controls", help="Also the controls stage2_long and replay+2.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Put into both files' place; repeatable.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer; 0 for the procedure's own bound.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Train and test zero-shot, stage 1, stage 2 and both. What was killed goes on when the command is given again.

    \b
    Examples:
      pefomed conditions configs/stage2_vqa_tiny.yaml --stage1 configs/stage1_captions_tiny.yaml --output-dir runs/vqa
      pefomed conditions configs/stage2_report_tiny.yaml --stage1 configs/stage1_captions_tiny.yaml \\
          --output-dir runs/report --controls --set seed=1
    """
    from pefomed.ablation import run_conditions
    from pefomed.conditions import CONDITIONS, CONTROLS
    from pefomed.metrics import format_report_scores, format_scores
    from pefomed.settings import read_settings

    changes = changes or []
    run = stage1_run or str(Path(output_dir) / "stage1_captions")
    first, second = read_settings(stage1, [*changes, f"output_dir={run}"]), read_settings(config, changes)
    quiet_libraries()
    wanted = (*CONDITIONS, *CONTROLS) if controls else CONDITIONS
    scores = run_conditions(first, second, output_dir, wanted, max_new_tokens=max_new_tokens, progress=progress)
    for condition, found in scores.items():
        print(f"\n{condition}\n{format_scores(found) if 'exact_match' in found else format_report_scores(found)}")
    print(f"\nrun folders: {output_dir}")


@app.command()
def generate(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A run folder, or a configuration file.")],
    split: Annotated[str, typer.Option(help="train, val or test")] = "test",
    pictures: Annotated[str, typer.Option(help="real, or the controls blank and shuffled")] = "real",
    zero_shot: Annotated[bool, typer.Option("--zero-shot", help="Answer with the base alone.")] = False,
    adapter: Annotated[str, typer.Option(help="Answer with this adapter in place of the run's own.")] = "",
    condition: Annotated[str, typer.Option(help="What to call a model that no plan.json describes.")] = "",
    batch_size: Annotated[int, typer.Option(help="Prompts at once.")] = 32,
    num_beams: Annotated[int, typer.Option(help="1 for greedy.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer; 0 for the procedure's own bound.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Answer a split into predictions.jsonl. What was killed goes on when the same command is given again.

    \b
    Examples:
      pefomed generate runs/stage2_vqa_tiny
      pefomed generate runs/stage2_vqa_tiny --pictures blank
      pefomed generate configs/stage2_vqa_tiny.yaml --zero-shot
      pefomed generate configs/stage2_vqa_vqa_rad_paper.yaml --adapter converted/adapter --condition stage1+2
    """
    from pefomed.predictions import read_predictions
    from pefomed.runs import generate_run

    quiet_libraries()
    path = generate_run(
        run_dir,
        split,
        pictures,
        zero_shot=zero_shot,
        adapter=adapter,
        condition=condition,
        batch_size=batch_size,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        progress=progress,
    )
    print(f"predictions: {path}")
    metrics = path.with_name(f"{path.stem.replace('predictions', 'metrics', 1)}.json")
    task = read_predictions(path)[0]["task"]
    print(f"next: pefomed evaluate {path} --task {task} --out {metrics}")


@app.command()
def ask(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="A run folder, or a configuration file.")],
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A file: PNG, JPEG, TIFF, DICOM and others.")],
    question: Annotated[str, typer.Argument(help="What to ask; none for runs that write captions or reports.")] = "",
    adapter: Annotated[str, typer.Option(help="Answer with this adapter in place of the run's own.")] = "",
    zero_shot: Annotated[bool, typer.Option("--zero-shot", help="Answer with the base alone.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer; 0 for what the stage learns from.")] = 0,
) -> None:
    """Ask a finished run about a picture of your own. No answer is medical advice.

    \b
    Examples:
      pefomed ask runs/demo my_picture.png "is there a nodule?"
      pefomed ask runs/stage2_report my_picture.png
    """
    from pefomed.ask import answer_picture

    quiet_libraries()
    bounds = {"adapter": adapter, "zero_shot": zero_shot, "max_new_tokens": max_new_tokens}
    print(answer_picture(run_dir, picture, question, **bounds))


app.command()(evaluate)
app.command()(judge)
app.command()(baseline)
app.command()(report)


@app.command()
def convert(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT.pth", help="MiniGPT-v2 or PeFoMed checkpoint.")],
    out_dir: Annotated[str, typer.Argument(metavar="OUT_DIR", help="Gets base/ and adapter/.")],
    eva: Annotated[str, typer.Option(metavar="EVA.pth", help="eva_vit_g.pth")] = "",
    llama: Annotated[str, typer.Option(metavar="DIR", help="Hugging Face folder of LLaMA-2-7B-chat.")] = "",
    image_size: Annotated[int, typer.Option(help="Side of the pictures in pixels, a multiple of 14.")] = 448,
    lora_alpha: Annotated[int, typer.Option(help="LoRA's alpha, which no checkpoint states.")] = 16,
) -> None:
    """Turn published weights into a base folder and an adapter folder. Code inside a checkpoint is never run.

    \b
    Examples:
      pefomed convert pefomed.pth converted
      pefomed convert minigptv2.pth converted --eva eva_vit_g.pth --llama Llama-2-7b-chat-hf
    """
    if image_size % 14 or not 28 <= image_size <= LARGEST_IMAGE:
        raise ValueError(
            f"parameter image_size must be a multiple of 14 from 28 to {LARGEST_IMAGE:,} pixels, not {image_size}"
        )
    if lora_alpha < 1:
        raise ValueError(f"parameter lora_alpha must be at least 1, not {lora_alpha}")
    from pefomed.runs import check_output_dir

    check_output_dir(out_dir, "OUT_DIR")
    quiet_libraries()
    from pefomed.model import PefomedConfig
    from pefomed.model.convert import config_from_files, convert
    from pefomed.model.presets import paper_config

    if llama and not Path(llama).is_dir():  # transformers would look for it on the Hub
        raise FileNotFoundError(f"parameter llama: {llama}: no such folder")
    if llama:
        config = config_from_files(llama, {}, image_size)
    else:
        vision = {"model_type": "blip_2_vision_model", "image_size": image_size}
        config = PefomedConfig(vision_config=vision, text_config=paper_config().text_config)
    out = Path(out_dir)
    print(convert(checkpoint, out, config, eva or None, llama or None, lora_alpha))
    for part in ("base", "adapter"):
        if (out / part).is_dir():
            print(f"{part}: {out / part}")


if __name__ == "__main__":
    app()
