"""Parameters of notebooks: what is refused, with which words, and that papermill ends with exit status 1."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pefomed.notebook import check_parameters

PARAMETERS_CELL = """\
dataset: str = "embedded"  # which data set to learn from
lr: float = 1e-5  # highest learning rate
steps: int = 3  # optimizer steps
flip: bool = False  # mirror the images
preset: str = "tiny"
"""
CHOICES = {"preset": ("tiny", "paper")}
MIXTURE = "{'roco': {'data_dir': 'data/roco', 'ratio': 60.0}}"  # as papermill writes what it got with -y


def namespace_after(*cells: str, history: bool = True) -> dict[str, Any]:
    """The globals of a kernel that has run these cells."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    if history:
        namespace["In"] = [""]
        namespace["Out"] = {}
    for cell in cells:
        if history:
            namespace["In"].append(cell)
        exec(cell, namespace)
    return namespace


@pytest.mark.parametrize("history", [True, False])
def test_values_types_and_order(history: bool) -> None:
    injected = "# Parameters\nsteps = 7\nlr = 1\n"
    args = check_parameters(namespace_after(PARAMETERS_CELL, injected, history=history), CHOICES)
    assert dataclasses.asdict(args) == {
        "dataset": "embedded",
        "lr": 1.0,
        "steps": 7,
        "flip": False,
        "preset": "tiny",
    }
    assert type(args.lr) is float  # an int is taken for a float and made one


def test_the_result_is_frozen() -> None:
    args = check_parameters(namespace_after(PARAMETERS_CELL))
    with pytest.raises(dataclasses.FrozenInstanceError):
        args.steps = 8
    with pytest.raises(AttributeError):
        _ = args.nosuch


def test_the_table_shows_names_values_and_help() -> None:
    args = check_parameters(namespace_after(PARAMETERS_CELL, "# Parameters\nsteps = 7"))
    assert str(args).splitlines() == [
        "parameter  value       meaning",
        "dataset    'embedded'  which data set to learn from",
        "lr         1e-05       highest learning rate",
        "steps      7           optimizer steps",
        "flip       False       mirror the images",
        "preset     'tiny'",
    ]


def test_a_long_help_goes_on_below_its_beginning() -> None:
    words = "a word of help that is much longer than what is left of the line behind the name and the value"
    lines = str(check_parameters(namespace_after(f"steps: int = 3  # {words}"))).splitlines()
    assert max(map(len, lines)) <= 80
    start = lines[1].index("a word")
    assert all(line[:start].isspace() for line in lines[2:]) and len(lines) > 2
    assert " ".join(line[start:] for line in lines[1:]) == words


def test_a_long_value_has_a_line_of_its_own() -> None:
    cell = 'predictions: str = "runs/book/vqa/seed0/predictions.jsonl"  # what to rate\nsteps: int = 3  # how many\n'
    assert str(check_parameters(namespace_after(cell))).splitlines() == [
        "parameter    value  meaning",
        "predictions  'runs/book/vqa/seed0/predictions.jsonl'",
        "                    what to rate",
        "steps        3      how many",
    ]


def test_the_table_hides_machine_paths() -> None:
    cell = (
        f'data_dir: str = "/home/jane/vqa"  # data\noutput_dir: str = {str(Path.cwd() / "runs" / "a")!r}  # results\n'
    )
    table = str(check_parameters(namespace_after(cell)))
    assert "jane" not in table and "'vqa'" in table
    assert "'runs/a'" in table


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("nosuch = 3", "unknown parameter: nosuch; choose from dataset, flip, lr, preset, steps"),
        ("b = 3\na = 'x'", "unknown parameters: a, b; choose from dataset, flip, lr, preset, steps"),
        ("steps = 'abc'", "parameter steps must be int, not 'abc'"),
        ("steps = 2.0", "parameter steps must be int, not 2.0"),
        ("steps = True", "parameter steps must be int, not True"),
        ("steps = None", "parameter steps must be int, not None"),
        ("lr = True", "parameter lr must be float, not True"),
        ("lr = '1e-5'", "parameter lr must be float, not '1e-5'"),
        ("lr = float('nan')", "parameter lr must be a finite float, not nan"),
        ("flip = 1", "parameter flip must be bool, not 1"),
        ("dataset = 3", "parameter dataset must be str, not 3; papermill's -r passes a value as text"),
        ("dataset = ['a']", "parameter dataset must be str, not ['a']; papermill's -r passes a value as text"),
        ("preset = 'x'", "parameter preset must be one of 'tiny', 'paper', not 'x'"),
    ],
)
def test_mistakes_are_named_in_one_line(injected: str, message: str, history: bool) -> None:
    namespace = namespace_after(PARAMETERS_CELL, f"# Parameters\n{injected}\n", history=history)
    with pytest.raises(ValueError) as caught:
        check_parameters(namespace, CHOICES)
    assert str(caught.value) == message


def test_papermills_own_paths_are_no_parameters() -> None:
    injected = '# Parameters\nPAPERMILL_INPUT_PATH = "a.ipynb"\nPAPERMILL_OUTPUT_PATH = "b.ipynb"\n'
    for history in (True, False):
        check_parameters(namespace_after(PARAMETERS_CELL, injected, history=history))


def test_a_reader_may_run_the_check_again() -> None:
    """Names that later cells computed are not taken for parameters, and an old injected cell does not count."""
    namespace = namespace_after(
        PARAMETERS_CELL, "# Parameters\nold = 1", PARAMETERS_CELL, "score = 0.5\ncount: int = 2\nx = []"
    )
    assert check_parameters(namespace).steps == 3


def test_annotate_of_python_3_14_is_understood() -> None:
    namespace = {"steps": 3, "lr": 0.1, "__annotate__": lambda form: {"steps": int, "lr": "float"}}
    assert dataclasses.asdict(check_parameters(namespace)) == {"steps": 3, "lr": 0.1}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("x = 3", "no parameters found"),
        ("sizes: list[int] = [1]", "parameter sizes: type list\\[int\\] is none of bool, int, float, str"),
        ("x: int", "parameter x is declared without a value"),
    ],
)
@pytest.mark.parametrize("history", [True, False])
def test_wrong_declarations(cell: str, message: str, history: bool) -> None:
    with pytest.raises(ValueError, match=message):
        check_parameters(namespace_after(cell, history=history))


def test_choices_for_an_undeclared_parameter() -> None:
    with pytest.raises(ValueError, match="choices given for size, which the parameters cell does not declare"):
        check_parameters(namespace_after("x: int = 1"), {"size": (1, 2)})


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("given", ["'{roco: {data_dir: data/roco, ratio: 6e1}}'", MIXTURE])
def test_a_table_is_given_as_text_or_as_a_table(given: str, history: bool) -> None:
    namespace = namespace_after('mixture: str = ""  # data sets', f"# Parameters\nmixture = {given}", history=history)
    args = check_parameters(namespace, tables=("mixture",), relative_paths=("mixture",))
    assert args.mixture == {"roco": {"data_dir": "data/roco", "ratio": 60.0}}
    assert "'ratio': 60.0" in str(args)


def test_an_empty_text_is_an_empty_table() -> None:
    assert check_parameters(namespace_after('mixture: str = ""  # data sets'), tables=("mixture",)).mixture == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("'{roco: '", "parameter mixture: not plain YAML"),
        ("'roco'", "parameter mixture must be a table such as {roco: {ratio: 60}}, not 'roco'"),
        ("['roco']", "parameter mixture must be a table such as"),
        ("3", "parameter mixture must be a table such as"),
        ("None", "parameter mixture must be a table such as"),
        ("{'roco': {'data_dir': '/data'}}", "parameter mixture.roco.data_dir must be a relative path"),
        ("'{roco: {data_dir: ~/roco}}'", "parameter mixture.roco.data_dir must be a relative path"),
    ],
)
def test_mistakes_in_a_table_are_named(given: str, message: str) -> None:
    namespace = namespace_after('mixture: str = ""  # data sets', f"# Parameters\nmixture = {given}")
    with pytest.raises(ValueError) as caught:
        check_parameters(namespace, tables=("mixture",), relative_paths=("mixture",))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_number_below_its_lowest_value_is_named() -> None:
    assert check_parameters(namespace_after("steps: int = 1  # steps"), at_least={"steps": 1}).steps == 1
    with pytest.raises(ValueError, match="parameter steps must be at least 1, not 0"):
        check_parameters(namespace_after("steps: int = 0  # steps"), at_least={"steps": 1})


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small notebook that writes the parameters which it was given."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("papermill")
    pytest.importorskip("ipykernel")
    check = (
        "from pefomed.notebook import check_parameters\n\n"
        f"args = check_parameters(globals(), choices={CHOICES!r})\nprint(args)"
    )
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in (PARAMETERS_CELL.rstrip(), check, "total = args.steps * 2\ntotal")
    ]
    cells[0].metadata["tags"] = ["parameters"]
    content = nbformat.v4.new_notebook(cells=cells)
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path_factory.mktemp("notebook") / "source.ipynb"
    nbformat.write(content, path)
    return path


def papermill(notebook: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run papermill as a user would, on the kernel of the environment that runs the tests."""
    import pefomed

    environment = dict(os.environ, PYTHONPATH=str(Path(pefomed.__file__).parent.parent), JUPYTER_PREFER_ENV_PATH="1")
    environment["IPYTHONDIR"] = str(folder / "ipython")
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        str(notebook),
        str(folder / "out.ipynb"),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=folder)


def test_papermill_passes_right_parameters(notebook: Path, tmp_path: Path) -> None:
    finished = papermill(notebook, tmp_path, "-p", "steps", "21", "-p", "lr", "1", "--inject-paths")
    assert finished.returncode == 0, finished.stderr
    executed = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert "42" in executed and "optimizer steps" in executed


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nosuch", "3", "unknown parameter: nosuch; choose from dataset, flip, lr, preset, steps"),
        ("steps", "abc", "parameter steps must be int, not 'abc'"),
        ("preset", "x", "parameter preset must be one of 'tiny', 'paper', not 'x'"),
    ],
)
def test_papermill_exits_1_and_says_why(notebook: Path, tmp_path: Path, name: str, value: str, message: str) -> None:
    finished = papermill(notebook, tmp_path, "-p", name, value)
    assert finished.returncode == 1
    assert message in finished.stderr
