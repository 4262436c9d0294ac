"""Two generators that share their first layers: coupled GANs (Liu and Tuzel 2016) and SCGAN."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.models.dcgan import DCGANDiscriminator, dcgan_discriminator, dcgan_generator
from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, normalised
from medgan_jax.models.sizes import Size


class SemiCoupledGenerators(nn.Module):
    """Latent vectors (B, K, Z), one for each of K generators -> K images (B, *size, channels) in [-1, 1].

    Each generator is DCGAN's: a dense projection, then doublings. The first `shared` layers have the same
    weights and statistics for all, the semantic part; the last layers are each generator's own.

    size: one side, or all sides; base: width of the last doubling but one; rank as for DCGAN.
    """

    size: Size = 64
    channels: int = 1
    base: int = 64
    shared: int = 2
    kernel: int = 4
    kernel_init: Callable = KERNEL_INIT

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        plain = dcgan_generator(self.size, channels=self.channels, base=self.base)
        start, first, count = plain.start, plain.widths[0], z.shape[1]
        settings = dict(kernel=self.kernel, up="transposed", kernel_init=self.kernel_init)
        widths = (*plain.widths[1:], self.channels)

        def layer(number: int, x: jax.Array, name: str) -> jax.Array:
            """Layer 0 is the projection, the last one makes the image."""
            if number == 0:
                x = nn.Dense(math.prod(start) * first, use_bias=False, kernel_init=self.kernel_init,
                             name=f"{name}_project")(x).reshape(-1, *start, first)  # fmt: skip
                return nn.relu(normalised("batch", SCALE_INIT, f"{name}_norm")(x, train=train))
            last = number == len(widths)
            norm, activation = ("none", jnp.tanh) if last else ("batch", nn.relu)
            return Layer(widths[number - 1], norm=norm, activation=activation, name=f"{name}_{number}",
                         **settings)(x, train=train)  # fmt: skip

        x = z.swapaxes(0, 1).reshape(-1, z.shape[-1])
        for number in range(self.shared):
            x = layer(number, x, "shared")
        images = []
        for which, own in enumerate(jnp.split(x, count)):
            for number in range(self.shared, len(widths) + 1):
                own = layer(number, own, f"own_{which}")
            images.append(own)
        return tuple(images)


def joined(images: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """Images of K generators, (B, *S, C) each, as one batch (K B, *S, C), and whose each one is, (K B,)."""
    return jnp.concatenate(images), jnp.repeat(jnp.arange(len(images)), len(images[0]))


class TwoHeadedDiscriminator(DCGANDiscriminator):
    """DCGAN's discriminator, whose outputs are scores of reality (B,) and of classes (B, outputs - 1).

    features: a call with `features=True` returns ((reality, classes), f), f the last map.
    """

    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        outputs, maps = super().__call__(x, train=train, features=True)
        heads = outputs[:, 0], outputs[:, 1:]
        return (heads, maps[-1]) if features else heads


def two_headed_discriminator(size: Size = 64, *, base: int = 64, classes: int = 2) -> TwoHeadedDiscriminator:
    """The discriminator of `dcgan_discriminator` with heads for reality and for so many classes."""
    plain = dcgan_discriminator(size, base=base)
    return TwoHeadedDiscriminator(size, plain.widths, outputs=1 + classes)


def pictures(nets: Any, latents: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """`{end}_G_0`, `{end}_G_1`, ...: what the generators `G_{end}` make of the latent vectors of each end.

    Ends without generators among `nets`, the networks of a stage, have no pictures.
    """
    made = {end: nets[f"G_{end}"].eval(z) for end, z in latents.items() if f"G_{end}" in nets.modules}
    return {f"{end}_G_{n}": image for end, images in made.items() for n, image in enumerate(images)}


def kept(ends: Sequence[str]) -> Callable[[Any, Mapping, jax.Array], tuple]:
    """A stage's `memory`, empty, which calls the generators: they stay where no phase plays with them.

    The batch holds latent vectors `z` by end.
    """

    def memory(nets, batch, key):
        pictures(nets, {end: batch[end]["z"] for end in ends})
        return ()

    return memory
