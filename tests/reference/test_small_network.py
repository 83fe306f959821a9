"""The very small record: checkpoint, pixels, vision, token rows, logits and losses."""

import numpy as np
import pytest
import torch
from PIL import Image

from pefomed.images import open_image
from pefomed.model.checkpoints import read_checkpoint, translate
from pefomed.procedure import RELEASED_CODE
from pefomed.training.collator import PixelStore, left_padded, right_padded

EXPECTED, INPUTS = "expected.safetensors", "inputs.safetensors"
OWNED = {
    INPUTS: ("pixels", "source_u8/", "train/", "infer/ids", "infer/attention_mask", "infer/image_"),
    EXPECTED: ("vision/", "train/logits", "train/loss_batch", "train/loss_per_sample", "train/loss_reduction_none"),
    "weights.safetensors": ("",),
    "checkpoint.pth": ("",),
}


def test_weights(small, small_record, small_model):
    state = read_checkpoint(small_record.folder / "weights.safetensors")
    base, adapter = small.base().state_dict(), translate(state, small.config).adapter
    for name, tensor in state.items():
        if name.endswith("inv_freq"):
            ours = small_model.get_base_model().model.language_model.rotary_emb.inv_freq
            small_record.close("weights.safetensors", name, ours, relative=1e-6)
        elif name.endswith(("q_bias", "v_bias")):
            both = {other: state[other] for other in _query_and_value(name)}
            joined = base[next(iter(translate(both, small.config).base))].chunk(3)
            assert not joined[1].any()  # keys have no bias
            small_record.exact("weights.safetensors", name, joined[0 if name.endswith("q_bias") else 2])
        else:
            base_name, lora_name = small.our_names(name, tensor)
            small_record.exact("weights.safetensors", name, base[base_name] if base_name else adapter[lora_name])


def _query_and_value(name):
    block = name.rpartition(".")[0]
    return f"{block}.q_bias", f"{block}.v_bias"


def test_checkpoint(small, small_record, small_model, tmp_path):
    """checkpoint.pth holds the trained part of the weights alone, and makes the same adapter."""
    state = read_checkpoint(small_record.folder / "checkpoint.pth")
    model = small.adapted(small.adapter_without_dropout(tmp_path, small_record.folder / "checkpoint.pth"))
    for name, tensor in state.items():
        if name.endswith("inv_freq"):
            ours = small_model.get_base_model().model.language_model.rotary_emb.inv_freq
            small_record.against("checkpoint.pth", name, tensor, ours, 1e-6, 0.0)
        else:
            ours = small.trained_parameter(model, name, tensor)
            assert torch.equal(ours, small.trained_parameter(small_model, name, tensor)), name
            small_record.against("checkpoint.pth", name, tensor, ours, 0.0, 0.0)


def test_pixels(small, small_record):
    store = PixelStore(small.processor, RELEASED_CODE)
    sources = [small_record.input(INPUTS, f"source_u8/{i}") for i in range(3)]
    pixels = np.stack([store.to_pixels(open_image(Image.fromarray(source))) for source in sources])
    small_record.close(INPUTS, "pixels", pixels, absolute=1e-6)


def test_vision(small_record, small_model):
    model = small_model.get_base_model().model
    pixels = torch.from_numpy(small_record.array(INPUTS, "pixels"))
    seen = {}
    hook = model.vision_tower.encoder.layers[-1].register_forward_hook(
        lambda module, args, output: seen.update(vit=output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        seen["ln"] = model.vision_tower(pixels).last_hidden_state
        seen["grouped"] = model.encode_images(pixels)
        seen["projected"] = torch.stack(model.get_image_features(pixels).pooler_output)
    hook.remove()
    for name, ours in seen.items():
        small_record.close(EXPECTED, f"vision/{name}", ours, absolute=2e-5)


def _segments(ids, mask, marker=-200):
    """Texts before and behind the image, of a row without padding and leading BOS."""
    row = [int(i) for i in ids[mask == 1]]
    while row[0] == 1:
        row = row[1:]
    first = row.index(marker)
    return " ".join(map(str, row[:first])), [i for i in row[first:] if i != marker]


def test_training_rows(small, small_record):
    """Our processor puts <s>, image positions, answer and </s> where the published code put them."""
    recorded = {
        name: small_record.array(INPUTS, f"train/{name}")
        for name in ("ids", "attention_mask", "labels", "image_index", "image_start", "image_positions")
    }
    encoded = []
    for ids, mask, positions in zip(
        recorded["ids"], recorded["attention_mask"], recorded["image_positions"], strict=True
    ):
        before, rest = _segments(ids, mask)
        learnt = _answer_length(ids, recorded["labels"][len(encoded)], mask)
        behind, answer = rest[:-learnt], rest[-learnt:-1]
        prompt = f"{before} <ImageHere> {' '.join(map(str, behind))}"
        encoded.append(small.processor.encode(prompt, " ".join(map(str, answer)), cut_drops_ends=True, ignore_id=511))
        assert len(positions) == small.processor.image_tokens
    image = small.config.image_token_index
    width = recorded["ids"].shape[1]

    # The published batch is as wide as its longest prompt and its longest answer together.
    def widened(rows, fill):
        return torch.nn.functional.pad(rows, (0, width - rows.shape[1]), value=fill)

    ids = widened(right_padded([e.input_ids for e in encoded], 511), 511)
    mask = widened(right_padded([[1] * len(e.input_ids) for e in encoded], 0), 0)
    labels = widened(right_padded([e.labels for e in encoded], -100), -100)
    small_record.exact(INPUTS, "train/ids", ids.masked_fill(ids == image, -200))
    small_record.exact(INPUTS, "train/attention_mask", mask)
    small_record.exact(INPUTS, "train/labels", labels)
    places = torch.stack([(row == image).nonzero()[:, 0] for row in ids])
    small_record.exact(INPUTS, "train/image_positions", places)
    small_record.exact(INPUTS, "train/image_start", places[:, 0])
    small_record.input(INPUTS, "train/image_index")


def _answer_length(ids, labels, mask):
    """Answer and end token; a padding piece inside the answer is not labelled but belongs to it."""
    return int(mask.sum()) - int(np.flatnonzero(labels != -100)[0])


def test_inference_rows(small, small_record):
    ids = small_record.array(INPUTS, "infer/ids")
    mask = small_record.array(INPUTS, "infer/attention_mask")
    encoded = []
    for row, real in zip(ids, mask, strict=True):
        before, behind = _segments(row, real)
        prompt = f"{before} <ImageHere> {' '.join(map(str, behind))}"
        encoded.append(small.processor.encode(prompt, n_bos=RELEASED_CODE.bos_at_inference).input_ids)
    ours = left_padded(encoded, 0)
    places = torch.stack([(row == small.config.image_token_index).nonzero()[:, 0] for row in ours])
    small_record.exact(INPUTS, "infer/ids", ours.masked_fill(ours == small.config.image_token_index, -200))
    small_record.exact(INPUTS, "infer/attention_mask", left_padded([[1] * len(row) for row in encoded], 0))
    small_record.exact(INPUTS, "infer/image_positions", places)
    small_record.exact(INPUTS, "infer/image_start", places[:, 0])
    small_record.input(INPUTS, "infer/image_index")


def test_logits_and_losses(small, small_record, small_model):
    pixels = torch.from_numpy(small_record.array(INPUTS, "pixels"))
    index = torch.from_numpy(small_record.input(INPUTS, "train/image_index"))
    ids = small.ids(small_record.array(INPUTS, "train/ids"))
    mask = torch.from_numpy(small_record.array(INPUTS, "train/attention_mask"))
    labels = torch.from_numpy(small_record.array(INPUTS, "train/labels"))
    with torch.no_grad():
        whole = small_model(input_ids=ids, attention_mask=mask, labels=labels, pixel_values=pixels[index])
        alone = []
        for row in range(len(ids)):
            real = mask[row] == 1
            one = small_model(
                input_ids=ids[row, real][None], labels=labels[row, real][None], pixel_values=pixels[index[row]][None]
            )
            alone.append(one.loss)
    small_record.close(EXPECTED, "train/logits", whole.logits, absolute=1e-4)
    small_record.close(EXPECTED, "train/loss_batch", whole.loss[None], absolute=2e-5)
    small_record.close(EXPECTED, "train/loss_per_sample", torch.stack(alone), absolute=2e-5)
    tokens = torch.nn.functional.cross_entropy(whole.logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    small_record.close(EXPECTED, "train/loss_reduction_none", tokens.mean(1), absolute=2e-5)


def test_every_listed_array_was_compared(small_record, request):
    small_record.assert_complete(request, OWNED)


@pytest.mark.parametrize(("file", "name"), [(INPUTS, "pixels"), (EXPECTED, "vision/vit")])
def test_a_wrong_number_fails(small_record, file, name):
    """The comparison itself: one element off by a hundredth is found."""
    wrong = small_record.array(file, name).copy()
    wrong.flat[7] += 0.01
    with pytest.raises(AssertionError, match="off by"):
        small_record.close(file, name, wrong, absolute=2e-5)
