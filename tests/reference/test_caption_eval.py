"""Every recorded caption score of the published code's evaluation, and published scores of another model."""

import json
import string

import numpy as np
import pytest

from pefomed.metrics.coco import score_corpus, tokenise
from pefomed.metrics.meteor import meteor_scores, meteor_statistics

FILE = "caption_eval.json"
KEYS = {
    **{f"Bleu_{n}": f"bleu_{n}" for n in (1, 2, 3, 4)},
    **{"METEOR": "meteor_java15", "ROUGE_L": "rouge_l", "CIDEr": "cider"},
}
TOLERANCE = dict.fromkeys(KEYS, 1e-9) | {"METEOR": 1e-6}


def listed(reference):
    return reference if isinstance(reference, list) else [reference]


@pytest.fixture(scope="module")
def recorded(record):
    return record.json(FILE)


def texts_of(recorded, part, first=None):
    items = recorded[part]["items"][:first]
    return [item["prediction"] for item in items], [listed(item["reference"]) for item in items]


@pytest.fixture(scope="module")
def whole(recorded):
    """The largest part, all at once as a user calls it; most tests take METEOR's counts from one more process."""
    return score_corpus(*texts_of(recorded, "all_items"))


@pytest.fixture(scope="module")
def other_counts(recorded):
    """METEOR's counts of the two other runs: several references with the PTB tokens, one without them."""
    several = recorded["multiple_references"]["items"]
    plain, told = texts_of(recorded, "all_items")
    counts = meteor_statistics(
        [item["ptb_prediction"] for item in several] + tokenise(plain, ptb=False),
        [item["ptb_reference"] for item in several] + [tokenise(texts, ptb=False) for texts in told],
    )
    return {"multiple_references": counts[: len(several)], "all_items": counts[len(several) :]}


def with_meteor(scores, counts):
    """(item scores, corpus scores) with METEOR from its counts."""
    corpus = float(meteor_scores(counts.sum(axis=0, keepdims=True))[0])
    return scores.items | {"meteor_java15": meteor_scores(counts)}, scores.corpus | {"meteor_java15": corpus}


def against(record, name, recorded_scores, ours):
    """Compares one score of each text, or of the corpus, under the name by which the summary calls it."""
    for theirs, key in KEYS.items():
        one = isinstance(recorded_scores, dict)
        values = recorded_scores[theirs] if one else [scores[theirs] for scores in recorded_scores]
        record.against(FILE, f"{name}/{theirs}", values, ours[key], 0.0, TOLERANCE[theirs])


@pytest.mark.parametrize("part", ["all_items", "multiple_references"])
def test_tokens(record, recorded, part):
    items = recorded[part]["items"]
    told = [text for item in items for text in listed(item["reference"])]
    assert tokenise([item["prediction"] for item in items]) == [item["ptb_prediction"] for item in items]
    assert tokenise(told) == [text for item in items for text in listed(item["ptb_reference"])]


def test_scores_with_ptb(record, recorded, whole):
    against(record, "all_items/items", [item["scores"] for item in recorded["all_items"]["items"]], whole.items)
    against(record, "all_items/corpus", recorded["all_items"]["corpus"], whole.corpus)


def test_scores_with_several_references(record, recorded, other_counts):
    part = recorded["multiple_references"]
    plain = score_corpus(*texts_of(recorded, "multiple_references"), meteor=False)
    items, corpus = with_meteor(plain, other_counts["multiple_references"])
    against(record, "multiple_references/items", [item["scores"] for item in part["items"]], items)
    against(record, "multiple_references/corpus", part["corpus"], corpus)


def test_scores_without_ptb(record, recorded, other_counts):
    part = recorded["all_items"]
    plain = score_corpus(*texts_of(recorded, "all_items"), ptb=False, meteor=False)
    items, corpus = with_meteor(plain, other_counts["all_items"])
    against(record, "all_items/items_without_ptb", [item["scores_without_ptb"] for item in part["items"]], items)
    against(record, "all_items/corpus_without_ptb", part["corpus_without_ptb"], corpus)


def test_scores_of_a_part_depend_on_it(record, recorded, whole):
    part = recorded["first_n_items_only"]
    first = score_corpus(*texts_of(recorded, "all_items", part["n"]), meteor=False)
    _, corpus = with_meteor(first, whole.statistics["meteor"][: part["n"]])
    against(record, "first_n_items_only/corpus", part["corpus"], corpus)
    assert np.abs(whole.items["cider"][: part["n"]] - first.items["cider"]).max() > 0.1, "CIDEr sees other documents"


def test_published_scores_to_the_last_digit(shared):
    folder = shared / "data" / "predictions" / "iu_xray_mrg_rl"
    predictions, references, published = (
        json.loads((folder / f"test_{name}.json").read_text(encoding="utf-8")) for name in ("preds", "refs", "metrics")
    )
    assert list(predictions) == list(references)
    candidates = [texts[0] for texts in predictions.values()]
    told = list(references.values())
    ours = score_corpus(candidates, told, ptb=False, meteor=False, as_is=True).corpus
    compared = {theirs: key for theirs, key in KEYS.items() if theirs in published}
    assert set(compared) == set(KEYS) - {"METEOR"}
    assert {theirs: ours[key] for theirs, key in compared.items()} == {
        theirs: published[theirs] for theirs in compared
    }
    assert ours["bleu_4"] + ours["rouge_l"] == published["B4_Rouge"]
    # What tells that the texts were taken as they are: their double blanks count as an empty word for ROUGE-L.
    joined = score_corpus(candidates, told, ptb=False, meteor=False).corpus
    assert joined["rouge_l"] != ours["rouge_l"] and joined["cider"] == ours["cider"]
    assert not set("".join(candidates)) & set(string.ascii_uppercase)
