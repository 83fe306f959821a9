"""A base of random weights in a folder, and a few phantoms to learn from."""

from pathlib import Path

import pytest
import torch
from transformers import Blip2VisionConfig, LlamaConfig

from pefomed.data import load_dataset
from pefomed.embedded.tokenizer import train_tokenizer
from pefomed.model import PefomedConfig, PefomedForConditionalGeneration
from pefomed.model.presets import build_processor, load_base

TEXTS = (
    "Based on the image, respond to this question with a short answer: is there a nodule? yes no left right",
    "[vqa] [INST] <Img> </Img> which organ is shown? chest abdomen head large small normal",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Bit-for-bit claims hold for a fixed number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_base(tmp_path_factory) -> Path:
    """Folder of a base with random weights: 56 px, four image tokens, 32 wide."""
    folder = tmp_path_factory.mktemp("small_base")
    tokenizer = train_tokenizer(TEXTS, vocab_size=400)
    config = PefomedConfig(
        vision_config=Blip2VisionConfig(
            image_size=56,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.2,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        image_token_index=len(tokenizer),
    )
    torch.manual_seed(0)
    PefomedForConditionalGeneration(config).save_pretrained(folder)
    build_processor(tokenizer, config).tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def phantoms() -> dict:
    """A few drawn patients a split."""
    return {
        "train": load_dataset("phantoms", split="train", images=12, questions_per_image=4),
        "val": load_dataset("phantoms", split="val", images=3, questions_per_image=4),
        "test": load_dataset("phantoms", split="test", images=6, questions_per_image=4),
    }


@pytest.fixture
def small(small_base):
    """(model, processor), loaded anew for each test, since training changes the model."""
    return load_base("tiny", small_base, dtype=torch.float32)
