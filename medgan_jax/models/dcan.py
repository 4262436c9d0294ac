"""DAN's segmentation network: the widths of VGG16 with three branches of different depth, after DCAN."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.models.scan import bilinear_init
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ConvBlock
from medgan_jax.nn.conv import Conv, ConvTranspose
from medgan_jax.nn.resample import max_pool


class MultiBranchFCN(Sized, nn.Module):
    """Class logits of the joined branches and of each: (B, *S, C) -> (B, *S, K), 3 times (B, *S, K).

    Zhang et al. 2017, after Chen et al. 2016 (DCAN). Blocks of 3x3 convolutions with maximum pools between
    them; each of the last three blocks makes class maps by a 1x1 convolution, which a transposed one enlarges
    to full size. The branches are concatenated, convolved 3x3 to the width `joined`, and 1x1 to classes.

    blocks: widths of the convolutions, from the image inwards.
    """

    classes: int = 2
    blocks: tuple[tuple[int, ...], ...] = (
        (64, 64), (128,), (128, 256), (512, 512), (512, 512), (1024, 1024),
    )  # fmt: skip
    joined: int = 1024
    norm: str = "batch"

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** (len(self.blocks) - 1))

    @property
    def title(self) -> str:
        return f"a network of {len(self.blocks)} blocks with three branches"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        self.check_sizes(x)
        init, branches = initializers.he_normal(), []
        for level, widths in enumerate(self.blocks):
            x = max_pool(x) if level else x
            for number, width in enumerate(widths):
                x = ConvBlock(width, 3, norm=self.norm, kernel_init=init, name=f"block_{level}_{number}")(
                    x, train=train)
            if level >= len(self.blocks) - 3:
                y = Conv(self.classes, 1, kernel_init=initializers.lecun_normal(), name=f"classes_{level}")(x)
                branches.append(ConvTranspose(self.classes, 2 * 2**level, strides=2**level, use_bias=False,
                                              kernel_init=bilinear_init, name=f"enlarge_{level}")(y))
        y = ConvBlock(self.joined, 3, norm=self.norm, kernel_init=init, name="join")(
            jnp.concatenate(branches, axis=-1), train=train)
        logits = Conv(self.classes, 1, kernel_init=initializers.lecun_normal(), name="head")(y)
        return logits, tuple(branches)


def dan_segmentation_network(*, base: int = 64, levels: int = 6, joined: int = 1024) -> MultiBranchFCN:
    """DAN's segmentation network at any width; `levels` below 6 leaves out the innermost blocks."""
    blocks = ((1, 1), (2,), (2, 4), (8, 8), (8, 8), (16, 16))[:levels]
    return MultiBranchFCN(2, tuple(tuple(base * width for width in block) for block in blocks), joined)
