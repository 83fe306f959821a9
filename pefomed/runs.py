"""One run from its settings to its scores: the few steps that the notebooks and the command line share.

    settings = RunSettings(output_dir="runs/first")
    train_run(settings)                          # runs/first/adapter
    generate_run(settings)                       # runs/first/predictions.jsonl
    generate_run(settings, pictures="blank")     # runs/first/predictions_blank.jsonl, the control
    scores = evaluate_run(settings.output_dir)   # runs/first/metrics.json

Each step can be killed and called again. What a folder was made with lies in it: settings.json to go on from,
run.json to publish.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pefomed.conditions import CONDITIONS, CONTROLS, condition_of
from pefomed.controls import IMAGE_PLACEHOLDER
from pefomed.files import read_json, write_json
from pefomed.procedure import get_procedure
from pefomed.run_record import run_record
from pefomed.settings import SETTINGS_FILE, RunSettings, as_values, read_run_settings
from pefomed.splits import LARGE, SPLITS, Splits, check_pictures, load_splits, without_broken, write_left_out

if TYPE_CHECKING:
    from pefomed.training.run import TrainResult

__all__ = [
    "CONDITIONS",
    "RunSettings",
    "Splits",
    "check_pictures",
    "condition_of",
    "evaluate_run",
    "generate_run",
    "load_splits",
    "train_run",
    "write_run_json",
]


def train_run(settings: RunSettings, progress: bool = True, workers: int = 0) -> TrainResult:
    """Trains a run, or goes on with one that was killed, or returns one that is finished.

    Args:
        settings: what to train, on what, and where it is kept.
        progress: whether to show a bar.
        workers: processes that decode pictures.

    Returns:
        Where the adapter lies, and how it went.

    Raises:
        ValueError: a parameter, the data or the run folder is not what it should be; nothing has been written then.
        FileNotFoundError: a file or folder is missing.
    """
    check_output_dir(settings.output_dir)
    from pefomed.model.adapters import find_adapter
    from pefomed.model.presets import load_base
    from pefomed.training.run import train_stage

    if settings.init_from:
        find_adapter(settings.init_from)
    procedure = get_procedure(settings.procedure)
    splits = without_broken(load_splits(settings), procedure, settings.max_broken)
    model, processor = load_base(settings.preset, settings.base_dir)
    result = train_stage(
        model,
        processor,
        settings.make_stage(),
        splits.train,
        splits.val,
        settings.output_dir,
        seed=settings.seed,
        procedure=procedure,
        data_fingerprint=splits.fingerprint,
        init_from=settings.init_from,
        sources=splits.sources,
        wordings=read_wordings(settings.wordings_file),
        blank_images=settings.train_images == "blank",
        max_broken=settings.max_broken if len(splits.train) > LARGE else None,
        features=settings.features,
        features_dir=settings.features_dir,
        features_max_gb=settings.features_max_gb,
        progress=progress,
        workers=workers,
    )
    if int(os.environ.get("RANK", "0")):  # of several processes one writes
        return result
    # Last, so that the settings of a refused run never replace those of the run that the folder holds.
    write_json(Path(settings.output_dir) / SETTINGS_FILE, as_values(settings))
    write_left_out(splits, settings.output_dir)
    write_run_json(settings, splits, {"train": result.seconds})
    return result


def read_wordings(path: str) -> tuple[str, ...]:
    """Instructions from a text file, one a line; none for no file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds none, or one with an image placeholder in it.
    """
    if not path:
        return ()
    if not Path(path).is_file():
        raise FileNotFoundError(f"parameter wordings_file: {path}: no such file")
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines, start=1):
        if IMAGE_PLACEHOLDER in line:
            raise ValueError(f"{path}, line {number}: {IMAGE_PLACEHOLDER} marks the picture and cannot be said")
    if not any(lines):
        raise ValueError(f"{path}: no instruction in it; write one a line")
    return tuple(line for line in lines if line)


def check_output_dir(output_dir: str | Path, name: str = "output_dir") -> None:
    """Refuses, by the parameter's name, a folder that cannot be one.

    Raises:
        ValueError: it, or a folder above it, is a file.
    """
    for place in (Path(output_dir), *Path(output_dir).parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"parameter {name}: {place} is a file; choose a folder")


def generate_run(
    source: RunSettings | str | Path,
    split: str = "test",
    pictures: str = "real",
    *,
    zero_shot: bool = False,
    adapter: str | Path = "",
    condition: str = "",
    batch_size: int = 32,
    num_beams: int = 1,
    max_new_tokens: int = 0,
    file_name: str = "",
    progress: bool = True,
) -> Path:
    """Answers one split; killed and called again it goes on where it stopped.

    Args:
        source: settings, a run folder, or a configuration file.
        split: "train", "val" or "test".
        pictures: "real", or the controls "blank" and "shuffled".
        zero_shot: answer with the base alone.
        adapter: answer with this run's or folder's adapter in place of the run's own.
        condition: what to call the model where no plan.json tells it (see `condition_of`).
        batch_size: prompts at once.
        num_beams: 1 for greedy.
        max_new_tokens: longest answer; 0 for the procedure's own bound.
        file_name: of the predictions; "" for a name that says what was done.
        progress: whether to show a bar.

    Returns:
        The predictions file: predictions.jsonl, with `_zero_shot` or the other adapter's name, the split if it is not
        the test split, and the control's name in it.

    Raises:
        ValueError: a parameter is impossible, the run is not trained, or the data is not what it was trained on.
        FileNotFoundError: a file is missing.
    """
    settings = source if isinstance(source, RunSettings) else read_run_settings(source)
    _check_generation(split, pictures, zero_shot, adapter, condition, batch_size, num_beams, max_new_tokens)
    check_output_dir(settings.output_dir)
    from pefomed.inference.generate import write_predictions
    from pefomed.loading import load_model

    folder = adapter_to_use(settings, zero_shot, adapter)
    condition = condition or condition_of(folder)
    procedure = get_procedure(settings.procedure)
    splits = load_splits(settings)
    if folder is not None and not adapter:
        _check_same_data(settings, splits)
    rows = getattr(without_broken(splits, procedure, settings.max_broken), split)
    if rows is None:
        raise ValueError(f"parameter split: this run's data has no {split} split")
    model, processor, model_name = load_model(settings, folder)
    began = time.monotonic()
    path = Path(settings.output_dir) / (file_name or f"{_stem(split, pictures, zero_shot, adapter)}.jsonl")
    write_predictions(
        model,
        list(rows),
        path,
        model_name=model_name,
        condition=condition if pictures == "real" else f"{condition} {pictures}",
        progress=progress,
        processor=processor,
        procedure=procedure,
        batch_size=batch_size,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        pictures=pictures,
        seed=settings.seed,
        wordings=read_wordings(settings.wordings_file),
    )
    write_run_json(settings, splits, {path.stem: time.monotonic() - began})
    return path


def _check_generation(split, pictures, zero_shot, adapter, condition, batch_size, num_beams, max_new_tokens) -> None:
    for name, value, allowed in (
        ("split", split, SPLITS),
        ("pictures", pictures, ("real", "blank", "shuffled")),
        ("condition", condition or CONDITIONS[0], (*CONDITIONS, *CONTROLS)),
    ):
        if value not in allowed:
            raise ValueError(f"parameter {name} must be one of {', '.join(allowed)}, not {value!r}")
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("num_beams", num_beams, 1),
        ("max_new_tokens", max_new_tokens, 0),
    ):
        if value < least:
            raise ValueError(f"parameter {name} must be at least {least}, not {value}")
    if zero_shot and adapter:
        raise ValueError("parameters zero_shot and adapter exclude each other: zero-shot is the base without any")


def adapter_to_use(settings: RunSettings, zero_shot: bool, adapter: str | Path) -> Path | None:
    """Folder of the adapter that answers: another one's, the run's own, or None for the base alone."""
    from pefomed.model.adapters import find_adapter

    if zero_shot:
        return None
    if adapter:
        return find_adapter(adapter)
    if not (Path(settings.output_dir) / "adapter").is_dir():
        raise FileNotFoundError(
            f"{settings.output_dir}: no adapter/, so not trained to the end; run `pefomed train`, or answer zero-shot"
        )
    return find_adapter(settings.output_dir)


def _check_same_data(settings: RunSettings, splits: Splits) -> None:
    plan = Path(settings.output_dir) / "plan.json"
    if plan.is_file() and read_json(plan).get("data") != splits.fingerprint:
        raise ValueError(
            f"{settings.output_dir}: the data set {settings.dataset!r} is not the one that this run was trained with "
            "(other rows, pictures, options or limit); restore it, or train anew in another output_dir"
        )


def _stem(split: str, pictures: str, zero_shot: bool, adapter: str | Path) -> str:
    """predictions, predictions_zero_shot, predictions_val_blank, predictions_stage1-run, ..."""
    place = Path(adapter).resolve() if adapter else None
    other = "" if place is None else place.parent.name if place.name == "adapter" else place.name
    parts = ["predictions", "zero_shot" if zero_shot else other]
    parts += ["" if split == "test" else split, "" if pictures == "real" else pictures]
    return "_".join(part for part in parts if part)


def evaluate_run(run_dir: str | Path, predictions: str = "predictions.jsonl") -> dict[str, Any]:
    """Scores a run's answers into metrics.json (metrics_blank.json for predictions_blank.jsonl, and so on).

    Args:
        run_dir: the run's folder.
        predictions: name of the predictions file in it.

    Returns:
        What `pefomed.metrics.vqa_scores` returns, or `report_scores` for reports and captions.

    Raises:
        FileNotFoundError: nothing has been generated yet.
        ValueError: the predictions are malformed.
    """
    from pefomed.metrics import report_scores, vqa_scores
    from pefomed.predictions import read_predictions

    path = Path(run_dir) / predictions
    scores = vqa_scores(path) if read_predictions(path)[0]["task"] == "vqa" else report_scores(path)
    write_json(path.with_name(f"{path.stem.replace('predictions', 'metrics', 1)}.json"), scores)
    return scores


def write_run_json(settings: RunSettings, splits: Splits, durations: Mapping[str, float]) -> Path:
    """Writes run.json: what the folder was made with, with nothing about the machine's paths or people.

    Args:
        settings: of the run.
        splits: its data, whose fingerprint and description (with the form of VQA-RAD that was found) are recorded.
        durations: seconds by phase, put to those that an earlier phase recorded; 0 keeps the earlier one.
    """
    path = Path(settings.output_dir) / "run.json"
    earlier = read_json(path)["durations"] if path.is_file() else {}
    known = {**earlier, **{phase: seconds for phase, seconds in durations.items() if seconds}}
    values = as_values(settings)
    record = run_record(values, settings.seed, splits.fingerprint, _device(), known)
    return write_json(path, {**record, "data": splits.description})


def _device() -> str:
    import torch

    return f"cuda:0 ({torch.cuda.get_device_name(0)})" if torch.cuda.is_available() else "cpu"
