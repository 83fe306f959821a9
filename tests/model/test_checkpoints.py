"""Published layouts to base and adapter: the same network comes out, and whatever is wrong with a file is said."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoProcessor

from pefomed.model import PefomedConfig, PefomedForConditionalGeneration
from pefomed.model.adapters import fresh_adapter, load_adapter
from pefomed.model.checkpoints import read_checkpoint, read_llama_folder, resize_position_table, translate
from pefomed.model.convert import config_from_files, convert

LAYER = "model.language_model.layers"


# --- a network, and its files in the published names ----------------------------------------------


def published_tower(model: PefomedForConditionalGeneration, table: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tower flat, with a table for smaller pictures, a third block, and the unused norm and head."""
    own = model.model.vision_tower.state_dict()
    tower = {
        "cls_token": own["embeddings.class_embedding"],
        "pos_embed": table,
        "patch_embed.proj.weight": own["embeddings.patch_embedding.weight"],
        "patch_embed.proj.bias": own["embeddings.patch_embedding.bias"],
    }
    for block in range(3):
        layer = f"encoder.layers.{min(block, 1)}"
        q_bias, k_bias, v_bias = own[f"{layer}.self_attn.qkv.bias"].chunk(3)
        assert not k_bias.any()
        tower |= {
            f"blocks.{block}.attn.qkv.weight": own[f"{layer}.self_attn.qkv.weight"],
            f"blocks.{block}.attn.q_bias": q_bias,
            f"blocks.{block}.attn.v_bias": v_bias,
        }
        for kind in ("weight", "bias"):
            tower |= {
                f"blocks.{block}.norm1.{kind}": own[f"{layer}.layer_norm1.{kind}"],
                f"blocks.{block}.norm2.{kind}": own[f"{layer}.layer_norm2.{kind}"],
                f"blocks.{block}.attn.proj.{kind}": own[f"{layer}.self_attn.projection.{kind}"],
                f"blocks.{block}.mlp.fc1.{kind}": own[f"{layer}.mlp.fc1.{kind}"],
                f"blocks.{block}.mlp.fc2.{kind}": own[f"{layer}.mlp.fc2.{kind}"],
            }
    width = own["post_layernorm.weight"].numel()
    tower |= {"norm.weight": torch.ones(width), "norm.bias": torch.ones(width), "head.weight": torch.ones(5, width)}
    return {name: tensor.clone() for name, tensor in tower.items()}


def published_llama(model: PefomedForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The language model as transformers saves a LlamaForCausalLM."""
    llama = {f"model.{name}": tensor.clone() for name, tensor in model.model.language_model.state_dict().items()}
    return {**llama, "lm_head.weight": model.lm_head.weight.detach().clone()}


def published_checkpoint(adapted: PeftModel, default: str = "", ln_vision: bool = True) -> dict[str, torch.Tensor]:
    """What MiniGPT-v2 and PeFoMed save: projector, LoRA, rotary buffers, sometimes ln_vision."""
    weights = {name: tensor.detach().clone() for name, tensor in adapted.state_dict().items()}
    out = {}
    for name, tensor in weights.items():
        if ".lora_" in name:
            inner = name.removeprefix("base_model.model.model.language_model.").replace(".default.", default + ".")
            out[f"llama_model.base_model.model.model.{inner}"] = tensor
        elif "modules_to_save" in name:
            out[f"llama_proj.{name.rpartition('.')[2]}"] = tensor
        elif ln_vision and "post_layernorm" in name:
            out[f"ln_vision.{name.rpartition('.')[2]}"] = tensor
    for layer in (0, 1):
        out[f"llama_model.base_model.model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    return out


class Published:
    """One network with an adapter, and ways to write it down in the published layouts."""

    def __init__(self, config, make_model, make_tokenizer, logits_of, ln_vision: bool = True):
        self.config, self.tokenizer = config, make_tokenizer()
        model = make_model(config, seed=3)
        self.table = torch.randn(1, 1 + 2 * 2, 32, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            for layer in model.model.vision_tower.encoder.layers:
                layer.self_attn.qkv.bias[32:64] = 0
            grid = self.table[:, 1:].reshape(1, 2, 2, 32).permute(0, 3, 1, 2)
            grid = F.interpolate(grid, size=(4, 4), mode="bicubic", align_corners=False)
            table = torch.cat([self.table[:, :1], grid.permute(0, 2, 3, 1).reshape(1, 16, 32)], dim=1)
            model.model.vision_tower.embeddings.position_embedding.copy_(table)
            if not ln_vision:
                model.model.vision_tower.post_layernorm.weight.fill_(1)
                model.model.vision_tower.post_layernorm.bias.fill_(0)
        self.tower = published_tower(model, self.table)
        self.llama = published_llama(model)
        adapted = fresh_adapter(model, r=4, alpha=16, dropout=0.0).eval()
        with torch.no_grad():
            for index, parameter in enumerate(p for p in adapted.parameters() if p.requires_grad):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) * 0.2)
        self.adapted, self.logits = adapted, logits_of(adapted)

    def write_eva(self, folder: Path, prefix: str = "") -> Path:
        torch.save({prefix + name: tensor for name, tensor in self.tower.items()}, folder / "eva_vit_g.pth")
        return folder / "eva_vit_g.pth"

    def write_checkpoint(self, folder: Path, prefix: str = "", **changes) -> Path:
        state = {prefix + name: tensor for name, tensor in published_checkpoint(self.adapted, **changes).items()}
        torch.save({"model": state, "optimizer": {"step": 3}, "config": {"run": {"lr": 1e-5}}}, folder / "c.pth")
        return folder / "c.pth"

    def write_llama(self, folder: Path, layout: str = "safetensors") -> Path:
        folder = folder / "llama"
        folder.mkdir()
        self.config.text_config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        names = sorted(self.llama)
        shards = [names[::2], names[1::2]] if "sharded" in layout else [names]
        binary = "bin" in layout
        stem, ending, save = ("pytorch_model", "bin", torch.save) if binary else ("model", "safetensors", save_file)
        index = {}
        for number, part in enumerate(shards, start=1):
            name = f"{stem}-{number:05d}-of-00002.{ending}" if len(shards) > 1 else f"{stem}.{ending}"
            tensors = {key: self.llama[key] for key in part}
            if binary:  # files of older versions hold this buffer
                tensors[f"model.layers.{number - 1}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
            save(tensors, folder / name)
            index |= dict.fromkeys(tensors, name)
        if len(shards) > 1:
            (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": index}))
        return folder


@pytest.fixture(scope="session")
def published(config, make_model, make_tokenizer, logits_of) -> Published:
    return Published(config, make_model, make_tokenizer, logits_of)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def converted_logits(out: Path, logits_of) -> torch.Tensor:
    base = PefomedForConditionalGeneration.from_pretrained(out / "base").eval()
    return logits_of(load_adapter(base, out / "adapter", trainable=False).eval())


# --- the same network comes out -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "default", "prefix", "ln_vision"),
    [
        ("safetensors", "", "", True),
        ("safetensors", ".default", "", False),
        ("sharded safetensors", "", "module.", True),
        ("bin", ".default", "module.", True),
        ("sharded bin", "", "", False),
    ],
)
def test_converted_files_give_the_logits_of_the_network_that_wrote_them(
    config, make_model, make_tokenizer, logits_of, processor, tmp_path, layout, default, prefix, ln_vision
):
    published = Published(config, make_model, make_tokenizer, logits_of, ln_vision)
    eva = published.write_eva(tmp_path, prefix)
    llama = published.write_llama(tmp_path, layout)
    checkpoint = published.write_checkpoint(tmp_path, prefix, default=default, ln_vision=ln_vision)
    out = tmp_path / "new" / "out"
    stated = config_from_files(llama, published.config.vision_config.to_dict(), image_size=56)
    report = convert(checkpoint, out, stated, eva=eva, llama_dir=llama)
    assert torch.equal(converted_logits(out, logits_of), published.logits)
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "base"]
    assert not list(out.rglob("*.bin")) and not list(out.rglob("*.pth"))
    again = AutoProcessor.from_pretrained(out / "base")
    prompt = "[INST] <Img><ImageHere></Img> [vqa] which organ? [/INST]"
    assert again.encode(prompt, "the head") == processor.encode(prompt, "the head")
    norm = {f"model.vision_tower.post_layernorm.{kind}" for kind in ("weight", "bias")}
    assert set(report.defaulted) == (set() if ln_vision else norm)
    assert report.unknown == []


def test_the_adapter_is_bound_to_the_base_that_was_converted_with_it(published, config, make_model, tmp_path):
    eva, llama = published.write_eva(tmp_path), published.write_llama(tmp_path)
    convert(published.write_checkpoint(tmp_path), tmp_path / "out", config, eva=eva, llama_dir=llama)
    with pytest.raises(ValueError, match="this adapter was trained on the base"):
        load_adapter(make_model(config, seed=1), tmp_path / "out" / "adapter", trainable=False)


def test_the_report_names_everything_that_was_set_aside(published, config, tmp_path):
    eva, llama = published.write_eva(tmp_path), published.write_llama(tmp_path, "bin")
    checkpoint = published.write_checkpoint(tmp_path, ln_vision=False)
    report = convert(checkpoint, tmp_path / "out", config, eva=eva, llama_dir=llama)
    third_block = {name for name in published.tower if name.startswith("blocks.2.")}
    tail = {"norm.weight", "norm.bias", "head.weight"}
    rotary = {f"llama_model.base_model.model.model.layers.{n}.self_attn.rotary_emb.inv_freq" for n in (0, 1)}
    old_rotary = {"llama_model.model.layers.0.self_attn.rotary_emb.inv_freq"}
    assert len(third_block) == 13
    assert set(report.set_aside) == third_block | tail | rotary | old_rotary
    read = len(published.tower) + len(published.llama) + 1 + len(published_checkpoint(published.adapted, "", False))
    joined = 2  # in each block, two biases become one
    assert report.used + len(report.set_aside) + joined == read
    text = str(report)
    assert "uses 2 blocks" in text and "rotary" in text and "ln_vision is in no file: identity" in text


def test_a_whole_network_in_one_file_needs_no_other(published, config, logits_of, tmp_path):
    state = {f"visual_encoder.{name}": tensor for name, tensor in published.tower.items()}
    for name, tensor in published.llama.items():
        name = name.replace("lm_head.weight", "lm_head.0.weight")
        name = name.replace("q_proj.weight", "q_proj.base_layer.weight")
        state[f"llama_model.base_model.model.{name}"] = tensor
    state |= published_checkpoint(published.adapted)
    torch.save({"model": state}, tmp_path / "whole.pth")
    convert(tmp_path / "whole.pth", tmp_path / "out", config)
    assert torch.equal(converted_logits(tmp_path / "out", logits_of), published.logits)


def test_the_checkpoint_goes_before_the_other_files(published, config, tmp_path):
    state = {
        **published_checkpoint(published.adapted),
        "llama_model.lm_head.weight": published.llama["lm_head.weight"],
    }
    torch.save({"model": state}, tmp_path / "c.pth")
    published.llama = {**published.llama, "lm_head.weight": torch.zeros(480, 32)}
    try:
        llama = published.write_llama(tmp_path)
    finally:
        published.llama["lm_head.weight"] = state["llama_model.lm_head.weight"]
    report = convert(tmp_path / "c.pth", tmp_path / "out", config, eva=published.write_eva(tmp_path), llama_dir=llama)
    base = PefomedForConditionalGeneration.from_pretrained(tmp_path / "out" / "base")
    assert torch.equal(base.lm_head.weight, published.llama["lm_head.weight"])
    assert "earlier file" in report.set_aside["lm_head.weight"]


def test_an_adapter_alone(published, config, logits_of, tmp_path):
    report = convert(published.write_checkpoint(tmp_path), tmp_path / "out", config)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["adapter"]
    assert "belongs to the base" in report.set_aside["model.vision_tower.post_layernorm.weight"]
    assert report.used == 10
    base = published.adapted.get_base_model()
    stored = read_checkpoint(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    projector = base.model.multi_modal_projector.modules_to_save.default
    assert torch.equal(stored["base_model.model.model.multi_modal_projector.bias"], projector.bias)


def test_a_base_alone(published, config, tmp_path):
    state = {f"visual_encoder.{name}": tensor for name, tensor in published.tower.items()}
    state |= {f"llama_model.{name}": tensor for name, tensor in published.llama.items()}
    state |= {n: t for n, t in published_checkpoint(published.adapted).items() if n.startswith("llama_proj")}
    save_file(state, tmp_path / "base.safetensors")
    convert(tmp_path / "base.safetensors", tmp_path / "out", config)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["base"]


def test_a_language_model_with_a_tied_head(published, config, logits_of, tmp_path):
    tied = PefomedConfig.from_dict({**config.to_dict(), "tie_word_embeddings": True})
    state = {f"visual_encoder.{name}": tensor for name, tensor in published.tower.items()}
    state |= {f"llama_model.{name}": tensor for name, tensor in published.llama.items() if "lm_head" not in name}
    state |= published_checkpoint(published.adapted)
    torch.save(state, tmp_path / "tied.pth")
    convert(tmp_path / "tied.pth", tmp_path / "out", tied)
    base = PefomedForConditionalGeneration.from_pretrained(tmp_path / "out" / "base")
    assert base.lm_head.weight is base.model.language_model.embed_tokens.weight
    assert torch.equal(base.lm_head.weight, published.llama["model.embed_tokens.weight"])


def test_half_precision_files_stay_half(published, config, tmp_path):
    state = {f"visual_encoder.{name}": tensor.half() for name, tensor in published.tower.items()}
    state |= {f"llama_model.{name}": tensor.half() for name, tensor in published.llama.items()}
    state |= published_checkpoint(published.adapted)
    torch.save(state, tmp_path / "half.pth")
    convert(tmp_path / "half.pth", tmp_path / "out", config)
    stored = read_checkpoint(tmp_path / "out" / "base" / "model.safetensors")
    assert stored["model.language_model.embed_tokens.weight"].dtype == torch.float16
    assert stored["model.vision_tower.encoder.layers.0.self_attn.qkv.bias"].dtype == torch.float16
    assert config.dtype != torch.float16
    base = PefomedForConditionalGeneration.from_pretrained(tmp_path / "out" / "base", dtype=torch.bfloat16)
    load_adapter(base, tmp_path / "out" / "adapter", trainable=False)


def test_a_table_of_the_right_size_is_left_alone_and_a_crooked_one_is_refused():
    table = torch.randn(1, 17, 8)
    assert resize_position_table(table, 56, 14) is table
    resized = resize_position_table(table, 112, 14)
    assert resized.shape == (1, 65, 8)
    assert torch.equal(resized[:, 0], table[:, 0])
    with pytest.raises(ValueError, match="a position table of 16 rows is not one CLS row and a square grid"):
        resize_position_table(table[:, :16], 112, 14)


# --- what is refused ------------------------------------------------------------------------------


def refused(match: str, checkpoint: Path, config, **arguments) -> None:
    """`convert` raises one clear line and leaves nothing behind."""
    out = checkpoint.parent / "refused"
    with pytest.raises(ValueError, match=match) as caught:
        convert(checkpoint, out, config, **arguments)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_an_unknown_tensor_is_refused(published, config, tmp_path):
    state = {**published_checkpoint(published.adapted), "Qformer.bert.weight": torch.ones(2)}
    torch.save({"model": state}, tmp_path / "c.pth")
    refused("1 tensors mean nothing to this package: Qformer.bert.weight", tmp_path / "c.pth", config)
    for name in ("blocks.x", "blocks.0.attn.gamma_1", "blocks.0.attn.rel_pos", "patch_embed.norm.weight"):
        assert translate({name: torch.ones(1)}, config).unknown == [name]


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("tower", "blocks.1.mlp.fc2.bias", r"whole base: 1 missing \(.*layers\.1\.mlp\.fc2\.bias\)"),
        ("tower", "pos_embed", r"1 missing \(model\.vision_tower\.embeddings\.position_embedding\)"),
        ("tower", "blocks.0.attn.q_bias", r"1 missing .*qkv\.bias\), 1 unexpected"),
        ("llama", "model.layers.0.mlp.up_proj.weight", r"1 missing .*layers\.0\.mlp\.up_proj\.weight"),
        ("llama", "lm_head.weight", r"1 missing \(lm_head\.weight\)"),
    ],
)
def test_a_missing_tensor_of_the_base_is_refused(published, config, tmp_path, part, name, message):
    checkpoint = published.write_checkpoint(tmp_path)
    kept = getattr(published, part)
    setattr(published, part, {key: tensor for key, tensor in kept.items() if key != name})
    try:
        eva, llama = published.write_eva(tmp_path), published.write_llama(tmp_path)
    finally:
        setattr(published, part, kept)
    refused(message, checkpoint, config, eva=eva, llama_dir=llama)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama_proj.bias", "LoRA of one rank and a projector"),
        ("llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight", "whole adapter: 1 missing"),
        ("llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "whole adapter: 1 missing"),
    ],
)
def test_a_missing_tensor_of_the_adapter_is_refused(published, config, tmp_path, name, message):
    state = published_checkpoint(published.adapted)
    del state[name]
    torch.save({"model": state}, tmp_path / "c.pth")
    refused(message, tmp_path / "c.pth", config)


def test_a_misshapen_tensor_is_refused(published, config, tmp_path):
    state = published_checkpoint(published.adapted)
    torch.save({"model": {**state, "llama_proj.weight": torch.ones(32, 64)}}, tmp_path / "c.pth")
    message = r"multi_modal_projector\.weight has the shape \(32, 64\), the configuration needs \(32, 128\)"
    refused(message, tmp_path / "c.pth", config)
    kept = published.llama["model.norm.weight"]
    published.llama["model.norm.weight"] = torch.ones(31)
    try:
        eva, llama = published.write_eva(tmp_path), published.write_llama(tmp_path)
    finally:
        published.llama["model.norm.weight"] = kept
    checkpoint = published.write_checkpoint(tmp_path)
    message = r"norm\.weight has the shape \(31,\), the configuration needs \(32,\)"
    refused(message, checkpoint, config, eva=eva, llama_dir=llama)


def test_mixed_ranks_are_refused(published, config, tmp_path):
    state = published_checkpoint(published.adapted)
    name = "llama_model.base_model.model.model.layers.1.self_attn.q_proj.lora_{}.weight"
    state |= {name.format("A"): torch.ones(8, 32), name.format("B"): torch.ones(32, 8)}
    torch.save({"model": state}, tmp_path / "c.pth")
    refused(r"LoRA of one rank and a projector \(weight, bias\); found ranks \[4, 8\]", tmp_path / "c.pth", config)


def test_two_names_for_one_tensor_are_refused(published, config, tmp_path):
    state = {**published_checkpoint(published.adapted), **published_checkpoint(published.adapted, ".default")}
    torch.save({"model": state}, tmp_path / "c.pth")
    refused("two names of the checkpoint mean the same tensor", tmp_path / "c.pth", config)


def test_a_checkpoint_of_a_projector_alone_is_refused(published, config, tmp_path):
    state = {n: t for n, t in published_checkpoint(published.adapted).items() if n.startswith("llama_proj")}
    torch.save({"model": state}, tmp_path / "c.pth")
    refused("holds neither LoRA nor a tower or language model", tmp_path / "c.pth", config)


@pytest.mark.parametrize("folder", ["base", "adapter"])
def test_an_existing_output_is_not_overwritten(published, config, tmp_path, folder):
    (tmp_path / "out" / folder).mkdir(parents=True)
    (tmp_path / "out" / folder / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{folder}: already there; choose another output folder"):
        convert(published.write_checkpoint(tmp_path), tmp_path / "out", config)
    assert files_below(tmp_path / "out") == [folder, f"{folder}/mine.txt"]


@pytest.mark.parametrize("at", ["save_pretrained", "write_adapter"])
def test_a_failed_conversion_leaves_nothing_half_written(published, config, tmp_path, monkeypatch, at):
    eva, llama = published.write_eva(tmp_path), published.write_llama(tmp_path)
    checkpoint = published.write_checkpoint(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")

    def disk_full(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        if at == "write_adapter":
            patch.setattr("pefomed.model.convert.write_adapter", disk_full)
        else:
            patch.setattr("pefomed.model.processing.PefomedProcessor.save_pretrained", disk_full)
        with pytest.raises(OSError, match="no space left"):
            convert(checkpoint, tmp_path / "out", config, eva=eva, llama_dir=llama)
    assert files_below(tmp_path / "out") == ["mine.txt"]
    convert(checkpoint, tmp_path / "out", config, eva=eva, llama_dir=llama)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["adapter", "base", "mine.txt"]


def test_leftovers_of_a_killed_conversion_do_no_harm(published, config, tmp_path):
    (tmp_path / "out" / ".convert" / "base").mkdir(parents=True)
    (tmp_path / "out" / ".convert" / "base" / "model.safetensors").write_text("half of it")
    convert(published.write_checkpoint(tmp_path), tmp_path / "out", config)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["adapter"]


# --- damaged and malicious files ------------------------------------------------------------------


class Evil:
    """Unpickled, it would make a file."""

    def __init__(self, target: Path, command):
        self.target, self.command = target, command

    def __reduce__(self):
        return self.command, (str(self.target), os.O_CREAT) if self.command is os.open else (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("command", [os.open, os.mkdir, Path.touch])
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_not_run(config, tmp_path, form, command):
    target, file = tmp_path / "made_by_the_checkpoint", tmp_path / "evil.pth"
    state = {"model": {"llama_proj.weight": torch.ones(2)}, "extra": Evil(target, command)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(Evil(target, command), protocol=2))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    refused(r"evil\.pth: refused: the file holds Python objects.*could run code", file, config)
    assert not target.exists()


def test_a_language_model_with_code_in_it_is_refused(published, config, tmp_path):
    target = tmp_path / "made_by_the_checkpoint"
    llama = published.write_llama(tmp_path, "bin")
    torch.save({"model.norm.weight": Evil(target, os.mkdir)}, llama / "pytorch_model.bin")
    refused(r"pytorch_model\.bin: refused", published.write_checkpoint(tmp_path), config, llama_dir=llama)
    assert not target.exists()


@pytest.mark.parametrize("ending", ["pth", "bin", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK", b"hello, this is a text file\n", b"\x80\x02", b"{}", bytes(64)])
def test_files_that_are_no_checkpoints_are_refused(config, tmp_path, ending, content):
    file = tmp_path / f"file.{ending}"
    file.write_bytes(content)
    refused(rf"file\.{ending}: not a readable checkpoint, perhaps cut short", file, config)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("ending", ["pth", "legacy.pth", "safetensors"])
def test_truncated_files_are_refused(published, config, tmp_path, ending, share):
    file, state = tmp_path / f"file.{ending}", published_checkpoint(published.adapted)
    if ending == "safetensors":
        save_file(state, file)
    else:
        torch.save({"model": state}, file, _use_new_zipfile_serialization=ending == "pth")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    refused(r"not a readable checkpoint, perhaps cut short \(\w+\); fetch it again", file, config)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [True, False])
def test_files_with_flipped_bytes_are_read_or_refused_in_one_line(tmp_path, legacy):
    file = tmp_path / "file.pth"
    state = {"model": {f"llama_proj.{number}": torch.ones(2, 3) for number in range(3)}}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    data = file.read_bytes()
    generator = torch.Generator().manual_seed(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(150):
        damaged = bytearray(data)
        for place in torch.randint(len(data), (10,), generator=generator).tolist():
            damaged[place] = int(torch.randint(256, (1,), generator=generator))
        file.write_bytes(damaged)
        try:
            assert all(isinstance(tensor, torch.Tensor) for tensor in read_checkpoint(file).values())
            outcomes["read"] += 1
        except ValueError as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": 3}, "expected a table of tensors, or one under 'model', found int"),
        ({"model": {}}, "expected a table of tensors, or one under 'model', found an empty one"),
        ({}, "found an empty one"),
        ([torch.ones(2)], "found list"),
        (torch.ones(2), "found Tensor"),
        ({"model": {"llama_proj.weight": "text"}}, "expected names and tensors, found 'llama_proj.weight' with str"),
        ({"model": {3: torch.ones(2)}}, "expected names and tensors, found 3 with Tensor"),
        ({"epoch": 4, "llama_proj.bias": torch.ones(2)}, "expected names and tensors, found 'epoch' with int"),
    ],
)
def test_files_that_hold_something_else_are_refused(config, tmp_path, content, message):
    torch.save(content, tmp_path / "file.pth")
    refused(message, tmp_path / "file.pth", config)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_by_name(published, config, tmp_path, value):
    state = published_checkpoint(published.adapted)
    state["llama_proj.bias"][5] = value
    torch.save({"model": state}, tmp_path / "file.pth")
    refused(r"file\.pth: llama_proj\.bias holds NaN or infinity", tmp_path / "file.pth", config)


def test_missing_files_are_named(published, config, tmp_path):
    checkpoint = published.write_checkpoint(tmp_path)
    nowhere = tmp_path / "nowhere.pth"
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such checkpoint file"):
        convert(nowhere, tmp_path / "out", config)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such checkpoint file"):
        convert(checkpoint, tmp_path / "out", config, eva=nowhere)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        convert(checkpoint, tmp_path / "out", config, llama_dir=tmp_path / "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_a_damaged_index_of_shards_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json: "):
        read_llama_folder(tmp_path)


def test_a_missing_shard_is_named(published, config, tmp_path):
    llama = published.write_llama(tmp_path, "sharded safetensors")
    (llama / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002\.safetensors: no such checkpoint file"):
        read_llama_folder(llama)


def test_a_language_model_without_its_tokenizer_is_refused(published, config, tmp_path):
    eva, llama = published.write_eva(tmp_path), published.write_llama(tmp_path)
    for path in llama.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"llama: neither tokenizer\.json nor tokenizer\.model"):
        convert(published.write_checkpoint(tmp_path), tmp_path / "out", config, eva=eva, llama_dir=llama)
    assert not (tmp_path / "out").exists()
