"""Answers from one prefix are those of one prompt at a time, in float32."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import DynamicCache

from pefomed.data import load_dataset
from pefomed.inference import prefix
from pefomed.inference.generate import answer_rows, generate_batches, write_predictions
from pefomed.inference.growing_cache import ROOM, growing_cache
from pefomed.inference.prefix import generate_answers, picture_batches, prefix_length
from pefomed.model.presets import load_base
from pefomed.predictions import read_predictions
from pefomed.procedure import CLEAN

QUESTIONS = (1, 3, 10)


@pytest.fixture
def asked(request):
    """A function of the model's name: (model, prompts [picture][question], pixels, pad and end token)."""

    def asked(name: str):
        model, processor = request.getfixturevalue(name)
        generator = torch.Generator().manual_seed(5)
        words = processor.tokenizer.vocab_size - 4
        side = processor.image_processor.size["height"]

        def text(length: int) -> list[int]:
            return (3 + torch.randint(words, (length,), generator=generator)).tolist()

        image = [processor.image_token_id] * processor.image_tokens
        prompts = []
        for number, count in enumerate(QUESTIONS):
            common = [1, *image, *text(2 + 3 * number)]
            prompts.append([common + text(1 + 5 * n % 13) for n in range(count)])
        pixels = torch.randn(len(prompts), 3, side, side, generator=generator)
        return model, prompts, pixels, {"pad": 0, "end": 2}

    return asked


def alone(model, prompts, pixels, pad, end, **settings) -> list[list[int]]:
    """Each prompt by transformers' own generate; new ids up to and without the end token."""
    found = []
    for seen, same in zip(pixels, prompts, strict=True):
        for ids in same:
            ids = torch.tensor([ids])
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=seen[None],
                do_sample=False,
                pad_token_id=pad,
                eos_token_id=end,
                **settings,
            )
            found.append(until(out[0, ids.shape[1] :], end))
    return found


def until(ids: torch.Tensor, end: int) -> list[int]:
    ids = ids.tolist()
    return ids[: ids.index(end)] if end in ids else ids


@pytest.mark.parametrize("name", ["shipped", "random_weights"])
@pytest.mark.parametrize(("beams", "new_tokens"), [(1, 1), (1, 12), (3, 6)])
@torch.inference_mode()
def test_prefix_equals_separate_prompts(asked, name, beams, new_tokens):
    model, prompts, pixels, ids = asked(name)
    settings = {"num_beams": beams, "max_new_tokens": new_tokens}
    single = alone(model, prompts, pixels, **ids, **settings)
    together = [until(row, ids["end"]) for row in generate_answers(model, prompts, pixels, **ids, **settings)]
    assert together == single
    by_picture = [
        until(row, ids["end"])
        for same, seen in zip(prompts, pixels, strict=True)
        for row in generate_answers(model, [same], seen[None], **ids, **settings)
    ]
    assert by_picture == single
    assert len({tuple(answer) for answer in single}) > 3, "a model that always says the same proves nothing"


@torch.inference_mode()
def test_the_prefix_is_run_once(asked):
    model, prompts, pixels, ids = asked("random_weights")
    lengths = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, arguments, given: lengths.append(tuple(given["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    generate_answers(model, prompts[1:], pixels[1:], max_new_tokens=1, **ids)
    hook.remove()
    heads = [prefix_length(same) for same in prompts[1:]]
    tails = [len(p) - head for head, same in zip(heads, prompts[1:], strict=True) for p in same]
    assert lengths == [(2, max(heads)), (13, max(tails))]


@torch.inference_mode()
def test_an_adapted_model_keeps_its_adapter(asked, random_weights):
    _, prompts, pixels, ids = asked("random_weights")
    # A model of its own: peft changes the one that it is given.
    base, _ = load_base("tiny", random_weights[0].name_or_path, dtype=torch.float32)
    torch.manual_seed(2)
    lora = LoraConfig(
        r=4,
        target_modules=r".*language_model.*(q_proj|v_proj)",
        modules_to_save=["multi_modal_projector"],
        init_lora_weights=False,
    )
    adapted = get_peft_model(base, lora).eval()
    with torch.no_grad():
        adapted.get_base_model().model.multi_modal_projector.modules_to_save["default"].weight.mul_(3)
    single = alone(adapted, prompts, pixels, max_new_tokens=6, **ids)
    assert [until(row, 2) for row in generate_answers(adapted, prompts, pixels, max_new_tokens=6, **ids)] == single
    assert single != alone(random_weights[0], prompts, pixels, max_new_tokens=6, **ids)


@torch.inference_mode()
def test_rows_that_ended_leave_the_batch(asked, monkeypatch):
    """An end token that most of the answers asked for say, at different steps."""
    model, prompts, pixels, ids = asked("random_weights")
    same, seen = prompts[2], pixels[2:]
    free = alone(model, [same], seen, max_new_tokens=12, **ids)
    said = [token for answer in free for token in set(answer)]
    ids["end"] = max(set(said), key=said.count)
    ending = [row for row, answer in enumerate(free) if ids["end"] in answer]
    going = [row for row in range(len(free)) if row not in ending][: len(ending)]
    prompts = [[same[row] for row in ending + going]]
    single = alone(model, prompts, seen, max_new_tokens=12, **ids)
    assert len(going) == sum(len(answer) == 12 for answer in single) > 0
    rows, kept = [], prefix._kept
    monkeypatch.setattr(prefix, "_kept", lambda out, going: rows.append(int(going.sum())) or kept(out, going))
    answers = generate_answers(model, prompts, seen, max_new_tokens=12, **ids)
    assert [until(row, ids["end"]) for row in answers] == single
    assert rows and len(going) <= rows[0] <= len(prompts[0]) / 2
    assert all(2 * later <= earlier for earlier, later in zip(rows, rows[1:], strict=False))


def test_prefix_length():
    assert prefix_length([[1, 2, 3, 4], [1, 2, 5]]) == 2
    assert prefix_length([[1, 2, 3], [1, 2, 3]]) == 2, "the last token gives the first logits"
    assert prefix_length([[1, 2], [1, 2, 3]]) == 1
    assert prefix_length([[7, 8]]) == 1


def test_picture_batches_hold_every_row_once_and_whole_pictures():
    pictures = ["a", "b", "a", "c", "b", "a", "d", "e", "b", "b", "b"]
    lengths = [5, 9, 7, 3, 9, 6, 8, 4, 2, 1, 3]
    batches = picture_batches(pictures, lengths, 4)
    assert batches == [[[0, 5, 2]], [[9, 8, 10, 1]], [[3], [7], [6], [4]]]
    for size in (1, 2, 3, 5, 100):
        batches = picture_batches(pictures, lengths, size)
        assert sorted(row for batch in batches for same in batch for row in same) == list(range(11))
        assert max(sum(map(len, batch)) for batch in batches) <= size
        assert all(len({pictures[row] for row in same}) == 1 for batch in batches for same in batch)
    assert [batch[0][0] for batch in picture_batches(pictures, lengths, 1)] == [9, 8, 3, 10, 7, 0, 5, 2, 6, 1, 4]


def test_the_growing_cache_holds_what_the_usual_one_holds(random_weights):
    model, _ = random_weights
    ours, usual = growing_cache(model.config), DynamicCache(config=model.config.get_text_config())
    for length in (5, 1, ROOM, 1, 3 * ROOM):
        for layer in (0, 1):
            new = torch.randn(2, 3, length, 4), torch.randn(2, 3, length, 4)
            for mine, theirs in zip(ours.update(*new, layer), usual.update(*new, layer), strict=True):
                assert torch.equal(mine, theirs)
        if length == 1:
            for cache in (ours, usual):
                cache.crop(-1)
                cache.reorder_cache(torch.tensor([1, 0]))
        assert ours.get_seq_length() == usual.get_seq_length()
    ours.batch_select_indices(torch.tensor([1, 1, 0]))
    assert ours.layers[0].keys.shape[0] == 3
    ours.reset()
    assert ours.get_seq_length() == 0


def test_it_grows_in_place(random_weights):
    cache = growing_cache(random_weights[0].config)
    cache.update(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2), 0)
    address = cache.layers[0].keys.data_ptr()
    for _ in range(ROOM):
        cache.update(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), 0)
    assert cache.layers[0].keys.data_ptr() == address
    cache.update(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), 0)
    assert cache.layers[0].keys.data_ptr() != address


@pytest.fixture(scope="module")
def phantoms():
    """Twelve drawn pictures, 8 questions and a report each."""
    rows = list(load_dataset("phantoms", split="test", images=12))
    return rows, list(load_dataset("phantoms", split="test", images=12, task="report"))


@pytest.mark.parametrize("changes", [{}, {"num_beams": 3}, {"pictures": "blank"}, {"pictures": "shuffled"}])
def test_predictions_are_the_same_bytes_with_and_without(shipped, phantoms, tmp_path, changes):
    model, processor = shipped
    rows = (phantoms[0] if not changes else phantoms[0][:40]) + phantoms[1][:3]
    arguments = {"model_name": "m", "condition": "c", "progress": False, "processor": processor, "max_new_tokens": 20}
    found = [
        write_predictions(
            model, rows, tmp_path / f"{shared}.jsonl", shared_prefix=shared, **arguments, **changes
        ).read_bytes()
        for shared in (True, False)
    ]
    assert found[0] == found[1]
    assert len({json.loads(line)["prediction"] for line in found[0].splitlines()}) > 5


def test_reports_are_answered_as_one_by_one(shipped, phantoms):
    model, processor = shipped
    asked = {"processor": processor, "max_new_tokens": 40}
    reports = answer_rows(model, phantoms[1], **asked)
    assert reports == answer_rows(model, phantoms[1], batch_size=1, **asked)
    assert len(set(reports)) > 3


def test_neither_the_order_of_rows_nor_an_interruption_shows(shipped, phantoms, tmp_path, monkeypatch):
    model, processor = shipped
    rows = phantoms[0]
    arguments = {"model_name": "m", "condition": "c", "progress": False, "processor": processor, "batch_size": 16}
    whole = write_predictions(model, rows, tmp_path / "whole.jsonl", **arguments)
    turned = write_predictions(model, rows[::-1], tmp_path / "turned.jsonl", **arguments)
    assert read_predictions(turned)[::-1] == read_predictions(whole)

    real, calls = prefix.generate_tokens, []

    def killed(*given, **settings):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given, **settings)

    monkeypatch.setattr(prefix, "generate_tokens", killed)
    path = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_predictions(model, rows, path, **arguments)
    done = read_predictions(tmp_path / "killed.jsonl.partial")
    assert len(done) == 3 * 16
    pictures = {row["group"] for row in done}
    assert all(sum(row["group"] == group for row in done) == 8 for group in pictures), "whole pictures"
    write_predictions(model, rows, path, **arguments)
    assert path.read_bytes() == whole.read_bytes()
    assert len(calls) == 4 + 3, "six batches, three of them answered before the interrupt"


def test_rows_with_crops_of_their_own_share_nothing(random_weights, phantoms):
    model, processor = random_weights
    cropped = replace(CLEAN, name="cropped", augment_test_images=True)
    asked = {"processor": processor, "procedure": cropped, "batch_size": 3, "max_new_tokens": 2}
    batches = list(generate_batches(model, phantoms[0][:16], **asked))
    lengths = [len(batch) for batch in batches]
    assert lengths == [3, 3, 3, 3, 3, 1], "plain batches do not keep a picture's eight questions together"
