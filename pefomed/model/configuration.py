"""The configuration: a vision tower, a language model, and how the one's tokens enter the other."""

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


@strict
class PefomedConfig(PreTrainedConfig):
    """Sizes of the whole network; the defaults are the paper's (EVA ViT-g at 448 px, LLaMA-2-7B).

    Attributes:
        vision_config: a `Blip2VisionConfig`; its defaults are the EVA ViT-g without its last block.
        text_config: a `LlamaConfig`.
        tokens_per_group: neighbouring vision tokens, in row-major order, that are concatenated into one
            (paper section 3.1: 1,024 tokens of 1,408 numbers become 256 of 5,632).
        post_layernorm_eps: of the layer norm behind the tower. The published code builds it with torch's default
            1e-5, while the norms inside the tower use `vision_config.layer_norm_eps` (1e-6).
        image_token_index: id that marks a position where an image feature goes. It lies just past the language
            model's vocabulary, so that no weight is resized and no text can ever produce it.
    """

    model_type = "pefomed"
    attribute_map = {"image_token_id": "image_token_index"}
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type="blip_2_vision_model", init_kwargs={"image_size": 448}
        ),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    keys_to_ignore_at_inference = ["past_key_values"]

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    tokens_per_group: int = 4
    post_layernorm_eps: float = 1e-5
    image_token_index: int = 32000
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        side, patch = self.vision_config.image_size, self.vision_config.patch_size
        if side % patch:
            raise ValueError(f"image_size={side} is no multiple of patch_size={patch}; its border would be cut off")
        if self.tokens_per_group < 1:
            raise ValueError(f"tokens_per_group must be at least 1, not {self.tokens_per_group}")
        patches = (side // patch) ** 2
        if patches % self.tokens_per_group:
            raise ValueError(
                f"{patches} patches of a {side} px image cannot be grouped by "
                f"tokens_per_group={self.tokens_per_group}; choose an image size whose patch count divides evenly"
            )
        if self.image_token_index < self.text_config.vocab_size:
            raise ValueError(
                f"image_token_index={self.image_token_index} lies inside the vocabulary of "
                f"{self.text_config.vocab_size} tokens; it must be at or past its end"
            )

    @property
    def image_tokens(self) -> int:
        """Positions one image takes in the prompt (256 at 448 px, 16 at 112 px)."""
        return (self.vision_config.image_size // self.vision_config.patch_size) ** 2 // self.tokens_per_group


__all__ = ["PefomedConfig"]
