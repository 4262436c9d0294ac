"""PatchGAN: a fully convolutional discriminator that scores overlapping patches."""

from collections.abc import Callable

import flax.linen as nn
import jax

from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, receptive_field
from medgan_jax.models.sizes import Sized, Sizes


class PatchGAN(Sized, nn.Module):
    """C64-C128-C256-C512-1 with 4x4 kernels: a logit (B, *T, 1) for each patch (Isola et al. 2017).

    Condition and image are concatenated by the caller along channels. With `layers` 3, 256x256 gives 30x30
    logits that see 70x70 pixels each; 1 is the 16x16 variant, 5 the 286x286 one, 0 the PixelGAN of 1x1
    convolutions. No normalisation in the first layer.

    layers: number of stride-2 layers; one more of stride 1 and the stride-1 head follow. base: width of the
        first.
    norm: 'batch' in pix2pix, 'instance' in CycleGAN, 'none' or 'layer' under a gradient penalty.
    features: a call with `features=True` returns (logits, maps after each activation, from the image
        inwards).
    """

    layers: int = 3
    base: int = 64
    norm: str = "batch"
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """(kernel, stride) of every convolution, from the image inwards."""
        if self.layers == 0:
            return ((1, 1),) * 3
        return ((4, 2),) * self.layers + ((4, 1),) * 2

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the patch that one logit sees."""
        return receptive_field(self.kernels)

    @property
    def sizes(self) -> Sizes:
        # The last two convolutions of 4x4 with a border of 1 take one pixel each and must leave one.
        return Sizes(minimum=3 * 2**self.layers if self.layers else 1)

    @property
    def title(self) -> str:
        return f"a PatchGAN with {self.layers} layers"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        self.check_sizes(x)
        maps = []
        for number, (kernel, stride) in enumerate(self.kernels[:-1]):
            x = Layer(self.base * min(2**number, 8), norm=self.norm if number else "none",
                      name=f"layer_{number}", **self.settings(x, kernel, stride))(x, train=train)
            maps.append(x)
        logits = Layer(1, norm="none", activation=None, name="head",
                       **self.settings(x, *self.kernels[-1]))(x, train=train)
        return (logits, tuple(maps)) if features else logits

    def settings(self, x: jax.Array, kernel: int, stride: int) -> dict:
        """What all convolutions share: the border of one pixel, as in the published code, at 4x4 kernels."""
        border = 1 if kernel == 4 else 0
        return dict(kernel=kernel, strides=stride, padding=((border, border),) * (x.ndim - 2),
                    kernel_init=self.kernel_init, scale_init=self.scale_init)
