"""The discriminator of AC-GAN, which tells the class of an image beside whether it is real."""

import flax.linen as nn
import jax

from medgan_jax.models.layers import KERNEL_INIT, Layer
from medgan_jax.models.sizes import Size, Sized, Sizes, sides_of


class ACGANDiscriminator(Sized, nn.Module):
    """Images (B, H, W, C) -> logits (B, 1 + classes): of being real, then of each class (Odena et al. 2017).

    3x3 convolutions whose strides are 2 and 1 in turn, leaky ReLUs, batch normalisation in all but the first,
    dropout in all; the two heads are one dense layer. It fixes the image size.

    noise: standard deviation of the Gaussian noise that training adds to all activations.
    """

    size: Size = 32
    classes: int = 10
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    dropout: float = 0.5
    noise: float = 0.0

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=sides_of(self.size, 2))

    @property
    def title(self) -> str:
        return "an AC-GAN discriminator"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        for number, width in enumerate(self.widths):
            x = Layer(width, kernel=3, strides=1 if number % 2 else 2, norm="batch" if number else "none",
                      dropout=self.dropout, name=f"layer_{number}")(x, train=train)
            if train and self.noise:
                x = x + self.noise * jax.random.normal(self.make_rng("noise"), x.shape, x.dtype)
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(1 + self.classes, kernel_init=KERNEL_INIT, name="heads")(x)
