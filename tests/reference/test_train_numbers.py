"""The larger record: logits, losses and layer outputs of 14 training samples, alone and in batches.

Ids go in as recorded; that ours are the same is tested in test_tokens.py.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy

TRAIN = "train.safetensors"
OWNED = {TRAIN: ("vocab_columns", "ans_", "dbg/")}
LOSS = 1e-5


@pytest.fixture(scope="module")
def samples(record):
    return record.json("train.json")["samples"]


@pytest.fixture(scope="module")
def columns(record):
    """The vocabulary columns whose logits are recorded: an index, no result."""
    return torch.from_numpy(record.input(TRAIN, "vocab_columns"))


@pytest.fixture(scope="module")
def alone(large, large_model, pictures, samples):
    """Loss and logits [length, vocabulary] of each sample on its own."""
    outputs = []
    with torch.no_grad():
        for sample in samples:
            out = large_model(
                input_ids=large.ids([sample["input_ids"]]),
                labels=torch.tensor([sample["labels"]]),
                pixel_values=pictures(sample["image"]),
            )
            outputs.append((out.loss, out.logits[0]))
    return outputs


def _token_losses(logits, labels):
    """Loss of every next token [batch, length - 1]; 0 where nothing is learnt."""
    return cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")


def test_logits_at_answers(record, samples, alone, columns):
    for number, (sample, (_, logits)) in enumerate(zip(samples, alone, strict=True)):
        places = torch.tensor(sample["label_positions"])
        labels = torch.tensor(sample["labels"])[places]
        before = logits[places - 1]
        record.close(TRAIN, f"ans_logits_cols/{number:02}", before[:, columns], relative=1e-5)
        record.close(TRAIN, f"ans_logsumexp/{number:02}", before.logsumexp(-1), relative=1e-5)
        label_logits = before.gather(1, labels[:, None])[:, 0]
        record.close(TRAIN, f"ans_label_logit/{number:02}", label_logits, relative=1e-5)
        record.exact(TRAIN, f"ans_argmax/{number:02}", before.argmax(-1))


def test_losses_alone(samples, alone):
    for sample, (loss, logits) in zip(samples, alone, strict=True):
        labels = torch.tensor([sample["labels"]])
        tokens = _token_losses(logits[None], labels)
        learnt = tokens[labels[:, 1:] != -100]
        assert loss.item() == pytest.approx(sample["loss"], rel=LOSS)
        # A difference of two logits: rounded at the size of the largest, not at its own.
        assert learnt.tolist() == pytest.approx(sample["token_nll"], rel=0, abs=LOSS * max(sample["token_nll"]))
        assert len(learnt) == sample["n_label_tokens"]
        assert tokens.mean().item() == pytest.approx(sample["loss_reduction_none"][0], rel=LOSS)


@pytest.mark.parametrize("number", range(4))
def test_losses_of_batches(record, large, large_model, pictures, samples, number):
    """The mean over all label tokens of the batch, so that long answers weigh more."""
    batch = record.json("train.json")["batches"][number]
    images = [samples[member]["image"] for member in batch["members"]]
    ids, labels, mask = (record.array(TRAIN, f"batch{number}/{name}") for name in ("ids", "labels", "attention_mask"))
    labels = torch.from_numpy(labels)
    with torch.no_grad():
        out = large_model(
            input_ids=large.ids(ids),
            labels=labels,
            attention_mask=torch.from_numpy(mask),
            pixel_values=pictures(*images),
        )
    assert out.loss.item() == pytest.approx(batch["loss"], rel=LOSS)
    tokens = _token_losses(out.logits, labels)
    assert tokens.mean(1).tolist() == pytest.approx(batch["loss_reduction_none"], rel=LOSS)
    learnt = labels[:, 1:] != -100
    assert int(learnt.sum()) == batch["n_shifted_label_tokens"] == batch["n_label_tokens"]
    means = tokens.sum(1) / learnt.sum(1)
    assert means.mean().item() == pytest.approx(batch["mean_of_sample_losses"], rel=LOSS)
    assert out.loss.item() == pytest.approx(batch["token_weighted_mean"], rel=LOSS)


def _loss_of_members(record, large, model, pictures, samples, variant):
    """Loss of a variant's batch: its own ids where it records them, else the members' padded on the right."""
    members = [samples[member] for member in variant["members"]]
    longest = max(len(member["input_ids"]) for member in members)

    def padded(name, fill):
        return [member[name] + [fill] * (longest - len(member[name])) for member in members]

    pad = record.json("train.json")["pad_id"]
    ids = variant.get("input_ids") or padded("input_ids", pad)
    labels = variant.get("labels") or padded("labels", -100)
    mask = variant.get("attention_mask") or [
        [1] * len(m["input_ids"]) + [0] * (longest - len(m["input_ids"])) for m in members
    ]
    with torch.no_grad():
        return model(
            input_ids=large.ids(ids),
            labels=torch.tensor(labels),
            attention_mask=torch.tensor(mask),
            pixel_values=pictures(*(member["image"] for member in members)),
        ).loss.item()


@pytest.mark.parametrize("number", [0, 1, 3], ids=["cut_answers", "answers_end_in_newline", "cut_prompts"])
def test_losses_of_variants(record, large, large_model, pictures, samples, number):
    variant = record.json("train.json")["variants"][number]
    loss = _loss_of_members(record, large, large_model, pictures, samples, variant)
    assert loss == pytest.approx(variant["loss"], rel=LOSS)


def test_loss_with_another_lora_alpha(record, large, pictures, samples, tmp_path):
    variant = record.json("train.json")["variants"][2]
    checkpoint = record.folder / "weights" / "checkpoint_0.pth"
    model = large.adapted(large.adapter_without_dropout(tmp_path, checkpoint, alpha=variant["lora_alpha"]))
    loss = _loss_of_members(record, large, model, pictures, samples, variant)
    assert loss == pytest.approx(variant["loss"], rel=LOSS)


def test_layer_outputs(record, large, large_model, pictures, samples, columns):
    language_model, seen = large_model.get_base_model().model.language_model, {}

    def keep(name):
        def hook(module, arguments, output):
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    modules = {
        "layer0": language_model.layers[0],
        "layer1": language_model.layers[1],
        "final_norm": language_model.norm,
    }
    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    hooks.append(
        language_model.register_forward_pre_hook(
            lambda module, arguments, given: seen.update(inputs_embeds=given["inputs_embeds"]), with_kwargs=True
        )
    )
    with torch.no_grad():
        out = large_model(input_ids=large.ids([samples[0]["input_ids"]]), pixel_values=pictures(samples[0]["image"]))
    for hook in hooks:
        hook.remove()
    seen["logits_cols"] = out.logits[..., columns]
    for name, ours in seen.items():
        record.close(TRAIN, f"dbg/{name}", ours[0], relative=1e-5)


def test_every_listed_array_was_compared(record, request):
    record.assert_complete(request, OWNED)
