"""Repetition in generated texts: sentences, runs of four words, loops, cut texts, counted by hand."""

import pytest

from pefomed.metrics import repetition_scores
from pefomed.metrics.repetition import longest_loop, repeated_share, repeats_a_sentence, words
from pefomed.predictions import write_predictions


def row(name, prediction, answer="the lungs are clear.", **others):
    return {"id": name, "task": "report", "prediction": prediction, "answer": answer, **others}


ROWS = [
    row("1", "no nodule. no nodule. no nodule.", stopped=False),
    row("2", "the heart is large and the heart is large", stopped=True),
    row("3", "the lungs are clear.", "a cyst in the liver. a cyst in the spleen.", stopped=True),
    row("4", "", stopped=None),
]


def test_scores_by_hand():
    scores = repetition_scores(ROWS)
    assert scores["n"] == 4
    assert scores["repeated_sentence"] == {"prediction": 25.0, "answer": 0.0}
    # row 1: 3 runs, 2 distinct; row 2: 6 runs, 5 distinct; row 3: 1; row 4 has none
    assert scores["repeated_4grams"]["prediction"] == pytest.approx(100 * (1 / 3 + 1 / 6 + 0) / 3)
    # row 3: 7 runs, of which "a cyst in the" occurs twice; the others have one
    assert scores["repeated_4grams"]["answer"] == pytest.approx(100 * (1 / 7) / 4)
    assert scores["longest_loop"] == {"prediction": 6, "answer": 0}
    assert scores["cut"] == {"n": 3, "share": pytest.approx(100 / 3)}


def test_words():
    assert words("The X-ray: 3.5 cm, patient's (left) side.\n") == [
        "the",
        "x-ray",
        "3.5",
        "cm",
        "patient's",
        "left",
        "side",
    ]
    assert words(" ... ") == []


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("clear. normal. CLEAR", True),
        ("the heart is normal\nthe heart is normal", True),
        ("is it? it is! is it.", True),
        ("a 3.5 cm mass. a 3.6 cm mass.", False),
        ("clear ... . ... normal", False),
        ("", False),
    ],
)
def test_sentences(text, repeats):
    assert repeats_a_sentence(text) is repeats


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("one", 0),
        ("the mass is the mass", 0),
        ("the the", 2),
        ("very very very large", 3),
        ("there is no mass no mass no", 5),
        ("a b c a b c", 6),
        ("a b c d e a b c d", 0),
        ("a b c d e a b c d e f", 10),
        ("x x a b a b a b", 6),
        ("a a a a b a a a a b", 10),
    ],
)
def test_loops(text, length):
    assert longest_loop(text.split()) == length


def test_loops_against_a_plain_search():
    def plain(spoken):
        best = 0
        for start in range(len(spoken)):
            for turn in range(1, (len(spoken) - start) // 2 + 1):
                end = start + turn
                while end < len(spoken) and spoken[end] == spoken[end - turn]:
                    end += 1
                best = max(best, end - start if end - start >= 2 * turn else 0)
        return best

    texts = [list(f"{number:b}".translate({48: "a", 49: "b"})) for number in range(900, 1100)]
    assert [longest_loop(text) for text in texts] == [plain(text) for text in texts]


def test_share_of_runs():
    assert repeated_share(["a", "b", "c"]) is None
    assert repeated_share(["a", "b", "c", "d"]) == 0.0
    assert repeated_share(["a"] * 8) == pytest.approx(0.8)


def test_too_short_for_runs_of_four():
    assert repetition_scores([row("1", "yes", "no")])["repeated_4grams"] == {"prediction": None, "answer": None}


def test_unknown_ends_stay_unknown():
    assert repetition_scores([row("1", "clear.")])["cut"] is None


def test_any_task_and_a_file(tmp_path):
    rows = [{**row("1", "yes yes", "yes"), "task": "vqa", "dataset": "vqa_rad"}]
    path = write_predictions(tmp_path / "p.jsonl", rows)
    assert repetition_scores(path) == repetition_scores(rows)
    assert repetition_scores(path)["longest_loop"]["prediction"] == 2


def test_loops_as_long_as_the_text_are_found():
    rows = [row(str(number), " ".join(f"word{i % (50 + number)}" for i in range(600))) for number in range(100)]
    assert repetition_scores(rows)["longest_loop"]["prediction"] == 600


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        ([row("1", "a", stopped="yes")], "row 1: 'stopped' is 'yes'; it must be true, false or null"),
        ([row("1", "a"), row("2", 3)], "row 2: 'prediction' is an integer"),
    ],
)
def test_mistakes(rows, message):
    with pytest.raises(ValueError, match=message):
        repetition_scores(rows)
