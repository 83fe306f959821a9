"""The learning rate at every step of the published configurations and of invented ones."""

import pytest

from pefomed.training.stages import STAGES, Stage, learning_rate_at


def _configurations(record):
    recorded = record.json("lr_schedule.json")
    return {**recorded["stage_configs"], **recorded["invented_configs"]}


def _stage(config):
    return Stage(
        name="stage2_vqa",
        recipe="recorded",
        epochs=config["max_epoch"],
        steps_per_epoch=config["iters_per_epoch"],
        batch_size=config["batch_size_train"],
        learning_rate=config["init_lr"],
        min_learning_rate=config["min_lr"],
        warmup_learning_rate=config["warmup_lr"],
        warmup_steps=config["warmup_steps"],
        weight_decay=config["weight_decay"],
        schedule="released_code",
    )


def test_every_step(record):
    configurations = _configurations(record)
    assert len(configurations) == 8
    for name, facts in configurations.items():
        stage = _stage(facts["config"])
        total = stage.epochs * stage.steps_per_epoch
        expected = []
        for runs in facts["epochs"]:
            for first, last, rate in runs:
                expected += [rate] * (last - first + 1)
        ours = [learning_rate_at(stage, step, total, stage.steps_per_epoch) for step in range(total)]
        assert len(expected) == total, name
        assert ours == pytest.approx(expected, rel=0, abs=1e-12), name


# The published files of the three VQA data sets agree in all of these values.
PUBLISHED = {
    "stage1_captions": ["finetune_stage1.yaml"],
    "stage2_vqa": ["vqarad_finetune_stage2.yaml", "slake_finetune_stage2.yaml", "pathvqa_finetune_stage2.yaml"],
    "stage2_report": ["iuxray_finetune_stage2.yaml"],
}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_our_recipes_are_the_published_configurations(record, stage):
    ours = STAGES[stage]["released_code"]
    for file in PUBLISHED[stage]:
        published = _stage(_configurations(record)[file]["config"])
        for value in (
            *("schedule", "epochs", "steps_per_epoch", "learning_rate", "min_learning_rate"),
            *("warmup_learning_rate", "warmup_steps", "weight_decay"),
        ):
            assert getattr(ours, value) == getattr(published, value), f"{file}: {value}"
        assert ours.batch_size * ours.gradient_accumulation == published.batch_size
