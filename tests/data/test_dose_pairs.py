"""Pairs of doses: phantoms scanned twice, folders with both doses, and those that get their noise here."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.data.dose_pairs import open_dose_pairs, tissue_patches
from medgan_jax.data.volumes import open_coarse_volumes
from medgan_jax.errors import UserError

OPTIONS = dict(name="disc", counts=(8, 1, 1), size=32, photons=(1e5, 1e4), pixel_mm=6.0)


def disc(key, *, size):
    place = jnp.linspace(-1, 1, size)
    inside = place[:, None] ** 2 + place**2 < 0.6
    return {"image": jnp.where(inside, 0.0, -1000.0)[..., None], "edge": jnp.zeros(3)}


PHANTOM = functools.partial(disc, size=32)


def write(folder, **arrays):
    for part in ("train", "test", "validation"):
        np.savez(folder / f"{part}.npz", ids=np.array([f"{part}{n}" for n in range(2)]), **arrays)
    return str(folder)


@pytest.fixture(scope="module")
def records():
    parts = open_dose_pairs("phantom", PHANTOM, **OPTIONS)
    return [parts.train[index] for index in range(8)]


def test_phantoms_are_scanned_with_one_of_the_doses_beside_the_clean_image(records):
    noise = {}
    for record in records:
        assert {"image", "target", "photons", "edge"} <= set(record)
        assert record["target"].std() == pytest.approx(disc(None, size=32)["image"].std())
        noise.setdefault(float(record["photons"]), []).append((record["image"] - record["target"]).std())
    assert set(noise) == {1e5, 1e4}
    assert np.mean(noise[1e4]) / np.mean(noise[1e5]) == pytest.approx(10**0.5, rel=0.3)


def test_the_routine_scan_has_noise_of_its_own(records):
    record = open_dose_pairs("phantom", PHANTOM, **{**OPTIONS, "photons": (1e4,)}, routine=1e5).train[0]
    clean = np.asarray(disc(None, size=32)["image"])
    low, routine = record["image"] - clean, record["target"] - clean
    assert 1.5 < low.std() / routine.std() < 6
    assert abs(np.corrcoef(low.ravel(), routine.ravel())[0, 1]) < 0.15


def test_a_folder_of_routine_slices_gets_its_noise_once(tmp_path):
    images = np.zeros((2, 32, 32), np.float32)
    images[:, :4] = -3024
    parts = open_dose_pairs(write(tmp_path, images=images), PHANTOM, **OPTIONS)
    first, again, other = parts.train[0], parts.train[0], parts.train[1]
    assert first["target"].min() == -1024
    assert np.array_equal(first["image"], again["image"])
    assert (first["image"] - first["target"])[8:].std() > 1
    assert not np.allclose(first["image"], other["image"])


def test_a_folder_with_both_doses_is_left_as_it_is(tmp_path):
    images = np.random.default_rng(0).uniform(0, 100, (2, 32, 32)).astype(np.float32)
    record = open_dose_pairs(write(tmp_path, images=images, target=images[::-1]), PHANTOM, **OPTIONS).test[0]
    assert np.allclose(record["image"][..., 0], images[0])
    assert np.allclose(record["target"][..., 0], images[1])


def test_other_sizes_are_refused(tmp_path):
    source = write(tmp_path, images=np.zeros((2, 16, 16), np.float32))
    with pytest.raises(UserError, match="16x16"):
        open_dose_pairs(source, PHANTOM, **OPTIONS)


def test_volumes_that_are_too_small_or_do_not_divide_are_refused(tmp_path):
    source = write(tmp_path, images=np.zeros((2, 8, 8, 8, 1), np.float32))
    options = dict(name="", counts=(1, 1, 1), factor=2, axes=(-3, -2))
    with pytest.raises(UserError, match="too small"):
        open_coarse_volumes(source, None, size=(8, 8, 16), **options).train[0]
    with pytest.raises(UserError, match="multiples of the factor"):
        open_coarse_volumes(source, None, size=(8, 7, 8), **options)


def test_patches_of_tissue_to_train_on_and_whole_slices_with_what_phantoms_know(tmp_path):
    parts = open_dose_pairs("phantom", PHANTOM, **OPTIONS)
    data = tissue_patches(parts, 2, 8, least=-500.0, known=("edge",))
    assert data.fields == ("image", "target", "edge")
    assert data.train.fields == ("image", "target")
    patch = data.train.augment(parts.train[0], np.random.default_rng(0))
    assert patch["image"].shape == (8, 8, 1)
    assert patch["target"].mean() >= -500
    images = np.zeros((2, 32, 32), np.float32)
    folder = open_dose_pairs(write(tmp_path, images=images, target=images), PHANTOM, **OPTIONS)
    assert tissue_patches(folder, 2, 8, least=-500.0, known=("edge",)).fields == ("image", "target")
