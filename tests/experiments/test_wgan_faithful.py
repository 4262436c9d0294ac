"""WGAN against the paper and its code: networks, losses by hand, clipping, and when the generator moves."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import wgan
from medgan_jax.configuration import DataOptions
from medgan_jax.training.step import make_initialise, make_step

PAPER = wgan.Config.paper()
# Compiling takes longer than what is run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 64, 64)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda **changes: wgan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_dcgans_and_the_critic_has_no_sigmoid(parameters, layer):
    networks = wgan.models(PAPER)
    generator = 100 * 4 * 4 * 512 + 2 * 512 + sum(layer(4, 2 * a, a) for a in (256, 128, 64))
    assert parameters(networks["G"], (1, 100)) == generator + layer(4, 64, 1, bias=True, norm=False)
    critic = layer(4, 1, 64, bias=True, norm=False) + sum(layer(4, a, 2 * a) for a in (64, 128, 256))
    assert parameters(networks["f"], (1, 64, 64, 1)) == critic + 4 * 4 * 512 + 1
    ring = wgan.models(wgan.Config.small())["f"]
    x = 1e4 * jnp.asarray([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    scores = quick(lambda: ring.init_with_output(jax.random.key(0), x, train=True)[0])()
    assert float(jnp.abs(scores).max()) > 1


def test_losses_by_hand(table, context):
    rng = np.random.default_rng(0)
    x, z, z_g = (rng.normal(size=(3, 2, 2, 1)).astype(np.float32) for _ in range(3))
    batch = {"x": jnp.asarray(x), "z": jnp.asarray(z), "z_G": jnp.asarray(z_g)}
    game = table(G=lambda z: 0.5 * z, f=lambda image: image.sum((1, 2, 3))[:, None])
    loss, terms = wgan.critic_loss(game.nets, batch, context())
    distance = x.sum((1, 2, 3)).mean() - 0.5 * z.sum((1, 2, 3)).mean()
    assert float(loss) == pytest.approx(-distance, rel=1e-5)
    assert float(terms.values["wasserstein"]) == pytest.approx(distance, rel=1e-5)
    loss, _ = wgan.generator_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(-0.5 * z_g.sum((1, 2, 3)).mean(), rel=1e-5)
    # Real and generated images go through the critic apart, so that each has its own batch statistics.
    assert [len(seen) for seen in game.seen["f"]] == [3, 3, 3]


def test_every_weight_of_the_critic_is_clipped_after_its_update_and_none_of_the_generators():
    tiny = {"widths": (4,), "critic_steps": 2, "phantoms": (8, 8, 8)}
    config = dataclasses.replace(wgan.Config.small(), clip=0.01, **tiny)
    game = wgan.experiment(config).stages[0]
    batch = {"point": jnp.ones((2, 4, 2))}
    state = quick(make_initialise(game))(batch, {}, 0)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state.params["f"])) > 0.01
    moved, _ = quick(make_step(game))(state, batch, {}, 0)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(moved.params["f"])) <= np.float32(0.01)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(moved.params["G"])) > 0.01


def counted_as_in_the_code(updates):
    """The numbers of the blocks of five critic updates after which the generator moves."""
    moves, blocks = [], 0
    for number in range(updates):
        blocks += 20 if number < 25 or number % 500 == 0 else 1
        moves.append(blocks - 1)
    return moves


def test_generator_waits_for_a_hundred_updates_of_the_critic_at_first_and_at_every_500th(experiment, context):
    when = experiment().stages[0].phases[1].when
    due = quick(jax.vmap(lambda step: when(dataclasses.replace(context(), step=step))))(jnp.arange(4000))
    assert np.flatnonzero(due).tolist() == [block for block in counted_as_in_the_code(4000) if block < 4000]
    assert PAPER.blocks * PAPER.critic_steps == 100


def test_schedule(experiment):
    made = experiment()
    critic, generator = made.stages[0].phases
    assert (critic.trains, critic.repeats) == (("f",), 5)
    assert (generator.trains, generator.repeats, generator.project) == (("G",), 1, None)
    assert (PAPER.clip, PAPER.batch_size, PAPER.latent) == (0.01, 64, 100)
    # RMSProp with PyTorch's decay and no momentum: w -= rate g / sqrt(0.01 g^2) at first.
    one = {"w": jnp.full((), 3.0)}
    state = critic.optimizer.init(one)
    first, state = critic.optimizer.update(one, state, one)
    second, _ = critic.optimizer.update(jax.tree.map(jnp.zeros_like, one), state, one)
    assert float(first["w"]) == pytest.approx(-5e-5 / 0.1, rel=1e-4)
    assert float(second["w"]) == 0
    batch = made.stages[0].prepare({"image": jnp.zeros((2, 64, 64, 1))}, jax.random.key(0))
    assert batch["z"].shape == batch["z_G"].shape == (2, 100)
    assert not np.allclose(batch["z"], batch["z_G"])
