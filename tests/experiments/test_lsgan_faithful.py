"""LSGAN against the paper and its code: layers, losses by hand for both sets of targets, the schedule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import lsgan
from medgan_jax.configuration import DataOptions
from medgan_jax.errors import UserError

PAPER = lsgan.Config.paper()


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 112, 112)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda **changes: lsgan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_those_of_the_code(parameters, layer):
    networks = lsgan.models(PAPER)
    generator = 1024 * 7 * 7 * 256 + 2 * 256 + 4 * layer(3, 256, 256) + layer(3, 256, 128) + layer(3, 128, 64)
    assert parameters(networks["G"], (1, 1024)) == generator + layer(3, 64, 1, bias=True, norm=False)
    discriminator = layer(5, 1, 64, bias=True, norm=False) + sum(layer(5, a, 2 * a) for a in (64, 128, 256))
    assert parameters(networks["D"], (1, 112, 112, 1)) == discriminator + 7 * 7 * 512 + 1


def test_enlargements_take_turns_with_layers_that_keep_the_size():
    network = lsgan.models(PAPER)["G"]
    z = jax.ShapeDtypeStruct((1, 1024), jnp.float32)
    key, kinds = jax.random.key(0), ["params", "batch_stats", "intermediates"]
    _, kept = jax.eval_shape(lambda z: network.init_with_output(
        key, z, train=False, capture_intermediates=True, mutable=kinds), z)
    shapes = [kept["intermediates"][f"up_{number}"]["__call__"][0].shape[1:] for number in range(6)]
    sides, widths = (14, 14, 28, 28, 56, 112), (256, 256, 256, 256, 128, 64)
    assert shapes == [(side, side, width) for side, width in zip(sides, widths, strict=True)]
    assert kept["intermediates"]["head"]["__call__"][0].shape == (1, 112, 112, 1)
    with pytest.raises(UserError, match="multiples of 16, not 100x100"):
        jax.eval_shape(lambda z: dataclasses.replace(network, size=100).init(key, z, train=False), z)


@pytest.mark.parametrize(("a", "b", "c"), [(0.0, 1.0, 1.0), (-1.0, 1.0, 0.0)])
def test_losses_by_hand_on_raw_scores(table, context, a, b, c):
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(3, 2, 2, 1)).astype(np.float32) for _ in range(2))
    batch, config = {"x": jnp.asarray(x), "z": jnp.asarray(z)}, dataclasses.replace(PAPER, a=a, b=b, c=c)
    game = table(G=lambda z: 0.5 * z, D=lambda image: image.sum((1, 2, 3))[:, None])
    loss, _ = lsgan.discriminator_loss(config)(game.nets, batch, context())
    real, fake = x.sum((1, 2, 3)), 0.5 * z.sum((1, 2, 3))
    expected = 0.5 * np.mean((real - b) ** 2) + 0.5 * np.mean((fake - a) ** 2)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss, _ = lsgan.generator_loss(config)(game.nets, batch, context())
    assert float(loss) == pytest.approx(0.5 * np.mean((fake - c) ** 2), rel=1e-5)


def test_schedule_and_latent_vectors(experiment, rates):
    assert (PAPER.a, PAPER.b, PAPER.c) == (0, 1, 1)
    discriminator, generator = experiment().stages[0].phases
    assert (discriminator.trains, generator.trains) == (("D",), ("G",))
    assert rates(discriminator, 10) == pytest.approx(1e-3, rel=1e-4)
    assert (PAPER.batch_size, PAPER.beta1, PAPER.steps) == (64, 0.5, 1_000_000)
    batch = experiment().stages[0].prepare({"image": jnp.zeros((2, 112, 112, 1))}, jax.random.key(0))
    assert batch["z"].shape == (2, 1024)
    assert float(jnp.abs(batch["z"]).max()) < 1
    assert float(batch["z"].std()) == pytest.approx(3**-0.5, rel=0.05)
