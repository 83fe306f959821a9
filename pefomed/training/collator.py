"""From rows of the schema to batches: pictures to pixels, prompts and answers to ids and labels."""

import hashlib
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image

from pefomed.data.prompts import instruction, render_prompt, target_text
from pefomed.images import open_image, random_resized_crop_flip
from pefomed.model.processing import IGNORE_LABEL, EncodedPrompt, PefomedProcessor
from pefomed.procedure import CLEAN, Procedure
from pefomed.training.broken import BrokenPictures
from pefomed.training.features import FeatureStore, refuse_random_crops

PICTURES = ("real", "blank", "shuffled")
PUBLISHED_PAD = "$$"  # an ordinary piece of LLaMA-2's vocabulary that the published code pads with


@dataclass
class PixelStore:
    """Pixels of pictures by key, so that a picture asked about ten times is decoded once.

    Attributes:
        processor: makes the pixels.
        procedure: how pictures of unusual modes are read.
        max_bytes: bound on what is kept; past it, pictures are decoded anew each time.
    """

    processor: PefomedProcessor
    procedure: Procedure = CLEAN
    max_bytes: int = 1 << 30
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    used_bytes: int = 0

    def picture(self, image: dict, name: str) -> Image.Image:
        """The decoded RGB picture of a row's image column."""
        return open_image(
            image["bytes"] if image["bytes"] else image["path"],
            name=image["path"] or name,
            window_16bit=self.procedure.window_16bit,
            drop_alpha=self.procedure.drop_alpha,
            apply_exif=self.procedure.apply_exif,
        )

    def pixels(self, image: dict, name: str) -> np.ndarray:
        """float32 [3, size, size] of a row's image column."""
        key = hashlib.sha256(image["bytes"]).hexdigest() if image["bytes"] else image["path"]
        found = self.kept.get(key)
        if found is None:
            found = self.to_pixels(self.picture(image, name))
            if self.used_bytes + found.nbytes <= self.max_bytes:
                self.kept[key] = found
                self.used_bytes += found.nbytes
        return found

    def to_pixels(self, picture: Image.Image) -> np.ndarray:
        """float32 [3, size, size] of an RGB picture."""
        return self.processor.image_processor(picture, return_tensors="np")["pixel_values"][0]

    def augmented(self, image: dict, name: str, rng: np.random.Generator) -> np.ndarray:
        """Pixels of a random crop, mirrored half of the time, as the published code trains and tests."""
        size = self.processor.image_processor.size["height"]
        return self.to_pixels(random_resized_crop_flip(self.picture(image, name), size, rng=rng))

    def blank(self) -> np.ndarray:
        """Pixels of a black picture."""
        size = self.processor.image_processor.size
        return self.to_pixels(Image.new("RGB", (size["width"], size["height"])))


def sample_rng(seed: int, visit: int, row_id: str) -> np.random.Generator:
    """Random numbers of one sample at one visit: independent of batches, workers, processes and of resuming."""
    return np.random.default_rng([seed, visit, zlib.crc32(row_id.encode())])


@dataclass
class TrainingCollator:
    """Right-padded batches to learn from.

    Attributes:
        processor: encodes prompts and pictures.
        procedure: clean, or as the published code.
        seed: of wordings and crops, where the procedure draws any.
        max_text_tokens: bound on the answer.
        blank_images: train without looking, for the control.
        epoch: set by the trainer, so that each epoch draws anew.
        store: pixels already decoded.
        features: gives the tower's output instead of pixels, where pictures are not cropped at random.
        wordings: instructions to use instead of the built-in ones, for captions and reports.
        broken: where unreadable pictures are written down; None makes one an error.
    """

    processor: PefomedProcessor
    procedure: Procedure = CLEAN
    seed: int = 0
    max_text_tokens: int = 1024
    blank_images: bool = False
    epoch: int = 0
    store: PixelStore = None
    features: FeatureStore = None
    wordings: tuple[str, ...] = ()
    broken: BrokenPictures | None = None

    def __post_init__(self):
        if self.features is not None:
            refuse_random_crops(self.procedure)
        if self.store is None:
            self.store = PixelStore(self.processor, self.procedure)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        encoded, seen = [], []
        for row in rows:
            rng = sample_rng(self.seed, self.epoch, row["id"])
            row_encoded = encode_row(self.processor, row, self.procedure, self.max_text_tokens, rng, self.wordings)
            try:
                seen.append(self.picture(row, rng))
            except (ValueError, OSError) as error:
                if self.broken is None:
                    raise
                self.broken.add(row["id"], error)
                seen.append(self.blank())
                row_encoded = replace(row_encoded, labels=[IGNORE_LABEL] * len(row_encoded.labels))
            encoded.append(row_encoded)
        pad = self.processor.tokenizer.pad_token_id
        batch = {
            "input_ids": right_padded([e.input_ids for e in encoded], pad),
            "attention_mask": right_padded([[1] * len(e.input_ids) for e in encoded], 0),
            "labels": right_padded([e.labels for e in encoded], IGNORE_LABEL),
        }
        return {**batch, self.seen_as: torch.stack(seen)}

    @property
    def seen_as(self) -> str:
        """The model's argument that pictures are given by."""
        return "pixel_values" if self.features is None else "vision_features"

    def picture(self, row: dict, rng: np.random.Generator) -> torch.Tensor:
        """What the model is to see of a row: pixels [3, size, size], or kept features [image_tokens, 4 d]."""
        if self.blank_images:
            return self.blank()
        if self.features is not None:
            return self.features.features(row["image"], row["id"])
        if self.procedure.augment_training_images:
            return torch.from_numpy(self.store.augmented(row["image"], row["id"], rng))
        return torch.from_numpy(self.store.pixels(row["image"], row["id"]))

    def blank(self) -> torch.Tensor:
        """Pixels or kept features of a black picture."""
        return torch.from_numpy(self.store.blank()) if self.features is None else self.features.blank()


def encode_row(
    processor: PefomedProcessor,
    row: dict,
    procedure: Procedure,
    max_text_tokens: int,
    rng: np.random.Generator,
    wordings: tuple[str, ...] = (),
) -> EncodedPrompt:
    """Prompt and answer of a row, as they are trained on."""
    asked = instruction(
        row["task"],
        processor.cased(row["question"]),
        procedure=procedure,
        training=True,
        dataset=row["dataset"],
        wordings=wordings if wordings and row["task"] != "vqa" else None,
        rng=rng,
    )
    ignored = None
    if procedure.ignore_pad_pieces_in_targets:
        ignored = processor.tokenizer.get_vocab().get(PUBLISHED_PAD)
    return processor.encode(
        render_prompt(asked, procedure, training=True),
        target_text(processor.cased(row["answer"]), procedure),
        max_text_tokens=max_text_tokens,
        cut_drops_ends=procedure.cut_drops_ends,
        ignore_id=ignored,
    )


def right_padded(lists: list[list[int]], fill: int) -> torch.Tensor:
    """[batch, longest] int64."""
    longest = max(len(values) for values in lists)
    return torch.tensor([values + [fill] * (longest - len(values)) for values in lists])


def left_padded(lists: list[list[int]], fill: int) -> torch.Tensor:
    """[batch, longest] int64."""
    longest = max(len(values) for values in lists)
    return torch.tensor([[fill] * (longest - len(values)) + values for values in lists])
