"""One look for every figure: seaborn's white grid and a palette that colour-blind readers can tell apart."""

import seaborn as sns

PALETTE = sns.color_palette("colorblind")
RIGHT, WRONG = PALETTE[2], PALETTE[3]


def use_style() -> None:
    """Sets the package's figure style for the running session."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
