"""pix2pix against the paper and its public code: layers, what D sees, losses by hand, rate, noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.base import pix2pix
from medgan_jax.configuration import DataOptions

PAPER = pix2pix.Config.paper()


@pytest.fixture
def pairs(tmp_path):
    """A folder of ten pairs at this size."""

    def write(size):
        rng = np.random.default_rng(0)
        for domain in "AB":
            (tmp_path / domain).mkdir()
            for number in range(10):
                image = rng.integers(0, 255, (size, size), np.uint8)
                Image.fromarray(image).save(tmp_path / domain / f"case{number}.png")
        return DataOptions(str(tmp_path))

    return write


def test_parameters_are_those_of_the_published_networks(parameters):
    networks = pix2pix.models(dataclasses.replace(PAPER, channels_b=3))
    # What the public PyTorch code has for colour images; its two convolutions without norm have no bias.
    assert parameters(networks["G"], (1, 256, 256, 3)) == 54_413_955 + 64 + 512
    assert parameters(networks["D"], (1, 256, 256, 6)) == 2_768_705


def test_discriminator_scores_30_by_30_patches_of_70_pixels():
    module = pix2pix.models(PAPER)["D"]
    assert module.receptive_field == 70
    x = jax.ShapeDtypeStruct((1, 256, 256, 2), jnp.float32)
    scores = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, train=False)[0], x)
    assert scores.shape == (1, 30, 30, 1)


def test_dropout_is_in_the_three_innermost_stages():
    module = pix2pix.models(PAPER)["G"]
    assert module.down == (64, 128, 256, 512, 512, 512, 512, 512)
    assert module.up == (512, 512, 512, 512, 256, 128, 64)
    assert (module.dropout, module.dropout_stages) == (0.5, (0, 1, 2))
    assert module.without_norm == (0, -1)


def test_losses_by_hand_and_discriminator_sees_the_condition(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (2, 4, 4, 1)).astype(np.float32) for _ in range(2))
    batch = {"A": jnp.asarray(a), "B": jnp.asarray(b)}
    game = table(G=lambda image: 0.5 * image, D=lambda image: image.sum(-1, keepdims=True))
    loss, _ = pix2pix.discriminator_loss(game.nets, batch, context())
    expected = 0.5 * (cross_entropy(a + b, 1) + cross_entropy(1.5 * a, 0))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert np.allclose(game.seen["D"][0], np.concatenate([a, b], -1))
    assert np.allclose(game.seen["D"][1], np.concatenate([a, 0.5 * a], -1))

    loss, terms = pix2pix.generator_loss(PAPER)(game.nets, batch, context())
    by_hand = {"l1": 100 * np.abs(b - 0.5 * a).mean(), "adversarial": cross_entropy(1.5 * a, 1)}
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)


def test_order_rate_and_crops(pairs, rates):
    experiment = pix2pix.experiment(dataclasses.replace(PAPER, data=pairs(256), steps=100))
    game = experiment.stages[0]
    assert [(phase.name, phase.trains) for phase in game.phases] == [("D", ("D",)), ("G", ("G",))]
    assert rates(game.phases[0], 100) == pytest.approx(2e-4, rel=1e-4)
    assert (PAPER.batch_size, PAPER.beta1, PAPER.l1) == (1, 0.5, 100)
    record = {"A": np.random.default_rng(0).random((256, 256, 1), np.float32)}
    record["B"] = -record["A"]
    cropped = game.data.train.augment(record, np.random.default_rng(3))
    assert cropped["A"].shape == (256, 256, 1)
    assert np.allclose(cropped["A"], -cropped["B"])
    assert not np.allclose(cropped["A"], record["A"])


def test_rate_of_the_port_falls_in_the_second_half(pairs, rates):
    config = dataclasses.replace(pix2pix.Config.tiny(), data=pairs(16), steps=100, decay_from=0.5)
    rate = rates(pix2pix.experiment(config).stages[0].phases[1], 100)
    assert rate[[0, 49]] == pytest.approx(2e-4, rel=1e-4)
    assert rate[75] == pytest.approx(1e-4, rel=1e-3)
    assert rate[99] == pytest.approx(2e-4 / 50, rel=1e-3)


def test_each_image_is_translated_by_itself_with_its_own_statistics(table):
    game = table(G=lambda a: a - a.mean())
    a = jnp.asarray(np.random.default_rng(0).random((3, 4, 4, 1)))
    translated = pix2pix.translate(game.nets, {"A": a}, None)["translation"]
    assert np.allclose(translated, a - a.mean((1, 2, 3), keepdims=True), atol=1e-6)
    # Dropout is the noise, and acts in training mode.
    assert game.modes["G"] == [True]


def test_twin_is_the_same_generator_without_adversary(pairs):
    config = dataclasses.replace(pix2pix.Config.tiny(), data=pairs(16))
    game, twin = (pix2pix.experiment(c).stages[0] for c in (config, config.twin()))
    assert [phase.name for phase in twin.phases] == ["G"]
    assert twin.networks == {"G": game.networks["G"]}


def test_phantom_pair_is_one_subject_in_two_contrasts():
    pair = jax.eval_shape(lambda key: pix2pix.phantom(key, size=64), jax.random.key(0))
    assert {name: image.shape for name, image in pair.items()} == {"A": (64, 64, 1), "B": (64, 64, 1)}
