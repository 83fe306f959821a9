"""The very small record: gradients, and three AdamW steps taken by our own trainer."""

import datasets
import pytest
import torch

from pefomed.training.stages import Stage
from pefomed.training.trainer import PefomedTrainer, sft_config

EXPECTED, INPUTS = "expected.safetensors", "inputs.safetensors"
OWNED = {EXPECTED: ("grad/", "after3/", "train/loss_steps")}


@pytest.fixture(scope="module")
def batch(small, small_record):
    pixels = torch.from_numpy(small_record.array(INPUTS, "pixels"))
    return {
        "input_ids": small.ids(small_record.array(INPUTS, "train/ids")),
        "attention_mask": torch.from_numpy(small_record.array(INPUTS, "train/attention_mask")),
        "labels": torch.from_numpy(small_record.array(INPUTS, "train/labels")),
        "pixel_values": pixels[torch.from_numpy(small_record.array(INPUTS, "train/image_index"))],
    }


@pytest.fixture(scope="module")
def trainer(small, small_record, batch, tmp_path_factory):
    """Three steps on the recorded batch: AdamW, constant rate, no clipping, no dropout."""
    folder = tmp_path_factory.mktemp("trainer")
    recorded = small_record.json("README.json")["optimizer"]
    stage = Stage(
        name="stage2_vqa",
        recipe="recorded",
        epochs=3,
        batch_size=4,
        learning_rate=recorded["lr"],
        min_learning_rate=recorded["lr"],
        warmup_steps=0,
        weight_decay=recorded["groups"][0]["weight_decay"],
    )
    adapter = small.adapter_without_dropout(folder / "adapter", small_record.folder / "checkpoint.pth")
    return PefomedTrainer(
        model=small.adapted(adapter),
        args=sft_config(stage, str(folder), seed=0, samples=4, workers=0, use_cpu=True),
        train_dataset=datasets.Dataset.from_list([{"row": i} for i in range(4)]),
        # Rows come shuffled; the batch is the same four.
        data_collator=lambda rows: {name: tensor[sorted(r["row"] for r in rows)] for name, tensor in batch.items()},
        processing_class=small.processor,
        stage=stage,
    )


def test_gradients(small, small_record, batch):
    model = small.adapted()
    model(**batch).loss.backward()
    for name in small_record.listed(EXPECTED, "grad/"):
        recorded = torch.from_numpy(small_record.array(EXPECTED, name))
        parameter = small.trained_parameter(model, name.removeprefix("grad/"), recorded)
        small_record.close(EXPECTED, name, parameter.grad, absolute=1e-5)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trained) == len(small_record.listed(EXPECTED, "grad/"))


def test_optimiser_groups(small, small_record, trainer):
    """All that trains decays, but for the projector's bias."""
    recorded = small_record.json("README.json")["optimizer"]
    optimiser = trainer.create_optimizer()
    assert isinstance(optimiser, torch.optim.AdamW)
    groups = [(group["weight_decay"], {id(p) for p in group["params"]}) for group in optimiser.param_groups]
    expected = []
    for group in recorded["groups"]:
        tensors = {name: torch.from_numpy(small_record.array(EXPECTED, f"after3/{name}")) for name in group["params"]}
        parameters = {id(small.trained_parameter(trainer.model, name, tensors[name])) for name in tensors}
        expected.append((group["weight_decay"], parameters))
    assert groups == expected
    for group in optimiser.param_groups:
        assert (group["betas"], group["eps"], group["lr"]) == (
            tuple(recorded["betas"]),
            recorded["eps"],
            recorded["lr"],
        )


def test_three_steps(small, small_record, trainer, batch):
    losses = []
    inner = trainer.compute_loss
    trainer.compute_loss = lambda *args, **kwargs: losses.append(inner(*args, **kwargs)) or losses[-1]
    trainer.train()
    assert trainer.state.global_step == 3
    with torch.no_grad():
        losses.append(trainer.model.eval()(**batch).loss)
    small_record.close(EXPECTED, "train/loss_steps", torch.stack([loss.detach() for loss in losses]), absolute=2e-5)
    for name in small_record.listed(EXPECTED, "after3/"):
        recorded = torch.from_numpy(small_record.array(EXPECTED, name))
        parameter = small.trained_parameter(trainer.model, name.removeprefix("after3/"), recorded)
        small_record.close(EXPECTED, name, parameter, absolute=1e-5)


def test_every_listed_array_was_compared(small_record, request):
    small_record.assert_complete(request, OWNED)
