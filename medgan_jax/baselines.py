"""Trivial methods that experiments of one kind are scored beside."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.game import Baseline
from medgan_jax.inference.pca_gaussian import fit_pca_gaussian, pca_codes, sample_pca_gaussian
from medgan_jax.physics.resolution import blur
from medgan_jax.physics.staining import macenko, reinhard

# What probabilities or masks (B, ..., K) are of the named images that `infer` gives.
Outputs = Callable[[jax.Array], Mapping[str, jax.Array]]


def identity(*outputs: str, source: str, target: str) -> Baseline:
    """The batch's image `source` (B, ..., C) as `outputs`; its mean channel where `target` has others."""

    def apply(fitted, batch, key):
        image, shape = batch[source], batch[target].shape
        if image.shape != shape:
            image = jnp.broadcast_to(image.mean(-1, keepdims=True), shape)
        return dict.fromkeys(outputs, image)

    return Baseline("identity", apply)


def mean_image_residual(source: str, *, nearest: str, residual: str, score: str) -> Baseline:
    """The mean training image of `source` (B, ..., C) as `nearest`, the `residual` to it, its sum `score`."""

    def fit(batches):
        total, count = 0.0, 0
        for batch in batches:
            total, count = total + batch[source].sum(0), count + len(batch[source])
        return total / count

    def apply(fitted, batch, key):
        image = batch[source]
        difference = jnp.abs(image - fitted)
        return {
            nearest: jnp.broadcast_to(fitted, image.shape),
            residual: difference,
            score: difference.sum(tuple(range(1, image.ndim))),
        }

    return Baseline("mean-image residual", apply, fit)


def nearest_class_mean(
    source: str, label: str, classes: int, outputs: Callable[[jax.Array], Mapping[str, jax.Array]]
) -> Baseline:
    """Compares the image `source` with the mean training image of each class.

    outputs: mean squared distances to the means (B, classes) -> what the experiment's `infer` gives, such as
    the class that is nearest.
    """

    def fit(batches):
        totals, counts = [0.0] * classes, [0] * classes
        for batch in batches:
            for number in range(classes):
                chosen = batch[source][batch[label] == number]
                totals[number], counts[number] = totals[number] + chosen.sum(0), counts[number] + len(chosen)
        # A class without a training image is never the nearest.
        means = [total / count if count else jnp.inf for total, count in zip(totals, counts, strict=True)]
        return tuple(means)

    def apply(fitted, batch, key):
        image = batch[source]
        far = [jnp.square(image - mean).mean(tuple(range(1, image.ndim))) for mean in fitted]
        return outputs(jnp.stack(far, axis=-1))

    return Baseline("nearest mean image", apply, fit)


def pca_gaussian(output: str | tuple[str, ...], source: str) -> Baseline:
    """As `output`, draws from a Gaussian with the mean and covariance of the training cases of `source`."""
    names = (output,) if isinstance(output, str) else output

    def apply(fitted, batch, key):
        return dict.fromkeys(names, sample_pca_gaussian(fitted, key, len(batch[source])))

    fit = lambda batches: fit_pca_gaussian(batch[source] for batch in batches)  # noqa: E731
    return Baseline("Gaussian in PCA space", apply, fit)


def principal_components(
    source: str,
    codes: int,
    *,
    code: str,
    reconstruction: str,
    sample: str,
    more: Callable[[jax.Array, int], Mapping[str, jax.Array]],
) -> Baseline:
    """The best linear code of images `source` (B, *S, C) with `codes` numbers of variance 1.

    Outputs the code, what it keeps of the image, and images of a Gaussian in the space of the components;
    `more`, of a key and the number of cases, gives the other images of the experiment's `infer`.
    """

    def fit(batches):
        return fit_pca_gaussian((batch[source] for batch in batches), codes)

    def apply(fitted, batch, key):
        numbers = pca_codes(fitted, batch[source])
        kept = fitted["mean"] + jnp.tensordot(numbers, fitted["directions"], axes=1)
        drawn = sample_pca_gaussian(fitted, key, len(kept))
        return {code: numbers, reconstruction: kept, sample: drawn, **more(key, len(kept))}

    return Baseline("principal components", apply, fit)


def best_threshold(source: str, target: str, outputs: Outputs) -> Baseline:
    """A threshold for each structure, on the channel and the side of it that fit the training cases best.

    source: name of images `(B, ..., C)`. target: of masks `(B, ..., K)` of zeros and ones. outputs: the mask
    `(B, ..., K)` that comes out -> the named images that `infer` gives. The best is that of the largest mean
    Dice over the cases that have the structure, among 49 quantiles of each channel.
    """

    def fit(batches):
        pairs = [(batch[source], batch[target]) for batch in batches]
        images, masks = (np.concatenate(each) for each in zip(*pairs, strict=True))
        return jnp.asarray([_threshold(images, masks[..., k] > 0) for k in range(masks.shape[-1])])

    def apply(fitted, batch, key):
        channel, sign, level = (fitted[:, column] for column in range(3))
        chosen = sign * jnp.take(batch[source], channel.astype(jnp.int32), axis=-1)
        return outputs((chosen > level).astype(jnp.float32))

    return Baseline("best threshold", apply, fit)


def _threshold(images: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """(channel, sign, level) so that `sign * channel > level` is most like the mask `(N, ...)` of a structure."""
    present = mask.reshape(len(mask), -1).any(1)
    best = (-1.0, (0.0, 1.0, np.inf))
    if not present.any():
        return best[1]
    images, mask = images[present], mask[present].reshape(present.sum(), -1)
    for channel in range(images.shape[-1]):
        for sign in (1.0, -1.0):
            values = sign * images[..., channel].reshape(mask.shape)
            for level in np.unique(np.quantile(values, np.linspace(0.02, 0.98, 49))):
                called = values > level
                dice = 2 * (called & mask).sum(1) / np.maximum(called.sum(1) + mask.sum(1), 1)
                best = max(best, (float(dice.mean()), (float(channel), sign, float(level))))
    return best[1]


def mean_shape(target: str, outputs: Outputs) -> Baseline:
    """The mean of the training masks, whatever the image; what it is of `infer`'s images says `outputs`.

    target: name of masks `(B, ..., K)`. outputs: probabilities `(B, ..., K)` -> named images.
    """

    def fit(batches):
        total, count = 0.0, 0
        for batch in batches:
            total, count = total + batch[target].sum(0), count + len(batch[target])
        return total / count

    def apply(fitted, batch, key):
        return outputs(jnp.broadcast_to(fitted, (len(batch[target]), *fitted.shape)))

    return Baseline("mean shape", apply, fit)


def difference_of_gaussians(source: str, target: str, outputs: Outputs, *, region: str) -> Baseline:
    """How much darker a pixel is than its surroundings, at the width that fits the training cases best.

    The difference of two Gaussians, the outer of three times the inner's width, is the score `(B, H, W, 1)`
    of which `outputs` makes `infer`'s images; among the widths 0.5 to 3 pixels, that of the largest area
    under the ROC curve of `target` within `region`, masks of the same shape. Of the channels of the image
    `source` the middle one counts: in colour the green one, which shows vessels best.
    """
    widths = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)

    def response(image, width):
        image = image[..., image.shape[-1] // 2, None]
        return blur(image, 3 * width, (-3, -2)) - blur(image, width, (-3, -2))

    def fit(batches):
        total = np.zeros(len(widths))
        for batch in batches:
            inside = np.asarray(batch[region]) > 0
            true = (np.asarray(batch[target]) > 0)[inside]
            if true.any() and not true.all():
                for number, width in enumerate(widths):
                    ranks = np.argsort(np.argsort(np.asarray(response(batch[source], width))[inside]))
                    total[number] += ranks[true].mean() - ranks[~true].mean()
        return jnp.asarray(total)

    def apply(fitted, batch, key):
        every = jnp.stack([response(batch[source], width) for width in widths])
        return outputs(every[jnp.argmax(fitted)])

    return Baseline("difference of Gaussians", apply, fit)


def look_up_table(
    *outputs: str, source: str, target: str, span: tuple[float, float], bins: int = 128
) -> Baseline:
    """The best map from the value of a voxel of `source` to that of `target`, as each of `outputs`.

    For every one of `bins` intervals of `source`, the median of `target` in training, which has the least
    absolute error of all maps of the value alone. Both are `(B, ..., 1)`; values beyond `span`, the range of
    `source`, count as its ends. Medians are read from histograms of `target` with 512 intervals.
    """
    fine = 512

    def fit(batches):
        pairs = [(_interval(batch[source], span, bins).ravel(), batch[target].ravel()) for batch in batches]
        ends = min(values.min() for _, values in pairs), max(values.max() for _, values in pairs)
        edges = np.arange(bins + 1) - 0.5, np.linspace(*ends, fine + 1)
        reached = np.cumsum(sum(np.histogram2d(*pair, edges)[0] for pair in pairs), axis=1)
        middle = (edges[1][:-1] + edges[1][1:]) / 2
        table, filled = middle[np.argmax(reached >= reached[:, -1:] / 2, axis=1)], np.flatnonzero(reached[:, -1])
        return np.interp(np.arange(bins), filled, table[filled]).astype(np.float32)

    def apply(fitted, batch, key):
        return dict.fromkeys(outputs, fitted[_interval(batch[source], span, bins)])

    return Baseline("best look-up table", apply, fit)


def _interval(x, span: tuple[float, float], bins: int):
    """Number of the interval of each value, of a NumPy or a JAX array."""
    low, high = span
    return ((x - low) * (bins / (high - low))).clip(0, bins - 1).astype(np.int32)


def region_means(*outputs: str, target: str, regions: str, count: int) -> Baseline:
    """As each of `outputs`, the mean of `target` `(B, ..., 1)` over the region of training that a voxel is in.

    regions: field of the batch with the number of each voxel's region, below `count`; a region that training
    does not have gives the mean of all.
    """

    def fit(batches):
        totals, counts = np.zeros(count), np.zeros(count)
        for batch in batches:
            where = batch[regions].ravel()
            totals += np.bincount(where, batch[target].ravel(), count)
            counts += np.bincount(where, minlength=count)
        mean = totals.sum() / counts.sum()
        return np.where(counts > 0, totals / np.maximum(counts, 1), mean).astype(np.float32)

    return Baseline("region means", lambda fitted, batch, key: dict.fromkeys(outputs, fitted[batch[regions]]), fit)


def stain_normaliser(
    name: str,
    normalise: Callable[[jax.Array, jax.Array], jax.Array],
    *outputs: str,
    source: str,
    reference: Sequence[Mapping[str, np.ndarray]],
    light: Callable[[np.ndarray], np.ndarray],
    patches: int = 16,
) -> Baseline:
    """`normalise(image, reference)` of each image of `source`, in [-1, 1], as each of `outputs`.

    normalise: of `physics.staining`, on images in [0, 1]. reference: records with an `image` `(H, W, 3)` of
    the wanted stain, of which the first `patches` are joined and taken to [0, 1] by `light`; they are read
    when the method is measured. An image that has no stain to be taken apart stays as it is.
    """

    def apply(fitted, batch, key):
        known = [reference[index]["image"] for index in range(min(patches, len(reference)))]
        wanted, image = jnp.asarray(light(np.concatenate(known))), (batch[source] + 1) / 2
        found = jax.vmap(lambda each: normalise(each, wanted))(image)
        return dict.fromkeys(outputs, 2 * jnp.where(jnp.isfinite(found), found, image) - 1)

    return Baseline(name, apply)


def stain_normalisers(
    *outputs: str, source: str, reference: Sequence[Mapping[str, np.ndarray]], light: Callable
) -> tuple[Baseline, ...]:
    """`stain_normaliser` after Macenko et al. 2009 and after Reinhard et al. 2001, as they are called."""
    known = dict(source=source, reference=reference, light=light)
    methods = {"Macenko": macenko, "Reinhard": reinhard}
    return tuple(stain_normaliser(name, method, *outputs, **known) for name, method in methods.items())


def one_answer(name: str, *outputs: str, source: str, axes: int = 1) -> Baseline:
    """A score of 1 as `outputs` for each case, or for each member where scores have the first 2 `axes` of `source`."""

    def apply(fitted, batch, key):
        return dict.fromkeys(outputs, jnp.ones(batch[source].shape[:axes]))

    return Baseline(name, apply)


def side_by_side(*baselines: Baseline) -> Baseline:
    """Several trivial methods as one, each for its own outputs of `infer`."""

    def fit(batches):
        batches = list(batches)
        return tuple(() if each.fit is None else each.fit(iter(batches)) for each in baselines)

    def apply(fitted, batch, key):
        found = (each.apply(own, batch, key) for each, own in zip(baselines, fitted, strict=True))
        return {name: image for outputs in found for name, image in outputs.items()}

    return Baseline("; ".join(each.name for each in baselines), apply, fit)


def difference_of_means(source: str, first, second, outputs: Callable, *, scale: float) -> Baseline:
    """The mean image of one group less that of another, whatever the image.

    first, second: the groups' records by index, with an `image` (*S, C) in the units of files, of which
    `scale` makes those of the batch. outputs: (image `source` (B, *S, C), difference) -> named images.
    """

    def mean(records):
        return sum(np.asarray(records[index]["image"], np.float64) for index in range(len(records))) / len(records)

    @functools.cache
    def difference():
        return (scale * (mean(first) - mean(second))).astype(np.float32)

    def apply(fitted, batch, key):
        return outputs(batch[source], jnp.broadcast_to(difference(), batch[source].shape))

    return Baseline("difference of means", apply)


def no_deformation(moving: str, *, warped: str, displacement: str) -> Baseline:
    """The image `moving` (B, *S, C) as it is as `warped`, and a `displacement` (B, *S, rank) of zero."""

    def apply(fitted, batch, key):
        image = batch[moving]
        return {warped: image, displacement: jnp.zeros((*image.shape[:-1], image.ndim - 2))}

    return Baseline("no deformation", apply)
