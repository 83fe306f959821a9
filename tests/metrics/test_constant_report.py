"""The best constant report: equal to pycocoevalcap's scores, the best indeed, and silent about credentialed texts."""

import json
import random

import numpy as np
import pytest

from pefomed import files
from pefomed.data.phantoms import load_phantoms
from pefomed.metrics.coco import score_corpus, tokenise
from pefomed.metrics.constant_report import constant_report_scores
from pefomed.metrics.constant_scores import likeness, prepare, rouge_l_of_constants, scores_of_constants
from pefomed.predictions import write_predictions

PLAIN = {"ptb": False, "meteor": False}


def row(name, answer, **others):
    return {"id": str(name), "task": "report", "prediction": "", "answer": answer, **others}


@pytest.fixture(scope="module")
def reports():
    return tokenise(load_phantoms("val", task="report", images=80)["answer"], ptb=False)


def assert_equal_to_pycocoevalcap(texts, groups, documents=None):
    found = scores_of_constants(texts, prepare(groups, documents))
    for text, scores in zip(texts, found, strict=True):
        expected = score_corpus([text] * len(groups), groups, **PLAIN, as_is=True, documents=documents).corpus
        assert scores.keys() == expected.keys()
        assert [scores[key] for key in scores] == pytest.approx([expected[key] for key in scores], abs=1e-12)


def test_scores_are_those_of_pycocoevalcap(reports):
    odd = ["", "zz", "no no no no no", " ".join(reports[:5]), reports[3].replace(" ", "  ", 2)]
    assert max(len(text.split()) for text in odd) > 63 * 2, "words that fill more than two whole numbers"
    assert_equal_to_pycocoevalcap([*odd, *reports[:3]], [[text] for text in [*reports[:40], "", odd[3]]])


def test_several_references_and_other_documents(reports):
    groups = [reports[number : number + 1 + number % 3] for number in range(0, 40, 2)]
    assert {len(group) for group in groups} == {1, 2, 3}
    assert_equal_to_pycocoevalcap(["", *reports[:4]], groups)
    assert_equal_to_pycocoevalcap(reports[:4], groups, [reports[40:42], *[[text] for text in reports[50:]]])


def test_rouge_l_against_the_plain_table():
    def common(first, second):
        table = np.zeros((len(first) + 1, len(second) + 1))
        for i, a in enumerate(first, start=1):
            for j, b in enumerate(second, start=1):
                table[i, j] = table[i - 1, j - 1] + 1 if a == b else max(table[i - 1, j], table[i, j - 1])
        return table[-1, -1]

    generator = random.Random(0)
    texts = [[generator.choice("abcde") for _ in range(generator.choice((1, 5, 62, 63, 64, 130)))] for _ in range(40)]
    references = prepare([[" ".join(text)] for text in texts[:20]])
    expected = []
    for text in texts[20:]:
        pairs = [(common(text, other), len(text), len(other)) for other in texts[:20]]
        expected.append(np.mean([(1 + 1.44) * shared / (length + 1.44 * other) for shared, length, other in pairs]))
    assert rouge_l_of_constants([" ".join(text) for text in texts[20:]], references) == pytest.approx(expected)


def test_the_best_of_all_true_reports_is_found(reports):
    reports = reports[:25]
    groups = [[text] for text in reports]
    scores = constant_report_scores([row(number, text) for number, text in enumerate(reports)], **PLAIN)
    assert list(scores) == ["rouge_l", "cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4"]
    distinct = list(dict.fromkeys(reports))
    everything = [score_corpus([text] * len(groups), groups, **PLAIN).corpus for text in distinct]
    for key, entry in scores.items():
        values = [one[key] for one in everything]
        assert entry["scores"][key] == pytest.approx(max(values), abs=1e-12)
        assert entry["text"] == distinct[int(np.argmax(values))]
        assert (entry["chosen_by"], entry["n"]) == (key, 25)
        assert (entry["candidates"], entry["shortlist"], entry["finalists"]) == (len(distinct), len(distinct), 0)
        assert entry["scores"]["meteor_java15"] is None


def test_the_shortlist_holds_what_overlaps_most(reports):
    rows = [row(number, text) for number, text in enumerate(reports)]
    scores = constant_report_scores(rows, **PLAIN, shortlist=1)
    references = prepare([[text] for text in reports])
    best = max(dict.fromkeys(reports), key=lambda text: likeness(text, references)[0])
    assert {entry["text"] for entry in scores.values()} == {best}
    assert scores["cider"]["shortlist"] == 1
    assert scores["cider"]["scores"]["cider"] <= constant_report_scores(rows, **PLAIN)["cider"]["scores"]["cider"]


def exact_statistics(candidates, references):
    """METEOR's counts without Java: words that recur exactly, each a chunk of its own."""
    rows = []
    for text, (other,) in zip(candidates, references, strict=True):
        shared = len(set(text.split()) & set(other.split()))
        lengths = [len(text.split()), len(other.split())]
        rows.append([*lengths, 0, 0, shared, shared, *[0] * 14, shared, shared, shared])
    return np.array(rows, dtype=float)


def test_meteor_of_the_finalists_is_that_of_the_whole(monkeypatch):
    monkeypatch.setattr("pefomed.metrics.coco.meteor_statistics", exact_statistics)
    monkeypatch.setattr("pefomed.metrics.constant_report.meteor_statistics", exact_statistics)
    answers = ["the lungs are clear", "the lungs are clear", "cardiomegaly is seen", "no effusion"]
    rows = [row(number, text) for number, text in enumerate(answers)]
    scores = constant_report_scores(rows, ptb=False, finalists=2)
    entry = scores["meteor_java15"]
    assert entry["text"] == "the lungs are clear"
    assert entry["finalists"] == 2
    expected = score_corpus([entry["text"]] * 4, [[text] for text in answers], ptb=False).corpus
    assert expected["meteor_java15"] > 0.1
    assert entry["scores"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_with_java():
    answers = ["The lungs are clear.", "the lungs are clear", "The lungs are clear ."]
    entry = constant_report_scores([row(number, text) for number, text in enumerate(answers)])["meteor_java15"]
    assert (entry["candidates"], entry["text"]) == (1, answers[0]), "the tokenizer makes them one"
    assert entry["scores"]["meteor_java15"] == entry["scores"]["rouge_l"] == pytest.approx(1.0)


def test_meteors_finalists_come_by_exact_matches_and_order():
    references = prepare([["the lungs are clear"], ["the lungs are clear"], ["no effusion"]])
    in_order, scattered, other, absent = (
        likeness(text, references)
        for text in ("the lungs are clear", "clear are lungs the", "no effusion", "cardiomegaly")
    )
    assert in_order[0] == scattered[0] == pytest.approx(2 / 3)
    assert in_order[1] > scattered[1] > other[1] > absent[1] == 0.0


def test_settings_reach_the_constant(tmp_path, reports):
    rows = [row(number, text, dataset="d", group=str(number // 2)) for number, text in enumerate(reports)]
    one = constant_report_scores(rows, **PLAIN, one_per_group=True)["rouge_l"]
    assert one["n"] == 40
    assert one["scores"] == constant_report_scores(rows[::2], **PLAIN)["rouge_l"]["scores"]
    cut = constant_report_scores(rows, **PLAIN, cut_references=4)["rouge_l"]
    assert len(cut["text"].split()) == 4
    corpus = write_predictions(tmp_path / "corpus.jsonl", [row(n, text) for n, text in enumerate(reports[:20])])
    counted = constant_report_scores(rows, **PLAIN, corpus=corpus)
    plain = constant_report_scores(rows, **PLAIN)
    assert counted["cider"]["scores"]["cider"] != plain["cider"]["scores"]["cider"]
    assert counted["bleu_4"]["scores"]["bleu_4"] == plain["bleu_4"]["scores"]["bleu_4"]


def test_a_training_file_gives_further_candidates(tmp_path):
    rows = [row(word, f"clear lungs {word}") for word in ("today", "now", "again", "here")]
    path = write_predictions(tmp_path / "train.jsonl", [row(1, "clear lungs"), row(2, "Clear lungs again")])
    rouge = constant_report_scores(rows, **PLAIN, training=path)["rouge_l"]
    assert (rouge["candidates"], rouge["training"]) == (5, str(path)), "what stands in both files is one candidate"
    assert rouge["text"] == "clear lungs"
    assert rouge["scores"]["rouge_l"] > constant_report_scores(rows, **PLAIN)["rouge_l"]["scores"]["rouge_l"]


@pytest.mark.parametrize("where", ["scored", "training"])
def test_no_text_of_a_credentialed_data_set_is_told(tmp_path, where):
    secret = {"dataset": "mimic_cxr"}
    rows = [row(1, "secret words here", **(secret if where == "scored" else {})), row(2, "secret words there")]
    training = [row(3, "other secret words", **(secret if where == "training" else {}))]
    path = write_predictions(tmp_path / "train.jsonl", training)
    scores = constant_report_scores(rows, **PLAIN, training=path)
    assert all(entry["text"] is None and len(entry["sha256"]) == 64 for entry in scores.values())
    assert "secret" not in json.dumps(scores)


def test_a_result_can_be_written(tmp_path, reports):
    path = write_predictions(tmp_path / "p.jsonl", [row(number, text) for number, text in enumerate(reports)])
    scores = constant_report_scores(path, **PLAIN)
    files.write_json(tmp_path / "c.json", scores)
    assert files.read_json(tmp_path / "c.json") == scores


def test_constants_beat_a_published_model(shared):
    folder = shared / "data" / "predictions" / "iu_xray_mrg_rl"
    true = json.loads((folder / "test_refs.json").read_text(encoding="utf-8"))
    published = json.loads((folder / "test_metrics.json").read_text(encoding="utf-8"))
    rows = [row(name, texts[0]) for name, texts in true.items()]
    scores = constant_report_scores(rows, ptb=False, meteor=False, as_is=True)
    for key, name in (("cider", "CIDEr"), ("rouge_l", "ROUGE_L"), ("bleu_4", "Bleu_4")):
        assert scores[key]["scores"][key] > published[name]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([], {}, "no predictions"),
        ([row(1, "a"), {**row(2, "a"), "task": "vqa"}], {}, "row 2: task 'vqa'"),
        ([row(1, "a")], {"shortlist": 0}, "shortlist is 0; it must be at least 1"),
        ([row(1, "a")], {"finalists": 0}, "finalists is 0"),
        ([row(1, "a")], {"cut_references": -1}, "cut_references is -1"),
    ],
)
def test_mistakes(rows, settings, message):
    with pytest.raises(ValueError, match=message):
        constant_report_scores(rows, **PLAIN, **settings)


def test_an_absent_training_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        constant_report_scores([row(1, "a")], **PLAIN, training=tmp_path / "absent.jsonl")
