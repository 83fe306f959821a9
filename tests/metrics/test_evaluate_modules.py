"""The metrics of Hugging Face evaluate: by import, by evaluate.load of the folder, combined; no network, no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pefomed.metrics import exact_match
from pefomed.metrics.coco import score_corpus
from pefomed.metrics.likert import likert_scores
from pefomed.metrics.vqa import token_scores

REPOSITORY = Path(__file__).parents[2]
NAMES = {
    "exact_match_medical": "ExactMatchMedical",
    "token_overlap": "TokenOverlap",
    "wasm": "Wasm",
    "caption_scores_coco": "CaptionScoresCoco",
}
PREDICTIONS = ["a left lung", "3.5cm", "yes it is", "no", "the heart the heart"]
REFERENCES = ["left lung", "3.5 cm", "yes", "yes", "heart"]
CLUSTERS = ["x", "x", "y", "z", "z"]
LEVELS = [4, 3, 0, 4, 2]
SEVERAL = [["lung, left", "left lung"], ["3.5 cm"], ["yes", "yes it is", "it is"], ["yes"], ["heart", "the heart"]]

# The modules are loaded where no connection can be opened, and as if torch and transformers were not installed, for
# evaluate loads them where they are, which takes many times as long.
PRELUDE = """
import json, os, socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def refuse(*arguments, **keywords):
    raise AssertionError("opened a connection")

sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import evaluate
import pefomed.metrics.evaluate_modules as modules

folder = os.path.dirname(modules.__file__)
given = json.load(sys.stdin)
texts = {"predictions": given["predictions"], "references": given["references"]}
"""
SCRIPT = """
loaded = {name: evaluate.load(os.path.join(folder, name)) for name in given["names"]}
imported = {name: getattr(modules, cls)() for name, cls in given["names"].items()}
found = {"classes": {name: type(metric).__name__ for name, metric in loaded.items()}}
found["copied"] = [type(metric).__module__.startswith("evaluate_modules.metrics.") for metric in loaded.values()]
clusters = given["clusters"]
quick = {"ptb": False, "meteor": False}
for how, metrics in (("load", loaded), ("import", imported)):
    found[how] = {
        "exact_match_medical": metrics["exact_match_medical"].compute(**texts, clusters=clusters),
        "token_overlap": metrics["token_overlap"].compute(**texts, clusters=clusters),
        "repaired": metrics["token_overlap"].compute(**texts, normaliser="repaired"),
        "wasm": metrics["wasm"].compute(predictions=given["levels"], clusters=clusters),
        "caption_scores_coco": metrics["caption_scores_coco"].compute(**texts, **quick),
        "several": metrics["caption_scores_coco"].compute(
            predictions=given["predictions"], references=given["several"], **quick
        ),
    }
pair = [loaded["exact_match_medical"], imported["token_overlap"]]
found["combined"] = evaluate.combine(pair).compute(**texts, clusters=clusters)
for prediction, reference in zip(given["predictions"], given["references"]):
    loaded["exact_match_medical"].add(prediction=prediction, reference=reference)
found["added"] = loaded["exact_match_medical"].compute(clusters=clusters)
found["errors"] = []
for arguments in ({"predictions": [4, 2.5]}, {"predictions": [7]}, {"predictions": [1, 2], "clusters": ["a"]}):
    try:
        modules.Wasm().compute(**arguments)
    except ValueError as error:
        found["errors"].append(str(error))
try:
    modules.ExactMatchMedical().compute(**texts, clusters=["a"])
except ValueError as error:
    found["errors"].append(str(error))
found["torch"] = "torch" in sys.modules
print(json.dumps(found))
"""
# Java takes long to start, so the function's own result is taken down while the metric calls it.
FULL = """
metric = evaluate.load(os.path.join(folder, "caption_scores_coco"))
script, calls = sys.modules[type(metric).__module__], []
scored = script.score_corpus

def score_corpus(*arguments, **keywords):
    result = scored(*arguments, **keywords)
    calls.append({"keywords": keywords, "corpus": result.corpus})
    return result

script.score_corpus = score_corpus
print(json.dumps({"metric": metric.compute(**texts), "calls": calls}))
"""


def run(script: str, folder: Path) -> dict:
    caches = {name: str(folder / name) for name in ("HF_HOME", "HF_MODULES_CACHE", "HF_METRICS_CACHE")}
    environment = {**os.environ, **caches, "HF_HUB_OFFLINE": "1", "USE_TORCH": "0", "PYTHONPATH": str(REPOSITORY)}
    given = {"names": NAMES, "predictions": PREDICTIONS, "references": REFERENCES, "clusters": CLUSTERS}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        input=json.dumps({**given, "levels": LEVELS, "several": SEVERAL}),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    return run(SCRIPT, tmp_path_factory.mktemp("evaluate"))


def rows() -> list[dict]:
    return [
        {"id": str(at), "task": "vqa", "prediction": one, "answer": other, "group": cluster}
        for at, (one, other, cluster) in enumerate(zip(PREDICTIONS, REFERENCES, CLUSTERS, strict=True))
    ]


def test_folders_load_as_copies_of_the_right_classes(found):
    assert found["classes"] == NAMES
    assert all(found["copied"])
    assert found["torch"] is False


@pytest.mark.parametrize("how", ["load", "import"])
def test_results_are_those_of_the_functions(found, how):
    result = found[how]
    for key, normaliser in (("exact_match", "medvqa"), ("exact_match_repaired", "repaired")):
        expected = exact_match(rows(), normaliser)["exact_match"]
        assert result["exact_match_medical"][key] == expected["overall"]
        assert result["exact_match_medical"]["ci95"][key] == expected["ci95"]["overall"]
    assert result["exact_match_medical"]["n"] == result["token_overlap"]["n"] == 5
    for key in ("token_recall", "token_precision", "token_f1"):
        assert result["token_overlap"][key] == token_scores(rows())[key]["overall"]
        assert result["token_overlap"]["ci95"][key] == token_scores(rows())[key]["ci95"]["overall"]
        assert result["repaired"][key] == token_scores(rows(), "repaired")[key]["overall"]
    assert result["repaired"]["token_f1"] > result["token_overlap"]["token_f1"]
    expected = likert_scores(LEVELS, CLUSTERS)
    assert result["wasm"]["wasm"] == expected["wasm"]["value"] == 2.6
    assert result["wasm"]["ci95"]["wasm"] == expected["wasm"]["ci95"]
    assert result["wasm"]["counts"] == expected["counts"]


@pytest.mark.parametrize("how", ["load", "import"])
def test_caption_scores_with_one_and_with_several_references(found, how):
    single = score_corpus(PREDICTIONS, [[text] for text in REFERENCES], ptb=False, meteor=False).corpus
    assert found[how]["caption_scores_coco"] == {**single, "n": 5}
    several = score_corpus(PREDICTIONS, SEVERAL, ptb=False, meteor=False).corpus
    assert found[how]["several"] == {**several, "n": 5}
    assert several["rouge_l"] > single["rouge_l"]


def test_combined_and_added_one_by_one(found):
    alone = found["load"]
    combined = found["combined"]
    assert combined["exact_match"] == alone["exact_match_medical"]["exact_match"]
    assert combined["token_f1"] == alone["token_overlap"]["token_f1"]
    assert combined["exact_match_medical_ci95"] == alone["exact_match_medical"]["ci95"]
    assert combined["token_overlap_n"] == 5
    assert found["added"] == alone["exact_match_medical"]


def test_mistakes_are_told_in_one_line(found):
    starts = ("scores, number 2: found 2.5", "scores, number 1: found 7", "values has shape (2,)", "found 1 clusters")
    assert len(found["errors"]) == 4
    for error, start in zip(found["errors"], starts, strict=True):
        assert error.startswith(start) and "\n" not in error


def test_scripts_import_one_module_a_line_and_no_metric_class():
    for name in NAMES:
        path = REPOSITORY / "pefomed" / "metrics" / "evaluate_modules" / name / f"{name}.py"
        imports = [line for line in path.read_text("utf-8").splitlines() if line.startswith(("import ", "from "))]
        # evaluate reads imports by a regular expression that takes a comma for part of the name.
        assert imports and not any("," in line for line in imports if line.startswith("import "))
        assert not any(line.startswith("from evaluate") for line in imports)


@pytest.mark.slow
def test_caption_scores_with_tokenizer_and_meteor(tmp_path):
    found = run(FULL, tmp_path)
    assert [call["keywords"] for call in found["calls"]] == [{"ptb": True, "meteor": True}]
    assert found["metric"] == {**found["calls"][0]["corpus"], "n": 5}
    assert 0.0 < found["metric"]["meteor_java15"] < 1.0
