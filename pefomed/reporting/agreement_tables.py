"""Tables of what `agreement_scores` returns, and the names under which raters and judge stand in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

MEASURES = {
    "percent_agreement": "agreement (%), mean of pairs",
    "cohen_kappa": "Cohen's kappa, mean of pairs",
    "quadratic_kappa": "quadratic-weighted kappa, mean of pairs",
    "fleiss_kappa": "Fleiss' kappa",
    "krippendorff_nominal": "Krippendorff's alpha, nominal",
    "krippendorff_ordinal": "Krippendorff's alpha, ordinal",
    "krippendorff_interval": "Krippendorff's alpha, interval",
    "icc_2_1": "ICC(2,1), one rater",
    "icc_2_k": "ICC(2,k), mean of all raters",
}
_PAIRED = ("percent_agreement", "cohen_kappa", "quadratic_kappa")
EXACT_MATCH = "exact match"
# Where raters saw only what exact match rejects: over these alone, and over all, the others counted as accepted.
EXACT_MATCH_RATED = "exact match, rated answers"
EXACT_MATCH_ALL = "exact match, all answers"


def agreement_table(scores: Mapping) -> pd.DataFrame:
    """Every measure among the raters, and among the judge's repeats where it has several.

    Args:
        scores: What `agreement_scores` returned.

    Returns:
        One line a measure, with columns: among, measure, value with 95 % interval, range over pairs, n (items), left
        out (items that not all rated) and note (why a measure is undefined).
    """
    groups = {raters_named(scores): scores["among_raters"]}
    repeats = scores.get("judge", {}).get("among_repeats")
    if repeats is not None and repeats["cohen_kappa"].get("pairs"):
        groups[f"repeats of {scores['judge']['name']}"] = repeats
    lines = []
    for among, found in groups.items():
        for key, label in MEASURES.items():
            if key in found:
                entry = found[key]
                digits = digits_of(key)
                line = {"among": among, "measure": label, "value (95 % interval)": cell(entry, digits)}
                line["range over pairs"] = (
                    f"{entry['min']:.{digits}f} to {entry['max']:.{digits}f}" if "min" in entry else ""
                )
                lines.append(
                    line | {"n": entry["n"], "left out": entry.get("dropped", 0), "note": entry.get("why", "")}
                )
    return pd.DataFrame(lines).set_index(["among", "measure"])


def against_table(scores: Mapping) -> pd.DataFrame:
    """The judge, and exact match, against each rater, all raters and their majority (for reports: median).

    Args:
        scores: What `agreement_scores` returned, with a judge or with exact match.

    Returns:
        One line a comparison, with columns: n (items) and each measure with its 95 % interval. The raters among
        themselves stand last, to compare with.

    Raises:
        ValueError: There is neither a judge nor exact match in the scores, or no item is common to them and raters.
    """
    lines = []
    middle = "majority of raters" if scores["task"] == "vqa" else "median of raters"
    for name, found in others_of(scores).items():
        for rater, entry in found["by_rater"].items():
            lines.append(_against_line(f"{name} - {rater}", entry))
        lines.append(_against_line(f"{name} - all raters, mean", found["mean"]))
        lines.append(_against_line(f"{name} - {middle}", found["consensus"]))
    lines.append(_against_line("raters among themselves, mean", scores["among_raters"]))
    return pd.DataFrame(lines).set_index("comparison")


def others_of(scores: Mapping, needed: bool = True) -> dict[str, Mapping]:
    """The judge and exact match by their names in tables and figures, where they share items with the raters."""
    found = {}
    if "judge" in scores:
        found[scores["judge"]["name"]] = scores["judge"]
    if "exact_match" in scores:
        both = scores["exact_match"]
        if both["all"].get("accepted_unrated"):
            found |= {EXACT_MATCH_RATED: both["rated"], EXACT_MATCH_ALL: both["all"]}
        else:
            found[EXACT_MATCH] = both["rated"]
    shared = {name: entry for name, entry in found.items() if entry["n"]}
    if needed and not shared:
        why = next(iter(found.values()))["why"] if found else "there is neither a judge nor exact match"
        raise ValueError(
            f"nothing to hold against the raters: {why}; give a judge.jsonl or predictions of the same ids"
        )
    return shared


def raters_named(scores: Mapping) -> str:
    """The raters in a few words, which say that they are simulated where their names do."""
    raters = scores["raters"]
    if len(raters) == 1:
        return raters[0]
    simulated = sum("simulated" in rater.lower() for rater in raters)
    if simulated == len(raters):
        return f"{len(raters)} simulated raters"
    return f"{len(raters)} raters" + (f" ({simulated} simulated)" if simulated else "")


def _against_line(name: str, found: Mapping) -> dict:
    line = {"comparison": name, "n": found["percent_agreement"]["n"]}
    for key in _PAIRED:
        if key in found:
            line[MEASURES[key].removesuffix(", mean of pairs")] = cell(found[key], digits_of(key))
    return line


def digits_of(key: str) -> int:
    """Digits after the point."""
    return 1 if key == "percent_agreement" else 2


def number(value: float | None) -> float:
    """NaN where a measure is undefined."""
    return np.nan if value is None else value


def cell(entry: Mapping, digits: int) -> str:
    """Value and interval of an estimate."""
    if entry["value"] is None:
        return "-"
    # Adding 0.0 makes a plain zero of a negative one.
    value, *ends = (f"{round(number, digits) + 0.0:.{digits}f}" for number in (entry["value"], *(entry["ci95"] or ())))
    return f"{value} ({ends[0]} to {ends[1]})" if ends else value
