"""A training or generation in a process of its own, to be killed: python train_once.py train|generate BASE RUN_DIR

It says each step on standard output and takes its time over it, so that whoever kills it hits work in progress on a
machine of any speed.
"""

import sys
import time

import torch

from pefomed.data import load_dataset
from pefomed.inference.generate import write_predictions
from pefomed.model.presets import load_base
from pefomed.predictions import PredictionWriter
from pefomed.procedure import CLEAN
from pefomed.training.run import train_stage
from pefomed.training.stages import get_stage
from pefomed.training.trainer import PefomedTrainer

LEAST_SECONDS = 0.1


def say_each(owner: type, name: str) -> None:
    """Makes a method print a line, and last a while, before it does its work."""
    method = getattr(owner, name)

    def slowed(*args, **kwargs):
        print("step", flush=True)
        time.sleep(LEAST_SECONDS)
        return method(*args, **kwargs)

    setattr(owner, name, slowed)


def main() -> None:
    what, base, run_dir = sys.argv[1:]
    say_each(PefomedTrainer, "training_step")
    say_each(PredictionWriter, "append")
    torch.set_num_threads(1)
    model, processor = load_base("tiny", base, dtype=torch.float32)
    if what == "train":
        stage = get_stage(
            "stage2_vqa", "tiny", epochs=3, batch_size=4, save_steps=4, warmup_steps=2, max_text_tokens=8
        )
        train = load_dataset("phantoms", split="train", images=12, questions_per_image=4)
        validation = load_dataset("phantoms", split="val", images=3, questions_per_image=4)
        train_stage(
            model,
            processor,
            stage,
            train,
            validation,
            run_dir,
            seed=3,
            procedure=CLEAN,
            data_fingerprint="drawn",
            progress=False,
        )
        return
    rows = list(load_dataset("phantoms", split="test", images=30, questions_per_image=4))
    write_predictions(
        model,
        rows,
        f"{run_dir}/predictions.jsonl",
        model_name="small",
        condition="zero_shot",
        progress=False,
        processor=processor,
        batch_size=4,
        max_new_tokens=12,
    )


if __name__ == "__main__":
    main()
