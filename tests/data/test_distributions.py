"""The ring of Gaussians: where its modes lie, how wide they are, and that all are equally likely."""

import jax
import numpy as np
import pytest
import scipy.stats

from medgan_jax.data import parts
from medgan_jax.data.distributions import ring_centres, ring_point
from medgan_jax.errors import UserError


def test_points_are_drawn_from_equal_gaussians_on_a_circle():
    drawn = jax.jit(jax.vmap(lambda key: ring_point(key, modes=8, radius=0.8, deviation=0.04)))(
        jax.random.split(jax.random.key(0), 4000)
    )
    points, labels = np.asarray(drawn["point"]), np.asarray(drawn["label"])
    centres = ring_centres(8, 0.8)
    assert np.allclose(np.hypot(*centres.T), 0.8)
    assert np.allclose(np.linalg.norm(centres - np.roll(centres, 1, 0), axis=1), 2 * 0.8 * np.sin(np.pi / 8))
    assert scipy.stats.chisquare(np.bincount(labels, minlength=8)).pvalue > 0.01
    noise = (points - centres[labels]) / 0.04
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 0.01


def test_parts_share_no_point_and_name_the_ring():
    ring = parts.open_ring("phantom", counts=(8, 8, 8))
    every = (ring.train, ring.validation, ring.test)
    drawn = [np.stack([part[index]["point"] for index in range(8)]) for part in every]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 24
    assert ring.train.name == "phantom:ring_8"


def test_a_folder_holds_no_ring(tmp_path):
    with pytest.raises(UserError, match=r"say --config\.form image"):
        parts.open_ring(str(tmp_path), counts=(8, 8, 8))


def test_lesions_of_a_folder_need_classes(tmp_path):
    images = np.random.default_rng(0).uniform(0, 1, (6, 16, 16)).astype(np.float32)
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", images=images)
    with pytest.raises(UserError, match="has no class for each image"):
        parts.open_lesions(str(tmp_path), size=16, classes=2, counts=(8, 8, 8))
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", images=images, labels=np.arange(6) % 2)
    opened = parts.open_lesions(str(tmp_path), size=16, classes=2, counts=(8, 8, 8))
    assert {int(opened.train[index]["label"]) for index in range(len(opened.train))} <= {0, 1}
    with pytest.raises(UserError, match=r"say --config\.classes 3"):
        parts.open_lesions("phantom", size=16, classes=2, counts=(8, 8, 8))
