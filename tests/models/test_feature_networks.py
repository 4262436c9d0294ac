"""VGG's layers and taps, the substitutes that need no weights file, and the proxy task."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medgan_jax.errors import UserError
from medgan_jax.losses.perceptual import feature_l2
from medgan_jax.models import features
from medgan_jax.models.features import ROTATION, VGG, VGG19, kernel_shapes, random_features, small_vgg

TINY = ((2, 3), (4, 5))


@pytest.fixture
def taps_of(compiled):
    def run(network, x):
        return compiled(lambda x: network.module.apply(network.variables, x, train=False))(x)

    return run


def tiny(taps=("pool2",), preprocessing="none", **options):
    return VGG(taps, TINY, preprocessing, **options)


@pytest.mark.parametrize("blocks, published", [(features.VGG16, 14_714_688), (VGG19, 20_024_384)])
def test_published_parameter_counts(shapes, blocks, published):
    module = VGG(("pool5",), blocks)
    count = sum(int(np.prod(shape)) + shape[-1] for shape in kernel_shapes(module).values())
    assert count == published
    variables = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, 224, 224, 1)), train=False))["params"]
    assert {name: v["kernel"].shape for name, v in variables.items()} == kernel_shapes(module)


def test_taps_of_vgg19_have_their_published_shapes():
    module = VGG(("relu2_2", "pool4", "conv5_4"), VGG19)
    taps = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.zeros((2, 224, 224, 3)), train=False)[0])
    assert {name: tap.shape for name, tap in taps.items()} == {
        "relu2_2": (2, 112, 112, 128), "pool4": (2, 14, 14, 512), "conv5_4": (2, 14, 14, 512)}


def test_taps_are_before_and_after_relu_and_pool(taps_of):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 2)), jnp.float32)
    network = random_features(tiny(("conv1_2", "relu1_2", "pool1")), channels=2)
    taps = taps_of(network, x)
    assert float(taps["conv1_2"].min()) < 0
    np.testing.assert_array_equal(taps["relu1_2"], np.maximum(taps["conv1_2"], 0))
    blocks = np.asarray(taps["relu1_2"]).reshape(1, 4, 2, 4, 2, 3)
    np.testing.assert_array_equal(taps["pool1"], blocks.max(axis=(2, 4)))


def test_nothing_is_made_beyond_the_deepest_tap(start):
    variables = start(tiny(("relu1_2",)), jnp.zeros((1, 8, 8, 1)))
    assert set(variables["params"]) == {"conv1_1", "conv1_2"}


def test_odd_sizes_drop_the_last_row(shapes):
    module = tiny(("pool2",), resize=(9, 11))
    taps = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.zeros((1, 64, 64, 1)), train=False)[0])
    assert taps["pool2"].shape == (1, 2, 2, 5)


def test_unknown_taps_and_small_images_are_refused(shapes):
    with pytest.raises(ValueError, match=r"no layer \['relu9_1'\]"):
        shapes(tiny(("relu9_1",)), (1, 8, 8, 1))
    with pytest.raises(UserError, match="at least 4; this one is 3x8"):
        shapes(tiny(), (1, 3, 8, 1))
    with pytest.raises(ValueError, match="1 or 3 channels"):
        shapes(tiny(preprocessing="caffe"), (1, 8, 8, 2))


@pytest.mark.parametrize("preprocessing, white", [
    ("caffe", [255 - 123.68, 255 - 116.779, 255 - 103.939]),
    ("torchvision", [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])])
def test_preprocessing_of_a_white_grey_image(preprocessing, white):
    prepared = tiny(preprocessing=preprocessing).prepared(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(prepared[0, 0, 0], white, rtol=1e-5)


def test_random_features_depend_on_the_seed_only(taps_of):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 1)), jnp.float32)
    first, again, other = (random_features(tiny(), channels=1, seed=seed) for seed in (0, 0, 1))
    assert first.name == "random small vgg[pool2] seed 0"
    assert not first.published_scale
    assert jnp.array_equal(taps_of(first, x)["pool2"], taps_of(again, x)["pool2"])
    assert not jnp.array_equal(taps_of(first, x)["pool2"], taps_of(other, x)["pool2"])


def test_random_features_of_volumes(taps_of):
    network = random_features(tiny(), channels=1, rank=3)
    assert taps_of(network, jnp.ones((1, 4, 8, 8, 1)))["pool2"].shape == (1, 1, 2, 2, 5)


def test_random_features_tell_a_distorted_image_from_a_nearly_right_one(taps_of):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 16, 16, 1)).astype(np.float32)
    network = random_features(VGG(("pool2",), ((8, 8), (8, 8)), "none"), channels=1)
    near, far = (taps_of(network, x + s * rng.normal(size=x.shape).astype(np.float32)) for s in (0.01, 0.5))
    reference = taps_of(network, x)
    assert float(feature_l2(far, reference)) > 100 * float(feature_l2(near, reference))


def test_quarter_turns_say_how_they_turned():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(16, 6, 8, 1)), jnp.float32)
    turned, turns = features.quarter_turns(images, jax.random.key(0))
    assert turned.shape == (16, 6, 6, 1) and set(turns.tolist()) == {0, 1, 2, 3}
    for image, result, turn in zip(images, turned, turns, strict=True):
        np.testing.assert_array_equal(result, np.rot90(image[:, 1:7], int(turn)))


def test_class_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    value = features.class_cross_entropy(logits, jnp.array([0, 1]))
    assert value == pytest.approx(-(np.log(0.7) + np.log(0.1)) / 2, rel=1e-5)


def test_the_small_network_learns_the_proxy_task_and_its_trunk_gives_features(start, compiled):
    module = small_vgg(("pool2",), base=4)
    # A bright top half: which side is bright tells the turn.
    images = jnp.ones((16, 16, 16, 1)).at[:, 8:].set(-1.0)
    variables = start(module, images, proxy=True)
    optimizer = optax.adam(3e-3)

    @compiled
    def learn(variables):
        def step(number, carry):
            variables, state, _ = carry
            inputs, targets = ROTATION.make(images, jax.random.key(number))
            value, slope = jax.value_and_grad(
                lambda v: ROTATION.loss(module.apply(v, inputs, train=True, proxy=True), targets))(variables)
            updates, state = optimizer.update(slope, state)
            return optax.apply_updates(variables, updates), state, value

        return jax.lax.fori_loop(0, 40, step, (variables, optimizer.init(variables), 0.0))

    variables, _, value = learn(variables)
    assert float(value) < 0.5 * np.log(4)
    assert set(module.apply(variables, images[:1], train=False)) == {"pool2"}
