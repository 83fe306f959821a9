"""The network: frozen EVA ViT, four tokens concatenated, one linear projection, Llama.

    pixels [images, 3, H, W] -> tower [images, 1 + patches, d] -> without CLS, grouped [images, patches / 4, 4 d]
           -> projector [images, patches / 4, hidden] -> put where `image_token_index` stands in the prompt -> Llama

Two classes, as transformers and trl expect them: `PefomedModel` ends in hidden states,
`PefomedForConditionalGeneration` adds the vocabulary head, the loss and `generate`. Source: paper section 3.1 and the
published model's layout.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel
from transformers.utils import can_return_tuple

from pefomed.model.configuration import PefomedConfig
from pefomed.model.segments import refuse_restarting_positions, segment_mask


@dataclass
class PefomedModelOutputWithPast(BaseModelOutputWithPast):
    """Hidden states of the language model.

    Attributes:
        image_hidden_states: projected image features [images, image_tokens, hidden], or None without images.
    """

    image_hidden_states: torch.FloatTensor | None = None


@dataclass
class PefomedCausalLMOutputWithPast(ModelOutput):
    """Loss (mean over label tokens), logits [batch, kept positions, vocabulary], cache, image features."""

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.FloatTensor] | None = None
    attentions: tuple[torch.FloatTensor] | None = None
    image_hidden_states: torch.FloatTensor | None = None


class PefomedPreTrainedModel(PreTrainedModel):
    """What both classes share: names of the parts, supported attention kernels, initialisation."""

    config: PefomedConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "Blip2EncoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    # A bfloat16 projector would lose the updates of a learning rate around 1e-5.
    _keep_in_fp32_modules_strict = {"multi_modal_projector"}
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


def group_tokens(tower_output: torch.Tensor, tokens_per_group: int) -> torch.Tensor:
    """Drops the CLS token and concatenates neighbouring tokens.

    Args:
        tower_output: [images, 1 + patches, d], CLS first, patches in row-major order.
        tokens_per_group: how many neighbours become one token.

    Returns:
        [images, patches / tokens_per_group, d * tokens_per_group].
    """
    patches = tower_output[:, 1:]
    images, count, width = patches.shape
    return patches.reshape(images, count // tokens_per_group, width * tokens_per_group)


class PefomedModel(PefomedPreTrainedModel):
    """Vision tower, projector and language model without its head; returns `last_hidden_state`."""

    def __init__(self, config: PefomedConfig):
        super().__init__(config)
        self.vision_tower = Blip2VisionModel._from_config(config.vision_config)
        self.vision_tower.post_layernorm.eps = config.post_layernorm_eps
        self.multi_modal_projector = nn.Linear(
            config.vision_config.hidden_size * config.tokens_per_group, config.text_config.hidden_size
        )
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.embed_tokens = value

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The frozen part: pixels [images, 3, H, W] -> grouped tokens [images, image_tokens, 4 d].

        Raises:
            ValueError: if the pictures have not the size that the tower's position table is made for.
        """
        side = self.config.vision_config.image_size
        if tuple(pixel_values.shape[1:]) != (3, side, side):
            raise ValueError(
                f"pixel_values must be [images, 3, {side}, {side}], found {list(pixel_values.shape)}; "
                "resize the pictures with the model's own processor"
            )
        # Gradient checkpointing makes peft hook every embedding so that its output requires gradients; without this,
        # the backward pass would go through the whole frozen tower, a quarter of all work at the paper's size.
        frozen = not any(parameter.requires_grad for parameter in self.vision_tower.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            tower = self.vision_tower(pixel_values.to(self.vision_tower.dtype))
        return group_tokens(tower.last_hidden_state, self.config.tokens_per_group)

    def project(self, vision_features: torch.Tensor) -> torch.Tensor:
        """The trained part: grouped tokens [images, image_tokens, 4 d] -> [images, image_tokens, hidden]."""
        return self.multi_modal_projector(vision_features.to(self.multi_modal_projector.weight.dtype))

    # The signature must not hold `vision_features`: generate() would take it away and never encode it.
    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """Projected features of each image, as a list of [image_tokens, hidden] in `pooler_output`."""
        grouped = self.encode_images(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=grouped, pooler_output=list(self.project(grouped)))

    def _embed(self, input_ids: torch.Tensor, image_features: torch.Tensor | None) -> torch.Tensor:
        """Token embeddings [batch, length, hidden] with image features in the places that wait for them."""
        image_places = input_ids == self.config.image_token_index
        embeds = self.get_input_embeddings()(input_ids.masked_fill(image_places, 0))
        if image_features is None:
            if image_places.any():
                raise ValueError("the prompt has image positions, but neither pixel_values nor vision_features came")
            return embeds
        features = image_features.reshape(-1, image_features.shape[-1])
        count = int(image_places.sum())
        if count != features.shape[0]:
            # trl looks for this very wording to explain a max_length that cuts an image.
            raise ValueError(
                f"Image features and image tokens do not match: {features.shape[0]} features, {count} positions"
            )
        return embeds.masked_scatter(image_places.unsqueeze(-1), features.to(embeds.dtype))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        vision_features: torch.Tensor | None = None,
        segment_ids: torch.LongTensor | None = None,
        mm_encoder_outputs: dict | None = None,
        **kwargs,
    ) -> PefomedModelOutputWithPast:
        """Runs the network up to the last hidden state.

        Args:
            input_ids: [batch, length]; `image_token_index` where image features go.
            pixel_values: [images, 3, H, W], images in the order of their positions in the batch.
            attention_mask: [batch, length], 1 for real tokens.
            position_ids: [batch, length]; with `segment_ids` they start again at the prefix length in every segment.
            past_key_values: cache of earlier positions.
            inputs_embeds: [batch, length, hidden] instead of `input_ids`.
            vision_features: [images, image_tokens, 4 d], the frozen tower's grouped output, instead of pixels.
            segment_ids: [batch, length]: 0 prefix, 1..n segments that see the prefix and themselves, -1 padding. The
                ids of further images in the same row begin at multiples of `SEGMENTS_PER_IMAGE`.
            mm_encoder_outputs: {"image": output of `get_image_features`}, as `generate` passes it.

        Raises:
            ValueError: on contradictory or missing inputs, or when image positions and features differ in number.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        encoded = (mm_encoder_outputs or {}).get("image")
        if sum(source is not None for source in (pixel_values, vision_features, encoded)) > 1:
            raise ValueError("give only one of pixel_values, vision_features and mm_encoder_outputs['image']")
        image_features = None
        if pixel_values is not None:
            image_features = self.project(self.encode_images(pixel_values))
        elif vision_features is not None:
            image_features = self.project(vision_features)
        elif encoded is not None:
            image_features = torch.stack(tuple(encoded.pooler_output))
        if inputs_embeds is None:
            inputs_embeds = self._embed(input_ids, image_features)
        elif image_features is not None:
            raise ValueError("images can only be placed among input_ids, not among inputs_embeds")
        if segment_ids is not None:
            if position_ids is None:
                raise ValueError("segment_ids need position_ids that restart after the prefix")
            attention_mask = segment_mask(
                self.config.text_config, inputs_embeds, attention_mask, past_key_values, segment_ids
            )
        else:
            refuse_restarting_positions(position_ids, attention_mask)
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return PefomedModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_features,
        )


class PefomedForConditionalGeneration(PefomedPreTrainedModel, GenerationMixin):
    """`PefomedModel` with the vocabulary head: logits, loss on `labels`, and `generate`."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: PefomedConfig):
        super().__init__(config)
        self.model = PefomedModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """See `PefomedModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        vision_features: torch.Tensor | None = None,
        segment_ids: torch.LongTensor | None = None,
        mm_encoder_outputs: dict | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> PefomedCausalLMOutputWithPast:
        """Arguments as in `PefomedModel.forward`.

        Args:
            labels: [batch, length], not shifted; -100 where nothing is learnt.
            logits_to_keep: 0 for all positions, n for the last n, an index tensor, or a bool tensor [batch, length]
                for logits [kept positions, vocabulary] of these alone, row by row.

        Raises:
            ValueError: as `PefomedModel.forward`; or if `labels` come with a bool `logits_to_keep`.
        """
        by_place = isinstance(logits_to_keep, torch.Tensor) and logits_to_keep.dtype == torch.bool
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        if by_place and labels is not None:
            raise ValueError("give labels or a bool logits_to_keep, not both: the loss of chosen positions is yours")
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            vision_features=vision_features,
            segment_ids=segment_ids,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state[keep if by_place else (slice(None), keep)])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        return PefomedCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )

    # `kwargs` by this very name: generate() only accepts other inputs where it finds it.
    def prepare_inputs_for_generation(self, input_ids, is_first_iteration=False, **kwargs):
        """Features of the image belong to the prefill alone; later steps find them in the cache."""
        if not is_first_iteration and kwargs.get("use_cache", True):
            kwargs.pop("vision_features", None)
        return super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)


__all__ = ["PefomedForConditionalGeneration", "PefomedModel", "PefomedPreTrainedModel"]
