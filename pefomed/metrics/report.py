"""Scores of generated reports and captions: what is told, how it is told, and by which words.

    scores = report_scores("run/predictions.jsonl", lexical=True)
    print(format_report_scores(scores))

Lexical scores come with the best that a constant report reaches by them, since most reports are normal. They need
Java and seconds, and so are computed only where they are asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pefomed.metrics.diversity import diversity_scores, first_of_groups
from pefomed.metrics.findings import DATASET, TASKS, finding_scores
from pefomed.metrics.repetition import SIDES, repetition_scores, words
from pefomed.predictions import check_rows, read_predictions

Row = dict[str, Any]
_MEASURES = ("precision", "recall", "f1")
_LEXICAL = {
    "meteor_java15": "METEOR 1.5",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    **{f"bleu_{order}": f"BLEU-{order}" for order in (1, 2, 3, 4)},
}
# Longest text of a constant report that a table shows, in characters.
_SHOWN = 200


def report_scores(
    predictions: str | Path | list[Row],
    n_resamples: int = 2000,
    seed: int = 0,
    *,
    lexical: bool = False,
    ptb: bool = True,
    meteor: bool = True,
    cut_references: int = 0,
    one_per_group: bool = False,
    corpus: str | Path = "",
    constant: bool = True,
    training: str | Path = "",
) -> dict[str, Any]:
    """Length, repetition, diversity and, for the drawn world, findings of generated reports or captions; and, where
    asked for, their lexical scores beside those of the best constant report.

    Args:
        predictions: The path of a predictions.jsonl, or its rows.
        n_resamples: Bootstrap resamples of each interval.
        seed: Seed of the bootstrap.
        lexical: Also METEOR, ROUGE-L, CIDEr and BLEU; all that follows matters only then, but for `one_per_group`.
        ptb: Tokenise by the Penn Treebank rules; see `caption_scores`, as for the next four.
        meteor: Compute METEOR, which takes most of the time.
        cut_references: Words to which references are cut; 0 for none.
        one_per_group: Score only the first row of each group, by every score.
        corpus: A file of the documents in which CIDEr counts words; "" for the references.
        constant: Also the best constant report.
        training: A file whose texts are candidates for the constant report, too; see `constant_report_scores`.

    Returns:
        `n` (texts), with `lexical` the keys of `caption_scores` (`meteor_java15`, `rouge_l`, `cider`, `bleu_1` to
        `bleu_4`, `ci95`, `settings`, maybe `warning`) and `constant_report` (see `constant_report_scores`), then
        `mean_words` ({"prediction", "answer"}), `empty` (per cent of generated texts without a word),
        `repetition` (see `repetition_scores`), `diversity` (see `diversity_scores`) and, if every row is of
        "phantoms", `findings` (see `finding_scores`).
        Made of plain dicts, lists, numbers, strings and None, ready for `files.write_json`.

    Raises:
        FileNotFoundError: There is no such file, or Java is missing.
        OSError: Java failed or took too long.
        ValueError: There are no rows, a row is malformed, its task is neither `report` nor `caption`, or a parameter
            is out of range.
    """
    given = predictions if isinstance(predictions, list) else read_predictions(predictions)
    source = "predictions" if isinstance(predictions, list) else predictions
    if not given:
        raise ValueError("there are no predictions to score; give at least one row")
    check_rows(given, str(source))
    for number, row in enumerate(given, start=1):
        if row["task"] not in TASKS:
            raise ValueError(
                f"{source}, row {number}: task {row['task']!r} is no 'report' or 'caption'; leave other tasks out"
            )
    rows = first_of_groups(given) if one_per_group else given
    lengths = {side: [len(words(row[side])) for row in rows] for side in SIDES}
    scores: dict[str, Any] = {"n": len(rows)}
    if lexical:
        from pefomed.metrics.captions import caption_scores
        from pefomed.metrics.constant_report import constant_report_scores

        settings = {"ptb": ptb, "meteor": meteor, "cut_references": cut_references, "one_per_group": one_per_group}
        settings["corpus"] = corpus
        scores |= caption_scores(given, **settings, n_resamples=n_resamples, seed=seed)
        if constant:
            scores["constant_report"] = constant_report_scores(given, **settings, training=training)
    scores |= {
        "mean_words": {side: sum(lengths[side]) / len(rows) for side in SIDES},
        "empty": 100.0 * lengths["prediction"].count(0) / len(rows),
        "repetition": repetition_scores(rows),
        "diversity": diversity_scores(rows, n_resamples, seed),
    }
    if all(row.get("dataset") == DATASET for row in rows):
        scores["findings"] = finding_scores(rows, n_resamples, seed)
    return scores


def format_report_scores(scores: dict[str, Any]) -> str:
    """Lay out what `report_scores` returns as plain-text tables.

    Args:
        scores: The result of `report_scores`.

    Returns:
        Lines of equal columns: the lexical scores beside those of the best constant reports if there are any; length,
        repetition and diversity of generated and true texts; the findings if there are any.
    """
    repetition = scores["repetition"]
    lines = [*_lexical_lines(scores), ""] if "rouge_l" in scores else []
    lines.append(f"{'texts: ' + str(scores['n']):<38}{'generated':>10}{'true':>10}")
    for label, pair in (
        ("mean words", scores["mean_words"]),
        ("with a repeated sentence (%)", repetition["repeated_sentence"]),
        ("repeated runs of four words (%)", repetition["repeated_4grams"]),
    ):
        lines.append(f"{label:<38}" + "".join(f"{_number(pair[side]):>10}" for side in SIDES))
    lines.append(
        f"{'longest loop (words)':<38}" + "".join(f"{repetition['longest_loop'][side]:>10}" for side in SIDES)
    )
    lines.append(f"{'without a word (%)':<38}{_number(scores['empty']):>10}")
    if repetition["cut"]:
        label = f"cut at the bound (%), known for {repetition['cut']['n']}"
        lines.append(f"{label:<38}{_number(repetition['cut']['share']):>10}")
    if "diversity" in scores:  # older metrics.json have none
        lines += _diversity_lines(scores["diversity"])
    if "findings" in scores:
        lines += ["", *_finding_lines(scores["findings"])]
    return "\n".join(line.rstrip() for line in lines)


def _lexical_lines(scores: dict[str, Any]) -> list[str]:
    settings, constant = scores["settings"], scores.get("constant_report", {})
    lines = [f"{'lexical score [95 % interval]':<38}{'generated':<26}{'best constant' if constant else ''}"]
    below = []
    for key, name in _LEXICAL.items():
        if scores[key] is None:
            continue
        ci95, entry = scores["ci95"][key], constant.get(key)
        cell = f"{scores[key]:.4f}" + (f" [{ci95[0]:.4f}, {ci95[1]:.4f}]" if ci95 else "")
        lines.append(f"{name:<38}{cell:<26}" + (f"{entry['scores'][key]:.4f}" if entry else ""))
        if entry and scores[key] <= entry["scores"][key]:
            below.append(name)
    cut = settings["cut_references"]
    lines.append(
        f"tokens: {settings['tokenisation']}; references: {f'first {cut} words' if cut else 'whole'}; one text per "
        f"group: {'yes' if settings['one_per_group'] else 'no'}; clusters: {settings['clusters']}; CIDEr's documents: "
        f"{settings['documents']} of {settings['corpus'] or 'the references'}"
    )
    if constant:
        lines += _constant_lines(constant["cider"], below)
    return [*lines, *([f"warning: {scores['warning']}"] if scores.get("warning") else [])]


def _constant_lines(entry: dict[str, Any], below: list[str]) -> list[str]:
    text = f"withheld, sha256 {entry['sha256'][:16]}" if entry["text"] is None else repr(entry["text"])
    return [
        f"best constant: one text for every picture, the best of {entry['shortlist']} (of {entry['candidates']}) for "
        "each score by itself, chosen on these references",
        f"best constant by CIDEr: {text if len(text) <= _SHOWN else text[:_SHOWN] + ' ...'}",
        f"not above the best constant: {', '.join(below) if below else 'none'}",
    ]


def _diversity_lines(diversity: dict[str, Any]) -> list[str]:
    normal, often = diversity["normal"], diversity["most_frequent"]
    lines = []
    for label, cells in (
        ("different texts", [str(diversity["distinct"][side]) for side in SIDES]),
        ("equal to another text (%)", [_number(diversity["shared"][side]) for side in SIDES]),
        ("the most frequent text, times", [str(often[side]["count"]) for side in SIDES]),
        ("different sentences", [str(diversity["distinct_sentences"][side]) for side in SIDES]),
        ("telling only normal findings (%)", [_number(normal[side]) for side in SIDES]),
        (f"so of {normal['n_abnormal']} where the true one is not", [_number(normal["given_where_abnormal"])]),
    ):
        lines.append(f"{label:<38}" + "".join(f"{cell:>10}" for cell in cells))
    return lines


def _finding_lines(findings: dict[str, Any]) -> list[str]:
    heads = "".join(f"{measure:<23}" for measure in ("precision", "recall", "F1"))
    lines = [f"{'per cent [95 % interval]':<38}{'n':>6}  {heads}"]
    names, places = findings["names"], findings["places"]
    for label, entry in (
        ("findings", names["micro"]),
        ("findings, mean over names", names["macro"]),
        ("findings with side and place", places["micro"]),
        ("the same, mean over names", places["macro"]),
        ("normal (no finding)", findings["normal"]),
        *names["by_finding"].items(),
    ):
        cells = "".join(f"{_cell(entry[measure], entry['ci95'][measure]):<23}" for measure in _MEASURES)
        lines.append(f"{label:<38}{entry['n']:>6}  {cells}")
    for label, family in (("all findings right", names), ("the same with side and place", places)):
        exact = family["exact_set"]
        lines.append(f"{label:<38}{exact['n']:>6}  {_cell(exact['share'], exact['ci95'])}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cell(value: float | None, ci95: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:5.1f} [{ci95[0]:.1f}, {ci95[1]:.1f}]" if ci95 else f"{value:5.1f}"
