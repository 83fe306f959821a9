"""One question about one picture: what fits the run's stage, and what is refused before a model is loaded."""

import pytest
from PIL import Image

pytest.importorskip("torch")

from pefomed.ask import answer_picture
from pefomed.settings import RunSettings


@pytest.fixture
def picture(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "own.png")
    return tmp_path / "own.png"


@pytest.mark.parametrize("stage", ["stage1_captions", "stage2_report"])
def test_captions_and_reports_need_no_question(tiny_base, tmp_path, picture, stage):
    settings = RunSettings(stage=stage, base_dir=str(tiny_base), output_dir=str(tmp_path / "run"))
    one, again = (answer_picture(settings, picture, zero_shot=True, max_new_tokens=4) for _ in range(2))
    assert one == again and isinstance(one, str)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="this run writes a .*; leave it empty"):
        answer_picture(settings, picture, "what is it?")


@pytest.mark.parametrize(
    ("name", "question", "error", "message"),
    [
        ("own.png", " ", ValueError, "say what to ask about the picture"),
        ("other.png", "what is it?", FileNotFoundError, "other.png: no such picture file"),
        ("text.png", "what is it?", ValueError, "text.png"),
        ("own.png", "what is it?", FileNotFoundError, "no adapter/, so not trained to the end"),
    ],
)
def test_what_cannot_be_asked_is_said(tiny_base, tmp_path, picture, name, question, error, message):
    (tmp_path / "text.png").write_text("no picture")
    settings = RunSettings(stage="stage2_vqa", base_dir=str(tiny_base), output_dir=str(tmp_path / "run"))
    with pytest.raises(error, match=message):
        answer_picture(settings, tmp_path / name, question)
