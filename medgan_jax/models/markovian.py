"""Networks of Markovian GANs, which judge patches of a frozen network's feature maps (Li and Wand 2016)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.models.layers import Layer
from medgan_jax.nn.blocks import leaky_relu


class MarkovianGenerator(nn.Module):
    """Feature maps (B, h, w, F) -> images (B, 8 h, 8 w, out_channels) in [-1, 1].

    A transposed 3x3 convolution to 8 `base` maps, then one 4x4 doubling for each of `doublings`: 4 and 2
    times `base`, and the image. Batch normalisation and ReLU between.
    """

    out_channels: int = 3
    base: int = 64
    doublings: int = 3
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        widths = [self.base * 2**n for n in range(self.doublings, 0, -1)]
        settings = dict(up="transposed", norm=self.norm, activation=nn.relu)
        x = Layer(widths[0], kernel=3, strides=1, name="first", **settings)(x, train=train)
        for number, width in enumerate(widths[1:]):
            x = Layer(width, name=f"up_{number}", **settings)(x, train=train)
        settings |= dict(norm="none", activation=jnp.tanh)
        return Layer(self.out_channels, name="head", **settings)(x, train=train)


class MarkovianDiscriminator(nn.Module):
    """Feature maps (B, h, w, F) -> a score (B, h / 4, w / 4, 1) for each neural patch.

    LeakyReLU, 4x4 halvings to 4 and 8 times `base` maps with batch normalisation and LeakyReLU, 1x1 to one.
    """

    base: int = 64
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = leaky_relu(x)
        for number, width in enumerate((4 * self.base, 8 * self.base)):
            x = Layer(width, norm=self.norm, name=f"layer_{number}")(x, train=train)
        return Layer(1, kernel=1, strides=1, norm="none", activation=None, name="head")(x, train=train)


class NeuralPatchDiscriminator(nn.Module):
    """Feature maps (B, h, w, F) -> a score for each `patch` x `patch` of them, every `step`: that of MDAN.

    LeakyReLU, a 3x3 convolution of the same width, batch normalisation, LeakyReLU, and a convolution of the
    size of a patch, without a border.
    """

    patch: int = 8
    step: int = 4
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Layer(x.shape[-1], kernel=3, strides=1, norm=self.norm, name="layer")(leaky_relu(x), train=train)
        settings = dict(padding="VALID", norm="none", activation=None)
        return Layer(1, kernel=self.patch, strides=self.step, name="head", **settings)(x, train=train)


def inner(scores: jax.Array) -> jax.Array:
    """Scores (B, h, w, 1) without the outermost, whose patches reach over the border."""
    return scores[:, 1:-1, 1:-1] if min(scores.shape[1:3]) > 2 else scores


class Canvas(nn.Module):
    """Images that are themselves the parameters, for methods that optimise pixels: (B, *S, C).

    A call takes the `images` (B, *S, C) that it starts from, and their numbers below `count`; what
    is learned is what is added to each.
    """

    count: int

    @nn.compact
    def __call__(self, images: jax.Array, number: jax.Array, *, train: bool) -> jax.Array:
        shape = (self.count, *images.shape[1:])
        added = self.param("added", nn.initializers.zeros_init(), shape, jnp.float32)
        return images + added[number]
