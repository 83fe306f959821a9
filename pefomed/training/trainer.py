"""trl's SFTTrainer with this package's learning-rate schedules and, if asked for, every answer weighed alike."""

import math
import sys
from collections.abc import Sequence

import torch
from accelerate.utils import parse_flag_from_env
from torch.distributed.fsdp import MixedPrecisionPolicy
from tqdm import tqdm
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from pefomed.training.packing import PictureSampler, picture_key
from pefomed.training.prefix import count_answers, learnt_loss
from pefomed.training.sampling import Source, StreamSampler
from pefomed.training.stages import Stage, learning_rate_at


class PefomedTrainer(SFTTrainer):
    """`SFTTrainer` that reads a `Stage`; everything else (LoRA, checkpoints, accumulation, resuming) is trl's.

    Args:
        stage: the recipe; its schedule and loss are what this class adds.
        sources: the data sets of `train_dataset`, where it is a mixture of several.
    """

    def __init__(self, *args, stage: Stage, sources: Sequence[Source] = (), **kwargs):
        self.stage = stage
        super().__init__(*args, **kwargs)
        if parse_flag_from_env("ACCELERATE_USE_FSDP"):
            self._set_up_fsdp()
        sources = tuple(sources) or (Source("data", len(self.train_dataset)),)
        a_step = samples_per_step(stage, self.args.world_size)
        per_epoch = self.args.max_steps // stage.epochs * a_step  # a whole number of steps of all processes together
        self.stream = StreamSampler(sources, self.args.seed, per_epoch)
        if stage.shared_prefix:
            keys = [picture_key(image) for image in self.train_dataset["image"]]
            self.stream = PictureSampler(sources, self.args.seed, per_epoch, keys, a_step, stage.questions_together)
        self.add_callback(TellTheEpoch(self.stream, self.data_collator))

    def _set_up_fsdp(self) -> None:
        """Keeps the head whole in every process, and sums gradients in float32 where accelerate would in bfloat16.

        trl multiplies by the head's weight without calling the head, which FSDP does not notice: it would be gathered
        anew in every forward pass, and torch stops where gradients are accumulated.

        Raises:
            ValueError: there is nothing to spread the weights over.
        """
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is None:
            raise ValueError(
                "FSDP was asked for, but needs several processes, each with a GPU; "
                "choose a configuration of accelerate with another distributed_type"
            )
        plugin.ignored_modules = r".*lm_head"
        if self.args.bf16:
            plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=None
            )

    def _get_train_sampler(self, train_dataset=None):
        return self.stream

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """The stage's schedule, counted in optimiser steps."""
        if self.lr_scheduler is None:
            stage = self.stage
            per_epoch = stage.steps_per_epoch or max(1, num_training_steps // stage.epochs)

            def share_of_peak(step: int) -> float:
                return learning_rate_at(stage, step, num_training_steps, per_epoch) / stage.learning_rate

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share_of_peak)
        return self.lr_scheduler

    def _get_num_items_in_batch(self, batch_samples, device):
        """What the loss of a whole step is divided by: answers for "answer_mean", else label tokens as in trl."""
        if self.stage.loss != "answer_mean":
            tokens = super()._get_num_items_in_batch(batch_samples, device)
            return tokens if tokens is None else tokens.clamp(min=1)  # a step whose pictures are all broken has none
        answers = torch.tensor(sum(map(count_answers, batch_samples)), device=device)
        return self.accelerator.gather(answers).sum() if self.args.average_tokens_across_devices else answers

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean over label tokens, or over answers, each the mean of its own tokens; logits for these tokens alone."""
        if return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = learnt_loss(model, inputs, self.stage.loss, num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return loss


class ProgressLine(TrainerCallback):
    """One bar for the whole training with the latest loss, on standard output, drawn anew every few seconds.

    transformers' own bar adds a line to a table at every logged step, which fills pages of an executed notebook.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, file=sys.stdout, mininterval=10, desc="training"
        )

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


class TellTheEpoch(TrainerCallback):
    """Order of samples, wordings and crops are functions of the epoch, which each of `told` keeps as `epoch`.

    accelerate tells a sampler itself, but not one that it has wrapped to share the samples among processes.
    """

    def __init__(self, *told):
        self.told = told

    def on_epoch_begin(self, args, state, control, **kwargs):
        for listener in self.told:
            listener.epoch = int(state.epoch or 0)


def samples_per_step(stage: Stage, processes: int) -> int:
    """Samples of one optimiser step, over all processes."""
    return stage.batch_size * stage.gradient_accumulation * processes


def sft_config(
    stage: Stage, output_dir: str, seed: int, samples: int, workers: int, use_cpu: bool, processes: int = 1
) -> SFTConfig:
    """trl's arguments for a stage.

    Args:
        stage: the recipe.
        output_dir: where checkpoints go.
        seed: of dropout and of the order of samples.
        samples: size of the training set.
        workers: processes that decode pictures; 0 for none.
        use_cpu: float32 on the CPU; otherwise bfloat16 on the GPU.
        processes: how many train together; each takes `stage.batch_size` samples.
    """
    steps = stage.epochs * (stage.steps_per_epoch or -(-samples // samples_per_step(stage, processes)))
    return SFTConfig(
        output_dir=output_dir,
        max_steps=steps,
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.gradient_accumulation,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        adam_beta1=stage.beta1,
        adam_beta2=stage.beta2,
        adam_epsilon=stage.epsilon,
        max_grad_norm=stage.max_grad_norm,
        # None, since transformers 5 renamed the argument and warns of the old one's every value, trl's default too.
        gradient_checkpointing=None,
        activation_checkpointing=stage.gradient_checkpointing,
        bf16=not use_cpu,
        use_cpu=use_cpu,
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_steps=stage.save_steps,
        save_total_limit=2,
        # A logged loss is the mean since the row before: rows that straddle a checkpoint would change on resuming.
        logging_steps=math.gcd(10, stage.save_steps),
        logging_first_step=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=workers,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
    )
