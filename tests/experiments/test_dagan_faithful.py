"""DAGAN against the paper and its public code: layers, losses by hand, schedule, forward model, stopping."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reconstruction import dagan
from medgan_jax.configuration import DataOptions
from medgan_jax.perceptual import FeatureOptions

PAPER = dagan.Config.paper()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 3, (2, 8, 8, 1)).astype(np.float32)


@pytest.fixture
def paper(folder):
    """The experiment at full size on a few noise images."""
    noise = np.random.default_rng(0).uniform(0, 1, (2, 256, 256)).astype(np.float32)
    source = folder(train=noise, validation=noise, test=noise)
    return lambda config=PAPER: dagan.experiment(dataclasses.replace(config, data=DataOptions(source)))


def test_generator_is_the_published_table(parameters, layer):
    down = (1, 64, 128, 256, 512, 512, 512, 512, 512)
    count = sum(
        layer(4, a, b, bias=level in (0, 7), norm=level not in (0, 7))
        for level, (a, b) in enumerate(itertools.pairwise(down))
    )
    up, skips = (512, 1024, 1024, 1024, 256, 128, 64, 64), (512, 512, 512, 512, 256, 128, 64, 0)
    inputs = (512, *(a + b for a, b in zip(up, skips, strict=True)))
    count += sum(layer(4, a, b) for a, b in zip(inputs, up, strict=False))
    count += layer(1, 64, 1, bias=True, norm=False)
    assert parameters(dagan.models(PAPER)["G"], (1, 256, 256, 1)) == count


def test_discriminator_is_the_published_table(parameters, layer):
    widths = (1, 64, 128, 256, 512, 1024, 2048)
    count = sum(
        layer(4, a, b, bias=level == 0, norm=level > 0)
        for level, (a, b) in enumerate(itertools.pairwise(widths))
    )
    for kernel, a, b in ((1, 2048, 1024), (1, 1024, 512), (1, 512, 128), (3, 128, 128), (3, 128, 512)):
        count += layer(kernel, a, b)
    assert parameters(dagan.models(PAPER)["D"], (1, 256, 256, 1)) == count + 4 * 4 * 512 + 1


def test_the_generator_refines_unless_told_otherwise():
    module = dagan.models(dagan.Config.tiny())["G"]
    assert module.residual_clip
    assert not dagan.models(dataclasses.replace(dagan.Config.tiny(), refine=False))["G"].residual_clip


def test_weights_and_schedule_are_the_published_ones(paper, rates):
    assert (PAPER.alpha, PAPER.beta, PAPER.gamma, PAPER.adversarial) == (15, 0.1, 0.0025, 1)
    assert (PAPER.batch_size, PAPER.learning_rate, PAPER.beta1) == (25, 1e-4, 0.5)
    epoch = PAPER.evaluate_every
    assert PAPER.halve_every == 5 * epoch
    assert PAPER.steps == 9999 * epoch
    experiment = paper()
    assert experiment.early_stopping.patience == 10
    assert experiment.early_stopping.metric == experiment.select == "nmse_dagan"
    phases = experiment.stages[-1].phases
    assert [(phase.name, phase.trains, phase.reads) for phase in phases] == [
        ("D", ("D",), "latest"),
        ("G", ("G",), "latest"),
    ]
    for phase in phases:
        rate = rates(phase, 10 * epoch + 2)
        assert rate[[0, 5 * epoch - 1]] == pytest.approx(1e-4, rel=1e-4)
        # Compiled, the quotient of the staircase may be rounded down at its edge.
        assert rate[[5 * epoch + 1, 10 * epoch - 1]] == pytest.approx(0.5e-4, rel=1e-4)
        assert rate[10 * epoch + 1] == pytest.approx(0.25e-4, rel=1e-4)


def test_forward_model_is_the_magnitude_of_the_masked_spectrum(paper, images):
    mask = np.zeros((8, 8), np.float32)
    mask[:, 2:6] = 1
    batch = dagan.undersampled_magnitudes(mask)({"image": images}, jax.random.key(0))
    unit = images[..., 0] / images.max((1, 2, 3))[:, None, None]
    spectrum = np.fft.fftshift(np.fft.fft2(unit), (1, 2)) * mask
    aliased = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum, (1, 2))))
    assert np.allclose(batch["target"][..., 0], 2 * unit - 1, atol=1e-5)
    assert np.allclose(batch["zero_filled"][..., 0], 2 * aliased - 1, atol=1e-5)


def test_losses_by_hand_and_discriminator_sees_the_image_alone(table, context, images, cross_entropy):
    rng = np.random.default_rng(1)
    x, x_zf = (rng.uniform(-1, 1, (2, 8, 8, 1)).astype(np.float32) for _ in range(2))
    game = table(
        G=lambda image: 0.9 * image,
        D=lambda image: image.sum((1, 2, 3))[:, None],
        features=lambda image: {"pool4": image**2},
    )
    batch, x_hat = {"target": jnp.asarray(x), "zero_filled": jnp.asarray(x_zf)}, 0.9 * x_zf.astype(np.float64)
    loss, terms = dagan.discriminator_loss(game.nets, batch, context())
    expected = cross_entropy(x.sum((1, 2, 3)), 1) + cross_entropy(x_hat.sum((1, 2, 3)), 0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert [np.shape(image) for image in game.seen["D"]] == [x.shape, x.shape]
    assert np.allclose(game.seen["D"][0], x)
    assert np.allclose(game.seen["D"][1], x_hat)

    weight = 0.7
    loss, terms = dagan.generator_loss(PAPER)(
        game.nets, batch, context({"perceptual_weight": jnp.float32(weight)})
    )
    norms = [np.linalg.norm((x_hat - x)[i]) / np.linalg.norm(x[i]) for i in range(2)]
    spectra = [np.abs(np.fft.fft2((image[..., 0] + 1) / 2)) for image in (x_hat, x)]
    by_hand = {
        "image": 15 * np.mean(norms),
        "frequency": 0.1 * np.mean((spectra[0] - spectra[1]) ** 2),
        "perceptual": weight * np.mean((x_hat**2 - x**2) ** 2),
        "adversarial": cross_entropy(x_hat.sum((1, 2, 3)), 1),
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-4)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-4)


def test_each_weight_acts_on_its_own_term(table, context):
    batch = {"target": jnp.ones((1, 8, 8, 1)), "zero_filled": jnp.zeros((1, 8, 8, 1))}
    game = table(G=lambda x: x + 0.1, D=lambda x: x.sum((1, 2, 3)), features=lambda x: {"pool4": 2 * x})
    memory = context({"perceptual_weight": jnp.float32(1)})
    for field, term in (("alpha", "image"), ("beta", "frequency"), ("adversarial", "adversarial")):
        doubled = dataclasses.replace(PAPER, **{field: 2 * getattr(PAPER, field)})
        once, twice = (dagan.generator_loss(c)(game.nets, batch, memory)[1].values for c in (PAPER, doubled))
        changed = {name for name in once if float(once[name]) != float(twice[name])}
        assert changed == {term}
        assert float(twice[term]) == pytest.approx(2 * float(once[term]))


def test_proxy_features_cost_their_share_and_published_ones_the_published_weight(paper, table):
    experiment = paper()
    assert [stage.name for stage in experiment.stages] == ["features", "game"]
    assert "proxy" in experiment.notes["features"]
    game = table(features=lambda image: {"pool4": image + 0.5 * image**2})
    x, x_zf = jnp.full((1, 4, 4, 1), 0.5), jnp.zeros((1, 4, 4, 1))
    weight = experiment.stages[1].memory(game.nets, {"target": x, "zero_filled": x_zf}, jax.random.key(0))
    distance = (0.5 + 0.125) ** 2
    assert float(weight["perceptual_weight"]) * distance == pytest.approx(0.5 * 15 * 1.0, rel=1e-5)


def test_vgg_weights_are_named_and_carry_the_published_weight(paper, tmp_path, table):
    from medgan_jax.models.features import VGG, VGG16, kernel_shapes

    arrays = {}
    for name, shape in kernel_shapes(VGG(("pool4",), VGG16)).items():
        place = f"block{name[4]}_{name.replace('_', '')[:4]}{name[-1]}"
        arrays[f"{place}/kernel"] = np.zeros(shape, np.float32)
        arrays[f"{place}/bias"] = np.zeros(shape[-1], np.float32)
    np.savez(tmp_path / "vgg16_weights.npz", **arrays)
    options = FeatureOptions(weights=str(tmp_path / "vgg16_weights.npz"))
    experiment = paper(dataclasses.replace(PAPER, features=options))
    assert [stage.name for stage in experiment.stages] == ["game"]
    frozen = experiment.stages[0].frozen["features"]
    assert "vgg16[pool4] sha256:" in experiment.notes["features"] == frozen.description
    assert frozen.module.resize == (244, 244)
    assert frozen.module.preprocessing == "caffe"
    weight = experiment.stages[0].memory(None, None, None)["perceptual_weight"]
    assert float(weight) == pytest.approx(0.0025)


def test_twin_is_the_same_generator_without_adversary_and_features(paper):
    twin = paper(PAPER.twin())
    assert [phase.name for phase in twin.stages[0].phases] == ["G"]
    assert set(twin.stages[0].networks) == {"G"}
    generators = (each.stages[-1].networks["G"].clone(kernel_init=None) for each in (twin, paper()))
    assert next(generators) == next(generators)
    assert (twin.config.alpha, twin.config.beta) == (PAPER.alpha, PAPER.beta)


def test_predicted_units_are_those_of_the_file(paper):
    intensity = paper().prediction.intensity(np.array([0.0, 100.0, 4000.0]))
    assert np.allclose(intensity.forward(np.array([0.0, 4000.0])), [-1, 1])
    assert np.allclose(intensity.inverse(np.array([0.0])), 2000)
