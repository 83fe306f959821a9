"""Scores for predictions of any model: importing this package loads neither torch nor transformers."""

from __future__ import annotations

import importlib
from typing import Any

# A submodule must not bear the name of a function exported here: importing the submodule would replace the function.
_HOMES = {
    "Interval": "bootstrap",
    "caption_scores": "captions",
    "closed_verdict": "closed",
    "cluster_bootstrap": "bootstrap",
    "compare_runs": "compare",
    "compare_values": "compare",
    "is_match": "normalise",
    "normalise_published": "normalise",
    "normalise_repaired": "normalise",
    "constant_report_scores": "constant_report",
    "diversity_scores": "diversity",
    "exact_match": "vqa",
    "finding_scores": "findings",
    "format_caption_scores": "captions",
    "format_comparison": "compare",
    "format_report_scores": "report",
    "format_scores": "vqa",
    "format_verdict_scores": "verdicts",
    "read_verdicts": "verdicts",
    "repetition_scores": "repetition",
    "report_scores": "report",
    "token_recall": "vqa",
    "token_scores": "vqa",
    "verdict_scores": "verdicts",
    "vqa_scores": "vqa",
    "wasm": "likert",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
