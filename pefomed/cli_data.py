"""`pefomed data`: which data sets there are, and what a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(
    rich_markup_mode=None,
    help="""Which data sets there are, and whether a folder holds one.

    \b
    Examples:
      pefomed data list
      pefomed data check vqa_rad data/vqa_rad
    """,
)


@data_app.command("list")
def data_list() -> None:
    """List the data sets, the files that each needs, and where they are to be had.

    \b
    Example:
      pefomed data list
    """
    from pefomed.data.catalogue import list_data_sets

    print(list_data_sets())


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A name that `pefomed data list` gives.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of the data set; none for drawn ones.")] = "",
    variant: Annotated[str, typer.Option(help="Form of the data set, where DIR holds several.")] = "",
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option of the loader; repeatable.")
    ] = None,
    max_left_out: Annotated[
        float, typer.Option(help="Largest share of rows without a usable picture or text, from 0 to 1.")
    ] = 0.01,
    processes: Annotated[int, typer.Option(help="Processes that read pictures.")] = 1,
    json_file: Annotated[str, typer.Option("--json", metavar="OUT.json", help="Where to write it as well.")] = "",
) -> None:
    """Read a data set, decode every picture, and say what is there: form, counts, leakage, answers, fingerprint.

    \b
    Examples:
      pefomed data check vqa_rad data/vqa_rad
      pefomed data check vqa_rad data/vqa_rad --variant mevf --json check.json
      pefomed data check slake data/slake --option language=zh
      pefomed data check phantoms
    """
    from pefomed.data.all_splits import read_options
    from pefomed.data.check import check_dataset
    from pefomed.files import write_json

    if json_file and Path(json_file).is_dir():
        raise ValueError(f"parameter json: {json_file} is a folder; name a file")
    chosen = {**read_options(name, options or []), **({"variant": variant} if variant else {})}
    report = check_dataset(name, folder, max_left_out=max_left_out, processes=processes, **chosen)
    if json_file:
        write_json(json_file, report.as_values())
    print(report)
    report.refuse_broken()
