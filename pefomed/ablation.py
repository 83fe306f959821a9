"""The paper's ablation (section 4.4): zero-shot, stage 1, stage 2 and both, each a folder of answers and scores.

    run_conditions(stage1, stage2, "runs/ablation_vqa")
    # runs/ablation_vqa/{zero_shot,stage1,stage2,stage1+2}/{predictions.jsonl,metrics.json,run.json}

Two controls tell what the paper's four cannot: whether stage 1 teaches something, or whether more steps would have
done. Every step can be killed and is not repeated when it is finished; a run of stage 1 may serve several ablations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pefomed.conditions import CONDITIONS, CONTROLS
from pefomed.files import read_json, write_json
from pefomed.runs import evaluate_run, generate_run, train_run
from pefomed.settings import MIXTURE, SETTINGS_FILE, RunSettings, as_values

PLAN_FILE = "ablation.json"


def run_conditions(
    stage1: RunSettings,
    stage2: RunSettings,
    output_dir: str | Path,
    conditions: tuple[str, ...] = CONDITIONS,
    *,
    max_new_tokens: int = 0,
    batch_size: int = 32,
    progress: bool = True,
) -> dict[str, Mapping[str, Any]]:
    """Trains and tests what the conditions need.

    Args:
        stage1: of the caption stage; its output_dir is kept, so that several ablations can share the run.
        stage2: of the task; its output_dir is not used.
        output_dir: gets a folder for each condition.
        conditions: which, in this order; of `CONDITIONS` and `CONTROLS`.
        max_new_tokens: longest answer; 0 for the procedure's own bound.
        batch_size: prompts answered at once.
        progress: whether to show bars.

    Returns:
        The scores of each condition, as in its metrics.json.

    Raises:
        ValueError: a parameter does not fit; the message names it.
    """
    _check(stage1, stage2, output_dir, conditions)
    bounds = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    _claim(Path(output_dir) / PLAN_FILE, stage1, stage2, bounds)
    scores = {}
    for condition in conditions:
        settings = replace(stage2, output_dir=str(Path(output_dir) / condition))
        if not (Path(settings.output_dir) / "metrics.json").is_file():
            adapter = ""
            if condition == "stage1":
                adapter = _train(stage1, progress)
            elif condition != "zero_shot":
                settings = _to_train(condition, stage1, settings, progress)
                _train(settings, progress)
            bounds |= {"zero_shot": condition == "zero_shot", "adapter": adapter, "condition": condition}
            generate_run(settings, **bounds, file_name="predictions.jsonl", progress=progress)
            evaluate_run(settings.output_dir)
        scores[condition] = read_json(Path(settings.output_dir) / "metrics.json")
    return scores


def _train(settings: RunSettings, progress: bool) -> str:
    """Trains a run that is not finished; returns its folder. A finished one is not even loaded."""
    run_dir = Path(settings.output_dir)
    if not ((run_dir / "adapter").is_dir() and (run_dir / SETTINGS_FILE).is_file()):
        train_run(settings, progress)
    elif (found := read_json(run_dir / SETTINGS_FILE)) != as_values(settings):
        changed = ", ".join(key for key, value in as_values(settings).items() if found.get(key) != value)
        raise ValueError(f"{run_dir}: holds another run (different: {changed}); choose another output_dir")
    return settings.output_dir


def _claim(path: Path, stage1: RunSettings, stage2: RunSettings, bounds: Mapping[str, int]) -> None:
    """Writes down what the folder is made with, or refuses a folder that was made with something else."""
    stages = {"stage1": as_values(stage1), "stage2": as_values(replace(stage2, output_dir="of each condition"))}
    plan = {**stages, "answers": dict(bounds)}
    if path.is_file():
        old = read_json(path)
        changed = [
            f"{part} {key}"
            for part, values in plan.items()
            for key, value in values.items()
            if old[part].get(key) != value
        ]
        if changed:
            raise ValueError(
                f"{path.parent}: holds another ablation (different: {', '.join(changed)}); choose another output_dir"
            )
    write_json(path, plan)


def _to_train(condition: str, stage1: RunSettings, settings: RunSettings, progress: bool) -> RunSettings:
    """The stage-2 run of a condition; what it starts from is trained on the way."""
    if condition == "stage2":
        return settings
    _train(stage1, progress)
    if condition == "stage1+2":
        return replace(settings, init_from=stage1.output_dir)
    if condition == "replay+2":
        return replace(settings, init_from=_replay(stage1, progress))
    # stage2_long: as many optimiser steps on the task as stage 1 and stage 2 take together.
    alone = replace(settings, output_dir=str(Path(settings.output_dir).parent / "stage2"))
    _train(alone, progress)
    steps = _steps(stage1.output_dir) + _steps(alone.output_dir)
    return _with_steps(settings, steps)


def _replay(stage1: RunSettings, progress: bool) -> str:
    """Stage 1's steps on its replayed questions alone; returns the run's folder."""
    kept = {name: table for name, table in stage1.mixture.items() if stage1.task_of(name) == "vqa"}
    replay = replace(stage1, mixture=kept, output_dir=f"{stage1.output_dir}_replay")
    replay = _with_steps(replay, _steps(stage1.output_dir))
    _train(replay, progress)
    return replay.output_dir


def _with_steps(settings: RunSettings, steps: int) -> RunSettings:
    """The run with about so many optimiser steps, in as many epochs as before."""
    per_epoch = -(-steps // settings.make_stage().epochs)
    return replace(settings, stage_changes={**settings.stage_changes, "steps_per_epoch": per_epoch})


def _steps(run_dir: str | Path) -> int:
    """Optimiser steps of a finished run."""
    plan = read_json(Path(run_dir) / "plan.json")
    stage = plan["stage"]
    per_step = stage["batch_size"] * stage["gradient_accumulation"] * plan["processes"]
    return stage["epochs"] * (stage["steps_per_epoch"] or -(-plan["rows"] // per_step))


def _check(stage1: RunSettings, stage2: RunSettings, output_dir: str | Path, conditions: tuple[str, ...]) -> None:
    if Path(stage1.output_dir).resolve().parent == Path(output_dir).resolve() and (
        Path(stage1.output_dir).name in (*CONDITIONS, *CONTROLS)
    ):
        raise ValueError(
            f"parameter output_dir of stage 1: {stage1.output_dir} is a condition's folder; choose another"
        )
    for condition in conditions:
        if condition not in (*CONDITIONS, *CONTROLS):
            raise ValueError(f"parameter conditions: {condition!r} is none of {', '.join((*CONDITIONS, *CONTROLS))}")
    if not stage1.stage.startswith("stage1") or stage2.stage.startswith("stage1"):
        raise ValueError(f"stages must be a stage 1 and a stage 2, not {stage1.stage!r} and {stage2.stage!r}")
    for name in ("preset", "base_dir"):
        if getattr(stage1, name) != getattr(stage2, name):
            raise ValueError(f"parameter {name} differs: {getattr(stage1, name)!r} and {getattr(stage2, name)!r}")
    replayed = stage1.dataset == MIXTURE and any(stage1.task_of(name) == "vqa" for name in stage1.mixture)
    if "replay+2" in conditions and not replayed:
        raise ValueError(
            "condition 'replay+2' needs a stage 1 that mixes in general questions: 'shapes' in parameter mixture"
        )
