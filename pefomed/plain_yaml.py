"""YAML of tables, lists, texts and numbers, strictly: no key twice, no tags, and 3e-5 is a number."""

from __future__ import annotations

import re
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """Plain YAML (nothing but tables, lists, texts and numbers) in which no key may occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# PyYAML follows YAML 1.1, in which 3e-5 without a point is a text.
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """What a YAML text says.

    Raises:
        ValueError: naming the source, and line and column where they are known.
    """
    try:
        return yaml.load(text, StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter two: a 13th month, deep nesting
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{source}: not plain YAML{where}: {problem}") from error
