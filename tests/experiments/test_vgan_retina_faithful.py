"""V-GAN against its code: U-Net, four fields of view, losses by hand, rounds, standardised photographs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.segmentation import vgan_retina as vgan
from medgan_jax.configuration import DataOptions
from medgan_jax.game import Context
from medgan_jax.models.pooling_discriminator import vgan_discriminator

PAPER = vgan.Config.paper()
rng = np.random.default_rng(0)
X = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
Y = rng.integers(0, 2, (2, 4, 4, 1)).astype(np.float32)
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}


@pytest.fixture
def experiment(folder):
    def make(**changes):
        images = rng.uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
        images[0, 0, 0, 0], images[..., :8, :, :] = 255, 0
        masks = rng.integers(0, 2, (4, 64, 64)).astype(np.uint8)
        part = {"images": images, "vessels": masks, "field_of_view": 1 - masks}
        source = DataOptions(folder(train=part, validation=part, test=part))
        return vgan.experiment(dataclasses.replace(PAPER, size=64, data=source, **changes))

    return make


def test_segmentor_is_the_published_unet(parameters, layer):
    down = (
        (3, 32),
        (32, 32),
        (32, 64),
        (64, 64),
        (64, 128),
        (128, 128),
        (128, 256),
        (256, 256),
        (256, 512),
        (512, 512),
    )
    up = (768, 256), (256, 256), (384, 128), (128, 128), (192, 64), (64, 64), (96, 32), (32, 32)
    expected = sum(layer(3, a, b) for a, b in down + up) + 33
    assert parameters(vgan.models(PAPER)["S"], (1, 640, 640, 3)) == expected


@pytest.mark.parametrize(
    "field, output",
    [("pixel", (640, 640, 1)), ("patch1", (80, 80, 1)), ("patch2", (10, 10, 1)), ("image", (1,))],
)
def test_four_fields_of_view(field, output):
    network = vgan.models(dataclasses.replace(PAPER, discriminator=field))["D"]
    image = jax.ShapeDtypeStruct((1, 640, 640, 4), jnp.float32)
    scores, variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    assert scores.shape == (1, *output)
    # Only the pixel discriminator has no batch normalisation.
    assert ("batch_stats" in variables) == (field != "pixel")


def test_fields_of_view_grow():
    seen = [vgan_discriminator(field).receptive_field for field in ("pixel", "patch1", "patch2", "image")]
    assert seen == [7, 61, 537, 537]


def score(x):
    return x.sum((1, 2, 3))[:, None]


def test_losses_by_hand(table, context, cross_entropy):
    game = table(S=lambda x: 2 * x[..., :1], D=score)
    logits = 2 * X[..., :1]
    probability = 1 / (1 + np.exp(-logits))
    real, fake = ((X.sum((1, 2, 3)) + mask.sum((1, 2, 3))) for mask in (Y, probability))
    loss, _ = vgan.discriminator_loss(game.nets, BATCH, context())
    expected = (cross_entropy(real, 1) + cross_entropy(fake, 0)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    # Photograph beside vessels, drawn and predicted in one batch.
    (seen,) = game.seen["D"]
    assert np.allclose(
        seen, np.concatenate([np.concatenate([X, mask], -1) for mask in (Y, probability)]), atol=1e-6
    )
    loss, _ = vgan.segmentor_loss(PAPER)(game.nets, BATCH, context())
    pixels = np.mean(np.logaddexp(0, logits) - Y * logits)
    assert float(loss) == pytest.approx(pixels + cross_entropy(fake, 1) / 10, rel=1e-5)


def test_rounds_of_whole_epochs(experiment, rates):
    stage = experiment(discriminator="patch1").stages[0]
    discriminator, segmentor = stage.phases
    played = lambda phase, step: bool(phase.when(Context(step, step, jax.random.key(0))))  # noqa: E731
    for step in (0, 4559, 2 * 4560, 19 * 4560 - 1):
        assert played(discriminator, step) and not played(segmentor, step)
    for step in (4560, 2 * 4560 - 1, 19 * 4560, 20 * 4560 - 1):
        assert played(segmentor, step) and not played(discriminator, step)
    assert stage.steps == 20 * 4560
    # 20 images, mirrored, at 120 angles, of which 5 % validate.
    assert PAPER.epoch == 20 * 2 * 120 * 0.95
    assert rates(segmentor, 3) == pytest.approx(2e-4, rel=1e-4)


def test_twin_makes_as_many_steps_of_the_segmentor(experiment):
    (stage,) = experiment(adversarial=0.0).stages
    assert set(stage.networks) == {"S"}
    assert stage.steps == PAPER.steps // 2


def test_photographs_are_standardised_over_what_is_bright(experiment):
    stage = experiment(discriminator="patch1").stages[0]
    record = stage.data.test[1]
    batch = stage.prepare({name: record[name][None] for name in stage.data.fields}, jax.random.key(0))
    x, bright = np.asarray(batch["x"][0]), record["image"][..., 0] > 40
    assert 0 < bright.mean() < 1
    assert np.allclose(x[bright].mean(0), 0, atol=1e-4)
    assert np.allclose(x[bright].std(0), 1, atol=1e-4)


def test_values_are_measured_within_the_field_of_view(experiment):
    made = experiment(discriminator="patch1")
    inside = np.zeros((1, 8, 8, 1), np.float32)
    inside[0, :4] = 1
    y, probability = np.zeros((2, 1, 8, 8, 1), np.float32)
    y[0, 0], probability[0, 0], probability[0, 4:] = 1, 0.9, 1.0
    values = made.metric("roc").per_case({"probability": probability}, {"y": y, "inside": inside})
    for name in ("roc", "pr_auc"):
        assert made.metric(name).summary(values) == 1
    threshold = made.metric("dsc").calibrate(values)
    assert 0 < threshold <= 0.9
    assert made.metric("dsc").summary(values, threshold) == 1
