"""What trains on top of the frozen base: LoRA on the language model's q_proj and v_proj, and the projector.

An adapter is a PEFT folder (adapter_config.json, adapter_model.safetensors); the projector travels in it as a module
saved whole. `adapter_origin.json` beside it holds the fingerprint of the base it was trained on.
"""

import hashlib
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError

from pefomed.files import read_json, sha256_file, write_json
from pefomed.model.modeling import PefomedForConditionalGeneration

PROJECTOR = "multi_modal_projector"
ORIGIN_FILE = "adapter_origin.json"


def lora_config(r: int = 64, alpha: int = 16, dropout: float = 0.05) -> LoraConfig:
    """LoRA on every q_proj and v_proj of the language model, none in the vision tower, projector trained whole.

    Args:
        r: rank (paper: 64).
        alpha: scaling numerator; what LoRA adds is multiplied by alpha / r (published code: 16 / 64).
        dropout: on the input of LoRA's first matrix (published code: 0.05, whatever its configuration says).
    """
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        bias="none",
        target_modules=r".*language_model\..*\.(q_proj|v_proj)",
        modules_to_save=[PROJECTOR],
    )


def fresh_adapter(model: PefomedForConditionalGeneration, r: int, alpha: int, dropout: float) -> PeftModel:
    """The base with a new adapter; LoRA starts as no change at all, the projector as the base's."""
    with warnings.catch_warnings():
        # peft asks transformers for a property that transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        return get_peft_model(model, lora_config(r, alpha, dropout))


def base_fingerprint(model: PefomedForConditionalGeneration) -> str:
    """sha256 over names, shapes and a sample of the values of the frozen base's weights.

    Every tensor counts, by its shape and by up to 1,024 evenly spaced values in float16, so that a 7 B base is
    fingerprinted in seconds and the same base loaded as float32, bfloat16-free, or float16 gives the same string.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if PROJECTOR in name or ".lora_" in name:
            continue
        name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 1024)][:1024].to(device="cpu", dtype=torch.float16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def write_origin(folder: str | Path, fingerprint: str, init_from: dict | None = None) -> None:
    """Records beside an adapter which base it belongs to and which adapter it started from."""
    weights = Path(folder) / "adapter_model.safetensors"
    origin = {"base_fingerprint": fingerprint, "adapter_sha256": sha256_file(weights), "init_from": init_from}
    write_json(Path(folder) / ORIGIN_FILE, origin)


def find_adapter(path: str | Path) -> Path:
    """The adapter folder of a run folder, or the folder itself.

    Raises:
        FileNotFoundError: if neither holds adapter_config.json.
    """
    for folder in (Path(path) / "adapter", Path(path)):
        if (folder / "adapter_config.json").is_file():
            return folder
    raise FileNotFoundError(f"{path}: neither a run folder with adapter/ nor an adapter (no adapter_config.json)")


def load_adapter(model: PefomedForConditionalGeneration, path: str | Path, trainable: bool) -> PeftModel:
    """Puts a saved adapter on a base.

    Args:
        model: the base.
        path: a run folder or an adapter folder.
        trainable: whether LoRA and projector are to be trained further.

    Raises:
        FileNotFoundError: if there is no adapter.
        ValueError: if the adapter was trained on another base, does not fit, is damaged, or holds NaN.
    """
    folder = find_adapter(path)
    origin = read_json(folder / ORIGIN_FILE) if (folder / ORIGIN_FILE).is_file() else {}
    found, expected = base_fingerprint(model), origin.get("base_fingerprint")
    if expected is not None and expected != found:
        raise ValueError(
            f"{folder}: this adapter was trained on the base {expected[:12]}, the loaded base is {found[:12]}; "
            "load it on its own base"
        )
    try:
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except (RuntimeError, SafetensorError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{folder}: the adapter is damaged or does not fit this base ({reason})") from error
    for name, parameter in adapted.named_parameters():
        if (".lora_" in name or PROJECTOR in name) and not torch.isfinite(parameter).all():
            raise ValueError(f"{folder}: {name} holds NaN or infinity; the training that wrote it diverged")
    return adapted


def trainable_table(model: PeftModel) -> dict[str, int]:
    """Trainable parameters by kind: {"lora": n, "projector": n, "total": n}.

    Raises:
        ValueError: if anything but LoRA and the projector would train, or if one of the two would not.
    """
    counts = {"lora": 0, "projector": 0}
    strangers = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if ".lora_" in name:
            counts["lora"] += parameter.numel()
        elif PROJECTOR in name:
            counts["projector"] += parameter.numel()
        else:
            strangers.append(name)
    if strangers:
        raise ValueError(f"only LoRA and the projector may train, but so would {', '.join(strangers[:3])}")
    if not counts["lora"] or not counts["projector"]:
        raise ValueError(f"LoRA and projector must both train, found {counts}")
    return {**counts, "total": counts["lora"] + counts["projector"]}
