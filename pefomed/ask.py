"""One question about one picture of anybody's, answered by a finished run.

answer_picture("runs/demo", "my_picture.png", "is there a nodule?")   # "yes"
"""

from __future__ import annotations

from pathlib import Path

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
    from pefomed.inference.generate import answer_rows
    from pefomed.loading import load_model
    from pefomed.runs import adapter_to_use

    model, processor, _ = load_model(settings, adapter_to_use(settings, zero_shot, adapter))
    image = {"path": str(picture), "bytes": None}
    row = {"id": str(picture), "group": "own", "dataset": "own", "task": task, "image": image, "question": question}
    bound = max_new_tokens or settings.make_stage().max_text_tokens
    procedure = get_procedure(settings.procedure)
    return answer_rows(model, [row], processor=processor, procedure=procedure, max_new_tokens=bound)[0]
