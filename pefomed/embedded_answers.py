"""Predictions of the embedded world, for whoever evaluates without a predictions file of their own.

    path = embedded_answers("stage2_vqa", "runs/stage2_vqa")  # predictions.jsonl, and one for zero-shot beside it

The evaluation notebooks begin here. Where the run is there already (the folder is the one that the stage's own
notebook writes), nothing is computed; otherwise the tiny model is trained first: some minutes on two cores.
"""

from __future__ import annotations

from pathlib import Path

STAGES = ("stage2_vqa", "stage2_report")


def embedded_answers(
    stage: str, run_dir: str | Path, seed: int = 0, limit: int = 0, epochs: int = 0, progress: bool = True
) -> Path:
    """Answers of the tiny model about drawn phantoms: found in a run folder, or made there.

    Killed and called again, it goes on where it stopped.

    Args:
        stage: `stage2_vqa` or `stage2_report`.
        run_dir: The run's folder.
        seed: Of the run, if it must be made.
        limit: Most rows of each split, if it must be made; 0 for all.
        epochs: Passes over the training rows, if it must be made; 0 for the recipe's own.
        progress: Whether to show bars.

    Returns:
        The path of predictions.jsonl; predictions_zero_shot.jsonl, the answers of the untrained base, lies beside it.

    Raises:
        ValueError: The stage is unknown, or the folder holds another run.
        ModuleNotFoundError: The run must be made and the training packages are missing.
    """
    if stage not in STAGES:
        raise ValueError(f"parameter stage must be one of {', '.join(STAGES)}, not {stage!r}")
    found = Path(run_dir) / "predictions.jsonl"
    if found.is_file() and found.with_name("predictions_zero_shot.jsonl").is_file():
        return found
    from pefomed.runs import RunSettings, generate_run, train_run

    changes = {"epochs": epochs} if epochs else {}
    settings = RunSettings(stage=stage, seed=seed, limit=limit, stage_changes=changes, output_dir=str(run_dir))
    longest = settings.make_stage().max_text_tokens
    train_run(settings, progress=progress)
    generate_run(settings, zero_shot=True, max_new_tokens=longest, progress=progress)
    return generate_run(settings, max_new_tokens=longest, progress=progress)
