"""How the model of a prediction came about: the paper's four conditions (section 4.4) and two controls of our own."""

from __future__ import annotations

from pathlib import Path

from pefomed.files import read_json

CONDITIONS = ("zero_shot", "stage1", "stage2", "stage1+2")
# Does stage 1 help, or only its additional steps? Stage 2 alone for as many steps as both together, and stage 2 after
# as many steps on what is replayed in stage 1, without any caption.
CONTROLS = ("stage2_long", "replay+2")


def condition_of(adapter: str | Path | None) -> str:
    """How the model came about, in the words of predictions.jsonl.

    Args:
        adapter: a run folder or adapter folder; None for the base alone.

    Returns:
        "zero_shot", "stage1", "stage2" (from the base) or "stage1+2" (from another adapter).

    Raises:
        FileNotFoundError: there is no adapter.
        ValueError: nothing beside the adapter says how it was trained.
    """
    if adapter is None:
        return "zero_shot"
    from pefomed.model.adapters import ORIGIN_FILE, find_adapter

    folder = find_adapter(adapter)
    plan = folder.parent / "plan.json"
    if not (folder / ORIGIN_FILE).is_file() or not plan.is_file():
        raise ValueError(
            f"{folder}: no plan.json beside it says how this adapter was trained; pass condition, one of "
            f"{', '.join(CONDITIONS)}"
        )
    if read_json(plan)["stage"]["name"].startswith("stage1"):
        return "stage1"
    return "stage1+2" if read_json(folder / ORIGIN_FILE)["init_from"] else "stage2"
