"""WGAN-GP against the paper and its public code: layers, losses by hand, five critic updates a step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import wgan_gp
from medgan_jax.configuration import DataOptions

PAPER = wgan_gp.Config.paper()


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 32, 32)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda **changes: wgan_gp.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_the_published_tables(parameters, layer):
    networks = wgan_gp.models(dataclasses.replace(PAPER, channels=3))
    generator = 128 * 8192 + 2 * 512 + layer(5, 512, 256) + layer(5, 256, 128)
    assert parameters(networks["G"], (1, 128)) == generator + layer(5, 128, 3, bias=True, norm=False)
    critic = sum(layer(5, a, b, bias=True, norm=False) for a, b in ((3, 128), (128, 256), (256, 512)))
    assert parameters(networks["f"], (1, 32, 32, 3)) == critic + 4 * 4 * 512 + 1
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: networks["f"].init(jax.random.key(0), x, train=False), image)
    # No batch normalisation in the critic.
    assert set(variables) == {"params"}


@pytest.mark.parametrize("slope", [0.25, 1.0, 2.0])
def test_critic_loss_by_hand_for_a_linear_critic(table, context, slope):
    rng = np.random.default_rng(0)
    x, z = (rng.uniform(-1, 1, (3, 4, 4, 1)).astype(np.float32) for _ in range(2))
    weights = rng.normal(size=(4, 4, 1))
    weights *= slope / np.linalg.norm(weights)
    game = table(G=lambda z: 0.5 * z, f=lambda image: (image * weights).sum((1, 2, 3))[:, None])
    loss, terms = wgan_gp.critic_loss(PAPER)(game.nets, {"x": jnp.asarray(x), "z": jnp.asarray(z)}, context())
    wasserstein = (x * weights).sum((1, 2, 3)).mean() - (0.5 * z * weights).sum((1, 2, 3)).mean()
    penalty = 10 * (slope - 1) ** 2
    assert float(terms.values["wasserstein"]) == pytest.approx(wasserstein, abs=1e-5)
    assert float(terms.values["penalty"]) == pytest.approx(penalty, abs=1e-5)
    assert float(loss) == pytest.approx(penalty - wasserstein, abs=1e-5)


def test_penalty_is_taken_between_real_and_generated_images(table, context):
    x, z = jnp.ones((4, 2, 2, 1)), jnp.zeros((4, 2, 2, 1))
    game = table(G=lambda z: z - 1, f=lambda image: image.sum((1, 2, 3)))
    wgan_gp.critic_loss(PAPER)(game.nets, {"x": x, "z": z}, context())
    real, fake, between = game.seen["f"]
    assert real.min() == 1
    assert fake.max() == -1
    # The points of the penalty are differentiated at, and so they are traced.
    assert isinstance(between, jax.core.Tracer)


def test_generator_loss_by_hand_with_its_own_latent_vectors(table, context):
    z = np.random.default_rng(0).normal(size=(3, 2, 2, 1)).astype(np.float32)
    game = table(G=lambda z: 0.5 * z, f=lambda image: image.sum((1, 2, 3)))
    loss, _ = wgan_gp.generator_loss(
        game.nets, {"z": jnp.full((3, 2, 2, 1), 9.0), "z_G": jnp.asarray(z)}, context()
    )
    assert float(loss) == pytest.approx(-0.5 * z.sum((1, 2, 3)).mean(), rel=1e-5)


def test_schedule_and_latent_vectors(experiment, rates):
    game = experiment().stages[0]
    critic, generator = game.phases
    assert (critic.trains, critic.repeats) == (("f",), 5)
    assert (generator.trains, generator.repeats) == (("G",), 1)
    assert rates(critic, 20) == pytest.approx(1e-4, rel=1e-4)
    assert (PAPER.beta1, PAPER.beta2, PAPER.batch_size, PAPER.steps) == (0.5, 0.9, 64, 200_000)
    assert not game.ema
    batch = game.prepare({"image": jnp.zeros((2, 32, 32, 1))}, jax.random.key(0))
    assert batch["z"].shape == batch["z_G"].shape == (2, 128)
    assert not np.allclose(batch["z"], batch["z_G"])


def test_average_is_an_option(experiment):
    assert experiment(average=0.99).stages[0].ema == {"G": 0.99}
