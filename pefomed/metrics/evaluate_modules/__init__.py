"""The scores as metrics of Hugging Face `evaluate`, by import or by `evaluate.load` of a folder, without a network.

    from pefomed.metrics.evaluate_modules import ExactMatchMedical, TokenOverlap
    evaluate.combine([ExactMatchMedical(), TokenOverlap()]).compute(predictions=["a lung"], references=["lung"])

    evaluate.load("pefomed/metrics/evaluate_modules/wasm").compute(predictions=[4, 3, 0])

Each folder holds a script of its own name, as `evaluate.load` wants it. It takes the first class of a metric in the
script for the one that is meant, so the scripts import none. Results are equal to those of the functions that they
call, in the same units.
"""

from pefomed.metrics.evaluate_modules.caption_scores_coco import CaptionScoresCoco
from pefomed.metrics.evaluate_modules.exact_match_medical import ExactMatchMedical
from pefomed.metrics.evaluate_modules.token_overlap import TokenOverlap
from pefomed.metrics.evaluate_modules.wasm import Wasm

__all__ = ["CaptionScoresCoco", "ExactMatchMedical", "TokenOverlap", "Wasm"]
