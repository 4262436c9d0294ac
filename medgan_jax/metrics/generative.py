"""Distances between sets of images, and diversity inside one: for synthesis, where no image has its own
reference.

All take feature vectors `(N, d)` of named extractors (see `medgan_jax.evaluation.features`) or images, `real`
before `generated`. Values depend on the number of samples, the extractor and the value range: state all
three, compare only equal ones. Random choices come from a `key`. Bad input (NaN, Inf) scores NaN; too few
samples raise, since sizes are known while tracing. The Fréchet distance needs float64 and lives in
`medgan_jax.evaluation.distributions`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import as_float, divide, finite_or_nan, square_root, undefined_unless
from medgan_jax.metrics.image import Window, ms_ssim, window_mean

HIGHEST = jax.lax.Precision.HIGHEST


def _two_sets(real: jax.Array, generated: jax.Array) -> tuple[jax.Array, jax.Array]:
    real, generated = as_float(real), as_float(generated)
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(f"features must be (N, d) and (M, d), not {real.shape} and {generated.shape}")
    return real, generated


@partial(jax.jit, static_argnames=("splits",))
def inception_score(logits: jax.Array, *, splits: int, key: jax.Array | None) -> jax.Array:
    """Inception score of each split, `exp(E KL(p(y|x) || p(y)))`: `(N, classes) -> (splits,)`.

    Dimensionless, in [1, classes], higher is better (Salimans et al. 2016); report the mean and SD over
    splits (10 are customary). `key` shuffles the samples first; None keeps contiguous splits, as the original
    does. The classifier is the caller's: classes of ImageNet mean nothing on medical images, so this is at
    best a score of one's own classes. Takes logits, not probabilities, so that no logarithm meets a zero.
    """
    logits = as_float(logits)
    if logits.ndim != 2 or not 1 <= splits <= logits.shape[0]:
        raise ValueError(f"{splits} splits need as many rows of (N, classes), not {logits.shape}")
    if key is not None:
        logits = jax.random.permutation(key, logits)
    log_p = jax.nn.log_softmax(logits, axis=1)

    def score(part):
        marginal = jax.nn.logsumexp(part, axis=0) - jnp.log(part.shape[0])
        return jnp.exp(jnp.mean(jnp.sum(jnp.exp(part) * (part - marginal), axis=1)))

    return jnp.stack([score(part) for part in jnp.array_split(log_p, splits)])


@partial(jax.jit, static_argnames=("subsets", "subset_size"))
def kid(
    real: jax.Array, generated: jax.Array, *, subsets: int, subset_size: int, key: jax.Array
) -> jax.Array:
    """Kernel distance of each random subset: unbiased MMD^2 with `k(x, y) = (x.y / d + 1)^3`, `(subsets,)`.

    Dimensionless, in (-inf, inf), lower is better, 0 in expectation for equal distributions, so single values
    may be negative (Binkowski et al. 2018). Unbiased at any n, hence the value to read below a few thousand
    samples. Report mean and SD over subsets (100 of 1000 are customary), often times 10^3; called KID on
    Inception features only.
    """
    real, generated = _two_sets(real, generated)
    smallest = min(real.shape[0], generated.shape[0])
    if not 2 <= subset_size <= smallest:
        raise ValueError(
            f"subset_size must be 2 to {smallest}, the size of the smaller set, not {subset_size}"
        )

    def one(key):
        first, second = jax.random.split(key)
        x = real[jax.random.permutation(first, real.shape[0])[:subset_size]]
        y = generated[jax.random.permutation(second, generated.shape[0])[:subset_size]]
        return _polynomial_mmd(x, y)

    return finite_or_nan(jax.lax.map(one, jax.random.split(key, subsets)))


def _polynomial_mmd(x: jax.Array, y: jax.Array) -> jax.Array:
    def kernel(a, b):
        return (jnp.matmul(a, b.T, precision=HIGHEST) / a.shape[1] + 1) ** 3

    n, m = x.shape[0], y.shape[0]
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    within = (jnp.sum(xx) - jnp.trace(xx)) / (n * (n - 1)) + (jnp.sum(yy) - jnp.trace(yy)) / (m * (m - 1))
    return within - 2 * jnp.mean(xy)


@jax.jit
def mmd(real: jax.Array, generated: jax.Array, *, scale: jax.Array | float) -> jax.Array:
    """Unbiased squared maximum mean discrepancy, `k(x, y) = C / (C + |x - y|^2)`, `C = 2 d scale^2`: a scalar.

    Dimensionless, in [-2, 2], lower is better, 0 in expectation for equal distributions. The kernel tells any
    two distributions apart (Gretton et al. 2012; the inverse multiquadric of Tolstikhin et al. 2018, section
    4); `scale` is the standard deviation of the reference, such as a prior of codes, in every direction.
    """
    x, y = _two_sets(real, generated)
    constant = 2 * x.shape[1] * jnp.square(jnp.asarray(scale, x.dtype))

    def kernel(a, b):
        return constant / (constant + _squared_distances(a, b))

    n, m = x.shape[0], y.shape[0]
    if min(n, m) < 2:
        raise ValueError(f"a distance within each set needs two samples of both, not {n} and {m}")
    # A sample is at no distance from itself, where the kernel is 1.
    within = (jnp.sum(kernel(x, x)) - n) / (n * (n - 1)) + (jnp.sum(kernel(y, y)) - m) / (m * (m - 1))
    return finite_or_nan(within - 2 * jnp.mean(kernel(x, y)))


def random_directions(key: jax.Array, dimension: int, count: int) -> jax.Array:
    """Directions uniform on the unit sphere, `(count, dimension)`."""
    directions = jax.random.normal(key, (count, dimension))
    return directions / jnp.linalg.norm(directions, axis=1, keepdims=True)


@partial(jax.jit, static_argnames=("p",))
def sliced_wasserstein(real: jax.Array, generated: jax.Array, *, directions: jax.Array, p: int) -> jax.Array:
    """Sliced Wasserstein distance of two sets, `(E_theta W_p^p)^(1/p)` over the `directions` `(L, d)`: a
    scalar.

    In feature units, in [0, inf), lower is better (Bonneel et al. 2015). Sets must have equal sizes, and p is
    1 or more. With the root, as POT; OTT-JAX reports the square without it. A shift by v gives `SW_2^2 =
    |v|^2 / d` in expectation over directions.
    """
    real, generated = _two_sets(real, generated)
    if real.shape[0] != generated.shape[0]:
        raise ValueError(f"sorted projections pair up: {real.shape[0]} samples against {generated.shape[0]}")
    if not p >= 1 or jnp.ndim(directions) != 2 or jnp.shape(directions)[1] != real.shape[1]:
        raise ValueError(f"p = {p} must be 1 or more, and directions {jnp.shape(directions)} be (L, d)")
    valid = jnp.all(jnp.isfinite(real)) & jnp.all(jnp.isfinite(generated)) & jnp.all(jnp.isfinite(directions))
    moment = jnp.mean(
        jnp.abs(_sorted_projections(real, directions) - _sorted_projections(generated, directions)) ** p
    )
    root = moment if p == 1 else square_root(moment) if p == 2 else moment ** (1 / p)
    return undefined_unless(valid, root)


def _sorted_projections(x: jax.Array, directions: jax.Array) -> jax.Array:
    return jnp.sort(jnp.matmul(x, directions.T, precision=HIGHEST), axis=0)


_BINOMIAL = [tap / 16 for tap in (1, 4, 6, 4, 1)]


def _blur(x: jax.Array) -> jax.Array:
    return window_mean(jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect"), _BINOMIAL, (1, 2))


def laplacian_pyramid(images: jax.Array, *, levels: int) -> list[jax.Array]:
    """Laplacian pyramid of `(N, H, W, C)`, finest level first, the last level the low-pass image (Burt
    1983)."""
    pyramid, current = [], images
    for _ in range(levels - 1):
        smaller = _blur(current)[:, ::2, ::2]
        spread = jnp.zeros_like(current).at[:, ::2, ::2].set(smaller)
        pyramid.append(current - 4 * _blur(spread))
        current = smaller
    return [*pyramid, current]


@partial(jax.jit, static_argnames=("smallest", "neighbourhoods", "size", "directions"))
def swd_pgan(
    real: jax.Array,
    generated: jax.Array,
    *,
    key: jax.Array,
    smallest: int = 16,
    neighbourhoods: int = 128,
    size: int = 7,
    directions: int = 512,
) -> jax.Array:
    """Sliced Wasserstein distance of image patches per level of a Laplacian pyramid, times 10^3: `(levels,)`.

    Of Karras et al. 2018, for any number of channels: images `(N, H, W, C)`, halved down to a side of
    `smallest`; 128 random 7 x 7 neighbourhoods per image and level, normalised per channel within each set;
    `10^3 mean |sort(X theta) - sort(Y theta)|` along 512 random directions. In 10^-3, in [0, inf), finest
    level first, lower is better; the paper averages over levels. The defaults are its settings. Sets must
    have equal sizes: the value grows as they shrink. NaN where a level of either set is constant; the
    gradient is zero there.
    """
    real, generated = as_float(real), as_float(generated)
    if real.shape != generated.shape or real.ndim != 4:
        raise ValueError(
            f"both sets must be (N, H, W, C) of one size, not {real.shape} and {generated.shape}"
        )
    side, levels = min(real.shape[1:3]), 1
    while side // 2 >= smallest:
        side, levels = side // 2, levels + 1
    if side < size:
        raise ValueError(f"neighbourhoods of {size} pixels do not fit into images of {real.shape[1:3]}")
    keys = jax.random.split(key, levels)
    pairs = zip(*(laplacian_pyramid(x, levels=levels) for x in (real, generated)), keys, strict=True)
    values = jnp.stack([_patch_distance(x, y, k, neighbourhoods, size, directions) for x, y, k in pairs])
    # A bad pixel may lie in no neighbourhood drawn.
    return undefined_unless(jnp.all(jnp.isfinite(real)) & jnp.all(jnp.isfinite(generated)), values)


def _patch_distance(real, generated, key, neighbourhoods, size, directions) -> jax.Array:
    first, second, third = jax.random.split(key, 3)
    x = _descriptors(real, first, neighbourhoods, size)
    y = _descriptors(generated, second, neighbourhoods, size)
    theta = random_directions(third, x.shape[1], directions)
    return 1000 * sliced_wasserstein(x, y, directions=theta, p=1)


def _descriptors(images: jax.Array, key: jax.Array, neighbourhoods: int, size: int) -> jax.Array:
    """Random neighbourhoods `(N * neighbourhoods, size * size * C)` with zero mean and unit SD per
    channel."""
    n, height, width, channels = images.shape
    rows, columns = jax.random.split(key)
    row = jax.random.randint(rows, (n, neighbourhoods), 0, height - size + 1)
    column = jax.random.randint(columns, (n, neighbourhoods), 0, width - size + 1)

    def patch(image, r, c):
        return jax.lax.dynamic_slice(image, (r, c, 0), (size, size, channels))

    patches = jax.vmap(lambda image, r, c: jax.vmap(lambda i, j: patch(image, i, j))(r, c))(
        images, row, column
    )
    patches = patches - patches[:1, :1, :1, :1]  # a constant level becomes exactly zero
    mean = jnp.mean(patches, (0, 1, 2, 3), keepdims=True)
    deviation = square_root(jnp.mean(jnp.square(patches - mean), (0, 1, 2, 3), keepdims=True))
    return divide(patches - mean, deviation).reshape(n * neighbourhoods, -1)


def _squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """`(N, M)` squared distances, by differences in a row at a time: exact zeros for equal points."""
    return jax.lax.map(lambda row: jnp.sum(jnp.square(row - y), axis=1), x, batch_size=16)


class Prdc(NamedTuple):
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of a
    generated set."""

    precision: jax.Array
    recall: jax.Array
    density: jax.Array
    coverage: jax.Array


@partial(jax.jit, static_argnames=("k",))
def prdc(real: jax.Array, generated: jax.Array, *, k: int) -> Prdc:
    """Precision, recall, density and coverage by balls `|x - y| < r_k(x)` around each point up to its k-th
    neighbour: four scalars.

    Of Kynkäänniemi et al. 2019 and Naeem et al. 2020; dimensionless, in [0, 1], density in [0, inf).
    Precision: share of generated points in a real ball; recall: share of real points in a generated ball;
    density: mean number of real balls around a generated point, over k (may exceed 1); coverage: share of
    real balls that hold a generated point (`1 - 2^-k` in expectation for equal distributions and sizes). All
    higher is better. k is 3 for the first pair and 5 for the second in the papers. Use equal set sizes, one
    scaling and a fixed choice of samples.
    """
    real, generated = _two_sets(real, generated)
    if not 1 <= k < min(real.shape[0], generated.shape[0]):
        raise ValueError(f"k must be 1 to {min(real.shape[0], generated.shape[0]) - 1}, not {k}")
    valid = jnp.all(jnp.isfinite(real)) & jnp.all(jnp.isfinite(generated))
    real_radius, generated_radius = (_neighbour_radius(x, k) for x in (real, generated))
    distance = _squared_distances(real, generated)
    in_real_ball = distance < real_radius[:, None]
    values = Prdc(
        precision=jnp.mean(jnp.any(in_real_ball, axis=0).astype(real.dtype)),
        recall=jnp.mean(jnp.any(distance < generated_radius[None, :], axis=1).astype(real.dtype)),
        density=jnp.mean(jnp.sum(in_real_ball, axis=0).astype(real.dtype)) / k,
        coverage=jnp.mean(jnp.any(in_real_ball, axis=1).astype(real.dtype)),
    )
    return Prdc(*(undefined_unless(valid, value) for value in values))


def _neighbour_radius(x: jax.Array, k: int) -> jax.Array:
    """Squared distance of each point to its k-th neighbour, itself not counted."""

    def radius(row):
        return -jax.lax.top_k(-jnp.sum(jnp.square(row - x), axis=1), k + 1)[0][-1]

    return jax.lax.map(radius, x, batch_size=16)


@jax.jit
def nearest_distances(queries: jax.Array, references: jax.Array) -> jax.Array:
    """Distance of every query `(N, d)` to the nearest of the references `(M, d)`, `min_j |q - r_j|`: `(N,)`.

    In feature units, in [0, inf), no direction of its own. From generated to training samples against from
    held-out to training samples: clearly smaller values mean memorised training images, a matter of privacy
    as well as of quality (Meehan et al. 2020).
    """
    queries, references = _two_sets(queries, references)
    nearest = jax.lax.map(
        lambda row: jnp.min(jnp.sum(jnp.square(row - references), axis=1)), queries, batch_size=16
    )
    return undefined_unless(jnp.all(jnp.isfinite(references)), finite_or_nan(square_root(nearest)))


def _distances_to_modes(generated: jax.Array, centres: jax.Array) -> jax.Array:
    generated, centres = _two_sets(generated, centres)
    return square_root(jnp.sum(jnp.square(generated[:, None] - centres[None]), axis=2))


@jax.jit
def covered_modes(
    generated: jax.Array, centres: jax.Array, *, radius: float, least: float
) -> jax.Array:
    """Number of the modes at `centres` `(K, d)` that samples `(N, d)` cover: `sum_k [share_k >= least]`, a scalar.

    `share_k` is the share of all samples that lie within `radius` of centre k. Dimensionless, in [0, inf), at
    most K, higher is better. For mixtures whose modes are known, as in Metz et al. 2017 and Srivastava et al.
    2017, who take three standard deviations for the radius and one sample for the least.
    """
    near = _distances_to_modes(generated, centres) <= radius
    shares = jnp.mean(near.astype(jnp.float32), axis=0)
    valid = jnp.all(jnp.isfinite(generated)) & jnp.all(jnp.isfinite(centres))
    return undefined_unless(valid, jnp.sum((shares >= least).astype(jnp.float32)))


@jax.jit
def mode_divergence(generated: jax.Array, centres: jax.Array) -> jax.Array:
    """How unevenly samples `(N, d)` fall on the modes at `centres` `(K, d)`: `KL(h || uniform)`, a scalar.

    `h` is the histogram of the nearest centres, `KL = log K + sum_k h_k log h_k`. In nat, in [0, log K], thus
    [0, inf); lower is better, 0 for an even share and log K where one mode has all. It is the divergence
    that Che et al. 2017 and Srivastava et al. 2017 report. It says nothing of how near the samples lie.
    """
    distances = _distances_to_modes(generated, centres)
    modes = distances.shape[1]
    shares = jnp.mean(jax.nn.one_hot(jnp.argmin(distances, axis=1), modes), axis=0)
    entropy = -jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1)), 0))
    valid = jnp.all(jnp.isfinite(generated)) & jnp.all(jnp.isfinite(centres))
    return undefined_unless(valid, jnp.maximum(jnp.log(modes) - entropy, 0))


@jax.jit
def vendi(features: jax.Array) -> jax.Array:
    """Vendi score: effective number of distinct samples of `(N, d)`, in [1, N], higher is better (more
    diverse).

    Dimensionless, `exp(-sum l log l)` over the eigenvalues of the cosine kernel matrix over n (Friedman and
    Dieng 2023). NaN where a feature vector is zero. It rewards outliers: read it beside precision.
    An eigenvalue of zero, where the entropy has no finite slope, adds nothing to the gradient.
    """
    features = as_float(features)
    if features.ndim != 2:
        raise ValueError(f"features must be (N, d), not {features.shape}")
    norm = square_root(jnp.sum(jnp.square(features), axis=1, keepdims=True))
    unit = divide(features, norm)
    # The smaller of the two Gram matrices has the same non-zero eigenvalues.
    gram = (
        jnp.matmul(unit, unit.T, precision=HIGHEST)
        if unit.shape[0] <= unit.shape[1]
        else jnp.matmul(unit.T, unit, precision=HIGHEST)
    )
    valid = jnp.all(jnp.isfinite(gram))
    values = jnp.maximum(jnp.linalg.eigvalsh(jnp.where(valid, gram, 0)) / features.shape[0], 0)
    entropy = -jnp.sum(jnp.where(values > 0, values * jnp.log(jnp.where(values > 0, values, 1)), 0))
    return undefined_unless(valid, jnp.exp(entropy))


def random_pairs(key: jax.Array, samples: int, pairs: int) -> jax.Array:
    """Random pairs of different samples, `(pairs, 2)` indices."""
    if samples < 2:
        raise ValueError("pairs need at least two samples")
    first, second = jax.random.split(key)
    one = jax.random.randint(first, (pairs,), 0, samples)
    return jnp.stack([one, (one + jax.random.randint(second, (pairs,), 1, samples)) % samples], axis=1)


@partial(jax.jit, static_argnames=("window", "scales"))
def ms_ssim_diversity(
    images: jax.Array, pairs: jax.Array, *, data_range: float, window: Window, scales: int
) -> jax.Array:
    """MS-SSIM, `ms_ssim(x_i, x_j)`, of the pairs `(P, 2)` of images `(N, H, W, C)`: `(P,)`, in [0, 1].

    Dimensionless, lower is better (more diverse). Mean over at least 1000 random pairs within a class, for
    generated and for real images: collapse shows as a clearly higher mean among the generated (Odena et al.
    2017). No measure of quality: noise is diverse.
    """
    images, pairs = as_float(images), jnp.asarray(pairs)
    if images.ndim != 4 or pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(
            f"images must be (N, H, W, C) and pairs (P, 2), not {images.shape} and {pairs.shape}"
        )

    def similarity(pair):
        x, y = images[pair[0]][None], images[pair[1]][None]
        return ms_ssim(x, y, data_range=data_range, window=window, scales=scales)[0]

    # An index outside the images would silently be the nearest one inside.
    known = jnp.all((pairs >= 0) & (pairs < images.shape[0]), axis=1)
    return undefined_unless(known, jax.lax.map(similarity, pairs, batch_size=8))
