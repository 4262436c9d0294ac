"""DCGAN against the paper and its public code: layers, the five rules, losses by hand, schedule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import dcgan
from medgan_jax.configuration import DataOptions

PAPER = dcgan.Config.paper()


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 64, 64)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda **changes: dcgan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_those_of_the_public_code(parameters):
    networks = dcgan.models(dataclasses.replace(PAPER, channels=3))
    # The code counts 3 576 704 and 2 765 568 and has no bias; here layers without a norm have one.
    assert parameters(networks["G"], (1, 100)) == 3_576_704 + 3
    assert parameters(networks["D"], (1, 64, 64, 3)) == 2_765_568 + 64 + 1


def variables(module, shape):
    return jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), jax.ShapeDtypeStruct(shape, jnp.float32)
    )


def test_the_five_rules():
    networks = dcgan.models(PAPER)
    g, d = variables(networks["G"], (1, 100)), variables(networks["D"], (1, 64, 64, 1))
    # Norms everywhere but at G's end and D's beginning.
    assert set(g["batch_stats"]) == {"project_norm", "up_0", "up_1", "up_2"}
    assert set(d["batch_stats"]) == {"layer_1", "layer_2", "layer_3"}
    # No hidden dense layer: G's first, from a vector, and D's last, to a score.
    dense = {
        name: layer["kernel"].shape
        for part in (g, d)
        for name, layer in part["params"].items()
        if "kernel" in layer
    }
    assert dense == {"project": (100, 4 * 4 * 512), "head": (4 * 4 * 512, 1)}
    # Every convolution is 4x4, and halves or doubles.
    kernels = [
        layer["conv"]["kernel"].shape[:2]
        for part in (g, d)
        for layer in part["params"].values()
        if "conv" in layer
    ]
    assert kernels == [(4, 4)] * 8
    assert networks["G"].activation is jnp.tanh


def test_losses_by_hand(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(3, 2, 2, 1)).astype(np.float32) for _ in range(2))
    batch = {"x": jnp.asarray(x), "z": jnp.asarray(z)}
    game = table(G=lambda z: 0.5 * z, D=lambda image: image.sum((1, 2, 3))[:, None])
    loss, _ = dcgan.discriminator_loss(game.nets, batch, context())
    real, fake = x.sum((1, 2, 3)), 0.5 * z.sum((1, 2, 3))
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    # Real and generated images go through D apart, so that each has its own batch statistics.
    assert [len(seen) for seen in game.seen["D"]] == [3, 3]
    loss, _ = dcgan.generator_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(fake, 1), rel=1e-5)
    assert all(game.modes["G"] + game.modes["D"])


def test_schedule_and_latent_vectors(experiment, rates):
    made = experiment()
    game = made.stages[0]
    assert [phase.trains for phase in game.phases] == [("D",), ("G",)]
    assert {phase.repeats for phase in game.phases} == {1}
    for phase in game.phases:
        assert rates(phase, 10) == pytest.approx(2e-4, rel=1e-4)
    assert (PAPER.beta1, PAPER.batch_size) == (0.5, 64)
    assert PAPER.steps == 25 * 3_033_042 // 64
    z = game.prepare({"image": jnp.zeros((64, 64, 64, 1))}, jax.random.key(0))["z"]
    assert z.shape == (64, 100)
    assert abs(float(z.std()) - 1) < 0.05


def test_modes_are_counted_where_there_are_labels(experiment, folder):
    assert [metric.name for metric in experiment().metrics] == ["swd"]
    part = {"images": np.zeros((4, 64, 64), np.float32), "labels": np.arange(4)}
    part["images"][0] = 1
    source = DataOptions(folder(train=part, validation=part, test=part))
    labelled = dcgan.experiment(dataclasses.replace(PAPER, data=source))
    assert [metric.name for metric in labelled.metrics] == ["swd", "modes", "in_a_mode", "class_accuracy"]
