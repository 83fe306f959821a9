"""A small stage 2 with the weights spread over processes: python train_fsdp.py BASE RUN_DIR [OPTION=NUMBER ...]

accelerate spreads weights over GPUs only, though torch does it on the CPU as well: `shard_on_the_cpu` tells accelerate
to. Dropout is off, because its draws belong to a process and not to a sample.
"""

import sys
from dataclasses import replace

import torch
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState
from train_mixture import die_at
from trl import SFTConfig

from pefomed.data import load_dataset
from pefomed.model.presets import load_base
from pefomed.procedure import CLEAN
from pefomed.training import run, trainer
from pefomed.training.stages import get_stage


def shard_on_the_cpu() -> None:
    """Makes accelerate treat CPU processes as it treats GPU processes under FSDP."""
    begin = AcceleratorState.__init__

    def begin_sharded(state, *args, fsdp_plugin=None, **kwargs):
        begin(state, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and state.distributed_type == DistributedType.MULTI_CPU:
            if state.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(state.mixed_precision)
            state.fsdp_plugin = fsdp_plugin
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = begin_sharded


def train_in_bfloat16() -> None:
    """As on a GPU: bfloat16 base, float32 LoRA and projector."""
    trainer.SFTConfig = lambda **arguments: SFTConfig(**{**arguments, "bf16": True})


def main() -> None:
    base, run_dir, *rest = sys.argv[1:]
    options = {key: int(value) for key, _, value in (text.partition("=") for text in rest)}
    torch.set_num_threads(1)
    shard_on_the_cpu()
    if "die_at" in options:
        die_at(options["die_at"])
    if "bfloat16" in options:
        train_in_bfloat16()
    model, processor = load_base("tiny", base, dtype=torch.bfloat16 if "bfloat16" in options else torch.float32)
    train = load_dataset("phantoms", split="train", images=16, questions_per_image=3)
    if "questions" in options:
        validation = load_dataset("phantoms", split="val", images=options["questions"], questions_per_image=1)
    else:
        validation = load_dataset("phantoms", split="val", task="caption", images=33)
    stage = get_stage(
        "stage2_vqa",
        "tiny",
        epochs=2,
        steps_per_epoch=4,
        batch_size=options["batch_size"],
        gradient_accumulation=2,
        gradient_checkpointing=bool(options.get("checkpointing", 0)),
        max_grad_norm=1.0,
        save_steps=3,
        warmup_steps=2,
        lora_dropout=0.0,
        max_text_tokens=8,
    )
    run.train_stage(
        model,
        processor,
        stage if "questions" in options else replace(stage, name="stage1_captions"),  # which validates by the loss
        train,
        validation if options.get("validate", 1) else None,
        run_dir,
        seed=3,
        procedure=CLEAN,
        data_fingerprint="drawn",
        progress=False,
    )
    if "bfloat16" in options:
        print("gradients summed in", AcceleratorState().fsdp_plugin.mixed_precision_policy.reduce_dtype)


if __name__ == "__main__":
    main()
