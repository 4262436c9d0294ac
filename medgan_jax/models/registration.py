"""The registration network of VoxelMorph: a U-Net from two images to a displacement."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.models.layers import Layer
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import upsample


class RegistrationUNet(Sized, nn.Module):
    """Moving and fixed image along channels (B, *S, 2 C) -> displacement (B, *S, rank) in voxels, rank 2 or 3.

    Convolutions of three voxels, of stride 2 in the encoder `down`; in the decoder `up`, of as many widths,
    each level is enlarged to its nearest neighbours and joined to the encoder's maps. At half resolution
    there is one more of `half` and at full resolution, joined to the input, one of `full` channels. No
    normalisation. The displacement starts near zero, N(0, 1e-5^2). Balakrishnan et al. 2018 ("VoxelMorph-1"),
    and Fan et al. 2018 with the same widths.
    """

    down: tuple[int, ...] = (16, 32, 32, 32)
    up: tuple[int, ...] = (32, 32, 32, 32)
    half: int = 8
    full: int = 8

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** len(self.down))

    @property
    def title(self) -> str:
        return f"a registration network with {len(self.down)} levels"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        if len(self.up) != len(self.down):
            raise ValueError(f"{self.title} has {len(self.up)} decoder widths")

        def layer(width, name, strides=1):
            return Layer(width, kernel=3, strides=strides, norm="none",
                         kernel_init=initializers.he_normal(), name=name)  # fmt: skip

        maps = [x]
        for level, width in enumerate(self.down):
            maps.append(layer(width, f"down_{level}", 2)(maps[-1], train=train))
        y = maps.pop()
        for stage, width in enumerate(self.up):
            if stage:
                y = jnp.concatenate([upsample(y), maps.pop()], axis=-1)
            y = layer(width, f"up_{stage}")(y, train=train)
        y = layer(self.half, "half")(y, train=train)
        y = jnp.concatenate([upsample(y), maps.pop()], axis=-1)
        y = layer(self.full, "full")(y, train=train)
        return Conv(x.ndim - 2, 3, kernel_init=initializers.normal(1e-5), name="displacement")(y)
