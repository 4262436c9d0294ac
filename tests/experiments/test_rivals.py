"""Rivals by hand: their losses, what they see, and that they leave all other networks alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.nn.resample import average_pool, upsample
from medgan_jax.rivals import dcgan_rival, lapgan_rival

SETTINGS = dict(image="x", channels=1, base=2, learning_rate=1e-3, latent=4)


def test_dcgan_by_hand(table, context, cross_entropy):
    rival = dcgan_rival(16, **SETTINGS, coarsest=8)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16, 1)), jnp.float32)
    game = table(
        dcgan_8_G=lambda z: z[:, :1].reshape(-1, 1, 1, 1) * jnp.ones((1, 8, 8, 1)),
        dcgan_8_D=lambda image: image.mean((1, 2, 3))[:, None],
    )
    turn_d, turn_g = rival.phases
    loss, _ = turn_d.loss(game.nets, {"x": x}, context())
    z = jax.random.normal(context().key, (3, 4))[:, 0]
    expected = cross_entropy(np.asarray(x).mean((1, 2, 3)), 1) + cross_entropy(z, 0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert np.allclose(game.seen["dcgan_8_D"][0], average_pool(x), atol=1e-6)
    assert float(turn_g.loss(game.nets, {"x": x}, context())[0]) == pytest.approx(
        cross_entropy(z, 1), rel=1e-5
    )
    assert rival.sample(game.nets, jax.random.key(0), 5).shape == (5, 8, 8, 1)


def test_lapgan_has_a_dcgan_and_details_above_it():
    rival = lapgan_rival(32, **SETTINGS, coarsest=8)
    assert [phase.trains for phase in rival.phases] == [
        ("dcgan_8_D",),
        ("dcgan_8_G",),
        ("lapgan_16_D",),
        ("lapgan_16_G",),
        ("lapgan_32_D",),
        ("lapgan_32_G",),
    ]
    assert set(rival.networks) == {name for phase in rival.phases for name in phase.trains}


class Details:
    """Networks of two arrays: details are the noise, scores the mean."""

    def __init__(self):
        self.scored = []

    def __getitem__(self, name):
        return (lambda z, l: z) if name.endswith("G") else self.score

    def score(self, image):
        self.scored.append(image)
        return image.mean((1, 2, 3))[:, None]


def test_details_by_hand(context, cross_entropy):
    turn_d, turn_g = lapgan_rival(16, **SETTINGS, coarsest=8).phases[2:]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16, 1)), jnp.float32)
    nets = Details()
    loss, _ = turn_d.loss(nets, {"x": x}, context())
    z = jax.random.uniform(context().key, (3, 16, 16, 1), minval=-1.0)
    fake = upsample(average_pool(x), 2, "linear") + z
    assert np.allclose(nets.scored[0], x)
    assert np.allclose(nets.scored[1], fake, atol=1e-6)
    real, fake = (np.asarray(image).mean((1, 2, 3)) for image in (x, fake))
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    assert float(turn_g.loss(nets, {"x": x}, context())[0]) == pytest.approx(cross_entropy(fake, 1), rel=1e-5)
