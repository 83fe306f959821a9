"""Pages of the book, and the numbers that their prose shows: glued by the page's run, kept as JSON, shown in HTML."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
GLUE = re.compile(r"\{glue(?::\w+)?\}(?:`([^`]+)`| *([^\s`]+))")
PASTED = re.compile(r'class="pasted-text">([^<]*)<')


@dataclass(frozen=True)
class Page:
    """One page of the table of contents."""

    docname: str
    source: Path

    def cells(self, executed: bool = False, root: Path = ROOT) -> list[dict]:
        """Cells of a notebook; of a text the whole, as one. With `executed`, those of its last run if there is one."""
        if self.source.suffix != ".ipynb":
            return [{"cell_type": "markdown", "source": self.source.read_text(encoding="utf-8"), "metadata": {}}]
        copy = root / "book" / "_runs" / self.source.name
        path = copy if executed and copy.is_file() else self.source
        return json.loads(path.read_text(encoding="utf-8"))["cells"]

    def texts(self) -> list[str]:
        """Its markdown, by cell."""
        return ["".join(cell["source"]) for cell in self.cells() if cell["cell_type"] == "markdown"]


def pages(root: Path) -> list[Page]:
    """The pages that the table of contents names, in its order.

    Raises:
        FileNotFoundError: one of them has no source.
    """

    def files(entry) -> Iterator[str]:
        if isinstance(entry, dict):
            yield from (entry[key] for key in ("root", "file") if key in entry)
            for key in ("parts", "chapters", "sections"):
                yield from files(entry.get(key, []))
        else:
            for item in entry:
                yield from files(item)

    found = []
    for name in files(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))):
        if name == "genindex":
            continue
        sources = [root / f"{name}{suffix}" for suffix in (".ipynb", ".md")]
        source = next((path for path in sources if path.is_file()), None)
        if source is None:
            raise FileNotFoundError(f"_toc.yml: {name}: no {name}.ipynb and no {name}.md")
        found.append(Page(name, source))
    return found


def glued_keys(page: Page) -> list[str]:
    """Keys of this page's own glued values that its prose shows, one for each place."""
    return [key for key, _ in glued_places(page)]


def glued_places(page: Page) -> list[tuple[str, str]]:
    """Key and format of each place in the prose that shows one of this page's own glued values."""
    found = [match[1] or match[2] for text in page.texts() for match in GLUE.finditer(text)]
    return [name.partition(":")[::2] for name in found if "::" not in name]


def glued_in(cells: list[dict]) -> dict[str, int | float | str]:
    """What executed cells have glued, by key; what is no plain number or text comes as its text."""
    values = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                data = output["data"]
                kind = next((kind for kind in data if kind.endswith("text/plain")), None)
                values[name] = literal("".join(data[kind])) if kind else ""
    return values


def literal(text: str) -> int | float | str:
    """The number or text that Python's notation stands for; a text that is none stays as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def glued_values(page: Page, root: Path) -> dict[str, int | float | str] | None:
    """What a page's last run has glued, by key; None if it was not run."""
    if page.source.suffix != ".ipynb" or not (root / "book" / "_runs" / page.source.name).is_file():
        return None
    return glued_in(page.cells(executed=True, root=root))


def check_glue(page: Page, root: Path) -> list[str]:
    """Glued keys that the page's run does not know."""
    values = glued_values(page, root)
    if values is None:
        return []
    return [
        f"{page.docname}: glued key {key!r} is not among the run's" for key in glued_keys(page) if key not in values
    ]


def check_shown(page: Page, root: Path, html: Path) -> list[str]:
    """Glued values that the built page does not show as the run has them, or shows and the run does not have."""
    values = glued_values(page, root) or {}
    wanted: Counter[str] = Counter()
    for key, form in glued_places(page):
        if key in values:
            wanted[plain_quotes(format(values[key], form))] += 1
    text = (html / f"{page.docname}.html").read_text(encoding="utf-8")
    shown = Counter(plain_quotes(unescape(part)) for part in PASTED.findall(text))
    return [f"{page.docname}: shows {part!r}, which its run has not glued" for part in shown - wanted] + [
        f"{page.docname}: does not show {part!r}, which its run has glued" for part in wanted - shown
    ]


def plain_quotes(text: str) -> str:
    """The text without the builder's typographic quotation marks."""
    return text.translate(str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"'}))
