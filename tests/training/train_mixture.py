"""A small stage 1 on two drawn data sets: python train_mixture.py BASE RUN_DIR [batch_size=8] [workers=2] [die_at=5]

Dropout is off, because its draws belong to a process and not to a sample.
"""

import os
import sys

import torch
from datasets import concatenate_datasets

from pefomed.data import load_dataset
from pefomed.model.presets import load_base
from pefomed.procedure import CLEAN
from pefomed.training.run import train_stage
from pefomed.training.sampling import Source
from pefomed.training.stages import get_stage
from pefomed.training.trainer import PefomedTrainer


def die_at(step: int) -> None:
    """Ends the process, as a power cut would, before it takes this step."""
    training_step = PefomedTrainer.training_step

    def watched(trainer, *args, **kwargs):
        if trainer.state.global_step == step:
            os._exit(9)
        return training_step(trainer, *args, **kwargs)

    PefomedTrainer.training_step = watched


def main() -> None:
    base, run_dir, *rest = sys.argv[1:]
    options = {key: int(value) for key, _, value in (text.partition("=") for text in rest)}
    torch.set_num_threads(1)
    if "die_at" in options:
        die_at(options["die_at"])
    model, processor = load_base("tiny", base, dtype=torch.float32)
    captions = load_dataset("phantoms", split="train", task="caption", images=20)
    replay = load_dataset("shapes", split="train", images=5, questions_per_image=4)
    stage = get_stage(
        "stage1_captions",
        "tiny",
        epochs=2,
        steps_per_epoch=5,
        batch_size=options["batch_size"],
        save_steps=4,
        warmup_steps=2,
        lora_dropout=0.0,
    )
    train_stage(
        model,
        processor,
        stage,
        concatenate_datasets([captions, replay]),
        load_dataset("phantoms", split="val", task="caption", images=7),
        run_dir,
        seed=3,
        procedure=CLEAN,
        data_fingerprint="drawn",
        sources=(Source("phantoms", len(captions), 60), Source("shapes", len(replay), 40)),
        progress=False,
        workers=options.get("workers", 0),
    )


if __name__ == "__main__":
    main()
