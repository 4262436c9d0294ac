"""SAGAN against the paper and its public code: layers, losses by hand, the sharpness metric, both doses."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.denoising import sharpness_aware_gan as sagan
from medgan_jax.configuration import DataOptions
from medgan_jax.phantoms.catphan import FIELD_OF_VIEW_MM

PAPER = sagan.Config.paper()
SHAPE = (1, 256, 256, 1)


@pytest.fixture
def experiment(folder):
    slices = np.random.default_rng(0).uniform(-1024, 1900, (2, 512, 512)).astype(np.float32)
    part = {"images": slices, "target": slices}
    source = DataOptions(folder(train=part, validation=part, test=part))
    return lambda **changes: sagan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def unet_count(layer):
    """4x4 halvings to one pixel and doublings back; instance norm has no parameters, its layers no bias."""
    down = (1, 64, 128, 256, 512, 512, 512, 512, 512)
    count = sum(
        layer(4, a, b, bias=level in (0, 7), norm=False)
        for level, (a, b) in enumerate(itertools.pairwise(down))
    )
    up = (512, 512, 512, 512, 256, 128, 64)
    inputs = (512, *(2 * width for width in up))
    count += sum(layer(4, a, b, norm=False) for a, b in zip(inputs, (*up, 1), strict=True)) + 1
    return count, [*down[2:-1], *up]


def test_networks_are_unet_256_with_and_without_residual_blocks(parameters, layer):
    networks = sagan.models(PAPER)
    plain, refined = unet_count(layer)
    assert parameters(networks["S"], SHAPE) == plain
    blocks = sum(2 * layer(3, width, width, norm=False) for width in refined)
    assert parameters(networks["G"], SHAPE) == plain + blocks
    without = sagan.models(dataclasses.replace(PAPER, residual=False))["G"]
    assert parameters(without, SHAPE) == plain


def test_discriminator_sees_pairs_in_patches(parameters, layer):
    critic = sagan.models(PAPER)["D"]
    assert critic.receptive_field == 70
    widths = (2, 64, 128, 256, 512)
    count = sum(
        layer(4, a, b, bias=level == 0, norm=False)
        for level, (a, b) in enumerate(itertools.pairwise(widths))
    )
    assert parameters(critic, (1, 256, 256, 2)) == count + layer(4, 512, 1, bias=True, norm=False)


@pytest.mark.parametrize("kind", ["lsgan", "bce"])
def test_losses_by_hand(table, context, cross_entropy, kind):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-1, 1, (3, 4, 4, 1)).astype(np.float32) for _ in range(2))
    game = table(G=lambda x: 0.5 * x, D=lambda pair: pair.sum((1, 2)), S=lambda image: image**2)
    batch, config = (
        {"low": jnp.asarray(x), "target": jnp.asarray(y)},
        dataclasses.replace(PAPER, gan_loss=kind),
    )
    fake = 0.5 * x.astype(np.float64)
    # Both images of a pair come beside each other: the noisy one, then the judged one.
    real_scores, fake_scores = (np.concatenate([x, image], -1).sum((1, 2)) for image in (y, fake))

    def against(scores, label):
        return cross_entropy(scores, label) if kind == "bce" else ((scores - label) ** 2).mean()

    loss, _ = sagan.discriminator_loss(config)(game.nets, batch, context())
    assert float(loss) == pytest.approx(against(real_scores, 1) + against(fake_scores, 0), rel=1e-4)
    assert np.allclose(game.seen["D"][0], np.concatenate([x, y], -1))

    loss, terms = sagan.generator_loss(config)(game.nets, batch, context())
    by_hand = {
        "adversarial": against(fake_scores, 1),
        "l1": 100 * np.abs(fake - y).mean(),
        "sharpness": 0.001 * np.mean([np.linalg.norm((fake**2 - y**2)[i]) for i in range(3)]),
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-4)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-4)
    assert game.modes["S"] == [False, False]


def test_sharpness_network_learns_local_binary_patterns_of_partly_blurred_targets(table, context):
    target = jax.random.uniform(jax.random.key(0), (2, 32, 32, 1), minval=-1)
    game = table(S=lambda image: jnp.zeros_like(image) + 0.25)
    config = dataclasses.replace(PAPER, window=7)

    @jax.jit
    def learn(target):
        loss, _ = sagan.sharpness_loss(config)(game.nets, {"target": target}, context())
        return loss, game.seen["S"].pop()

    loss, blurred = learn(target)
    assert not np.allclose(blurred, target)
    truth = sagan.lbp_sharpness(blurred, window=7, threshold=0.016)
    assert float(loss) == pytest.approx(np.abs(0.25 - np.asarray(truth)).mean(), rel=1e-5)


def test_frozen_after_its_own_stage_and_absent_without_its_term(experiment):
    first, game = experiment().stages
    assert [phase.trains for phase in first.phases] == [("S",)]
    assert [phase.trains for phase in game.phases] == [("D",), ("G",)]
    assert "S" in game.networks
    twin = sagan.experiment(experiment().config.twin())
    assert [stage.name for stage in twin.stages] == ["game"]
    assert sorted(twin.stages[0].networks) == ["D", "G"]


def test_weights_schedule_and_range(experiment, rates):
    assert (PAPER.lambda_1, PAPER.lambda_2, PAPER.window, PAPER.flat) == (100, 0.001, 21, 1)
    assert (PAPER.field_mm, PAPER.photons) == (FIELD_OF_VIEW_MM, (1e4, 1e5))
    game = experiment().stages[-1]
    assert rates(game.phases[1], 5) == pytest.approx(2e-4, rel=1e-3)
    assert rates(experiment(steps=20).stages[-1].phases[1], 20) == pytest.approx(2e-4, rel=1e-3)
    falling = rates(experiment(steps=100, flat=0.5).stages[-1].phases[1], 76)
    assert falling[49] == pytest.approx(2e-4, rel=1e-3) and falling[75] == pytest.approx(1e-4, rel=1e-3)
    batch = game.prepare(
        {"image": jnp.full((1, 4, 4, 1), -1024.0), "target": jnp.full((1, 4, 4, 1), 465.45)},
        jax.random.key(0),
    )
    # 16 bits hold (HU + 1024) * 22.
    assert float(batch["low"].max()) == -1
    assert float(batch["target"].max()) == pytest.approx(0, abs=1e-4)


def test_both_doses_are_measured_apart(monkeypatch):
    monkeypatch.setattr(sagan, "tissue_patches", lambda *args, **options: None)
    made = sagan.experiment(sagan.Config.small())
    batch = {"target": jnp.zeros((2, 64, 64, 1)), "photons": jnp.array([1e4, 1e5])}
    outputs = {"denoised": jnp.array([0.2, 0.02])[:, None, None, None] + jnp.zeros((2, 64, 64, 1))}
    for name, value in (("psnr_1e+04", 20), ("psnr_1e+05", 40)):
        metric = made.metric(name)
        values = jax.tree.map(np.asarray, metric.per_case(outputs, batch))
        assert metric.summary(values) == pytest.approx(value, abs=0.01)
