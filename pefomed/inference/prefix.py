"""Answers from one prefix: what a picture's prompts have in common is run once, and all its questions go on from it.

    prompts of a picture   <s> [INST] <Img> image </Img> [vqa] Based on ... : | is there ... ? [/INST]
                           `-------------- run once, cached ---------------'   `-- one row each --'

The cache's rows are copied for the questions (and beams), the differing ends are run in one batch padded on the left,
and generation goes on as ever. Several pictures share a batch. Sums are taken in another order than in a batch of
whole prompts, so that numbers agree up to rounding: in float32 the tokens are those of one prompt at a time, in
bfloat16 two words that are all but equally likely may change places.

Rows that have ended leave a greedy batch as soon as they are half of it. Beams stay: the scores of what they have
found so far lie inside `generate`, which could not go on without them.
"""

from collections.abc import Hashable, Sequence

import torch
from transformers import StoppingCriteria
from transformers.cache_utils import Cache
from transformers.modeling_outputs import ModelOutput

from pefomed.inference.growing_cache import growing_cache
from pefomed.model.adapters import is_sharded
from pefomed.training.collator import left_padded


def picture_batches(pictures: Sequence[Hashable], lengths: Sequence[int], batch_size: int) -> list[list[list[int]]]:
    """Puts rows into batches so that rows about one picture lie together; a function of the arguments alone.

    A picture with more than `batch_size` rows is split. Pictures with several rows share batches with their like, and
    so do those with one, which have nothing to share; among their like, short prompts go first.

    Args:
        pictures: what each row shows; equal keys, equal pictures.
        lengths: tokens of each row's prompt.
        batch_size: most rows of a batch.

    Returns:
        Batches of pictures of row numbers; every row once.
    """
    rows_of: dict[Hashable, list[int]] = {}
    for row in sorted(range(len(pictures)), key=lambda i: (lengths[i], i)):
        rows_of.setdefault(pictures[row], []).append(row)
    pieces = [rows[i : i + batch_size] for rows in rows_of.values() for i in range(0, len(rows), batch_size)]
    batches: list[list[list[int]]] = []
    for shared in (True, False):
        size = batch_size
        for piece in sorted(
            (piece for piece in pieces if (len(piece) > 1) == shared), key=lambda rows: (lengths[rows[-1]], rows[-1])
        ):
            if size + len(piece) > batch_size:
                batches.append([])
                size = 0
            batches[-1].append(piece)
            size += len(piece)
    return batches


def prefix_length(prompts: Sequence[list[int]]) -> int:
    """Tokens that all prompts begin with, but for the last token of the shortest: something must be left to run."""
    common = 0
    for tokens in zip(*prompts, strict=False):
        if len(set(tokens)) > 1:
            break
        common += 1
    return min(common, min(len(prompt) for prompt in prompts) - 1)


class _HalfEnded(StoppingCriteria):
    """Stops all rows of a batch when at least half of them have ended behind position `start`."""

    def __init__(self, end: int, start: int):
        self.end, self.start = end, start

    def __call__(self, input_ids: torch.Tensor, scores, **kwargs) -> torch.Tensor:
        ended = (input_ids[:, self.start :] == self.end).any(dim=1)
        return (2 * ended.sum() >= len(ended)).expand(len(ended))


def generate_tokens(
    model,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    pad: int,
    end: int,
    max_new_tokens: int,
    num_beams: int = 1,
    **first,
) -> torch.Tensor:
    """`model.generate` without sampling; in greedy batches, rows that have ended leave.

    Args:
        model: base or adapted model.
        input_ids: [rows, length], padded on the left.
        attention_mask: [rows, length].
        pad: id behind the end of an answer.
        end: id that ends an answer.
        max_new_tokens: bound on an answer.
        num_beams: 1 for greedy.
        first: what the first positions need: `pixel_values`, or the `past_key_values` of some of them.

    Returns:
        [rows, longest answer]: the new tokens alone.
    """
    settings = {"do_sample": False, "pad_token_id": pad, "eos_token_id": end, "num_beams": num_beams}
    rows, length = input_ids.shape
    new = input_ids.new_full((rows, max_new_tokens), pad)
    # The processes of a sharded model must call it equally often, so that nobody may stop and go on.
    leave = num_beams == 1 and not is_sharded(model)
    if num_beams == 1:  # beams change places at every step, and would be copied all the same
        first.setdefault("past_key_values", growing_cache(model.config))
    left = torch.arange(rows, device=input_ids.device)
    while True:
        made = input_ids.shape[1] - length
        out = model.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            max_new_tokens=max_new_tokens - made,
            stopping_criteria=[_HalfEnded(end, length)] if leave else None,
            return_dict_in_generate=True,
            **settings,
            **first,
        )
        found = out.sequences[:, length:]
        new[left, : found.shape[1]] = found
        going = ~(found == end).any(dim=1)
        if not leave or found.shape[1] >= max_new_tokens or not going.any():
            return new[:, : found.shape[1]]
        left, input_ids, first = left[going], out.sequences[going], {"past_key_values": _kept(out, going)}
        grown = attention_mask.new_ones(len(left), out.sequences.shape[1] - attention_mask.shape[1])
        attention_mask = torch.cat([attention_mask[going], grown], dim=1)


def _kept(out: ModelOutput, rows: torch.Tensor) -> Cache:
    """The cache of a batch with only those rows [rows] left in it."""
    out.past_key_values.batch_select_indices(rows.nonzero()[:, 0])
    return out.past_key_values


def generate_answers(
    model, prompts: Sequence[Sequence[list[int]]], seen: torch.Tensor, *, pad: int, num_beams: int = 1, **settings
) -> torch.Tensor:
    """New tokens for all prompts of some pictures; a prefix that several prompts of a picture share is run once.

    Args:
        model: base or adapted model.
        prompts: for each picture the ids of its prompts.
        seen: pixels [pictures, 3, size, size], or the frozen tower's features [pictures, image_tokens, 4 d], on the
            model's device.
        pad: padding id.
        num_beams: 1 for greedy.
        settings: `end` and `max_new_tokens`, as in `generate_tokens`.

    Returns:
        [prompts of all pictures, longest answer], picture after picture.
    """
    settings |= {"pad": pad, "num_beams": num_beams}
    shown = {"pixel_values" if seen.dim() == 4 else "vision_features": seen}
    if all(len(asked) == 1 for asked in prompts):
        ids, mask = _padded([asked[0] for asked in prompts], pad, model.device)
        return generate_tokens(model, ids, mask, **shown, **settings)
    lengths = [prefix_length(asked) for asked in prompts]
    heads = [asked[0][:length] for asked, length in zip(prompts, lengths, strict=True)]
    head_ids, head_mask, cache = _run_heads(model, heads, shown, pad)
    tails = [prompt[length:] for asked, length in zip(prompts, lengths, strict=True) for prompt in asked]
    tail_ids, tail_mask = _padded(tails, pad, model.device)
    picture = torch.tensor([i for i, asked in enumerate(prompts) for _ in asked], device=model.device)
    # generate() copies ids for the beams, but a cache that it is given must have all their rows.
    cache.batch_select_indices(picture.repeat_interleave(num_beams))
    return generate_tokens(
        model,
        # Padding between a prefix and its tail does no harm: masked, and positions count real tokens.
        torch.cat([head_ids[picture], tail_ids], dim=1),
        torch.cat([head_mask[picture], tail_mask], dim=1),
        past_key_values=cache,
        **settings,
    )


def _run_heads(
    model, heads: list[list[int]], shown: dict[str, torch.Tensor], pad: int
) -> tuple[torch.Tensor, torch.Tensor, Cache]:
    """Ids and mask [pictures, longest prefix] of the prefixes, padded on the left, and the cache they leave."""
    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids, mask = _padded(heads, pad, model.device)
    cache = growing_cache(network.config)
    network.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        **shown,
    )
    return ids, mask, cache


def _padded(prompts: list[list[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [prompts, longest], padded on the left."""
    mask = left_padded([[1] * len(prompt) for prompt in prompts], 0)
    return left_padded(prompts, pad).to(device), mask.to(device)
