"""What a run was: the content of `run.json`, which lies beside every predictions file.

The record says with which parameters, code, data and kind of machine something was made, and nothing about the person
who made it: no environment variables, no user or host names, no paths of the machine.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PureWindowsPath
from typing import Any

# Whatever can change a number of ours; a package that is not installed is left out of the record.
RECORDED_PACKAGES = (
    "pefomed",
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "sentencepiece",
    "safetensors",
    "numpy",
    "pillow",
    "papermill",
)

PACKAGE_FOLDER = Path(__file__).resolve().parent

NOT_RECORDED = "(not recorded)"

_SECRET_NAME = re.compile(r"(^|_)(key|token|secret|password)$", re.IGNORECASE)
_WINDOWS_PATH = re.compile(r"^([a-z]:[\\/]|\\\\)", re.IGNORECASE)
_URL_WITH_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@\s]*@", re.IGNORECASE)


def run_record(
    parameters: Mapping[str, Any],
    seeds: Mapping[str, int] | int,
    data_fingerprint: str | Mapping[str, str] | None,
    device: str,
    durations: Mapping[str, float],
) -> dict[str, Any]:
    """Describe a run as a dictionary that JSON can express.

    Args:
        parameters: The notebook's or command's parameters by name; paths and secrets in them are made harmless.
        seeds: The seed, or one per purpose ("training", "bootstrap", ...).
        data_fingerprint: Fingerprint of the data set, or one per split; None for a run without data.
        device: As PyTorch writes it, with the name of the accelerator if there is one: "cpu", "cuda:0 (NVIDIA H100)".
        durations: Seconds by phase.

    Returns:
        `created` (UTC, ISO 8601), `parameters`, `seeds`, `data_fingerprint`, `device`, `durations`, `python`,
        `platform`, `processors`, `packages` (name to version), `git_revision` and `git_modified` (both None outside a
        checkout).
    """
    revision, modified = git_state()
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "parameters": publishable(parameters),
        "seeds": dict(seeds) if isinstance(seeds, Mapping) else seeds,
        "data_fingerprint": dict(data_fingerprint) if isinstance(data_fingerprint, Mapping) else data_fingerprint,
        "device": device,
        "durations": {phase: round(float(seconds), 3) for phase, seconds in durations.items()},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "packages": installed_versions(RECORDED_PACKAGES),
        "git_revision": revision,
        "git_modified": modified,
    }


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed, without importing them."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_state(package: Path = PACKAGE_FOLDER) -> tuple[str | None, bool | None]:
    """Return the checkout's revision and whether tracked files differ from it.

    Args:
        package: Folder of the package; the checkout is the folder around it.

    Returns:
        (None, None) when the package does not lie in a checkout of its own, or when git is absent or refuses.
    """
    root = package.parent
    # A package installed into an environment below somebody else's repository must not report that one's revision.
    if _git(root, "rev-parse", "--show-prefix") != "":
        return None, None
    revision = _git(root, "rev-parse", "--verify", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return revision, None if revision is None or changes is None else changes != ""


def publishable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as they may stand in a published notebook or record.

    An absolute path is made relative to the working directory where it lies below it, else cut to its last component.
    A text whose name ends in `key`, `token`, `secret` or `password` is withheld, and so is the user part of a URL.

    Args:
        parameters: By name; values may nest mappings and sequences.

    Returns:
        The same names, with paths as text, mappings as dictionaries and sequences as lists.
    """
    shown = {}
    for name, value in parameters.items():
        withheld = isinstance(value, str) and value and _SECRET_NAME.search(str(name))
        shown[str(name)] = NOT_RECORDED if withheld else _publishable_value(value)
    return shown


def _publishable_value(value: Any) -> Any:
    """`publishable` for one value of any kind."""
    if isinstance(value, Mapping):
        return publishable(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_publishable_value(item) for item in value]
    if isinstance(value, Path):
        return _harmless_path(str(value))
    return _harmless_path(_URL_WITH_USER.sub(r"\1", value)) if isinstance(value, str) else value


def _harmless_path(text: str) -> str:
    """A path of this machine without what tells about the machine; any other text as it is."""
    if os.name != "nt" and _WINDOWS_PATH.match(text):
        return PureWindowsPath(text).name or "."
    # `../../home/jane/data` tells as much as the absolute path does.
    if not (os.path.isabs(text) or text.startswith(("~", ".." + os.sep)) or text == ".."):
        return text
    here = Path.cwd()
    absolute = Path(os.path.abspath(os.path.expanduser(text)))
    for candidate in (absolute, absolute.resolve()):
        if candidate.is_relative_to(here):
            return candidate.relative_to(here).as_posix()
    return absolute.name or "."


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command in `folder`, or None if it did not succeed."""
    # Inside a git hook GIT_DIR and its like point elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip() if finished.returncode == 0 else None
