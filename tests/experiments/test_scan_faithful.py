"""SCAN against the paper: tiny networks, losses by hand, a critic of whole masks, training in three parts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.segmentation import scan
from medgan_jax.configuration import DataOptions
from medgan_jax.game import Context

PAPER = scan.Config.paper()
rng = np.random.default_rng(0)
Y = np.eye(4, dtype=np.float32)[rng.integers(0, 4, (3, 4, 4))]
LOGITS = rng.normal(size=(3, 4, 4, 4)).astype(np.float32)
BATCH = {"x": jnp.zeros((3, 4, 4, 1)), "y": jnp.asarray(Y)}


@pytest.fixture
def experiment(folder):
    def make(channels=1, **changes):
        images = rng.uniform(0, 200, (4, 32, 32)).astype(np.float32)
        masks = rng.integers(0, 4, (4, 32, 32)).astype(np.uint8)
        if channels > 1:
            masks = np.stack([masks == number for number in range(1, channels + 1)], axis=-1).astype(np.uint8)
        part = {"images": images, "masks": masks}
        source = DataOptions(folder(train=part, validation=part, test=part))
        return scan.experiment(dataclasses.replace(PAPER, size=32, data=source, **changes))

    return make


def test_networks_are_as_small_as_the_paper_says(parameters):
    networks = scan.models(PAPER)
    # 271 and 258 thousand are the paper's, as recalled.
    assert parameters(networks["S"], (1, 400, 400, 1)) == pytest.approx(271e3, rel=0.03)
    assert parameters(networks["D"], (1, 400, 400, 4)) == pytest.approx(258e3, rel=0.03)


def test_segmentor_halves_four_times_and_comes_back(parameters):
    networks = scan.models(PAPER)
    image = jax.ShapeDtypeStruct((2, 400, 400, 1), jnp.float32)
    output, variables = jax.eval_shape(
        lambda x: networks["S"].init_with_output(jax.random.key(0), x, train=False), image
    )
    assert output.shape == (2, 400, 400, 4)
    # From 25 x 25 by one transposed convolution of stride 16.
    assert variables["params"]["enlarge"]["kernel"].shape == (32, 32, 4, 4)
    kernels = [variables["params"][f"block_{n}"]["first"]["conv"]["kernel"].shape[0] for n in range(5)]
    assert kernels == [1, 3, 1, 3, 1]


def entropy(logits, y):
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(y * log).sum(-1).mean()


def test_losses_by_hand(table, context, cross_entropy):
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    score = lambda mask: 2 * mask[..., 1].sum((1, 2))[:, None]  # noqa: E731
    game = table(S=lambda x: jnp.asarray(LOGITS), D=score)
    real, fake = (2 * mask[..., 1].sum((1, 2)) for mask in (Y, probability))
    loss, _ = scan.critic_loss(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    # Masks alone, of four classes, no image.
    assert [seen.shape for seen in game.seen["D"]] == [(3, 4, 4, 4)] * 2
    assert np.allclose(game.seen["D"][1].sum(-1), 1)
    loss, _ = scan.segmentor_loss(PAPER)(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(entropy(LOGITS, Y) + 0.01 * cross_entropy(fake, 1), rel=1e-5)
    loss, _ = scan.pretraining_loss(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(entropy(LOGITS, Y), rel=1e-5)


def test_three_parts_and_turns_of_five(experiment, rates):
    first, game = experiment().stages
    assert [phase.name for phase in first.phases] == ["S"]
    assert set(first.networks) == {"S"}
    assert first.steps + game.steps == PAPER.steps
    critic, segmentor = game.phases
    played = lambda phase, step: bool(phase.when(Context(step, step, jax.random.key(0))))  # noqa: E731
    alone = PAPER.critic_first
    assert all(played(critic, step) and not played(segmentor, step) for step in range(0, alone, 50))
    turns = [played(segmentor, alone + step) for step in range(20)]
    assert turns == 2 * (5 * [False] + 5 * [True])
    assert rates(segmentor, 5) == pytest.approx(2e-4, rel=1e-4)


def test_twin_makes_as_many_steps_of_the_segmentor(experiment):
    (stage,) = experiment(lam=0.0).stages
    assert set(stage.networks) == {"S"}
    game = PAPER.steps - PAPER.pretraining - PAPER.critic_first
    assert stage.steps == PAPER.pretraining + game // 2


@pytest.mark.parametrize("channels", [1, 5])
def test_images_are_standardised_and_masks_become_classes(experiment, channels):
    stage = experiment(channels).stages[-1]
    record = stage.data.test[0]
    batch = stage.prepare({name: record[name][None] for name in ("image", "mask")}, jax.random.key(0))
    assert float(batch["x"].mean()) == pytest.approx(0, abs=1e-4)
    assert float(batch["x"].std()) == pytest.approx(1, abs=1e-4)
    assert batch["y"].shape == (1, 32, 32, 4)
    assert (batch["y"].sum(-1) == 1).all()
    assert batch["y"][0, ..., 1:].sum() == (record["mask"] > 0).sum()
