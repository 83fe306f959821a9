"""WASM: the mean of report ratings from 0 to 4, and their distribution."""

import datasets
import evaluate

from pefomed.metrics.likert import likert_scores

_DESCRIPTION = "Weighted average of report ratings from 0 (nothing alike) to 4 (very alike), and how many have each."
_INPUTS = """
Args:
    predictions: One level per report, a whole number from 0 to 4.
    clusters: One label per report, such as its study; reports of one label are resampled together. None: each alone.
    n_resamples: Bootstrap resamples of the interval.
    seed: Seed of the bootstrap.

Returns:
    wasm (0 to 4), counts by level, n, and ci95 with the 95 % interval of wasm.
"""


class Wasm(evaluate.Metric):
    """See `pefomed.metrics.likert.likert_scores`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            reference_urls=["https://arxiv.org/abs/2401.02797"],
            inputs_description=_INPUTS,
            # An integer column would quietly turn 2.5 into 2.
            features=datasets.Features({"predictions": datasets.Value("float64")}),
        )

    def _compute(self, predictions, clusters=None, n_resamples=2000, seed=0):
        found = likert_scores(predictions, clusters, n_resamples, seed)
        return {
            "wasm": found["wasm"]["value"],
            "counts": found["counts"],
            "n": found["n"],
            "ci95": {"wasm": found["wasm"]["ci95"]},
        }
