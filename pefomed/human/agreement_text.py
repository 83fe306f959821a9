"""What `agreement_scores` returns, laid out as plain text."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "percent_agreement": "per cent agreement",
    "cohen_kappa": "Cohen's kappa, mean of pairs",
    "quadratic_kappa": "quadratic kappa, mean of pairs",
    "fleiss_kappa": "Fleiss' kappa",
    "krippendorff_nominal": "Krippendorff's alpha, nominal",
    "krippendorff_ordinal": "Krippendorff's alpha, ordinal",
    "krippendorff_interval": "Krippendorff's alpha, interval",
    "icc_2_1": "ICC(2,1)",
    "icc_2_k": "ICC(2,k)",
}


def format_agreement(scores: dict[str, Any]) -> str:
    """Lay out agreement as a plain-text table, a measure a line: items, value, 95 % interval.

    Args:
        scores: What `agreement_scores` returned.
    """
    n = scores["n"]
    raters = len(scores["raters"])
    lines = [f"{n['items']:,} items, {raters} raters, {n['ratings']:,} ratings, {n['missing']:,} missing"]
    lines += _block("among the raters", scores["among_raters"])
    if "judge" in scores:
        name, failed = scores["judge"]["name"], scores["judge"]["failed"]
        lines += _against(f"{name} against the raters ({failed:,} not judged)", scores["judge"])
        if "among_repeats" in scores["judge"]:
            lines += _block(f"among the repeats of {name}", scores["judge"]["among_repeats"])
    for part, what in (("rated", "what was rated"), ("all", "all, what it accepts counted as accepted by the raters")):
        if "exact_match" in scores:
            lines += _against(f"exact match against the raters, {what}", scores["exact_match"][part])
    return "\n".join(line.rstrip() for line in lines)


def _against(title: str, scores: dict[str, Any]) -> list[str]:
    if "mean" not in scores:
        return ["", f"{title}: {scores['why']}"]
    lines = _block(title, scores["mean"])
    lines += _block("  with their majority or median", scores["consensus"])[1:]
    if "means" in scores:
        lines.append(_line("ICC(2,1) of the means", scores["means"]["icc_2_1"]))
        lines += [
            _line(f"Bland-Altman: {name.replace('_', ' ')}", entry)
            for name, entry in scores["means"]["bland_altman"].items()
        ]
    return lines


def _block(title: str, scores: dict[str, Any]) -> list[str]:
    lines = ["", f"{title:<42}{'n':>7}  value [95 % interval]"]
    return lines + [_line(name, scores[key]) for key, name in _NAMES.items() if key in scores]


def _line(name: str, entry: dict[str, Any]) -> str:
    if entry["value"] is None:
        return f"  {name:<40}{entry['n']:>7}  - ({entry['why']})"
    places = 1 if name.startswith("per cent") else 3
    interval = "" if entry["ci95"] is None else " [{:.{p}f}, {:.{p}f}]".format(*entry["ci95"], p=places)
    return f"  {name:<40}{entry['n']:>7}  {entry['value']:.{places}f}{interval}"
