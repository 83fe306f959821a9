"""Distinct texts, the most frequent one, and the rule that tells a normal report from others."""

import hashlib
import json
import xml.etree.ElementTree as ElementTree

import pytest

from pefomed import files
from pefomed.data.phantoms import load_phantoms
from pefomed.disclosure import CREDENTIALED_DATASETS
from pefomed.metrics.diversity import (
    NORMAL_RULE,
    diversity_scores,
    first_of_groups,
    sentences,
    shown_text,
    tells_only_normal,
)
from pefomed.metrics.findings import placed_findings
from pefomed.predictions import write_predictions

NORMAL = "The lungs are clear. No effusion."


def row(name, prediction, answer, **others):
    return {"id": name, "task": "report", "prediction": prediction, "answer": answer, **others}


ROWS = [
    row("1", NORMAL, "There is cardiomegaly. No effusion.", group="a"),
    row("2", "the lungs are clear , no effusion", NORMAL, group="a"),
    row("3", "There is cardiomegaly.", "There is a nodule.", group="b"),
    row("4", NORMAL, "Small nodule.", group="c"),
]


def test_counts():
    scores = diversity_scores(ROWS)
    assert scores["n"] == 4
    assert scores["distinct"] == {"prediction": 2, "answer": 4}, "letter case and punctuation do not count"
    assert scores["distinct_share"] == {"prediction": 50.0, "answer": 100.0}
    assert scores["shared"] == {"prediction": 75.0, "answer": 0.0}
    often = scores["most_frequent"]["prediction"]
    assert (often["text"], often["count"], often["share"]) == (NORMAL, 3, 75.0)
    assert often["sha256"] == hashlib.sha256(NORMAL.encode()).hexdigest()
    assert scores["sentences"] == {"prediction": 6, "answer": 6}
    # clear lungs, no effusion, both in one sentence, cardiomegaly
    assert scores["distinct_sentences"] == {"prediction": 4, "answer": 5}


def test_normal_templates():
    normal = diversity_scores(ROWS)["normal"]
    assert normal["rule"] == NORMAL_RULE
    assert (normal["prediction"], normal["answer"], normal["n_abnormal"]) == (75.0, 25.0, 3)
    assert normal["given_where_abnormal"] == pytest.approx(200 / 3)
    assert normal["ci95"]["given_where_abnormal"] == [0.0, 100.0]
    none_abnormal = diversity_scores([row("1", NORMAL, NORMAL)])["normal"]
    assert (none_abnormal["given_where_abnormal"], none_abnormal["ci95"]["given_where_abnormal"]) == (None, None)


def test_a_file_scores_as_its_rows_do(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl", ROWS)
    scores = diversity_scores(path)
    files.write_json(tmp_path / "metrics.json", scores)
    assert files.read_json(tmp_path / "metrics.json") == scores == diversity_scores(ROWS)


@pytest.mark.parametrize("dataset", CREDENTIALED_DATASETS)
def test_no_text_of_a_credentialed_data_set_is_told(dataset):
    rows = [*ROWS[:3], {**ROWS[3], "dataset": dataset}]
    scores = diversity_scores(rows)
    assert scores["most_frequent"]["prediction"]["text"] is None
    assert scores["most_frequent"]["prediction"]["sha256"] == shown_text(NORMAL, [])["sha256"]
    told = json.dumps(scores).lower()
    assert "lungs" not in told
    assert "cardiomegaly" not in told


@pytest.mark.parametrize(
    "text",
    [
        NORMAL,
        "heart size normal . lungs are clear . xxxx are unremarkable .",
        "Two views of the chest. The heart is not enlarged. Lungs are clear of focal opacity.",
        "No opacity in the lower lobes. Negative for pneumothorax.",
        "no focal consolidation the heart is within normal limits there is no pleural effusion",
        "Axial CT of the abdomen without contrast. The liver is normal.",
        "The trachea is midline. Lungs are without consolidation.",
    ],
)
def test_normal(text):
    assert tells_only_normal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "Two views of the chest.",
        "Cardiomegaly. No effusion.",
        "The lungs are clear. Mild degenerative changes of the spine.",
        "No significant interval change in the left effusion.",
        "No effusion but a nodule in the left lung.",
        "no pleural effusion the heart is enlarged",
        "Cardiomegaly without edema.",
        "Lungs are clear except for a granuloma.",
        "Axial CT without contrast, showing splenomegaly.",
        "The lungs are clear. Umbilical piercing.",
        "Otherwise normal chest.",
    ],
)
def test_not_normal(text):
    assert not tells_only_normal(text)


def test_the_rule_finds_the_normal_texts_of_the_drawn_world():
    for task in ("report", "caption"):
        texts = load_phantoms("val", task=task, images=60)["answer"]
        assert [tells_only_normal(text) for text in texts] == [not placed_findings(text) for text in texts]


def test_the_rule_agrees_with_those_who_labelled_real_reports(shared):
    agreed, normal = [], []
    for path in sorted((shared / "data" / "openi_xml").glob("*.xml")):
        record = ElementTree.parse(path).getroot()
        parts = [one.text for one in record.iter("AbstractText") if one.get("Label") in ("FINDINGS", "IMPRESSION")]
        normal.append([one.text for one in record.iter("major")] == ["normal"])
        agreed.append(tells_only_normal("\n".join(part for part in parts if part)) == normal[-1])
    assert len(agreed) >= 20
    assert sum(agreed) / len(agreed) >= 0.7, "they let pass old and small findings, which the rule does not"
    wrongly_normal = sum(not right and not label for right, label in zip(agreed, normal, strict=True))
    assert wrongly_normal <= 1


def test_the_published_number_of_different_reports(shared):
    folder = shared / "data" / "predictions" / "iu_xray_mrg_rl"
    told, true = (json.loads((folder / f"test_{name}.json").read_text(encoding="utf-8")) for name in ("preds", "refs"))
    published = json.loads((folder / "test_metrics.json").read_text(encoding="utf-8"))
    scores = diversity_scores([row(name, told[name][0], true[name][0]) for name in told], n_resamples=20)
    assert scores["distinct"]["prediction"] == published["unique_outputs"]
    assert scores["normal"]["prediction"] < scores["normal"]["answer"]


def test_sentences():
    assert sentences("Heart 3.5 cm. No  effusion!\nX-ray?") == ["heart 3.5 cm", "no effusion", "x-ray"]
    assert sentences(" . ") == []


def test_first_of_groups():
    rows = [*ROWS, row("5", "", "", dataset="other", group="a"), row("6", "", ""), row("7", "", "")]
    assert [one["id"] for one in first_of_groups(rows)] == ["1", "3", "4", "5", "6", "7"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        ([ROWS[0], ROWS[0]], "row 2: id '1' was already used"),
        ([{"id": "1"}], "'task' is missing"),
    ],
)
def test_mistakes(rows, message):
    with pytest.raises(ValueError, match=message):
        diversity_scores(rows)
