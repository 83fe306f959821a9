"""workflow/check_book.py: what it counts, and that it finds what it is for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from book_pages import Page, check_glue, check_shown, glued_keys, glued_values, pages
from check_book import check_built, check_sources, typed_numbers
from small_book import is_run

REPOSITORY = Path(__file__).resolve().parents[2]
LISTED = pages(REPOSITORY)


@pytest.mark.parametrize(
    "text",
    [
        "The model scores 61.2 on it.",
        "It is right in 61 % of all cases.",
        "It is right in 61% of all cases.",
        "a gain of -3.5, which is much",
        "it gains 3 percentage points",
        "```{note}\nIt has 61.2 in a note.\n```",
        "<!-- typed: 1.5 is a setting -->\nrank 1.5\n\nscore 61.2",
        "```{exercise}\n:label: one\n\nHow much?\n```\n\nIt has 61.2.\n\n```{solution} one\nMuch.\n```",
        "````{solution-start} one\n:class: dropdown\n````\n\nIt has 61.2.\n\n```{solution-end}\n```",
        "````{solution} one\n```python\nx = 0.5\n```\nIt has 61.2.\n````",
    ],
)
def test_a_number_typed_by_hand_is_found(text):
    assert len(typed_numbers(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The model scores {glue:text}`score:.1f` on it.",
        "rank 64, 448 px, 56,627,200 parameters, Tables 2 to 11",
        "`lr = 0.05` and $x = 0.5$ and\n\n$$\ny = 0.25\n$$",
        "```python\nx = 0.5\n```",
        "[arXiv 2401.02797](https://arxiv.org/abs/2401.02797), Python 3.11, transformers 5.23.0, CC BY 4.0",
        "<!-- typed: the paper's own setting -->\na dropout of 0.05",
        "a 95 % interval, and the 95 %\ninterval",
        "````{solution} one\n```python\nx = 0.5\n\ny = 61 %\n```\n````",
        "```{index} 0.5\n```\n\n~~~\n0.5\n```\n0.5\n~~~",
        "see 3.0b and v2.1",
    ],
)
def test_what_is_no_result_may_be_typed(text):
    assert typed_numbers(text) == []


def test_an_excuse_needs_a_reason():
    assert len(typed_numbers("<!-- typed: -->\na dropout of 0.05")) == 1


def test_the_small_book_is_counted(small_book):
    faults, counts = check_sources(small_book)
    assert faults == []
    assert counts == {
        "pages": 3,
        "notebooks": 2,
        "executed notebooks": 1,
        "glued numbers": 1,
        "exercises": 1,
        "with a solution": 1,
        "of them folded": 1,
        "with running code": 1,
    }
    faults, counts = check_built(small_book, small_book / "_build" / "html")
    assert faults == []
    assert counts["figures with alternative text"] == 1
    assert counts["broken links"] == 0 and counts["internal links"] > 50


@pytest.fixture
def copied(small_book, tmp_path) -> Path:
    """A small book that may be broken."""
    shutil.copytree(small_book, tmp_path / "book")
    return tmp_path / "book"


def faults_of(book: Path) -> list[str]:
    return check_sources(book)[0] + check_built(book, book / "_build" / "html")[0]


def test_a_page_that_the_build_lost_is_missed(copied):
    (copied / "_build" / "html" / "notebooks" / "plain.html").unlink()
    assert "notebooks/plain: was not built" in faults_of(copied)


def test_a_page_that_nobody_would_find_is_missed(copied):
    (copied / "book" / "extra.md").write_text("# Extra\n")
    assert faults_of(copied) == ["book/extra.md: not in _toc.yml"]


def test_a_page_without_a_source_is_named(copied):
    (copied / "book" / "index.md").unlink()
    with pytest.raises(FileNotFoundError, match="book/index: no book/index.ipynb and no book/index.md"):
        check_sources(copied)


@pytest.mark.parametrize(
    ("link", "message"),
    [("nowhere.html", "no such file"), ("numbers.html#nowhere", "no such place in book/numbers.html")],
)
def test_a_broken_link_is_found(copied, link, message):
    page = copied / "_build" / "html" / "book" / "index.html"
    page.write_text(page.read_text().replace('href="numbers.html"', f'href="{link}"', 1))
    assert faults_of(copied) == [f"book/index.html: {link}: {message}"]


@pytest.mark.parametrize(
    "image", ['<img src="x.png" />', '<img src="x.png" alt="" />', '<img alt="../x.png" src="x.png" />']
)
def test_a_picture_without_alternative_text_is_found(copied, image):
    page = copied / "_build" / "html" / "book" / "index.html"
    (page.parent / "x.png").touch()
    page.write_text(page.read_text().replace("</article>", f"{image}</article>", 1))
    assert faults_of(copied) == ["book/index: x.png: no alternative text"]


def test_a_glued_key_that_the_run_does_not_know_is_found(copied):
    copy = copied / "book" / "_runs" / "numbers.ipynb"
    copy.write_text(copy.read_text().replace('"name": "score"', '"name": "other"'))
    assert check_glue(pages(copied)[1], copied) == ["book/numbers: glued key 'score' is not among the run's"]


def test_a_glued_value_is_its_json_s(small_book):
    [value] = glued_values(pages(small_book)[1], small_book).values()
    assert value == json.loads((small_book / "runs" / "metrics.json").read_text())["score"]
    assert "61.2" in (small_book / "_build" / "html" / "book" / "numbers.html").read_text()


def test_a_number_that_the_page_shows_otherwise_is_found(copied):
    page = copied / "_build" / "html" / "book" / "numbers.html"
    page.write_text(page.read_text().replace(">61.2<", ">61.3<"))
    assert check_shown(pages(copied)[1], copied, page.parents[1]) == [
        "book/numbers: shows '61.3', which its run has not glued",
        "book/numbers: does not show '61.2', which its run has glued",
    ]


def test_the_command_fails_with_the_faults(copied):
    command = [sys.executable, str(REPOSITORY / "workflow" / "check_book.py"), "--root", str(copied)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (copied / "_build" / "html" / "book" / "numbers.html").unlink()
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1 and "book/numbers: was not built" in failed.stderr


@pytest.mark.parametrize("page", LISTED, ids=lambda page: page.docname)
def test_no_result_is_typed_into_the_book(page: Page):
    from check_book import check_numbers

    assert check_numbers(page) == []


@pytest.mark.parametrize("page", [page for page in LISTED if page.source.suffix == ".ipynb"], ids=lambda p: p.docname)
def test_what_the_book_glues_its_run_has_glued(page: Page):
    if not is_run(page.source):
        pytest.skip("not run yet as it is now; `make book` runs it")
    values = glued_values(page, REPOSITORY)
    assert check_glue(page, REPOSITORY) == []
    assert "" not in [values[key] for key in glued_keys(page)]


def test_the_table_of_contents_names_every_page():
    from check_book import forgotten

    assert forgotten(REPOSITORY) == []


def test_spelling():
    pytest.importorskip("codespell_lib")
    command = [sys.executable, "-m", "codespell_lib", "book", "notebooks", "workflow", "_config.yml"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert found.stdout == ""
