"""One training run in one folder: started, killed and started again with the same arguments, it ends the same.

run folder/
  plan.json          what is trained on what; a run with another plan is refused this folder
  checkpoints/       trl's, the last two, to resume from
  validation/        a score per epoch, and the best adapter so far
  train_log.jsonl    loss and learning rate
  adapter/           the result, once it is whole
"""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from safetensors import safe_open
from transformers import PrinterCallback, TrainerCallback

from pefomed.files import read_json, sha256_file, write_json, write_text
from pefomed.model.adapters import (
    ORIGIN_FILE,
    WEIGHTS_FILE,
    base_fingerprint,
    find_adapter,
    fresh_adapter,
    load_adapter,
    save_adapter,
    trainable_table,
    whole_weights,
    write_origin,
)
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.processing import PefomedProcessor
from pefomed.procedure import Procedure
from pefomed.training.broken import FILE as BROKEN_FILE
from pefomed.training.broken import BoundBroken, BrokenPictures
from pefomed.training.collator import TrainingCollator
from pefomed.training.features import filled_store
from pefomed.training.prefix import PrefixCollator
from pefomed.training.sampling import Source
from pefomed.training.stages import Stage
from pefomed.training.tower import ParkTower
from pefomed.training.trainer import PefomedTrainer, ProgressLine, sft_config
from pefomed.training.validation import ValidateAndKeepBest, best_validation, validation_history

COMPLETE = "complete"


@dataclass(frozen=True)
class TrainResult:
    """What came of a run.

    Attributes:
        adapter: folder of the trained adapter: the best by validation, else the last.
        trainable: parameters that trained: {"lora", "projector", "total"}.
        log: rows of step, loss, learning_rate.
        validation: rows of step and exact_match, open, closed for questions, or loss for captions and reports.
        broken: training rows left out since their pictures could not be read.
        seconds: time of this call's training; 0 where the run was already finished.
    """

    adapter: Path
    trainable: dict[str, int]
    log: list[dict]
    validation: list[dict]
    broken: int
    seconds: float


class MarkComplete(TrainerCallback):
    """Marks a checkpoint once every process has written its part; one without the mark is not resumed from."""

    def on_save(self, args, state, control, **kwargs):
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            write_text(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, "")


def train_stage(
    model: PefomedForConditionalGeneration,
    processor: PefomedProcessor,
    stage: Stage,
    train: datasets.Dataset,
    validation: datasets.Dataset | None,
    run_dir: str | Path,
    *,
    seed: int,
    procedure: Procedure,
    data_fingerprint: str,
    init_from: str = "",
    sources: Sequence[Source] = (),
    wordings: Sequence[str] = (),
    blank_images: bool = False,
    max_broken: float | None = None,
    features: str = "memory",
    features_dir: str | Path = "",
    features_max_gb: float = 32.0,
    progress: bool = True,
    workers: int = 0,
) -> TrainResult:
    """Fine-tunes LoRA and projector on a frozen base; under `accelerate launch` every process calls it.

    Where accelerate is told to use FSDP2, the weights are spread over the processes. `stage.frozen_features` then does
    nothing, since the tower cannot be called by one process alone; the training is the same without it.

    Args:
        model: the base; it is wrapped and changed.
        processor: its processor.
        stage: the recipe.
        train: rows of the schema; of a mixture, the rows of its data sets one behind the other.
        validation: rows to choose the best epoch by, or None to keep the last. Never the test split.
        run_dir: the run's folder.
        seed: of LoRA's start, dropout, order and draws.
        procedure: clean, or as the published code.
        data_fingerprint: of `train`, for the plan.
        init_from: run or adapter folder to start from; "" for a fresh adapter on the base.
        sources: the data sets of a mixture with their ratios; empty for a single one.
        wordings: instructions for captions and reports in place of the built-in ones.
        blank_images: train without looking, for the control.
        max_broken: share of the training rows whose pictures may turn out unreadable; None makes one an error.
        features, features_dir, features_max_gb: as in `RunSettings`.
        progress: whether to show a bar.
        workers: processes that decode pictures.

    Returns:
        Where the adapter lies, and how it went.

    Raises:
        ValueError: if the folder holds another run, or anything but LoRA and projector would train.
    """
    run_dir = Path(run_dir)
    process = PartialState(cpu=not torch.cuda.is_available())
    sources = tuple(sources) or (Source("data", len(train)),)
    if features == "off":
        stage = replace(stage, frozen_features=False)
    if sum(source.rows for source in sources) != len(train):
        raise ValueError(f"the sources have {sum(source.rows for source in sources)} rows, the data {len(train)}")
    fingerprint = base_fingerprint(model)
    start = _start_of(init_from)
    plan = {
        "stage": asdict(stage),
        "base": fingerprint,
        "init_from": start,
        "data": data_fingerprint,
        "rows": len(train),
        "validation_rows": len(validation) if validation is not None else 0,
        "procedure": asdict(procedure),
        "seed": seed,
        "blank_images": blank_images,
        "sources": [asdict(source) for source in sources],
        "wordings": list(wordings),
        "processes": process.num_processes,
    }
    torch.manual_seed(seed)
    adapted = (
        load_adapter(model, init_from, trainable=True)
        if init_from
        else fresh_adapter(model, stage.lora_r, stage.lora_alpha, stage.lora_dropout)
    )
    sharded = parse_flag_from_env("ACCELERATE_USE_FSDP")
    if sharded:
        plan["sharded"] = True  # its checkpoints fit no other run
    trainable = trainable_table(adapted)  # refuses anything but LoRA and projector
    with process.main_process_first():
        _claim_folder(run_dir, plan)
    seconds = 0.0
    broken = BrokenPictures(run_dir / BROKEN_FILE, len(train), max_broken or 0.0)
    if not (run_dir / "adapter" / ORIGIN_FILE).is_file():
        collator = TrainingCollator(processor, procedure, seed, stage.max_text_tokens, blank_images)
        if stage.shared_prefix:
            width = model.config.text_config.hidden_size
            collator = PrefixCollator(**vars(collator), token_budget=stage.token_budget, hidden_size=width)
        collator = replace(collator, wordings=tuple(wordings), broken=None if max_broken is None else broken)
        began = time.monotonic()
        if stage.frozen_features and not procedure.augment_training_images and not sharded:
            place = Path(features_dir or run_dir.parent / "features") if features == "disk" else None
            data = [train] if validation is None else [train, validation]
            said = progress and process.is_main_process
            kept = filled_store(adapted.get_base_model().model, collator, data, place, features_max_gb, said)
            collator = replace(collator, features=kept)
        _fit(adapted, processor, stage, train, validation, run_dir, seed, collator, sources, progress, workers)
        seconds = time.monotonic() - began
        weights = whole_weights(adapted)
        if process.is_main_process:
            _publish(adapted, weights, run_dir, fingerprint, start)
    process.wait_for_everyone()
    result = read_result(run_dir)
    return replace(result, trainable=trainable, seconds=seconds)


def read_result(run_dir: str | Path) -> TrainResult:
    """What came of a finished run, from its folder.

    Raises:
        FileNotFoundError: the run is not finished.
    """
    run_dir = Path(run_dir)
    adapter = find_adapter(run_dir)
    with safe_open(adapter / WEIGHTS_FILE, "pt") as tensors:
        counts = {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    lora = sum(count for name, count in counts.items() if "lora_" in name)
    trainable = {"lora": lora, "projector": sum(counts.values()) - lora, "total": sum(counts.values())}
    log = [json.loads(line) for line in (run_dir / "train_log.jsonl").read_text().splitlines()]
    broken = BrokenPictures(run_dir / BROKEN_FILE, rows=0)
    return TrainResult(
        adapter, trainable, log, validation_history(run_dir / "validation"), len(broken.found()), seconds=0.0
    )


def _start_of(init_from: str) -> dict | None:
    """Name and sha256 of the adapter that a run starts from."""
    if not init_from:
        return None
    folder = find_adapter(init_from)
    return {"name": Path(init_from).name, "adapter_sha256": sha256_file(folder / "adapter_model.safetensors")}


def _claim_folder(run_dir: Path, plan: dict) -> None:
    """Writes the plan into a new folder, or checks that the folder was made by the same plan."""
    path = run_dir / "plan.json"
    if not path.is_file():
        write_json(path, plan)
        return
    old = read_json(path)
    new = json.loads(json.dumps(plan))
    if old != new:
        changed = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
        raise ValueError(
            f"{run_dir}: holds another run (different: {', '.join(changed)}); choose another output_dir, "
            "or remove this one"
        )


def _fit(adapted, processor, stage, train, validation, run_dir, seed, collator, sources, progress, workers) -> None:
    """trl's training loop, resumed from the last whole checkpoint; leaves the trained weights in `adapted`."""
    checkpoints = run_dir / "checkpoints"
    use_cpu = not torch.cuda.is_available()
    processes = PartialState().num_processes
    config = sft_config(stage, str(checkpoints), seed, len(train), workers, use_cpu, processes)
    callbacks: list[TrainerCallback] = [MarkComplete()]
    callbacks += [ProgressLine()] if progress and PartialState().is_main_process else []
    callbacks += [BoundBroken(collator.broken)] if collator.broken else []
    every = stage.steps_per_epoch or config.max_steps // stage.epochs
    if collator.features is not None and not use_cpu:
        callbacks.append(ParkTower(adapted.get_base_model().model.vision_tower))
    if validation is not None:
        answer = {"processor": processor, "procedure": collator.procedure, "store": collator.store, "batch_size": 64}
        answer |= {"wordings": collator.wordings, "features": collator.features}
        answer |= {"pictures": "blank" if collator.blank_images else "real", "max_new_tokens": stage.max_text_tokens}
        folder, by_answering = run_dir / "validation", stage.name == "stage2_vqa"
        callbacks.append(ValidateAndKeepBest(folder, list(validation), answer, collator, every, by_answering))
    trainer = PefomedTrainer(
        model=adapted,
        args=config,
        train_dataset=train,
        data_collator=collator,
        processing_class=processor,
        callbacks=callbacks,
        stage=stage,
        sources=sources,
    )
    trainer.remove_callback(PrinterCallback)
    with PartialState().main_process_first():  # it removes torn checkpoints before anybody looks
        last = _last_whole_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=last)
    rows = [
        {"step": entry["step"], "loss": entry["loss"], "learning_rate": entry["learning_rate"]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    if trainer.is_world_process_zero():
        write_text(run_dir / "train_log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; torn ones are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def _publish(adapted, weights: dict | None, run_dir: Path, fingerprint: str, start: dict | None) -> None:
    """Puts the best adapter, or the last where nothing was validated, under its name."""
    aside = run_dir / ".adapter"
    shutil.rmtree(aside, ignore_errors=True)
    best = best_validation(run_dir / "validation")
    if best is not None:
        shutil.copytree(best["folder"], aside)
    else:
        save_adapter(adapted, aside, weights)
    write_origin(aside, fingerprint, start)
    if (run_dir / "adapter").exists():
        shutil.rmtree(run_dir / "adapter")
    aside.rename(run_dir / "adapter")
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
