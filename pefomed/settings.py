"""What one run is asked to do: the same object for notebooks, the command line and the run folder.

    RunSettings(output_dir="runs/first", dataset_options={"images": 40}, stage_changes={"epochs": 1})
    read_settings("configs/stage2_vqa_tiny.yaml", ["seed=3", "stage_changes.epochs=1"])

Everything that can be refused without loading a model or opening a data set is refused here, by the parameter's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from pefomed.data import DATASETS
from pefomed.files import read_json
from pefomed.procedure import get_procedure
from pefomed.training.stages import Stage, get_stage

# Each preset with the recipe that it takes where none is named.
DEFAULT_RECIPES = {"tiny": "tiny", "paper": "paper"}
TRAIN_IMAGES = ("real", "blank")
SETTINGS_FILE = "settings.json"

# Options of the data sets' loaders; the task is the stage's affair.
DATASET_OPTIONS: dict[str, dict[str, type]] = {
    "vqa_rad": {
        "variant": str,
        "image_dir": str,
        "drop_leaked": bool,
        "val_fraction": float,
        "seed": int,
        "missing_images": str,
    },
    "phantoms": {"images": int, "questions_per_image": int, "seed": int},
}
STAGE_VALUES = {entry.name: entry.type for entry in fields(Stage) if entry.name not in ("name", "recipe")}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Parameters of a run; an impossible one is refused when the object is made.

    Attributes:
        preset: "tiny" (shipped base, CPU) or "paper" (EVA ViT-g and LLaMA-2-7B, from `base_dir`).
        base_dir: folder of the base that `pefomed convert` wrote; "" for the shipped one of "tiny".
        stage: what is trained: "stage2_vqa".
        recipe: "paper", "released_code" or "tiny"; "" for the preset's own.
        stage_changes: values of `pefomed.training.stages.Stage` to change, such as {"epochs": 2}.
        dataset: "phantoms" (drawn) or "vqa_rad".
        data_dir: folder of a data set on disk.
        dataset_options: options of the data set's loader, such as {"images": 40} or {"val_fraction": 0.1}.
        procedure: "clean" or "released_code".
        train_images: "real", or "blank" for the control that never sees a picture.
        init_from: run or adapter folder to start from; "" for a fresh adapter on the base.
        limit: most rows of each split; 0 for all.
        seed: of LoRA's start, dropout, order and draws.
        output_dir: the run's folder.

    Raises:
        ValueError: naming the parameter, what was found and what is allowed.
    """

    preset: str = "tiny"
    base_dir: str = ""
    stage: str = "stage2_vqa"
    recipe: str = ""
    stage_changes: dict[str, Any] = field(default_factory=dict)
    dataset: str = "phantoms"
    data_dir: str = ""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    procedure: str = "clean"
    train_images: str = "real"
    init_from: str = ""
    limit: int = 0
    seed: int = 0
    output_dir: str

    def __post_init__(self) -> None:
        for name, wanted in SETTINGS_TYPES.items():
            value = getattr(self, name)
            value = str(value) if isinstance(value, Path) else value
            object.__setattr__(self, name, typed(name, value, wanted))
        _one_of("preset", self.preset, DEFAULT_RECIPES)
        _one_of("dataset", self.dataset, DATASETS)
        _one_of("train_images", self.train_images, TRAIN_IMAGES)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"parameter seed must be from 0 to {2**32 - 1}, not {self.seed}")
        if self.limit < 0:
            raise ValueError(f"parameter limit must be 0 (all rows) or more, not {self.limit}")
        if not self.output_dir.strip():
            raise ValueError("parameter output_dir is empty; name the folder that the run is to be kept in")
        if self.preset == "paper" and not self.base_dir:
            raise ValueError(
                "parameter base_dir is empty, but preset 'paper' needs the folder that `pefomed convert` writes from "
                "EVA ViT-g, LLaMA-2-7B-chat and the MiniGPT-v2 checkpoint"
            )
        if self.dataset == "vqa_rad" and not self.data_dir:
            raise ValueError("parameter data_dir is empty, but data set 'vqa_rad' lies on disk: name its folder")
        if self.dataset == "phantoms" and self.data_dir:
            raise ValueError(f"parameter data_dir must be empty for drawn phantoms, not {self.data_dir!r}")
        options = typed_entries("dataset_options", self.dataset_options, DATASET_OPTIONS[self.dataset])
        object.__setattr__(self, "dataset_options", options)
        changes = typed_entries("stage_changes", self.stage_changes, STAGE_VALUES)
        object.__setattr__(self, "stage_changes", changes)
        self.make_stage()
        get_procedure(self.procedure)

    def make_stage(self) -> Stage:
        """The recipe with its changes."""
        recipe = self.recipe or DEFAULT_RECIPES[self.preset]
        return get_stage(self.stage, recipe, **self.stage_changes)


SETTINGS_TYPES: dict[str, type] = {
    entry.name: {"str": str, "int": int}.get(str(entry.type), dict) for entry in fields(RunSettings)
}


def typed(name: str, value: Any, wanted: type) -> Any:
    """The value, if it is of the wanted type; an int given for a float is converted.

    Raises:
        ValueError: it is of another type, or not a finite number.
    """
    if wanted is float and type(value) is int:
        value = float(value)
    # The exact type, because True is an int to isinstance.
    if type(value) is not wanted and not (wanted is dict and isinstance(value, Mapping)):
        kind = "a table of names and values" if wanted is dict else wanted.__name__
        raise ValueError(f"parameter {name} must be {kind}, not {value!r:.60}")
    if wanted is float and not math.isfinite(value):
        raise ValueError(f"parameter {name} must be a finite float, not {value!r}")
    return dict(value) if wanted is dict else value


def typed_entries(name: str, table: Mapping[str, Any], known: Mapping[str, type]) -> dict[str, Any]:
    """The entries of a parameter that is a table, each checked.

    Raises:
        ValueError: an entry is unknown or of another type.
    """
    for key in table:
        if key not in known:
            raise ValueError(f"parameter {name} has no entry {key!r}; choose from {', '.join(sorted(known))}")
    return {key: typed(f"{name}.{key}", value, known[key]) for key, value in table.items()}


def settings_from(values: Any, source: str | Path) -> RunSettings:
    """Settings from what a file holds.

    Raises:
        ValueError: naming the file and the key.
    """
    if not isinstance(values, Mapping):
        kind = "nothing" if values is None else f"a {type(values).__name__}"
        raise ValueError(f"{source}: expected a table of lines `key: value`, found {kind}")
    for key in values:
        if key not in SETTINGS_TYPES:
            raise ValueError(f"{source}: unknown key {key!r}; choose from {', '.join(sorted(SETTINGS_TYPES))}")
    if "output_dir" not in values:
        raise ValueError(f"{source}: the key 'output_dir' is missing; name the folder that the run is to be kept in")
    try:
        return RunSettings(**values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def read_settings(path: str | Path, changes: Sequence[str] = ()) -> RunSettings:
    """Reads a configuration file.

    Args:
        path: YAML of `RunSettings` fields. Paths in it are taken from the working directory.
        changes: `key=value`, or `stage_changes.epochs=2` for an entry of a table, each put in place of the file's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, or a key or value is wrong; the message names file and key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'a folder, not a' if path.is_dir() else 'no such'} configuration file")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}: {error.reason})") from error
    if isinstance(values, Mapping):
        values = dict(values)
        for change in changes:
            _apply(values, change)
    return settings_from(values, f"{path} with --set" if changes else path)


def read_run_settings(source: str | Path) -> RunSettings:
    """Settings of a run folder, wherever it lies now, or of a configuration file.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the file is malformed.
    """
    source = Path(source)
    if source.is_file():
        return read_settings(source)
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such run folder or configuration file")
    path = source / SETTINGS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no {SETTINGS_FILE}, so not a finished run of `pefomed train`")
    values = read_json(path)
    if isinstance(values, Mapping):
        values = {**values, "output_dir": str(source)}
    return settings_from(values, path)


def as_values(settings: RunSettings) -> dict[str, Any]:
    """The settings as JSON and YAML can express them."""
    return asdict(settings)


class StrictLoader(yaml.SafeLoader):
    """Plain YAML (nothing but tables, lists, texts and numbers) in which no key may occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# PyYAML follows YAML 1.1, in which 3e-5 without a point is a text.
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """What a YAML text says.

    Raises:
        ValueError: naming the source, and line and column where they are known.
    """
    try:
        return yaml.load(text, StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter two: a 13th month, deep nesting
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{source}: not plain YAML{where}: {problem}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    """Puts one `key=value` into the file's values."""
    key, equals, text = change.partition("=")
    table, dot, entry = key.strip().partition(".")
    if not equals or not table or (dot and not entry):
        raise ValueError(f"--set {change}: expected key=value, as in seed=3 or stage_changes.epochs=2")
    if table not in SETTINGS_TYPES:
        raise ValueError(f"--set {change}: unknown key {table!r}; choose from {', '.join(sorted(SETTINGS_TYPES))}")
    value = parse_yaml(text, f"--set {change}")
    # What is to be a text stays one: data_dir=2019, init_from= .
    value = text if SETTINGS_TYPES[table] is str else value
    if not dot:
        values[table] = value
    elif SETTINGS_TYPES[table] is dict and isinstance(values.setdefault(table, {}), Mapping):
        values[table] = {**values[table], entry: value}
    else:
        raise ValueError(f"--set {change}: {table} is not a table, so it has no entry {entry!r}")


def _one_of(name: str, value: str, allowed: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"parameter {name} must be one of {', '.join(allowed)}, not {value!r}")
