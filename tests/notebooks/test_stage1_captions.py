"""notebooks/stage1_captions.ipynb, run by papermill as a user runs it."""

import ast
import json
import re
from functools import partial
from pathlib import Path

import pytest
import yaml
from running import ABSOLUTE_PATH, bare_pictures, pictures, rows_of, run_notebook, visible

nbformat = pytest.importorskip("nbformat")

REPOSITORY = Path(__file__).resolve().parents[2]
papermill = partial(run_notebook, "stage1_captions")
NOTEBOOK = REPOSITORY / "notebooks" / "stage1_captions.ipynb"
SMALL = {"phantoms": {"images": 24, "seed": 1, "ratio": 60}, "shapes": {"images": 8, "ratio": 40}}


def of_mixture(table: dict) -> tuple[str, str]:
    """The option that hands papermill a table; JSON is YAML."""
    return "-y", json.dumps({"mixture": table})


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    finished = papermill(folder, *of_mixture(SMALL), epochs=1, test_captions=12)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder, nbformat.read(folder / "out.ipynb", as_version=4)


def test_a_mixture_given_as_a_table_runs_to_its_end(executed):
    folder, notebook = executed
    run = folder / "runs" / "stage1_captions"
    assert {"adapter", "settings.json", "run.json", "phantoms"} <= {path.name for path in run.iterdir()}
    assert not (run / "shapes").exists(), "questions are no captions"
    plan = json.loads((run / "plan.json").read_text())
    assert [(s["name"], s["rows"], s["ratio"]) for s in plan["sources"]] == [("phantoms", 24, 60), ("shapes", 32, 40)]
    assert json.loads((run / "settings.json").read_text())["dataset"] == "mixture", "the test took the run's place"
    assert (pictures(notebook), bare_pictures(notebook)) == (3, 0)


def test_captions_before_and_after_are_of_the_same_held_out_pictures(executed):
    folder, notebook = executed
    run = folder / "runs" / "stage1_captions" / "phantoms"
    before, after = rows_of(run / "predictions_zero_shot.jsonl"), rows_of(run / "predictions.jsonl")
    assert [row["id"] for row in before] == [row["id"] for row in after]
    assert len(after) == 12 and {row["split"] for row in after} == {"test"}
    assert {row["condition"] for row in before} == {"zero_shot"} and {row["condition"] for row in after} == {"stage1"}
    assert all("stopped" in row for row in after)
    scores = json.loads((run / "metrics.json").read_text())
    assert f"{scores['mean_words']['prediction']:.1f}" in visible(notebook)
    assert f"{scores['findings']['names']['exact_set']['share']:.1f}" in visible(notebook)


def test_the_drawn_wordings_of_a_picture_differ_from_epoch_to_epoch(executed):
    _, notebook = executed
    drawn = re.findall(r"epoch \d: .*\[caption\] (.*?) \[/INST\]", visible(notebook))
    assert len(drawn) == 8 and len(set(drawn[:4])) > 1


def test_no_path_of_the_machine_is_in_the_executed_notebook(executed):
    folder, notebook = executed
    found = ABSOLUTE_PATH.search(visible(notebook))
    assert found is None, visible(notebook)[max(0, found.start() - 100) : found.end() + 100]
    assert str(folder) not in json.dumps(notebook)


def test_run_again_with_the_mixture_as_text_it_trains_nothing_anew(executed):
    folder, _ = executed
    weights = folder / "runs" / "stage1_captions" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    finished = papermill(folder, mixture=yaml.safe_dump(SMALL, default_flow_style=True), epochs=1, test_captions=12)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert weights.stat().st_mtime_ns == before


def test_the_default_mixture_is_that_of_the_configuration():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code" and "%pip" not in cell.source]
    statements = [s for source in code for s in ast.parse(source).body]
    (drawn,) = [s.value for s in statements if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "drawn"]
    configured = yaml.safe_load((REPOSITORY / "configs" / "stage1_captions_tiny.yaml").read_text())
    assert ast.literal_eval(drawn) == configured["mixture"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nosuch": 3}, "unknown parameter: nosuch; choose from base_dir, data_dir, dataset"),
        ({"epochs": "many"}, "parameter epochs must be int, not 'many'"),
        ({"num_processes": 0}, "parameter num_processes must be at least 1, not 0"),
        ({"mixture": "roco"}, "parameter mixture must be a table such as"),
        ({"mixture": "{roco: {ratio: 60}}"}, "parameter mixture.roco.data_dir is empty"),
        ({"mixture": "{roco: {data_dir: /data/of/mine}}"}, "parameter mixture.roco.data_dir must be a relative path"),
        ({"mixture": "{phantoms: {pictures: 3}}"}, "parameter mixture.phantoms has no entry 'pictures'"),
        ({"dataset": "vqa_rad"}, "parameter dataset must be one of 'mixture', 'phantoms'"),
        ({"dataset": "phantoms", "mixture": "{shapes: {}}"}, "parameter mixture belongs to dataset 'mixture'"),
        ({"wordings_file": "none.txt"}, "parameter wordings_file: none.txt: no such file"),
    ],
)
def test_an_impossible_parameter_ends_it_with_one_clear_line(tmp_path, parameters, message):
    finished = papermill(tmp_path, **parameters)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert not (tmp_path / "runs").exists(), "something was started"


@pytest.mark.slow
def test_real_roco_and_medicat_run_to_their_end(shared, tmp_path):
    """Of the two samples only ROCO's has a test split."""
    (tmp_path / "shared").symlink_to(shared)
    mixture = {
        "roco": {"data_dir": "shared/data/rocov2_sample", "ratio": 60},
        "medicat": {"data_dir": "shared/data/medicat_sample", "ratio": 20},
    }
    finished = papermill(tmp_path, *of_mixture(mixture), epochs=1)
    assert finished.returncode == 0, finished.stderr[-3000:]
    run = tmp_path / "runs" / "stage1_captions"
    captions = rows_of(run / "roco" / "predictions.jsonl")
    assert captions and {row["dataset"] for row in captions} == {"roco"}
    assert "findings" not in json.loads((run / "roco" / "metrics.json").read_text())
    assert not (run / "medicat").exists()
    assert str(tmp_path) not in (run / "run.json").read_text()
    assert not ABSOLUTE_PATH.search(visible(nbformat.read(tmp_path / "out.ipynb", as_version=4)))


@pytest.mark.slow
def test_a_data_set_without_validation_and_test_runs_to_its_end(shared, tmp_path):
    (tmp_path / "shared").symlink_to(shared)
    wordings = tmp_path / "wordings.txt"
    wordings.write_text("Say what is seen.\nPut the figure into words.\n")
    finished = papermill(
        tmp_path, dataset="medicat", data_dir="shared/data/medicat_sample", wordings_file=wordings.name, epochs=1
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "nothing, since no data set of captions here has a test split" in visible(notebook)
    assert "Put the figure into words." in visible(notebook)
    assert (tmp_path / "runs" / "stage1_captions" / "adapter").is_dir()
    assert (pictures(notebook), bare_pictures(notebook)) == (2, 0)
