"""METEOR, ROUGE-L, CIDEr and BLEU of generated reports and captions, with 95 % intervals.

    scores = caption_scores("run/predictions.jsonl")
    print(format_caption_scores(scores))

Scores are in pycocoevalcap's units, 0 to 1 and CIDEr 0 to 10. They depend on the tokenisation, on cut references, on
one view or two of a study, and CIDEr on its documents: all of that stands in `settings`. An interval is `[low, high]`,
or None with a single cluster. Rows are clustered by `group` (within their data set), one without being its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pefomed.data.text import clean_caption
from pefomed.metrics.bootstrap import Interval, cluster_bootstrap, cluster_of
from pefomed.metrics.coco import BLEU_KEYS, CorpusScores, bleu_scores, score_corpus
from pefomed.metrics.meteor import meteor_scores
from pefomed.metrics.sample_size import ENOUGH_CLUSTERS
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
TASKS = ("report", "caption")
KEYS = ("meteor_java15", "rouge_l", "cider", *BLEU_KEYS)
_NAMES = ("METEOR 1.5", "ROUGE-L", "CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")


def caption_scores(
    predictions: str | Path | list[Row],
    *,
    ptb: bool = True,
    meteor: bool = True,
    as_is: bool = False,
    cut_references: int = 0,
    one_per_group: bool = False,
    corpus: str | Path = "",
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Lexical scores of generated reports or captions.

    A row's reference is its `answer`, or each of its `references` if it has that key (a list of texts).

    The intervals of ROUGE-L and CIDEr resample the texts' scores. Those of BLEU and METEOR resample the texts' counts
    and compute the corpus score from their sums, as the score itself is. CIDEr's document frequencies stay as they
    are in all resamples.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        ptb: Tokenise by the Penn Treebank rules, as pycocoevalcap's evaluation does. Otherwise texts are lower-cased
            and split at white space. See `score_corpus`.
        meteor: Compute METEOR; otherwise it is None.
        as_is: Leave the texts as they are, for texts tokenised elsewhere; not with `ptb`.
        cut_references: Clean the references as the published code cleans its training targets (lower case, .!"()*#:;~
            become blanks) and keep so many words of them, 50 in that code; 0 leaves them whole, as its evaluation
            does. The documents of `corpus` are treated alike.
        one_per_group: Score only the first row of each group, as where a study has one row per view.
        corpus: A file of JSON lines with `answer` or `references`, such as another predictions.jsonl, each line one of
            the documents that CIDEr counts words in; "": the references scored.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.

    Returns:
        `n` (texts), the scores `meteor_java15`, `rouge_l`, `cider` and `bleu_1` to `bleu_4`, `ci95` (the same keys),
        `settings` (all that the numbers depend on), and `warning` where there is something to be wary of. Made of
        plain dicts, lists, numbers, strings and None, ready for `files.write_json`.

    Raises:
        FileNotFoundError: There is no such file, or Java is missing.
        OSError: Java failed or took too long.
        ValueError: There are no rows, one is malformed or neither report nor caption, or a parameter is out of range.
    """
    for name, value, least in (("cut_references", cut_references, 0), ("n_resamples", n_resamples, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    given = predictions if isinstance(predictions, list) else read_predictions(predictions)
    check_text_rows(given, "predictions" if isinstance(predictions, list) else str(predictions))
    rows = _first_of_each_group(given) if one_per_group else given
    references = [references_of(row, cut_references) for row in rows]
    documents = read_documents(Path(corpus), cut_references) if corpus != "" else None
    scored = score_corpus(
        [row["prediction"] for row in rows], references, ptb=ptb, meteor=meteor, as_is=as_is, documents=documents
    )
    clusters = [cluster_of(row) for row in rows]
    numbers = [len(texts) for texts in references]
    settings = {
        "tokenisation": "ptb" if ptb else "as it is" if as_is else "lower case, split at white space",
        "references_per_text": [min(numbers), max(numbers)],
        "cut_references": cut_references,
        "one_per_group": one_per_group,
        "rows_left_out": len(given) - len(rows),
        "clusters": len(set(clusters)),
        "corpus": str(corpus),
        "documents": len(rows if documents is None else documents),
        "n_resamples": n_resamples,
        "seed": seed,
        "pycocoevalcap": version("pycocoevalcap"),
    }
    result = {"n": scored.n} | {key: scored.corpus.get(key) for key in KEYS}
    result |= {"ci95": _intervals(scored, clusters, n_resamples, seed), "settings": settings}
    warning = _warning(settings)
    return result | ({"warning": warning} if warning else {})


def format_caption_scores(scores: dict[str, Any]) -> str:
    """Lay out what `caption_scores` returns as a plain-text table.

    Args:
        scores: The result of `caption_scores`.

    Returns:
        A line per score with its interval, then the settings that matter most and the warning, if any.
    """
    settings = scores["settings"]
    lines = [f"{'texts: ' + str(scores['n']):<16}{'score':>7}  95 % interval"]
    for key, name in zip(KEYS, _NAMES, strict=True):
        value, ci95 = scores[key], scores["ci95"][key]
        interval = f"  [{ci95[0]:.4f}, {ci95[1]:.4f}]" if ci95 else ""
        lines.append(f"{name:<16}{'-' if value is None else f'{value:.4f}':>7}{interval}")
    cut = settings["cut_references"]
    source = settings["corpus"] or "the references"
    lines.append(
        f"tokens: {settings['tokenisation']}; references: {f'first {cut} words' if cut else 'whole'}; "
        f"one text per group: {'yes' if settings['one_per_group'] else 'no'}; "
        f"clusters: {settings['clusters']}; CIDEr's documents: {settings['documents']} of {source}"
    )
    return "\n".join([*lines, *([f"warning: {scores['warning']}"] if "warning" in scores else [])])


def check_text_rows(rows: list[Row], source: str) -> None:
    if not rows:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(rows, source)
    for number, row in enumerate(rows, start=1):
        where = f"{source}, row {number}"
        if row["task"] not in TASKS:
            raise ValueError(f"{where}: task {row['task']!r} is no 'report' or 'caption'; leave other tasks out")
        _check_references(row, where)


def _first_of_each_group(rows: list[Row]) -> list[Row]:
    first: dict[Hashable, Row] = {}
    for row in rows:
        first.setdefault(cluster_of(row), row)
    return list(first.values())


def _check_references(row: Row, where: str) -> None:
    texts = row.get("references")
    if texts is not None and not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(
            f"{where}: 'references' is {texts!r:.60}; it must be a list of at least one text, or left out"
        )


def references_of(row: Row, cut: int) -> list[str]:
    texts = row.get("references") or [row["answer"]]
    return [clean_caption(text, cut) for text in texts] if cut else list(texts)


def read_documents(path: Path, cut: int) -> list[list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; corpus must be a file of JSON lines with 'answer'")
    documents = []
    # Line ends only: other breaks, such as U+2028, may stand inside a JSON text.
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError as error:  # not JSON, or not UTF-8
            raise ValueError(f"{where}: not JSON in UTF-8; write one object with 'answer' per line") from error
        if not isinstance(row, dict) or not (isinstance(row.get("answer"), str) or row.get("references")):
            raise ValueError(f"{where}: no text 'answer'; write one object with 'answer' per line")
        _check_references(row, where)
        documents.append(references_of(row, cut))
    return documents


def _intervals(scored: CorpusScores, clusters: list[Hashable], n_resamples: int, seed: int) -> dict[str, Any]:
    ci95: dict[str, list[float] | None] = dict.fromkeys(KEYS)
    if "meteor" in scored.statistics:
        meteor = _sums_bootstrap(scored.statistics["meteor"], clusters, meteor_scores, n_resamples, seed)
        ci95["meteor_java15"] = meteor[0].to_json()
    for key in ("rouge_l", "cider"):
        ci95[key] = cluster_bootstrap(scored.items[key], clusters, n_resamples, seed).to_json()
    bleu = _sums_bootstrap(scored.statistics["bleu"], clusters, bleu_scores, n_resamples, seed)
    return ci95 | {key: interval.to_json() for key, interval in zip(BLEU_KEYS, bleu, strict=True)}


def _sums_bootstrap(
    statistics: np.ndarray,
    clusters: list[Hashable],
    score: Callable[[np.ndarray], np.ndarray],
    n_resamples: int,
    seed: int,
) -> list[Interval]:
    """Percentile intervals of scores that are functions of summed counts, resampling clusters.

    Args:
        statistics: Counts of each text, shape (n, k).
        clusters: A label per text.
        score: Turns sums (m, k) into scores (m,) or (m, number of scores).
    """
    number_of: dict[Hashable, int] = {}
    membership = [number_of.setdefault(label, len(number_of)) for label in clusters]
    sums = np.zeros((len(number_of), statistics.shape[1]))
    np.add.at(sums, membership, statistics)
    generator = np.random.default_rng(seed)
    drawn = np.empty((n_resamples, statistics.shape[1]))
    for number in range(n_resamples):
        times = np.bincount(generator.integers(len(sums), size=len(sums)), minlength=len(sums))
        drawn[number] = times @ sums
    scores = score(drawn).reshape(n_resamples, -1)
    if len(sums) < 2:
        return [Interval(float("nan"), float("nan"))] * scores.shape[1]
    low, high = np.percentile(scores, [2.5, 97.5], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _warning(settings: dict[str, Any]) -> str:
    warnings = []
    if settings["clusters"] < ENOUGH_CLUSTERS:
        warnings.append(
            f"only {settings['clusters']} independent texts or groups: below {ENOUGH_CLUSTERS} the intervals are too "
            "narrow, and one text more or less moves the scores"
        )
    if settings["documents"] < 2:
        warnings.append("CIDEr over one document is 0 whatever the text: give a corpus or more texts")
    return "; ".join(warnings)
