"""The best that one and the same text, given as the report of every picture, reaches by each lexical score.

    scores = constant_report_scores("run/predictions.jsonl")
    scores["cider"]["text"], scores["cider"]["scores"]["cider"]

Lexical scores reward a constant normal report, because most reports are normal. A model that does not score above the
best constant has shown nothing by that score. The constant is looked for among the true texts and chosen by its score
on them, so it bounds from above what any of these texts reaches; nobody without the true texts could have chosen it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.metrics.captions import KEYS, check_text_rows, read_documents, references_of
from pefomed.metrics.coco import tokenise
from pefomed.metrics.constant_scores import References, likeness, prepare, scores_of_constants
from pefomed.metrics.diversity import first_of_groups, shown_text
from pefomed.metrics.meteor import meteor_scores, meteor_statistics
from pefomed.predictions import read_predictions

Row = dict[str, Any]
METEOR = "meteor_java15"
CHOSEN_ON = "the scored references: an upper bound for these candidates"


def constant_report_scores(
    predictions: str | Path | list[Row],
    *,
    ptb: bool = True,
    meteor: bool = True,
    as_is: bool = False,
    cut_references: int = 0,
    one_per_group: bool = False,
    corpus: str | Path = "",
    training: str | Path = "",
    shortlist: int = 1000,
    finalists: int = 2,
) -> dict[str, Any]:
    """Find and score the best constant report for every lexical score.

    Candidates are the distinct true texts as they are scored, and those of a training file. The `shortlist` of them
    whose words overlap most with the references (mean F1 of words) is scored exactly by BLEU, ROUGE-L and CIDEr. For
    METEOR, which is slow, the `finalists` are the texts of the shortlist on which METEOR's formula is highest where
    only exact matches count; so a better one may be missed.

    Args:
        predictions: The path of a predictions.jsonl, or its rows; the predictions in it do not matter.
        ptb: As for `caption_scores`, like the four that follow.
        meteor: Also find the best constant by METEOR.
        as_is: See `caption_scores`.
        cut_references: See `caption_scores`; candidates are cut alike.
        one_per_group: See `caption_scores`.
        corpus: See `caption_scores`.
        training: A file of JSON lines with `answer` or `references`, whose texts are candidates, too; "" for none.
        shortlist: Number of candidates scored exactly.
        finalists: Number of candidates scored by METEOR.

    Returns:
        For each of `bleu_1` to `bleu_4`, `rouge_l`, `cider` and, with `meteor`, `meteor_java15` the constant that is
        best by it: {"text", "sha256", "chosen_by": this score, "chosen_on", "scores": all its scores in the units of
        `caption_scores` (METEOR's None unless it was a finalist), "n": pictures, "training": as given, "candidates",
        "shortlist", "finalists": how many there were}. `text` is None if any row is of a credentialed data set.

    Raises:
        FileNotFoundError: There is no such file, or Java is missing.
        OSError: Java failed or took too long.
        ValueError: There are no rows, one is malformed or neither report nor caption, or a parameter is out of range.
    """
    for name, value, least in (
        *(("cut_references", cut_references, 0), ("shortlist", shortlist, 1), ("finalists", finalists, 1)),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    given = predictions if isinstance(predictions, list) else read_predictions(predictions)
    check_text_rows(given, "predictions" if isinstance(predictions, list) else str(predictions))
    rows = first_of_groups(given) if one_per_group else given
    groups = [references_of(row, cut_references) for row in rows]
    documents = read_documents(Path(corpus), cut_references) if corpus != "" else []
    trained = read_documents(Path(training), cut_references) if training != "" else []
    owners = [*given, *(_datasets(Path(training)) if training != "" else [])]

    raw = [text for texts in (*groups, *trained, *documents) for text in texts]
    # All at once, because starting Java takes longer than its work.
    spoken = iter(tokenise(raw, ptb=ptb, as_is=as_is))
    told, taught, counted = (
        [[next(spoken) for _ in texts] for texts in part] for part in (groups, trained, documents)
    )
    references = prepare(told, counted or None)
    written: dict[str, str] = {}
    for text, original in zip((text for texts in (*told, *taught) for text in texts), raw, strict=False):
        written.setdefault(text, original)
    chosen = _shortlist(list(written), references, shortlist)
    tried = _meteor_finalists(chosen, references, finalists) if meteor else []
    with ThreadPoolExecutor(max_workers=1) as beside:
        # Java works while Python counts.
        running = beside.submit(_meteor, tried, told) if meteor else None
        scored = dict(zip(chosen, scores_of_constants(chosen, references), strict=True))
        for text, value in zip(tried, running.result() if running else [], strict=True):
            scored[text][METEOR] = value
    counts = {"n": len(rows), "candidates": len(written), "training": str(training), "shortlist": len(chosen)}
    counts["finalists"] = len(tried)
    return {key: _entry(key, scored, written, owners) | counts for key in KEYS if meteor or key != METEOR}


def _shortlist(candidates: Sequence[str], references: References, size: int) -> list[str]:
    if len(candidates) <= size:
        return list(candidates)
    overlap = {text: likeness(text, references)[0] for text in candidates}
    return sorted(candidates, key=lambda text: -overlap[text])[:size]


def _meteor_finalists(candidates: Sequence[str], references: References, number: int) -> list[str]:
    like = {text: likeness(text, references)[1] for text in candidates}
    return sorted(candidates, key=lambda text: -like[text])[:number]


def _meteor(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """METEOR of each text, were it given for every picture, by one Java process."""
    counts: dict[tuple[str, ...], int] = {}
    for group in references:
        counts[tuple(group)] = counts.get(tuple(group), 0) + 1
    pairs = [(text, group) for text in texts for group in counts]
    statistics = meteor_statistics([text for text, _ in pairs], [group for _, group in pairs])
    sums = np.einsum("tgs,g->ts", statistics.reshape(len(texts), len(counts), -1), np.array([*counts.values()], float))
    return [float(value) for value in meteor_scores(sums)]


def _entry(
    key: str, scored: Mapping[str, dict[str, float]], written: Mapping[str, str], owners: Sequence[Row]
) -> dict[str, Any]:
    best = max(scored, key=lambda text: scored[text].get(key, -1.0))
    scores = {name: scored[best].get(name) for name in KEYS}
    return {**shown_text(written[best], owners), "chosen_by": key, "chosen_on": CHOSEN_ON, "scores": scores}


def _datasets(path: Path) -> list[Row]:
    """The rows of a file that `read_documents` accepted, for whose texts may be shown."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
