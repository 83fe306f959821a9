"""The tiny base's vocabulary: a byte-fallback BPE in LLaMA's own layout, learnt from the embedded worlds' text.

Words of the general and of the medical world become short pieces; everything else (a real data set's words, other
scripts) falls back to letters and bytes, so that no text is ever unknown.
"""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaTokenizer

CONTROL_TOKENS = ("<unk>", "<s>", "</s>")
BYTE_TOKENS = tuple(f"<0x{value:02X}>" for value in range(256))
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'\"()[]<>/-+%=_"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> LlamaTokenizer:
    """Learns a vocabulary and returns it as the same tokenizer class that reads LLaMA-2's.

    Args:
        texts: the corpus, one document an item; read once.
        vocab_size: controls, bytes, letters and learnt pieces together.

    Returns:
        A tokenizer with `<unk>` 0, `<s>` 1, `</s>` 2, and bytes from 3 on, as in LLaMA-2. It says `do_lower_case`:
        questions and answers of both worlds are in small letters, though the prompt around them is not.
    """
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    # Split at blanks while learning, so that no piece spans two words: text encodes the same joined or in parts.
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*CONTROL_TOKENS, *BYTE_TOKENS],
        initial_alphabet=[*LETTERS, "▁"],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    return LlamaTokenizer(vocab=learnt["vocab"], merges=merges, legacy=False, do_lower_case=True)
