"""BLEU-1 to 4, METEOR 1.5, ROUGE-L and CIDEr of generated texts, as pycocoevalcap computes them."""

import datasets
import evaluate

from pefomed.metrics.coco import score_corpus

_DESCRIPTION = "BLEU-1 to 4, METEOR 1.5 (Java), ROUGE-L and CIDEr of texts, as pycocoevalcap computes them."
_INPUTS = """
Args:
    predictions: Generated texts.
    references: The true text of each, or a list of true texts of each.
    ptb: Tokenise by the Penn Treebank rules first.
    meteor: Compute METEOR too, which takes most of the time.

Returns:
    bleu_1 to bleu_4, meteor_java15, rouge_l (0 to 1), cider (0 to 10), and n.
"""


class CaptionScoresCoco(evaluate.Metric):
    """See `pefomed.metrics.coco.score_corpus`."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
        )

    def _compute(self, predictions, references, ptb=True, meteor=True):
        groups = [[found] if isinstance(found, str) else list(found) for found in references]
        found = score_corpus(list(predictions), groups, ptb=ptb, meteor=meteor)
        return {**found.corpus, "n": found.n}
