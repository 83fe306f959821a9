"""The frozen tower: a hash that tells it from any other, and the device it lies on while it is not needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import TrainerCallback

from pefomed.model.modeling import PefomedModel


def tower_fingerprint(model: PefomedModel) -> str:
    """sha256 over the frozen tower's configuration and every byte of its weights."""
    config = model.config.vision_config
    settings = {k: v for k, v in config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    settings |= {"attention": config._attn_implementation, "tokens_per_group": model.config.tokens_per_group}
    settings |= {"post_layernorm_eps": model.config.post_layernorm_eps}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.vision_tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def tower_on(model: PefomedModel, device: torch.device) -> Iterator[None]:
    """The tower on a device for a while, then where it was."""
    before = model.vision_tower.device
    model.vision_tower.to(device)
    try:
        yield
    finally:
        model.vision_tower.to(before)


class ParkTower(TrainerCallback):
    """Keeps the tower out of the GPU's memory while everything is learnt and validated from kept features.

    Args:
        tower: the frozen tower.
    """

    def __init__(self, tower: torch.nn.Module):
        self.tower = tower

    def on_step_begin(self, args, state, control, **kwargs):
        if self.tower.device.type != "cpu":
            self.tower.to("cpu")

    def on_train_end(self, args, state, control, **kwargs):
        self.tower.to(args.device)
