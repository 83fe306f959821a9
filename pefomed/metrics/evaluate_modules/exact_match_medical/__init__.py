from pefomed.metrics.evaluate_modules.exact_match_medical.exact_match_medical import ExactMatchMedical

__all__ = ["ExactMatchMedical"]
