"""Pictures found broken while training: left out of the loss, written down once, bounded."""

import json
from dataclasses import replace

import pytest
import torch

from pefomed.model.processing import IGNORE_LABEL
from pefomed.training.broken import BrokenPictures
from pefomed.training.collator import TrainingCollator


@pytest.fixture
def collator(small, tmp_path):
    _, processor = small
    return TrainingCollator(processor, broken=BrokenPictures(tmp_path / "broken.jsonl", rows=400))


def with_broken(rows: list[dict], *indices: int) -> list[dict]:
    return [
        {**row, "image": {"bytes": row["image"]["bytes"][:60], "path": None}} if number in indices else row
        for number, row in enumerate(rows)
    ]


def test_a_broken_picture_is_left_out_of_the_loss_and_the_others_stay_as_they_were(collator, phantoms):
    rows = list(phantoms["train"].select(range(4)))
    whole, damaged = collator(rows), collator(with_broken(rows, 2))
    assert (damaged["labels"][2] == IGNORE_LABEL).all()
    for row in (0, 1, 3):
        assert damaged["labels"][row].equal(whole["labels"][row])
        assert damaged["pixel_values"][row].equal(whole["pixel_values"][row])


def test_it_is_written_down_once_however_often_it_comes(collator, phantoms):
    rows = with_broken(list(phantoms["train"].select(range(4))), 1, 3)
    for _ in range(3):
        collator(rows)
    lines = [json.loads(line) for line in collator.broken.file.read_text().splitlines()]
    assert [line["id"] for line in lines] == [rows[1]["id"], rows[3]["id"]]
    assert collator.broken.check() == 2


def test_too_many_end_the_training_and_name_the_first(collator, phantoms):
    rows = with_broken(list(phantoms["train"].select(range(8))), *range(5))
    collator(rows)
    with pytest.raises(ValueError, match=r"5 of 400 training rows .* more than 1.00%; first ") as error:
        collator.broken.check()
    assert rows[0]["id"] in str(error.value)


def test_without_the_bound_a_broken_picture_is_an_error(collator, phantoms):
    rows = with_broken(list(phantoms["train"].select(range(2))), 0)
    with pytest.raises(ValueError, match="row|picture"):
        replace(collator, broken=None)(rows)


def test_a_batch_of_broken_pictures_only_changes_nothing_and_divides_by_nothing(tiny_base, phantoms, tmp_path):
    from pefomed.model.adapters import fresh_adapter
    from pefomed.model.presets import load_base
    from pefomed.training.stages import get_stage
    from pefomed.training.trainer import PefomedTrainer, sft_config

    model, processor = load_base("tiny", tiny_base, dtype=torch.float32)
    stage = get_stage("stage2_vqa", "tiny", epochs=1, batch_size=4, warmup_steps=0, weight_decay=0.0)
    rows = phantoms["train"].select(range(4))
    broken = rows.map(lambda row: {"image": {"bytes": row["image"]["bytes"][:60], "path": None}})
    collator = TrainingCollator(processor, broken=BrokenPictures(tmp_path / "broken.jsonl", rows=400))
    adapted = fresh_adapter(model, 4, 8, 0.0)
    before = {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}
    trainer = PefomedTrainer(
        model=adapted,
        args=sft_config(stage, str(tmp_path / "run"), 0, len(rows), 0, True),
        train_dataset=broken,
        data_collator=collator,
        processing_class=processor,
        stage=stage,
    )
    trainer.train()
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            assert parameter.equal(before[name]), name
