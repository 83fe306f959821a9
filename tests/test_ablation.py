"""The four conditions and the two controls, trained on a random network and a few phantoms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pefomed.ablation import run_conditions
from pefomed.conditions import CONDITIONS, CONTROLS
from pefomed.files import read_json
from pefomed.predictions import read_predictions
from pefomed.reporting.conditions import condition_scores
from pefomed.settings import RunSettings
from pefomed.training.validation import validation_history

ALL = (*CONDITIONS, *CONTROLS)
SMALL = {"epochs": 1, "batch_size": 8, "lora_r": 4, "warmup_steps": 1}


def settings(tiny_base: Path, folder: Path) -> tuple[RunSettings, RunSettings]:
    """Stage 1 on 24 captions and questions, stage 2 on 24 questions."""
    common = {"base_dir": str(tiny_base), "stage_changes": SMALL}
    shapes = {"images": 6, "questions_per_image": 2, "ratio": 40}
    stage1 = RunSettings(
        stage="stage1_captions",
        dataset="mixture",
        mixture={"phantoms": {"images": 12, "seed": 1, "ratio": 60}, "shapes": shapes},
        output_dir=str(folder / "stage1"),
        **common,
    )
    data = {"images": 6, "questions_per_image": 4}
    return stage1, RunSettings(dataset_options=data, output_dir="unused", **common)


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory):
    """(folder of the runs, scores); nobody may change the folder."""
    folder = tmp_path_factory.mktemp("ablation")
    scores = run_conditions(*settings(tiny_base, folder), folder / "vqa", ALL, max_new_tokens=3, progress=False)
    return folder, scores


def plan(run: Path) -> dict:
    return read_json(run / "plan.json")


def steps(run: Path) -> int:
    """Optimiser steps that a run really took; the last one is validated."""
    return validation_history(run / "validation")[-1]["step"]


def test_every_condition_leaves_its_answers_and_scores(finished) -> None:
    folder, scores = finished
    assert tuple(scores) == ALL
    for condition in ALL:
        rows = read_predictions(folder / "vqa" / condition / "predictions.jsonl")
        assert {row["condition"] for row in rows} == {condition}
        assert len(rows) == 24
        assert read_json(folder / "vqa" / condition / "metrics.json") == scores[condition]
    assert not Path("unused").exists()


def test_each_condition_answers_with_weights_of_its_own(finished) -> None:
    folder, _ = finished
    models = {c: read_predictions(folder / "vqa" / c / "predictions.jsonl")[0]["model"] for c in ALL}
    assert len(set(models.values())) == len(ALL), models
    of_stage1 = read_json(folder / "stage1" / "adapter" / "adapter_origin.json")["adapter_sha256"]
    assert models["stage1"] == f"tiny@{of_stage1[:12]}"


def test_conditions_start_where_they_should(finished) -> None:
    folder, _ = finished
    starts = {c: plan(folder / "vqa" / c)["init_from"] for c in ("stage2", "stage1+2", "stage2_long", "replay+2")}
    assert starts["stage2"] is None and starts["stage2_long"] is None
    for condition, name in (("stage1+2", "stage1"), ("replay+2", "stage1_replay")):
        origin = read_json(folder / name / "adapter" / "adapter_origin.json")
        assert starts[condition] == {"name": name, "adapter_sha256": origin["adapter_sha256"]}
    for condition in ("zero_shot", "stage1"):
        assert not (folder / "vqa" / condition / "adapter").exists()


def test_the_controls_take_as_many_steps(finished) -> None:
    folder, _ = finished
    first, second = steps(folder / "stage1"), steps(folder / "vqa" / "stage2")
    assert steps(folder / "vqa" / "stage2_long") == first + second
    assert steps(folder / "stage1_replay") == first
    assert steps(folder / "vqa" / "stage1+2") == steps(folder / "vqa" / "replay+2") == second


def test_the_replay_sees_no_caption(finished) -> None:
    folder, _ = finished
    assert [source["name"] for source in plan(folder / "stage1_replay")["sources"]] == ["shapes"]
    assert plan(folder / "stage1_replay")["rows"] == 12
    assert plan(folder / "stage1")["rows"] == 24


def test_the_report_reads_what_it_left(finished) -> None:
    folder, scores = finished
    found = condition_scores(folder / "vqa", n_resamples=20)
    assert tuple(found.scores) == ALL
    for condition in ALL:
        assert found.scores[condition]["overall"].mean == pytest.approx(scores[condition]["exact_match"]["overall"])


def test_a_second_ablation_shares_stage_1(finished, tiny_base: Path) -> None:
    folder, _ = finished
    stage1, stage2 = settings(tiny_base, folder)
    report = replace(stage2, stage="stage2_report", dataset_options={"images": 6})
    weights = folder / "stage1" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    scores = run_conditions(stage1, report, folder / "report", ("stage1",), max_new_tokens=3, progress=False)
    assert weights.stat().st_mtime_ns == before
    assert scores["stage1"]["findings"]["n"] == 6


@pytest.mark.parametrize(
    ("conditions", "first", "second", "words"),
    [
        (("stage3",), {}, {}, "parameter conditions: 'stage3' is none of zero_shot, stage1"),
        (CONDITIONS, {}, {"stage": "stage1_captions"}, "stages must be a stage 1 and a stage 2"),
        (CONDITIONS, {}, {"base_dir": "other"}, "parameter base_dir differs"),
        (
            ("replay+2",),
            {"dataset": "phantoms", "mixture": {}},
            {},
            "'replay+2' needs a stage 1 that mixes in general questions",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    tiny_base: Path, tmp_path: Path, conditions: tuple, first: dict, second: dict, words: str
) -> None:
    stage1, stage2 = settings(tiny_base, tmp_path)
    with pytest.raises(ValueError) as error:
        run_conditions(replace(stage1, **first), replace(stage2, **second), tmp_path / "vqa", conditions)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
