"""Agreement of two measurements of one quantity, such as ejection fractions: correlation and what it
hides."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from medgan_jax.errors import UserError


@dataclass(frozen=True)
class Agreement:
    """Agreement over n subjects, in the units of the measurement where it has one; differences are prediction
    - reference."""

    n: int
    n_undefined: int
    pearson_r: float
    concordance: float
    bias: float
    lower_limit: float
    upper_limit: float
    mae: float


def agreement_report(prediction, reference, *, minimum_n: int) -> Agreement:
    """Pearson's r, Lin's concordance, Bland-Altman bias with limits of agreement, and MAE of `(N,)`
    measurements.

    r alone hides a bias and a wrong scale: a method that halves every ejection fraction has r = 1.
    Concordance `2 cov / (var_x + var_y + (mean_x - mean_y)^2)` does not (Lin 1989, population moments).
    Limits are `bias -+ 1.96 SD` (Bland and Altman 1986, sample SD). Pairs with NaN (an undefined measurement)
    are left out and counted. r and concordance are NaN for constant input. Fewer than `minimum_n` pairs
    raise.
    """
    a, b = np.asarray(prediction, float).ravel(), np.asarray(reference, float).ravel()
    if a.size != b.size:
        raise UserError(
            f"{a.size} predictions stand against {b.size} references: give one of each per subject"
        )
    if np.isinf(a).any() or np.isinf(b).any():
        raise UserError("a measurement is infinite: mend it before looking at agreement")
    defined = ~(np.isnan(a) | np.isnan(b))
    n_undefined, a, b = int((~defined).sum()), a[defined], b[defined]
    if a.size < max(minimum_n, 2):
        raise UserError(f"agreement needs at least {max(minimum_n, 2)} pairs, got {a.size}")
    difference = a - b
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    varying = np.ptp(a) > 0 and np.ptp(b) > 0
    r = float(stats.pearsonr(a, b).statistic) if varying else float("nan")
    total = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    concordance = float(2 * np.mean((a - a.mean()) * (b - b.mean())) / total) if varying else float("nan")
    return Agreement(
        a.size,
        n_undefined,
        r,
        concordance,
        bias,
        bias - spread,
        bias + spread,
        float(np.abs(difference).mean()),
    )
