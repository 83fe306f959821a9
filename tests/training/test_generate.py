"""Answers over a data set: batched, controlled, resumable."""

import json

import pytest

from pefomed.inference.generate import answer_rows, generate_batches, stand_ins, write_predictions
from pefomed.predictions import KEYS, read_predictions
from pefomed.procedure import RELEASED_CODE


def test_batched_answers_equal_single_ones(small, phantoms):
    model, processor = small
    rows = list(phantoms["test"])
    alone = answer_rows(model, rows, processor=processor, batch_size=1, max_new_tokens=10)
    for batch_size in (3, 64):
        assert answer_rows(model, rows, processor=processor, batch_size=batch_size, max_new_tokens=10) == alone
    assert len(set(alone)) > 1, "a model that always says the same proves nothing"


def test_the_answer_depends_on_the_picture(small, phantoms):
    model, processor = small
    rows = list(phantoms["test"])
    asked = {"processor": processor, "max_new_tokens": 10}
    real = answer_rows(model, rows, **asked)
    assert answer_rows(model, rows, pictures="blank", **asked) != real
    assert answer_rows(model, rows, pictures="shuffled", **asked) != real


def test_nobody_keeps_the_own_picture(phantoms):
    rows = list(phantoms["test"])
    for seed in range(20):
        others = stand_ins(rows, seed)
        assert all(rows[other]["group"] != row["group"] for row, other in zip(rows, others, strict=True))
        assert len({(row["group"], rows[other]["group"]) for row, other in zip(rows, others, strict=True)}) == 6
    with pytest.raises(ValueError, match="share one group"):
        stand_ins(rows[:2], 0)


def test_written_rows_have_every_key_and_the_order_of_the_data(small, phantoms, tmp_path):
    model, processor = small
    rows = list(phantoms["test"])
    path = write_predictions(
        model,
        rows,
        tmp_path / "predictions.jsonl",
        model_name="small",
        condition="zero_shot",
        progress=False,
        processor=processor,
        max_new_tokens=5,
    )
    written = read_predictions(path)
    assert [row["id"] for row in written] == [row["id"] for row in rows]
    assert all(tuple(row) == KEYS for row in written)
    assert "image" not in json.loads(path.read_text().splitlines()[0])
    assert written[0]["instruction"].startswith("[vqa] Based on the image")


def test_a_resumed_run_skips_what_is_done_and_answers_the_rest_alike(small, phantoms):
    model, processor = small
    rows = list(phantoms["test"])
    asked = {"processor": processor, "batch_size": 5, "max_new_tokens": 10}
    batches = list(generate_batches(model, rows, **asked))
    done = {rows[index]["id"] for batch in batches[:2] for index, *_ in batch}
    assert list(generate_batches(model, rows, done=done, **asked)) == batches[2:]


def test_the_released_code_ignores_generation_arguments(small, phantoms):
    model, processor = small
    rows = list(phantoms["test"])[:2]
    short = {"processor": processor, "procedure": RELEASED_CODE}
    free = answer_rows(model, rows, **short)
    assert answer_rows(model, rows, num_beams=3, max_new_tokens=1, **short) == free


def test_unknown_pictures_are_refused(small, phantoms):
    model, processor = small
    with pytest.raises(ValueError, match="pictures must be one of real, blank, shuffled"):
        answer_rows(model, list(phantoms["test"])[:1], processor=processor, pictures="none")
