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
    weights = _mapped([list(row) for row in kernel], points.taps)
    # The product reads a swapped kernel as it is; to sum it up in the other order takes longer than the product.
    channels = ((1,), (1 if swapped else 0,)), ((), ())
    products = [
        [lax.dot_general(v, w, channels) for v, w in zip(*rows, strict=True)]
        for rows in zip(values, weights, strict=True)
    ]
    outputs = _mapped(products, points.outputs.T)
    outputs = [[place.reshape(x.shape[0], *tiles, -1) for place in row] for row in outputs]
    # The outputs of a tile lie beside each other.
    y = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)
    y = y.reshape(x.shape[0], *(TILE * n for n in tiles), -1)
    return y[:, : counts[0], : counts[1]]


def correlate(x: jax.Array, y: jax.Array, pads, taps: int) -> jax.Array:
    """The gradient of `gather` with respect to the kernel: `x` (B, H, W, C), `y` (B, *T, F) -> (r, r, C, F)."""
    points, counts = _points(taps), y.shape[1:-1]
    values = _image_points(x, pads, counts, points)
    # Outputs beyond the image count nothing.
    edges = [(0, TILE * n - count, 0) for n, count in zip(_tiles(counts), counts, strict=True)]
    y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    outputs = _mapped([[y[:, i::TILE, j::TILE] for j in range(TILE)] for i in range(TILE)], points.outputs)
    outputs = [[place.reshape(-1, y.shape[-1]) for place in row] for row in outputs]
    products = [[v.T @ o for v, o in zip(*rows, strict=True)] for rows in zip(values, outputs, strict=True)]
    return jnp.stack([jnp.stack(row) for row in _mapped(products, points.taps.T)])


def _tiles(counts) -> tuple[int, ...]:
    return tuple(-(-count // TILE) for count in counts)


def _image_points(x: jax.Array, pads, counts, points: _Points) -> list[list[jax.Array]]:
    """For each point of rows and columns, all tiles of the image: (B * tiles, C)."""
    tiles, width = _tiles(counts), points.image.shape[1]
    edges = [
        (low, TILE * (n - 1) + width - low - size, 0)
        for (low, _), n, size in zip(pads, tiles, x.shape[1:-1], strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    rows, columns = (TILE * (n - 1) + 1 for n in tiles)
    places = [[x[:, u : u + rows : TILE, v : v + columns : TILE] for v in range(width)] for u in range(width)]
    values = _mapped(places, points.image)
    return [[value.reshape(-1, x.shape[-1]) for value in row] for row in values]


# Tiles and points are lists of lists of arrays: stacked into one array, each would be written by a slow copy
# instead of being fused with what makes it.


def _mapped(places: list[list[jax.Array]], matrix: np.ndarray) -> list[list[jax.Array]]:
    """The same small matrix along both axes of a square of arrays."""
    rows = [_weighted_sums(list(column), matrix) for column in zip(*places, strict=True)]
    return [_weighted_sums(list(row), matrix) for row in zip(*rows, strict=True)]


def _weighted_sums(values: list[jax.Array], matrix: np.ndarray) -> list[jax.Array]:
    sums = []
    for weights in matrix:
        terms = [
            v if w == 1 else -v if w == -1 else v * float(w)
            for v, w in zip(values, weights, strict=True)
            if w
        ]
        sums.append(functools.reduce(jnp.add, terms))
    return sums
