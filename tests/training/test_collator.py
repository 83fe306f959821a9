"""Batches to learn from."""

import numpy as np
import pytest
import torch

from pefomed.procedure import CLEAN, RELEASED_CODE
from pefomed.training.collator import PixelStore, TrainingCollator, encode_row, sample_rng
from pefomed.training.features import FeatureStore


def test_a_batch_is_what_its_rows_are_alone(small, phantoms):
    _, processor = small
    rows = list(phantoms["train"].select(range(5)))
    collator = TrainingCollator(processor)
    together = collator(rows)
    for number, row in enumerate(rows):
        alone = collator([row])
        length = alone["input_ids"].shape[1]
        assert together["input_ids"][number, :length].equal(alone["input_ids"][0])
        assert together["labels"][number, :length].equal(alone["labels"][0])
        assert together["attention_mask"][number].sum() == length
        assert (together["labels"][number, length:] == -100).all()
        assert together["pixel_values"][number].equal(alone["pixel_values"][0])


def test_only_answer_and_end_are_learnt(small, phantoms):
    _, processor = small
    row = phantoms["train"][0]
    batch = TrainingCollator(processor)([row])
    learnt = batch["labels"][0][batch["labels"][0] != -100].tolist()
    assert learnt == [*processor.text_ids(row["answer"]), processor.tokenizer.eos_token_id]


def test_kept_pixels_equal_fresh_ones_and_the_bound_is_kept(small, phantoms):
    _, processor = small
    rows = list(phantoms["train"].select(range(8)))
    kept, none = PixelStore(processor), PixelStore(processor, max_bytes=0)
    for row in [*rows, *rows]:
        assert np.array_equal(kept.pixels(row["image"], row["id"]), none.pixels(row["image"], row["id"]))
    assert len(kept.kept) == len({row["group"] for row in rows})
    assert not none.kept


def test_blank_pictures_are_the_same_black_for_all(small, phantoms):
    _, processor = small
    batch = TrainingCollator(processor, blank_images=True)(list(phantoms["train"].select(range(4))))
    assert (batch["pixel_values"] == batch["pixel_values"][0]).all()
    black = -torch.tensor(processor.image_processor.image_mean) / torch.tensor(processor.image_processor.image_std)
    assert torch.allclose(batch["pixel_values"][0].amax(dim=(1, 2)), black, atol=1e-6)


def test_draws_depend_on_seed_epoch_and_row_alone(small, phantoms):
    _, processor = small
    rows = list(phantoms["train"].select(range(6)))
    first = TrainingCollator(processor, RELEASED_CODE, seed=1)
    second = TrainingCollator(processor, RELEASED_CODE, seed=1)
    second(rows[3:])  # another history
    assert first(rows)["pixel_values"].equal(second(rows)["pixel_values"])
    first.epoch = 1
    assert not first(rows)["pixel_values"].equal(second(rows)["pixel_values"])


def test_the_released_code_draws_between_two_vqa_prompts(small, phantoms):
    _, processor = small
    row = phantoms["train"][0]
    lengths = {
        len(encode_row(processor, row, RELEASED_CODE, 64, sample_rng(0, visit, row["id"])).input_ids)
        for visit in range(20)
    }
    assert len(lengths) == 2
    lengths = {
        len(encode_row(processor, row, CLEAN, 64, sample_rng(0, visit, row["id"])).input_ids) for visit in range(20)
    }
    assert len(lengths) == 1


def test_kept_features_are_what_the_tower_makes_of_the_pixels(small, phantoms):
    model, processor = small
    rows = list(phantoms["train"].select(range(8)))
    store = FeatureStore(model.model, PixelStore(processor))
    features = TrainingCollator(processor, features=store)(rows)["vision_features"]
    pixels = TrainingCollator(processor)(rows)["pixel_values"]
    torch.testing.assert_close(features, model.model.encode_images(pixels).detach(), rtol=1e-5, atol=1e-5)
    assert len(store) == len({row["group"] for row in rows}), "one encoding a picture"
    assert not features.requires_grad


def test_features_of_random_crops_cannot_be_kept(small):
    model, processor = small
    with pytest.raises(ValueError, match="crops pictures at random"):
        TrainingCollator(processor, RELEASED_CODE, features=FeatureStore(model.model, PixelStore(processor)))


def test_an_uncased_base_reads_and_learns_small_letters(small, phantoms):
    _, processor = small
    row = {**phantoms["train"][0], "question": "Is the HEART enlarged?", "answer": "Yes"}
    uncased = {**row, "question": "is the heart enlarged?", "answer": "yes"}
    draw = sample_rng(0, 0, "a")
    assert processor.tokenizer.init_kwargs["do_lower_case"]
    assert encode_row(processor, row, CLEAN, 64, draw) == encode_row(processor, uncased, CLEAN, 64, draw)
    processor.tokenizer.init_kwargs["do_lower_case"] = False  # as LLaMA-2's
    assert encode_row(processor, row, CLEAN, 64, draw) != encode_row(processor, uncased, CLEAN, 64, draw)
