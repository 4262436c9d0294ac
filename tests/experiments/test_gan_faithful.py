"""GAN against the paper and its code: layers, losses by hand, who moves whom, rising momentum."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import gan
from medgan_jax.configuration import DataOptions
from medgan_jax.errors import UserError
from medgan_jax.training.step import make_initialise, make_step

PAPER = gan.Config.paper()
# Compiling takes longer than what is run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def experiment(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (4, 28, 28)).astype(np.float32)
    noise[0, 0, 0], noise[0, 0, 1] = 0, 1
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda **changes: gan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_those_of_the_code(parameters):
    networks = gan.models(PAPER)
    assert parameters(networks["G"], (1, 100)) == 101 * 1200 + 1201 * 1200 + 1201 * 784
    # 240 units, each the largest of 5 linear functions.
    assert parameters(networks["D"], (1, 28, 28, 1)) == 785 * 1200 + 241 * 1200 + 241


def test_dropout_is_of_the_discriminator_alone_and_of_what_goes_into_its_layers():
    networks, key = gan.models(dataclasses.replace(PAPER, units=(8, 8), widths=(8, 8))), jax.random.key(0)

    @quick
    def run():
        x, z = jnp.ones((64, 28, 28, 1)), jnp.ones((4, 100))
        d, g = (networks[name].init(key, one, train=False) for name, one in (("D", x), ("G", z)))
        scores = [networks["D"].apply(d, x, train=train, rngs={"dropout": key}) for train in (True, False)]
        return *scores, networks["G"].apply(g, z, train=True)

    trained, evaluated, images = map(np.asarray, run())
    assert trained.std() > 1e3 * evaluated.std()
    assert (networks["D"].dropout, networks["G"].dropout) == ((0.2, 0.5), (0.0, 0.0))
    assert images.shape == (4, 28, 28, 1)
    assert images.std(0).max() < 1e-6
    assert 0 < images.min() < images.max() < 1


@pytest.mark.parametrize(("name", "shape", "limit"), [("G", (1, 100), 0.05), ("D", (1, 28, 28, 1), 0.005)])
def test_initial_weights_are_uniform(name, shape, limit):
    network = gan.models(dataclasses.replace(PAPER, units=(20, 20), widths=(50, 50)))[name]
    values = quick(lambda: network.init(jax.random.key(0), jnp.zeros(shape), train=False))()["params"]
    kernel = np.asarray(values["layer_0"]["dense"]["kernel"])
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_losses_by_hand(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(3, 2, 2, 1)).astype(np.float32) for _ in range(2))
    batch = {"x": jnp.asarray(x), "z": jnp.asarray(z)}
    game = table(G=lambda z: 0.5 * z, D=lambda image: image.sum((1, 2, 3))[:, None])
    loss, _ = gan.discriminator_loss(game.nets, batch, context())
    real, fake = x.sum((1, 2, 3)), 0.5 * z.sum((1, 2, 3))
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    assert all(game.modes["D"])
    usual, _ = gan.generator_loss(PAPER)(game.nets, batch, context())
    assert float(usual) == pytest.approx(cross_entropy(fake, 1), rel=1e-5)
    saturating = dataclasses.replace(PAPER, saturating=True)
    value, _ = gan.generator_loss(saturating)(game.nets, batch, context())
    # E log(1 - D), with D = 1 / (1 + exp(-score)).
    assert float(value) == pytest.approx(np.mean(np.log(1 - 1 / (1 + np.exp(-fake)))), rel=1e-5)


def test_generator_learns_from_the_discriminator_alone():
    config = dataclasses.replace(gan.Config.small(), k=1, widths=(4,), units=(4,), phantoms=(8, 8, 8))
    game = gan.experiment(config).stages[0]
    batch = {"point": jnp.ones((4, 2))}
    state = quick(make_initialise(game))(batch, {}, 0)
    blind = jax.tree.map(jnp.zeros_like, state.params["D"])
    no_turn_of_d = dataclasses.replace(game, phases=game.phases[1:])
    state = state.replace(params={**state.params, "D": blind}, optimizers={"G": state.optimizers["G"]})
    moved, _ = quick(make_step(no_turn_of_d))(state, batch, {}, 0)
    before, after = (jax.tree.leaves(each.params["G"]) for each in (state, moved))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_one_update_each_by_descent_whose_rate_falls_and_momentum_rises(experiment):
    game = experiment().stages[0]
    discriminator, generator = game.phases
    assert (discriminator.trains, generator.trains) == (("D",), ("G",))
    assert (discriminator.repeats, generator.repeats, PAPER.batch_size) == (1, 1, 100)
    one = {"w": jnp.ones(())}
    state = generator.optimizer.init(one)
    first, state = generator.optimizer.update(one, state, one)
    second, state = generator.optimizer.update(one, state, one)
    assert float(first["w"]) == pytest.approx(-0.1, rel=1e-6)
    assert float(second["w"]) == pytest.approx(-0.1 / 1.000004 * 1.5, rel=1e-5)
    late = state._replace(count=jnp.asarray(200_000))
    for name in ("learning_rate", "momentum"):
        inner = late.hyperparams_states[name]
        states = {**late.hyperparams_states, name: inner._replace(count=late.count)}
        late = late._replace(hyperparams_states=states)
    _, late = generator.optimizer.update(one, late, one)
    assert float(late.hyperparams["learning_rate"]) == pytest.approx(0.1 / 1.000004**200_000, rel=1e-3)
    assert float(late.hyperparams["momentum"]) == pytest.approx(0.7, rel=1e-5)


def test_images_are_in_the_range_of_a_sigmoid_and_noise_is_normal(experiment):
    game = experiment().stages[0]
    image = game.data.train.source[0]["image"][None]
    batch = game.prepare({"image": jnp.asarray(np.tile(image, (50, 1, 1, 1)))}, jax.random.key(0))
    assert (float(batch["x"].min()), float(batch["x"].max())) == (0, 1)
    assert batch["z"].shape == (50, 100)
    assert float(batch["z"].std()) == pytest.approx(1, abs=0.05)


def test_the_ring_is_the_same_game_with_other_networks_and_data(tmp_path):
    made = gan.experiment(gan.Config.small())
    assert [phase.name for phase in made.stages[0].phases] == ["D", "G"]
    assert made.stages[0].phases[0].loss is gan.discriminator_loss
    assert {metric.name for metric in made.metrics} == {"modes", "kl", "on_a_mode", "swd"}
    with pytest.raises(UserError, match=r"--config\.form image"):
        gan.experiment(dataclasses.replace(gan.Config.small(), data=DataOptions(str(tmp_path))))
