"""Every array that a record lists belongs to exactly one test file here, which compares it."""

import ast
from pathlib import Path

import pytest


def _owned():
    """(file, prefix, test file) of every OWNED table in this folder."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        constants = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Name, ast.Tuple)):
                targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else [node.targets[0]]
                values = node.value.elts if isinstance(node.targets[0], ast.Tuple) else [node.value]
                for target, value in zip(targets, values, strict=True):
                    if target.id == "OWNED":
                        for key, prefixes in zip(value.keys, value.values, strict=True):
                            file = constants[key.id] if isinstance(key, ast.Name) else ast.literal_eval(key)
                            found += [(file, prefix, path.name) for prefix in ast.literal_eval(prefixes)]
                    elif isinstance(value, ast.Constant):
                        constants[target.id] = value.value
    return found


@pytest.mark.parametrize("which", ["small_record", "record"])
def test_every_array_has_one_owner(request, which):
    record = request.getfixturevalue(which)
    small = which == "small_record"
    owned = [entry for entry in _owned() if entry[2].startswith("test_small_") == small]
    for file in record.json("README.json")["arrays"]:
        for name in record.listed(file):
            owners = {owner for owned_file, prefix, owner in owned if owned_file == file and name.startswith(prefix)}
            assert len(owners) == 1, f"{file}: {name} is compared by {sorted(owners) or 'no test file'}"
