"""Two ways to run the same model: as the paper describes it, and as the published code really does it.

Each difference that touches pictures, prompts, targets or generation is one named field of `Procedure`. `CLEAN` is the
default of the package; `RELEASED_CODE` turns every field to what the published code (jinlHe/PeFoMed, revision 5242449)
does, for comparison with numbers that were made with it. Learning rates and schedules are not here: they belong to the
training stages.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Procedure:
    """Named switches for each thing that the published code does differently from the paper's description.

    Attributes:
        name: "clean", "released_code", or a name of your own for a mixture made with `dataclasses.replace`.
        bos_at_inference: Begin-of-sequence tokens before the prompt at inference. Training has 1; the published
            inference writes a second one out in its prompt.
        lowercase_training_prompt: The training prompt is lower-cased and cleaned together with its image tags
            (`<img><imagehere></img>`), whereas the inference prompt keeps `<Img>`. The tags and the task identifier
            then count as two of the `max_words`.
        clean_text: Targets and instructions are lower-cased, the characters .!"()*#:;~ become blanks ("3.5" -> "3 5")
            and everything past `max_words` words is cut.
        max_words: Words kept by `clean_text`.
        vqa_templates_in_training: 1: the template of evaluation; 2: drawn from that one and the bare "[vqa] question".
        random_prompt_in_training: Caption and report wordings are drawn at random for each training sample.
        random_prompt_at_test: The same at evaluation, so that two evaluations of one model differ.
        report_tag_at_test: Task identifier that IU-Xray reports get at evaluation (training always says [report]).
        mimic_cxr_tag: Task identifier that MIMIC-CXR reports get, in training and at evaluation.
        augment_training_images: Random crop and mirroring of training pictures.
        augment_test_images: Random crop and mirroring of test pictures: left and right are swapped half of the time.
        window_16bit: Greys deeper than 8 bits are windowed over their own range; False clips them, nearly to white.
        drop_alpha: Transparency is ignored, and the colours under it show; False lays the picture on black.
        apply_exif: The EXIF orientation is applied.
        cut_drops_ends: A target cut at its longest length loses its end token and a prompt its "[/INST]". Clean keeps
            the end token of a cut target and refuses a prompt that is too long.
        ignore_pad_pieces_in_targets: The padding token is an ordinary piece, "$$"; where an answer holds it, it is not
            learnt.
        ignore_generation_arguments: Beams, lengths and penalties are ignored: always greedy, `max_new_tokens` long.
        max_new_tokens: Longest answer generated where nothing else is asked for.
    """

    name: str = "clean"
    bos_at_inference: int = 1
    lowercase_training_prompt: bool = False
    clean_text: bool = False
    max_words: int = 50
    vqa_templates_in_training: int = 1
    random_prompt_in_training: bool = True
    random_prompt_at_test: bool = False
    report_tag_at_test: str = "report"
    mimic_cxr_tag: str = "report"
    augment_training_images: bool = False
    augment_test_images: bool = False
    window_16bit: bool = True
    drop_alpha: bool = False
    apply_exif: bool = True
    cut_drops_ends: bool = False
    ignore_pad_pieces_in_targets: bool = False
    ignore_generation_arguments: bool = False
    max_new_tokens: int = 300

    def __post_init__(self) -> None:
        for field, allowed in (
            ("bos_at_inference", (1, 2)),
            ("vqa_templates_in_training", (1, 2)),
            ("report_tag_at_test", ("report", "caption")),
            ("mimic_cxr_tag", ("report", "caption")),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"procedure {self.name!r}: {field} is {getattr(self, field)!r}, expected {allowed}")
        for field in ("max_words", "max_new_tokens"):
            if getattr(self, field) < 1:
                raise ValueError(f"procedure {self.name!r}: {field} is {getattr(self, field)!r}, expected at least 1")


CLEAN = Procedure()

RELEASED_CODE = Procedure(
    name="released_code",
    bos_at_inference=2,
    lowercase_training_prompt=True,
    clean_text=True,
    vqa_templates_in_training=2,
    random_prompt_at_test=True,
    report_tag_at_test="caption",
    mimic_cxr_tag="caption",
    augment_training_images=True,
    augment_test_images=True,
    window_16bit=False,
    drop_alpha=True,
    apply_exif=False,
    cut_drops_ends=True,
    ignore_pad_pieces_in_targets=True,
    ignore_generation_arguments=True,
)


def get_procedure(name: str | Procedure) -> Procedure:
    """Returns the procedure of that name; a `Procedure` is returned as it is.

    Raises:
        ValueError: There is no procedure of that name.
    """
    if isinstance(name, Procedure):
        return name
    for procedure in (CLEAN, RELEASED_CODE):
        if procedure.name == name:
            return procedure
    raise ValueError(f"unknown procedure {name!r}; choose {CLEAN.name!r} or {RELEASED_CODE.name!r}")
