"""A network of a few thousand random weights, built by the package's own code as the paper's is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Blip2VisionConfig, LlamaConfig

from pefomed.embedded.tokenizer import train_tokenizer
from pefomed.model import PefomedConfig, PefomedForConditionalGeneration, PefomedProcessor
from pefomed.model.presets import build_processor

SENTENCES = (
    "Based on the image, respond to this question with a short answer: is there a pleural effusion?",
    "which organ is shown in this image? the chest, the abdomen, or the head",
    "what plane was this taken in? axial, coronal, sagittal",
    "[vqa] [report] [caption] [INST] <Img> </Img> yes no left right",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build_config(vocab_size: int, **changes) -> PefomedConfig:
    """56 px, 16 patches, 4 image tokens, two blocks and two layers of width 32."""
    return PefomedConfig(
        vision_config=Blip2VisionConfig(
            image_size=56, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
        ),
        text_config=LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            rms_norm_eps=1e-5,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        image_token_index=vocab_size,
        **changes,
    )


def fill_at_random(module: torch.nn.Module, seed: int = 0, scale: float = 0.25) -> None:
    """Gives every weight a value of its own, so that none is zero, one, or equal to another by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters(), key=lambda item: item[0]):
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(1 + noise if "norm" in name and name.endswith("weight") else noise)


def build_model(config: PefomedConfig, seed: int = 0) -> PefomedForConditionalGeneration:
    model = PefomedForConditionalGeneration(config).eval()
    fill_at_random(model, seed)
    return model


# The functions above, for test modules, which cannot import one another.


@pytest.fixture(scope="session")
def make_model():
    return build_model


@pytest.fixture(scope="session")
def make_config():
    return build_config


@pytest.fixture(scope="session")
def randomise():
    return fill_at_random


@pytest.fixture(scope="session")
def make_tokenizer():
    return lambda: train_tokenizer(SENTENCES, vocab_size=480)


@pytest.fixture(scope="session")
def processor(make_tokenizer) -> PefomedProcessor:
    tokenizer = make_tokenizer()
    return build_processor(tokenizer, build_config(len(tokenizer)))


@pytest.fixture(scope="session")
def config(processor) -> PefomedConfig:
    return build_config(processor.image_token_id)


@pytest.fixture(scope="session")
def model(config) -> PefomedForConditionalGeneration:
    """Shared by all tests: nobody may change it."""
    return build_model(config)


@pytest.fixture
def fresh_model(config) -> PefomedForConditionalGeneration:
    """The same weights, to be changed at will."""
    return build_model(config)


@pytest.fixture(scope="session")
def saved(model, processor, tmp_path_factory):
    """A folder with the model and its processor, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_picture(seed: int, size: tuple[int, int] = (70, 50)) -> Image.Image:
    """Coarse random blocks, in colour."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    return [make_picture(seed) for seed in range(3)]


@pytest.fixture(scope="session")
def batch(processor, pictures) -> SimpleNamespace:
    """Three prompts of unequal length with a picture each: lists of ids, left-padded tensors, pixels."""
    questions = ("is there a pleural effusion?", "which organ?", "what plane was this image taken in, and what is it?")
    prompts = [f"[INST] <Img><ImageHere></Img> [vqa] {question} [/INST]" for question in questions]
    rows = [processor.encode(prompt).input_ids for prompt in prompts]
    longest = max(map(len, rows))
    pad = processor.tokenizer.pad_token_id
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    return SimpleNamespace(
        questions=questions,
        prompts=prompts,
        rows=rows,
        input_ids=torch.tensor([[pad] * (longest - len(row)) + row for row in rows]),
        attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
        pixel_values=pixels,
    )


@pytest.fixture(scope="session")
def logits_of(batch):
    """Function: a model's logits of `batch`, from its pixels or from the inputs given instead."""

    def logits(model, **inputs) -> torch.Tensor:
        inputs = inputs or {"pixel_values": batch.pixel_values}
        with torch.no_grad():
            return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **inputs).logits

    return logits
