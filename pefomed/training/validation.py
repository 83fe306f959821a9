"""Validation by answering: at the end of an epoch the model answers the validation questions, and the best is kept."""

import json
import shutil
from pathlib import Path

from transformers import TrainerCallback

from pefomed.files import read_json, write_json
from pefomed.inference.generate import answer_rows
from pefomed.metrics import exact_match
from pefomed.model.adapters import save_adapter


class ValidateAndKeepBest(TrainerCallback):
    """Exact match on the validation split every `every_steps`; the adapter with the highest is kept under `best/`.

    A folder appears there whole or not at all, and its score lies inside it, so that a run killed anywhere finds again
    what it had found. Ties go to the earlier step, whichever process evaluates.

    Args:
        folder: where the adapters go.
        rows: the validation split, as a list of rows; never the test split.
        answer: keyword arguments of `answer_rows`.
        every_steps: optimiser steps between validations.
    """

    def __init__(self, folder: Path, rows: list[dict], answer: dict, every_steps: int):
        self.folder, self.rows, self.answer, self.every_steps = Path(folder), rows, answer, every_steps

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every_steps and state.global_step != state.max_steps:
            return
        target = self.folder / f"step-{state.global_step:07d}"
        if target.exists() or not state.is_world_process_zero:
            return
        was_training = model.training
        model.eval()
        score = validation_score(model, self.rows, self.answer)
        model.train(was_training)
        best = best_validation(self.folder)
        write_json(self.folder / f"score-{state.global_step:07d}.json", {"step": state.global_step, **score})
        if best is None or score["exact_match"] > best["exact_match"]:
            aside = self.folder / f".{target.name}"
            shutil.rmtree(aside, ignore_errors=True)
            save_adapter(model, aside)
            write_json(aside / "score.json", {"step": state.global_step, **score})
            aside.rename(target)
            for other in self.folder.glob("step-*"):
                if other != target:
                    shutil.rmtree(other)


def validation_score(model, rows: list[dict], answer: dict) -> dict[str, float]:
    """{"exact_match": percent, "open": ..., "closed": ..., "n": questions}."""
    answers = answer_rows(model, rows, **answer)
    predictions = [{**row, "prediction": text, "image": None} for row, text in zip(rows, answers, strict=True)]
    scores = exact_match(predictions)["exact_match"]
    return {
        "exact_match": scores["overall"],
        "open": scores["open"],
        "closed": scores["closed"],
        "n": len(rows),
    }


def best_validation(folder: Path) -> dict | None:
    """Score, step and folder of the best adapter so far; of equals the earliest."""
    found = [{**read_json(path), "folder": path.parent} for path in sorted(Path(folder).glob("step-*/score.json"))]
    return max(found, key=lambda score: (score["exact_match"], -score["step"]), default=None)


def validation_history(folder: Path) -> list[dict]:
    """All scores so far, by step."""
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("score-*.json"))]
