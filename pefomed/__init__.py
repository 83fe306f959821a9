"""Parameter-efficient fine-tuning of multimodal large language models for medical imaging.

Importing this package costs a few milliseconds: what needs torch is imported when it is first used (PEP 562).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "PefomedConfig": "pefomed.model",
    "PefomedModel": "pefomed.model",
    "PefomedForConditionalGeneration": "pefomed.model",
    "PefomedImageProcessorPil": "pefomed.model",
    "PefomedProcessor": "pefomed.model",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pefomed' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
