"""Exact match of short answers after normalisation, with both normalisers."""

import datasets
import evaluate

from pefomed.metrics.evaluate_modules.rows import rows_of
from pefomed.metrics.vqa import exact_match

_DESCRIPTION = "Share of predictions that equal the answer after normalisation, published and repaired, in per cent."
_INPUTS = """
Args:
    predictions: The model's answers.
    references: The true answers, one each.
    clusters: One label per answer, such as its image; answers of one label are resampled together. None: each alone.
    n_resamples: Bootstrap resamples of each interval.
    seed: Seed of the bootstrap.

Returns:
    exact_match, exact_match_repaired (per cent), n, and ci95 with both scores' 95 % intervals.
"""


class ExactMatchMedical(evaluate.Metric):
    """See `pefomed.metrics.vqa.exact_match`."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, clusters=None, n_resamples=2000, seed=0):
        rows = rows_of(predictions, references, clusters)
        found = {
            name: exact_match(rows, normaliser, n_resamples, seed)["exact_match"]
            for name, normaliser in (("exact_match", "medvqa"), ("exact_match_repaired", "repaired"))
        }
        scores = {name: score["overall"] for name, score in found.items()}
        return scores | {"n": len(rows), "ci95": {name: score["ci95"]["overall"] for name, score in found.items()}}
