"""Numbers of the real book against the JSON files that they come from, found again without the page.

`SOURCES` says where each of them stands. What a page works out itself, from answers or from a network, is tested where
its arithmetic is; of such numbers it is compared here what the run's own glued.json holds and what the page shows.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from book_pages import Page, check_shown, glued_keys, glued_places, glued_values, pages
from small_book import is_run

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = {page.source.stem: page for page in pages(REPOSITORY) if page.source.suffix == ".ipynb"}
OF_TEXTS = ("", "s")  # formats that a text may have; every other one needs a number


@dataclass(frozen=True)
class Source:
    """Where a glued number comes from: scale * (take(of) - take(minus)) / take(over).

    An address is FILE#PATH. `RUNS` at the beginning of FILE is the folder of runs that the page was given; `{a,b}` and
    `*` stand for several files. PATH has the keys from outside to inside, parted by `/`: `a|b` are several, `*` stands
    for all that fit; of a list it has the place, or KEY=VALUE&KEY=VALUE for the entries that have these.

    Attributes:
        page: name of the page's file.
        key: of the glued number.
        of: address of one number or several, which `take` makes one of.
        scale: a factor.
        minus: address of what is subtracted.
        over: address of what is divided by.
        take: makes one number of several.
        digits: places behind the point that the file's number is rounded to; None if it is not.
    """

    page: str
    key: str
    of: str
    scale: float = 1.0
    minus: str = ""
    over: str = ""
    take: Callable = sum
    digits: int | None = None


def files_of(pattern: str, root: Path, runs: str) -> list[Path]:
    """Files that the first part of an address stands for."""
    pattern = re.sub("^RUNS(?=/)", runs, pattern)
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    patterns = [found[1] + name + found[3] for name in found[2].split(",")] if found else [pattern]
    files = [path for one in patterns for path in (sorted(root.glob(one)) if "*" in one else [root / one])]
    missing = [str(path) for path in files if not path.is_file()] or ([] if files else [pattern])
    if missing:
        raise FileNotFoundError(f"{missing[0]}: no such file; `make book` makes it")
    return files


def step(value: object, name: str) -> list:
    """What lies below a value by one step of a path."""
    if isinstance(value, list) and name.isdecimal():
        return [value[int(name)]]
    if isinstance(value, list):
        wanted = dict(part.split("=") for part in name.split("&"))
        return [entry for entry in value if all(str(entry[key]) == given for key, given in wanted.items())]
    return [value[key] for one in name.split("|") for key in value if fnmatchcase(key, one)]


def numbers_at(address: str, root: Path, runs: str = "runs/book") -> list[float]:
    """Numbers at an address.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: there is nothing at that place.
    """
    pattern, path = address.split("#")
    found = []
    for file in files_of(pattern, root, runs):
        values = [json.loads(file.read_text(encoding="utf-8"))]
        for name in path.split("/"):
            values = [below for value in values for below in step(value, name)]
        if not values:
            raise KeyError(f"{file}: nothing at {path}")
        found += values
    return found


def value_of(source: Source, root: Path, runs: str = "runs/book") -> float:
    """What the glued number has to be."""

    def taken(address: str) -> float:
        return source.take(numbers_at(address, root, runs))

    value = taken(source.of) - (taken(source.minus) if source.minus else 0)
    return source.scale * value / (taken(source.over) if source.over else 1)


def sources(page: str, *entries: tuple) -> list[Source]:
    """Sources of one page's numbers."""
    return [Source(page, *entry) for entry in entries]


SCALE = "benchmarks/results/paper_scale.json#"
PLANS = f"{SCALE}plans/recipe=paper"
VQA_RAD = f"{SCALE}plans/recipe=paper&data=vqa_rad"
WHOLE = f"{SCALE}sizes/tower|language_model|trainable"
FULL_SIZE = [
    *sources(
        "full_size",
        ("full-trained", f"{SCALE}sizes/trainable"),
        ("full-share", f"{SCALE}sizes/trainable", 100, "", WHOLE),
        ("full-all-gb", WHOLE, 18e-9),
        ("full-image-tokens", f"{SCALE}sizes/image_tokens"),
        ("full-image-share", f"{SCALE}sizes/image_tokens", 100, "", f"{VQA_RAD}/length/value"),
        ("full-vqa-tokens", f"{VQA_RAD}/length/value"),
        ("full-vqa-tflop", f"{VQA_RAD}/flops_per_sample/total", 1e-12),
        ("full-hours-a40", f"{PLANS}/hours/A40/1"),
        ("full-hours-a100", f"{PLANS}/hours/A100/1"),
        ("full-hours-h100", f"{PLANS}/hours/H100 SXM/1"),
        ("full-four", f"{PLANS}/hours/A40/4"),
        ("full-price", f"{PLANS}/hours/A100/1", 2.0),  # the page's parameter gpu_hour_price
        ("full-utilisation", f"{SCALE}assumed/utilisation", 100),
        ("full-mem-vqa", f"{VQA_RAD}/memory/peak_checkpointed", 1e-9),
        ("full-mem-vqa-whole", f"{VQA_RAD}/memory/peak", 1e-9),
        ("full-mem-mix", f"{PLANS}&data=mixture/memory/peak_checkpointed", 1e-9),
        ("full-mem-longest", f"{PLANS}/memory_longest/peak_checkpointed", 1e-9, "", "", max),
        ("full-frozen", f"{VQA_RAD}/memory/frozen", 1e-9),
        ("full-trained-gb", f"{VQA_RAD}/memory/trained", 1e-9),
        ("full-fsdp-saved", f"{SCALE}fsdp/saved_bytes", 1e-9),
        ("full-fsdp-gather", f"{SCALE}fsdp/gather_seconds", 3),
        (
            "full-fsdp-step",
            f"{VQA_RAD}/flops_per_sample/total",
            1e-12 / 0.35,  # the page's parameter utilisation
            "",
            f"{SCALE}assumed/gpus/A40/bf16_tflops",
        ),
        ("full-link", f"{SCALE}assumed/link_gb_s"),
    ),
    *sources(
        "model",
        ("trained", f"{SCALE}sizes/trainable"),
        ("share", f"{SCALE}sizes/trainable", 100, "", WHOLE),
        ("frozen", f"{SCALE}sizes/tower|language_model", 1e-9),
    ),
    *sources("peft", ("gb-adam-lora", f"{SCALE}sizes/trainable", 16e-9)),
]

TRAINING = "benchmarks/results/training.json#cases/synthetic"
ANSWERING = "benchmarks/results/inference.json#synthetic/variants"
SPEED = "questions_per_second"
FAST = sources(
    "fast",
    ("train_to_one", f"{TRAINING}/variants/cached*/{SPEED}", 1, "", f"{TRAINING}/variants/plain-1/{SPEED}", max),
    ("train_to_best", f"{TRAINING}/variants/cached*/{SPEED}", 1, "", f"{TRAINING}/variants/plain-*/{SPEED}", max),
    ("train_peak", f"{TRAINING}/ratios/peak_mb_to_best_plain", 1, "", "", sum, 3),
    ("answer_to_one", f"{ANSWERING}/prefix/{SPEED}", 1, "", f"{ANSWERING}/plain-1/{SPEED}"),
    ("answer_to_best", f"{ANSWERING}/prefix/{SPEED}", 1, "", f"{ANSWERING}/plain-*/{SPEED}", max),
)

# The first seed's answers, and means over the seeds.
QUESTIONS, REPORTS = "RUNS/vqa/both/seed0/metrics.json#", "RUNS/report/both/seed0/metrics.json#"
BLANK = "RUNS/vqa/blank/seed0/metrics.json#"
WORDS = "RUNS/evaluate_report/metrics.json#"
MATCH, TOLD = "exact_match/overall", "findings/names/micro"
MEAN = statistics.mean
BOTH = {task: f"RUNS/{task}/both/seed*/metrics.json#" for task in ("vqa", "report")}
SECOND = {task: f"RUNS/{task}/stage2/seed*/metrics.json#" for task in ("vqa", "report")}
RUNS = [
    *sources(
        "measuring",
        ("both_em", f"{QUESTIONS}{MATCH}"),
        ("both_repaired", f"{QUESTIONS}exact_match_repaired/overall"),
        ("blank_em", f"{BLANK}{MATCH}"),
        ("both_recall", f"{REPORTS}{TOLD}/recall"),
        ("stage2_recall", f"RUNS/report/stage2/seed0/metrics.json#{TOLD}/recall"),
        ("both_rouge", f"{WORDS}rouge_l"),
        ("both_cider", f"{WORDS}cider"),
        ("one_text_rouge", f"{WORDS}constant_report/rouge_l/scores/rouge_l"),
    ),
    *sources(
        "paper_tables",
        ("n_answers", f"{QUESTIONS}n/overall"),
        ("ours_em_open", f"{QUESTIONS}exact_match/open"),
        ("ours_em_closed", f"{QUESTIONS}exact_match/closed"),
        ("ours_judge_open", "RUNS/judge_vqa/scores.json#judge/accuracy/open/mean"),
        ("ours_judge_closed", "RUNS/judge_vqa/scores.json#judge/accuracy/closed/mean"),
        ("ours_rouge_l", f"{WORDS}rouge_l"),
        ("ours_cider", f"{WORDS}cider"),
        ("cider_both", f"{WORDS}cider"),
        ("constant_rouge_l", f"{WORDS}constant_report/rouge_l/scores/rouge_l"),
        ("constant_cider", f"{WORDS}constant_report/cider/scores/cider"),
        ("gain", f"{BOTH['vqa']}{MATCH}", 1, f"{SECOND['vqa']}{MATCH}", "", MEAN),
        ("f1_both", f"{BOTH['report']}{TOLD}/f1", 1, "", "", MEAN),
        ("f1_second", f"{SECOND['report']}{TOLD}/f1", 1, "", "", MEAN),
    ),
    *sources(
        "ablations",
        ("vqa_gain", f"{BOTH['vqa']}{MATCH}", 1, f"{SECOND['vqa']}{MATCH}", "", MEAN),
        ("report_gain", f"{BOTH['report']}{TOLD}/f1", 1, f"{SECOND['report']}{TOLD}/f1", "", MEAN),
    ),
    *sources("data", ("data-test-rows", f"{QUESTIONS}n/overall")),
    *sources("errata", ("n_questions", f"{QUESTIONS}n/overall")),
]

# The ablation with controls, which is kept in the repository.
GRID = "benchmarks/results/four_conditions.json#"
LONG = "differences/stage2_long"
CONTROLS = sources(
    "ablations",
    ("long_vqa_500", f"{GRID}vqa-500/{LONG}/overall/mean"),
    ("long_vqa_500_low", f"{GRID}vqa-500/{LONG}/overall/ci95_seeds/0"),
    ("long_vqa_500_high", f"{GRID}vqa-500/{LONG}/overall/ci95_seeds/1"),
    ("long_vqa_100", f"{GRID}vqa-100/{LONG}/overall/mean"),
    ("long_vqa_100_low", f"{GRID}vqa-100/{LONG}/overall/ci95_seeds/0"),
    ("long_vqa_100_high", f"{GRID}vqa-100/{LONG}/overall/ci95_seeds/1"),
    ("long_report_500", f"{GRID}report-500/{LONG}/F1/mean"),
    ("long_report_500_low", f"{GRID}report-500/{LONG}/F1/ci95_seeds/0"),
    ("long_report_500_high", f"{GRID}report-500/{LONG}/F1/ci95_seeds/1"),
    ("blank_vqa", f"{GRID}vqa-500/scores/stage2_blank/overall/mean"),
    ("both_vqa_grid", f"{GRID}vqa-500/scores/stage1+2/overall/mean"),
)


def method(name: str, of: str = MATCH) -> str:
    """Address of a number of one of the methods that the chapter on PEFT compares, or of several's."""
    return f"RUNS/peft_methods/{name}.json#{of}"


def seeds(name: str) -> str:
    return method(f"{{{name},{name}_seed1,{name}_seed2}}")


WITH_LORA = method("{qv_r1,qv_r4,qv_r16,qv_r64,qv_r64_alpha16,attention_r16,linear_r16,dora_r16}")
METHODS = sources(
    "peft",
    ("train-questions", method("full", "plan/questions")),
    ("val-questions", method("full", "plan/validation")),
    ("captions", method("full", "plan/captions")),
    ("em-zero", method("zero_shot")),
    ("em-prompt", method("prompt_8")),
    ("em-ia3", method("ia3")),
    ("em-lora1", method("lora_only_r1")),
    ("em-lora64", method("lora_only_r64")),
    ("em-projector", method("projector")),
    ("em-full", method("full")),
    ("n-prompt", method("prompt_8", "trainable/total")),
    ("n-ia3", method("ia3", "trainable/total")),
    ("n-lora1", method("lora_only_r1", "trainable/total")),
    ("n-full", method("full", "trainable/total")),
    ("with-low", WITH_LORA, 1, "", "", min),
    ("with-high", WITH_LORA, 1, "", "", max),
    ("rank-gain-difference", method("lora_only_r64"), 1, method("lora_only_r1")),
    ("rank-with-difference", method("qv_r64"), 1, method("qv_r1")),
    ("scratch-difference", method("fresh_projector"), 1, method("pefomed")),
    ("linear-difference", method("all_linear"), 1, method("pefomed")),
    ("first-difference", method("projector_first"), 1, method("pefomed")),
    ("nostage-difference", method("qv_r16"), 1, method("pefomed")),
    ("ungrouped-difference", method("fresh_ungrouped"), 1, method("fresh_projector")),
    ("mlp-difference", method("fresh_ungrouped_mlp"), 1, method("fresh_ungrouped")),
    ("llava-difference", method("llava"), 1, method("pefomed")),
    ("llava-fair-difference", method("llava"), 1, method("fresh_projector")),
    ("scratch-seeds", seeds("fresh_projector"), 1, seeds("pefomed"), "", MEAN),
    ("llava-seeds", seeds("llava"), 1, seeds("pefomed"), "", MEAN),
    ("llava-fair-seeds", seeds("llava"), 1, seeds("fresh_projector"), "", MEAN),
)
SOURCES = [*FULL_SIZE, *FAST, *RUNS, *CONTROLS, *METHODS]
PAGES = sorted({source.page for source in SOURCES})


def run_of(page: str, root: Path) -> tuple[dict[str, object], str]:
    """What a page's last run has glued, and its folder of runs. Skips where it was not run."""
    if root == REPOSITORY and not is_run(NOTEBOOKS[page].source):
        pytest.skip("not run yet as it is now; `make book` runs it")
    values = glued_values(NOTEBOOKS[page], root)
    copy = json.loads((root / "book" / "_runs" / f"{page}.ipynb").read_text(encoding="utf-8"))
    given = copy["metadata"].get("papermill", {}).get("parameters", {})
    return values, given.get("runs_dir", "runs/book")


def differences(page: str, root: Path) -> list[str]:
    """Numbers of a page's run that are not their file's."""
    values, runs = run_of(page, root)
    faults = []
    for source in (one for one in SOURCES if one.page == page):
        expected = value_of(source, root, runs)
        found = values[source.key] if source.digits is None else round(values[source.key], source.digits)
        if not math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9):
            faults.append(f"{page}: {source.key} is {found}, by {source.of} {expected}; run `make book`")
    return faults


def test_the_table_is_large_and_names_what_the_pages_show():
    assert len(SOURCES) == len({(source.page, source.key) for source in SOURCES}) >= 60
    shown = {(name, key) for name, page in NOTEBOOKS.items() for key in glued_keys(page)}
    assert [source for source in SOURCES if (source.page, source.key) not in shown] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_glued_number_equals_its_source(page: str):
    assert differences(page, REPOSITORY) == []


@pytest.mark.parametrize("name", [name for name, page in NOTEBOOKS.items() if glued_keys(page)])
def test_json_of_the_run_holds_what_the_built_page_shows(name: str, built_book: Path | None):
    values, runs = run_of(name, REPOSITORY)
    assert json.loads((REPOSITORY / runs / "pages" / name / "glued.json").read_text(encoding="utf-8")) == values
    if built_book is None:
        pytest.skip("the book is not built, or its pages have changed since; `make book` builds it")
    assert check_shown(NOTEBOOKS[name], REPOSITORY, built_book) == []


@pytest.mark.parametrize("page", NOTEBOOKS.values(), ids=lambda page: page.source.stem)
def test_glued_values_are_plain_numbers_or_texts(page: Page):
    values, _ = run_of(page.source.stem, REPOSITORY)
    assert {type(value) for value in values.values()} <= {int, float, str}
    words = [key for key, form in glued_places(page) if form not in OF_TEXTS and isinstance(values[key], str)]
    assert words == []


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs, and a file of plans."""
    for name, score in (("a", 60.0), ("b", 70.0)):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "m.json").write_text(json.dumps({"score": {"all": score, "n": 5}}))
    plans = [{"data": "x", "n": 1, "ci": [0.5, 2.5]}, {"data": "y", "n": 3, "ci": [1.5, 3.5]}]
    (tmp_path / "plans.json").write_text(json.dumps({"plans": plans}))
    return tmp_path


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("RUNS/a/m.json#score/all", [60.0]),
        ("RUNS/*/m.json#score/all", [60.0, 70.0]),
        ("RUNS/{b,a}/m.json#score/all", [70.0, 60.0]),
        ("RUNS/b/m.json#score/all|n", [70.0, 5]),
        ("RUNS/b/m.json#*/a*", [70.0]),
        ("plans.json#plans/data=y/n", [3]),
        ("plans.json#plans/data=x/ci/1", [2.5]),
        ("plans.json#plans/1/ci/0", [1.5]),
    ],
)
def test_an_address_is_followed(results, address, expected):
    assert numbers_at(address, results, "here") == expected


@pytest.mark.parametrize(
    ("address", "error"),
    [("RUNS/c/m.json#score", FileNotFoundError), ("RUNS/c*/m.json#score", FileNotFoundError)]
    + [(f"plans.json#plans/{path}", KeyError) for path in ("data=z/n", "data=x/m")],
)
def test_an_address_that_leads_nowhere_is_an_error(results, address, error):
    with pytest.raises(error):
        numbers_at(address, results, "here")


def test_a_source_is_worked_out(results):
    source = Source("p", "k", "RUNS/b/m.json#score/all", 2, "RUNS/a/m.json#score/all", "RUNS/a/m.json#score/n")
    assert value_of(source, results, "here") == 2 * (70 - 60) / 5
    assert value_of(Source("p", "k", "RUNS/*/m.json#score/all", take=max), results, "here") == 70


@pytest.mark.parametrize(("glued", "fault"), [("70.0", ""), ("70.00001", "fast: score is 70.00001, by RUNS/b")])
def test_a_number_that_is_not_its_file_s_is_found(results, monkeypatch, glued, fault):
    output = {"metadata": {"scrapbook": {"name": "score"}}, "data": {"text/plain": glued}}
    cells = [{"cell_type": "code", "source": "", "metadata": {}, "outputs": [output]}]
    copy = {"cells": cells, "metadata": {"papermill": {"parameters": {"runs_dir": "here"}}}}
    (results / "book" / "_runs").mkdir(parents=True)
    (results / "book" / "_runs" / "fast.ipynb").write_text(json.dumps(copy))
    monkeypatch.setattr(f"{__name__}.SOURCES", [Source("fast", "score", "RUNS/b/m.json#score/all")])
    faults = differences("fast", results)
    assert faults == [] if not fault else faults[0].startswith(fault) and len(faults) == 1
