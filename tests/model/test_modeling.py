"""The network: found by the auto classes, saved and loaded, and every way to the same answer gives the same answer."""

import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, pipeline
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pefomed.model import PefomedConfig, PefomedForConditionalGeneration, PefomedModel, PefomedProcessor
from pefomed.model.adapters import fresh_adapter
from pefomed.model.modeling import group_tokens

NEW_TOKENS = 12


def answers_of(model, batch, rows=slice(None), **arguments) -> list[list[int]]:
    """New tokens of each row; without `pixel_values` or the like among `arguments` the rows' pixels are given."""
    arguments = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0, **arguments}
    if not {"vision_features", "mm_encoder_outputs"} & set(arguments):
        arguments["pixel_values"] = batch.pixel_values[rows]
    ids = batch.input_ids[rows]
    out = model.generate(input_ids=ids, attention_mask=batch.attention_mask[rows], **arguments)
    return out[:, ids.shape[1] :].tolist()


# --- found, saved, loaded --------------------------------------------------------------------------------------------


def test_the_auto_classes_find_a_saved_folder(saved):
    assert type(AutoConfig.from_pretrained(saved)) is PefomedConfig
    assert type(AutoModelForImageTextToText.from_pretrained(saved)) is PefomedForConditionalGeneration
    assert type(AutoModel.from_pretrained(saved)) is PefomedModel
    assert type(AutoProcessor.from_pretrained(saved)) is PefomedProcessor


def test_saved_weights_are_safetensors_and_give_equal_logits(saved, model, batch, logits_of):
    assert (saved / "model.safetensors").is_file()
    assert not [path for path in saved.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
    loaded = AutoModelForImageTextToText.from_pretrained(saved).eval()
    assert torch.equal(logits_of(loaded), logits_of(model))


def test_a_tied_head_survives_saving(config, batch, tmp_path, logits_of):
    tied = PefomedConfig.from_dict({**config.to_dict(), "tie_word_embeddings": True})
    torch.manual_seed(0)
    model = PefomedForConditionalGeneration(tied).eval()
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    model.save_pretrained(tmp_path)
    loaded = PefomedForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    assert torch.equal(logits_of(loaded), logits_of(model))


# --- the way of the image --------------------------------------------------------------------------------------------


def test_grouping_drops_the_class_token_and_joins_neighbours_in_row_major_order():
    tower = torch.arange(2 * 9 * 3).reshape(2, 9, 3).float()
    grouped = group_tokens(tower, 4)
    assert grouped.shape == (2, 2, 12)
    assert torch.equal(grouped[1, 0], torch.cat([tower[1, 1], tower[1, 2], tower[1, 3], tower[1, 4]]))
    assert torch.equal(grouped[0, 1], tower[0, 5:].flatten())


def test_the_image_changes_the_answer(model, batch, logits_of):
    swapped = batch.pixel_values.roll(1, dims=0)
    difference = logits_of(model) - logits_of(model, pixel_values=swapped)
    assert difference[:, -1].abs().amax(dim=-1).min() > 1e-3


def test_each_image_goes_to_its_own_row(model, batch, logits_of):
    alone = [
        model(input_ids=torch.tensor([row]), pixel_values=pixels[None]).logits[0, -1]
        for row, pixels in zip(batch.rows, batch.pixel_values, strict=True)
    ]
    torch.testing.assert_close(logits_of(model)[:, -1], torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_vision_features_stand_in_for_pixels_in_logits_and_gradients(fresh_model, batch):
    features = fresh_model.model.encode_images(batch.pixel_values).detach()
    assert features.shape == (3, 4, 128)
    results = []
    for source in ({"pixel_values": batch.pixel_values}, {"vision_features": features}):
        fresh_model.zero_grad()
        out = fresh_model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=targets(batch), **source
        )
        out.loss.backward()
        projector = fresh_model.model.multi_modal_projector
        results.append((out.logits.detach(), projector.weight.grad.clone(), projector.bias.grad.clone()))
    for from_pixels, from_features in zip(*results, strict=True):
        assert from_pixels.abs().max() > 0
        assert torch.equal(from_pixels, from_features)


def targets(batch) -> torch.Tensor:
    """Labels on the last three tokens of each row."""
    labels = batch.input_ids.clone()
    labels[:, :-3] = -100
    return labels


def test_encoded_images_stand_in_for_pixels(model, batch, logits_of):
    encoded = {"image": model.get_image_features(batch.pixel_values)}
    assert torch.equal(logits_of(model, mm_encoder_outputs=encoded), logits_of(model))
    plain = {"image": BaseModelOutputWithPooling(pooler_output=torch.stack(encoded["image"].pooler_output))}
    assert answers_of(model, batch, mm_encoder_outputs=plain) == answers_of(model, batch)


def test_inputs_embeds_without_an_image_equal_input_ids(model):
    ids = torch.tensor([[1, 300, 301]])
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=embeds).logits, model(input_ids=ids).logits)


# --- generation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_from_pixels_equals_generation_from_features(model, batch, beams):
    features = model.model.encode_images(batch.pixel_values).detach()
    from_pixels = answers_of(model, batch, num_beams=beams)
    assert answers_of(model, batch, vision_features=features, num_beams=beams) == from_pixels
    assert len({tuple(answer) for answer in from_pixels}) == 3


@pytest.mark.parametrize("beams", [1, 3])
def test_a_left_padded_batch_answers_as_one_by_one(model, batch, beams):
    together = answers_of(model, batch, num_beams=beams)
    for index, row in enumerate(batch.rows):
        alone = model.generate(
            input_ids=torch.tensor([row]),
            pixel_values=batch.pixel_values[index : index + 1],
            do_sample=False,
            num_beams=beams,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=0,
        )
        assert alone[0, len(row) :].tolist() == together[index]


def test_beam_search_finds_an_answer_at_least_as_likely_as_greedy(model, batch):
    def score(answer: list[int]) -> float:
        ids = torch.tensor([batch.rows[0] + answer])
        with torch.no_grad():
            log_probs = model(input_ids=ids, pixel_values=batch.pixel_values[:1]).logits.log_softmax(-1)
        start = len(batch.rows[0])
        return sum(float(log_probs[0, start + i - 1, token]) for i, token in enumerate(answer))

    fixed = {"max_new_tokens": 2, "min_new_tokens": 2, "rows": slice(0, 1)}
    greedy, beams = (answers_of(model, batch, num_beams=n, **fixed)[0] for n in (1, 12))
    assert score(beams) >= score(greedy) - 1e-5


@pytest.mark.parametrize("source", ["pixel_values", "vision_features"])
def test_generation_with_and_without_cache_agree(model, batch, source):
    arguments = {}
    if source == "vision_features":
        arguments["vision_features"] = model.model.encode_images(batch.pixel_values).detach()
    assert answers_of(model, batch, use_cache=False, **arguments) == answers_of(model, batch, use_cache=True)


def test_generation_never_produces_the_image_token(model, batch, config):
    sampled = answers_of(model, batch, do_sample=True, temperature=5.0, max_new_tokens=40)
    assert max(max(answer) for answer in sampled) < config.image_token_index


def chat(picture, question: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]


def test_the_pipeline_answers_as_generate_does(model, processor, pictures, batch):
    pipe = pipeline("image-text-to-text", model=model, processor=processor)
    chats = [chat(picture, f"[vqa] {question}") for picture, question in zip(pictures, batch.questions, strict=True)]
    tokenizer = processor.tokenizer
    expected = [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers_of(model, batch)]
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    single = [pipe(text=one, generate_kwargs=settings, return_full_text=False)[0] for one in chats]
    batched = [found[0] for found in pipe(text=chats, batch_size=3, generate_kwargs=settings, return_full_text=False)]
    for found in (single, batched):
        assert [one["generated_text"].strip() for one in found] == [text.strip() for text in expected]


# --- one prefix, several questions -----------------------------------------------------------------------------------


def shared_and_separate(config) -> tuple[dict, dict]:
    """Two images with three and two questions: as shared rows, and as one row for each question."""
    image = [config.image_token_index] * config.image_tokens
    prefix = [1, 300, *image, 301, 302]
    questions = [
        [[310, 311, 312, 2], [320, 321, 2], [330, 331, 332, 333, 334, 2]],
        [[340, 2], [350, 351, 352, 353, 2]],
    ]
    width = len(prefix) + sum(map(len, questions[0]))
    shared = {name: [] for name in ("input_ids", "position_ids", "segment_ids", "attention_mask", "labels")}
    separate = {"input_ids": [], "attention_mask": [], "labels": []}
    longest = len(prefix) + max(len(tail) for tails in questions for tail in tails)
    for tails in questions:
        ids, labels = list(prefix), [-100] * len(prefix)
        segments, positions = [0] * len(prefix), list(range(len(prefix)))
        for number, tail in enumerate(tails, start=1):
            target = [-100, *tail[1:]]
            ids += tail
            labels += target
            segments += [number] * len(tail)
            positions += range(len(prefix), len(prefix) + len(tail))
            hole = longest - len(prefix) - len(tail)
            separate["input_ids"].append(prefix + tail + [0] * hole)
            separate["labels"].append([-100] * len(prefix) + target + [-100] * hole)
            separate["attention_mask"].append([1] * (longest - hole) + [0] * hole)
        hole = width - len(ids)
        shared["input_ids"].append(ids + [0] * hole)
        shared["labels"].append(labels + [-100] * hole)
        shared["segment_ids"].append(segments + [-1] * hole)
        shared["position_ids"].append(positions + [0] * hole)
        shared["attention_mask"].append([1] * len(ids) + [0] * hole)
    return tuple({name: torch.tensor(rows) for name, rows in rows.items()} for rows in (shared, separate))


def loss_and_gradients(model, pixels, inputs) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    out = model(pixel_values=pixels, **inputs)
    out.loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return out.loss.item(), grads


def relative_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert set(found) == set(expected)
    wrong = sum((found[name] - expected[name]).double().pow(2).sum() for name in expected)
    return float((wrong / sum(grad.double().pow(2).sum() for grad in expected.values())).sqrt())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_questions_that_share_a_prefix_learn_as_questions_apart(fresh_model, config, batch, attention):
    fresh_model.set_attn_implementation(attention)
    model = fresh_model.double()
    shared, separate = shared_and_separate(config)
    pixels = batch.pixel_values.double()
    loss, grads = loss_and_gradients(model, pixels[:2], shared)
    expected_loss, expected = loss_and_gradients(model, pixels[[0, 0, 0, 1, 1]], separate)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert relative_error(grads, expected) < 1e-6
    assert any("vision_tower" in name for name in expected) and any("projector" in name for name in expected)


def test_segments_matter(model, config, batch):
    shared, _ = shared_and_separate(config)
    with torch.no_grad():
        apart = model(pixel_values=batch.pixel_values[:2], **shared).loss
        shared["segment_ids"] = shared["segment_ids"].clamp(max=1)
        joined = model(pixel_values=batch.pixel_values[:2], **shared).loss
    assert abs(apart - joined) > 1e-4


def test_segments_with_a_kernel_that_has_no_mask_are_refused(config, batch, fresh_model):
    shared, _ = shared_and_separate(config)
    before = fresh_model.config.text_config._attn_implementation
    fresh_model.config.text_config._attn_implementation = "flash_attention_2"
    try:
        with pytest.raises(ValueError, match="segment_ids need a mask, which attn_implementation='flash_attention_2'"):
            fresh_model(pixel_values=batch.pixel_values[:2], **shared)
    finally:
        fresh_model.config.text_config._attn_implementation = before


def test_segments_without_positions_are_refused(model, config, batch):
    shared, _ = shared_and_separate(config)
    del shared["position_ids"]
    with pytest.raises(ValueError, match="segment_ids need position_ids"):
        model(pixel_values=batch.pixel_values[:2], **shared)


# --- training --------------------------------------------------------------------------------------------------------


def test_gradient_checkpointing_gives_the_same_gradients(fresh_model, config, batch):
    _, separate = shared_and_separate(config)
    pixels = batch.pixel_values[[0, 0, 0, 1, 1]]
    fresh_model.train()
    loss, expected = loss_and_gradients(fresh_model, pixels, separate)
    fresh_model.activation_checkpointing_enable()
    layers = [*fresh_model.model.language_model.layers, *fresh_model.model.vision_tower.encoder.layers]
    assert all(layer.gradient_checkpointing for layer in layers)
    again, found = loss_and_gradients(fresh_model, pixels, separate)
    assert again == loss
    assert relative_error(found, expected) < 1e-6


def test_the_projector_of_a_bfloat16_base_is_float32_and_moves_at_small_learning_rates(saved, config, batch):
    model = PefomedForConditionalGeneration.from_pretrained(saved, dtype=torch.bfloat16)
    kinds = {name.split(".")[1]: p.dtype for name, p in model.named_parameters() if name.startswith("model.")}
    assert kinds == {
        "vision_tower": torch.bfloat16,
        "multi_modal_projector": torch.float32,
        "language_model": torch.bfloat16,
    }
    adapted = fresh_adapter(model, r=4, alpha=4, dropout=0.0)
    weight = model.model.multi_modal_projector.modules_to_save.default.weight
    assert weight.dtype == torch.float32 and weight.requires_grad
    before = weight.detach().clone()
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-5, weight_decay=0.0)
    out = adapted(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        labels=targets(batch),
    )
    out.loss.backward()
    optimizer.step()
    step = (weight.detach() - before).abs()
    assert (step > 5e-6).float().mean() > 0.95
    assert (before.bfloat16() - step.bfloat16() == before.bfloat16()).float().mean() > 0.9


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_contradictory_and_missing_inputs_are_refused(model, batch, config):
    ids, pixels = batch.input_ids, batch.pixel_values
    features = model.model.encode_images(pixels).detach()
    encoded = {"image": model.get_image_features(pixels)}
    with pytest.raises(ValueError, match="only one of pixel_values, vision_features and mm_encoder_outputs"):
        model(input_ids=ids, pixel_values=pixels, vision_features=features)
    with pytest.raises(ValueError, match="only one of pixel_values, vision_features and mm_encoder_outputs"):
        model(input_ids=ids, vision_features=features, mm_encoder_outputs=encoded)
    with pytest.raises(ValueError, match="image positions, but neither pixel_values nor vision_features"):
        model(input_ids=ids)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(pixel_values=pixels)
    embeds = torch.zeros(3, 5, config.text_config.hidden_size)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(input_ids=ids, inputs_embeds=embeds)
    with pytest.raises(ValueError, match="only be placed among input_ids, not among inputs_embeds"):
        model(inputs_embeds=embeds, pixel_values=pixels)


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_features_are_refused_in_the_words_that_trl_looks_for(model, batch, images):
    message = rf"Image features and image tokens do not match: {4 * images} features, 12 positions"
    with pytest.raises(ValueError, match=message):
        model(input_ids=batch.input_ids, pixel_values=batch.pixel_values[:images])


def test_images_without_positions_are_refused(model, batch):
    with pytest.raises(ValueError, match="Image features and image tokens do not match: 12 features, 0 positions"):
        model(input_ids=torch.tensor([[1, 300, 301]]), pixel_values=batch.pixel_values)


@pytest.mark.parametrize("shape", [(3, 70, 70), (3, 28, 112), (1, 56, 56)])
def test_pictures_of_another_size_are_refused(model, batch, shape):
    with pytest.raises(ValueError, match=r"pixel_values must be \[images, 3, 56, 56\], found \[3, "):
        model(input_ids=batch.input_ids, pixel_values=torch.zeros(3, *shape))


def test_generating_warns_of_nothing(model, batch, recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers_of(model, batch)
