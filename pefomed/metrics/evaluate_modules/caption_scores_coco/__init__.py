from pefomed.metrics.evaluate_modules.caption_scores_coco.caption_scores_coco import CaptionScoresCoco

__all__ = ["CaptionScoresCoco"]
