"""Small convolutional networks that name a class, or give the features from which others do."""

from collections.abc import Callable

import flax.linen as nn
import jax

from medgan_jax.models.layers import Layer
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import max_pool

GLOROT, ONES = nn.initializers.glorot_uniform(), nn.initializers.ones_init()


class PooledFeatures(nn.Module):
    """Images (B, H, W, C) -> features (B, F): convolutions of `widths`, each with a maximum pool and ReLU.

    Without a border, so 28x28 gives 24-12-8-4: the MNIST form of DANN (Ganin et al. 2016, figure 4) has 32
    and 48 maps of 5x5 kernels, no norm, and 768 features. over_space: the mean over space, one feature a map,
    in the place of all maps, for textures.
    """

    widths: tuple[int, ...] = (32, 48)
    kernel: int = 5
    norm: str = "none"
    over_space: bool = False
    kernel_init: Callable = GLOROT

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for number, width in enumerate(self.widths):
            settings = dict(kernel=self.kernel, strides=1, padding="VALID", norm=self.norm, activation=None,
                            kernel_init=self.kernel_init, scale_init=ONES)  # fmt: skip
            x = Layer(width, name=f"conv_{number}", **settings)(x, train=train)
            # An odd last row is dropped, as by published pools.
            whole = (slice(0, side - side % 2) for side in x.shape[1:-1])
            x = nn.relu(max_pool(x[:, *whole, :], 2))
        return x.mean((1, 2)) if self.over_space else x.reshape(len(x), -1)


class FullyConvolutionalClassifier(nn.Module):
    """Images (B, *S, C) -> scores (B, classes): halvings of `widths`, a 1x1 convolution, the mean over space.

    Each halving is a 3x3 convolution of stride 2 with normalisation and ReLU. features: a call with
    `features=True` returns (scores, features (B, widths[-1])): the mean over space of the layer before the
    last, of which the scores are a linear map.
    """

    classes: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 128, 256)
    norm: str = "batch"
    kernel_init: Callable = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        for number, width in enumerate(self.widths):
            x = Layer(width, kernel=3, strides=2, norm=self.norm, activation=nn.relu,
                      kernel_init=self.kernel_init, scale_init=ONES,
                      name=f"layer_{number}")(x, train=train)  # fmt: skip
        over = tuple(range(1, x.ndim - 1))
        scores = Conv(self.classes, 1, kernel_init=self.kernel_init, name="head")(x).mean(over)
        return (scores, x.mean(over)) if features else scores
