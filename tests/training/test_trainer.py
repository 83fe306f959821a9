"""The trainer against the same thing written out by hand."""

import pytest
import torch

from pefomed.model.adapters import fresh_adapter
from pefomed.model.processing import IGNORE_LABEL
from pefomed.training.collator import TrainingCollator
from pefomed.training.stages import get_stage
from pefomed.training.trainer import PefomedTrainer, sft_config


def trainer_of(small, rows, folder, **changes):
    model, processor = small
    changes = {"epochs": 1, "batch_size": 4, "lora_dropout": 0.0, "warmup_steps": 0, **changes}
    stage = get_stage("stage2_vqa", "tiny", **changes)
    torch.manual_seed(0)
    adapted = fresh_adapter(model, stage.lora_r, stage.lora_alpha, stage.lora_dropout)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    collator = TrainingCollator(processor)
    trainer = PefomedTrainer(
        model=adapted,
        args=sft_config(stage, str(folder), 0, len(rows), 0, True),
        train_dataset=rows,
        data_collator=collator,
        processing_class=processor,
        stage=stage,
    )
    return trainer, adapted, collator


def answer_losses(model, batch) -> list[torch.Tensor]:
    """Per sample, the losses of its label tokens."""
    logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1].log_softmax(-1)
    labels = batch["labels"][:, 1:]
    losses = []
    for row_logits, row_labels in zip(logits, labels, strict=True):
        learnt = row_labels != IGNORE_LABEL
        losses.append(-row_logits[learnt].gather(1, row_labels[learnt].unsqueeze(1)).squeeze(1))
    return losses


@pytest.mark.parametrize("loss", ["token_mean", "answer_mean"])
def test_the_loss_is_the_mean_it_says(small, phantoms, tmp_path, loss):
    trainer, model, collator = trainer_of(small, phantoms["train"], tmp_path, loss=loss)
    batch = collator(list(phantoms["train"].select(range(6))))
    model.eval()
    with torch.no_grad():
        found = trainer.compute_loss(model, dict(batch))
        per_answer = answer_losses(model, batch)
    expected = (
        torch.cat(per_answer).mean() if loss == "token_mean" else torch.stack([x.mean() for x in per_answer]).mean()
    )
    assert len({len(x) for x in per_answer}) > 1, "the two means could not be told apart"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["token_mean", "answer_mean"])
def test_accumulated_micro_batches_equal_one_batch(tiny_base, phantoms, tmp_path, loss):
    from pefomed.model.presets import load_base

    rows = phantoms["train"].select(range(16))
    ends = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        small = load_base("tiny", tiny_base, dtype=torch.float32)
        # Adam's usual epsilon would turn rounding in a gradient near zero into a whole step.
        changes = {"batch_size": batch_size, "gradient_accumulation": accumulation, "loss": loss, "epsilon": 1e-3}
        trainer, model, _ = trainer_of(small, rows, tmp_path / str(batch_size), **changes)
        trainer.train()
        ends.append({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_gradient_checkpointing_changes_nothing(tiny_base, phantoms, tmp_path):
    from pefomed.model.presets import load_base

    ends = []
    for checkpointing in (False, True):
        small = load_base("tiny", tiny_base, dtype=torch.float32)
        trainer, model, _ = trainer_of(
            small,
            phantoms["train"].select(range(8)),
            tmp_path / str(checkpointing),
            gradient_checkpointing=checkpointing,
        )
        trainer.train()
        ends.append({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_the_trainer_s_learning_rates_are_the_stage_s(small, phantoms, tmp_path):
    from pefomed.training.stages import learning_rate_at

    trainer, _, _ = trainer_of(small, phantoms["train"], tmp_path, epochs=2, warmup_steps=3)
    trainer.train()
    total = trainer.args.max_steps
    logged = {entry["step"]: entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry}
    for step, rate in logged.items():
        assert rate == pytest.approx(learning_rate_at(trainer.stage, step - 1, total, total // 2), rel=1e-6)


def test_only_projector_bias_is_spared_weight_decay(small, phantoms, tmp_path):
    trainer, model, _ = trainer_of(small, phantoms["train"], tmp_path)
    decayed = set(trainer.get_decay_parameter_names(model))
    spared = {name for name, p in model.named_parameters() if p.requires_grad and name not in decayed}
    assert [name.rpartition(".")[2] for name in spared] == ["bias"]
    assert all("multi_modal_projector" in name for name in spared)
