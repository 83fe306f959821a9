"""Pre-trains the tiny base from scratch: python -m pefomed.embedded.pretrain OUT_DIR --seed 0

Two phases, both on shapes: the tower alone learns what lies in each patch and how it looks, then everything learns to
answer questions and write captions, with the tower's task kept on beside it. No medical picture is ever drawn here.
About 40 minutes on 2 cores. Killed and started again with the same command it goes on from its last checkpoint.
OUT_DIR then holds config, float16 safetensors, tokenizer and `manifest.json` (command, seed, revision, sha256, score).
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from pefomed.embedded.pretrain_data import IGNORE, Packer, PretrainRows, collate, corpus, rounded_up
from pefomed.embedded.shapes import PATCH_CLASSES
from pefomed.embedded.tokenizer import train_tokenizer
from pefomed.files import sha256_file, write_json
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.presets import build_processor, tiny_config
from pefomed.run_record import run_record

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
HELD_OUT_SEED = 987_654_321
PATCH_LOSS_WEIGHT = 0.3


class PatchTask(nn.Module):
    """What the tower must tell of each patch: what lies in it, and its look at a quarter of the resolution."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.what = nn.Linear(width, classes)
        self.look = nn.Linear(width, 3 * 4 * 4)

    def forward(self, tokens: torch.Tensor, pixels: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Loss of tokens [n, 64, width] for pixels [n, 3, 112, 112] and classes [n, 8, 8]."""
        small = F.adaptive_avg_pool2d(pixels, 32)
        look = small.reshape(-1, 3, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(pixels.shape[0], 64, -1)
        what = F.cross_entropy(self.what(tokens).flatten(0, 1).float(), patches.flatten())
        return what + F.mse_loss(self.look(tokens).float(), look)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 3, H, W] to what the image processor makes of the same picture."""
    return (images.float() / 255 - MEAN) / STD


def tower_tokens(model: PefomedForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """[n, 1 + 64, width], CLS first."""
    return model.model.vision_tower(pixels).last_hidden_state


def answer_loss(model: PefomedForConditionalGeneration, batch: dict, features: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the answers' tokens; the vocabulary head is run on their positions alone."""
    outputs = model.model(
        input_ids=batch["input_ids"],
        attention_mask=(batch["segment_ids"] >= 0).long(),
        position_ids=batch["position_ids"],
        segment_ids=batch["segment_ids"],
        vision_features=features,
    )
    labels = batch["labels"][:, 1:].flatten()
    learnt = (labels != IGNORE).nonzero().squeeze(1)
    # A few positions without a label fill up to a round number, for the reason given in `collate`.
    unlearnt = (labels == IGNORE).nonzero().squeeze(1)
    places = torch.cat([learnt, unlearnt[: rounded_up(len(learnt), 128) - len(learnt)]])
    logits = model.lm_head(outputs.last_hidden_state[:, :-1].flatten(0, 1)[places])
    return F.cross_entropy(logits.float(), labels[places], ignore_index=IGNORE)


def step_loss(model: PefomedForConditionalGeneration, task: PatchTask, batch: dict, joint: bool) -> torch.Tensor:
    """The loss of one step of either phase."""
    pixels = normalise(batch["images"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = tower_tokens(model, pixels)
        loss = task(tokens[:, 1:], pixels, batch["patches"])
        if not joint:
            return loss
        grouped = tokens[:, 1:].reshape(tokens.shape[0], 16, -1)
        return answer_loss(model, batch, grouped) + PATCH_LOSS_WEIGHT * loss


@torch.no_grad()
def held_out_score(model: PefomedForConditionalGeneration, packer: Packer, scenes: int, blind: bool) -> float:
    """Share (percent) of held-out questions whose whole answer is the model's most likely one, token for token."""
    model.eval()
    right = total = 0
    loader = DataLoader(
        PretrainRows(packer, HELD_OUT_SEED, scenes, medical_text=False, captions=False),
        batch_size=50,
        collate_fn=collate,
    )
    for batch in loader:
        pixels = normalise(torch.zeros_like(batch["images"]) if blind else batch["images"])
        hidden = model.model(
            input_ids=batch["input_ids"],
            pixel_values=pixels,
            attention_mask=(batch["segment_ids"] >= 0).long(),
            position_ids=batch["position_ids"],
            segment_ids=batch["segment_ids"],
        ).last_hidden_state[:, :-1]
        labels = batch["labels"][:, 1:]
        learnt = labels != IGNORE
        wrong = torch.zeros_like(labels, dtype=torch.bool)
        wrong[learnt] = model.lm_head(hidden[learnt]).argmax(-1) != labels[learnt]
        question = torch.arange(len(labels)).unsqueeze(1) * 1000 + batch["segment_ids"][:, 1:]
        asked = set(question[learnt].tolist())
        total += len(asked)
        right += len(asked - set(question[wrong].tolist()))
    model.train()
    return 100 * right / total


def learning_rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    """Linear warm-up, cosine down to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))))


def run_phase(name: str, model, task, packer: Packer, args: argparse.Namespace, steps: int, batch: int) -> float:
    """One phase, resumed from its own checkpoint where there is one; returns its seconds, earlier ones included."""
    joint = name == "joint"
    parameters = [*model.parameters(), *task.parameters()]
    if not joint:
        parameters = [*model.model.vision_tower.parameters(), *task.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.05)
    checkpoint = Path(args.out_dir) / f"{name}.checkpoint"
    start, earlier = load_checkpoint(checkpoint, model, task, optimizer)
    rows = PretrainRows(packer, args.seed + (1 if joint else 2), steps * batch, medical_text=joint, captions=joint)
    remaining = torch.utils.data.Subset(rows, range(start * batch, steps * batch))
    loader = DataLoader(remaining, batch_size=batch, collate_fn=collate, num_workers=1, prefetch_factor=4)
    model.train()
    began, running = time.time(), 0.0
    for step, rows_of_step in enumerate(loader, start):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, args.lr, args.warm_up)
        loss = step_loss(model, task, rows_of_step, joint)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running = loss.item() if step == start else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            speed = (step + 1 - start) * batch / (time.time() - began)
            print(f"{name} {step + 1}/{steps} loss {running:.4f} {speed:.0f} rows/s", flush=True)
        if (step + 1) % args.save_every == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, earlier + time.time() - began, model, task, optimizer)
        if joint and args.score_every and (step + 1) % args.score_every == 0:
            print(f"held-out score after {step + 1}: {held_out_score(model, packer, 200, False):.1f}", flush=True)
    return earlier + time.time() - began


def save_checkpoint(path: Path, step: int, seconds: float, model, task, optimizer) -> None:
    """Written aside and renamed: a kill leaves the old one or the new one, never half of one."""
    aside = path.with_suffix(".aside")
    state = {"step": step, "seconds": seconds, "model": model.state_dict(), "task": task.state_dict()}
    torch.save({**state, "optimizer": optimizer.state_dict()}, aside)
    os.replace(aside, path)


def load_checkpoint(path: Path, model, task, optimizer) -> tuple[int, float]:
    """Steps already done, and the seconds they took."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    task.load_state_dict(state["task"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def write_base(model, processor, packer: Packer, args: argparse.Namespace, seconds: float) -> None:
    """Weights in float16, tokenizer, and the manifest that says where they come from."""
    out = Path(args.out_dir)
    model.half().save_pretrained(out)
    processor.tokenizer.save_pretrained(out)
    shipped = PefomedForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    manifest = {
        "what": "tiny general-domain base of pefomed, pre-trained from scratch on drawn shapes; no medical picture",
        "command": " ".join(["python -m pefomed.embedded.pretrain OUT_DIR", *sys.argv[2:]]),
        "held_out": {
            "scenes": args.held_out_scenes,
            "exact_match": round(held_out_score(shipped, packer, args.held_out_scenes, False), 2),
            "exact_match_blank_image": round(held_out_score(shipped, packer, args.held_out_scenes, True), 2),
        },
        "sha256": {path.name: sha256_file(path) for path in sorted(out.glob("*.json")) if path.name != "manifest.json"}
        | {"model.safetensors": sha256_file(out / "model.safetensors")},
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "run": run_record(vars(args), {"seed": args.seed}, None, "cpu", {"all": round(seconds)}),
    }
    write_json(out / "manifest.json", manifest)
    print(json.dumps(manifest["held_out"]))


def parse_arguments() -> argparse.Namespace:
    """The defaults made the shipped weights."""
    parser = argparse.ArgumentParser(description="Pre-train the tiny base on drawn shapes.")
    parser.add_argument("out_dir", help="folder for weights, tokenizer and manifest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab-size", type=int, default=1024)
    parser.add_argument("--tower-steps", type=int, default=600, help="steps of the tower alone")
    parser.add_argument("--tower-batch", type=int, default=48, help="pictures a step")
    parser.add_argument("--joint-steps", type=int, default=2600)
    parser.add_argument("--joint-batch", type=int, default=32, help="rows a step, eight questions each")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--warm-up", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--score-every", type=int, default=500)
    parser.add_argument("--held-out-scenes", type=int, default=1000)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    Path(args.out_dir).mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(corpus(args.seed, 6000), args.vocab_size)
    config = tiny_config(len(tokenizer))
    processor = build_processor(tokenizer, config)
    model = PefomedForConditionalGeneration(config)
    task = PatchTask(config.vision_config.hidden_size, len(PATCH_CLASSES))
    packer = Packer(processor.tokenizer, processor.image_token_id, processor.image_tokens)
    seconds = run_phase("tower", model, task, packer, args, args.tower_steps, args.tower_batch)
    seconds += run_phase("joint", model, task, packer, args, args.joint_steps, args.joint_batch)
    write_base(model, processor, packer, args, seconds)


if __name__ == "__main__":
    main()
