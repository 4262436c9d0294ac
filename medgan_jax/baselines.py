"""Trivial methods that experiments of one kind are scored beside."""

import jax.numpy as jnp

from medgan_jax.game import Baseline


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
