"""Distances between sets of feature vectors that need float64: Fréchet distance, bins, and proxy A-distance.

Features come from a named extractor; the name goes into the result. An extractor is any callable with the
attributes `distance_name` and `kernel_distance_name` (`medgan_jax.metrics.features.FeatureExtractor`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize, stats
from scipy.cluster.vq import kmeans2

from medgan_jax.errors import UserError

KERNEL_DISTANCE_BELOW = 2000


def _features(name: str, features, minimum: int) -> np.ndarray:
    features = np.asarray(features, float)
    if features.ndim != 2:
        raise UserError(f"{name} features must be (N, d), not {features.shape}")
    if not np.isfinite(features).all():
        raise UserError(f"{name} features hold NaN or Inf: look at the images and at the extractor")
    if len(features) < minimum:
        raise UserError(f"{len(features)} {name} samples are too few: at least {minimum} are needed")
    return features


def _same_width(real: np.ndarray, generated: np.ndarray) -> None:
    if real.shape[1] != generated.shape[1]:
        raise UserError(f"real features have {real.shape[1]} values but generated ones {generated.shape[1]}")


def gaussian_frechet(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """Squared Fréchet distance of two Gaussians, `|m_a - m_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2))`, in
    float64.

    In squared units of the features, at least 0. The trace is the sum of the roots of the eigenvalues of the
    symmetric `S_a^(1/2) S_b S_a^(1/2)`, clipped at 0: stable for singular covariances, where the square root
    of the product is complex (Dowson and Landau 1982; Heusel et al. 2017).
    """
    mean_a, mean_b = np.asarray(mean_a, float), np.asarray(mean_b, float)
    covariance_a, covariance_b = (
        np.atleast_2d(np.asarray(covariance_a, float)),
        np.atleast_2d(np.asarray(covariance_b, float)),
    )
    values, vectors = linalg.eigh(covariance_a)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    product = root.T @ covariance_b @ root
    trace = np.sqrt(np.clip(linalg.eigvalsh((product + product.T) / 2), 0, None)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(covariance_a) + np.trace(covariance_b) - 2 * trace
    return float(max(distance, 0.0))


def frechet_from_features(real, generated) -> float:
    """Fréchet distance of Gaussians fitted to two sets of features `(N, d)`, `(M, d)`, covariances over n -
    1.

    Biased upwards at small n, strongly unless n far exceeds d.
    """
    real, generated = _features("real", real, 2), _features("generated", generated, 2)
    _same_width(real, generated)
    moments = ((x.mean(0), np.cov(x, rowvar=False)) for x in (real, generated))
    return gaussian_frechet(*(part for pair in moments for part in pair))


@dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance that says of what: 'fid' or 'fd[extractor]', the extractor's detail, n and d.

    `kernel_distance` (mean and SD over subsets, unbiased) stands beside it below 2,000 samples, else None.
    """

    name: str
    detail: str
    value: float
    n: int
    dimension: int
    kernel_name: str
    kernel_distance: tuple[float, float] | None

    def __str__(self) -> str:
        text = f"{self.name} = {self.value:.4g} (n = {self.n}, d = {self.dimension}; {self.detail})"
        if self.kernel_distance is None:
            return text
        mean, sd = self.kernel_distance
        return f"{text}; {self.kernel_name} x 10^3 = {1000 * mean:.4g} +- {1000 * sd:.2g}"


def frechet_distance(
    real, generated, *, extractor, n: int, batch: int = 64, seed: int = 0
) -> FrechetDistance:
    """Fréchet distance between real and generated images `(N, [D], H, W, C)` in the features of `extractor`.

    `|m_x - m_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2))` (Heusel et al. 2017) in squared feature units, in
    [0, inf), lower is better. Called 'fid' with Inception-v3 and
    'fd[name]' with anything else. `n` images of each set are used, the first n, and it must be stated: values
    with different n cannot be compared. Below 2,000 the kernel distance is reported beside, since the Fréchet
    distance is then mostly bias. Images must be in the range that the extractor expects, both sets alike.
    """
    if n != int(n) or n < 2 or len(real) < n or len(generated) < n:
        raise UserError(
            f"n = {n} images of each set are asked for, but there are {len(real)} real and "
            f"{len(generated)} generated; n must be at least 2"
        )
    sets = []
    for name, images in (("real", real), ("generated", generated)):
        parts = [np.asarray(extractor(images[i : min(i + batch, n)]), float) for i in range(0, n, batch)]
        sets.append(_features(name, np.concatenate(parts), 2))
    kernel = (
        kernel_distance(*sets, subsets=100, subset_size=min(n, 1000), seed=seed)
        if (n < KERNEL_DISTANCE_BELOW)
        else None
    )
    return FrechetDistance(
        extractor.distance_name,
        extractor.detail,
        frechet_from_features(*sets),
        n,
        sets[0].shape[1],
        extractor.kernel_distance_name,
        kernel,
    )


def kernel_distance(real, generated, *, subsets: int, subset_size: int, seed: int) -> tuple[float, float]:
    """Mean and SD over random subsets of the unbiased MMD^2 with `k(x, y) = (x.y / d + 1)^3`, in float64.

    The host's twin of `medgan_jax.metrics.generative.kid`. When a subset is the whole of both sets there is
    nothing to draw: one value, SD 0.
    """
    real, generated = _features("real", real, 2), _features("generated", generated, 2)
    _same_width(real, generated)
    if subsets < 1:
        raise UserError(f"at least one subset is needed, not {subsets}")
    if not 2 <= subset_size <= min(len(real), len(generated)):
        raise UserError(f"subset_size must be 2 to {min(len(real), len(generated))}, not {subset_size}")
    generator = np.random.default_rng(seed)
    if subset_size == len(real) == len(generated):
        return _polynomial_mmd(real, generated), 0.0
    values = [
        _polynomial_mmd(*(x[generator.permutation(len(x))[:subset_size]] for x in (real, generated)))
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    n, m, d = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def log_determinant_ratio(real, generated, *, eps: float) -> float:
    """`(log det S_generated - log det S_real) / d` with `eps` added to the diagonals: in (-inf, inf), no
    direction.

    Dimensionless; 0 is equal spread, below 0 is less. A mode collapse in some directions of feature space
    shows as a large negative value, also where the Fréchet distance hides it in a sum; the covariance of
    determinantal diversity (Kulesza and Taskar 2012). `eps` in squared feature units decides how empty
    directions count, so state it.
    """
    if not eps >= 0:
        raise UserError(f"eps must be 0 or more, in squared units of the features, not {eps}")
    real, generated = _features("real", real, 2), _features("generated", generated, 2)
    _same_width(real, generated)
    logs = [
        np.linalg.slogdet(np.cov(x, rowvar=False) + eps * np.eye(x.shape[1]))[1] for x in (real, generated)
    ]
    return float((logs[1] - logs[0]) / real.shape[1])


@dataclass(frozen=True)
class DifferentBins:
    """Number of statistically different bins, also over the bins; shares of either set in each bin; corrected
    p-values."""

    ndb: int
    share: float
    real_shares: np.ndarray
    generated_shares: np.ndarray
    p_values: np.ndarray


def ndb(real, generated, *, bins: int, significance: float, seed: int) -> DifferentBins:
    """Number of statistically different bins (Richardson and Weiss 2018): in [0, bins], lower is better.

    `#{b: p_b < significance}`. k-means of the real features makes the bins; in each, a two-proportion z-test
    compares the shares of real and generated samples, Bonferroni-corrected over bins. An empty bin of the
    generated set is a missing mode. Power grows with the number of samples, so compare equal ones.
    """
    if not (bins >= 2 and 0 < significance < 1):
        raise UserError("at least 2 bins are needed, and a significance between 0 and 1")
    real, generated = _features("real", real, bins), _features("generated", generated, 2)
    _same_width(real, generated)
    centre, scale = real.mean(0), np.where(real.std(0) > 0, real.std(0), 1)
    x, y = (real - centre) / scale, (generated - centre) / scale
    centroids, assigned = kmeans2(x, bins, minit="++", rng=np.random.default_rng(seed))
    nearest = linalg.norm(y[:, None] - centroids[None], axis=-1).argmin(1)
    counts = [np.bincount(index, minlength=bins) for index in (assigned, nearest)]
    shares = [count / count.sum() for count in counts]
    pool = (counts[0] + counts[1]) / (len(x) + len(y))
    error = np.sqrt(pool * (1 - pool) * (1 / len(x) + 1 / len(y)))
    z = np.divide(np.abs(shares[0] - shares[1]), error, out=np.zeros(bins), where=error > 0)
    p = np.minimum(2 * stats.norm.sf(z) * bins, 1)
    different = int((p < significance).sum())
    return DifferentBins(different, different / bins, *shares, p)


@dataclass(frozen=True)
class BirthdayTest:
    """Duplicates in one batch: the pairs found, whether there are any, and the support size that 50 % would
    mean."""

    pairs: np.ndarray
    collision: bool
    support_if_half: int


def birthday_test(features, *, threshold: float) -> BirthdayTest:
    """Pairs of a batch `(s, d)` closer than `threshold`: the birthday-paradox test of support (Arora and
    Zhang 2017).

    If batches of s samples hold duplicates about half of the time, the support is about s^2 samples.
    Calibrate the threshold on real pairs, and look at the pairs found.
    """
    if not threshold >= 0:
        raise UserError(f"threshold must be a distance, 0 or more, not {threshold}")
    features = _features("generated", features, 2)
    distance = np.sqrt(np.maximum(np.sum((features[:, None] - features[None]) ** 2, axis=-1), 0))
    pairs = np.argwhere(np.triu(distance <= threshold, 1))
    return BirthdayTest(pairs, len(pairs) > 0, len(features) ** 2)


def proxy_a_distance(source, target, *, folds: int, seed: int, penalty: float = 1e-3) -> float:
    """Proxy A-distance of two domains, `2 (1 - 2 err)`: in [-2, 2], 0 means indistinguishable, lower is
    better.

    err is the error of a linear domain classifier on held-out features (Ben-David et al. 2007): logistic
    regression on standardised features with an L2 `penalty`, cross-validated over `folds`, domains weighted
    equally. Error on the training features would always find a difference in high dimension.
    """
    source, target = _features("source", source, folds), _features("target", target, folds)
    _same_width(source, target)
    if folds < 2:
        raise UserError("the domain classifier needs at least 2 folds: its error is on held-out features")
    x = np.concatenate([source, target])
    y = np.concatenate([-np.ones(len(source)), np.ones(len(target))])
    generator, fold = np.random.default_rng(seed), np.empty(len(x), int)
    for domain in (-1, 1):
        members = generator.permutation(np.flatnonzero(y == domain))
        fold[members] = np.arange(len(members)) % folds
    wrong = np.empty(len(x), bool)
    for held_out in range(folds):
        train = fold != held_out
        scale = np.where(x[train].std(0) > 0, x[train].std(0), 1)
        z = np.column_stack([(x - x[train].mean(0)) / scale, np.ones(len(x))])
        weights = _logistic_regression(z[train], y[train], penalty)
        wrong[~train] = (z[~train] @ weights) * y[~train] <= 0
    error = (wrong[y < 0].mean() + wrong[y > 0].mean()) / 2
    return float(2 * (1 - 2 * error))


def _logistic_regression(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of the last-column-is-one features that minimise the balanced logistic loss plus the L2
    penalty."""
    balance = np.where(y > 0, 0.5 / np.sum(y > 0), 0.5 / np.sum(y < 0))

    def objective(w):
        margin = y * (x @ w)
        slope = -y * balance / (1 + np.exp(np.clip(margin, -500, 500)))
        loss = np.sum(balance * np.logaddexp(0, -margin)) + penalty * np.sum(w[:-1] ** 2)
        gradient = x.T @ slope
        gradient[:-1] += 2 * penalty * w[:-1]
        return loss, gradient

    return optimize.minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
