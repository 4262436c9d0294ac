"""Liver lesions by DCGAN: published layers, a generator a class, augmented data, the curve over shares."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.synthesis_unconditional import dcgan_liver_lesion as method
from medgan_jax.configuration import DataOptions
from medgan_jax.data.pipeline import train_batches

PAPER = method.Config.paper()
CLASSES = ("cyst", "metastasis", "haemangioma")


@pytest.fixture
def experiment(folder):
    """Each class has a grey level of its own."""
    labels = np.repeat(np.arange(3), 4)
    images = np.broadcast_to(labels[:, None, None], (12, 32, 32)).astype(np.float32).copy()
    images[:, :, 16:] += 0.25
    part = {"images": images, "labels": labels}
    source = DataOptions(folder(train=part, validation=part, test=part))
    changes = dict(data=source, size=32, base=2, latent=4, batch_size=2, widths=(2,), dense=(4,))
    return lambda **more: method.experiment(dataclasses.replace(PAPER, **changes, **more))


def test_networks_are_the_published_tables(parameters, layer):
    networks = method.models(PAPER)
    assert set(networks) == {f"{player}_{each}" for player in "GD" for each in CLASSES}
    generator = 100 * 4 * 4 * 512 + 2 * 512 + layer(5, 512, 256) + layer(5, 256, 128) + layer(5, 128, 64)
    discriminator = layer(5, 1, 64, bias=True, norm=False)
    discriminator += layer(5, 64, 128) + layer(5, 128, 256) + layer(5, 256, 512) + 4 * 4 * 512 + 1
    for each in CLASSES:
        assert parameters(networks[f"G_{each}"], (1, 100)) == generator + layer(
            5, 64, 1, bias=True, norm=False
        )
        assert parameters(networks[f"D_{each}"], (1, 64, 64, 1)) == discriminator


def test_classifier_has_three_pairs_of_convolution_and_pooling_and_two_dense_layers(parameters):
    network = method.classifiers(PAPER).network
    count = sum(9 * a * b + b for a, b in ((1, 32), (32, 64), (64, 128)))
    assert parameters(network, (1, 64, 64, 1)) == count + (8 * 8 * 128 + 1) * 256 + 257 * 3


def test_each_class_is_a_game_of_its_own(experiment, rates):
    gans, learning = experiment().stages
    assert [phase.trains for phase in gans.phases] == [
        (f"{player}_{each}",) for each in CLASSES for player in "DG"
    ]
    assert rates(gans.phases[0], 5) == pytest.approx(2e-4, rel=1e-4)
    # The generators go into the second stage, where no phase moves them.
    assert {name for name in learning.networks if name.startswith("G")} == {f"G_{each}" for each in CLASSES}
    assert not any(name.startswith("G") for phase in learning.phases for name in phase.trains)
    assert rates(learning.phases[0], 1) == pytest.approx(1e-3, rel=1e-4)
    assert (PAPER.size, PAPER.batch_size, PAPER.latent) == (64, 64, 100)
    assert PAPER.phantoms[0] == (53, 64, 65)
    assert sum(PAPER.phantoms[0]) == 182


def test_generators_learn_from_augmented_lesions_of_their_class(experiment):
    made = experiment()
    stage = made.stages[0]
    raw = next(train_batches(stage.data, seed=0, threads=0))
    for label, each in enumerate(CLASSES):
        assert raw[each].shape == (2, 32, 32, 1)
        assert (raw[each] >= label - 1e-4).all() and (raw[each] <= label + 0.25 + 1e-4).all()
        # No turn by a whole number of quarters leaves such edges, nor none at all.
        assert len(np.unique(raw[each].round(3))) > 2
    batch = stage.prepare({each: jnp.asarray(raw[each]) for each in CLASSES}, jax.random.key(0))
    assert float(batch["x"]["haemangioma"].max()) == pytest.approx(1, abs=1e-4)
    assert {z.shape for z in batch["z"].values()} == {(2, 4)}
    assert not np.allclose(batch["z"]["cyst"], batch["z"]["metastasis"])
    assert max(float(jnp.abs(z).max()) for z in batch["z"].values()) <= 1


def test_gan_losses_by_hand(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    x, z = ({each: rng.normal(size=(3, 2, 2, 1)).astype(np.float32) for each in CLASSES} for _ in range(2))
    batch = {"x": x, "z": z}
    networks = {f"G_{each}": lambda z: 0.5 * z for each in CLASSES}
    networks |= {f"D_{each}": lambda image: image.sum((1, 2, 3))[:, None] for each in CLASSES}
    game = table(**networks)
    real, fake = x["metastasis"].sum((1, 2, 3)), 0.5 * z["metastasis"].sum((1, 2, 3))
    loss, _ = method.discriminator_loss("metastasis")(game.nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    loss, _ = method.generator_loss("metastasis")(game.nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(fake, 1), rel=1e-5)
    assert {name for name, seen in game.seen.items() if seen} == {"G_metastasis", "D_metastasis"}


def test_classifier_losses_by_hand(table, context):
    """Real images are 0, generated ones 1, and the logits say how many of which are seen."""
    config = dataclasses.replace(PAPER, shares=(0.0, 0.4, 1.0), classifier_rows=5)
    shape = (5, 2, 2, 1)
    batch = {
        "x": {each: jnp.zeros(shape) for each in CLASSES},
        "z": {each: jnp.ones(shape) for each in CLASSES},
    }
    logits = lambda image: image.mean((1, 2, 3))[:, None] * jnp.array([2.0, 0.0, 0.0])  # noqa: E731
    game = table(
        **{f"G_{each}": lambda z: z for each in CLASSES}, **{f"C_{share}": logits for share in (0, 40, 100)}
    )
    loss, terms = method.classifier_loss(config)(game.nets, batch, context())
    # Of a generated image of class 0, and of one of the others.
    first, other = np.log(np.exp(2) + 2) - 2, np.log(np.exp(2) + 2)
    generated = (first + 2 * other) / 3
    expected = {"C_0": np.log(3), "C_40": np.log(3) + 0.4 / 0.6 * generated, "C_100": generated}
    for name, value in expected.items():
        assert float(terms.values[name]) == pytest.approx(value, rel=1e-5)
    assert float(loss) == pytest.approx(sum(expected.values()), rel=1e-5)
    # Generators are frozen, and every classifier sees as many real images of each class, or none.
    assert {mode for each in CLASSES for mode in game.modes[f"G_{each}"]} == {False}
    seen = {name: [float(images.mean()) for images in game.seen[name]] for name in expected}
    assert seen == {"C_0": [0], "C_40": [0, 1], "C_100": [1]}
    assert all(images.shape[0] == 15 for name in expected for images in game.seen[name])


def test_curve_over_the_share(experiment):
    made = experiment()
    names = [f"balanced_accuracy_{share}" for share in (0, 20, 40, 60, 80, 100)]
    assert [metric.name for metric in made.metrics] == names
    # Two of three cysts right, one of one metastasis, none of one haemangioma.
    metric = made.metrics[0]
    outputs, batch = {"C_0": jnp.array([0, 0, 1, 1, 0])}, {"label": jnp.array([0, 0, 0, 1, 2])}
    assert metric.summary(metric.per_case(outputs, batch)) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert float(made.baseline.apply((), {"x": jnp.zeros((2, 4, 4, 1))}, None)["C_40"].sum()) == 0


def test_noise_for_classifiers_and_falling_rates_are_not_the_papers(table, context, experiment, rates):
    assert (PAPER.hiding, PAPER.constant, PAPER.margin, PAPER.noise) == (0, 1, 0, 12)
    config = dataclasses.replace(PAPER, shares=(0.0, 1.0), classifier_rows=5, hiding=0.5)
    images = {each: jnp.zeros((5, 16, 16, 1)) for each in CLASSES}
    logits = lambda image: image.mean((1, 2, 3))[:, None] * jnp.array([2.0, 0.0, 0.0])  # noqa: E731
    game = table(**{f"G_{each}": lambda z: z for each in CLASSES}, C_0=logits, C_100=logits)
    method.classifier_loss(config)(game.nets, {"x": images, "z": images}, context())
    assert all(float(game.seen[name][0].std()) == pytest.approx(0.5, rel=0.05) for name in ("C_0", "C_100"))
    gans, learning = experiment(steps=10, classifier_steps=20, constant=0.5, momentum=0.0).stages
    for stage, first in ((gans, 2e-4), (learning, 1e-3)):
        found = rates(stage.phases[0], stage.steps)
        assert found[0] == pytest.approx(first, rel=1e-4)
        assert found[-1] < 0.25 * first
