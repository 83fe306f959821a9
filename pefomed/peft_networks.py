"""One base, adapted in different ways by peft's own configurations: what changes, what is frozen, what that costs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from peft import IA3Config, LoraConfig, PromptEmbedding, PromptTuningConfig, get_peft_model
from torch import nn

from pefomed.model.adapters import PROJECTOR
from pefomed.model.modeling import PefomedForConditionalGeneration
from pefomed.model.processing import PefomedProcessor

ADAPTERS = ("none", "lora", "rslora", "dora", "ia3", "prompt", "full")
TARGETS = {
    "q,v": "q_proj|v_proj",
    "attention": "q_proj|k_proj|v_proj|o_proj",
    "linear": "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj",
}
PROJECTOR_STARTS = ("base", "linear", "mlp")
STAGES1 = ("", "projector", "both")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way of adapting the base.

    Attributes:
        name: of its file.
        label: in figures and tables.
        adapter: what changes in the language model: "none", "lora", "rslora", "dora", "ia3", "prompt" or "full".
        targets: which matrices LoRA is added to: "q,v", "attention" or "linear".
        rank: LoRA's rank; of "prompt" the number of virtual tokens.
        alpha: LoRA's numerator.
        projector: whether the projector trains.
        projector_start: "base" goes on from the base's; "linear" and "mlp" begin anew, at random.
        tokens_per_group: neighbouring tokens of the tower that become one; a new number needs a new projector.
        stage1: what trains on captions before: "" for no stage 1, "projector" alone, or "both".
        learning_rate: peak, the same in both stages.
        seed: added to the world's for what training draws; the data stays the same.

    Raises:
        ValueError: a value is impossible, or two do not go together.
    """

    name: str
    label: str
    adapter: str = "lora"
    targets: str = "q,v"
    rank: int = 16
    alpha: int = 32
    projector: bool = True
    projector_start: str = "base"
    tokens_per_group: int = 4
    stage1: str = ""
    learning_rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {"adapter": ADAPTERS, "targets": TARGETS, "projector_start": PROJECTOR_STARTS, "stage1": STAGES1}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"method {name} must be one of {', '.join(values)}, not {getattr(self, name)!r}")
        if self.rank < 1:
            raise ValueError(f"method rank must be at least 1, not {self.rank}")
        if not self.projector and (self.projector_start != "base" or self.stage1):
            raise ValueError(f"method {self.name!r} freezes the projector, which must train anew or in stage 1")


class FreshProjector(nn.Module):
    """A projector that starts at random: one linear layer, or LLaVA-1.5's two with GELU between them.

    Args:
        width: of what comes in.
        hidden: of the language model.
        mlp: whether there are two layers.
    """

    def __init__(self, width: int, hidden: int, mlp: bool):
        super().__init__()
        more = [nn.GELU(), nn.Linear(hidden, hidden)] if mlp else []
        self.layers = nn.Sequential(nn.Linear(width, hidden), *more)

    @property
    def weight(self) -> torch.Tensor:
        """The first matrix, by whose type the model casts what comes in."""
        return self.layers[0].weight

    def forward(self, grouped: torch.Tensor) -> torch.Tensor:
        return self.layers(grouped)


class PromptedProjector(nn.Module):
    """Learnt vectors laid before the image's own: prompt tuning by the way that images take.

    peft would lay them before the whole prompt, but takes token ids for that and so loses the image.

    Args:
        projector: of the base.
        prompt: peft's learnt vectors.
    """

    def __init__(self, projector: nn.Module, prompt: PromptEmbedding):
        super().__init__()
        self.projector, self.prompt = projector, prompt

    @property
    def weight(self) -> torch.Tensor:
        """The projector's matrix, by whose type the model casts what comes in."""
        return self.projector.weight

    def forward(self, grouped: torch.Tensor) -> torch.Tensor:
        """[images, image_tokens, 4 d] -> [images, virtual tokens + image_tokens, hidden]."""
        prompt = self.prompt.embedding.weight.expand(len(grouped), -1, -1)
        return torch.cat([prompt, self.projector(grouped)], dim=1)


class PromptedProcessor(PefomedProcessor):
    """A processor that leaves room for virtual tokens among the image's positions."""

    virtual_tokens = 0

    @property
    def image_tokens(self) -> int:
        return super().image_tokens + self.virtual_tokens


def adapt(
    method: Method, model: PefomedForConditionalGeneration, processor: PefomedProcessor
) -> tuple[nn.Module, PefomedProcessor]:
    """The base made ready to be trained by a method; the base is changed.

    Args:
        method: what to change.
        model: a base as loaded; adapt no base twice.
        processor: its processor.

    Returns:
        The network to train, with `requires_grad` set, and the processor that its prompts need.

    Raises:
        ValueError: other tokens per group with the base's projector, whose width does not fit them.
    """
    model.requires_grad_(False)
    if method.tokens_per_group != model.config.tokens_per_group and method.projector_start == "base":
        raise ValueError(f"method {method.name!r}: other tokens_per_group need projector_start 'linear' or 'mlp'")
    if method.projector_start != "base":
        model.config.tokens_per_group = processor.tokens_per_group = method.tokens_per_group
        width = model.config.vision_config.hidden_size * method.tokens_per_group
        hidden = model.config.text_config.hidden_size
        model.model.multi_modal_projector = FreshProjector(width, hidden, method.projector_start == "mlp")
    adapted = model
    if method.adapter in ("lora", "rslora", "dora", "ia3"):
        with warnings.catch_warnings():  # peft asks transformers for a property that it has renamed
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            adapted = get_peft_model(model, peft_config(method))
    elif method.adapter == "prompt":
        processor = _lay_prompt(method, model, processor)
    elif method.adapter == "full":
        model.model.language_model.requires_grad_(True)
        model.lm_head.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if PROJECTOR in name and ".prompt." not in name:
            parameter.requires_grad = method.projector
    return adapted, processor


def peft_config(method: Method) -> LoraConfig | IA3Config:
    """peft's configuration of a method that adds to matrices of the language model, and to nothing in the tower."""
    inside = r".*language_model\..*\."
    if method.adapter == "ia3":
        # As published: keys and values are scaled at their matrix's output, the MLP at its last matrix's input.
        return IA3Config(target_modules=inside + "(k_proj|v_proj|down_proj)", feedforward_modules=inside + "down_proj")
    return LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=0.05,
        target_modules=f"{inside}({TARGETS[method.targets]})",
        use_rslora=method.adapter == "rslora",
        use_dora=method.adapter == "dora",
    )


def _lay_prompt(method: Method, model: PefomedForConditionalGeneration, processor: PefomedProcessor):
    """Puts peft's learnt vectors, which start as words of the vocabulary, before every image."""
    text = model.config.text_config
    config = PromptTuningConfig(
        num_virtual_tokens=method.rank,
        token_dim=text.hidden_size,
        num_transformer_submodules=1,
        num_attention_heads=text.num_attention_heads,
        num_layers=text.num_hidden_layers,
        prompt_tuning_init="SAMPLE_VOCAB",
    )
    prompt = PromptEmbedding(config, model.get_input_embeddings())
    model.model.multi_modal_projector = PromptedProjector(model.model.multi_modal_projector, prompt)
    prompted = PromptedProcessor(
        processor.image_processor,
        processor.tokenizer,
        processor.chat_template,
        processor.patch_size,
        processor.tokens_per_group,
    )
    prompted.virtual_tokens = method.rank
    return prompted


def trainable_counts(adapted: nn.Module) -> dict[str, int]:
    """Trainable parameters: {"adapter": in or before the language model, "projector": n, "total": n}."""
    counts = {"adapter": 0, "projector": 0}
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            counts["projector" if PROJECTOR in name and ".prompt." not in name else "adapter"] += parameter.numel()
    return {**counts, "total": sum(counts.values())}
