"""The very small record: greedy answers, position ids, verdicts and learning rates."""

import pytest
import torch

from pefomed.metrics import is_match
from pefomed.training.stages import Stage, learning_rate_at

EXPECTED, INPUTS = "expected.safetensors", "inputs.safetensors"
OWNED = {EXPECTED: ("infer/",), INPUTS: ("infer/position_ids",)}


def test_greedy_answers(small, small_record, small_model):
    settings = small_record.json("README.json")["generate_arguments"]
    pixels = torch.from_numpy(small_record.array(INPUTS, "pixels"))
    index = torch.from_numpy(small_record.array(INPUTS, "infer/image_index"))
    ids = small.ids(small_record.array(INPUTS, "infer/ids"))
    mask = torch.from_numpy(small_record.array(INPUTS, "infer/attention_mask"))
    positions = []
    language_model = small_model.get_base_model().model.language_model
    hook = language_model.register_forward_pre_hook(
        lambda module, args, kwargs: positions.append(kwargs["position_ids"]), with_kwargs=True
    )
    out = small_model.generate(
        input_ids=ids,
        attention_mask=mask,
        pixel_values=pixels[index],
        do_sample=False,
        max_new_tokens=settings["max_new_tokens"],
        pad_token_id=0,
        eos_token_id=2,
        output_logits=True,
        return_dict_in_generate=True,
    )
    hook.remove()
    new = out.sequences[:, ids.shape[1] :]
    small_record.exact(EXPECTED, "infer/new_ids", new)
    lengths = [int((row == 2).nonzero()[0]) + 1 if (row == 2).any() else len(row) for row in new]
    small_record.exact(EXPECTED, "infer/n_new", torch.tensor(lengths))
    small_record.close(EXPECTED, "infer/first_logits", out.logits[0], absolute=1e-4)
    # Where there is padding, positions decide nothing; the published code writes 1 there.
    small_record.exact(INPUTS, "infer/position_ids", positions[0].masked_fill(mask == 0, 1))


def test_exact_match_verdicts(small_record):
    items = small_record.json("vqa_match.json")["items"]
    assert len(items) == 40
    for item in items:
        assert is_match(item["prediction"], item["answer"]) == bool(item["correct"]), item


def test_learning_rates(small_record):
    recorded = small_record.json("lr_schedule.json")
    config = recorded["config"]
    stage = Stage(
        name="stage1_captions",
        recipe="recorded",
        epochs=config["max_epoch"],
        steps_per_epoch=config["iters_per_epoch"],
        batch_size=1,
        learning_rate=config["init_lr"],
        min_learning_rate=config["min_lr"],
        warmup_learning_rate=config["warmup_lr"],
        warmup_steps=config["warmup_steps"],
        schedule="released_code",
    )
    per_epoch = config["iters_per_epoch"]
    flat = [rate for epoch in recorded["lr"] for rate in epoch]
    ours = [learning_rate_at(stage, step, len(flat), per_epoch) for step in range(len(flat))]
    assert ours == pytest.approx(flat, rel=0, abs=1e-12)


def test_every_listed_array_was_compared(small_record, request):
    small_record.assert_complete(request, OWNED)
