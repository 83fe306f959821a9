"""Parameters of a notebook, checked before anything else runs.

A notebook begins with a code cell tagged `parameters` that holds nothing but declarations,

    dataset: str = "embedded"  # which data set to learn from
    lr: float = 1e-5  # highest learning rate

and its second code cell reads them:

    from pefomed.notebook import check_parameters

    args = check_parameters(globals(), choices={"dataset": ("embedded", "vqa_rad")})
    print(args)

Papermill writes the values of `-p name value` into a cell of its own between the two. To papermill, a name that the
notebook does not know is only a warning, and a value of the wrong type fails wherever it is first used; here both end
the run at once, with exit status 1 and one line that names the parameter.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import math
import sys
import textwrap
import tokenize
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pefomed.plain_yaml import parse_yaml
from pefomed.run_record import publishable

TABLE_WIDTH = 80  # characters; what a page of the book shows without breaking lines
LONGEST_VALUE = 24  # characters that stand in a line with their help
PARAMETER_TYPES = {"bool": bool, "int": int, "float": float, "str": str}

# Papermill's own names, present when it is called with --inject-paths.
PAPERMILL_NAMES = {"PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}


@dataclass(frozen=True)
class Declaration:
    """One line `name: type = value  # help` of the parameters cell."""

    name: str
    type_name: str
    help: str = ""


def quiet() -> None:
    """Keep what names the machine out of a notebook's outputs: warnings without file names, errors without frames.

    Progress bars of model loading go too; those of training and generation stay.
    """
    warnings.showwarning = lambda message, category, *rest: print(f"{category.__name__}: {message}", file=sys.stderr)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.InteractiveTB.set_mode("Minimal")
    warnings.filterwarnings("ignore", message="IProgress not found")
    if importlib.util.find_spec("transformers") is not None:
        from transformers.utils import logging

        logging.disable_progress_bar()


def check_parameters(
    namespace: Mapping[str, Any],
    choices: Mapping[str, Sequence[Any]] | None = None,
    relative_paths: Sequence[str] = (),
    tables: Sequence[str] = (),
    at_least: Mapping[str, int] | None = None,
) -> Any:
    """Check a notebook's parameters and return them as one frozen object.

    Args:
        namespace: The notebook's `globals()`, read and never changed.
        choices: For some parameters, the values they may take.
        relative_paths: Parameters that are paths, or tables of them. Papermill writes every parameter into the
            executed notebook, so an absolute one, which names the machine and often its owner, is refused.
        tables: Parameters declared as `str` whose value is a table: the text of one in YAML, as in
            `-p mixture '{roco: {ratio: 60}}'`, or a table itself, as in `-y '{mixture: {roco: {ratio: 60}}}'`. They
            are returned as dictionaries, an empty text as an empty one.
        at_least: For some numbers, the lowest value.

    Returns:
        A frozen dataclass with one attribute per parameter, in the order of declaration. An int given for a float is
        converted. Its text is a table of names, values and help; `dataclasses.asdict` turns it into a dictionary.

    Raises:
        ValueError: A parameter is unknown, has the wrong type, is not finite, too low or none of its choices; or the
            declarations themselves are wrong. The message is one line.
    """
    declarations = find_declarations(namespace)
    known = {declaration.name for declaration in declarations}
    choices, at_least = choices or {}, at_least or {}
    refuse_unknown(find_injected(namespace, known) - known, known)
    if undeclared := sorted(choices.keys() - known):
        raise ValueError(f"choices given for {', '.join(undeclared)}, which the parameters cell does not declare")

    values = {}
    for declaration in declarations:
        name = declaration.name
        value = checked_table(name, namespace.get(name)) if name in tables else checked_value(declaration, namespace)
        allowed = choices.get(name)
        if allowed is not None and value not in allowed:
            listed = ", ".join(repr(choice) for choice in allowed)
            raise ValueError(f"parameter {name} must be one of {listed}, not {value!r}")
        if name in at_least and value < at_least[name]:
            raise ValueError(f"parameter {name} must be at least {at_least[name]}, not {value}")
        if name in relative_paths:
            _refuse_absolute(name, value)
        values[name] = value

    parameters = make_dataclass(
        "Parameters",
        [(declaration.name, type(values[declaration.name])) for declaration in declarations],
        frozen=True,
        repr=False,
        namespace={"__repr__": parameter_table, "_help": {item.name: item.help for item in declarations}},
    )
    return parameters(**values)


def find_declarations(namespace: Mapping[str, Any]) -> list[Declaration]:
    """Return what the parameters cell declares, in its order.

    In a kernel the cell's source is read from IPython's history `In`, which has the help texts as well and does not
    depend on the Python version: IPython compiles a cell statement by statement, so that under Python 3.14 the
    namespace's `__annotate__` knows only the last declaration. Without a history (a notebook turned into a script) the
    annotations serve.

    Raises:
        ValueError: Nothing is declared, or something is declared with an unsupported type.
    """
    _, cell = _declaring_cell(namespace)
    if cell is not None:
        declarations = _declarations_in(cell)
    else:
        annotations = namespace.get("__annotations__")
        if annotations is None and callable(annotate := namespace.get("__annotate__")):
            annotations = annotate(1)  # 1 is annotationlib.Format.VALUE
        declarations = [Declaration(name, _type_name(annotation)) for name, annotation in (annotations or {}).items()]

    if not declarations:
        raise ValueError("no parameters found: begin the notebook with a cell of lines `name: type = value  # help`")
    for declaration in declarations:
        if declaration.type_name not in PARAMETER_TYPES:
            supported = ", ".join(PARAMETER_TYPES)
            raise ValueError(f"parameter {declaration.name}: type {declaration.type_name} is none of {supported}")
    return declarations


def find_injected(namespace: Mapping[str, Any], known: set[str]) -> set[str]:
    """Return the names that were set from outside, papermill's own excepted.

    In a kernel these are the names assigned in the cell that papermill adds, which begins with the comment
    `# Parameters`. Without a history every public name that holds plain data counts: the check comes before the
    notebook has computed anything, so that whatever is there was put there.
    """
    position, cell = _declaring_cell(namespace)
    if cell is None:
        plain = (bool, int, float, str, list, dict, type(None))
        data = {name for name, value in namespace.items() if type(value) in plain and not name.startswith("_")}
        return data - PAPERMILL_NAMES
    injected: set[str] = set()
    for later in namespace["In"][position + 1 :]:
        if later.startswith("# Parameters"):
            injected |= {
                target.id
                for statement in _statements(later)
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            }
    return injected - PAPERMILL_NAMES


def refuse_unknown(unknown: set[str], known: set[str]) -> None:
    """Raise a ValueError that names the unknown parameters and those to choose from."""
    if unknown:
        noun = "parameter" if len(unknown) == 1 else "parameters"
        raise ValueError(f"unknown {noun}: {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")


def checked_value(declaration: Declaration, namespace: Mapping[str, Any]) -> Any:
    """Return the parameter's value in its declared type.

    Raises:
        ValueError: The parameter has no value, a value of another type, or one that is not a finite number.
    """
    name, wanted = declaration.name, PARAMETER_TYPES[declaration.type_name]
    if name not in namespace:
        raise ValueError(f"parameter {name} is declared without a value")
    value = namespace[name]
    # The exact type, because True is an int to isinstance and `-p steps true` is a mistake.
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        # Papermill reads `-p dataset 3` as a number and `-p dataset none` as None.
        hint = "; papermill's -r passes a value as text" if wanted is str else ""
        raise ValueError(f"parameter {name} must be {declaration.type_name}, not {value!r}{hint}")
    if wanted is float and not math.isfinite(value):
        raise ValueError(f"parameter {name} must be a finite float, not {value!r}")
    return value


def checked_table(name: str, value: Any) -> dict[str, Any]:
    """Return a parameter that is a table of names and values, given as one or as its text in YAML.

    Raises:
        ValueError: It is something else, or not YAML.
    """
    table = parse_yaml(value, f"parameter {name}") if isinstance(value, str) else value
    if isinstance(value, str) and table is None:
        return {}
    if not isinstance(table, Mapping):
        raise ValueError(f"parameter {name} must be a table such as {{roco: {{ratio: 60}}}}, not {value!r}")
    return dict(table)


def parameter_table(parameters: Any) -> str:
    """Return parameters as text: name, value and help, in columns; a long help goes on below its beginning.

    Args:
        parameters: What `check_parameters` returned.
    """
    shown = publishable({field.name: getattr(parameters, field.name) for field in fields(parameters)})
    rows = [("parameter", "value", "meaning")]
    rows += [(name, repr(value), parameters._help[name]) for name, value in shown.items()]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows if len(value) <= LONGEST_VALUE)
    start = name_width + value_width + 4
    lines = []
    for name, value, text in rows:
        first, *others = textwrap.wrap(text, max(TABLE_WIDTH - start, 24)) or [""]
        if len(value) > value_width:  # takes a line of its own
            first, others = "", [first, *others]
        lines.append(f"{name:{name_width}}  {value:{value_width}}  {first}".rstrip())
        lines += [" " * start + other for other in others]
    return "\n".join(lines)


def _refuse_absolute(name: str, value: Any) -> None:
    """Raise a ValueError for an absolute path, or one anywhere in a table, that names the parameter and entry."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _refuse_absolute(f"{name}.{key}", entry)
    elif isinstance(value, str) and _is_absolute(value):
        raise ValueError(
            f"parameter {name} must be a relative path, since the executed notebook shows it; "
            "start papermill where ../data or the like leads to the folder, or make a link to it"
        )


def _is_absolute(path: str) -> bool:
    """Absolute here or on another system, or from somebody's home."""
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or path.startswith("~")


def _declaring_cell(namespace: Mapping[str, Any]) -> tuple[int, str | None]:
    """Position in the history and source of the last cell of nothing but declarations; (-1, None) if there is none."""
    history = namespace.get("In")
    for position, source in reversed(list(enumerate(history if isinstance(history, list) else []))):
        statements = _statements(source)
        if statements and all(isinstance(statement, ast.AnnAssign) for statement in statements):
            return position, source
    return -1, None


def _declarations_in(cell: str) -> list[Declaration]:
    """Declarations of a cell, each with the comment that ends its line."""
    tokens = tokenize.generate_tokens(io.StringIO(cell).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    declarations = []
    for line in ast.parse(cell).body:
        if isinstance(line, ast.AnnAssign):
            help_text = comments.get(line.end_lineno, "")
            declarations.append(Declaration(ast.unparse(line.target), _type_name(line.annotation), help_text))
    return declarations


def _type_name(annotation: Any) -> str:
    """`int` for the class int, for the text "int" and for either of them in a syntax tree."""
    if isinstance(annotation, ast.expr):
        annotation = ast.unparse(annotation)
    if isinstance(annotation, str):
        return annotation.strip("'\"")
    return annotation.__name__ if isinstance(annotation, type) else repr(annotation)


def _statements(source: str) -> list[ast.stmt]:
    """Top-level statements of a cell; none for a cell that Python alone cannot read."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []
