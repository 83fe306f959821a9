"""Measures what paper_scale.py computes: seconds a sample and peak memory at the paper's sizes, on one GPU.

    python benchmarks/paper_scale_measured.py                 # one CUDA GPU -> results/paper_scale_measured.json
    python benchmarks/paper_scale_measured.py --device cpu --layers 2 --width 32 --image-size 56 --steps 2 --out t.json

The network has the paper's sizes and random weights, made on the GPU in bfloat16 (nothing is downloaded, and the host
holds no copy). Pictures are noise, texts have the lengths that paper_scale.py assumes, and the steps are those of
`PefomedTrainer` with the collator of training. The second form only shows on a CPU that the script runs.
"""

import argparse
import gc
import io
import json
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from paper_scale import TEXT, flops, memory
from paper_scale_counts import LORA_R, Sizes, count, tower_is_differentiated
from PIL import Image
from transformers import Blip2VisionConfig, LlamaConfig, LlamaTokenizer, PrinterCallback, TrainerCallback

from pefomed.data.prompts import instruction, render_prompt
from pefomed.embedded.tokenizer import train_tokenizer
from pefomed.files import write_json
from pefomed.model.adapters import fresh_adapter
from pefomed.model.configuration import PefomedConfig
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.presets import build_processor, paper_config
from pefomed.model.processing import PefomedProcessor
from pefomed.training.collator import TrainingCollator, encode_row
from pefomed.training.stages import Stage, get_stage
from pefomed.training.trainer import PefomedTrainer, sft_config

RESULTS = Path(__file__).parent / "results" / "paper_scale_measured.json"
WARM_UP = 2  # steps that are not counted: kernels are chosen and memory is first asked for
WORD = "yes"


def network_config(layers: int, width: int, image_size: int) -> PefomedConfig:
    """The paper's configuration, or a smaller one for a trial; 0 keeps the paper's value."""
    paper = paper_config()
    vision, text = paper.vision_config, paper.text_config
    small = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2} if width else {}
    heads = {"num_key_value_heads": 2} if width else {}
    depth = {"num_hidden_layers": layers} if layers else {}
    sized = {"image_size": image_size} if image_size else {}
    return PefomedConfig(
        vision_config=Blip2VisionConfig(**{**vision.to_dict(), **small, **depth, **sized}),
        text_config=LlamaConfig(**{**text.to_dict(), "head_dim": None, **small, **heads, **depth}),
        image_token_index=paper.image_token_index,
    )


def build_model(config: PefomedConfig, device: str) -> PefomedForConditionalGeneration:
    """Random weights made on the device: bfloat16 with a float32 projector on a GPU, float32 on the CPU."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        with torch.device(device):
            model = PefomedForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.model.multi_modal_projector.float()
    return model.eval()


def make_processor(config: PefomedConfig) -> PefomedProcessor:
    """A processor whose vocabulary is as large as the network's: a few learnt pieces, the rest names never met."""
    learnt = train_tokenizer([render_prompt(instruction("vqa", WORD))] * 9, 600)
    model = json.loads(learnt.backend_tokenizer.to_str())["model"]
    vocabulary = model["vocab"]
    vocabulary |= {f"<unused {number}>": number for number in range(len(vocabulary), config.text_config.vocab_size)}
    merges = [tuple(merge) for merge in model["merges"]]
    return build_processor(LlamaTokenizer(vocab=vocabulary, merges=merges, legacy=False, do_lower_case=True), config)


def make_rows(processor: PefomedProcessor, side: int, number: int, prompt: int, answer: int) -> datasets.Dataset:
    """Questions about pictures of noise, with exactly that many tokens of text.

    Raises:
        ValueError: texts of these lengths cannot be had.
    """
    rng = np.random.default_rng(0)
    row = {"task": "vqa", "dataset": "noise", "question": WORD, "answer": " ".join([WORD] * (answer - 1))}
    shortest = _lengths(processor, row)[0]
    if prompt < shortest:
        raise ValueError(f"prompts of {prompt} tokens cannot be had: the template and one word have {shortest}")
    row["question"] = " ".join([WORD] * (1 + prompt - shortest))
    found = _lengths(processor, row)
    if found != (prompt, answer):
        raise ValueError(f"texts came out with {found} tokens of prompt and answer, not {(prompt, answer)}")
    rows = []
    for index in range(number):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
        rows.append({**row, "id": f"noise-{index}", "image": {"bytes": file.getvalue(), "path": None}})
    return datasets.Dataset.from_list(rows)


def _lengths(processor: PefomedProcessor, row: dict) -> tuple[int, int]:
    """Tokens of prompt, without the image's, and of answer."""
    procedure, rng = TrainingCollator(processor).procedure, np.random.default_rng(0)
    encoded = encode_row(processor, row, procedure, 1024, rng)
    learnt = sum(label >= 0 for label in encoded.labels)
    return len(encoded.input_ids) - learnt - processor.image_tokens, learnt


class StepClock(TrainerCallback):
    """Time at the end of each step, once the device has really finished it."""

    def __init__(self, device: str):
        self.device = device
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        if self.device != "cpu":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def measure(config: PefomedConfig, sizes: Sizes, name: str, stage: Stage, device: str) -> dict:
    """Trains a few steps on a fresh network and tells their time and the largest memory."""
    text, batch, left = TEXT[name], stage.batch_size, 0
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        left = torch.cuda.memory_allocated()
    torch.manual_seed(0)
    adapted = fresh_adapter(build_model(config, device), stage.lora_r, stage.lora_alpha, stage.lora_dropout)
    processor = make_processor(config)
    rows = make_rows(processor, config.vision_config.image_size, 2 * batch, text.prompt, text.answer)
    clock = StepClock(device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = sft_config(stage, folder, 0, len(rows), 0, device == "cpu")
        arguments.save_strategy = "no"
        trainer = PefomedTrainer(
            model=adapted,
            args=arguments,
            train_dataset=rows,
            data_collator=TrainingCollator(processor, max_text_tokens=stage.max_text_tokens),
            processing_class=processor,
            callbacks=[clock],
            stage=stage,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    counted = len(clock.ends) - WARM_UP
    seconds = (clock.ends[-1] - clock.ends[WARM_UP - 1]) / (counted * batch)
    again = tower_is_differentiated() and stage.gradient_checkpointing
    work = flops(sizes, text.prompt, text.answer, stage.gradient_checkpointing, again)["total"]
    computed = memory(sizes, batch, text.prompt, text.answer, again, 0.0)
    return {
        "steps_counted": counted,
        "seconds_per_sample": seconds,
        "tflops_reached": work / seconds / 1e12,
        "max_memory_allocated": torch.cuda.max_memory_allocated() if device != "cpu" else None,
        "allocated_before": left,
        "computed_peak_without_other": computed["peak_checkpointed" if stage.gradient_checkpointing else "peak"],
        "trained_parameters": sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        "last_loss": trainer.state.log_history[0]["loss"],
    }


def measure_all(given: argparse.Namespace) -> dict:
    """Every case in turn, each on a network of its own; one that does not fit is noted as such."""
    config = network_config(given.layers, given.width, given.image_size)
    sizes = count(config)
    cases = []
    for name in given.data:
        for batch in given.batch_sizes:
            for checkpointing in (True, False):
                case = {"data": name, "batch_size": batch, "gradient_checkpointing": checkpointing}
                changes = {"epochs": 1, "steps_per_epoch": given.steps + WARM_UP, "gradient_accumulation": 1}
                stage = get_stage("stage2_vqa", "paper", **changes, **_stage_values(case))
                try:
                    found = measure(config, sizes, name, stage, given.device)
                except torch.cuda.OutOfMemoryError:
                    found = {"out_of_memory": True}
                cases.append(case | found)
                print(json.dumps(cases[-1]), flush=True)
                gc.collect()
                torch.cuda.empty_cache()
    on_gpu = given.device != "cpu"
    return {
        "trial": bool(given.layers or given.width or given.image_size or not on_gpu),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "gpu_memory": torch.cuda.get_device_properties(0).total_memory if on_gpu else None,
        "torch": torch.__version__,
        "layers": sizes.layers,
        "width": sizes.width,
        "image_tokens": sizes.image_tokens,
        "lora_r": LORA_R,
        "cases": cases,
    }


def _stage_values(case: dict) -> dict:
    return {name: case[name] for name in ("batch_size", "gradient_checkpointing")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", nargs="+", choices=sorted(TEXT), default=["vqa_rad", "iu_xray"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--steps", type=int, default=20, help=f"counted steps, after {WARM_UP} that are not")
    parser.add_argument("--layers", type=int, default=0, help="depth of tower and language model, for a trial")
    parser.add_argument("--width", type=int, default=0, help="width of both, for a trial")
    parser.add_argument("--image-size", type=int, default=0, help="side of the pictures, for a trial")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA GPU here; for a trial: --device cpu --layers 2 --width 32 --image-size 56 --out t.json"
        )
    if given.device == "cpu" and given.out == RESULTS:
        raise SystemExit(f"--out is needed with --device cpu: {RESULTS.name} is for measurements on a GPU")
    if given.device == "cuda" and torch.cuda.device_count() > 1:
        raise SystemExit("several GPUs are visible, which would share the batch: set CUDA_VISIBLE_DEVICES=0")
    if given.device == "cpu" and torch.cuda.is_available():
        raise SystemExit("--device cpu is for machines without a GPU: trl would put the network on the GPU")
    if given.steps < 1 or min(given.batch_sizes) < 1:
        raise SystemExit("--steps and --batch-sizes must be at least 1")
    write_json(given.out, measure_all(given))


if __name__ == "__main__":
    main()
