"""Validation at the end of an epoch, and the best adapter kept.

Questions are validated by answering them (exact match), captions and reports by the loss of their tokens: a caption
can be right in a hundred ways, and the scores for that belong to evaluation.

Under FSDP every call of the network gathers weights from all processes, so all must call it equally often: each gets
as many questions, some answered twice and counted once, and goes on generating until the last has finished.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback

from pefomed.files import read_json, write_json
from pefomed.inference.generate import answer_rows
from pefomed.metrics import exact_match
from pefomed.model.adapters import is_sharded, save_adapter, whole_weights
from pefomed.model.processing import IGNORE_LABEL
from pefomed.training.collator import TrainingCollator
from pefomed.training.prefix import learnt_loss


class ValidateAndKeepBest(TrainerCallback):
    """A score on the validation split every `every_steps`; the adapter with the best is kept.

    A folder appears there whole or not at all, and its score lies inside it, so that a run killed anywhere finds again
    what it had found. Ties go to the earlier step, whichever process evaluates.

    Args:
        folder: where the adapters go.
        rows: the validation split, as a list of rows; never the test split.
        answer: keyword arguments of `answer_rows`.
        collator: makes batches of captions and reports.
        by_answering: score exact match; the loss otherwise.
        every_steps: optimiser steps between validations.
    """

    def __init__(
        self,
        folder: Path,
        rows: list[dict],
        answer: dict,
        collator: TrainingCollator,
        every_steps: int,
        by_answering: bool,
    ):
        self.folder, self.rows, self.every_steps = Path(folder), rows, every_steps
        self.answer, self.collator, self.by_answering = answer, collator, by_answering

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if is_sharded(model):
            model.generate = partial(model.generate, synced_gpus=True)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every_steps and state.global_step != state.max_steps:
            return
        target = self.folder / f"step-{state.global_step:07d}"
        if target.exists() and PartialState().num_processes == 1:
            return
        was_training = model.training
        model.eval()
        if self.by_answering:
            score = validation_score(model, self.rows, self.answer)
        else:
            score = validation_loss(model, self.rows, self.collator)
        model.train(was_training)
        weights = whole_weights(model)
        if state.is_world_process_zero:
            self._keep(model, weights, {"step": state.global_step, **score}, target)
        PartialState().wait_for_everyone()

    def _keep(self, model, weights: dict | None, score: dict, target: Path) -> None:
        """Writes the score down, and the adapter with it where none before was as good."""
        best = best_validation(self.folder)
        write_json(self.folder / f"score-{score['step']:07d}.json", score)
        if best is None or merit(score) > merit(best):
            aside = self.folder / f".{target.name}"
            shutil.rmtree(aside, ignore_errors=True)
            save_adapter(model, aside, weights)
            write_json(aside / "score.json", score)
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
            for other in self.folder.glob("step-*"):
                if other != target:
                    shutil.rmtree(other)


def validation_score(model, rows: list[dict], answer: dict) -> dict[str, float]:
    """{"exact_match": percent, "open": ..., "closed": ..., "n": questions}."""
    answers = _shared_out(rows, lambda share: answer_rows(model, share, **answer))
    predictions = [{**row, "prediction": text, "image": None} for row, text in zip(rows, answers, strict=True)]
    scores = exact_match(predictions)["exact_match"]
    return {
        "exact_match": scores["overall"],
        "open": scores["open"],
        "closed": scores["closed"],
        "n": len(rows),
    }


@torch.inference_mode()
def validation_loss(model, rows: list[dict], collator: TrainingCollator, batch_size: int = 16) -> dict[str, float]:
    """{"loss": mean negative log likelihood of the answers' tokens in nats, "n": rows}."""
    collator = replace(collator, epoch=0)  # the same wordings at every validation

    def sums(share: list[dict]) -> list[tuple[float, int]]:
        found = []
        for start in range(0, largest_share(rows), batch_size):
            part = share[start : start + batch_size]
            batch = {k: v.to(model.device) for k, v in collator(part or rows[:1]).items()}
            # A position predicts the next one, so the first label is never predicted.
            count = int((batch["labels"][:, 1:] != IGNORE_LABEL).sum())
            loss = float(learnt_loss(model, batch, "token_mean", num_items=1))
            if part:
                found.append((loss, count))
        return found

    found = [pair for pairs in gather_object([sums(split_share(rows))]) for pair in pairs]
    tokens = sum(count for _, count in found)
    return {"loss": sum(loss for loss, _ in found) / max(1, tokens), "n": len(rows)}


def largest_share(rows: list[dict]) -> int:
    """Rows of the process that has the most of them."""
    return -(-len(rows) // PartialState().num_processes)


def split_share(rows: list[dict]) -> list[dict]:
    """This process's part of the rows: every row is somebody's, none is two's."""
    process = PartialState()
    return rows[process.process_index :: process.num_processes]


def _shared_out(rows: list[dict], answer: Callable[[list[dict]], list[str]]) -> list[str]:
    """Answers of all rows in order, each process answering as many; the last ones answer a first row once more."""
    even = list(islice(cycle(rows), largest_share(rows) * PartialState().num_processes))
    answers = [""] * len(even)
    parts = gather_object([answer(split_share(even))])
    for first, part in enumerate(parts):
        answers[first :: len(parts)] = part
    return answers[: len(rows)]


def merit(score: dict) -> float:
    """What is to be as high as possible."""
    return score["exact_match"] if "exact_match" in score else -score["loss"]


def best_validation(folder: Path) -> dict | None:
    """Score, step and folder of the best adapter so far; of equals the earliest."""
    found = [{**read_json(path), "folder": path.parent} for path in sorted(Path(folder).glob("step-*/score.json"))]
    return max(found, key=lambda score: (merit(score), -score["step"]), default=None)


def validation_history(folder: Path) -> list[dict]:
    """All scores so far, by step."""
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("score-*.json"))]
