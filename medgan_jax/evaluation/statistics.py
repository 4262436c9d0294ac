"""From values per case to a line of a table: spread, intervals over patients, tests, seeds, rankings.

Cases of one patient are not independent. Every interval and test takes `patients`, the patient of each case,
and resamples or averages whole patients; for one case per patient pass the case numbers. Undefined values
(NaN) are left out and counted, never turned into 0. Randomness comes from `seed` alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from medgan_jax.errors import UserError


@dataclass(frozen=True)
class Summary:
    """Mean, sample SD, median and quartiles of the defined values, with how many there are and how many are
    not."""

    mean: float
    sd: float
    median: float
    lower_quartile: float
    upper_quartile: float
    n: int
    n_undefined: int


@dataclass(frozen=True)
class Interval:
    """A statistic with its confidence interval, over n patients."""

    value: float
    lower: float
    upper: float
    confidence: float
    n_patients: int


def _values(values, name: str = "values") -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim != 1 or values.size == 0:
        raise UserError(f"{name} must be one number per case, not shape {values.shape}")
    if np.isinf(values).any():
        raise UserError(
            f"{name} hold infinity, which has no mean: give undefined cases NaN, or a worst value"
        )
    return values


def summarise(values) -> Summary:
    """Summary of one value per case, `(N,)`: SD with n - 1 (NaN for one case), linear quartiles."""
    values = _values(values)
    defined = values[~np.isnan(values)]
    if not defined.size:
        return Summary(*(float("nan"),) * 5, 0, values.size)
    quartiles = np.percentile(defined, (50, 25, 75))
    sd = float(defined.std(ddof=1)) if defined.size > 1 else float("nan")
    return Summary(
        float(defined.mean()), sd, *map(float, quartiles), defined.size, values.size - defined.size
    )


def patient_means(values, patients) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the defined cases of every patient, and the patients in ascending order; without any case, no
    patient."""
    values, patients = _values(values), np.asarray(patients)
    if patients.shape != values.shape:
        raise UserError(f"{values.size} values need as many patients, got {patients.shape}")
    defined = ~np.isnan(values)
    names, index = np.unique(patients[defined], return_inverse=True)
    return np.bincount(index, values[defined]) / np.bincount(index), names


def bootstrap_interval(
    values,
    *,
    patients,
    statistic: Callable[[np.ndarray], float],
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Percentile bootstrap of `statistic` over patients: a drawn patient brings all of its cases (Field and
    Welsh 2007).

    `values` is `(N,)`, NaN left out; `statistic` takes the drawn cases' values, for instance `np.mean`.
    Drawing cases instead of patients makes intervals too narrow by the square root of the cases per patient.
    """
    values, patients = _values(values), np.asarray(patients)
    if patients.shape != values.shape:
        raise UserError(f"{values.size} values need as many patients, got {patients.shape}")
    if not 0 < confidence < 1 or resamples < 1:
        raise UserError("confidence must lie between 0 and 1, and resamples be at least 1")
    defined = ~np.isnan(values)
    names, index = np.unique(patients[defined], return_inverse=True)
    if names.size < 2:
        raise UserError(
            f"an interval over patients needs at least 2 of them with defined values, got {names.size}"
        )
    groups = [values[defined][index == i] for i in range(names.size)]
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, names.size, (resamples, names.size))
    if statistic is np.mean:
        sums, counts = np.array([g.sum() for g in groups]), np.array([g.size for g in groups])
        sampled = sums[draws].sum(1) / counts[draws].sum(1)
    else:
        sampled = np.array([statistic(np.concatenate([groups[i] for i in draw])) for draw in draws])
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(sampled, (tail, 100 - tail))
    return Interval(float(statistic(values[defined])), float(lower), float(upper), confidence, names.size)


def wilson_interval(successes: int, n: int, *, confidence: float) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); sound for small n and for 0 or n successes."""
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1, not {confidence}")
    if not 0 <= successes <= n or n < 1:
        raise UserError(f"{successes} of {n} is no proportion")
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison of two methods over n patients: mean difference first - second, and its p-value."""

    difference: float
    p_value: float
    n_patients: int
    n_undefined: int


def paired_test(first, second, *, patients, test: str, seed: int = 0) -> PairedTest:
    """Paired test of two methods on the same cases, `(N,)` each, with one difference per patient.

    `test` is 'wilcoxon' (signed rank), 't' (normal differences) or 'permutation' (sign flips: exact up to 12
    patients, 9999 draws from `seed` beyond). Cases undefined for either method are left out of both, and
    counted.
    """
    first, second = _values(first, "the first method's values"), _values(second, "the second method's values")
    if first.shape != second.shape:
        raise UserError(f"paired methods need the same cases: {first.size} against {second.size}")
    differences, names = patient_means(first - second, patients)
    if names.size < 2:
        raise UserError(f"a paired test needs at least 2 patients with both values, got {names.size}")
    tests = {"wilcoxon": _wilcoxon, "t": _t_test, "permutation": lambda d: _sign_flips(d, seed)}
    if test not in tests:
        raise UserError(f"test must be one of {', '.join(sorted(tests))}, not {test!r}")
    p_value = 1.0 if not differences.any() else tests[test](differences)
    undefined = int(np.isnan(first - second).sum())
    return PairedTest(float(differences.mean()), float(p_value), names.size, undefined)


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences).pvalue)


def _t_test(differences: np.ndarray) -> float:
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _sign_flips(differences: np.ndarray, seed: int) -> float:
    n = differences.size
    if n <= 12:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        extra = 0
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), (9999, n))
        extra = 1  # the data themselves are one of the arrangements
    sums, observed = np.abs(signs @ differences), abs(differences.sum())
    hits = np.sum(sums >= observed * (1 - 1e-12))
    return float((hits + extra) / (len(signs) + extra))


def correct_p_values(p_values, *, method: str) -> np.ndarray:
    """p-values corrected for the number of comparisons, `(N,)`, in the order given.

    `method`: 'bonferroni', 'holm' (family-wise error, uniformly stronger than Bonferroni) or
    'benjamini_hochberg' (false discovery rate).
    """
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UserError("p-values must be a list of numbers in [0, 1]")
    if method == "bonferroni":
        return np.minimum(p * p.size, 1)
    if method == "benjamini_hochberg":
        return stats.false_discovery_control(p)
    if method != "holm":
        raise UserError(f"method must be bonferroni, holm or benjamini_hochberg, not {method!r}")
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


@dataclass(frozen=True)
class SeedSummary:
    """Training seeds: each one's mean over cases, and the mean, SD, extremes and number of those means."""

    seed_means: np.ndarray
    mean: float
    sd: float
    minimum: float
    maximum: float
    n_seeds: int
    n_undefined: int


def summarise_seeds(values) -> SeedSummary:
    """Summary over training seeds of `(seeds, cases)`: the SD is between seeds, not between cases.

    A case counts only where every seed defines it, so that all means are over the same cases; the others are
    counted in `n_undefined`. Fewer than 3 seeds say little; one has no SD.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or 0 in values.shape or np.isinf(values).any():
        raise UserError(f"values must be (seeds, cases) without infinity, not shape {values.shape}")
    shared = ~np.isnan(values).any(axis=0)
    if not shared.any():
        raise UserError("no case is defined for every seed")
    means = values[:, shared].mean(axis=1)
    sd = float(means.std(ddof=1)) if means.size > 1 else float("nan")
    undefined = int((~shared).sum())
    return SeedSummary(
        means, float(means.mean()), sd, float(means.min()), float(means.max()), means.size, undefined
    )


def probability_of_improvement(first, second, *, higher_is_better: bool) -> float:
    """P(a seed of the first method beats a seed of the second), ties half: 0.5 is no difference (Agarwal et
    al. 2021)."""
    first, second = _values(first, "the first method's seeds"), _values(second, "the second method's seeds")
    difference = (first[:, None] - second[None, :]) * (1 if higher_is_better else -1)
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


@dataclass(frozen=True)
class Ranking:
    """For every method, in the order given: mean value, rank (1 is best), probability of being best, rank
    interval."""

    names: tuple[str, ...]
    means: np.ndarray
    ranks: np.ndarray
    probability_best: np.ndarray
    lower_ranks: np.ndarray
    upper_ranks: np.ndarray
    n_patients: int


def rank_methods(
    values: dict[str, Sequence[float]],
    *,
    patients,
    higher_is_better: bool,
    resamples: int,
    confidence: float,
    seed: int,
) -> Ranking:
    """Methods ranked by their mean over patients, with the bootstrap's word on how sure that is.

    `values` maps a method's name to its `(N,)` values on the same cases. All methods are resampled with the
    same patients (Maier-Hein et al. 2018). Cases undefined for any method are left out for all; ties share
    probability.
    """
    names = tuple(values)
    if len(names) < 2:
        raise UserError("a ranking needs at least two methods")
    rows = [_values(values[name], name) for name in names]
    if len({row.size for row in rows}) > 1:
        raise UserError(f"all methods need the same cases, not {[row.size for row in rows]} of them")
    if resamples < 1 or not 0 < confidence < 1:
        raise UserError("confidence must lie between 0 and 1, and resamples be at least 1")
    table = np.stack(rows)
    table[:, np.isnan(table).any(axis=0)] = np.nan
    means = np.stack([patient_means(row, patients)[0] for row in table])
    n = means.shape[1]
    if n < 2:
        raise UserError(f"a ranking needs at least 2 patients that every method defines, got {n}")
    sign = -1.0 if higher_is_better else 1.0
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    sampled = sign * means[:, draws].mean(axis=2)
    best = sampled == sampled.min(axis=0)
    ranks = stats.rankdata(sampled, axis=0)
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(ranks, (tail, 100 - tail), axis=1)
    overall = means.mean(axis=1)
    return Ranking(
        names,
        overall,
        stats.rankdata(sign * overall),
        (best / best.sum(axis=0)).mean(axis=1),
        lower,
        upper,
        n,
    )


@dataclass(frozen=True)
class SeedRanking:
    """For every method, in the order given: mean over seeds and patients with its interval, rank (1 is best) with its
    interval, probability of being best. n_seeds: of each method; over: what was resampled."""

    names: tuple[str, ...]
    means: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    ranks: np.ndarray
    lower_ranks: np.ndarray
    upper_ranks: np.ndarray
    probability_best: np.ndarray
    n_seeds: tuple[int, ...]
    n_patients: int
    over: str


def rank_methods_over_seeds(
    values: dict[str, Sequence],
    *,
    patients,
    higher_is_better: bool,
    resamples: int,
    confidence: float,
    seed: int,
    statistic: Callable | None = None,
) -> SeedRanking:
    """Methods ranked by their mean over training seeds and patients: a bootstrap over both (Davison and Hinkley
    1997, 3.8).

    `values` maps a method's name to `(seeds, cases)`, on the same cases for all; the number of seeds may differ,
    and a method without training has one row. In each resample patients are drawn once for all methods, with
    all of their cases, and seeds anew for each method. Cases undefined for any method and seed are left out
    for all; ties share probability. With `statistic`, a measure of a whole set such as an area under a curve,
    `values[name]` holds for each seed a dict of arrays `(cases, ...)`, of which `statistic` takes the drawn
    cases.
    """
    names = tuple(values)
    if len(names) < 2:
        raise UserError("a ranking needs at least two methods")
    if resamples < 1 or not 0 < confidence < 1:
        raise UserError("confidence must lie between 0 and 1, and resamples be at least 1")
    generator, patients = np.random.default_rng(seed), np.asarray(patients)
    of_sample = _means_of_patients if statistic is None else _statistics_of_sets
    overall, sampled, n = of_sample(list(values.values()), patients, statistic, resamples, generator)
    drawn = [_over_seeds(each, generator) for each in sampled]
    over = "seeds and patients" if max(map(len, overall)) > 1 else "patients"
    return _seed_ranking(names, overall, np.stack(drawn), higher_is_better, confidence, n, over)


def rank_seed_values(
    values: dict[str, Sequence[float]], *, higher_is_better: bool, resamples: int, confidence: float, seed: int
) -> SeedRanking:
    """`rank_methods_over_seeds` for measures that no case has and that are not computed again: over seeds alone.

    `values` maps a method's name to one value for each seed.
    """
    if len(values) < 2:
        raise UserError("a ranking needs at least two methods")
    generator = np.random.default_rng(seed)
    rows = [_values(each, name) for name, each in values.items()]
    sampled = np.stack([_over_seeds(np.broadcast_to(row[:, None], (row.size, resamples)), generator) for row in rows])
    return _seed_ranking(tuple(values), rows, sampled, higher_is_better, confidence, 0, "seeds")


def _means_of_patients(rows: list, patients: np.ndarray, statistic, resamples: int, generator):
    """Of each method the means of its seeds, `(seeds,)`, those of each resample, `(seeds, resamples)`; patients."""
    tables = [np.atleast_2d(np.asarray(row, float)) for row in rows]
    if any(table.ndim != 2 or table.shape[1] != patients.size for table in tables):
        raise UserError(f"values are (seeds, {patients.size} cases), not {[table.shape for table in tables]}")
    if any(np.isinf(table).any() for table in tables):
        raise UserError("values hold infinity, which has no mean: give undefined cases NaN, or a worst value")
    undefined = np.any([np.isnan(table).any(axis=0) for table in tables], axis=0)
    if undefined.all():
        raise UserError("no case is defined for every method and seed")
    of_patients = [
        np.stack([patient_means(np.where(undefined, np.nan, row), patients)[0] for row in table])
        for table in tables
    ]
    n = of_patients[0].shape[1]
    if n < 2:
        raise UserError(f"a ranking needs at least 2 patients that every method defines, got {n}")
    draws = generator.integers(0, n, (resamples, n))
    sampled = [np.stack([row[draws].mean(axis=1) for row in table]) for table in of_patients]
    return [table.mean(axis=1) for table in of_patients], sampled, n


def _statistics_of_sets(rows: list, patients: np.ndarray, statistic: Callable, resamples: int, generator):
    names = np.unique(patients)
    if names.size < 2:
        raise UserError(f"a ranking needs at least 2 patients, got {names.size}")
    groups = [np.flatnonzero(patients == name) for name in names]
    draws = generator.integers(0, names.size, (resamples, names.size))
    chosen = [np.concatenate([groups[i] for i in draw]) for draw in draws]

    def of(arrays, cases):
        return float(statistic({name: np.asarray(array)[cases] for name, array in arrays.items()}))

    everything = np.arange(patients.size)
    overall = [np.array([of(arrays, everything) for arrays in row]) for row in rows]
    sampled = [np.array([[of(arrays, cases) for cases in chosen] for arrays in row]) for row in rows]
    # A set may be drawn for which the measure is not defined, such as one without a positive case.
    defined = ~np.any([np.isnan(each).any(axis=0) for each in sampled], axis=0)
    if not defined.any():
        raise UserError("the measure is not defined for any resample")
    return overall, [each[:, defined] for each in sampled], names.size


def _over_seeds(sampled: np.ndarray, generator) -> np.ndarray:
    """The mean over as many drawn seeds as there are, for each resample, of `(seeds, resamples)`."""
    seeds, resamples = sampled.shape
    draws = generator.integers(0, seeds, (seeds, resamples))
    return np.take_along_axis(sampled, draws, axis=0).mean(axis=0)


def _seed_ranking(names, overall, sampled, higher_is_better, confidence, n, over) -> SeedRanking:
    sign, tail = -1.0 if higher_is_better else 1.0, 50 * (1 - confidence)
    best = sign * sampled == (sign * sampled).min(axis=0)
    ranks = stats.rankdata(sign * sampled, axis=0)
    means = np.array([np.mean(each) for each in overall])
    return SeedRanking(
        names,
        means,
        *np.percentile(sampled, (tail, 100 - tail), axis=1),
        stats.rankdata(sign * means),
        *np.percentile(ranks, (tail, 100 - tail), axis=1),
        (best / best.sum(axis=0)).mean(axis=1),
        tuple(len(each) for each in overall),
        n,
        over,
    )


def delong_interval(scores, labels, *, confidence: float) -> Interval:
    """Area under the ROC curve with DeLong's interval (DeLong et al. 1988) for independent cases, clipped to
    [0, 1].

    For several cases of a patient use `bootstrap_auc`. Needs two cases of each class.
    """
    scores, labels = _values(scores, "scores"), np.asarray(labels)
    positive, negative = scores[labels == 1], scores[labels == 0]
    if labels.shape != scores.shape or positive.size + negative.size != scores.size:
        raise UserError("labels must be 0 or 1, one per score")
    if min(positive.size, negative.size) < 2 or np.isnan(scores).any() or not 0 < confidence < 1:
        raise UserError("at least two scores of each class, none NaN, and a confidence in (0, 1) are needed")
    larger = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    area = float(larger.mean())
    variance = larger.mean(1).var(ddof=1) / positive.size + larger.mean(0).var(ddof=1) / negative.size
    half = float(stats.norm.ppf(0.5 + confidence / 2) * np.sqrt(variance))
    return Interval(area, max(area - half, 0.0), min(area + half, 1.0), confidence, scores.size)


def bootstrap_auc(scores, labels, *, patients, resamples: int, confidence: float, seed: int) -> Interval:
    """Area under the ROC curve with a percentile bootstrap over patients; draws with one class only are
    redrawn."""
    scores, labels, patients = _values(scores, "scores"), np.asarray(labels), np.asarray(patients)
    if labels.shape != scores.shape or patients.shape != scores.shape or not np.isin(labels, (0, 1)).all():
        raise UserError("scores, labels (0 or 1) and patients must be one per case")
    if labels.min() == labels.max() or np.isnan(scores).any():
        raise UserError("an area under the ROC curve needs both classes, and scores without NaN")
    names, index = np.unique(patients, return_inverse=True)
    groups = [np.flatnonzero(index == i) for i in range(names.size)]
    generator, sampled = np.random.default_rng(seed), []
    while len(sampled) < resamples:
        chosen = np.concatenate([groups[i] for i in generator.integers(0, names.size, names.size)])
        if labels[chosen].min() < labels[chosen].max():
            sampled.append(_auc(scores[chosen], labels[chosen]))
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(sampled, (tail, 100 - tail))
    return Interval(_auc(scores, labels), float(lower), float(upper), confidence, names.size)


def area_under_curve(scores, labels) -> float:
    """Area under the ROC curve of scores and labels, 0 or 1, `(N,)`; NaN where a class is absent."""
    scores, labels = np.asarray(scores, float), np.asarray(labels)
    return _auc(scores, labels) if labels.min() < labels.max() else float("nan")


def _auc(scores: np.ndarray, labels: np.ndarray) -> float:
    ranks, positives = stats.rankdata(scores), int(np.sum(labels == 1))
    u = ranks[labels == 1].sum() - positives * (positives + 1) / 2
    return float(u / (positives * (labels.size - positives)))


def mcnemar(first_correct, second_correct) -> float:
    """Exact p-value of McNemar's test that two classifiers err equally often on the same cases (McNemar
    1947)."""
    first, second = np.asarray(first_correct), np.asarray(second_correct)
    if first.shape != second.shape:
        raise UserError("McNemar's test needs both classifiers on the same cases")
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise UserError("McNemar's test takes 1 for right and 0 for wrong")
    first, second = first.astype(bool), second.astype(bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)
