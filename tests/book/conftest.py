"""A small book, built strictly, and the real one where it is built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "book" / "_ext"), str(Path(__file__).parent)]

from small_book import build, execute, write_book  # noqa: E402


@pytest.fixture(scope="session")
def small_book(tmp_path_factory) -> Path:
    """The small book's folder, with its built pages in _build/html; not to be changed."""
    pytest.importorskip("jupyter_book", reason="the extra `book` is not installed")
    folder = tmp_path_factory.mktemp("book")
    write_book(folder)
    for step in (execute(folder), build(folder, PEFOMED_REPOSITORY="git@github.com:jane/pefomed.git")):
        assert step.returncode == 0, step.stdout[-3000:] + step.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def built_book() -> Path | None:
    """The real book's pages where `make book` has built them all since their sources changed; else None."""
    from book_pages import pages

    html = REPOSITORY / "_build" / "html"
    for page in pages(REPOSITORY):
        copy = REPOSITORY / "book" / "_runs" / page.source.name
        target = html / f"{page.docname}.html"
        if not target.is_file() or (page.source.suffix == ".ipynb" and not copy.is_file()):
            return None
        shown = copy if page.source.suffix == ".ipynb" else page.source
        if target.stat().st_mtime < shown.stat().st_mtime:
            return None
    return html
