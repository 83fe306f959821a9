"""One question about one phantom, and what several kinds of questions share."""

from __future__ import annotations

from dataclasses import dataclass

from pefomed.embedded.phantom_findings import Phantom

YES_NO = ("yes", "no")
SIDES = ("left", "right")
HALVES = {"CHEST": ("lung", "lungs"), "HEAD": ("hemisphere", "hemispheres"), "ABD": ("kidney", "kidneys")}


@dataclass(frozen=True)
class Question:
    """One question about one picture, not yet worded.

    Attributes:
        form: what is asked; answers are balanced within a form.
        question_type: VQA-RAD's name (ABN, ATTRIB, COLOR, COUNT, MODALITY, ORGAN, PLANE, POS, PRES, SIZE, OTHER).
        answer_type: "closed" where the question itself names the possible answers or asks for yes or no, else "open".
        answer: the true answer.
        answers: every answer that the form can have.
        freeform: wordings as a clinician would ask.
        para: the same, paraphrased.
    """

    form: str
    question_type: str
    answer_type: str
    answer: str
    answers: tuple[str, ...]
    freeform: tuple[str, ...]
    para: tuple[str, ...]


def yes_no(form: str, question_type: str, truth: bool, freeform: tuple, para: tuple) -> Question:
    """A closed question to which the answer is "yes" if `truth`, else "no"."""
    return Question(form, question_type, "closed", "yes" if truth else "no", YES_NO, freeform, para)


def affected_sides(phantom: Phantom) -> set[str | None]:
    """The sides on which a lung, a hemisphere or a kidney has a finding."""
    return {finding.side for finding in phantom.findings if finding.organ in ("lung", "brain", "kidney")}
