"""Tables and figures of speed, from results of the benchmarks' form whose numbers are known."""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_rgb

from pefomed.files import read_json, write_json
from pefomed.reporting.style import PALETTE
from pefomed.reporting.throughput import (
    best_plain,
    growth_figure,
    kind_of,
    label_of,
    measured_on,
    read_speed,
    roofline_figure,
    speed_figure,
    variants_table,
)

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def variant(speed: float, peak: float, **more) -> dict:
    return {"questions_per_second": speed, "seconds": [40 / speed, 80 / speed, 20 / speed], "peak_mb": peak, **more}


def case() -> dict:
    variants = {
        "plain-1": variant(2.0, 900, loss=10.5),
        "plain-8": variant(4.0, 1800, loss=10.5),
        "cached": variant(6.0, 1500, loss=10.5),
        "cached+shared": variant(30.0, 800, loss=10.5),
        "cached+shared+logits at labels": variant(60.0, 700, loss=10.5),
    }
    return {"threads": 1, "device": "cpu", "dtype": "float32", "repeats": 3, "variants": variants}


def training() -> dict:
    def rows(key: str, sizes: tuple[int, ...]) -> list[dict]:
        peaks = {"plain": 900, "cached": 800, "shared": 500}
        return [{key: size, "plain": 4.0, "cached": 6.0, "shared": 6.0 * size, "peak_mb": peaks} for size in sizes]

    growth = {"questions": rows("questions", (1, 10, 40)), "image_tokens": rows("image_tokens", (64, 1024))}
    works = {"plain-8": (10e9, 40.0, 0.4), "cached+shared": (1e9, 50.0, 0.5)}
    points = {
        name: {"flops_per_question": work, "achieved_gflops": done, "share": share}
        for name, (work, done, share) in works.items()
    }
    return {
        "machine": {"platform": "Linux x86_64", "processors": 2},
        "packages": {"torch": "2.13.0", "pillow": "13.0.0"},
        "cases": {"synthetic": case()},
        "growth": {**growth, "pictures": rows("pictures", (10, 100, 1000))},
        "roofline": {"matmul_gflops": 100.0, "variants": points},
    }


def test_what_the_benchmarks_wrote_is_read(tmp_path):
    write_json(tmp_path / "training.json", training())
    answers = {"variants": {"plain-1": variant(4.0, 1), "prefix": variant(8.0, 1)}}
    write_json(tmp_path / "inference.json", {"synthetic": answers, "note": "not a case"})
    found = read_speed(tmp_path)
    assert list(found["training"]["cases"]) == ["synthetic"] and found["training"]["growth"]["questions"]
    assert list(found["inference"]["cases"]) == ["synthetic"]


def test_what_was_not_measured_has_no_cases(tmp_path):
    assert read_speed(tmp_path) == {"training": {"cases": {}}, "inference": {"cases": {}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [([], "training.json: not a table of cases"), ({"cases": {"full": {}}}, "case 'full' has no variants")],
)
def test_a_file_of_another_form_is_refused(tmp_path, content, message):
    write_json(tmp_path / "training.json", content)
    with pytest.raises(ValueError, match=message):
        read_speed(tmp_path)


def test_the_committed_results_can_be_shown():
    found = read_speed(RESULTS)["inference"]
    assert {"phantoms", "synthetic"} <= set(found["cases"])
    speed_figure(found["cases"])
    for name, entry in read_json(RESULTS / "inference.json").items():
        best = entry["variants"][best_plain(entry)]["questions_per_second"]
        ratio = entry["variants"]["prefix"]["questions_per_second"] / best
        assert ratio == pytest.approx(entry["ratio_prefix_to_best_plain_batch"], abs=0.01)
        assert f"medians of {len(entry['variants']['prefix']['seconds'])} runs" in measured_on(found, entry), name


def test_names_in_words():
    assert label_of("plain-1") == "plain, one at a time" and label_of("plain-8") == "plain, 8 at a time"
    assert label_of("cached+shared+logits at labels") == "features kept, shared prefix, logits at labels"
    assert label_of("prefix") == "from one prefix" and label_of("of my own") == "of my own"
    kinds = [kind_of(name) for name in ("plain-1", "cached", "cached+shared", "prefix")]
    assert kinds == ["plain", "cached", "shared", "shared"]


def test_the_table_compares_with_the_best_plain_variant():
    table = variants_table(case())
    assert best_plain(case()) == "plain-8"
    assert list(table["questions/s"]) == ["2.00", "4.00", "6.00", "30.0", "60.0"]
    assert list(table["x plain, one at a time"]) == ["1.00", "2.00", "3.00", "15.0", "30.0"]
    assert list(table["x best plain"]) == ["0.50", "1.00", "1.50", "7.50", "15.0"]
    assert list(table["peak memory (MB)"]) == ["900", "1,800", "1,500", "800", "700"]
    assert set(table["first loss"]) == {"10.500000"}


def test_the_table_has_only_what_was_measured():
    answers = {
        "plain-8": {"questions_per_second": 5.0, "answers_as_one_by_one": 30, "batch_size": 8},
        "prefix": {"questions_per_second": 1234.5, "peak_mb": None},
    }
    table = variants_table({"variants": answers})
    speeds = ["questions a step", "questions/s", "x best plain"]
    assert list(table.columns) == [*speeds, "peak memory (MB)", "answers as one by one"]
    assert list(table.loc["from one prefix"]) == ["-", "1,234", "247", "-", "-"]
    with pytest.raises(ValueError, match="no plain variant to compare with among cached"):
        variants_table({"variants": {"cached": variant(1.0, 1.0)}})


def test_bars_stand_at_the_speeds_and_whiskers_at_the_repeats():
    figure = speed_figure({"my own": case(), "phantoms": case(), "full": case() | {"trial": True}}, title="Training")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["my own", "phantoms: embedded scale, drawn phantoms"] and titles[2].endswith(", a trial")
    axis = figure.axes[0]
    bars = sorted((bar for bars in axis.containers for bar in bars), key=lambda bar: bar.get_y())
    assert [bar.get_width() for bar in bars] == pytest.approx([2, 4, 6, 30, 60])
    assert list(axis.lines[-1].get_xdata()) == pytest.approx([30, 120]), "the slowest repeat and the fastest"
    assert to_rgb(bars[0].get_facecolor()) == pytest.approx(PALETTE[0])
    assert to_rgb(bars[4].get_facecolor()) == pytest.approx(PALETTE[2])
    assert [text.get_text().strip() for text in axis.texts][-1] == "60.0 (x 15.0)"
    assert axis.get_xlim()[0] == 0, "bars that do not begin at zero lie"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "features kept", "shared prefix"]


def test_growth_has_a_panel_for_each_size_and_a_line_for_each_kind():
    found = training()["growth"]
    found["questions"][2]["plain"] = None  # ran out of memory, say
    figure = growth_figure(found)
    above, below = figure.axes[::2], figure.axes[1::2]
    assert [axis.get_xlabel() for axis in below] == ["questions about a picture", "tokens of a picture", "pictures"]
    assert all(axis.get_xscale() == axis.get_yscale() == "log" for axis in figure.axes)
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in above[0].lines}
    assert lines == {
        "plain": ([1, 10], [4.0, 4.0]),
        "features kept": ([1, 10, 40], [6.0, 6.0, 6.0]),
        "shared prefix": ([1, 10, 40], [6.0, 60.0, 240.0]),
    }
    assert len({line.get_marker() for line in above[0].lines}) == 3, "told apart without colours"
    assert [label.get_text() for label in below[2].get_xticklabels()] == ["10", "100", "1,000"]
    assert list(below[0].lines[2].get_ydata()) == [500, 500, 500]


def test_growth_without_memory_has_one_row():
    rows = [{"pictures": size, "plain": 1.0, "shared": 2.0} for size in (10, 100)]
    figure = growth_figure({"pictures": rows})
    assert len(figure.axes) == 1 and figure.axes[0].get_ylabel() == "questions/s"


def test_points_lie_below_the_roof_by_their_share():
    axis = roofline_figure(training()["roofline"]).axes[0]
    roof = axis.lines[0]
    assert [x * y for x, y in zip(*roof.get_data(), strict=True)] == pytest.approx([100.0, 100.0])
    points = [tuple(line.get_data()) for line in axis.lines if line.get_linestyle() == "None"]
    assert [(list(x), list(y)) for x, y in points] == [([10.0], [4.0]), ([1.0], [50.0])]
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    assert shown[1:] == ["plain, 8 at a time: 40 %", "features kept, shared prefix: 50 %"]


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="no cases to show"):
        speed_figure({})
    with pytest.raises(ValueError, match="no growth was measured"):
        growth_figure({"questions": []})
    with pytest.raises(ValueError, match="no variants below the roof"):
        roofline_figure({"matmul_gflops": 1.0, "variants": {}})


def test_the_machine_is_told():
    told = measured_on(training(), case())
    assert told == "Linux x86_64, 2 processors, 1 thread, cpu, float32, medians of 3 runs, torch 2.13.0"
    assert measured_on({}) == "a machine that was not recorded"


def test_the_figures_are_drawn(tmp_path):
    found = training()
    figures = [speed_figure(found["cases"]), growth_figure(found["growth"]), roofline_figure(found["roofline"])]
    for number, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 10_000


def test_figures_need_no_torch():
    code = "import pefomed.reporting.throughput, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
