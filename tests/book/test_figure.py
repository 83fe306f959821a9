"""pefomed.notebook_figures: what becomes of a figure inside and outside a notebook."""

import base64
import subprocess
import sys

import matplotlib
import pytest

from pefomed import notebook_figures
from pefomed.notebook_figures import figure, figure_html

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402


@pytest.fixture
def drawn():
    fig, axes = pyplot.subplots()
    axes.plot([1, 2])
    yield fig
    pyplot.close("all")


def test_the_html_has_picture_caption_and_text(drawn):
    shown = figure_html(drawn, "a < b", 'it says "b"')
    assert "<figcaption>a &lt; b</figcaption>" in shown and 'alt="it says &quot;b&quot;"' in shown
    data = base64.b64decode(shown.partition("base64,")[2].partition('"')[0])
    assert data.startswith(b"\x89PNG")
    width = int.from_bytes(data[16:20], "big")
    assert f'width="{round(width / 1.5)}"' in shown
    assert shown == figure_html(drawn, "a < b", 'it says "b"')


def test_outside_a_notebook_the_caption_is_printed(drawn, capsys):
    figure(drawn, "The  caption.", "The text.")
    assert capsys.readouterr().out == "The caption.\n"


def test_in_a_notebook_it_is_displayed_once_and_closed(drawn, monkeypatch):
    display = pytest.importorskip("IPython.display")
    given = []
    monkeypatch.setattr(notebook_figures, "_in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", lambda data, raw: given.append(data))
    figure(drawn.axes[0], "The caption.", "The text.")
    [data] = given
    assert data["text/plain"] == "The caption. [The text.]" and "<figcaption>" in data["text/html"]
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("caption", "alt", "message"), [("", "x", "caption"), ("x", " ", "alt"), ("same", "same", "the same")]
)
def test_a_missing_text_is_an_error(drawn, caption, alt, message):
    with pytest.raises(ValueError, match=message):
        figure(drawn, caption, alt)


def test_what_is_no_figure_is_an_error():
    with pytest.raises(TypeError, match="not list"):
        figure([1], "caption", "text")


def test_importing_it_imports_no_matplotlib():
    code = "import sys, pefomed.notebook_figures; sys.exit('matplotlib' in sys.modules or 'IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
