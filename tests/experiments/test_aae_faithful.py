"""AAE against the paper: dense networks, a game of codes and not of images, three turns, schedule."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import aae
from medgan_jax.configuration import DataOptions

PAPER = aae.Config.paper()


@pytest.fixture
def experiment(folder):
    images = np.random.default_rng(0).uniform(0, 4, (4, 28, 28)).astype(np.float32)
    images[0, 0, 0], images[0, 0, 1] = 0, 4
    source = DataOptions(folder(train=images, validation=images, test=images))
    return lambda **changes: aae.experiment(dataclasses.replace(PAPER, data=source, **changes))


def dense(*widths):
    return sum(a * b + b for a, b in itertools.pairwise(widths))


def test_networks_are_the_papers(parameters):
    networks = aae.models(PAPER)
    assert parameters(networks["q"], (1, 28, 28, 1)) == dense(784, 1000, 1000, 8)
    assert parameters(networks["p"], (1, 8)) == dense(8, 1000, 1000, 784)
    assert parameters(networks["D"], (1, 8)) == dense(8, 1000, 1000, 1)
    # The code is linear; images are in [0, 1].
    assert networks["q"].output_activation is None
    assert networks["p"].output_activation is jax.nn.sigmoid
    assert set(aae.models(PAPER.twin())) == {"q", "p"}


def game(table):
    return table(
        q=lambda x: x.sum((1, 2, 3))[:, None] * jnp.ones((1, 4)),
        p=lambda z: 0.1 * z.reshape(-1, 2, 2, 1),
        D=lambda z: z[:, :1] - z[:, 1:2] + z[:, 2:3],
    )


def batch():
    rng = np.random.default_rng(0)
    x, z = rng.uniform(0, 1, (3, 2, 2, 1)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    return {"x": jnp.asarray(x), "z": jnp.asarray(z)}


def test_losses_by_hand(table, context, cross_entropy):
    x, z = (np.asarray(each) for each in batch().values())
    code = x.sum((1, 2, 3))
    made = game(table)
    loss, _ = aae.reconstruction_loss(made.nets, batch(), context())
    assert float(loss) == pytest.approx(((0.1 * code[:, None, None, None] - x) ** 2).mean(), rel=1e-5)
    loss, _ = aae.discriminator_loss(made.nets, batch(), context())
    assert float(loss) == pytest.approx(
        cross_entropy(z[:, 0] - z[:, 1] + z[:, 2], 1) + cross_entropy(code, 0), rel=1e-5
    )
    loss, _ = aae.encoder_loss(PAPER)(made.nets, batch(), context())
    assert float(loss) == pytest.approx(cross_entropy(code, 1), rel=1e-5)
    # D sees draws from the prior and codes, never images.
    assert {seen.shape for seen in made.seen["D"]} == {(3, 4)}


def test_three_turns_and_their_schedules(experiment):
    stage = experiment().stages[0]
    assert [phase.trains for phase in stage.phases] == [("q", "p"), ("D",), ("q",)]
    weights = {"w": jnp.zeros(())}
    for phase, rate in zip(stage.phases, (0.01, 0.1, 0.1), strict=True):
        state = phase.optimizer.init(weights)
        first, state = phase.optimizer.update({"w": jnp.ones(())}, state, weights)
        second, _ = phase.optimizer.update({"w": jnp.ones(())}, state, weights)
        # Descent with a momentum of 0.9.
        assert [float(first["w"]), float(second["w"])] == pytest.approx([-rate, -1.9 * rate])
    # 60,000 digits in batches of 100: epochs 50 and 1000.
    assert PAPER.lower_at == (50 * 600, 1000 * 600)
    lowered = experiment(lower_at=(1,)).stages[0].phases[0].optimizer
    state = lowered.init(weights)
    for _ in range(2):
        update, state = lowered.update({"w": jnp.ones(())}, state, weights)
    assert float(update["w"]) == pytest.approx(-0.1 * 0.01 * 1.9)


def test_prior_and_range_of_images(experiment):
    stage = experiment(spread=5.0).stages[0]
    ready = jax.jit(stage.prepare)({"image": jnp.full((400, 28, 28, 1), 4.0)}, jax.random.key(0))
    assert float(ready["x"].max()) == 1
    assert ready["z"].shape == (400, 8)
    assert float(ready["z"].std()) == pytest.approx(5, rel=0.05)


def test_samples_are_decoded_draws_from_the_prior(table, experiment):
    made = game(table)
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (3, 28, 28, 1)), jnp.float32)
    outputs = experiment(code=4, spread=2.0).infer(made.nets, {"x": x}, jax.random.key(0))
    assert np.allclose(outputs["sample"].reshape(3, 4), 0.1 * outputs["prior"], rtol=1e-5)
    assert np.allclose(outputs["prior"], 2 * jax.random.normal(jax.random.key(0), (3, 4)))
    assert np.allclose(outputs["code"][:, 0], x.sum((1, 2, 3)), rtol=1e-5)
    assert set(made.modes["q"] + made.modes["p"]) == {False}
