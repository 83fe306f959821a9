"""The larger record: greedy answers to 14 inference samples, alone and in left-padded batches."""

import dataclasses

import pytest
import torch

from pefomed.inference.generate import answer_rows
from pefomed.procedure import RELEASED_CODE
from pefomed.training.collator import left_padded

INFER = "infer.safetensors"
OWNED = {INFER: ("",)}
EOS = 2


@pytest.fixture(scope="module")
def samples(record):
    return record.json("infer.json")["samples"]


@pytest.fixture(scope="module")
def columns(record):
    """The vocabulary columns whose logits are recorded: an index, no result."""
    return torch.from_numpy(record.input(INFER, "vocab_columns"))


@pytest.fixture(scope="module")
def answer(large, large_model, pictures):
    """New ids [batch, n] and raw logits of each step, greedy, at most 20 tokens; ended rows go on with id 0."""

    def answer(members):
        prompts = [large.ids(member["input_ids"]).tolist() for member in members]
        ids = left_padded(prompts, 0)
        out = large_model.generate(
            input_ids=ids,
            attention_mask=left_padded([[1] * len(prompt) for prompt in prompts], 0),
            pixel_values=pictures(*(member["image"] for member in members)),
            do_sample=False,
            max_new_tokens=20,
            pad_token_id=0,
            eos_token_id=EOS,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return out.sequences[:, ids.shape[1] :], out.logits

    return answer


def test_alone(record, large, samples, columns, answer):
    whole = {f"first_logits/{number:02}" for number in record.json("infer.json")["full_logits_for"]}
    assert whole == set(record.listed(INFER, "first_logits/"))
    for number, sample in enumerate(samples):
        new, logits = answer([sample])
        assert new[0].tolist() == sample["new_ids"], number
        assert (new[0, -1] == EOS) == sample["ended_by_eos"]
        assert large.processor.decode_answer(new[0]) == sample["text"].strip()
        first = logits[0][0]
        record.close(INFER, f"first_logits_cols/{number:02}", first[columns], relative=1e-5)
        record.close(INFER, f"first_logsumexp/{number:02}", first.logsumexp(0)[None], relative=1e-5)
        if f"first_logits/{number:02}" in whole:
            record.close(INFER, f"first_logits/{number:02}", first, relative=1e-5)
        best = torch.stack([step[0].max() for step in logits])
        record.close(INFER, f"step_top1_logit/{number:02}", best, relative=1e-5)
        margins = [float(pair[0] - pair[1]) for pair in (step[0].topk(2).values for step in logits)]
        assert margins == pytest.approx(sample["step_top1_minus_top2"], abs=1e-4)


@pytest.mark.parametrize("number", [0, 1])
def test_batches(record, large, samples, columns, answer, number):
    batch = record.json("infer.json")["batches"][number]
    members = [samples[member] for member in batch["members"]]
    new, logits = answer(members)
    # A placeholder that is never fed to the network leads each recorded row.
    assert new.tolist() == [row[1:] for row in batch["output_ids"]]
    assert [large.processor.decode_answer(row) for row in new] == [text.strip() for text in batch["texts"]]
    record.close(INFER, f"batch_first_logits_cols/{number}", logits[0][:, columns], relative=1e-5)
    assert len(record.listed(INFER, "batch_first_logits_cols/")) == 2


def test_position_ids(large, large_model, samples, answer):
    """They count real tokens: from 0 behind the padding, and on from there at every step."""
    seen = []
    language_model = large_model.get_base_model().model.language_model
    hook = language_model.register_forward_pre_hook(
        lambda module, arguments, given: seen.append(given["position_ids"]), with_kwargs=True
    )
    answer([samples[5], samples[0]])
    hook.remove()
    lengths = [len(samples[5]["input_ids"]), len(samples[0]["input_ids"])]
    for row, length, sample in zip(seen[0], lengths, (samples[5], samples[0]), strict=True):
        assert row[-length:].tolist() == list(range(length))
        assert [0, length - 1] == sample["position_ids_first_step"]
    assert [step[:, 0].tolist() for step in seen[1:4]] == [
        [a[0], b[0]] for a, b in zip(samples[5]["position_ids_later"], samples[0]["position_ids_later"], strict=True)
    ]


def test_questions_from_rows_to_texts(record, large, large_model, samples):
    """The same answers by the way that `pefomed generate` takes: from rows with files and questions to texts."""
    procedure = dataclasses.replace(RELEASED_CODE, name="recorded", max_new_tokens=20, augment_test_images=False)
    questions = [sample for sample in samples if sample["dataset"] == "vqa"]
    assert len(questions) == 6
    rows = [
        {
            "id": str(number),
            "dataset": "vqa_rad",
            "task": "vqa",
            "image": {"bytes": None, "path": str(record.folder / "images" / sample["image"])},
            "question": sample["question"],
            "group": sample["image"],
        }
        for number, sample in enumerate(questions)
    ]
    texts = answer_rows(large_model, rows, processor=large.processor, procedure=procedure, batch_size=4)
    assert texts == [sample["text"].strip() for sample in questions]


def test_every_listed_array_was_compared(record, request):
    record.assert_complete(request, OWNED)
