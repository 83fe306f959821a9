"""Ways of adapting one frozen base, trained alike and compared: the experiment of the book's chapter on PEFT.

    world = make_world()
    compare_methods(METHODS, world, "runs/book/peft_methods")   # a JSON for each method, whole or absent

Every method starts from the same base, sees the same questions in the same order for as many steps, and is judged by
exact match on the validation split. Killed and called again, it goes on with the first method that has no JSON.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import torch
from safetensors.torch import save
from transformers import PrinterCallback

from pefomed.data.phantoms import load_phantoms
from pefomed.files import read_json, write_bytes, write_json
from pefomed.inference.generate import answer_rows
from pefomed.metrics import exact_match
from pefomed.metrics.vqa import item_scores
from pefomed.model.modeling import PefomedModel
from pefomed.model.presets import load_base
from pefomed.model.processing import PefomedProcessor
from pefomed.peft_networks import Method, adapt, trainable_counts
from pefomed.procedure import CLEAN
from pefomed.training.collator import PixelStore
from pefomed.training.features import FeatureStore
from pefomed.training.prefix import PrefixCollator
from pefomed.training.stages import Stage, get_stage
from pefomed.training.trainer import PefomedTrainer, sft_config

UPDATE_FILE = "full_update.safetensors"  # what full fine-tuning added to each parameter that it trained

# Rates were chosen for each kind of method on phantoms of another seed, by the same measure.
_LORA = Method(name="qv_r16", label="LoRA q,v r16", rank=16, alpha=32, learning_rate=4e-3)
_STAGES = replace(_LORA, name="pefomed", label="PeFoMed: q,v, both in stage 1", stage1="both")
_FRESH = replace(_STAGES, projector_start="linear")

#: What is changed, with and without the projector.
METHODS: tuple[Method, ...] = (
    replace(_LORA, name="zero_shot", label="the base as it is", adapter="none", projector=False),
    replace(_LORA, name="projector", label="projector only", adapter="none"),
    *(
        replace(_LORA, name=f"lora_only_r{r}", label=f"LoRA only, r{r}", rank=r, alpha=2 * r, projector=False)
        for r in (1, 4, 16, 64)
    ),
    *(replace(_LORA, name=f"qv_r{r}", label=f"LoRA + projector, r{r}", rank=r, alpha=2 * r) for r in (1, 4, 16, 64)),
    replace(_LORA, name="attention_r16", label="all attention, r16", targets="attention"),
    replace(_LORA, name="linear_r16", label="all linear, r16", targets="linear"),
    replace(_LORA, name="qv_r64_alpha16", label="LoRA r64, α 16", rank=64, alpha=16),
    replace(_LORA, name="rslora_r64_alpha16", label="rsLoRA r64, α 16", adapter="rslora", rank=64, alpha=16),
    replace(_LORA, name="dora_r16", label="DoRA r16", adapter="dora"),
    replace(_LORA, name="ia3", label="IA³", adapter="ia3", projector=False, learning_rate=5e-2),
    replace(
        _LORA, name="prompt_8", label="prompt tuning, 8", adapter="prompt", rank=8, projector=False, learning_rate=5e-2
    ),
    replace(_LORA, name="full", label="full fine-tuning", adapter="full", learning_rate=1e-3),
)

#: From PeFoMed's choices to those of LLaVA with LoRA, one at a time.
LLAVA_METHODS: tuple[Method, ...] = (
    _STAGES,
    replace(_STAGES, name="all_linear", label="LoRA on all linear layers", targets="linear"),
    replace(_STAGES, name="projector_first", label="projector alone in stage 1", stage1="projector"),
    replace(_FRESH, name="fresh_projector", label="projector from scratch"),
    replace(_FRESH, name="fresh_ungrouped", label="… and no grouping", tokens_per_group=1),
    replace(_FRESH, name="fresh_ungrouped_mlp", label="… and an MLP", tokens_per_group=1, projector_start="mlp"),
    replace(
        _FRESH,
        name="llava",
        label="all of LLaVA + LoRA",
        targets="linear",
        stage1="projector",
        tokens_per_group=1,
        projector_start="mlp",
    ),
)

#: The same again with other draws, to tell how far a score moves by itself.
SEED_METHODS: tuple[Method, ...] = tuple(
    replace(method, name=f"{method.name}_seed{seed}", label=f"{method.label}, seed {seed}", seed=seed)
    for method in (*METHODS, *LLAVA_METHODS)
    if method.name in ("qv_r16", "pefomed", "fresh_projector", "llava")
    for seed in (1, 2)
)


@dataclass(frozen=True)
class World:
    """What all methods have in common.

    Attributes:
        train, captions, validation: rows; captions are for methods with a stage 1.
        stage: the recipe; each method sets its own learning rate.
        seed: of the data and of training.
        base_dir: "" for the shipped tiny base.
        features: the frozen tower's output for all pictures, made once.
    """

    train: datasets.Dataset
    captions: datasets.Dataset
    validation: list[dict]
    stage: Stage
    seed: int
    base_dir: str = ""
    features: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def plan(self) -> dict:
        """What a method's JSON records, so that results of other settings are never mixed in."""
        rows = {"questions": len(self.train), "captions": len(self.captions), "validation": len(self.validation)}
        return {**rows, "seed": self.seed, "stage": asdict(self.stage)}


def make_world(
    pictures: int = 120,
    validation_pictures: int = 120,
    captions: int = 200,
    epochs: int = 2,
    seed: int = 0,
    base_dir: str = "",
) -> World:
    """Draws the phantoms and sets the recipe; the test split is not touched.

    Args:
        pictures: training pictures with eight questions each.
        validation_pictures: with eight questions each.
        captions: training pictures of stage 1, with one caption each.
        epochs: passes over the questions.
        seed: of the data set, and of everything drawn in training.
        base_dir: folder of another base; "" for the shipped tiny one.
    """
    # Said here and not taken from the recipe, since the methods' learning rates were chosen for this batch size.
    said = {"batch_size": 16, "warmup_steps": 20, "learning_rate": 2e-3, "min_learning_rate": 2e-5}
    stage = get_stage("stage2_vqa", "tiny", epochs=epochs, shared_prefix=True, **said)
    return World(
        train=load_phantoms("train", images=pictures, seed=seed),
        captions=load_phantoms("train", "caption", images=captions, seed=seed),
        validation=list(load_phantoms("val", images=validation_pictures, seed=seed)),
        stage=stage,
        seed=seed,
        base_dir=base_dir,
    )


def compare_methods(
    methods: Sequence[Method], world: World, folder: str | Path, progress: bool = True
) -> dict[str, dict]:
    """Trains and judges every method that has no JSON yet.

    Args:
        methods: their names are the names of the files.
        world: data and recipe.
        folder: gets NAME.json for each method, and of a fully fine-tuned one its update.
        progress: whether to print a line a method.

    Returns:
        Name of each method -> what its JSON holds: the method's values, `plan`, `trainable` ({"adapter",
        "projector", "total"}), `exact_match` (as `metrics.exact_match` returns it, in per cent), `right` (1 or 0 for
        each validation question), `group` of each, `losses` (step, loss), `steps`, `seconds`.

    Raises:
        ValueError: a JSON in the folder was made with other settings.
    """
    results = {}
    for method in methods:
        path = Path(folder) / f"{method.name}.json"
        if not path.is_file():
            write_json(path, run_method(method, world, Path(folder)))
        found = read_json(path)
        if found["method"] != asdict(method) or found["plan"] != world.plan:
            raise ValueError(f"{path}: made with other settings; choose another folder, or remove it")
        results[method.name] = found
        if progress:
            score, total = found["exact_match"]["overall"], found["trainable"]["total"]
            print(f"{method.label:40s} {total:>10,} trained  {score:5.1f} %  {found['seconds']:5.1f} s", flush=True)
    return results


def run_method(method: Method, world: World, folder: Path) -> dict:
    """One method from the base to its score; see `compare_methods` for what comes back."""
    began = time.monotonic()
    base, processor = load_base("tiny", world.base_dir)
    before = {name: tensor.clone() for name, tensor in base.named_parameters()}
    torch.manual_seed(world.seed + method.seed)
    adapted, processor = adapt(method, base, processor)
    trainable = trainable_counts(adapted)
    stage = replace(world.stage, learning_rate=method.learning_rate, min_learning_rate=method.learning_rate / 100)
    store = _kept_features(world, base.model, processor)
    losses = _train(adapted, base, processor, method, stage, world, store)
    rows = _answered(adapted.eval(), processor, world, store)
    if method.adapter == "full":
        added = {name: (new - before[name]).detach() for name, new in base.named_parameters() if new.requires_grad}
        write_bytes(folder / UPDATE_FILE, save({name: tensor.contiguous() for name, tensor in added.items()}))
    return {
        "method": asdict(method),
        "plan": world.plan,
        "trainable": trainable,
        "exact_match": exact_match(rows)["exact_match"],
        "right": [int(value > 0) for value in item_scores(rows, "exact_match")],
        "group": [row["group"] for row in rows],
        "losses": losses,
        "seconds": time.monotonic() - began,
    }


def _kept_features(world: World, model: PefomedModel, processor: PefomedProcessor) -> FeatureStore:
    """The tower's output for all pictures in the groups that this model reads; encoded but once."""
    store = FeatureStore(model, PixelStore(processor, CLEAN), kept=world.features)
    for rows in (world.train, world.captions, world.validation):
        store.fill(rows, progress=False)
    width = model.config.vision_config.hidden_size * model.config.tokens_per_group
    return replace(store, kept={key: found.reshape(-1, width) for key, found in world.features.items()})


def _train(adapted, base, processor, method: Method, stage: Stage, world: World, store: FeatureStore) -> list[dict]:
    """Both stages of a method, or stage 2 alone; its losses by stage and step."""
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    seed, losses = world.seed + method.seed, []
    if not trained:
        return losses
    if method.stage1:
        if method.stage1 == "projector":
            adapted.requires_grad_(False)
            base.model.multi_modal_projector.requires_grad_(True)
        losses += _fit(adapted, processor, replace(stage, name="stage1_captions"), world.captions, seed, store)
        for parameter in trained:
            parameter.requires_grad_(True)
    return losses + _fit(adapted, processor, stage, world.train, seed, store)


def _fit(adapted, processor, stage: Stage, rows: datasets.Dataset, seed: int, store: FeatureStore) -> list[dict]:
    """The package's own training loop, without checkpoints: a method takes seconds."""
    width = store.model.config.text_config.hidden_size
    collator = PrefixCollator(processor, CLEAN, seed, stage.max_text_tokens, features=store, hidden_size=width)
    with TemporaryDirectory() as scratch:
        config = sft_config(stage, scratch, seed, len(rows), workers=0, use_cpu=not torch.cuda.is_available())
        config.save_strategy = "no"
        given = {"model": adapted, "args": config, "train_dataset": rows, "data_collator": collator}
        trainer = PefomedTrainer(**given, processing_class=processor, stage=stage)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    log = trainer.state.log_history
    return [{"stage": stage.name, "step": row["step"], "loss": row["loss"]} for row in log if "loss" in row]


@torch.inference_mode()
def _answered(model, processor: PefomedProcessor, world: World, store: FeatureStore) -> list[dict]:
    """The validation rows with the model's answers."""
    bound = {"batch_size": 64, "max_new_tokens": world.stage.max_text_tokens, "features": store}
    answers = answer_rows(model, world.validation, processor=processor, procedure=CLEAN, **bound)
    return [{**row, "prediction": text, "image": None} for row, text in zip(world.validation, answers, strict=True)]
