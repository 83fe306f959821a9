"""A few phantoms to learn from, and the base of random weights as a model."""

import pytest
import torch

from pefomed.data import load_dataset
from pefomed.model.presets import load_base


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Bit-for-bit claims hold for a fixed number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def phantoms() -> dict:
    """A few drawn patients a split."""
    return {
        "train": load_dataset("phantoms", split="train", images=12, questions_per_image=4),
        "val": load_dataset("phantoms", split="val", images=3, questions_per_image=4),
        "test": load_dataset("phantoms", split="test", images=6, questions_per_image=4),
    }


@pytest.fixture
def small(tiny_base):
    """(model, processor), loaded anew for each test, since training changes the model."""
    return load_base("tiny", tiny_base, dtype=torch.float32)
