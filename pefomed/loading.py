"""The model that a run answers with, and a name for its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pefomed.files import sha256_file
from pefomed.model.adapters import WEIGHTS_FILE, base_fingerprint, load_adapter
from pefomed.model.presets import load_base
from pefomed.settings import RunSettings


def load_model(settings: RunSettings, adapter: Path | None) -> tuple[Any, Any, str]:
    """The model to answer with, on the GPU if there is one.

    Args:
        settings: names the base.
        adapter: adapter folder, or None for the base alone.

    Returns:
        Model, processor, and a name that changes with the weights: preset@sha256 of the adapter, or of the base.

    Raises:
        FileNotFoundError: there is no base or adapter.
        ValueError: either is damaged, or they do not belong together.
    """
    model, processor = load_base(settings.preset, settings.base_dir)
    if adapter is None:
        weights = base_fingerprint(model)
    else:
        model = load_adapter(model, adapter, trainable=False)
        weights = sha256_file(adapter / WEIGHTS_FILE)
    if torch.cuda.is_available():
        model.to("cuda")
    return model.eval(), processor, f"{settings.preset}@{weights[:12]}"
