"""The published text cleaning, character for character."""

import json

from pefomed.data.text import clean_caption, clean_question


def test_every_recorded_case(shared):
    cases = json.loads((shared / "reference" / "text_processor.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 133
    assert [clean_caption(case["raw"]) for case in cases] == [case["caption"] for case in cases]
    assert [clean_question(case["raw"]) for case in cases] == [case["question"] for case in cases]


def test_decimals_fall_apart():
    assert clean_caption("A 3.5 cm Mass.") == "a 3 5 cm mass"
    assert clean_question("A 3.5 cm Mass?") == "a 35 cm mass?"


def test_words_are_cut():
    text = " ".join(f"w{i}" for i in range(60))
    assert clean_caption(text).split() == [f"w{i}" for i in range(50)]
    assert clean_caption(text, max_words=3) == "w0 w1 w2"
    assert clean_question(text, max_words=2) == "w0 w1"
