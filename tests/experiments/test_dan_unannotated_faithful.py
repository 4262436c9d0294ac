"""DAN against the paper: who is judged against whom, losses by hand, branches, three parts of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.segmentation import dan_unannotated as dan
from medgan_jax.configuration import DataOptions

PAPER = dan.Config.paper()
rng = np.random.default_rng(0)
X, U = rng.uniform(-1, 1, (2, 3, 2, 2, 1)).astype(np.float32)
Y = np.eye(2, dtype=np.float32)[rng.integers(0, 2, (3, 2, 2))]
BATCH = {"x": jnp.asarray(X), "u": jnp.asarray(U), "y": jnp.asarray(Y)}


@pytest.fixture
def experiment(folder):
    def make(**changes):
        images = rng.uniform(0, 255, (12, 32, 32, 3)).astype(np.float32)
        labels = rng.integers(0, 9, (12, 32, 32)).astype(np.uint16)
        part = {"images": images, "labels": labels}
        source = DataOptions(folder(train=part, validation=part, test=part))
        return dan.experiment(dataclasses.replace(PAPER, size=32, annotated=5, data=source, **changes))

    return make


def logits(x):
    return jnp.concatenate([0 * x, 2 * x], axis=-1)


def segmentation(x):
    """SN on grey images: logits of the joined branches, and of each."""
    return logits(x), (logits(x), logits(-x), logits(0 * x))


def quality(x):
    """EN: a score from image and map."""
    return (x[..., 0] + 3 * x[..., -1]).sum((1, 2))[:, None]


def entropy(logits, y):
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(y * log).sum(-1).mean()


def scores(x):
    probability = 1 / (1 + np.exp(-2 * x))
    return (x + 3 * probability).sum((1, 2, 3))


def test_networks_have_the_widths_of_vgg(parameters, layer):
    networks = dan.models(PAPER)
    pairs = (
        (3, 64),
        (64, 64),
        (64, 128),
        (128, 128),
        (128, 256),
        (256, 512),
        (512, 512),
        (512, 512),
        (512, 512),
    )
    trunk = sum(layer(3, a, b) for a, b in (*pairs, (512, 1024), (1024, 1024)))
    # Each branch: 1x1 to two classes, and a transposed convolution of twice its stride, 8, 16 and 32.
    branches = sum(
        width * 2 + 2 + (2 * stride) ** 2 * 4 for width, stride in ((512, 8), (512, 16), (1024, 32))
    )
    joined = layer(3, 6, 1024) + 1024 * 2 + 2
    assert parameters(networks["SN"], (1, 480, 480, 3)) == trunk + branches + joined
    pairs = (
        (4, 64),
        (64, 64),
        (64, 128),
        (128, 256),
        (256, 256),
        (256, 512),
        (512, 512),
        (512, 512),
        (512, 512),
    )
    trunk = sum(layer(3, a, b, bias=True, norm=False) for a, b in pairs)
    dense = 15 * 15 * 512 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64 + 65
    assert parameters(networks["EN"], (1, 480, 480, 4)) == trunk + dense


def test_branches_have_the_image_size():
    image = jax.ShapeDtypeStruct((2, 480, 480, 3), jnp.float32)
    network = dan.models(PAPER)["SN"]
    (joined, branches), _ = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    assert [each.shape for each in (joined, *branches)] == 4 * [(2, 480, 480, 2)]


def test_annotated_is_judged_against_unannotated(table, context, cross_entropy):
    game = table(SN=segmentation, EN=quality)
    loss, terms = dan.evaluation_loss(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(cross_entropy(scores(X), 1) + cross_entropy(scores(U), 0), rel=1e-5)
    # What EN sees is the image beside SN's map of it, and no true mask.
    for seen, image in zip(game.seen["EN"], (X, U), strict=True):
        assert np.allclose(seen, np.concatenate([image, 1 / (1 + np.exp(-2 * image))], axis=-1), atol=1e-6)
    assert set(terms.values) == {"annotated", "unannotated"}


def test_losses_of_the_segmentation_network_by_hand(table, context, cross_entropy):
    both = lambda x: np.concatenate([0 * x, 2 * x], axis=-1)  # noqa: E731
    supervised = 2 * entropy(both(X), Y) + entropy(both(-X), Y) + entropy(both(0 * X), Y)
    game = table(SN=segmentation, EN=quality)
    loss, _ = dan.segmentation_loss(PAPER, 0.0)(game.nets, BATCH, context())
    assert float(loss) == pytest.approx(supervised, rel=1e-5)
    # The ramp is at its end when it has no length.
    config = dataclasses.replace(PAPER, ramp=1e-9)
    at_end = dataclasses.replace(context(), step=jnp.int32(1))
    loss, _ = dan.segmentation_loss(config, config.lam)(game.nets, BATCH, at_end)
    assert float(loss) == pytest.approx(supervised + 0.1 * cross_entropy(scores(U), 1), rel=1e-5)
    start, _ = dan.segmentation_loss(PAPER, PAPER.lam)(game.nets, BATCH, context())
    assert float(start) == pytest.approx(
        supervised + 0.1 * np.exp(-5) * cross_entropy(scores(U), 1), rel=1e-5
    )


def test_branches_count_a_tenth_after_ten_thousand_steps(table, context):
    game = table(SN=segmentation, EN=quality)
    later = dataclasses.replace(context(), global_step=jnp.int32(10_000))
    loss, _ = dan.segmentation_loss(PAPER, 0.0)(game.nets, BATCH, later)
    both = lambda x: np.concatenate([0 * x, 2 * x], axis=-1)  # noqa: E731
    expected = 1.1 * entropy(both(X), Y) + 0.1 * (entropy(both(-X), Y) + entropy(both(0 * X), Y))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_three_parts_and_rates(experiment, rates):
    first, judging, rounds = experiment().stages
    assert [[phase.trains for phase in stage.phases] for stage in (first, judging, rounds)] == [
        [("SN",)], [("EN",)], [("EN",), ("SN",)],
    ]  # fmt: skip
    assert first.steps + judging.steps + rounds.steps == PAPER.steps
    assert rates(judging.phases[0], 5) == pytest.approx(1e-4, rel=1e-3)


def test_annotated_and_unannotated_images_are_others(experiment):
    made = experiment()
    annotated, unannotated = made.stages[0].data.train.values()
    assert (len(annotated.source), len(unannotated.source)) == (5, 7)
    assert not set(annotated.source.ids) & set(unannotated.source.ids)
    # Of unannotated images no label is ever read.
    assert unannotated.fields == ("image",)
    image, label = np.full((2, 32, 32, 3), 9.0), np.zeros((2, 32, 32, 1), np.int32)
    label[0, 0, 0] = 7
    batch = made.stages[-1].prepare(
        {"annotated": {"image": image, "label": label}, "unannotated": image}, jax.random.key(0)
    )
    assert set(batch) == {"x", "y", "u", "labels", "glands"}
    assert batch["y"][0, 0, 0].tolist() == [0, 1]
    assert batch["y"].sum((1, 2)).tolist() == [[1023, 1], [1024, 0]]


def test_twin_only_watches(table, context):
    config = PAPER.twin()
    assert set(dan.models(config)) == {"SN", "EN"}
    game = table(SN=segmentation, EN=quality)
    _, terms = dan.segmentation_loss(config, config.lam)(game.nets, BATCH, context())
    assert set(terms.values) == {"cross_entropy"}
    assert game.seen["EN"] == []
