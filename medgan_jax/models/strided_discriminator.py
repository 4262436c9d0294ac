"""A plain discriminator: convolutions of one kernel size, each with its width and stride, to a map of scores."""

import flax.linen as nn
import jax

from medgan_jax.models.layers import Layer, receptive_field
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import leaky_relu


class StridedDiscriminator(Sized, nn.Module):
    """Convolutions of `widths` and `strides`, leaky ReLUs, a convolution to one logit: (B, *S, C) -> (B, *T, 1).

    Of rank 2 or 3; every stride divides its image with rounding up. The discriminators of Costa et al. 2017
    and 2018 (3x3, all strides 2) and the similarity network of Fan et al. 2018 are of this kind.

    head_stride: of the last convolution. features: a call with `features=True` returns (logits, maps after
    each activation, from the image inwards).
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    kernel: int = 3
    head_stride: int = 1
    norm: str = "none"
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the patch that one logit sees."""
        return receptive_field((self.kernel, stride) for stride in (*self.strides, self.head_stride))

    @property
    def sizes(self) -> Sizes:
        return Sizes()

    @property
    def title(self) -> str:
        return f"a discriminator with {len(self.widths)} layers"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        self.check_sizes(x)
        if len(self.widths) != len(self.strides):
            raise ValueError(f"{self.title} has {len(self.strides)} strides")
        maps, settings = [], dict(kernel=self.kernel, kernel_init=self.kernel_init)
        for number, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            norm = self.norm if number else "none"
            x = Layer(width, strides=stride, norm=norm, activation=leaky_relu, name=f"layer_{number}",
                      **settings)(x, train=train)  # fmt: skip
            maps.append(x)
        logits = Layer(1, strides=self.head_stride, norm="none", activation=None, name="head",
                       **settings)(x, train=train)  # fmt: skip
        return (logits, tuple(maps)) if features else logits
