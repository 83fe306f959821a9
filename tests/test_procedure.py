"""The two procedures and their switches."""

import dataclasses
import subprocess
import sys

import pytest

from pefomed.procedure import CLEAN, RELEASED_CODE, Procedure, get_procedure


def test_every_switch_differs_between_the_two_and_is_documented():
    same = {"max_words", "max_new_tokens", "random_prompt_in_training"}
    for field in dataclasses.fields(Procedure):
        differs = getattr(CLEAN, field.name) != getattr(RELEASED_CODE, field.name)
        assert differs != (field.name in same), field.name
        if field.name != "name":
            assert f"        {field.name}: " in Procedure.__doc__, field.name


def test_the_published_values():
    assert CLEAN.bos_at_inference == 1 and RELEASED_CODE.bos_at_inference == 2
    assert CLEAN.report_tag_at_test == "report" and RELEASED_CODE.report_tag_at_test == "caption"
    assert RELEASED_CODE.augment_test_images and not CLEAN.augment_test_images
    assert RELEASED_CODE.max_words == 50 and RELEASED_CODE.max_new_tokens == 300


def test_get_procedure():
    assert get_procedure("clean") is CLEAN and get_procedure("released_code") is RELEASED_CODE
    own = dataclasses.replace(CLEAN, name="clean with two BOS", bos_at_inference=2)
    assert get_procedure(own) is own
    for name in ("released", "", None, 3):
        with pytest.raises(ValueError, match="choose 'clean' or 'released_code'"):
            get_procedure(name)


@pytest.mark.parametrize(
    "change",
    [{"bos_at_inference": 3}, {"report_tag_at_test": "vqa"}, {"max_words": 0}, {"vqa_templates_in_training": 0}],
)
def test_impossible_values(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(CLEAN, **change)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLEAN.clean_text = True


def test_needs_no_gpu_stack():
    code = (
        "import sys, pefomed.procedure, pefomed.images, pefomed.controls, pefomed.data, pefomed.data.prompts; "
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
