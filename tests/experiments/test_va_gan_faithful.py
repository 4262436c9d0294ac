"""VA-GAN against its code: networks, losses by hand, a map of the image alone, the critic's schedule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.detection import va_gan
from medgan_jax.configuration import DataOptions
from medgan_jax.game import Context

PAPER = va_gan.Config.paper()
rng = np.random.default_rng(0)
C0, C1 = rng.uniform(-1, 1, (2, 3, 2, 2, 1)).astype(np.float32)
BATCH = {"c0": jnp.asarray(C0), "c1": jnp.asarray(C1)}


@pytest.fixture
def experiment(tmp_path):
    for part, number in (("train", 3), ("val", 2), ("test", 2)):
        for name, offset in (("healthy", 0), ("ill", 20)):
            place = tmp_path / f"{part}/{name}"
            place.mkdir(parents=True)
            for n in range(number):
                pixels = rng.integers(0, 200, (32, 32)) + offset
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{part}_{name}_{n}.png")
    source = DataOptions(str(tmp_path))
    return lambda **changes: va_gan.experiment(dataclasses.replace(PAPER, size=32, data=source, **changes))


def test_networks_are_those_of_the_code(parameters, layer):
    networks = va_gan.models(PAPER)
    down = (1, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)
    up = (80, 64), (64, 64), (48, 32), (32, 32), (32, 16)
    # Sixteen channels wherever a 4x4 transposed convolution enlarges.
    enlarging = sum(layer(4, width, 16) for width in (128, 64, 32))
    expected = sum(layer(3, a, b) for a, b in down + up) + enlarging + layer(3, 16, 1, bias=True, norm=False)
    assert parameters(networks["M"], (1, 112, 112, 1)) == expected
    pairs = (1, 16), (16, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)
    critic = sum(layer(3, a, b, bias=True, norm=False) for a, b in pairs) + 257
    assert parameters(networks["D"], (1, 112, 112, 1)) == critic


def test_critic_keeps_no_statistics_and_takes_any_size_and_volumes():
    critic = va_gan.models(PAPER)["D"]
    for shape in ((2, 112, 112, 1), (2, 64, 80, 1), (1, 32, 48, 32, 1)):
        scores, variables = jax.eval_shape(
            lambda x: critic.init_with_output(jax.random.key(0), x, train=False),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )
        assert scores.shape == (shape[0], 1)
        assert set(variables) == {"params"}


@pytest.mark.parametrize("tanh", [True, False])
def test_generator_loss_by_hand(table, context, tanh):
    game = table(M=lambda x: 0.5 * x, D=lambda y: 3 * y.sum((1, 2, 3))[:, None])
    config = dataclasses.replace(PAPER, tanh=tanh)
    y = np.tanh(1.5 * C1) if tanh else 1.5 * C1
    loss, _ = va_gan.generator_loss(config)(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(-3 * y.sum((1, 2, 3)).mean() + 100 * np.abs(y - C1).mean(), rel=1e-5)
    # Of nothing but the image.
    (seen,) = game.seen["M"]
    assert np.allclose(seen, C1)


def test_critic_loss_by_hand_for_a_linear_critic(table, context):
    game = table(M=lambda x: 0 * x, D=lambda y: 2 * y.sum((1, 2, 3))[:, None])
    config = dataclasses.replace(PAPER, tanh=False)
    loss, terms = va_gan.critic_loss(config)(game.nets, BATCH, context())
    distance = 2 * (C0.sum((1, 2, 3)).mean() - C1.sum((1, 2, 3)).mean())
    # A gradient of 2 in each of four pixels has the norm 4.
    penalty = 10 * (4 - 1) ** 2
    assert float(terms.values["distance"]) == pytest.approx(-distance, rel=1e-4)
    assert float(loss) == pytest.approx(penalty - distance, rel=1e-5)


def test_critic_is_tuned_at_first_and_at_every_hundredth(experiment, rates):
    stage = experiment().stages[0]
    critic, generator = stage.phases
    assert (critic.repeats, generator.repeats, critic.when) == (5, 1, None)
    moves = np.flatnonzero(
        jax.vmap(lambda step: generator.when(Context(step, step, jax.random.key(0))))(jnp.arange(stage.steps))
    )
    assert len(moves) == 1000
    before = 5 * np.diff(moves, prepend=-1)
    tuned = [n for n in range(1000) if n < 25 or n % 100 == 0]
    assert np.flatnonzero(before == 100).tolist() == tuned
    assert set(np.delete(before, tuned)) == {5}
    assert rates(generator, 3) == pytest.approx(1e-4, rel=1e-4)
    assert (PAPER.beta1, PAPER.beta2, PAPER.lam, PAPER.penalty, PAPER.batch_size) == (0, 0.9, 100, 10, 32)


def test_map_is_the_change_and_the_twins_its_gradient(table):
    game = table(M=lambda x: x**2, D=lambda y: (y**3).sum((1, 2, 3))[:, None])
    assert np.allclose(va_gan.change(PAPER, game.nets, BATCH["c1"]), np.tanh(C1 + C1**2) - C1, atol=1e-6)
    assert set(game.modes["M"]) == {False}
    assert np.allclose(va_gan.change(PAPER.twin(), game.nets, BATCH["c1"]), 3 * C1**2, atol=1e-5)


def test_folders_are_two_sets_without_true_maps(experiment):
    made = experiment()
    train = made.stages[0].data.train
    assert list(train) == ["c0", "c1"]
    assert "healthy" in train["c0"].source.ids[0]
    assert [metric.name for metric in made.metrics] == ["swd"]
    assert made.select is None


def test_twin_is_a_classifier(table, context, cross_entropy):
    game = table(D=lambda y: y.sum((1, 2, 3))[:, None])
    loss, _ = va_gan.critic_loss(PAPER.twin())(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(
        cross_entropy(C0.sum((1, 2, 3)), 1) + cross_entropy(C1.sum((1, 2, 3)), 0), rel=1e-5
    )
    assert set(va_gan.models(PAPER.twin())) == {"D"}
