"""The games as stages of this library: its models, its losses, and the experiments' where there is one."""

import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from experiments.base import cyclegan, pix2pix, wgan_gp
from medgan_jax.game import Phase, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.models.dcgan import dcgan_discriminator, dcgan_generator
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.srgan import srgan_discriminator, srgan_generator
from medgan_jax.models.vnet import VNet
from medgan_jax.nn.blocks import leaky_relu

Sizes = Mapping[str, int]


def _adam(rate: float, beta1: float, beta2: float = 0.999) -> optax.GradientTransformation:
    return optax.adam(rate, b1=beta1, b2=beta2)


def _stage(networks, *phases: Phase, **options) -> Stage:
    return Stage("game", networks, phases, data=None, steps=1, **options)


def dcgan_stage(sizes: Sizes) -> Stage:
    """DCGAN by cross-entropy; both players see the same fakes."""

    def discriminator_loss(nets, batch, context):
        fake = nets.G.peek(batch["z"])
        real_scores, nets = nets.D.update(batch["x"])
        fake_scores, nets = nets.D.update(fake)
        return adversarial.discriminator_cross_entropy(real_scores, fake_scores), Terms(nets)

    def generator_loss(nets, batch, context):
        fake, nets = nets.G.update(batch["z"])
        return adversarial.generator_non_saturating(nets.D.peek(fake)), Terms(nets)

    networks = {
        "G": dcgan_generator(sizes["size"], channels=sizes["channels"], base=sizes["base"]),
        "D": dcgan_discriminator(sizes["size"], base=sizes["base"]),
    }
    adam = _adam(2e-4, 0.5)
    return _stage(
        networks,
        Phase("D", ("D",), discriminator_loss, adam),
        Phase("G", ("G",), generator_loss, adam),
    )


def wgan_gp_stage(sizes: Sizes) -> Stage:
    """The experiment's networks and losses."""
    names = ("size", "base", "channels", "latent", "critic_steps")
    config = wgan_gp.Config(batch_size=sizes["batch"], **{name: sizes[name] for name in names})
    adam = _adam(config.learning_rate, config.beta1, config.beta2)
    return _stage(
        wgan_gp.models(config),
        Phase("f", ("f",), wgan_gp.critic_loss(config), adam, repeats=config.critic_steps),
        Phase("G", ("G",), wgan_gp.generator_loss, adam),
    )


def pix2pix_stage(sizes: Sizes) -> Stage:
    """The experiment's networks and losses."""
    names = ("size", "base", "patch_layers")
    config = pix2pix.Config(batch_size=sizes["batch"], **{name: sizes[name] for name in names})
    adam = _adam(config.learning_rate, config.beta1)
    return _stage(
        pix2pix.models(config),
        Phase("D", ("D",), pix2pix.discriminator_loss, adam),
        Phase("G", ("G",), pix2pix.generator_loss(config), adam),
    )


def cyclegan_stage(sizes: Sizes) -> Stage:
    """The experiment's networks, losses and image pools."""
    names = ("size", "base", "blocks", "patch_layers")
    config = cyclegan.Config(batch_size=sizes["batch"], **{name: sizes[name] for name in names})
    adam = _adam(config.learning_rate, config.beta1)
    return _stage(
        cyclegan.models(config),
        Phase("G", ("G", "F"), cyclegan.generator_loss(config), adam),
        Phase("D", ("D_X", "D_Y"), cyclegan.discriminator_loss, adam, reads="start"),
        memory=cyclegan.empty_pools(config),
    )


def srgan3d_stage(sizes: Sizes) -> Stage:
    """Super-resolution of volumes after Sanchez and Vilaplana 2018: squared error, least-squares scores."""

    def discriminator_loss(nets, batch, context):
        fake = nets.G.peek(batch["low"])
        real_scores, nets = nets.D.update(batch["high"])
        fake_scores, nets = nets.D.update(fake)
        return adversarial.discriminator_least_squares(real_scores, fake_scores), Terms(nets)

    def generator_loss(nets, batch, context):
        fake, nets = nets.G.update(batch["low"])
        l2 = pixel.l2(fake, batch["high"])
        score = 1e-3 * adversarial.generator_least_squares(nets.D.peek(fake))
        return l2 + score, Terms(nets, l2=l2, adversarial=score)

    networks = {
        "G": srgan_generator(2, out_channels=1, width=sizes["width"], blocks=sizes["blocks"],
                             up_width=sizes["up_width"], outer_kernel=3, first_norm="batch",
                             inner=functools.partial(leaky_relu, slope=0.25)),
        "D": srgan_discriminator(sizes["size"], base=sizes["patch_base"], hidden=sizes["hidden"], rank=3,
                                 activation=functools.partial(leaky_relu, slope=0.3)),
    }
    adam = _adam(1e-4, 0.9)
    return _stage(
        networks,
        Phase("D", ("D",), discriminator_loss, adam),
        Phase("G", ("G",), generator_loss, adam),
    )


def pix2pix3d_stage(sizes: Sizes) -> Stage:
    """pix2pix's losses on volumes, with a V-Net of 3x3x3 kernels and batch normalisation."""
    config, stages = pix2pix.Config(), sizes["stages"]
    generator = VNet(1, tuple(sizes["base"] * 2**level for level in range(stages)), (1, 2, 3, 3, 3)[:stages],
                     kernel=3, norm="batch", activation=jnp.tanh)
    adam = _adam(config.learning_rate, config.beta1)
    return _stage(
        {"G": generator, "D": PatchGAN(sizes["patch_layers"], sizes["patch_base"])},
        Phase("D", ("D",), pix2pix.discriminator_loss, adam),
        Phase("G", ("G",), pix2pix.generator_loss(config), adam),
    )


STAGES: dict[str, Callable[[Sizes], Stage]] = {
    "dcgan": dcgan_stage,
    "wgan_gp": wgan_gp_stage,
    "pix2pix": pix2pix_stage,
    "cyclegan": cyclegan_stage,
    "srgan3d": srgan3d_stage,
    "pix2pix3d": pix2pix3d_stage,
}
