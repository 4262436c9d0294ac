"""The generator of LSGAN, in which enlargements take turns with convolutions that keep the size."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.errors import UserError
from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, normalised
from medgan_jax.models.sizes import Sizes, in_words


class LSGANGenerator(nn.Module):
    """Latent vectors (B, Z) -> images (B, size, size, channels) in [-1, 1] (Mao et al. 2017, for LSUN).

    A dense layer makes maps of 4 `base` channels and a sixteenth of the size (7x7 of 112x112); then come
    transposed convolutions with batch normalisation and ReLU, of 4, 4, 4, 4, 2 and 1 times `base` channels
    and strides 2, 1, 2, 1, 2, 2; and a last one of stride 1 with tanh.
    """

    size: int = 112
    channels: int = 3
    base: int = 64
    kernel: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        if self.size % 16:
            raise UserError(f"LSGAN's generator makes {Sizes(16)}, not {in_words((self.size, self.size))}")
        start, first = self.size // 16, 4 * self.base
        settings = dict(kernel=self.kernel, up="transposed", activation=nn.relu)
        x = nn.Dense(start * start * first, use_bias=False, kernel_init=KERNEL_INIT, name="project")(z)
        x = x.reshape(-1, start, start, first)
        x = nn.relu(normalised("batch", SCALE_INIT, "project_norm")(x, train=train))
        for number, (width, stride) in enumerate(zip((4, 4, 4, 4, 2, 1), (2, 1, 2, 1, 2, 2), strict=True)):
            x = Layer(width * self.base, strides=stride, name=f"up_{number}", **settings)(x, train=train)
        return Layer(self.channels, strides=1, norm="none", name="head",
                     **{**settings, "activation": jnp.tanh})(x, train=train)
