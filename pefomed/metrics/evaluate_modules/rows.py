"""From the columns that `evaluate` hands over to the rows that the scores read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any


def rows_of(
    predictions: Sequence[str], references: Sequence[str], clusters: Sequence[Hashable] | None
) -> list[dict[str, Any]]:
    """Rows like those of a predictions.jsonl.

    Args:
        predictions: The model's answers.
        references: The true answers.
        clusters: One label per answer, or None where each is a cluster of its own.

    Raises:
        ValueError: There are not as many clusters as answers.
    """
    if clusters is not None and len(clusters) != len(predictions):
        raise ValueError(f"found {len(clusters)} clusters for {len(predictions)} predictions; give one for each")
    groups = [None] * len(predictions) if clusters is None else map(str, clusters)
    return [
        {"id": str(number), "task": "vqa", "prediction": prediction, "answer": reference, "group": group}
        for number, (prediction, reference, group) in enumerate(zip(predictions, references, groups, strict=True))
    ]
