"""The paper against itself: which printed numbers follow from the others, and which do not.

    checks = paper_checks()
    check_table([check for check in checks if not check.agrees])

A number agrees where it can be the rounding of what its parts give, given that the parts are rounded too.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import pandas as pd

from pefomed.reporting.paper import IU_XRAY_TEST, KINDS, LIKERT, REPORTS, VQA, LikertRow, ReportRow, Score, Stages
from pefomed.reporting.paper_arithmetic import (
    BOTH,
    PATH_VQA_TEST,
    Check,
    likert_checks,
    mix_checks,
    organ_checks,
    published_vqa,
    rounds_to,
    sample_checks,
)

__all__ = ["Check", "check_table", "paper_checks"]
_ZERO_SHOT, _FIRST, _SECOND = (False, False), (True, False), (False, True)


def paper_checks() -> list[Check]:
    """Every check, in the order: levels and WASM, mixes of accuracies, numbers printed twice, the text, the data."""
    return [
        *likert_checks(),
        *sample_checks(),
        *mix_checks(),
        *organ_checks(),
        *_twice(),
        *_text_on_answers(),
        *_text_on_reports(),
        *_conditions(),
        *_sizes(),
    ]


def check_table(checks: Iterable[Check]) -> pd.DataFrame:
    """Checks as a table, one line each.

    Args:
        checks: As `paper_checks` returns them.

    Returns:
        Columns: where, what, printed, follows, agrees (`yes` or `no`), note.
    """
    lines = [
        {
            "where": check.where,
            "what": check.what,
            "printed": f"{check.printed:g}",
            "follows": f"{check.found:.4g}" if check.found < 1000 else f"{check.found:,.0f}",
            "agrees": "yes" if check.agrees else "no",
            "note": check.note,
        }
        for check in checks
    ]
    return pd.DataFrame(lines, columns=["where", "what", "printed", "follows", "agrees", "note"])


def _twice() -> list[Check]:
    """The two-stage model's numbers in the tables of comparison and in those of ablation."""
    pairs: list[tuple[str, str, Score | float, Score | float]] = []
    for row in VQA:
        if row.table in (8, 9) and row.stages == BOTH:
            first = published_vqa(2, row.dataset, row.evaluation)
            for side in ("open", "closed", "overall"):
                what = f"{side} accuracy, {row.dataset}, {row.evaluation}"
                pairs.append((f"Tables 2, {row.table}", what, getattr(first, side), getattr(row, side)))
    for measure in ("meteor", "rouge_l", "cider"):
        first, second = (getattr(_report(BOTH, table), measure) for table in (5, 10))
        pairs.append(("Tables 5, 10", measure.upper().replace("_", "-"), first, second))
    checks = [
        Check(where, f"{what}, printed twice", _mean(first), _mean(second), first == second)
        for where, what, first, second in pairs
    ]
    seventh, eleventh = _levels(7, BOTH), _levels(11, BOTH)
    same = seventh.levels == eleventh.levels
    return [
        *checks,
        Check("Tables 7, 11", "levels and WASM, printed twice", seventh.wasm.mean, eleventh.wasm.mean, same),
    ]


def _text_on_answers() -> list[Check]:
    """Numbers on visual question answering that the text names."""
    em, gpt4 = "exact match", "GPT-4"
    slake = {stages: published_vqa(8, "slake", em, stages) for stages in (_ZERO_SHOT, _FIRST)}
    rad = {stages: published_vqa(9, "vqa_rad", gpt4, stages) for stages in (_ZERO_SHOT, _FIRST)}
    path = {stages: published_vqa(8, "path_vqa", gpt4, stages) for stages in (_SECOND, BOTH)}
    organ = {(row.evaluation, row.name): row.accuracy.mean for row in KINDS if row.table == 4}
    apart = [abs(organ["human", name] - organ[gpt4, name]) for name in ("CHEST", "HEAD", "ABD")]
    nearest = min(organ[who, name] - organ[em, name] for who, name in organ if who != em)
    spread = [row.accuracy.sd for row in KINDS if row.evaluation == gpt4]
    spread += [score.sd for row in VQA if row.evaluation == gpt4 for score in (row.open, row.closed, row.overall)]
    llava = next(row for row in VQA if row.method == "LLaVA-Med (BioMedCLIP)" and row.dataset == "vqa_rad")
    gain = rad[_FIRST].overall.mean - rad[_ZERO_SHOT].overall.mean
    lost = [getattr(slake[_ZERO_SHOT], side).mean - getattr(slake[_FIRST], side).mean for side in ("overall", "open")]
    judged = path[BOTH].open.mean - published_vqa(8, "path_vqa", em).open.mean
    claims = (
        ("largest difference of raters and GPT-4 by organ", 1.4, max(apart), ""),
        ("smallest difference of raters and GPT-4 by organ", 0.1, min(apart), ""),
        ("smallest difference to exact match by organ", 5.4, nearest, ""),
        ("largest standard deviation of GPT-4", 1.2, max(sd for sd in spread if sd is not None), "heads in Table 4"),
        ("closed accuracy of LLaVA-Med with 64.8 open, 75.8 overall", 84.2, llava.closed.mean, "two rows of Table 2"),
        ("gain of stage 1 on VQA-RAD by GPT-4, overall", 11.1, gain, ""),
        ("loss of stage 1 on SLAKE by exact match, overall", 10.7, lost[0], ""),
        ("loss of stage 1 on SLAKE by exact match, open", 12.3, lost[1], ""),
        (
            "gain of stage 1 before stage 2 on PathVQA by GPT-4, open",
            7.2,
            path[BOTH].open.mean - path[_SECOND].open.mean,
            "",
        ),
        ("GPT-4 above exact match on PathVQA, open", 10.0, judged, ""),
    )
    return [_claim(what, printed, found, 1, note) for what, printed, found, note in claims]


def _text_on_reports() -> list[Check]:
    """Numbers on reports that the text names."""
    human, whole = LIKERT[0], _levels(7, BOTH)
    counts = [score.mean for score in whole.levels]
    share = [100 * count / sum(counts) for count in counts]
    first = _report(_FIRST, 10)
    bad = sum(score.mean for score in _levels(11, _ZERO_SHOT).levels[:2])
    middle = human.levels[2].mean + human.levels[3].mean
    best = max(row.rouge_l for row in REPORTS if row.table == 10)
    claims = (
        ("ratings at levels 2 and 3 (%)", 75, middle, 0, "levels 1 to 3 would give 74.4 %"),
        ("GPT-4's verdicts at levels 2 to 4 (%), nearly", 90, sum(share[2:]), -1, ""),
        ("GPT-4's verdicts at level 4 (%)", 27.5, share[4], 1, ""),
        ("zero-shot reports at levels 0 and 1", 1127, bad, 0, ""),
        ("METEOR of stage 1", 0.152, first.meteor, 3, ""),
        ("ROUGE-L of stage 1", 0.089, first.rouge_l, 3, "0.089 is the zero-shot model's"),
        ("best ROUGE-L, said to be that of both stages", 0.286, best, 3, "stage 2 alone is better"),
    )
    return [_claim(what, printed, found, digits, note) for what, printed, found, digits, note in claims]


def _claim(what: str, printed: float, found: float, digits: int, note: str) -> Check:
    return Check("text", what, printed, found, rounds_to(found, printed, digits), note)


def _conditions() -> list[Check]:
    """The ablation of reports: does training more raise WASM, and does it order the models as CIDEr does?"""
    conditions = (_ZERO_SHOT, _FIRST, _SECOND, BOTH)
    means = {stages: _levels(11, stages).wasm.mean for stages in conditions}
    cider = {stages: _report(stages, 10).cider for stages in conditions}
    pairs = list(combinations(conditions, 2))
    alike = sum((means[a] < means[b]) == (cider[a] < cider[b]) for a, b in pairs)
    best = max(means.values())
    top = {stages: _levels(11, stages).levels[4].mean for stages in conditions}
    return [
        Check(
            *("Table 11", "best WASM, expected of both stages", means[BOTH], best, means[BOTH] == best),
            f"both stages {means[BOTH]}, stage 2 alone {means[_SECOND]}, stage 1 alone {means[_FIRST]}",
        ),
        Check(
            *("Table 11", "most reports at level 4, expected of both stages", top[BOTH], max(top.values())),
            *(top[BOTH] == max(top.values()), "stage 1 alone has most"),
        ),
        Check(
            *("Tables 10, 11", "pairs of models that WASM orders as CIDEr does", len(pairs), alike),
            *(alike == len(pairs), "said to be consistent"),
        ),
    ]


def _sizes() -> list[Check]:
    """Numbers of images, questions and parameters in the text."""
    lora = 32 * 2 * 64 * (4096 + 4096)
    projection = 5632 * 4096 + 4096
    return [
        _claim("trainable parameters (millions)", 56.63, (lora + projection) / 1e6, 2, ""),
        _claim("questions of VQA-RAD", 3515, 3064 + 451, 0, ""),
        _claim("images of VQA-RAD", 315, 104 + 104 + 107, 0, ""),
        _claim("English questions of SLAKE", 7032, 4918 + 1053 + 1061, 0, ""),
        _claim("test questions of PathVQA, at 7:1:2 of 32,795", PATH_VQA_TEST, 32795 * 0.2, 0, "the files are 6:2:2"),
        _claim(
            *("test reports of IU-Xray, at 7:1:2 of 7,470 images", IU_XRAY_TEST, 7470 * 0.2, 0),
            "two images each of 590 studies, a fifth of the 2,955 that have both views",
        ),
    ]


def _mean(value: Score | float) -> float:
    return value.mean if isinstance(value, Score) else value


def _report(stages: Stages, table: int) -> ReportRow:
    return next(row for row in REPORTS if (row.table, row.method, row.stages) == (table, "PeFoMed", stages))


def _levels(table: int, stages: Stages) -> LikertRow:
    return next(row for row in LIKERT if (row.table, row.stages) == (table, stages))
