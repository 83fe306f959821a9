"""notebooks/stage2_vqa.ipynb, run by papermill as a user runs it."""

import json
from functools import partial
from pathlib import Path

import pytest
from running import ABSOLUTE_PATH, bare_pictures, pictures, run_notebook, visible

nbformat = pytest.importorskip("nbformat")

papermill = partial(run_notebook, "stage2_vqa")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    finished = papermill(folder, limit=48, epochs=1)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder, nbformat.read(folder / "out.ipynb", as_version=4)


def test_the_embedded_default_runs_to_its_end(executed):
    folder, notebook = executed
    run = folder / "runs" / "stage2_vqa"
    names = {path.name for path in run.iterdir()}
    assert {"adapter", "predictions.jsonl", "metrics.json", "run.json"} <= names
    assert {"predictions_zero_shot.jsonl", "predictions_blank.jsonl", "predictions_shuffled.jsonl"} <= names
    assert not [name for name in names if name.endswith(".partial")]
    assert json.loads((run / "metrics.json").read_text())["n"]["overall"] == 48
    assert (pictures(notebook), bare_pictures(notebook)) == (4, 0)


def test_what_it_shows_is_what_the_files_say(executed):
    folder, notebook = executed
    overall = json.loads((folder / "runs" / "stage2_vqa" / "metrics.json").read_text())["exact_match"]["overall"]
    assert f"{overall:.1f}" in visible(notebook)


def test_no_path_of_the_machine_is_in_the_executed_notebook(executed):
    folder, notebook = executed
    found = ABSOLUTE_PATH.search(visible(notebook))
    assert found is None, visible(notebook)[max(0, found.start() - 100) : found.end() + 100]
    assert str(folder) not in json.dumps(notebook)


def test_run_again_it_trains_nothing_anew(executed):
    folder, _ = executed
    weights = folder / "runs" / "stage2_vqa" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    finished = papermill(folder, limit=48, epochs=1, controls=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert weights.stat().st_mtime_ns == before


def test_a_picture_of_one_s_own_is_asked_about(executed):
    from PIL import Image

    from pefomed.embedded.phantoms import draw_phantom

    folder, notebook = executed
    Image.fromarray(draw_phantom(7, "CHEST").image).save(folder / "mine.png")
    own = {"picture": "mine.png", "question": "is there a nodule in mine?"}
    finished = papermill(folder, limit=48, epochs=1, controls=False, **own)
    assert finished.returncode == 0, finished.stderr[-3000:]
    shown = visible(nbformat.read(folder / "out.ipynb", as_version=4))
    asked, answer = shown[shown.index("question: is there a nodule in mine?") :].splitlines()[:2]
    assert asked and answer.startswith("answer:")  # of a model that has hardly trained: it may be empty
    assert "question: is there a nodule in mine?" not in visible(notebook)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nosuch": 3}, "unknown parameter: nosuch; choose from base_dir, batch_size, controls"),
        ({"epochs": "many"}, "parameter epochs must be int, not 'many'"),
        ({"preset": "huge"}, "parameter preset must be one of 'tiny', 'paper', not 'huge'"),
        ({"data_dir": "/data/of/mine"}, "parameter data_dir must be a relative path"),
        ({"dataset": "vqa_rad"}, "parameter data_dir is empty"),
        ({"preset": "paper"}, "parameter base_dir is empty"),
        ({"picture": "a.png"}, "parameter question is empty"),
        ({"picture": "nosuch.png", "question": "is there a nodule?"}, "nosuch.png: no such picture file"),
    ],
)
def test_an_impossible_parameter_ends_it_with_one_clear_line(tmp_path, parameters, message):
    finished = papermill(tmp_path, **parameters)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (tmp_path / "runs").exists(), "something was started"


@pytest.mark.slow
def test_real_vqa_rad_runs_to_its_end(shared, tmp_path):
    (tmp_path / "shared").symlink_to(shared)
    finished = papermill(tmp_path, dataset="vqa_rad", data_dir="shared/data/vqa_rad_official", limit=60, epochs=1)
    assert finished.returncode == 0, finished.stderr[-3000:]
    record = json.loads((tmp_path / "runs" / "stage2_vqa" / "run.json").read_text())
    assert "official" in record["data"]
    assert str(tmp_path) not in json.dumps(record)


def write_slake(folder: Path) -> None:
    """SLAKE's folder layout with a few drawn pictures and invented questions."""
    from pefomed.data import load_dataset

    for split, file in (("train", "train"), ("val", "validate"), ("test", "test")):
        drawn = load_dataset("phantoms", split=split, images=3, questions_per_image=4)
        rows = []
        for number, row in enumerate(drawn):
            name = f"{split}-{row['group'].rpartition('-')[2]}/source.png"
            (folder / "imgs" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "imgs" / name).write_bytes(row["image"]["bytes"])
            kind = {
                "qid": 1000 * len(split) + number,
                "img_id": number,
                "q_lang": "en",
                "img_name": name,
                "location": "Lung",
                "modality": "X-Ray",
            }
            kind |= {"question": row["question"], "answer": row["answer"], "answer_type": row["answer_type"].upper()}
            rows.append({**kind, "base_type": "vqa", "content_type": "Abnormality", "triple": ["vhead", "_", "_"]})
        (folder / f"{file}.json").write_text(json.dumps(rows))


def test_slake_runs_to_its_end(tmp_path):
    write_slake(tmp_path / "slake")
    finished = papermill(tmp_path, dataset="slake", data_dir="slake", epochs=1)
    assert finished.returncode == 0, finished.stderr[-3000:]
    run = tmp_path / "runs" / "stage2_vqa"
    assert json.loads((run / "metrics.json").read_text())["n"]["overall"] == 12
    assert json.loads((run / "run.json").read_text())["data"].startswith("slake, form 'official'.")
