"""The stages of a game that grows from small images to large ones, and what of each is seen meanwhile.

Every resolution is a stage of its own: an executable of one size. Its first part fades the new layers in, and
`game.carry_matching` brings the older ones along (Karras et al. 2018, section 2).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from medgan_jax.game import Context
from medgan_jax.models.progressive import faded, sides_up_to
from medgan_jax.nn.resample import average_pool, upsample


@dataclasses.dataclass(frozen=True)
class Level:
    """One resolution: side of its images, batch size, steps that fade it in, and steps in all."""

    side: int
    batch_size: int
    fade: int
    steps: int

    def alpha(self, context: Context) -> jax.Array | float:
        """Share of the new layers, 0 at the stage's first step, 1 from step `fade` on."""
        return 1.0 if self.fade == 0 else jnp.minimum(context.step / self.fade, 1.0)

    def shown(self, image: jax.Array, alpha: jax.Array | float) -> jax.Array:
        """Real images (B, H, W, C) of the full size as this level has them, faded like the networks' own."""
        image = average_pool(image, image.shape[1] // self.side)
        return image if self.fade == 0 else faded(alpha, upsample(average_pool(image)), image)


def growth(
    size: int, *, first: int, phase_images: int, batches: Sequence[int], batch_size: int, steps: int
) -> tuple[Level, ...]:
    """The levels from side `first` to `size`.

    Each shows `phase_images` images while it fades in and as many more; the first, which fades from nothing,
    only the latter; the last `steps` batches in all. batches: batch sizes of the first levels; `batch_size`
    that of the others. UserError where doubling does not lead from `first` to `size`.
    """
    levels = []
    for number, side in enumerate(sides_up_to(size, first)):
        rows = batches[number] if number < len(batches) and side < size else batch_size
        phase = max(phase_images // rows, 1)
        fade = phase if number else 0
        levels.append(Level(side, rows, fade, steps if side == size else fade + phase))
    return tuple(levels)
