"""The numbers that the PeFoMed paper prints (arXiv 2401.02797), table by table, to stand beside one's own.

    [row for row in VQA if row.dataset == "vqa_rad" and row.method == "PeFoMed"]

Accuracies and shares of levels are in per cent; METEOR and ROUGE-L run from 0 to 1, CIDEr from 0 to 10, WASM from 0 to
4. A standard deviation is over ten evaluations, human raters or repeats of GPT-4, by the captions of the tables. Not
here: the column of Table 3 for parameterised questions and what Figures 3 to 6 draw, which are printed as pictures.
Table 1 holds examples and Table 12 the levels' descriptions; neither has a number.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Reports of the test set in Tables 5, 7, 10 and 11.
IU_XRAY_TEST = 1180
Stages = tuple[bool, bool]


@dataclass(frozen=True)
class Score:
    """A printed number and its standard deviation, None where there is none."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True)
class VqaRow:
    """Accuracy of one method on one data set (Tables 2, 8 and 9).

    Attributes:
        table: Its number in the paper.
        method: Of the paper, or of others whom it quotes.
        decoder: `LLM` or `non-LLM`.
        evaluation: How answers were judged: `exact match`, `human` or `GPT-4`.
        dataset: By this package's name.
        open: Per cent of open questions, None where not printed; likewise `closed` and `overall`.
        stages: Whether stage 1 and stage 2 were trained, None for other methods.
        open_evaluation: `token recall` where open questions were scored so, else the same as `evaluation`.
        parameters: That are trained, in millions, None where not printed.
    """

    table: int
    method: str
    decoder: str
    evaluation: str
    dataset: str
    open: Score | None
    closed: Score | None
    overall: Score | None
    stages: Stages | None = None
    open_evaluation: str = ""
    parameters: float | None = None


@dataclass(frozen=True)
class KindRow:
    """Accuracy of PeFoMed on one kind of VQA-RAD's questions (Tables 3 and 4)."""

    table: int
    evaluation: str
    breakdown: str
    name: str
    accuracy: Score


@dataclass(frozen=True)
class ReportRow:
    """Lexical scores of reports on IU-Xray (Tables 5 and 10), None where not printed."""

    table: int
    method: str
    decoder: str
    meteor: float | None
    rouge_l: float | None
    cider: float | None
    stages: Stages | None = None


@dataclass(frozen=True)
class LikertRow:
    """Levels given to reports on IU-Xray (Tables 6, 7 and 11).

    Attributes:
        table: Its number in the paper.
        evaluation: Who gave the levels: `human` or `GPT-4`.
        n: Reports.
        levels: For levels 0 to 4, per cent (Table 6) or numbers of reports (Tables 7 and 11).
        unit: `per cent` or `reports`.
        wasm: The printed weighted mean level.
        stages: Whether stage 1 and stage 2 were trained.
    """

    table: int
    evaluation: str
    n: int
    levels: tuple[Score, ...]
    unit: str
    wasm: Score
    stages: Stages = (True, True)


Printed = float | tuple[float, float] | None
Cells = tuple[Printed, Printed, Printed] | None


def _score(printed: Printed) -> Score | None:
    if printed is None:
        return None
    return Score(*printed) if isinstance(printed, tuple) else Score(printed)


def _vqa(
    table: int,
    method: str,
    decoder: str,
    evaluation: str,
    vqa_rad: Cells = None,
    slake: Cells = None,
    path_vqa: Cells = None,
    **others,
) -> list[VqaRow]:
    """A printed line as one row for each data set it has numbers of: open, closed and overall."""
    others = {"open_evaluation": evaluation, **others}
    cells = {"vqa_rad": vqa_rad, "slake": slake, "path_vqa": path_vqa}
    return [
        VqaRow(table, method, decoder, evaluation, dataset, *map(_score, three), **others)
        for dataset, three in cells.items()
        if three is not None
    ]


_RECALL = {"open_evaluation": "token recall", "parameters": 7000.0}
_OURS = {"stages": (True, True), "parameters": 56.63}
_EM, _HUMAN, _GPT4 = "exact match", "human", "GPT-4"
_TABLE_2 = (
    _vqa(2, "MMQ", "non-LLM", _EM, (52.0, 72.4, 64.3), None, (11.8, 82.1, 47.1), parameters=28.3),
    _vqa(2, "MTL", "non-LLM", _EM, (69.8, 79.8, 75.8), (80.2, 86.1, 82.5)),
    _vqa(2, "VQA-Adapter", "non-LLM", _EM, (66.1, 82.3, 75.8), (79.2, 83.7, 81.0), parameters=2.09),
    _vqa(2, "M3AE", "non-LLM", _EM, (67.2, 83.5, 77.0), (80.3, 87.8, 83.2)),
    _vqa(2, "M2I2", "non-LLM", _EM, (66.5, 83.5, 76.8), (74.7, 91.1, 81.2), (36.3, 88.0, 62.2), parameters=262.15),
    _vqa(2, "MUMC", "non-LLM", _EM, (71.5, 84.2, 79.2), (81.5, 91.1, 84.9), (39.0, 90.4, 65.1), parameters=211.06),
    _vqa(2, "ARL", "non-LLM", _EM, (67.6, 86.8, 79.2), (81.9, 91.4, 85.6), parameters=362.0),
    _vqa(2, "LLaVA-Med (LLaVA)", "LLM", _EM, (61.5, 84.2, 75.2), (83.1, 85.3, 84.0), (38.0, 91.2, 64.7), **_RECALL),
    _vqa(2, "LLaVA-Med (Vicuna)", "LLM", _EM, (64.4, 82.0, 75.0), (84.7, 83.2, 84.1), (38.9, 91.7, 65.3), **_RECALL),
    _vqa(
        2, "LLaVA-Med (BioMedCLIP)", "LLM", _EM, (64.8, 83.1, 75.8), (87.1, 86.8, 87.0), (39.6, 91.1, 65.4), **_RECALL
    ),
    _vqa(2, "GPT-4V", "LLM", _EM, (None, 61.4, None), open_evaluation=""),
    _vqa(2, "PeFoMed", "LLM", _EM, (62.6, 87.1, 77.4), (77.8, 88.7, 82.1), (35.7, 91.3, 63.6), **_OURS),
    _vqa(2, "PeFoMed", "LLM", _HUMAN, ((77.7, 3.2), (87.6, 0.2), (83.7, 1.3)), **_OURS),
    _vqa(
        *(2, "PeFoMed", "LLM", _GPT4),
        ((79.9, 1.2), (87.5, 0.0), (84.4, 0.5)),
        ((83.1, 0.3), (88.7, 0.0), (85.3, 0.2)),
        (45.7, 91.3, 68.6),
        **_OURS,
    ),
)


def _ablation(table: int, evaluation: str, first: bool, second: bool, *cells: Cells) -> list[VqaRow]:
    return _vqa(table, "PeFoMed", "LLM", evaluation, *cells, stages=(first, second))


_TABLE_8 = (
    _ablation(8, _EM, False, False, None, (23.9, 58.9, 37.6), (2.4, 59.0, 30.8)),
    _ablation(8, _EM, True, False, None, (11.6, 50.5, 26.9), (1.2, 53.3, 27.3)),
    _ablation(8, _EM, False, True, None, (77.5, 85.3, 80.6), (31.2, 90.0, 60.7)),
    _ablation(8, _EM, True, True, None, (77.8, 88.7, 82.1), (35.7, 91.3, 63.6)),
    _ablation(8, _GPT4, False, False, None, ((47.0, 0.5), (59.9, 0.0), (52.1, 0.3)), (12.3, 59.3, 35.9)),
    _ablation(8, _GPT4, True, False, None, ((50.0, 0.9), (62.5, 0.4), (54.9, 0.7)), (12.1, 53.9, 33.1)),
    _ablation(8, _GPT4, False, True, None, ((82.8, 0.3), (85.3, 0.0), (83.8, 0.2)), (38.5, 90.0, 64.3)),
    _ablation(8, _GPT4, True, True, None, ((83.1, 0.3), (88.7, 0.0), (85.3, 0.2)), (45.7, 91.3, 68.6)),
)
_TABLE_9 = (
    _ablation(9, _EM, False, False, (13.4, 48.2, 34.4)),
    _ablation(9, _EM, True, False, (16.2, 59.9, 42.6)),
    _ablation(9, _EM, False, True, (58.1, 82.0, 72.5)),
    _ablation(9, _EM, True, True, (62.6, 87.1, 77.4)),
    _ablation(9, _GPT4, False, False, ((26.2, 1.1), (49.1, 0.3), (40.0, 0.4))),
    _ablation(9, _GPT4, True, False, ((37.3, 1.1), (60.2, 0.1), (51.1, 0.5))),
    _ablation(9, _GPT4, False, True, ((75.0, 0.4), (82.7, 0.0), (79.6, 0.1))),
    _ablation(9, _GPT4, True, True, ((79.9, 1.2), (87.5, 0.0), (84.4, 0.5))),
    _ablation(9, _HUMAN, True, True, ((77.7, 3.2), (87.6, 0.2), (83.7, 1.3))),
)
VQA: tuple[VqaRow, ...] = tuple(row for line in (*_TABLE_2, *_TABLE_8, *_TABLE_9) for row in line)

# The names are those of VQA-RAD's own columns.
KINDS: tuple[KindRow, ...] = (
    KindRow(3, _EM, "phrase_type", "freeform", Score(72.7)),
    KindRow(3, _HUMAN, "phrase_type", "freeform", Score(81.5, 1.8)),
    KindRow(3, _GPT4, "phrase_type", "freeform", Score(80.8, 0.6)),
    *(
        KindRow(4, evaluation, "image_organ", organ, score)
        for evaluation, scores in (
            (_EM, (Score(81.0), Score(79.0), Score(72.2))),
            (_HUMAN, (Score(86.4, 1.0), Score(85.4, 2.8), Score(79.4, 1.9))),
            (_GPT4, (Score(87.4, 0.0), Score(86.8, 1.3), Score(79.3, 0.7))),
        )
        for organ, score in zip(("CHEST", "HEAD", "ABD"), scores, strict=True)
    ),
)

REPORTS: tuple[ReportRow, ...] = (
    ReportRow(5, "PPKED", "non-LLM", None, 0.376, 0.351),
    ReportRow(5, "ITHN", "non-LLM", 0.210, None, 0.495),
    ReportRow(5, "VLCL", "non-LLM", 0.204, 0.397, 0.456),
    ReportRow(5, "R2Gen", "non-LLM", 0.211, 0.377, 0.438),
    ReportRow(5, "BiomedGPT", "LLM", 0.146, 0.302, 0.360),
    ReportRow(5, "PeFoMed", "LLM", 0.157, 0.286, 0.462, (True, True)),
    ReportRow(10, "PeFoMed", "LLM", 0.059, 0.089, 0.007, (False, False)),
    ReportRow(10, "PeFoMed", "LLM", 0.153, 0.247, 0.124, (True, False)),
    ReportRow(10, "PeFoMed", "LLM", 0.146, 0.295, 0.393, (False, True)),
    ReportRow(10, "PeFoMed", "LLM", 0.157, 0.286, 0.462, (True, True)),
)


def _levels(*printed: Printed) -> tuple[Score, ...]:
    return tuple(score for score in map(_score, printed) if score is not None)


_HUMAN_LEVELS = _levels((7.75, 5.55), (23.38, 12.81), (21.88, 5.64), (29.13, 14.73), (17.25, 11.07))
_GPT4_LEVELS = _levels((2.80, 0.63), (7.80, 1.62), (17.10, 1.91), (22.60, 5.36), (48.70, 2.54))
LIKERT: tuple[LikertRow, ...] = (
    LikertRow(6, _HUMAN, 100, _HUMAN_LEVELS, "per cent", Score(2.24, 0.42)),
    LikertRow(6, _GPT4, 100, _GPT4_LEVELS, "per cent", Score(3.08, 0.03)),
    LikertRow(7, _GPT4, IU_XRAY_TEST, _levels(22, 118, 267, 449, 324), "reports", Score(2.79)),
    LikertRow(11, _GPT4, IU_XRAY_TEST, _levels(1048, 79, 33, 20, 0), "reports", Score(0.17), (False, False)),
    LikertRow(11, _GPT4, IU_XRAY_TEST, _levels(51, 170, 192, 318, 449), "reports", Score(2.80), (True, False)),
    LikertRow(11, _GPT4, IU_XRAY_TEST, _levels(39, 125, 193, 447, 376), "reports", Score(2.84), (False, True)),
    LikertRow(11, _GPT4, IU_XRAY_TEST, _levels(22, 118, 267, 449, 324), "reports", Score(2.79), (True, True)),
)
