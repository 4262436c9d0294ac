"""A Gaussian in the space of principal components: what unconditional synthesis must beat.

It has the right mean and covariance along `components` directions and nothing else, so its samples are blurred
averages without any structure of higher order.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np


def fit_pca_gaussian(batches: Iterable[np.ndarray], components: int = 64) -> dict[str, np.ndarray]:
    """Mean image `(*S, C)` and directions `(k, *S, C)` scaled by their standard deviations, of images `(B, *S, C)`."""
    images = np.concatenate([np.asarray(batch, np.float64) for batch in batches])
    rows = images.reshape(len(images), -1)
    mean = rows.mean(0)
    _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
    kept = min(components, len(images) - 1, rows.shape[1])
    scaled = directions[:kept] * singular[:kept, None] / math.sqrt(len(images) - 1)
    shape = images.shape[1:]
    return {
        "mean": mean.reshape(shape).astype(np.float32),
        "directions": scaled.reshape(kept, *shape).astype(np.float32),
    }


def sample_pca_gaussian(fitted: dict[str, jax.Array], key: jax.Array, count: int) -> jax.Array:
    """`count` samples `(count, *S, C)`."""
    weights = jax.random.normal(key, (count, fitted["directions"].shape[0]))
    return fitted["mean"] + jnp.tensordot(weights, fitted["directions"], axes=1)


def pca_codes(fitted: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Weights `(B, k)` of the directions in images `(B, *S, C)`: uncorrelated, of variance 1 over the training set."""
    directions = fitted["directions"]
    away = images - fitted["mean"]
    axes = tuple(range(1, directions.ndim))
    lengths = jnp.square(directions).sum(axes)
    return jnp.tensordot(away, directions, axes=(axes, axes)) / jnp.maximum(lengths, 1e-12)
