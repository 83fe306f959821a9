"""Features of the frozen tower, kept in memory and on disk: the same bits, whatever happens to the files."""

import errno
import multiprocessing
import os
import random
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pefomed import files
from pefomed.data import load_dataset
from pefomed.inference.generate import answer_rows
from pefomed.model.adapters import fresh_adapter
from pefomed.model.presets import load_base
from pefomed.procedure import CLEAN, RELEASED_CODE
from pefomed.settings import RunSettings
from pefomed.training import features as module
from pefomed.training.broken import BrokenPictures
from pefomed.training.collator import PICTURES as SHOWN
from pefomed.training.collator import PixelStore, TrainingCollator
from pefomed.training.features import FeatureStore
from pefomed.training.run import train_stage
from pefomed.training.stages import get_stage
from pefomed.training.tower import ParkTower, tower_fingerprint

PICTURES = 40
KILLS = [5, pytest.param(20, marks=pytest.mark.slow)]
STAGE = get_stage(
    "stage2_vqa", "tiny", epochs=3, steps_per_epoch=1, batch_size=8, warmup_steps=1, save_steps=1, max_text_tokens=8
)


@pytest.fixture(scope="module")
def pictures() -> list[dict]:
    """A question each about pictures that differ."""
    found = {row["group"]: row for row in load_dataset("phantoms", split="train", images=PICTURES)}
    return list(found.values())


@pytest.fixture
def few_a_shard(monkeypatch) -> None:
    monkeypatch.setattr(module, "SHARD_PICTURES", 3)


def store_of(small, folder=None, procedure=CLEAN, **changes) -> FeatureStore:
    model, processor = small
    return FeatureStore(model.model, PixelStore(processor, procedure), folder, **changes)


def all_of(store: FeatureStore, rows: list[dict]) -> torch.Tensor:
    return torch.stack([store.features(row["image"], row["id"]) for row in rows])


def fill(store: FeatureStore, rows: list[dict], **changes) -> int:
    return store.fill(rows, **{"progress": False, **changes})


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def in_a_process(work, *arguments) -> multiprocessing.Process:
    """A copy of this process, so that nothing is imported anew."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def slow_fill(small, folder: Path, rows: list[dict], seconds: float) -> None:
    """Fills, and lingers over each picture and between a shard's last byte and its name."""
    encode, sync = FeatureStore._encode, os.fsync

    def lingering_encode(self, pixels):
        time.sleep(seconds)
        return encode(self, pixels)

    def lingering_sync(descriptor):
        time.sleep(seconds)
        sync(descriptor)

    FeatureStore._encode, files.os.fsync = lingering_encode, lingering_sync
    fill(store_of(small, folder), rows)


def test_memory_and_disk_keep_what_the_tower_makes_of_each_picture_alone(small, pictures, tmp_path, few_a_shard):
    memory, disk = store_of(small), store_of(small, tmp_path)
    assert fill(memory, pictures) == fill(disk, pictures) == PICTURES
    assert fill(memory, pictures) == fill(disk, pictures) == 0
    model, _ = small
    with torch.no_grad():
        pixels = [torch.from_numpy(memory.pixels.pixels(row["image"], row["id"])) for row in pictures]
        alone = torch.stack([model.model.encode_images(one.unsqueeze(0))[0] for one in pixels])
        together = model.model.encode_images(torch.stack(pixels))
    assert all_of(memory, pictures).equal(alone)
    assert all_of(disk, pictures).equal(alone)
    assert all_of(store_of(small, tmp_path), pictures).equal(alone), "opened again"
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)  # a batch differs in the last bits
    assert len({tuple(one.flatten().tolist()) for one in alone}) == PICTURES
    assert len(shards(tmp_path)) == -(-PICTURES // 3)
    assert memory.bytes_each == alone[0].nbytes


def test_a_complete_store_asks_the_tower_for_nothing(small, pictures, tmp_path):
    fill(store_of(small, tmp_path), pictures)
    store = store_of(small, tmp_path)
    small[0].model.vision_tower.register_forward_pre_hook(lambda *_: pytest.fail("the tower was called"))
    assert fill(store, pictures) == 0
    assert all_of(store, pictures).shape[0] == PICTURES


def test_one_picture_of_many_questions_is_encoded_once_wherever_it_lies(small, pictures, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(pictures[0]["image"]["bytes"])
    there = {**pictures[0], "image": {"bytes": None, "path": str(path)}}
    store = store_of(small)
    assert fill(store, [pictures[0], there, pictures[0], pictures[1]]) == 2
    assert store.features(there["image"], "a").equal(store.features(pictures[0]["image"], "b"))


@pytest.mark.parametrize("kills", KILLS)
def test_killed_while_filling_it_goes_on_and_ends_with_the_same_bits(small, pictures, tmp_path, monkeypatch, kills):
    monkeypatch.setattr(module, "SHARD_PICTURES", 1)
    memory = store_of(small)
    fill(memory, pictures)
    longest = 0.4
    lingers = kills * longest / (3 * PICTURES)  # thrice a picture, so that no kill comes after the end
    rng, counts = random.Random(kills), []
    for _ in range(kills):
        process = in_a_process(slow_fill, small, tmp_path, pictures, lingers)
        time.sleep(rng.uniform(0.05, longest))
        assert process.is_alive()
        process.kill()
        process.join()
        counts.append(len(shards(tmp_path)))
    assert counts == sorted(counts), "nothing that was whole went away"
    store = store_of(small, tmp_path)
    assert fill(store, pictures) == PICTURES - counts[-1]
    assert all_of(store, pictures).equal(all_of(memory, pictures))
    assert not [path for path in shards(tmp_path) if files.sha256_file(path) != path.stem]


def test_what_a_dead_writer_left_behind_goes_once_it_is_old(small, pictures, tmp_path):
    folder = store_of(small, tmp_path).shards.folder
    old, new = folder / ".a.safetensors.1.part", folder / ".b.safetensors.2.part"
    old.write_bytes(b"half"), new.write_bytes(b"half")
    os.utime(old, (0, 0))
    fill(store_of(small, tmp_path), pictures[:2])
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "a bit"])
def test_a_damaged_shard_is_found_and_made_again(small, pictures, tmp_path, few_a_shard, capsys, damage):
    fill(store_of(small, tmp_path), pictures)
    before, path = [p.name for p in shards(tmp_path)], shards(tmp_path)[4]
    data = bytearray(path.read_bytes())
    data[-5] ^= damage == "a bit"
    path.write_bytes({"cut": data[:-100], "empty": b"", "a bit": data}[damage])
    store = store_of(small, tmp_path)
    assert 1 <= fill(store, pictures, progress=True) <= 3
    assert "1 damaged file" in capsys.readouterr().out
    assert all(files.sha256_file(p) == p.stem for p in shards(tmp_path)) and len(shards(tmp_path)) == len(before)
    memory = store_of(small)
    assert all_of(store, pictures).equal(all_of(memory, pictures))


def changed_weight(model, processor):
    with torch.no_grad():
        next(model.model.vision_tower.parameters()).view(-1)[-1].add_(1e-6)


def changed_epsilon(model, processor):
    model.model.config.post_layernorm_eps *= 2


def changed_mean(model, processor):
    processor.image_processor.image_mean = [0.5, 0.5, 0.5]


def changed_dtype(model, processor):
    model.model.vision_tower.to(torch.bfloat16)


@pytest.mark.parametrize("change", [changed_weight, changed_epsilon, changed_mean, changed_dtype])
def test_another_tower_or_preprocessing_has_another_store(small, pictures, tmp_path, change):
    first = store_of(small, tmp_path)
    fill(first, pictures)
    change(*small)
    second = store_of(small, tmp_path)
    assert second.shards.folder != first.shards.folder
    assert fill(second, pictures[:3]) == 3, "nothing out of date is met"


@pytest.mark.parametrize("name", ["window_16bit", "drop_alpha", "apply_exif"])
def test_another_reading_of_pictures_has_another_store(small, tmp_path, name):
    procedure = replace(CLEAN, **{name: not getattr(CLEAN, name)})
    assert store_of(small, tmp_path).shards.folder != store_of(small, tmp_path, procedure).shards.folder


def test_what_trains_does_not_change_the_store(small, tmp_path):
    model, processor = small
    folder, before = store_of(small, tmp_path).shards.folder, tower_fingerprint(model.model)
    adapted = fresh_adapter(model, 4, 4, 0.0).get_base_model()
    with torch.no_grad():
        adapted.model.multi_modal_projector.weight.add_(1)
    assert tower_fingerprint(adapted.model) == before
    assert store_of((adapted, processor), tmp_path).shards.folder == folder


def test_two_writers_fill_one_folder(small, pictures, tmp_path, few_a_shard):
    writers = [in_a_process(slow_fill, small, tmp_path, pictures, 0.005) for _ in range(2)]
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store, memory = store_of(small, tmp_path), store_of(small)
    assert fill(store, pictures) == 0, "both ended with all of them"
    assert all_of(store, pictures).equal(all_of(memory, pictures))


def limited_fill(small, folder: Path, rows: list[dict], largest: int, said) -> None:
    """The system refuses to write a file past a size, in the middle of its content, as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        fill(store_of(small, folder), rows)
    except ValueError as error:
        said.send(str(error))


def test_a_file_cut_short_by_the_system_is_one_clear_error(small, pictures, tmp_path, few_a_shard):
    fill(store_of(small, tmp_path), pictures[:9])
    size = shards(tmp_path)[0].stat().st_size
    said, heard = multiprocessing.Pipe()
    in_a_process(limited_fill, small, tmp_path, pictures, size // 2, said).join(30)
    assert heard.poll(0)
    message = heard.recv()
    assert "features_dir" in message and "kept" in message and "\n" not in message
    assert not list(tmp_path.glob("*/.*")), "nothing half is left"
    store, memory = store_of(small, tmp_path), store_of(small)
    assert fill(store, pictures) == PICTURES - 9
    assert all_of(store, pictures).equal(all_of(memory, pictures))


def test_a_disk_that_fills_up_leaves_what_was_whole(small, pictures, tmp_path, few_a_shard, monkeypatch):
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 8:  # store.json and a few shards, each with their folder
            os.ftruncate(descriptor, 100)  # a part is written, then there is no room
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    store = store_of(small, tmp_path)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ValueError, match="parameter features_dir: .*No space left on device.*is kept") as caught:
        fill(store, pictures)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    whole = len(shards(tmp_path))
    assert whole == 4 and not list(tmp_path.glob("*/.*"))
    again = store_of(small, tmp_path)
    assert fill(again, pictures) == PICTURES - 3 * whole


def test_a_disk_too_small_is_said_before_the_work(small, pictures, tmp_path, monkeypatch):
    store = store_of(small, tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match=r"features_dir: .*40 pictures need .* GB, but 1e-06 GB of the disk are free"):
        fill(store, pictures)
    assert not shards(tmp_path)


def test_a_file_in_place_of_the_folder_is_one_clear_error(small, tmp_path):
    (tmp_path / "features").write_text("")
    with pytest.raises(ValueError, match="parameter features_dir: .*features/[0-9a-f]{32} cannot be used"):
        store_of(small, tmp_path / "features")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder_gives_what_it_has_and_refuses_more(small, pictures, tmp_path):
    fill(store_of(small, tmp_path), pictures[:5])
    folder = store_of(small, tmp_path).shards.folder
    folder.chmod(0o500)
    try:
        store = store_of(small, tmp_path)
        assert fill(store, pictures[:5]) == 0
        with pytest.raises(ValueError, match="parameter features_dir: .*Permission denied"):
            fill(store, pictures)
    finally:
        folder.chmod(0o700)


def test_a_folder_that_refuses_to_be_written_gives_what_it_has(small, pictures, tmp_path, monkeypatch):
    fill(store_of(small, tmp_path), pictures[:5])

    open_file = Path.open

    def refuse(path, mode="r", *more, **named):
        if mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open_file(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", refuse)
    store = store_of(small, tmp_path)
    assert fill(store, pictures[:5]) == 0
    with pytest.raises(ValueError, match="parameter features_dir: .*Read-only file system"):
        fill(store, pictures)


def test_size_is_said_and_bounded_before_the_work(small, pictures, tmp_path, capsys):
    store = store_of(small, tmp_path)
    fill(store, pictures, progress=True)
    said = capsys.readouterr().out
    assert "40 pictures x" in said and "40 to encode" in said and str(store.shards.folder) in said
    for folder in (None, tmp_path):
        bounded = store_of(small, folder, max_bytes=39 * store.bytes_each)
        with pytest.raises(ValueError, match="parameter features_max_gb: the features of 40 pictures take"):
            fill(bounded, pictures)
    bounded = store_of(small, max_bytes=2 * store.bytes_each)
    assert all_of(bounded, pictures[:5]).equal(all_of(store, pictures[:5])) and len(bounded) == 2


def test_a_picture_of_the_paper_s_size_takes_2_9_megabytes():
    from pefomed.model.modeling import PefomedForConditionalGeneration
    from pefomed.model.presets import paper_config

    with torch.device("meta"):
        model = PefomedForConditionalGeneration(paper_config()).to(torch.bfloat16)
    store = FeatureStore(model.model, SimpleNamespace(procedure=CLEAN))
    assert store.bytes_each == 256 * 5632 * 2


def test_random_crops_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="crops pictures at random"):
        store_of(small, procedure=RELEASED_CODE)


def test_a_broken_picture_is_written_down_and_stands_black(small, pictures, tmp_path):
    bad = {**pictures[0], "id": "bad", "image": {"bytes": b"no picture", "path": None}}
    gone = {**pictures[0], "id": "gone", "image": {"bytes": None, "path": str(tmp_path / "gone.png")}}
    with pytest.raises(ValueError):
        fill(store_of(small), [bad])
    broken = BrokenPictures(tmp_path / "broken.jsonl", rows=10, max_share=0.5)
    store = store_of(small)
    assert fill(store, [pictures[0], bad, gone], broken=broken) == 2, "and the black picture"
    assert set(broken.found()) == {"bad", "gone"}
    _, processor = small
    batch = TrainingCollator(processor, features=store, broken=broken)([pictures[0], bad, gone])
    assert batch["vision_features"][1].equal(store.blank()) and batch["vision_features"][2].equal(store.blank())
    assert not batch["vision_features"][0].equal(store.blank())
    assert (batch["labels"][1:] == -100).all() and (batch["labels"][0] != -100).any()


def test_blank_training_encodes_one_picture(small, pictures, tmp_path):
    _, processor = small
    store = store_of(small, tmp_path)
    assert fill(store, pictures, blank_images=True) == 1
    batch = TrainingCollator(processor, features=store, blank_images=True)(pictures[:3])
    pixels = TrainingCollator(processor, blank_images=True)(pictures[:1])["pixel_values"]
    assert all(one.equal(store.blank()) for one in batch["vision_features"])
    torch.testing.assert_close(store.blank(), small[0].model.encode_images(pixels)[0].detach())


def trained(tiny_base, phantoms, folder, **changes) -> dict[str, torch.Tensor]:
    model, processor = load_base("tiny", tiny_base, dtype=torch.float32)
    arguments = {"seed": 0, "procedure": CLEAN, "data_fingerprint": "drawn", "progress": False, **changes}
    train_stage(model, processor, STAGE, phantoms["train"], None, folder, **arguments)
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_three_steps_end_alike_from_memory_disk_and_pixels(tiny_base, phantoms, tmp_path):
    memory = trained(tiny_base, phantoms, tmp_path / "memory")
    off = trained(tiny_base, phantoms, tmp_path / "off", features="off")
    disk = trained(tiny_base, phantoms, tmp_path / "disk", features="disk")
    there = {path: path.stat().st_mtime_ns for path in shards(tmp_path / "features")}
    again = trained(tiny_base, phantoms, tmp_path / "again", features="disk")
    assert there == {path: path.stat().st_mtime_ns for path in shards(tmp_path / "features")} and there
    for name, value in memory.items():
        assert disk[name].equal(value) and again[name].equal(value), name
        # Pixels are encoded in batches, which moves last bits; AdamW's first steps enlarge those of tiny gradients.
        torch.testing.assert_close(off[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_resumed_from_another_place_it_ends_with_the_same_bits(tiny_base, phantoms, tmp_path, monkeypatch):
    whole = trained(tiny_base, phantoms, tmp_path / "whole")
    from pefomed.training.trainer import PefomedTrainer

    step, taken = PefomedTrainer.training_step, []

    def stop_at_the_third(self, *arguments, **more):
        taken.append(1)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return step(self, *arguments, **more)

    monkeypatch.setattr(PefomedTrainer, "training_step", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_base, phantoms, tmp_path / "stopped", features="disk")
    resumed = trained(tiny_base, phantoms, tmp_path / "stopped", features="memory")
    assert len(taken) == 4, "the first two steps were not taken again"
    assert all(resumed[name].equal(value) for name, value in whole.items())


def test_settings_refuse_what_cannot_be():
    assert RunSettings(output_dir="x").features == "memory"
    assert RunSettings(output_dir="x", procedure="released_code").features == "memory", "the recipe's wish, not a must"
    for changes, message in [
        ({"features": "tape"}, "parameter features must be one of off, memory, disk"),
        ({"features_max_gb": 0.0}, "parameter features_max_gb must be above 0"),
        ({"features": "disk", "procedure": "released_code"}, "parameter features.*crops pictures at random"),
        ({"features": "disk", "stage_changes": {"frozen_features": False}}, "stage_changes.frozen_features"),
    ]:
        with pytest.raises(ValueError, match=message):
            RunSettings(output_dir="x", **changes)


class Recorded:
    """A tower that only says where it was sent."""

    def __init__(self):
        self.device, self.sent = torch.device("cuda"), []

    def to(self, device):
        self.device = torch.device(device)
        self.sent.append(self.device.type)


def test_the_parked_tower_is_back_at_the_end():
    tower = Recorded()
    park = ParkTower(tower)
    arguments = SimpleNamespace(device=torch.device("cuda"))
    for _ in range(3):
        park.on_step_begin(arguments, None, None)
        assert tower.device.type == "cpu"
    park.on_train_end(arguments, None, None)
    assert tower.sent == ["cpu", "cuda"], "moved only where it has to be"


def test_answers_from_kept_features_are_those_from_pixels_and_the_tower_is_not_asked(small, phantoms, tmp_path):
    model, processor = small
    rows = phantoms["val"].to_list()[:24]
    store = store_of(small, tmp_path)
    store.fill(rows, progress=False)
    store.blank()
    asked = {"processor": processor, "max_new_tokens": 8}
    expected = {pictures: answer_rows(model, rows, pictures=pictures, **asked) for pictures in SHOWN}
    assert expected["real"] != expected["blank"]
    handle = model.model.vision_tower.register_forward_pre_hook(lambda *_: pytest.fail("the tower was called"))
    for pictures, answers in expected.items():
        for shared in (True, False):
            found = answer_rows(model, rows, pictures=pictures, features=store, shared_prefix=shared, **asked)
            assert found == answers, (pictures, shared)
    handle.remove()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_steps_are_taken_without_the_tower(tiny_base, phantoms, tmp_path, monkeypatch):
    from pefomed.training.trainer import PefomedTrainer

    step, places = PefomedTrainer.training_step, set()

    def watched(self, model, *arguments, **more):
        places.add(self.accelerator.unwrap_model(model).get_base_model().model.vision_tower.device.type)
        return step(self, model, *arguments, **more)

    monkeypatch.setattr(PefomedTrainer, "training_step", watched)
    model, processor = load_base("tiny", tiny_base)
    more = {"seed": 0, "procedure": CLEAN, "data_fingerprint": "drawn", "progress": False, "features": "disk"}
    train_stage(model, processor, STAGE, phantoms["train"], phantoms["val"], tmp_path / "run", **more)
    assert places == {"cpu"}


def test_a_grey_picture_and_its_colour_copy_are_two_pictures(small, tmp_path):
    store = store_of(small)
    rows = []
    for mode in ("L", "RGB"):
        Image.new(mode, (30, 30)).save(tmp_path / f"{mode}.png")
        rows.append({"id": mode, "image": {"bytes": None, "path": str(tmp_path / f"{mode}.png")}})
    assert fill(store, rows) == 2, "told apart by what is stored"
    assert store.features(rows[0]["image"], "L").equal(store.features(rows[1]["image"], "RGB")), "and look alike"
