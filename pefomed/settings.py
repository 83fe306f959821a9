"""What one run is asked to do: the same object for notebooks, the command line and the run folder.

    RunSettings(output_dir="runs/first", dataset_options={"images": 40}, stage_changes={"epochs": 1})
    read_settings("configs/stage2_vqa_tiny.yaml", ["seed=3", "stage_changes.epochs=1"])

Everything that can be refused without loading a model or opening a data set is refused here, by the parameter's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pefomed.data.options import DRAWN, OPTIONS, TASKS
from pefomed.files import read_json
from pefomed.plain_yaml import parse_yaml
from pefomed.procedure import get_procedure
from pefomed.training.stages import STAGE_TASKS, Stage, get_stage
from pefomed.typed_values import typed, typed_entries

# Each preset with the recipe that it takes where none is named.
DEFAULT_RECIPES = {"tiny": "tiny", "paper": "paper"}
TRAIN_IMAGES = ("real", "blank")
FEATURES = ("off", "memory", "disk")
SETTINGS_FILE = "settings.json"

MIXTURE = "mixture"
STAGE_VALUES = {entry.name: entry.type for entry in fields(Stage) if entry.name not in ("name", "recipe")}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Parameters of a run; an impossible one is refused when the object is made.

    Attributes:
        preset: "tiny" (shipped base, CPU) or "paper" (EVA ViT-g and LLaMA-2-7B, from `base_dir`).
        base_dir: folder of the base that `pefomed convert` wrote; "" for the shipped one of "tiny".
        stage: what is trained: "stage1_captions", "stage2_vqa" or "stage2_report".
        recipe: "paper", "released_code" or "tiny"; "" for the preset's own.
        stage_changes: values of `pefomed.training.stages.Stage` to change, such as {"epochs": 2}.
        dataset: one of `pefomed.data.options.TASKS`, or "mixture".
        data_dir: folder of a data set on disk.
        dataset_options: options of the data set's loader, such as {"images": 40} or {"val_fraction": 0.1}.
        mixture: the data sets of dataset "mixture" by name, each a table with its data_dir, its ratio (1 where it is
            not said) and its options, such as {"roco": {"data_dir": "data/roco", "ratio": 60}}.
        wordings_file: text file with one instruction a line, for captions and reports; "" for the built-in ones.
        max_broken: largest share of the rows of a split whose pictures may be unreadable; they are left out and
            listed.
        procedure: "clean" or "released_code".
        train_images: "real", or "blank" for the control that never sees a picture.
        features: where the frozen tower's output is kept, if the stage's `frozen_features` keeps it: "memory", "disk"
            for several runs to share, or "off" for nowhere.
        features_dir: folder of "disk"; "" for `features` beside the run's folder.
        features_max_gb: most that may be kept, in GB of 10^9 bytes.
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
    mixture: dict[str, Any] = field(default_factory=dict)
    wordings_file: str = ""
    max_broken: float = 0.01
    procedure: str = "clean"
    train_images: str = "real"
    features: str = "memory"
    features_dir: str = ""
    features_max_gb: float = 32.0
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
        _one_of("dataset", self.dataset, (*TASKS, MIXTURE))
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
        if not 0 <= self.max_broken < 1:
            raise ValueError(f"parameter max_broken must be from 0 to below 1, not {self.max_broken}")
        self._check_data()
        changes = typed_entries("stage_changes", self.stage_changes, STAGE_VALUES)
        object.__setattr__(self, "stage_changes", changes)
        self._check_features()
        for name in self.parts:
            self.task_of(name)

    def _check_features(self) -> None:
        """Refuses features on disk of a run that keeps none; "memory" is merely not used then."""
        stage, procedure = self.make_stage(), get_procedure(self.procedure)
        _one_of("features", self.features, FEATURES)
        if not self.features_max_gb > 0:
            raise ValueError(f"parameter features_max_gb must be above 0, not {self.features_max_gb}")
        if self.features != "disk":
            return
        if procedure.augment_training_images:
            raise ValueError(
                f"parameter features: procedure {self.procedure!r} crops pictures at random, so that no features can "
                "be kept; choose off"
            )
        if not stage.frozen_features:
            raise ValueError(
                f"parameter features: recipe {stage.recipe!r} keeps no features; set stage_changes.frozen_features to "
                "true, or choose off"
            )

    def _check_data(self) -> None:
        """Refuses data sets that cannot be read, or options that they do not have."""
        if self.dataset != MIXTURE:
            if self.mixture:
                raise ValueError(f"parameter mixture belongs to dataset 'mixture'; the data set is {self.dataset!r}")
            _check_folder("parameter data_dir", self.dataset, self.data_dir)
            options = typed_entries("dataset_options", self.dataset_options, OPTIONS[self.dataset])
            object.__setattr__(self, "dataset_options", options)
            return
        if self.data_dir or self.dataset_options:
            raise ValueError("dataset 'mixture' takes data_dir and options for each of its data sets, inside mixture")
        if not self.mixture:
            raise ValueError("parameter mixture is empty; name the data sets, as in {roco: {data_dir: F, ratio: 60}}")
        checked = {}
        for name, table in self.mixture.items():
            _one_of("mixture", name, TASKS)
            table = typed(f"mixture.{name}", table, dict)
            known = {**OPTIONS[name], "data_dir": str, "ratio": float}
            checked[name] = typed_entries(f"mixture.{name}", table, known)
            _check_folder(f"parameter mixture.{name}.data_dir", name, table.get("data_dir", ""))
            if not checked[name].setdefault("ratio", 1.0) > 0:
                raise ValueError(f"parameter mixture.{name}.ratio must be above 0, not {table['ratio']}")
        object.__setattr__(self, "mixture", checked)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(self.mixture) if self.dataset == MIXTURE else (self.dataset,)

    def task_of(self, name: str) -> str:
        """What the stage learns from one of its data sets.

        Stage 1 takes captions where there are some and reports elsewhere (MIMIC-CXR). Replayed questions of the
        general world are the one thing that any stage may mix in.

        Raises:
            ValueError: the data set has nothing for this stage.
        """
        wanted = STAGE_TASKS[self.stage]
        found = [task for task in wanted if task in TASKS[name]]
        if name == "mimic_cxr" and "report" in wanted:
            return "report"
        if name == "shapes" and self.dataset == MIXTURE:
            return "vqa"
        if not found:
            raise ValueError(
                f"parameter dataset: {name!r} has {' and '.join(TASKS[name])} rows, but stage {self.stage!r} learns "
                f"{' and '.join(wanted)}"
            )
        return found[0]

    def make_stage(self) -> Stage:
        """The recipe with its changes."""
        recipe = self.recipe or DEFAULT_RECIPES[self.preset]
        return get_stage(self.stage, recipe, **self.stage_changes)


SETTINGS_TYPES: dict[str, type] = {
    entry.name: {"str": str, "int": int, "float": float}.get(str(entry.type), dict) for entry in fields(RunSettings)
}


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


def _check_folder(parameter: str, dataset: str, folder: str) -> None:
    """Refuses a missing folder of a data set on disk, and a folder for a drawn one."""
    if dataset in DRAWN and folder:
        raise ValueError(f"{parameter} must be empty for drawn {dataset}, not {folder!r}")
    if dataset not in DRAWN and not folder:
        raise ValueError(f"{parameter} is empty, but data set {dataset!r} lies on disk: name its folder")


def _one_of(name: str, value: str, allowed: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"parameter {name} must be one of {', '.join(allowed)}, not {value!r}")
