"""The forms of convolution that XLA runs fast on a CPU.

XLA's CPU backend has fast kernels for two-dimensional convolutions of plain layout with 32 and more output
channels, and for matrix products. What it is given otherwise (weight gradients inside loops, volumes, dilated
inputs of few pixels, one output channel) falls to loops that are up to a hundred times slower. So everything
is brought to these two here. The bounds below were measured on two cores with float32.

The functions compute the trilinear form of a convolution and its two adjoints, for a kernel `q` of taps `u`:
gather `y[i] = sum_u x[i * s + u * d - low] q[u]`, spread `x[i * s + u * d - low] += y[i] q[u]'`, and
correlate `q[u] = sum_i x[i * s + u * d - low]' y[i]`. A `Geometry` (see `conv.py`) holds `s`, `d`, `low`, the
spatial sizes of `x` and `y` and how `q` is stored. They are not for differentiation: `conv.py` does that.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from medgan_jax.nn import winograd

FEW = 128  # up to so many output pixels, products with the kernel, or with patches, as it is stored
PIXELS = 512  # Winograd, of images alone, needs so many output pixels to make up for changing the kernel
WINOGRAD = {((2, 2), (1, 1)): 1, ((3, 3), (1, 1)): 1, ((4, 4), (1, 1)): 1, ((4, 4), (2, 2)): 4}
CHANNELS = {"gather": 64, "correlate": 128}  # and so many channels on both sides
FEATURES = 32  # the library's fast kernel needs so many output channels
VERY_FEW = 16  # up to so many output pixels, a convolution is one matrix product over patches
THIN = 16  # up to so many output channels, a weight gradient is a product with shifted copies of `y`


def gather(x: jax.Array, kernel: jax.Array, geometry) -> jax.Array:
    """The convolution: `x` (B, *S, C) and `kernel` as stored -> `y` (B, *T, F)."""
    return _as_float32(_gather, geometry, x, kernel)


def spread(y: jax.Array, kernel: jax.Array, geometry) -> jax.Array:
    """The transposed convolution: `y` (B, *T, F) and `kernel` as stored -> `x` (B, *S, C)."""
    return _as_float32(_spread, geometry, y, kernel)


def correlate(x: jax.Array, y: jax.Array, geometry) -> jax.Array:
    """The kernel's gradient: `x` (B, *S, C) and `y` (B, *T, F) -> the kernel as stored."""
    return _as_float32(_correlate, geometry, x, y)


def _as_float32(function, geometry, a, b):
    """Narrow types are computed in float32, the only narrow type that has fast kernels; one axis as two."""
    dtype, flat = a.dtype, a.ndim == 3
    wide = jnp.promote_types(dtype, jnp.float32)
    a, b = a.astype(wide), b.astype(wide)
    if not flat:
        return function(a, b, geometry).astype(dtype)
    second, result = (1, 0) if function is _correlate else (0, 1)
    a, b = jnp.expand_dims(a, 1), jnp.expand_dims(b, second)
    return jnp.squeeze(function(a, b, _with_unit_axis(geometry)), result).astype(dtype)


def _with_unit_axis(geometry):
    one = {"strides": 1, "dilation": 1, "pads": (0, 0), "sizes": 1, "counts": 1, "taps": 1}
    return dataclasses.replace(
        geometry, **{name: (unit, *getattr(geometry, name)) for name, unit in one.items()}
    )


def _plane(geometry):
    """The geometry of the last two axes of a volume."""
    names = "strides", "dilation", "pads", "sizes", "counts", "taps"
    return dataclasses.replace(geometry, **{name: getattr(geometry, name)[1:] for name in names})


def _swap(kernel: jax.Array, groups: int = 1) -> jax.Array:
    """Input and output channels exchanged, within each group."""
    *taps, inputs, outputs = kernel.shape
    if groups == 1:
        return jnp.swapaxes(kernel, -1, -2)
    kernel = kernel.reshape(*taps, inputs, groups, outputs // groups)
    return jnp.swapaxes(kernel, -1, -3).reshape(*taps, outputs // groups, groups * inputs)


def _flip(kernel: jax.Array) -> jax.Array:
    return lax.rev(kernel, range(kernel.ndim - 2))


def _as_gathered(kernel: jax.Array, geometry) -> jax.Array:
    """`q` of the stored kernel, or the stored kernel of `q`: the map is its own inverse."""
    if not geometry.transposed:
        return kernel
    return _flip(_swap(kernel, geometry.groups))


def _zero_padded(x: jax.Array, edges) -> jax.Array:
    """`x` (B, *S, C) with (low, high, interior) zeros put in; negative ends are cut off."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _planes(x: jax.Array, geometry) -> list[jax.Array]:
    """A volume's planes that each tap along the kernel's depth sees, as images (B * T, H, W, C)."""
    n, s, d = geometry.counts[0], geometry.strides[0], geometry.dilation[0]
    reach = (n - 1) * s + (geometry.taps[0] - 1) * d + 1
    low = geometry.low[0]
    x = _zero_padded(x, [(low, reach - low - x.shape[1], 0), (0, 0, 0), (0, 0, 0)])
    rows = [lax.slice_in_dim(x, u * d, u * d + (n - 1) * s + 1, s, 1) for u in range(geometry.taps[0])]
    return [r.reshape(-1, *r.shape[2:]) for r in rows]


def _blocks(geometry):
    """For each axis: block size, blocks that the kernel reaches, and the step between outputs in blocks.

    Without dilation, blocks as large as the stride leave few slices (space to depth), which compile fast.
    """
    return [
        (s, -(-k // s), 1) if d == 1 else (1, k, s)
        for k, s, d in zip(geometry.taps, geometry.strides, geometry.dilation, strict=True)
    ]


def _patches(x: jax.Array, geometry) -> jax.Array:
    """What each tap sees: `x` (B, *S, C) -> (*K, B, *T, C)."""
    rank, blocks = len(geometry.taps), _blocks(geometry)
    counts = [
        (n - 1) * step + (parts - 1) * d + 1
        for n, d, (_, parts, step) in zip(geometry.counts, geometry.dilation, blocks, strict=True)
    ]
    x = _zero_padded(
        x,
        [
            (low, n * block - low - old, 0)
            for low, n, old, (block, *_) in zip(geometry.low, counts, x.shape[1:-1], blocks, strict=True)
        ],
    )
    x = x.reshape(
        x.shape[0], *(v for n, (block, *_) in zip(counts, blocks, strict=True) for v in (n, block)), -1
    )
    x = x.transpose(*range(2, 2 * rank + 1, 2), 0, *range(1, 2 * rank, 2), 2 * rank + 1)
    for axis in reversed(range(rank)):
        (_, parts, step), n, d = blocks[axis], geometry.counts[axis], geometry.dilation[axis]
        where = x.ndim - rank - 1 + axis
        x = jnp.stack(
            [lax.slice_in_dim(x, u * d, u * d + (n - 1) * step + 1, step, where) for u in range(parts)], axis
        )
    x = x.reshape(*(parts * block for block, parts, _ in blocks), *x.shape[2 * rank :])
    return x[tuple(slice(k) for k in geometry.taps)]


def _library(x, kernel, strides, pads, dilation=(1, 1), groups=1):
    """The library's two-dimensional convolution in plain layout; negative padding cuts the input."""
    if any(end < 0 for pad in pads for end in pad):
        x = _zero_padded(x, [(min(low, 0), min(high, 0), 0) for low, high in pads])
        pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    return lax.conv_general_dilated(
        x, kernel, strides, pads, None, dilation, ("NHWC", "HWIO", "NHWC"), groups
    )


def _tight_pads(geometry) -> list[tuple[int, int]]:
    """Low and high padding for exactly the wanted outputs; a high end that the strides skip is left alone."""
    pads = []
    for n, s, k, d, low, size in zip(
        geometry.counts,
        geometry.strides,
        geometry.taps,
        geometry.dilation,
        geometry.low,
        geometry.sizes,
        strict=True,
    ):
        high = (n - 1) * s + (k - 1) * d + 1 - low - size
        pads.append((low, 0 if -s < high < 0 else high))
    return pads


# ------------------------------------------------------------------------------------------------- gather


def _gather(x, kernel, geometry):
    # With few pixels the time goes to reading the kernel, so it must not be copied.
    few = x.shape[0] * math.prod(geometry.counts) <= FEW
    if geometry.groups == 1 and geometry.transposed and few and math.prod(geometry.taps) > 1:
        return _gather_products(x, kernel, geometry)
    if geometry.groups > 1:
        return _gather_plain(x, _as_gathered(kernel, geometry), geometry)
    return _gather_plain(x, _flip(kernel) if geometry.transposed else kernel, geometry, geometry.transposed)


def _gather_products(x, kernel, geometry):
    """One batched matrix product of what each tap sees, then the sum over taps: the kernel as stored."""
    patches = lax.rev(_patches(x, geometry), range(len(geometry.taps)))
    patches = patches.reshape(math.prod(geometry.taps), -1, x.shape[-1])
    stored = kernel.reshape(len(patches), *kernel.shape[-2:])
    z = lax.dot_general(patches, stored, (((2,), (2,)), ((0,), (0,))))
    return z.sum(0).reshape(x.shape[0], *geometry.counts, -1)


def _gather_plain(x, kernel, geometry, swapped=False, of_volume=False):
    """`gather` for a kernel (*K, C / groups, F), or (*K, F, C) if swapped.

    A volume is the sum of planes over the kernel's depth. Winograd's products for each of them gain next to
    nothing over a step.
    """
    if len(geometry.taps) == 3:
        plane = _plane(geometry)
        planes = enumerate(_planes(x, geometry))
        total = sum(_gather_plain(each, kernel[u], plane, swapped, of_volume=True) for u, each in planes)
        return total.reshape(x.shape[0], -1, *total.shape[1:])
    if not of_volume and _suits_winograd("gather", x, kernel.shape[-2 if swapped else -1], geometry):
        return _gather_winograd(x, kernel, geometry, swapped)
    kernel = _swap(kernel) if swapped else kernel
    taps, channels, features = math.prod(geometry.taps), *kernel.shape[-2:]
    if geometry.groups == 1 and x.shape[0] * math.prod(geometry.counts) <= VERY_FEW < taps * channels:
        return _gather_patches(x, kernel, geometry)
    if features == 1 and set(geometry.strides) == {1} and 1 < taps <= 2 * channels:
        return _gather_one_feature(x, kernel, geometry)
    return _library(x, kernel, geometry.strides, _tight_pads(geometry), geometry.dilation, geometry.groups)


def _gather_patches(x, kernel, geometry):
    """One matrix product of all that the taps see: reads a big kernel once, as stored."""
    patches = jnp.moveaxis(_patches(x, geometry).reshape(math.prod(geometry.taps), -1, x.shape[-1]), 0, 1)
    y = patches.reshape(patches.shape[0], -1) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(x.shape[0], *geometry.counts, -1)


def _suits_winograd(form, x, features, geometry) -> bool:
    """Whether Winograd's products are possible (planes, some kernels) and worth their sums."""
    # Four taps with stride 2 become two taps of four times the channels.
    channels = x.shape[-1] * WINOGRAD.get((geometry.taps, geometry.strides), 0)
    return (
        geometry.groups == 1
        and set(geometry.dilation) == {1}
        and x.shape[0] * math.prod(geometry.counts) >= PIXELS
        and min(channels, features) >= CHANNELS[form]
    )


def _gather_winograd(x, kernel, geometry, swapped):
    if max(geometry.strides) == 1:
        return winograd.gather(x, kernel, _tight_pads(geometry), geometry.counts, swapped=swapped)
    kernel = _swap(kernel) if swapped else kernel
    channels, features = kernel.shape[-2:]
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(2, 2, 4 * channels, features)
    return winograd.gather(_pixel_blocks(x, geometry), kernel, [(0, 0)] * 2, geometry.counts)


def _correlate_winograd(x, y, geometry):
    if max(geometry.strides) == 1:
        return winograd.correlate(x, y, _tight_pads(geometry), geometry.taps[0])
    channels, features = x.shape[-1], y.shape[-1]
    kernel = winograd.correlate(_pixel_blocks(x, geometry), y, [(0, 0)] * 2, 2)
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(4, 4, channels, features)


def _pixel_blocks(x, geometry):
    """Blocks of 2 x 2 pixels as channels, those that a kernel of 4 x 4 taps with stride 2 sees."""
    blocks = [n + 1 for n in geometry.counts]
    edges = [
        (low, 2 * n - low - size, 0) for low, n, size in zip(geometry.low, blocks, x.shape[1:-1], strict=True)
    ]
    x = _zero_padded(x, edges).reshape(x.shape[0], blocks[0], 2, blocks[1], 2, x.shape[-1])
    # Written out once: every point of the tiles reads it.
    return lax.optimization_barrier(x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], *blocks, -1))


def _gather_one_feature(x, kernel, geometry):
    """Without strides: all taps' products by one matrix product, then shifted sums; three times faster."""
    rank = len(geometry.taps)
    reach = [
        n + (k - 1) * d for n, k, d in zip(geometry.counts, geometry.taps, geometry.dilation, strict=True)
    ]
    x = _zero_padded(
        x,
        [
            (low, size - low - old, 0)
            for low, size, old in zip(geometry.low, reach, x.shape[1:-1], strict=True)
        ],
    )
    z = jnp.moveaxis(x @ kernel.reshape(-1, kernel.shape[-2]).T, -1, 0)
    z = z.reshape(*geometry.taps, *x.shape[:-1], 1)
    for axis in range(rank):
        n, d, where = geometry.counts[axis], geometry.dilation[axis], z.ndim - rank - 2 + axis
        z = sum(lax.slice_in_dim(z[u], u * d, u * d + n, axis=where) for u in range(geometry.taps[axis]))
    return z


# ------------------------------------------------------------------------------------------------- spread


def _spread(y, kernel, geometry):
    pixels, outputs = math.prod(geometry.counts), math.prod(geometry.sizes)
    strided = max(geometry.strides) > 1
    # With few pixels the time goes to reading the kernel, so it must not be copied.
    few = y.shape[0] * pixels <= 2 * y.shape[-1] if strided else 3 * pixels <= outputs
    whole = all(k % s == 0 for k, s in zip(geometry.taps, geometry.strides, strict=True))
    phases = strided and whole and geometry.groups == 1 and max(geometry.dilation) == 1
    if geometry.groups == 1 and few and not (phases and _phases_suit_winograd(y, kernel, geometry)):
        return _spread_products(y, kernel, geometry)
    kernel = _as_gathered(kernel, geometry)
    if not strided:
        return _spread_as_gather(y, kernel, geometry)
    if phases:
        return _spread_phases(y, kernel, geometry)
    return _spread_dilated(y, kernel, geometry)


def _spread_products(y, kernel, geometry):
    """One matrix product for all taps, then their overlapping sum: reads a big kernel once, as stored."""
    rank, flat = len(geometry.taps), y.reshape(-1, y.shape[-1])
    stored = kernel.reshape(-1, *kernel.shape[-2:])
    if geometry.transposed:
        flat = jnp.broadcast_to(flat, (len(stored), *flat.shape))
        z = lax.dot_general(flat, stored, (((2,), (1,)), ((0,), (0,))))
    else:
        z = jnp.swapaxes(lax.dot_general(stored, flat, (((2,), (1,)), ((), ()))), 1, 2)
    z = z.reshape(*geometry.taps, *y.shape[:-1], z.shape[-1])
    return _overlapping_sum(lax.rev(z, range(rank)) if geometry.transposed else z, geometry)


def _overlapping_sum(z, geometry):
    """The adjoint of `_patches`: (*K, B, *T, C) -> (B, *S, C)."""
    rank, blocks = len(geometry.taps), _blocks(geometry)
    missing = [(0, block * parts - k, 0) for k, (block, parts, _) in zip(geometry.taps, blocks, strict=True)]
    z = lax.pad(z, jnp.zeros((), z.dtype), missing + [(0, 0, 0)] * (rank + 2))
    z = z.reshape(*(v for block, parts, _ in blocks for v in (parts, block)), *z.shape[rank:])
    z = z.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), *range(2 * rank, 3 * rank + 2))
    for axis in range(rank):
        (_, parts, step), d = blocks[axis], geometry.dilation[axis]
        where, total = z.ndim - rank - 2 + axis, 0
        for u in range(parts):
            edges = [(0, 0, 0)] * (z.ndim - 1)
            edges[where] = (u * d, (parts - 1 - u) * d, step - 1)
            total = total + lax.pad(z[u], jnp.zeros((), z.dtype), edges)
        z = total
    return _interleaved(z, rank, geometry)


def _interleaved(z, rank, geometry):
    """Phases (*block, B, *n, C) put between each other to (B, *(n * block), C), cut to the wanted window."""
    block, counts = z.shape[:rank], z.shape[rank + 1 : 2 * rank + 1]
    z = z.transpose(rank, *(axis for i in range(rank) for axis in (rank + 1 + i, i)), 2 * rank + 1)
    z = z.reshape(z.shape[0], *(n * b for n, b in zip(counts, block, strict=True)), z.shape[-1])
    return _zero_padded(
        z,
        [
            (-low, size + low - old, 0)
            for low, size, old in zip(geometry.low, geometry.sizes, z.shape[1:-1], strict=True)
        ],
    )


def _spread_as_gather(y, kernel, geometry):
    """Without strides the adjoint is a convolution with the flipped kernel."""
    low = tuple(
        (k - 1) * d - low for k, d, low in zip(geometry.taps, geometry.dilation, geometry.low, strict=True)
    )
    adjoint = dataclasses.replace(
        geometry,
        sizes=geometry.counts,
        counts=geometry.sizes,
        transposed=False,
        pads=tuple((n, 0) for n in low),
    )
    if geometry.groups > 1:
        return _gather_plain(y, _flip(_swap(kernel, geometry.groups)), adjoint)
    return _gather_plain(y, _flip(kernel), adjoint, swapped=True)


def _phases(geometry):
    """The convolution without strides that `_spread_phases` makes."""
    parts = tuple(k // s for k, s in zip(geometry.taps, geometry.strides, strict=True))
    return dataclasses.replace(
        geometry,
        strides=(1,) * len(parts),
        pads=tuple((m - 1, m - 1) for m in parts),
        sizes=geometry.counts,
        counts=tuple(n + m - 1 for n, m in zip(geometry.counts, parts, strict=True)),
        taps=parts,
        transposed=False,
    )


def _phases_suit_winograd(y, kernel, geometry) -> bool:
    channels = kernel.shape[-1 if geometry.transposed else -2]
    return _suits_winograd("gather", y, math.prod(geometry.strides) * channels, _phases(geometry))


def _spread_phases(y, kernel, geometry):
    """Depth to space: the `s` phases of the output as channels of one convolution without dilated zeros."""
    rank, strides, phases = len(geometry.taps), geometry.strides, _phases(geometry)
    parts, blocks = phases.taps, phases.counts
    channels, features = kernel.shape[-2:]
    kernel = kernel.reshape(
        *(n for pair in zip(parts, strides, strict=True) for n in pair), channels, features
    )
    kernel = lax.rev(kernel, range(0, 2 * rank, 2))
    kernel = kernel.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank, 2 * rank + 1)
    kernel = kernel.reshape(*parts, math.prod(strides) * channels, features)
    z = _gather_plain(y, kernel, phases, swapped=True).reshape(y.shape[0], *blocks, *strides, channels)
    z = z.transpose(*range(1 + rank, 1 + 2 * rank), *range(1 + rank), 2 * rank + 1)
    return _interleaved(z, rank, geometry)


def _spread_dilated(y, kernel, geometry):
    """The library's convolution of the dilated input; a volume is the overlapping sum over kernel planes."""
    if len(geometry.taps) == 2:
        low = [
            (k - 1) * d - lo for k, d, lo in zip(geometry.taps, geometry.dilation, geometry.low, strict=True)
        ]
        high = [
            size + lo - (n - 1) * s - 1
            for size, lo, n, s in zip(
                geometry.sizes, geometry.low, geometry.counts, geometry.strides, strict=True
            )
        ]
        kernel = _flip(_swap(kernel, geometry.groups))
        x = lax.conv_general_dilated(
            y,
            kernel,
            (1, 1),
            [(max(lo, 0), max(hi, 0)) for lo, hi in zip(low, high, strict=True)],
            geometry.strides,
            geometry.dilation,
            ("NHWC", "HWIO", "NHWC"),
            geometry.groups,
        )
        return _zero_padded(x, [(min(lo, 0), min(hi, 0), 0) for lo, hi in zip(low, high, strict=True)])
    (n, *_), (s, *_), (d, *_), (low, *_) = geometry.counts, geometry.strides, geometry.dilation, geometry.low
    plane, total, size = _plane(geometry), 0, geometry.sizes[0]
    plane = dataclasses.replace(plane, pads=tuple((lo, 0) for lo in plane.low), transposed=False)
    for u in range(geometry.taps[0]):
        rows = _spread(y.reshape(-1, *y.shape[2:]), kernel[u], plane)
        rows = rows.reshape(-1, n, *rows.shape[1:])
        start = u * d - low
        high = size - start - (n - 1) * s - 1
        total = total + _zero_padded(rows, [(start, high, s - 1), (0, 0, 0), (0, 0, 0)])
    return total


# ---------------------------------------------------------------------------------------------- correlate


def _correlate(x, y, geometry):
    if geometry.groups > 1:
        return _as_gathered(_correlate_groups(x, y, geometry), geometry)
    if y.size // y.shape[-1] <= FEW or math.prod(geometry.taps) == 1:
        return _correlate_patches(x, y, geometry)
    kernel = _as_gathered(_correlate_plain(x, y, geometry), geometry)
    # Written once in the stored order, rather than read out of order by each reader.
    return lax.optimization_barrier(kernel) if geometry.transposed else kernel


def _correlate_patches(x, y, geometry):
    """One batched matrix product over the patches that the taps see, straight to the stored layout."""
    patches = _patches(x, geometry)
    patches = patches.reshape(math.prod(geometry.taps), -1, x.shape[-1])
    pixels = jnp.broadcast_to(y.reshape(-1, y.shape[-1]), (len(patches), patches.shape[1], y.shape[-1]))
    left, right = (pixels, patches[::-1]) if geometry.transposed else (patches, pixels)
    kernel = lax.dot_general(left, right, (((1,), (1,)), ((0,), (0,))))
    return kernel.reshape(*geometry.taps, *kernel.shape[1:])


def _correlate_groups(x, y, geometry):
    """Batched matrix products over taps and groups."""
    g = geometry.groups
    patches = _patches(x, geometry).reshape(math.prod(geometry.taps), -1, g, x.shape[-1] // g)
    kernel = jnp.einsum("tngi,ngo->tigo", patches, y.reshape(-1, g, y.shape[-1] // g))
    return kernel.reshape(*geometry.taps, x.shape[-1] // g, y.shape[-1])


def _correlate_plain(x, y, geometry, of_volume=False):
    """`correlate` to a kernel (*K, C, F). A volume's kernel is a stack of planes' kernels."""
    if len(geometry.taps) == 3:
        flat, plane = y.reshape(-1, *y.shape[2:]), _plane(geometry)
        planes = _planes(x, geometry)
        return jnp.stack([_correlate_plain(each, flat, plane, of_volume=True) for each in planes])
    if not of_volume and _suits_winograd("correlate", x, y.shape[-1], geometry):
        return _correlate_winograd(x, y, geometry)
    if y.shape[-1] <= THIN and set(geometry.strides) == {1}:
        return _correlate_thin(x, y, geometry)
    return _correlate_canonical(x, y, geometry)


def _correlate_thin(x, y, geometry):
    """A matrix product of `x` with shifted copies of the few channels of `y`: 100 times faster for one."""
    channels, features = x.shape[-1], y.shape[-1]
    # The adjoint geometry: for each tap, the pixel of `y` that a pixel of `x` goes to.
    low = tuple(
        (k - 1) * d - low for k, d, low in zip(geometry.taps, geometry.dilation, geometry.low, strict=True)
    )
    shifts = dataclasses.replace(
        geometry,
        sizes=geometry.counts,
        counts=geometry.sizes,
        transposed=False,
        pads=tuple((n, 0) for n in low),
    )
    columns = jnp.moveaxis(_patches(y, shifts), -1, len(geometry.taps))
    kernel = columns.reshape(-1, x.size // channels) @ x.reshape(-1, channels)
    return _flip(_swap(kernel.reshape(*geometry.taps, features, channels)))


def _correlate_canonical(x, y, geometry):
    """A convolution with channels as batch, batch as channels and strides as dilation.

    The image must be larger than the kernel, else XLA exchanges them and takes a slow loop: the barrier keeps
    the padding from being folded back. Missing output channels are padded to where the fast kernel begins.
    """
    features, pads = y.shape[-1], _tight_pads(geometry)
    if features < FEATURES:
        y = jnp.pad(y, ((0, 0), (0, 0), (0, 0), (0, FEATURES - features)))
    image = x.transpose(3, 1, 2, 0)
    if math.prod(geometry.counts) > math.prod(geometry.sizes):
        image, pads = lax.optimization_barrier(_zero_padded(image, [(*pad, 0) for pad in pads])), [(0, 0)] * 2
    z = _library(image, y.transpose(1, 2, 0, 3), geometry.dilation, pads, geometry.strides)
    z = z[:, : geometry.taps[0], : geometry.taps[1], :features]
    return z.transpose(1, 2, 0, 3)
