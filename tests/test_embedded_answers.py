"""Predictions of the embedded world: found, or refused (that they are made, the evaluation notebooks' tests show)."""

import subprocess
import sys

import pytest

from pefomed.embedded_answers import embedded_answers


def test_what_is_there_is_not_made_again(tmp_path):
    for name in ("predictions.jsonl", "predictions_zero_shot.jsonl"):
        (tmp_path / name).write_text("{}\n")
    code = (
        "import sys; from pefomed.embedded_answers import embedded_answers; "
        f"print(embedded_answers('stage2_vqa', {str(tmp_path)!r}).name, 'torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["predictions.jsonl", "False"]


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(ValueError, match="parameter stage must be one of stage2_vqa, stage2_report, not 'stage1'"):
        embedded_answers("stage1", tmp_path)


def test_a_folder_that_holds_another_run_is_refused(tmp_path):
    (tmp_path / "runs").write_text("a file\n")
    with pytest.raises(ValueError, match="is a file; choose a folder"):
        embedded_answers("stage2_report", tmp_path / "runs", limit=8, epochs=1)
