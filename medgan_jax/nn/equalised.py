"""Layers with an equalised learning rate: weights N(0, 1) that He's constant scales at run time.

An optimiser that normalises the gradient's size, such as Adam, then moves every weight at the same speed
relative to its layer's range (Karras et al. 2018, section 4.1).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.nn.conv import conv

# He's gain, for layers with a ReLU or LeakyReLU behind them.
HE_GAIN = math.sqrt(2)


def _kernel(module: nn.Module, shape: tuple[int, ...], dtype) -> jax.Array:
    """The parameter `kernel`, times gain over the root of its fan in."""
    kernel = module.param("kernel", initializers.normal(1.0), shape, jnp.float32)
    return kernel.astype(dtype) * (module.gain / math.sqrt(math.prod(shape[:-1])))


def _bias(module: nn.Module, y: jax.Array) -> jax.Array:
    if not module.use_bias:
        return y
    return y + module.param("bias", initializers.zeros_init(), y.shape[-1:], jnp.float32).astype(y.dtype)


class EqualisedConv(nn.Module):
    """Convolution (B, *S, C) -> (B, *S, features) with stride 1; kernel gain / sqrt(fan in) times N(0, 1)."""

    features: int
    kernel_size: int = 3
    gain: float = HE_GAIN
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*(self.kernel_size,) * (x.ndim - 2), x.shape[-1], self.features)
        return _bias(self, conv(x, _kernel(self, shape, x.dtype)))


class EqualisedDense(nn.Module):
    """Dense layer (B, C) -> (B, features); kernel gain / sqrt(fan in) times N(0, 1)."""

    features: int
    gain: float = HE_GAIN
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _bias(self, x @ _kernel(self, (x.shape[-1], self.features), x.dtype))
