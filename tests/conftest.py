"""Fixtures that more than one test folder needs."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded numbers and real data samples; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PEFOMED_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no recorded numbers and data samples at {folder}; set PEFOMED_SHARED to the folder that holds them")
    return folder
