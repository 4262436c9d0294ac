"""Convolution and transposed convolution in one, two and three dimensions, channels last."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

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


def _general(x, kernel, strides, pads, input_dilation, dilation, groups):
    axes = "DHW"[-len(strides):]
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, input_dilation, dilation,
        (f"N{axes}C", f"{axes}IO", f"N{axes}C"), groups)


def _operands(x: jax.Array, kernel: jax.Array, groups: int):
    rank = x.ndim - 2
    if not 1 <= rank <= 3 or kernel.ndim != x.ndim:
        raise ValueError(f"x {x.shape} and kernel {kernel.shape} must both have 1 to 3 spatial axes and 2 more")
    if x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(f"x {x.shape} does not fit kernel {kernel.shape} with {groups} groups")
    dtype = jnp.result_type(x, kernel)
    return x.astype(dtype), kernel.astype(dtype), rank


def conv(x: jax.Array, kernel: jax.Array, *, strides: Ints = 1, padding: Padding = "SAME",
         dilation: Ints = 1, groups: int = 1) -> jax.Array:
    """Convolution (cross-correlation) of `x` (B, *S, C) with `kernel` (*K, C // groups, F) -> (B, *T, F).

    `padding` is 'SAME' (`ceil(S / strides)` outputs, zeros outside), 'REFLECT' (as many outputs, the image
    mirrored outside), 'VALID', or a pair (low, high) for each spatial axis. PyTorch's `padding=p` is
    `[(p, p), ...]`: with strides, 'SAME' pads the high end more where the total is odd, PyTorch never does.
    """
    x, kernel, rank = _operands(x, kernel, groups)
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
    return _general(x, kernel, strides, pads, (1,) * rank, dilation, groups)


def conv_transpose(x: jax.Array, kernel: jax.Array, *, strides: Ints = 1, padding: Padding = "SAME",
                   dilation: Ints = 1, groups: int = 1) -> jax.Array:
    """Transposed convolution of `x` (B, *S, C) with `kernel` (*K, C // groups, F) -> (B, *T, F).

    Equal to `flax.linen.ConvTranspose` (`transpose_kernel=False`): zeros are put between the pixels of `x`,
    and the kernel slides over the result without a flip. `padding` 'SAME' gives `S * strides` outputs, 'VALID'
    all that the kernel reaches, and explicit pairs pad the dilated input. PyTorch's `padding=p,
    output_padding=q` is the pair `(r - p, r - p + q)`, `r = dilation * (K - 1)`, for each axis; a 4x4 kernel
    of stride 2 with `padding=1` doubles the size and is 'SAME' here, a 3x3 kernel of stride 2 with
    `padding=1, output_padding=1` is `[(1, 2), (1, 2)]`. A PyTorch weight (C, F, *K) becomes a kernel here by
    moving its two channel axes last and flipping every spatial axis.
    """
    x, kernel, rank = _operands(x, kernel, groups)
    strides, dilation = _tuple(strides, rank, "strides"), _tuple(dilation, rank, "dilation")
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding {padding!r} is not one of SAME, VALID")
        pads = tuple(_transposed_padding(k, s, d, padding)
                     for k, s, d in zip(kernel.shape[:-2], strides, dilation, strict=True))
    else:
        pads = tuple((int(low), int(high)) for low, high in padding)
    return _general(x, kernel, (1,) * rank, pads, strides, dilation, groups)


def _apply(module, function: Callable, x: jax.Array, kernel_init, bias_init) -> jax.Array:
    """Makes the parameters of a convolution module, takes them to its compute type and applies `function`."""
    size = _tuple(module.kernel_size, x.ndim - 2, "kernel_size")
    shape = (*size, x.shape[-1] // module.groups, module.features)
    kernel = module.param("kernel", kernel_init, shape, module.param_dtype)
    bias = module.param("bias", bias_init, shape[-1:], module.param_dtype) if module.use_bias else None
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=module.dtype)
    y = function(x, kernel, strides=module.strides, padding=module.padding, dilation=module.dilation,
                 groups=module.groups)
    return y if bias is None else y + bias


class Conv(nn.Module):
    """Convolution `(B, *S, C) -> (B, *T, features)`; see `conv` for the padding.

    `kernel_size`, `strides` and `dilation` are one number for all spatial axes, or one for each.
    Parameters are kept in `param_dtype`; the work is done in `dtype` (None: the type of input and parameters).
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
