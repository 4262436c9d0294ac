"""LAPGAN against the paper and its public code: layers, levels that train apart, what D sees, sampling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import lapgan
from medgan_jax.configuration import DataOptions
from medgan_jax.nn.resample import average_pool, upsample

PAPER = lapgan.Config.paper()


@pytest.fixture
def experiment(folder):
    images = np.random.default_rng(0).uniform(0, 1, (4, 32, 32)).astype(np.float32)
    images[0, 0, :2] = 0, 1
    source = DataOptions(folder(train=images, validation=images, test=images))
    return lambda **changes: lapgan.experiment(dataclasses.replace(PAPER, data=source, **changes))


@pytest.fixture
def batch(experiment):
    x = np.random.default_rng(1).uniform(0, 1, (3, 32, 32, 1)).astype(np.float32)
    return experiment().stages[0].prepare({"image": jnp.asarray(x)}, jax.random.key(0))


def test_networks_are_those_of_the_public_code(parameters, layer):
    networks = lapgan.models(dataclasses.replace(PAPER, channels=3))
    assert set(networks) == {f"{player}_{side}" for player in "GD" for side in (8, 16, 32)}
    conv = lambda *sizes: layer(*sizes, bias=True, norm=False)  # noqa: E731
    # 28 pixels are left after the first 5x5, 12 after the second.
    assert parameters(networks["D_32"], (1, 32, 32, 3)) == conv(5, 3, 64) + conv(5, 64, 64) + 64 * 12**2 + 1
    count = jax.eval_shape(
        lambda: networks["G_32"].init(
            jax.random.key(0), jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 32, 32, 3)), train=False
        )
    )
    # Four channels come in: noise and the coarse image.
    assert sum(leaf.size for leaf in jax.tree.leaves(count)) == conv(7, 4, 64) + conv(7, 64, 64) + conv(
        5, 64, 3
    )


def test_each_level_has_its_game_and_no_other_moves(experiment):
    phases = experiment().stages[0].phases
    assert [phase.name for phase in phases] == ["D_8", "G_8", "D_16", "G_16", "D_32", "G_32"]
    assert all(phase.trains == (phase.name,) for phase in phases)


def test_levels_of_the_real_images(batch):
    x = batch["x"]
    assert (float(batch["I"][32].min()) >= -1) and np.allclose(batch["I"][32], x)
    for side in (16, 32):
        coarse = average_pool(x, 32 // side * 2)
        assert np.allclose(batch["I"][side // 2], coarse, atol=1e-6)
        assert np.allclose(batch["l"][side], upsample(coarse, 2, "linear"), atol=1e-6)
    assert {side: z.shape for side, z in batch["z"].items()} == {
        8: (3, 100),
        16: (3, 16, 16, 1),
        32: (3, 32, 32, 1),
    }
    assert max(float(jnp.abs(z).max()) for z in batch["z"].values()) <= 1


def make_table(table):
    score = lambda image: image.mean((1, 2, 3))[:, None]  # noqa: E731
    names = {f"D_{side}": score for side in (8, 16, 32)}
    return table(G_8=lambda z: z[:, :64].reshape(-1, 8, 8, 1), **names)


def test_coarsest_losses_by_hand(table, context, cross_entropy, batch):
    game = make_table(table)
    loss, _ = lapgan.discriminator_loss(8)(game.nets, batch, context())
    real = np.asarray(batch["I"][8]).mean((1, 2, 3))
    fake = np.asarray(batch["z"][8])[:, :64].mean(1)
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    assert float(lapgan.generator_loss(8)(game.nets, batch, context())[0]) == pytest.approx(
        cross_entropy(fake, 1), rel=1e-5
    )


class Details:
    """Networks that are called with two arrays: l times a quarter, plus half the noise."""

    def __init__(self):
        self.given, self.scored = [], []

    def __getitem__(self, name):
        return self.detail if name.startswith("G") else self.score

    def detail(self, z, l):
        self.given.append((z, l))
        return 0.5 * z + 0.25 * l

    def score(self, image):
        self.scored.append(image)
        return image.mean((1, 2, 3))[:, None]


def test_detail_losses_by_hand(context, cross_entropy, batch):
    nets = Details()
    loss, _ = lapgan.discriminator_loss(32)(nets, batch, context())
    z, l = np.asarray(batch["z"][32]), np.asarray(batch["l"][32])
    fake = l + 0.5 * z + 0.25 * l
    # D sees sums of coarse image and details, real ones and generated ones of the same real coarse image.
    assert np.allclose(nets.scored[0], batch["x"])
    assert np.allclose(nets.scored[1], fake, atol=1e-6)
    real_score, fake_score = np.asarray(batch["x"]).mean((1, 2, 3)), fake.mean((1, 2, 3))
    assert float(loss) == pytest.approx(cross_entropy(real_score, 1) + cross_entropy(fake_score, 0), rel=1e-5)
    loss, _ = lapgan.generator_loss(32)(nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(fake_score, 1), rel=1e-5)


def test_samples_go_from_level_to_level(batch):
    class Evaluated(Details):
        def __getitem__(self, name):
            class Network:
                eval = staticmethod(
                    (lambda z: z[:, :64].reshape(-1, 8, 8, 1)) if name == "G_8" else self.detail
                )

            return Network

    nets = Evaluated()
    sample = lapgan.sample(nets, batch, None)["sample"]
    x = batch["z"][8][:, :64].reshape(-1, 8, 8, 1)
    for side in (16, 32):
        l = upsample(x, 2, "linear")
        x = l + 0.5 * batch["z"][side] + 0.25 * l
    assert np.allclose(sample, x, atol=1e-5)
    # The real image plays no part in it.
    assert not any(np.allclose(l, batch["l"][32]) for _, l in nets.given if l.shape[1] == 32)


def test_schedule(experiment):
    phase = experiment().stages[0].phases[0]
    state = phase.optimizer.init({"w": jnp.zeros(())})
    assert (PAPER.batch_size, PAPER.learning_rate) == (128, 0.02)
    update, state = phase.optimizer.update({"w": jnp.ones(())}, state)
    assert float(update["w"]) == pytest.approx(-0.02, rel=1e-4)
    hyper = state.hyperparams
    assert float(hyper["momentum"]) == pytest.approx(0, abs=1e-5)
    # After 100 epochs of 390 steps: momentum 0.08, and a rate that is hardly lower.
    late = jax.tree.map(lambda leaf: jnp.full_like(leaf, 39000) if leaf.dtype == jnp.int32 else leaf, state)
    _, late = phase.optimizer.update({"w": jnp.ones(())}, late)
    assert float(late.hyperparams["momentum"]) == pytest.approx(0.08, rel=1e-2)
    assert float(late.hyperparams["learning_rate"]) == pytest.approx(0.02 / 1.00004**100, rel=1e-4)
