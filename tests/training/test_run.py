"""A run in its folder."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from pefomed.model.adapters import load_adapter
from pefomed.model.presets import load_base
from pefomed.procedure import CLEAN
from pefomed.training.run import train_stage
from pefomed.training.stages import get_stage

STAGE = get_stage("stage2_vqa", "tiny", epochs=2, batch_size=8, warmup_steps=2, save_steps=3, max_text_tokens=8)


def run(tiny_base, phantoms, folder, stage=STAGE, validation="val", **changes):
    model, processor = load_base("tiny", tiny_base, dtype=torch.float32)
    arguments = {"seed": 0, "procedure": CLEAN, "data_fingerprint": "drawn", "progress": False, **changes}
    held_out = phantoms[validation] if validation else None
    return train_stage(model, processor, stage, phantoms["train"], held_out, folder, **arguments)


@pytest.fixture(scope="module")
def finished(tiny_base, phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "first"
    return folder, run(tiny_base, phantoms, folder)


def test_it_leaves_adapter_log_and_validation(finished):
    folder, result = finished
    assert result.adapter == folder / "adapter"
    assert {path.name for path in folder.iterdir()} == {"adapter", "plan.json", "train_log.jsonl", "validation"}
    assert [score["step"] for score in result.validation] == [6, 12]
    assert result.trainable["total"] == result.trainable["lora"] + result.trainable["projector"]


def test_the_kept_adapter_is_the_best_by_validation(finished):
    folder, result = finished
    kept = json.loads((folder / "adapter" / "score.json").read_text())
    best = max(result.validation, key=lambda score: (score["exact_match"], -score["step"]))
    assert (kept["step"], kept["exact_match"]) == (best["step"], best["exact_match"])


def test_run_again_it_returns_at_once(finished, tiny_base, phantoms):
    folder, first = finished
    before = (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    again = run(tiny_base, phantoms, folder)
    assert again.seconds == 0 and again.log == first.log
    assert (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"data_fingerprint": "other"}, {"blank_images": True}],
    ids=lambda change: next(iter(change)),
)
def test_another_plan_is_refused_the_folder(finished, tiny_base, phantoms, changes):
    name = "data" if "data_fingerprint" in changes else next(iter(changes))
    with pytest.raises(ValueError, match=f"holds another run .different: .*{name}"):
        run(tiny_base, phantoms, finished[0], **changes)


def test_the_frozen_weights_stay_as_they_were(finished, tiny_base):
    folder, _ = finished
    base, _ = load_base("tiny", tiny_base, dtype=torch.float32)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    adapted = load_adapter(base, folder, trainable=False)
    for name, value in adapted.get_base_model().state_dict().items():
        original = name.replace(".base_layer", "").replace(".original_module", "")
        if original in before:
            assert value.equal(before[original]), name


def test_a_second_stage_records_where_it_came_from(finished, tiny_base, phantoms, tmp_path):
    folder, _ = finished
    run(tiny_base, phantoms, tmp_path / "second", init_from=str(folder))
    origin = json.loads((tmp_path / "second" / "adapter" / "adapter_origin.json").read_text())
    first = json.loads((folder / "adapter" / "adapter_origin.json").read_text())
    assert origin["init_from"] == {"name": "first", "adapter_sha256": first["adapter_sha256"]}
    assert origin["base_fingerprint"] == first["base_fingerprint"]


def test_without_validation_the_last_weights_are_kept(tiny_base, phantoms, tmp_path):
    result = run(tiny_base, phantoms, tmp_path / "last", validation=None)
    assert result.validation == []
    assert not (tmp_path / "last" / "adapter" / "score.json").exists()


def test_a_torn_checkpoint_is_not_resumed_from(tiny_base, phantoms, tmp_path):
    torn = tmp_path / "torn" / "checkpoints" / "checkpoint-9"
    torn.mkdir(parents=True)
    (torn / "trainer_state.json").write_text("{")
    result = run(tiny_base, phantoms, tmp_path / "torn")
    assert result.seconds > 0
    assert not torn.exists()


def test_kept_features_train_the_same_adapter(tiny_base, phantoms, tmp_path):
    weights = []
    for kept in (False, True):
        stage = dataclasses.replace(STAGE, frozen_features=kept)
        result = run(tiny_base, phantoms, tmp_path / str(kept), stage=stage, validation=None)
        weights.append(load_file(result.adapter / "adapter_model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
