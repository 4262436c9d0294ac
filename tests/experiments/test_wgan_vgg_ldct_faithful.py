"""WGAN-VGG against the paper and the authors' code: layers, losses by hand, the window, schedule."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.denoising import wgan_vgg_ldct
from medgan_jax.configuration import DataOptions

PAPER = wgan_vgg_ldct.Config.paper()
# 4 x 4 targets in the middle of 6 x 6.
SHORT = dataclasses.replace(PAPER, depth=1)


@pytest.fixture
def experiment(folder):
    rng = np.random.default_rng(0)
    slices = rng.uniform(-1024, 3000, (2, 512, 512)).astype(np.float32)
    part = {"images": slices, "target": slices[:, ::-1]}
    source = DataOptions(folder(train=part, validation=part, test=part))
    return lambda **changes: wgan_vgg_ldct.experiment(dataclasses.replace(PAPER, data=source, **changes))


def plain(a, b, layer, bias=True):
    return layer(3, a, b, bias=bias, norm=False)


def test_generator_is_the_published_table(parameters, layer):
    generator = wgan_vgg_ldct.models(PAPER)["G"]
    count = plain(1, 32, layer, False) + 6 * plain(32, 32, layer, False) + plain(32, 1, layer, False)
    assert parameters(generator, (1, 80, 80, 1)) == count
    patch = jax.ShapeDtypeStruct((1, 80, 80, 1), jnp.float32)
    image = jax.eval_shape(lambda x: generator.init_with_output(jax.random.key(0), x, train=False)[0], patch)
    # Patches of 80 pixels become targets of 64.
    assert image.shape == (1, 64, 64, 1)


def test_generator_adds_no_image_and_ends_with_relu():
    generator = wgan_vgg_ldct.models(dataclasses.replace(PAPER, depth=2, width=4))["G"]
    x = jax.random.uniform(jax.random.key(0), (1, 9, 9, 1))

    @jax.jit
    def with_either_sign(x):
        params = generator.init(jax.random.key(1), x, train=False)["params"]
        negative = {**params, "head": {"kernel": -params["head"]["kernel"]}}
        return [generator.apply({"params": each}, x, train=False) for each in (params, negative)]

    begun, silent = with_either_sign(x)
    assert float(begun.min()) > 0
    assert float(jnp.abs(silent).max()) == 0


def test_critic_is_the_published_table_without_norm(parameters, layer):
    critic = wgan_vgg_ldct.models(PAPER)["D"]
    count = sum(plain(a, b, layer) for a, b in itertools.pairwise((1, 64, 64, 128, 128, 256, 256)))
    count += 8 * 8 * 256 * 1024 + 1024 + 1024 + 1
    assert parameters(critic, (1, 64, 64, 1)) == count
    variables = jax.eval_shape(
        lambda x: critic.init(jax.random.key(0), x, train=False),
        jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32),
    )
    assert set(variables) == {"params"}
    assert not any("norm" in name for name in variables["params"])


def test_losses_by_hand(table, context):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 4, 1))
    weights *= 0.5 / np.linalg.norm(weights)
    low, target = (rng.uniform(0, 1, (3, 6, 6, 1)).astype(np.float32) for _ in range(2))
    game = table(
        G=lambda z: 0.5 * z[:, 1:-1, 1:-1],
        D=lambda x: (x * weights).sum((1, 2, 3))[:, None],
        features=lambda x: {"relu5_4": x**2},
    )
    batch = {"low": jnp.asarray(low), "target": jnp.asarray(target)}
    fake, x = 0.5 * low[:, 1:-1, 1:-1].astype(np.float64), target[:, 1:-1, 1:-1].astype(np.float64)
    score = {name: (image * weights).sum((1, 2, 3)).mean() for name, image in (("fake", fake), ("real", x))}

    loss, terms = wgan_vgg_ldct.discriminator_loss(SHORT)(game.nets, batch, context())
    assert float(terms.values["penalty"]) == pytest.approx(10 * 0.25, rel=1e-4)
    assert float(loss) == pytest.approx(score["fake"] - score["real"] + 2.5, rel=1e-4)

    # Features are those of images in [-1, 1].
    features = np.mean(((2 * fake - 1) ** 2 - (2 * x - 1) ** 2) ** 2)
    known = {"perceptual": 0.1 * features, "pixel": ((fake - x) ** 2).mean(), "adversarial": -score["fake"]}
    networks = {
        "CNN-VGG": ("vgg", 0.0),
        "WGAN-VGG": ("vgg", 1.0),
        "CNN-MSE": ("mse", 0.0),
        "WGAN-MSE": ("mse", 1.0),
        "WGAN": ("none", 1.0),
    }
    names = {"vgg": ("perceptual",), "mse": ("pixel",), "none": ()}
    memory = context({"perceptual_weight": jnp.float32(0.1)})
    for fidelity, weight in networks.values():
        config = dataclasses.replace(SHORT, fidelity=fidelity, adversarial=weight)
        loss, terms = wgan_vgg_ldct.generator_loss(config)(game.nets, batch, memory)
        expected = (*names[fidelity], *(("adversarial",) if weight else ()))
        assert set(terms.values) == set(expected)
        assert float(loss) == pytest.approx(sum(known[name] for name in expected), rel=1e-4)


def test_weights_and_schedule_are_the_published_ones(experiment, rates):
    assert (PAPER.lambda_1, PAPER.penalty, PAPER.batch_size, PAPER.patch) == (0.1, 10, 128, 64)
    assert PAPER.steps == 100 * (100_096 // 128)
    made = experiment()
    turn_d, turn_g = made.stages[-1].phases
    assert (turn_d.trains, turn_d.repeats, turn_g.trains, turn_g.repeats) == (("D",), 4, ("G",), 1)
    assert rates(turn_g, 5) == pytest.approx(1e-5, rel=1e-3)
    assert PAPER.betas == (0.5, 0.9)
    # A constant rate.
    assert PAPER.flat == 1
    # PSNR would choose the smoothest state.
    assert made.select is None
    assert "proxy" in made.notes["features"]


def test_pairs_are_mapped_to_one_and_measured_in_the_soft_tissue_window(experiment):
    made = experiment(fidelity="none")
    batch = made.stages[0].prepare(
        {"image": jnp.full((1, 4, 4, 1), -1024.0), "target": jnp.full((1, 4, 4, 1), 3072.0)},
        jax.random.key(0),
    )
    assert (float(batch["low"].max()), float(batch["target"].min())) == (0, 1)

    def unit(hounsfield):
        return jnp.full((1, 16, 16, 1), (hounsfield + 1024) / 4096)

    psnr = made.metric("psnr").per_case
    # 40 of 400 HU off, and nothing where both are outside of the window.
    assert float(psnr({"denoised": unit(60.0)}, {"target": unit(100.0)})[0]) == pytest.approx(20, abs=0.01)
    assert not np.isfinite(float(psnr({"denoised": unit(-900.0)}, {"target": unit(-200.0)})[0]))


def test_twin_is_the_network_trained_by_squared_error():
    twin = PAPER.twin()
    assert (twin.fidelity, twin.adversarial) == ("mse", 0)
    assert sorted(wgan_vgg_ldct.models(twin)) == ["G"]


def test_whole_slices_keep_their_size(experiment, table):
    game = table(G=lambda x: x[:, 8:-8, 8:-8])
    x = jax.random.uniform(jax.random.key(0), (1, 40, 40, 1))
    made = experiment(fidelity="none")
    assert np.allclose(made.infer(game.nets, {"low": x}, None)["denoised"], x)
    assert game.modes["G"] == [False]
