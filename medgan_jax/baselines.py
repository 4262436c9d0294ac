"""Trivial methods that experiments of one kind are scored beside."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.game import Baseline
from medgan_jax.inference.pca_gaussian import fit_pca_gaussian, sample_pca_gaussian
from medgan_jax.physics.resolution import blur

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
