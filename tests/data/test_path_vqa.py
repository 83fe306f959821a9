"""PathVQA: the real sample as pickle and JSON, pickles that are programs, the Hugging Face copy, and wrong folders."""

import collections
import io
import json
import pickle
import re
import time

import pyarrow.parquet
import pytest
from PIL import Image

from pefomed.data import path_vqa_files
from pefomed.data.path_vqa import answer_type, question_type, read_path_vqa
from pefomed.data.path_vqa_files import read_plain_pickle
from pefomed.images import open_image


def _draw(folder, split, names):
    (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sorted(names)):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(folder / "images" / split / f"{name}.jpg")


def _pickled(folder, split, content):
    path = folder / "qas" / split / f"{split}_qa.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return folder


# The real sample


@pytest.fixture(scope="module")
def sample(shared, tmp_path_factory):
    """The sample's questions in both forms, with a drawn picture under every name."""
    folder = tmp_path_factory.mktemp("path_vqa")
    for split in ("train", "val", "test"):
        _pickled(folder, split, (shared / "data/path_vqa/qas" / split / f"{split}_qa.pkl").read_bytes())
        text = (shared / "data/path_vqa" / f"{split}_qa.json").read_text(encoding="utf-8")
        (folder / f"{split}_qa.json").write_text(text, encoding="utf-8")
        _draw(folder, split, {row["image"] for row in json.loads(text)})
    return folder


@pytest.mark.parametrize(
    ("split", "closed", "pictures", "published"),
    [("train", 63, 21, 19755), ("val", 66, 22, 6279), ("test", 66, 26, 6761)],
)
def test_sample_counts(sample, split, closed, pictures, published):
    found = read_path_vqa(sample, split, variant="pickle")
    assert (len(found.rows), found.in_files, found.left_out, found.published) == (120, 120, (), published)
    assert collections.Counter(found.rows["answer_type"]) == {"closed": closed, "open": 120 - closed}
    assert len(set(found.rows["group"])) == pictures and set(found.rows["split"]) == {split}
    assert found.rows["id"][::119] == [f"official-{split}-0", f"official-{split}-119"]
    assert found.pictures == (sample / "images" / split,) and open_image(found.rows[0]["image"]).size == (6, 4)


def test_sample_question_types(sample):
    rows = read_path_vqa(sample, "test", variant="pickle").rows
    assert collections.Counter(rows["question_type"]) == {
        **{"what": 49, "is": 22, "does": 21, "are": 14, "do": 7, "where": 2, "did": 2, "how": 2, "other": 1},
    }
    kinds = {(kind, closed) for kind, closed in zip(rows["question_type"], rows["answer_type"], strict=True)}
    assert ("is", "closed") in kinds and ("what", "open") in kinds and ("what", "closed") not in kinds


def test_sample_json_holds_the_same_rows_and_is_preferred(sample):
    for split in ("train", "val", "test"):
        pickled, found = read_path_vqa(sample, split, variant="pickle"), read_path_vqa(sample, split)
        assert found.variant == "json" and found.rows[:] == pickled.rows[:]
        assert "the pickle beside it is unread" in found.notes[1] and len(pickled.notes) == 1


# Types


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is seen?", "what"),
        ("  where's it?", "where"),
        ('"Whose" nuclei are they?', "whose"),
        ("How does it look?", "how"),
        ("How much is lost?", "how much"),
        ("how  many cells divide?", "how much"),
        ("IS it benign?", "is"),
        ("Did they divide?", "did"),
        ("Whatever is seen?", "other"),
        ("In which layer?", "other"),
        ("3 ?", "other"),
    ],
)
def test_question_types(question, expected):
    assert question_type(question) == expected


def test_answer_types():
    assert [answer_type(text) for text in ("yes", " No ", "YES", "no lesion", "yes.", "not", "")] == [
        *["closed"] * 3,
        *["open"] * 4,
    ]


# Small folders, drawn by the tests


def _rows(split="train", count=6):
    return [
        {"image": f"{split}_{n // 2:04d}", "question": f"What is {n}?", "answer": "yes" if n % 2 else "a cell"}
        for n in range(count)
    ]


def _folder(folder, content=None, split="train"):
    _draw(folder, split, {row["image"] for row in _rows(split)})
    return _pickled(folder, split, _rows(split) if content is None else content)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol(tmp_path, protocol):
    rows = [{**row, "more": [1, -2, 10**30, 2.5, True, None, {"k": []}]} for row in _rows()]
    folder = _folder(tmp_path, pickle.dumps(rows, protocol=protocol))
    assert read_plain_pickle(folder / "qas/train/train_qa.pkl") == rows
    assert len(read_path_vqa(folder).rows) == 6


def test_python_2_pickle(tmp_path):
    text = (
        b"(lp0\n(dp1\nS'image'\np2\nS'train_0000'\np3\nsS'question'\np4\nS'Is it?'\np5\nsS'answer'\np6\nS'no'\np7\nsa."
    )
    assert read_path_vqa(_folder(tmp_path, text)).rows["answer"][:] == ["no"]


def test_repeated_rows_are_kept_with_ids_of_their_own(tmp_path):
    folder = _folder(tmp_path, [*_rows(), _rows()[0], _rows()[0]])
    found = read_path_vqa(folder)
    assert len(found.rows) == 8 and found.rows["id"][6:] == ["official-train-6", "official-train-7"]
    assert found.rows["question"][0] == found.rows["question"][7] and "2 rows repeat an earlier row" in found.notes[1]


def test_cmyk_pictures_open_through_the_row(tmp_path):
    folder = _folder(tmp_path)
    # Cyan and magenta inks make blue; read as if it were RGB, the first three channels would be light.
    Image.new("CMYK", (8, 8), (255, 255, 0, 0)).save(folder / "images/train/train_0000.jpg", quality=95)
    with Image.open(folder / "images/train/train_0000.jpg") as raw:
        assert raw.mode == "CMYK"
    picture = open_image(read_path_vqa(folder).rows[0]["image"])
    red, green, blue = picture.getpixel((4, 4))
    assert picture.mode == "RGB" and picture.size == (8, 8) and red < 10 and green < 10 and blue > 245


def test_rows_without_picture_or_text_are_left_out_and_counted(tmp_path):
    folder = _folder(tmp_path, [*_rows(), {**_rows()[4], "question": " "}, {**_rows()[4], "answer": ""}])
    (folder / "images/train/train_0000.jpg").unlink()
    (folder / "images/train/train_0001.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"6 of 8 rows cannot be used \(2 picture missing, 2 picture empty"):
        read_path_vqa(folder)
    found = read_path_vqa(folder, max_left_out=0.75)
    assert found.rows["id"][:] == ["official-train-4", "official-train-5"] and found.in_files == 8
    assert found.reasons == {"picture missing": 2, "picture empty": 2, "no question": 1, "no answer": 1}
    assert found.left_out[0].file == "images/train/train_0000.jpg"


# Pickles that are programs


class _Program:
    def __init__(self, target, *arguments):
        self.call = (target, arguments)

    def __reduce__(self):
        return self.call


def _persistent(content):
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    pickler.persistent_id = lambda obj: "outside" if obj == "What is 0?" else None
    pickler.dump(content)
    return buffer.getvalue()


REFUSED = {
    "ordered dictionary": (pickle.dumps([collections.OrderedDict(_rows()[0])]), "STACK_GLOBAL"),
    "counter, old protocol": (pickle.dumps([collections.Counter("aa")], protocol=1), "GLOBAL 'collections Counter'"),
    "persistent id": (_persistent(_rows()), "BINPERSID"),
    "registered extension": (b"\x80\x02\x82\x01.", "EXT1 1"),
    "instance": (b"(i__main__\n_Program\n.", "INST '__main__ _Program'"),
    "state for an object": (b"\x80\x02]}b.", "BUILD"),
    "deeply nested tuple as a key": (b"\x80\x04}" + b")" + b"\x85" * 100_000 + b"Ns.", "EMPTY_TUPLE"),
    "bytearray of a terabyte": (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "damaged pickle"),
    "memory for a far number": (b"\x80\x02]r\xff\xff\xff\x7f.", "LONG_BINPUT 2147483647"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pickles_with_more_than_plain_data_are_refused(case, tmp_path):
    data, message = REFUSED[case]
    folder = _folder(tmp_path, data)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_path_vqa(folder)
    assert str(folder / "qas/train/train_qa.pkl") in str(caught.value) and "\n" not in str(caught.value)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_in_a_pickle_is_not_run(tmp_path, protocol):
    written = tmp_path / "written"
    data = pickle.dumps([*_rows(), _Program(open, str(written), "w")], protocol=protocol)
    pickle.loads(data)[-1].close()
    assert written.exists(), "the program works where a pickle is simply loaded"
    written.unlink()
    with pytest.raises(ValueError, match=r"the pickle holds more than .*(GLOBAL|STACK_GLOBAL).* it is not opened"):
        read_path_vqa(_folder(tmp_path, data))
    assert not written.exists()


def test_the_unpickler_refuses_by_itself():
    """Even for a file that passed the look through its instructions."""
    for data in (pickle.dumps(_Program(print, "run")), pickle.dumps(len, protocol=0), _persistent(_rows())):
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            path_vqa_files._PlainUnpickler(io.BytesIO(data)).load()


def test_large_pickles_are_not_read(tmp_path, monkeypatch):
    folder = _folder(tmp_path)
    monkeypatch.setattr(path_vqa_files, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(ValueError, match=r"train_qa.pkl: \d+ bytes are more than the 100"):
        read_path_vqa(folder)


# Files and folders that are wrong


def _bomb():
    content = ["x"]
    for _ in range(60):
        content = [content, content]
    return content


def _changed(**changes):
    rows = _rows()
    return [*rows[:2], {**rows[2], **changes}, *rows[3:]]


MALFORMED = {
    "dictionary": ({"rows": _rows()}, "expected a list of questions, found dict"),
    "no rows": ([], "holds no rows"),
    "row is a list": ([*_rows(), ["train_0000", "Is it?", "no"]], "row 6: expected image, question and answer, found"),
    "no answer": ([*_rows(), {"image": "train_0000", "question": "Is it?"}], "row 6: lacks the key 'answer'"),
    "answer is a number": (_changed(answer=3), "row 2: answer must be a string, found int"),
    "question is null": (_changed(question=None), "row 2: question must be a string, found NoneType"),
    "image is a truth value": (_changed(image=True), "row 2: image must be a string, found bool"),
    "2**60 strings": (_changed(answer=_bomb()), "row 2: answer must be a string, found list"),
    "huge number": (_changed(answer=10**5000), "row 2: answer must be a string, found int"),
    "dots": (_changed(image="../val/val_0000"), "row 2: image is '../val/val_0000', expected a name such as"),
    "absolute": (_changed(image="/etc/passwd"), "row 2: image is '/etc/passwd'"),
    "empty name": (_changed(image=" "), "row 2: image is ''"),
    "cut in the middle": (pickle.dumps(_rows())[:150], "a damaged pickle"),
    "empty file": (b"", "a damaged pickle"),
    "text": (b"image,question,answer\n", "a damaged pickle"),
    "append to a dictionary": (b"\x80\x02}Na.", "a damaged pickle ("),
    "unhashable key": (b"\x80\x02}]Ns.", "a damaged pickle ("),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_pickles(case, tmp_path):
    content, message = MALFORMED[case]
    folder = _folder(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_path_vqa(folder, max_left_out=1.0)
    assert "\n" not in str(caught.value) and str(folder / "qas/train/train_qa.pkl") in str(caught.value)


@pytest.mark.parametrize("place", ["", "qas/train"])
def test_json_alone(tmp_path, place):
    folder = _folder(tmp_path)
    (folder / "qas/train/train_qa.pkl").unlink()
    path = folder / place / "train_qa.json"
    path.write_text(json.dumps(_rows()))
    found = read_path_vqa(folder)
    assert (found.variant, len(found.rows), len(found.notes)) == ("json", 6, 1)
    path.write_text(json.dumps(_changed(answer=[])))
    with pytest.raises(ValueError, match=r"train_qa.json: row 2: answer must be a string, found list"):
        read_path_vqa(folder)
    path.write_text(json.dumps(_rows())[:-9])
    with pytest.raises(ValueError, match=r"train_qa.json: not JSON \(line 1, column"):
        read_path_vqa(folder)


def test_missing_files_and_wrong_options(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_dir .*nowhere does not exist"):
        read_path_vqa(tmp_path / "nowhere")
    folder = _folder(tmp_path / "path_vqa")
    with pytest.raises(
        FileNotFoundError, match=r"no split 'val' of PathVQA; expected qas/val/val_qa.pkl, val_qa.json"
    ):
        read_path_vqa(folder, "val")
    with pytest.raises(FileNotFoundError, match="no split 'train' of PathVQA in the form hf"):
        read_path_vqa(folder, variant="hf")
    with pytest.raises(ValueError, match="unknown variant 'official'; choose one of json, pickle, hf"):
        read_path_vqa(folder, variant="official")
    with pytest.raises(ValueError, match="unknown split 'validation'; choose one of train, val, test"):
        read_path_vqa(folder, "validation")
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(ValueError, match=r"6 of 6 rows cannot be used \(6 picture missing"):
        read_path_vqa(folder, max_left_out=1.0)


# The Hugging Face copy


def _picture(value, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (4, 4), value).save(buffer, "JPEG")
    return {"bytes": buffer.getvalue(), "path": None}


def _hub(**columns):
    import datasets

    features = {"image": datasets.Image(), "question": datasets.Value("string"), "answer": datasets.Value("string")}
    given = {
        "image": [_picture((9, 9, 9)), _picture((9, 9, 9)), _picture((0, 0, 0, 255), "CMYK")],
        "question": ["is it so?", "how many are there?", "where is it?"],
        "answer": ["yes", "two", "liver"],
    }
    return datasets.Dataset.from_dict({**given, **columns}, features=datasets.Features(features))


@pytest.mark.parametrize("form", ["parquet", "save_to_disk"])
def test_hub_copy(tmp_path, form):
    import datasets

    folder = tmp_path / "path-vqa"
    if form == "save_to_disk":
        datasets.DatasetDict({"train": _hub(), "validation": _hub()}).save_to_disk(str(folder))
    else:
        (folder / "data").mkdir(parents=True)
        for split in ("train", "validation"):
            _hub().to_parquet(str(folder / "data" / f"{split}-00000-of-00001-0123456789abcdef.parquet"))
    found, val = read_path_vqa(folder), read_path_vqa(folder, "val")
    assert (found.variant, found.published, val.published, len(val.rows)) == ("hf", 19654, 6259, 3)
    assert found.rows["id"][:] == ["hf-train-0", "hf-train-1", "hf-train-2"] and val.rows["id"][0] == "hf-val-0"
    assert found.rows["question_type"][:] == ["is", "how much", "where"]
    assert found.rows["answer_type"][:] == ["closed", "open", "open"] and len(set(found.rows["group"])) == 2
    assert open_image(found.rows[2]["image"]).getpixel((0, 0)) == (0, 0, 0)
    _folder(folder)
    with pytest.raises(ValueError, match="in the forms pickle, hf; choose with variant"):
        read_path_vqa(folder)
    assert len(read_path_vqa(folder, variant="pickle").rows) == 6


def test_damaged_hub_copies(tmp_path):
    part = tmp_path / "train.parquet"
    _hub(image=[_picture((1, 1, 1)), None, None]).to_parquet(str(part))
    with pytest.raises(ValueError, match="train row 1: image must be a picture's bytes, found NoneType"):
        read_path_vqa(tmp_path)
    unusable = _hub(image=[_picture((1, 1, 1)), {"bytes": None, "path": "a.jpg"}, {"bytes": b"", "path": None}])
    pyarrow.parquet.write_table(unusable.data.table, part)
    assert read_path_vqa(tmp_path, max_left_out=0.7).reasons == {"picture missing": 1, "picture empty": 1}
    _hub(answer=["yes", None, "no"]).to_parquet(str(part))
    assert read_path_vqa(tmp_path, max_left_out=0.4).reasons == {"no answer": 1}
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"train.parquet: unreadable"):
        read_path_vqa(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no test\*.parquet"):
        read_path_vqa(tmp_path, "test")
