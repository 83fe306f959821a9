"""All tables and figures of a folder of runs whose scores are known."""

import csv
import hashlib
import json
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pefomed.files import write_json
from pefomed.metrics.report import report_scores
from pefomed.metrics.vqa import vqa_scores
from pefomed.predictions import write_predictions
from pefomed.reporting.paper_tables import slug
from pefomed.reporting.run_results import find_results
from pefomed.reporting.tables_folder import to_markdown, write_tables

SECRET = "the heart of Jane Roe is enlarged"


def answers(folder: Path, right: int = 4, dataset: str = "phantoms", name: str = "predictions") -> list[dict]:
    """Eight questions on four images, of which the first are answered rightly."""
    rows = [
        {"id": f"q{i}", "dataset": dataset, "task": "vqa", "question": "?", "answer": "lung", "group": f"g{i // 2}"}
        | {"prediction": "lung" if i < right else "heart", "answer_type": "closed" if i % 2 else "open"}
        | {"image_organ": "CHEST" if i < 6 else "HEAD"}
        for i in range(8)
    ]
    write_predictions(folder / f"{name}.jsonl", rows)
    return rows


def reports(folder: Path, dataset: str = "mimic_cxr") -> list[dict]:
    rows = [
        {"id": f"r{i}", "dataset": dataset, "task": "report", "answer": f"{SECRET} {i}.", "prediction": SECRET}
        for i in range(4)
    ]
    write_predictions(folder / "predictions.jsonl", rows)
    return rows


def lexical_metrics(constant: float = 0.25) -> dict:
    keys = ("meteor_java15", "rouge_l", "cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4")
    best = {"text": None, "sha256": "0" * 64, "scores": dict.fromkeys(keys, constant), "n": 4}
    ends = {key: [0.4, 0.6] for key in keys}
    return {"n": 4, **dict.fromkeys(keys, 0.5), "ci95": ends, "settings": {}, "constant_report": {"rouge_l": best}}


def lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def judge(folder: Path, rows: list[dict], score: int) -> None:
    verdict = {"score": score, "model": "offline stand-in", "status": "ok"}
    lines(folder / "judge.jsonl", [{"id": row["id"], "repeat": 0, **verdict} for row in rows])


def rate(folder: Path, rows: list[dict]) -> None:
    lines(
        folder / "ratings.jsonl",
        [
            {"id": row["id"], "rater": f"simulated {k}", "score": int(place % (k + 2) == 0)}
            for k in (0, 1)
            for place, row in enumerate(rows)
        ],
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that was judged and rated, an ablation over two seeds, and reports of a credentialed data set."""
    root = tmp_path_factory.mktemp("all") / "runs"
    rows = answers(root / "judged", 4, "vqa_rad")
    write_json(root / "judged" / "metrics.json", vqa_scores(rows, n_resamples=20))
    judge(root / "judged", rows, 1)
    rate(root / "judged", rows)
    for seed in (0, 1):
        for condition, right in (("stage2", 4), ("stage1+2", 6)):
            answers(root / "ablation" / f"seed-{seed}" / condition, right)
    told = reports(root / "reports")
    write_json(root / "reports" / "metrics.json", lexical_metrics())
    judge(root / "reports", told, 3)
    return root


@pytest.fixture(scope="module")
def tables(runs):
    out = runs.parent / "tables"
    summary = made(runs, out)
    assert (summary.runs, summary.skipped, summary.left_over) == (6, (), ())
    return out


def made(root, out, **options):
    return write_tables(root, out, **{"n_resamples": 20, **options})


def cells(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {next(iter(row.values())): row for row in rows}


def test_every_kind_is_made_and_says_what_of(runs, tables):
    out = tables
    accuracy = cells(out / "vqa_vqa_rad_accuracy.csv")
    assert accuracy["exact match"]["overall"].startswith("50.0 (")
    assert accuracy["offline stand-in"]["overall"].startswith("100.0 (")
    assert accuracy["2 simulated raters"]["raters"] == "2"
    assert accuracy["GPT-4 (paper, Table 2)"]["overall"] == "84.4±0.5"
    organs = cells(out / "vqa_vqa_rad_by_image_organ.csv")
    assert organs["exact match"]["HEAD (n=2)"].startswith("0.0")
    conditions = cells(out / "ablation_ablation_conditions.csv")
    assert conditions["stage 1+2"]["overall"].startswith("75.0 (") and conditions["stage 1+2"]["seeds"] == "2"
    assert conditions["stage 2 (paper, Table 9, vqa_rad)"]["overall"] == "72.5"
    differences = cells(out / "ablation_ablation_differences.csv")
    assert differences["stage 1+2 minus stage 2"]["by seed"] == "+25.0, +25.0"
    lexical = cells(out / "report_mimic_cxr_lexical.csv")
    assert lexical["reports"]["ROUGE-L"] == "0.500 (0.400-0.600)"
    assert lexical["best constant report by ROUGE-L"]["ROUGE-L"] == "0.250"
    assert cells(out / "report_mimic_cxr_levels.csv")["offline stand-in"]["WASM"].startswith("3.00")
    assert "level 3" in cells(out / "report_mimic_cxr_level_counts.csv")["offline stand-in"]
    figures = (
        *("vqa_vqa_rad_kinds_judged", "ablation_ablation_conditions", "report_mimic_cxr_lexical"),
        *("report_mimic_cxr_levels_reports", "vqa_vqa_rad_agreement_judged_ratings_judge"),
    )
    for name in figures:
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG" and (out / f"{name}.pdf").is_file()
    assert not (out / "vqa_phantoms_kinds_ablation_seed-0_stage2.png").exists()

    index = json.loads((out / "index.json").read_text())
    listed = {name for entry in index["made"] for name in entry["files"]} | {"index.md", "index.json"}
    assert listed == {path.name for path in out.iterdir()}
    entry = next(entry for entry in index["made"] if "vqa_vqa_rad_accuracy.csv" in entry["files"])
    assert entry["runs"] == ["judged"] and "not comparable" in entry["note"]
    assert set(entry["inputs"]) == {
        f"judged/{name}" for name in ("metrics.json", "predictions.jsonl", "judge.jsonl", "ratings.jsonl")
    }
    expected = hashlib.sha256((runs / "judged" / "judge.jsonl").read_bytes()).hexdigest()
    assert entry["inputs"]["judged/judge.jsonl"] == expected
    assert index["versions"]["pandas"] == pd.__version__


def test_neither_texts_nor_places_of_the_machine_are_shown(tables, tmp_path):
    reports(tmp_path / "runs" / "reports")
    (tmp_path / "runs" / "reports" / "judge.jsonl").write_text('{"id": "r0"}\n')
    assert len(made(tmp_path / "runs", tmp_path / "tables").skipped) == 1
    for path in (*(tmp_path / "tables").iterdir(), *tables.iterdir()):
        if path.suffix in (".csv", ".md", ".json"):
            text = path.read_text()
            assert "Jane" not in text and str(tmp_path.parent) not in text, path.name


def test_the_same_runs_give_the_same_bytes_whatever_the_sessions_settings(runs, tables, tmp_path):
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        open_figure = plt.figure()
        made(runs, tmp_path)
        assert dict(matplotlib.rcParams) == before
        assert plt.get_fignums() == [open_figure.number]
        plt.close(open_figure)
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tables, tmp_path))
    assert len(first) > 20 and first == second


def test_vector_figures_can_be_svg(tmp_path):
    answers(tmp_path / "run")
    for out in ("first", "second"):
        made(tmp_path / "run", tmp_path / out, vector="svg")
    first, second = ((tmp_path / out / "vqa_phantoms_kinds_run.svg").read_bytes() for out in ("first", "second"))
    assert b"<svg" in first and first == second
    assert not list((tmp_path / "first").glob("*.pdf"))


def broken(folder: Path, kind: str) -> None:
    if kind == "predictions":
        (folder / "predictions.jsonl").write_text('{"id": "q0"\n')
    elif kind == "no json":
        (folder / "metrics.json").write_text("{")
    elif kind == "list":
        (folder / "metrics.json").write_text("[]")
    elif kind == "shape":
        write_json(folder / "metrics.json", {"exact_match": {"open": 1}, "n": {"overall": 8}})
    elif kind == "other rows":
        write_json(folder / "metrics.json", vqa_scores(answers(folder / "x")[:6], n_resamples=5))
    elif kind == "other ids":
        judge(folder, [{"id": "nobody"}], 1)
    elif kind == "score":
        lines(folder / "ratings.jsonl", [{"id": "q0", "rater": "jane", "score": 3}])


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        *(("predictions", "predictions.jsonl"), ("no json", "metrics.json"), ("list", "metrics.json")),
        *(("shape", "metrics.json"), ("other rows", "metrics.json"), ("other ids", "judge.jsonl")),
        ("score", "ratings.jsonl"),
    ],
)
def test_what_is_malformed_is_named_and_the_rest_is_made(tmp_path, kind, file):
    answers(tmp_path / "runs" / "whole")
    answers(tmp_path / "runs" / "bad")
    broken(tmp_path / "runs" / "bad", kind)
    found = find_results(tmp_path / "runs", n_resamples=5)
    assert [one.folder for one in found.skipped] == ["bad"]
    assert file in found.skipped[0].why and "\n" not in found.skipped[0].why
    assert "whole" in [one.run for one in found.results]


def test_predictions_without_scores_are_scored_and_controls_stand_by_their_name(tmp_path):
    answers(tmp_path / "run", 6)
    answers(tmp_path / "run", 2, name="predictions_blank")
    found = find_results(tmp_path, n_resamples=5)
    right = {one.run: one.scores["exact_match"]["overall"] for one in found.results}
    assert right == {"run": 75.0, "run (blank)": 25.0}
    assert found.results[0].test_set == found.results[1].test_set


def test_verdicts_belong_to_the_predictions_of_their_name(tmp_path):
    rows = answers(tmp_path, 6)
    answers(tmp_path, 2, name="predictions_blank")
    verdict = {"repeat": 0, "score": 1, "model": "m", "status": "ok"}
    lines(tmp_path / "judge_blank.jsonl", [{"id": row["id"], **verdict} for row in rows])
    lines(tmp_path / "judge_other.jsonl", [{"id": row["id"], **verdict} for row in rows])
    found = {one.suffix: [rated.path.name for rated in one.judged] for one in find_results(tmp_path).results}
    assert found == {"": ["judge_other.jsonl"], "_blank": ["judge_blank.jsonl"]}


def test_verdicts_alone_are_named(tmp_path):
    judge(tmp_path, [{"id": "q0"}], 1)
    found = find_results(tmp_path)
    assert not found.results and "no predictions.jsonl beside it" in found.skipped[0].why


def test_links_that_go_round_end_and_depth_is_counted(tmp_path):
    answers(tmp_path / "runs" / "a" / "b")
    os.symlink(tmp_path / "runs", tmp_path / "runs" / "a" / "round")
    found = find_results(tmp_path / "runs", n_resamples=5)
    assert [one.run for one in found.results] == ["a/b"] and found.too_deep == 0
    answers(tmp_path / "runs" / "near")
    found = find_results(tmp_path / "runs", depth=1, n_resamples=5)
    assert [one.run for one in found.results] == ["near"] and found.too_deep == 1


def test_tables_within_the_runs_are_not_searched(tmp_path):
    answers(tmp_path / "a")
    answers(tmp_path / "tables" / "a")
    (tmp_path / "tables" / "old.csv").write_text("x")
    summary = made(tmp_path, tmp_path / "tables")
    assert summary.runs == 1 and summary.left_over == ("a", "old.csv")


def test_runs_that_only_look_like_conditions_side_by_side_are_no_ablation(tmp_path):
    answers(tmp_path / "first")
    reports(tmp_path / "second")
    found = find_results(tmp_path, n_resamples=5)
    assert not found.ablations and not found.skipped and len(found.results) == 2


def test_conditions_of_other_rows_are_named(tmp_path):
    answers(tmp_path / "runs" / "stage2", 4)
    rows = answers(tmp_path / "runs" / "stage1+2", 4)
    write_predictions(tmp_path / "runs" / "stage1+2" / "predictions.jsonl", rows[:4])
    summary = made(tmp_path / "runs", tmp_path / "tables")
    assert len(summary.skipped) == 1 and "not about the same rows" in summary.skipped[0].why
    # Different rows are never put into one table of accuracies.
    assert len(list((tmp_path / "tables").glob("vqa_phantoms_*_accuracy.csv"))) == 2


def test_lexical_scores_of_other_settings_are_apart(tmp_path):
    for name, constant in (("a", 0.2), ("b", 0.2), ("c", 0.3)):
        reports(tmp_path / "runs" / name)
        write_json(tmp_path / "runs" / name / "metrics.json", lexical_metrics(constant))
    made(tmp_path / "runs", tmp_path / "tables")
    assert {"a", "b"} < set(cells(tmp_path / "tables" / "report_mimic_cxr_lexical.csv"))
    other = cells(tmp_path / "tables" / "report_mimic_cxr_lexical_2.csv")
    assert other["c"]["n"] == "4" and "a" not in other


def test_findings_of_phantom_reports_have_table_and_figure(tmp_path):
    rows = [
        {"id": str(i), "dataset": "phantoms", "task": "report", "answer": "there is ascites.", "prediction": text}
        for i, text in enumerate(("there is ascites.", "the brain is normal."))
    ]
    write_predictions(tmp_path / "runs" / "predictions.jsonl", rows)
    write_json(tmp_path / "runs" / "metrics.json", report_scores(rows, n_resamples=20))
    made(tmp_path / "runs", tmp_path / "tables")
    assert cells(tmp_path / "tables" / "report_phantoms_findings.csv")["runs"]["recall"].startswith("50.0")
    assert (tmp_path / "tables" / "report_phantoms_findings_runs.png").is_file()
    assert cells(tmp_path / "tables" / "report_phantoms_texts.csv")["runs"]["different texts, generated"] == "2"


def test_names_of_files_and_cells_of_markdown_are_safe():
    assert slug("a/b c: ..") == "a_b_c" and slug("///") == "unnamed"
    long = slug("x" * 300)
    assert len(long) < 140 and long != slug("x" * 301)
    table = pd.DataFrame([{"a|b": "1 | 2\n3"}]).rename_axis("n")
    assert to_markdown(table) == "| n | a\\|b |\n| --- | --- |\n| 0 | 1 \\| 2 3 |\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"out": "."}, "is the folder of the runs"),
        ({"vector": "eps"}, "pdf or svg"),
        ({"n_resamples": 0}, "at least 1"),
        ({"depth": -1}, "depth must be at least 0"),
    ],
)
def test_impossible_parameters_are_refused_before_anything_is_written(tmp_path, change, words):
    answers(tmp_path / "run")
    out = tmp_path / change.pop("out", "tables")
    with pytest.raises(ValueError, match=words):
        made(tmp_path, out, **change)
    assert not (tmp_path / "tables").exists()
