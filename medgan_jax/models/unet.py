"""U-Nets that halve the image by strided convolutions: the generators of pix2pix and DAGAN, and their kin."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.errors import UserError
from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, Upsampling
from medgan_jax.models.sizes import Size, Sized, Sizes, halvings, in_words, sides_of
from medgan_jax.nn.blocks import ResidualBlock, leaky_relu, rematerialised
from medgan_jax.nn.conv import Conv


class UNet(Sized, nn.Module):
    """Encoder and decoder joined by concatenation at equal resolution: (B, *S, C) -> (B, *S, out_channels).

    Each of the `len(down)` levels halves the image by a `kernel` convolution of stride 2; sides must be
    multiples of 2^levels.

    down: widths of the encoder, from the image inwards. up: widths of the decoder, from the innermost
        outwards: one less than levels where the last enlargement makes the image itself (`head_kernel` 0,
        pix2pix), else as many as levels, before a convolution of size `head_kernel` makes the image
        (DAGAN).
    up_kernel: size of the decoder's kernels where it is not `kernel`; up_activation: after its stages.
    without_norm: encoder levels that have no normalisation, counted as in Python.
    dropout: rate in the decoder stages `dropout_stages`, where 0 is the innermost; noise in pix2pix.
    upsampling: 'transposed', or 'resize' against checkerboard patterns and for volumes.
    skips: False leaves the connections out, for ablation.
    rectify_skips: the decoder's ReLU acts on the encoder's maps too, as in pix2pix; else they come as they
        are.
    residual_blocks: a residual block after each level and stage that has a normalisation.
    residual_clip: refinement learning, the output is `clip(input + network(input), -1, 1)`.
    remat: compute each level again in the backward pass, to save memory.
    """

    out_channels: int
    down: tuple[int, ...]
    up: tuple[int, ...]
    kernel: int = 4
    head_kernel: int = 0
    up_kernel: int = 0
    norm: str = "batch"
    without_norm: tuple[int, ...] = (0, -1)
    dropout: float = 0.5
    dropout_stages: tuple[int, ...] = ()
    upsampling: Upsampling = "transposed"
    skips: bool = True
    rectify_skips: bool = False
    up_activation: Callable = nn.relu
    activation: Callable | None = jnp.tanh
    residual_blocks: bool = False
    residual_clip: bool = False
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT
    remat: bool = False

    @property
    def levels(self) -> int:
        return len(self.down)

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2**self.levels)

    @property
    def title(self) -> str:
        return f"a U-Net of depth {self.levels}"

    def check_fields(self, x: jax.Array) -> None:
        """ValueError where the widths do not fit the depth, or the input the refinement."""
        stages = self.levels if self.head_kernel else self.levels - 1
        if len(self.up) != stages:
            raise ValueError(f"{self.title} needs {stages} decoder widths, not {self.up}")
        if self.residual_clip and x.shape[-1] != self.out_channels:
            raise ValueError(f"refinement adds {x.shape[-1]} input and {self.out_channels} output channels")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        self.check_fields(x)
        layer = rematerialised(Layer, self.remat)
        settings = dict(kernel=self.kernel, kernel_init=self.kernel_init, scale_init=self.scale_init)
        plain = {level % self.levels for level in self.without_norm}

        y, maps = x, []
        for level, width in enumerate(self.down):
            norm = "none" if level in plain else self.norm
            y = layer(width, norm=norm, name=f"down_{level}", **settings)(y, train=train)
            if level not in plain:
                y = self.refined(y, f"down_{level}_residual", train)
            maps.append(y)
        settings |= dict(kernel=self.up_kernel or self.kernel)
        y = nn.relu(maps.pop()) if self.rectify_skips else maps.pop()
        for stage, width in enumerate(self.up):
            dropout = self.dropout if stage in self.dropout_stages else 0.0
            y = layer(width, up=self.upsampling, norm=self.norm, dropout=dropout, activation=self.up_activation,
                      name=f"up_{stage}", **settings)(y, train=train)
            y = self.refined(y, f"up_{stage}_residual", train)
            if maps and self.skips:
                skip = maps.pop()
                y = jnp.concatenate([nn.relu(skip) if self.rectify_skips else skip, y], axis=-1)
        y = self.image(y, settings, train)
        return jnp.clip(x + y, -1.0, 1.0) if self.residual_clip else y

    def refined(self, y: jax.Array, name: str, train: bool) -> jax.Array:
        """`y` after a residual block, if there are any."""
        if not self.residual_blocks:
            return y
        block = rematerialised(ResidualBlock, self.remat)
        return block(padding="SAME", norm=self.norm, kernel_init=self.kernel_init, name=name)(y, train=train)

    def image(self, y: jax.Array, settings: dict, train: bool) -> jax.Array:
        """The image from the last maps."""
        if self.head_kernel:
            y = Conv(self.out_channels, self.head_kernel, kernel_init=self.kernel_init, name="head")(y)
            return y if self.activation is None else self.activation(y)
        return Layer(self.out_channels, up=self.upsampling, norm="none", activation=self.activation,
                     name="head", **settings)(y, train=train)


def depth_for(size: Size, levels: int | None = None, most: int = 8) -> int:
    """`levels`, or as often as `size` can be halved, at most `most`; UserError where it does not fit."""
    possible = halvings(size)
    if levels is not None and possible < levels:
        raise UserError(f"a U-Net of depth {levels} takes {Sizes(2**levels)}; "
                        f"this one is {in_words(sides_of(size))}")
    if levels is None and possible < 2:
        raise UserError(f"a U-Net needs images whose sides are multiples of 4, better of 32; "
                        f"this one is {in_words(sides_of(size))}")
    return min(possible, most) if levels is None else levels


def pix2pix_unet(size: Size = 256, *, out_channels: int = 1, base: int = 64, levels: int | None = None,
                 norm: str = "batch", dropout: float = 0.5, upsampling: Upsampling = "transposed",
                 **options) -> UNet:
    """The generator of pix2pix (Isola et al. 2017, appendix 6.1): C64-C128-C256-C512-... and back, tanh.

    Eight levels at 256 (54 M parameters with base 64), down to one pixel; `levels` for fewer. The only
    noise is dropout in the innermost decoder stages of full width, at most three of them (the later PyTorch
    port spares the innermost one). It acts in training mode, in which pix2pix is evaluated too
    (`nets.G.peek`). `options` are fields of `UNet`.
    """
    levels = depth_for(size, levels)
    down = tuple(base * min(2**level, 8) for level in range(levels))
    up = down[-2::-1]
    noisy = max(1, min(3, up.count(8 * base)))
    settings = dict(dropout_stages=tuple(range(noisy)), rectify_skips=True) | options
    return UNet(out_channels, down, up, norm=norm, dropout=dropout, upsampling=upsampling, **settings)


def dagan_unet(size: Size = 256, *, out_channels: int = 1, base: int = 64, levels: int | None = None,
               refine: bool = True, upsampling: Upsampling = "transposed", **options) -> UNet:
    """The generator of DAGAN (Yang et al. 2018), with refinement learning unless `refine` is False.

    At 256: encoder 64-128-256-512-512-512-512-512 to one pixel, decoder 512-1024-1024-1024-256-128-64-64, a
    1x1 convolution, tanh. Initial kernels N(0, 0.01^2), truncated. The official code leaves the first
    convolution without its activation; here it has one. `options` are fields of `UNet`.
    """
    levels = depth_for(size, levels)
    down = tuple(base * min(2**level, 8) for level in range(levels))
    outermost = (4, 2, 1, 1)[-(levels - 1):]
    multiples = (8,) + (16,) * (levels - 1 - len(outermost)) + outermost
    settings = dict(kernel_init=initializers.truncated_normal(0.01)) | options
    return UNet(out_channels, down, tuple(base * multiple for multiple in multiples), head_kernel=1,
                residual_clip=refine, upsampling=upsampling, **settings)


def costa_unet(size: Size = 512, *, out_channels: int = 3, base: int = 64, dropout: float = 0.5,
               **options) -> UNet:
    """The generator of Costa et al. 2017 and 2018, which paints a retina round a vessel tree.

    As pix2pix' with convolutions of 3x3 and transposed ones of 2x2, leaky ReLUs throughout and dropout in the
    first three decoder stages. The innermost convolution is 3x3 here, 2x2 in the code. `options` are fields of
    `UNet`.
    """
    settings = dict(kernel=3, up_kernel=2, up_activation=leaky_relu, rectify_skips=False,
                    dropout_stages=(0, 1, 2)) | options
    return pix2pix_unet(size, out_channels=out_channels, base=base, dropout=dropout, **settings)
