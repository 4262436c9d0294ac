"""Winograd's minimal filtering for planes without strides, as matrix products.

For `m = 2` outputs and `r` taps along an axis, `m + r - 1` products do the work of `2 r`: each axis of the
image and of the kernel is changed into `m + r - 1` points, the channels are multiplied point by point, and
the points of the result are changed back (Winograd 1980; Lavin & Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016). In two dimensions 9 products stand for 16 with 2 x 2 taps, 16 for 36 with
3 x 3, 25 for 64 with 4 x 4. So few points keep errors within some roundings of float32.

A convolution of 4 x 4 taps and stride 2 is one of 2 x 2 taps on blocks of 2 x 2 pixels taken as channels, so
it profits too. Everything here is for float32 and wider on a CPU; `conv_cpu.py` says when.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 2  # outputs of a tile along each axis


@dataclasses.dataclass(frozen=True)
class _Points:
    """The linear maps of one axis, rows are points: of the image's tile, the kernel's taps, the outputs."""

    image: np.ndarray
    taps: np.ndarray
    outputs: np.ndarray


@functools.cache
def _points(taps: int) -> _Points:
    """The maps for 2, 3 or 4 taps, by the construction of Cook and Toom.

    A tile times the reversed kernel is a product of polynomials, evaluated at points and interpolated; this
    is its transpose. The last point is infinity.
    """
    places = np.array((0.0, 1.0, -1.0, 2.0)[:taps])
    apart = places[:, None] - places + np.eye(taps)
    infinity = np.eye(1, taps, taps - 1)
    image = np.zeros((taps + 1, taps + 1))
    for row, place in enumerate(places):
        image[row, :taps] = np.poly(places[places != place])[::-1]
    image[-1] = np.poly(places)[::-1]
    return _Points(
        image=image,
        taps=np.concatenate([np.vander(places, taps, increasing=True) / apart.prod(1)[:, None], infinity]),
        outputs=np.concatenate([np.vander(places, TILE, increasing=True), np.eye(1, TILE, TILE - 1)]),
    )


def gather(x: jax.Array, kernel: jax.Array, pads, counts, *, swapped: bool = False) -> jax.Array:
    """`y[i] = sum_u x[i + u - low] q[u]`: `x` (B, H, W, C), `kernel` (r, r, C, F) -> (B, *counts, F).

    pads: (low, high) of both axes, negative ones cut. r is 2, 3 or 4. swapped: `kernel` is (r, r, F, C).
    """
    points, tiles = _points(kernel.shape[0]), _tiles(counts)
    values = _image_points(x, pads, counts, points)
    # Batched products of a kernel as it is would run at half the rate.
    kernel = jnp.swapaxes(kernel, 2, 3) if swapped else kernel
    weights = _mapped(_square(points.taps).swapaxes(0, 1), kernel)
    products = lax.dot_general(values, weights, (((2,), (1,)), ((0,), (0,))))
    outputs = _mapped(_square(points.outputs.T).swapaxes(2, 3), products)
    # The outputs of a tile lie beside each other.
    y = outputs.reshape(TILE, TILE, x.shape[0], *tiles, -1).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(x.shape[0], *(TILE * n for n in tiles), -1)[:, : counts[0], : counts[1]]


def correlate(x: jax.Array, y: jax.Array, pads, taps: int) -> jax.Array:
    """The gradient of `gather` with respect to the kernel: `x` (B, H, W, C), `y` (B, *T, F) -> (r, r, C, F)."""
    points, counts = _points(taps), y.shape[1:-1]
    values = _image_points(x, pads, counts, points)
    # Outputs beyond the image count nothing.
    edges = [(0, TILE * n - count, 0) for n, count in zip(_tiles(counts), counts, strict=True)]
    y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    outputs = _tile_points(y, _tiles(counts), points.outputs)
    products = lax.dot_general(values, outputs, (((1,), (1,)), ((0,), (0,))))
    kernel = _mapped(_square(points.taps.T).swapaxes(2, 3), products)
    return kernel.reshape(taps, taps, *products.shape[1:])


def _tiles(counts) -> tuple[int, ...]:
    return tuple(-(-count // TILE) for count in counts)


def _image_points(x: jax.Array, pads, counts, points: _Points) -> jax.Array:
    """All tiles of the image at each point: (points, B * tiles, C)."""
    tiles, width = _tiles(counts), points.image.shape[1]
    edges = [
        (low, TILE * (n - 1) + width - low - size, 0)
        for (low, _), n, size in zip(pads, tiles, x.shape[1:-1], strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    return _tile_points(x, tiles, points.image)


# Sums of places are written as products with a small matrix. Sums that XLA fuses, one for each point, make some
# games' steps a tenth faster, but the steps take twice as long to compile.


def _tile_points(x: jax.Array, tiles, matrix: np.ndarray) -> jax.Array:
    """`matrix` along both axes of every tile of `x` (B, H, W, C): (points, B * tiles, C), columns' points first."""
    maps, width = jnp.asarray(matrix, x.dtype), matrix.shape[1]
    rows, columns = (TILE * (n - 1) + 1 for n in tiles)
    x = jnp.stack([x[:, u : u + rows : TILE] for u in range(width)])
    x = (maps @ x.reshape(width, -1)).reshape(-1, *x.shape[1:])
    x = jnp.stack([x[:, :, :, v : v + columns : TILE] for v in range(width)])
    return (maps @ x.reshape(width, -1)).reshape(len(matrix) ** 2, -1, x.shape[-1])


def _square(matrix: np.ndarray) -> np.ndarray:
    """The matrix along rows and along columns at once: (m, n) -> (m, m, n, n)."""
    return np.einsum("ik,jl->ijkl", matrix, matrix)


def _mapped(square: np.ndarray, places: jax.Array) -> jax.Array:
    """`square` (m, m, n, n), as a matrix, times all places: (n ** 2, *S) or (n, n, *S) -> (m ** 2, *S)."""
    matrix = jnp.asarray(square.reshape(len(square) ** 2, -1), places.dtype)
    tail = places.shape[-2:]
    return (matrix @ places.reshape(matrix.shape[1], -1)).reshape(-1, *tail)
