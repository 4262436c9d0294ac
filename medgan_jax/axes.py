"""Means and gathers over devices, which are identities where no device axis is bound.

Under `jit` over a mesh an array is global and a plain mean is already the mean over devices. Under `pmap`
each device sees its own rows, and the axis `DEVICES` is bound. Code that calls these two helpers (gradients,
batch statistics, logged terms, image pools) is therefore the same program in both.
"""

import jax
import jax.numpy as jnp

DEVICES = "devices"


def bound(name: str = DEVICES) -> bool:
    """Whether the device axis `name` is bound in the program being traced."""
    try:
        jax.lax.axis_size(name)
    except NameError:
        return False
    return True


def mean(tree):
    """Mean of every floating-point leaf over devices; the tree itself where no device axis is bound."""
    if not bound():
        return tree

    def leaf_mean(leaf):
        return jax.lax.pmean(leaf, DEVICES) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(leaf_mean, tree)


def gather(x: jax.Array) -> jax.Array:
    """Rows `(B, ...)` of all devices joined to `(B * devices, ...)`, in device order."""
    return jax.lax.all_gather(x, DEVICES, tiled=True) if bound() else x


def of_first_device(x: jax.Array) -> jax.Array:
    """The value that the first device holds, on all devices: a random choice that all of them must share."""
    if not bound():
        return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(of_first_device(jax.random.key_data(x)), impl=jax.random.key_impl(x))
    return jax.lax.all_gather(x, DEVICES)[0]


def own_rows(x: jax.Array, rows: int) -> jax.Array:
    """The `rows` rows of a gathered array that belong to this device: the inverse of `gather`."""
    if not bound():
        return x
    start = jax.lax.axis_index(DEVICES) * rows
    return jax.lax.dynamic_slice_in_dim(jnp.asarray(x), start, rows)
