"""The conditions of an ablation with the paper's own lines of the same kind below them."""

from __future__ import annotations

import pandas as pd

from pefomed.reporting.condition_scores import MEASURES, ConditionScores
from pefomed.reporting.conditions import LABELS, conditions_table
from pefomed.reporting.evaluations import printed
from pefomed.reporting.paper import VQA

_STAGES = {(False, False): "zero_shot", (True, False): "stage1", (False, True): "stage2", (True, True): "stage1+2"}


def ablation_table(scores: ConditionScores, published: bool = False) -> pd.DataFrame:
    """`conditions_table`, and below it exact match of the paper's Tables 8 and 9.

    Args:
        scores: what `condition_scores` returned.
        published: whether to add the paper's lines: of the same data set, or of VQA-RAD where it has none of it.

    Raises:
        ValueError: the paper's lines are asked for but these are not answers to questions.
    """
    table = conditions_table(scores)
    if not published:
        return table
    if scores.task != "vqa":
        raise ValueError(f"the paper has conditions by exact match, which task {scores.task!r} is not scored by")
    rows = [row for row in VQA if row.table in (8, 9) and row.evaluation == "exact match"]
    wanted = scores.dataset if any(row.dataset == scores.dataset for row in rows) else "vqa_rad"
    lines = []
    for row in rows:
        if row.dataset == wanted and row.stages is not None:
            label, first, second = LABELS[_STAGES[row.stages]]
            line = {"condition": f"{label} (paper, Table {row.table}, {row.dataset})", "stage 1": first}
            line |= {"stage 2": second} | {side: printed(getattr(row, side)) for side in MEASURES["vqa"]}
            lines.append(dict.fromkeys(table.columns, "") | line)
    # As texts, because an empty cell would turn whole numbers into fractions.
    return pd.concat([table.astype(str), pd.DataFrame(lines).set_index("condition")[list(table.columns)]])
