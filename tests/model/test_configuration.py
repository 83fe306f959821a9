"""The configuration's defaults are the paper's, impossible sizes are refused, and nothing is lost on disk."""

import pytest
import torch
from transformers import AutoConfig, Blip2VisionConfig, LlamaConfig

from pefomed.model import PefomedConfig, PefomedForConditionalGeneration
from pefomed.model.adapters import fresh_adapter, trainable_table
from pefomed.model.presets import paper_config, tiny_config


def test_the_defaults_are_the_papers():
    config = PefomedConfig()
    vision = config.vision_config
    assert (vision.image_size, vision.patch_size) == (448, 14)
    assert (vision.hidden_size, vision.intermediate_size) == (1408, 6144)
    assert (vision.num_hidden_layers, vision.num_attention_heads, vision.layer_norm_eps) == (39, 16, 1e-6)
    assert (config.tokens_per_group, config.image_tokens, config.post_layernorm_eps) == (4, 256, 1e-5)
    assert config.image_token_index == config.image_token_id == config.text_config.vocab_size == 32000
    assert not config.tie_word_embeddings


def test_the_papers_preset_trains_exactly_as_many_parameters_as_the_paper_does():
    with torch.device("meta"):
        model = PefomedForConditionalGeneration(paper_config())
        table = trainable_table(fresh_adapter(model, r=64, alpha=16, dropout=0.05))
    assert table == {"lora": 33_554_432, "projector": 23_072_768, "total": 56_627_200}
    assert sum(p.numel() for p in model.model.vision_tower.parameters()) == 987_033_600
    frozen = [p for p in model.parameters() if not p.requires_grad]
    language = sum(p.numel() for p in frozen) - 987_033_600 - 23_072_768
    assert language == 6_738_415_616


def test_the_tiny_preset_ties_the_vocabulary_head():
    config = tiny_config(600)
    assert config.image_tokens == 16
    assert config.image_token_index == 600
    with torch.device("meta"):
        model = PefomedForConditionalGeneration(config)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens_per_group": 3}, r"1024 patches of a 448 px image cannot be grouped by tokens_per_group=3"),
        ({"tokens_per_group": 0}, r"tokens_per_group must be at least 1, not 0"),
        ({"tokens_per_group": -4}, r"tokens_per_group must be at least 1, not -4"),
        ({"image_token_index": 31999}, r"image_token_index=31999 lies inside the vocabulary of 32000"),
        ({"vision_config": Blip2VisionConfig(image_size=42)}, r"9 patches of a 42 px image"),
        ({"vision_config": Blip2VisionConfig(image_size=450)}, r"image_size=450 is no multiple of patch_size=14"),
        ({"text_config": LlamaConfig(vocab_size=40000)}, r"inside the vocabulary of 40000"),
    ],
)
def test_impossible_sizes_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        PefomedConfig(**changes)


def test_a_saved_configuration_comes_back_whole(config, tmp_path):
    config = type(config).from_dict({**config.to_dict(), "post_layernorm_eps": 3e-4})
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is PefomedConfig
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert loaded.post_layernorm_eps == 3e-4
    assert isinstance(loaded.vision_config, Blip2VisionConfig)
    assert isinstance(loaded.text_config, LlamaConfig)
    model = PefomedForConditionalGeneration(loaded)
    assert model.model.vision_tower.post_layernorm.eps == 3e-4
    assert model.model.vision_tower.encoder.layers[0].layer_norm1.eps == 1e-6


def test_the_layer_norm_behind_the_tower_keeps_its_own_eps_through_save_and_load(model, saved):
    loaded = PefomedForConditionalGeneration.from_pretrained(saved)
    assert loaded.model.vision_tower.post_layernorm.eps == model.model.vision_tower.post_layernorm.eps == 1e-5
