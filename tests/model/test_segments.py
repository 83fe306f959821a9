"""Rows of several segments and images: each sees what it may, and mistakes that would go unnoticed are errors."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask
from transformers import masking_utils

from pefomed.model.segments import SEGMENTS_PER_IMAGE, refuse_restarting_positions, segment_mask

# Two images in the first row, with two questions and one; one image with one question and padding in the second.
SECOND = SEGMENTS_PER_IMAGE
SEGMENTS = torch.tensor(
    [[0, 0, 1, 1, 2, SECOND, SECOND, SECOND + 1], [0, 0, 0, 1, 1, -1, -1, -1]],
)
POSITIONS = torch.tensor([[0, 1, 2, 3, 2, 0, 1, 2], [0, 1, 2, 3, 4, 0, 0, 0]])
MASK = (SEGMENTS >= 0).long()
SEEN = [
    "1.......",
    "11......",
    "111.....",
    "1111....",
    "11..1...",
    ".....1..",
    ".....11.",
    ".....111",
]


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 300, SEGMENTS.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": MASK, "position_ids": POSITIONS, "segment_ids": SEGMENTS}


def without_compiling(make, *args, **kwargs):
    return make(*args, **{**kwargs, "_compile": False})


def text_config(model, implementation: str):
    config = type(model.config.text_config)(**model.config.text_config.to_dict())
    config._attn_implementation = implementation
    return config


# --- who sees whom ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flex_attention"])
def test_a_segment_sees_its_image_s_prefix_and_itself(model, implementation, monkeypatch):
    # The block mask uncompiled: compiling it takes most of a minute, and a compiler.
    monkeypatch.setattr(masking_utils, "create_block_mask", partial(without_compiling, create_block_mask))
    embeds = torch.zeros(2, 8, 32)
    mask = segment_mask(text_config(model, implementation), embeds, MASK, None, SEGMENTS)
    if implementation == "flex_attention":
        places = torch.arange(8)
        mask = mask.mask_mod(torch.tensor(0), torch.tensor(0), places[:, None], places[None, :])
    else:
        mask = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
    assert ["".join(".1"[int(seen)] for seen in row) for row in mask] == SEEN


def test_padding_sees_padding_so_that_no_position_sees_nothing(model):
    mask = segment_mask(text_config(model, "sdpa"), torch.zeros(2, 8, 32), MASK, None, SEGMENTS)
    assert mask[:, 0].any(-1).all()
    assert not mask[1, 0, :5, 5:].any() and not mask[1, 0, 5:, :5].any()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_segment_computes_what_it_computes_alone(make_model, config, inputs, attention):
    own = make_model(deepcopy(config))  # the kernel is written into the configuration, which all models here share
    own.set_attn_implementation(attention)
    with torch.no_grad():
        together = own(**inputs).logits
        for row, places in ((0, [0, 1, 2, 3]), (0, [0, 1, 4]), (0, [5, 6, 7]), (1, [0, 1, 2, 3, 4])):
            alone = own(input_ids=inputs["input_ids"][row, places].unsqueeze(0)).logits[0]
            torch.testing.assert_close(together[row, places], alone, rtol=1e-4, atol=1e-5)


def test_an_image_in_the_row_means_nothing_to_the_next(model, config, batch):
    """Pixels of the second image change what is computed about it, and about nothing else."""
    image = [config.image_token_index] * 4
    ids = torch.tensor([[1, *image, 30, 40, 1, *image, 30, 41]])
    segments = torch.tensor([[0] * 5 + [1] * 2 + [SECOND] * 5 + [SECOND + 1] * 2])
    row = {"input_ids": ids, "segment_ids": segments, "attention_mask": torch.ones_like(ids)}
    row["position_ids"] = torch.tensor([[*range(7), *range(7)]])
    with torch.no_grad():
        first = model(pixel_values=batch.pixel_values[[0, 1]], **row).logits[0]
        second = model(pixel_values=batch.pixel_values[[0, 2]], **row).logits[0]
    assert first[:7].equal(second[:7])
    assert not torch.allclose(first[7:], second[7:], atol=1e-3)


def test_gradients_of_padded_rows_are_finite(fresh_model, inputs):
    labels = inputs["input_ids"].masked_fill(SEGMENTS % SEGMENTS_PER_IMAGE == 0, -100).masked_fill(SEGMENTS < 0, -100)
    fresh_model(**inputs, labels=labels).loss.backward()
    found = [p.grad for p in fresh_model.model.language_model.parameters() if p.grad is not None]
    assert found and all(grad.isfinite().all() for grad in found)


# --- mistakes that nothing else would notice -------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flash_attention_3", "kernels-community/flash-attn"])
def test_kernels_without_a_mask_are_refused(model, implementation):
    with pytest.raises(ValueError, match=f"attn_implementation='{implementation}' ignores; use 'sdpa' or 'eager'"):
        segment_mask(text_config(model, implementation), torch.zeros(2, 8, 32), MASK, None, SEGMENTS)


def test_a_missing_attention_mask_is_refused(model, inputs):
    del inputs["attention_mask"]
    with pytest.raises(ValueError, match=r"attention_mask of their own shape \[2, 8\], found none"):
        model(**inputs)
    with pytest.raises(ValueError, match=r"their own shape \[2, 8\], found \[2, 7\]"):
        model(**inputs, attention_mask=MASK[:, 1:])


@pytest.mark.parametrize("kept", ["input_ids position_ids", "input_ids position_ids attention_mask"])
def test_missing_segments_are_refused(model, inputs, kept):
    inputs = {name: inputs[name] for name in kept.split()}
    with pytest.raises(ValueError, match="position_ids start again within a row, but segment_ids are missing"):
        model(**inputs)
    # What would have come of it without a word: other numbers.
    with torch.no_grad():
        wrong = model.model.language_model(**inputs).last_hidden_state
        right = model.model(**{**inputs, "attention_mask": MASK}, segment_ids=SEGMENTS).last_hidden_state
    assert not torch.allclose(wrong[0, 4], right[0, 4], atol=1e-3)


def test_positions_of_ordinary_batches_are_not_refused():
    left_padded = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    positions = (left_padded.cumsum(1) - 1).masked_fill(left_padded == 0, 1)
    refuse_restarting_positions(positions, left_padded)
    refuse_restarting_positions(positions[:, -1:], left_padded)  # a step of generation
    refuse_restarting_positions(positions[:, -2:], left_padded)  # several tokens behind a cache
    refuse_restarting_positions(torch.tensor([[0, 1, 2, 3]]), None)
    refuse_restarting_positions(None, left_padded)
    with pytest.raises(ValueError, match="segment_ids are missing"):
        refuse_restarting_positions(torch.tensor([[0, 1, 2, 1]]), None)


# --- logits of chosen positions --------------------------------------------------------------------------------------


def test_logits_of_chosen_positions_are_those_of_all(model, inputs):
    chosen = torch.rand(SEGMENTS.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    with torch.no_grad():
        everything = model(**inputs).logits
        some = model(**inputs, logits_to_keep=chosen).logits
        none = model(**inputs, logits_to_keep=torch.zeros_like(chosen)).logits
    assert 0 < len(some) == int(chosen.sum()) < chosen.numel()
    torch.testing.assert_close(some, everything[chosen], rtol=1e-5, atol=1e-5)
    assert list(none.shape) == [0, everything.shape[-1]]
    with pytest.raises(ValueError, match="give labels or a bool logits_to_keep, not both"):
        model(**inputs, logits_to_keep=chosen, labels=inputs["input_ids"])
