"""Augmentations of RefineGAN and of CT patches: what they keep, and that air is left out."""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.augmentations import tissue_crop, turned_crop
from medgan_jax.forward_models import partly_defocused


def test_turns_keep_the_size_and_the_two_channels_together():
    image = np.arange(256, dtype=np.float32).reshape(16, 16, 1)
    record = {"image": np.concatenate([image, 2 * image], axis=-1), "id": "a"}
    change, random = turned_crop(16, 4 / 16), np.random.default_rng(0)
    results = [change(record, random)["image"] for _ in range(20)]
    assert {each.shape for each in results} == {(16, 16, 2)}
    assert all(np.allclose(each[..., 1], 2 * each[..., 0], rtol=1e-5) for each in results)
    assert len({float(each[0, 0, 0]) for each in results}) > 4


def test_without_a_cut_values_are_only_moved():
    record = {"image": np.random.default_rng(0).normal(size=(8, 8, 1)).astype(np.float32), "id": "a"}
    result = turned_crop(8, 0.0)(record, np.random.default_rng(1))["image"]
    assert np.array_equal(np.sort(result, axis=None), np.sort(record["image"], axis=None))


def test_patches_are_pairs_and_not_of_air_where_there_is_tissue():
    target = np.full((32, 32, 1), -1000, np.float32)
    target[16:, 16:] = 0
    record = {"image": target + 7, "target": target, "id": "a"}
    change, random = tissue_crop(8, least=-600.0), np.random.default_rng(0)
    patches = [change(record, random) for _ in range(30)]
    assert all(np.array_equal(patch["image"], patch["target"] + 7) for patch in patches)
    assert np.mean([patch["target"].mean() >= -600 for patch in patches]) > 0.6
    empty = {"image": target * 0 - 1000, "target": target * 0 - 1000, "id": "b"}
    assert change(empty, random)["target"].shape == (8, 8, 1)


def test_a_part_of_each_image_is_blurred_and_the_rest_is_not():
    images = jax.random.normal(jax.random.key(0), (6, 32, 32, 1))
    changed = jax.jit(lambda x: partly_defocused(x, jax.random.key(1), deviations=(1.0, 3.0)))(images)
    rough = [np.abs(np.diff(np.asarray(x)[..., 0], axis=2)) for x in (images, changed)]
    for before, after in zip(*rough, strict=True):
        windows = [each[:, :24].reshape(4, 8, 4, 6).mean((1, 3)) for each in (before, after)]
        share = windows[1] / windows[0]
        assert share.min() < 0.5
        assert share.max() > 0.8
    assert bool(jnp.isfinite(changed).all())
