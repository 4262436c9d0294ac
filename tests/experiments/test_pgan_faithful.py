"""PGGAN against the paper and its code: sizes, schedule, fading of both networks and of real images."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import pgan
from medgan_jax.configuration import DataOptions
from medgan_jax.game import Context, carry_matching
from medgan_jax.growing import Level
from medgan_jax.nn.resample import average_pool, upsample

PAPER = pgan.Config.paper()


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 16, 16)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda **changes: pgan.experiment(dataclasses.replace(PAPER, data=source, size=16, **changes))


def at_step(step):
    return Context(jnp.int32(step), jnp.int32(step), jax.random.key(1), ())


def test_networks_have_the_published_size(parameters):
    # Table 2 of the paper: 23.1 million parameters each at 1024x1024.
    networks = pgan.models(dataclasses.replace(PAPER, channels=3), 1024)
    assert parameters(networks["G"], (1, 512)) / 1e6 == pytest.approx(23.1, abs=0.05)
    assert parameters(networks["D"], (4, 1024, 1024, 3)) / 1e6 == pytest.approx(23.1, abs=0.05)
    widths = [networks["G"].width(side) for side in (4, 8, 16, 32, 64, 128, 256, 512, 1024)]
    assert widths == [512, 512, 512, 512, 256, 128, 64, 32, 16]


def test_schedule_is_that_of_the_code():
    levels = pgan.levels(PAPER)
    assert [level.side for level in levels] == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert [level.batch_size for level in levels] == [128, 128, 128, 64, 32, 16, 8, 4, 4]
    # 600 thousand images fade in, as many follow, and twelve million are shown in all.
    assert [level.fade * level.batch_size for level in levels] == pytest.approx([0] + [600_000] * 8, rel=1e-3)
    shown = [level.steps * level.batch_size for level in levels]
    assert shown[:-1] == pytest.approx([600_000] + [1_200_000] * 7, rel=1e-3)
    assert sum(shown) == pytest.approx(12_000_000, rel=1e-3)


def test_stages_and_optimisers(experiment, rates):
    stages = experiment(batches=(128, 128), batch_size=64, steps=7).stages
    assert [stage.name for stage in stages] == ["4x4", "8x8", "16x16"]
    assert [stage.data.train.batch_size for stage in stages] == [128, 128, 64]
    assert stages[-1].steps == 7
    assert all(stage.ema == {"G": 0.999} for stage in stages)
    for stage in stages:
        assert [(phase.trains, phase.repeats) for phase in stage.phases] == [(("D",), 1), (("G",), 1)]
    assert rates(stages[0].phases[0], 5) == pytest.approx(1e-3, rel=1e-4)
    assert rates(stages[-1].phases[1], 5) == pytest.approx(1.5e-3, rel=1e-4)
    # Without momentum, a gradient that turns round turns the update round at once.
    optimizer = stages[0].phases[0].optimizer
    state = optimizer.init({"w": jnp.zeros(())})
    _, state = optimizer.update({"w": jnp.ones(())}, state)
    update, _ = optimizer.update({"w": -jnp.ones(())}, state)
    assert float(update["w"]) == pytest.approx(1e-3, rel=1e-3)


def test_generator_may_move_more_slowly(experiment, rates):
    assert PAPER.generator_share == 1
    for stage in experiment(generator_share=0.25).stages:
        critic, generator = (rates(phase, 5) for phase in stage.phases)
        assert generator == pytest.approx(0.25 * critic, rel=1e-4)


def test_alpha_rises_linearly_and_stays():
    level = Level(16, 8, fade=10, steps=20)
    assert [float(level.alpha(at_step(step))) for step in (0, 5, 10, 19)] == [0, 0.5, 1, 1]
    assert Level(4, 8, fade=0, steps=20).alpha(at_step(0)) == 1


def test_real_images_fade_too():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 1)), jnp.float32)
    level = Level(8, 8, fade=10, steps=20)
    fine = average_pool(x)
    coarse = upsample(average_pool(fine))
    assert np.allclose(level.shown(x, 0.0), coarse)
    assert np.allclose(level.shown(x, 1.0), fine)
    assert np.allclose(level.shown(x, 0.25), 0.75 * coarse + 0.25 * fine, atol=1e-6)
    assert np.allclose(Level(4, 8, 0, 20).shown(x, 1.0), average_pool(x, 4))


class Player:
    """A network as a function of an image and alpha; notes both."""

    def __init__(self, function):
        self.function, self.seen, self.alphas = function, [], []
        self.float32 = self.peek = self

    def __call__(self, image, alpha):
        self.seen.append(image)
        self.alphas.append(float(alpha))
        return self.function(image)


def test_losses_by_hand(experiment):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (3, 16, 16, 1)).astype(np.float32)
    z = rng.uniform(-1, 1, (3, 8, 8, 1)).astype(np.float32)
    weights = rng.normal(size=(8, 8, 1)).astype(np.float32)
    level, stage = Level(8, 100, fade=6000, steps=12000), experiment(batches=(128, 100)).stages[1]
    assert (stage.name, stage.steps) == ("8x8", level.steps)
    losses = [phase.loss for phase in stage.phases]
    nets = SimpleNamespace(
        G=Player(lambda z: z), D=Player(lambda image: (image * weights).sum((1, 2, 3))[:, None])
    )
    batch = {"x": jnp.asarray(x), "z": jnp.asarray(z), "z_G": jnp.asarray(2 * z)}
    loss, terms = losses[0](nets, batch, at_step(3000))
    shown = np.asarray(level.shown(batch["x"], 0.5))
    real, fake = ((image * weights).sum((1, 2, 3)) for image in (shown, z))
    penalty = 10 * (np.linalg.norm(weights) - 1) ** 2
    drift = 0.001 * np.square(real).mean()
    assert float(terms.values["penalty"]) == pytest.approx(penalty, rel=1e-4)
    assert float(terms.values["drift"]) == pytest.approx(drift, rel=1e-4)
    assert float(loss) == pytest.approx(fake.mean() - real.mean() + penalty + drift, rel=1e-4)
    # Both networks fade together, and the critic's slope is taken at the same alpha.
    assert set(nets.G.alphas + nets.D.alphas) == {0.5}
    assert len(nets.D.alphas) == 3
    assert np.allclose(nets.D.seen[0], shown)
    loss, _ = losses[1](nets, batch, at_step(3000))
    assert float(loss) == pytest.approx(-2 * fake.mean(), rel=1e-4)


def test_layers_are_carried_on_by_name(experiment):
    assert all(stage.carry_over is carry_matching for stage in experiment().stages)
