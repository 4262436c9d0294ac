"""SegAN against paper and code: layers, the multi-scale loss by hand, masked images, clipping."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.segmentation import segan
from medgan_jax.configuration import DataOptions

PAPER = segan.Config.paper()
rng = np.random.default_rng(0)
X = rng.uniform(0, 1, (2, 4, 4, 3)).astype(np.float32)
Y = rng.integers(0, 2, (2, 4, 4, 3)).astype(np.float32)
LOGITS = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}


@pytest.fixture
def experiment(folder):
    images = rng.uniform(0, 50, (4, 180, 180, 3)).astype(np.float32)
    masks = np.tile(np.arange(4).repeat(45), (4, 180, 1)).astype(np.uint8)
    part = {"images": images, "masks": masks}
    source = DataOptions(folder(train=part, validation=part, test=part))
    return lambda **changes: segan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_those_of_brats(parameters, layer):
    networks = segan.models(PAPER)
    encoder = 16 * 3 * 64 + sum(layer(4, a, b) for a, b in ((64, 128), (128, 256), (256, 512)))
    decoder = sum(layer(3, a, b) for a, b in ((512, 256), (256, 128), (128, 64)))
    head = layer(3, 64, 3, bias=True, norm=False)
    assert parameters(networks["S"], (1, 160, 160, 3)) == encoder + decoder + head
    # Three masks of three channels; no bias, no normalisation in the first layer.
    critic = 16 * 9 * 64 + layer(4, 64, 128) + layer(4, 128, 256)
    assert parameters(networks["C"], (1, 160, 160, 9)) == critic


def features(x):
    """A critic of two levels: the masked image and a tenth of its blocks' sums."""
    return x, 0.1 * x.reshape(len(x), 2, 2, 2, 2, -1).sum((2, 4))


def distance(x, probability, y):
    """The mean over levels of the mean absolute difference, in NumPy."""
    difference = x[..., None] * (probability - y)[:, :, :, None]
    sums = 0.1 * difference.reshape(2, 2, 2, 2, 2, 3, 3).sum((2, 4))
    return (np.abs(difference).mean() + np.abs(sums).mean()) / 2


def test_losses_by_hand(table, context):
    expected = distance(X, 1 / (1 + np.exp(-LOGITS)), Y)
    game = table(S=lambda x: jnp.asarray(LOGITS), C=features)
    s_loss, terms = segan.segmentor_loss(PAPER)(game.nets, BATCH, context())
    assert float(s_loss) == pytest.approx(expected, rel=1e-5)
    # Nothing but the distance, no cross-entropy, no Dice.
    assert set(terms.values) == {"multi_scale"}
    c_loss, _ = segan.critic_loss(game.nets, BATCH, context())
    assert float(c_loss) == pytest.approx(-expected, rel=1e-5)


def test_critic_sees_image_times_mask_of_all_structures(table, context):
    game = table(S=lambda x: jnp.asarray(LOGITS), C=features)
    segan.critic_loss(game.nets, BATCH, context())
    predicted, true = game.seen["C"]
    assert predicted.shape == true.shape == (2, 4, 4, 9)
    for k in range(3):
        assert np.allclose(true[..., 3 * k : 3 * k + 3], X * Y[..., k, None])


def test_distance_is_zero_for_a_perfect_segmentation(table, context):
    game = table(S=lambda x: 1e4 * (2 * jnp.asarray(Y) - 1), C=features)
    loss, _ = segan.critic_loss(game.nets, BATCH, context())
    assert float(loss) == 0


def test_turns_clipping_and_rates(experiment):
    made = experiment()
    critic, segmentor = made.stages[0].phases
    assert (critic.trains, segmentor.trains) == (("C",), ("S",))
    clipped = critic.project({"C": {"kernel": jnp.array([-3.0, 0.01, 0.2]), "scale": jnp.ones(1)}})
    assert jnp.allclose(clipped["C"]["kernel"], jnp.array([-0.05, 0.01, 0.05]))
    assert float(clipped["C"]["scale"][0]) == pytest.approx(0.05)
    assert segmentor.project is None
    assert (PAPER.learning_rate, PAPER.batch_size, PAPER.clip) == (2e-5, 64, 0.05)


def test_structures_contain_each_other_and_crops_have_their_size(experiment):
    made = experiment()
    cases = made.stages[0].data
    assert cases.validation[0]["image"].shape == (160, 160, 3)
    record = cases.train.augment(cases.train.source[0], np.random.default_rng(0))
    assert record["image"].shape == (160, 160, 3)
    assert record["mask"].shape == (160, 160, 1)
    held = cases.validation[0]
    batch = made.stages[0].prepare(
        {"image": held["image"][None], "mask": held["mask"][None]}, jax.random.key(0)
    )
    whole, core, enhancing = (batch["y"][..., k].sum() for k in range(3))
    assert whole > core > enhancing > 0
    assert float(batch["x"].max()) == pytest.approx(1)


def test_twin_is_the_segmentor_with_soft_dice(table, context):
    config = PAPER.twin()
    assert set(segan.models(config)) == {"S"}
    probability = 1 / (1 + np.exp(-LOGITS))
    game = table(S=lambda x: jnp.asarray(LOGITS))
    loss, _ = segan.segmentor_loss(config)(game.nets, BATCH, context())
    sums = (probability * Y).sum((1, 2)), (probability**2).sum((1, 2)), (Y**2).sum((1, 2))
    assert float(loss) == pytest.approx(np.mean(1 - 2 * sums[0] / (sums[1] + sums[2])), rel=1e-4)
