"""Training with several processes from a notebook or script, as `accelerate launch -m pefomed.cli train` does it.

    result = train_with_processes(settings, 2)      # 2 GPUs, or 2 CPU processes where there is no GPU

Each process takes `batch_size` samples of a step, so that a step has as many times more. Killed and called again, the
run goes on; with another number of processes it is another run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pefomed.files import write_text
from pefomed.runs import train_run
from pefomed.settings import RunSettings, as_values

if TYPE_CHECKING:
    from pefomed.training.run import TrainResult


def launch_command(num_processes: int) -> list[str]:
    """The command that starts `num_processes` processes of whatever arguments follow it, on this machine."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--dynamo_backend", "no"]
    # Port 0 lets the system choose a free one: two launches beside each other do not collide. --multi_gpu also where
    # there is no GPU: with --cpu accelerate starts a single process, whatever the number; torch then takes gloo.
    command += ["--num_processes", str(num_processes), "--main_process_port", "0", "--mixed_precision", "no"]
    return [*command, "--multi_gpu"]


def train_with_processes(settings: RunSettings, num_processes: int, progress: bool = True) -> TrainResult:
    """Trains a run with several processes and returns what `train_run` returns.

    Args:
        settings: of the run.
        num_processes: how many; 1 trains in this process.
        progress: whether to show what the processes print.

    Raises:
        ValueError: `num_processes` is not positive, more than there are GPUs, or the training failed; the message
            ends with what it said last.
    """
    import torch
    import yaml

    if num_processes < 1:
        raise ValueError(f"parameter num_processes must be at least 1, not {num_processes}")
    if num_processes == 1:
        return train_run(settings, progress)
    if torch.cuda.is_available() and num_processes > torch.cuda.device_count():
        raise ValueError(f"parameter num_processes is {num_processes}, but there are {torch.cuda.device_count()} GPUs")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "settings.yaml"
        write_text(config, yaml.safe_dump(as_values(settings)))
        command = [*launch_command(num_processes), "-m", "pefomed.cli", "train", str(config)]
        _run(command + ([] if progress else ["--no-progress"]), progress)
    from pefomed.training.run import read_result

    return replace(read_result(settings.output_dir), seconds=time.monotonic() - began)


def _run(command: list[str], show: bool) -> None:
    """Runs a command to its end, passing on what it prints."""
    last: deque[str] = deque(maxlen=3)
    mistakes: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout:
                last.append(line)
                if "pefomed: error:" in line:
                    mistakes.append(line.partition("pefomed: error:")[2].strip())
                if show:
                    print(line, end="")
        except BaseException:
            process.terminate()  # Ctrl-C in a notebook must not leave processes behind: the launcher ends its own
            raise
    if process.returncode:
        told = mistakes[0] if mistakes else " ".join("".join(last).split())
        raise ValueError(f"training with several processes failed: {told}")
