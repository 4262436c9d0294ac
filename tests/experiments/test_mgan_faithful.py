"""MGAN against the authors' code: layers, losses by hand, neural patches of a frozen network, both games."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.base import mgan
from medgan_jax.configuration import DataOptions
from medgan_jax.errors import UserError
from medgan_jax.nn.crops import Places

PAPER = mgan.Config.paper()
W = 1 / 1.01


@pytest.fixture
def experiment(folder, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (6, 32, 32)).astype(np.float32)
    Image.fromarray(rng.integers(0, 255, (40, 48), np.uint8)).save(tmp_path / "style.png")
    source = DataOptions(folder(train=images, validation=images, test=images))
    style = str(tmp_path / "style.png")
    settings = dict(data=source, size=32, crop=16, channels=1, features_base=2, style=style)
    return lambda **changes: mgan.experiment(dataclasses.replace(PAPER, **(settings | changes)))


def test_networks_are_those_of_the_code(parameters, layer, experiment):
    networks = mgan.models(PAPER)
    # Crops of 128 pixels: 16 x 16 codes of 512 channels, 32 x 32 maps of 256.
    generator = layer(3, 512, 512) + layer(4, 512, 256) + layer(4, 256, 128)
    assert parameters(networks["G"], (1, 16, 16, 512)) == generator + layer(4, 128, 3, bias=True, norm=False)
    discriminator = layer(4, 256, 256) + layer(4, 256, 512) + layer(1, 512, 1, bias=True, norm=False)
    assert parameters(networks["D"], (1, 32, 32, 256)) == discriminator
    first = layer(3, 256, 256) + layer(8, 256, 1, bias=True, norm=False)
    targets = experiment().stages[0].networks
    assert parameters(targets["D1"], (1, 32, 32, 256)) == first
    # One image for each of the six of the training part.
    assert targets["y"].count == 6


def maps(x):
    """A frozen network whose maps tell which layer they are of; patches are single pixels."""
    return {"relu3_1": 2 * x, "relu4_1": 3 * x, "relu5_1": x[:, :1, :1]}


def game(table):
    return table(
        features=maps,
        G=lambda code: 0.1 * code,
        D=lambda f: f,
        D1=lambda f: 0.5 * f,
        y=lambda x, number: 0.8 * x,
    )


def hinge(scores, target):
    return np.maximum(0, 1 - target * np.asarray(scores, np.float64)).mean()


def batch():
    rng = np.random.default_rng(0)
    x, style = (rng.uniform(-1, 1, (2, 4, 4, 1)).astype(np.float32) for _ in range(2))
    places = Places(jnp.zeros((2, 2), jnp.int32), jnp.array([False, True]))
    return {"x": jnp.asarray(x), "style": jnp.asarray(style), "number": jnp.array([0, 1]), "places": places}


def test_targets_are_optimised_against_patches_of_the_style(table, context, experiment):
    made, phases = game(table), experiment().stages[0].phases
    x, style = np.asarray(batch()["x"]), np.asarray(batch()["style"])
    y = 0.8 * x
    # D1 halves the maps, which are twice the images.
    loss, _ = phases[0].loss(made.nets, batch(), context())
    assert float(loss) == pytest.approx(hinge(style, 1) + hinge(y, -1), rel=1e-5)
    loss, terms = phases[1].loss(made.nets, batch(), context())
    variation = sum(np.abs(np.diff(y, axis=axis)).mean() for axis in (1, 2))
    content = ((y - x)[:, :1, :1] ** 2).mean()
    assert float(terms.values["style"]) == pytest.approx(hinge(y, 1), rel=1e-5)
    assert float(terms.values["content"]) == pytest.approx(content, rel=1e-4)
    assert float(loss) == pytest.approx(hinge(y, 1) + content + 1e-4 * variation, rel=1e-5)
    # Discriminators see maps of the frozen network, which is never in training mode.
    for seen, image in zip(made.seen["D1"][:2], (style, y), strict=True):
        assert np.allclose(seen, 2 * image, atol=1e-6)
    assert set(made.modes["features"]) == {False}


@pytest.mark.parametrize("content", ["pixel", "features"])
def test_generator_learns_the_targets_from_codes(table, context, content):
    made, config = game(table), dataclasses.replace(PAPER, crop=4, content=content)
    x = np.asarray(batch()["x"]).copy()
    x[1] = x[1, :, ::-1]
    y, image = 0.8 * x, 0.3 * x
    inside = np.s_[:, 1:-1, 1:-1]
    loss, _ = mgan.discriminator_loss(made.nets, batch(), context())
    assert float(loss) == pytest.approx(hinge(2 * y[inside], 1) + hinge(2 * image[inside], -1), rel=1e-5)
    loss, terms = mgan.generator_loss(config)(made.nets, batch(), context())
    distance = ((image - y) ** 2).mean() if content == "pixel" else ((image - y)[:, :1, :1] ** 2).mean()
    assert float(terms.values["content"]) == pytest.approx(W * distance, rel=1e-4)
    assert float(loss) == pytest.approx(W * (distance + 1e-2 * hinge(2 * image[inside], 1)), rel=1e-4)
    # G is given codes of the frozen network.
    assert np.allclose(made.seen["G"][0], 3 * x, atol=1e-6)


def test_two_games_in_turn(experiment, rates):
    made = experiment()
    first, second = made.stages
    assert [phase.trains for phase in first.phases] == [("D1",), ("y",)]
    assert [phase.trains for phase in second.phases] == [("D",), ("G",)]
    # The images of the first game pass to the second, which does not move them.
    assert set(second.networks) == {"y", "G", "D"}
    assert set(first.frozen) == set(second.frozen) == {"features"}
    assert first.frozen["features"].description.startswith("random small vgg[relu3_1,relu4_1,relu5_1]")
    assert (first.steps, first.data.train.batch_size, second.data.train.batch_size) == (125, 6, 64)
    assert rates(second.phases[1], 3) == pytest.approx(0.02, rel=1e-3)
    assert PAPER.beta1 == 0.5
    raw = {"image": jnp.zeros((3, 32, 32, 1)), "number": jnp.arange(3)}
    ready = first.prepare(raw, jax.random.key(0))
    assert ready["style"].shape == (3, 16, 16, 1)
    assert ready["places"].corner.shape == (3, 2)


def test_a_style_of_other_channels_is_refused(experiment, tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(UserError, match="style takes an image"):
        experiment(style=str(tmp_path / "colour.png"))
