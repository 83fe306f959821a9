"""Agreement: published worked examples, second libraries, intervals, and ratings that no measure can be made of."""

import json
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from pefomed.human import agreement_measures as measures
from pefomed.human.agreement import agreement_scores
from pefomed.human.agreement_estimates import bland_altman, draws_of, fleiss, icc
from pefomed.metrics.verdicts import Verdict

MISSING = np.nan
# Fleiss 1971, Table 1: how many of six psychiatrists gave each of five diagnoses to each of 30 patients, a digit each.
PATIENTS = (
    *(60, 3003, 1401, 6, 3030, 20400, 402, 20310, 20040, 6, 10050, 11040, 3300, 10050, 2031),
    *(501, 30012, 51000, 2040, 10203, 6, 1050, 2013, 20040, 10041, 5010, 40002, 2040, 10500, 6),
)
# Krippendorff 2011: four observers, twelve units, five values.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, MISSING, MISSING, MISSING],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, MISSING, 3],
        [MISSING, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, MISSING],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, MISSING],
    ]
)
# Shrout and Fleiss 1979, Table 2: six targets, four judges.
TARGETS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)
# Bland and Altman 1986: peak flow of 17 subjects (l/min), by the Wright meter and by the mini meter.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427.0])
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451.0])


def simulated(n_items=60, n_raters=4, k=5, missing=0.0, seed=0):
    """Ratings (items, raters) around a true level, some of them missing."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(k, size=(n_items, 1))
    noise = generator.integers(-1, 2, size=(n_items, n_raters))
    scores = np.clip(truth + noise, 0, k - 1).astype(float)
    scores[generator.random(scores.shape) < missing] = MISSING
    return scores


def verdicts(scores, name="rater {}"):
    return [
        Verdict(f"q{i}", name.format(j + 1), int(score))
        for i, line in enumerate(scores)
        for j, score in enumerate(line)
        if not np.isnan(score)
    ]


def predictions(n, task="vqa", group=2, matching=lambda i: False):
    return [
        {"id": f"q{i}", "task": task, "answer": "lung", "prediction": "lung" if matching(i) else "heart"}
        | {"group": f"g{i // group}"}
        for i in range(n)
    ]


# Published worked examples


def test_fleiss_1971_psychiatric_diagnoses():
    counts = np.array([[int(digit) for digit in f"{line:05d}"] for line in PATIENTS])
    assert (counts.sum(axis=1) == 6).all() and len(counts) == 30
    scores = np.array([np.repeat(np.arange(5), line) for line in counts], dtype=float)
    estimate = fleiss(scores, 5, draws_of(np.arange(30), 200, 0))
    assert round(estimate["value"], 3) == 0.430
    assert estimate["n"] == 30 and estimate["dropped"] == 0
    closed = measures.fleiss_kappa(measures.fleiss_rows(scores, 5).sum(axis=0), 6)
    assert closed == pytest.approx(estimate["value"], abs=1e-12)


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_2011_observers(metric, published):
    import krippendorff

    rows = measures.coincidence_rows(OBSERVERS.T - 1, 5)
    value = float(measures.krippendorff_alpha(rows.sum(axis=0), 5, metric))
    assert round(value, 3) == published
    library = krippendorff.alpha(OBSERVERS, value_domain=range(1, 6), level_of_measurement=metric)
    assert value == pytest.approx(library, abs=1e-9)


def test_krippendorff_of_three_coders_with_many_gaps():
    # the worked example of the encyclopaedia's article on the coefficient: three coders, fifteen units
    coders = ["*****34121133*3", "1*213343*******", "**21344*21133*4"]
    table = [[MISSING if mark == "*" else float(mark) - 1 for mark in line] for line in coders]
    rows = measures.coincidence_rows(np.array(table).T, 4)
    found = [float(measures.krippendorff_alpha(rows.sum(axis=0), 4, metric)) for metric in ("nominal", "interval")]
    assert [round(value, 3) for value in found] == [0.691, 0.811]


def test_shrout_and_fleiss_1979_judges():
    single, average = icc(TARGETS, draws_of(np.arange(6), 200, 0))
    assert (round(single["value"], 2), round(average["value"], 2)) == (0.29, 0.62)
    assert single["ci95"][0] < single["value"] < single["ci95"][1]


def test_bland_and_altman_1986_peak_flow():
    found = bland_altman(WRIGHT, MINI, draws_of(np.arange(17), 500, 0))
    assert round(found["mean_difference"]["value"], 1) == -2.1
    assert round(found["sd"]["value"], 1) == 38.8
    # the paper takes two standard deviations, of rounded figures, and prints -79.7 and 75.5
    mean, sd = found["mean_difference"]["value"], found["sd"]["value"]
    assert (mean - 2 * sd, mean + 2 * sd) == pytest.approx((-79.7, 75.5), abs=0.1)
    assert found["low"]["value"] == pytest.approx(mean - 1.96 * sd)
    assert found["high"]["ci95"][0] < found["high"]["value"] < found["high"]["ci95"][1]
    assert found["mean_difference"]["n"] == 17


# Second libraries


@pytest.mark.parametrize("quadratic", [False, True])
def test_kappa_equals_statsmodels(quadratic):
    from statsmodels.stats.inter_rater import cohens_kappa

    scores = simulated(200, 2)
    table = measures.joint_rows(scores[:, 0], scores[:, 1], 5).sum(axis=0)
    weights = (np.subtract.outer(np.arange(5), np.arange(5)) ** 2).astype(float) if quadratic else None
    expected = cohens_kappa(table.reshape(5, 5), weights=weights, return_results=False)
    assert float(measures.kappa(table, 5, quadratic)) == pytest.approx(expected, abs=1e-9)
    found = agreement_scores(verdicts(scores), task="report", n_resamples=10)["among_raters"]
    name = "quadratic_kappa" if quadratic else "cohen_kappa"
    assert found[name]["value"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_icc_equals_pingouin():
    import pingouin

    scores = simulated(40, 5)
    long = pd.DataFrame(
        [(i, j, scores[i, j]) for i in range(40) for j in range(5)], columns=["item", "rater", "score"]
    )
    table = pingouin.intraclass_corr(long, "item", "rater", "score")["ICC"].to_numpy()
    found = agreement_scores(verdicts(scores), task="report", n_resamples=10)["among_raters"]
    # the second and fifth lines are two-way random effects, absolute agreement: of one rater, and of the mean
    assert found["icc_2_1"]["value"] == pytest.approx(table[1], abs=1e-6)
    assert found["icc_2_k"]["value"] == pytest.approx(table[4], abs=1e-6)


@pytest.mark.parametrize(("task", "k"), [("vqa", 2), ("report", 5)])
def test_values_equal_the_libraries_with_ratings_missing(task, k):
    import krippendorff
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    scores = simulated(80, 4, k, missing=0.1)
    found = agreement_scores(verdicts(scores), task=task, n_resamples=20)
    among = found["among_raters"]
    complete = ~np.isnan(scores).any(axis=1)
    table, _ = aggregate_raters(scores[complete].astype(int), n_cat=k)
    assert among["fleiss_kappa"]["value"] == pytest.approx(fleiss_kappa(table), abs=1e-9)
    assert among["fleiss_kappa"]["n"] == complete.sum() < 80
    assert among["fleiss_kappa"]["dropped"] == 80 - complete.sum()
    metric = "nominal" if k == 2 else "ordinal"
    library = krippendorff.alpha(scores.T, level_of_measurement=metric, value_domain=range(k))
    assert among[f"krippendorff_{metric}"]["value"] == pytest.approx(library, abs=1e-9)
    kappas, shares = [], []
    for a, b in combinations(range(4), 2):
        both = ~np.isnan(scores[:, [a, b]]).any(axis=1)
        kappas.append(cohen_kappa_score(scores[both, a], scores[both, b]))
        shares.append(100 * np.mean(scores[both, a] == scores[both, b]))
    assert among["cohen_kappa"]["value"] == pytest.approx(np.mean(kappas), abs=1e-9)
    assert (among["cohen_kappa"]["min"], among["cohen_kappa"]["max"]) == pytest.approx((min(kappas), max(kappas)))
    assert [pair["value"] for pair in among["cohen_kappa"]["pairs"]] == pytest.approx(kappas)
    assert among["percent_agreement"]["value"] == pytest.approx(np.mean(shares))
    n = found["n"]
    assert n["missing"] == np.isnan(scores).sum() and n["ratings"] == (~np.isnan(scores)).sum()


def test_the_closed_forms_of_resamples_equal_the_libraries():
    import krippendorff
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    scores = simulated(30, 3)
    clusters = np.arange(30) // 3
    draws = draws_of(clusters, 15, seed=4)
    tables = draws(measures.joint_rows(scores[:, 0], scores[:, 1], 5))
    sums = {"fleiss": draws(measures.fleiss_rows(scores, 5)), "alpha": draws(measures.coincidence_rows(scores, 5))}
    drawn = np.random.default_rng(4).integers(10, size=(15, 10))
    for i, picked in enumerate(drawn):
        again = np.concatenate([scores[clusters == cluster] for cluster in picked])
        expected = cohen_kappa_score(again[:, 0], again[:, 1], weights="quadratic")
        assert measures.kappa(tables, 5, quadratic=True)[i] == pytest.approx(expected, abs=1e-9)
        expected = fleiss_kappa(aggregate_raters(again.astype(int), n_cat=5)[0])
        assert measures.fleiss_kappa(sums["fleiss"], 3)[i] == pytest.approx(expected, abs=1e-9)
        expected = krippendorff.alpha(again.T, level_of_measurement="ordinal", value_domain=range(5))
        assert measures.krippendorff_alpha(sums["alpha"], 5, "ordinal")[i] == pytest.approx(expected, abs=1e-9)
        assert measures.icc_2(draws(measures.anova_rows(scores)))[0][i] == pytest.approx(
            float(measures.icc_2(measures.anova_rows(again).sum(axis=0))[0]), abs=1e-9
        )


# Intervals


def test_intervals_enclose_and_widen_with_clusters():
    once = simulated(40, 3)
    scores = np.repeat(once, 4, axis=0)
    rows = predictions(160, "report", group=4)
    alone = agreement_scores(verdicts(scores), task="report")["among_raters"]
    clustered = agreement_scores(verdicts(scores), predictions=rows, task="report")["among_raters"]
    for name, entry in clustered.items():
        low, high = entry["ci95"]
        assert low < entry["value"] < high, name
        assert entry["value"] == pytest.approx(alone[name]["value"], abs=1e-12)
        # four copies of every item tell no more than one: the interval must be about twice as wide
        assert high - low > 1.6 * (alone[name]["ci95"][1] - alone[name]["ci95"][0]), name


def test_the_same_seed_gives_the_same_result():
    ratings = verdicts(simulated(30, 3, 2))
    first, again = (agreement_scores(ratings, task="vqa", n_resamples=50, seed=seed) for seed in (1, 1))
    assert first == again != agreement_scores(ratings, task="vqa", n_resamples=50, seed=2)


def test_one_image_gives_values_without_intervals():
    rows = predictions(30, group=30)
    found = agreement_scores(verdicts(simulated(30, 3, 2)), predictions=rows, task="vqa")["among_raters"]
    assert all(entry["value"] is not None and entry["ci95"] is None for entry in found.values())


# The judge and exact match


def test_the_judge_against_each_rater_and_their_majority():
    scores = simulated(50, 3, 2)
    repeats = np.column_stack([scores[:, 0], scores[:, 0], 1 - scores[:, 0]])
    found = agreement_scores(
        verdicts(scores), verdicts(repeats, "repeat {}"), task="vqa", judge_name="offline stand-in"
    )
    judge = found["judge"]
    assert judge["name"] == "offline stand-in" and judge["n"] == 50
    first = judge["by_rater"]["rater 1"]["percent_agreement"]
    assert (first["value"], first["min"], first["max"]) == (pytest.approx(200 / 3), 0.0, 100.0)
    majority = (scores.sum(axis=1) > 1.5).astype(float)
    equal = [100 * np.mean(majority == repeats[:, j]) for j in range(3)]
    assert judge["consensus"]["percent_agreement"]["value"] == pytest.approx(np.mean(equal))
    assert judge["among_repeats"]["percent_agreement"]["pairs"][0]["value"] == 100.0
    assert np.sum(judge["confusion"]) == 50 * 9
    assert "exact_match" not in found


def test_ties_have_no_majority_and_are_counted():
    ratings = verdicts(np.array([[0, 1], [1, 1], [0, 0], [1, 1]], dtype=float))
    judge = verdicts(np.array([[0], [1], [0], [0]], dtype=float), "repeat {}")
    consensus = agreement_scores(ratings, judge, task="vqa", n_resamples=50)["judge"]["consensus"]
    assert consensus["ties"] == 1
    assert (consensus["percent_agreement"]["n"], consensus["percent_agreement"]["value"]) == (
        3,
        pytest.approx(200 / 3),
    )


def test_reports_compare_means_and_medians():
    scores = simulated(60, 4)
    repeats = np.minimum(scores[:, :2] + 1, 4)
    means = agreement_scores(verdicts(scores), verdicts(repeats, "repeat {}"), task="report")["judge"]["means"]
    difference = repeats.mean(axis=1) - scores.mean(axis=1)
    limits = means["bland_altman"]
    assert limits["mean_difference"]["value"] == pytest.approx(difference.mean())
    assert limits["high"]["value"] == pytest.approx(difference.mean() + 1.96 * difference.std(ddof=1))
    assert limits["mean_difference"]["ci95"][0] > 0, "the judge gives one level more"
    assert means["points"]["judge"] == repeats.mean(axis=1).tolist() and len(means["points"]["id"]) == 60
    assert measures.consensus(
        np.array([[0, 1, 4, 4], [2, 2, 3, MISSING], [1, MISSING, MISSING, MISSING]]), 5
    ).tolist() == [
        1.0,
        2.0,
        1.0,
    ]


def test_exact_match_counts_what_it_accepts_as_accepted_by_all():
    # exact match accepts every second prediction; only the others were rated, as in the paper
    rows = predictions(40, group=1, matching=lambda i: i % 2)
    ratings = [one for one in verdicts(simulated(40, 3, 2)) if int(one.id[1:]) % 2 == 0]
    found = agreement_scores(ratings, predictions=rows, task="vqa")["exact_match"]
    rejected = np.mean([one.score == 0 for one in ratings])
    assert found["rated"]["n"] == 20 and found["rated"]["mean"]["cohen_kappa"]["value"] == 0.0
    assert found["rated"]["mean"]["percent_agreement"]["value"] == pytest.approx(100 * rejected)
    assert found["all"]["n"] == 40 and found["all"]["accepted_unrated"] == 20
    assert found["all"]["mean"]["percent_agreement"]["value"] == pytest.approx(50 + 50 * rejected)
    assert found["all"]["mean"]["cohen_kappa"]["value"] > 0.2
    assert found["all"]["confusion"][0][1] == 0, "a prediction that exact match accepts was rejected"


def test_files_are_read_and_the_judge_is_named_by_them(tmp_path):
    ratings, judge = tmp_path / "ratings.jsonl", tmp_path / "judge.jsonl"
    rated = [{"id": one.id, "rater": one.rater, "score": one.score} for one in verdicts(simulated(20, 2, 2))]
    ratings.write_text("".join(json.dumps(one | {"sheet": "s", "cell": "E2"}) + "\n" for one in rated))
    common = {"model": "offline stand-in", "reply": "", "prompt_sha256": "0" * 64, "usage": None, "error": None}
    lines = [{"id": f"q{i}", "repeat": 1, "score": i % 2, "status": "ok", **common} for i in range(19)]
    lines.append({**lines[0], "id": "q19", "score": None, "status": "failed", "error": "no verdict in the reply"})
    judge.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = agreement_scores(ratings, judge, task="vqa", n_resamples=50)["judge"]
    assert (found["name"], found["n"], found["failed"]) == ("offline stand-in", 19, 1)
    json.dumps(found, allow_nan=False)


# Ratings that a measure cannot be made of


def test_equal_ratings_leave_kappas_undefined_and_say_why():
    for task in ("vqa", "report"):
        found = agreement_scores(verdicts(np.ones((12, 3))), task=task)["among_raters"]
        assert found.pop("percent_agreement")["value"] == 100.0
        for name, entry in found.items():
            assert entry["value"] is None and entry["ci95"] is None, name
            assert "every rating is the same" in entry["why"], name


def test_one_rater_still_meets_the_judge():
    scores = simulated(30, 1, 2)
    found = agreement_scores(verdicts(scores), verdicts(scores, "repeat {}"), task="vqa")
    assert {entry["value"] for entry in found["among_raters"].values()} == {None}
    assert {entry["why"] for entry in found["among_raters"].values()} == {"there is only one rater"}
    assert found["judge"]["by_rater"]["rater 1"]["cohen_kappa"]["value"] == 1.0


def test_raters_without_common_items():
    scores = np.array([[0, MISSING], [1, MISSING], [MISSING, 1], [MISSING, 0]])
    found = agreement_scores(verdicts(scores), task="report")
    assert found["n"] == {"items": 4, "rated_twice": 0, "rated_by_all": 0, "ratings": 4, "missing": 4}
    why = {name: entry["why"] for name, entry in found["among_raters"].items()}
    assert why["cohen_kappa"] == why["krippendorff_ordinal"] == "no item was rated by two raters"
    assert why["fleiss_kappa"] == "no item was rated by all 2 raters"
    assert why["icc_2_1"] == "fewer than two items were rated by all 2 raters"
    assert found["among_raters"]["icc_2_k"]["dropped"] == 4


def test_a_judge_of_other_items_is_told():
    judge = [Verdict("elsewhere", "repeat 1", 1)]
    found = agreement_scores(verdicts(simulated(5, 2, 2)), judge, task="vqa")["judge"]
    assert found["n"] == 0 and "no item has both" in found["why"]


def test_undefined_pairs_and_resamples_are_counted():
    scores = np.zeros((8, 3))
    scores[0, 2] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = agreement_scores(verdicts(scores), task="vqa", n_resamples=300)["among_raters"]
    assert found["cohen_kappa"]["undefined_pairs"] == 1 and found["cohen_kappa"]["value"] == 0.0
    # a resample without item q0 has nothing but zeros: about (7 / 8) ** 8, a third
    assert 60 < found["fleiss_kappa"]["undefined_resamples"] < 150


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ratings": []}, "ratings: there are no scores"),
        ({"ratings": [Verdict("q0", "a", 2)]}, "ratings: id 'q0', 'a': 'score' is 2; .* from 0 to 1"),
        ({"ratings": [Verdict("q0", "a", True)]}, "'score' is True"),
        ({"ratings": [Verdict("q0", "a", 1), Verdict("q0", "a", 0)]}, "id 'q0', 'a': there are two scores"),
        ({"judge": [Verdict("q0", "repeat 1", -1)]}, "judge: id 'q0', 'repeat 1': 'score' is -1"),
        ({"predictions": predictions(1, "report")}, "row 1: task 'report' is not 'vqa'"),
        ({"predictions": [{**predictions(1)[0], "id": "other"}]}, "id 'q0', 'a': no prediction has this id"),
        ({"predictions": []}, "there are no predictions"),
        ({"task": "caption"}, "task is 'caption'"),
        ({"n_resamples": 0}, "n_resamples is 0"),
    ],
)
def test_mistakes(given, message):
    arguments = {"ratings": [Verdict("q0", "a", 1)], "task": "vqa", **given}
    with pytest.raises(ValueError, match=message):
        agreement_scores(**arguments)
