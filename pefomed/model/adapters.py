"""What trains on top of the frozen base: LoRA on the language model's q_proj and v_proj, and the projector.

An adapter is a PEFT folder (adapter_config.json, adapter_model.safetensors); the projector travels in it as a module
saved whole. `adapter_origin.json` beside it holds the fingerprint of the base it was trained on.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule

from pefomed.files import read_json, sha256_file, write_json
from pefomed.model.modeling import PefomedForConditionalGeneration

PROJECTOR = "multi_modal_projector"
WEIGHTS_FILE = "adapter_model.safetensors"
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
    with _without_peft_warnings():
        return get_peft_model(model, lora_config(r, alpha, dropout))


@contextlib.contextmanager
def _without_peft_warnings() -> Iterator[None]:
    """peft asks transformers for a property that it has renamed; what a file lacks is checked here, as an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Found missing adapter keys", category=UserWarning)
        yield


def base_fingerprint(model: PefomedForConditionalGeneration) -> str:
    """sha256 over names, shapes and a sample of the values of the frozen base's weights.

    Every tensor counts, by its shape and by up to 1,024 evenly spaced values, so that a 7 B base is fingerprinted in
    seconds. Values are rounded to bfloat16: a base stored as float16 has the same fingerprint however it is loaded, as
    float32 on the CPU, bfloat16 on a GPU, or float16. An adapter on the base does not change it.
    """
    tensors = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if PROJECTOR not in name and ".lora_" not in name
    }
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 1024)][:1024].to(device="cpu", dtype=torch.bfloat16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def is_sharded(model: PeftModel) -> bool:
    """Whether FSDP2 has spread the weights over the processes, each of which then holds a part of every tensor."""
    return isinstance(model, FSDPModule)


def whole_weights(model: PeftModel) -> dict[str, torch.Tensor] | None:
    """The trained tensors of a sharded model put together; every process must call it.

    Returns:
        Tensors by parameter name on the main process and an empty dict on the others; None for a model that is whole
        anyway.
    """
    if not is_sharded(model):
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return get_model_state_dict(model, options=options)


def save_adapter(model: PeftModel, folder: str | Path, weights: dict[str, torch.Tensor] | None = None) -> None:
    """Writes an adapter as a PEFT folder that says nothing about this machine.

    peft records where the base was loaded from, in the configuration and in a model card; which base it belongs to is
    told by `adapter_origin.json` instead.

    Args:
        model: the adapted base.
        folder: made if absent.
        weights: what `whole_weights` gave, for a sharded model; None takes the model's own.
    """
    folder = Path(folder)
    model.save_pretrained(folder, state_dict=weights)
    (folder / "README.md").unlink(missing_ok=True)
    settings = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", {**settings, "base_model_name_or_path": None})


def write_origin(folder: str | Path, fingerprint: str, init_from: dict | None = None) -> None:
    """Records beside an adapter which base it belongs to and which adapter it started from."""
    weights = sha256_file(Path(folder) / WEIGHTS_FILE)
    origin = {"base_fingerprint": fingerprint, "adapter_sha256": weights, "init_from": init_from}
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
    _check_origin(folder, base_fingerprint(model))
    stored = _read_tensors(folder)
    try:
        with _without_peft_warnings():
            adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except (RuntimeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}: the adapter is damaged or does not fit this base ({reason})") from error
    # peft itself only warns of these, and leaves what is missing at its random start.
    strangers = sorted(set(get_peft_model_state_dict(adapted)) ^ set(stored))
    if strangers:
        raise ValueError(
            f"{folder}: the adapter does not fit this base: {len(strangers)} tensors are missing or have no place "
            f"({', '.join(strangers[:3])})"
        )
    return adapted


def _check_origin(folder: Path, fingerprint: str) -> None:
    """Compares base and weights with what was recorded when the adapter was written, where that was."""
    if not (folder / ORIGIN_FILE).is_file():
        return
    origin = read_json(folder / ORIGIN_FILE)
    if not isinstance(origin, dict) or not {"base_fingerprint", "adapter_sha256"} <= set(origin):
        raise ValueError(f"{folder / ORIGIN_FILE}: damaged: no fingerprint of base and adapter; copy it again")
    expected = origin["base_fingerprint"]
    if expected != fingerprint:
        raise ValueError(
            f"{folder}: this adapter was trained on the base {expected[:12]}, the loaded base is {fingerprint[:12]}; "
            "load it on its own base"
        )
    if origin["adapter_sha256"] != sha256_file(folder / WEIGHTS_FILE):
        raise ValueError(f"{folder / WEIGHTS_FILE}: damaged: not the weights that {ORIGIN_FILE} was written for")


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors; checked before peft touches the base, so that a refusal leaves it as it was."""
    read_json(folder / "adapter_config.json")
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the adapter folder is incomplete")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: the adapter is damaged, perhaps cut short ({error}); copy it again") from error
    for name, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinity; the training that wrote it diverged")
    return stored


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
