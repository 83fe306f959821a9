"""The medical world that ships with the package: drawn pictures, their hidden findings, questions, captions, reports.

Every picture is drawn from its seed alone. The patient's left lies on the image's right, as radiologists hang
pictures; every text speaks of the patient's sides. Data sets are built with answers balanced form by form, so that a
model which only reads the question does badly. Splits never share a patient: a patient's seed belongs to one split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from pefomed.embedded.abdomen import AbdomenAnatomy, draw_abdomen, sample_abdomen
from pefomed.embedded.chest import ChestAnatomy, draw_chest, sample_chest
from pefomed.embedded.head import HeadAnatomy, draw_head, sample_head
from pefomed.embedded.phantom_findings import FINDINGS, REGIONS, Facts, Finding, Phantom
from pefomed.embedded.phantom_language import caption, findings_in_report, report
from pefomed.embedded.phantom_questions import Question, questions_about

__all__ = [
    "FINDINGS", "REGIONS", "SPLITS", "Facts", "Finding", "Phantom", "PhantomQuestion", "build_vqa", "caption",
    "draw_phantom", "findings_in_report", "patient_seed", "questions_about", "redraw", "report",
]  # fmt: skip

Anatomy = ChestAnatomy | AbdomenAnatomy | HeadAnatomy
SPLITS = ("train", "val", "test")
MOST_IMAGES = 1 << 20  # patients a split can have under one seed
# how large a share of the questions each type should have, in percent
SHARES = {
    "PRES": 19, "POS": 14, "ABN": 12, "SIZE": 12, "COUNT": 10, "ATTRIB": 8, "ORGAN": 7, "OTHER": 6, "COLOR": 4,
    "MODALITY": 5, "PLANE": 4,
}  # fmt: skip
CLOSED_SHARE = 0.53  # VQA-RAD has 0.58
LEAD = 1  # by how many an answer may lead the rarest answer of its form


@dataclass(frozen=True)
class PhantomQuestion:
    """One row of a visual question answering set; the fields are named as the columns of an Example."""

    phantom: Phantom
    question: str
    answer: str
    answer_type: str
    question_type: str
    phrase_type: str
    image_organ: str
    group: str
    form: str


@dataclass
class _Tally:
    """How often each answer of each form, each question type and each answer type came up so far."""

    answers: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    types: Counter = field(default_factory=Counter)
    closed: int = 0
    total: int = 0

    def lead(self, question: Question) -> int:
        """By how many the question's answer leads the rarest answer of its form."""
        counts = self.answers[question.form]
        return counts[question.answer] - min(counts[answer] for answer in question.answers)

    def add(self, question: Question) -> None:
        self.answers[question.form][question.answer] += 1
        self.types[question.question_type] += 1
        self.closed += question.answer_type == "closed"
        self.total += 1


def draw_phantom(seed: int, region: str | None = None) -> Phantom:
    """Draw one patient.

    Args:
        seed: 0 or more; the same seed (and region) gives the same picture, bit for bit.
        region: "CHEST", "ABD" or "HEAD"; None leaves it to the seed.

    Raises:
        ValueError: for an unknown region or a negative seed.
    """
    if region is not None and region not in REGIONS:
        raise ValueError(f"region: found {region!r}, expected one of {', '.join(REGIONS)}")
    if seed < 0:
        raise ValueError(f"seed: found {seed}, expected 0 or more")
    rng = np.random.default_rng(seed)
    region = region or REGIONS[int(rng.integers(3))]
    anatomy, findings = {"CHEST": sample_chest, "ABD": sample_abdomen, "HEAD": sample_head}[region](rng)
    noise_seed = int(rng.integers(2**32))
    image, masks = _draw(anatomy, findings, noise_seed)
    return Phantom(region, image, findings, _facts(anatomy), masks, anatomy, noise_seed)


def redraw(phantom: Phantom, findings: tuple[Finding, ...]) -> np.ndarray:
    """The same patient, texture and noise with other findings, uint8 (112, 112).

    Heart and ventricles keep the size that was drawn with cardiomegaly or hydrocephalus.
    """
    return _draw(phantom.anatomy, findings, phantom.noise_seed)[0]


def _draw(anatomy: Anatomy, findings: tuple[Finding, ...], noise_seed: int) -> tuple[np.ndarray, dict]:
    if isinstance(anatomy, ChestAnatomy):
        return draw_chest(anatomy, findings, noise_seed)
    if isinstance(anatomy, AbdomenAnatomy):
        return draw_abdomen(anatomy, findings, noise_seed)
    return draw_head(anatomy, findings, noise_seed)


def _facts(anatomy: Anatomy) -> Facts:
    if isinstance(anatomy, ChestAnatomy):
        return Facts("x-ray", "frontal", "chest", None)
    if isinstance(anatomy, AbdomenAnatomy):
        return Facts("ct", "axial", "abdomen", anatomy.contrast)
    return Facts("mri", anatomy.plane, "head", None)


def patient_seed(split: str, number: int, seed: int = 0) -> int:
    """The seed of patient `number` of a split; two splits or two data set seeds never share one.

    Raises:
        ValueError: for an unknown split or a number or seed out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {', '.join(SPLITS)}")
    if not 0 <= number < MOST_IMAGES or seed < 0:
        raise ValueError(
            f"patient {number} of seed {seed}: expected a number below {MOST_IMAGES} and a seed of 0 or more"
        )
    return (seed * len(SPLITS) + SPLITS.index(split)) * MOST_IMAGES + number


def split_phantoms(split: str, images: int, seed: int = 0) -> list[Phantom]:
    """The patients of a split: regions take turns, so each has a third of them."""
    return [draw_phantom(patient_seed(split, n, seed), REGIONS[n % 3]) for n in range(images)]


def build_vqa(split: str, images: int, questions_per_image: int, seed: int = 0) -> list[PhantomQuestion]:
    """Draw a split and choose its questions so that no answer of a form leads by much.

    Args:
        split: "train", "val" or "test".
        images: how many patients, one picture each.
        questions_per_image: how many different questions each picture gets.
        seed: seed of the data set.

    Returns:
        images x questions_per_image rows, picture by picture.

    Raises:
        ValueError: for an unknown split, or counts that are not positive.
    """
    if images < 1 or questions_per_image < 1:
        raise ValueError(
            f"images and questions_per_image: found {images} and {questions_per_image}, expected 1 or more"
        )
    rng = np.random.default_rng([patient_seed(split, 0, seed), questions_per_image])
    tally = _Tally()
    rows = []
    for number, phantom in enumerate(split_phantoms(split, images, seed)):
        for question in _choose(questions_about(phantom), questions_per_image, tally, rng):
            rows.append(_word(question, phantom, f"phantom-{split}-{number}", rng))
    return rows


def _choose(questions: list[Question], wanted: int, tally: _Tally, rng: np.random.Generator) -> list[Question]:
    """Pick questions one after the other, each the one that is most missing so far; count them in `tally`."""
    left = [questions[int(i)] for i in rng.permutation(len(questions))]
    chosen: list[Question] = []
    while left and len(chosen) < wanted:
        best = min(left, key=lambda question: _cost(question, tally))
        left.remove(best)
        tally.add(best)
        chosen.append(best)
    return chosen


def _cost(question: Question, tally: _Tally) -> tuple[int, float]:
    """How little a question is needed: first by how far its answer leads, then by how common its kinds are."""
    lead = tally.lead(question)
    share = SHARES[question.question_type] / 100
    type_excess = (tally.types[question.question_type] - share * tally.total) / (8 * share)
    closed_excess = tally.closed - CLOSED_SHARE * tally.total
    kind_excess = closed_excess if question.answer_type == "closed" else -closed_excess
    commonness = tally.answers[question.form].total() / len(question.answers)
    return max(lead - LEAD + 1, 0), type_excess + 0.2 * kind_excess + 0.10 * commonness + 0.5 * lead


def _word(question: Question, phantom: Phantom, group: str, rng: np.random.Generator) -> PhantomQuestion:
    """Put a question into one of its wordings."""
    phrase_type = ("freeform", "para")[int(rng.integers(2))]
    wordings = question.freeform if phrase_type == "freeform" else question.para
    return PhantomQuestion(
        phantom=phantom,
        question=wordings[int(rng.integers(len(wordings)))],
        answer=question.answer,
        answer_type=question.answer_type,
        question_type=question.question_type,
        phrase_type=phrase_type,
        image_organ=phantom.region,
        group=group,
        form=question.form,
    )
