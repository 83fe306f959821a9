"""What the paper's numbers give when they are worked out again from their parts: levels, WASM, mixes of accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pefomed.metrics.likert import wasm
from pefomed.reporting.paper import IU_XRAY_TEST, KINDS, LIKERT, VQA, LikertRow, Stages, VqaRow

#: Open and closed questions of the test sets, counted in the published files. PathVQA's are not known apart.
TEST_QUESTIONS = {"vqa_rad": (179, 272), "slake": (645, 416)}
PATH_VQA_TEST = 6761
#: VQA-RAD's test questions by organ.
TEST_ORGANS = {"CHEST": 174, "HEAD": 119, "ABD": 158}
RATERS = 10
_HALF = {digits: 0.5 * 10.0**-digits for digits in range(-1, 4)}
BOTH: Stages = (True, True)


@dataclass(frozen=True)
class Check:
    """One printed number against what follows from others.

    Attributes:
        where: Tables or section.
        what: The number.
        printed: As the paper has it.
        found: As it follows.
        agrees: Whether the first can be a rounding of the second.
        note: What the difference may come from.
    """

    where: str
    what: str
    printed: float
    found: float
    agrees: bool
    note: str = ""


def fits_questions(row: VqaRow, n: int) -> range:
    """The numbers of open questions among n with which open and closed accuracy can give the overall one.

    Each of the three may be off by half of its last printed digit.

    Args:
        row: With all three accuracies.
        n: Open and closed questions together.

    Returns:
        The numbers, without a gap; empty where there is none.
    """
    open_, closed, overall = row.open.mean, row.closed.mean, row.overall.mean
    half = _HALF[1] + 1e-9

    def fits(count: int) -> bool:
        mixed = (open_ * count + closed * (n - count)) / n
        return abs(mixed - overall) <= 2 * half

    counts = [count for count in range(n + 1) if fits(count)]
    return range(counts[0], counts[-1] + 1) if counts else range(0)


def rounds_to(found: float, printed: float, digits: int) -> bool:
    """Whether the printed number is the found one rounded to so many digits after the point."""
    return abs(found - printed) <= _HALF[digits] + 1e-9


def likert_checks() -> list[Check]:
    """Sums of the levels, WASM from them, and the number of raters whose counts can give them."""
    checks = []
    for row in LIKERT:
        levels = [score.mean for score in row.levels]
        where, who = f"Table {row.table}", _who(row)
        if row.unit == "reports":
            found = wasm([int(level) for level in levels])
            checks.append(
                Check(where, f"WASM from counts, {who}", row.wasm.mean, found, rounds_to(found, row.wasm.mean, 2))
            )
            total = sum(levels)
            checks.append(Check(where, f"sum of levels, {who}", IU_XRAY_TEST, total, total == IU_XRAY_TEST))
        else:
            checks += _shares(where, who, row, levels)
    return checks


def _shares(where: str, who: str, row: LikertRow, levels: Sequence[float]) -> list[Check]:
    weighted, total = sum(level * share for level, share in enumerate(levels)), sum(levels)
    # Five numbers of two digits: their sum may be off by five times half of the last one.
    whole = abs(total - 100.0) <= 5 * _HALF[2]
    note = f"{100 - total:.1f} % of the ratings are missing" if not whole else ""
    checks = [Check(where, f"sum of levels (%), {who}", 100.0, total, whole, note)]
    for what, below in (("their sum", total), ("100 %", 100.0)):
        found = weighted / below
        agrees = rounds_to(found, row.wasm.mean, 2)
        checks.append(Check(where, f"WASM from the percentages over {what}, {who}", row.wasm.mean, found, agrees))
    raters = fewest_raters(levels, row.n)
    note = "" if raters == RATERS else f"eighths, not tenths: the shares fit {raters} raters of {row.n} reports"
    checks.append(Check(where, f"raters that the shares fit, {who}", RATERS, raters, RATERS % raters == 0, note))
    return checks


def fewest_raters(shares: Sequence[float], n: int) -> int:
    """The smallest number of raters of n items each whose counts, in per cent and rounded, can give all the shares."""

    def fits(raters: int) -> bool:
        unit = 100.0 / (raters * n)
        return all(abs(share - unit * round(share / unit)) <= _HALF[2] + 1e-9 for share in shares)

    return next(raters for raters in range(1, 101) if fits(raters))


def _who(row: LikertRow) -> str:
    return f"{row.evaluation}, {stage_name(row.stages)}" if row.table == 11 else row.evaluation


def stage_name(stages: Stages | None) -> str:
    """What was trained, in words."""
    return {(False, False): "zero-shot", (True, False): "stage 1", (False, True): "stage 2"}.get(stages, "both stages")


def sample_checks() -> list[Check]:
    """The judge and the raters on the 100 reports of Table 6, and the judge on all of Table 7."""
    human, judge, whole = LIKERT[0], LIKERT[1], LIKERT[2]
    counts = [score.mean for score in whole.levels]
    mean = wasm([int(count) for count in counts])
    variance = sum(count * (level - mean) ** 2 for level, count in enumerate(counts)) / sum(counts)
    error = math.sqrt(variance / judge.n * (1 - judge.n / whole.n))
    away, spread = (judge.wasm.mean - mean) / error, (judge.wasm.mean - human.wasm.mean) / human.wasm.sd
    return [
        Check(
            *("Tables 6, 7", "GPT-4's WASM of 100 random reports against that of all 1,180"),
            *(judge.wasm.mean, mean, abs(away) < 1.96),
            f"{away:.1f} standard errors of such a sample apart",
        ),
        Check(
            *("Table 6", "GPT-4's WASM against the raters' of the same 100 reports, said to be close"),
            *(judge.wasm.mean, human.wasm.mean, abs(spread) < 1.0),
            f"{spread:.1f} standard deviations of the raters apart",
        ),
    ]


def mix_checks() -> list[Check]:
    """Overall accuracy as the mean of open and closed, weighted by their numbers of questions."""
    own = [row for row in VQA if row.dataset == "path_vqa" and row.method == "PeFoMed"]
    fitting = [fits_questions(row, PATH_VQA_TEST) for row in own]
    path_vqa = range(max(fit.start for fit in fitting), min(fit.stop for fit in fitting))
    checks = []
    for row in VQA:
        if row.open is None or row.closed is None or row.overall is None:
            continue
        if row.dataset == "path_vqa":
            allowed, n = path_vqa, PATH_VQA_TEST
        else:
            n_open, n_closed = TEST_QUESTIONS[row.dataset]
            allowed, n = range(n_open, n_open + 1), n_open + n_closed
        fit = fits_questions(row, n)
        agrees = max(fit.start, allowed.start) < min(fit.stop, allowed.stop)
        middle = (allowed.start + allowed.stop - 1) / 2
        found = (row.open.mean * middle + row.closed.mean * (n - middle)) / n
        what = f"overall accuracy, {row.method}, {row.dataset}, {row.evaluation}"
        what += f", {stage_name(row.stages)}" if row.table in (8, 9) else ""
        note = "" if agrees else f"would need {fit.start:,} to {fit.stop - 1:,} open questions of {n:,}"
        checks.append(Check(f"Table {row.table}", what, row.overall.mean, found, agrees, note))
    return checks


def organ_checks() -> list[Check]:
    """Overall accuracy on VQA-RAD as the mean over the organs, weighted by their numbers of questions."""
    checks = []
    for evaluation in ("exact match", "human", "GPT-4"):
        means = {row.name: row.accuracy.mean for row in KINDS if row.table == 4 and row.evaluation == evaluation}
        found = sum(means[name] * n for name, n in TEST_ORGANS.items()) / sum(TEST_ORGANS.values())
        printed = published_vqa(2, "vqa_rad", evaluation).overall.mean
        agrees = abs(found - printed) <= 2 * _HALF[1]
        checks.append(Check("Tables 2, 4", f"overall accuracy from the organs', {evaluation}", printed, found, agrees))
    return checks


def published_vqa(table: int, dataset: str, evaluation: str, stages: Stages = BOTH) -> VqaRow:
    """PeFoMed's row of a table."""
    key = (table, "PeFoMed", dataset, evaluation, stages)
    return next(row for row in VQA if (row.table, row.method, row.dataset, row.evaluation, row.stages) == key)
