"""Statistics of human ratings: opinion scores, visual Turing tests, and the agreement of readers.

Ratings are ordinal and readers differ, so a mean opinion score comes with its median and with an interval
over readers and cases; "not significantly different from chance" is never taken for "equal": that needs an
equivalence test with a margin. Missing ratings are NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import correct_p_values, wilson_interval


@dataclass(frozen=True)
class OpinionScore:
    """Mean opinion score with SD and median over all ratings, and its bootstrap interval over readers and
    cases."""

    mean: float
    sd: float
    median: float
    lower: float
    upper: float
    confidence: float
    n_readers: int
    n_cases: int
    n_missing: int


def _ratings(ratings, scale: tuple[int, int] | None) -> np.ndarray:
    try:
        ratings = np.asarray(ratings, float)
    except ValueError:
        raise UserError("every reader needs a row of equal length: NaN stands for a missing rating") from None
    if ratings.ndim != 2 or 0 in ratings.shape:
        raise UserError(f"ratings must be (readers, cases), not shape {ratings.shape}")
    if np.isnan(ratings).all() or np.isinf(ratings).any():
        raise UserError("there is no rating at all, or one is infinite: NaN stands for a missing one")
    if scale is not None:
        given = ratings[~np.isnan(ratings)]
        if ((given < scale[0]) | (given > scale[1]) | (given != np.floor(given))).any():
            raise UserError(f"ratings must be whole numbers from {scale[0]} to {scale[1]}")
    return ratings


def mean_opinion_score(
    ratings, *, scale: tuple[int, int], resamples: int, confidence: float, seed: int
) -> OpinionScore:
    """Mean opinion score, `mean of all ratings`, of one method from `(readers, cases)` ratings on `scale`.

    A rating in [scale], such as [1, 5]; higher is better (ITU-T P.800 of 1996). Serves every rated quality
    of the review's Table 1 (Kazeminia et al. 2020): overall quality, noise suppression, artefact reduction.
    Ratings are ordinal, so the median is beside the mean. The interval draws
    readers and, independently, cases with replacement, so it speaks about other readers and other cases too.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise UserError("confidence must lie between 0 and 1, and resamples be at least 1")
    ratings = _ratings(ratings, scale)
    generator = np.random.default_rng(seed)
    readers, cases = ratings.shape
    sampled = []
    for _ in range(resamples):
        drawn = ratings[generator.integers(0, readers, readers)][:, generator.integers(0, cases, cases)]
        if not np.isnan(drawn).all():
            sampled.append(np.nanmean(drawn))
    tail = 50 * (1 - confidence)
    lower, upper = np.percentile(sampled, (tail, 100 - tail))
    given = ratings[~np.isnan(ratings)]
    sd = float(given.std(ddof=1)) if given.size > 1 else float("nan")
    missing = int(np.isnan(ratings).sum())
    return OpinionScore(
        float(given.mean()),
        sd,
        float(np.median(given)),
        float(lower),
        float(upper),
        confidence,
        readers,
        cases,
        missing,
    )


@dataclass(frozen=True)
class OrdinalComparison:
    """p-value over all methods, and for every pair of methods the corrected p-value of its signed-rank
    test."""

    p_value: float
    pairs: tuple[tuple[str, str], ...]
    pair_p_values: np.ndarray


def compare_ratings(ratings: dict[str, Sequence[float]]) -> OrdinalComparison:
    """Methods compared on the same cases, each `(N,)` ratings (a case's mean or median over readers).

    Wilcoxon's signed-rank test for two methods; for more, Friedman's test, and signed-rank tests of all pairs
    with Holm's correction.
    """
    names = tuple(ratings)
    if len(names) < 2:
        raise UserError("a comparison needs at least two methods")
    table = _ratings([ratings[name] for name in names], None)
    if np.isnan(table).any():
        raise UserError(
            "every method needs a rating of every case: leave incomplete cases out of all methods"
        )
    pairs = tuple((a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    single = [_signed_rank(np.asarray(ratings[a], float) - np.asarray(ratings[b], float)) for a, b in pairs]
    corrected = correct_p_values(single, method="holm")
    if len(names) == 2:
        return OrdinalComparison(single[0], pairs, corrected)
    same = (table == table[0]).all()
    overall = 1.0 if same else float(stats.friedmanchisquare(*table).pvalue)
    return OrdinalComparison(overall, pairs, corrected)


def _signed_rank(difference: np.ndarray) -> float:
    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


def fleiss_kappa(ratings, *, categories: Sequence[float]) -> float:
    """Fleiss' kappa, `(P_o - P_e) / (1 - P_e)`, of `(readers, cases)` categories without gaps (Fleiss 1971).

    In [-1, 1], higher is better, 0 by chance. Ignores how far apart ordinal ratings are: then use
    `krippendorff_alpha`. NaN when all ratings are one category, where agreement by chance is certain.
    """
    ratings = _ratings(ratings, None)
    if np.isnan(ratings).any() or len(ratings) < 2:
        raise UserError(
            "Fleiss' kappa needs at least two readers and every rating: Krippendorff's alpha takes gaps"
        )
    if not np.isin(ratings, categories).all():
        raise UserError(f"a rating is none of the categories {list(categories)}")
    counts = np.stack([(ratings == category).sum(0) for category in categories], axis=1)
    readers = len(ratings)
    observed = np.mean((np.sum(counts**2, axis=1) - readers) / (readers * (readers - 1)))
    expected = np.sum((counts.sum(0) / counts.sum()) ** 2)
    return float((observed - expected) / (1 - expected)) if expected < 1 else float("nan")


def krippendorff_alpha(ratings, *, level: str) -> float:
    """Krippendorff's alpha, `1 - D_o / D_e`, of `(readers, cases)` ratings with gaps (NaN): in [-1, 1].

    Higher is better, 0 by chance, below 0 is discord. The level must be named, since the values differ:
    `level` of the differences: 'nominal', 'ordinal' (by ranks) or 'interval' (squares). Cases with one rating
    do not count; NaN when all ratings are equal (Krippendorff 2011).
    """
    ratings = _ratings(ratings, None)
    given = ~np.isnan(ratings)
    usable = ratings[:, given.sum(0) >= 2]
    values = np.unique(usable[~np.isnan(usable)])
    if not values.size:
        raise UserError("no case has two ratings: there is no agreement to measure")
    coincidence = np.zeros((values.size, values.size))
    for case in usable.T:
        counts = np.array([(case == value).sum() for value in values], float)
        coincidence += (np.outer(counts, counts) - np.diag(counts)) / (counts.sum() - 1)
    totals = coincidence.sum(0)
    distances = _squared_differences(values, totals, level)
    observed = np.sum(coincidence * distances)
    expected = np.sum(np.outer(totals, totals) * distances) / (totals.sum() - 1)
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _squared_differences(values: np.ndarray, totals: np.ndarray, level: str) -> np.ndarray:
    if level == "nominal":
        return (values[:, None] != values).astype(float)
    if level == "interval":
        return (values[:, None] - values) ** 2
    if level != "ordinal":
        raise UserError(f"level must be nominal, ordinal or interval, not {level!r}")
    middle_ranks = np.cumsum(totals) - totals / 2
    return (middle_ranks[:, None] - middle_ranks) ** 2


def quadratic_kappa(first, second, *, categories: Sequence[float]) -> float:
    """Quadratic-weighted kappa, `1 - sum w o / sum w e`, of two readers' ordinal ratings `(N,)`: in [-1, 1].

    Higher is better, 0 by chance; `w = (i - j)^2` of the ranks i and j (Cohen 1968). All possible categories
    must be given: leaving out unused ones changes the ranks. NaN when both readers always give one and the
    same category.
    """
    table = _ratings([first, second], None)
    if np.isnan(table).any() or not np.isin(table, categories).all():
        raise UserError(f"both readers must rate every case with one of the categories {list(categories)}")
    first_index, second_index = (np.searchsorted(np.sort(categories), row) for row in table)
    size = len(categories)
    joint = np.zeros((size, size))
    np.add.at(joint, (first_index, second_index), 1 / table.shape[1])
    weights = (np.arange(size)[:, None] - np.arange(size)) ** 2
    expected = np.sum(weights * np.outer(joint.sum(1), joint.sum(0)))
    return float(1 - np.sum(weights * joint) / expected) if expected > 0 else float("nan")


@dataclass(frozen=True)
class TuringTest:
    """A visual Turing test: "positive" is an answer of real, so sensitivity is the share of real images
    called real."""

    n: int
    accuracy: float
    accuracy_lower: float
    accuracy_upper: float
    p_different_from_chance: float
    p_equivalent_to_chance: float
    margin: float
    sensitivity: float
    specificity: float
    d_prime: float
    criterion: float
    fleiss_kappa: float


def visual_turing(called_real, is_real, *, margin: float, confidence: float) -> TuringTest:
    """Statistics of a visual Turing test: `(readers, cases)` answers (1 real, 0 generated) and `(cases,)`
    truth.

    Accuracy `correct / answers` in [0, 1], for the generator lower is better down to one half, with Wilson's
    interval; exact binomial test against one half; two one-sided exact tests (TOST)
    that it lies within `margin` of one half, since a large p-value of the first is no evidence of equality:
    it takes about 214 answers to show equivalence within 0.10. d' and criterion of signal detection with the
    log-linear correction (Hautus 1995); a criterion above 0 means that readers lean to "generated". All
    answers count as independent, which is optimistic with several readers of one set: see `reader_accuracies`
    for one value per reader.
    """
    answers, truth = _ratings(called_real, (0, 1)), np.asarray(is_real)
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1, not {confidence}")
    if np.isnan(answers).any() or truth.shape != answers.shape[1:] or not np.isin(truth, (0, 1)).all():
        raise UserError("every reader must answer every case, and every case be real (1) or generated (0)")
    if truth.min() == truth.max():
        raise UserError("a Turing test needs real and generated cases")
    if not 0 < margin < 0.5:
        raise UserError(f"margin must lie between 0 and 0.5, not {margin}")
    truth = truth.astype(bool)
    n, correct = answers.size, int(np.sum(answers == truth))
    lower, upper = wilson_interval(correct, n, confidence=confidence)
    p_low = stats.binomtest(correct, n, 0.5 - margin, alternative="greater").pvalue
    p_high = stats.binomtest(correct, n, 0.5 + margin, alternative="less").pvalue
    hits, alarms = int(answers[:, truth].sum()), int(answers[:, ~truth].sum())
    real, generated = answers[:, truth].size, answers[:, ~truth].size
    z_hit, z_alarm = (
        stats.norm.ppf((count + 0.5) / (total + 1)) for count, total in ((hits, real), (alarms, generated))
    )
    kappa = fleiss_kappa(answers, categories=(0, 1)) if len(answers) > 1 else float("nan")
    return TuringTest(
        n,
        correct / n,
        lower,
        upper,
        float(stats.binomtest(correct, n).pvalue),
        float(max(p_low, p_high)),
        margin,
        hits / real,
        1 - alarms / generated,
        float(z_hit - z_alarm),
        float(-(z_hit + z_alarm) / 2),
        kappa,
    )


def _answers(given, truth) -> tuple[np.ndarray, np.ndarray]:
    answers, truth = _ratings(given, (0, 1)), np.asarray(truth)
    if truth.shape != answers.shape[1:] or not np.isin(truth, (0, 1)).all():
        raise UserError(f"the truth must be 0 or 1 for each of {answers.shape[1]} cases, not {truth.shape}")
    return answers, truth


def reader_accuracies(called_real, is_real) -> np.ndarray:
    """Share of right answers of each reader, `(readers, cases)` and `(cases,)` -> `(readers,)`."""
    answers, truth = _answers(called_real, is_real)
    return np.nanmean(np.where(np.isnan(answers), np.nan, answers == truth), axis=1)


def correct_detection(found, present) -> tuple[float, float, float]:
    """The review's "correct detection" (Kazeminia et al. 2020, Table 1), `right / given`, with Wilson's 95 %
    interval: in [0, 1], higher is better.

    `found` `(readers, cases)` and `present` `(cases,)` are 0 or 1, missing answers NaN. Cases with and
    without a finding are pooled: report sensitivity and specificity too where they differ.
    """
    answers, truth = _answers(found, present)
    given = ~np.isnan(answers)
    correct = int(np.sum((answers == truth) & given))
    total = int(given.sum())
    return correct / total, *wilson_interval(correct, total, confidence=0.95)
