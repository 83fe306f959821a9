"""The comparison of PEFT methods: what each changes, what it freezes, and runs that can be stopped."""

from dataclasses import asdict, replace

import pytest

torch = pytest.importorskip("torch")

from running import run_notebook  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from pefomed import peft_methods  # noqa: E402
from pefomed.files import read_json  # noqa: E402
from pefomed.model.presets import load_base  # noqa: E402
from pefomed.peft_methods import LLAVA_METHODS, METHODS, SEED_METHODS, UPDATE_FILE, compare_methods, make_world  # noqa: E402
from pefomed.peft_networks import Method, adapt, trainable_counts  # noqa: E402

KNOWN = {method.name: method for method in (*METHODS, *LLAVA_METHODS, *SEED_METHODS)}
WIDTH, LAYERS, MLP, PATCH_WIDTH = 32, 2, 64, 32  # of the random base in tests/conftest.py

PROJECTOR = 4 * PATCH_WIDTH * WIDTH + WIDTH


def adapted(name: str, tiny_base, **changes):
    """A known method, changed, on the tests' base: (network, processor, base)."""
    base, processor = load_base("tiny", tiny_base, dtype=torch.float32)
    network, processor = adapt(replace(KNOWN[name], **changes), base, processor)
    return network, processor, base


@pytest.fixture(scope="module")
def world(tiny_base):
    return make_world(pictures=3, validation_pictures=2, captions=4, epochs=1, base_dir=str(tiny_base))


def test_names_are_told_apart():
    assert len(KNOWN) == len(METHODS) + len(LLAVA_METHODS) + len(SEED_METHODS)
    assert len({method.label for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize(
    ("name", "adapter", "projector"),
    [
        ("zero_shot", 0, 0),
        ("projector", 0, PROJECTOR),
        ("lora_only_r4", LAYERS * 2 * 4 * 2 * WIDTH, 0),
        ("qv_r16", LAYERS * 2 * 16 * 2 * WIDTH, PROJECTOR),
        ("attention_r16", LAYERS * 4 * 16 * 2 * WIDTH, PROJECTOR),
        ("linear_r16", LAYERS * 16 * (4 * 2 * WIDTH + 3 * (WIDTH + MLP)), PROJECTOR),
        ("rslora_r64_alpha16", LAYERS * 2 * 64 * 2 * WIDTH, PROJECTOR),
        ("dora_r16", LAYERS * 2 * (16 * 2 * WIDTH + WIDTH), PROJECTOR),
        ("ia3", LAYERS * (2 * WIDTH + MLP), 0),
        ("prompt_8", 8 * WIDTH, 0),
        ("fresh_ungrouped", LAYERS * 2 * 16 * 2 * WIDTH, PATCH_WIDTH * WIDTH + WIDTH),
        ("fresh_ungrouped_mlp", LAYERS * 2 * 16 * 2 * WIDTH, PATCH_WIDTH * WIDTH + WIDTH + WIDTH * WIDTH + WIDTH),
    ],
)
def test_what_trains_is_counted_by_hand(name, adapter, projector, tiny_base):
    network, _, base = adapted(name, tiny_base)
    assert trainable_counts(network) == {"adapter": adapter, "projector": projector, "total": adapter + projector}
    assert not any(parameter.requires_grad for parameter in base.model.vision_tower.parameters())


def test_full_fine_tuning_trains_the_language_model_and_the_projector_alone(tiny_base):
    network, _, base = adapted("full", tiny_base)
    whole = sum(parameter.numel() for parameter in base.parameters())
    tower = sum(parameter.numel() for parameter in base.model.vision_tower.parameters())
    assert trainable_counts(network)["total"] == whole - tower


@pytest.mark.parametrize("name", ["qv_r16", "linear_r16", "rslora_r64_alpha16", "dora_r16", "ia3", "full"])
def test_a_method_begins_as_the_base(name, tiny_base):
    base, processor = load_base("tiny", tiny_base, dtype=torch.float32)
    ids = torch.tensor([processor.encode("[INST] <Img><ImageHere></Img> is it? [/INST]").input_ids])
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        before = base(input_ids=ids, pixel_values=pixels).logits
        network, _ = adapt(KNOWN[name], base, processor)
        after = network.eval()(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_prompt_tuning_lays_words_of_the_vocabulary_before_the_image(tiny_base):
    base, processor = load_base("tiny", tiny_base, dtype=torch.float32)
    own = base.model.multi_modal_projector
    network, prompted = adapt(KNOWN["prompt_8"], base, processor)
    assert prompted.image_tokens == processor.image_tokens + 8
    ids = prompted.encode("[INST] <Img><ImageHere></Img> is it? [/INST]").input_ids
    assert ids.count(prompted.image_token_id) == prompted.image_tokens
    grouped = torch.randn(1, processor.image_tokens, own.weight.shape[1])
    with torch.no_grad():
        seen = base.model.project(grouped)[0]
    torch.testing.assert_close(seen[8:], own(grouped)[0])
    table = base.get_input_embeddings().weight
    assert all((table == vector).all(dim=1).any() for vector in seen[:8])


def test_scaling_follows_alpha_and_the_kind_of_lora(tiny_base):
    found = {}
    for name in ("qv_r64", "qv_r64_alpha16", "rslora_r64_alpha16"):
        network, _, _ = adapted(name, tiny_base)
        scalings = {part.scaling["default"] for part in network.modules() if hasattr(part, "lora_A")}
        assert len(scalings) == 1
        found[name] = scalings.pop()
    assert found == {"qv_r64": 2.0, "qv_r64_alpha16": 0.25, "rslora_r64_alpha16": 2.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": "lora2"}, "adapter must be one of"),
        ({"targets": "mlp"}, "targets must be one of"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"projector": False, "stage1": "projector"}, "freezes the projector"),
    ],
)
def test_an_impossible_method_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Method(**{"name": "x", "label": "x", "learning_rate": 1e-3, **changes})


def test_other_groups_need_a_new_projector(tiny_base):
    with pytest.raises(ValueError, match="tokens_per_group need projector_start"):
        adapted("qv_r16", tiny_base, tokens_per_group=1)


def test_features_are_encoded_once_and_regrouped(world, tiny_base, monkeypatch):
    world = replace(world, features={})
    encoded = []
    real = peft_methods.FeatureStore._encode
    monkeypatch.setattr(
        peft_methods.FeatureStore, "_encode", lambda store, pixels: encoded.append(1) or real(store, pixels)
    )
    stores = {}
    for name in ("qv_r1", "fresh_ungrouped"):
        network, processor, base = adapted(name, tiny_base)
        stores[name] = peft_methods._kept_features(world, base.model, processor)
    assert len(encoded) == len(world.features) == 6  # three pictures of questions are also captioned
    image = world.train[0]["image"]
    grouped, alone = (store.features(image, "x") for store in stores.values())
    assert tuple(grouped.shape) == (4, 4 * PATCH_WIDTH) and tuple(alone.shape) == (16, PATCH_WIDTH)
    pixels = torch.from_numpy(stores["qv_r1"].pixels.pixels(image, "x")).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(base.model.encode_images(pixels)[0], alone, rtol=1e-4, atol=1e-5)


def test_the_projector_goes_first_alone_and_then_both(world, monkeypatch, tmp_path):
    trained = []

    def fit(network, processor, stage, rows, seed, store):
        trained.append((stage.name, len(rows), trainable_counts(network)))
        return []

    monkeypatch.setattr(peft_methods, "_fit", fit)
    peft_methods.run_method(KNOWN["llava"], world, tmp_path)
    first, second = trained
    assert first[:2] == ("stage1_captions", 4) and second[:2] == ("stage2_vqa", 24)
    assert first[2]["adapter"] == 0 and first[2]["projector"] == second[2]["projector"] > 0
    assert second[2]["adapter"] == LAYERS * 16 * (4 * 2 * WIDTH + 3 * (WIDTH + MLP))


def test_runs_are_judged_kept_and_not_repeated(world, tmp_path, monkeypatch):
    names = ("zero_shot", "qv_r1", "prompt_8", "full", "llava")
    chosen = [KNOWN[name] for name in names]
    results = compare_methods(chosen, world, tmp_path, progress=False)
    for name, found in results.items():
        assert found == read_json(tmp_path / f"{name}.json")
        assert found["method"] == asdict(KNOWN[name])
        assert len(found["right"]) == len(found["group"]) == 16
        assert found["exact_match"]["overall"] == pytest.approx(100 * sum(found["right"]) / 16)
        assert bool(found["losses"]) == (name != "zero_shot")
    assert {row["stage"] for row in results["llava"]["losses"]} == {"stage1_captions", "stage2_vqa"}

    update = load_file(tmp_path / UPDATE_FILE)
    assert all("vision_tower" not in name for name in update)
    assert sum(tensor.numel() for tensor in update.values()) == results["full"]["trainable"]["total"]
    assert any(tensor.abs().max() > 0 for tensor in update.values())

    (tmp_path / "qv_r1.json").unlink()
    ran = []
    monkeypatch.setattr(peft_methods, "run_method", lambda method, *rest: ran.append(method.name) or results["qv_r1"])
    assert compare_methods(chosen, world, tmp_path, progress=False) == results
    assert ran == ["qv_r1"]
    with pytest.raises(ValueError, match="qv_r1.json: made with other settings"):
        compare_methods([replace(KNOWN["qv_r1"], learning_rate=1e-5)], world, tmp_path, progress=False)


def test_a_method_ends_the_same_with_the_same_seed_alone(world, tmp_path):
    methods = (KNOWN["qv_r16"], KNOWN["qv_r16"], KNOWN["qv_r16_seed1"])
    first, second, other = (peft_methods.run_method(method, world, tmp_path) for method in methods)
    assert first["losses"] == second["losses"] and first["right"] == second["right"]
    assert first["losses"] != other["losses"]


@pytest.mark.slow
def test_the_notebook_runs_what_it_is_asked_for(tiny_base, tmp_path):
    (tmp_path / "base").symlink_to(tiny_base)
    small = {"pictures": 2, "validation_pictures": 2, "captions": 2, "epochs": 1, "base_dir": "base"}
    ran = run_notebook("peft_methods", tmp_path, output_dir="found", only="zero_shot,qv_r1", **small)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"zero_shot.json", "qv_r1.json"}
