"""The adversarial similarity network against its public code: layers, pairs, blends, folding, balance of D."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.registration import adv_similarity_registration as method
from medgan_jax.losses.registration import local_cross_correlation, smoothness_against_folding
from medgan_jax.schedules import scale_by_loss

PAPER = method.Config.paper()


def conv(inputs, outputs):
    """A convolution of three voxels with its bias."""
    return 27 * inputs * outputs + outputs


def test_networks_are_the_published_tables(parameters):
    networks = method.models(PAPER)
    encoder = conv(2, 16) + conv(16, 32) + 2 * conv(32, 32)
    decoder = conv(32, 32) + 2 * conv(64, 32) + conv(48, 32) + conv(32, 8) + conv(10, 8) + conv(8, 3)
    assert parameters(networks["G"], (1, 160, 224, 192, 2)) == encoder + decoder
    pairs = ((2, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 1))
    assert parameters(networks["D"], (1, 160, 224, 192, 2)) == sum(conv(*pair) for pair in pairs)


def shapes(network, shape):
    made = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x, train=False),
                          jax.ShapeDtypeStruct(shape, jnp.float32))
    assert set(made[1]) == {"params"}
    return made[0].shape


def test_displacements_on_the_grid_of_the_fixed_image_and_a_map_of_scores():
    networks = method.models(PAPER)
    assert shapes(networks["G"], (1, 160, 224, 192, 2)) == (1, 160, 224, 192, 3)
    assert shapes(networks["D"], (1, 160, 224, 192, 2)) == (1, 5, 7, 6, 1)
    # Of rank 2 as well.
    assert shapes(networks["G"], (1, 32, 48, 2)) == (1, 32, 48, 2)


def test_displacement_starts_near_zero():
    network = method.models(dataclasses.replace(PAPER, down=(4, 4), up=(4, 4)))["G"]
    x = jnp.ones((1, 8, 8, 2))
    made = jax.jit(lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0])(x)
    assert 0 < float(jnp.abs(made).max()) < 1e-3


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.uniform(size=(2, 6, 6, 1)), jnp.float32) for name in ("moving", "fixed")}


def functions(table):
    """phi moves by one column, D sums both images."""
    shift = lambda x: jnp.broadcast_to(jnp.array([0.0, 1.0]), (*x.shape[:-1], 2))  # noqa: E731
    return table(G=shift, D=lambda pair: pair.sum(-1, keepdims=True))


def test_losses_by_hand(table, context, batch, cross_entropy):
    moving, fixed = (np.asarray(batch[name], np.float64) for name in ("moving", "fixed"))
    warped = moving[:, :, [1, 2, 3, 4, 5, 5]]
    game = functions(table)
    loss, terms = method.positive_loss(PAPER)(game.nets, batch, context())
    blend = 0.2 * moving + 0.8 * fixed
    assert float(loss) == pytest.approx(cross_entropy(blend + fixed, 1), rel=1e-5)
    assert np.allclose(game.seen["D"][0], np.concatenate([blend, fixed], -1), atol=1e-6)
    loss, _ = method.negative_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(warped + fixed, 0), rel=1e-5)
    # The fixed image is the second of both pairs, the moving one is pulled by phi.
    assert np.allclose(game.seen["D"][1], np.concatenate([warped, fixed], -1), atol=1e-6)
    assert np.allclose(game.seen["G"][0], np.concatenate([moving, fixed], -1))

    loss, terms = method.generator_loss(PAPER)(game.nets, batch, context())
    # No similarity made by hand is part of it.
    assert set(terms.values) == {"smooth", "similarity"}
    assert float(terms.values["smooth"]) == 0
    assert float(loss) == pytest.approx(cross_entropy(warped + fixed, 1), rel=1e-5)


def test_blend_is_nearer_later(table, context, batch):
    later = dataclasses.replace(context(), step=jnp.int32(PAPER.steps // 2))
    for when, alpha in ((context(), 0.2), (later, 0.1)):
        _, terms = method.positive_loss(PAPER)(functions(table).nets, batch, when)
        assert float(terms.values["alpha"]) == pytest.approx(alpha)


def test_smoothness_counts_folds_tenfold_before_the_square():
    # Along rows the first component falls by 2 (a fold), by 0.5, and by exactly 1 (which folds, too).
    displacement = np.zeros((1, 4, 3, 2))
    displacement[..., 0] = np.array([0, -2, -2.5, -3.5])[None, :, None]
    rows = np.mean([20.0**2, 0.5**2, 10.0**2]) / 2  # the second component adds zeros
    assert float(smoothness_against_folding(jnp.asarray(displacement))) == pytest.approx(rows / 2, rel=1e-5)
    # To grow by as much is no fold.
    assert float(smoothness_against_folding(jnp.asarray(-displacement))) == pytest.approx(
        np.mean([4, 0.25, 1]) / 4, rel=1e-5)


def test_twin_maximises_local_cross_correlation(table, context, batch):
    config = dataclasses.replace(PAPER, smooth=3.0).twin()
    _, terms = method.generator_loss(config)(functions(table).nets, batch, context())
    moving, fixed = (np.asarray(batch[name], np.float64)[..., 0] for name in ("moving", "fixed"))
    warped = moving[:, :, [1, 2, 3, 4, 5, 5]]
    scores = []
    for a, b in zip(warped, fixed, strict=True):
        for i in range(6):
            for j in range(6):
                window = slice(max(i - 4, 0), i + 5), slice(max(j - 4, 0), j + 5)
                x, y = a[window] - a[window].mean(), b[window] - b[window].mean()
                scores.append((x * y).mean() ** 2 / ((x**2).mean() * (y**2).mean() + 1e-5))
    assert float(terms.values["similarity"]) == pytest.approx(-np.mean(scores), rel=1e-3)
    assert set(method.models(config)) == {"G"}
    same = jnp.asarray(np.random.default_rng(0).normal(size=(1, 12, 12, 1)), jnp.float32)
    assert float(local_cross_correlation(2 * same + 1, same)) == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize(("loss", "factor"), [(0.61, 1.0), (0.6, 0.1), (0.41, 0.1), (0.3, 0.01), (0.2, 0.0)])
def test_discriminator_is_held_back_while_it_is_ahead(loss, factor):
    optimizer = optax.chain(optax.sgd(1.0), scale_by_loss({0.6: 1.0, 0.4: 0.1, 0.2: 0.01}))
    state = optimizer.init(jnp.zeros(()))
    update, _ = optimizer.update(jnp.ones(()), state, jnp.zeros(()), value=jnp.float32(loss))
    assert float(update) == pytest.approx(-factor)


@pytest.fixture
def experiment(folder):
    rng = np.random.default_rng(0)
    part = {"images": rng.uniform(size=(3, 14, 16)).astype(np.float32),
            "masks": rng.integers(0, 3, (3, 14, 16)).astype(np.uint8)}
    data = dataclasses.replace(PAPER.data, source=folder(train=part, validation=part, test=part))
    return method.experiment(dataclasses.replace(PAPER, data=data, shape=(16, 16), labels=3))


def test_three_turns_a_step_and_the_rate_of_the_code(experiment, rates):
    game = experiment.stages[0]
    order = [("G", ("G",)), ("D+", ("D",)), ("D-", ("D",))]
    assert [(phase.name, phase.trains) for phase in game.phases] == order
    assert rates(game.phases[0], 3) == pytest.approx(1e-4, rel=1e-3)
    for phase in game.phases[1:]:
        state = phase.optimizer.init({"w": jnp.zeros(())})
        moved = [float(phase.optimizer.update({"w": jnp.ones(())}, state, {"w": jnp.zeros(())},
                                              value=jnp.float32(loss))[0]["w"]) for loss in (0.7, 0.5)]
        assert moved == pytest.approx([-1e-4, -1e-5], rel=1e-3)
    assert (PAPER.smooth, PAPER.alpha, PAPER.steps, PAPER.batch_size) == (1000, 0.2, 150_000, 1)


def test_judge_undoes_the_known_displacement_step_by_step(table, experiment):
    fixed = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8, 8, 1)), jnp.float32)
    moving = jnp.roll(fixed, 4, axis=2)
    truth = jnp.broadcast_to(jnp.array([0.0, 4.0]), (2, 8, 8, 2))
    game = table(D=lambda pair: -jnp.abs(pair[..., :1] - pair[..., 1:]))
    batch = {"moving": moving, "fixed": fixed, "displacement": truth}
    said = experiment.judge(game.nets, {"displacement": 0 * truth}, batch)
    assert list(said) == ["score_0", "score_0.25", "score_0.5", "score_0.75", "score_1"]
    # Aligned but for the border, which is one voxel's value.
    assert float(said["score_0"].mean()) > float(said["score_1"].mean())
    fall = experiment.metric("smallest_fall")
    means = [0.9, 0.7, 0.6, 0.5, 0.45]
    values = {name: np.array([mean]) for name, mean in zip(said, means, strict=True)}
    assert fall.summary(values) == pytest.approx(0.05)
    assert fall.summary(values | {"score_1": np.array([0.6])}) == pytest.approx(-0.1)


def test_a_folder_of_subjects_is_paired_in_every_order(experiment):
    source = experiment.stages[0].data.train.source
    assert len(source) == 6
    record = source[1]
    assert record["id"] == "train0|train2"
    # Padded to the shape that the experiment is set to.
    assert record["moving"].shape == record["fixed_mask"].shape == (16, 16, 1)
    images = np.random.default_rng(0).uniform(size=(3, 14, 16)).astype(np.float32)
    assert np.allclose(record["fixed"][1:15], images[2][..., None])


def test_registration_measures_follow_the_truth(experiment):
    labels = jnp.zeros((1, 8, 8, 1), jnp.int32).at[:, 2:6, 1:5].set(1)
    still = jnp.zeros((1, 8, 8, 2))
    moved = still.at[..., 1].set(2.0)
    points = jnp.array([[[3.0, 3.0]]])
    measured = jax.jit(lambda outputs, batch: {
        each.name: each.per_case(outputs, batch) for each in experiment.metrics[:4]})
    batch = {"moving_mask": jnp.roll(labels, 2, axis=2), "fixed_mask": labels, "fixed_landmarks": points,
             "moving_landmarks": points + jnp.array([0.0, 2.0])}
    for displacement, dice, tre in ((moved, 1.0, 0.0), (still, 0.5, 2.0)):
        found = measured({"displacement": displacement}, batch)
        assert float(found["dice"][0]) == pytest.approx(dice)
        assert float(found["tre"][0]) == pytest.approx(tre)
        assert float(found["folding"][0]) == 0
