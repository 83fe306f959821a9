"""Rows of several segments: which position may look at which.

A row holds one image's prefix and a segment for each of its questions, or several images with theirs. Segment ids say
what a position belongs to: -1 padding; for the row's image number i the prefix is i * SEGMENTS_PER_IMAGE and its
questions are the numbers behind. Two mistakes here would go unnoticed, as a network that learns without its image or
reads the neighbour's answer: both are errors.
"""

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

SEGMENTS_PER_IMAGE = 1 << 16
MASKED_ATTENTION = ("sdpa", "eager", "flex_attention")  # flash kernels take no mask and would say nothing


def segment_mask(
    text_config,
    embeds: torch.Tensor,
    attention_mask: torch.Tensor | None,
    past_key_values: Cache | None,
    segment_ids: torch.Tensor,
):
    """Causal mask in which a segment sees its image's prefix and itself, and nothing else of the row.

    Args:
        text_config: of the language model; says which attention kernel reads the mask.
        embeds: [batch, length, hidden].
        attention_mask: [batch, length], 1 for real tokens.
        past_key_values: cache of earlier positions, or None.
        segment_ids: [batch, length].

    Returns:
        What the kernel takes: bool or float [batch, 1, length, keys], or FlexAttention's block mask.

    Raises:
        ValueError: if the mask could not take effect, or if there is nothing to tell padding by.
    """
    implementation = text_config._attn_implementation
    if implementation not in MASKED_ATTENTION:
        raise ValueError(
            f"segment_ids need a mask, which attn_implementation={implementation!r} ignores; use 'sdpa' or 'eager'"
        )
    if attention_mask is None or attention_mask.shape != segment_ids.shape:
        found = "none" if attention_mask is None else list(attention_mask.shape)
        raise ValueError(
            f"segment_ids need an attention_mask of their own shape {list(segment_ids.shape)}, found {found}"
        )
    # Padding is an image of its own: a position that saw nothing at all would be a softmax over nothing.
    segments = segment_ids.masked_fill(attention_mask == 0, -1)
    images = segments.div(SEGMENTS_PER_IMAGE, rounding_mode="floor")
    in_prefix = segments == images * SEGMENTS_PER_IMAGE
    if implementation == "sdpa" and past_key_values is None:
        # The same mask by broadcasting: transformers asks the function below for every pair of positions, which takes
        # longer than the attention of a small network.
        seen = in_prefix.unsqueeze(1) & (images.unsqueeze(1) == images.unsqueeze(2))
        seen |= segments.unsqueeze(1) == segments.unsqueeze(2)
        return seen.tril().unsqueeze(1)

    def own_prefix_or_segment(batch, head, query, key):
        same_segment = segments[batch, key] == segments[batch, query]
        return same_segment | (in_prefix[batch, key] & (images[batch, key] == images[batch, query]))

    # Given positions or a mask of padding, transformers would look for texts packed into a row by itself.
    return create_causal_mask(
        config=text_config,
        inputs_embeds=embeds,
        attention_mask=None,
        past_key_values=past_key_values,
        position_ids=None,
        and_mask_function=own_prefix_or_segment,
    )


def refuse_restarting_positions(position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> None:
    """Positions that go back within a row belong to rows of several segments, whose mask needs `segment_ids`.

    Without them nothing fails: transformers takes each segment for a text of its own, without its image, or, given an
    attention mask, for the continuation of the segment before.

    Args:
        position_ids: [batch, length] or None.
        attention_mask: [batch, keys] with 1 for real tokens, the last `length` of which are these; or None.

    Raises:
        ValueError: if positions go back from one real token to the next.
    """
    if position_ids is None or position_ids.shape[-1] < 2 or torch.compiler.is_compiling():
        return
    goes_back = position_ids[:, 1:] < position_ids[:, :-1]
    if attention_mask is not None:
        if attention_mask.dim() != 2:  # a finished mask: whoever made it knows about segments
            return
        real = attention_mask[:, -position_ids.shape[-1] :] != 0
        goes_back = goes_back & real[:, 1:] & real[:, :-1]
    if goes_back.any():
        raise ValueError(
            "position_ids start again within a row, but segment_ids are missing: segments would not see their image, "
            "or would see one another; pass the segment_ids of the batch on"
        )
