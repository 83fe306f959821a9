"""The built book as one PDF, printed page by page by Chromium, in the order of the table of contents.

python workflow/print_pdf.py            # _build/html -> _build/pefomed.pdf
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from book_pages import ROOT, pages

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000  # milliseconds for a page to come to rest
SCALE = 0.7  # of a page on the screen: code and tables fit a sheet
MARGINS = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
FOOTER = '<div style="width: 100%; text-align: center; font-size: 8px"><span class="title"></span></div>'
# Folded solutions and hidden cells are printed unfolded: nobody can click on paper.
UNFOLD = """() => {
  document.documentElement.dataset.theme = "light";
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  document.querySelectorAll(".toggle-hidden").forEach((part) => part.classList.remove("toggle-hidden"));
  return window.MathJax?.startup?.promise?.then(() => true) ?? true;
}"""


def find_browser() -> str:
    """Path of a Chromium: $CHROMIUM, or the one on the search path; empty if there is none."""
    return os.environ.get("CHROMIUM", "") or next((path for name in BROWSERS if (path := shutil.which(name))), "")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address under which the folder is served to this machine alone."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def print_book(root: Path, html: Path, target: Path) -> int:
    """Prints all pages into one file with a bookmark for each; returns how many sheets it has."""
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    book = PdfWriter()
    with served(html) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.set_default_timeout(PATIENCE)
        for page in pages(root):
            tab.goto(f"{address}/{page.docname}.html", wait_until="networkidle")
            tab.evaluate(UNFOLD)
            options = {"format": "A4", "margin": MARGINS, "scale": SCALE, "print_background": True}
            options |= {"display_header_footer": True}
            data = tab.pdf(**options, header_template="<span></span>", footer_template=FOOTER)
            first = len(book.pages)
            book.append(PdfReader(io.BytesIO(data)), import_outline=False)
            title = tab.locator("article h1").first.evaluate("heading => heading.firstChild.textContent")
            book.add_outline_item(title=title.strip(), page_number=first)
        browser.close()
    target.parent.mkdir(parents=True, exist_ok=True)
    book.write(target)
    return len(book.pages)


def main() -> None:
    """Prints the book, or says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of _toc.yml")
    parser.add_argument("--out", type=Path, help="_build/pefomed.pdf in that folder")
    args = parser.parse_args()
    html, target = args.root / "_build" / "html", args.out or args.root / "_build" / "pefomed.pdf"
    if not html.is_dir():
        sys.exit(f"{html}: no built book; `make book` builds it")
    if not find_browser():
        sys.exit("no Chromium was found; install it (Debian: apt install chromium), or name it by CHROMIUM=PATH")
    print(f"{target}: {print_book(args.root, html, target)} sheets")


if __name__ == "__main__":
    main()
