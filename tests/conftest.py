"""Fixtures that more than one test folder needs."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PARITY_RECORDS = pytest.StashKey[list]()
PARITY_ARRAYS = pytest.StashKey[list]()


def pytest_configure(config):
    config.parity_records = PARITY_RECORDS
    config.stash[PARITY_RECORDS] = []
    config.stash[PARITY_ARRAYS] = []


def pytest_sessionfinish(session):
    """Tells what was compared with the published code, from a worker process to the one that writes the summary."""
    arrays = [array for compared in session.config.stash[PARITY_RECORDS] for array in compared()]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["parity"] = arrays
    else:
        session.config.stash[PARITY_ARRAYS] += arrays


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[PARITY_ARRAYS] += getattr(node, "workeroutput", {}).get("parity", [])


def pytest_terminal_summary(terminalreporter, config):
    arrays = [tuple(array) for array in config.stash[PARITY_ARRAYS]]
    if arrays:
        difference, where = max(arrays)
        terminalreporter.write_line(
            f"parity: {len(arrays)} recorded arrays compared, largest relative difference {difference:.1e} in {where}"
        )


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded numbers and real data samples; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PEFOMED_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(
            f"no recorded numbers and data samples at {folder}; set PEFOMED_SHARED to the folder that holds them"
        )
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A base folder with a network of a few thousand random weights: 56 px, two blocks and two layers of width 32."""
    torch = pytest.importorskip("torch")
    from transformers import Blip2VisionConfig, LlamaConfig

    from pefomed.embedded.tokenizer import train_tokenizer
    from pefomed.model import PefomedConfig, PefomedForConditionalGeneration
    from pefomed.model.presets import build_processor

    tokenizer = train_tokenizer(["is there a pleural effusion? yes no", "which organ is shown? the chest"], 400)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vocabulary = len(tokenizer)
    config = PefomedConfig(
        vision_config=Blip2VisionConfig(image_size=56, **sizes, initializer_range=0.2),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            **sizes,
        ),
        image_token_index=vocabulary,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny_base")
    PefomedForConditionalGeneration(config).save_pretrained(folder)
    build_processor(tokenizer, config).save_pretrained(folder)
    return folder
