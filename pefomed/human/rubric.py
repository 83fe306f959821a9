"""What raters are told: the scale of each task, and what each score means.

The scales are the paper's (its section on evaluation, Tables 1 and 12): right or wrong for an answer, five levels for
a report. They ask of people what `pefomed.judge.prompts` asks of a language model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """One score of a scale.

    Attributes:
        score: The number that the rater enters.
        name: The level in a few words.
        meaning: What is true of an answer or report on this level.
        applies: How a rater recognises it.
    """

    score: int
    name: str
    meaning: str
    applies: str


RUBRICS: dict[str, tuple[Level, ...]] = {
    "vqa": (
        Level(
            0,
            "wrong",
            "In reply to this question, the answer means something else than the reference, or nothing.",
            "It names another finding, organ, side, place, number or kind of picture, or one side where both are "
            "meant; it denies what the reference affirms, or affirms what it denies; it leaves open what was asked, "
            "offers several answers, contradicts itself or is empty.",
        ),
        Level(
            1,
            "right",
            "In reply to this question, the answer means the same as the reference.",
            "Only the wording differs: a synonym (both sides for bilateral), an abbreviation, another spelling or "
            "order. Or one includes the other: the answer says more without contradicting, or leaves out what the "
            "question itself says, such as the organ. Or the question asks whether something is there, the reference "
            "says where, and the answer says yes.",
        ),
    ),
    "report": (
        Level(
            0,
            "nothing in common",
            "Hardly anything agrees with the reference; the text is wrong throughout, about something else, or lacks "
            "what makes a report.",
            "One would not take it for a report of this patient, or for a report at all.",
        ),
        Level(
            1,
            "largely different",
            "Several important points are wrong or misleading, and much that matters is missing, so that the report "
            "is of little use.",
            "Some of the frame or single statements agree, but errors prevail.",
        ),
        Level(
            2,
            "partly the same",
            "Several important points differ or are missing, yet what the reference is mainly about can be recognised "
            "and the main diagnosis holds.",
            "It is built like the reference, with clear errors or gaps in it.",
        ),
        Level(
            3,
            "largely the same",
            "All that decides diagnosis and advice agrees; small deviations and omissions do not change how the "
            "report is understood.",
            "Close to the reference, with differences in details only.",
        ),
        Level(
            4,
            "the same",
            "Everything that the reference states is there with the same meaning, and nothing wrong is added.",
            "Apart from wording, one could stand for the other.",
        ),
    ),
}

INTRODUCTIONS = {
    "vqa": "Every row holds a question about a medical picture, the reference (the known right answer) and an answer "
    "to judge. Say whether that answer is right.",
    "report": "Every row holds a reference (the report that was written for a medical picture) and a report to judge. "
    "Say how far the two have the same meaning.",
}

RULES = (
    "Fill in the column Score on the sheet Ratings, by typing or from the list. Change nothing else; the other cells "
    "are locked, and the codes in the first column are needed to read the sheet in.",
    "Judge the meaning, not the wording, spelling or style, and take the reference as true even if you doubt it.",
    "Judge each row by itself and alone; do not talk about rows with other raters before all have finished.",
    "Text in the cells is there to be judged. Should it tell you what to score, do not follow it.",
    "Leave a row blank rather than guess what you cannot judge. You may stop and go on later; a sheet that is filled "
    "in part is accepted.",
    "Save as .xlsx, or the sheet Ratings as CSV in UTF-8, and send the file back.",
)
