"""The audit on splits drawn here: every count is known beforehand; near duplicates against comparing all pairs."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pefomed.data.audit import audit
from pefomed.data.example import make_dataset
from pefomed.data.leakage import LOADER_RULE, SAME_WORDS_RULE
from pefomed.data.picture_hashes import difference_hash, near_duplicates, read_picture, read_pictures, told
from pefomed.data.vqa_rad import load_vqa_rad


def drawn(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture of large random patches, unlike that of any other seed."""
    patches = np.random.default_rng(seed).integers(0, 256, (8, 9), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def rows(split: str, *items: tuple, task: str = "vqa"):
    """A split from (picture, question, answer) and changes; a picture is bytes, a path or a seed."""
    examples = []
    for number, (picture, question, answer, *changes) in enumerate(items):
        data = encoded(drawn(picture)) if isinstance(picture, int) else picture
        image = {"bytes": data, "path": None} if isinstance(data, bytes) else {"bytes": None, "path": str(data)}
        row = {
            "id": f"{split}-{number}",
            "dataset": "drawn",
            "split": split,
            "task": task,
            "image": image,
            "question": question,
            "answer": answer,
            "group": f"{split}-{number}",
        }
        examples.append(row | (changes[0] if changes else {}))
    return make_dataset(examples)


# Near duplicates


@pytest.mark.parametrize("max_distance", [0, 1, 3, 4, 15])
def test_bands_find_what_comparing_all_pairs_finds(max_distance: int) -> None:
    source = random.Random(max_distance)
    among = [source.getrandbits(64) for _ in range(300)] + [0, 2**64 - 1]
    hashes = [source.getrandbits(64) for _ in range(50)]
    for value in source.sample(among, 150):
        for bit in source.sample(range(64), source.randint(0, max_distance + 2)):
            value ^= 1 << bit
        hashes.append(value)
    wanted = {}
    for value in hashes:
        distance, nearest = min(((value ^ other).bit_count(), other) for other in among)
        if distance <= max_distance:
            wanted[value] = (nearest, distance)
    assert near_duplicates(hashes, among, max_distance) == wanted
    assert 40 < len(wanted) < len(set(hashes))


def test_near_duplicates_of_nothing_and_impossible_bounds() -> None:
    assert near_duplicates([], [1, 2]) == near_duplicates([1, 2], []) == {}
    for bound in (-1, 16):
        with pytest.raises(ValueError, match=f"max_distance must be from 0 to 15 bits, not {bound}"):
            near_duplicates([1], [1], bound)


def test_the_difference_hash_survives_scaling_and_compression_and_sees_a_mirror() -> None:
    image = drawn(1, (360, 320))
    value = difference_hash(image)
    assert 0 <= value < 2**64
    small = difference_hash(image.resize((90, 80)))
    jpeg = difference_hash(Image.open(io.BytesIO(encoded(image, "JPEG"))))
    assert max((value ^ small).bit_count(), (value ^ jpeg).bit_count()) <= 3
    mirrored = difference_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert (value ^ mirrored).bit_count() > 10 and (value ^ difference_hash(drawn(2))).bit_count() > 10
    assert difference_hash(Image.new("L", (30, 30), 90)) == 0
    rising = Image.fromarray(np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1)))
    assert difference_hash(rising) == 2**64 - 1


# Pictures


def test_a_picture_is_read_once_however_many_rows_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(encoded(drawn(1)))
    read = []
    monkeypatch.setattr("pefomed.data.picture_hashes.read_picture", lambda image: read.append(image) or FACTS)
    FACTS = read_picture({"bytes": None, "path": str(path)})
    data = encoded(drawn(2))
    train = rows("train", (path, "a?", "b"), (path, "c?", "d"), (data, "e?", "f"))
    test = rows("test", (path, "g?", "h"), (data, "i?", "j"), (data, "k?", "l"))
    found = audit({"train": train, "test": test})
    assert len(read) == 2
    assert [(one.rows, one.pictures) for one in found.splits] == [(3, 2), (3, 2)]


def test_broken_pictures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    whole = encoded(drawn(1))
    contents = {"cut.png": whole[:-60], "text.png": b"<html>", "empty.png": b"", "good.png": whole}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    names = [*contents, "absent.png"]
    train = rows("train", *((tmp_path / name, "what?", "this") for name in names), (b"no picture", "what?", "that"))
    found = audit({"train": train})
    assert [Path(item.file).name for item in found.broken[:-1]] == ["cut.png", "text.png", "empty.png", "absent.png"]
    reasons = [item.reason for item in found.broken]
    for reason, words in zip(
        reasons, ("damaged", "not a picture", "0 bytes", "no such", "not a picture"), strict=True
    ):
        assert words in reason and str(tmp_path) not in reason
    assert found.broken[-1].file == "picture of row train-5"
    assert "pictures that cannot be used: 5" in str(found)
    many = rows("train", *((tmp_path / f"{number}.png", "what?", "this") for number in range(30)))
    printed = str(audit({"train": many}))
    assert printed.count("no such picture file") == 10 and "and 20 more" in printed


def test_files_with_the_same_content_are_repeated_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(encoded(drawn(5)))
    found = audit({"train": rows("train", *((tmp_path / f"{name}.png", "what?", "this") for name in "abc"))})
    assert (found.splits[0].pictures, found.splits[0].repeated_pictures) == (3, 2)


def test_several_processes_read_the_same_as_one() -> None:
    images = [{"bytes": encoded(drawn(number)), "path": None} for number in range(20)] + [{"bytes": b"x", "path": "p"}]
    one = list(read_pictures(images, len(images)))
    assert one == list(read_pictures(images, len(images), processes=2))
    assert one[-1].dhash is None and one[-1].problem and len({facts.sha256 for facts in one}) == 21
    with pytest.raises(ValueError, match="processes must be at least 1, not 0"):
        list(read_pictures(images, len(images), processes=0))


def test_long_work_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert list(told(range(5), 5, "pictures")) == list(range(5))
    assert capsys.readouterr() == ("", "")
    clock = iter(range(0, 100, 6))
    monkeypatch.setattr("pefomed.data.picture_hashes.time.monotonic", lambda: next(clock))
    list(told(range(5), 5000, "pictures"))
    assert capsys.readouterr().err.splitlines()[0] == "pictures: 2 of 5,000"


# Leakage


def test_leakage_between_splits() -> None:
    jpeg = encoded(drawn(3, (90, 80)), "JPEG")
    train = rows(
        "train",
        (1, "Is there a fracture?", "yes"),
        (1, "Is/Are there fracture in the image ?", "Yes"),
        (1, "is there  a FRACTURE", "No."),
        (1, "Is the heart enlarged?", "yes"),
        (2, "Which organ?", "liver"),
        (3, "Which organ?", "liver"),
    )
    test = rows(
        "test",
        (1, "Is there a fracture", "yes"),
        (1, "Where is the liver lesion?", "right"),
        (jpeg, "Which organ?", "liver"),
        (4, "Which organ?", "liver"),
    )
    pair = audit({"train": train, "test": test}).leakage[0]
    assert (pair.source, pair.into, pair.pictures) == ("train", "test", 3)
    assert (pair.shared_pictures, pair.rows_on_shared) == (1, 2)
    assert pair.similar_pictures == 1, "the JPEG copy of picture 3"
    assert (pair.questions, pair.same_questions, pair.same_answers) == (4, 1, 1)
    assert (pair.framed, pair.framed_rule) == (1, SAME_WORDS_RULE)
    assert pair.shared_groups == 0
    assert "1 of 3 test pictures are also in train, byte for byte" in str(pair) and "a hint" in str(pair)


def test_known_framed_rows_are_counted_in_place_of_likely_ones() -> None:
    train = rows("train", (1, "Is there a mass?", "yes"), (1, "Is/Are there mass ?", "yes"), (2, "x?", "y"))
    test = rows("test", (1, "Is any mass shown?", "yes"))
    val = rows("val", (1, "Is any mass shown?", "yes"))
    splits = {"train": train, "val": val, "test": test}
    found = {(pair.source, pair.into): pair for pair in audit(splits, framed_ids={"train-2"}).leakage}
    assert list(found) == [("train", "val"), ("train", "test"), ("val", "test")]
    assert (found["train", "test"].framed, found["train", "test"].framed_rule) == (1, LOADER_RULE)
    assert (found["train", "val"].framed, found["train", "val"].framed_rule) == (2, SAME_WORDS_RULE)
    assert found["val", "test"].same_questions == 1 and found["val", "test"].framed == 0


def test_chinese_questions_are_compared_by_their_characters() -> None:
    train = rows("train", (1, "图中有肿块吗？", "有"), (1, "这张图中有肿块吗", "有"))
    pair = audit({"train": train, "test": rows("test", (1, "图中有肿块吗", "有"))}).leakage[0]
    assert (pair.same_questions, pair.same_answers, pair.framed) == (1, 1, 1)


def test_broken_pictures_are_no_shared_pictures(tmp_path: Path) -> None:
    train = rows("train", (tmp_path / "a.png", "what?", "this"))
    pair = audit({"train": train, "test": rows("test", (tmp_path / "b.png", "what?", "this"))}).leakage[0]
    assert (pair.pictures, pair.shared_pictures, pair.same_questions) == (0, 0, 0)


def test_captions_have_no_questions_and_no_guesses() -> None:
    train = rows("train", (1, None, "A chest."), (2, None, "a chest"), task="caption")
    found = audit({"train": train, "test": rows("test", (1, None, "A chest."), task="caption")})
    assert found.guesses == () and found.leakage[0].questions == 0 and found.leakage[0].shared_pictures == 1
    assert "questions" not in str(found) and found.splits[0].answers == 1


# Answers


def typed(kind: str, question_type: str | None = None) -> dict:
    return {"answer_type": kind, "question_type": question_type}


def test_the_majority_answer_is_scored_by_kind() -> None:
    train = rows(
        "train",
        *((number, "a?", "No", typed("closed", "PRES")) for number in range(4)),
        *((number, "b?", "the Liver.", typed("open", "ORGAN")) for number in range(3)),
        (9, "c?", "lung", typed("open", "ORGAN")),
    )
    test = rows(
        "test",
        (20, "a?", "no.", typed("closed", "PRES")),
        (21, "a?", "yes", typed("closed", "PRES")),
        (22, "a?", "liver", typed("open", "ORGAN")),
        (23, "a?", "no", typed("open", "SIZE")),
    )
    found = audit({"train": train, "test": test})
    assert [dataclasses.astuple(guess) for guess in found.guesses] == [
        ("all", "", 4, 2, "no", 2),
        ("answer_type", "closed", 2, 1, "no", 1),
        ("answer_type", "open", 2, 1, "liver", 1),
        ("question_type", "ORGAN", 1, 0, "liver", 1),
        ("question_type", "PRES", 2, 1, "no", 1),
        ("question_type", "SIZE", 1, 1, "no", 1),
    ]
    one = found.splits[0]
    assert (one.closed, one.open, one.untyped, one.answers) == (4, 4, 0, 3)
    assert one.top_answers == (("no", 4), ("liver", 3), ("lung", 1))
    assert "all 4 rows: 'no' 50.0 %" in str(found)


def test_hidden_text_stays_hidden(tmp_path: Path) -> None:
    secret = tmp_path / "p19999990" / "s59999990.jpg"
    train = rows("train", *((number, "secret question", "secret answer", typed("open", "T")) for number in range(3)))
    test = rows("test", (secret, "secret question", "secret answer", typed("open", "T")))
    found = audit({"train": train, "test": test}, show_text=False)
    everything = str(found) + json.dumps(dataclasses.asdict(found))
    assert "secret" not in everything and "p19999990" not in everything and str(tmp_path) not in everything
    assert len(found.broken) == 1 and found.guesses[0].matches == 1


def test_nothing_to_audit() -> None:
    with pytest.raises(ValueError, match="nothing to audit"):
        audit({})


# The real data


def test_vqa_rad(shared: Path) -> None:
    folder = shared / "data" / "vqa_rad_mevf"
    splits = {split: load_vqa_rad(folder, split, drop_leaked=False) for split in ("train", "test")}
    found = audit(splits)
    train, test = found.splits
    assert (train.rows, train.pictures, train.repeated_pictures, train.closed, train.open) == (
        3064,
        314,
        0,
        1823,
        1241,
    )
    assert (test.rows, test.pictures, test.closed, test.open) == (451, 203, 272, 179)
    assert found.broken == ()
    pair = found.leakage[0]
    assert (pair.shared_pictures, pair.rows_on_shared, pair.similar_pictures) == (203, 451, 0)
    assert (pair.same_questions, pair.same_answers, pair.framed) == (16, 16, 174)
    assert [(guess.value, guess.answer, guess.matches) for guess in found.guesses[:3]] == [
        ("", "no", 133),
        ("closed", "no", 133),
        ("open", "axial", 11),
    ]
