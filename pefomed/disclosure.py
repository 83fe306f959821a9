"""What may be shown: data lent to named persons must not end up in notebooks, logs or requests."""

from collections.abc import Iterable, Mapping

# Data sets whose use agreement forbids passing on pictures or text, with the agreement's name.
AGREEMENTS = {"mimic_cxr": "PhysioNet Credentialed Health Data Use Agreement 1.5.0"}
CREDENTIALED_DATASETS = tuple(AGREEMENTS)


def refuse_credentialed(rows: Iterable[Mapping], what: str, agreement: str = "") -> None:
    """Raises before anything of a credentialed data set is shown or leaves the machine.

    Args:
        rows: rows of the schema or of a predictions file.
        what: what was about to be done, for the message, such as "draw examples".
        agreement: name of the use agreement, by which a user states that it allows this. Nothing but the exact name
            in `AGREEMENTS` counts, so that nobody gives leave by a mere "yes".

    Raises:
        ValueError: if any row comes from a credentialed data set whose agreement was not named.
    """
    for row in rows:
        dataset = row.get("dataset")
        if dataset in AGREEMENTS and agreement != AGREEMENTS[dataset]:
            raise ValueError(
                f"refused to {what}: row {row.get('id')!r} is of {dataset}, whose agreement forbids passing on its "
                f"pictures and text; where yours allows it, name it: {AGREEMENTS[dataset]!r}"
            )
