"""What may be shown: data lent to named persons must not end up in notebooks, logs or requests."""

from collections.abc import Iterable, Mapping

# Data sets whose use agreement forbids passing on pictures or text.
CREDENTIALED_DATASETS = ("mimic_cxr",)


def refuse_credentialed(rows: Iterable[Mapping], what: str) -> None:
    """Raises before anything of a credentialed data set is shown.

    Args:
        rows: rows of the schema or of a predictions file.
        what: what was about to be done, for the message, such as "draw examples".

    Raises:
        ValueError: if any row comes from a credentialed data set.
    """
    for row in rows:
        if row.get("dataset") in CREDENTIALED_DATASETS:
            raise ValueError(
                f"refused to {what}: row {row.get('id')!r} is of {row['dataset']}, whose agreement forbids passing on "
                "its pictures and text; show numbers only"
            )
