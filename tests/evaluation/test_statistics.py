"""Statistics against SciPy and scikit-learn, coverage of the intervals, and rankings whose answer is
known."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medgan_jax.errors import UserError
from medgan_jax.evaluation import statistics as s


def test_summary_counts_undefined_cases():
    values = [1.0, 2.0, np.nan, 4.0, 10.0]
    summary = s.summarise(values)
    defined = np.array([1.0, 2.0, 4.0, 10.0])
    assert (summary.n, summary.n_undefined) == (4, 1)
    assert (summary.mean, summary.sd) == (pytest.approx(defined.mean()), pytest.approx(defined.std(ddof=1)))
    assert (summary.lower_quartile, summary.median, summary.upper_quartile) == tuple(
        np.percentile(defined, (25, 50, 75))
    )
    nothing = s.summarise([np.nan, np.nan])
    assert np.isnan(nothing.mean) and (nothing.n, nothing.n_undefined) == (0, 2)
    with pytest.raises(UserError, match="infinity"):
        s.summarise([1.0, np.inf])
    with pytest.raises(UserError, match="one number per case"):
        s.summarise([])


def test_patient_means_leave_out_undefined_cases_and_lost_patients():
    means, names = s.patient_means([1.0, 3.0, np.nan, 5.0, np.nan], ["b", "b", "b", "a", "c"])
    np.testing.assert_allclose(means, [5, 2])
    assert list(names) == ["a", "b"]


def interval(values, patients, seed=0, resamples=400, statistic=np.mean):
    return s.bootstrap_interval(
        values, patients=patients, statistic=statistic, resamples=resamples, confidence=0.9, seed=seed
    )


def test_bootstrap_draws_patients_and_is_wider_than_one_over_cases():
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 10)
    values = np.repeat(generator.normal(size=20), 10) + 0.1 * generator.normal(size=200)
    clustered, naive = interval(values, patients), interval(values, np.arange(200))
    ratio = (clustered.upper - clustered.lower) / (naive.upper - naive.lower)
    assert 2.0 < ratio < 4.5 and clustered.n_patients == 20
    assert interval(values, patients) == clustered != interval(values, patients, seed=1)
    general = interval(values, patients, statistic=lambda x: float(np.sum(x) / x.size))
    np.testing.assert_allclose((general.lower, general.upper), (clustered.lower, clustered.upper))
    with pytest.raises(UserError, match="at least 2"):
        interval([1.0, 2.0], ["a", "a"])
    with pytest.raises(UserError, match="as many patients"):
        interval([1.0, 2.0], ["a"])


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    generator, covered = np.random.default_rng(1), 0
    for trial in range(150):
        effects = generator.normal(size=25)
        values = np.repeat(effects, 3) + 0.5 * generator.normal(size=75)
        found = interval(values, np.repeat(np.arange(25), 3), seed=trial, resamples=200)
        covered += found.lower <= 0 <= found.upper
    assert 0.78 < covered / 150 < 0.96


@pytest.mark.parametrize("test", ["wilcoxon", "t", "permutation"])
def test_paired_tests_agree_with_scipy(test):
    generator = np.random.default_rng(2)
    first = generator.normal(size=11)
    second = first - 0.5 + 0.6 * generator.normal(size=11)
    expected = {
        "wilcoxon": stats.wilcoxon(first, second).pvalue,
        "t": stats.ttest_rel(first, second).pvalue,
        "permutation": _all_sign_flips(first - second),
    }[test]
    result = s.paired_test(first, second, patients=np.arange(11), test=test)
    assert result.p_value == pytest.approx(expected)
    assert result.difference == pytest.approx((first - second).mean())
    same = s.paired_test(first, first, patients=np.arange(11), test=test)
    assert same.p_value == 1.0
    first[0] = np.nan
    assert s.paired_test(first, second, patients=np.arange(11), test=test).n_undefined == 1


def _all_sign_flips(differences):
    flips = np.array(np.meshgrid(*[(1, -1)] * differences.size)).reshape(differences.size, -1)
    return np.mean(abs(differences @ flips) >= abs(differences.sum()) - 1e-12)


def test_permutation_test_of_many_patients_is_sampled_and_valid():
    generator = np.random.default_rng(3)
    p = [
        s.paired_test(
            generator.normal(size=30), generator.normal(size=30), patients=np.arange(30), test="permutation"
        ).p_value
        for _ in range(20)
    ]
    assert 0.2 < np.mean(p) < 0.8
    shifted = s.paired_test(np.arange(30) + 1.0, np.arange(30.0), patients=np.arange(30), test="permutation")
    assert shifted.p_value < 0.001
    with pytest.raises(UserError, match="test must be one of"):
        s.paired_test([1.0, 2.0], [1.0, 3.0], patients=[0, 1], test="z")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrections(p):
    bonferroni, holm, fdr = (
        s.correct_p_values(p, method=m) for m in ("bonferroni", "holm", "benjamini_hochberg")
    )
    assert (
        (holm <= bonferroni + 1e-12).all()
        and (fdr <= holm + 1e-12).all()
        and (holm >= np.array(p) - 1e-12).all()
    )
    np.testing.assert_allclose(fdr, stats.false_discovery_control(p))


def test_holm_of_a_textbook_case():
    np.testing.assert_allclose(
        s.correct_p_values([0.01, 0.04, 0.03, 0.005], method="holm"), [0.03, 0.06, 0.06, 0.02]
    )
    with pytest.raises(UserError):
        s.correct_p_values([1.2], method="holm")


def test_wilson_interval_of_fifty_in_a_hundred():
    np.testing.assert_allclose(s.wilson_interval(50, 100, confidence=0.95), (0.404, 0.596), atol=5e-4)
    assert s.wilson_interval(0, 10, confidence=0.95)[0] == pytest.approx(0, abs=1e-9)


def test_seeds_share_their_cases():
    values = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 100.0], [2.0, 3.0, 5.0]])
    summary = s.summarise_seeds(values)
    np.testing.assert_allclose(summary.seed_means, [1.5, 3.5, 2.5])
    assert (summary.mean, summary.sd, summary.minimum, summary.maximum) == (2.5, 1.0, 1.5, 3.5)
    assert (summary.n_seeds, summary.n_undefined) == (3, 1)
    assert np.isnan(s.summarise_seeds(values[:1]).sd)
    assert s.probability_of_improvement([2, 3], [1, 2], higher_is_better=True) == pytest.approx(0.875)
    assert s.probability_of_improvement([2, 3], [1, 2], higher_is_better=False) == pytest.approx(0.125)


def test_ranking_is_sure_of_large_differences_and_unsure_of_none():
    generator = np.random.default_rng(4)
    base = generator.normal(size=60)
    values = {
        "good": base + 2,
        "twin": base + 0.5 * generator.normal(size=60),
        "base": base + 0.5 * generator.normal(size=60),
    }
    options = {"patients": np.arange(60) // 2, "resamples": 1000, "confidence": 0.95, "seed": 0}
    ranking = s.rank_methods(values, higher_is_better=True, **options)
    assert ranking.names[int(np.argmin(ranking.ranks))] == "good"
    assert ranking.probability_best[0] == 1.0 and ranking.upper_ranks[0] == 1.0
    assert ranking.lower_ranks[1] <= 2 <= 3 <= ranking.upper_ranks[1] or ranking.lower_ranks[2] <= 2
    opposite = s.rank_methods(values, higher_is_better=False, **options)
    assert opposite.ranks[0] == 3 and opposite.probability_best.sum() == pytest.approx(1.0)
    equal = s.rank_methods({"a": base, "b": base}, higher_is_better=True, **options)
    np.testing.assert_allclose(equal.probability_best, 0.5)


def test_auc_intervals():
    generator = np.random.default_rng(5)
    labels = generator.random(200) < 0.4
    scores = generator.normal(size=200) + 1.2 * labels
    found = s.delong_interval(scores, labels, confidence=0.95)
    assert found.value == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))
    drawn = s.bootstrap_auc(scores, labels, patients=np.arange(200), resamples=500, confidence=0.95, seed=0)
    np.testing.assert_allclose((found.lower, found.upper), (drawn.lower, drawn.upper), atol=0.015)
    with pytest.raises(UserError, match="both classes"):
        s.bootstrap_auc(scores, 0 * labels, patients=np.arange(200), resamples=5, confidence=0.9, seed=0)


def test_mcnemar_is_a_binomial_test_of_the_disagreements():
    first = np.array([1] * 10 + [0] * 2 + [1] * 30)
    second = np.array([0] * 10 + [1] * 2 + [1] * 30)
    assert s.mcnemar(first, second) == pytest.approx(stats.binomtest(10, 12).pvalue)
    assert s.mcnemar(first, first) == 1.0


def test_ranking_over_seeds_takes_both_sources_of_chance():
    random = np.random.default_rng(6)
    cases = random.normal(size=40)

    def method(level, between, seeds):
        return level + between * random.normal(size=(seeds, 1)) + cases + 0.05 * random.normal(size=(seeds, 40))

    options = {"patients": np.arange(40) // 2, "resamples": 2000, "confidence": 0.95, "seed": 0}
    values = {"sure": method(1.0, 0.01, 5), "wide": method(0.0, 2.0, 5), "fixed": method(0.0, 0.0, 1)}
    found = s.rank_methods_over_seeds(values, higher_is_better=True, **options)
    assert found.n_seeds == (5, 5, 1) and found.n_patients == 20 and found.over == "seeds and patients"
    np.testing.assert_allclose(found.means, [np.mean(each) for each in values.values()])
    assert found.probability_best.sum() == pytest.approx(1)
    # Patients are drawn for all alike, so what differs between patients does not blur ranks; seeds do.
    assert found.probability_best[2] < 0.05
    width = found.upper - found.lower
    assert width[1] > 2 * width[0] and (found.lower <= found.means).all() and (found.means <= found.upper).all()
    lower = s.rank_methods_over_seeds(values, higher_is_better=False, **options)
    np.testing.assert_allclose(lower.ranks, 4 - found.ranks)


def test_ranking_over_one_seed_is_the_ranking_over_patients():
    random = np.random.default_rng(7)
    values = {name: random.normal(size=30) for name in "ab"}
    values["b"][3] = np.nan
    options = {"patients": np.arange(30) // 3, "higher_is_better": True}
    options |= {"resamples": 4000, "confidence": 0.9, "seed": 1}
    one = s.rank_methods(values, **options)
    many = s.rank_methods_over_seeds({name: each[None] for name, each in values.items()}, **options)
    np.testing.assert_allclose(many.means, one.means)
    np.testing.assert_allclose(many.probability_best, one.probability_best, atol=0.03)
    assert many.over == "patients" and many.n_patients == one.n_patients == 10


def test_seeds_alone_make_an_interval_that_their_bootstrap_has():
    values = {"a": np.tile([0.0, 1.0], (1, 1)), "b": np.full((1, 2), 0.5)}
    options = {"patients": np.arange(2), "higher_is_better": True, "resamples": 4000, "confidence": 0.95, "seed": 0}
    found = s.rank_methods_over_seeds(values, **options)
    # Two patients: both, either twice: the mean of `a` is 0, 0.5 or 1 with shares 1/4, 1/2, 1/4.
    assert found.probability_best[0] == pytest.approx(0.25 + 0.5 / 2, abs=0.03)
    options = {"higher_is_better": True, "resamples": 4000, "confidence": 0.95, "seed": 0}
    seeds = s.rank_seed_values({"a": [0.0, 1.0], "b": [0.5]}, **options)
    assert seeds.probability_best[0] == pytest.approx(0.5, abs=0.03) and seeds.over == "seeds"
    assert (seeds.lower[0], seeds.upper[0], seeds.n_seeds) == (0, 1, (2, 1))


def test_ranking_of_measures_of_whole_sets():
    random = np.random.default_rng(8)
    label = np.arange(60) % 2

    def runs(gap, seeds):
        return [{"score": random.normal(size=60) + gap * label, "label": label} for _ in range(seeds)]

    def area(values):
        return s.area_under_curve(values["score"], values["label"])

    found = s.rank_methods_over_seeds(
        {"good": runs(3, 3), "poor": runs(0, 3)}, patients=np.arange(60) // 2, higher_is_better=True,
        resamples=200, confidence=0.95, seed=0, statistic=area,
    )  # fmt: skip
    assert list(found.ranks) == [1, 2] and found.probability_best[0] == 1
    assert found.means[0] > 0.95 and found.lower[1] < 0.5 < found.upper[1]
    assert np.isnan(s.area_under_curve([1.0, 2.0], [1, 1]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"a": np.zeros((2, 4))}, "at least two methods"),
        ({"a": np.zeros((2, 4)), "b": np.zeros((2, 3))}, "values are"),
        ({"a": np.full((1, 4), np.nan), "b": np.zeros((2, 4))}, "no case is defined"),
        ({"a": np.full((1, 4), np.inf), "b": np.zeros((2, 4))}, "infinity"),
    ],
)
def test_rankings_over_seeds_that_cannot_be_made(values, words):
    options = {"higher_is_better": True, "resamples": 10, "confidence": 0.95, "seed": 0}
    with pytest.raises(UserError, match=words):
        s.rank_methods_over_seeds(values, patients=np.arange(4), **options)
