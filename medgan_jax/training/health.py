"""Signals of a run's health: non-finite values with their names, and the diversity of what is generated."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A named part of a loss says more than the loss, and the loss more than its gradient.
_LEAST_TELLING = ("loss", "gradient_norm", "update_ratio", "played")


def first_non_finite(terms: Mapping[str, np.ndarray], phases: Sequence[str]) -> tuple[str, str] | None:
    """(phase, term) of the first value that is not finite, in the order in which phases are played; None if none."""

    def order(name: str):
        phase, term = name.split("/", 1)
        return phases.index(phase), _LEAST_TELLING.index(term) if term in _LEAST_TELLING else -1

    for name in sorted(terms, key=order):
        if not np.all(np.isfinite(terms[name])):
            phase, term = name.split("/", 1)
            return phase, term
    return None


def non_finite_network(trees: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name of the first network with a value that is not finite in any of `{part: {network: tree}}`; None if none."""
    found = jax.device_get(_all_finite(trees))
    return next((name for part in found.values() for name, finite in part.items() if not finite), None)


@jax.jit
def _all_finite(trees):
    def finite(tree):
        floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in floating]))

    return {part: {name: finite(tree) for name, tree in networks.items()} for part, networks in trees.items()}


def diversity(images: jax.Array) -> jax.Array:
    """Mean absolute difference between all pairs of images `(B, ...)`: near 0 when a generator has collapsed."""
    rows = images.reshape(images.shape[0], -1)
    if rows.shape[0] < 2:
        return jnp.full((), jnp.nan)
    differences = jnp.abs(rows[:, None] - rows[None]).mean(-1)
    return differences.sum() / (rows.shape[0] * (rows.shape[0] - 1))
