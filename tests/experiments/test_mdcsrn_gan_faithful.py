"""mDCSRN-GAN against the paper and its replications: channels of every joint, losses by hand, turns."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reconstruction import mdcsrn_gan
from medgan_jax.data.volumes import open_coarse_volumes
from medgan_jax.review.learning import RECORDS

PAPER = mdcsrn_gan.Config.paper()


def kernels(module, shape):
    """Shapes of all kernels by name, without computing."""
    variables = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False), jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


def test_generator_is_b4u4_with_links_between_blocks():
    shapes = kernels(mdcsrn_gan.models(PAPER)["G"], (1, 64, 64, 64, 1))
    assert shapes["first/kernel"] == (3, 3, 3, 1, 32)
    for block in range(4):
        assert [shapes[f"block_{block}/conv_{unit}/kernel"] for unit in range(4)] == [
            (3, 3, 3, 32 + 16 * unit, 16) for unit in range(4)
        ]
    # First maps and block outputs of 32 + 4 * 16 channels: 128, 224, 320, and 416 in front of the image.
    for number, joined in ((1, 128), (2, 224), (3, 320)):
        assert shapes[f"compressor_{number}/kernel"] == (1, 1, 1, joined, 32)
    assert shapes["head/kernel"] == (1, 1, 1, 416, 1)
    # No bias in the convolutions: the only ones are those of the sixteen batch norms.
    assert sum(name.endswith("bias") for name in shapes) == 16


def test_generator_is_linear_at_its_end_and_adds_no_image():
    module = mdcsrn_gan.models(mdcsrn_gan.Config.tiny())["G"]

    @jax.jit
    def without_its_head(x):
        variables = module.init(jax.random.key(0), x, train=False)
        head = {"kernel": 0 * variables["params"]["head"]["kernel"]}
        return module.apply({**variables, "params": {**variables["params"], "head": head}}, x, train=False)

    assert float(jnp.abs(without_its_head(jnp.ones((1, 8, 8, 8, 1)))).max()) == 0


def test_activation_is_elu():
    import flax.linen as nn

    assert mdcsrn_gan.models(PAPER)["G"].activation is nn.elu


def test_critic_is_srgans_in_3d_with_layer_norm():
    critic = mdcsrn_gan.models(PAPER)["D"]
    shapes = kernels(critic, (1, 64, 64, 64, 1))
    widths = [64, 64, 128, 128, 256, 256, 512, 512]
    convs = [shapes[f"layer_{number}/conv/kernel"] for number in range(8)]
    assert convs == [(3, 3, 3, a, b) for a, b in zip([1, *widths[:-1]], widths, strict=True)]
    assert shapes["hidden/kernel"] == (4 * 4 * 4 * 512, 1024)
    assert shapes["head/kernel"] == (1024, 1)
    assert critic.norm == "layer"
    assert "layer_0/norm/scale" not in shapes
    variables = jax.eval_shape(
        lambda x: critic.init(jax.random.key(0), x, train=False),
        jax.ShapeDtypeStruct((1, 64, 64, 64, 1), jnp.float32),
    )
    # The penalty is of each case: nothing is normalised over the batch.
    assert set(variables) == {"params"}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.normal(size=(2, 4, 4, 4, 1)), jnp.float32) for name in ("low", "image")}


def test_losses_by_hand(table, context, batch):
    weights = np.random.default_rng(1).normal(size=(4, 4, 4, 1))
    weights *= 2 / np.linalg.norm(weights)
    game = table(G=lambda x: 0.5 * x, D=lambda image: (image * weights).sum((1, 2, 3, 4))[:, None])
    x, y = (np.asarray(batch[name], np.float64) for name in ("low", "image"))
    score = {
        name: (image * weights).sum((1, 2, 3, 4)).mean() for name, image in (("fake", 0.5 * x), ("real", y))
    }

    loss, _ = mdcsrn_gan.pretraining_loss(game.nets, batch, context())
    assert float(loss) == pytest.approx(np.abs(y - 0.5 * x).mean(), rel=1e-5)
    loss, terms = mdcsrn_gan.discriminator_loss(PAPER)(game.nets, batch, context())
    # The slope of D is 2 everywhere.
    assert float(terms.values["penalty"]) == pytest.approx(10.0, rel=1e-4)
    assert float(loss) == pytest.approx(score["fake"] - score["real"] + 10, rel=1e-4)
    for kind, error in (("l1", np.abs(y - 0.5 * x).mean()), ("l2", ((y - 0.5 * x) ** 2).mean())):
        config = dataclasses.replace(PAPER, pixel=kind)
        loss, _ = mdcsrn_gan.generator_loss(config)(game.nets, batch, context())
        assert float(loss) == pytest.approx(error - 0.001 * score["fake"], rel=1e-4)


def test_turns_are_the_critics_first_then_seven_to_one_with_pauses(context, monkeypatch):
    monkeypatch.setattr(mdcsrn_gan, "coarse_heads", lambda source, **options: None)
    for_d, for_g = (phase.when for phase in mdcsrn_gan.experiment(PAPER).stages[-1].phases)
    contexts = dataclasses.replace(context(), step=jnp.arange(10_000 + 2100))
    turns = np.asarray(for_g(contexts))
    assert (np.asarray(for_d(contexts)) != turns).all()
    assert not turns[:10_000].any()
    cycle = turns[10_000:].reshape(3, 700)
    assert not cycle[:, 500:].any()
    assert cycle[:, :500].sum(1).tolist() in ([62, 63, 62], [62, 62, 63], [63, 62, 62])
    assert np.diff(np.flatnonzero(cycle[0, :500])).tolist() == [8] * 61


def test_stages_and_rates_are_the_published_ones(monkeypatch, rates):
    monkeypatch.setattr(mdcsrn_gan, "coarse_heads", lambda source, **options: None)
    first, game = mdcsrn_gan.experiment(PAPER).stages
    assert (first.steps, game.steps) == (500_000, 550_000)
    assert [sorted(stage.networks) for stage in (first, game)] == [["G"], ["D", "G"]]
    assert rates(first.phases[0], 5) == pytest.approx(1e-4, rel=1e-3)
    assert rates(game.phases[0], 5) == pytest.approx(5e-6, rel=1e-3)
    assert [phase.trains for phase in game.phases] == [("D",), ("G",)]
    assert (PAPER.batch_size, PAPER.patch, PAPER.rim, PAPER.adversarial) == (2, 64, 3, 0.001)
    # The twin is the network of the first stage alone.
    assert [stage.name for stage in mdcsrn_gan.experiment(PAPER.twin()).stages] == ["pretraining"]


def test_degradation_keeps_the_middle_of_two_axes_of_k_space(folder):
    volumes = np.random.default_rng(0).uniform(0, 7, (2, 8, 12, 10)).astype(np.float32)
    source = folder(train=volumes[..., None], validation=volumes[..., None], test=volumes[..., None])
    parts = open_coarse_volumes(
        source, None, name="", counts=(1, 1, 1), size=(6, 8, 10), factor=2, axes=(-3, -2)
    )
    record = parts.train[0]
    high, low = (record[name][..., 0] for name in ("image", "low"))
    assert high.shape == low.shape == (6, 8, 10)
    assert high.max() == pytest.approx(1)
    kept = np.abs(np.fft.fftshift(np.fft.fft2(low, axes=(1, 2)), (1, 2)))
    outside = np.ones((8, 10), bool)
    # A real volume has the mirror of the band's first row, too.
    outside[2:7, 3:8] = False
    assert kept[:, outside].max() < 1e-3
    # In the middle of the spectrum nothing is lost, but for the real part of its border.
    difference = np.fft.fftshift(np.fft.fft2(low - high, axes=(1, 2)), (1, 2))[:, 3:6, 4:7]
    assert np.abs(difference).max() < 1e-3


def test_the_recorded_first_stage_is_half_a_decibel_above_zero_filling():
    # It is the twin, which no `Bound` has on its left side.
    record = json.loads((RECORDS / "mdcsrn_gan.json").read_text())
    assert record["twin"]["metrics"]["psnr"]["mean"] >= record["baseline"]["psnr"]["mean"] + 0.5
