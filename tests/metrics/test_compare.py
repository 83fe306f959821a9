"""Paired comparisons of two runs: tests against closed forms and simulation, pairing by id, and warnings."""

import math

import numpy as np
import pytest
from scipy import stats

from pefomed.metrics.bootstrap import cluster_bootstrap
from pefomed.metrics.coco import score_corpus
from pefomed.metrics.compare import compare_runs, compare_values, format_comparison, mcnemar_test
from pefomed.predictions import write_predictions


def row(name, prediction, answer="yes", **others):
    return {"id": name, "task": "vqa", "prediction": prediction, "answer": answer, "answer_type": "closed", **others}


def runs(only_first, only_second, both=30, neither=10):
    """Two runs with so many answers right in one, the other, both and neither."""
    right = [(1, 0)] * only_first + [(0, 1)] * only_second + [(1, 1)] * both + [(0, 0)] * neither
    return tuple([row(str(at), "yes" if pair[side] else "no") for at, pair in enumerate(right)] for side in (0, 1))


def test_mcnemar_exact_is_the_binomial_test():
    result = compare_runs(*runs(3, 12))
    found = result["mcnemar"]
    assert (found["only_first"], found["only_second"], found["method"]) == (3, 12, "exact binomial")
    assert found["p_value"] == pytest.approx(stats.binomtest(3, 15).pvalue, abs=1e-12)
    assert result["difference"] == pytest.approx(100 * 9 / 55)
    assert (result["n"], result["discordant"], result["warning"]) == (55, 15, None)


def test_mcnemar_with_many_discordant_pairs_is_chi_squared():
    first, second = runs(20, 40)
    found = compare_runs(first, second)["mcnemar"]
    statistic = (abs(20 - 40) - 1) ** 2 / 60
    assert found["method"] == "chi-squared with continuity correction"
    assert found["statistic"] == pytest.approx(statistic)
    assert found["p_value"] == pytest.approx(stats.chi2.sf(statistic, 1))
    assert mcnemar_test([1, 1, 0], [1, 1, 0])["p_value"] == 1.0


def test_interval_is_the_bootstrap_of_paired_differences():
    first, second = [0.1, 0.4, 0.3, 0.9], [0.2, 0.4, 0.8, 0.7]
    result = compare_values(first, second, ["a", "a", "b", "c"])
    differences = np.subtract(second, first)
    assert result["ci95"] == cluster_bootstrap(differences, ["a", "a", "b", "c"]).to_json()
    assert result["difference"] == pytest.approx(differences.mean())
    assert result["mcnemar"] is None
    assert (result["n"], result["clusters"], result["discordant"]) == (4, 3, 3)
    assert result == compare_values(first, second, ["a", "a", "b", "c"])


def test_permutation_agrees_with_the_signed_sums_of_all_swaps():
    differences = np.array([3.0, 1.0, -2.0, 4.0, 5.0, 1.0, 2.0, 6.0])
    signs = np.array(np.meshgrid(*[[1, -1]] * 8)).reshape(8, -1)
    exact = np.mean(np.abs(differences @ signs) >= abs(differences.sum()) - 1e-9)
    found = compare_values(np.zeros(8), differences, n_resamples=20_000)["p_value"]
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_clustering_takes_away_what_mcnemar_claims():
    # Ten images whose six questions rise and fall together: sixty items, but only ten independent differences.
    first = [row(f"{i}-{q}", "no", group=str(i)) for i in range(10) for q in range(6)]
    second = [row(f"{i}-{q}", "yes" if i < 4 else "no", group=str(i)) for i in range(10) for q in range(6)]
    result = compare_runs(first, second)
    assert result["mcnemar"]["p_value"] < 1e-6
    assert result["p_value"] > 0.1
    assert result["ci95"][0] <= 10
    assert result["clusters"] == 10
    assert "only 10 clusters" in result["warning"]
    assert "takes items for independent" in format_comparison(result)


def test_smallest_difference_is_found_in_four_of_five_repetitions():
    generator = np.random.default_rng(0)
    sample = generator.normal(0.0, 1.0, 400)
    result = compare_values(np.zeros(400), sample, list(range(400)))
    smallest = result["smallest_difference"]
    assert smallest == pytest.approx(2.8016 * sample.std(ddof=1) / 20, rel=1e-3)
    power = np.mean(
        [stats.ttest_1samp(generator.normal(smallest, sample.std(), 400), 0.0).pvalue < 0.05 for _ in range(400)]
    )
    assert 0.73 < power < 0.87


def test_clusters_widen_the_smallest_difference():
    differences = np.repeat([1.0, -1.0] * 15, 4)
    alone = compare_values(np.zeros(120), differences)["smallest_difference"]
    clustered = compare_values(np.zeros(120), differences, np.repeat(range(30), 4).tolist())["smallest_difference"]
    assert clustered == pytest.approx(2 * alone, rel=0.03)


def test_too_few_differences_warn_with_what_would_show():
    result = compare_runs(*runs(1, 4))
    assert result["warning"].startswith("too few to tell: only 5 items differ (below 10); only a difference of ")
    assert f"{result['smallest_difference']:.3g}" in result["warning"]
    same = compare_runs(*runs(0, 0))
    assert same["smallest_difference"] is None and same["p_value"] == 1.0
    assert "no difference could be shown" in same["warning"]
    assert same["warning"] in format_comparison(same)
    assert compare_values([1.0, 2.0], [2.0, 1.0], ["a", "a"])["ci95"] is None


def test_pairs_by_id_and_not_by_place(tmp_path):
    first, second = runs(2, 14)
    paths = [write_predictions(tmp_path / f"{at}.jsonl", rows) for at, rows in enumerate((first, second[::-1]))]
    assert compare_runs(*paths) == compare_runs(first, second)


def test_missing_ids_are_named_or_counted():
    first, second = runs(2, 14)
    with pytest.raises(ValueError, match=r"the second run lacks 4 ids that the other has: '0', '1', '2', \.\.\.;"):
        compare_runs(first, second[4:])
    with pytest.raises(ValueError, match=r"the first run lacks 1 ids that the other has: '55'"):
        compare_runs(first[:-1], second)
    result = compare_runs(first[:-1], second[4:], allow_missing=True)
    assert result["missing"] == {"first": 1, "second": 4}
    assert result["n"] == 51
    assert "4 items the second lacks" in format_comparison(result)
    with pytest.raises(ValueError, match="no id in common"):
        compare_runs(first[:1], second[1:], allow_missing=True)


def test_closed_accuracy_is_compared_over_closed_rows():
    first = [row("1", "no"), row("2", "yes, there is"), row("3", "lung", "liver", answer_type="open")]
    second = [row("1", "yes indeed"), row("2", "yes"), row("3", "liver", "liver", answer_type="open")]
    result = compare_runs(first, second, "closed_accuracy")
    assert (result["n"], result["first"], result["second"]) == (2, 50.0, 100.0)
    assert compare_runs(first, second, "token_f1")["n"] == 3
    with pytest.raises(ValueError, match="applies to none of the 1 items"):
        compare_runs(first[2:], second[2:], "closed_accuracy")


def test_captions_are_compared_text_by_text():
    answers = ["the lungs are clear", "a large mass in the left lung", "normal heart size"]
    texts = [["the lungs are clear", "a mass", "normal"], ["lungs", "a large mass in the left lung", "normal heart"]]
    first, second = (
        [
            {"id": str(at), "task": "caption", "prediction": text, "answer": answer}
            for at, (text, answer) in enumerate(zip(side, answers, strict=True))
        ]
        for side in texts
    )
    result = compare_runs(first, second, "rouge_l")
    # Without marks and capitals the tokenizer changes nothing.
    true = [[answer] for answer in answers]
    expected = [score_corpus(side, true, ptb=False, meteor=False).corpus["rouge_l"] for side in texts]
    assert (result["first"], result["second"]) == pytest.approx(expected)
    assert result["mcnemar"] is None


@pytest.mark.parametrize(
    ("change", "score", "message"),
    [
        ({"answer": "maybe"}, "exact_match", "id '1': 'answer' differs between the first .* .'yes' and 'maybe'."),
        ({"task": "report"}, "exact_match", "id '1': 'task' differs"),
        ({}, "rouge_l", "id '0': score 'rouge_l' does not fit task 'vqa'"),
        ({}, "bleu_4", "score is 'bleu_4'; it must be one of exact_match"),
    ],
)
def test_mistakes(change, score, message):
    first, second = runs(1, 1)
    second[1] = {**second[1], **change}
    with pytest.raises(ValueError, match=message):
        compare_runs(first, second, score)


def test_mistaken_values():
    with pytest.raises(ValueError, match="found 2 and 1 scores and 2 clusters"):
        compare_values([1, 2], [1])
    with pytest.raises(ValueError, match="found 0 and 0 scores"):
        compare_values([], [])
    with pytest.raises(ValueError, match="NaN"):
        compare_values([1, float("nan")], [1, 2])


def test_groups_come_from_whichever_run_has_them():
    first, second = runs(4, 12)
    grouped = [{**one, "group": int(one["id"]) // 5} for one in second]
    assert compare_runs(first, grouped)["clusters"] == compare_runs(grouped, first)["clusters"] == 12


def test_answers_of_a_credentialed_set_are_not_told() -> None:
    first = [{"id": "1", "task": "report", "answer": "secret one", "prediction": "x", "dataset": "mimic_cxr"}]
    second = [{**first[0], "answer": "secret two"}]
    with pytest.raises(ValueError, match="'answer' differs") as refused:
        compare_runs(first, second, "rouge_l")
    assert "secret" not in str(refused.value)
