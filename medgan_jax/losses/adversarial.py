"""Adversarial losses on raw scores (logits): each game as one discriminator and one generator function.

`real` and `fake` are a discriminator's raw outputs of any shape: `(B, 1)`, or a patch map `(B, h, w, 1)`,
whose mean over positions is taken with the mean over the batch. Discriminator losses are the plain sum of
the real and the fake part; the one half of pix2pix and CycleGAN is written in those experiments. D is the
probability sigmoid(score), f the score itself.
"""

import jax
import jax.numpy as jnp

from medgan_jax.losses.arrays import promoted


def cross_entropy(scores: jax.Array, label: float) -> jax.Array:
    """Mean sigmoid cross-entropy of `scores` (any shape) against one `label` in [0, 1].

    -label log D - (1 - label) log(1 - D), computed from the logits without overflow.
    """
    scores = promoted(scores)
    return jnp.mean(jax.nn.softplus(scores) - label * scores)


def discriminator_cross_entropy(
    real: jax.Array, fake: jax.Array, *, real_label: float = 1.0, fake_label: float = 0.0
) -> jax.Array:
    """-E log D(real) - E log(1 - D(fake)): Goodfellow et al. 2014, eq. 1, negated for minimisation.

    `real_label` below 1 is one-sided label smoothing (Salimans et al. 2016).
    """
    return cross_entropy(real, real_label) + cross_entropy(fake, fake_label)


def generator_non_saturating(fake: jax.Array) -> jax.Array:
    """-E log D(fake): the generator loss used in practice (Goodfellow et al. 2014, section 3)."""
    return cross_entropy(fake, 1.0)


def generator_saturating(fake: jax.Array) -> jax.Array:
    """E log(1 - D(fake)): the min-max generator loss (Goodfellow et al. 2014, eq. 1)."""
    return -cross_entropy(fake, 0.0)


def squared_error(scores: jax.Array, label: float) -> jax.Array:
    """E (f - label)^2: mean squared distance of `scores` (any shape) from one `label`."""
    return jnp.mean(jnp.square(promoted(scores) - label))


def discriminator_least_squares(
    real: jax.Array, fake: jax.Array, *, a: float = 0.0, b: float = 1.0
) -> jax.Array:
    """E (f(real) - b)^2 + E (f(fake) - a)^2: Mao et al. 2017, eq. 2, without the halves printed there.

    a is the label of fakes, b of real data; (a, b, c) = (0, 1, 1), or (-1, 1, 0) for the Pearson divergence.
    """
    return squared_error(real, b) + squared_error(fake, a)


def generator_least_squares(fake: jax.Array, *, c: float = 1.0) -> jax.Array:
    """E (f(fake) - c)^2: Mao et al. 2017, eq. 2, without the half; c is the score the generator aims at."""
    return squared_error(fake, c)


def discriminator_wasserstein(real: jax.Array, fake: jax.Array) -> jax.Array:
    """E f(fake) - E f(real): the critic's loss of Arjovsky et al. 2017, eq. 3, negated for minimisation.

    Its negative is the Wasserstein estimate. The critic must be kept Lipschitz (`losses.penalties`).
    """
    return jnp.mean(promoted(fake)) - jnp.mean(promoted(real))


def generator_wasserstein(fake: jax.Array) -> jax.Array:
    """-E f(fake): the generator's loss of Arjovsky et al. 2017."""
    return -jnp.mean(promoted(fake))


def hinge(scores: jax.Array, target: float, *, margin: float = 1.0) -> jax.Array:
    """E max(0, m - target f): the margin loss of `scores` (any shape) against one `target`, 1 or -1.

    Both sides of Li and Wand's game (2016); for the discriminator the sum over both targets is
    `discriminator_hinge`, but its generator stops at the margin, too.
    """
    return jnp.mean(jax.nn.relu(margin - target * promoted(scores)))


def discriminator_hinge(real: jax.Array, fake: jax.Array, *, margin: float = 1.0) -> jax.Array:
    """E max(0, m - f(real)) + E max(0, m + f(fake)): Lim and Ye 2017, eq. 9; m = 1 in most papers."""
    return jnp.mean(jax.nn.relu(margin - promoted(real))) + jnp.mean(jax.nn.relu(margin + promoted(fake)))


def generator_hinge(fake: jax.Array) -> jax.Array:
    """-E f(fake): the generator's side of the hinge game (Lim and Ye 2017), equal to the Wasserstein one."""
    return generator_wasserstein(fake)
