"""Small convolutional classifiers of whole images."""

from collections.abc import Callable

import flax.linen as nn
import jax
from flax.linen import initializers

from medgan_jax.nn.blocks import Dropout
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import max_pool


class PooledClassifier(nn.Module):
    """Images (B, *S, C) -> logits (B, outputs): pairs of a convolution and a 2x2 maximum, then dense layers.

    widths: of the convolutions. dense: widths of the hidden dense layers, each with dropout behind it.
    """

    outputs: int
    widths: tuple[int, ...] = (32, 64, 128)
    dense: tuple[int, ...] = (256,)
    kernel: int = 3
    dropout: float = 0.5
    kernel_init: Callable = initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for number, width in enumerate(self.widths):
            layer = Conv(width, self.kernel, kernel_init=self.kernel_init, name=f"layer_{number}")
            x = max_pool(nn.relu(layer(x)))
        x = x.reshape(x.shape[0], -1)
        for number, width in enumerate(self.dense):
            x = nn.relu(nn.Dense(width, kernel_init=self.kernel_init, name=f"dense_{number}")(x))
            x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.outputs, name="head")(x)
