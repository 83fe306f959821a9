"""Everything that is scored on reports and captions by published lexical metrics: settings, intervals, warnings."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from pefomed import files
from pefomed.data.text import clean_caption
from pefomed.metrics import captions
from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.captions import KEYS, caption_scores, format_caption_scores
from pefomed.metrics.coco import BLEU_KEYS, score_corpus
from pefomed.metrics.meteor import meteor_scores
from pefomed.predictions import write_predictions

SENTENCES = (
    *("the lungs are clear .", "no pleural effusion is seen .", "the heart is enlarged .", "there is a nodule ."),
    *("old rib fractures on the left .", "no acute disease ."),
)


def row(name, prediction, answer, **others):
    return {"id": name, "task": "report", "prediction": prediction, "answer": answer, **others}


def drawn_rows(n=24, groups=8):
    """Reports of two or three sentences, of which the model gets some right; three views of each study."""
    chance = np.random.default_rng(0)
    rows = []
    for number in range(n):
        told, said = (" ".join(chance.choice(SENTENCES, size=size, replace=False)) for size in (3, 2))
        rows.append(row(f"r{number}", said, told, group=f"study{number % groups}"))
    return rows


ROWS = drawn_rows()


def score(rows, **options):
    return caption_scores(rows, **{"ptb": False, "meteor": False, "n_resamples": 20, **options})


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """All metrics, from a file, as users call it; and METEOR's counts, whose process takes seconds to start."""
    path = write_predictions(tmp_path_factory.mktemp("run") / "predictions.jsonl", ROWS)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            captions, "score_corpus", lambda *args, **options: kept.append(score_corpus(*args, **options)) or kept[0]
        )
        return caption_scores(path, n_resamples=40, seed=3), kept[0].statistics["meteor"]


@pytest.fixture
def whole(scored):
    return scored[0]


def test_shape(whole, tmp_path):
    assert list(whole) == ["n", *KEYS, "ci95", "settings", "warning"]
    assert list(whole["ci95"]) == list(KEYS)
    assert set(KEYS) == {"meteor_java15", "rouge_l", "cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4"}
    assert all(type(whole[key]) is float for key in KEYS)
    files.write_json(tmp_path / "metrics.json", whole)
    assert files.read_json(tmp_path / "metrics.json") == whole
    for key in KEYS:
        low, high = whole["ci95"][key]
        assert type(low) is type(high) is float
        assert low < whole[key] < high, key


def test_scores_without_meteor_are_the_same(whole):
    scores = caption_scores(ROWS, meteor=False, n_resamples=40, seed=3)
    assert scores["meteor_java15"] is None and scores["ci95"]["meteor_java15"] is None
    for key in set(KEYS) - {"meteor_java15"}:
        assert (scores[key], scores["ci95"][key]) == (whole[key], whole["ci95"][key])
    assert scores["settings"] == whole["settings"]


def resampled_rows(seed, n_resamples):
    """Row numbers of each resample: whole groups, drawn as the intervals draw them."""
    groups = list(dict.fromkeys(one["group"] for one in ROWS))
    members = [[number for number, one in enumerate(ROWS) if one["group"] == group] for group in groups]
    chance = np.random.default_rng(seed)
    return [
        [number for group in chance.integers(len(groups), size=len(groups)) for number in members[group]]
        for _ in range(n_resamples)
    ]


def test_bleu_intervals_score_whole_resamples():
    drawn = []
    for numbers in resampled_rows(seed=5, n_resamples=30):
        scorer = BleuScorer(n=4)
        for number in numbers:
            scorer += (ROWS[number]["prediction"], [ROWS[number]["answer"]])
        drawn.append(scorer.compute_score(option="closest", verbose=0)[0])
    expected = np.percentile(drawn, [2.5, 97.5], axis=0).T
    ours = score(ROWS, n_resamples=30, seed=5)["ci95"]
    np.testing.assert_allclose([ours[key] for key in BLEU_KEYS], expected, rtol=1e-12)


def test_meteor_interval_sums_counts_of_whole_resamples(scored):
    whole, counts = scored
    assert meteor_scores(counts.sum(axis=0, keepdims=True))[0] == whole["meteor_java15"]
    drawn = [
        meteor_scores(counts[numbers].sum(axis=0, keepdims=True))[0]
        for numbers in resampled_rows(seed=3, n_resamples=40)
    ]
    expected = np.percentile(drawn, [2.5, 97.5])
    np.testing.assert_allclose(whole["ci95"]["meteor_java15"], expected, rtol=1e-12)


def test_intervals_of_means():
    items = score_corpus(
        [one["prediction"] for one in ROWS], [[one["answer"]] for one in ROWS], ptb=False, meteor=False
    ).items
    ours = score(ROWS, seed=7)["ci95"]
    for key in ("rouge_l", "cider"):
        assert ours[key] == list(cluster_bootstrap(items[key], [one["group"] for one in ROWS], 20, 7))


def test_groups_of_different_data_sets_stay_apart():
    one, two = {"dataset": "a", "group": "1"}, {"dataset": "b", "group": "1"}
    rows = [{**found, **(one if number % 2 else two)} for number, found in enumerate(ROWS)]
    assert score(rows)["settings"]["clusters"] == 2
    alone = score([{**found, **one} for found in ROWS])
    assert alone["settings"]["clusters"] == 1 and set(alone["ci95"].values()) == {None}


def test_settings(whole):
    assert whole["settings"] | {"pycocoevalcap": ""} == {
        "tokenisation": "ptb",
        "references_per_text": [1, 1],
        "cut_references": 0,
        "one_per_group": False,
        "rows_left_out": 0,
        "clusters": 8,
        "corpus": "",
        "documents": 24,
        "n_resamples": 40,
        "seed": 3,
        "pycocoevalcap": "",
    }
    assert whole["settings"]["pycocoevalcap"].startswith("1.")
    assert score(ROWS)["settings"]["tokenisation"] == "lower case, split at white space"
    assert score(ROWS, as_is=True)["settings"]["tokenisation"] == "as it is"


def test_cut_references():
    cut = score(ROWS, cut_references=5)
    by_hand = score([{**one, "answer": clean_caption(one["answer"], 5)} for one in ROWS])
    assert {key: cut[key] for key in KEYS} == {key: by_hand[key] for key in KEYS}
    assert cut["bleu_1"] != score(ROWS)["bleu_1"] and cut["settings"]["cut_references"] == 5


def test_one_row_per_group():
    rows = [*ROWS, row("alone", "the lungs are clear .", "the lungs are clear .")]
    scores = score(rows, one_per_group=True)
    assert scores["n"] == scores["settings"]["documents"] == 9
    assert scores["settings"]["rows_left_out"] == 16
    first = score([*ROWS[:8], rows[-1]])
    assert {key: scores[key] for key in KEYS} == {key: first[key] for key in KEYS}


def test_corpus(tmp_path):
    own = write_predictions(tmp_path / "own.jsonl", ROWS)
    plain = score(ROWS)
    same = score(ROWS, corpus=own)
    assert {key: same[key] for key in KEYS} == {key: plain[key] for key in KEYS}
    assert same["settings"]["corpus"] == str(own)
    other = tmp_path / "training reports.jsonl"
    lines = [{"answer": "the lungs are clear .\u2028no"}, {"references": ["a nodule .", "the heart"], "id": 3}]
    other.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    changed = score(ROWS, corpus=str(other))
    assert changed["settings"]["documents"] == 2
    assert changed["cider"] != plain["cider"]
    assert {key: changed[key] for key in KEYS if key != "cider"} == {key: plain[key] for key in KEYS if key != "cider"}
    documents = [["the lungs are clear .\u2028no"], ["a nodule .", "the heart"]]
    texts, answers = [one["prediction"] for one in ROWS], [[one["answer"]] for one in ROWS]
    given = score_corpus(texts, answers, ptb=False, meteor=False, documents=documents)
    assert changed["cider"] == given.corpus["cider"]


def test_several_references():
    rows = [{**ROWS[0], "references": [ROWS[0]["answer"], ROWS[0]["prediction"]]}, {**ROWS[1], "references": None}]
    scores = score(rows)
    assert scores["settings"]["references_per_text"] == [1, 2]
    assert scores["rouge_l"] > score(ROWS[:2])["rouge_l"]
    assert score(rows[:1])["rouge_l"] == 1.0 > score(ROWS[:1])["rouge_l"]


def test_warnings():
    many = [row(str(number), "clear", "the lungs are clear") for number in range(20)]
    assert "warning" not in score(many)
    assert "only 19 independent texts" in score(many[:-1])["warning"]
    single = score(many[:1])
    assert single["cider"] == 0.0 and "CIDEr over one document is 0" in single["warning"]
    assert single["ci95"]["bleu_1"] is None and single["rouge_l"] > 0


def test_texts_that_are_no_texts():
    odd = ["", ".", "?!", "a\nb", "a\r\nb\u2028c", "|||", "no " * 2000, "\ufeff", "\t"]
    scores = score([row(str(number), text, "no effusion") for number, text in enumerate(odd)], ptb=True)
    assert scores["n"] == len(odd) and scores["bleu_1"] > 0
    nothing = score([row("1", "", "clear"), row("2", "", "no effusion")])
    assert [nothing[key] for key in KEYS[1:]] == [0.0] * 6 and nothing["ci95"]["bleu_4"] == [0.0, 0.0]


def test_table(whole):
    lines = format_caption_scores(whole).splitlines()
    assert lines[0].split() == ["texts:", "24", "score", "95", "%", "interval"]
    low, high = whole["ci95"]["meteor_java15"]
    assert lines[1] == f"METEOR 1.5       {whole['meteor_java15']:.4f}  [{low:.4f}, {high:.4f}]"
    assert [line.split()[0] for line in lines[2:8]] == ["ROUGE-L", "CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert "tokens: ptb; references: whole" in lines[8] and "24 of the references" in lines[8]
    assert lines[9].startswith("warning: only 8 independent")
    single = format_caption_scores(score(ROWS[:1], cut_references=50, one_per_group=True)).splitlines()
    assert single[1].split() == ["METEOR", "1.5", "-"]
    assert "[" not in single[2] and "first 50 words" in single[8] and "one text per group: yes" in single[8]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "no predictions to score"),
        ([{**ROWS[0], "task": "vqa"}], {}, "row 1: task 'vqa'"),
        ([ROWS[0], ROWS[0]], {}, "row 2: id 'r0' was already used"),
        ([{**ROWS[0], "prediction": None}], {}, "row 1: 'prediction' is null"),
        ([{**ROWS[0], "references": []}], {}, r"row 1: 'references' is \[\]"),
        ([{**ROWS[0], "references": ["a", 3]}], {}, "row 1: 'references' is"),
        (ROWS, {"cut_references": -1}, "cut_references is -1; it must be at least 0"),
        (ROWS, {"n_resamples": 0}, "n_resamples is 0; it must be at least 1"),
        (ROWS, {"ptb": True, "as_is": True}, "ptb and as_is"),
    ],
)
def test_mistakes(rows, options, message):
    with pytest.raises(ValueError, match=message):
        score(rows, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"corpus\.jsonl, line 1: not JSON"),
        (b'{"answer": "a"}\n\n', r"corpus\.jsonl, line 2: not JSON"),
        (b'{"answer": "a"}\n{"answer": "\xff"}', r"corpus\.jsonl, line 2: not JSON in UTF-8"),
        (b'["a"]', r"corpus\.jsonl, line 1: no text 'answer'"),
        (b'{"answer": 3}', r"corpus\.jsonl, line 1: no text 'answer'"),
        (b'{"references": "a"}', r"corpus\.jsonl, line 1: 'references' is 'a'"),
    ],
)
def test_corpora_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        score(ROWS, corpus=path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl: no such file; corpus"):
        score(ROWS, corpus=tmp_path / "nothing.jsonl")
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl: no such file"):
        score(tmp_path / "nothing.jsonl")
    path = write_predictions(tmp_path / "p.jsonl", [{**ROWS[0], "task": "vqa"}])
    with pytest.raises(ValueError, match=r"p\.jsonl, row 1: task 'vqa'"):
        score(path)


def test_no_model_library_is_loaded():
    code = (
        "import sys\n"
        "from pefomed.metrics.captions import caption_scores\n"
        "row = {'id': '1', 'task': 'report', 'answer': 'a', 'prediction': 'a'}\n"
        "assert caption_scores([row], ptb=False, meteor=False, n_resamples=2)['rouge_l'] == 1.0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'scipy', 'evaluate'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
