"""The base and the adapter that a run works with: whole, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pefomed.files import sha256_file
from pefomed.model.adapters import WEIGHTS_FILE, base_fingerprint, load_adapter
from pefomed.model.presets import embedded_base_folder, load_base
from pefomed.settings import RunSettings


def load_whole_base(settings: RunSettings) -> tuple[Any, Any]:
    """Model and processor of the settings' base.

    Raises:
        FileNotFoundError: there is no base.
        ValueError: its weights are damaged, incomplete, or hold NaN.
    """
    folder = Path(settings.base_dir) if settings.base_dir else embedded_base_folder()
    try:
        model, processor = load_base(settings.preset, settings.base_dir)
        stored = _stored_names(folder)
    except SafetensorError as error:
        raise ValueError(f"{folder}: the weights are damaged, perhaps cut short ({error}); copy them again") from error
    # transformers only warns of these, and leaves them at their random start.
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    missing = sorted(set(dict(model.named_parameters())) - stored - tied)
    if missing:
        raise ValueError(
            f"{folder}: the base lacks {len(missing)} tensors ({', '.join(missing[:3])}); convert it again"
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"{folder}: {name} holds NaN or infinity; the base is damaged, convert it again")
    return model, processor


def _stored_names(folder: Path) -> set[str]:
    """Names of the tensors in a folder's safetensors files; only the headers are read."""
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names


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
    model, processor = load_whole_base(settings)
    if adapter is None:
        weights = base_fingerprint(model)
    else:
        model = load_adapter(model, adapter, trainable=False)
        weights = sha256_file(adapter / WEIGHTS_FILE)
    if torch.cuda.is_available():
        model.to("cuda")
    return model.eval(), processor, f"{settings.preset}@{weights[:12]}"
