"""PGGAN of skin lesions: the paper's size and schedule, the same game as PGGAN, rivals that stay apart."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import pgan
from experiments.synthesis_unconditional import pggan_skin_lesion as method
from medgan_jax.configuration import DataOptions
from medgan_jax.data.dermoscopy import lesion_of_any_kind
from medgan_jax.game import Context
from medgan_jax.growing import Level, discriminator_loss, generator_loss
from medgan_jax.phantoms.skin import FREQUENCIES

PAPER = method.Config.paper()


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 32, 32, 3)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    changes = dict(data=source, size=32, first=16, coarsest=16, base=64, widest=4, rival_base=2, latent=4)
    return method.experiment(dataclasses.replace(PAPER, **changes))


def test_from_4_to_256_pixels_by_the_schedule_of_the_code(parameters):
    levels = method.levels(PAPER)
    assert [level.side for level in levels] == [4, 8, 16, 32, 64, 128, 256]
    assert [level.batch_size for level in levels] == [128, 128, 128, 64, 32, 16, 8]
    shown = [level.steps * level.batch_size for level in levels]
    assert shown == pytest.approx([600_000] + [1_200_000] * 6, rel=1e-3)
    networks = method.models(PAPER, 256)
    # What is left of the 23.1 million at 1024 without the two finest resolutions.
    fine = 9 * (64 * 32 + 32 * 32 + 32 * 16 + 16 * 16) + 2 * (32 + 16)
    heads = [3 * (width + 1) for width in (16, 32, 64, 128)]
    whole = parameters(pgan.models(dataclasses.replace(pgan.Config.paper(), channels=3), 1024)["G"], (1, 512))
    assert parameters(networks["G"], (1, 512)) == whole - fine - sum(heads[:2]) + sum(heads[2:])


class Player:
    """A network as a function of an image and alpha."""

    def __init__(self, function):
        self.function = function
        self.float32 = self.peek = self

    def __call__(self, image, alpha):
        return self.function(image, alpha)


def test_game_is_that_of_pggan(experiment):
    """The losses that the tests of PGGAN check by hand, with its weights, on the same networks."""
    rng, context = np.random.default_rng(0), Context(jnp.int32(3), jnp.int32(3), jax.random.key(1), ())
    batch = {name: jnp.asarray(rng.normal(size=(3, 16, 16, 3)), jnp.float32) for name in ("z", "z_G")}
    batch["x"] = jnp.asarray(rng.normal(size=(3, 32, 32, 3)), jnp.float32)
    nets = SimpleNamespace(
        G=Player(lambda z, alpha: alpha * z),
        D=Player(lambda x, alpha: alpha * (x**2).sum((1, 2, 3))[:, None]),
    )
    first, level = experiment.stages[0], Level(16, 128, 0, 4687)
    losses = discriminator_loss(level, penalty=10.0, drift=0.001), generator_loss(level)
    for phase, loss in zip(first.phases, losses, strict=True):
        assert float(phase.loss(nets, batch, context)[0]) == float(loss(nets, batch, context)[0])
    assert first.ema == {"G": 0.999}


def test_rivals_see_the_same_images_and_move_nothing_else(experiment):
    first, last = experiment.stages
    assert [phase.name for phase in first.phases] == ["D", "G"]
    names = [phase.name for phase in last.phases]
    assert names == ["D", "G", "dcgan_D", "dcgan_G", "dcgan_16_D", "dcgan_16_G", "lapgan_32_D", "lapgan_32_G"]
    assert all(phase.trains == (phase.name,) for phase in last.phases)
    assert [metric.name for metric in experiment.metrics] == ["swd", "swd_dcgan", "swd_lapgan"]


def test_a_quarter_of_the_side_is_where_lapgan_starts():
    assert (PAPER.coarsest, PAPER.size) == (64, 256)
    sides = {
        name: network.size
        for name, network in method.rivals(PAPER)["lapgan"].networks.items()
        if name.endswith("D")
    }
    assert sides == {"dcgan_64_D": 64, "lapgan_128_D": 128, "lapgan_256_D": 256}


def test_phantoms_are_of_the_kinds_in_their_frequencies():
    assert pytest.approx((1372 / 2000, 374 / 2000, 254 / 2000), abs=1e-3) == FREQUENCIES
    shapes = jax.eval_shape(lambda key: lesion_of_any_kind(key, size=16), jax.random.key(0))
    assert shapes["image"].shape == (16, 16, 3)
