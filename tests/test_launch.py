"""Training with two processes from a function call: the run folder is whole, mistakes come back as one line."""

import pytest

from pefomed.files import read_json
from pefomed.launch import launch_command, train_with_processes
from pefomed.settings import RunSettings


def settings(tiny_base, output_dir, **changes) -> RunSettings:
    return RunSettings(
        base_dir=str(tiny_base),
        stage="stage2_vqa",
        stage_changes={"epochs": 1, "batch_size": 4, "warmup_steps": 1},
        dataset_options={"images": 4, "questions_per_image": 4},
        output_dir=str(output_dir),
        **changes,
    )


def test_two_processes_leave_one_whole_run(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = train_with_processes(settings(tiny_base, tmp_path / "run"), 2, progress=False)
    assert result.adapter == tmp_path / "run" / "adapter"
    assert read_json(tmp_path / "run" / "plan.json")["processes"] == 2
    assert [row["step"] for row in result.validation] == [2], "16 questions are two steps of two times four"
    assert result.trainable["total"] == result.trainable["lora"] + result.trainable["projector"]
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert (tmp_path / "run" / "settings.json").is_file() and (tmp_path / "run" / "run.json").is_file()


def test_a_mistake_in_the_processes_comes_back_as_one_line(tiny_base, tmp_path):
    wrong = settings(tiny_base, tmp_path / "run", init_from=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="training with several processes failed: .*nowhere") as error:
        train_with_processes(wrong, 2, progress=False)
    assert "\n" not in str(error.value)


def test_there_is_at_least_one_process(tiny_base, tmp_path):
    with pytest.raises(ValueError, match="num_processes must be at least 1, not 0"):
        train_with_processes(settings(tiny_base, tmp_path), 0)


def test_the_command_is_accelerate_s():
    command = launch_command(2)
    assert command[1:3] == ["-m", "accelerate.commands.launch"]
    assert command[command.index("--num_processes") + 1] == "2"
