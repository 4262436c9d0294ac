"""CycleGAN against the paper and its public code: layers, losses by hand, pool, order and rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.base import cyclegan
from medgan_jax.configuration import DataOptions

PAPER = cyclegan.Config.paper()


@pytest.fixture
def domains(tmp_path):
    """A folder with two domains of different lengths."""
    rng = np.random.default_rng(0)
    for part, counts in (("train", (5, 3)), ("val", (2, 2)), ("test", (2, 3))):
        for domain, count in zip("AB", counts, strict=True):
            (tmp_path / f"{part}{domain}").mkdir()
            for number in range(count):
                image = rng.integers(0, 255, (16, 16), np.uint8)
                Image.fromarray(image).save(tmp_path / f"{part}{domain}" / f"{part}{domain}case{number}.png")
    return DataOptions(str(tmp_path))


def test_parameters_are_those_of_the_published_networks(parameters):
    networks = cyclegan.models(dataclasses.replace(PAPER, channels=3))
    # The public PyTorch code (11.378 and 2.765 million) has biases in front of instance normalisation.
    generator_biases = 64 + 128 + 256 + 9 * 2 * 256 + 128 + 64
    discriminator_biases = 128 + 256 + 512
    for name, total in (("G", 11_378_179 - generator_biases), ("D_Y", 2_764_737 - discriminator_biases)):
        assert parameters(networks[name], (1, 256, 256, 3)) == total
    assert networks["D_X"].receptive_field == 70


def test_discriminator_judges_one_image_without_batch_statistics():
    module = cyclegan.models(PAPER)["D_Y"]
    x = jax.ShapeDtypeStruct((1, 256, 256, 1), jnp.float32)
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), x)
    assert set(variables) == {"params"}


def functions(table):
    """G and F as plain functions, discriminators as sums over channels."""
    score = lambda image: image.sum(-1, keepdims=True)  # noqa: E731
    return table(G=lambda x: 0.5 * x, F=lambda y: y + 0.1, D_X=score, D_Y=lambda image: 2 * score(image))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.uniform(-1, 1, (2, 4, 4, 1)).astype(np.float32)) for name in "AB"}


def test_generator_loss_by_hand(table, context, batch):
    x, y = (np.asarray(batch[name], np.float64) for name in "AB")
    game = functions(table)
    loss, terms = cyclegan.generator_loss(PAPER)(game.nets, batch, context())
    by_hand = {
        "adversarial_y": np.mean((2 * 0.5 * x - 1) ** 2),
        "adversarial_x": np.mean((y + 0.1 - 1) ** 2),
        "cycle_x": 10 * np.abs(0.5 * x + 0.1 - x).mean(),
        "cycle_y": 10 * np.abs(0.5 * (y + 0.1) - y).mean(),
        "identity_y": 5 * np.abs(0.5 * y - y).mean(),
        "identity_x": 5 * 0.1,
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)
    assert (
        "identity_y"
        not in cyclegan.generator_loss(dataclasses.replace(PAPER, identity=0.0))(game.nets, batch, context())[
            1
        ].values
    )


def test_discriminators_judge_fakes_out_of_the_pool(table, context, batch):
    config = dataclasses.replace(PAPER, pool=2)
    memory = cyclegan.empty_pools(config)(None, batch, None)
    x, y = (np.asarray(batch[name], np.float64) for name in "AB")
    game = functions(table)
    loss, terms = cyclegan.discriminator_loss(game.nets, batch, context(memory))
    halves = {
        "D_Y": 0.5 * (np.mean((2 * y - 1) ** 2) + np.mean((2 * 0.5 * x) ** 2)),
        "D_X": 0.5 * (np.mean((x - 1) ** 2) + np.mean((y + 0.1) ** 2)),
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(halves, rel=1e-5)
    assert float(loss) == pytest.approx(sum(halves.values()), rel=1e-5)
    # The pool was empty: it took the fakes in, and showed them.
    assert int(terms.memory["Y"].count) == 2
    assert np.allclose(terms.memory["Y"].images, 0.5 * x)
    assert np.allclose(terms.memory["X"].images, y + 0.1)

    # Full, it shows either a past fake or the present one.
    shown = set()
    for seed in range(6):
        later = dataclasses.replace(context(terms.memory), key=jax.random.key(seed))
        game = functions(table)
        cyclegan.discriminator_loss(game.nets, {"A": batch["A"] - 3, "B": batch["B"]}, later)
        fakes = np.asarray(game.seen["D_Y"][1])
        old = [any(np.allclose(fake, 0.5 * past) for past in x) for fake in fakes]
        new = [any(np.allclose(fake, 0.5 * (now - 3)) for now in x) for fake in fakes]
        assert all(a or b for a, b in zip(old, new, strict=True))
        shown |= {"old"} if any(old) else set()
        shown |= {"new"} if any(new) else set()
    assert shown == {"old", "new"}


def test_pool_holds_50_and_no_gradient_reaches_the_generators(table, context, batch):
    assert cyclegan.empty_pools(PAPER)(None, batch, None)["X"].images.shape == (50, 4, 4, 1)
    memory = cyclegan.empty_pools(PAPER)(None, batch, None)

    def loss(scale):
        game = functions(table)
        game._modules["G"] = game._modules["G"].clone(function=lambda x, train: scale * x)
        return cyclegan.discriminator_loss(game.nets, batch, context(memory))[0]

    assert float(jax.grad(loss)(0.5)) == 0


def test_order_rate_and_choice(domains, rates):
    config = dataclasses.replace(cyclegan.Config.tiny(), data=domains, steps=100)
    experiment = cyclegan.experiment(config)
    generators, discriminators = experiment.stages[0].phases
    assert generators.trains == ("G", "F")
    assert (discriminators.trains, discriminators.reads) == (("D_X", "D_Y"), "start")
    for phase in (generators, discriminators):
        rate = rates(phase, 100)
        assert rate[[0, 49]] == pytest.approx(2e-4, rel=1e-4)
        assert rate[75] == pytest.approx(1e-4, rel=1e-3)
        assert rate[99] == pytest.approx(2e-4 / 50, rel=1e-3)
    assert experiment.select is None
    # Unpaired domains have no truth for a translation: distributions are compared.
    assert [metric.name for metric in experiment.metrics] == ["swd"]


def test_phantoms_of_the_domains_are_other_contrasts():
    shapes = [
        jax.eval_shape(lambda key, d=d: cyclegan.phantom(key, d, size=64), jax.random.key(0)) for d in "AB"
    ]
    assert [record["image"].shape for record in shapes] == [(64, 64, 1)] * 2
