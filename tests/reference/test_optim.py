"""The larger record: gradients and three AdamW steps, with the optimiser that our trainer makes."""

import datasets
import pytest
import torch

from pefomed.training.stages import Stage
from pefomed.training.trainer import PefomedTrainer, sft_config

OPTIM, TRAIN = "optim.safetensors", "train.safetensors"
OWNED = {OPTIM: ("",)}


@pytest.fixture(scope="module")
def recorded(record):
    return record.json("optim.json")


@pytest.fixture(scope="module")
def batch(record, large, pictures, recorded):
    samples = record.json("train.json")["samples"]
    assert record.json("train.json")["batches"][0]["members"] == recorded["batch_members"]
    return {
        "input_ids": large.ids(record.array(TRAIN, "batch0/ids")),
        "labels": torch.from_numpy(record.array(TRAIN, "batch0/labels")),
        "attention_mask": torch.from_numpy(record.array(TRAIN, "batch0/attention_mask")),
        "pixel_values": pictures(*(samples[member]["image"] for member in recorded["batch_members"])),
    }


@pytest.fixture(scope="module")
def trained(record, large, recorded, batch, tmp_path_factory):
    """Published name -> parameter, and the optimiser of our trainer for a stage with the recorded values."""
    folder = tmp_path_factory.mktemp("optim")
    stage = Stage(
        name="stage2_vqa",
        recipe="recorded",
        epochs=3,
        batch_size=4,
        learning_rate=recorded["lr"],
        min_learning_rate=recorded["lr"],
        warmup_steps=0,
        weight_decay=recorded["groups"][0]["weight_decay"],
        beta1=recorded["betas"][0],
        beta2=recorded["betas"][1],
        epsilon=recorded["eps"],
    )
    model = large.adapted(large.adapter_without_dropout(folder / "a", record.folder / "weights" / "checkpoint_0.pth"))
    trainer = PefomedTrainer(
        model=model,
        args=sft_config(stage, str(folder), seed=0, samples=4, workers=0, use_cpu=True),
        train_dataset=datasets.Dataset.from_list([{"row": i} for i in range(4)]),
        data_collator=lambda rows: batch,
        processing_class=large.processor,
        stage=stage,
    )
    names = [name.removeprefix("grad0/") for name in record.listed(OPTIM, "grad0/")]
    parameters = {
        name: large.trained_parameter(model, name, torch.from_numpy(record.array(OPTIM, f"grad0/{name}")))
        for name in names
    }
    return model, parameters, trainer.create_optimizer()


def test_groups(recorded, trained):
    _, parameters, optimiser = trained
    ours = [(group["weight_decay"], {id(p) for p in group["params"]}) for group in optimiser.param_groups]
    expected = [
        (group["weight_decay"], {id(parameters[name]) for name in group["params"]}) for group in recorded["groups"]
    ]
    assert ours == expected
    assert recorded["grad_clip"] is None


def test_three_steps(record, recorded, trained, batch):
    model, parameters, optimiser = trained
    model.eval()
    for step in recorded["steps"]:
        loss = model(**batch).loss
        assert loss.item() == pytest.approx(step["loss"], rel=1e-5)
        optimiser.zero_grad()
        loss.backward()
        norms = {name: parameter.grad.norm().item() for name, parameter in parameters.items()}
        # Later gradients are taken at parameters that already differ by Adam's rounding.
        tolerance = 2e-5 if step["step"] == 0 else 1e-3
        assert norms == pytest.approx(step["grad_norm"], rel=tolerance)
        total = sum(norm**2 for norm in norms.values()) ** 0.5
        assert total == pytest.approx(step["total_grad_norm"], rel=tolerance)
        if step["step"] == 0:
            for name, parameter in parameters.items():
                record.close(OPTIM, f"grad0/{name}", parameter.grad, relative=2e-5)
        optimiser.step()
        after = {name: parameter.norm().item() for name, parameter in parameters.items()}
        assert after == pytest.approx(step["param_norm_after"], rel=1e-5)
    for name, parameter in parameters.items():
        record.close(OPTIM, f"param3/{name}", parameter, absolute=2e-4)
    with torch.no_grad():
        assert model(**batch).loss.item() == pytest.approx(recorded["loss_after_3_steps"], rel=1e-5)


def test_every_listed_array_was_compared(record, request):
    record.assert_complete(request, OWNED)
