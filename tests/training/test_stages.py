"""Recipes and schedules."""

import dataclasses

import pytest

from pefomed.training.stages import STAGES, Stage, get_stage, learning_rate_at


def test_the_paper_s_values_stand_in_the_paper_s_recipe():
    stage = get_stage("stage2_vqa", "paper")
    assert (stage.learning_rate, stage.min_learning_rate, stage.epochs) == (3e-5, 1e-5, 50)
    assert (stage.lora_r, stage.lora_alpha, stage.max_text_tokens) == (64, 16, 1024)


def test_the_released_code_s_values_differ_by_name():
    stage = get_stage("stage2_vqa", "released_code")
    assert (stage.learning_rate, stage.min_learning_rate) == (1e-5, 1e-6)
    assert stage.epochs * stage.steps_per_epoch * stage.batch_size == 5000
    assert stage.schedule == "released_code"


def test_every_field_is_documented():
    for field in dataclasses.fields(Stage):
        assert f"{field.name}" in Stage.__doc__, f"{field.name} is not in the docstring"


@pytest.mark.parametrize("recipe", STAGES["stage2_vqa"])
def test_the_schedule_warms_up_then_falls_to_its_minimum(recipe):
    stage = get_stage("stage2_vqa", recipe)
    per_epoch = stage.steps_per_epoch or 200
    total = per_epoch * stage.epochs
    rates = [learning_rate_at(stage, step, total, per_epoch) for step in range(total)]
    assert rates[0] == pytest.approx(stage.warmup_learning_rate)
    assert max(rates) == pytest.approx(stage.learning_rate, rel=1e-3)
    after = rates[stage.warmup_steps :]
    assert all(later <= earlier + 1e-15 for earlier, later in zip(after, after[1:], strict=False))
    if stage.schedule == "cosine":
        assert learning_rate_at(stage, total, total, per_epoch) == pytest.approx(stage.min_learning_rate)
    else:
        assert rates[-1] > stage.min_learning_rate, "the published schedule never reaches its minimum"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stage9", "paper"), "unknown stage 'stage9'; choose from"),
        (("stage2_vqa", "papr"), "unknown recipe 'papr'"),
        (("stage2_vqa", "paper", {"nosuch": 1}), "unknown stage value 'nosuch'"),
        (("stage2_vqa", "paper", {"epochs": 0}), "epochs must be at least 1"),
        (("stage2_vqa", "paper", {"loss": "mean"}), "loss must be one of token_mean, answer_mean"),
        (("stage2_vqa", "paper", {"min_learning_rate": 1.0}), "must lie between 0 and"),
    ],
)
def test_impossible_values_are_refused_by_name(arguments, message):
    name, recipe, *changes = arguments
    with pytest.raises(ValueError, match=message):
        get_stage(name, recipe, **(changes[0] if changes else {}))
