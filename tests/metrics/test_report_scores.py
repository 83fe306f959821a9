"""Everything that is scored on reports, and its table."""

import pytest

from pefomed import files
from pefomed.data.phantoms import load_phantoms
from pefomed.metrics import finding_scores, format_report_scores, repetition_scores, report_scores
from pefomed.metrics.captions import caption_scores
from pefomed.metrics.constant_report import constant_report_scores
from pefomed.metrics.diversity import diversity_scores
from pefomed.predictions import write_predictions


def row(name, prediction, answer, **others):
    return {"id": name, "task": "report", "prediction": prediction, "answer": answer, **others}


ROWS = [
    row("1", "the lungs are clear. the lungs are clear.", "there is cardiomegaly.", group="a", stopped=False),
    row("2", "", "the lungs are clear.", group="b", stopped=True),
]


def test_any_data_set():
    scores = report_scores(ROWS)
    expected = ["n", "mean_words", "empty", "repetition", "diversity"]
    assert list(scores) == expected, "findings can be told for phantoms only, and Java runs only when it is asked for"
    assert (scores["n"], scores["mean_words"], scores["empty"]) == (2, {"prediction": 4.0, "answer": 3.5}, 50.0)
    assert scores["repetition"] == repetition_scores(ROWS)
    assert scores["diversity"] == diversity_scores(ROWS)


def test_findings_need_every_row_to_be_drawn():
    drawn = [{**one, "dataset": "phantoms"} for one in ROWS]
    assert report_scores(drawn)["findings"] == finding_scores(drawn)
    assert "findings" not in report_scores([drawn[0], ROWS[1]])


def test_true_reports_score_full_marks(tmp_path):
    rows = load_phantoms("val", task="report", images=30).remove_columns("image").to_list()
    path = write_predictions(tmp_path / "predictions.jsonl", [{**one, "prediction": one["answer"]} for one in rows])
    scores = report_scores(path, n_resamples=20)
    files.write_json(tmp_path / "metrics.json", scores)
    assert files.read_json(tmp_path / "metrics.json") == scores
    assert scores["findings"]["places"]["exact_set"]["share"] == 100.0
    assert scores["mean_words"]["prediction"] == scores["mean_words"]["answer"] > 15
    assert scores["repetition"]["repeated_4grams"]["prediction"] == scores["repetition"]["repeated_4grams"]["answer"]


def test_table():
    lines = [" ".join(line.split()) for line in format_report_scores(report_scores(ROWS)).splitlines()]
    assert lines == [
        "texts: 2 generated true",
        "mean words 4.0 3.5",
        "with a repeated sentence (%) 50.0 0.0",
        "repeated runs of four words (%) 20.0 0.0",
        "longest loop (words) 8 0",
        "without a word (%) 50.0",
        "cut at the bound (%), known for 2 50.0",
        "different texts 2 2",
        "equal to another text (%) 0.0 0.0",
        "the most frequent text, times 1 1",
        "different sentences 1 2",
        "telling only normal findings (%) 50.0 50.0",
        "so of 1 where the true one is not 100.0",
    ]


NORMAL = "the lungs are clear . no effusion ."
LEXICAL = [
    row("1", NORMAL, NORMAL, group="a"),
    row("2", "a nodule is seen .", "the lungs are clear . no pneumothorax .", group="b"),
    row("3", NORMAL, "a large nodule is seen .", group="c"),
    row("4", "no effusion .", "no effusion .", group="c"),
]
WITHOUT_JAVA = {"lexical": True, "ptb": False, "meteor": False, "n_resamples": 20}


def test_lexical_scores_stand_beside_the_best_constant(tmp_path):
    scores = report_scores(LEXICAL, **WITHOUT_JAVA)
    lexical = caption_scores(LEXICAL, ptb=False, meteor=False, n_resamples=20)
    assert {key: scores[key] for key in lexical} == lexical
    assert {"rouge_l", "cider", "bleu_1", "bleu_4", "ci95", "settings"} <= lexical.keys()
    assert scores["constant_report"] == constant_report_scores(LEXICAL, ptb=False, meteor=False)
    assert list(scores)[:2] == ["n", "meteor_java15"]
    assert scores["repetition"] == repetition_scores(LEXICAL)
    files.write_json(tmp_path / "metrics.json", scores)
    assert files.read_json(tmp_path / "metrics.json") == scores
    assert "constant_report" not in report_scores(LEXICAL, **WITHOUT_JAVA, constant=False)


def test_parameters_are_passed_on(tmp_path):
    path = write_predictions(tmp_path / "texts.jsonl", LEXICAL[:2])
    settings = {"cut_references": 3, "one_per_group": True, "corpus": str(path)}
    scores = report_scores(LEXICAL, **WITHOUT_JAVA, **settings, training=path)
    assert {key: scores["settings"][key] for key in settings} == settings
    assert (scores["n"], scores["repetition"]["n"], scores["diversity"]["n"]) == (3, 3, 3)
    expected = constant_report_scores(LEXICAL, ptb=False, meteor=False, **settings, training=path)
    assert scores["constant_report"] == expected
    assert scores["constant_report"]["cider"]["training"] == str(path)
    assert report_scores(LEXICAL, one_per_group=True)["n"] == 3, "also without the lexical scores"


def test_table_of_lexical_scores():
    scores = report_scores(LEXICAL, **WITHOUT_JAVA)
    lines = [" ".join(line.split()) for line in format_report_scores(scores).splitlines()]
    assert lines[0] == "lexical score [95 % interval] generated best constant"
    best = scores["constant_report"]["rouge_l"]["scores"]["rouge_l"]
    low, high = scores["ci95"]["rouge_l"]
    assert f"ROUGE-L {scores['rouge_l']:.4f} [{low:.4f}, {high:.4f}] {best:.4f}" in lines
    assert not any(line.startswith("METEOR") for line in lines), "what was not computed has no line"
    assert any(line.startswith("tokens: lower case, split at white space; references: whole") for line in lines)
    assert f"best constant by CIDEr: {scores['constant_report']['cider']['text']!r}" in lines
    assert lines[-7].startswith("without a word")
    alone = format_report_scores(report_scores(LEXICAL, **WITHOUT_JAVA, constant=False))
    assert "constant" not in alone


def test_table_says_where_a_constant_is_as_good():
    right = [{**one, "prediction": one["answer"]} for one in LEXICAL]
    assert "not above the best constant: none" in format_report_scores(report_scores(right, **WITHOUT_JAVA))
    same = [{**one, "prediction": "a nodule is seen ."} for one in LEXICAL]
    text = format_report_scores(report_scores(same, **WITHOUT_JAVA))
    assert "not above the best constant: ROUGE-L, CIDEr, BLEU-1" in text


def test_table_withholds_credentialed_texts():
    secret = [{**one, "dataset": "mimic_cxr"} for one in LEXICAL]
    scores = report_scores(secret, **WITHOUT_JAVA)
    text = format_report_scores(scores)
    assert f"withheld, sha256 {scores['constant_report']['cider']['sha256'][:16]}" in text
    assert "lungs" not in text


def test_table_of_scores_written_before_there_was_diversity():
    scores = report_scores(ROWS)
    del scores["diversity"]
    assert "different texts" not in format_report_scores(scores)


def test_table_of_findings():
    told = "there is cardiomegaly."
    rows = [
        {**row(str(number), told, told if number < 3 else "no nodule.", group=number), "dataset": "phantoms"}
        for number in range(4)
    ]
    text = format_report_scores(report_scores(rows))
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines() if line}
    assert lines["cardiomegaly"][:3] == ["cardiomegaly", "3", "75.0"]
    assert "100.0 [100.0, 100.0]" in text
    assert lines["normal (no finding)"][3:] == ["1", "-", "0.0", "0.0"]
    assert lines["all findings right"][3:5] == ["4", "75.0"]
    header = next(line for line in text.splitlines() if line.startswith("per cent"))
    cardiomegaly = next(line for line in text.splitlines() if line.startswith("cardiomegaly"))
    assert cardiomegaly[header.index("recall") - 2 : header.index("recall")] == "  ", "columns stand apart"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        (
            [ROWS[0], {**ROWS[1], "task": "vqa"}],
            "row 2: task 'vqa' is no 'report' or 'caption'; leave other tasks out",
        ),
        ([ROWS[0], ROWS[0]], "row 2: id '1' was already used"),
    ],
)
def test_mistakes(rows, message):
    with pytest.raises(ValueError, match=message):
        report_scores(rows)


def test_the_file_is_named(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl", [{**ROWS[0], "task": "vqa"}])
    with pytest.raises(ValueError, match=r"p\.jsonl, row 1: task 'vqa'"):
        report_scores(path)
