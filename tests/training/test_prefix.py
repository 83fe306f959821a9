"""Questions behind one copy of their picture learn exactly what they learn apart."""

import datasets
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from trl import SFTTrainer

from pefomed.model.adapters import fresh_adapter
from pefomed.model.presets import load_base
from pefomed.model.processing import IGNORE_LABEL, EncodedPrompt
from pefomed.model.segments import SEGMENTS_PER_IMAGE
from pefomed.procedure import CLEAN, RELEASED_CODE
from pefomed.training.broken import BrokenPictures
from pefomed.training.collator import PixelStore, TrainingCollator
from pefomed.training.features import FeatureStore
from pefomed.training.packing import PictureSampler, picture_key
from pefomed.training.prefix import (
    PrefixCollator,
    SharedPrompt,
    count_answers,
    learnt_loss,
    refuse_learnt_starts,
    rows_to_batch,
    share_prefix,
    split_to_budget,
)
from pefomed.training.stages import get_stage
from pefomed.training.trainer import PefomedTrainer, sft_config

LOSSES = ("token_mean", "answer_mean")
WORDS = ("yes", "no", "the chest", "pleural effusion on the left side", "is there a chest")


def questions(phantoms, per_picture: tuple[int, ...]) -> list[dict]:
    """Rows about as many pictures as there are counts, answers of different lengths, pictures mixed."""
    pictures = {picture_key(row["image"]): row for row in phantoms["train"]}
    rows = []
    for picture, (row, count) in enumerate(zip(pictures.values(), per_picture, strict=False)):
        for number in range(count):
            question = f"which organ is {WORDS[number % 5]} {'of the chest ' * ((number + 5 * picture) % 17)}{number}?"
            answer = " ".join(WORDS[: 1 + (number + count) % 4])
            rows.append({**row, "id": f"{row['id']}-{number}", "question": question, "answer": answer})
    return sorted(rows, key=lambda row: (row["id"].rpartition("-")[2], row["id"]))


def adapted_model(base, dtype) -> tuple:
    """LoRA that does something, without dropout, and the projector."""
    model, processor = base
    torch.manual_seed(0)
    adapted = fresh_adapter(model, 4, 8, 0.0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted.to(dtype), processor


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def separate_loss(model, batch: dict, loss: str) -> torch.Tensor:
    """Written out from all logits of one sequence a question."""
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    answers = []
    for row, labels in zip(logits[:, :-1].log_softmax(-1), batch["labels"][:, 1:], strict=True):
        places = (labels != IGNORE_LABEL).nonzero().squeeze(1)
        answers.append(-row[places, labels[places]])
    return torch.cat(answers).mean() if loss == "token_mean" else torch.stack([a.mean() for a in answers]).mean()


# --- the same loss and gradients -------------------------------------------------------------------------------------


@pytest.fixture
def norms_in_double(monkeypatch):
    """transformers computes Llama's norms in float32 in any network, which would drown what is compared."""

    def forward(self, hidden):
        return self.weight * (hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("per_picture", "budget", "images_in_rows"),
    [
        ((1,), 4096, [1]),
        ((1, 1, 1, 1), 512, [2, 2]),
        ((3, 3, 3), 4096, [3]),
        ((3, 1, 2, 1), 500, [2, 2]),
        ((40,), 4096, [1]),
        ((40, 40), 600, [1] * 9 + [2]),
    ],
)
def test_loss_and_gradients_are_those_of_separate_sequences(
    small, phantoms, per_picture, budget, images_in_rows, loss, norms_in_double
):
    model, processor = adapted_model(small, torch.float32)
    asked = questions(phantoms, per_picture)
    separate = TrainingCollator(processor)(asked)
    shared = PrefixCollator(processor, token_budget=budget)(asked)
    if "segment_ids" in shared:
        assert (shared["segment_ids"].amax(1) // SEGMENTS_PER_IMAGE + 1).tolist() == images_in_rows
    single = {}
    for dtype in (torch.float32, torch.float64):
        model = model.to(dtype)
        expected_loss = separate_loss(model, separate, loss)
        expected = gradients(model, expected_loss)
        found_loss = learnt_loss(model, shared, loss)
        found = gradients(model, found_loss)
        assert set(found) == set(expected)
        assert any("projector" in name for name in found) and any("lora_A" in name for name in found)
        if dtype == torch.float32:
            assert relative_error(found_loss.detach(), expected_loss.detach()) < 1e-6
            single = {name: (found[name], expected[name]) for name in expected}
            continue
        assert relative_error(found_loss.detach(), expected_loss.detach()) < 1e-13
        for name, exact in expected.items():
            assert relative_error(found[name], exact) < 1e-13, name
            # Sums over thousands of tokens have rounding of their own, whichever way they are arranged.
            rounding = relative_error(single[name][1], exact)
            assert relative_error(*single[name]) < max(1e-6, 2 * rounding), name
            assert rounding < 4e-6


def test_eager_attention_and_kept_features_give_the_same_loss(small, phantoms):
    model, processor = adapted_model(small, torch.float32)
    asked = questions(phantoms, (3, 1, 2, 1))
    expected = separate_loss(model, TrainingCollator(processor)(asked), "token_mean")
    model.get_base_model().set_attn_implementation("eager")
    features = FeatureStore(model.get_base_model().model, PixelStore(processor))
    batch = PrefixCollator(processor, features=features, token_budget=500)(asked)
    assert batch["vision_features"].shape[0] == 4, "one encoding a picture"
    found = learnt_loss(model, batch, "token_mean")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    # Validation of captions takes the loss of the network itself.
    torch.testing.assert_close(model(**batch, use_cache=False).loss, expected, rtol=1e-6, atol=0)


class PlainTrainer(PefomedTrainer):
    """The trainer with a loss that is written out here from all logits, in the model's own precision."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"][:, 1:]
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        if self.stage.loss == "answer_mean":
            losses = losses / (labels != IGNORE_LABEL).sum(dim=1, keepdim=True)
        return losses.sum() / num_items_in_batch


def trainer_of(base, rows, folder, trainer, collator, dtype=torch.float32, **changes) -> PefomedTrainer:
    """Twenty steps of two micro-batches; both kinds of collators are given the same samples in the same order."""
    model, processor = adapted_model(load_base("tiny", base, dtype=torch.float32), dtype)
    # Adam's usual epsilon would turn rounding in a gradient near zero into a whole step.
    fixed = {"batch_size": 3, "gradient_accumulation": 2, "epochs": 2, "steps_per_epoch": 10, "epsilon": 1e-3}
    changes |= {"warmup_steps": 2, "gradient_checkpointing": True, "shared_prefix": True}
    stage = get_stage("stage2_vqa", "tiny", **fixed, **changes)
    made = trainer(
        model=model,
        args=sft_config(stage, str(folder), 0, len(rows), 0, True),
        train_dataset=datasets.Dataset.from_list(rows),
        data_collator=collator(processor),
        processing_class=processor,
        stage=stage,
    )
    assert isinstance(made.stream, PictureSampler)
    return made


@pytest.mark.parametrize(
    ("loss", "dtype", "tolerance"),
    [
        ("token_mean", torch.float32, 5e-6),
        ("answer_mean", torch.float32, 5e-6),
        ("token_mean", torch.float64, 1e-13),
        ("answer_mean", torch.float64, 1e-13),
    ],
)
def test_twenty_steps_end_where_those_of_separate_sequences_end(
    tiny_base, phantoms, tmp_path, loss, dtype, tolerance, norms_in_double
):
    rows = questions(phantoms, (5, 1, 3, 9, 2, 1, 12, 4))
    ends = []
    for trainer, collator in ((PlainTrainer, TrainingCollator), (PefomedTrainer, PrefixCollator)):
        made = trainer_of(tiny_base, rows, tmp_path / collator.__name__, trainer, collator, dtype, loss=loss)
        start = {name: p.detach().clone() for name, p in made.model.named_parameters() if p.requires_grad}
        made.train()
        assert made.state.global_step == 20
        ends.append({name: p.detach().clone() for name, p in made.model.named_parameters() if p.requires_grad})
    for name, expected in ends[0].items():
        moved, difference = (expected - start[name]).norm(), (ends[1][name] - expected).norm()
        assert moved > 1e-3 * start[name].norm(), name
        assert difference < tolerance * moved, name


def test_the_loss_is_trl_s_own(tiny_base, phantoms, tmp_path):
    rows = questions(phantoms, (3, 1, 2, 1))
    trainer = trainer_of(tiny_base, rows, tmp_path, PefomedTrainer, PrefixCollator)
    batch = trainer.data_collator(rows)
    trainer.model.eval()
    expected = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch))
    torch.testing.assert_close(trainer.compute_loss(trainer.model, dict(batch)), expected, rtol=1e-6, atol=0)


def test_no_logits_but_where_something_is_learnt(small, phantoms):
    model, processor = adapted_model(small, torch.float32)
    batch = PrefixCollator(processor)(questions(phantoms, (3, 2)))
    seen = []
    model.get_base_model().lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    learnt_loss(model, batch, "token_mean").backward()
    learnt = int((batch["labels"] != IGNORE_LABEL).sum())
    assert seen == [(learnt, model.config.text_config.vocab_size)]
    assert learnt < batch["labels"].numel() / 4


def test_a_step_is_divided_by_what_the_whole_step_learns(small, phantoms):
    model, processor = adapted_model(small, torch.float64)
    asked = questions(phantoms, (3, 1, 2, 1))
    collator = PrefixCollator(processor)
    parts = [collator(asked[:3]), collator(asked[3:])]
    for loss in LOSSES:
        items = sum(
            count_answers(part) if loss == "answer_mean" else int((part["labels"] != IGNORE_LABEL).sum())
            for part in parts
        )
        found = sum(learnt_loss(model, part, loss, items) for part in parts)
        torch.testing.assert_close(found, learnt_loss(model, collator(asked), loss), rtol=1e-6, atol=0)
    assert sum(map(count_answers, parts)) == 7


# --- rows ------------------------------------------------------------------------------------------------------------

IMAGE = 9


def encoded(prompt: list[int], answer: list[int]) -> EncodedPrompt:
    return EncodedPrompt(prompt + answer, [IGNORE_LABEL] * len(prompt) + answer)


def test_a_row_holds_the_common_beginning_once_and_every_question_behind_it():
    shared = share_prefix(
        [encoded([1, 5, IMAGE, IMAGE, 6, 7], [20, 2]), encoded([1, 5, IMAGE, IMAGE, 6, 8], [2])], IMAGE
    )
    assert shared.prefix == [1, 5, IMAGE, IMAGE, 6]
    other = share_prefix([encoded([1, IMAGE, 3], [4])], IMAGE)
    batch = rows_to_batch([[shared, other]], pad=0)
    ids, rest = [1, 5, IMAGE, IMAGE, 6, 7, 20, 2, 8, 2, 1, IMAGE, 3, 4], [0, 0]
    second = SEGMENTS_PER_IMAGE
    assert batch["input_ids"].tolist() == [ids + rest]
    assert batch["attention_mask"].tolist() == [[1] * 14 + rest]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 0, 1, 2, 3, 0, 0]]
    assert batch["segment_ids"].tolist() == [[0] * 5 + [1] * 3 + [2] * 2 + [second] * 2 + [second + 1] * 2 + [-1] * 2]
    learnt = [-100] * 6 + [20, 2, -100, 2, -100, -100, -100, 4, -100, -100]
    assert batch["labels"].tolist() == [learnt]


def test_a_segment_begins_with_a_token_of_its_prompt():
    same = [encoded([1, IMAGE, 6, 7], [20, 2]), encoded([1, IMAGE, 6, 7], [21, 2])]
    assert [segment.input_ids for segment in share_prefix(same, IMAGE).segments] == [[7, 20, 2], [7, 21, 2]]
    longer = [encoded([1, IMAGE, 6], [20]), encoded([1, IMAGE, 6, 7], [20])]
    assert [segment.input_ids for segment in share_prefix(longer, IMAGE).segments] == [[6, 20], [6, 7, 20]]
    learnt_at_once = SharedPrompt([1, IMAGE], (EncodedPrompt([5], [5]), EncodedPrompt([6], [6])))
    with pytest.raises(ValueError, match="labels: row 0, position 2 is the first of a segment"):
        rows_to_batch([[learnt_at_once]], pad=0)


def test_labels_at_the_start_of_a_segment_are_refused_by_the_loss(small, phantoms):
    model, processor = adapted_model(small, torch.float32)
    batch = PrefixCollator(processor)(questions(phantoms, (3, 2)))
    start = int((batch["segment_ids"][0] == 2).nonzero()[0])
    batch["labels"][0, start] = 7
    with pytest.raises(ValueError, match=f"labels: row 0, position {start} is the first of a segment"):
        learnt_loss(model, batch, "token_mean")
    refuse_learnt_starts(batch["labels"].roll(1, 1), torch.zeros_like(batch["labels"]))  # one segment has no start


def test_prompts_that_differ_before_the_image_cannot_share_it():
    with pytest.raises(ValueError, match="must be alike up to the end of the image"):
        share_prefix([encoded([1, 5, IMAGE, 6], [2]), encoded([1, 4, IMAGE, 6], [2])], IMAGE)
    with pytest.raises(ValueError, match="go on behind it"):
        share_prefix([encoded([1, IMAGE], [2])], IMAGE)


def test_questions_past_the_budget_are_split_and_none_is_lost():
    shared = share_prefix([encoded([1, IMAGE, 3 + number], [2] * (1 + number)) for number in range(6)], IMAGE)
    parts = split_to_budget(shared, budget=11)
    assert [part.length for part in parts] == [11, 11, 11], "2 of prefix each, 27 of questions in all"
    assert sorted(len(segment.input_ids) for part in parts for segment in part.segments) == [2, 3, 4, 5, 6, 7]
    assert [len(part.segments) for part in split_to_budget(shared, budget=1)] == [1, 1, 2, 2]
    assert split_to_budget(shared, budget=29) == [shared]


# --- what a batch is made of -----------------------------------------------------------------------------------------


def test_a_batch_is_a_function_of_its_rows_alone(small, phantoms):
    _, processor = small
    asked = questions(phantoms, (3, 1, 2, 4))
    first, second = PrefixCollator(processor, RELEASED_CODE, seed=1), PrefixCollator(processor, RELEASED_CODE, seed=1)
    second(asked[4:])  # another history
    for name, values in first(asked).items():
        assert values.equal(second(asked)[name]), name


def test_pictures_cropped_at_random_are_not_shared(small, phantoms):
    _, processor = small
    asked = questions(phantoms, (3, 1))
    batch = PrefixCollator(processor, RELEASED_CODE, token_budget=1)(asked)
    plain = TrainingCollator(processor, RELEASED_CODE)(asked)
    assert "segment_ids" not in batch
    longest_first = (-plain["attention_mask"].sum(1)).argsort(stable=True)
    assert batch["input_ids"].equal(plain["input_ids"][longest_first])
    assert batch["pixel_values"].equal(plain["pixel_values"][longest_first])


def test_all_questions_of_the_blank_picture_share_it(small, phantoms):
    _, processor = small
    batch = PrefixCollator(processor, blank_images=True)(questions(phantoms, (3, 1, 2)))
    assert batch["pixel_values"].shape[0] == 1 and count_answers(batch) == 6


def test_a_broken_picture_s_questions_are_written_down_and_not_learnt(small, phantoms, tmp_path):
    model, processor = small
    asked = questions(phantoms, (3, 2))
    bad = [
        {**row, "image": {"bytes": b"no picture", "path": None}}
        for row in asked
        if row["id"].startswith(asked[0]["id"][:-2])
    ]
    fine = [row for row in asked if not row["id"].startswith(asked[0]["id"][:-2])]
    broken = BrokenPictures(tmp_path / "broken.jsonl", 5)
    collator = PrefixCollator(processor, broken=broken)
    batch = collator([*bad, *fine])
    assert count_answers(batch) == len(fine)
    assert set(broken.found()) == {row["id"] for row in bad}
    only_bad = collator(bad)
    loss = learnt_loss(model, only_bad, "answer_mean")
    assert loss.item() == 0 and count_answers(only_bad) == 0
    loss.backward()  # a step whose pictures are all broken still has a graph
    with pytest.raises(ValueError):
        PrefixCollator(processor, CLEAN)(bad)


@pytest.mark.parametrize(("changes", "message"), [({"token_budget": 0}, "token_budget must be at least 1")])
def test_a_budget_is_a_number_of_tokens(small, changes, message):
    with pytest.raises(ValueError, match=message):
        PrefixCollator(small[1], **changes)


def test_an_unknown_loss_is_named(small, phantoms):
    model, processor = small
    with pytest.raises(ValueError, match="token_mean or answer_mean, not 'mean'"):
        learnt_loss(model, PrefixCollator(processor)(questions(phantoms, (1,))), "mean")
