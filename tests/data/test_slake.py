"""SLAKE: the real sample, both names of its files, both languages, the parquet copy, and folders that are wrong."""

import collections
import io
import json
import re

import pytest
from PIL import Image

from pefomed.data.slake import PUBLISHED, read_slake
from pefomed.images import open_image


def _draw(folder, names):
    for number, name in enumerate(sorted(names)):
        path = folder / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), number * 9).save(path)


# The real sample


@pytest.fixture(scope="module")
def sample(shared, tmp_path_factory):
    """The sample's questions, with a drawn picture under every name."""
    folder = tmp_path_factory.mktemp("slake")
    names = set()
    for file in ("train.json", "validate.json", "test.json"):
        text = (shared / "data" / "slake" / file).read_text(encoding="utf-8")
        (folder / file).write_text(text, encoding="utf-8")
        names |= {row["img_name"] for row in json.loads(text)}
    _draw(folder, names)
    return folder


@pytest.mark.parametrize(
    ("language", "counts"), [("en", (52, 38, 38)), ("zh", (25, 8, 0)), ("all", (77, 46, 38))], ids=lambda x: str(x)
)
def test_sample_counts(sample, language, counts):
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        if not count:
            with pytest.raises(ValueError, match="0 of 0 rows"):
                read_slake(sample, split, language=language)
            continue
        found = read_slake(sample, split, language=language)
        assert (len(found.rows), found.in_files, found.left_out) == (count, count, ())
        assert (found.variant, found.published) == ("official", PUBLISHED[language][split])
        assert set(found.rows["split"]) == {split} and set(found.rows["dataset"]) == {"slake"}
        assert found.pictures == (sample / "imgs",)


def test_sample_columns(sample):
    rows = read_slake(sample, "test").rows
    assert collections.Counter(rows["answer_type"]) == {"open": 23, "closed": 15}
    assert collections.Counter(rows["question_type"]) == {
        **{"Organ": 11, "Abnormality": 9, "Position": 8, "Size": 6, "Modality": 4},
    }
    assert collections.Counter(rows["image_organ"]) == {"Lung": 28, "Abdomen": 10}
    assert rows["id"][0] == "official-11934" and rows["group"][0] == "xmlab102/source.jpg"
    assert set(rows["phrase_type"]) == {None} and set(rows["task"]) == {"vqa"}


def test_sample_pictures(sample, shared):
    assert open_image(read_slake(sample, "train").rows[0]["image"]).size == (6, 4)
    real = read_slake(shared / "data" / "slake", "train", max_left_out=1.0)
    assert len(real.rows) == 20 and real.reasons == {"picture missing": 32}
    assert set(real.rows["group"]) == {"xmlab149/source.jpg", "xmlab589/source.jpg"}
    assert open_image(real.rows[0]["image"]).mode == "RGB"
    with pytest.raises(ValueError, match=r"32 of 52 rows cannot be used \(32 picture missing; first official-0 imgs/"):
        read_slake(shared / "data" / "slake", "train")


def test_sample_pooled_languages_share_a_picture(sample):
    assert read_slake(sample, "train").notes == () == read_slake(sample, "train", language="zh").notes
    val, test = read_slake(sample, "train", language="all").notes
    assert "1 of the 5 pictures of the split 'val' also occur in 'train'" in val
    assert "0 of the 4 pictures of the split 'test' also occur in 'train'" in test


# Small folders, drawn by the tests


def _row(number, **changes):
    row = {
        "img_id": number // 2,
        "img_name": f"xmlab{number // 2}/source.jpg",
        "question": f"Question {number}?",
        "answer": "Yes",
        "q_lang": "en",
        "location": "Lung",
        "modality": "CT",
        "answer_type": "CLOSED",
        "base_type": "vqa",
        "content_type": "Abnormality",
        "triple": ["vhead", "_", "_"],
        "qid": number,
    }
    return {**row, **changes}


TRAIN = [_row(number) for number in range(6)]
VAL = [_row(number) for number in (8, 9)]
TEST = [_row(number) for number in (12, 13)]


def _folder(folder, train=TRAIN, val=VAL, test=TEST, val_name="validate.json"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train.json", train), (val_name, val), ("test.json", test)):
        if rows is not None:
            content = rows if isinstance(rows, bytes) else json.dumps(rows, ensure_ascii=False).encode()
            (folder / name).write_bytes(content)
    _draw(folder, [f"xmlab{number}/source.jpg" for number in range(7)])
    return folder


@pytest.mark.parametrize("name", ["validate.json", "validation.json"])
def test_both_names_of_the_validation_file(tmp_path, name):
    folder = _folder(tmp_path / "slake", val_name=name)
    assert read_slake(folder, "val").rows["id"][:] == ["official-8", "official-9"]


def test_odd_spellings_and_empty_labels(tmp_path):
    odd = [
        _row(0, answer_type="Closed ", q_lang="EN", answer=" 2 ", content_type=" KG"),
        _row(1, answer_type="open", location="", content_type=" "),
    ]
    first, second = read_slake(_folder(tmp_path / "slake", odd)).rows
    assert (first["answer"], first["answer_type"], first["question_type"]) == ("2", "closed", "KG")
    assert (second["answer_type"], second["question_type"], second["image_organ"]) == ("open", None, None)


def test_sharing_is_counted_for_pooled_languages_only(tmp_path):
    chinese = [_row(20, img_name="xmlab6/source.jpg", q_lang="zh", question="有吗?", answer="有")]
    folder = _folder(tmp_path / "slake", train=[*TRAIN, *chinese])
    assert len(read_slake(folder, language="en").rows) == 6 and len(read_slake(folder, language="zh").rows) == 1
    pooled = read_slake(folder, language="all")
    assert len(pooled.rows) == 7 and pooled.published == 9835
    assert [note.split(":")[1][:36] for note in pooled.notes] == [
        " 0 of the 1 pictures of the split 'v",
        " 1 of the 1 pictures of the split 't",
    ]
    (folder / "validate.json").unlink()
    assert "no file of the split 'val'" in read_slake(folder, language="all").notes[0]


def test_rows_without_picture_or_text_are_left_out_and_counted(tmp_path):
    folder = _folder(tmp_path / "slake", [*TRAIN, _row(6, question=" "), _row(7, answer="")])
    (folder / "imgs" / "xmlab0" / "source.jpg").unlink()
    (folder / "imgs" / "xmlab1" / "source.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"6 of 8 rows cannot be used \(2 picture missing, 2 picture empty"):
        read_slake(folder)
    found = read_slake(folder, max_left_out=0.75)
    assert found.rows["id"][:] == ["official-4", "official-5"] and found.in_files == 8
    assert found.reasons == {"picture missing": 2, "picture empty": 2, "no question": 1, "no answer": 1}
    assert found.left_out[0].file == "imgs/xmlab0/source.jpg"


def _changed(**changes):
    return [*TRAIN[:2], {**TRAIN[2], **changes}, *TRAIN[3:]]


def _without(key):
    return [*TRAIN[:2], {k: v for k, v in TRAIN[2].items() if k != key}, *TRAIN[3:]]


MALFORMED = {
    "cut in the middle": (json.dumps(TRAIN).encode()[:300], "train.json: not JSON (line 1, column"),
    "empty file": (b"", "train.json: not JSON"),
    "not UTF-8": (json.dumps(TRAIN).encode().replace(b"Lung", b"L\xe9ng"), "train.json: not UTF-8"),
    "object": ({"rows": TRAIN}, "expected a JSON list of questions, found dict"),
    "no rows": ([], "train.json: holds no rows"),
    "row is text": ([*TRAIN, "row"], "train.json: row 6: expected an object, found str"),
    "no language": (_without("q_lang"), "train.json: row 2: lacks the key 'q_lang'"),
    "no number": (_without("qid"), "row 2: lacks the key 'qid'"),
    "unknown language": (_changed(q_lang="fr"), "row 2: q_lang is 'fr', expected one of en, zh"),
    "unknown answer type": (_changed(answer_type="YES"), "row 2: answer_type is 'YES', expected one of open, closed"),
    "answer is a number": (_changed(answer=2), "row 2: answer must be a string, found int 2"),
    "question is a number": (_changed(question=3.5), "row 2: question must be a string, found float 3.5"),
    "answer is null": (_changed(answer=None), "row 2: answer must be a string, found NoneType"),
    "number is text": (_changed(qid="2"), "row 2: qid must be a whole number, found str '2'"),
    "number twice": (_changed(qid=0), "row 2: qid 0 is already used by row 0"),
    "dots": (_changed(img_name="../train.json"), "row 2: img_name is '../train.json', expected a name such as"),
    "deeper dots": (_changed(img_name="xmlab0/.."), "row 2: img_name is 'xmlab0/..'"),
    "absolute": (_changed(img_name="/etc/passwd"), "row 2: img_name is '/etc/passwd'"),
    "no folder": (_changed(img_name="source.jpg"), "row 2: img_name is 'source.jpg'"),
    "long name": (_changed(img_name="x" * 300 + "/source.jpg"), "row 2: img_name is 'xxx"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(case, tmp_path):
    rows, message = MALFORMED[case]
    folder = _folder(tmp_path / "slake", rows)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_slake(folder, max_left_out=1.0)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert len(read_slake(folder, "test").rows) == 2, "the other splits can be read"


def test_malformed_rows_of_the_other_language_are_found(tmp_path):
    folder = _folder(tmp_path / "slake", _changed(q_lang="zh", answer=["有"]))
    with pytest.raises(ValueError, match="row 2: answer must be a string, found list"):
        read_slake(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validate"}, "unknown split 'validate'; choose one of train, val, test"),
        ({"language": "english"}, "unknown language 'english'; choose one of en, zh, all"),
        ({"variant": "kaggle"}, "unknown variant 'kaggle'; choose one of official, hf"),
    ],
)
def test_wrong_options(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_slake(_folder(tmp_path / "slake"), **options)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_dir .*nowhere does not exist"):
        read_slake(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no SLAKE; expected train.json, validate.json and test.json"):
        read_slake(tmp_path / "empty")
    folder = _folder(tmp_path / "slake", val=None)
    with pytest.raises(FileNotFoundError, match=r"no validate.json or validation.json, the questions of the split"):
        read_slake(folder, "val")
    with pytest.raises(FileNotFoundError, match="no SLAKE in the form hf"):
        read_slake(folder, variant="hf")
    (folder / "imgs").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="6 of 6 rows cannot be used"):
        read_slake(folder, max_left_out=1.0)
    (folder / "imgs.zip").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match=r"imgs.zip is not unpacked"):
        read_slake(folder)


def test_two_validation_files(tmp_path):
    folder = _folder(_folder(tmp_path / "slake"), val_name="validation.json")
    with pytest.raises(ValueError, match=r"holds both validate.json and validation.json"):
        read_slake(folder, "val")


# The parquet copy


def _picture(value):
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "JPEG")
    return {"bytes": buffer.getvalue(), "path": None}


def _hub(folder, split, **columns):
    import datasets

    features = {"image": datasets.Image(), "question": datasets.Value("string"), "answer": datasets.Value("string")}
    given = {
        "image": [_picture(9), _picture(9), _picture(90)],
        "question": ["Is it?", "Which?", "Where?"],
        "answer": ["Yes", "Left", "Lung"],
    }
    (folder / "data").mkdir(parents=True, exist_ok=True)
    part = datasets.Dataset.from_dict({**given, **columns}, features=datasets.Features(features))
    part.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    return folder


def test_parquet_copy(tmp_path):
    folder = _hub(_hub(tmp_path / "slake", "train"), "validation")
    found, val = read_slake(folder), read_slake(folder, "val")
    assert (found.variant, found.published, val.published) == ("hf", 4919, 1053)
    assert found.rows["id"][:] == ["hf-train-0", "hf-train-1", "hf-train-2"] and val.rows["id"][0] == "hf-val-0"
    assert found.rows["answer_type"][:] == ["closed", "open", "open"] and "yes and no are closed" in found.notes[0]
    assert len(set(found.rows["group"])) == 2 and open_image(found.rows[0]["image"]).size == (4, 4)
    with pytest.raises(ValueError, match="holds English questions only, not language='all'"):
        read_slake(folder, language="all")
    _folder(folder)
    with pytest.raises(ValueError, match="in the forms official and hf; choose with variant"):
        read_slake(folder)
    assert len(read_slake(folder, variant="official").rows) == 6 and len(read_slake(folder, variant="hf").rows) == 3


def test_damaged_parquet_copies(tmp_path):
    folder = _hub(tmp_path / "slake", "train", question=["Is it?", "有吗?", "Where?"])
    with pytest.raises(ValueError, match="train row 1: a Chinese question in the English copy"):
        read_slake(folder)
    with pytest.raises(FileNotFoundError, match=r"no test\*.parquet"):
        read_slake(folder, "test")
    _hub(folder, "train", image=[_picture(1), None, {"bytes": b"", "path": None}])
    with pytest.raises(ValueError, match="train row 1: image must be a picture's bytes, found NoneType"):
        read_slake(folder)
    _hub(folder, "train", image=[_picture(1), _picture(2), {"bytes": b"", "path": None}], answer=["No", None, "x"])
    assert read_slake(folder, max_left_out=0.7).reasons == {"no answer": 1, "picture empty": 1}
