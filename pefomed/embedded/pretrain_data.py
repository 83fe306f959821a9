"""What the tiny base learns from before any fine-tuning: one picture, many questions, packed into one row.

A row is a common prefix (`<s> [INST] <Img>`, image, `</Img> [vqa] ... answer:`) and one segment per question, each
of which sees the prefix and itself. Three kinds of rows:

- shapes with questions or a caption: the only rows with a picture;
- medical text without a picture: a drawn patient's findings *in words* stand where the image would, questions follow.
  A real LLaMA-2 has read medicine too; it has never seen its pictures, and neither has this one;
- the same captions and reports as plain text.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from pefomed.data.prompts import CAPTION_WORDINGS, REPORT_WORDINGS, VQA_TEMPLATE
from pefomed.embedded.phantom_language import caption as phantom_caption
from pefomed.embedded.phantom_language import report as phantom_report
from pefomed.embedded.phantoms import Phantom, draw_phantom, questions_about
from pefomed.embedded.shapes import Scene, draw_scene, segmentation_targets
from pefomed.embedded.shapes_language import scene_caption, scene_questions

IGNORE = -100
VQA_INSTRUCTION = f"[vqa] {VQA_TEMPLATE.removesuffix('{question}').strip()}"
# Shares of the kinds of rows; the rest are shapes with questions.
SHARE_CAPTION, SHARE_MEDICAL_QA, SHARE_PLAIN_TEXT = 0.15, 0.12, 0.03
# Text-only patients are drawn from seeds that no data set of phantoms uses.
TEXT_ONLY_SEEDS = 1 << 40


@dataclass
class PackedRow:
    """One row before padding; every list has one entry a token. `image` is uint8 [3, 112, 112] or None."""

    input_ids: list[int]
    labels: list[int]
    segment_ids: list[int]
    position_ids: list[int]
    image: np.ndarray | None
    patches: np.ndarray | None = None


class Packer:
    """Turns prompts and answers into packed rows with the ids that `PefomedProcessor.encode` would give."""

    def __init__(self, tokenizer, image_token_id: int, image_tokens: int):
        self.tokenizer = tokenizer
        self.image = [image_token_id] * image_tokens
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def row(
        self, instruction: str, pairs: list[tuple[str, str]], image: np.ndarray | None, in_words: str = ""
    ) -> PackedRow:
        """A prefix up to the end of `instruction` and one segment for each (rest of the prompt, answer)."""
        inside = self.image if image is not None else self.ids(in_words)
        prefix = [self.bos, *self.ids("[INST] <Img>"), *inside, *self.ids("</Img> " + instruction)]
        row = PackedRow(list(prefix), [IGNORE] * len(prefix), [0] * len(prefix), list(range(len(prefix))), image)
        for number, (rest, answer) in enumerate(pairs, 1):
            prompt = self.ids(f"{rest} [/INST]".strip())
            target = [*self.ids(answer), self.eos]
            row.input_ids += prompt + target
            row.labels += [IGNORE] * len(prompt) + target
            row.segment_ids += [number] * (len(prompt) + len(target))
            row.position_ids += range(len(prefix), len(prefix) + len(prompt) + len(target))
        return row

    def plain(self, text: str) -> PackedRow:
        """A document on its own, every token learnt."""
        ids = [self.bos, *self.ids(text), self.eos]
        return PackedRow(ids, [IGNORE, *ids[1:]], [0] * len(ids), list(range(len(ids))), None)


class PretrainRows(Dataset):
    """Row `i` is a function of the seed and `i` alone, whichever process draws it."""

    def __init__(
        self,
        packer: Packer,
        seed: int,
        length: int,
        questions: int = 8,
        medical_text: bool = True,
        captions: bool = True,
    ):
        self.packer, self.seed, self.length, self.questions = packer, seed, length, questions
        self.medical = SHARE_MEDICAL_QA if medical_text else 0.0
        self.plain = SHARE_PLAIN_TEXT if medical_text else 0.0
        self.captions = SHARE_CAPTION if captions else 0.0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PackedRow:
        rng = np.random.default_rng([self.seed, index])
        kind = rng.random()
        if kind < self.plain + self.medical:
            return self._medical_row(index, rng, plain=kind < self.plain)
        scene = draw_scene(int(rng.integers(1 << 62)))
        if kind < self.plain + self.medical + self.captions:
            wording = CAPTION_WORDINGS[rng.integers(len(CAPTION_WORDINGS))]
            row = self.packer.row(f"[caption] {wording}", [("", scene_caption(scene, rng))], scene_pixels(scene))
        else:
            pairs = [(question, answer) for question, answer, _ in scene_questions(scene, rng, self.questions)]
            instruction = VQA_INSTRUCTION if rng.random() < 0.8 else "[vqa]"
            row = self.packer.row(instruction, pairs, scene_pixels(scene))
        row.patches = segmentation_targets(scene)
        return row

    def _medical_row(self, index: int, rng: np.random.Generator, plain: bool) -> PackedRow:
        phantom = draw_phantom(TEXT_ONLY_SEEDS + (self.seed << 28) + index)
        words = phantom_report(phantom, rng) if rng.random() < 0.5 else phantom_caption(phantom, rng)
        if plain:
            return self.packer.plain(words)
        return self.packer.row(VQA_INSTRUCTION, ask_about(phantom, rng, self.questions), None, in_words=words)


def ask_about(phantom: Phantom, rng: np.random.Generator, n: int) -> list[tuple[str, str]]:
    """Questions with answers, the answer drawn first, so that rare answers come up as often as common ones."""
    by_answer: dict[str, list] = {}
    for question in questions_about(phantom):
        by_answer.setdefault(question.answer, []).append(question)
    pairs = []
    for _ in range(n):
        answers = list(by_answer)
        question = (asked := by_answer[answers[rng.integers(len(answers))]])[rng.integers(len(asked))]
        wordings = (*question.freeform, *question.para)
        pairs.append((wordings[rng.integers(len(wordings))], question.answer))
    return pairs


def scene_pixels(scene: Scene) -> np.ndarray:
    """uint8 [3, 112, 112]."""
    return np.ascontiguousarray(np.moveaxis(scene.image, -1, 0))


def collate(rows: list[PackedRow]) -> dict[str, torch.Tensor]:
    """Right-padded batch; pictures of the rows that have one, in order, and their patches' classes.

    Lengths are multiples of 32: on the CPU every new shape costs a compilation, and thousands of them a slow process.
    """
    length = rounded_up(max(len(row.input_ids) for row in rows), 32)

    def padded(name: str, fill: int) -> torch.Tensor:
        return torch.tensor([getattr(row, name) + [fill] * (length - len(row.input_ids)) for row in rows])

    pictures = [row for row in rows if row.image is not None]
    return {
        "input_ids": padded("input_ids", 0),
        "labels": padded("labels", IGNORE),
        "segment_ids": padded("segment_ids", -1),
        "position_ids": padded("position_ids", 0),
        "images": torch.from_numpy(np.stack([row.image for row in pictures])),
        "patches": torch.from_numpy(np.stack([row.patches for row in pictures]).astype(np.int64)),
    }


def rounded_up(number: int, multiple: int) -> int:
    """The next multiple at or above a number."""
    return -(-number // multiple) * multiple


def corpus(seed: int, documents: int) -> Iterator[str]:
    """Text of both worlds, for the tokenizer: questions, answers, captions, reports, prompts."""
    rng = np.random.default_rng([seed, 7])
    for number in range(documents):
        scene = draw_scene(int(rng.integers(1 << 62)))
        yield scene_caption(scene, rng)
        yield from (f"{question} {answer}" for question, answer, _ in scene_questions(scene, rng, 4))
        if number % 2 == 0:
            phantom = draw_phantom(TEXT_ONLY_SEEDS + (seed << 28) + number)
            yield phantom_caption(phantom, rng)
            yield phantom_report(phantom, rng)
            yield from (f"{question} {answer}" for question, answer in ask_about(phantom, rng, 4))
        yield f"[INST] <Img></Img> {VQA_INSTRUCTION} [/INST]"
        yield f"[caption] {CAPTION_WORDINGS[number % 4]} [report] {REPORT_WORDINGS[number % 4]}"
