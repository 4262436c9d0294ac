"""End-to-end retinal synthesis against its public code: layers, joint losses by hand, pairs, codes, new pairs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.synthesis_conditional import retinal_aae_pix2pix as method
from medgan_jax.data import eyes
from medgan_jax.data.eyes import eye_data

PAPER = method.Config.paper()


def test_networks_are_the_published_tables(parameters, layer):
    networks = method.models(PAPER)
    widths = [32, 64, 128, 256, 256, 256, 256, 256]
    encoder, before = 0, 1
    for level, width in enumerate(widths):
        normed = level < 7  # the innermost maps are one pixel
        encoder += layer(3, before, width, bias=not normed, norm=normed)
        encoder += layer(3, width, width, bias=not normed, norm=normed)
        before = width
    assert parameters(networks["E"], (1, 256, 256, 1)) == encoder + 2 * (256 * 16 + 16)
    up = [256, 256, 256, 128, 64, 32]
    decoder = 17 * 16 * 256 + sum(layer(3, a, b) for a, b in zip([256, *up], up, strict=False))
    assert parameters(networks["V"], (1, 16)) == decoder + layer(3, 32, 1, bias=True, norm=False)
    # A U-Net of 3x3 convolutions down and 2x2 up, with skips; no norm in the first and the innermost layer.
    down = layer(3, 1, 32, bias=True, norm=False) + sum(
        layer(3, a, b) for a, b in ((32, 64), (64, 128), (128, 256), (256, 256), (256, 256), (256, 256)))
    down += layer(3, 256, 256, bias=True, norm=False)
    upward = layer(2, 256, 256) + sum(
        layer(2, a, b) for a, b in ((512, 256), (512, 256), (512, 256), (512, 128), (256, 64), (128, 32)))
    painter = down + upward + layer(2, 64, 3, bias=True, norm=False)
    assert parameters(networks["G"], (1, 256, 256, 1)) == painter
    pairs = ((4, 32), (32, 64), (64, 128), (128, 1))
    critic = sum(layer(3, a, b, bias=True, norm=False) for a, b in pairs)
    assert parameters(networks["D"], (1, 256, 256, 4)) == critic
    assert parameters(networks["C"], (1, 16)) == 16 * 32 + 32 + 32 + 1


def test_discriminator_scores_a_map_of_16_by_16_without_batch_statistics():
    network = method.models(PAPER)["D"]
    x = jax.ShapeDtypeStruct((1, 256, 256, 4), jnp.float32)
    scores, variables = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x, train=False), x)
    assert scores.shape == (1, 16, 16, 1)
    assert set(variables) == {"params"}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {"A": jnp.asarray(rng.integers(0, 2, (2, 4, 4, 1)), jnp.float32),
            "B": jnp.asarray(rng.uniform(-1, 1, (2, 4, 4, 3)), jnp.float32)}


def functions(table):
    """A code of three numbers, logits 2 A, a grey retina, sums as scores."""
    return table(E=lambda a: 2 * a, V=lambda code: code, G=lambda a: jnp.repeat(a - 0.5, 3, -1),
                 D=lambda pair: pair.sum(-1), C=lambda code: code.mean((1, 2, 3)))


def test_losses_by_hand(table, context, batch, cross_entropy):
    a, b = (np.asarray(batch[name], np.float64) for name in "AB")
    logits = 2 * a
    tree = 1 / (1 + np.exp(-logits))
    retina = np.repeat(tree - 0.5, 3, -1)
    real, fake = (np.concatenate(pair, -1).sum(-1) for pair in ((a, b), (tree, retina)))
    game = functions(table)
    loss, _ = method.discriminator_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(cross_entropy(real, 1) + cross_entropy(fake, 0), rel=1e-5)
    # Both halves of a fake pair are generated, and G paints round the decoded tree.
    assert np.allclose(game.seen["D"][1], np.concatenate([tree, retina], -1), atol=1e-6)
    assert np.allclose(game.seen["G"][0], tree, atol=1e-6)

    game = functions(table)
    loss, _ = method.code_loss(game.nets, batch, context())
    prior = np.asarray(jax.random.normal(context().key, a.shape)).mean((1, 2, 3))
    expected = cross_entropy(prior, 1) + cross_entropy(logits.mean((1, 2, 3)), 0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)

    heavier = dataclasses.replace(PAPER, code=20.0)
    loss, terms = method.generator_loss(heavier)(functions(table).nets, batch, context())
    by_hand = {
        "tree": 100 * -np.mean(a * np.log(tree) + (1 - a) * np.log(1 - tree)),
        "retina": 100 * np.abs(b - retina).mean(),
        "adversarial": cross_entropy(fake, 1),
        "code": 20 * cross_entropy(logits.mean((1, 2, 3)), 1),
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)


def test_new_pairs_come_from_the_prior(table):
    game = table(V=lambda z: 4 * z.reshape(-1, 2, 8, 1), G=lambda a: a - 1)
    tree, retina = method.new_pairs(PAPER, game.nets, jax.random.key(0), 400)
    z = np.asarray(jax.random.normal(jax.random.key(0), (400, 16)))
    assert np.allclose(tree.reshape(400, 16), 1 / (1 + np.exp(-4 * z)), atol=1e-5)
    assert np.allclose(retina, tree - 1)
    assert game.modes == {"V": [False], "G": [False]}


@pytest.fixture(scope="module")
def experiment():
    return method.experiment(PAPER)


def test_all_of_the_generating_networks_move_together_in_turns_of_twenty(experiment, rates):
    game, test = experiment.stages
    assert [(phase.name, phase.trains, phase.repeats) for phase in game.phases] == [
        ("D", ("D",), 20), ("C", ("C",), 20), ("G", ("E", "V", "G"), 20)]
    assert rates(game.phases[2], 5) == pytest.approx(2e-4, rel=1e-3)
    assert rates(game.phases[1], 5) == pytest.approx(1e-3, rel=1e-3)
    assert (PAPER.batch_size, PAPER.latent, PAPER.lam, PAPER.code) == (1, 16, 100, 1)
    assert PAPER.steps * PAPER.turn == 100 * 614
    # What generates is fixed while segmenters learn.
    assert {name for phase in test.phases for name in phase.trains} == {"S_real", "S_synthetic"}
    assert {"V", "G"} < set(test.networks)


def test_one_segmenter_learns_from_new_pairs_alone(table, context, batch, experiment, cross_entropy):
    real, synthetic = experiment.stages[1].phases
    score = lambda image: image[..., :1]  # noqa: E731
    game = table(V=lambda z: z[:, :1, None, None] + jnp.zeros((1, 4, 4, 1)), G=lambda a: jnp.repeat(-a, 3, -1),
                 S_real=score, S_synthetic=score)
    loss, _ = real.loss(game.nets, batch, context())
    a, b = (np.asarray(batch[name], np.float64) for name in "AB")
    one, zero = np.logaddexp(0, -b[..., :1]), np.logaddexp(0, b[..., :1])
    assert float(loss) == pytest.approx(np.mean(a * one + (1 - a) * zero), rel=1e-5)
    synthetic.loss(game.nets, {name: jnp.full_like(x, 7.0) for name, x in batch.items()}, context())
    tree = jax.nn.sigmoid(jax.random.normal(context().key, (2, 16))[:, :1, None, None])
    assert np.allclose(game.seen["S_synthetic"][0], jnp.broadcast_to(-tree, (2, 4, 4, 3)), atol=1e-6)


def test_phantoms_are_trees_and_photographs():
    data = eye_data("phantom", size=64, counts=(1, 1, 1), batch_size=1)
    eye = data.test.blank()[0]
    assert {name: eye[name].shape for name in data.fields} == {"A": (64, 64, 1), "B": (64, 64, 3)}


def test_small_draws_close_ups_and_the_paper_whole_pictures(monkeypatch):
    seen = []

    def drawn(key, size, *, sight):
        seen.append(sight)
        return {"vessel_mask": jnp.ones((size, size), bool), "image": jnp.ones((size, size, 3))}

    monkeypatch.setattr(eyes, "fundus_image", drawn)
    for config in (PAPER, method.Config.small()):
        data = eye_data("phantom", config.size, (1, 1, 1), 1, sight=config.sight)
        assert data.test[0]["B"].shape == (config.size, config.size, 3)
    assert set(seen) == {"disc", "head"}
