"""Conditions side by side, from predictions whose scores, differences and intervals are known."""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from pefomed.metrics import finding_scores, vqa_scores
from pefomed.predictions import read_predictions, write_predictions
from pefomed.reporting.conditions import (
    check_scorable,
    condition_scores,
    conditions_figure,
    conditions_table,
    differences_table,
    find_ablations,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def answer(folder: Path, right: int, pictures: int = 4, **changes) -> None:
    """Writes predictions to `pictures` pictures, an open and a closed question each; the first `right` are right."""
    rows = []
    for picture in range(pictures):
        for kind, true in (("open", "the liver"), ("closed", "yes")):
            number = len(rows)
            row = {"id": f"q{number}", "dataset": "phantoms", "task": "vqa", "question": "?", "answer": true}
            row |= {"prediction": true if number < right else "kidney", "answer_type": kind, "group": f"p{picture}"}
            rows.append({**row, **changes})
    write_predictions(folder / "predictions.jsonl", rows)


def write_texts(folder: Path, texts: list[str], **changes) -> None:
    """Writes predicted reports about one nodule, one effusion in the belly, one normal head, again and again."""
    true = ["there is a small left pneumothorax.", "there is ascites.", "the brain is normal."]
    rows = [
        {"id": str(i), "dataset": "phantoms", "task": "report", "answer": true[i % 3], "prediction": text, "group": i}
        for i, text in enumerate(texts)
    ]
    write_predictions(folder / "predictions.jsonl", [{**row, **changes} for row in rows])


def test_scores_differences_and_intervals_by_hand(tmp_path):
    for seed, (with_both, alone) in {0: (8, 4), 1: (6, 4), 2: (8, 2)}.items():
        answer(tmp_path / f"seed-{seed}" / "stage1+2", with_both)
        answer(tmp_path / f"seed-{seed}" / "stage2", alone)
    found = condition_scores(tmp_path)
    assert (found.task, found.dataset, found.n, found.groups) == (
        "vqa",
        "phantoms",
        {"open": 4, "closed": 4, "overall": 8},
        4,
    )
    assert list(found.scores) == ["stage2", "stage1+2"]
    both = found.scores["stage1+2"]["overall"]
    assert both.by_seed == {0: 100.0, 1: 75.0, 2: 100.0}
    assert both.mean == pytest.approx(275 / 3) and both.sd == pytest.approx(25 / 3**0.5)
    gain = found.differences["stage2"]["overall"]
    assert gain.by_seed == {0: 50.0, 1: 25.0, 2: 75.0}
    assert (gain.mean, gain.sd) == (50.0, 25.0)
    # By picture, over the seeds: 0, 1/3, 1 and 2/3 gained, so that resamples of four lie between 0 and 1.
    assert 0 <= gain.ci95[0] < 50 < gain.ci95[1] <= 100
    assert gain.ci95_seeds[1] - gain.ci95_seeds[0] >= gain.ci95[1] - gain.ci95[0]


def test_the_same_predictions_differ_by_nothing_with_an_interval_of_nothing(tmp_path):
    for seed in (0, 1):
        for condition in ("stage1+2", "zero_shot"):
            answer(tmp_path / f"seed-{seed}" / condition, 3 + seed)
    for entry in condition_scores(tmp_path).differences["zero_shot"].values():
        assert (entry.mean, entry.ci95, entry.ci95_seeds) == (0.0, [0.0, 0.0], [0.0, 0.0])


def test_pairing_cancels_what_is_hard_for_both(tmp_path):
    # One question of every picture gained, whatever the picture: no resample can say otherwise.
    rows = {"stage1+2": 2, "stage2": 1}
    for condition, first in rows.items():
        answer(tmp_path / condition, 0)
        path = tmp_path / condition / "predictions.jsonl"
        kept = read_predictions(path)
        for number, row in enumerate(kept):
            row["prediction"] = row["answer"] if number % 2 < first else "kidney"
        write_predictions(path, kept)
    gain = condition_scores(tmp_path).differences["stage2"]
    assert gain["overall"].ci95 == [50.0, 50.0] and gain["closed"].ci95 == [100.0, 100.0]
    assert gain["open"].ci95 == [0.0, 0.0]
    assert gain["overall"].by_seed == {0: 50.0} and gain["overall"].ci95_seeds is None and gain["overall"].sd is None


def test_one_seed_scores_as_the_metrics_do(tmp_path):
    answer(tmp_path / "stage2", 5, pictures=9)
    answer(tmp_path / "stage1+2", 11, pictures=9)
    found = condition_scores(tmp_path)
    for condition, entries in found.scores.items():
        metric = vqa_scores(tmp_path / condition / "predictions.jsonl")["exact_match"]
        for kind in ("open", "closed", "overall"):
            assert entries[kind].mean == pytest.approx(metric[kind])
            assert entries[kind].ci95 == pytest.approx(metric["ci95"][kind])


def test_findings_are_scored_as_the_metrics_do(tmp_path):
    good = ["there is a small left pneumothorax.", "there is ascites.", "the brain is normal."] * 3
    write_texts(tmp_path / "stage1+2", good)
    write_texts(tmp_path / "stage2", ["there is ascites."] * 9)
    write_texts(tmp_path / "stage1", ["clear."] * 9)
    found = condition_scores(tmp_path)
    assert found.n == {"texts": 9, "findings": 6}
    micro = finding_scores(tmp_path / "stage2" / "predictions.jsonl")["names"]["micro"]
    entries = found.scores["stage2"]
    for measure in ("precision", "recall", "F1"):
        assert entries[measure].mean == pytest.approx(micro[measure.lower()])
    assert entries["F1"].mean == pytest.approx(40.0)
    gain = found.differences["stage2"]["F1"]
    assert gain.mean == pytest.approx(60.0) and gain.ci95[0] > 0 and gain.ci95[1] <= 100
    silent = found.scores["stage1"]
    assert silent["precision"].mean is None and silent["precision"].ci95 is None and silent["F1"].mean == 0
    assert found.differences["stage1"]["precision"].mean is None


def test_seeds_that_only_one_of_two_has_are_not_compared(tmp_path):
    answer(tmp_path / "seed-0" / "stage1+2", 8)
    answer(tmp_path / "seed-0" / "stage2", 2)
    answer(tmp_path / "seed-1" / "stage2", 6)
    answer(tmp_path / "seed-1" / "stage1", 6)
    (tmp_path / "seed-1" / "stage1+2").mkdir()  # in training
    found = condition_scores(tmp_path)
    assert found.scores["stage2"]["overall"].by_seed == {0: 25.0, 1: 75.0}
    assert found.differences["stage2"]["overall"].by_seed == {0: 75.0}
    assert found.differences["stage1"]["overall"].by_seed == {}
    assert differences_table(found).loc[("stage 1+2 minus stage 1", "overall"), "by seed"] == "-"


def test_one_picture_has_no_interval(tmp_path):
    answer(tmp_path / "stage2", 1, pictures=1)
    assert condition_scores(tmp_path).scores["stage2"]["overall"].ci95 is None


def test_ablations_are_found_wherever_one_stands(tmp_path):
    answer(tmp_path / "vqa-100" / "seed-3" / "stage2", 4)
    answer(tmp_path / "vqa-500" / "stage2", 4)
    (tmp_path / "stage1" / "seed-3" / "adapter").mkdir(parents=True)
    assert list(find_ablations(tmp_path)) == ["vqa-100", "vqa-500"]
    assert find_ablations(tmp_path / "vqa-100") == {"vqa-100": tmp_path / "vqa-100"}
    assert list(condition_scores(tmp_path / "vqa-100").scores["stage2"]["overall"].by_seed) == [3]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_ablations(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="run run_conditions first"):
        find_ablations(tmp_path / "stage1")


def test_the_table_is_the_papers(tmp_path):
    for condition in ("stage2_blank", "replay+2", "stage1+2", "zero_shot"):
        answer(tmp_path / "seed-0" / condition, 4)
        answer(tmp_path / "seed-1" / condition, 6)
    table = conditions_table(condition_scores(tmp_path))
    assert list(table.index) == ["zero-shot", "stage 1+2", "replay alone, stage 2", "stage 2, no pictures"]
    assert list(table.columns[:7]) == ["stage 1", "stage 2", "n", "seeds", "open", "closed", "overall"]
    line = table.loc["stage 1+2"]
    assert (line["stage 1"], line["stage 2"], line["n"], line["seeds"]) == ("yes", "yes", 8, 2)
    assert line["overall"].startswith("62.5 (") and line["sd of overall over seeds"] == "17.7"


def test_the_table_of_differences(tmp_path):
    for seed in (0, 1):
        answer(tmp_path / f"seed-{seed}" / "stage1+2", 8)
        answer(tmp_path / f"seed-{seed}" / "stage2", 0)
    table = differences_table(condition_scores(tmp_path))
    line = table.loc[("stage 1+2 minus stage 2", "overall")]
    assert line["by seed"] == "+100.0, +100.0"
    assert line["mean, other pictures"] == "+100.0 (+100.0 to +100.0)"
    with pytest.raises(ValueError, match="'stage1' and another one"):
        differences_table(condition_scores(tmp_path, reference="stage1"))


def test_the_figure_shows_every_seed_and_every_interval(tmp_path):
    for seed, right in {0: 2, 1: 4, 2: 6}.items():
        for condition in ("stage2", "stage1+2", "stage2_long"):
            answer(tmp_path / f"seed-{seed}" / condition, right)
    found = condition_scores(tmp_path)
    figure = conditions_figure(found, title="questions")
    overall = figure.axes[2]
    points = sorted(round(float(x), 1) for marks in overall.collections[:3] for x, _ in marks.get_offsets())
    assert points == [25.0] * 3 + [50.0] * 3 + [75.0] * 3
    drawn = overall.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert list(drawn) == pytest.approx(found.scores["stage2"]["overall"].ci95)
    dashed = [line for line in overall.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [1.5]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][-1] == "stage 2, steps of both"


def test_an_undefined_score_is_a_gap(tmp_path):
    write_texts(tmp_path / "stage1", ["clear."] * 6)
    found = condition_scores(tmp_path)
    assert conditions_table(found).loc["stage 1", "precision"] == "-"
    assert len(conditions_figure(found).axes[0].containers) == 0


def test_runs_about_other_rows_are_refused(tmp_path):
    answer(tmp_path / "stage2", 4)
    answer(tmp_path / "stage1+2", 4, pictures=5)
    with pytest.raises(ValueError, match=r"stage2 and .*stage1\+2: not about the same rows, first 'q8' is in stage1"):
        condition_scores(tmp_path)
    answer(tmp_path / "stage1+2", 4, pictures=3)
    with pytest.raises(ValueError, match="first 'q6' is in stage2 only"):
        condition_scores(tmp_path)
    # Two seeds of a drawn data set number their questions alike.
    answer(tmp_path / "stage1+2", 4, question="which?")
    with pytest.raises(ValueError, match="row 'q0' differs in its question, so they answer other data"):
        condition_scores(tmp_path)


def test_what_has_no_score_is_refused(tmp_path):
    write_texts(tmp_path / "stage2", ["clear."] * 3, dataset="iu_xray")
    with pytest.raises(ValueError, match="stage2: task 'report' of data set 'iu_xray' has no score"):
        condition_scores(tmp_path)
    check_scorable("vqa", "vqa_rad")
    check_scorable("caption", "phantoms")
    with pytest.raises(ValueError, match="^parameters task and dataset: task 'report' of data set 'mimic_cxr'"):
        check_scorable("report", "mimic_cxr")
    answer(tmp_path / "mixed" / "stage2", 4, answer_type="half")
    with pytest.raises(ValueError, match="row 'q0': answer_type 'half' is not open, closed or null"):
        condition_scores(tmp_path / "mixed")
    write_predictions(
        tmp_path / "tasks" / "stage2" / "predictions.jsonl",
        [{"id": str(i), "task": task, "answer": "a", "prediction": "a"} for i, task in enumerate(("vqa", "report"))],
    )
    with pytest.raises(ValueError, match="row 2: task is 'report', that of row 1 'vqa'"):
        condition_scores(tmp_path / "tasks")


def test_it_needs_no_torch():
    code = "import sys, pefomed.reporting.conditions; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
