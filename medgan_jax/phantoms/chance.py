"""A phantom subject's random numbers and smooth random fields, all from one draw.

Separate draws would cost compilation time, and a subject must be the same at every size of the image.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np


class Chance:
    """Random numbers of named parts of a subject; no part depends on which others are drawn.

    numbers: how many scalars each part has. fields: for each name the spans of its cubic B-spline along the
    whole field of view and how many such fields there are; more spans make it rougher. shape: rows and
    columns, or slices, rows and columns, of the image on which fields are evaluated; the same key gives the
    same fields at every shape of the same rank.
    """

    def __init__(
        self,
        key: jax.Array,
        numbers: Mapping[str, int],
        fields: Mapping[str, tuple[int, int]],
        shape: tuple[int, ...],
    ):
        subject_key, self._noise_key = jax.random.split(key)
        shapes = {name: (count, *(spans + 3,) * len(shape)) for name, (spans, count) in fields.items()}
        lengths = [*numbers.values(), *(int(np.prod(each)) for each in shapes.values())]
        deviates = settled(jax.random.normal(subject_key, (sum(lengths),)))
        parts = jnp.split(deviates, np.cumsum(lengths[:-1]))
        self._numbers = dict(zip(numbers, parts, strict=False))
        uniform = settled(jax.scipy.stats.norm.cdf(deviates[: sum(numbers.values())]))
        starts = np.cumsum(lengths[: len(numbers)])[:-1]
        self._uniform = dict(zip(numbers, jnp.split(uniform, starts), strict=False))
        drawn = zip(shapes.items(), parts[len(numbers) :], strict=True)
        self._coefficients = {name: part.reshape(each) for (name, each), part in drawn}
        self._shape = shape

    def normal(self, part: str) -> jax.Array:
        """`(count,)` standard normal numbers: all that the part has, the same at every call."""
        return self._numbers[part]

    def uniform(self, part: str) -> jax.Array:
        """The same numbers as `normal`, made uniform in (0, 1)."""
        return self._uniform[part]

    def field(self, name: str) -> jax.Array:
        """`(count, *shape)` smooth random fields of about zero mean and unit variance."""
        return spline_fields(self._coefficients[name], self._shape)

    def noise(self, *shape: int) -> jax.Array:
        """White standard normal noise of any shape; every call gives the beginning of the same draw."""
        return jax.random.normal(self._noise_key, shape)


def settled(numbers: jax.Array) -> jax.Array:
    """The same numbers `(N,)`, computed once.

    The compiler repeats elementwise work in each place that uses it, the making of random numbers in a
    hundred places, but it does not look through a product with a matrix.
    """
    side = 128
    rows = jnp.pad(numbers, (0, -len(numbers) % side)).reshape(-(-len(numbers) // side), side)
    return jnp.matmul(rows, np.eye(side, dtype=np.float32), precision="highest").ravel()[: len(numbers)]


def spline_fields(coefficients: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Cubic B-splines `(count, *shape)` of coefficients `(count, spans + 3, ...)`, their variance kept."""
    field = coefficients
    for axis, (size, number) in enumerate(zip(shape, coefficients.shape[1:], strict=True), start=1):
        basis = spline_basis(size, number - 3)
        field = jnp.moveaxis(jnp.tensordot(field, basis, axes=(axis, 1)), -1, axis)
    return field


@functools.cache
def spline_basis(size: int, spans: int) -> np.ndarray:
    """Uniform cubic B-splines `(size, spans + 3)` at pixel centres, of a mean variance of one an axis."""
    place = (np.arange(size) + 0.5) / size * spans
    offset = np.abs(place[:, None] - (np.arange(spans + 3) - 1))
    near = 2 / 3 - offset**2 + offset**3 / 2
    far = np.clip(2 - offset, 0, None) ** 3 / 6
    basis = np.where(offset < 1, near, far)
    return (basis / np.sqrt(np.mean(np.sum(basis**2, axis=1)))).astype(np.float32)
