"""What a folder remembers of batches that are out: the predictions, the settings, and each input file with its batch.

`batch.json` is replaced as a whole after every step, so that a process that is killed leaves it as it was before the
step or after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pefomed import files
from pefomed.judge.cost import Tokens
from pefomed.judge.endpoint import Endpoint
from pefomed.judge.questions import questions
from pefomed.judge.rows import PredictionRows, write_lines
from pefomed.judge.settings import JudgeSettings

STATE_FILE, PREDICTIONS_FILE, STORE_FILE, LOCK_FILE = "batch.json", "predictions.jsonl", "judge.sqlite", "batch.lock"
_VERSION = 1


@dataclass
class Part:
    """One input file and its batch.

    Attributes:
        name: Of the input file in the folder.
        sha256: Of its content.
        mark: Drawn at random; goes into the batch's metadata, by which it is found again.
        round: Which submission it belongs to, from 0.
        requests: How many it asks.
        prompt: The most prompt tokens that it may cost.
        completion: The most completion tokens that it may cost.
        omit: Optional parameters that were left out.
        status: `written`; `creating`, when there may be a batch of which we do not know; `sent`; `collected`.
        started: Seconds of `time.time` before the batch was made.
        file_id: The server's name of the input file.
        batch_id: The server's name of the batch.
        batch_status: As the server said it last.
        tally: What came back: numbers by name.
        errors: What the server says of the batch as a whole.
    """

    name: str
    sha256: str
    mark: str
    round: int
    requests: int
    prompt: int
    completion: int
    omit: list[str]
    status: Literal["written", "creating", "sent", "collected"] = "written"
    started: float = 0.0
    file_id: str = ""
    batch_id: str = ""
    batch_status: str = ""
    tally: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def most(self) -> Tokens:
        """The most tokens that it may cost."""
        return Tokens(self.prompt, self.completion)


@dataclass
class BatchState:
    """One judging by batches.

    Attributes:
        folder: Where it is kept.
        task: `vqa` or `report`.
        settings: How to judge; `store` is always named.
        questions_sha256: Fingerprint of all questions; another judging needs another folder.
        parts: In the order in which they were written.
    """

    folder: Path
    task: str
    settings: JudgeSettings
    questions_sha256: str
    parts: list[Part]

    @property
    def predictions(self) -> Path:
        """The folder's own copy of the predictions."""
        return self.folder / PREDICTIONS_FILE

    def endpoint(self, part: Part) -> Endpoint:
        """The endpoint as a part asks it."""
        return replace(self.settings.endpoint, omit=tuple(part.omit))

    def lines(self, part: Part) -> Iterator[bytes]:
        """The requests of a part.

        Raises:
            FileNotFoundError: The input file is gone.
        """
        path = self.folder / part.name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; put it back, or submit into another folder")
        with path.open("rb") as file:
            yield from file

    def save(self) -> None:
        """Write `batch.json`."""
        settings = asdict(self.settings)
        # So that folder and store may be moved together.
        settings["store"] = os.path.relpath(self.settings.store, self.folder)
        head = {"version": _VERSION, "task": self.task, "questions_sha256": self.questions_sha256}
        parts = [asdict(part) for part in self.parts]
        files.write_json(self.folder / STATE_FILE, head | {"settings": settings, "parts": parts})


def open_state(rows: PredictionRows, task: str, settings: JudgeSettings, folder: Path) -> BatchState:
    """The state of a folder for a judging; where there is none, it and the copy of the predictions are made.

    Args:
        rows: Predictions.
        task: `vqa` or `report`.
        settings: These count from now on, not those that are written there.
        folder: Is made where it is missing.

    Raises:
        ValueError: The folder belongs to another judging.
    """
    digest = hashlib.sha256()
    for question in questions(rows, task, settings):
        digest.update(f"{json.dumps(question.id)} {question.key}\n".encode())
    settings = replace(settings, store=settings.store or str(folder / STORE_FILE))
    if (folder / STATE_FILE).is_file():
        state = read_state(folder)
        if state.questions_sha256 != digest.hexdigest():
            raise ValueError(
                f"{folder / STATE_FILE}: of other predictions, or of another task, endpoint, seed or number of "
                "repeats; name another folder"
            )
        return replace(state, settings=settings)
    encoded = (json.dumps(row).encode("ascii") + b"\n" for row in rows)
    write_lines(folder / PREDICTIONS_FILE, encoded)
    state = BatchState(folder, task, settings, digest.hexdigest(), [])
    state.save()
    return state


def read_state(folder: Path) -> BatchState:
    """Read what a folder remembers.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: `batch.json` is damaged or of a newer version.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; submit a batch into this folder first")
    found = files.read_json(path)
    version = found.get("version") if isinstance(found, dict) else None
    if version != _VERSION:
        raise ValueError(f"{path}: not the record of a batch of version {_VERSION} (found {version!r})")
    try:
        settings = _settings(found["settings"], folder)
        parts = [Part(**part) for part in found["parts"]]
        return BatchState(folder, found["task"], settings, found["questions_sha256"], parts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error}); submit into another folder") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes off a folder, where the system has file locks (all but Windows).

    Raises:
        ValueError: Another process is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / LOCK_FILE).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder}: another process submits or collects here; wait for it") from error
        yield


def _settings(values: dict[str, Any], folder: Path) -> JudgeSettings:
    endpoint = values["endpoint"]
    endpoint = Endpoint(**{**endpoint, "omit": tuple(endpoint["omit"])})
    store = str((folder / values["store"]).resolve())
    return JudgeSettings(**{**values, "endpoint": endpoint, "store": store})
