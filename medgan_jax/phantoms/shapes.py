"""Signed distances to the shapes of which anatomy is drawn, positive inside, and painting by them.

Coordinates and distances share one unit, whichever the phantom uses. In 2D and 3D alike, coordinates are
tuples of arrays, one an axis, in the order of the image's axes.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Coordinates = Sequence[jax.Array]


def centres(size: int) -> np.ndarray:
    """`(size,)` places of pixel centres between -1 and 1."""
    return (2 * (np.arange(size, dtype=np.float32) + 0.5) / size) - 1


def grid(shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Coordinates in (-1, 1) of the pixels of an image of `shape`, one array an axis, ready to broadcast."""
    return tuple(np.meshgrid(*(centres(size) for size in shape), indexing="ij", sparse=True))


def norm(*components: jax.Array) -> jax.Array:
    """Length of a vector; its gradient is finite at zero."""
    return jnp.sqrt(sum(component * component for component in components) + 1e-12)


def ellipsoid(
    coordinates: Coordinates, centre: Sequence[float], radii: Sequence[float], tilt: float | jax.Array = 0.0
) -> jax.Array:
    """Distance, to first order, to an ellipse or ellipsoid turned by `tilt` radians in its last two axes."""
    offsets = [axis - middle for axis, middle in zip(coordinates, centre, strict=True)]
    down, across = offsets[-2:]
    cosine, sine = jnp.cos(tilt), jnp.sin(tilt)
    offsets[-2:] = cosine * down - sine * across, cosine * across + sine * down
    scaled = [offset / radius for offset, radius in zip(offsets, radii, strict=True)]
    length = norm(*scaled)
    slope = norm(*(part / radius for part, radius in zip(scaled, radii, strict=True)))
    return length * (1 - length) / slope


def segment(
    coordinates: Coordinates, start: Sequence[float], end: Sequence[float]
) -> tuple[jax.Array, jax.Array]:
    """Unsigned distance to the straight piece between two points, and the nearest place on it, 0 to 1."""
    along = [b - a for a, b in zip(start, end, strict=True)]
    offsets = [axis - a for axis, a in zip(coordinates, start, strict=True)]
    length = sum(part * part for part in along) + 1e-12
    place = jnp.clip(sum(o * a for o, a in zip(offsets, along, strict=True)) / length, 0, 1)
    return norm(*(o - place * a for o, a in zip(offsets, along, strict=True))), place


def tube(
    coordinates: Coordinates, start: Sequence[float], end: Sequence[float], radii: tuple[float, float]
) -> jax.Array:
    """Distance to a tube between two points, its radius going from the first to the second."""
    distance, place = segment(coordinates, start, end)
    return radii[0] + place * (radii[1] - radii[0]) - distance


def distance_to_zero(level: jax.Array, spacing: float) -> jax.Array:
    """Distance, to first order, to the zero line of a smooth function: `f / |grad f|`; spacing of pixels."""
    slopes = [
        jnp.moveaxis(jnp.tensordot(level, _difference(size), axes=(axis, 1)), -1, axis) / spacing
        for axis, size in enumerate(level.shape)
    ]
    return level / jnp.maximum(norm(*slopes), 1e-2)


@functools.cache
def _difference(size: int) -> np.ndarray:
    """Matrix `(N, N)` of central differences.

    A matrix, because the compiler merges shifted reads with all that comes before and computes it once a
    shift.
    """
    return np.gradient(np.eye(size, dtype=np.float32), axis=0)


def paint(drawn: jax.Array, inside: jax.Array, value: jax.Array | float, softness: float) -> jax.Array:
    """`drawn` with `value` where the signed distance `inside` is positive; borders are `softness` wide."""
    cover = jnp.clip(0.5 + inside / softness, 0, 1)
    cover = cover.reshape(cover.shape + (1,) * (jnp.ndim(drawn) - cover.ndim))
    return drawn + cover * (value - drawn)


def blur(image: jax.Array, deviations: Sequence[float], *, white: bool = False) -> jax.Array:
    """`image` `(..., no channels)` blurred along each axis by a Gaussian of that many pixels (0: not at all).

    white: keep the variance of white noise rather than the mean of a signal.
    """
    for axis, deviation in enumerate(deviations):
        if deviation > 0:
            matrix = _gaussian(image.shape[axis], float(deviation), white)
            image = jnp.moveaxis(jnp.tensordot(image, matrix, axes=(axis, 1)), -1, axis)
    return image


@functools.cache
def _gaussian(size: int, deviation: float, white: bool) -> np.ndarray:
    """Matrix `(N, N)` of a Gaussian with rows of unit sum or, for white noise, of unit length."""
    offset = np.arange(size)[:, None] - np.arange(size)
    weight = np.exp(-0.5 * (offset / deviation) ** 2)
    size_of_row = np.linalg.norm(weight, axis=1) if white else weight.sum(1)
    return (weight / size_of_row[:, None]).astype(np.float32)


def average(image: jax.Array, factor: int, rank: int = 2) -> jax.Array:
    """Means of blocks of `factor` pixels along each of the first `rank` axes, as thick voxels are."""
    for axis in range(rank):
        shape = image.shape
        image = image.reshape(*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :]).mean(axis + 1)
    return image
