"""Convolution and transposed convolution in one, two and three dimensions, channels last."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.nn import conv_cpu

Ints = int | Sequence[int]
Padding = str | Sequence[tuple[int, int]]


def _tuple(value: Ints, rank: int, name: str) -> tuple[int, ...]:
    """`value` for each of `rank` spatial axes."""
    values = (value,) * rank if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != rank:
        raise ValueError(f"{name} has {len(values)} entries for {rank} spatial axes")
    return values


def _reach(kernel: int, dilation: int) -> int:
    """Extent of a dilated kernel."""
    return (kernel - 1) * dilation + 1


def _conv_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The padding for which a convolution gives `ceil(size / stride)` outputs."""
    total = max((-(-size // stride) - 1) * stride + _reach(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def _transposed_padding(kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """The padding of the dilated input that `flax.linen.ConvTranspose` takes for a padding's name."""
    reach = _reach(kernel, dilation)
    if padding == "VALID":
        return reach - 1, stride - 1 + max(reach - stride, 0)
    low = reach - 1 if stride > reach - 1 else -(-(reach + stride - 2) // 2)
    return low, reach + stride - 2 - low


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One convolution from `x` (B, *sizes, C) to `y` (B, *counts, F), and with it its two adjoints.

    `transposed` says that the kernel belongs to the transposed convolution: stored as (*taps, F, C) with
    flipped taps and applied to `y`. `pads` are those of the library's call: of `x`, or of the dilated `y` if
    `transposed`.
    """

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    taps: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    @property
    def low(self) -> tuple[int, ...]:
        """Zeros in front of `x`."""
        if not self.transposed:
            return tuple(low for low, _ in self.pads)
        return tuple(
            _reach(k, d) - 1 - low for (low, _), k, d in zip(self.pads, self.taps, self.dilation, strict=True)
        )


# The three functions below are a trilinear form <gather(x, kernel), y> and its adjoints, so each one's
# derivative is made of the other two, and gradients of any order take the same forms. `custom_vjp` keeps JAX
# from deriving its own; the platform is chosen when the program is lowered.


def _library(geometry: Geometry, operand: jax.Array, kernel: jax.Array) -> jax.Array:
    """The library's convolution: `x` to `y`, or `y` to `x` if transposed."""
    axes = "DHW"[-len(geometry.taps) :]
    ones = (1,) * len(geometry.taps)
    strides, input_dilation = (ones, geometry.strides) if geometry.transposed else (geometry.strides, ones)
    return jax.lax.conv_general_dilated(
        operand,
        kernel,
        strides,
        geometry.pads,
        input_dilation,
        geometry.dilation,
        (f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        geometry.groups,
    )


def _input_adjoint(geometry: Geometry, value: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose of the library's convolution with respect to its operand."""
    sizes = geometry.counts if geometry.transposed else geometry.sizes
    operand = jnp.zeros((value.shape[0], *sizes, kernel.shape[-2] * geometry.groups), value.dtype)
    operand = _same_axes(operand, value)[0]
    return jax.vjp(lambda x: _library(geometry, x, kernel), operand)[1](value)[0]


def _kernel_adjoint(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The transpose of the library's convolution with respect to its kernel."""
    operand, value = (y, x) if geometry.transposed else (x, y)
    kernel = jnp.zeros((*geometry.taps, operand.shape[-1] // geometry.groups, value.shape[-1]), value.dtype)
    kernel = _same_axes(kernel, value)[0]
    return jax.vjp(lambda k: _library(geometry, operand, k), kernel)[1](value)[0]


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _by_platform(fast: Callable, library: Callable, geometry: Geometry, *operands: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(
        *operands, cpu=lambda a, b: fast(a, b, geometry), default=lambda a, b: library(geometry, a, b)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _gather(x, kernel, geometry):
    library = _input_adjoint if geometry.transposed else _library
    return _by_platform(conv_cpu.gather, library, geometry, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _spread(y, kernel, geometry):
    library = _library if geometry.transposed else _input_adjoint
    return _by_platform(conv_cpu.spread, library, geometry, y, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate(x, y, geometry):
    return _by_platform(conv_cpu.correlate, _kernel_adjoint, geometry, x, y)


def _keep(function):
    return lambda a, b, geometry: (function(a, b, geometry), (a, b))


_gather.defvjp(
    _keep(_gather),
    lambda geometry, kept, y: (_spread(y, kept[1], geometry), _correlate(kept[0], y, geometry)),
)
_spread.defvjp(
    _keep(_spread),
    lambda geometry, kept, x: (_gather(x, kept[1], geometry), _correlate(x, kept[0], geometry)),
)
_correlate.defvjp(
    _keep(_correlate),
    lambda geometry, kept, kernel: (_spread(kept[1], kernel, geometry), _gather(kept[0], kernel, geometry)),
)


def _operands(x: jax.Array, kernel: jax.Array, groups: int):
    rank = x.ndim - 2
    if not 1 <= rank <= 3 or kernel.ndim != x.ndim:
        raise ValueError(
            f"x {x.shape} and kernel {kernel.shape} must both have 1 to 3 spatial axes and 2 more"
        )
    if x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(f"x {x.shape} does not fit kernel {kernel.shape} with {groups} groups")
    dtype = jnp.result_type(x, kernel)
    return _same_axes(x.astype(dtype), kernel.astype(dtype)), rank


def _same_axes(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inside `shard_map`, operands that vary over the same mesh axes, as arithmetic would make them."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return a, b
    nothing = [jnp.sum(jax.lax.stop_gradient(x)[:0]) for x in (a, b)]
    return a + nothing[1], b + nothing[0]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution (cross-correlation) of `x` (B, *S, C) with `kernel` (*K, C // groups, F) -> (B, *T, F).

    `padding` is 'SAME' (`ceil(S / strides)` outputs, zeros outside), 'REFLECT' (as many outputs, the image
    mirrored outside), 'VALID', or a pair (low, high) for each spatial axis. PyTorch's `padding=p` is
    `[(p, p), ...]`: with strides, 'SAME' pads the high end more where the total is odd, PyTorch never does.
    """
    (x, kernel), rank = _operands(x, kernel, groups)
    strides, dilation = _tuple(strides, rank, "strides"), _tuple(dilation, rank, "dilation")
    if padding in ("SAME", "REFLECT"):
        pads = tuple(map(_conv_padding, x.shape[1:-1], kernel.shape[:-2], strides, dilation))
    elif padding == "VALID":
        pads = ((0, 0),) * rank
    elif isinstance(padding, str):
        raise ValueError(f"padding {padding!r} is not one of SAME, VALID, REFLECT")
    else:
        pads = tuple((int(low), int(high)) for low, high in padding)
    if padding == "REFLECT":
        x, pads = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="reflect"), ((0, 0),) * rank
    sizes, taps = x.shape[1:-1], kernel.shape[:-2]
    counts = tuple(
        (size + low + high - _reach(k, d)) // s + 1
        for size, (low, high), k, d, s in zip(sizes, pads, taps, dilation, strides, strict=True)
    )
    if min(*counts, x.shape[0]) <= 0:
        return jnp.zeros((x.shape[0], *(max(n, 0) for n in counts), kernel.shape[-1]), x.dtype)
    return _gather(x, kernel, Geometry(strides, dilation, pads, sizes, counts, taps, groups))


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
) -> jax.Array:
    """Transposed convolution of `x` (B, *S, C) with `kernel` (*K, C // groups, F) -> (B, *T, F).

    Equal to `flax.linen.ConvTranspose` (`transpose_kernel=False`): zeros are put between the pixels of `x`,
    and the kernel slides over the result without a flip. `padding` 'SAME' gives `S * strides` outputs,
    'VALID' all that the kernel reaches, and explicit pairs pad the dilated input. PyTorch's `padding=p,
    output_padding=q` is the pair `(r - p, r - p + q)`, `r = dilation * (K - 1)`, for each axis; a 4x4 kernel
    of stride 2 with `padding=1` doubles the size and is 'SAME' here, a 3x3 kernel of stride 2 with
    `padding=1, output_padding=1` is `[(1, 2), (1, 2)]`. A PyTorch weight (C, F, *K) becomes a kernel here by
    moving its two channel axes last and flipping every spatial axis.
    """
    (x, kernel), rank = _operands(x, kernel, groups)
    strides, dilation = _tuple(strides, rank, "strides"), _tuple(dilation, rank, "dilation")
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding {padding!r} is not one of SAME, VALID")
        pads = tuple(
            _transposed_padding(k, s, d, padding)
            for k, s, d in zip(kernel.shape[:-2], strides, dilation, strict=True)
        )
    else:
        pads = tuple((int(low), int(high)) for low, high in padding)
    counts, taps = x.shape[1:-1], kernel.shape[:-2]
    sizes = tuple(
        (n - 1) * s + 2 + low + high - _reach(k, d)
        for n, (low, high), k, d, s in zip(counts, pads, taps, dilation, strides, strict=True)
    )
    if min(*sizes, x.shape[0]) <= 0:
        return jnp.zeros((x.shape[0], *(max(n, 0) for n in sizes), kernel.shape[-1]), x.dtype)
    return _spread(x, kernel, Geometry(strides, dilation, pads, sizes, counts, taps, groups, transposed=True))


def _apply(module, function: Callable, x: jax.Array, kernel_init, bias_init) -> jax.Array:
    """Makes the parameters of a convolution module, takes them to its compute type and applies `function`."""
    size = _tuple(module.kernel_size, x.ndim - 2, "kernel_size")
    shape = (*size, x.shape[-1] // module.groups, module.features)
    kernel = module.param("kernel", kernel_init, shape, module.param_dtype)
    bias = module.param("bias", bias_init, shape[-1:], module.param_dtype) if module.use_bias else None
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=module.dtype)
    y = function(
        x,
        kernel,
        strides=module.strides,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
    )
    return y if bias is None else y + bias


class Conv(nn.Module):
    """Convolution `(B, *S, C) -> (B, *T, features)`; see `conv` for the padding.

    `kernel_size`, `strides` and `dilation` are one number for all spatial axes, or one for each.
    Parameters are kept in `param_dtype`; the work is done in `dtype` (None: that of input and parameters).
    """

    features: int
    kernel_size: Ints
    strides: Ints = 1
    padding: Padding = "SAME"
    dilation: Ints = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Callable = initializers.lecun_normal()
    bias_init: Callable = initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _apply(self, conv, x, self.kernel_init, self.bias_init)


class ConvTranspose(nn.Module):
    """Transposed convolution `(B, *S, C) -> (B, *T, features)`; see `conv_transpose` for the padding.

    The fields are those of `Conv`; with 'SAME' padding `T = S * strides`.
    """

    features: int
    kernel_size: Ints
    strides: Ints = 1
    padding: Padding = "SAME"
    dilation: Ints = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Callable = initializers.lecun_normal()
    bias_init: Callable = initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _apply(self, conv_transpose, x, self.kernel_init, self.bias_init)
