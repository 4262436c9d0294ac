"""Usefulness of synthetic images: train on synthetic, test on real, beside training on real images.

The classifier is the caller's, as a function `fit(images, labels, seed) -> predict`, with `predict(images)` a
value per case. All arms share it, its budget and the held-out real test set. The generator must not have seen
the test patients: this function cannot know, the caller must.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import (
    Interval,
    SeedSummary,
    bootstrap_interval,
    summarise_seeds,
)

Fit = Callable[[np.ndarray, np.ndarray, int], Callable[[np.ndarray], np.ndarray]]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Labelled:
    """Images `(N, ...)` with labels `(N, ...)`."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        if len(self.images) != len(self.labels) or not len(self.images):
            raise UserError(f"{len(self.images)} images need as many labels, and at least one")

    def first(self, n: int) -> "Labelled":
        """The first n of them."""
        return Labelled(self.images[:n], self.labels[:n])


@dataclass(frozen=True)
class Arm:
    """One way of training: its name, how many images it trained on, `(seeds, cases)` scores, and their
    summary."""

    name: str
    n_train: int
    scores: np.ndarray
    summary: SeedSummary
    difference_to_trtr: Interval | None


def tstr(
    fit: Fit,
    score: Score,
    *,
    synthetic: Labelled,
    real_train: Labelled,
    real_test: Labelled,
    test_patients,
    n_synthetic: Sequence[int],
    seeds: Sequence[int],
    resamples: int,
    confidence: float,
) -> list[Arm]:
    """Train-on-real (TRTR), train-on-synthetic (TSTR), on both (TSRTR), all tested on the same real images.

    The measure of Esteban et al. 2017, `mean score(fit(synthetic), real test)`, in the unit and range of the
    caller's `score`, any in (-inf, inf). A synthetic set that reaches TRTR may still hold copies of it: see
    `nearest_distances`. `score(predictions, labels)` gives one value per test case, higher is better (1 for
    right, or Dice). TSTR
    and TSRTR run for every number in `n_synthetic`. Each arm carries its spread over `seeds`, and the
    difference to TRTR, paired by case and averaged over seeds, with a bootstrap interval over
    `test_patients`. The last arm, TRTS, tests the model of real images on the synthetic ones: a check of
    realism.
    """
    if not seeds:
        raise UserError("at least one seed is needed; three or more say something")
    if min(n_synthetic, default=1) < 1 or max(n_synthetic, default=1) > len(synthetic.images):
        raise UserError(f"n_synthetic must be 1 to {len(synthetic.images)}, not {list(n_synthetic)}")

    def run(train: Labelled, test: Labelled) -> np.ndarray:
        rows = []
        for seed in seeds:
            values = np.asarray(score(fit(train.images, train.labels, seed)(test.images), test.labels), float)
            if values.shape != (len(test.images),):
                raise UserError(f"score must give one value per test case, not shape {values.shape}")
            rows.append(values)
        return np.stack(rows)

    baseline = run(real_train, real_test)

    def arm(name: str, train: Labelled, scores: np.ndarray, compared: bool) -> Arm:
        interval = (
            bootstrap_interval(
                scores.mean(0) - baseline.mean(0),
                patients=test_patients,
                statistic=np.mean,
                resamples=resamples,
                confidence=confidence,
                seed=0,
            )
            if compared
            else None
        )
        return Arm(name, len(train.images), scores, summarise_seeds(scores), interval)

    arms = [arm("trtr", real_train, baseline, False)]
    for n in n_synthetic:
        part = synthetic.first(n)
        both = Labelled(
            np.concatenate([real_train.images, part.images]), np.concatenate([real_train.labels, part.labels])
        )
        arms.append(arm("tstr", part, run(part, real_test), True))
        arms.append(arm("tsrtr", both, run(both, real_test), True))
    arms.append(arm("trts", real_train, run(real_train, synthetic), False))
    return arms
