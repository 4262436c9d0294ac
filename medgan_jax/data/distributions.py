"""Points of known distributions, on which a game shows whether it finds all of what it should learn."""

import jax
import jax.numpy as jnp
import numpy as np

MODES, RADIUS, DEVIATION = 8, 0.8, 0.04


def ring_centres(modes: int = MODES, radius: float = RADIUS) -> np.ndarray:
    """Where the modes of `ring_point` lie, `(modes, 2)`: on a circle around zero, the first at its right."""
    angles = 2 * np.pi * np.arange(modes) / modes
    return (radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def ring_point(
    key: jax.Array, *, modes: int = MODES, radius: float = RADIUS, deviation: float = DEVIATION
) -> dict[str, jax.Array]:
    """A point of a mixture of Gaussians on a circle, all equally likely: the usual trial for mode collapse.

    After Metz et al. 2017 (unrolled GANs) and Gulrajani et al. 2017. Returns `point` `(2,)`, nearly
    always within [-1, 1], and `label` `()` int32, the number of its mode.
    """
    which, around = jax.random.split(key)
    label = jax.random.randint(which, (), 0, modes)
    centre = jnp.asarray(ring_centres(modes, radius))[label]
    return {"point": centre + deviation * jax.random.normal(around, (2,)), "label": label}
