"""Assembles a base folder and an adapter folder from published files; the code behind `pefomed convert`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig

from pefomed.files import write_json
from pefomed.model.adapters import PROJECTOR, lora_config
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
    missing = sorted(set(expected) - set(base))
    unexpected = sorted(set(base) - set(expected))
    if missing or unexpected:
        raise ValueError(
            f"the files do not make a whole base: {len(missing)} missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(unexpected)} unexpected ({', '.join(unexpected[:3]) or 'none'})"
        )
    for name, shape in expected.items():
        if tuple(base[name].shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(base[name].shape)}, the configuration needs {shape}")


def config_from_files(llama_dir: str | Path, vision: dict, image_size: int) -> PefomedConfig:
    """The paper's configuration with the sizes that the LLaMA folder states; `vision` overrides the EVA ViT-g's."""
    text = LlamaConfig.from_pretrained(llama_dir)
    return PefomedConfig(
        vision_config={"model_type": "blip_2_vision_model", **vision, "image_size": image_size},
        text_config=text,
        image_token_index=text.vocab_size,
        tie_word_embeddings=text.tie_word_embeddings,
    )


def write_base(
    out_dir: str | Path, config: PefomedConfig, base: dict[str, torch.Tensor], tokenizer_dir: str | Path | None = None
) -> None:
    """Writes a base folder: config.json, safetensors, and the processor where a tokenizer is given.

    Raises:
        ValueError: if tensors are missing, unexpected or misshapen.
    """
    check_complete(base, config)
    with torch.device("meta"):
        model = PefomedForConditionalGeneration(config)
    model.load_state_dict(base, strict=not config.tie_word_embeddings, assign=True)
    model.save_pretrained(out_dir)
    if tokenizer_dir is not None:
        build_processor(AutoTokenizer.from_pretrained(tokenizer_dir), config).save_pretrained(out_dir)


def write_adapter(out_dir: str | Path, translated: Translated, alpha: int = 16, dropout: float = 0.05) -> int:
    """Writes LoRA and projector of a checkpoint as a PEFT folder; returns the rank.

    Raises:
        ValueError: if the checkpoint lacks LoRA or the projector, or mixes ranks.
    """
    projector = {
        f"base_model.model.{name}": value for name, value in translated.base.items() if PROJECTOR in name
    }
    ranks = {value.shape[0] for name, value in translated.adapter.items() if ".lora_A." in name}
    if len(ranks) != 1 or len(projector) != 2:
        raise ValueError(
            f"an adapter needs LoRA of one rank and a projector (weight, bias); found ranks {sorted(ranks) or 'none'} "
            f"and {len(projector)} projector tensors"
        )
    rank = ranks.pop()
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.float().contiguous() for k, v in {**translated.adapter, **projector}.items()}
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
        ValueError: if files are damaged, unknown tensors occur, or the base would not be whole.
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
    base = {name: tensor for part in reversed(parts) for name, tensor in part.base.items()}
    set_aside = {name: why for part in parts for name, why in part.set_aside.items()}
    defaulted: dict[str, str] = {}
    if eva is not None or llama_dir is not None or len(base) > 2:
        defaulted = default_post_layernorm(base, config.vision_config.hidden_size)
        write_base(out / "base", config, base, llama_dir)
    if parts[0].adapter:
        write_adapter(out / "adapter", parts[0], alpha)
    used = len(base) - len(defaulted) + len(parts[0].adapter)
    return ConvertReport(used, set_aside, defaulted, [])
