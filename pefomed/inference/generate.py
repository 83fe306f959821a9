"""Answers to every row of a data set, in batches, resumable, as predictions.jsonl.

Where a picture is asked several things, its part of the prompt is run once for all of them: see
`pefomed.inference.prefix`.
"""

import hashlib
import json
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pefomed.data.prompts import instruction, render_prompt
from pefomed.inference.prefix import generate_answers, picture_batches
from pefomed.model.adapters import is_sharded
from pefomed.predictions import KEYS, PredictionWriter
from pefomed.procedure import CLEAN, Procedure
from pefomed.training.collator import PICTURES, PixelStore, sample_rng
from pefomed.training.features import FeatureStore


def prompts_of(
    rows: list[dict], processor, procedure: Procedure, seed: int, wordings: Sequence[str] = ()
) -> list[tuple[str, list[int]]]:
    """(instruction, ids of the whole prompt) of each row, as they are asked at inference."""
    asked = []
    for row in rows:
        text = instruction(
            row["task"],
            processor.cased(row["question"]),
            procedure=procedure,
            dataset=row["dataset"],
            wordings=wordings if wordings and row["task"] != "vqa" else None,
            rng=sample_rng(seed, 0, row["id"]),
        )
        encoded = processor.encode(
            render_prompt(text, procedure), n_bos=procedure.bos_at_inference, cut_drops_ends=procedure.cut_drops_ends
        )
        asked.append((text, encoded.input_ids))
    return asked


def stand_ins(rows: list[dict], seed: int) -> list[int]:
    """For the shuffled control: for each row, a row with another picture, the same for all questions of a picture.

    Raises:
        ValueError: if all rows have the same picture.
    """
    first_of_group: dict[str, int] = {}
    for index, row in enumerate(rows):
        first_of_group.setdefault(row["group"], index)
    groups = sorted(first_of_group)
    if len(groups) < 2:
        raise ValueError("pictures cannot be shuffled: all rows share one group; choose pictures='blank'")
    order = np.random.default_rng(seed).permutation(len(groups))
    # A cycle through all groups: nobody keeps the own picture.
    swapped = {groups[order[i]]: groups[order[(i + 1) % len(groups)]] for i in range(len(groups))}
    return [first_of_group[swapped[row["group"]]] for row in rows]


def batch_pixels(
    rows: list[dict], batch: list[int], pictures: str, others, store: PixelStore, seed: int, features=None
) -> torch.Tensor:
    """Pixels float32 [batch, 3, size, size] of the rows of a batch, or of what stands in for their pictures.

    With a store of features, these: [batch, image_tokens, 4 d].
    """
    if features is not None and pictures == "blank":
        return torch.stack([features.blank()] * len(batch))
    if pictures == "blank":
        return torch.from_numpy(np.stack([store.blank()] * len(batch)))
    shown = [rows[others[i]] if pictures == "shuffled" else rows[i] for i in batch]
    if features is not None:
        return torch.stack([features.features(row["image"], row["id"]) for row in shown])
    if store.procedure.augment_test_images:
        crops = [store.augmented(row["image"], row["id"], sample_rng(seed, 1, row["id"])) for row in shown]
        return torch.from_numpy(np.stack(crops))
    return torch.from_numpy(np.stack([store.pixels(row["image"], row["id"]) for row in shown]))


def shown_pictures(rows: list[dict], pictures: str, others, procedure: Procedure) -> list[Hashable]:
    """What each row shows, as keys: equal keys, equal pixels."""
    if pictures == "blank":
        return ["blank"] * len(rows)
    if procedure.augment_test_images:  # every row has a crop of its own
        return list(range(len(rows)))
    shown = [rows[other] for other in others] if pictures == "shuffled" else rows
    return [row["image"]["bytes"] or row["image"]["path"] for row in shown]


@torch.inference_mode()
def generate_batches(
    model,
    rows: list[dict],
    *,
    processor,
    procedure: Procedure = CLEAN,
    store: PixelStore | None = None,
    batch_size: int = 32,
    num_beams: int = 1,
    max_new_tokens: int = 0,
    pictures: str = "real",
    seed: int = 0,
    wordings: Sequence[str] = (),
    shared_prefix: bool = True,
    features: FeatureStore | None = None,
    done: Iterable[str] = (),
) -> Iterator[list[tuple[int, str, str, bool]]]:
    """Yields batches of (row number, instruction, answer, whether the model ended it itself).

    Batches hold whole pictures and prompts of like length, and are a function of the rows alone, so that a run which
    resumes behind some of them answers the rest in the same company, and so with the same tokens.

    Args:
        model: base or adapted model.
        rows: rows of the schema.
        processor: the model's.
        procedure: clean, or as the published code (which ignores `num_beams` and `max_new_tokens`).
        store: pixels already decoded.
        batch_size: prompts at once.
        num_beams: 1 for greedy.
        max_new_tokens: 0 for the procedure's own bound.
        pictures: "real", or the controls "blank" and "shuffled".
        seed: of drawn wordings, crops, and the shuffled control.
        wordings: instructions for captions and reports in place of the built-in ones.
        shared_prefix: run what the prompts of a picture have in common once; the answers are the same without. Never
            done for a sharded model, whose processes must form equally many batches.
        features: what the frozen tower makes of the pictures, kept, so that it is not asked again.
        done: ids whose whole batch may be skipped.

    Raises:
        ValueError: for an unknown `pictures`, or a prompt that is too long.
    """
    if pictures not in PICTURES:
        raise ValueError(f"pictures must be one of {', '.join(PICTURES)}, not {pictures!r}")
    store = store or PixelStore(processor, procedure)
    asked = prompts_of(rows, processor, procedure, seed, wordings)
    others = stand_ins(rows, seed) if pictures == "shuffled" else None
    lengths = [len(ids) for _, ids in asked]
    sharing = shared_prefix and not is_sharded(model)
    keys = shown_pictures(rows, pictures, others, procedure) if sharing else range(len(rows))
    ignore_arguments = procedure.ignore_generation_arguments
    tokenizer, done = processor.tokenizer, set(done)
    settings = {
        "num_beams": 1 if ignore_arguments else num_beams,
        "max_new_tokens": procedure.max_new_tokens if ignore_arguments or not max_new_tokens else max_new_tokens,
        "pad": tokenizer.pad_token_id,
        "end": tokenizer.eos_token_id,
    }
    for batch in picture_batches(keys, lengths, batch_size):
        numbers = [i for same in batch for i in same]
        if all(rows[i]["id"] in done for i in numbers):
            continue
        seen = batch_pixels(rows, [same[0] for same in batch], pictures, others, store, seed, features)
        prompts = [[asked[i][1] for i in same] for same in batch]
        new = generate_answers(model, prompts, seen.to(model.device), **settings)
        ended = (new == tokenizer.eos_token_id).any(dim=1).tolist()
        answers = [processor.decode_answer(row) for row in new]
        yield [(i, asked[i][0], answer, end) for i, answer, end in zip(numbers, answers, ended, strict=True)]


def answer_rows(model, rows: list[dict], **arguments) -> list[str]:
    """Answers of all rows, in order; arguments as in `generate_batches`."""
    answers = [""] * len(rows)
    for batch in generate_batches(model, rows, **arguments):
        for index, _, answer, _ in batch:
            answers[index] = answer
    return answers


def write_predictions(
    model, rows: list[dict], path: str | Path, *, model_name: str, condition: str, progress: bool = True, **arguments
) -> Path:
    """Answers all rows into predictions.jsonl; killed and called again it goes on behind the last whole batch.

    Args:
        model: base or adapted model.
        rows: rows of the schema.
        path: where predictions.jsonl appears once it is whole.
        model_name: goes into every row; with the weights' hash in it, answers of other weights are never mixed in.
        condition: "zero_shot", "stage1", "stage2" or "stage1+2", with a control's name behind it if it is one.
        progress: whether to show a bar.
        arguments: as in `generate_batches`.

    Returns:
        `path`.
    """
    path = Path(path)
    fingerprint = _fingerprint(rows, model_name, condition, arguments)
    with PredictionWriter(path, fingerprint) as writer, _bar(len(rows), progress) as bar:
        done = set(writer.done_ids)
        bar.update(len(done))
        for batch in generate_batches(model, rows, done=done, **arguments):
            batch = [item for item in batch if rows[item[0]]["id"] not in done]
            writer.append(
                _prediction(rows[index], asked, answer, ended, model_name, condition)
                for index, asked, answer, ended in batch
            )
            bar.update(len(batch))
        writer.finish([row["id"] for row in rows])
    return path


def _bar(total: int, progress: bool) -> tqdm:
    """On standard output and seldom redrawn, so that a notebook shows a line or two and no red box."""
    return tqdm(total=total, disable=not progress, file=sys.stdout, mininterval=10, desc="answering")


def _prediction(row: dict, asked: str, answer: str, ended: bool, model_name: str, condition: str) -> dict:
    """One line of predictions.jsonl, its keys in the file's order; long texts say whether the bound cut them."""
    made = {"instruction": asked, "prediction": answer, "model": model_name, "condition": condition}
    line = {key: made.get(key, row.get(key)) for key in KEYS}
    return line if row["task"] == "vqa" else {**line, "stopped": ended}


def _fingerprint(rows: list[dict], model_name: str, condition: str, arguments: dict) -> str:
    """Changes whenever an answer could."""
    plain = {k: v for k, v in arguments.items() if isinstance(v, (str, int, float, tuple))}
    procedure = arguments.get("procedure", CLEAN)
    asked = [[row["id"], row["question"], row["answer"]] for row in rows]
    text = json.dumps([model_name, condition, plain, asdict(procedure), asked], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
