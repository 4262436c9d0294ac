"""Losses between features that some network computed: an array, or any pytree of arrays (tap name -> array).

The network is the caller's (`models.features`, or a discriminator's maps); here are only distances.
"""

import jax
import jax.numpy as jnp

from medgan_jax.losses import pixel
from medgan_jax.losses.arrays import promoted


def _mean_over_taps(distance, prediction, target) -> jax.Array:
    distances = jax.tree.leaves(jax.tree.map(distance, prediction, target))
    if not distances:
        raise ValueError("there are no features to compare")
    return sum(distances) / len(distances)


def feature_l2(prediction, target) -> jax.Array:
    """Mean squared difference of features, averaged over taps with equal weight (Johnson et al. 2016, eq. 2).

    `prediction` and `target` are arrays `(B, ..., C)` or pytrees of them with one structure; ValueError where
    shapes differ.
    """
    return _mean_over_taps(pixel.l2, prediction, target)


def feature_l1(prediction, target) -> jax.Array:
    """Mean absolute difference of features, averaged over taps: the usual discriminator feature matching.

    Arguments as for `feature_l2`. Salimans et al. 2016 match batch means instead: `feature_mean_l2`.
    """
    return _mean_over_taps(pixel.l1, prediction, target)


def feature_mean_l2(prediction, target, *, chosen: jax.Array | None = None) -> jax.Array:
    """Sum of squared differences of the *batch means* of features, averaged over taps (Salimans et al. 2016).

    ||E f(x) - E f(G(z))||_2^2. The two batches may differ in size; all other axes must agree. chosen: which
    cases of `target` `(B,)` count, such as those of one class; where there are none, the distance is 0.
    """

    def distance(p, t):
        p, t = promoted(p).mean(axis=0), promoted(t)
        if chosen is None:
            t = t.mean(axis=0)
        else:
            weights = jnp.asarray(chosen, t.dtype)
            count = weights.sum()
            t = jnp.where(count > 0, jnp.tensordot(weights, t, axes=1) / jnp.maximum(count, 1), p)
        return pixel.l2(p, t) * p.size

    return _mean_over_taps(distance, prediction, target)


def class_means_l2(made: jax.Array, real: jax.Array, classes: jax.Array, count: int = 2) -> jax.Array:
    """`feature_mean_l2` by class, summed over classes and divided by the number of features of a case.

    made: features (count B, ...), B of class 0 before those of class 1; real: (N, ...) of the `classes` (N,).
    """
    own = enumerate(jnp.split(made, count))
    return sum(feature_mean_l2(each, real, chosen=classes == number) for number, each in own) / real[0].size


def gram(features: jax.Array) -> jax.Array:
    """Gram matrices `(B, C, C)` of features `(B, ..., C)`: F^T F / (positions * C) (Gatys et al. 2016)."""
    batch, channels = features.shape[0], features.shape[-1]
    flat = promoted(features).reshape(batch, -1, channels)
    return jnp.einsum("bnc,bnd->bcd", flat, flat) / (flat.shape[1] * channels)


def style_l1(prediction, target) -> jax.Array:
    """Mean absolute difference of Gram matrices, averaged over taps; arguments as for `feature_l2`."""
    return feature_l1(jax.tree.map(gram, prediction), jax.tree.map(gram, target))


def matched_weight(perceptual: jax.Array, reference: jax.Array, ratio: float) -> jax.Array:
    """Weight that makes `weight * perceptual == ratio * reference` for values measured at initialisation.

    Published weights of a perceptual term hold for one set of VGG weights only. With other features, measure
    both terms once on the first batch, `reference` being the *weighted* pixel term, and keep the ratio that
    the published weights had. No gradient passes. A perceptual value of 0 gives weight 0.
    """
    perceptual, reference = jax.lax.stop_gradient((promoted(perceptual), promoted(reference)))
    nonzero = perceptual > 0
    return jnp.where(nonzero, ratio * reference / jnp.where(nonzero, perceptual, 1.0), 0.0)
