"""Lexical scores of one text given for every picture, for many such texts.

    references = prepare([["no effusion"], ["the heart is enlarged", "cardiomegaly"]])
    scores_of_constants(["no effusion", "cardiomegaly"], references)

BLEU, ROUGE-L and CIDEr are those of `coco.score_corpus`, to the last digits. Hundreds of texts take the time that one
takes there, because the references are turned round once, from texts with n-grams to n-grams with texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pefomed.metrics.coco import BLEU_KEYS, bleu_scores

ORDERS = (1, 2, 3, 4)
# The constants of pycocoevalcap: ROUGE-L's weight of recall, and the width of CIDEr's penalty for length.
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
# METEOR 1.5 for English: weight of recall, and the penalty for scattered matches.
_METEOR_ALPHA, _METEOR_BETA, _METEOR_GAMMA = 0.85, 0.2, 0.6
# One bit of each 64 takes the carry of an addition.
_BITS = 63
_ALL_ONES = np.uint64((1 << _BITS) - 1)
_TOGETHER = 32

Gram = tuple[str, ...]


@dataclass(frozen=True)
class References:
    """The true texts as arrays that one candidate after the other is held against; a picture has one text or more.

    Attributes:
        starts: Number of each picture's first text, shape (pictures,).
        shares: One over the number of texts of its picture, for each text, shape (n,).
        lengths: Words of each text, shape (n,).
        parts: What splitting at blanks gives of each, shape (n,): the words, or 1 for an empty text.
        postings: For every n-gram the texts that hold it, and how often each does.
        most: For every n-gram the pictures with a text that holds it: how often that one does which holds it most.
        idf: For every n-gram the logarithm of the number of documents over those that hold it.
        rare: The same of an n-gram that no document holds.
        norms: Length of each text's tf-idf vector by order, shape (4, n).
        numbers: A number above 0 for every word.
        columns: `columns[j]`: the numbers of the words at position j in the texts longer than that, these being the
            first ones of `order`.
        order: The texts from the longest to the shortest, shape (n,).
    """

    starts: np.ndarray
    shares: np.ndarray
    lengths: np.ndarray
    parts: np.ndarray
    postings: dict[Gram, tuple[np.ndarray, np.ndarray]]
    most: dict[Gram, np.ndarray]
    idf: dict[Gram, float]
    rare: float
    norms: np.ndarray
    numbers: dict[str, int]
    columns: list[np.ndarray]
    order: np.ndarray


def prepare(groups: Sequence[Sequence[str]], documents: Sequence[Sequence[str]] | None = None) -> References:
    """Turn the references round.

    Args:
        groups: The tokenised references of each picture, words one blank apart; at least one picture and text.
        documents: What CIDEr counts documents in, in the same form; None: `groups`.
    """
    texts = [text for group in groups for text in group]
    sizes = np.array([len(group) for group in groups])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    counts = [_all_grams(text) for text in texts]
    postings: dict[Gram, tuple[list[int], list[int]]] = {}
    for number, found in enumerate(counts):
        for gram, count in found.items():
            rows, held = postings.setdefault(gram, ([], []))
            rows.append(number)
            held.append(count)
    most: dict[Gram, list[int]] = {}
    for start, size in zip(starts, sizes, strict=True):
        highest = counts[start] if size == 1 else _highest(counts[start : start + size])
        for gram, count in highest.items():
            most.setdefault(gram, []).append(count)
    holding = {gram: len(found) for gram, found in most.items()}
    if documents is not None:
        holding = Counter(gram for group in documents for gram in _highest([_all_grams(text) for text in group]))
    rare = math.log(len(groups if documents is None else documents))
    idf = {gram: rare - math.log(count) for gram, count in holding.items()}
    numbers, columns, order = _columns([text.split(" ") for text in texts])
    return References(
        starts=starts,
        shares=np.repeat(1 / sizes, sizes),
        lengths=np.array([len(text.split()) for text in texts]),
        parts=np.array([len(text.split(" ")) for text in texts]),
        postings={gram: (np.array(rows), np.array(held)) for gram, (rows, held) in postings.items()},
        most={gram: np.array(found) for gram, found in most.items()},
        idf=idf,
        rare=rare,
        norms=np.array([_norms(found, idf, rare) for found in counts]).T,
        numbers=numbers,
        columns=columns,
        order=order,
    )


def scores_of_constants(texts: Sequence[str], references: References) -> list[dict[str, float]]:
    """BLEU-1 to 4, ROUGE-L and CIDEr of each text, were it given for every picture.

    Args:
        texts: Tokenised candidates, words one blank apart.
        references: What `prepare` made of the references.

    Returns:
        The scores by `bleu_1` to `bleu_4`, `rouge_l` and `cider`, for each text.
    """
    rouge = rouge_l_of_constants(texts, references)
    scores = []
    for text, value in zip(texts, rouge, strict=True):
        counts = _all_grams(text)
        bleu = bleu_scores(_bleu_counts(text, counts, references)[None])[0]
        scores.append(
            dict(zip(BLEU_KEYS, map(float, bleu), strict=True))
            | {"rouge_l": float(value), "cider": _cider(text, counts, references)}
        )
    return scores


def likeness(text: str, references: References) -> tuple[float, float]:
    """Two quick scores by which to choose the texts that are worth the slow ones.

    Returns:
        The mean over the references of the F1 of words, each counted as often as it stands in both; and METEOR's
        formula on the words and pairs of words that recur exactly, without stems, synonyms and paraphrases.
    """
    counts = _all_grams(text)
    words = {gram: count for gram, count in counts.items() if len(gram) == 1}
    rows, held, repeats, _ = _shared(words, references)
    length = len(text.split())
    shared = np.bincount(rows, np.minimum(repeats, held), minlength=len(references.lengths))
    f1 = float((2 * shared / np.maximum(references.lengths + length, 1)).mean())
    statistics = _bleu_counts(text, counts, references)
    hits, pairs = statistics[6], statistics[7]
    if not hits:
        return f1, 0.0
    # F of precision h/c and recall h/r, with the weight a on recall, is h / (a r + (1 - a) c).
    f_mean = hits / (_METEOR_ALPHA * max(statistics[1], 1.0) + (1 - _METEOR_ALPHA) * statistics[0])
    return f1, float(f_mean * (1 - _METEOR_GAMMA * ((hits - min(pairs, hits)) / hits) ** _METEOR_BETA))


def rouge_l_of_constants(texts: Sequence[str], references: References) -> np.ndarray:
    """ROUGE-L of each text, were it given for every picture, shape (number of texts,)."""
    scores = np.empty(len(texts))
    # Texts of like length go together, since the longest one decides how much work all of them make.
    by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(texts), _TOGETHER):
        chosen = by_length[start : start + _TOGETHER]
        parts = [texts[number].split(" ") for number in chosen]
        common = _common_lengths(parts, references)
        precision = np.maximum.reduceat(
            common / np.array([[len(words)] for words in parts]), references.starts, axis=1
        )
        recall = np.maximum.reduceat(common / references.parts, references.starts, axis=1)
        below = recall + _ROUGE_BETA**2 * precision
        f = np.divide((1 + _ROUGE_BETA**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
        scores[chosen] = f.mean(axis=1)
    return scores


def _common_lengths(texts: list[list[str]], references: References) -> np.ndarray:
    """Words in the longest common subsequence of each text with each reference, shape (texts, n).

    Whole columns of the usual table are the bits of numbers, a zero where the column grows by one, so that an addition
    does what a loop over a text's words would (Hyyro 2004, "Bit-parallel LCS-length computation revisited").
    """
    n, blocks = len(references.order), -(-max(map(len, texts)) // _BITS)
    masks = np.zeros((blocks, len(texts), len(references.numbers) + 1), dtype=np.uint64)
    for number, words in enumerate(texts):
        for position, word in enumerate(words):
            block, bit = divmod(position, _BITS)
            masks[block, number, references.numbers.get(word, 0)] |= np.uint64(1 << bit)
    state = np.full((blocks, len(texts), n), _ALL_ONES)
    for column in references.columns:
        carry = np.uint64(0)
        for block in range(blocks):
            before = state[block, :, : len(column)]
            same = before & masks[block][:, column]
            total = before + same + carry
            carry = total >> np.uint64(_BITS)
            state[block, :, : len(column)] = (total & _ALL_ONES) | (before - same)
    grown = np.unpackbits((state ^ _ALL_ONES).view(np.uint8), axis=2)
    lengths = np.empty((len(texts), n))
    lengths[:, references.order] = grown.reshape(blocks, len(texts), n, 64).sum(axis=(0, 3))
    return lengths


def _bleu_counts(text: str, counts: Counter[Gram], references: References) -> np.ndarray:
    """The counts that `bleu_scores` takes, shape (10,), summed over the pictures."""
    length, pictures = len(text.split()), len(references.starts)
    hits = dict.fromkeys(ORDERS, 0)
    for gram, count in counts.items():
        if gram in references.most:
            hits[len(gram)] += int(np.minimum(references.most[gram], count).sum())
    # The closest length, the shorter one of two: the distance decides, in the higher digits.
    far = int(references.lengths.max()) + 1
    keyed = np.abs(references.lengths - length) * far + references.lengths
    closest = np.minimum.reduceat(keyed, references.starts) % far
    runs = [pictures * max(0, length - order + 1) for order in ORDERS]
    return np.array([pictures * length, closest.sum(), *runs, *hits.values()], dtype=np.float64)


def _cider(text: str, counts: Counter[Gram], references: References) -> float:
    total = np.zeros(len(references.lengths))
    norms = _norms(counts, references.idf, references.rare)
    for order in ORDERS:
        rows, held, repeats, weights = _shared({g: c for g, c in counts.items() if len(g) == order}, references)
        products = np.bincount(rows, weights**2 * np.minimum(repeats, held) * held, minlength=len(total))
        below = norms[order - 1] * references.norms[order - 1]
        total += np.divide(products, below, out=np.zeros(len(total)), where=below != 0)
    # pycocoevalcap takes the number of pairs of words for the length.
    gaps = np.maximum(references.lengths - 1, 0) - max(len(text.split()) - 1, 0)
    total *= np.exp(-(gaps**2) / (2 * _CIDER_SIGMA**2)) * references.shares
    return 10.0 / len(ORDERS) * float(total.sum()) / len(references.starts)


def _shared(counts: dict[Gram, int], references: References) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For every n-gram of a text and every reference that holds it: the reference, how often it stands in that, how
    often in the text, and its weight."""
    known = [gram for gram in counts if gram in references.postings]
    if not known:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0)
    postings = [references.postings[gram] for gram in known]
    sizes = [len(rows) for rows, _ in postings]
    weights = [references.idf.get(gram, references.rare) for gram in known]
    rows, held = (np.concatenate([pair[side] for pair in postings]) for side in (0, 1))
    return rows, held, np.repeat([counts[gram] for gram in known], sizes), np.repeat(weights, sizes)


def _all_grams(text: str) -> Counter[Gram]:
    words = text.split()
    return Counter(gram for order in ORDERS for gram in zip(*(words[start:] for start in range(order)), strict=False))


def _highest(counts: Sequence[Counter[Gram]]) -> Counter[Gram]:
    """The highest count of each n-gram in any of the texts."""
    highest: Counter[Gram] = Counter()
    for found in counts:
        highest |= found
    return highest


def _norms(counts: Counter[Gram], idf: dict[Gram, float], rare: float) -> list[float]:
    squares = dict.fromkeys(ORDERS, 0.0)
    for gram, count in counts.items():
        squares[len(gram)] += (count * idf.get(gram, rare)) ** 2
    return [math.sqrt(value) for value in squares.values()]


def _columns(texts: list[list[str]]) -> tuple[dict[str, int], list[np.ndarray], np.ndarray]:
    numbers: dict[str, int] = {}
    spelt = [[numbers.setdefault(word, len(numbers) + 1) for word in words] for words in texts]
    order = sorted(range(len(spelt)), key=lambda number: -len(spelt[number]))
    columns, longer = [], order
    for position in range(len(spelt[order[0]])):
        longer = [number for number in longer if len(spelt[number]) > position]
        columns.append(np.array([spelt[number][position] for number in longer], dtype=np.int64))
    return numbers, columns, np.array(order)
