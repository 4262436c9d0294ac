"""RefineGAN against the paper and its public code: layers, losses by hand, the chain, clipping, schedule."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reconstruction import refinegan
from medgan_jax.configuration import DataOptions
from medgan_jax.inference.consistent_chain import ConsistentChain

PAPER = refinegan.Config.paper()
MASK = np.zeros((8, 8), np.float32)
MASK[:, 2:6] = 1


@pytest.fixture(scope="module")
def batch():
    """Complex x (2, 8, 8, 2) and S_0 = F^-1 M F x."""
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)
    return refinegan.undersampled_complex(MASK)({"image": jnp.asarray(x)}, jax.random.key(0))


@pytest.fixture
def paper(folder):
    noise = np.random.default_rng(0).uniform(0, 1, (2, 256, 256)).astype(np.float32)
    source = DataOptions(folder(train=noise, validation=noise, test=noise))
    return lambda config=PAPER: refinegan.experiment(dataclasses.replace(config, data=source, channels=1))


def spectrum(image):
    """Orthonormal centred transform of (B, H, W, 2)."""
    image = np.asarray(image, np.float64)
    shifted = np.fft.ifftshift(image[..., 0] + 1j * image[..., 1], (1, 2))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), (1, 2))


def unit(c, layer):
    """The residual unit: c and c/2 with batch norm, c without norm and bias."""
    return layer(3, c, c) + layer(3, c, c // 2) + layer(3, c // 2, c, norm=False)


def test_links_are_the_published_table(parameters, layer):
    widths = (2, 64, 128, 256, 512)
    count = sum(layer(3, a, b) + unit(b, layer) + layer(3, b, b) for a, b in itertools.pairwise(widths))
    count += sum(
        layer(3, a, b) + unit(b, layer) + layer(3, b, b)
        for a, b in ((512, 256), (256, 128), (128, 64), (64, 64))
    )
    networks = refinegan.models(PAPER)
    assert sorted(networks) == ["D", "G1", "G2"]
    for name in ("G1", "G2"):
        assert parameters(networks[name], (1, 256, 256, 2)) == count + layer(3, 64, 2, bias=True, norm=False)


def test_critic_is_the_published_table(parameters, layer):
    count = layer(4, 2, 64, norm=False) + layer(4, 512, 1, bias=True, norm=False)
    count += sum(
        layer(3, a, b) + unit(b, layer) + layer(3, b, b)
        for a, b in ((64, 64), (64, 128), (128, 256), (256, 512))
    )
    critic = refinegan.models(PAPER)["D"]
    assert parameters(critic, (1, 256, 256, 2)) == count
    image = jax.ShapeDtypeStruct((1, 256, 256, 2), jnp.float32)
    scores = jax.eval_shape(lambda x: critic.init_with_output(jax.random.key(0), x, train=False)[0], image)
    # A map without sigmoid, a thirty-second of the sides.
    assert scores.shape == (1, 8, 8, 1)


def test_forward_model_keeps_zero_and_the_largest_magnitude(batch):
    x = np.asarray(batch["target"])
    assert np.hypot(x[..., 0], x[..., 1]).max((1, 2)) == pytest.approx([1, 1], rel=1e-5)
    assert np.allclose(spectrum(batch["zero_filled"]), MASK * spectrum(x), atol=1e-5)
    magnitudes = refinegan.undersampled_complex(MASK)({"image": jnp.ones((1, 8, 8, 1))}, jax.random.key(0))
    assert np.abs(magnitudes["target"][..., 1]).max() == 0


def chain(config=PAPER):
    return ConsistentChain(config.links, MASK)


def run_chain(game, batch, config=PAPER):
    return chain(config)(game.nets, batch["zero_filled"], "peek")[0]


def test_measured_frequencies_are_put_back_after_every_link(table, batch):
    game = table(G1=lambda s: 0.3 * s + 0.1, G2=lambda s: s**2)
    (before_1, first), (before_2, second) = run_chain(game, batch)
    s_0 = np.asarray(batch["zero_filled"])
    assert np.allclose(before_1, 1.3 * s_0 + 0.1, atol=1e-5)
    assert np.allclose(before_2, first + first**2, atol=1e-5)
    for before, after in ((before_1, first), (before_2, second)):
        expected = np.where(MASK > 0, spectrum(batch["target"]), spectrum(before))
        assert np.allclose(spectrum(after), expected, atol=1e-5)
    # What the second link gets is what the first one made consistent.
    assert np.allclose(game.seen["G2"][0], first)


def test_one_link_is_recongan(table, batch):
    config = dataclasses.replace(PAPER, links=1)
    assert sorted(refinegan.models(config)) == ["D", "G1"]
    assert len(run_chain(table(G1=lambda s: s), batch, config)) == 1


def test_losses_by_hand_sum_over_both_links(table, context, batch, monkeypatch):
    kernels = {"a": {"kernel": jnp.array([[-2.0, 1.0]]), "bias": jnp.array([9.0])}}
    monkeypatch.setattr("medgan_jax.game.Network.params", property(lambda self: kernels))
    game = table(G1=lambda s: 0.3 * s, G2=lambda s: s**2, D=lambda s: s.sum((1, 2, 3))[:, None])
    x = np.asarray(batch["target"], np.float64)
    results = [[np.asarray(each, np.float64) for each in pair] for pair in run_chain(game, batch)]
    scores = [after.sum((1, 2, 3)).mean() for _, after in results]

    loss, terms = refinegan.discriminator_loss(PAPER, chain())(game.nets, batch, context())
    wasserstein = sum(score - x.sum((1, 2, 3)).mean() for score in scores)
    assert float(terms.values["wasserstein"]) == pytest.approx(-wasserstein, rel=1e-4, abs=1e-4)
    assert float(loss) == pytest.approx(wasserstein + 1e-5 * 3, rel=1e-4, abs=1e-4)
    # x, then the output of each link: D sees intermediate and final images alone.
    assert np.allclose(game.seen["D"][0], x)
    assert [
        np.allclose(seen, after, atol=1e-5)
        for seen, (_, after) in zip(game.seen["D"][1:], results, strict=True)
    ] == [True, True]

    _, terms = refinegan.generator_loss(PAPER, chain())(game.nets, batch, context())
    missed = [MASK * (spectrum(x) - spectrum(before)) for before, _ in results]
    by_hand = {
        "image": 10 * sum(np.abs(x - after).mean() for _, after in results),
        "frequency": sum((np.abs(each.real).mean() + np.abs(each.imag).mean()) / 2 for each in missed),
        "smooth": 1e-4
        * sum(np.abs(np.diff(after, axis=axis)).mean() for _, after in results for axis in (1, 2)),
        "adversarial": -sum(scores),
        "decay": 1e-5 * 3 * 2,
    }
    measured = {name: float(value) for name, value in terms.values.items()}
    assert measured == pytest.approx(by_hand, rel=1e-3, abs=1e-4)


def test_weights_clipping_and_schedule_are_the_published_ones(paper, rates):
    assert (PAPER.gamma, PAPER.alpha, PAPER.delta, PAPER.decay) == (10, 1, 1e-4, 1e-5)
    assert (PAPER.beta1, PAPER.epsilon, PAPER.batch_size, PAPER.steps) == (0.5, 1e-3, 2, 50_000)
    turn_g, turn_d = paper().stages[0].phases
    assert (turn_g.trains, turn_d.trains, turn_d.repeats) == (("G1", "G2"), ("D",), 1)
    clipped = turn_d.project({"D": {"a": jnp.array([-1.0, 0.005, 3.0])}})
    assert clipped["D"]["a"] == pytest.approx([-0.01, 0.005, 0.01])
    assert turn_g.project is None
    # A constant gradient of one moves by the rate, over 1 + epsilon.
    rate = rates(turn_g, 30_001) * (1 + 1e-3)
    assert rate[[0, 5000, 10_000, 15_000, 20_000, 30_000]] == pytest.approx(
        [1e-4, 2e-4, 3e-4, 1.6e-4, 2e-5, 1e-5], rel=1e-2
    )


def test_twin_is_the_chain_without_its_critic(paper):
    twin = paper(PAPER.twin()).stages[0]
    assert sorted(twin.networks) == ["G1", "G2"]
    assert [phase.name for phase in twin.phases] == ["G"]
