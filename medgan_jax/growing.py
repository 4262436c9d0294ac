"""A game that grows from small images to large ones (Karras et al. 2018): its levels, objectives and stages.

Every resolution is a stage of its own: an executable of one size. Its first part fades the new layers in, and
`game.carry_matching` brings the older ones along (section 2). D is a critic with a gradient penalty, and both
networks are called with alpha, the share of the new layers:

    L_D = E D(G(z)) - E D(x_alpha) + lambda E(||grad D(x^)||_2 - 1)^2 + epsilon E D(x_alpha)^2
    L_G = -E D(G(z)),   x^ = e x_alpha + (1 - e) G(z),   e ~ U(0, 1)                         (appendix A.1)
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from medgan_jax.game import Context, Phase, Stage, Terms
from medgan_jax.losses import adversarial, penalties
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


def discriminator_loss(level: Level, *, penalty: float, drift: float) -> Callable:
    """L_D as a phase's loss, with lambda = `penalty` and epsilon = `drift`."""

    def loss(nets, batch, context):
        """L_D of x, (B, size, size, C) in [-1, 1], shown as at this level, and z, (B, Z)."""
        alpha = level.alpha(context)
        x, fake = level.shown(batch["x"], alpha), nets.G.peek(batch["z"], alpha)
        real = nets.D(x, alpha)
        distance = adversarial.discriminator_wasserstein(real, nets.D(fake, alpha))
        slope = penalties.gradient_penalty(lambda image: nets.D.float32(image, alpha), x, fake, context.key)
        terms = {"penalty": penalty * slope, "drift": drift * penalties.drift(real)}
        return distance + sum(terms.values()), Terms(nets, wasserstein=-distance, alpha=alpha, **terms)

    return loss


def generator_loss(level: Level) -> Callable:
    """L_G as a phase's loss."""

    def loss(nets, batch, context):
        """L_G of latent vectors z_G, (B, Z), which are not those that D has seen samples of."""
        alpha = level.alpha(context)
        value = adversarial.generator_wasserstein(nets.D(nets.G(batch["z_G"], alpha), alpha))
        return value, Terms(nets, adversarial=value)

    return loss


def images_and_latents(intensity: Any, latent: int) -> Callable:
    """A stage's `prepare`: beside the batch, `x`, its `image` in the values of `intensity`, `z` and `z_G`.

    Those are standard normal vectors of `latent` numbers for each image.
    """

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        z, z_g = jax.random.normal(key, (2, len(x), latent))
        return {**batch, "x": x, "z": z, "z_G": z_g}

    return prepare


def growing_stage(
    level: Level,
    networks: Mapping[str, nn.Module],
    data: Any,
    prepare: Callable,
    *,
    penalty: float,
    drift: float,
    learning_rate: float,
    average: float,
    generator_rate: float | None = None,
    rivals: Iterable[Any] = (),
) -> Stage:
    """The game at one level, with batches of its size, between the `networks` G and D of its side.

    Adam without momentum and the moving average of G, whose decay is `average`, start anew. generator_rate:
    G's learning rate where it is not D's. rivals: games with `networks` and `phases` of their own, trained
    beside this one on the same batches.
    """

    def adam(rate):
        return optax.adam(rate, b1=0.0, b2=0.99)

    turns = (
        Phase("D", ("D",), discriminator_loss(level, penalty=penalty, drift=drift), adam(learning_rate)),
        Phase("G", ("G",), generator_loss(level), adam(generator_rate or learning_rate)),
    )
    for rival in rivals:
        networks, turns = {**networks, **rival.networks}, turns + rival.phases
    own = dataclasses.replace(data, train=dataclasses.replace(data.train, batch_size=level.batch_size))
    name = f"{level.side}x{level.side}"
    return Stage(name, networks, turns, own, level.steps, prepare, ema={"G": average})
