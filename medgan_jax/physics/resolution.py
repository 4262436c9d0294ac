"""What a coarse acquisition leaves of a fine image: truncated k-space, thick slices, blur, bundles of fibres.

Conventions, kept by every function here:

* images are real arrays with channels last, `(..., H, W, C)` or `(..., D, H, W, C)`;
* axes are counted from the end and never name the channels: -3 and -2 are H and W, -4 is D;
* lengths are in voxels of the fine grid.

Every function is pure and works under `jit`, `vmap` and `grad`; all but the noise are linear in the image.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import Delaunay, cKDTree

# The full width at half maximum of a Gaussian, in standard deviations.
FULL_WIDTH = 2 * np.sqrt(2 * np.log(2))


def truncate_kspace(
    image: jax.Array, factor: int | Sequence[int], axes: Sequence[int], *, same_grid: bool = True
) -> jax.Array:
    """The image from the central `1 / factor` of its k-space along `axes`, as a short acquisition gives it.

    With `same_grid` the rest is filled with zeros and the shape stays; without, sides shrink by the factor.
    Brightness stays in both. Sides must be multiples of the factor (ValueError).
    """
    for axis, each in _pairs(factor, axes, image):
        size = image.shape[axis]
        kept = size // each
        spectrum = jnp.fft.fftshift(jnp.fft.fft(_floating(image), axis=axis), axis)
        first = size // 2 - kept // 2
        middle = jax.lax.slice_in_dim(spectrum, first, first + kept, axis=axis)
        if same_grid:
            before_and_after = [(0, 0)] * image.ndim
            before_and_after[axis] = (first, size - kept - first)
            middle = jnp.pad(middle, before_and_after)
        scale = 1.0 if same_grid else kept / size
        image = scale * jnp.real(jnp.fft.ifft(jnp.fft.ifftshift(middle, axis), axis=axis))
    return image


def thick_slices(image: jax.Array, factor: int, axis: int, *, width: float | None = None) -> jax.Array:
    """Slices `factor` voxels apart along `axis`, each a Gaussian slice profile's average of the fine ones.

    `width` is the profile's full width at half maximum, `factor` voxels by default; each profile is centred
    on the middle of the `factor` fine slices that it stands for, and cut off at the border.
    """
    deviation = (factor if width is None else width) / FULL_WIDTH
    return _averaged(image, axis, _profiles(image.shape[axis], factor, deviation))


def blur(image: jax.Array, deviation: float | Sequence[float], axes: Sequence[int]) -> jax.Array:
    """The image through a Gaussian of that standard deviation (one, or one for each axis)."""
    deviations = [deviation] * len(axes) if np.isscalar(deviation) else deviation
    for axis, each in zip(axes, deviations, strict=True):
        _check_axis(axis, image)
        image = _averaged(image, axis, _profiles(image.shape[axis], 1, each))
    return image


def blur_and_decimate(
    image: jax.Array, factor: int | Sequence[int], axes: Sequence[int], *, deviation: float | None = None
) -> jax.Array:
    """The image blurred by a Gaussian and sampled at every `factor`-th position along `axes`.

    `deviation` is in voxels, by default that whose full width at half maximum is the factor. Samples lie in
    the middle of the voxels that they stand for, so that the image does not shift. Sides must be multiples of
    the factor (ValueError).
    """
    for axis, each in _pairs(factor, axes, image):
        spread = each / FULL_WIDTH if deviation is None else deviation
        image = _averaged(image, axis, _profiles(image.shape[axis], each, spread))
    return image


@dataclasses.dataclass(frozen=True, eq=False)
class FibreBundle:
    """An imaging bundle over a grid `(H, W)`: the fibre of each pixel, and how fibres are interpolated.

    `centres` are `(fibres, 2)` in pixels, `cell` `(H, W)` the fibre of each pixel's Voronoi cell, `corners`
    and `weights` `(H, W, 3)` the fibres of the Delaunay triangle round each pixel and their shares.
    """

    centres: np.ndarray
    cell: np.ndarray
    corners: np.ndarray
    weights: np.ndarray


def fibre_bundle(shape: Sequence[int], spacing: float, *, jitter: float = 0.15, seed: int = 0) -> FibreBundle:
    """A bundle of fibres in a hexagonal pattern `spacing` pixels apart, moved at random; made on the host.

    `jitter` is the standard deviation of each fibre's place as a part of the spacing. Outside the triangles
    between fibres a pixel takes its own cell's value. Raises `ValueError` for cells smaller than two pixels.
    """
    if spacing < 2:
        raise ValueError(f"fibres {spacing} pixels apart have cells without pixels; they need at least 2")
    height, width = shape
    rows, columns = (
        np.arange(0, height + spacing, spacing * np.sqrt(3) / 2),
        np.arange(0, width + spacing, spacing),
    )
    row, column = np.meshgrid(rows, columns, indexing="ij")
    column = column - (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    centres = np.stack([row.ravel(), column.ravel()], axis=-1)
    centres = centres + jitter * spacing * np.random.default_rng(seed).normal(size=centres.shape)
    centres = centres[np.all((centres > -0.5) & (centres < np.array(shape) - 0.5), axis=-1)]
    pixels = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    cell = cKDTree(centres).query(pixels.reshape(-1, 2))[1]
    used, cell = np.unique(cell, return_inverse=True)
    centres, cell = centres[used], cell.reshape(height, width)
    corners, weights = _triangles(centres, pixels, cell)
    return FibreBundle(centres, cell.astype(np.int32), corners.astype(np.int32), weights.astype(np.float32))


def fibre_signals(
    image: jax.Array,
    bundle: FibreBundle,
    *,
    gain: float = 0.0,
    noise: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Signals `(..., fibres, C)`: the mean of an image `(..., H, W, C)` over each fibre's Voronoi cell.

    `gain` is the standard deviation of each fibre's factor about 1, `noise` that of what is added; both need
    a `key`. Ravi et al., Med. Image Anal. 53, 2019 ("Voronoi vectorization").
    """
    fibres = len(bundle.centres)
    cell = bundle.cell.ravel()
    flat = jnp.moveaxis(_floating(image).reshape(*image.shape[:-3], -1, image.shape[-1]), -2, 0)
    sums = jax.ops.segment_sum(flat, cell, fibres)
    sizes = np.bincount(cell, minlength=fibres).reshape(-1, *[1] * (flat.ndim - 1))
    signals = jnp.moveaxis(sums / sizes, 0, -2)
    if key is None:
        if gain or noise:
            raise ValueError("the gain and noise of fibres need a random key")
        return signals
    gain_key, noise_key = jax.random.split(key)
    factor = 1 + gain * jax.random.normal(gain_key, (*signals.shape[:-1], 1))
    return signals * factor + noise * jax.random.normal(noise_key, signals.shape)


def from_fibres(signals: jax.Array, bundle: FibreBundle) -> jax.Array:
    """The image `(..., H, W, C)` that interpolates signals `(..., fibres, C)` linearly between centres."""
    corners = jnp.take(signals, bundle.corners, axis=-2)
    return jnp.sum(corners * bundle.weights[..., None], axis=-2)


def _triangles(centres: np.ndarray, pixels: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three fibres round each pixel and their barycentric weights, `(H, W, 3)` each."""
    mesh = Delaunay(centres)
    found = mesh.find_simplex(pixels)
    transform = mesh.transform[found]
    first = np.einsum("...ij,...j->...i", transform[..., :2, :], pixels - transform[..., 2, :])
    weights = np.concatenate([first, 1 - first.sum(-1, keepdims=True)], axis=-1)
    outside = (found < 0)[..., None]
    corners = np.where(outside, cell[..., None], mesh.simplices[found])
    return corners, np.where(outside, 1 / 3, weights)


def _profiles(size: int, factor: int, deviation: float) -> np.ndarray:
    """Rows that average `size` fine voxels into `size // factor` coarse ones by Gaussian profiles."""
    if size % factor:
        raise ValueError(f"a side of {size} voxels is no multiple of {factor}")
    centre = np.arange(size // factor) * factor + (factor - 1) / 2
    offset = np.arange(size) - centre[:, None]
    weights = np.exp(-np.square(offset / max(deviation, 1e-3)) / 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _averaged(image: jax.Array, axis: int, rows: np.ndarray) -> jax.Array:
    _check_axis(axis, image)
    product = jnp.tensordot(rows, _floating(image), (1, axis), precision="highest")
    return jnp.moveaxis(product, 0, axis)


def _pairs(factor: int | Sequence[int], axes: Sequence[int], image: jax.Array) -> list[tuple[int, int]]:
    factors = [factor] * len(axes) if np.isscalar(factor) else factor
    for axis, each in zip(axes, factors, strict=True):
        _check_axis(axis, image)
        if each < 1 or image.shape[axis] % each:
            raise ValueError(f"axis {axis} of {image.shape} is no multiple of {each}")
    return list(zip(axes, factors, strict=True))


def _check_axis(axis: int, image: jax.Array) -> None:
    if not -image.ndim <= axis <= -2:
        raise ValueError(f"axis {axis} is no spatial axis, counted from the end, of {image.shape}")


def _floating(x: jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
