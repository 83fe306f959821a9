"""The built book in a real browser: a small book always, every page of the real one where it is built."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the package playwright is not installed")
axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the package is not installed")

from book_pages import pages  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402
from print_pdf import find_browser, print_book, served  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
NARROW, WIDE = {"width": 390, "height": 844}, {"width": 1300, "height": 900}
SERIOUS = ("serious", "critical")
PATIENCE = 120_000  # milliseconds: the machine may be busy with other tests
# What stands wider than the page and cannot be scrolled to in a box of its own.
OVERFLOWING = """() => [...document.querySelectorAll("table, pre, img, .bd-article *")].filter((part) => {
  if (part.getBoundingClientRect().right <= innerWidth + 1 || !part.checkVisibility()) return false;
  for (let box = part; box !== document.body; box = box.parentElement) {
    const style = getComputedStyle(box);
    if (["auto", "scroll", "hidden", "clip"].includes(style.overflowX)) return false;
    if (["fixed", "absolute"].includes(style.position)) return false;
  }
  return true;
}).map((part) => part.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="session")
def browser():
    path = find_browser()
    if not path:
        pytest.skip("no Chromium was found; install it, or name it by CHROMIUM=PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=["small", "real"])
def book(request):
    """Address and page names of a book."""
    if request.param == "small":
        html, root = request.getfixturevalue("small_book") / "_build" / "html", request.getfixturevalue("small_book")
    else:
        html, root = request.getfixturevalue("built_book"), REPOSITORY
        if html is None:
            pytest.skip("the book is not built, or its pages have changed since; `make book` builds it")
    with served(html) as address:
        yield address, [page.docname for page in pages(root)]


def opened(browser, address: str, name: str, size=WIDE, theme: str = "light") -> tuple[Page, list[str]]:
    """A page that has come to rest, and what went wrong on the way."""
    tab = browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce").new_page()
    tab.set_default_timeout(PATIENCE)
    faults: list[str] = []
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("requestfailed", lambda asked: faults.append(f"not loaded: {asked.url}"))
    tab.on("response", lambda got: faults.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
    tab.on("request", lambda asked: None if local(asked.url, address) else faults.append(f"elsewhere: {asked.url}"))
    tab.goto(f"{address}/{name}.html", wait_until="networkidle")
    tab.evaluate("window.MathJax?.startup?.promise?.then(() => true) ?? true")
    return tab, faults


def local(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def test_every_page_loads_without_errors_and_asks_no_other_host(browser, book):
    address, names = book
    for name in names:
        tab, faults = opened(browser, address, name)
        assert tab.locator("article h1").first.is_visible(), name
        assert faults == [], name
        tab.context.close()


def test_no_page_is_wider_than_a_telephone(browser, book):
    address, names = book
    for name in names:
        tab, _ = opened(browser, address, name, NARROW)
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], name
        assert tab.evaluate(OVERFLOWING) == [], name
        tab.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, book, theme):
    address, names = book
    for name in names:
        tab, _ = opened(browser, address, name, theme=theme)
        assert tab.evaluate("document.documentElement.dataset.theme") == theme
        found = axe_playwright.Axe().run(tab).response["violations"]
        serious = [
            (fault["id"], fault["nodes"][0]["html"][:200], len(fault["nodes"]))
            for fault in found
            if fault["impact"] in SERIOUS
        ]
        assert serious == [], f"{name}, {theme}"
        tab.context.close()


def test_axe_finds_what_it_is_for(browser, tmp_path):
    (tmp_path / "bad.html").write_text("<h1 style='color: #eee; background: #fff'>pale</h1><img src='data:,'>")
    with served(tmp_path) as address:
        tab, _ = opened(browser, address, "bad")
        found = {fault["id"] for fault in axe_playwright.Axe().run(tab).response["violations"]}
    assert {"color-contrast", "image-alt"} <= found


def test_a_wide_table_and_a_missing_file_would_be_found(browser, tmp_path):
    (tmp_path / "bad.html").write_text(
        "<div class='bd-article'><table style='width: 900px'><td>x</table></div><img src='no.png'>"
    )
    with served(tmp_path) as address:
        tab, faults = opened(browser, address, "bad", NARROW)
        assert len(tab.evaluate(OVERFLOWING)) >= 1
        assert any("404" in fault for fault in faults)


def test_search_finds_a_word(browser, small_book):
    with served(small_book / "_build" / "html") as address:
        tab, _ = opened(browser, address, "search")
        tab.goto(f"{address}/search.html?q=spirometry", wait_until="networkidle")
        tab.wait_for_selector("#search-results li a")
        assert tab.locator("#search-results li a").first.get_attribute("href").startswith("book/numbers.html")


def test_a_folded_solution_unfolds(browser, small_book):
    with served(small_book / "_build" / "html") as address:
        tab, _ = opened(browser, address, "book/numbers")
        inside = tab.get_by_text("unfolded 2", exact=True)
        assert not inside.is_visible()
        tab.locator("div.solution .toggle-button, div.solution button.toggle-button").first.click()
        inside.wait_for(state="visible")


def test_the_theme_can_be_switched(browser, small_book):
    with served(small_book / "_build" / "html") as address:
        tab, _ = opened(browser, address, "book/numbers")
        grounds = set()
        for _ in range(3):
            tab.locator("button.theme-switch-button:visible").first.click()
            grounds.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2


def test_formulas_are_set_by_the_copy_in_the_book(browser, small_book):
    with served(small_book / "_build" / "html") as address:
        tab, faults = opened(browser, address, "book/index")
        tab.wait_for_selector("mjx-container")
        assert faults == []
        assert tab.locator("mjx-merror").count() == 0
        assert tab.locator("mjx-container").count() == 2


def test_the_whole_book_is_printed(browser, small_book, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    target = tmp_path / "book.pdf"
    with ThreadPoolExecutor(1) as thread:  # playwright allows one of itself to a thread
        sheets = thread.submit(print_book, small_book, small_book / "_build" / "html", target).result()
    printed = pypdf.PdfReader(target)
    assert len(printed.pages) == sheets >= 3
    assert [entry.title for entry in printed.outline] == ["Start", "Numbers", "Plain"]
    text = "".join(sheet.extract_text() for sheet in printed.pages)
    assert "61.2" in text and "unfolded 2" in text
