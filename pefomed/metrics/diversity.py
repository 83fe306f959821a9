"""How alike generated reports are, and how many of them tell only normal findings.

    scores = diversity_scores("run/predictions.jsonl")
    scores["distinct"]["prediction"], scores["normal"]["given_where_abnormal"]

A model that gives nearly everybody the same normal report can win by lexical scores. What it does shows here, each
time beside the same count for the true texts, because these repeat one another too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.disclosure import CREDENTIALED_DATASETS
from pefomed.metrics.bootstrap import cluster_bootstrap, cluster_of
from pefomed.metrics.repetition import SIDES, words
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
#: Stands in every result; whoever changes one of the lists below gives the rule another name.
NORMAL_RULE = "english_radiology_1"

NORMAL_PHRASES = (
    *("within normal limits", "normal", "unremarkable", "clear", "intact", "negative", "midline"),
    *("well expanded", "well inflated", "well aerated"),
)
DENIALS = ("no", "not", "without", "negative for", "clear of", "free of", "free from", "absence of")
#: What denies nothing: with "no change" what was there is there still, and "without contrast" is how one looked.
NO_DENIALS = (
    r"(?:(?:acute|interval|significant|significantly|appreciable|definite|substantial) )*changed?s?\b|contrast\b"
)
#: A denial reaches as far as one of these, or to the end of its sentence. "the" and "there" begin a new statement in
#: texts that lost their punctuation.
DENIAL_ENDS = (
    *("but", "however", "except", "although", "though", "other than", "aside from", "apart from", "which"),
    *("showing", "shows", "the", "there"),
)
#: Beginnings of words that tell a finding, a device or an operation where they are not denied.
FINDING_STEMS = (
    *("abnormal", "adenopathy", "ascites", "atelecta", "bleed", "blunt", "calcif", "catheter", "clip", "congest"),
    *("consol", "cyst", "deform", "degenerat", "device", "dilat", "disease", "edema", "effusion", "elevat"),
    *("emphysem", "enlarg", "fibro", "flatten", "fractur", "granulom", "haemorrh", "hemorrh", "hernia", "hyperexp"),
    *("hydro", "hyperinfl", "hyperlucen", "hypoinfl", "infarct", "infiltrat", "kypho", "large", "lesion", r"low\b"),
    *("lucen", "mass", "metasta", "mild", "moderate", "nodul", "oedema", "opaci", "osteop", "otherwise", "pacemaker"),
    *("pneumonia", "pneumothora", "prominen", "scar", "sclero", "scolio", "small", "spondyl", "stenosis"),
    *("sternotomy", "stone", "surg", "suspicious", "thicken", "tortuo", "tube", "tumo"),
)
#: A sentence with one of these tells how the picture was taken, unless it tells a finding or something normal too.
EXAMINATION_WORDS = (
    *("comparison", "ct", "examination", "film", "films", "image", "images", "mri", "radiograph", "radiographs"),
    *("scan", "ultrasound", "view", "views", "x-ray"),
)

_SENTENCE_END = re.compile(r"[.!?;]+(?=\s|$)|\n")
_DENIED = re.compile(rf"\b(?:{'|'.join(DENIALS)})\b(?! (?:{NO_DENIALS})).*?(?=\b(?:{'|'.join(DENIAL_ENDS)})\b|$)")
_NORMAL = re.compile(rf"\b(?:{'|'.join(NORMAL_PHRASES)})\b")
_FINDING = re.compile(rf"\b(?:\w*megaly|{'|'.join(FINDING_STEMS)})")
_EXAMINATION = re.compile(rf"\b(?:{'|'.join(EXAMINATION_WORDS)})\b")


def diversity_scores(predictions: str | Path | list[Row], n_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Distinct reports and sentences, the most frequent report, and normal templates.

    Texts and sentences are equal if their words are: letter case and punctuation do not count.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n` (texts) and, each as {"prediction", "answer"}:
        `distinct`, number of different texts, and `distinct_share`, the same in per cent of all;
        `shared`, per cent of texts that equal another one of the same side;
        `most_frequent`, {"text", "sha256", "count", "share"}: the first of the most frequent texts as it was first
        written; `text` is None if any row is of a credentialed data set, `share` is in per cent;
        `sentences`, number of sentences, and `distinct_sentences`, number of different ones.
        `normal` is {"rule": name of the rule, "prediction", "answer": per cent of texts that tell only normal
        findings (see `tells_only_normal`), "given_where_abnormal": per cent of normal predictions where the true text
        is not, None if all are, "n_abnormal": number of true texts that are not, "ci95": 95 % intervals of the three}.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no rows, or one is malformed.
    """
    rows = predictions if isinstance(predictions, list) else read_predictions(predictions)
    if not rows:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(rows, "predictions" if isinstance(predictions, list) else str(predictions))
    keys = {side: [" ".join(words(row[side])) for row in rows] for side in SIDES}
    counts = {side: Counter(keys[side]) for side in SIDES}
    told = {side: [sentence for row in rows for sentence in sentences(row[side])] for side in SIDES}
    return {
        "n": len(rows),
        "distinct": {side: len(counts[side]) for side in SIDES},
        "distinct_share": {side: 100.0 * len(counts[side]) / len(rows) for side in SIDES},
        "shared": {side: 100.0 * sum(c for c in counts[side].values() if c > 1) / len(rows) for side in SIDES},
        "most_frequent": {side: _most_frequent(rows, side, keys[side], counts[side]) for side in SIDES},
        "sentences": {side: len(told[side]) for side in SIDES},
        "distinct_sentences": {side: len(set(told[side])) for side in SIDES},
        "normal": _normal(rows, n_resamples, seed),
    }


def sentences(text: str) -> list[str]:
    """The sentences of a text that hold a word, in lower case, without punctuation, their words one blank apart."""
    return [" ".join(spoken) for spoken in map(words, _SENTENCE_END.split(text)) if spoken]


def tells_only_normal(text: str) -> bool:
    """Whether an English radiology report tells nothing but normal findings.

    Every sentence must hold a denial ("no effusion") or a normal phrase ("the lungs are clear"), and none a word of a
    finding outside the reach of a denial. Sentences about the examination ("two views of the chest") do not matter,
    nor does "xxxx", which stands for what was made anonymous. The rule knows words, not medicine: a finding beyond its
    list passes if a normal phrase stands beside it, and a normal sentence in unusual words makes a report abnormal.

    Args:
        text: A report or caption, generated or true.

    Returns:
        False for a text without a sentence that tells something normal, such as an empty one.
    """
    any_normal = False
    for sentence in sentences(text):
        # Two words of seen reports are one there: "xxxx" hides any word, and never a denial.
        plain = re.sub(r"\bx{4,}\b ?", "", sentence).strip()
        asserted = _DENIED.sub(" ", plain)
        if _FINDING.search(asserted):
            return False
        if asserted != plain or _NORMAL.search(plain):
            any_normal = True
        elif plain and not _EXAMINATION.search(plain):
            return False
    return any_normal


def first_of_groups(rows: list[Row]) -> list[Row]:
    """The first row of every group, as `caption_scores` takes them with `one_per_group`, in their order."""
    firsts: dict[Hashable, Row] = {}
    for row in rows:
        firsts.setdefault(cluster_of(row), row)
    return list(firsts.values())


def shown_text(text: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
    """A text as a result may hold it: in full, or only its hash if any row is of a credentialed data set.

    Args:
        text: A text out of `rows`.
        rows: Rows of the schema or of a predictions file.

    Returns:
        `{"text": the text or None, "sha256": 64 hexadecimal digits of its UTF-8 bytes}`.
    """
    hidden = any(row.get("dataset") in CREDENTIALED_DATASETS for row in rows)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"text": None if hidden else text, "sha256": digest}


def _most_frequent(rows: list[Row], side: str, keys: list[str], counts: Counter[str]) -> dict[str, Any]:
    key, count = counts.most_common(1)[0]
    text = rows[keys.index(key)][side]
    return {**shown_text(text, rows), "count": count, "share": 100.0 * count / len(rows)}


def _normal(rows: list[Row], n_resamples: int, seed: int) -> dict[str, Any]:
    clusters = [cluster_of(row) for row in rows]
    normal = {side: np.array([100.0 * tells_only_normal(row[side]) for row in rows]) for side in SIDES}
    abnormal = np.flatnonzero(normal["answer"] == 0.0)
    members = {side: np.arange(len(rows)) for side in SIDES} | {"given_where_abnormal": abnormal}
    result: dict[str, Any] = {"rule": NORMAL_RULE, "n_abnormal": len(abnormal), "ci95": {}}
    for name, numbers in members.items():
        values = normal["answer" if name == "answer" else "prediction"][numbers]
        interval = cluster_bootstrap(values, [clusters[number] for number in numbers], n_resamples, seed)
        result[name] = float(values.mean()) if len(values) else None
        result["ci95"][name] = interval.to_json()
    return result
