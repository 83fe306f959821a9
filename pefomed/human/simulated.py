"""Simulated raters: scores drawn around a given verdict with stated probabilities, where no person has rated.

    raters = simulated_raters("vqa", 10)
    verdicts = simulate(truth, "vqa", raters, seed=0)      # truth: {id: score}

They let everything that needs raters run without any, and show what agreement of a known reliability looks like. They
are called simulated in every name; what they say about a model is no more than what their `truth` says.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pefomed import files
from pefomed.human.sheets import SCALES
from pefomed.metrics.normalise import is_match
from pefomed.metrics.verdict_files import Verdict, read_verdicts

Row = dict[str, Any]
#: How often the most and the least reliable of the default raters give the true score.
RELIABILITIES = {"vqa": (0.98, 0.90), "report": (0.80, 0.55)}
SHEET = "simulated"  # what stands for the sheet in their ratings.jsonl


@dataclass(frozen=True)
class SimulatedRater:
    """One simulated rater.

    Attributes:
        name: Must begin with "simulated".
        matrix: Row t, column s: probability of the score s where t is true. Rows sum to 1.
    """

    name: str
    matrix: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.name.startswith("simulated"):
            raise ValueError(f"parameter name: {self.name!r} does not begin with 'simulated'; nobody is to be misled")
        for true, row in enumerate(self.matrix):
            if len(row) != len(self.matrix) or min(row) < 0 or not math.isclose(sum(row), 1.0, abs_tol=1e-9):
                raise ValueError(
                    f"parameter matrix: row {true} of {self.name!r} is {row}; it must hold {len(self.matrix)} "
                    "probabilities that sum to 1"
                )


def reliability_matrix(task: str, reliability: float) -> tuple[tuple[float, ...], ...]:
    """Probabilities of a rater who gives the true score with the given probability.

    Errors on a scale of more than two levels fall off by half with each level of distance.

    Raises:
        ValueError: An unknown task, or a reliability that is no probability.
    """
    if task not in SCALES:
        raise ValueError(f"parameter task must be {' or '.join(SCALES)}, not {task!r}")
    if isinstance(reliability, bool) or not isinstance(reliability, int | float) or not 0 <= reliability <= 1:
        raise ValueError(f"parameter reliability must be a number from 0 to 1, not {reliability!r}")
    scale, rows = SCALES[task], []
    for true in scale:
        weights = [0.0 if score == true else 0.5 ** abs(score - true) for score in scale]
        errors = [(1.0 - reliability) * weight / sum(weights) for weight in weights]
        rows.append(tuple(reliability if score == true else errors[score] for score in scale))
    return tuple(rows)


def simulated_raters(
    task: str, number: int = 10, reliabilities: Sequence[float] | None = None
) -> tuple[SimulatedRater, ...]:
    """Raters "simulated 1", "simulated 2", ...

    Args:
        task: `vqa` or `report`.
        number: How many.
        reliabilities: One for each; where nothing is said, evenly spaced over `RELIABILITIES[task]`.

    Raises:
        ValueError: An unknown task, no raters, or as many reliabilities as there are not raters.
    """
    if task not in SCALES:
        raise ValueError(f"parameter task must be {' or '.join(SCALES)}, not {task!r}")
    if type(number) is not int or number < 1:
        raise ValueError(f"parameter raters must be a whole number from 1, not {number!r}")
    best, worst = RELIABILITIES[task]
    spaced = [best - (best - worst) * index / max(number - 1, 1) for index in range(number)]
    chosen = spaced if reliabilities is None else list(reliabilities)
    if len(chosen) != number:
        raise ValueError(f"parameter reliabilities: {len(chosen)} for {number} raters; give one for each")
    return tuple(
        SimulatedRater(f"simulated {index}", reliability_matrix(task, reliability))
        for index, reliability in enumerate(chosen, start=1)
    )


def true_scores(rows: Sequence[Row], task: str, source: str | Path = "offline") -> dict[str, int]:
    """Scores that simulated raters may stray from.

    Args:
        rows: Predictions.
        task: `vqa` or `report`.
        source: `offline` (the offline stand-in for a judge), `exact-match` (`vqa` only, as published), or the path of
            a judge.jsonl or ratings.jsonl, of whose repeats or raters the (lower) median is taken.

    Returns:
        Score by id, in the order of the rows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Exact match for reports, or the file has no score for a row.
    """
    if source == "exact-match":
        if task != "vqa":
            raise ValueError("parameter truth: exact match knows no levels of reports; take offline or a judge.jsonl")
        return {row["id"]: int(is_match(row["prediction"], row["answer"])) for row in rows}
    if source == "offline":
        from pefomed.judge.offline import offline_score

        return {row["id"]: offline_score(row, task) for row in rows}
    given: dict[str, list[int]] = {}
    for verdict in read_verdicts(source, task).verdicts:
        given.setdefault(verdict.id, []).append(verdict.score)
    missing = [row["id"] for row in rows if row["id"] not in given]
    if missing:
        raise ValueError(f"{source}: has no score for {len(missing):,} of {len(rows):,} rows, first {missing[0]!r}")
    return {row["id"]: statistics.median_low(given[row["id"]]) for row in rows}


def simulate(truth: Mapping[str, int], task: str, raters: Sequence[SimulatedRater], seed: int = 0) -> list[Verdict]:
    """Let simulated raters rate.

    What a rater says of an id depends on seed, rater and id alone, not on what else is rated.

    Args:
        truth: The true score by id.
        task: `vqa` or `report`.
        raters: The raters.
        seed: Another seed gives other errors.

    Returns:
        One verdict for each id and rater, in the order of the ids, then of the raters.

    Raises:
        ValueError: A score outside of the task's scale, a rater of another scale, or two of one name.
    """
    if task not in SCALES:
        raise ValueError(f"parameter task must be {' or '.join(SCALES)}, not {task!r}")
    for name, score in truth.items():
        if type(score) is not int or score not in SCALES[task]:
            raise ValueError(
                f"parameter truth: {name!r} has {score!r}, not one of {', '.join(map(str, SCALES[task]))}"
            )
    for rater in raters:
        if len(rater.matrix) != len(SCALES[task]):
            raise ValueError(f"{rater.name!r} has {len(rater.matrix)} levels; {task} has {len(SCALES[task])}")
    if len({rater.name for rater in raters}) != len(raters):
        raise ValueError("parameter raters: two raters have one name; give each its own")
    return [
        Verdict(name, rater.name, _draw(rater.matrix[true], f"{seed}\x1f{rater.name}\x1f{name}"))
        for name, true in truth.items()
        for rater in raters
    ]


def write_simulated(path: str | Path, verdicts: Sequence[Verdict]) -> Path:
    """Write verdicts of simulated raters as a ratings.jsonl whose every line says that they are simulated.

    Raises:
        ValueError: There are no verdicts, or a rater is not called simulated.
    """
    if not verdicts:
        raise ValueError(f"{path}: no verdicts to write")
    for verdict in verdicts:
        if not verdict.rater.startswith("simulated"):
            raise ValueError(f"{path}: rater {verdict.rater!r} is not simulated; such ratings come from sheets")
    rows = (
        {"id": verdict.id, "rater": verdict.rater, "score": verdict.score, "sheet": SHEET, "cell": ""}
        for verdict in verdicts
    )
    return files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _draw(probabilities: Sequence[float], told: str) -> int:
    digest = hashlib.sha256(told.encode("utf-8", errors="surrogatepass")).digest()
    point = int.from_bytes(digest[:6], "big") / 2**48  # 0 <= point < 1, exact
    for score, probability in enumerate(probabilities):
        point -= probability
        if point < 0:
            return score
    # Only rounding leads here: the last score that is possible at all.
    return max(score for score, probability in enumerate(probabilities) if probability > 0)
