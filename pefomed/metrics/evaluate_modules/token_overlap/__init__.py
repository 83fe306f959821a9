from pefomed.metrics.evaluate_modules.token_overlap.token_overlap import TokenOverlap

__all__ = ["TokenOverlap"]
