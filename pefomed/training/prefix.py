"""All questions about a picture behind one copy of it: the same losses and gradients, at a fraction of the work.

    separate:  <s> [INST] image ... question 1 [/INST] answer 1 </s>      one row for each question
               <s> [INST] image ... question 2 [/INST] answer 2 </s>
    shared:    <s> [INST] image ... | question 1 [/INST] answer 1 </s> | question 2 [/INST] answer 2 </s>

The prefix is the longest beginning that all prompts of the picture have in common; what is left of each is a segment,
which sees the prefix and itself (see `pefomed.model.segments`) and whose positions go on from the prefix. A segment
begins with a token of its prompt, so that no answer is predicted from another segment's end. Short rows take several
pictures (`pefomed.training.packing`). Prefix sharing in training is also in Molmo's message trees and PrefixGrouper.

With LoRA's dropout above 0, the questions of a picture share the noise drawn for its prefix; everything else is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

import torch
import torch.nn.functional as F

from pefomed.model.processing import IGNORE_LABEL, EncodedPrompt
from pefomed.model.segments import SEGMENTS_PER_IMAGE
from pefomed.training.collator import TrainingCollator, encode_row, right_padded, sample_rng
from pefomed.training.packing import best_fit, pack_rows, picture_key

ROUND_TO = 8  # masks of other widths are copied before every attention on a GPU


@dataclass(frozen=True)
class SharedPrompt:
    """A picture's questions behind their common beginning.

    Attributes:
        prefix: ids of the beginning, image positions among them.
        segments: ids and labels of what each question has of its own.
    """

    prefix: list[int]
    segments: tuple[EncodedPrompt, ...]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prefix) + sum(len(segment.input_ids) for segment in self.segments)


def share_prefix(encoded: Sequence[EncodedPrompt], image_token_id: int) -> SharedPrompt:
    """Takes the common beginning of a picture's prompts out of them.

    Args:
        encoded: prompts with answers, all about one picture.
        image_token_id: marks the image's positions.

    Raises:
        ValueError: if prompts differ before or within the image, or a prompt has nothing behind it.
    """
    prompts = [one.input_ids[: _prompt_length(one)] for one in encoded]
    # The last token of the shortest prompt stays with its question: the answer is predicted from there.
    shared = min(len(commonprefix(prompts)), min(map(len, prompts)) - 1)
    if any(image_token_id in prompt[max(shared, 0) :] for prompt in prompts):
        raise ValueError("prompts about one picture must be alike up to the end of the image and go on behind it")
    segments = tuple(EncodedPrompt(one.input_ids[shared:], one.labels[shared:]) for one in encoded)
    return SharedPrompt(encoded[0].input_ids[:shared], segments)


def _prompt_length(encoded: EncodedPrompt) -> int:
    """Tokens before the first that is learnt; of a prompt without any, all."""
    learnt = (place for place, label in enumerate(encoded.labels) if label != IGNORE_LABEL)
    return next(learnt, len(encoded.labels))


def split_to_budget(prompt: SharedPrompt, budget: int) -> list[SharedPrompt]:
    """Parts of at most `budget` tokens, each with the prefix, unless one question alone has more."""
    lengths = [len(segment.input_ids) for segment in prompt.segments]
    parts = best_fit(lengths, max(budget - len(prompt.prefix), *lengths))
    return [SharedPrompt(prompt.prefix, tuple(prompt.segments[item] for item in sorted(part))) for part in parts]


def rows_to_batch(rows: Sequence[Sequence[SharedPrompt]], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded tensors of rows of one or several pictures.

    Returns:
        input_ids, labels, attention_mask, position_ids and segment_ids, each int64 [rows, length]. Where no row has
        more than one question, an ordinary batch without the last two, whose attention needs no mask of its own.

    Raises:
        ValueError: if a segment's first token would be learnt.
    """
    lists: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": [], "segment_ids": []}
    for row in rows:
        for column, values in zip(lists.values(), _row_lists(row), strict=True):
            column.append(values)
    longest = max(len(ids) for ids in lists["input_ids"])
    width = longest if all(_is_plain(row) for row in rows) else -(-longest // ROUND_TO) * ROUND_TO
    fills = {"input_ids": pad, "labels": IGNORE_LABEL, "position_ids": 0, "segment_ids": -1}
    batch = {name: right_padded([*lists[name], [fill] * width], fill)[:-1] for name, fill in fills.items()}
    batch["attention_mask"] = (batch["segment_ids"] >= 0).long()
    refuse_learnt_starts(batch["labels"], batch["segment_ids"])
    if all(_is_plain(row) for row in rows):
        del batch["position_ids"], batch["segment_ids"]
    return batch


def _is_plain(row: Sequence[SharedPrompt]) -> bool:
    """Whether a row is one picture with one question, which is a sequence like any other."""
    return len(row) == 1 and len(row[0].segments) == 1


def _row_lists(row: Sequence[SharedPrompt]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids, labels, positions and segments of one row."""
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    segments: list[int] = []
    for image, prompt in enumerate(row):
        if len(prompt.segments) >= SEGMENTS_PER_IMAGE:
            raise ValueError(
                f"a picture has {len(prompt.segments):,} questions in one row, more than {SEGMENTS_PER_IMAGE - 1:,}; "
                "lower token_budget"
            )
        start = len(prompt.prefix)
        ids += prompt.prefix
        labels += [IGNORE_LABEL] * start
        positions += range(start)
        segments += [image * SEGMENTS_PER_IMAGE] * start
        for number, segment in enumerate(prompt.segments, start=1):
            ids += segment.input_ids
            labels += segment.labels
            positions += range(start, start + len(segment.input_ids))
            segments += [image * SEGMENTS_PER_IMAGE + number] * len(segment.input_ids)
    return ids, labels, positions, segments


def refuse_learnt_starts(labels: torch.Tensor, segment_ids: torch.Tensor) -> None:
    """A learnt first token would be predicted from the end of whatever segment happens to lie before it.

    Args:
        labels: [rows, length], not shifted.
        segment_ids: [rows, length].

    Raises:
        ValueError: if a segment's first token is learnt.
    """
    starts = segment_ids[:, 1:] != segment_ids[:, :-1]
    wrong = starts & (labels[:, 1:] != IGNORE_LABEL)
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"labels: row {row}, position {place + 1} is the first of a segment and would be predicted from another; "
            "leave at least one token of the prompt in every segment"
        )


def _numbered_answers(labels: torch.Tensor, segment_ids: torch.Tensor | None) -> torch.Tensor:
    """For each predicted label, row by row, a number that the labels of its answer alone have."""
    rows = torch.arange(len(labels), device=labels.device).unsqueeze(1).expand_as(labels)
    if segment_ids is not None:
        rows = rows * (int(segment_ids.max()) + 1) + segment_ids
    return rows[:, 1:][labels[:, 1:] != IGNORE_LABEL]


def count_answers(batch: dict[str, torch.Tensor]) -> int:
    """Answers of a batch with at least one learnt token; a row of several questions has several."""
    return len(_numbered_answers(batch["labels"], batch.get("segment_ids")).unique())


def learnt_loss(
    model, inputs: dict[str, torch.Tensor], loss: str, num_items: int | torch.Tensor | None = None
) -> torch.Tensor:
    """Loss of a batch, with logits for the learnt tokens alone; for rows of segments and for ordinary ones.

    Args:
        model: called with everything but the labels, so that wrappers (peft, autocast, distributed) do their part.
        inputs: a batch with `labels`, not shifted.
        loss: "token_mean" weighs every learnt token alike, "answer_mean" every answer.
        num_items: learnt tokens or answers of the whole optimiser step; None for those of this batch.

    Returns:
        Scalar, in float32 or wider; 0 with a graph for a batch in which nothing is learnt.

    Raises:
        ValueError: if a segment's first token is learnt, or for an unknown loss.
    """
    if loss not in ("token_mean", "answer_mean"):
        raise ValueError(f"loss must be token_mean or answer_mean, not {loss!r}")
    labels, segment_ids = inputs["labels"], inputs.get("segment_ids")
    if segment_ids is not None:
        refuse_learnt_starts(labels, segment_ids)
    learnt = labels[:, 1:] != IGNORE_LABEL
    others = {name: value for name, value in inputs.items() if name not in ("labels", "use_cache", "logits_to_keep")}
    logits = model(**others, use_cache=False, logits_to_keep=F.pad(learnt, (0, 1))).logits
    logits = logits if logits.dtype == torch.float64 else logits.float()
    losses = F.cross_entropy(logits, labels[:, 1:][learnt], reduction="none")
    if loss == "token_mean":
        items = learnt.sum() if num_items is None else num_items
    else:
        _, answer, tokens = _numbered_answers(labels, segment_ids).unique(return_inverse=True, return_counts=True)
        losses = losses / tokens[answer]
        items = len(tokens) if num_items is None else num_items
    return losses.sum() / torch.as_tensor(items, device=losses.device).clamp(min=1)


@dataclass
class PrefixCollator(TrainingCollator):
    """`TrainingCollator` whose rows are pictures with all their questions in the batch.

    Pictures cropped at random are all different, and each question keeps its own.

    Attributes:
        token_budget: most tokens of a row, short of a single question that has more: a picture's questions are split
            into rows by it, and short rows are filled with further pictures up to it.
        hidden_size: width of the language model, by which filling a row is weighed against padding it.
    """

    token_budget: int = 1024
    hidden_size: int = 4096

    def __post_init__(self):
        super().__post_init__()
        if self.token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, not {self.token_budget}")

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        pictures: dict[str, list[dict]] = {}
        for row in rows:
            pictures.setdefault(self._picture_of(row), []).append(row)
        prompts, seen = [], []
        for asked in pictures.values():
            encoded, picture = self._encode_picture(asked)
            parts = split_to_budget(share_prefix(encoded, self.processor.image_token_id), self.token_budget)
            prompts += parts
            seen += [picture] * len(parts)
        plan = pack_rows([prompt.length for prompt in prompts], self.token_budget, self.hidden_size)
        packed = [[prompts[item] for item in row] for row in plan]
        batch = rows_to_batch(packed, self.processor.tokenizer.pad_token_id)
        return {**batch, self.seen_as: torch.stack([seen[item] for row in plan for item in row])}

    def _picture_of(self, row: dict) -> str:
        """What rows must have in common to share a prefix."""
        if self.blank_images:
            return "blank"
        return row["id"] if self.procedure.augment_training_images else picture_key(row["image"])

    def _encode_picture(self, rows: list[dict]) -> tuple[list[EncodedPrompt], torch.Tensor]:
        """Prompts and answers about one picture, and what is seen of it; nothing is learnt of an unreadable one."""
        draws = [sample_rng(self.seed, self.epoch, row["id"]) for row in rows]
        encoded = [
            encode_row(self.processor, row, self.procedure, self.max_text_tokens, rng, self.wordings)
            for row, rng in zip(rows, draws, strict=True)
        ]
        try:
            return encoded, self.picture(rows[0], draws[0])
        except (ValueError, OSError) as error:
            if self.broken is None:
                raise
            for row in rows:
                self.broken.add(row["id"], error)
        unlearnt = [replace(one, labels=[IGNORE_LABEL] * len(one.labels)) for one in encoded]
        return unlearnt, self.blank()
