"""SRGAN against the paper: layers, pixels first and features then, losses by hand, schedule."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import srgan
from medgan_jax.configuration import DataOptions
from medgan_jax.nn.resample import resize
from medgan_jax.perceptual import FeatureOptions

PAPER = srgan.Config.paper()


@pytest.fixture
def experiment(folder):
    images = np.random.default_rng(0).uniform(0, 1, (4, 64, 64)).astype(np.float32)
    source = DataOptions(folder(train=images, validation=images, test=images))
    settings = dict(data=source, size=64, crop=32)
    return lambda **changes: srgan.experiment(dataclasses.replace(PAPER, **settings, **changes))


def test_networks_are_the_published_tables(parameters, layer):
    networks = srgan.models(PAPER)
    plain = dict(bias=True, norm=False)
    generator = layer(9, 1, 64, **plain) + 33 * layer(3, 64, 64) + 2 * layer(3, 64, 256, **plain)
    # PReLU has a slope for each channel: after the first convolution, in 16 blocks, after two enlargements.
    generator += layer(9, 64, 1, **plain) + 64 * (1 + 16 + 2)
    assert parameters(networks["G"], (1, 24, 24, 1)) == generator
    widths = [1, 64, 64, 128, 128, 256, 256, 512, 512]
    discriminator = layer(3, 1, 64, **plain)
    discriminator += sum(layer(3, a, b) for a, b in itertools.pairwise(widths[1:]))
    assert parameters(networks["D"], (1, 96, 96, 1)) == discriminator + 36 * 512 * 1024 + 1024 + 1024 + 1
    twin = PAPER.twin()
    assert set(srgan.models(twin)) == {"G"}
    assert twin.pretraining_steps == PAPER.pretraining_steps + PAPER.steps


def batch():
    rng = np.random.default_rng(0)
    low, high = rng.uniform(0, 1, (3, 2, 2, 1)), rng.uniform(-1, 1, (3, 4, 4, 1))
    return {"low": jnp.asarray(low, jnp.float32), "high": jnp.asarray(high, jnp.float32)}


def game(table):
    enlarge = lambda x: jnp.repeat(jnp.repeat(0.5 * x, 2, 1), 2, 2)  # noqa: E731
    features = lambda x: {"relu5_4": 2 * x[:, :1]}  # noqa: E731
    return table(G=enlarge, D=lambda x: x.sum((1, 2, 3))[:, None], features=features)


def test_losses_by_hand(table, context, cross_entropy):
    low, high = (np.asarray(each) for each in batch().values())
    fake = np.repeat(np.repeat(0.5 * low, 2, 1), 2, 2)
    made, known = game(table), {"perceptual_weight": jnp.float32(PAPER.rho)}
    loss, _ = srgan.pixel_loss(made.nets, batch(), context())
    assert float(loss) == pytest.approx(((fake - high) ** 2).mean(), rel=1e-5)
    real_score, fake_score = (each.sum((1, 2, 3)) for each in (high, fake))
    loss, _ = srgan.discriminator_loss(made.nets, batch(), context())
    assert float(loss) == pytest.approx(cross_entropy(real_score, 1) + cross_entropy(fake_score, 0), rel=1e-5)
    loss, terms = srgan.generator_loss(PAPER)(made.nets, batch(), context(known))
    content = ((2 * fake - 2 * high)[:, :1] ** 2).mean() / 12.75**2
    assert float(terms.values["content"]) == pytest.approx(content, rel=1e-5)
    # No pixel term in the second stage.
    assert float(loss) == pytest.approx(content + 1e-3 * cross_entropy(fake_score, 1), rel=1e-5)
    # D sees images alone, of the large size.
    assert {seen.shape for seen in made.seen["D"]} == {(3, 4, 4, 1)}


def test_pixels_come_first_and_the_generator_goes_on(experiment, rates):
    made = experiment(steps=20, features=FeatureOptions(weights=""))
    proxy, first, second = made.stages
    assert (proxy.name, first.name) == ("features", "SRResNet")
    assert [phase.trains for phase in first.phases] == [("G",)]
    assert [phase.trains for phase in second.phases] == [("D",), ("G",)]
    assert (first.steps, PAPER.pretraining_steps, PAPER.steps) == (10**6, 10**6, 2 * 10**5)
    assert rates(first.phases[0], 3) == pytest.approx(1e-4, rel=1e-4)
    assert rates(second.phases[1], 20) == pytest.approx([1e-4] * 10 + [1e-5] * 10, rel=1e-3)
    assert (PAPER.batch_size, PAPER.crop, PAPER.factor, PAPER.beta1) == (16, 96, 4, 0.9)
    # The proxy's features pass through the first stage to the second.
    assert set(first.networks) == {"G", "features"}
    assert set(second.networks) == {"G", "D", "features"}
    assert experiment(adversarial=0.0).stages[-1].name == "SRResNet"


def test_images_and_crops(experiment):
    stage = experiment(steps=2).stages[-1]
    record = {"image": np.zeros((64, 64, 1), np.float32)}
    assert stage.data.train.augment(record, np.random.default_rng(0))["image"].shape == (32, 32, 1)
    image = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 1)), jnp.float32)
    ready = stage.prepare({"image": image}, jax.random.key(0))
    # What G sees is in [0, 1], what it makes in [-1, 1].
    assert ready["low"].shape == (2, 8, 8, 1)
    assert np.allclose(ready["low"], resize(image, (8, 8), "cubic", antialias=True), atol=0.01)
    assert np.allclose(ready["high"], 2 * image - 1, atol=0.01)
    assert ready["bicubic"].shape == (2, 32, 32, 1)


def test_a_slower_second_stage_and_an_averaged_generator_are_not_the_papers(experiment, rates):
    assert (PAPER.second_rate, PAPER.average) == (1e-4, 0)
    assert not any(stage.ema for stage in experiment().stages)
    first, second = experiment(steps=20, second_rate=2e-5, average=0.9).stages[1:]
    assert first.ema == second.ema == {"G": 0.9}
    assert rates(first.phases[0], 3) == pytest.approx(1e-4, rel=1e-4)
    for phase in second.phases:
        assert rates(phase, 20) == pytest.approx([2e-5] * 10 + [2e-6] * 10, rel=1e-3)
