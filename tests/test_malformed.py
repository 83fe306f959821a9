"""What users get wrong, and what they are told: exit status 2, one line that names the thing, nothing left behind.

Each case prepares a folder and returns the command and the words that the line must hold.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pefomed.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent
Case = tuple[list, tuple[str, ...]]
CASES: dict[str, Callable[..., Case]] = {}


def case(function: Callable[..., Case]) -> Callable[..., Case]:
    """Adds a preparation `(folder, base, run) -> (command, words)` to the cases under its name."""
    CASES[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with its configuration beside it; nobody may change either."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    path = configuration(folder.parent, tiny_base, output_dir=str(folder))
    result = CliRunner().invoke(app, ["train", str(path), "--no-progress"])
    assert result.exit_code == 0, result.stderr
    return folder


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Every file with its content, and every folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def checked(tmp_path: Path, tiny_base: Path, run: Path):
    """Prepares a case, calls the command by the given means, and compares what it left behind."""

    def check(name: str, call: Callable[[list[str]], tuple[int, str, str]]) -> None:
        command, words = CASES[name](tmp_path, tiny_base, run)
        folders = (tmp_path, tiny_base, run.parent)
        before = [everything_below(folder) for folder in folders]
        status, out, errors = call([str(part) for part in command])
        assert status == 2, (out, errors)
        assert len(errors.strip().splitlines()) == 1, errors
        assert "Traceback" not in out + errors
        assert [word for word in words if word not in errors] == [], errors
        assert [everything_below(folder) for folder in folders] == before

    return check


def in_process(command: list[str]) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def in_a_shell(command: list[str]) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "pefomed.cli", *command]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


# --- configuration files -------------------------------------------------------------------------------------------


def configuration(folder: Path, base: Path, **changes) -> Path:
    """A small training, as JSON, which is YAML as well; None takes a key out."""
    values = {
        "base_dir": str(base),
        "dataset_options": {"images": 3, "questions_per_image": 4},
        "stage_changes": {"epochs": 1, "batch_size": 8, "lora_r": 2},
        "output_dir": str(folder / "out"),
    }
    values = {key: value for key, value in {**values, **changes}.items() if value is not None}
    path = folder / "config.yaml"
    path.write_text(json.dumps(values))
    return path


def yaml_text(folder: Path, text: str | bytes) -> list:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ["train", path]


def impossible(words: tuple[str, ...], **changes) -> Callable[..., Case]:
    """A case of a configuration with one impossible value."""
    return lambda folder, base, run: (["train", configuration(folder, base, **changes)], ("config.yaml", *words))


CASES |= {
    "unknown_key": impossible(("unknown key 'epochs'", "stage_changes"), epochs=3),
    "no_output_dir": impossible(("'output_dir' is missing",), output_dir=None),
    "text_for_a_number": impossible(("seed must be int", "'one'"), seed="one"),
    "truth_for_a_number": impossible(("limit must be int", "True"), limit=True),
    "number_for_a_table": impossible(("stage_changes must be a table",), stage_changes=3),
    "unknown_preset": impossible(("preset", "'huge'", "tiny, paper"), preset="huge"),
    "paper_without_base": impossible(("base_dir", "pefomed convert"), preset="paper", base_dir=""),
    "unknown_dataset": impossible(("dataset", "'imagenet'", "phantoms, shapes, vqa_rad"), dataset="imagenet"),
    "unknown_stage": impossible(("unknown stage 'stage9'",), stage="stage9"),
    "unknown_recipe": impossible(("unknown recipe 'best'", "released_code"), recipe="best"),
    "unknown_procedure": impossible(("unknown procedure 'dirty'",), procedure="dirty"),
    "unknown_stage_value": impossible(("stage_changes", "'epoch'", "epochs"), stage_changes={"epoch": 1}),
    "no_epochs": impossible(("epochs must be at least 1",), stage_changes={"epochs": 0}),
    "unknown_option": impossible(("dataset_options", "'picture'"), dataset_options={"picture": 3}),
    "negative_limit": impossible(("limit",), limit=-1),
    "folder_for_phantoms": impossible(("data_dir", "phantoms"), data_dir="somewhere"),
}


@case
def no_pictures(folder, base, run):
    return ["train", configuration(folder, base, dataset_options={"images": 0})], ("phantoms", "images is 0")


@case
def no_configuration(folder, base, run):
    return ["train", folder / "absent.yaml"], ("absent.yaml", "no such")


@case
def folder_as_configuration(folder, base, run):
    return ["train", folder], (str(folder), "a folder")


@case
def yaml_cut(folder, base, run):
    return yaml_text(folder, "output_dir: x\nstage_changes: {epochs: 3"), ("config.yaml", "line 2", "not plain YAML")


@case
def yaml_list(folder, base, run):
    return yaml_text(folder, "- preset: tiny\n"), ("config.yaml", "a list")


@case
def yaml_empty(folder, base, run):
    return yaml_text(folder, "# nothing\n"), ("config.yaml", "nothing")


@case
def yaml_key_twice(folder, base, run):
    return yaml_text(folder, "seed: 1\noutput_dir: x\nseed: 2\n"), ("config.yaml", "line 3", "'seed'", "twice")


@case
def yaml_with_code(folder, base, run):
    target = folder / "made_by_code"
    return yaml_text(folder, f"output_dir: !!python/object/apply:os.mkdir [{target}]"), ("config.yaml", "line 1")


@case
def yaml_not_utf8(folder, base, run):
    return yaml_text(folder, b"output_dir: \xff\xfe"), ("config.yaml", "UTF-8")


@case
def not_a_number(folder, base, run):
    text = "output_dir: x\nstage_changes: {learning_rate: .nan}\n"
    return yaml_text(folder, text), ("config.yaml", "learning_rate", "finite")


@case
def set_without_value(folder, base, run):
    return ["train", configuration(folder, base), "--set", "seed"], ("--set seed", "key=value")


@case
def set_of_unknown_key(folder, base, run):
    return ["train", configuration(folder, base), "--set", "sed=1"], ("--set sed=1", "'sed'")


@case
def output_is_a_file(folder, base, run):
    (folder / "out").write_text("mine")
    return ["train", configuration(folder, base)], ("output_dir", str(folder / "out"), "a file")


@case
def output_below_a_file(folder, base, run):
    (folder / "mine").write_text("mine")
    return ["train", configuration(folder, base, output_dir=str(folder / "mine" / "out"))], ("output_dir", "mine")


# --- bases, adapters and run folders -------------------------------------------------------------------------------


@case
def base_without_configuration(folder, base, run):
    (folder / "base").mkdir()
    return ["train", configuration(folder, folder / "base")], (str(folder / "base"), "config.json")


@case
def base_configuration_cut(folder, base, run):
    broken = copied(base, folder / "base")
    cut(broken / "config.json")
    return ["train", configuration(folder, broken)], (str(broken), "config.json")


@case
def base_weights_cut(folder, base, run):
    broken = copied(base, folder / "base")
    cut(broken / "model.safetensors")
    return ["train", configuration(folder, broken)], (str(broken),)


def base_with_weights(folder: Path, base: Path, change: Callable[[dict, str], None]) -> list:
    """Trains from a copy of the base after a change of one of its tensors."""
    broken = copied(base, folder / "base")
    weights = load_file(broken / "model.safetensors")
    change(weights, "model.language_model.layers.0.self_attn.k_proj.weight")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    return ["train", configuration(folder, broken)]


@case
def base_with_a_tensor_missing(folder, base, run):
    command = base_with_weights(folder, base, lambda weights, name: weights.pop(name))
    return command, (str(folder / "base"), "lacks 1 tensors", "layers.0.self_attn.k_proj.weight")


@case
def base_with_nan(folder, base, run):
    command = base_with_weights(folder, base, lambda weights, name: weights[name].fill_(torch.nan))
    return command, (str(folder / "base"), "layers.0.self_attn.k_proj.weight", "NaN")


@case
def base_weights_absent(folder, base, run):
    broken = copied(base, folder / "base")
    (broken / "model.safetensors").unlink()
    return ["train", configuration(folder, broken)], (str(broken), "model.safetensors")


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def cut(path: Path) -> None:
    """Leaves the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def start_from(folder: Path, base: Path, start: Path) -> list:
    return ["train", configuration(folder, base, init_from=str(start))]


@case
def init_from_nowhere(folder, base, run):
    return start_from(folder, base, folder / "absent"), ("absent", "adapter")


@case
def init_from_without_adapter(folder, base, run):
    (folder / "start").mkdir()
    return start_from(folder, base, folder / "start"), (str(folder / "start"), "adapter_config.json")


@case
def init_from_another_base(folder, base, run):
    other = copied(base, folder / "base")
    weights = load_file(other / "model.safetensors")
    name = next(name for name in sorted(weights) if "self_attn" in name)
    save_file({**weights, name: weights[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    return start_from(folder, other, run), (str(run / "adapter"), "trained on the base")


@case
def init_from_a_cut_adapter(folder, base, run):
    start = copied(run / "adapter", folder / "start")
    (start / "adapter_origin.json").unlink()
    cut(start / "adapter_model.safetensors")
    return start_from(folder, base, start), (str(start), "damaged")


@case
def init_from_other_weights_than_recorded(folder, base, run):
    start = copied(run / "adapter", folder / "start")
    cut(start / "adapter_model.safetensors")
    return start_from(folder, base, start), (str(start), "damaged")


@case
def init_from_an_adapter_with_nan(folder, base, run):
    start = copied(run / "adapter", folder / "start")
    (start / "adapter_origin.json").unlink()
    weights = load_file(start / "adapter_model.safetensors")
    name = sorted(weights)[0]
    save_file({**weights, name: weights[name] * torch.nan}, start / "adapter_model.safetensors")
    return start_from(folder, base, start), (str(start), "NaN")


@case
def init_from_a_cut_adapter_configuration(folder, base, run):
    start = copied(run / "adapter", folder / "start")
    cut(start / "adapter_config.json")
    return start_from(folder, base, start), (str(start / "adapter_config.json"), "not JSON")


@case
def folder_of_another_run(folder, base, run):
    copied(run, folder / "out")
    return ["train", configuration(folder, base, seed=5)], (str(folder / "out"), "another run", "seed")


@case
def plan_cut(folder, base, run):
    copied(run, folder / "out")
    cut(folder / "out" / "plan.json")
    return ["train", configuration(folder, base)], ("plan.json", "not JSON")


# --- VQA-RAD folders -----------------------------------------------------------------------------------------------


def vqa_rad(folder: Path, change: Callable[[list[dict], list[dict]], None] | None = None) -> Path:
    """Two training pictures with two questions each and a test picture, in the form 'mevf'."""
    data = folder / "data"
    (data / "images").mkdir(parents=True)
    rows = []
    for number in range(6):
        name = f"picture{number // 2}.jpg"
        Image.new("L", (20 + number, 30), 40 * number).save(data / "images" / name)
        rows.append(
            {
                "qid": number,
                "image_name": name,
                "image_organ": "CHEST",
                "question": f"is there a shadow number {number}?",
                "question_type": "PRES",
                "answer": "yes",
                "answer_type": "CLOSED",
                "phrase_type": "freeform",
            }
        )
    train, test = rows[:4], rows[4:]
    if change is not None:
        change(train, test)
    (data / "trainset.json").write_text(json.dumps(train))
    (data / "testset.json").write_text(json.dumps(test))
    return data


def train_on(folder: Path, base: Path, data: Path, **options) -> list:
    return ["train", configuration(folder, base, dataset="vqa_rad", data_dir=str(data), dataset_options=options)]


def bad_row(words: tuple[str, ...], **changes) -> Callable[..., Case]:
    """A case of a second training row with impossible values; None takes a key out."""

    def prepare(folder: Path, base: Path, run: Path) -> Case:
        def change(train: list[dict], test: list[dict]) -> None:
            train[1] = {key: value for key, value in {**train[1], **changes}.items() if value is not None}

        return train_on(folder, base, vqa_rad(folder, change)), words

    return prepare


CASES |= {
    "row_without_a_key": bad_row(("trainset.json", "row 1", "'question'"), question=None),
    "question_is_a_number": bad_row(("trainset.json", "row 1", "question must be a string"), question=3),
    "question_is_empty": bad_row(("trainset.json", "row 1", "question is empty"), question=" "),
    "answer_type_unknown": bad_row(("trainset.json", "row 1", "answer_type", "'MAYBE'"), answer_type="MAYBE"),
    "organ_unknown": bad_row(("trainset.json", "row 1", "image_organ", "'FOOT'"), image_organ="FOOT"),
    "id_twice": bad_row(("qid '0'", "twice"), qid=0),
    "id_is_a_list": bad_row(("trainset.json", "row 1", "qid"), qid=[1]),
    "picture_outside": bad_row(("row mevf-1", "leads out of"), image_name="../../base.jpg"),
    "picture_absolute": bad_row(("row mevf-1", "leads out of"), image_name="/etc/hostname"),
    "picture_missing": bad_row(("picture9.jpg", "missing"), image_name="picture9.jpg"),
}


@case
def no_data_folder(folder, base, run):
    return train_on(folder, base, folder / "absent"), (str(folder / "absent"), "no such folder", "osf.io")


@case
def empty_data_folder(folder, base, run):
    (folder / "data").mkdir()
    return train_on(folder, base, folder / "data"), (str(folder / "data"), "no VQA-RAD")


@case
def data_without_folder(folder, base, run):
    return ["train", configuration(folder, base, dataset="vqa_rad", dataset_options={})], ("config.yaml", "data_dir")


@case
def json_cut(folder, base, run):
    data = vqa_rad(folder)
    cut(data / "trainset.json")
    return train_on(folder, base, data), ("trainset.json", "not JSON", "line 1")


@case
def json_is_a_table(folder, base, run):
    data = vqa_rad(folder)
    (data / "trainset.json").write_text("{}")
    return train_on(folder, base, data), ("trainset.json", "list")


@case
def empty_split(folder, base, run):
    data = vqa_rad(folder)
    (data / "testset.json").write_text("[]")
    return train_on(folder, base, data), ("testset.json", "holds no rows")


@case
def another_data_set(folder, base, run):
    def change(train, test):
        for row in train:
            del row["phrase_type"]

    return train_on(folder, base, vqa_rad(folder, change)), ("trainset.json", "VQA-Med")


@case
def unknown_variant(folder, base, run):
    return train_on(folder, base, vqa_rad(folder), variant="kaggle"), ("'kaggle'", "official, mevf, hf")


@case
def impossible_val_fraction(folder, base, run):
    return train_on(folder, base, vqa_rad(folder), val_fraction=1.5), ("val_fraction", "1.5")


@case
def check_of_a_missing_folder(folder, base, run):
    return ["data", "check", "vqa_rad", folder / "absent"], (str(folder / "absent"), "no such folder")


@case
def check_of_an_unknown_data_set(folder, base, run):
    return ["data", "check", "imagenet", folder], ("dataset", "'imagenet'")


# --- pictures ------------------------------------------------------------------------------------------------------


def picture(content: Callable[[bytes], bytes], *words: str) -> Callable[..., Case]:
    """A case of a data set whose last test picture has other content."""

    def prepare(folder: Path, base: Path, run: Path) -> Case:
        data = vqa_rad(folder)
        path = data / "images" / "picture2.jpg"
        path.write_bytes(content(path.read_bytes()))
        return train_on(folder, base, data), (str(path), *words)

    return prepare


def huge_png(_: bytes) -> bytes:
    """The header of a picture of 100,000 x 100,000 pixels; the file is 57 bytes long."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = b"IDAT", b"IEND"
    chunks += b"".join(struct.pack(">I", 0) + name + struct.pack(">I", zlib.crc32(name)) for name in end)
    return b"\x89PNG\r\n\x1a\n" + chunks


def bottomless_float(_: bytes) -> bytes:
    """A floating-point TIFF with a NaN."""
    file = io.BytesIO()
    image = Image.new("F", (4, 4), 1.0)
    image.putpixel((1, 1), float("nan"))
    image.save(file, "TIFF")
    return file.getvalue()


CASES |= {
    "picture_cut": picture(lambda data: data[: len(data) // 2], "damaged"),
    "picture_empty": picture(lambda data: b"", "0 bytes"),
    "picture_is_text": picture(lambda data: b"<html>not found</html>", "not a picture"),
    "picture_absurdly_large": picture(huge_png, "pixels"),
    "picture_with_nan": picture(bottomless_float, "NaN"),
}


@case
def check_of_a_cut_picture(folder, base, run):
    _, words = CASES["picture_cut"](folder, base, run)
    return ["data", "check", "vqa_rad", folder / "data"], words


# --- generate ------------------------------------------------------------------------------------------------------


def setting_changed(folder: Path, run: Path, **changes) -> Path:
    moved = copied(run, folder / "run")
    values = json.loads((moved / "settings.json").read_text())
    (moved / "settings.json").write_text(json.dumps({**values, **changes}))
    return moved


@case
def no_run_folder(folder, base, run):
    return ["generate", folder / "absent"], (str(folder / "absent"), "no such run folder")


@case
def folder_that_is_no_run(folder, base, run):
    return ["generate", base], (str(base), "settings.json")


@case
def settings_cut(folder, base, run):
    moved = copied(run, folder / "run")
    cut(moved / "settings.json")
    return ["generate", moved], ("settings.json", "not JSON")


@case
def settings_with_unknown_key(folder, base, run):
    return ["generate", setting_changed(folder, run, colour="red")], ("settings.json", "'colour'")


@case
def run_that_was_not_trained(folder, base, run):
    return ["generate", configuration(folder, base)], (str(folder / "out"), "adapter")


@case
def data_changed_since_training(folder, base, run):
    moved = setting_changed(folder, run, limit=3)
    return ["generate", moved], (str(moved), "not the one", "phantoms")


@case
def base_changed_since_training(folder, base, run):
    command, words = init_from_another_base(folder, base, run)
    moved = setting_changed(folder, run, base_dir=str(folder / "base"))
    return ["generate", moved], (str(moved / "adapter"), "trained on the base")


@case
def adapter_removed(folder, base, run):
    moved = copied(run, folder / "run")
    (moved / "adapter" / "adapter_config.json").unlink()
    return ["generate", moved], (str(moved), "adapter_config.json")


@case
def unknown_split(folder, base, run):
    return ["generate", run, "--split", "testing"], ("split", "'testing'", "train, val, test")


@case
def unknown_pictures(folder, base, run):
    return ["generate", run, "--pictures", "none"], ("pictures", "'none'", "shuffled")


@case
def batch_of_none(folder, base, run):
    return ["generate", run, "--batch-size", "0"], ("batch_size", "at least 1")


@case
def beams_that_are_no_number(folder, base, run):
    return ["generate", run, "--num-beams", "many"], ("--num-beams", "integer")


@case
def zero_shot_with_adapter(folder, base, run):
    return ["generate", run, "--zero-shot", "--adapter", run], ("zero_shot", "adapter", "exclude")


@case
def adapter_of_unknown_origin(folder, base, run):
    bare = copied(run / "adapter", folder / "bare")
    return ["generate", run, "--adapter", bare], (str(bare), "condition", "stage1+2")


@case
def unknown_condition(folder, base, run):
    return ["generate", run, "--condition", "stage7"], ("condition", "'stage7'")


# --- evaluate ------------------------------------------------------------------------------------------------------

GOOD = {"id": "1", "task": "vqa", "answer": "yes", "prediction": "no", "answer_type": "closed"}


def predictions(text: str | bytes, *words: str) -> Callable[..., Case]:
    """A case of a predictions file of one good line, followed by what is given."""

    def prepare(folder: Path, base: Path, run: Path) -> Case:
        path = folder / "predictions.jsonl"
        path.write_bytes(json.dumps(GOOD).encode() + b"\n" + (text if isinstance(text, bytes) else text.encode()))
        return ["evaluate", path, "--task", "vqa", "--out", folder / "metrics.json"], ("predictions.jsonl", *words)

    return prepare


def second_line(*words: str, **changes) -> Callable[..., Case]:
    row = {key: value for key, value in {**GOOD, "id": "2", **changes}.items() if value is not ...}
    return predictions(json.dumps(row) + "\n", *words)


CASES |= {
    "prediction_missing": second_line("line 2", "'prediction' is missing", prediction=...),
    "prediction_null": second_line("line 2", "'prediction' is null", prediction=None),
    "prediction_is_a_number": second_line("line 2", "'prediction' is an integer", prediction=4),
    "prediction_id_twice": second_line("line 2", "'1'", "line 1", id="1"),
    "prediction_of_unknown_task": second_line("line 2", "'task'", "'chat'", task="chat"),
    "prediction_of_another_task": second_line("row 2", "'report'", task="report"),
    "prediction_line_cut": predictions('{"id": "2", "task": "vq', "line 2", "not JSON"),
    "prediction_line_is_a_list": predictions("[1, 2]\n", "line 2", "a list"),
    "prediction_line_blank": predictions("\n", "line 2", "blank"),
    "predictions_not_utf8": predictions(b'{"id": "\xff"}\n', "line 2", "UTF-8"),
}


@case
def answer_type_of_a_prediction_unknown(folder, base, run):
    command, _ = second_line(answer_type="maybe")(folder, base, run)
    return command, ("row 2", "'maybe'")


@case
def no_predictions_file(folder, base, run):
    return ["evaluate", folder / "absent.jsonl"], ("absent.jsonl", "no such file")


@case
def predictions_empty(folder, base, run):
    (folder / "predictions.jsonl").write_text("")
    return ["evaluate", folder / "predictions.jsonl"], ("predictions.jsonl", "empty")


@case
def task_without_scores_yet(folder, base, run):
    command, _ = predictions("")(folder, base, run)
    return [*command[:2], "--task", "report"], ("task", "vqa", "'report'")


@case
def metrics_over_a_folder(folder, base, run):
    command, _ = predictions("")(folder, base, run)
    (folder / "metrics.json").mkdir()
    return command, (str(folder / "metrics.json"), "a folder")


# --- convert -------------------------------------------------------------------------------------------------------


def checkpoint(content: object, *words: str, options: tuple[str, ...] = ()) -> Callable[..., Case]:
    """A case of a .pth file with that content; bytes are written as they are."""

    def prepare(folder: Path, base: Path, run: Path) -> Case:
        path = folder / "weights.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        return ["convert", path, folder / "out", *options], words

    return prepare


class Bomb:
    """Would make a folder when it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("made_by_code"),)


LORA = "llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
ADAPTER = {"llama_proj.weight": torch.ones(2, 3), "llama_proj.bias": torch.ones(2), LORA: torch.ones(1, 2)}

CASES |= {
    "checkpoint_with_code": checkpoint({"model": {"a": Bomb()}}, "weights.pth", "refused"),
    "checkpoint_pickled_with_code": checkpoint(pickle.dumps(Bomb()), "weights.pth"),
    "checkpoint_with_nan": checkpoint({"llama_proj.bias": torch.tensor([torch.nan])}, "weights.pth", "bias", "NaN"),
    "checkpoint_that_is_a_list": checkpoint([torch.ones(1)], "weights.pth", "list"),
    "checkpoint_of_numbers": checkpoint({"model": {"a": 1}}, "weights.pth", "tensors"),
    "checkpoint_of_strangers": checkpoint({"resnet.conv1.weight": torch.ones(1)}, "resnet.conv1.weight"),
    "checkpoint_empty": checkpoint(b"", "weights.pth", "not a readable checkpoint"),
    "checkpoint_of_text": checkpoint(b"<html>not found</html>", "weights.pth"),
    "checkpoint_without_lora": checkpoint({"llama_proj.bias": torch.ones(2)}, "weights.pth", "LoRA"),
    "checkpoint_of_another_network": checkpoint(ADAPTER, "whole adapter"),
    "image_size_absurd": checkpoint(ADAPTER, "image_size", "1400000000", options=("--image-size", "1400000000")),
    "image_size_uneven": checkpoint(ADAPTER, "image_size", "450", options=("--image-size", "450")),
    "lora_alpha_zero": checkpoint(ADAPTER, "lora_alpha", options=("--lora-alpha", "0")),
    "llama_that_is_not_there": checkpoint(ADAPTER, "absent-llama", options=("--llama", "absent-llama")),
    "eva_that_is_not_there": checkpoint(ADAPTER, "absent-eva.pth", options=("--eva", "absent-eva.pth")),
}


@case
def checkpoint_cut(folder, base, run):
    command, _ = checkpoint(ADAPTER)(folder, base, run)
    cut(folder / "weights.pth")
    return command, ("weights.pth", "cut short")


@case
def no_checkpoint(folder, base, run):
    return ["convert", folder / "absent.pth", folder / "out"], ("absent.pth", "no such checkpoint")


@case
def converted_before(folder, base, run):
    command, _ = checkpoint(ADAPTER)(folder, base, run)
    (folder / "out" / "adapter").mkdir(parents=True)
    return command, (str(folder / "out" / "adapter"), "already there")


@case
def convert_into_a_file(folder, base, run):
    command, _ = checkpoint(ADAPTER)(folder, base, run)
    (folder / "out").write_text("mine")
    return command, (str(folder / "out"), "a file")


# --- the command itself --------------------------------------------------------------------------------------------


@case
def unknown_command(folder, base, run):
    return ["trian"], ("'trian'", "--help")


@case
def unknown_command_option(folder, base, run):
    return ["train", configuration(folder, base), "--epochs", "3"], ("--epochs", "pefomed train --help")


@case
def missing_argument(folder, base, run):
    return ["evaluate"], ("PREDICTIONS.jsonl", "pefomed evaluate --help")


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(name: str, checked, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    checked(name, in_process)


@pytest.mark.parametrize("name", ["yaml_cut", "prediction_missing", "init_from_a_cut_adapter"])
def test_so_it_is_in_a_shell(name: str, checked) -> None:
    checked(name, in_a_shell)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100
