"""The general world as a data set: columns, seeds that nobody else uses, and mistakes."""

import collections
import itertools

import numpy as np
import pytest

from pefomed.data.example import COLUMNS
from pefomed.data.shapes import FIRST_SEED, MOST_IMAGES, load_shapes, scene_seed
from pefomed.embedded.shapes import draw_scene
from pefomed.embedded.shapes_container_forms import CONTAINER_FORMS
from pefomed.embedded.shapes_object_forms import OBJECT_FORMS
from pefomed.images import open_image


def test_questions():
    rows = load_shapes("train", images=60)
    assert tuple(rows.column_names) == COLUMNS and len(rows) == 240
    assert set(rows["dataset"]) == {"shapes"} and set(rows["task"]) == {"vqa"} and set(rows["split"]) == {"train"}
    assert len(set(rows["id"])) == 240 and rows[0]["id"] == "shapes-train-00000-0"
    assert collections.Counter(rows["group"]) == {f"shape-train-{number}": 4 for number in range(60)}
    for row in rows:
        assert row["answer_type"] == ("closed" if row["answer"] in ("yes", "no") else "open")
        assert row["image_organ"] is row["phrase_type"] is None
    forms = {form.name for form in (*CONTAINER_FORMS, *OBJECT_FORMS)}
    assert set(rows["question_type"]) <= forms and len(set(rows["question_type"])) > 20
    assert 0.2 < np.mean([kind == "closed" for kind in rows["answer_type"]]) < 0.8
    pictures = {(row["group"], row["image"]["bytes"]) for row in rows}
    assert len(pictures) == 60


def test_captions_show_the_same_pictures():
    captions, asked = load_shapes("val", "caption", images=5), load_shapes("val", images=5, questions_per_image=1)
    assert [row["image"] for row in captions] == [row["image"] for row in asked]
    assert captions["group"] == asked["group"]
    assert set(captions["question"]) == set(captions["answer_type"]) == {None}
    assert all(text.endswith(".") for text in captions["answer"]) and len(set(captions["answer"])) == 5
    assert captions[0]["id"] == "shapes-val-00000-caption"


def test_pictures_are_the_drawn_ones():
    row = load_shapes("test", "caption", images=2)[1]
    picture = np.asarray(open_image(row["image"], name=row["id"]))
    assert np.array_equal(picture, draw_scene(scene_seed("test", 1)).image)


def test_same_seed_same_rows():
    first, again, other = (load_shapes("val", images=6, seed=seed).to_list() for seed in (0, 0, 1))
    assert first == again
    assert not {row["image"]["bytes"] for row in first} & {row["image"]["bytes"] for row in other}
    assert load_shapes("val", images=3).to_list() == first[:12], "more pictures do not change the first ones"


def test_default_number_of_pictures():
    assert len(load_shapes("val", "caption")) == 60


def test_no_split_or_seed_shares_a_picture():
    spans = []
    for seed, split in itertools.product((0, 1, 2, 1000), ("train", "val", "test")):
        spans.append((scene_seed(split, 0, seed), scene_seed(split, MOST_IMAGES - 1, seed)))
    spans.sort()
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


def test_pretraining_and_its_scoring_never_draw_these_pictures(monkeypatch):
    pytest.importorskip("torch")
    from pefomed.embedded import pretrain_data

    drawn = []

    def draw(seed):
        drawn.append(seed)
        return draw_scene(seed)

    class Tokenizer:
        bos_token_id, eos_token_id = 1, 2

        def __call__(self, text, **options):
            return {"input_ids": [3]}

    monkeypatch.setattr(pretrain_data, "draw_scene", draw)
    packer = pretrain_data.Packer(Tokenizer(), 0, 16)
    for seed in (0, 1, 2, 987_654_321):  # the last is that of the held-out scoring
        rows = pretrain_data.PretrainRows(packer, seed, 8, medical_text=False)
        assert all(rows[number].image is not None for number in range(8))
    list(pretrain_data.corpus(0, 8))
    assert len(drawn) == 40
    # They come from the whole range below the first of ours: forty times below by chance would be one in 2 ** 40.
    assert FIRST_SEED // 2 < max(drawn) < FIRST_SEED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dev",), "shapes: split is 'dev', expected one of train, val, test"),
        (("train", "report"), "shapes: task is 'report', expected one of vqa, caption"),
        (("train", "vqa", 0), "shapes: images is 0"),
        (("train", "vqa", 1, 0), "shapes: questions_per_image is 0"),
        (("train", "vqa", 1, 1, -1), "seed -1"),
        (("train", "vqa", MOST_IMAGES + 1), f"expected a number below {MOST_IMAGES}"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_shapes(*arguments)


def test_seeds_of_unknown_splits():
    with pytest.raises(ValueError, match="split is 'dev'"):
        scene_seed("dev", 0)
