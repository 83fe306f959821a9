"""BLEU, ROUGE-L, CIDEr and METEOR of generated texts, as pycocoevalcap computes them.

    scores = score_corpus(["the lungs are clear"], [["lungs clear", "no acute disease"]])
    scores.corpus["rouge_l"], scores.items["rouge_l"]

pycocoevalcap's own classes give every score but METEOR's (see `meteor`). BLEU's corpus score comes from counts summed
over the texts; ROUGE-L's and CIDEr's are means over the texts. CIDEr weighs words by how few documents hold them, so
it depends on a collection of documents: the references themselves unless another is given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pefomed.metrics.meteor import meteor_scores, meteor_statistics, packaged, run_java

BLEU_KEYS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
# Where Java or the tokenizer would begin a new line, and a character that it cannot read.
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029\x00]")


@dataclass(frozen=True)
class CorpusScores:
    """Scores of texts, and what the corpus scores of BLEU and METEOR are made of.

    Attributes:
        corpus: Scores of all texts together, by bleu_1 .. bleu_4, meteor_java15, rouge_l and cider; 0 to 1, cider 0
            to 10.
        items: The score of each text, shape (n,), by the same keys.
        n: Number of texts.
        statistics: Counts that add up: "bleu" (n, 10) for `bleu_scores` and "meteor" (n, 23) for `meteor_scores`.
    """

    corpus: dict[str, float]
    items: dict[str, np.ndarray]
    n: int
    statistics: dict[str, np.ndarray] = field(repr=False)


def score_corpus(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    ptb: bool = True,
    meteor: bool = True,
    as_is: bool = False,
    documents: Sequence[Sequence[str]] | None = None,
) -> CorpusScores:
    """Score texts against their references by BLEU-1 to 4, METEOR 1.5, ROUGE-L and CIDEr.

    An empty text has one empty word for ROUGE-L, as in pycocoevalcap: against an empty reference it scores 1.

    Args:
        candidates: Generated texts, n of them.
        references: The true texts of each, at least one each; their numbers may differ.
        ptb: Tokenise both sides by the Penn Treebank rules, in lower case and without punctuation, as pycocoevalcap's
            evaluation does. Otherwise both sides are lower-cased and split at white space.
        meteor: Compute METEOR, too, which takes most of the time and 2 GB of memory.
        as_is: Change nothing in the texts but what METEOR itself does, for texts tokenised elsewhere; not with `ptb`.
            Blanks then count: two in a row hold an empty word for ROUGE-L.
        documents: What CIDEr counts documents in, each the references of one item; None: `references`.

    Raises:
        FileNotFoundError: Java is missing, though `ptb` or `meteor` need it.
        OSError: Java failed or took too long.
        ValueError: There are no texts, their numbers differ, an item has no reference, or `ptb` and `as_is` are both
            given.
    """
    _check(candidates, references, ptb, as_is, documents)
    flat = [list(candidates), *map(_flatten, (references, documents or []))]
    spoken, told, counted = [tokenise(texts, ptb=ptb, as_is=as_is) for texts in flat]
    told = _grouped_like(references, told)
    counted = told if documents is None else _grouped_like(documents, counted)
    with ThreadPoolExecutor(max_workers=1) as beside:
        # Java starts first and works while Python counts.
        running = beside.submit(meteor_statistics, spoken, told) if meteor else None
        return _scores(spoken, told, counted, running)


def tokenise(texts: Sequence[str], *, ptb: bool = True, as_is: bool = False) -> list[str]:
    """Bring texts into the form in which words are what single blanks separate.

    Args:
        texts: Texts, n of them.
        ptb: By the Penn Treebank rules, in lower case, without punctuation; otherwise lower-cased and split at white
            space.
        as_is: Without `ptb`: return the texts as they are.

    Returns:
        Tokenised texts, n of them.

    Raises:
        FileNotFoundError: `ptb` is asked for and Java is missing.
        OSError: Java failed or took too long.
    """
    if not ptb or not texts:
        return list(texts) if as_is else [" ".join(text.lower().split()) for text in texts]
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    jar = str(packaged("pycocoevalcap", "tokenizer", "stanford-corenlp-3.4.1.jar"))
    command = ["-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = "".join(_LINE_BREAKS.sub(" ", text) + "\n" for text in texts)
    output = run_java(command, "PTB tokenizer", 300 + 0.1 * len(texts), lines.encode("utf-8", "replace"))
    found = output.removesuffix("\n").split("\n")
    if len(found) != len(texts):
        raise OSError(
            f"PTB tokenizer: Java gave {len(found)} lines for {len(texts)} texts; report this with the texts"
        )
    return [" ".join(word for word in line.rstrip().split(" ") if word not in PUNCTUATIONS) for line in found]


def bleu_scores(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 from counts.

    Args:
        statistics: Counts, shape (m, 10), each row those of one text or the sum over texts: length of the text, of the
            closest reference, runs of one to four words in the text, and how many of them a reference holds.

    Returns:
        Scores from 0 to 1, shape (m, 4).
    """
    # pycocoevalcap's guards against division by zero, which show in the ninth digit.
    length, reference = statistics[:, 0] + 1e-15, statistics[:, 1] + 1e-9
    precisions = (statistics[:, 6:10] + 1e-15) / (statistics[:, 2:6] + 1e-9)
    brevity = np.exp(np.minimum(0.0, 1.0 - reference / length))
    return np.cumprod(precisions, axis=1) ** (1 / np.arange(1, 5)) * brevity[:, None]


def _scores(
    spoken: list[str], told: list[list[str]], counted: list[list[str]], running: Future[np.ndarray] | None
) -> CorpusScores:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.rouge.rouge import Rouge

    bleu, rouge = BleuScorer(n=4), Rouge()
    for text, references in zip(spoken, told, strict=True):
        bleu += (text, references)
    whole, single = bleu.compute_score(option="closest", verbose=0)
    corpus = dict(zip(BLEU_KEYS, map(float, whole), strict=True))
    items = {key: np.array(values) for key, values in zip(BLEU_KEYS, single, strict=True)}
    statistics = {"bleu": np.array([_bleu_counts(counts) for counts in bleu.ctest], dtype=np.float64)}
    items["rouge_l"] = np.array([rouge.calc_score([text], refs) for text, refs in zip(spoken, told, strict=True)])
    items["cider"] = _cider(spoken, told, counted)
    corpus["rouge_l"] = float(items["rouge_l"].mean())
    # Summed one by one, and not in pairs as numpy's mean: published scores agree so in all 16 digits.
    corpus["cider"] = float(np.cumsum(items["cider"])[-1] / len(spoken))
    if running is not None:
        statistics["meteor"] = running.result()
        items["meteor_java15"] = meteor_scores(statistics["meteor"])
        corpus["meteor_java15"] = float(meteor_scores(statistics["meteor"].sum(axis=0, keepdims=True))[0])
    return CorpusScores(corpus, items, len(spoken), statistics)


def _bleu_counts(counts: dict) -> list[float]:
    length = counts["testlen"]
    closest = min((abs(reference - length), reference) for reference in counts["reflen"])[1]
    return [length, closest, *counts["guess"], *counts["correct"]]


def _cider(spoken: list[str], told: list[list[str]], counted: list[list[str]]) -> np.ndarray:
    """CIDEr-D of each text, with document frequencies from `counted`."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_refs

    scorer = CiderScorer(n=4, sigma=6.0)
    scorer.crefs = [cook_refs(document) for document in counted]
    scorer.compute_doc_freq()
    frequencies, scores = scorer.document_frequency, []
    for start in range(0, len(spoken), len(counted)):
        part = slice(start, start + len(counted))
        scorer = CiderScorer(n=4, sigma=6.0)
        scorer.document_frequency = frequencies
        for text, references in zip(spoken[part], told[part], strict=True):
            scorer += (text, references)
        # The scorer takes the number of its references for that of documents, and scores as many as it has texts.
        scorer.crefs += [[]] * (len(counted) - len(scorer.crefs))
        scores += scorer.compute_cider()
    return np.array(scores, dtype=np.float64)


def _flatten(texts: Sequence[Sequence[str]]) -> list[str]:
    return [text for group in texts for text in group]


def _grouped_like(groups: Sequence[Sequence[str]], texts: list[str]) -> list[list[str]]:
    left = iter(texts)
    return [[next(left) for _ in group] for group in groups]


def _check(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    ptb: bool,
    as_is: bool,
    documents: Sequence[Sequence[str]] | None,
) -> None:
    if ptb and as_is:
        raise ValueError("ptb and as_is are both given; the PTB tokenizer changes the texts, so choose one")
    if not candidates:
        raise ValueError("there are no texts to score; give at least one")
    if len(candidates) != len(references):
        raise ValueError(f"there are {len(candidates)} texts but references for {len(references)}; give each its own")
    if documents is not None and not documents:
        raise ValueError("documents is empty; CIDEr needs at least one document, or None for the references")
    for name, groups in (("references", references), ("documents", documents or [])):
        for number, group in enumerate(groups, start=1):
            if isinstance(group, str) or not group:
                raise ValueError(f"{name}, item {number}: found {group!r}; give a list of at least one text")
