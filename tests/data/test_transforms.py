"""Transforms: image and labels move together, and each does what its words say."""

import time

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize as skimage_resize

from medgan_jax.data import transforms
from medgan_jax.errors import UserError


def smooth(size, seed=0):
    noise = np.random.default_rng(seed).normal(size=size)
    values = ndimage.gaussian_filter(noise, 3, mode="wrap")
    return (values / np.abs(values).max()).astype(np.float32)


def record(size=(40, 48), channels=1):
    """An image whose sign is its label, two targets and things that lie on no grid."""
    image = np.stack([smooth(size)] * channels, axis=-1)
    return {
        "image": image,
        "mask": (image[..., :1] > 0).astype(np.int32),
        "target": 2 * image,
        "label": np.int32(3),
        "thumbnail": np.ones((4, 4, 1), np.float32),
        "id": "a",
    }


AUGMENTATIONS = {
    "flip": lambda r, g: transforms.flip(r, g, probability=1.0),
    "quarter_turns": transforms.quarter_turns,
    "affine": lambda r, g: transforms.affine(r, g, rotation=30, shift=0.1, zoom=(0.8, 1.2)),
    "elastic": lambda r, g: transforms.elastic(r, g, alpha=60, sigma=4),
    "random_crop": lambda r, g: transforms.random_crop(r, g, [s // 2 for s in r["image"].shape[:-1]]),
}


@pytest.mark.parametrize("size", [(40, 48), (8, 40, 48)])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_fields_move_together(name, size):
    before = record(size)
    kept = {key: np.copy(value) for key, value in before.items()}
    after = AUGMENTATIONS[name](before, np.random.default_rng(1))
    assert after["image"].shape[-1] == 1 and after["image"].ndim == len(size) + 1
    np.testing.assert_allclose(after["target"], 2 * after["image"], atol=1e-5)
    clear = np.abs(after["image"]) > 0.15
    agreement = (after["mask"] == (after["image"] > 0))[clear].mean()
    assert clear.mean() > 0.2 and agreement > 0.99
    for field in ("image", "mask", "target"):
        assert after[field].dtype == before[field].dtype and after[field].shape == after["image"].shape
    assert not np.array_equal(after["image"], before["image"])
    assert after["label"] == 3 and after["id"] == "a" and after["thumbnail"] is before["thumbnail"]
    for key, value in kept.items():
        np.testing.assert_array_equal(before[key], value)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_decides(name):
    one, same, other = (
        AUGMENTATIONS[name](record(), np.random.default_rng(seed))["image"] for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert name == "flip" or not np.array_equal(one, other)


def test_flip_axes():
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    random = np.random.default_rng(0)
    for axis, expected in ((-2, image[:, :, ::-1]), (-3, image[:, ::-1]), (-4, image[::-1])):
        flipped = transforms.flip({"image": image}, random, axis=axis, probability=1.0)["image"]
        np.testing.assert_array_equal(flipped, expected)
    assert transforms.flip({"image": image}, random, probability=0.0)["image"] is image


def test_affine_without_extent_is_the_identity():
    before = record()
    after = transforms.affine(before, np.random.default_rng(0))
    np.testing.assert_allclose(after["image"], before["image"], atol=1e-6)
    np.testing.assert_array_equal(after["mask"], before["mask"])


class Fixed:
    """A generator that draws the upper end of each range."""

    def uniform(self, low, high, size=None):
        return high if size is None else np.full(size, high)


def test_affine_turns_shifts_and_magnifies_as_it_says():
    image = np.zeros((41, 41, 1), np.float32)
    image[20, 30] = 1
    turned = transforms.affine({"image": image}, Fixed(), rotation=90)["image"]
    assert np.unravel_index(turned.argmax(), (41, 41)) in {(10, 20), (30, 20)}
    shifted = transforms.affine({"image": image}, Fixed(), shift=5 / 41)["image"]
    assert np.unravel_index(shifted.argmax(), (41, 41)) == (25, 35)
    blob = np.pad(np.ones((11, 11, 1), np.float32), ((15, 15), (15, 15), (0, 0)))
    larger = transforms.affine({"image": blob}, Fixed(), zoom=(1.0, 2.0))["image"]
    assert larger.sum() == pytest.approx(4 * blob.sum(), rel=0.05)


def test_what_comes_from_outside_is_filled():
    before = {"image": np.full((8, 8, 1), 7.0, np.float32), "mask": np.ones((8, 8, 1), np.int32)}
    for fill, expected in ((-1000.0, -1000.0), ("nearest", 7.0)):
        after = transforms.affine(before, Fixed(), shift=0.5, fill=fill)
        assert after["image"][0, 0, 0] == expected
    assert transforms.affine(before, Fixed(), shift=0.5, fill=-1000.0)["mask"].min() == 0


@pytest.mark.parametrize(("size", "sigma"), [((40, 57), 3.0), ((30, 20), 25.5), ((12, 20, 30), 4.0)])
def test_elastic_is_the_published_deformation(size, sigma):
    image = smooth(size)
    after = transforms.elastic({"image": image[..., None]}, np.random.default_rng(5), alpha=50, sigma=sigma)
    random = np.random.default_rng(5)
    places = np.indices(size, np.float64)
    for axis in range(len(size)):
        noise = random.random(size, np.float32) * 2 - 1
        places[axis] += 50 * ndimage.gaussian_filter(noise.astype(np.float64), sigma, mode="constant")
    expected = ndimage.map_coordinates(image, places, order=1, mode="nearest")
    np.testing.assert_allclose(after["image"][..., 0], expected, atol=1e-4)


def test_gamma_is_a_power_on_its_span():
    values = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6, 1)
    after = transforms.gamma({"image": values, "mask": values}, Fixed(), 0.5, span=(-1, 1))
    np.testing.assert_allclose(after["image"], ((values + 1) / 2) ** 1.5 * 2 - 1, atol=1e-6)
    assert after["mask"] is values


@pytest.mark.parametrize("size", [(20, 24), (31, 17), (80, 96), (60, 24)])
def test_resize_agrees_with_scikit_image(size):
    image = smooth((40, 48))
    after = transforms.resize({"image": image[..., None]}, size)["image"][..., 0]
    expected = skimage_resize(image, size, order=1, mode="edge", anti_aliasing=True)
    np.testing.assert_allclose(after, expected, atol=2e-3)


def test_resize_of_labels_and_volumes():
    before = record((10, 20, 30))
    before["mask"] = before["mask"] * 200
    after = transforms.resize(before, (5, 20, 15))
    assert after["image"].shape == after["mask"].shape == (5, 20, 15, 1)
    assert set(np.unique(after["mask"])) == {0, 200}
    assert transforms.resize(before, (10, 20, 30)) is before
    with pytest.raises(UserError, match=r"'a' has size \(10, 20, 30\)"):
        transforms.resize(before, (5, 5))


def test_crops_and_padding():
    before = record((10, 12))
    middle = transforms.centre_crop(before, (4, 6))
    np.testing.assert_array_equal(middle["image"], before["image"][3:7, 3:9])
    around = transforms.pad(before, (15, 12))
    np.testing.assert_array_equal(transforms.centre_crop(around, (10, 12))["mask"], before["mask"])
    assert around["image"][0, 0, 0] == before["image"].min() and around["mask"][0, 0, 0] == 0
    assert transforms.pad(before, (5, 5)) is before
    for crop in (transforms.centre_crop, lambda r, s: transforms.random_crop(r, np.random.default_rng(0), s)):
        with pytest.raises(
            UserError, match=r"'a' has size \(10, 12\), too small for a crop of \(16, 6\): pad"
        ):
            crop(before, (16, 6))


def test_random_crops_reach_every_place():
    image = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 4, 1), np.float32)
    random = np.random.default_rng(0)
    starts = {transforms.random_crop({"image": image}, random, (3, 4))["image"][0, 0, 0] for _ in range(60)}
    assert starts == {0.0, 1.0, 2.0}


def test_channels():
    red = np.zeros((2, 2, 4), np.float32)
    red[..., 0], red[..., 3] = 100, 255
    grey = transforms.grey({"image": red})["image"]
    np.testing.assert_allclose(grey, np.full((2, 2, 1), 29.9), rtol=1e-6)
    assert transforms.colour({"image": red})["image"].shape == (2, 2, 3)
    np.testing.assert_array_equal(transforms.colour({"image": grey})["image"], np.repeat(grey, 3, -1))


def test_named_fields_alone():
    before = record()
    after = transforms.flip(before, np.random.default_rng(0), probability=1.0, fields=("target",))
    assert after["image"] is before["image"] and not np.array_equal(after["target"], before["target"])


def dagan(record, random):
    """The augmentation of DAGAN (Yang et al., IEEE TMI 2018)."""
    record = transforms.flip(record, random)
    record = transforms.elastic(record, random, alpha=765, sigma=25.5)
    record = transforms.affine(record, random, rotation=10, shift=0.1, zoom=(0.9, 1.1))
    return transforms.gamma(record, random, 0.05, span=(-1, 1))


def test_a_published_augmentation_is_four_lines_and_fast():
    before = {"image": smooth((256, 256))[..., None]}
    after = dagan(before, np.random.default_rng(0))
    assert after["image"].dtype == np.float32 and np.abs(after["image"]).max() <= 1
    assert not np.array_equal(after["image"], before["image"])
    random, times = np.random.default_rng(0), []
    for _ in range(9):
        start = time.thread_time()
        transforms.elastic(before, random, alpha=765, sigma=25.5)
        times.append(time.thread_time() - start)
    # 5 ms on a quiet core; busy neighbours slow caches down.
    assert min(times) < 0.03


def test_an_extended_image_goes_on_as_its_outermost_voxels():
    before = record((5, 6))
    after = transforms.extended(before, 2)
    assert after["image"].shape == (9, 10, 1) and after["mask"].dtype == np.int32
    assert np.array_equal(after["image"][2:-2, 2:-2], before["image"])
    assert np.array_equal(after["target"][:3, 2:-2], np.repeat(before["target"][:1], 3, axis=0))
    assert after["thumbnail"] is before["thumbnail"]
