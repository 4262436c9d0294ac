"""AC-GAN against the paper: layers, both players' terms by hand, a D that is not told the class."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import acgan
from medgan_jax.configuration import DataOptions

PAPER = acgan.Config.paper()
# Compiling takes longer than what is run.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def experiment(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "validation", "test"):
        np.savez(tmp_path / f"{part}.npz", images=rng.uniform(0, 1, (6, 32, 32)).astype(np.float32),
                 labels=np.arange(6) % 3, ids=np.array([f"{part}{n}" for n in range(6)]))
    return acgan.experiment(dataclasses.replace(PAPER, data=DataOptions(str(tmp_path))))


def test_networks_are_the_published_tables(parameters, layer):
    networks = acgan.models(dataclasses.replace(PAPER, classes=10))
    generator = (110 + 10) * 4 * 4 * 384 + 2 * 384 + layer(5, 384, 192) + layer(5, 192, 96)
    assert parameters(networks["G"], (1, 120)) == generator + layer(5, 96, 1, bias=True, norm=False)
    widths = (16, 32, 64, 128, 256, 512)
    discriminator = layer(3, 1, 16, bias=True, norm=False)
    discriminator += sum(layer(3, a, b) for a, b in itertools.pairwise(widths))
    # Strides 2, 1, 2, 1, 2, 1 leave 4 x 4 maps; two heads, of the source and of ten classes.
    assert parameters(networks["D"], (1, 32, 32, 1)) == discriminator + (4 * 4 * 512 + 1) * (1 + 10)


def test_dropout_is_in_every_layer_of_the_discriminator():
    network, key = acgan.models(PAPER)["D"], jax.random.key(0)
    _, kept = jax.eval_shape(lambda: network.init_with_output(
        {"params": key, "dropout": key}, jnp.zeros((1, 32, 32, 1)), train=True, capture_intermediates=True))
    assert all("dropout" in kept["intermediates"][f"layer_{number}"] for number in range(6))
    assert network.dropout == 0.5


def test_noise_is_an_option_of_training():
    config = dataclasses.replace(acgan.Config.tiny(), size=8, widths=(4,), dropout=0.0, noise=0.2)
    network, key, x = acgan.models(config)["D"], jax.random.key(0), jnp.ones((2, 8, 8, 1))

    def answers(train):
        return network.init_with_output({"params": key, "noise": key}, x, train=train)[0]

    trained, evaluated = (np.asarray(each) for each in quick(lambda: (answers(True), answers(False)))())
    assert trained.shape == (2, 1 + 3)
    assert trained.std(0).min() > 0
    assert evaluated.std(0).max() == 0


def log_probability(logits, label):
    logits = np.asarray(logits, np.float64)
    logarithms = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return np.take_along_axis(logarithms, label[:, None], 1)[:, 0]


def test_both_players_terms_by_hand(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    label = np.array([0, 2, 1, 1, 0])
    batch = {"x": jnp.asarray(x), "z": jnp.asarray(z), "label": jnp.asarray(label)}
    game = table(G=lambda z: 0.5 * z + 1, D=lambda x: 3 * x)  # one logit of the source, three of classes
    real, fake = 3 * x, 3 * (0.5 * z + 1)
    source = cross_entropy(real[:, 0], 1) + cross_entropy(fake[:, 0], 0)
    of_real, of_fake = (-log_probability(each[:, 1:], label).mean() for each in (real, fake))
    loss, terms = acgan.discriminator_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(source + of_real + of_fake, rel=1e-5)
    assert float(terms.values["L_S"]) == pytest.approx(-source, rel=1e-5)
    assert float(terms.values["L_C"]) == pytest.approx(-of_real - of_fake, rel=1e-5)
    loss, terms = acgan.generator_loss(game.nets, batch, context())
    # The class term has the same sign for both players, the source's the opposite label.
    assert float(terms.values["class"]) == pytest.approx(of_fake, rel=1e-5)
    assert float(terms.values["adversarial"]) == pytest.approx(cross_entropy(fake[:, 0], 1), rel=1e-5)
    assert float(loss) == pytest.approx(of_fake + cross_entropy(fake[:, 0], 1), rel=1e-5)
    # D is shown x or G(z) and nothing else, each with its own batch statistics.
    assert [seen.shape for seen in game.seen["D"]] == [(5, 4)] * 3
    assert np.array_equal(game.seen["D"][0], x)


def test_generator_is_told_the_class_beside_z(experiment):
    game = experiment.stages[0]
    batch = {"image": jnp.zeros((4, 32, 32, 1)), "label": jnp.asarray([0, 2, 1, 2])}
    prepared = game.prepare(batch, jax.random.key(0))
    assert prepared["z"].shape == (4, 113)
    assert prepared["z"][:, 110:].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert float(prepared["z"][:, :110].std()) == pytest.approx(1, abs=0.1)
    assert set(experiment.stages[0].data.fields) == {"image", "label"}


def test_schedule(experiment, rates):
    discriminator, generator = experiment.stages[0].phases
    assert (discriminator.trains, generator.trains) == (("D",), ("G",))
    assert rates(discriminator, 10) == pytest.approx(2e-4, rel=1e-4)
    assert (PAPER.batch_size, PAPER.steps, PAPER.beta1) == (100, 50_000, 0.5)
