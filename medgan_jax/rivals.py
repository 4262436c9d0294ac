"""Other generators, trained beside a method on its own images, to be compared with: DCGAN and LAPGAN.

A rival adds networks and phases to the method's last stage. Nothing passes between the two games but the
images that both see.
"""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import optax

from medgan_jax.game import Networks, Phase, Terms
from medgan_jax.losses import adversarial
from medgan_jax.models.dcgan import dcgan_discriminator, dcgan_generator
from medgan_jax.models.lapgan import DetailDiscriminator, DetailGenerator, from_coarse_to_fine, pyramid
from medgan_jax.models.progressive import sides_up_to
from medgan_jax.nn.resample import average_pool


@dataclasses.dataclass(frozen=True)
class Rival:
    """Networks and phases to add to a stage; sample: (nets, key, count) -> images `(count, *S, C)`."""

    networks: Mapping[str, nn.Module]
    phases: tuple[Phase, ...]
    sample: Callable[[Networks, jax.Array, int], jax.Array]


def dcgan_rival(
    size: int,
    *,
    image: str,
    channels: int,
    base: int,
    learning_rate: float,
    latent: int = 100,
    coarsest: int = 0,
) -> Rival:
    """DCGAN (Radford et al. 2016) for the batch's field `image` `(B, size, size, channels)` in [-1, 1].

    coarsest: side to which images are halved before they are seen, if they are larger.
    """
    side = min(size, coarsest or size)
    name = f"dcgan_{side}" if side < size else "dcgan"
    networks = {
        f"{name}_G": dcgan_generator(side, channels=channels, base=base),
        f"{name}_D": dcgan_discriminator(side, base=base),
    }

    def sample(nets, key, count):
        return nets[f"{name}_G"].eval(jax.random.normal(key, (count, latent)))

    def discriminator(nets, batch, context):
        """BCE(D(x), 1) + BCE(D(G(z)), 0)."""
        x = average_pool(batch[image], size // side)
        fake = nets[f"{name}_G"].peek(jax.random.normal(context.key, (len(x), latent)))
        real, nets = nets[f"{name}_D"].update(x)
        fake, nets = nets[f"{name}_D"].update(fake)
        return adversarial.discriminator_cross_entropy(real, fake), Terms(nets)

    def generator(nets, batch, context):
        """BCE(D(G(z)), 1)."""
        z = jax.random.normal(context.key, (len(batch[image]), latent))
        fake, nets = nets[f"{name}_G"].update(z)
        return adversarial.generator_non_saturating(nets[f"{name}_D"].peek(fake)), Terms(nets)

    adam = optax.adam(learning_rate, b1=0.5)
    phases = (
        Phase(f"{name}_D", (f"{name}_D",), discriminator, adam),
        Phase(f"{name}_G", (f"{name}_G",), generator, adam),
    )
    return Rival(networks, phases, sample)


def lapgan_rival(
    size: int,
    *,
    image: str,
    channels: int,
    base: int,
    learning_rate: float,
    coarsest: int,
    latent: int = 100,
) -> Rival:
    """LAPGAN (Denton et al. 2015) for the batch's field `image`: a DCGAN at `coarsest`, details above it."""
    coarse = dcgan_rival(
        size,
        image=image,
        channels=channels,
        base=base,
        latent=latent,
        learning_rate=learning_rate,
        coarsest=coarsest,
    )
    sides = sides_up_to(size, coarsest)[1:]
    networks, phases = dict(coarse.networks), list(coarse.phases)
    for side in sides:
        networks[f"lapgan_{side}_G"] = DetailGenerator(base)
        networks[f"lapgan_{side}_D"] = DetailDiscriminator(side, base)
        phases += _detail_phases(side, image, optax.adam(learning_rate, b1=0.5))

    def sample(nets, key, count):
        def details(side, l):
            return nets[f"lapgan_{side}_G"].eval(_noise_map(jax.random.fold_in(key, side), l), l)

        return from_coarse_to_fine(coarse.sample(nets, key, count), sides, details)

    return Rival(networks, tuple(phases), sample)


def _detail_phases(side: int, image: str, optimizer) -> tuple[Phase, Phase]:
    g, d = f"lapgan_{side}_G", f"lapgan_{side}_D"

    def coarse(batch):
        images, enlarged = pyramid(batch[image], (side // 2, side))
        return images[side], enlarged[side]

    def discriminator(nets, batch, context):
        """BCE(D(l + h), 1) + BCE(D(l + G(z, l)), 0)."""
        x, l = coarse(batch)
        fake = l + nets[g](_noise_map(context.key, l), l)
        return adversarial.discriminator_cross_entropy(nets[d](x), nets[d](fake)), Terms(nets)

    def generator(nets, batch, context):
        """BCE(D(l + G(z, l)), 1)."""
        _, l = coarse(batch)
        fake = l + nets[g](_noise_map(context.key, l), l)
        return adversarial.generator_non_saturating(nets[d](fake)), Terms(nets)

    return Phase(d, (d,), discriminator, optimizer), Phase(g, (g,), generator, optimizer)


def _noise_map(key: jax.Array, l: jax.Array) -> jax.Array:
    return jax.random.uniform(key, (*l.shape[:-1], 1), l.dtype, -1.0)
