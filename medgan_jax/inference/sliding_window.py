"""Networks for patches applied to whole images, at once or in windows, averaged where these overlap."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np


def sliding_window(
    function: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    *,
    window: int,
    stride: int,
    border: int = 0,
) -> jax.Array:
    """`function` over windows of `image` (B, *S, C), the mean of all that cover a voxel: (B, *S, C').

    function: (B, *window, C) -> (B, *inner, C'), the middle of the window, `inner = window - 2 border` voxels
    along each axis. stride: voxels between windows; `inner` for windows that just touch. Beyond its border
    the image goes on as its outermost voxel. ValueError where no voxel of a window is left, or voxels between
    windows would be.
    """
    sides, inner = image.shape[1:-1], window - 2 * border
    if inner < 1 or not 0 < stride <= inner:
        raise ValueError(f"windows of {window} with borders of {border} cannot be {stride} apart")
    padding = [(border, border + max(inner - side, 0)) for side in sides]
    padded = jnp.pad(image, ((0, 0), *padding, (0, 0)), mode="edge")
    grid = tuple(max(side, inner) for side in sides)
    corners = np.array(list(itertools.product(*(_starts(side, inner, stride) for side in grid))))
    patch = jax.eval_shape(function, jax.ShapeDtypeStruct(
        (len(image), *(window,) * len(sides), image.shape[-1]), image.dtype))  # fmt: skip
    if patch.shape[1:-1] != (inner,) * len(sides):
        raise ValueError(f"windows of {window} gave {patch.shape}, and not {inner} voxels along each axis")

    def add(total, corner):
        start = (0, *corner, 0)
        piece = function(jax.lax.dynamic_slice(padded, start, (len(image), *(window,) * len(sides),
                                                               image.shape[-1])))  # fmt: skip
        known = jax.lax.dynamic_slice(total, start, piece.shape)
        return jax.lax.dynamic_update_slice(total, known + piece, start), None

    total = jnp.zeros((len(image), *grid, patch.shape[-1]), patch.dtype)
    total = jax.lax.scan(add, total, jnp.asarray(corners))[0]
    mean = total / _covered(grid, corners, inner)[None, ..., None]
    return mean[(slice(None), *(slice(side) for side in sides))]


def windows_without_rim(
    function: Callable[[jax.Array], jax.Array], image: jax.Array, *, window: int, rim: int
) -> jax.Array:
    """`function`, which keeps sizes, over windows of `image` (B, *S, C) that touch without their `rim`.

    What lies within `rim` voxels of a window's border has seen too little round it, and is thrown away.
    """
    inside = (slice(None), *(slice(rim, -rim),) * (image.ndim - 2))
    return sliding_window(
        lambda part: function(part)[inside], image, window=window, stride=window - 2 * rim, border=rim
    )


def whole_image(function: Callable[[jax.Array], jax.Array], image: jax.Array, border: int) -> jax.Array:
    """`function`, which takes `border` voxels off each side, of `image` (B, *S, C) mirrored outside.

    The result has the sides of the image.
    """
    padding = ((border, border),) * (image.ndim - 2)
    return function(jnp.pad(image, ((0, 0), *padding, (0, 0)), mode="reflect"))


def _starts(side: int, inner: int, stride: int) -> list[int]:
    """First voxels of windows along an axis; the last window ends with the image."""
    return sorted({*range(0, side - inner, stride), side - inner})


def _covered(grid: Sequence[int], corners: np.ndarray, inner: int) -> np.ndarray:
    """How many windows cover each voxel."""
    count = np.zeros(grid, np.float32)
    for corner in corners:
        count[tuple(slice(start, start + inner) for start in corner)] += 1
    return count
