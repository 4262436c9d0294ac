"""The context-aware GAN against the paper and its public code: layers, sums over voxels, contexts, cross-fitting."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.synthesis_conditional import context_aware_gan as method
from medgan_jax.auto_context import AutoContext

PAPER = method.Config.paper()


def conv(kernel, inputs, outputs, *, norm=True):
    """A three-dimensional convolution with batch normalisation or with a bias."""
    return kernel**3 * inputs * outputs + (2 * outputs if norm else outputs)


def test_networks_are_the_published_tables(parameters):
    networks = method.models(PAPER)
    body = 3 * conv(3, 32, 32) + conv(9, 32, 64) + 2 * conv(3, 64, 64) + conv(3, 64, 32)
    body += conv(3, 32, 1, norm=False)
    assert parameters(networks["G"], (1, 32, 32, 32, 1)) == conv(9, 1, 32) + body
    # In the second round the context is a second channel.
    assert parameters(networks["G"], (1, 32, 32, 32, 2)) == conv(9, 2, 32) + body
    critic = sum(conv(5, a, b) for a, b in ((1, 32), (32, 64), (64, 128), (128, 256)))
    # Two pools leave 4^3 of the 16^3 voxels.
    dense = 4**3 * 256 * 512 + 512 + 512 * 128 + 128 + 128 + 1
    assert parameters(networks["D"], (1, 16, 16, 16, 1)) == critic + dense


def test_a_patch_of_32_gives_one_of_16():
    network = method.models(PAPER)["G"]
    x = jax.ShapeDtypeStruct((1, 32, 32, 32, 1), jnp.float32)
    made = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0], x)
    assert made.shape == (1, 16, 16, 16, 1)
    assert network.border == 8


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {f"fold_{k}": {field: jnp.asarray(rng.normal(size=(2, 8, 8, 8, 1)), jnp.float32) for field in "AB"}
            for k in range(2)}


def middle(image, side):
    cut = slice((image.shape[1] - side) // 2, (image.shape[1] + side) // 2)
    return np.asarray(image, np.float64)[:, cut, cut, cut]


def test_losses_by_hand(table, context, batch, cross_entropy):
    config = dataclasses.replace(PAPER, rounds=1)
    rounds = AutoContext(rounds=1, folds=1, border=2)
    names = {"G": "G1", "D": "D1"}
    x, y = batch["fold_0"]["A"], middle(batch["fold_0"]["B"], 4)
    game = table(G1=lambda image: 0.5 * image[:, 2:-2, 2:-2, 2:-2], D1=lambda image: image.sum((1, 2, 3)))
    examples = lambda nets, batch: rounds.examples(nets, batch, 1, 0)  # noqa: E731
    made = 0.5 * middle(x, 4)
    loss, _ = method.discriminator_loss(names, examples)(game.nets, batch, context())
    real, fake = y.sum((1, 2, 3)), made.sum((1, 2, 3))
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    # D sees CT alone.
    assert [seen.shape for seen in game.seen["D1"]] == [(2, 4, 4, 4, 1)] * 2

    loss, terms = method.generator_loss(config, names, examples)(game.nets, batch, context())
    slopes = [np.abs(np.diff(y, axis=axis)) - np.abs(np.diff(made, axis=axis)) for axis in (1, 2, 3)]
    by_hand = {
        "l2": ((made - y) ** 2).sum() / 2,
        "gdl": sum((slope**2).sum() for slope in slopes) / 2,
        "adversarial": 0.5 * cross_entropy(fake, 1),
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)


def test_second_round_sees_the_estimate_of_networks_that_have_not_seen_the_subject(table, batch):
    rounds = AutoContext(rounds=2, folds=2, border=1)
    shrink = lambda factor: lambda image: factor * image[:, 1:-1, 1:-1, 1:-1, :1]  # noqa: E731
    game = table(G1_0=shrink(10.0), G1_1=shrink(20.0), G2=shrink(1.0))
    x, y = rounds.examples(game.nets, batch, 2, 0)
    # The four subjects of both folds, each with the context of the network that leaves its fold out.
    assert x.shape == (4, 6, 6, 6, 2)
    wide = [batch[f"fold_{k}"]["A"] for k in range(2)]
    assert np.allclose(x[..., :1], np.concatenate([middle(each, 6) for each in wide]))
    contexts = [10 * middle(wide[0], 6), 20 * middle(wide[1], 6)]
    assert np.allclose(x[..., 1:], np.concatenate(contexts), rtol=1e-5)
    assert np.allclose(y, np.concatenate([middle(batch[f"fold_{k}"]["B"], 4) for k in range(2)]))
    # Contexts come from stored statistics; they are no part of this round's training.
    assert game.modes["G1_0"] == game.modes["G1_1"] == [False]
    # In the first round, the network that leaves fold 0 out learns from fold 1.
    x, _ = rounds.examples(game.nets, batch, 1, 0)
    assert np.allclose(x, wide[1])


def test_without_folds_the_context_comes_from_the_network_that_saw_the_subject():
    rounds = AutoContext(PAPER.rounds, PAPER.folds, border=8)
    assert (PAPER.rounds, PAPER.folds) == (2, 1)
    assert rounds.name("G", 1, 0) == "G1"
    assert rounds.seen(1, 0) == [0]
    assert rounds.width(2, PAPER.patch) == 48


def test_test_volumes_are_means_over_windows_and_folds(table):
    rounds = AutoContext(rounds=2, folds=2, border=1)
    middle_of = lambda image: image[:, 1:-1, 1:-1, 1:-1]  # noqa: E731
    game = table(G1_0=lambda x: middle_of(x) + 1, G1_1=lambda x: middle_of(x) + 3,
                 G2=lambda x: middle_of(x[..., :1] + x[..., 1:]))
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 7, 5, 6, 1)), jnp.float32)
    first, last = rounds.estimates(game.nets, image, window=5, stride=2)
    assert np.allclose(first, image + 2, atol=1e-5)
    assert np.allclose(last, 2 * image + 2, atol=1e-5)


@pytest.fixture
def source(folder):
    rng = np.random.default_rng(0)
    part = {name: rng.uniform(size=(4, 8, 8, 8)).astype(np.float32) for name in ("images", "A", "B")}
    return folder(train=part, validation=part, test=part)


def test_rounds_follow_each_other_with_published_rates(source, rates):
    data = dataclasses.replace(PAPER.data, source=source)
    # Kernels of three voxels, for volumes of eight.
    settings = dict(data=data, patch=6, kernel=2, window=6, stride=2)
    first, second = method.experiment(dataclasses.replace(PAPER, **settings)).stages
    assert [phase.name for phase in first.phases] == ["D1", "G1"]
    assert [phase.trains for phase in second.phases] == [("D2",), ("G2",)]
    assert set(second.networks) == {"G1", "D2", "G2"}
    assert first.steps == second.steps == 500_000
    assert (PAPER.batch_size, PAPER.beta1, PAPER.weight_decay) == (10, 0.5, 5e-4)
    assert rates(first.phases[0], 3) == pytest.approx(1e-6, rel=1e-3)
    crossed = method.experiment(dataclasses.replace(PAPER, **settings, folds=2)).stages
    assert [phase.name for phase in crossed[0].phases] == ["D1_0", "G1_0", "D1_1", "G1_1"]
    assert set(crossed[1].networks) == {"G1_0", "G1_1", "D2", "G2"}
    streams = crossed[0].data.train
    assert not set(streams["fold_0"].source.subjects) & set(streams["fold_1"].source.subjects)


def test_every_voxel_is_a_target_in_every_round(source):
    rounds = AutoContext(2, 1, border=1)
    heads = method.open_head_pairs(source, size=8, counts=(4, 4, 4), least=1)
    voxels = np.arange(8.0**3, dtype=np.float32).reshape(8, 8, 8, 1)
    for number in (1, 2):
        (stream,) = rounds.streams(heads.train, number, 4, 1).values()
        record, inside = {"id": "a", "A": voxels, "B": voxels}, (slice(number, -number),) * 3
        drawn = [stream.augment(record, np.random.default_rng(seed))["B"][inside] for seed in range(1500)]
        assert {each.shape for each in drawn} == {(2, 2, 2, 1)}
        assert {float(value) for each in drawn for value in each.ravel()} == set(voxels.ravel().tolist())


def test_ct_is_measured_in_hounsfield_units(source):
    data = dataclasses.replace(PAPER.data, source=source)
    made = method.experiment(dataclasses.replace(PAPER, data=data, patch=6, kernel=2, window=6, stride=2))
    batch = made.stages[0].prepare({"A": jnp.zeros((1, 2, 2, 2, 1)), "B": jnp.full((1, 2, 2, 2, 1), 40.0)}, None)
    mae = made.metric("mae").per_case({"estimate": jnp.zeros((1, 2, 2, 2, 1))}, batch)
    assert mae.tolist() == pytest.approx([40.0])
    assert made.prediction.output_intensity.inverse(np.array(0.04)) == pytest.approx(40.0)


def test_twin_has_no_discriminator(source):
    data = dataclasses.replace(PAPER.data, source=source)
    config = dataclasses.replace(PAPER, data=data, patch=6, kernel=2, window=6, stride=2)
    assert [phase.name for phase in method.experiment(config.twin()).stages[0].phases] == ["G1"]
