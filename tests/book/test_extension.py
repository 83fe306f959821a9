"""book/_ext: executed copies under clean pages, and what the built pages say."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
from small_book import build, execute

REPOSITORY = Path(__file__).resolve().parents[2]
pytest.importorskip("sphinx")


@pytest.fixture(scope="module")
def executed_runs():
    return importlib.import_module("executed_runs")


def page_of(book: Path, name: str) -> str:
    return (book / "_build" / "html" / f"{name}.html").read_text()


def test_a_page_shows_its_run_and_offers_its_clean_source(small_book):
    shown = page_of(small_book, "book/numbers")
    assert '<span class="pasted-text">61.2</span>' in shown and "unfolded 2" in shown
    assert (
        'alt="A &quot;rising&quot; line, 3 &lt; 4."' in shown
        and "<figcaption>A line &amp; its end.</figcaption>" in shown
    )
    assert "50%|" not in shown, "a progress bar"
    assert "https://colab.research.google.com/github/jane/pefomed/blob/main/book/numbers.ipynb" in shown
    offered = small_book / "_build" / "html" / "_sources" / "book" / "numbers.ipynb"
    assert all(not cell.get("outputs") for cell in json.loads(offered.read_text())["cells"])


def test_a_page_without_a_run_is_shown_too(small_book):
    assert "Never run." in page_of(small_book, "notebooks/plain")


def test_nothing_is_asked_of_another_host(small_book):
    for path in (small_book / "_build" / "html").rglob("*.html"):
        assert 'src="http' not in path.read_text(), path.name


@pytest.mark.slow
def test_a_new_run_is_shown_and_an_old_one_warned_of(small_book, tmp_path):
    book = tmp_path / "book"
    shutil.copytree(small_book, book)
    (book / "runs" / "metrics.json").write_text('{"score": 12.75}')
    assert execute(book).returncode == 0
    built = build(book)
    assert built.returncode == 0, built.stderr[-2000:]
    shown = page_of(book, "book/numbers")
    assert '<span class="pasted-text">12.8</span>' in shown
    assert "colab.research" not in shown, "a launch button without a repository"

    page = book / "book" / "numbers.ipynb"
    page.write_text(page.read_text().replace("one plus one", "two plus two"))
    built = build(book)
    assert built.returncode == 1
    assert "book/_runs/numbers.ipynb is a run of an older page" in built.stderr


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://github.com/jane/some-book", "https://github.com/jane/some-book"),
        ("git@github.com:jane/some-book.git", "https://github.com/jane/some-book"),
        ("https://jane:word@github.com/jane/some-book.git", "https://github.com/jane/some-book"),
        ("/srv/git/some-book.git", ""),
        ("https://git.example/jane/some-book", ""),
    ],
)
def test_the_repository_s_address(executed_runs, monkeypatch, address, url):
    monkeypatch.setenv("PEFOMED_REPOSITORY", address)
    assert executed_runs.repository_url(REPOSITORY) == url


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\nb\n", "a\nb\n"),
        ("  0%|          | 0/3\r 50%|#####     | 1/3\r100%|##########| 3/3\ndone\n", "done\n"),
        ("first\rsecond\n", "second\n"),
        ("12it [00:00, 3.0it/s]\n", ""),
        ("50% of them\n", "50% of them\n"),
    ],
)
def test_progress_bars_are_left_out(executed_runs, text, kept):
    assert executed_runs.without_progress(text) == kept
