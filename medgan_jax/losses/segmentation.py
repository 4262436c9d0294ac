"""Losses of segmentations against masks: cross-entropies of logits, soft Dice, and SegAN's distance.

Masks are `(B, ..., K)`, zeros and ones, channels last, of rank 2 or 3. Every function returns a scalar.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from medgan_jax.losses import pixel
from medgan_jax.losses.arrays import promoted_pair


def binary_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Mean -target log p - (1 - target) log(1 - p), p = sigmoid(logits), of each structure by itself.

    `logits` and `target` are `(B, ..., K)` of one shape, else ValueError.
    """
    logits, target = promoted_pair(logits, target)
    return jnp.mean(jax.nn.softplus(logits) - target * logits)


def class_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over pixels of -sum_k target_k log softmax(logits)_k; `(B, ..., K)` both, `target` one-hot.

    ValueError where the shapes differ.
    """
    logits, target = promoted_pair(logits, target)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))


def deep_supervision(
    logits: jax.Array, branches: Sequence[jax.Array], target: jax.Array, weight: jax.Array | float
) -> jax.Array:
    """Class cross-entropy of an output and, times `weight`, of each branch that leads to it.

    All `(B, ..., K)`. The multi-scale cross-entropy of Chen et al. 2016 (DCAN) and those after it.
    """
    own, *others = (class_cross_entropy(each, target) for each in (logits, *branches))
    return own + weight * sum(others)


def soft_dice(probability: jax.Array, target: jax.Array, *, epsilon: float = 1e-5) -> jax.Array:
    """Mean over cases and structures of 1 - 2 sum(p y) / (sum p^2 + sum y^2); `(B, ..., K)` of one shape.

    The form with squares (Milletari et al. 2016, V-Net). A structure absent from both counts as 0, by
    `epsilon` in numerator and denominator.
    """
    probability, target = promoted_pair(probability, target)
    space = tuple(range(1, target.ndim - 1))
    both = 2 * jnp.sum(probability * target, space)
    sizes = jnp.sum(jnp.square(probability), space) + jnp.sum(jnp.square(target), space)
    return 1 - jnp.mean((both + epsilon) / (sizes + epsilon))


def multi_scale_l1(predicted: Sequence[jax.Array], true: Sequence[jax.Array]) -> jax.Array:
    """Mean over levels of the mean absolute difference of two lists of feature maps.

    SegAN's objective (Xue et al. 2018, eq. 2) of the features of image times mask, which its critic
    maximises. Level by level of one shape, and as many levels, else ValueError.
    """
    levels = [pixel.l1(one, other) for one, other in zip(predicted, true, strict=True)]
    return sum(levels) / len(levels)
