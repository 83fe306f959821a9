"""One question about one picture of anybody's, answered by a finished run.

Loading the model takes longer than the answer: whoever has loaded it asks `answer_with`.

answer_picture("runs/demo", "my_picture.png", "is there a nodule?")   # "yes"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pefomed.images import open_image
from pefomed.procedure import get_procedure
from pefomed.runs import read_run_settings
from pefomed.settings import RunSettings
from pefomed.training.stages import STAGE_TASKS


def answer_picture(
    source: RunSettings | str | Path,
    picture: str | Path,
    question: str = "",
    *,
    adapter: str | Path = "",
    zero_shot: bool = False,
    max_new_tokens: int = 0,
) -> str:
    """What a run's model says about a picture: greedily, and with the prompt of the run's own stage.

    Args:
        source: settings, a run folder, or a configuration file.
        picture: file of the picture; every form that `pefomed.images.open_image` reads.
        question: what to ask, for a run of stage 2 on questions; captions and reports are written without one.
        adapter: answer with this run's or folder's adapter in place of the run's own.
        zero_shot: answer with the base alone.
        max_new_tokens: longest answer; 0 for the longest that the stage learns from.

    Raises:
        FileNotFoundError: there is no such picture or run, or the run is not trained to its end.
        ValueError: the picture cannot be read, a question is missing or not wanted, or the weights do not fit.
    """
    settings = source if isinstance(source, RunSettings) else read_run_settings(source)
    task = STAGE_TASKS[settings.stage][0]
    if (task == "vqa") != bool(question.strip()):
        wanted = "say what to ask about the picture" if task == "vqa" else f"this run writes a {task}; leave it empty"
        raise ValueError(f"parameter question: {question!r}; {wanted}")
    open_image(picture)  # told before a large model is loaded
    from pefomed.loading import load_model
    from pefomed.runs import adapter_to_use

    model, processor, _ = load_model(settings, adapter_to_use(settings, zero_shot, adapter))
    bound = max_new_tokens or settings.make_stage().max_text_tokens
    return answer_with(model, processor, settings, picture, question, bound)


def answer_with(
    model: Any, processor: Any, settings: RunSettings, picture: str | Path | dict, question: str, max_new_tokens: int
) -> str:
    """The same of a loaded model.

    Args:
        model, processor: as `pefomed.loading.load_model` returns them.
        settings: of the run.
        picture: a file, or what a data set's row has as `image`.
        question: what to ask, or "".
        max_new_tokens: longest answer; 0 for the procedure's own bound.
    """
    from pefomed.inference.generate import answer_rows

    image = picture if isinstance(picture, dict) else {"path": str(picture), "bytes": None}
    task = STAGE_TASKS[settings.stage][0]
    row = {"id": "own", "group": "own", "dataset": "own", "task": task, "image": image, "question": question}
    procedure = get_procedure(settings.procedure)
    return answer_rows(model, [row], processor=processor, procedure=procedure, max_new_tokens=max_new_tokens)[0]
