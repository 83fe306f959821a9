"""The larger record: token ids of texts, of 14 training samples and of 14 inference samples."""

import pytest
import torch

from pefomed.controls import CONTROLS
from pefomed.data.prompts import VQA_TEMPLATE, instruction, render_prompt, target_text
from pefomed.procedure import RELEASED_CODE
from pefomed.training.collator import right_padded

TRAIN = "train.safetensors"
OWNED = {TRAIN: ("batch",)}
TASK_AND_DATASET = {
    "vqa": ("vqa", "vqa_rad"),
    "roco": ("caption", "roco"),
    "iux": ("report", "iu_xray"),
    "mimic": ("report", "mimic_cxr"),
}


def _prompt(sample, training):
    """Our prompt of a sample, with the wording that the published code happened to draw."""
    task, dataset = TASK_AND_DATASET[sample["dataset"]]
    wording = sample["instruction"]
    if task == "vqa":
        wording = (wording or "[vqa] " + VQA_TEMPLATE).removeprefix("[vqa] ").replace("{}", "{question}")
    asked = instruction(
        task, sample["question"], procedure=RELEASED_CODE, training=training, dataset=dataset, wordings=[wording]
    )
    return render_prompt(asked, RELEASED_CODE, training=training)


def _training_row(record, large, sample, **bounds):
    return large.processor.encode(
        _prompt(sample, training=True),
        target_text(str(sample["raw_target"]), RELEASED_CODE),
        n_bos=1,
        cut_drops_ends=RELEASED_CODE.cut_drops_ends,
        ignore_id=record.json("config.json")["pad_id"],
        **bounds,
    )


def test_texts(record, large):
    """All recorded texts but those with a control token, which is never parsed out of text here.

    A text that begins with a blank differs in one piece: the published tokenizer puts a blank of its own before it,
    ours takes the text's for it. Prompts and answers are stripped, so that neither occurs.
    """
    cases = record.json("tokenization.json")["cases"]
    assert len(cases) == 93
    for case in cases:
        if any(token in case["text"] for token in ("<s>", "</s>", "<unk>")):
            continue
        text = " " + case["text"] if case["text"].startswith(" ") else case["text"]
        assert large.processor.text_ids(text) == case["ids"], case["text"]
        assert case["ids_with_special_tokens"] == [large.processor.tokenizer.bos_token_id, *case["ids"]]


def test_control_tokens_are_not_parsed_out_of_text(record, large):
    """The published tokenizer does: a question that holds </s> ends the published prompt."""
    texts = [case["text"] for case in record.json("tokenization.json")["cases"]]
    forged = [text for text in texts if any(token in text for token in CONTROLS[:3])]
    assert len(forged) == 10
    for text in forged:
        ids = large.processor.text_ids(text)
        assert not {0, 1, 2} & set(ids)
        assert large.processor.tokenizer.decode(ids) == text


def test_decoding(record, large):
    tokenizer = large.processor.tokenizer
    for case in record.json("tokenization.json")["decode"]:
        if large.processor.tokenizer.pad_token_id in case["ids"]:
            continue  # the published decoding drops "$$" from answers; here it is what it looks like
        assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["skip_special"]
    assert large.processor.decode_answer([3997, 4874]).replace(" ", "") == "$$yes"


def test_training_samples(record, large):
    samples = record.json("train.json")["samples"]
    assert len(samples) == 14
    for sample in samples:
        ours = _training_row(record, large, sample)
        assert ours.input_ids == large.ids(sample["input_ids"]).tolist(), sample["idx"]
        assert ours.labels == sample["labels"], sample["idx"]
        assert ours.input_ids.index(large.config.image_token_index) == sample["image_start"]
        assert large.processor.image_tokens == sample["n_image_tokens"]


def test_a_padding_piece_in_an_answer_is_not_learnt(record, large):
    sample = record.json("train.json")["samples"][5]
    row = _training_row(record, large, sample)
    place = row.input_ids.index(3997)
    assert sample["answer"] == "about 5$$ per view" and row.labels[place] == -100 and row.labels[place - 1] != -100


@pytest.mark.parametrize(
    ("variant", "bounds"), [(0, {"max_text_tokens": 8}), (3, {"max_context_tokens": 30})], ids=["answer", "prompt"]
)
def test_cut_samples(record, large, variant, bounds):
    """Cut answers lose </s>, cut prompts lose [/INST], as published."""
    recorded = record.json("train.json")["variants"][variant]
    samples = record.json("train.json")["samples"]
    rows = [_training_row(record, large, samples[member], **bounds) for member in recorded["members"]]
    for row, ids, labels, mask in zip(
        rows, recorded["input_ids"], recorded["labels"], recorded["attention_mask"], strict=True
    ):
        assert mask == [1] * len(row.input_ids) + [0] * (len(ids) - len(row.input_ids))
        assert row.input_ids == large.ids(ids).tolist()[: sum(mask)]
        assert row.labels == labels[: sum(mask)] and set(labels[sum(mask) :]) <= {-100}


def test_batches(record, large):
    """Right-padded as ours, but as wide as the longest prompt and the longest answer together."""
    samples = record.json("train.json")["samples"]
    batches = record.json("train.json")["batches"]
    assert len(record.listed(TRAIN, "batch")) == 3 * len(batches)
    for number, batch in enumerate(batches):
        rows = [_training_row(record, large, samples[member]) for member in batch["members"]]
        ours = {
            "ids": right_padded([row.input_ids for row in rows], large.processor.tokenizer.pad_token_id),
            "labels": right_padded([row.labels for row in rows], -100),
            "attention_mask": right_padded([[1] * len(row.input_ids) for row in rows], 0),
        }
        ours["ids"] = ours["ids"].masked_fill(ours["ids"] == large.config.image_token_index, -200)
        fill = {"ids": large.processor.tokenizer.pad_token_id, "labels": -100, "attention_mask": 0}
        for name, tensor in ours.items():
            width = record.array(TRAIN, f"batch{number}/{name}").shape[1]
            widened = torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]), value=fill[name])
            record.exact(TRAIN, f"batch{number}/{name}", widened)


def test_inference_samples(record, large):
    samples = record.json("infer.json")["samples"]
    assert len(samples) == 14
    for sample in samples:
        ours = large.processor.encode(_prompt(sample, training=False), n_bos=RELEASED_CODE.bos_at_inference)
        assert ours.input_ids == large.ids(sample["input_ids"]).tolist(), sample["idx"]
        assert ours.input_ids.index(large.config.image_token_index) == sample["image_start"]


def test_every_listed_array_was_compared(record, request):
    record.assert_complete(request, OWNED)
