"""What finished runs left in the folders below one: scores, verdicts, ratings, and which of them are an ablation.

    found = find_results("runs")
    found.results[0].run, found.results[0].evaluations, found.skipped

metrics_X.json belongs to predictions_X.jsonl beside it, and judge_X.jsonl and ratings_X.jsonl do, too, or else to
predictions.jsonl. A file that is malformed is named and left out, and never takes those beside it along.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pefomed.files import read_json
from pefomed.human.agreement_tables import read_table
from pefomed.metrics.diversity import first_of_groups
from pefomed.metrics.findings import DATASET as DRAWN_WORLD
from pefomed.metrics.report import report_scores
from pefomed.metrics.verdicts import read_verdicts, verdict_scores
from pefomed.metrics.vqa import vqa_scores
from pefomed.predictions import read_predictions
from pefomed.reporting.agreement_tables import raters_named
from pefomed.reporting.condition_scores import ORDER
from pefomed.reporting.evaluations import accuracy_table
from pefomed.reporting.findings import findings_table
from pefomed.reporting.report_evaluations import report_metrics_table
from pefomed.reporting.run_folders import DEPTH, MALFORMED, Skipped, file_sets, natural, one_line, relative, walk

EXACT_MATCH = "exact match"
_SEED_FOLDER = re.compile(r"seed-\d+")


@dataclass(frozen=True)
class Rated:
    """One file of verdicts: who gave them, and what they come to."""

    name: str
    path: Path
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """One predictions file and all that judges it.

    Attributes:
        run: the folder, relative to the one that was searched, and what the file's name adds in brackets.
        folder: where it lies.
        suffix: what the name has behind `predictions`, such as `_blank`.
        task: `vqa`, `report` or `caption`.
        dataset: "" where unknown.
        test_set: the same for predictions of the same rows; "" where there are no predictions.
        scores: of metrics.json, or worked out from predictions that have none; None where neither can be used.
        files: that the scores were made of.
        predictions: None where there are scores alone.
        judged, rated: by judge files and ratings files.
    """

    run: str
    folder: Path
    suffix: str
    task: str
    dataset: str
    test_set: str
    scores: Mapping[str, Any] | None
    files: tuple[Path, ...]
    predictions: Path | None
    judged: tuple[Rated, ...] = ()
    rated: tuple[Rated, ...] = ()

    @property
    def evaluations(self) -> dict[str, Mapping[str, Any]]:
        """Exact match (of questions), judges and raters, by name."""
        own = {EXACT_MATCH: self.scores} if self.task == "vqa" and self.scores is not None else {}
        return own | {one.name: one.scores for one in (*self.judged, *self.rated)}


@dataclass(frozen=True)
class Found:
    """What `find_results` found.

    Attributes:
        results: by folder, conditions in the order of the paper's tables.
        ablations: the folders that `condition_scores` can read, and the results in them.
        skipped: what was malformed.
        too_deep: folders that were not searched.
    """

    results: tuple[Result, ...]
    ablations: dict[Path, tuple[Result, ...]]
    skipped: tuple[Skipped, ...]
    too_deep: int


def find_results(
    root: str | Path, leave_out: str | Path = "", depth: int = DEPTH, n_resamples: int = 2000, progress: bool = False
) -> Found:
    """Search a folder and all below it.

    Args:
        root: the folder.
        leave_out: a folder in it that is not searched.
        depth: how many folders deep; links are followed, but no folder is read twice.
        n_resamples: bootstrap resamples of scores that are worked out here.
        progress: whether to show a bar.

    Raises:
        FileNotFoundError: there is no such folder, or nothing in it.
        ValueError: the depth is negative.
    """
    from tqdm import tqdm

    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; name the one that holds the runs")
    if depth < 0:
        raise ValueError(f"parameter depth must be at least 0, not {depth}")
    skipped: list[Skipped] = []
    folders, too_deep = walk(root, Path(leave_out).resolve() if leave_out else None, depth, skipped)
    places = [(folder, suffix, files) for folder, names in folders for suffix, files in file_sets(names).items()]
    results = []
    for folder, suffix, files in tqdm(places, desc="reading", unit="run", disable=not progress):
        result = _result(root, folder, suffix, files, n_resamples, skipped)
        results += [] if result is None else [result]
    if not results and not skipped:
        deeper = f" ({too_deep} folders lie deeper than {depth})" if too_deep else ""
        raise FileNotFoundError(f"{root}: no metrics*.json and no predictions*.jsonl in it or below{deeper}")
    results.sort(key=_order)
    return Found(tuple(results), _ablations(results), tuple(skipped), too_deep)


def _result(
    root: Path,
    folder: Path,
    suffix: str,
    names: Mapping[str, list[str]],
    n_resamples: int,
    skipped: list[Skipped],
) -> Result | None:
    where = relative(folder, root)
    path, rows = None, None
    if "predictions" in names:
        path = folder / names["predictions"][0]
        try:
            rows = _one_task(read_predictions(path), path)
        except MALFORMED as error:
            skipped.append(Skipped(where, one_line(error, root)))
            return None
    metrics = folder / names["metrics"][0] if "metrics" in names else None
    if path is None and metrics is None:
        wanting = f"{names[next(iter(names))][0]} has no predictions.jsonl beside it; put it there"
        skipped.append(Skipped(where, wanting))
        return None
    try:
        scores = _scores(rows, path, metrics, n_resamples)
    except MALFORMED as error:
        skipped.append(Skipped(where, one_line(error, root, metrics or path)))
        scores = None
    task = rows[0]["task"] if rows else "vqa" if "exact_match" in (scores or {}) else "report"
    files = tuple(file for file in (metrics, path) if file is not None)
    run = where + (f" ({suffix.strip('_').replace('_', ' ')})" if suffix else "")
    verdicts: dict[str, tuple[Rated, ...]] = {}
    for kind in ("judge", "ratings"):
        rated = (_rated(folder / name, path, task, n_resamples, where, root, skipped) for name in names.get(kind, ()))
        verdicts[kind] = tuple(one for one in rated if one is not None)
    if scores is None and not any(verdicts.values()):
        return None
    dataset = (rows[0].get("dataset") or "") if rows else ""
    return Result(
        *(run, folder, suffix, task, dataset, _test_set(rows) if rows else "", scores, files, path),
        *(_distinct(verdicts["judge"]), _distinct(verdicts["ratings"])),
    )


def _one_task(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        for key in ("task", "dataset"):
            if row.get(key) != rows[0].get(key):
                raise ValueError(f"{path}, row {number}: another {key} than row 1; keep them in files of their own")
    return rows


def _scores(rows: list | None, path: Path | None, metrics: Path | None, n_resamples: int) -> dict[str, Any]:
    """Of metrics.json if it is there, else of the predictions; tried out on the tables that they are for."""
    if metrics is None:
        score = vqa_scores if rows[0]["task"] == "vqa" else report_scores
        return score(path, n_resamples=n_resamples)
    scores = read_json(metrics)
    if not isinstance(scores, dict):
        raise ValueError(f"{metrics}: not an object; write it by `pefomed evaluate`")
    if "exact_match" in scores:
        accuracy_table({"": scores})
        fitting = None if rows is None else {len(rows)}
        n = scores["n"]["overall"]
    else:
        n = scores["n"]
        fitting = None if rows is None else {len(rows), len(first_of_groups(rows))}
        if "rouge_l" in scores:
            report_metrics_table({"": scores}, scores.get("constant_report"))
        if "findings" in scores:
            findings_table({"": scores})
    if fitting is not None and (n not in fitting or ("exact_match" in scores) != (rows[0]["task"] == "vqa")):
        raise ValueError(f"{metrics}: not the scores of {path.name} beside it; evaluate it again")
    return scores


def _rated(
    path: Path, predictions: Path | None, task: str, n_resamples: int, where: str, root: Path, skipped: list[Skipped]
) -> Rated | None:
    try:
        if predictions is None:
            raise ValueError(f"{path}: there are no predictions beside it; put them there")
        if task not in ("vqa", "report"):
            raise ValueError(f"{path}: its predictions are of task {task!r}, which is not judged")
        verdicts = read_verdicts(path, task)
        scores = verdict_scores(predictions, verdicts, task, n_resamples)
        if path.name.startswith("ratings"):
            return Rated(raters_named(scores), path, scores)
        # A file in which everything failed has no name.
        name = read_table(path, task, None, path.name).name if verdicts.verdicts else ""
        return Rated(name or "judge", path, scores)
    except MALFORMED as error:
        skipped.append(Skipped(where, one_line(error, root, path)))
        return None


def _distinct(rated: tuple[Rated, ...]) -> tuple[Rated, ...]:
    """Files of the same judge, or of as many raters, are told apart by the files' names."""
    names = [one.name for one in rated]
    return tuple(
        one if names.count(one.name) == 1 else Rated(f"{one.name} in {one.path.stem}", one.path, one.scores)
        for one in rated
    )


def _test_set(rows: list[dict[str, Any]]) -> str:
    asked = sorted([row["id"], row.get("question") or "", row["answer"]] for row in rows)
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]


def _order(result: Result) -> tuple:
    known = {condition: number for number, condition in enumerate(ORDER)}
    name = result.folder.name
    return natural(str(result.folder.parent)), known.get(name, len(known)), natural(name), result.suffix


def _ablations(results: list[Result]) -> dict[Path, tuple[Result, ...]]:
    """Folders in which at least two known conditions are answered, each with its results, those that can be scored."""
    members: dict[Path, list[Result]] = {}
    for result in results:
        if result.predictions is not None and not result.suffix:
            parent = result.folder.parent
            members.setdefault(parent.parent if _SEED_FOLDER.fullmatch(parent.name) else parent, []).append(result)
    return {
        folder: tuple(inside)
        for folder, inside in members.items()
        if len({one.folder.name for one in inside} & set(ORDER)) > 1 and _scorable(inside[0])
    }


def _scorable(result: Result) -> bool:
    return result.task == "vqa" or result.dataset == DRAWN_WORLD
