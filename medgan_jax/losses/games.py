"""Adversarial games by the name that a configuration gives: the discriminator's and the generator's loss."""

from medgan_jax.losses import adversarial

GAMES = {
    "bce": (adversarial.discriminator_cross_entropy, adversarial.generator_non_saturating),
    "lsgan": (adversarial.discriminator_least_squares, adversarial.generator_least_squares),
}
