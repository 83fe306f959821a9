"""Checks of the book: its sources before it is built, its pages afterwards; and what it holds, counted.

    python workflow/check_book.py                     # sources and _build/html
    python workflow/check_book.py --sources           # sources alone

A number typed by hand into a chapter's prose is a fault: a result is glued, so that it is what the run says. Constants
that are no results are excused where they stand, by a comment in the same paragraph, `<!-- typed: the paper's -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from book_pages import ROOT, Page, check_glue, check_shown, glued_keys, glued_values, pages

EXCUSE = re.compile(r"<!--\s*typed:\s*(\S.*?)\s*-->", re.DOTALL)
# A decimal number, or one with a percentage. Versions (1.2.3), names (3.0b) and arXiv's numbers (2401.02797) are none.
NUMBER = re.compile(
    r"(?<![\w.,^/-])[+-]?(?:\d+\.\d+(?![\w.]*\d)|\d+(?:\.\d+)?\s?(?:%|per cent\b|percentage points?\b))(?!\w)"
)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})(.*)")
# Directives that hold prose; what stands between other fences is code, a figure's path or an entry of the index.
HOLDS_PROSE = re.compile(r"\s*\{(?:exercise|solution|admonition|note|tip|important|warning|glossary)\b")
NOT_PROSE = (
    re.compile(r"^\$\$.*?\$\$", re.S | re.M),
    re.compile(r"\{[\w:+-]+\}`[^`]*`"),
    re.compile(r"(`+).*?\1"),
    re.compile(r"(?<!\\)\$(?:[^$\n]|\n(?!\s*\n))+\$"),
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"https?://\S+"),
    re.compile(r"\b95\s?%\s+(?:confidence\s+)?(?:interval|range)"),
    re.compile(r"arXiv[: ]\d{4}\.\d{4,5}", re.I),
    re.compile(
        r"\b(?:Python|version|sections?|chapters?|figure|CC BY(?:-SA|-NC)*|Apache|licen[cs]e|revision) \d+(?:\.\d+)*",
        re.I,
    ),
)


def forgotten(root: Path) -> list[str]:
    """Pages of book/ and notebooks/ that no reader would find."""
    named = {page.source for page in pages(root)}
    places = [*(root / "book").glob("*.md"), *(root / "book").glob("*.ipynb"), *(root / "notebooks").glob("*.ipynb")]
    return [f"{path.relative_to(root)}: not in _toc.yml" for path in sorted(places) if path not in named]


def without_code(text: str) -> str:
    """A page's text without what stands between fences, but for directives that hold prose."""
    lines, opened = [], []  # the fences around a line, each with whether it holds prose
    for line in text.splitlines():
        fence, rest = found.groups() if (found := FENCE.fullmatch(line)) else ("", "")
        in_prose = not opened or opened[-1][1]
        if fence and opened and not rest.strip() and fence.startswith(opened[-1][0]):
            opened.pop()
            line = "" if in_prose else None
        elif fence and in_prose and not (fence[0] == ":" and "{" not in rest):
            opened.append((fence, bool(HOLDS_PROSE.match(rest))))
            line = rest if opened[-1][1] else None
        elif not in_prose:
            line = None
        lines += [] if line is None else [line]
    return "\n".join(lines)


def typed_numbers(text: str) -> list[str]:
    """Decimals and percentages in prose that nobody has excused, each with a few words around it."""
    # An excuse covers its paragraph; blank lines inside code must not split it, so code goes first.
    text = without_code(text)
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        if not EXCUSE.search(paragraph):
            prose = re.sub(r"<!--.*?-->", " ", paragraph, flags=re.S)
            found += [" ".join(prose[max(0, m.start() - 25) : m.end() + 15].split()) for m in NUMBER.finditer(prose)]
    return found


def check_numbers(page: Page) -> list[str]:
    """Numbers that were typed into a chapter. The notebooks beneath the chapters tell of settings, not results."""
    if not page.docname.startswith("book/"):
        return []
    return [
        f"{page.docname}: '{where}': a number typed by hand; glue it, or excuse it with <!-- typed: reason -->"
        for text in page.texts()
        for where in typed_numbers(text)
    ]


class Contents(HTMLParser):
    """Links, anchors and images of a built page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.images: list[tuple[str, str | None]] = []  # of the page's text, not of the theme around it
        self._in_article = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._in_article |= tag == "article"
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        for key in ("href", "src"):
            if given.get(key) and tag != "form":
                self.links.append(given[key])
        if tag == "img" and self._in_article:
            self.images.append((given.get("src") or "", given.get("alt")))

    def handle_endtag(self, tag: str) -> None:
        self._in_article &= tag != "article"


def check_links(html: Path) -> tuple[list[str], int]:
    """Internal links and files of all built pages that lead nowhere, and how many were followed."""
    built = {path: Contents(path) for path in sorted(html.rglob("*.html")) if "_static" not in path.parts}
    broken, followed = [], 0
    for path, contents in built.items():
        for link in contents.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            where = f"{path.relative_to(html)}: {link}"
            if not target.is_file():
                broken.append(f"{where}: no such file")
            elif parts.fragment and target in built and unquote(parts.fragment) not in built[target].anchors:
                broken.append(f"{where}: no such place in {target.relative_to(html)}")
    return broken, followed


def check_pages(listed: list[Page], html: Path) -> list[str]:
    """Pages that the build has lost."""
    return [f"{page.docname}: was not built" for page in listed if not (html / f"{page.docname}.html").is_file()]


def check_images(page: Page, html: Path) -> tuple[list[str], int]:
    """Pictures without a text for those who do not see them, and how many have one.

    Sphinx gives an image without such a text its file's name.
    """
    faults, good = [], 0
    for source, alt in Contents(html / f"{page.docname}.html").images:
        name = Path(urlsplit(source).path).name
        if not alt or (not source.startswith("data:") and name in alt):
            faults.append(
                f"{page.docname}: {'a figure of a cell' if '_images' in source else name}: no alternative text"
            )
        else:
            good += 1
    return faults, good


def count_exercises(listed: list[Page]) -> dict[str, int]:
    """Exercises, and how many of them have a solution, one that runs, and one that is folded."""
    exercises, solutions, folded, running = set(), set(), set(), set()
    for page in listed:
        text = "\n\n".join(page.texts())
        exercises |= set(re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?:[:\w-]+:[^\n]*\n)*?:label: *(\S+)", text))
        for kind, label, options in re.findall(r"\{(solution(?:-start)?)\} *(\S+)[^\n]*\n((?::[^\n]*\n)*)", text):
            solutions.add(label)
            if "dropdown" in options:
                folded.add(label)
            if kind == "solution-start":
                running.add(label)
    known = solutions & exercises
    return {
        "exercises": len(exercises),
        "with a solution": len(known),
        "of them folded": len(known & folded),
        "with running code": len(known & running),
    }


def check_sources(root: Path) -> tuple[list[str], dict[str, int]]:
    """Faults of the sources, and counts."""
    listed = pages(root)
    faults = forgotten(root)
    for page in listed:
        faults += check_numbers(page) + check_glue(page, root)
    copies = [page for page in listed if glued_values(page, root) is not None]
    counts = {
        "pages": len(listed),
        "notebooks": sum(page.source.suffix == ".ipynb" for page in listed),
        "executed notebooks": len(copies),
        "glued numbers": sum(len(glued_keys(page)) for page in listed),
        **count_exercises(listed),
    }
    return faults, counts


def check_built(root: Path, html: Path) -> tuple[list[str], dict[str, int]]:
    """Faults of the built pages, and counts."""
    listed = pages(root)
    faults = check_pages(listed, html)
    texts = 0
    for page in listed:
        if (html / f"{page.docname}.html").is_file():
            found, good = check_images(page, html)
            faults, texts = faults + found + check_shown(page, root, html), texts + good
    broken, followed = check_links(html)
    counts = {"figures with alternative text": texts, "internal links": followed, "broken links": len(broken)}
    return faults + broken, counts


def main() -> None:
    """Prints counts and faults; exit status 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", action="store_true", help="check no built pages")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of _toc.yml")
    parser.add_argument("--html", type=Path, help="built pages; _build/html in that folder")
    args = parser.parse_args()
    html = args.html or args.root / "_build" / "html"
    faults, counts = check_sources(args.root)
    if not args.sources:
        if not html.is_dir():
            sys.exit(f"{html}: no built book; `make book` builds it")
        more, counted = check_built(args.root, html)
        faults, counts = faults + more, counts | counted
    for name, count in counts.items():
        print(f"{count:7,} {name}")
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(f"{len(faults)} faults" if faults else 0)


if __name__ == "__main__":
    main()
