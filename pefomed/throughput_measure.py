"""One measurement of one variant of training, in a process that did nothing before."""

from __future__ import annotations

import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import PartialState
from transformers import PrinterCallback, TrainerCallback

from pefomed.model.adapters import fresh_adapter
from pefomed.model.configuration import PefomedConfig
from pefomed.model.processing import IGNORE_LABEL
from pefomed.procedure import CLEAN
from pefomed.throughput import DEVICES, KINDS, Case, Effort, Variant
from pefomed.throughput_cases import build
from pefomed.training.collator import TrainingCollator, encode_row
from pefomed.training.features import filled_store
from pefomed.training.prefix import PrefixCollator
from pefomed.training.stages import Stage
from pefomed.training.tower import ParkTower
from pefomed.training.trainer import PefomedTrainer, sft_config

ENDLESS = 10_000  # steps; the clock ends the training
TURN = 4  # steps of `alternate`
CHECKED = 4  # questions whose loss is taken before any step


class StepClock(TrainerCallback):
    """Ends the training once enough was measured.

    Args:
        effort: how much is enough.
        now: reads (seconds that count, seconds of the clock), once the device has really finished.
    """

    def __init__(self, effort: Effort, now: Callable[[], tuple[float, float]]):
        self.effort, self.now = effort, now
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(self.now())
        counted = len(self.ends) - self.effort.warm_up
        begun = self.ends[self.effort.warm_up - 1][0]
        if counted >= self.effort.steps and self.ends[-1][0] - begun >= self.effort.seconds:
            control.should_training_stop = True

    def per_question(self, batch_size: int) -> tuple[float, float]:
        """Seconds that count, and of the clock, for one question of the measured steps."""
        first, last = self.ends[self.effort.warm_up - 1], self.ends[-1]
        asked = (len(self.ends) - self.effort.warm_up) * batch_size
        return (last[0] - first[0]) / asked, (last[1] - first[1]) / asked


class MeasuredTrainer(PefomedTrainer):
    """`PefomedTrainer` that notes the shapes of its batches and, where asked, takes logits at all positions.

    Args:
        everywhere: whether the model computes logits [rows, length, vocabulary] and its own loss of them, as
            transformers' and the published code's trainers let it.
    """

    def __init__(self, *args, everywhere: bool, **kwargs):
        self.everywhere = everywhere
        self.work: list[dict] = []
        super().__init__(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        rows, length = inputs["input_ids"].shape
        learnt = (inputs["labels"] != IGNORE_LABEL).sum()  # read at the end: a GPU would be waited for
        pixels, features = inputs.get("pixel_values"), inputs.get("vision_features")
        self.work.append(
            {
                "positions": rows * length,
                "attended": rows * length**2,
                "logits": rows * length if self.everywhere else learnt,
                "encoded": 0 if pixels is None else len(pixels),
                "projected": len(features) if pixels is None else len(pixels),
            }
        )
        if not self.everywhere:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return model(**inputs, use_cache=False, num_items_in_batch=num_items_in_batch).loss

    def loss_before(self, questions: int) -> float:
        """Mean over the label tokens of the first questions, in batches as they are trained on."""
        numbers = list(itertools.islice(iter(self.stream), questions))
        size = self.args.per_device_train_batch_size
        pieces = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        batches = [self.data_collator([self.train_dataset[number] for number in piece]) for piece in pieces]
        items = sum((batch["labels"] != IGNORE_LABEL).sum() for batch in batches)
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            found = [
                self.compute_loss(self.model, self._prepare_inputs(batch), num_items_in_batch=items).item()
                for batch in batches
            ]
        self.work.clear()
        return sum(found)


def measure(case: Case, variant: Variant, effort: Effort) -> dict:
    """Trains a variant for a while; to be called in a process that did nothing before.

    Returns:
        seconds_per_question, wall_seconds_per_question, encode_seconds, peak_mb, loss (of the first questions before
        any step), first_step_loss, steps, work (positions, attended, logits, encoded, projected a question), sizes;
        or {"out_of_memory": true}.

    Raises:
        ValueError: the device is not there, or another one is, which trl would take.
    """
    _choose_device(case)
    clock = StepClock(effort, _clock(case))
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer, encode_seconds = _trainer(case, variant, folder)
            trainer.add_callback(clock)
            loss = trainer.loss_before(min(CHECKED, len(trainer.train_dataset)))
            trainer.train()
    except torch.cuda.OutOfMemoryError:
        return {"out_of_memory": True}
    seconds, wall = clock.per_question(variant.batch_size)
    work = trainer.work[effort.warm_up :]
    asked = len(work) * variant.batch_size
    return {
        "seconds_per_question": seconds,
        "wall_seconds_per_question": wall,
        "encode_seconds": round(encode_seconds, 3),
        "peak_mb": _peak_mb(case),
        "loss": loss,
        "first_step_loss": trainer.state.log_history[0]["loss"],
        "steps": len(work),
        "work": {name: round(float(sum(step[name] for step in work)) / asked, 3) for name in work[0]},
        "sizes": _sizes(case, trainer),
    }


def alternate(case: Case, batch_size: int, turns: int) -> dict[str, list[float]]:
    """Shares pictures in some steps and not in others of one training, to tell a few per cent apart.

    Features are kept and logits taken at labels throughout. Two processes differ by more than that, whatever they do.
    Of each turn of four steps the inner two count, since a batch is put together while the one before it is trained.

    Returns:
        Seconds a question of each counted step, for "cached" and "shared".
    """
    _choose_device(case)
    now = _clock(case)
    clock = StepClock(Effort(0.0, steps=2 * TURN * turns - 1, warm_up=1), now)
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = _trainer(case, Variant("cached+logits at labels", batch_size), folder)
        trainer.add_callback(clock)
        alone = trainer.data_collator
        trainer.data_collator = InTurn([alone, _sharing(alone, case, trainer.stage, trainer.model.config)])
        trainer.train()
    seconds: dict[str, list[float]] = {"cached": [], "shared": []}
    for step in range(1, len(clock.ends)):
        if step % TURN in (1, 2):
            name = ("cached", "shared")[step // TURN % 2]
            seconds[name].append((clock.ends[step][0] - clock.ends[step - 1][0]) / batch_size)
    return seconds


@dataclass
class InTurn:
    """Collates `TURN` batches in one way, then as many in the next."""

    collators: Sequence[Callable[[list[dict]], dict]]
    calls: int = 0

    def __call__(self, rows: list[dict]) -> dict:
        chosen = self.collators[self.calls // TURN % len(self.collators)]
        self.calls += 1
        return chosen(rows)


def _choose_device(case: Case) -> None:
    if (case.device == "cuda") != torch.cuda.is_available():
        raise ValueError(f"device {case.device}: CUDA is {'' if torch.cuda.is_available() else 'not '}available here")
    torch.set_num_threads(case.threads)
    PartialState(cpu=case.device == "cpu")


def _sharing(collator: TrainingCollator, case: Case, stage: Stage, config: PefomedConfig) -> PrefixCollator:
    """The same collator with a picture's questions behind one copy of it."""
    budget = max(stage.token_budget, case.image_tokens + 768)  # the default leaves no room behind 1,024 image tokens
    return PrefixCollator(**vars(collator), token_budget=budget, hidden_size=config.text_config.hidden_size)


def _trainer(case: Case, variant: Variant, folder: str) -> tuple[MeasuredTrainer, float]:
    """What trains a variant, its pictures decoded or encoded, and the seconds of the encoding."""
    cached, shared, at_labels = KINDS[variant.kind]
    model, processor, rows, recipe = build(case)
    # `shared_prefix` in all: it is the collator that shares, and the order of questions is then the same.
    changes = {"batch_size": variant.batch_size, "gradient_accumulation": 1, "shared_prefix": True}
    changes |= {"epochs": 1, "steps_per_epoch": ENDLESS, "save_steps": ENDLESS, "gradient_checkpointing": False}
    stage = replace(recipe, **changes)
    adapted = fresh_adapter(model, stage.lora_r, stage.lora_alpha, stage.lora_dropout)
    collator = TrainingCollator(processor, max_text_tokens=stage.max_text_tokens)
    if shared:
        collator = _sharing(collator, case, stage, model.config)
    now, encode_seconds, callbacks = _clock(case), 0.0, []
    if cached:
        begun = now()[0]
        collator.features = filled_store(adapted.get_base_model().model, collator, [rows], None, 32.0, False)
        encode_seconds = now()[0] - begun
        callbacks += [ParkTower(model.model.vision_tower)] if case.device != "cpu" else []
    else:
        for row in rows.select(range(0, len(rows), case.questions)):
            collator.store.pixels(row["image"], row["id"])
    arguments = sft_config(stage, folder, 0, len(rows), 0, case.device == "cpu")
    arguments.save_strategy = "no"
    trainer = MeasuredTrainer(
        everywhere=not at_labels,
        model=adapted,
        args=arguments,
        train_dataset=rows,
        data_collator=collator,
        processing_class=processor,
        callbacks=callbacks,
        stage=stage,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, encode_seconds


def _clock(case: Case) -> Callable[[], tuple[float, float]]:
    """Reads (seconds that count, seconds of the clock)."""

    def now() -> tuple[float, float]:
        if case.device != "cpu":
            torch.cuda.synchronize()
        wall = time.perf_counter()
        return (time.process_time() if case.threads == 1 and case.device == "cpu" else wall), wall

    return now


def _peak_mb(case: Case) -> float:
    """Of the GPU's memory, or of all that the process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    on_cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return round((on_cpu if case.device == "cpu" else torch.cuda.max_memory_allocated()) / 1e6, 1)


def _sizes(case: Case, trainer: MeasuredTrainer) -> dict:
    """What was trained on, as it came out."""
    processor, config, rng = trainer.processing_class, trainer.model.config, np.random.default_rng(0)
    lengths = [len(encode_row(processor, row, CLEAN, 1024, rng).input_ids) for row in trainer.train_dataset]
    return {
        "pictures": case.pictures,
        "questions": case.questions,
        "image_tokens": config.image_tokens,
        "text_tokens": round(sum(lengths) / len(lengths) - config.image_tokens, 1),
        "vocabulary": config.text_config.vocab_size,
    }


def matmul_gflops(device: str, threads: int) -> float:
    """The best of a few sizes of square matrix products, in the number type that the device is measured with.

    Returns:
        Floating-point operations a second, in 1e9; on one CPU thread by the processor's seconds.
    """
    torch.set_num_threads(threads)
    now = _clock(Case(name="synthetic", device=device, threads=threads))
    best = 0.0
    for side in (1024, 2048) if device == "cpu" else (4096, 8192):
        left, right = torch.randn(2, side, side, device=device, dtype=getattr(torch, DEVICES[device]))
        for _ in range(6):
            begun = now()[0]
            torch.mm(left, right)
            best = max(best, 2 * side**3 / (now()[0] - begun) / 1e9)
    return round(best, 1)
