"""Two models to answer with, and prompts about random pictures."""

import pytest
import torch

from pefomed.model.presets import load_base


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Bit-for-bit claims hold for a fixed number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shipped():
    """(model, processor) of the base that ships with the package, in float32."""
    return load_base("tiny", dtype=torch.float32)


@pytest.fixture(scope="session")
def random_weights(tiny_base):
    """(model, processor) of random weights, in float32."""
    return load_base("tiny", tiny_base, dtype=torch.float32)
