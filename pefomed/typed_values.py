"""Values that came out of files or from the command line, checked by their type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def typed(name: str, value: Any, wanted: type) -> Any:
    """The value, if it is of the wanted type; an int given for a float is converted.

    Raises:
        ValueError: it is of another type, or not a finite number.
    """
    if wanted is float and type(value) is int:
        value = float(value)
    # The exact type, because True is an int to isinstance.
    if type(value) is not wanted and not (wanted is dict and isinstance(value, Mapping)):
        kind = "a table of names and values" if wanted is dict else wanted.__name__
        raise ValueError(f"parameter {name} must be {kind}, not {value!r:.60}")
    if wanted is float and not math.isfinite(value):
        raise ValueError(f"parameter {name} must be a finite float, not {value!r}")
    return dict(value) if wanted is dict else value


def typed_entries(name: str, table: Mapping[str, Any], known: Mapping[str, type]) -> dict[str, Any]:
    """The entries of a parameter that is a table, each checked.

    Raises:
        ValueError: an entry is unknown or of another type.
    """
    for key in table:
        if key not in known:
            raise ValueError(f"parameter {name} has no entry {key!r}; choose from {', '.join(sorted(known))}")
    return {key: typed(f"{name}.{key}", value, known[key]) for key, value in table.items()}
