"""The embedded medical world: what is drawn is what is said, answers are balanced, splits share nobody."""

import io
import re
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from pefomed.embedded.phantom_findings import FINDINGS, REGIONS
from pefomed.embedded.phantom_language import caption, findings_in_report, phrase, report
from pefomed.embedded.phantom_questions import questions_about
from pefomed.embedded.phantoms import SPLITS, build_vqa, draw_phantom, patient_seed, redraw

QUESTION_TYPES = {"ABN", "ATTRIB", "COLOR", "COUNT", "MODALITY", "ORGAN", "PLANE", "POS", "PRES", "SIZE", "OTHER"}
# the anatomy itself carries these, so taking the finding away does not redraw them
PART_OF_ANATOMY = ("cardiomegaly", "hydrocephalus")
CONTRAST = 20  # grey levels of 255 by which a finding must stand out, on average over its pixels
IN_PAIRED_ORGAN = (
    "nodule", "consolidation", "pneumothorax", "pleural effusion", "infarct", "haemorrhage", "brain mass",
    "renal cyst", "kidney stone",
)  # fmt: skip
ORGAN_OF = {
    "cardiomegaly": "heart", "splenomegaly": "spleen", "splenic cyst": "spleen", "liver cyst": "liver",
    "liver mass": "liver", "renal cyst": "kidney", "kidney stone": "kidney", "infarct": "brain",
    "haemorrhage": "brain", "brain mass": "brain", "hydrocephalus": "ventricles", "ascites": "peritoneum",
    "pacemaker": "chest wall",
}  # fmt: skip


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(seed) for seed in range(400)]


@pytest.fixture(scope="module")
def rows():
    return {split: build_vqa(split, images, 8) for split, images in (("train", 300), ("test", 150))}


# ---- drawing


def test_a_seed_is_a_picture(phantoms):
    for seed in (0, 7, 31):
        again = draw_phantom(seed)
        assert np.array_equal(again.image, phantoms[seed].image)
        assert again.findings == phantoms[seed].findings
        assert np.array_equal(redraw(again, again.findings), again.image)
    assert draw_phantom(3, "HEAD").region == "HEAD"
    assert len({phantom.image.tobytes() for phantom in phantoms}) == len(phantoms)


def test_pictures_are_grey_112_and_regions_even(phantoms):
    assert all(phantom.image.shape == (112, 112) and phantom.image.dtype == np.uint8 for phantom in phantoms)
    counts = Counter(phantom.region for phantom in phantoms)
    assert all(abs(counts[region] / len(phantoms) - 1 / 3) < 0.08 for region in REGIONS)


def test_a_quarter_is_normal_and_every_finding_comes_up(phantoms):
    numbers = Counter(len(phantom.findings) for phantom in phantoms)
    assert set(numbers) == {0, 1, 2, 3}
    assert 0.18 < numbers[0] / len(phantoms) < 0.32
    names = Counter(finding.name for phantom in phantoms for finding in phantom.findings)
    assert all(names[name] >= 8 for region in REGIONS for name in FINDINGS[region])


def test_every_finding_stands_out(phantoms):
    for phantom in phantoms:
        for finding in phantom.findings:
            mask = phantom.masks[finding]
            assert mask.sum() >= 25, finding
            if finding.name in PART_OF_ANATOMY:
                continue
            without = redraw(phantom, tuple(other for other in phantom.findings if other != finding))
            change = np.abs(phantom.image.astype(int) - without.astype(int))
            assert change[mask].mean() > CONTRAST, finding


def test_hearts_and_ventricles_have_no_borderline(phantoms):
    for region, measure, cut in (("CHEST", "heart", (14, 21)), ("HEAD", "ventricle", (0.7, 2.2))):
        for phantom in phantoms:
            if phantom.region == region:
                value = getattr(phantom.anatomy, measure)
                enlarged = bool(phantom.named(*PART_OF_ANATOMY))
                assert value > cut[1] if enlarged else value < cut[0]


def test_findings_do_not_hide_each_other(phantoms):
    for phantom in phantoms:
        masks = [phantom.masks[finding] for finding in phantom.findings]
        for i, first in enumerate(masks):
            for second in masks[i + 1 :]:
                assert (first & second).sum() <= 0.12 * min(first.sum(), second.sum()), phantom.findings


def test_drawing_is_fast():
    draw_phantom(0)
    best = 1.0
    for _ in range(3):
        start = time.perf_counter()
        for seed in range(30):
            draw_phantom(seed)
        best = min(best, (time.perf_counter() - start) / 30)
    assert best < 0.006  # about 1.5 ms on one idle core


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="region: found 'LEG'"):
        draw_phantom(0, "LEG")
    with pytest.raises(ValueError, match="seed: found -1"):
        draw_phantom(-1)
    with pytest.raises(ValueError, match="split: found 'dev'"):
        build_vqa("dev", 1, 1)
    with pytest.raises(ValueError, match="found 0 and 8"):
        build_vqa("train", 0, 8)


# ---- questions, answered a second time from the pixels that the findings cover


def seen(phantom):
    """(name, side, zone, size) of each finding, read off its mask and not off the finding."""
    pose = phantom.anatomy.pose
    found = []
    for finding, mask in phantom.masks.items():
        rows, columns = np.nonzero(mask)
        x, y = (columns.mean() - 55.5 - pose.right) / pose.scale, (rows.mean() - 55.5 - pose.down) / pose.scale
        side = "left" if x > 0 else "right"
        if phantom.region == "CHEST":
            zone = "upper" if y < -5 else "lower"
        elif phantom.region == "HEAD":
            zone = ("frontal" if y < 0 else "occipital") if phantom.facts.plane == "axial" else None
            zone = zone or ("parietal" if y < -10 else "temporal")
        else:
            zone = "anterior" if y < -9 else "lateral" if x < -20 else "medial"
        reach = np.sqrt(mask.sum() / np.pi) / pose.scale
        if finding.name == "pleural effusion":
            reach = (rows.max() - rows.min()) / pose.scale
        limit = {"nodule": 8, "pleural effusion": 26, "pneumothorax": 16.5, "liver cyst": 6.5, "liver mass": 6.5}
        found.append((finding.name, side, zone, "small" if reach < limit.get(finding.name, 8.3) else "large"))
    return found


def answer(question, phantom):
    """The answer to a question, by its words alone; None where no rule reads it."""
    found, facts = seen(phantom), phantom.facts
    names = [name for name, *_ in found]
    organs = {ORGAN_OF.get(name, "lung") for name in names}
    paired = [(name, side) for name, side, *_ in found if name in IN_PAIRED_ORGAN]
    sides = {side for _, side in paired}
    yes = {True: "yes", False: "no"}
    short = {"liver cyst": "cyst", "liver mass": "mass", "renal cyst": "cyst", "kidney stone": "stone"}
    numbers = ("none", "one", "two", "three")
    enlarged = {"cardiomegaly": "heart", "splenomegaly": "spleen", "hydrocephalus": "ventricles"}
    which = "both" if len(sides) == 2 else next(iter(sides), "neither")
    normal_half = {"both": "neither", "neither": "both", "left": "right", "right": "left"}[which]
    colours = {"infarct": "black", "haemorrhage": "white", "liver mass": "white", "kidney stone": "white"}
    looks = {"nodule": "round", "consolidation": "hazy", "brain mass": "ring", "infarct": "wedge"} | {
        "haemorrhage": "irregular", "liver mass": "hyperdense", "kidney stone": "hyperdense",
    }  # fmt: skip

    def group(words):
        """The findings that words such as "nodules" or "kidney lesion" speak of."""
        kinds = {
            "nodule": ("nodule",), "brain mass": ("brain mass",), "liver lesion": ("liver cyst", "liver mass"),
            "kidney lesion": ("renal cyst", "kidney stone"), "opacity": ("nodule", "consolidation"),
            "brain lesion": ("brain mass", "infarct", "haemorrhage"),
        }[words.replace("masses", "mass").removesuffix("s") if "mass" not in words else "brain mass"]  # fmt: skip
        return [name for name in names if name in kinds]

    def inside(place):
        if place == "liver":
            return [name for name in names if name.startswith("liver")]
        return [name for name, side in paired if place.startswith(side)]

    def only(name, field):
        values = {entry[field] for entry in found if entry[0] == name}
        return "both" if values == {"left", "right"} else values.pop()

    half = "lung|hemisphere|kidney"
    rules = (
        (r".*(modality|type of image|x-ray, ct or mri).*", lambda: facts.modality),
        (r".*\bplane\b.*|.*frontal, axial or coronal.*|.*axial or coronal.*", lambda: facts.plane),
        (r".*(part of the body|body part|chest, abdomen or head).*", lambda: facts.body_part),
        (r".*contrast.*", lambda: yes[facts.contrast]),
        (r".*image (look )?normal\?", lambda: yes[not names]),
        (r"is there an abnormality\?|is there anything abnormal\?|is an abnormality present.*",
         lambda: yes[bool(names)]),
        (r"what abnormality is seen\?|what is abnormal in.*|which abnormality is present\?",
         lambda: next((name for name in names if name != "pacemaker"), "none")),
        (r".*(?:abnormality )?(?:in|is) the left, right, both or neither.*", lambda: which),
        (r"is there an abnormality in the (.+)\?", lambda place: yes[bool(inside(place))]),
        (rf"is the ((?:left|right) (?:{half})|liver) abnormal\?", lambda place: yes[bool(inside(place))]),
        (r"what is (?:seen )?in the (.+)\?|what does the (.+) show\?",
         lambda place: next((short.get(name, name) for name in inside(place)), "none")),
        (r"(?:which structure is enlarged|what is larger than normal)\?",
         lambda: next((enlarged[name] for name in names if name in enlarged), "none")),
        (r"(?:is|are) the (?:heart|spleen|ventricles) (?:enlarged|larger than normal)\?",
         lambda: yes[any(name in enlarged for name in names)]),
        (r"(?:what is the size of|how large (?:is|are)) the (?:heart|spleen|ventricles)\?",
         lambda: "enlarged" if any(name in enlarged for name in names) else "normal"),
        (r"(?:what is the size of|how large is) the (.+)\?", lambda name: only(name, 3)),
        (r"is (?:the|it a) (?:small or large )?(.+?)(?: small or large)?\?",
         lambda name: only(name, 3) if name in names else None),
        (r"on which side is the (.+)\?|which side is the (.+) on\?|the (.+) is on what side\?|"
         r"is the (.+) on the left or right\?|is it a left or right (.+)\?", lambda name: only(name, 1)),
        (r"(?:where|in what location) is the (.+)\?", lambda name: f"{only(name, 1)} {only(name, 2)} lung"),
        (r"is the (.+) in the upper or lower lung\?|is it an upper or lower lung (.+)\?|in which lobe is the (.+)\?|"
         r"what lobe contains the (.+)\?|in which part of the liver is the (.+)\?|"
         r"what part of the liver contains the (.+)\?", lambda name: only(name, 2)),
        (rf"how many (?:{half})s (?:are abnormal|have an abnormality)\?", lambda: numbers[len(sides)]),
        (r"how many (.+) are (?:there|seen)\?|what is the number of (.+)\?",
         lambda things: numbers[len(group(things))]),
        (r"are there multiple (.+)\?|is there more than one (.+)\?", lambda things: yes[len(group(things)) > 1]),
        (rf"which (?:{half}) (?:is normal|has no abnormality)\?", lambda: normal_half),
        (rf"(?:are|do) both (?:{half})s .*", lambda: yes[which == "both"]),
        (r".*(?:the) ((?:brain|liver|kidney) lesion.*) black or white\?|what colour is the (.+)\?"
         r"|which colour does the (.+) have\?",
         lambda lesion: colours.get(group(lesion.removesuffix(" look"))[0], "black")),
        (r"(?:how does|how would you describe|is|does) (?:the )?(opacity|(?:brain|liver|kidney) lesion).*"
         r"|how would you describe the (.+)\?", lambda lesion: looks.get(group(lesion)[0], "hypodense")),
        (r"which organ is .*|what organ has .*", lambda: next(iter(organs))),
        (r"which organ contains the cyst\?|the cyst is in what organ\?",
         lambda: next(ORGAN_OF[name] for name in names if name.endswith("cyst"))),
        (r"is the (liver|spleen|kidney) (?:affected|abnormal)\?", lambda organ: yes[organ in organs]),
        (r"(?:is there|does this image show|is) (?:an? )?(.+?)(?: present)?\?", lambda name: yes[name in names]),
    )  # fmt: skip
    for pattern, rule in rules:
        match = re.fullmatch(pattern, question)
        if match:
            result = rule(*[group for group in match.groups() if group is not None and rule.__code__.co_argcount])
            if result is not None:
                return result
    return None


def test_every_answer_follows_from_the_picture(phantoms):
    for phantom in phantoms:
        for question in questions_about(phantom):
            for wording in question.freeform + question.para:
                assert answer(wording, phantom) == question.answer, (wording, phantom.findings)


def test_answers_are_among_those_of_their_form_and_short(phantoms):
    for phantom in phantoms:
        forms = [question.form for question in questions_about(phantom)]
        assert len(forms) == len(set(forms))
        for question in questions_about(phantom):
            assert question.answer in question.answers
            assert 1 <= len(question.answer.split()) <= 3
            assert question.answer == question.answer.lower()
            assert question.question_type in QUESTION_TYPES


# ---- data sets


def test_building_is_deterministic(rows):
    def said(items):
        return [(row.question, row.answer, row.group) for row in items]

    assert said(build_vqa("test", 150, 8)) == said(rows["test"])
    assert said(build_vqa("test", 150, 8, seed=1)) != said(rows["test"])


def test_splits_share_no_patient(rows):
    seeds = [{patient_seed(split, n, seed) for n in range(2000)} for split in SPLITS for seed in range(3)]
    assert sum(map(len, seeds)) == len(set().union(*seeds))
    pictures = {split: {row.phantom.image.tobytes() for row in rows[split]} for split in rows}
    assert not pictures["train"] & pictures["test"]
    assert not {row.group for row in rows["train"]} & {row.group for row in rows["test"]}


def test_answers_are_balanced_form_by_form(rows):
    counts = defaultdict(Counter)
    for row in rows["train"]:
        counts[row.form][row.answer] += 1
    for form, answers in counts.items():
        assert max(answers.values()) <= max(0.7 * answers.total(), min(answers.values()) + 3), (form, answers)
    yes, no = (sum(row.answer == word for row in rows["train"]) for word in ("yes", "no"))
    left, right = (sum(row.answer == word for row in rows["train"]) for word in ("left", "right"))
    assert abs(yes - no) < 0.06 * (yes + no)
    assert abs(left - right) < 0.06 * (left + right)


def test_a_blind_guess_does_badly(rows):
    seen_answers = defaultdict(Counter)
    for row in rows["train"]:
        seen_answers[row.question][row.answer] += 1
    best = {question: answers.most_common(1)[0][0] for question, answers in seen_answers.items()}
    right = [best.get(row.question) == row.answer for row in rows["test"]]
    assert np.mean(right) < 0.46


def test_question_types_and_kinds_are_spread(rows):
    items = rows["train"]
    types = Counter(row.question_type for row in items)
    assert set(types) == QUESTION_TYPES
    assert min(types.values()) >= 0.03 * len(items)
    assert max(types.values()) <= 0.22 * len(items)
    closed = np.mean([row.answer_type == "closed" for row in items])
    assert 0.50 < closed < 0.60
    assert 0.45 < np.mean([row.phrase_type == "freeform" for row in items]) < 0.55
    assert Counter(row.group for row in items).most_common(1)[0][1] == 8


# ---- captions and reports


def test_captions_and_reports_name_every_finding(phantoms):
    rng = np.random.default_rng(0)
    for phantom in phantoms:
        for text in (caption(phantom, rng), report(phantom, rng)):
            assert text == text.lower()
            names = frozenset(finding.name for finding in phantom.findings)
            assert findings_in_report(text, phantom.region) == names
            for finding in phantom.findings:
                assert phrase(finding) in text
                assert finding.side is None or finding.side in phrase(finding)
        assert 2 <= report(phantom, rng).count(".") <= 5


def test_denied_findings_are_not_counted():
    text = "frontal chest x-ray. there is a small left pneumothorax. No nodule or pleural effusion."
    assert findings_in_report(text, "CHEST") == {"pneumothorax"}
    with pytest.raises(ValueError, match="region"):
        findings_in_report(text, "chest")


def test_vocabulary_is_small(phantoms):
    rng = np.random.default_rng(0)
    words = set()
    for phantom in phantoms:
        texts = [caption(phantom, rng), report(phantom, rng)]
        for question in questions_about(phantom):
            texts += [*question.freeform, *question.para, question.answer]
        words |= set(re.findall(r"[a-z-]+", " ".join(texts)))
    assert 100 < len(words) < 400


# ---- the adapter


def test_adapter_gives_examples():
    load_phantoms = pytest.importorskip("pefomed.data.phantoms").load_phantoms
    vqa = load_phantoms("val", images=6, questions_per_image=4)
    assert len(vqa) == 24
    assert vqa["id"][5] == "phantoms-val-00001-1"
    assert vqa[0]["dataset"] == "phantoms"
    picture = Image.open(io.BytesIO(vqa[0]["image"]["bytes"]))
    assert picture.mode == "L" and picture.size == (112, 112)
    texts = load_phantoms("val", task="report", images=6)
    assert texts[0]["image"]["bytes"] == vqa[0]["image"]["bytes"]
    assert texts[0]["group"] == vqa[0]["group"] and texts[0]["question"] is None
    assert len(set(load_phantoms("val", task="caption", images=6)["id"])) == 6
    with pytest.raises(ValueError, match="task is 'triage'"):
        load_phantoms("val", task="triage")
