"""Parameters and shapes of a network, counted on torch's meta device, where tensors have shapes and no memory."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import Blip2VisionConfig, LlamaConfig

from pefomed.model.adapters import fresh_adapter
from pefomed.model.configuration import PefomedConfig
from pefomed.model.modeling import PefomedForConditionalGeneration

LORA_R = 64


@dataclass(frozen=True)
class Sizes:
    """What the arithmetic needs to know of a network; all of it counted or read from its configuration.

    Attributes:
        tower, projector, language_model, lora: parameters of the parts.
        eva: the tower without the zero key biases and the last norm, which EVA's own file does not hold.
        tower_weights, layer_weights: matrix elements that every token meets, in all blocks and in all layers.
        patch_weights: of the convolution that every patch meets.
        patches, image_tokens, tower_width, tower_blocks: of the tower.
        width, mlp, layers, heads, vocabulary, lora_r: of the language model.
    """

    tower: int
    eva: int
    projector: int
    language_model: int
    lora: int
    tower_weights: int
    patch_weights: int
    layer_weights: int
    patches: int
    image_tokens: int
    tower_width: int
    tower_blocks: int
    width: int
    mlp: int
    layers: int
    heads: int
    vocabulary: int
    lora_r: int

    @property
    def trainable(self) -> int:
        return self.lora + self.projector


def count(config: PefomedConfig, lora_r: int = LORA_R) -> Sizes:
    """Assembles a network with its adapter on the meta device and counts."""
    with torch.device("meta"):
        model = PefomedForConditionalGeneration(config)
        tower, language_model = model.model.vision_tower, model.model.language_model
        parts = {
            "tower": _parameters(tower),
            "projector": _parameters(model.model.multi_modal_projector),
            "language_model": _parameters(language_model) + _parameters(model.lm_head),
        }
        tower_weights, layer_weights = _matrices(tower.encoder), _matrices(language_model.layers)
        adapted = fresh_adapter(model, lora_r, 16, 0.05)
    vision, text = config.vision_config, config.text_config
    patches = (vision.image_size // vision.patch_size) ** 2
    lora = sum(p.numel() for name, p in adapted.named_parameters() if ".lora_" in name)
    return Sizes(
        **parts,
        eva=parts["tower"] - vision.num_hidden_layers * vision.hidden_size - _parameters(tower.post_layernorm),
        lora=lora,
        tower_weights=tower_weights,
        patch_weights=tower.embeddings.patch_embedding.weight.numel(),
        layer_weights=layer_weights,
        patches=patches,
        image_tokens=patches // config.tokens_per_group,
        tower_width=vision.hidden_size,
        tower_blocks=vision.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        vocabulary=text.vocab_size,
        lora_r=lora_r,
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _matrices(module: nn.Module) -> int:
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def tower_is_differentiated() -> bool:
    """Whether gradient checkpointing, as trl switches it on, draws the frozen tower into the backward pass.

    It marks the outputs of every sub-model's embeddings as needing gradients, which can include the tower's.
    """
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = PefomedConfig(
        vision_config=Blip2VisionConfig(image_size=28, **small),
        text_config=LlamaConfig(vocab_size=8, num_key_value_heads=2, **small),
        image_token_index=8,
    )
    adapted = fresh_adapter(PefomedForConditionalGeneration(config), 1, 1, 0.0).train()
    adapted.enable_input_require_grads()
    return adapted.get_base_model().model.encode_images(torch.zeros(1, 3, 28, 28)).requires_grad
