"""One training run in one folder: started, killed and started again with the same arguments, it ends the same.

run folder/
  plan.json          what is trained on what; a run with another plan is refused this folder
  checkpoints/       trl's, the last two, to resume from
  validation/        a score per epoch, and the best adapter so far
  train_log.jsonl    loss and learning rate
  adapter/           the result, once it is whole
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback

from pefomed.files import read_json, sha256_file, write_json, write_text
from pefomed.model.adapters import (
    ORIGIN_FILE,
    base_fingerprint,
    find_adapter,
    fresh_adapter,
    load_adapter,
    save_adapter,
    trainable_table,
    write_origin,
)
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.processing import PefomedProcessor
from pefomed.procedure import Procedure
from pefomed.training.collator import FeatureStore, TrainingCollator
from pefomed.training.stages import Stage
from pefomed.training.trainer import PefomedTrainer, ProgressLine, TellCollatorTheEpoch, sft_config
from pefomed.training.validation import ValidateAndKeepBest, best_validation, validation_history

COMPLETE = "complete"


@dataclass(frozen=True)
class TrainResult:
    """What came of a run.

    Attributes:
        adapter: folder of the trained adapter: the best by validation, else the last.
        trainable: parameters that trained: {"lora", "projector", "total"}.
        log: rows of step, loss, learning_rate.
        validation: rows of step, exact_match, open, closed.
        seconds: time of this call's training; 0 where the run was already finished.
    """

    adapter: Path
    trainable: dict[str, int]
    log: list[dict]
    validation: list[dict]
    seconds: float


class MarkComplete(TrainerCallback):
    """Marks a checkpoint once trl has written all of it; one without the mark is not resumed from."""

    def on_save(self, args, state, control, **kwargs):
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
    blank_images: bool = False,
    progress: bool = True,
    workers: int = 0,
) -> TrainResult:
    """Fine-tunes LoRA and projector on a frozen base.

    Args:
        model: the base; it is wrapped and changed.
        processor: its processor.
        stage: the recipe.
        train: rows of the schema.
        validation: rows to choose the best epoch by, or None to keep the last. Never the test split.
        run_dir: the run's folder.
        seed: of LoRA's start, dropout, order and draws.
        procedure: clean, or as the published code.
        data_fingerprint: of `train`, for the plan.
        init_from: run or adapter folder to start from; "" for a fresh adapter on the base.
        blank_images: train without looking, for the control.
        progress: whether to show a bar.
        workers: processes that decode pictures.

    Returns:
        Where the adapter lies, and how it went.

    Raises:
        ValueError: if the folder holds another run, or anything but LoRA and projector would train.
    """
    run_dir = Path(run_dir)
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
    }
    torch.manual_seed(seed)
    adapted = (
        load_adapter(model, init_from, trainable=True)
        if init_from
        else fresh_adapter(model, stage.lora_r, stage.lora_alpha, stage.lora_dropout)
    )
    trainable = trainable_table(adapted)
    _claim_folder(run_dir, plan)
    seconds = 0.0
    if not (run_dir / "adapter" / ORIGIN_FILE).is_file():
        collator = TrainingCollator(processor, procedure, seed, stage.max_text_tokens, blank_images)
        if stage.frozen_features and not procedure.augment_training_images:
            collator = replace(collator, features=FeatureStore(adapted.get_base_model().model.encode_images))
        began = time.monotonic()
        _fit(adapted, processor, stage, train, validation, run_dir, seed, collator, progress, workers)
        seconds = time.monotonic() - began
        _publish(adapted, run_dir, fingerprint, start)
    log = [json.loads(line) for line in (run_dir / "train_log.jsonl").read_text().splitlines()]
    return TrainResult(run_dir / "adapter", trainable, log, validation_history(run_dir / "validation"), seconds)


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
        changed = sorted(key for key in new if old.get(key) != new[key])
        raise ValueError(
            f"{run_dir}: holds another run (different: {', '.join(changed)}); choose another output_dir, "
            "or remove this one"
        )


def _fit(adapted, processor, stage, train, validation, run_dir, seed, collator, progress, workers) -> None:
    """trl's training loop, resumed from the last whole checkpoint; leaves the trained weights in `adapted`."""
    checkpoints = run_dir / "checkpoints"
    use_cpu = not torch.cuda.is_available()
    config = sft_config(stage, str(checkpoints), seed, len(train), workers, use_cpu)
    callbacks: list[TrainerCallback] = [MarkComplete(), TellCollatorTheEpoch(collator)]
    callbacks += [ProgressLine()] if progress else []
    if validation is not None:
        answer = {"processor": processor, "procedure": collator.procedure, "store": collator.store, "batch_size": 64}
        answer |= {"pictures": "blank" if collator.blank_images else "real", "max_new_tokens": stage.max_text_tokens}
        every = stage.steps_per_epoch or config.max_steps // stage.epochs
        callbacks.append(ValidateAndKeepBest(run_dir / "validation", list(validation), answer, every))
    trainer = PefomedTrainer(
        model=adapted,
        args=config,
        train_dataset=train,
        data_collator=collator,
        processing_class=processor,
        callbacks=callbacks,
        stage=stage,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_last_whole_checkpoint(checkpoints))
    rows = [
        {"step": entry["step"], "loss": entry["loss"], "learning_rate": entry["learning_rate"]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
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


def _publish(adapted, run_dir: Path, fingerprint: str, start: dict | None) -> None:
    """Puts the best adapter, or the last where nothing was validated, under its name."""
    aside = run_dir / ".adapter"
    shutil.rmtree(aside, ignore_errors=True)
    best = best_validation(run_dir / "validation")
    if best is not None:
        shutil.copytree(best["folder"], aside)
    else:
        save_adapter(adapted, aside)
    write_origin(aside, fingerprint, start)
    if (run_dir / "adapter").exists():
        shutil.rmtree(run_dir / "adapter")
    aside.rename(run_dir / "adapter")
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
