"""AnoGAN against the paper: layers, losses by hand, the latent search and its score, no use of labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.detection import anogan
from medgan_jax.configuration import DataOptions

PAPER = anogan.Config.paper()


@pytest.fixture
def experiment(folder):
    rng = np.random.default_rng(0)
    images = rng.uniform(10, 20, (6, 64, 64)).astype(np.float32)
    images[0, 0, 0], images[0, 0, 1] = 0, 40
    masks = np.zeros((6, 64, 64), np.uint8)
    masks[3:, 8:20, 8:20] = 1
    part = {"images": images, "masks": masks}
    source = DataOptions(folder(train=part, validation=part, test=part))
    return lambda **changes: anogan.experiment(dataclasses.replace(PAPER, data=source, **changes))


def test_networks_are_the_published_tables(parameters, layer):
    networks = anogan.models(PAPER)
    generator = 100 * 8192 + 2 * 512 + sum(layer(5, a, b) for a, b in ((512, 256), (256, 128), (128, 64)))
    assert parameters(networks["G"], (1, 100)) == generator + layer(5, 64, 1, bias=True, norm=False)
    discriminator = layer(5, 1, 64, bias=True, norm=False)
    discriminator += sum(layer(5, a, b) for a, b in ((64, 128), (128, 256), (256, 512)))
    assert parameters(networks["D"], (1, 64, 64, 1)) == discriminator + 4 * 4 * 512 + 1


def test_training_losses_by_hand(table, context, cross_entropy):
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=(3, 2, 2, 1)).astype(np.float32) for _ in range(2))
    batch = {"x": jnp.asarray(x), "z": jnp.asarray(z)}
    game = table(G=lambda z: 0.5 * z, D=lambda image: image.sum((1, 2, 3))[:, None])
    loss, _ = anogan.discriminator_loss(game.nets, batch, context())
    real, fake = x.sum((1, 2, 3)), 0.5 * z.sum((1, 2, 3))
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    # Real and generated images go through D apart, so that each has its own batch statistics.
    assert [len(seen) for seen in game.seen["D"]] == [3, 3]
    assert float(anogan.generator_loss(game.nets, batch, context())[0]) == pytest.approx(
        cross_entropy(fake, 1), rel=1e-5
    )


def test_schedule_data_and_choice(experiment, rates):
    made = experiment()
    discriminator, generator = made.stages[0].phases
    assert (discriminator.trains, generator.trains) == (("D",), ("G",))
    assert rates(generator, 10) == pytest.approx(2e-4, rel=1e-4)
    assert PAPER.steps * PAPER.batch_size == 20 * 1_000_000
    assert (PAPER.latent, PAPER.search_steps, PAPER.lam) == (100, 500, 0.1)
    # Only healthy patches train; labels choose no state.
    assert len(made.stages[0].data.train.source) == 3
    assert made.select is None
    batch = made.stages[0].prepare(
        {"image": jnp.full((2, 64, 64, 1), 40.0), "mask": jnp.zeros((2, 64, 64, 1)).at[1, 0, 0].set(1)},
        jax.random.key(0),
    )
    assert float(batch["x"].max()) == 1
    assert batch["label"].tolist() == [False, True]


def test_residual_is_predicted_in_the_units_of_the_file(experiment):
    back = experiment().prediction.output_intensity
    # Values of the training patches go from 0 to 40, and those of the networks from -1 to 1.
    assert np.allclose(back.inverse(np.array([0.0, 0.5])), [0, 10])


def test_prior_is_an_option(experiment):
    batch = {"image": jnp.zeros((64, 64, 64, 1))}
    normal, uniform = (
        experiment(prior=prior).stages[0].prepare(batch, jax.random.key(0))["z"]
        for prior in ("normal", "uniform")
    )
    assert normal.shape == uniform.shape == (64, 100)
    assert abs(float(normal.std()) - 1) < 0.05
    assert float(jnp.abs(uniform).max()) < 1
    assert abs(float(uniform.std()) - 3**-0.5) < 0.02


def make_game(table):
    """G paints z on two pixels, f is an image times three; only evaluation mode is right in a search."""
    paint = lambda z: z.reshape(-1, 1, 2, 1)  # noqa: E731
    return table(
        G=paint,
        D=lambda image, features: (image.sum((1, 2, 3)), (0 * image, 3 * image)),
    )


def test_score_is_the_mixed_loss_at_the_last_latent_vector(table):
    x = jnp.asarray([[[[0.3], [-2.0]]], [[[5.0], [0.0]]]])
    config = dataclasses.replace(PAPER, latent=2, search_steps=0)
    game = make_game(table)
    found = anogan.search(config)(game.nets, {"x": x}, jax.random.key(3))
    difference = np.abs(np.asarray(x) - np.asarray(found["nearest"])).sum((1, 2, 3))
    # L_R weighs 0.9; L_D weighs 0.1, and f triples the difference.
    assert np.allclose(found["score"], (0.9 + 0.1 * 3) * difference, rtol=1e-5)
    assert np.allclose(found["residual"], np.abs(x - found["nearest"]))
    assert set(game.modes["G"] + game.modes["D"]) == {False}


def test_search_lowers_its_objective_and_finds_an_image_that_exists(table):
    x = jnp.asarray([[[[0.3], [-1.0]]], [[[0.6], [0.1]]]])
    scores = {}
    for steps in (0, 20, 500):
        config = dataclasses.replace(PAPER, latent=2, search_steps=steps)
        found = jax.jit(
            lambda config=config: anogan.search(config)(make_game(table).nets, {"x": x}, jax.random.key(3))
        )()
        scores[steps] = np.asarray(found["score"])
    assert (scores[20] < scores[0]).all()
    assert (scores[500] < scores[20]).all()
    assert (scores[500] < 0.05).all()


def test_search_leaves_the_networks_as_they_are(table):
    x = jnp.ones((1, 1, 2, 1))
    game = make_game(table)
    nets = game.nets
    anogan.search(dataclasses.replace(PAPER, latent=2, search_steps=2))(nets, {"x": x}, jax.random.key(0))
    assert nets.versions == {}
    assert nets.ledger.issued == {}


def test_best_of_the_restarts_counts(table):
    x, key = jnp.asarray([[[[2.0], [-2.0]]]]), jax.random.key(1)
    config = dataclasses.replace(PAPER, latent=2, search_steps=0, restarts=4)
    found = anogan.search(config)(make_game(table).nets, {"x": x}, key)
    starts = np.asarray(jax.random.normal(key, (4, 1, 2)))
    scores = 1.2 * np.abs(starts[:, 0] - [2, -2]).sum(1)
    assert float(found["score"][0]) == pytest.approx(scores.min(), rel=1e-5)


def test_phantom_patch_has_a_mask():
    shapes = jax.eval_shape(lambda key: anogan.phantom(key, True, size=64), jax.random.key(0))
    assert {name: leaf.shape for name, leaf in shapes.items()} == {"image": (64, 64, 1), "mask": (64, 64, 1)}
