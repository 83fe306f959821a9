"""Assembles a base folder and an adapter folder from published files; the code behind `pefomed convert`."""

import contextlib
import copy
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, LlamaConfig, LlamaTokenizer, PreTrainedTokenizerBase

from pefomed.files import write_json
from pefomed.model.adapters import PROJECTOR, base_fingerprint, fresh_adapter, lora_config, write_origin
from pefomed.model.checkpoints import Translated, read_checkpoint, read_llama_folder, translate
from pefomed.model.configuration import PefomedConfig
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.presets import build_processor

POST_LAYERNORM = "model.vision_tower.post_layernorm."


@dataclass(frozen=True)
class ConvertReport:
    """What became of every tensor.

    Attributes:
        used: number of tensors that went into base or adapter.
        set_aside: tensors that are not needed, each with the reason.
        defaulted: tensors that no file holds and that have a stated default.
        unknown: names that mean nothing to this package.
    """

    used: int
    set_aside: dict[str, str]
    defaulted: dict[str, str]
    unknown: list[str]

    def __str__(self) -> str:
        lines = [f"{self.used} tensors used, {len(self.set_aside)} set aside, {len(self.unknown)} unknown"]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.set_aside.items():
            reasons.setdefault(reason, []).append(name)
        lines += [f"set aside: {names[0]} ({len(names)} in all): {why}" for why, names in reasons.items()]
        lines += [f"default: {name}: {why}" for name, why in self.defaulted.items()]
        lines += [f"unknown: {name}" for name in self.unknown]
        return "\n".join(lines)


def default_post_layernorm(base: dict[str, torch.Tensor], width: int) -> dict[str, str]:
    """Fills an absent ln_vision with the identity that the published code then has; says which it filled.

    BLIP-2's own post_layernorm is trained and would be wrong here.
    """
    defaulted = {}
    for name, value in (("weight", torch.ones(width)), ("bias", torch.zeros(width))):
        if POST_LAYERNORM + name not in base:
            base[POST_LAYERNORM + name] = value
            defaulted[POST_LAYERNORM + name] = "ln_vision is in no file: identity, as in the published code"
    return defaulted


def check_complete(base: dict[str, torch.Tensor], config: PefomedConfig) -> None:
    """Compares names and shapes with the network's, on the meta device.

    Raises:
        ValueError: naming the first missing, unexpected or misshapen tensors.
    """
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in PefomedForConditionalGeneration(config).state_dict().items()}
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    _compare("base", base, expected)


def check_adapter(adapter: dict[str, torch.Tensor], config: PefomedConfig, rank: int) -> None:
    """Compares names and shapes with those that peft writes for this network, on the meta device.

    Raises:
        ValueError: naming the first missing, unexpected or misshapen tensors.
    """
    with torch.device("meta"):
        adapted = fresh_adapter(PefomedForConditionalGeneration(config), rank, alpha=1, dropout=0.0)
        expected = {k: tuple(v.shape) for k, v in get_peft_model_state_dict(adapted).items()}
    _compare("adapter", adapter, expected)


def _compare(what: str, found: dict[str, torch.Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    if missing or unexpected:
        raise ValueError(
            f"the files do not make a whole {what}: {len(missing)} missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(unexpected)} unexpected ({', '.join(unexpected[:3]) or 'none'})"
        )
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(found[name].shape)}, the configuration needs {shape}")


def config_from_files(llama_dir: str | Path, vision: dict, image_size: int) -> PefomedConfig:
    """The paper's configuration with the sizes that the LLaMA folder states; `vision` overrides the EVA ViT-g's."""
    if not (Path(llama_dir) / "config.json").is_file():
        raise FileNotFoundError(f"{llama_dir}: no config.json; expected a Hugging Face LLaMA folder")
    text = LlamaConfig.from_pretrained(llama_dir)
    return PefomedConfig(
        vision_config={"model_type": "blip_2_vision_model", **vision, "image_size": image_size},
        text_config=text,
        image_token_index=text.vocab_size,
        tie_word_embeddings=text.tie_word_embeddings,
    )


def llama_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a LLaMA folder; from tokenizer.model alone it is built piece by piece.

    transformers orders the merges of a tokenizer.model by piece number. The pieces of several blanks have low numbers
    but the lowest scores, so that "a  b" would be cut otherwise than SentencePiece, and the published code, cut it.

    Raises:
        FileNotFoundError: if the folder holds neither tokenizer.json nor tokenizer.model.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        return AutoTokenizer.from_pretrained(folder)
    if not (folder / "tokenizer.model").is_file():
        raise FileNotFoundError(f"{folder}: neither tokenizer.json nor tokenizer.model; fetch the model's tokenizer")
    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    ranked = []
    for piece, number in ids.items():
        if pieces.is_control(number) or pieces.is_unknown(number) or pieces.is_byte(number):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                ranked.append((-pieces.get_score(number), ids[left], ids[right], left, right))
    return LlamaTokenizer(vocab=ids, merges=[(left, right) for *_, left, right in sorted(ranked)])


def write_base(
    out_dir: str | Path, config: PefomedConfig, base: dict[str, torch.Tensor], tokenizer_dir: str | Path | None = None
) -> str:
    """Writes a base folder: config.json, safetensors, and the processor where a tokenizer is given.

    Returns:
        The base's fingerprint.

    Raises:
        ValueError: if tensors are missing, unexpected or misshapen.
    """
    check_complete(base, config)
    processor = None if tokenizer_dir is None else build_processor(llama_tokenizer(tokenizer_dir), config)
    with torch.device("meta"):
        # A copy: saving a model writes into its configuration.
        model = PefomedForConditionalGeneration(copy.deepcopy(config))
    model.load_state_dict(base, strict=not config.tie_word_embeddings, assign=True)
    model.tie_weights()
    model.save_pretrained(out_dir)
    if processor is not None:
        processor.save_pretrained(out_dir)
    return base_fingerprint(model)


def write_adapter(
    out_dir: str | Path, config: PefomedConfig, translated: Translated, alpha: int = 16, dropout: float = 0.05
) -> int:
    """Writes LoRA and projector of a checkpoint as a PEFT folder; returns the rank.

    Raises:
        ValueError: if the checkpoint lacks LoRA or the projector, mixes ranks, or fits another network.
    """
    projector = {f"base_model.model.{name}": value for name, value in translated.base.items() if PROJECTOR in name}
    ranks = {value.shape[0] for name, value in translated.adapter.items() if ".lora_A." in name}
    if len(ranks) != 1 or len(projector) != 2:
        raise ValueError(
            f"an adapter needs LoRA of one rank and a projector (weight, bias); found ranks {sorted(ranks) or 'none'} "
            f"and {len(projector)} projector tensors"
        )
    rank = ranks.pop()
    tensors = {k: v.float().contiguous() for k, v in {**translated.adapter, **projector}.items()}
    check_adapter(tensors, config, rank)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = lora_config(rank, alpha, dropout).to_dict()
    write_json(out / "adapter_config.json", {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()})
    return rank


def convert(
    checkpoint: str | Path,
    out_dir: str | Path,
    config: PefomedConfig,
    eva: str | Path | None = None,
    llama_dir: str | Path | None = None,
    alpha: int = 16,
) -> ConvertReport:
    """Writes `out_dir/base` (where EVA and LLaMA are given) and `out_dir/adapter` (where the checkpoint holds LoRA).

    Args:
        checkpoint: MiniGPT-v2 or PeFoMed file.
        out_dir: where base/ and adapter/ go; neither may exist yet.
        config: sizes of the network.
        eva: eva_vit_g.pth, or None if the checkpoint holds the tower or only an adapter is wanted.
        llama_dir: Hugging Face LLaMA folder with its tokenizer, likewise.
        alpha: LoRA's alpha, which no checkpoint states.

    Raises:
        ValueError: if files are damaged, unknown tensors occur, or base or adapter would not be whole.
        FileExistsError: if an output folder is already there.
    """
    out = Path(out_dir)
    for folder in (out / "base", out / "adapter"):
        if folder.exists():
            raise FileExistsError(f"{folder}: already there; choose another output folder or remove it")
    parts = [translate(read_checkpoint(checkpoint), config)]
    if eva is not None:
        parts.append(translate(read_checkpoint(eva), config))
    if llama_dir is not None:
        parts.append(translate(read_llama_folder(llama_dir), config))
    unknown = [name for part in parts for name in part.unknown]
    if unknown:
        raise ValueError(f"{len(unknown)} tensors mean nothing to this package: {', '.join(unknown[:5])}")
    base, set_aside = _merged(parts)
    frozen = [name for name in base if PROJECTOR not in name and not name.startswith(POST_LAYERNORM)]
    if not frozen and not parts[0].adapter:
        raise ValueError(f"{checkpoint}: holds neither LoRA nor a tower or language model; there is nothing to write")
    defaulted: dict[str, str] = {}
    with _written_aside(out) as aside:
        fingerprint = None
        if frozen:
            defaulted = default_post_layernorm(base, config.vision_config.hidden_size)
            fingerprint = write_base(aside / "base", config, base, llama_dir)
        else:
            for name in [name for name in base if name.startswith(POST_LAYERNORM)]:
                del base[name]
                set_aside[name] = "belongs to the base, which is not written without EVA and LLaMA"
        if parts[0].adapter:
            write_adapter(aside / "adapter", config, parts[0], alpha)
            if fingerprint is not None:
                write_origin(aside / "adapter", fingerprint)
    used = len(base) - len(defaulted) + len(parts[0].adapter)
    return ConvertReport(used, set_aside, defaulted, [])


def _merged(parts: list[Translated]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Base tensors of several files, the earlier file's where two hold one; and what is set aside, with reasons."""
    base: dict[str, torch.Tensor] = {}
    set_aside: dict[str, str] = {}
    for part in parts:
        set_aside |= part.set_aside
        set_aside |= dict.fromkeys(set(part.base) & set(base), "an earlier file's is taken, the checkpoint's first")
        base = {**part.base, **base}
    return base, set_aside


@contextlib.contextmanager
def _written_aside(out: Path) -> Iterator[Path]:
    """A hidden folder in `out` whose content gets its names once all of it is written, and is removed otherwise."""
    made = not out.exists()
    aside = out / ".convert"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for folder in sorted(aside.iterdir()):
            folder.rename(out / folder.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if made and not any(out.iterdir()):
            out.rmdir()
