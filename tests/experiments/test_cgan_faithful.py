"""cGAN against the paper: layers, the condition in both networks, losses by hand, the schedule."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import cgan
from medgan_jax.configuration import DataOptions
from medgan_jax.errors import UserError

PAPER = cgan.Config.paper()
# Compiling takes longer than what is run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
MNIST = dataclasses.replace(PAPER, classes=10)


def count(network, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    variables = jax.eval_shape(lambda *x: network.init(jax.random.key(0), *x, train=False), *arrays)
    assert set(variables) == {"params"}
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        np.savez(tmp_path / f"{part}.npz", images=rng.uniform(0, 1, (6, 28, 28)).astype(np.float32),
                 labels=np.arange(6) % 3, ids=np.array([f"{part}{n}" for n in range(6)]))
    return DataOptions(str(tmp_path))


def test_networks_are_the_published_ones():
    networks = cgan.models(MNIST)
    generator = 101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784
    assert count(networks["G"], (1, 100), (1, 10)) == generator
    discriminator = 785 * 240 * 5 + 11 * 50 * 5 + (240 + 50 + 1) * 240 * 4 + 241
    assert count(networks["D"], (1, 28, 28, 1), (1, 10)) == discriminator


def test_condition_reaches_the_output_of_both_networks():
    networks, key = cgan.models(cgan.Config.small()), jax.random.key(0)
    c = jax.nn.one_hot(jnp.arange(8), 8)
    for name, width in (("G", 8), ("D", 2)):
        start = quick(lambda x, network=networks[name]: network.init_with_output(key, x, c, train=False)[0])
        assert len(np.unique(np.asarray(start(jnp.ones((8, width)))).round(5), axis=0)) == 8


def test_losses_by_hand_with_the_condition_in_both_players(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    x, z, c = (rng.normal(size=(3, 2)).astype(np.float32) for _ in range(3))
    batch = {name: jnp.asarray(value) for name, value in (("x", x), ("z", z), ("c", c))}
    game = table(G=lambda z, c: 0.5 * z + c, D=lambda x, c: (x * c).sum(1)[:, None])
    loss, _ = cgan.discriminator_loss(game.nets, batch, context())
    real, fake = (x * c).sum(1), ((0.5 * z + c) * c).sum(1)
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    loss, _ = cgan.generator_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(fake, 1), rel=1e-5)
    # Real and generated samples are shown with the same condition, and all in training mode.
    assert all(np.array_equal(seen[1], c) for seen in game.seen["D"] + game.seen["G"])
    assert len(game.seen["D"]) == 3
    assert all(game.modes["D"] + game.modes["G"])


@pytest.mark.parametrize(("name", "shape"), [("G", (16, 8)), ("D", (16, 16, 16, 1))])
def test_dropout_is_in_both_networks_while_they_train(name, shape):
    network = cgan.models(dataclasses.replace(cgan.Config.tiny(), dropout=0.5))[name]
    key, x, c = jax.random.key(0), jnp.ones(shape), jnp.ones((16, 3))

    @quick
    def run():
        variables = network.init(key, x, c, train=False)
        return [network.apply(variables, x, c, train=train, rngs={"dropout": key}) for train in (True, False)]

    trained, evaluated = (np.asarray(each).std(0).max() for each in run())
    assert trained > 0
    assert evaluated < 1e-6


def test_schedule_data_and_conditions(source):
    made = cgan.experiment(dataclasses.replace(PAPER, data=source))
    game = made.stages[0]
    assert [phase.trains for phase in game.phases] == [("D",), ("G",)]
    assert (PAPER.batch_size, PAPER.dropout, PAPER.momentum) == (100, 0.5, (0.5, 0.7))
    one = {"w": jnp.ones(())}
    optimizer = game.phases[0].optimizer
    first, state = optimizer.update(one, optimizer.init(one), one)
    second, state = optimizer.update(one, state, one)
    assert float(first["w"]) == pytest.approx(-0.1, rel=1e-6)
    assert float(second["w"]) == pytest.approx(-0.1 / 1.00004 * 1.5, rel=1e-5)
    record = game.data.train.source[1]
    batch = {"image": jnp.asarray(record["image"])[None], "label": jnp.asarray([2])}
    prepared = game.prepare(batch, jax.random.key(0))
    assert prepared["c"].tolist() == [[0, 0, 1]]
    assert prepared["z"].shape == (1, 100)
    assert 0 <= float(prepared["x"].min()) < float(prepared["x"].max()) <= 1


def test_classes_that_the_data_do_not_have(source):
    with pytest.raises(UserError, match=r"say --config\.classes 3"):
        cgan.experiment(dataclasses.replace(PAPER, data=source, classes=2))
    with pytest.raises(UserError, match=r"say --config\.classes 8"):
        cgan.experiment(dataclasses.replace(PAPER, form="ring"))


def test_obedience_counts_samples_in_the_very_mode_that_was_asked_for():
    made = cgan.experiment(cgan.Config.small())
    centres = jnp.asarray(cgan.ring_centres())
    batch = {"x": centres, "label": jnp.arange(8)}
    right = made.metric("obeyed").per_case({"sample": centres + 0.05}, batch)
    assert right.tolist() == [1] * 8
    swapped = made.metric("obeyed").per_case({"sample": jnp.roll(centres, 1, axis=0)}, batch)
    assert swapped.tolist() == [0] * 8
    near = made.metric("on_a_mode").per_case
    assert near({"sample": jnp.roll(centres, 1, axis=0)}, batch).tolist() == [1] * 8
    assert near({"sample": centres + 0.2}, batch).tolist() == [0] * 8
    assert made.metric("modes").summary({"generated": centres[:3], "real": centres}) == 3
