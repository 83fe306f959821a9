"""Published weights in their own layouts -> this package's base folder and PEFT adapter.

    eva_vit_g.pth            flat names, 224 px position table, 40 blocks of which 39 are used
    a Hugging Face LLaMA     folder of safetensors, or of .bin files
    MiniGPT-v2 / PeFoMed     {"model": {...}}: projector, LoRA (names of peft 0.2 or >= 0.3), sometimes ln_vision

Nothing is unpickled but tensors and plain containers. Every tensor of a file is used, set aside for a stated reason,
or reported as unknown; every tensor that the network needs and no file holds is reported as missing.
"""

import pickle
import re
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

from pefomed.files import read_json
from pefomed.model.configuration import PefomedConfig

# Names inside a block of the published tower -> names inside a layer of Blip2VisionModel.
BLOCK_NAMES = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
TOWER_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
}
# What the readers raise on damaged files (found by feeding them damaged files; see tests/model/test_checkpoints.py).
_DAMAGED = (
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
_LORA = re.compile(r"^(.*\.(?:q_proj|v_proj|k_proj|o_proj))\.(lora_[AB])(?:\.default)?\.weight$")
_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)$")
_FLAT_TOWER = re.compile(r"^(cls_token|pos_embed|patch_embed\.|blocks\.|norm\.|fc_norm\.|head\.)")


@dataclass
class Translated:
    """A checkpoint under this package's names.

    Attributes:
        base: tensors of `PefomedForConditionalGeneration`.
        adapter: LoRA tensors under the names of a PEFT file.
        set_aside: tensors that are not needed, each with the reason.
        unknown: names that mean nothing to this package.
    """

    base: dict[str, torch.Tensor] = field(default_factory=dict)
    adapter: dict[str, torch.Tensor] = field(default_factory=dict)
    set_aside: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors of a .pth, .bin or .safetensors file by name; of {"model": {...}} the inner ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is truncated, holds code, is no table of tensors, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file")
    state = _load(path)
    if isinstance(state, dict) and "model" in state:
        state = state["model"]
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{path}: expected a table of tensors, or one under 'model', found {_kind(state)}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{path}: expected names and tensors, found {name!r:.60} with {_kind(tensor)}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinity; the file is damaged or its training diverged")
    return state


def _load(path: Path) -> object:
    """What a file holds, if it is made of tensors and plain containers."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except _DAMAGED as error:
        if "unsupported global" in str(error).lower():
            raise ValueError(
                f"{path}: refused: the file holds Python objects beside tensors, and loading them could run code; "
                "ask its author for safetensors, or re-save its tensors alone"
            ) from error
        raise ValueError(
            f"{path}: not a readable checkpoint, perhaps cut short ({type(error).__name__}); fetch it again"
        ) from error


def _kind(found: object) -> str:
    return "an empty one" if found == {} else type(found).__name__


def read_llama_folder(folder: str | Path) -> dict[str, torch.Tensor]:
    """Tensors of a Hugging Face LLaMA folder, in one or several safetensors or .bin files.

    Raises:
        FileNotFoundError: if the folder or a file that its index names is absent.
        ValueError: if a file is damaged.
    """
    folder = Path(folder)
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = _parts(index)
        elif (folder / name).is_file():
            parts = [name]
        else:
            continue
        state: dict[str, torch.Tensor] = {}
        for part in parts:
            state |= read_checkpoint(folder / part)
        return {f"llama_model.{key}": value for key, value in state.items()}
    raise FileNotFoundError(f"{folder}: neither model.safetensors nor pytorch_model.bin, nor an index of their parts")


def _parts(index: Path) -> list[str]:
    """File names that an index of shards lists."""
    found = read_json(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index}: expected the names of tensors and of their files under 'weight_map'")
    return sorted(set(names.values()))


def resize_position_table(table: torch.Tensor, image_size: int, patch_size: int) -> torch.Tensor:
    """Fits a learnt position table to another image size, as the published code does.

    Args:
        table: [1, 1 + g * g, d], CLS first.
        image_size: new side in pixels.
        patch_size: side of a patch in pixels.

    Returns:
        [1, 1 + n * n, d] with n = image_size / patch_size: bicubic, corners not aligned, the CLS row kept; float32
        where the size changes, since rounding to a half-precision table's own type would move the features by 1e-4.
    """
    old, new = round((table.shape[1] - 1) ** 0.5), image_size // patch_size
    if old * old != table.shape[1] - 1:
        raise ValueError(f"a position table of {table.shape[1]} rows is not one CLS row and a square grid")
    if old == new:
        return table
    grid = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1].float(), grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def translate(state: dict[str, torch.Tensor], config: PefomedConfig) -> Translated:
    """Renames a published state dict; a flat one is taken for the vision tower's.

    Raises:
        ValueError: if two names of the state dict mean the same tensor.
    """
    out = Translated()
    for name, tensor in state.items():
        key = name.removeprefix("module.")
        key = f"visual_encoder.{key}" if _FLAT_TOWER.match(key) else key
        if key.startswith("visual_encoder."):
            _translate_tower(name, key.removeprefix("visual_encoder."), tensor, config, out)
        elif key.startswith("llama_model."):
            _translate_llama(name, key.removeprefix("llama_model."), tensor, out)
        elif key in ("llama_proj.weight", "llama_proj.bias"):
            out.base[f"model.multi_modal_projector.{key.removeprefix('llama_proj.')}"] = tensor
        elif key in ("ln_vision.weight", "ln_vision.bias"):
            out.base[f"model.vision_tower.post_layernorm.{key.removeprefix('ln_vision.')}"] = tensor
        else:
            out.unknown.append(name)
    if len(out.base) + len(out.adapter) + len(out.set_aside) + len(out.unknown) != len(state):
        raise ValueError("two names of the checkpoint mean the same tensor, so that one would be lost; remove one")
    _join_qkv_biases(out)
    return out


def _translate_tower(name: str, key: str, tensor: torch.Tensor, config: PefomedConfig, out: Translated) -> None:
    vision = config.vision_config
    if key == "pos_embed":
        tensor = resize_position_table(tensor, vision.image_size, vision.patch_size)
    if key in TOWER_NAMES:
        out.base[f"model.vision_tower.{TOWER_NAMES[key]}"] = tensor
        return
    if key.split(".")[0] in ("norm", "fc_norm", "head"):
        out.set_aside[name] = "the published model uses no norm and no head behind the tower's blocks"
        return
    block = _BLOCK.match(key)
    if block is None:
        out.unknown.append(name)
        return
    number, rest = int(block[1]), block[2]
    if number >= vision.num_hidden_layers:
        out.set_aside[name] = f"the published model uses {vision.num_hidden_layers} blocks of the tower"
        return
    part, _, kind = rest.rpartition(".")
    if rest in ("attn.q_bias", "attn.v_bias"):
        out.base[f"model.vision_tower.encoder.layers.{number}.{rest}"] = tensor
    elif part in BLOCK_NAMES:
        out.base[f"model.vision_tower.encoder.layers.{number}.{BLOCK_NAMES[part]}.{kind}"] = tensor
    else:
        out.unknown.append(name)


def _join_qkv_biases(out: Translated) -> None:
    """q_bias and v_bias of a block become one qkv bias with zeros for k, as Blip2VisionModel keeps it."""
    for q_name in [name for name in out.base if name.endswith(".attn.q_bias")]:
        v_name = q_name.replace("q_bias", "v_bias")
        if v_name not in out.base:
            continue
        q_bias, v_bias = out.base.pop(q_name), out.base.pop(v_name)
        joined = torch.cat([q_bias, torch.zeros_like(v_bias), v_bias])
        out.base[q_name.replace(".attn.q_bias", ".self_attn.qkv.bias")] = joined


def _translate_llama(name: str, key: str, tensor: torch.Tensor, out: Translated) -> None:
    key = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
    if key.endswith("rotary_emb.inv_freq"):
        out.set_aside[name] = "rotary frequencies are computed from the configuration"
        return
    lora = _LORA.match(key)
    if lora:
        inner = lora[1].removeprefix("model.")
        out.adapter[f"base_model.model.model.language_model.{inner}.{lora[2]}.weight"] = tensor
    elif key in ("lm_head.weight", "lm_head.0.weight"):
        out.base["lm_head.weight"] = tensor
    elif key.startswith("model."):
        out.base[f"model.language_model.{key.removeprefix('model.')}"] = tensor
    else:
        out.unknown.append(name)
