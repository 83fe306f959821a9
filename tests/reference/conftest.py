"""Numbers recorded from the published code, and this package's network holding the published code's weights.

Two records exist: `data/` beside this file (a very small network, no tokenizer), and the larger one in the shared
folder (real tokenizer, 14 training and 14 inference samples). Every listed array is compared by exactly one test file;
its last test holds the names that were compared against the names that the record lists.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

HERE = Path(__file__).parent
IMAGE_MARKER = -200


@dataclass
class Record:
    """One folder of recorded numbers.

    Attributes:
        name: as the summary calls it.
        folder: holds README.json, which lists every array, and the files.
        compared: name -> relative difference, by file.
        inputs: arrays that were put in, so that there is nothing to compare, by file.
    """

    name: str
    folder: Path
    compared: dict[str, dict[str, float]] = field(default_factory=dict)
    inputs: dict[str, set[str]] = field(default_factory=dict)
    loaded: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def json(self, file):
        return json.loads((self.folder / file).read_text(encoding="utf-8"))

    def array(self, file, name):
        if file not in self.loaded:
            self.loaded[file] = load_file(self.folder / file)
        return self.loaded[file][name]

    def input(self, file, name):
        """An array that goes into a test instead of being its result."""
        self.inputs.setdefault(file, set()).add(name)
        return self.array(file, name)

    def compared_arrays(self):
        """(relative difference, name of the array) of all that was compared so far."""
        return [
            (difference, f"{self.name}/{file}: {name}")
            for file, names in self.compared.items()
            for name, difference in names.items()
        ]

    def listed(self, file, *prefixes):
        return [name for name in self.json("README.json")["arrays"][file] if name.startswith(prefixes or "")]

    def close(self, file, name, ours, *, relative=0.0, absolute=0.0):
        """Every element within `absolute` + `relative` times the largest recorded magnitude."""
        self.against(file, name, self.array(file, name), ours, relative, absolute)

    def exact(self, file, name, ours):
        self.against(file, name, self.array(file, name), ours, 0.0, 0.0)

    def against(self, file, name, recorded, ours, relative, absolute):
        ours = np.asarray(ours.detach() if hasattr(ours, "detach") else ours)
        recorded = np.asarray(recorded)
        assert ours.shape == recorded.shape, f"{name}: {ours.shape}, recorded {recorded.shape}"
        difference = np.abs(ours.astype(np.float64) - recorded.astype(np.float64)).max(initial=0.0)
        magnitude = np.abs(recorded.astype(np.float64)).max(initial=0.0)
        assert difference <= absolute + relative * magnitude, f"{name}: off by {difference}, magnitude {magnitude}"
        self.compared.setdefault(file, {})[name] = float(difference / magnitude) if magnitude else float(difference)

    def assert_complete(self, request, owned):
        """Holds the names compared, or used as input, against those listed under the prefixes that a file owns."""
        tests = {name for name in vars(request.module) if name.startswith("test_")}
        ran = {item.originalname for item in request.session.items if item.path == request.node.path}
        if ran != tests:
            pytest.skip("only a part of this file was run")
        for file, prefixes in owned.items():
            seen = set(self.compared.get(file, {})) | self.inputs.get(file, set())
            assert {name for name in seen if name.startswith(prefixes)} == set(self.listed(file, *prefixes)), file


def kept(request, record):
    """Known to the summary at the end of the run, in whichever process the tests run (see tests/conftest.py)."""
    request.config.stash[request.config.parity_records].append(record.compared_arrays)
    return record


@pytest.fixture(scope="session")
def small_record(request):
    return kept(request, Record("reference_small", HERE / "data"))


@pytest.fixture(scope="session")
def record(request, shared):
    return kept(request, Record("reference", shared / "reference"))


@dataclass
class Converted:
    """What `pefomed convert` makes of published files: a folder with base/ and adapter/, and how to load it."""

    folder: Path
    config: object
    processor: object

    def base(self):
        import torch

        from pefomed.model import PefomedForConditionalGeneration

        return PefomedForConditionalGeneration.from_pretrained(self.folder / "base", dtype=torch.float32).eval()

    def adapted(self, adapter=None):
        """Base with adapter, in evaluation mode, LoRA and projector trainable."""
        from pefomed.model.adapters import load_adapter

        return load_adapter(self.base(), adapter or self.folder / "adapter", trainable=True).eval()

    def ids(self, recorded):
        """Recorded ids, whose image positions hold -200, as this package writes them."""
        import torch

        ids = torch.as_tensor(recorded)
        return ids.masked_fill(ids == IMAGE_MARKER, self.config.image_token_index)

    def adapter_without_dropout(self, folder, checkpoint, alpha=16):
        """The adapter of a checkpoint with the dropout of the recorded runs, which is none."""
        from pefomed.model.checkpoints import read_checkpoint, translate
        from pefomed.model.convert import write_adapter

        translated = translate(read_checkpoint(checkpoint), self.config)
        write_adapter(folder, self.config, translated, alpha=alpha, dropout=0.0)
        return folder

    def our_names(self, recorded_name, tensor):
        """(name in the base, name in an adapter file) of a published tensor; one of the two is None."""
        from pefomed.model.checkpoints import translate

        translated = translate({recorded_name: tensor}, self.config)
        return next(iter(translated.base), None), next(iter(translated.adapter), None)

    def trained_parameter(self, model, recorded_name, tensor):
        """The parameter of an adapted model that a trained published tensor became."""
        base_name, lora_name = self.our_names(recorded_name, tensor)
        if lora_name:
            return model.get_parameter(lora_name.replace(".weight", ".default.weight"))
        part, _, kind = base_name.rpartition(".")
        return model.get_parameter(f"base_model.model.{part}.modules_to_save.default.{kind}")


def _number_tokenizer(vocabulary, bos, eos, pad):
    """Reads ids written as decimal numbers, as the tokenizer of the small record did."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({str(i): i for i in range(vocabulary)}, unk_token="0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "0", "bos_token": str(bos), "eos_token": str(eos), "pad_token": str(pad)}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.fixture(scope="session")
def small(small_record, tmp_path_factory):
    """The very small network, converted from its weights under their published names."""
    from transformers import Blip2VisionConfig, LlamaConfig

    from pefomed.model import PefomedConfig
    from pefomed.model.convert import convert
    from pefomed.model.presets import build_processor

    sizes = small_record.json("README.json")["config"]
    vit, llama = sizes["vit"], sizes["llama"]
    config = PefomedConfig(
        vision_config=Blip2VisionConfig(
            image_size=sizes["image_size"],
            patch_size=vit["patch"],
            hidden_size=vit["dim"],
            intermediate_size=vit["mlp_hidden"],
            num_hidden_layers=vit["depth"],
            num_attention_heads=vit["heads"],
        ),
        text_config=LlamaConfig(
            vocab_size=llama["vocab"],
            hidden_size=llama["hidden"],
            intermediate_size=llama["intermediate"],
            num_hidden_layers=llama["layers"],
            num_attention_heads=llama["heads"],
            rms_norm_eps=llama["rms_norm_eps"],
            tie_word_embeddings=False,
        ),
        image_token_index=llama["vocab"],
    )
    folder = tmp_path_factory.mktemp("small")
    convert(small_record.folder / "weights.safetensors", folder, config, alpha=sizes["lora"]["alpha"])
    tokenizer = _number_tokenizer(llama["vocab"], sizes["bos"], sizes["eos"], sizes["pad"])
    return Converted(folder, config, build_processor(tokenizer, config))


@pytest.fixture(scope="session")
def small_model(small):
    return small.adapted()


@pytest.fixture(scope="session")
def llama_folder(record, shared, tmp_path_factory):
    """The recorded LLaMA with its tokenizer beside it, as LLaMA-2 is distributed."""
    folder = tmp_path_factory.mktemp("llama")
    for path in (record.folder / "weights" / "llama_hf").iterdir():
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(shared / "data" / "llama2_tokenizer" / "tokenizer.model", folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="session")
def checkpoint_with_ln_vision(record, tmp_path_factory):
    """The recorded checkpoint and ln_vision, which the published code saves nowhere and the record randomised."""
    import torch

    from pefomed.model.checkpoints import read_checkpoint

    weights = record.folder / "weights"
    whole = read_checkpoint(weights / "full_state.safetensors")
    state = read_checkpoint(weights / "checkpoint_0.pth")
    state |= {name: tensor for name, tensor in whole.items() if name.startswith("ln_vision")}
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pth"
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="session")
def converted_at(record, llama_folder, checkpoint_with_ln_vision, tmp_path_factory):
    """The larger network, converted from EVA, LLaMA and checkpoint files, at any image size."""
    from pefomed.model.convert import config_from_files, convert
    from pefomed.model.presets import load_base

    vit = record.json("config.json")["vit"]
    sizes = {
        "hidden_size": vit["embed_dim"],
        "intermediate_size": vit["mlp_hidden"],
        "num_hidden_layers": vit["depth"],
        "num_attention_heads": vit["num_heads"],
        "patch_size": vit["patch_size"],
        "layer_norm_eps": vit["norm_eps"],
    }

    def at(image_size):
        config = config_from_files(llama_folder, sizes, image_size)
        folder = tmp_path_factory.mktemp(f"converted{image_size}")
        eva = record.folder / "weights" / "eva_vit_112.pth"
        convert(checkpoint_with_ln_vision, folder, config, eva=eva, llama_dir=llama_folder)
        processor = load_base("paper", folder / "base")[1]
        processor.tokenizer.pad_token = record.json("config.json")["pad_token"]
        return Converted(folder, config, processor)

    return at


@pytest.fixture(scope="session")
def large(converted_at):
    return converted_at(112)


@pytest.fixture(scope="session")
def large_model(large):
    return large.adapted()


@pytest.fixture(scope="session")
def pictures(record, large):
    """Pixels [n, 3, 112, 112] of recorded pictures by name, read as the published code reads them."""
    import torch

    from pefomed.procedure import RELEASED_CODE
    from pefomed.training.collator import PixelStore

    store = PixelStore(large.processor, RELEASED_CODE)

    def pixels(*names):
        paths = [str(record.folder / "images" / name) for name in names]
        return torch.from_numpy(np.stack([store.pixels({"bytes": None, "path": path}, path) for path in paths]))

    return pixels
