"""Keys and values that grow in place.

transformers' own cache is copied whole for every new token. Behind a prefix of hundreds of image tokens, and for tens
of rows, that costs as much as the attention itself; here there is room for more behind what is kept.
"""

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 32  # positions kept free


class GrowingLayer(DynamicLayer):
    """One layer's `keys` and `values` [rows, heads, length, width], views of buffers that are longer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._buffers: list[torch.Tensor | None] = [None, None]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Puts keys and values of new positions behind the others; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        self.keys = self._grown(0, self.keys, key_states, length)
        self.values = self._grown(1, self.values, value_states, length)
        return self.keys, self.values

    def reset(self) -> None:
        """Empties the layer."""
        self._buffers = [None, None]
        super().reset()

    def _grown(self, which: int, kept: torch.Tensor, new: torch.Tensor, length: int) -> torch.Tensor:
        whole = length + new.shape[-2]
        buffer = self._buffers[which]
        # Whoever selects rows, repeats or reorders them leaves another tensor here than a view of the buffer.
        if buffer is None or kept.data_ptr() != buffer.data_ptr() or whole > buffer.shape[-2]:
            buffer = new.new_empty(*new.shape[:2], whole + ROOM, new.shape[-1])
            if length:
                buffer[:, :, :length] = kept
            self._buffers[which] = buffer
        buffer[:, :, length:whole] = new
        return buffer[:, :, :whole]


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model of that configuration; layers of other kinds than the plain one stay as they are."""
    cache = DynamicCache(config=config.get_text_config())
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
