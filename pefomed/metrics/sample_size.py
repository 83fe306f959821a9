"""When are there too few rows to tell anything? One stated rule for all scores."""

from __future__ import annotations

from collections.abc import Mapping

#: Below this many rows, a share near one half is uncertain by ten points or more (1.96 x sqrt(0.25 / n)).
ENOUGH_ROWS = 100
#: Below this many clusters, a bootstrap over clusters gives intervals that are too narrow.
ENOUGH_CLUSTERS = 20


def small_sample_warning(sizes: Mapping[str, tuple[int, int]]) -> str | None:
    """One line about the scores that rest on fewer than 100 rows or 20 clusters.

    Args:
        sizes: Number of rows and number of clusters by the name of the score. What has no rows has no score and needs
            no warning.

    Returns:
        The line, or None where every score has enough.
    """
    small = [
        f"{name} has {rows} rows in {clusters} clusters"
        for name, (rows, clusters) in sizes.items()
        if rows and (rows < ENOUGH_ROWS or clusters < ENOUGH_CLUSTERS)
    ]
    if not small:
        return None
    return (
        f"too few to tell: {', '.join(small)}; below {ENOUGH_ROWS} rows a share is uncertain by ten points or more, "
        f"below {ENOUGH_CLUSTERS} clusters its interval is too narrow"
    )
