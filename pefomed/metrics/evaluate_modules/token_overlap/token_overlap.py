"""Recall, precision and F1 of the true answer's words in the prediction."""

import datasets
import evaluate

from pefomed.metrics.evaluate_modules.rows import rows_of
from pefomed.metrics.vqa import token_scores

_DESCRIPTION = "Mean recall, precision and F1 of the true answer's words in the prediction, in per cent."
_INPUTS = """
Args:
    predictions: The model's answers.
    references: The true answers, one each.
    normaliser: "medvqa" (as published) or "repaired".
    clusters: One label per answer, such as its image; answers of one label are resampled together. None: each alone.
    n_resamples: Bootstrap resamples of each interval.
    seed: Seed of the bootstrap.

Returns:
    token_recall, token_precision, token_f1 (per cent), n, and ci95 with each score's 95 % interval.
"""


class TokenOverlap(evaluate.Metric):
    """See `pefomed.metrics.tokens.token_overlap`."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            reference_urls=["https://arxiv.org/abs/2306.00890"],
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, normaliser="medvqa", clusters=None, n_resamples=2000, seed=0):
        rows = rows_of(predictions, references, clusters)
        found = token_scores(rows, normaliser, n_resamples, seed)
        scores = {name: found[name]["overall"] for name in ("token_recall", "token_precision", "token_f1")}
        return scores | {"n": len(rows), "ci95": {name: found[name]["ci95"]["overall"] for name in scores}}
