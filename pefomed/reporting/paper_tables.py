"""Every table and figure of the paper's kinds that finished runs give, made one by one.

    for product in products(find_results("runs"), Path("runs"), skipped=[]):
        product.name, product.make()

Runs stand in one table where they answered the same test rows. Figures by kind of question or level are one a run, as
in the paper. The many runs of an ablation, which has a figure of its own, get them only where somebody judged them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pefomed.reporting.ablation_tables import ablation_table
from pefomed.reporting.accuracy import BREAKDOWNS
from pefomed.reporting.agreement import (
    against_table,
    agreement_table,
    bland_altman_figure,
    confusion_figure,
    measures_figure,
    pairs_figure,
)
from pefomed.reporting.agreement_tables import others_of
from pefomed.reporting.condition_scores import condition_scores
from pefomed.reporting.conditions import conditions_figure, differences_table
from pefomed.reporting.evaluations import accuracy_table, evaluations_figure, kinds_table
from pefomed.reporting.findings import f1_by_finding, findings_table
from pefomed.reporting.lexical import lexical_figure, same_settings, texts_table
from pefomed.reporting.paper import KINDS, VQA
from pefomed.reporting.report_evaluations import level_counts_table, levels_figure, levels_table, report_metrics_table
from pefomed.reporting.run_folders import MALFORMED, Skipped, one_line, relative
from pefomed.reporting.run_results import Found, Result

NOTE = (
    "Lines marked 'paper' are printed in arXiv 2401.02797, of a model with 7 billion parameters. Runs of other "
    "models or data, above all the tiny preset's on drawn pictures, are not comparable with them."
)
# Colours of the palette; and of the levels' figure, where the paper has two bars of its own.
MOST_BARS, MOST_LEVEL_BARS = 10, 8
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Product:
    """One table or figure, not yet made.

    Attributes:
        name: of its files, without ending.
        title: what it shows.
        kind: which tables or figures of the paper it is like, "" for none.
        note: what to bear in mind, "" for nothing.
        runs: that it is made of.
        inputs: files that it is made of.
        make: makes it: a table, or a figure, which the caller closes.
        is_figure: which of them.
    """

    name: str
    title: str
    kind: str
    note: str
    runs: tuple[str, ...]
    inputs: tuple[Path, ...]
    make: Callable[[], pd.DataFrame | Figure]
    is_figure: bool = False


def products(
    found: Found, root: Path, skipped: list[Skipped], n_resamples: int = 2000, seed: int = 0
) -> Iterator[Product]:
    """Everything that can be made.

    Args:
        found: what `find_results` returned.
        root: the folder that was searched.
        skipped: gets what cannot be compared.
        n_resamples: bootstrap resamples of differences and agreement.
        seed: of the bootstrap.
    """
    in_ablation = {one.folder for inside in found.ablations.values() for one in inside}
    for base, what, results in _test_sets(found.results):
        alone = [one for one in results if one.folder not in in_ablation or one.judged or one.rated]
        yield from _of_answers(base, what, results, alone)
        yield from _of_levels(base, what, results)
        yield from _of_texts(base, what, results, alone)
        for one in results:
            yield from _of_agreement(base, one, root, skipped, n_resamples, seed)
    for folder, inside in found.ablations.items():
        yield from _of_ablation(folder, inside, root, skipped, n_resamples, seed)


def slug(text: str) -> str:
    """A file name for a text: letters, digits, `+`, `-` and `_`; cut, with a hash, where it is long."""
    name = re.sub(r"[^A-Za-z0-9+-]+", "_", text).strip("_") or "unnamed"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}_{digest}"


def _test_sets(results: tuple[Result, ...]) -> list[tuple[str, str, list[Result]]]:
    """Name of the files, words for the title, and results, of every set of rows that somebody answered."""
    sets: dict[tuple[str, str, str], list[Result]] = {}
    for one in results:
        sets.setdefault((one.task, one.dataset, one.test_set or str((one.scores or {}).get("n"))), []).append(one)
    of_data = [key[:2] for key in sets]
    named = []
    for (task, dataset, rows), inside in sets.items():
        digest = hashlib.sha256(rows.encode()).hexdigest()[:6]
        told_apart = of_data.count((task, dataset)) > 1
        data = dataset or "unknown data"
        what = f"{task}, {data}" + (f" (test rows {digest})" if told_apart else "")
        named.append((slug(f"{task}_{data}") + (f"_{digest}" if told_apart else ""), what, inside))
    return named


def _of_answers(base: str, what: str, results: list[Result], alone: list[Result]) -> Iterator[Product]:
    answered = [one for one in results if one.task == "vqa"]
    if not answered:
        return
    evaluations = _named(answered, lambda one: one.evaluations)
    dataset = answered[0].dataset
    published = dataset if any(row.dataset == dataset for row in VQA) else "vqa_rad"
    note = f"{NOTE} Here they are on {published}."
    runs, inputs = _made_of(answered)
    yield Product(
        *(f"{base}_accuracy", f"Accuracy: {what}", "Tables 2, 8 and 9", note, runs, inputs),
        partial(accuracy_table, evaluations, published),
    )
    for breakdown, label in BREAKDOWNS.items():
        names = {name for scores in evaluations.values() for name in scores.get(breakdown, {})}
        if names:
            beside = any(f"by_{row.breakdown}" == breakdown and row.name in names for row in KINDS)
            title = f"Accuracy by {label.lower()}: {what}"
            note = f"{NOTE} Here they are on vqa_rad." if beside else ""
            yield Product(
                *(f"{base}_{breakdown}", title, "Tables 3 and 4", note, runs, inputs),
                partial(kinds_table, evaluations, breakdown, beside),
            )
    for one in (one for one in answered if any(one is other for other in alone)):
        for number, part in _batches(one.evaluations, MOST_BARS):
            if any(scores.get(breakdown) for scores in part.values() for breakdown in BREAKDOWNS):
                yield Product(
                    *(f"{base}_kinds_{slug(one.run)}{number}", f"Accuracy by kind of question: {one.run}"),
                    *("Figures 3 to 6", "", *_made_of([one])),
                    *(partial(evaluations_figure, part, one.run), True),
                )


def _of_levels(base: str, what: str, results: list[Result]) -> Iterator[Product]:
    rated = [one for one in results if one.task == "report" and one.evaluations]
    if not rated:
        return
    evaluations = _named(rated, lambda one: one.evaluations)
    for name, title, kind, make in (
        ("levels", "Levels and WASM", "Table 6", levels_table),
        ("level_counts", "Verdicts at each level and WASM", "Tables 7 and 11", level_counts_table),
    ):
        yield Product(
            *(f"{base}_{name}", f"{title}: {what}", kind, NOTE, *_made_of(rated)), partial(make, evaluations, True)
        )
    for one in rated:
        for number, part in _batches(one.evaluations, MOST_LEVEL_BARS):
            yield Product(
                *(f"{base}_levels_{slug(one.run)}{number}", f"Levels given to reports: {one.run}", "Table 6", NOTE),
                *(*_made_of([one]), partial(levels_figure, part, one.run, True), True),
            )


def _of_texts(base: str, what: str, results: list[Result], alone: list[Result]) -> Iterator[Product]:
    texts = [one for one in results if one.task != "vqa" and one.scores is not None]
    for number, lexical in enumerate(same_settings(texts), start=1):
        scores = _named(lexical, lambda one: {"": one.scores})
        constant = lexical[0].scores.get("constant_report")
        name, title = f"{base}_lexical{f'_{number}' if number > 1 else ''}", f"Lexical scores: {what}"
        head = ("Tables 5 and 10", NOTE, *_made_of(lexical))
        yield Product(name, title, *head, partial(report_metrics_table, scores, constant, True))
        yield Product(name, title, *head, partial(lexical_figure, scores, constant, what, True), True)
    found = [one for one in texts if "findings" in one.scores]
    if found:
        note = "The paper has no such scores: they need pictures whose findings are known."
        scores = _named(found, lambda one: {"": one.scores})
        yield Product(
            *(f"{base}_findings", f"Findings told: {what}", "", note, *_made_of(found)),
            partial(findings_table, scores),
        )
        for one in (one for one in found if any(one is other for other in alone)):
            if one.scores["findings"]["names"].get("by_finding"):
                yield Product(
                    *(f"{base}_findings_{slug(one.run)}", f"F1 by finding: {one.run}", "", note, *_made_of([one])),
                    *(partial(f1_by_finding, one.scores, one.run), True),
                )
    if texts:
        scores = _named(texts, lambda one: {"": one.scores})
        yield Product(
            *(f"{base}_texts", f"Length, repetition and diversity: {what}", "", "", *_made_of(texts)),
            partial(texts_table, scores),
        )


def _of_agreement(
    base: str, one: Result, root: Path, skipped: list[Skipped], n_resamples: int, seed: int
) -> Iterator[Product]:
    """Agreement of each file of ratings with each judge, or among the raters alone."""
    from pefomed.human.agreement import agreement_scores

    for ratings in one.rated:
        for judge in one.judged or (None,):
            files = [ratings.path, *([judge.path] if judge else []), one.predictions]
            try:
                paths = (ratings.path, judge.path if judge else None, one.predictions)
                scores = agreement_scores(*paths, task=one.task, n_resamples=n_resamples, seed=seed)
            except MALFORMED as error:
                skipped.append(Skipped(relative(one.folder, root), one_line(error, root, ratings.path)))
                continue
            stems = "_".join(path.stem for path in files[:-1])
            name, head = f"{base}_agreement_{slug(one.run)}_{slug(stems)}", ("", "", (one.run,), tuple(files))
            title = f"Agreement of raters{f' and {judge.name}' if judge else ''}: {one.run}"
            yield Product(name, title, *head, partial(agreement_table, scores))
            if others_of(scores, needed=False):
                against = f"{title}, with each rater"
                yield Product(f"{name}_against", against, *head, partial(against_table, scores))
                yield Product(f"{name}_confusion", title, *head, partial(confusion_figure, scores, one.run), True)
            yield Product(name, title, *head, partial(measures_figure, scores, one.run), True)
            yield Product(f"{name}_pairs", title, *head, partial(pairs_figure, scores, one.run), True)
            if scores.get("judge", {}).get("means"):
                yield Product(
                    f"{name}_bland_altman", title, *head, partial(bland_altman_figure, scores, one.run), True
                )


def _of_ablation(
    folder: Path, inside: tuple[Result, ...], root: Path, skipped: list[Skipped], n_resamples: int, seed: int
) -> Iterator[Product]:
    where = relative(folder, root)
    try:
        scores = condition_scores(folder, n_resamples=n_resamples, seed=seed)
    except MALFORMED as error:
        skipped.append(Skipped(where, one_line(error, root, folder)))
        return
    base, what = f"ablation_{slug(where)}", f"{where} ({scores.task}, {scores.dataset or 'unknown data'})"
    made_of = tuple(one.run for one in inside), tuple(one.predictions for one in inside)
    published = scores.task == "vqa"
    note = NOTE if published else "The paper scores its conditions by words and levels, not by findings."
    kind = "Tables 8 and 9" if published else "Tables 10 and 11"
    yield Product(
        *(f"{base}_conditions", f"Conditions: {what}", kind, note, *made_of),
        partial(ablation_table, scores, published),
    )
    yield Product(
        *(f"{base}_conditions", f"Conditions: {what}", kind, "", *made_of),
        *(partial(conditions_figure, scores, where), True),
    )
    if scores.differences:
        yield Product(
            *(f"{base}_differences", f"Differences of conditions, in percentage points: {what}", kind, "", *made_of),
            partial(differences_table, scores),
        )


def _named(results: list[Result], of: Callable[[Result], Mapping[str, Any]]) -> dict[str, Any]:
    """What each result holds under one name each, with the run's where there are several or no other."""
    named = {}
    for one in results:
        for name, scores in of(one).items():
            run = one.run if len(results) > 1 or not name else ""
            named[": ".join(part for part in (run, name) if part)] = scores
    return named


def _made_of(results: list[Result]) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    files = [file for one in results for file in (*one.files, *(rated.path for rated in (*one.judged, *one.rated)))]
    return tuple(one.run for one in results), tuple(files)


def _batches(evaluations: Mapping[str, Any], size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parts of the mapping that a figure has colours for, and what to put to their names."""
    items = list(evaluations.items())
    for start in range(0, len(items), size):
        yield (f"_{start // size + 1}" if len(items) > size else ""), dict(items[start : start + size])
