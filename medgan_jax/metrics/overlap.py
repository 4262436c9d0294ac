"""Overlap of segmentations: Dice and intersection over union, of masks and of every class of label maps.

Every function takes `(prediction, reference)`, in this order, thresholded: a soft mask has no Dice score, and
scores NaN. The first axis counts cases; everything else is pooled, so a volume `(B, D, H, W, 1)` gives the
volume's value, which differs from the mean over its slices. What an empty mask scores is `empty_policy`:

- `'nan'`: NaN when both are empty (0/0: exclude the case, and count it); the formula's 0 when one is.
- `'best_worst'`: 1 when both are empty, 0 when one is.

A policy that raises needs values, which a traced function has not: see `medgan_jax.metrics.measure`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import as_float, divide, undefined_unless

EMPTY_POLICIES = ("nan", "best_worst")


def _apply_empty_policy(value: jax.Array, empty: jax.Array, valid: jax.Array, empty_policy: str) -> jax.Array:
    if empty_policy not in EMPTY_POLICIES:
        raise ValueError(
            f"empty_policy must be one of {EMPTY_POLICIES} in a traced metric, not {empty_policy!r}"
        )
    return undefined_unless(valid, jnp.where(empty, 1.0 if empty_policy == "best_worst" else jnp.nan, value))


def _mask_sizes(prediction, reference) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Sizes of the intersection, the prediction and the reference, `(B,)` each, and whether the masks are
    masks."""
    prediction, reference = as_float(prediction), as_float(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction is {prediction.shape} but reference is {reference.shape}")
    if prediction.ndim < 2:
        raise ValueError(f"masks need an axis of cases and at least one more, not {prediction.shape}")
    a, b = (x.reshape(x.shape[0], -1) for x in (prediction, reference))
    valid = jnp.all(((a == 0) | (a == 1)) & ((b == 0) | (b == 1)), axis=1)
    # Counted in int32: a float32 sum of ones stops at 2^24, less than a CT volume holds.
    sizes = (jnp.sum(x, 1, dtype=jnp.int32).astype(a.dtype) for x in ((a == 1) & (b == 1), a == 1, b == 1))
    return *sizes, valid


@partial(jax.jit, static_argnames=("empty_policy",))
def dice(prediction: jax.Array, reference: jax.Array, *, empty_policy: str) -> jax.Array:
    """Dice similarity coefficient, `2 |A n B| / (|A| + |B|)` of binary masks (Dice 1945): `(B,)`.

    In [0, 1], higher is better; equal to F1. NaN for values other than 0 and 1: a soft mask has no Dice
    score, so threshold first.
    """
    intersection, a, b, valid = _mask_sizes(prediction, reference)
    return _apply_empty_policy(divide(2 * intersection, a + b), a + b == 0, valid, empty_policy)


@partial(jax.jit, static_argnames=("empty_policy",))
def iou(prediction: jax.Array, reference: jax.Array, *, empty_policy: str) -> jax.Array:
    """Intersection over union, `|A n B| / |A u B|` of binary masks (Jaccard 1901): `(B,)`.

    In [0, 1], higher is better; `D / (2 - D)` of the Dice score D, for which releases have mistaken it.
    """
    intersection, a, b, valid = _mask_sizes(prediction, reference)
    return _apply_empty_policy(divide(intersection, a + b - intersection), a + b == 0, valid, empty_policy)


def _class_sizes(prediction, reference, classes: int):
    """Sizes per class, `(B, classes)` each, of label maps with values `0 .. classes - 1`."""
    prediction, reference = as_float(prediction), as_float(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction is {prediction.shape} but reference is {reference.shape}")
    if prediction.ndim < 2:
        raise ValueError(f"label maps need an axis of cases and at least one more, not {prediction.shape}")
    a, b = (x.reshape(x.shape[0], -1) for x in (prediction, reference))
    both = jnp.stack([a, b])
    valid = jnp.all((both >= 0) & (both < classes) & (both == jnp.floor(both)), axis=(0, 2))
    a, b = (jnp.clip(jnp.nan_to_num(x), 0, classes - 1).astype(jnp.int32) for x in (a, b))

    def histogram(index):
        count = jax.vmap(lambda i: jnp.zeros(classes + 1, jnp.int32).at[i].add(1)[:classes])
        return count(index).astype(prediction.dtype)

    return histogram(jnp.where(a == b, a, classes)), histogram(a), histogram(b), valid[:, None]


@partial(jax.jit, static_argnames=("classes", "empty_policy"))
def class_dice(prediction: jax.Array, reference: jax.Array, *, classes: int, empty_policy: str) -> jax.Array:
    """Dice score, `2 |A n B| / (|A| + |B|)`, of every class of two label maps: `(B, ...) -> (B, classes)`.

    In [0, 1], higher is better (Dice 1945). Class 0, the background, comes first. Average over the classes
    you mean and then over cases; background flatters, so leave it out knowingly. A
    class absent from both maps is empty and follows `empty_policy`: it must not turn into 0 by way of a mean.
    NaN for cases with a label outside `0 .. classes - 1`.
    """
    intersection, a, b, valid = _class_sizes(prediction, reference, classes)
    return _apply_empty_policy(divide(2 * intersection, a + b), a + b == 0, valid, empty_policy)


@partial(jax.jit, static_argnames=("classes", "empty_policy"))
def class_iou(prediction: jax.Array, reference: jax.Array, *, classes: int, empty_policy: str) -> jax.Array:
    """Intersection over union, `|A n B| / |A u B|`, of every class of two label maps: `(B, ...) -> (B,
    classes)`.

    In [0, 1], higher is better (Jaccard 1901). Background is class 0, and absent classes follow
    `empty_policy`: see `class_dice`.
    """
    intersection, a, b, valid = _class_sizes(prediction, reference, classes)
    return _apply_empty_policy(divide(intersection, a + b - intersection), a + b == 0, valid, empty_policy)


@partial(jax.jit, static_argnames=("empty_policy",))
def centreline_dice(
    prediction: jax.Array,
    reference: jax.Array,
    prediction_skeleton: jax.Array,
    reference_skeleton: jax.Array,
    *,
    empty_policy: str,
) -> jax.Array:
    """clDice of tubes (Shit et al. 2021), `2 T S / (T + S)`, T and S the skeletons' shares inside the other
    mask: `(B,)`.

    In [0, 1], higher is better. Skeletons are arguments because thinning algorithms differ, and the value
    with them.
    """
    in_reference, length_a, _, valid_a = _mask_sizes(prediction_skeleton, reference)
    in_prediction, length_b, _, valid_b = _mask_sizes(reference_skeleton, prediction)
    shares = [
        jnp.where(length > 0, divide(inside, length), 0)
        for inside, length in ((in_reference, length_a), (in_prediction, length_b))
    ]
    total = shares[0] + shares[1]
    value = jnp.where(total > 0, divide(2 * shares[0] * shares[1], total), 0)
    return _apply_empty_policy(value, (length_a == 0) & (length_b == 0), valid_a & valid_b, empty_policy)
