"""The two scales: `tiny`, which ships inside the package, and `paper`, whose weights the user has.

Both are the same code at other sizes. A preset says how large the network is and where its base weights come from;
what trains on top (LoRA, projector) belongs to the stages in `pefomed.training.stages`.
"""

from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, Blip2VisionConfig, LlamaConfig

from pefomed.controls import IMAGE_PLACEHOLDER
from pefomed.model.configuration import PefomedConfig
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.processing import PefomedImageProcessorPil, PefomedProcessor

PRESETS = ("tiny", "paper")


def paper_config() -> PefomedConfig:
    """EVA ViT-g/14 at 448 px (39 blocks), four tokens to one, linear 5,632 -> 4,096, LLaMA-2-7B-chat (paper 3.1).

    At these sizes LoRA of rank 64 on q_proj and v_proj and the projector make exactly 56,627,200 trainable parameters.
    """
    return PefomedConfig(
        vision_config=Blip2VisionConfig(image_size=448),
        text_config=LlamaConfig(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
        ),
        image_token_index=32000,
    )


def tiny_config(vocab_size: int) -> PefomedConfig:
    """The embedded scale: 112 px, 64 patches, 16 image tokens, about 3.3 million parameters.

    Args:
        vocab_size: size of the shipped tokenizer's vocabulary, the image token not counted.
    """
    return PefomedConfig(
        vision_config=Blip2VisionConfig(
            image_size=112,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=4,
            initializer_range=0.02,
        ),
        text_config=LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        image_token_index=vocab_size,
        tie_word_embeddings=True,
    )


def build_processor(tokenizer, config: PefomedConfig) -> PefomedProcessor:
    """A processor for a tokenizer and a configuration; adds the image token and a padding token where they lack.

    Raises:
        ValueError: if the image token would not get the id that the configuration reserves for it.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    tokenizer.padding_side = "left"
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_PLACEHOLDER]})
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER)
    if image_id != config.image_token_index:
        raise ValueError(
            f"the tokenizer gives {IMAGE_PLACEHOLDER!r} the id {image_id}, the configuration reserves "
            f"{config.image_token_index}; use the tokenizer that belongs to the language model"
        )
    side = config.vision_config.image_size
    return PefomedProcessor(
        image_processor=PefomedImageProcessorPil(size={"height": side, "width": side}),
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        tokens_per_group=config.tokens_per_group,
    )


def embedded_base_folder() -> Path:
    """Folder of the tiny base that ships with the package (weights, tokenizer, manifest)."""
    return Path(str(files("pefomed.embedded") / "weights"))


def load_base(
    preset: str, base_dir: str | Path = "", dtype: torch.dtype | None = None
) -> tuple[PefomedForConditionalGeneration, PefomedProcessor]:
    """The frozen base of a preset, with its processor.

    Args:
        preset: "tiny" (shipped) or "paper".
        base_dir: folder that `pefomed convert` made; needed for "paper", and instead of the shipped base for "tiny".
        dtype: of the frozen weights; default float32 on CPU, bfloat16 on a GPU. The projector stays float32.

    Raises:
        ValueError: for an unknown preset, "paper" without `base_dir`, or weights that are damaged, incomplete or NaN.
        FileNotFoundError: if the folder lacks its configuration.
    """
    if preset not in PRESETS:
        raise ValueError(f"parameter preset must be one of {', '.join(PRESETS)}, not {preset!r}")
    if preset == "paper" and not base_dir:
        raise ValueError(
            "preset 'paper' needs base_dir: the folder that `pefomed convert` writes from EVA ViT-g, LLaMA-2-7B-chat "
            "and the MiniGPT-v2 checkpoint"
        )
    folder = Path(base_dir) if base_dir else embedded_base_folder()
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no config.json; expected a folder written by `pefomed convert`")
    if dtype is None:
        dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        model = PefomedForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        _check_whole(model, folder)
    except SafetensorError as error:
        raise ValueError(f"{folder}: the weights are damaged, perhaps cut short ({error}); copy them again") from error
    processor = build_processor(AutoTokenizer.from_pretrained(folder), model.config)
    return model.eval(), processor


def _check_whole(model: PefomedForConditionalGeneration, folder: Path) -> None:
    """transformers only warns of tensors that a file lacks, and leaves them at their random start."""
    stored: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored |= set(file.keys())
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    missing = sorted(set(dict(model.named_parameters())) - stored - tied)
    if missing:
        raise ValueError(
            f"{folder}: the base lacks {len(missing)} tensors ({', '.join(missing[:3])}); convert it again"
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"{folder}: {name} holds NaN or infinity; the base is damaged, convert it again")
