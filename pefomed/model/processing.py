"""Pictures to pixels, prompts to token ids.

Prompts are encoded segment by segment, as the published code does: `<s>`, the text before the image, the image's
positions, the text behind it, the answer, `</s>`. Control tokens are put in by id, never parsed out of text, so that
nothing a user or a data set writes can end a prompt or fake an image.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

from pefomed.controls import IMAGE_PLACEHOLDER, escape_controls, split_at_image
from pefomed.images import open_image, resize_bicubic

IGNORE_LABEL = -100
TASK_TAGS = ("[vqa]", "[report]", "[caption]")

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['content'] is string %}{% set parts = [{'type': 'text', 'text': message['content']}] %}"
    "{% else %}{% set parts = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %} [INST]"
    "{% for part in parts %}{% if part['type'] == 'image' %} <Img>" + IMAGE_PLACEHOLDER + " </Img>"
    "{% else %} {{ part['text'] }}{% endif %}{% endfor %} [/INST]"
    "{% elif message['role'] == 'assistant' %}{% generation %} "
    "{% for part in parts %}{{ part['text'] }}{% endfor %}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ raise_exception('roles are user and assistant, not ' + message['role']) }}{% endif %}"
    "{% endfor %}"
)


class PefomedImageProcessorPil(PilBackend):
    """Any picture -> float32 [3, size, size]: bicubic resize (aspect ratio given up), CLIP mean and deviation.

    Every PIL mode is turned into RGB by `pefomed.images.open_image` first (16-bit greys windowed, not clipped).
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 448, "width": 448}
    default_to_square = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def fetch_images(self, image_url_or_urls):
        """Files are opened by this package, since transformers would clip deep greys and drop transparency.

        Pictures from the network and base64 texts are left to transformers.
        """
        source = image_url_or_urls
        if isinstance(source, (list, tuple)):
            return [self.fetch_images(one) for one in source]
        if isinstance(source, (bytes, Path)) or (isinstance(source, str) and os.path.isfile(source)):
            return open_image(source)
        return super().fetch_images(source)

    def process_image(self, image, *args, **kwargs) -> np.ndarray:
        """A PIL picture becomes uint8 [3, H, W]; arrays are taken as the base class takes them.

        Raises:
            ValueError: if an array is not uint8 with three channels.
        """
        if hasattr(image, "convert"):
            return np.moveaxis(np.asarray(open_image(image)), -1, 0)
        array = super().process_image(image, *args, **kwargs)
        if array.dtype != np.uint8 or array.shape[0] != 3:
            raise ValueError(
                f"a picture given as an array must be uint8 with three channels, found {array.dtype} "
                f"{list(array.shape)}; give a PIL picture instead"
            )
        return array

    def resize(self, image: np.ndarray, size, *args, **kwargs) -> np.ndarray:
        """uint8 [3, H, W] -> uint8 [3, size, size], with the arithmetic of the Pillow that the published code used."""
        if size.height != size.width:
            raise ValueError(f"the image processor's size must be square, found {size.height} x {size.width}")
        picture = Image.fromarray(np.moveaxis(image, 0, -1))
        return np.moveaxis(np.asarray(resize_bicubic(picture, size.height)), -1, 0)


@dataclass(frozen=True)
class EncodedPrompt:
    """Ids of one sample and what is learnt of them.

    Attributes:
        input_ids: prompt and, in training, answer and end token.
        labels: -100 on the prompt, the answer's ids behind it; not shifted.
    """

    input_ids: list[int]
    labels: list[int]


class PefomedProcessor(ProcessorMixin):
    """Image processor and tokenizer, and the number of positions an image takes in between.

    Args:
        image_processor: a `PefomedImageProcessorPil`.
        tokenizer: a Llama tokenizer that knows `image_token`.
        chat_template: Jinja template; the default is the published prompt.
        patch_size: side of a vision patch in pixels.
        tokens_per_group: as in `PefomedConfig`.
        image_token: text of the token that marks the image's positions.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        chat_template=None,
        patch_size: int = 14,
        tokens_per_group: int = 4,
        image_token: str = IMAGE_PLACEHOLDER,
        **kwargs,
    ):
        self.patch_size = patch_size
        self.tokens_per_group = tokens_per_group
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        if self.image_token_id in (None, tokenizer.unk_token_id):
            raise ValueError(f"the tokenizer does not know {image_token!r}; add it as a special token first")
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    @property
    def image_tokens(self) -> int:
        """Positions one image takes in a prompt."""
        size = self.image_processor.size
        return (size["height"] // self.patch_size) * (size["width"] // self.patch_size) // self.tokens_per_group

    def cased(self, text: str | None) -> str | None:
        """A question or an answer as the base can read it: in small letters where its vocabulary has no others.

        The tiny base has hardly met a capital, and its embeddings are frozen; its tokenizer says `do_lower_case`, as
        those of uncased models do. LLaMA-2's does not, and the text stays as it is.
        """
        return text.lower() if text and self.tokenizer.init_kwargs.get("do_lower_case") else text

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """Called by transformers for each image of a rendered chat."""
        return self.image_token * self.image_tokens

    def apply_chat_template(self, conversation, chat_template=None, **kwargs):
        """As in transformers, with the text of every message escaped: text is data, never control."""
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        chats = conversation if batched else [conversation]
        chats = [[_escape_message(message) for message in chat] for chat in chats]
        return super().apply_chat_template(chats if batched else chats[0], chat_template, **kwargs)

    def text_ids(self, text: str) -> list[int]:
        """Ids of a piece of text on its own; `<s>` and the like in it are ordinary characters."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def encode(
        self,
        prompt: str,
        answer: str | None = None,
        *,
        n_bos: int = 1,
        max_text_tokens: int = 1024,
        max_context_tokens: int = 3800,
        cut_drops_ends: bool = False,
        ignore_id: int | None = None,
    ) -> EncodedPrompt:
        """Token ids of a prompt with one image, and of its answer.

        Args:
            prompt: text with exactly one image placeholder (see `pefomed.data.prompts.render_prompt`).
            answer: what is to be learnt, or None at inference.
            n_bos: leading `<s>` tokens (the published inference has two).
            max_text_tokens: bound on the answer with its end token; words past it are cut.
            max_context_tokens: bound on the prompt, `<s>` not counted.
            cut_drops_ends: as published, a cut answer loses its end token, and a prompt past its bound is cut on the
                right and loses `[/INST]`; otherwise the end token stays and a long prompt is an error.
            ignore_id: an id that is never learnt, even inside an answer (the published code's padding token).

        Raises:
            ValueError: without exactly one placeholder, or on a prompt past its bound that may not be cut.
        """
        if max_text_tokens < 1:
            raise ValueError(f"max_text_tokens must be at least 1, for the end token, not {max_text_tokens}")
        before, behind = split_at_image(prompt)
        image = [self.image_token_id] * self.image_tokens
        context = self.text_ids(before) + image + self.text_ids(behind)
        if len(context) > max_context_tokens:
            if not cut_drops_ends:
                raise ValueError(
                    f"a prompt of {len(context)} tokens (image included) is longer than the {max_context_tokens} "
                    f"allowed; shorten the question: {prompt[-60:]!r}"
                )
            context = context[:max_context_tokens]
        ids = [self.tokenizer.bos_token_id] * n_bos + context
        labels = [IGNORE_LABEL] * len(ids)
        if answer is not None:
            words, end = self.text_ids(answer) if answer else [], [self.tokenizer.eos_token_id]
            target = (words + end)[:max_text_tokens] if cut_drops_ends else words[: max_text_tokens - 1] + end
            ids = ids + target
            labels = labels + [IGNORE_LABEL if token == ignore_id else token for token in target]
        return EncodedPrompt(ids, labels)

    def decode_answer(self, ids) -> str:
        """Text of generated ids up to the end token, without control tokens and outer blanks."""
        ids = [int(i) for i in ids]
        if self.tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(self.tokenizer.eos_token_id)]
        known = [i for i in ids if i != self.image_token_id]
        return self.tokenizer.decode(known, skip_special_tokens=True).strip()


def _escape_message(message: dict) -> dict:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": _escape_text(content)}
    parts = [{**part, "text": _escape_text(part["text"])} if part.get("type") == "text" else part for part in content]
    return {**message, "content": parts}


def _escape_text(text: str) -> str:
    """A task identifier at the very beginning is the caller's; whatever follows is data."""
    for tag in TASK_TAGS:
        if text.startswith(tag):
            return tag + escape_controls(text.removeprefix(tag))
    return escape_controls(text)


__all__ = ["EncodedPrompt", "PefomedImageProcessorPil", "PefomedProcessor"]
