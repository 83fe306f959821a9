"""How a training went: loss, learning rate, validation."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from pefomed.reporting.style import PALETTE, use_style


def training_curves(log: Sequence[Mapping], validation: Sequence[Mapping]) -> Figure:
    """Loss on answers, learning rate, and what validation found, against optimiser steps.

    Args:
        log: rows of step, loss, learning_rate.
        validation: rows of step, exact_match, open, closed for questions, or of step, loss for captions and reports,
            on the scale of the training loss; may be empty.

    Returns:
        The figure; nothing is shown or saved.
    """
    use_style()
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
    steps = pd.DataFrame(log)
    marker = "o" if len(steps) == 1 else None  # a line of one point cannot be seen
    sns.lineplot(data=steps, x="step", y="loss", marker=marker, ax=axes[0])
    axes[0].set(title="Training loss on answer tokens", ylabel="loss (nats per token)", ylim=(0, None))
    sns.lineplot(data=steps, x="step", y="learning_rate", marker=marker, ax=axes[1])
    axes[1].set(title="Learning rate", ylabel="learning rate", ylim=(0, None))
    if validation and "loss" in validation[0]:
        losses = pd.DataFrame(validation)
        sns.lineplot(data=losses, x="step", y="loss", marker="o", color=PALETTE[1], ax=axes[2])
        best = losses.loc[losses["loss"].idxmin()]
        axes[2].plot(best["step"], best["loss"], "*", color="black", markersize=14, label="kept", zorder=3)
        axes[2].legend(loc="lower left")
        axes[2].set(ylabel="loss (nats per token)", ylim=(0, None))
    elif validation:
        scores = pd.DataFrame(validation).melt(
            "step", ["open", "closed", "exact_match"], "questions", "exact match (%)"
        )
        scores["questions"] = scores["questions"].replace({"exact_match": "all"})
        sns.lineplot(
            data=scores, x="step", y="exact match (%)", hue="questions", style="questions", markers=True, ax=axes[2]
        )
        axes[2].set(ylim=(0, 100))
    axes[2].set(title="Validation")
    figure.tight_layout()
    return figure


def curves_in_words(log: Sequence[Mapping], validation: Sequence[Mapping]) -> str:
    """Alternative text for `training_curves`: where its curves begin and end.

    Args:
        log: as there.
        validation: as there.
    """
    rates = [row["learning_rate"] for row in log]
    texts = [
        f"training loss {_ends(log, 'loss', 2)}",
        f"learning rate at most {max(rates):.1e}, at the end {rates[-1]:.1e}",
    ]
    if not validation:
        texts.append("no validation")
    elif "loss" in validation[0]:
        texts.append(f"validation loss {_ends(validation, 'loss', 2)}")
    else:
        texts.append(f"exact match on validation questions in per cent {_ends(validation, 'exact_match', 1)}")
    return f"Three panels of curves: {'; '.join(texts)}."


def _ends(rows: Sequence[Mapping], key: str, digits: int) -> str:
    ends = rows[:1] if len(rows) == 1 else (rows[0], rows[-1])
    return ", ".join(f"{row[key]:.{digits}f} at step {row['step']}" for row in ends)
