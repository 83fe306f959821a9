"""From an example to the prompt that the model reads and the text that it learns.

The paper's template (section 3.2) is `[INST] <Img><ImageHere></Img> [task] instruction [/INST]`, where `<ImageHere>`
marks the image features. `render_prompt` fills it the clean way or exactly as the published code does, and the
begin-of-sequence token is never text: how many of them lead is `Procedure.bos_at_inference`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pefomed.controls import IMAGE_PLACEHOLDER, escape_controls, split_at_image
from pefomed.data.text import clean_caption
from pefomed.procedure import CLEAN, Procedure

VQA_TEMPLATE = "Based on the image, respond to this question with a short answer: {question}"
VQA_BARE_TEMPLATE = "{question}"

# The first of each is the default. Procedures that draw wordings at random draw from the whole tuple; the published
# code's own longer lists are not repeated here, pass them as `wordings`.
CAPTION_WORDINGS = (
    "Describe this medical image.",
    "Summarize in one sentence what this medical image shows.",
    "Write a caption for this image.",
    "What does this image show?",
)
REPORT_WORDINGS = (
    "Describe the findings in this radiograph.",
    "Write the findings section of a report on this radiograph.",
    "Report what this chest radiograph shows.",
    "Which findings does this radiograph show?",
)


def instruction(
    task: str,
    question: str | None = None,
    *,
    procedure: Procedure = CLEAN,
    training: bool = False,
    dataset: str | None = None,
    wordings: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
) -> str:
    """Returns the task identifier and what the model is asked, for example "[vqa] Based on the image, ...".

    Args:
        task: "vqa", "report" or "caption".
        question: The question of a "vqa" example, as the data set spells it; its control texts are broken up.
        procedure: Decides the identifier of reports and whether a wording is drawn.
        training: Whether the example is learnt from.
        dataset: The example's data set; "mimic_cxr" reports have an identifier of their own in the published code.
        wordings: Templates to use instead of the built-in ones; those for "vqa" hold "{question}". A single one is
            always used, of several the first, or a drawn one where the procedure draws.
        rng: Draws the wording; needed where the procedure draws.

    Raises:
        ValueError: An unknown task, a "vqa" example without a question, no wordings, or no rng where one is needed.
    """
    if task not in ("vqa", "report", "caption"):
        raise ValueError(f"unknown task {task!r}; choose vqa, report or caption")
    if task == "vqa" and (not isinstance(question, str) or not question.strip()):
        raise ValueError(f"task 'vqa' needs a question, found {question!r}")
    if wordings is None:
        wordings = _built_in_wordings(task, procedure, training)
    elif isinstance(wordings, str) or not wordings:
        raise ValueError(f"wordings must be a list of at least one text, found {wordings!r}")
    wording = wordings[0]
    if len(wordings) > 1 and _draws(task, procedure, training):
        if rng is None:
            raise ValueError(f"procedure {procedure.name!r} draws the wording of {task!r} instructions: pass rng")
        wording = wordings[int(rng.integers(len(wordings)))]
    if task == "vqa":
        if "{question}" not in wording:
            raise ValueError(f"wording {wording!r} of a 'vqa' instruction lacks {{question}}")
        # Not str.format: braces in a question or elsewhere in a wording are ordinary characters.
        question = question if procedure.clean_text else question.strip()
        wording = wording.replace("{question}", escape_controls(question))
    return f"[{_identifier(task, procedure, training, dataset)}] {wording}"


def _built_in_wordings(task: str, procedure: Procedure, training: bool) -> tuple[str, ...]:
    if task != "vqa":
        return CAPTION_WORDINGS if task == "caption" else REPORT_WORDINGS
    two = training and procedure.vqa_templates_in_training == 2
    return (VQA_TEMPLATE, VQA_BARE_TEMPLATE) if two else (VQA_TEMPLATE,)


def _draws(task: str, procedure: Procedure, training: bool) -> bool:
    if task == "vqa":
        return training and procedure.vqa_templates_in_training == 2
    return procedure.random_prompt_in_training if training else procedure.random_prompt_at_test


def _identifier(task: str, procedure: Procedure, training: bool, dataset: str | None) -> str:
    if task == "report" and dataset == "mimic_cxr":
        return procedure.mimic_cxr_tag
    return procedure.report_tag_at_test if task == "report" and not training else task


def render_prompt(instruction: str, procedure: Procedure = CLEAN, *, training: bool = False) -> str:
    """Returns the whole prompt, with exactly one image placeholder and without begin-of-sequence tokens.

    Args:
        instruction: What `instruction` returns: "[task] text".
        procedure: Clean, or the published code's cleaning: in training the image tags are cleaned along with the
            instruction, at inference only the instruction is.
        training: Whether the prompt is learnt from.

    Raises:
        ValueError: The instruction holds an image placeholder of its own, or is empty.
    """
    if not instruction.strip():
        raise ValueError("the instruction is empty")
    image = f"<Img>{IMAGE_PLACEHOLDER}</Img>"
    if training and procedure.lowercase_training_prompt:
        prompt = f"[INST] {clean_caption(f'{image} {instruction}', procedure.max_words)} [/INST]"
    else:
        text = clean_caption(instruction, procedure.max_words) if procedure.clean_text else instruction.strip()
        prompt = f"[INST] {image} {text} [/INST]"
    split_at_image(prompt)  # raises where the instruction brings an image of its own
    return prompt


def target_text(answer: str, procedure: Procedure = CLEAN) -> str:
    """Returns what is learnt of an answer, caption or report: its control texts broken up, and cleaned if so asked."""
    text = escape_controls(answer)
    return clean_caption(text, procedure.max_words) if procedure.clean_text else text.strip()
