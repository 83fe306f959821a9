"""Settings, splits, and one run from beginning to end on a random network and a few phantoms."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pefomed.data.options import OPTIONS, TASKS
from pefomed.files import read_json, write_json
from pefomed.inference import generate
from pefomed.model.adapters import base_fingerprint
from pefomed.model.presets import PRESETS, load_base
from pefomed.predictions import read_predictions
from pefomed.runs import condition_of, evaluate_run, generate_run, train_run
from pefomed.settings import (
    DEFAULT_RECIPES,
    STAGE_VALUES,
    RunSettings,
    read_run_settings,
    read_settings,
    typed,
)
from pefomed.splits import check_pictures, limit_rows, load_splits
from pefomed.training.stages import STAGE2_VQA

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


def small(tiny_base: Path, output_dir: Path, **changes) -> RunSettings:
    """One epoch over 24 questions about 6 drawn pictures."""
    values = {
        "base_dir": str(tiny_base),
        "dataset_options": {"images": 6, "questions_per_image": 4},
        "stage_changes": {"epochs": 1, "batch_size": 8, "lora_r": 4},
        "output_dir": str(output_dir),
    }
    return RunSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory):
    """Settings and result of a trained run that has answered and been scored; nobody may change its folder."""
    settings = small(tiny_base, tmp_path_factory.mktemp("runs") / "first")
    result = train_run(settings, progress=False)
    generate_run(settings, max_new_tokens=4, progress=False)
    evaluate_run(settings.output_dir)
    return settings, result


def test_every_parameter_has_a_default_but_the_folder() -> None:
    settings = RunSettings(output_dir="runs/x")
    assert (settings.preset, settings.dataset, settings.seed, settings.limit) == ("tiny", "phantoms", 0, 0)
    assert settings.make_stage() == STAGE2_VQA["tiny"]


def test_the_recipe_is_the_presets_unless_named() -> None:
    paper = RunSettings(output_dir="x", preset="paper", base_dir="b")
    assert paper.make_stage() == STAGE2_VQA["paper"]
    assert replace(paper, recipe="released_code").make_stage() == STAGE2_VQA["released_code"]
    changed = replace(paper, stage_changes={"epochs": 2, "learning_rate": 1})
    assert changed.make_stage() == replace(STAGE2_VQA["paper"], epochs=2, learning_rate=1.0)


def test_a_path_is_taken_as_its_text(tmp_path: Path) -> None:
    assert RunSettings(output_dir=tmp_path).output_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "huge"}, "parameter preset must be one of tiny, paper, not 'huge'"),
        ({"preset": "paper"}, "parameter base_dir is empty"),
        ({"stage": "stage3"}, "unknown stage 'stage3'"),
        ({"recipe": "best"}, "unknown recipe 'best'"),
        ({"dataset": "imagenet"}, "parameter dataset must be one of phantoms, shapes, vqa_rad"),
        ({"dataset": "vqa_rad"}, "parameter data_dir is empty"),
        ({"data_dir": "d"}, "parameter data_dir must be empty"),
        ({"procedure": "dirty"}, "unknown procedure 'dirty'"),
        ({"train_images": "none"}, "parameter train_images must be one of real, blank"),
        ({"seed": -1}, "parameter seed"),
        ({"seed": 2**32}, "parameter seed"),
        ({"seed": True}, "parameter seed must be int, not True"),
        ({"limit": -3}, "parameter limit"),
        ({"limit": 1.0}, "parameter limit must be int"),
        ({"output_dir": " "}, "parameter output_dir is empty"),
        ({"dataset_options": {"task": "report"}}, "parameter dataset_options has no entry 'task'"),
        ({"dataset_options": {"images": "8"}}, "parameter dataset_options.images must be int"),
        ({"stage_changes": {"epochs": "2"}}, "parameter stage_changes.epochs must be int"),
        ({"stage_changes": {"name": "x"}}, "parameter stage_changes has no entry 'name'"),
        ({"stage_changes": {"batch_size": 0}}, "batch_size must be at least 1"),
        ({"stage_changes": {"learning_rate": float("inf")}}, "must be a finite float"),
        ({"stage_changes": 3}, "parameter stage_changes must be a table"),
    ],
)
def test_an_impossible_parameter_is_named(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match="^(parameter|unknown|stage)") as error:
        RunSettings(**{"output_dir": "x", **changes})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_tables_of_names_are_those_of_the_modules_they_speak_of() -> None:
    for name, options in OPTIONS.items():
        module = importlib.import_module(f"pefomed.data.{name}")
        load = getattr(module, f"load_{name}", None) or getattr(module, f"read_{name}")
        taken = inspect.signature(load).parameters
        assert set(options) == set(taken) - {"split", "data_dir", "task"}, name
        assert ("task" in taken) == (len(TASKS[name]) > 1), name
    assert tuple(DEFAULT_RECIPES) == PRESETS
    stage = STAGE2_VQA["tiny"]
    assert all(typed(name, getattr(stage, name), wanted) is not None for name, wanted in STAGE_VALUES.items())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_whole_and_explained(path: Path) -> None:
    settings = read_settings(path)
    assert settings.output_dir == f"runs/{path.stem}"
    text = path.read_text(encoding="utf-8")
    assert f"pefomed train configs/{path.name}" in text
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert all("  # " in line for line in lines)
    keys = {line.split(":")[0] for line in lines if not line.startswith(" ")}
    needless = {"base_dir"} if settings.preset == "tiny" else set()
    needless |= {"data_dir"} if settings.dataset == "phantoms" else set()
    needless |= {"data_dir", "dataset_options"} if settings.dataset == "mixture" else {"mixture"}
    needless |= {"features_dir", "features_max_gb"}
    needless |= {"wordings_file"} if settings.stage == "stage2_vqa" else set()
    assert keys == set(asdict(settings)) - needless


def test_the_shipped_configurations_are_there() -> None:
    names = {"stage2_vqa_tiny", "stage2_vqa_vqa_rad_tiny", "stage2_vqa_vqa_rad_paper"}
    names |= {"stage1_captions_tiny", "stage1_captions_paper", "stage2_report_tiny", "stage2_report_iu_xray_paper"}
    names |= {"stage2_vqa_slake_paper", "stage2_vqa_path_vqa_paper"}
    assert {path.stem for path in CONFIGS} >= names | {"stage2_vqa_vqa_rad_released_code"}


def test_values_on_the_command_line_replace_the_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("output_dir: runs/x\nseed: 1\nstage_changes: {epochs: 3, learning_rate: 3e-5}\n")
    assert read_settings(path).stage_changes == {"epochs": 3, "learning_rate": 3e-5}
    changed = read_settings(path, ["seed=2", "stage_changes.epochs=1", "dataset_options.images=4", "init_from=2019"])
    assert (changed.seed, changed.init_from, changed.dataset_options) == (2, "2019", {"images": 4})
    assert changed.stage_changes == {"epochs": 1, "learning_rate": 3e-5}


def test_a_limit_keeps_pictures_together_and_rows_in_order() -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"id": list("abcdefg"), "group": list("1213213")})
    assert limit_rows(rows, 3)["id"] == ["a", "c", "f"]
    assert limit_rows(rows, 4)["id"] == ["a", "b", "c", "f"]
    assert limit_rows(rows, 0)["id"] == limit_rows(rows, 7)["id"] == limit_rows(rows, 99)["id"] == list("abcdefg")


def test_splits_are_limited_fingerprinted_and_described(tmp_path: Path) -> None:
    settings = RunSettings(output_dir=tmp_path, dataset_options={"images": 3, "questions_per_image": 4})
    whole, again = load_splits(settings), load_splits(settings)
    assert [len(rows) for rows in (whole.train, whole.val, whole.test)] == [12, 12, 12]
    assert whole.fingerprint == again.fingerprint
    cut = load_splits(replace(settings, limit=5))
    assert [len(rows) for rows in (cut.train, cut.val, cut.test)] == [5, 5, 5]
    assert len(set(cut.train["group"])) == 2
    assert cut.fingerprint != whole.fingerprint
    assert "train 5 rows about 2 pictures" in cut.description
    assert "limit 5 rows a split" in cut.description


def test_vqa_rad_splits_say_which_form_was_found(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "vqa_rad_official"
    settings = RunSettings(dataset="vqa_rad", data_dir=folder, output_dir=tmp_path, limit=6)
    splits = load_splits(settings)
    assert "in the form 'official'" in splits.description
    assert str(folder.parent) not in splits.description
    assert check_pictures(splits.test, generate.CLEAN) == len(set(splits.test["group"]))
    moved = load_splits(replace(settings, limit=0, dataset_options={"seed": 1}))
    here = load_splits(replace(settings, limit=0))
    # The same rows in all, parted otherwise.
    assert {*moved.train["id"], *moved.val["id"]} == {*here.train["id"], *here.val["id"]}
    assert moved.fingerprint != here.fingerprint
    unparted = load_splits(replace(settings, limit=0, dataset_options={"val_fraction": 0}))
    assert unparted.val is None
    assert len(unparted.train) == 1797


def test_a_run_leaves_what_it_promises(finished) -> None:
    settings, result = finished
    folder = Path(settings.output_dir)
    assert result.adapter == folder / "adapter"
    assert result.trainable["total"] == result.trainable["lora"] + result.trainable["projector"]
    assert [row["step"] for row in result.validation] == [3]
    rows = read_predictions(folder / "predictions.jsonl")
    assert [row["id"] for row in rows] == load_splits(settings).test["id"]
    assert {row["condition"] for row in rows} == {"stage2"}
    sha256 = read_json(folder / "adapter" / "adapter_origin.json")["adapter_sha256"]
    assert {row["model"] for row in rows} == {f"tiny@{sha256[:12]}"}
    metrics = read_json(folder / "metrics.json")
    assert metrics["n"]["overall"] == len(rows) == 24
    assert not [path for path in folder.rglob("*") if "part" in path.name]


def test_run_json_tells_the_run_and_nothing_of_the_machine(finished) -> None:
    settings, _ = finished
    record = read_json(Path(settings.output_dir) / "run.json")
    assert record["data_fingerprint"] == load_splits(settings).fingerprint
    assert record["data"].startswith("phantoms, drawn by the package. Used here: ")
    assert record["durations"]["train"] > 0
    assert record["durations"]["predictions"] > 0
    assert record["parameters"]["stage_changes"] == settings.stage_changes
    assert str(Path(settings.output_dir).parent) not in json.dumps(record)
    assert record["device"].startswith(("cpu", "cuda"))


def test_a_finished_run_is_not_trained_again(finished) -> None:
    settings, result = finished
    weights = (result.adapter / "adapter_model.safetensors").stat()
    before = read_json(Path(settings.output_dir) / "run.json")["durations"]
    again = train_run(settings, progress=False)
    assert again.seconds == 0
    assert (again.log, again.validation, again.trainable) == (result.log, result.validation, result.trainable)
    assert (result.adapter / "adapter_model.safetensors").stat().st_mtime_ns == weights.st_mtime_ns
    assert read_json(Path(settings.output_dir) / "run.json")["durations"] == before


@pytest.fixture
def copied(finished, tmp_path: Path) -> Path:
    """The finished run under another name, to be changed at will."""
    return Path(shutil.copytree(finished[0].output_dir, tmp_path / "moved"))


def test_a_run_folder_can_be_moved_and_answers_the_same(finished, copied: Path) -> None:
    assert read_run_settings(copied) == replace(finished[0], output_dir=str(copied))
    before = (copied / "predictions.jsonl").read_bytes()
    (copied / "predictions.jsonl").unlink()
    path = generate_run(copied, max_new_tokens=4, batch_size=32, progress=False)
    assert path == copied / "predictions.jsonl"
    assert path.read_bytes() == before


def test_controls_have_files_of_their_own(copied: Path, tiny_base: Path) -> None:
    arguments = {"max_new_tokens": 2, "progress": False}
    blank = generate_run(copied, pictures="blank", **arguments)
    shuffled = generate_run(copied, "val", "shuffled", **arguments)
    zero = generate_run(copied, zero_shot=True, **arguments)
    assert [path.name for path in (blank, shuffled, zero)] == [
        "predictions_blank.jsonl",
        "predictions_val_shuffled.jsonl",
        "predictions_zero_shot.jsonl",
    ]
    assert {row["condition"] for row in read_predictions(blank)} == {"stage2 blank"}
    assert {row["condition"] for row in read_predictions(shuffled)} == {"stage2 shuffled"}
    assert {row["split"] for row in read_predictions(shuffled)} == {"val"}
    fingerprint = base_fingerprint(load_base("tiny", tiny_base)[0])
    assert {(row["condition"], row["model"]) for row in read_predictions(zero)} == {
        ("zero_shot", f"tiny@{fingerprint[:12]}")
    }
    evaluate_run(copied, blank.name)
    assert (copied / "metrics_blank.json").is_file()
    assert set(read_json(copied / "run.json")["durations"]) >= {"train", "predictions", "predictions_zero_shot"}


def test_another_adapter_answers_under_its_own_name(finished, tmp_path: Path) -> None:
    settings = replace(finished[0], output_dir=str(tmp_path / "fresh"))
    path = generate_run(settings, adapter=finished[0].output_dir, max_new_tokens=2, progress=False)
    assert path == tmp_path / "fresh" / "predictions_first.jsonl"
    bare = shutil.copytree(Path(finished[0].output_dir) / "adapter", tmp_path / "converted" / "adapter")
    with pytest.raises(ValueError, match="pass condition"):
        generate_run(settings, adapter=bare, progress=False)
    path = generate_run(settings, adapter=bare, condition="stage1+2", max_new_tokens=2, progress=False)
    assert path.name == "predictions_converted.jsonl"
    assert {row["condition"] for row in read_predictions(path)} == {"stage1+2"}


def test_a_run_that_starts_from_another_is_two_stages(finished, tmp_path: Path) -> None:
    settings = replace(finished[0], init_from=finished[0].output_dir, output_dir=str(tmp_path / "second"))
    result = train_run(settings, progress=False)
    assert condition_of(settings.output_dir) == condition_of(result.adapter) == "stage1+2"


@pytest.mark.parametrize(
    ("stage", "init_from", "condition"),
    [
        ("stage1_captions", None, "stage1"),
        ("stage2_vqa", None, "stage2"),
        ("stage2_report", {"name": "x", "adapter_sha256": "0"}, "stage1+2"),
    ],
)
def test_conditions(tmp_path: Path, stage: str, init_from: dict | None, condition: str) -> None:
    write_json(tmp_path / "adapter" / "adapter_config.json", {})
    write_json(tmp_path / "adapter" / "adapter_origin.json", {"init_from": init_from})
    write_json(tmp_path / "plan.json", {"stage": {"name": stage}, "init_from": init_from})
    assert condition_of(tmp_path) == condition
    assert condition_of(None) == "zero_shot"


def test_a_killed_generation_goes_on(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (copied / "predictions.jsonl").read_bytes()
    (copied / "predictions.jsonl").unlink()
    real, calls = generate.batch_pixels, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(generate, "batch_pixels", killed)
    with pytest.raises(KeyboardInterrupt):
        generate_run(copied, max_new_tokens=4, batch_size=6, progress=False)
    assert not (copied / "predictions.jsonl").exists()
    generate_run(copied, max_new_tokens=4, batch_size=6, progress=False)
    assert len(calls) == 7, "the two batches before the interrupt are not answered again"
    ids = [row["id"] for row in read_predictions(copied / "predictions.jsonl")]
    assert ids == [json.loads(line)["id"] for line in whole.splitlines()]


def test_a_blind_run_is_trained_on_blank_pictures(tiny_base: Path, tmp_path: Path) -> None:
    settings = small(tiny_base, tmp_path / "blind", train_images="blank", limit=8)
    train_run(settings, progress=False)
    plan = read_json(tmp_path / "blind" / "plan.json")
    assert plan["blank_images"] is True
    assert plan["rows"] == plan["validation_rows"] == 8
