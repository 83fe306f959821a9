"""Networks, pictures and questions of chosen sizes, to measure training on."""

from __future__ import annotations

import io
import json
import math

import datasets
import numpy as np
import torch
from PIL import Image
from transformers import Blip2VisionConfig, LlamaConfig, LlamaTokenizer

from pefomed.data import load_dataset
from pefomed.data.prompts import instruction, render_prompt
from pefomed.embedded.tokenizer import train_tokenizer
from pefomed.model.configuration import PefomedConfig
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.presets import build_processor, load_base, paper_config
from pefomed.model.processing import PefomedProcessor
from pefomed.procedure import CLEAN
from pefomed.throughput import Case
from pefomed.training.collator import encode_row
from pefomed.training.stages import Stage, get_stage

WORDS = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]  # one token each
OWN_TOKENS = 16  # of a question: 11 words on average, [/INST], and an answer of 3 words with </s>
ANSWER_WORDS = 3
PICTURE_SIDE = 32  # of the stored pictures, so that a thousand of them are small; they are resized as all are


def network_config(case: Case) -> PefomedConfig:
    """Sizes of a network with random weights.

    Raises:
        ValueError: no square picture has so many image tokens.
    """
    side = math.isqrt(4 * case.image_tokens)
    if side * side != 4 * case.image_tokens:
        raise ValueError(f"image_tokens={case.image_tokens}: four times that must be a square, as 64, 256 or 1024")
    paper = paper_config()
    vision, text = paper.vision_config.to_dict(), paper.text_config.to_dict() | {"head_dim": None, "pad_token_id": 0}
    if case.name == "synthetic":
        vision |= {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4}
        text |= {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4}
        text |= {"num_key_value_heads": 4}
    for part in (vision, text):
        if case.layers:
            part["num_hidden_layers"] = case.layers
        if case.width:
            part |= {"hidden_size": case.width, "intermediate_size": 2 * case.width, "num_attention_heads": 2}
    if case.width:
        text["num_key_value_heads"] = 2
    return PefomedConfig(
        vision_config=Blip2VisionConfig(**{**vision, "image_size": 14 * side}),
        text_config=LlamaConfig(**text),
        image_token_index=text["vocab_size"],
    )


def build(case: Case) -> tuple[PefomedForConditionalGeneration, PefomedProcessor, datasets.Dataset, Stage]:
    """Base, processor, rows and recipe of a case."""
    stage = get_stage("stage2_vqa", "paper" if case.name == "full" else "tiny")
    torch.manual_seed(0)
    if case.name == "phantoms":
        model, processor = load_base("tiny", dtype=getattr(torch, case.dtype))
        sizes = {"images": case.pictures, "questions_per_image": case.questions}
        return model, processor, load_dataset("phantoms", split="train", **sizes), stage
    config = network_config(case)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, case.dtype))
    try:
        with torch.device(case.device):
            model = PefomedForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.model.multi_modal_projector.float()
    processor = _processor(config)
    return model.eval(), processor, _rows(case, processor), stage


def _processor(config: PefomedConfig) -> PefomedProcessor:
    """One whose vocabulary is as large as the network's: a few learnt pieces, the rest names never met."""
    texts = [render_prompt(instruction("vqa", "ba"))] * 9 + [" ".join(WORDS)] * 50
    model = json.loads(train_tokenizer(texts, 600).backend_tokenizer.to_str())["model"]
    vocabulary = model["vocab"]
    vocabulary |= {f"<unused {number}>": number for number in range(len(vocabulary), config.text_config.vocab_size)}
    merges = [tuple(merge) for merge in model["merges"]]
    return build_processor(LlamaTokenizer(vocab=vocabulary, merges=merges, legacy=False, do_lower_case=True), config)


def _rows(case: Case, processor: PefomedProcessor) -> datasets.Dataset:
    """Questions about pictures of noise; all begin alike, so that a prompt's common part has its length, too."""
    rng = np.random.default_rng(0)
    row = {"task": "vqa", "dataset": "noise", "question": WORDS[0], "answer": " ".join(WORDS[:ANSWER_WORDS])}
    ids = encode_row(processor, row, CLEAN, 1024, rng).input_ids
    template = len(ids) - processor.image_tokens - ANSWER_WORDS - 3  # the question's word, [/INST] and </s>
    alike = case.text_tokens - OWN_TOKENS - template
    if alike < 0:
        raise ValueError(f"text_tokens={case.text_tokens}: the template and a question need {OWN_TOKENS + template}")
    rows = []
    for picture in range(case.pictures):
        file = io.BytesIO()
        noise = rng.integers(0, 256, (PICTURE_SIDE, PICTURE_SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, "PNG", compress_level=1)
        for number in range(case.questions):
            # 5 to 17 words; the first ones count the questions, so that no two of a picture are alike.
            words = [WORDS[number % len(WORDS)], *rng.choice(WORDS, 4 + (number * 5 + picture) % 13)]
            own = {"question": " ".join([*WORDS[:alike], *words]), "answer": " ".join(rng.choice(WORDS, ANSWER_WORDS))}
            image = {"bytes": file.getvalue(), "path": None}
            rows.append({**row, **own, "id": f"noise-{picture}-{number}", "image": image})
    return datasets.Dataset.from_list(rows)
