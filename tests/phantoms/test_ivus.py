"""Intravascular ultrasound: layers in order, both domains and geometries of one artery, Rayleigh speckle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import ivus, speckle

SIZE, NUMBER = 96, 8
QUICK = {"xla_backend_optimization_level": 0}
KEYS = functools.partial(jax.random.split, num=NUMBER)
ORDER = np.array([ivus.CATHETER, ivus.LUMEN, ivus.PLAQUE, ivus.MEDIA, ivus.ADVENTITIA])


@functools.cache
def program(size=SIZE):
    def draw(key):
        return {
            "real": ivus.ivus_frame(key, size, geometry="polar"),
            "simulated": ivus.ivus_frame(key, size, geometry="polar", domain="simulated"),
            "section": ivus.ivus_frame(key, size),
        }

    return jax.jit(jax.vmap(draw), compiler_options=QUICK)


@functools.cache
def frames(size=SIZE):
    return jax.tree.map(np.asarray, program(size)(KEYS(jax.random.key(3))))


def test_shapes_types_and_ranges():
    for drawn in frames().values():
        assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
        assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
        assert drawn["labels"].dtype == np.int32 and drawn["lumen_mask"].dtype == bool


def test_same_key_same_artery_and_no_two_alike():
    turned = program()(KEYS(jax.random.key(3))[::-1])
    np.testing.assert_allclose(turned["real"]["image"][::-1], frames()["real"]["image"], atol=1e-4)
    labels = frames()["real"]["labels"]
    assert all(np.mean(labels[i] != labels[j]) > 0.03 for i in range(NUMBER) for j in range(i))


def test_domains_show_the_same_tissues():
    np.testing.assert_array_equal(frames()["real"]["labels"], frames()["simulated"]["labels"])
    assert np.abs(frames()["real"]["image"] - frames()["simulated"]["image"]).mean() > 0.03


def test_layers_come_in_the_order_of_the_beam():
    labels = frames()["real"]["labels"]
    labels = np.where(labels == ivus.CALCIUM, ivus.PLAQUE, labels)
    assert (np.diff(labels, axis=1) >= 0).all()
    for tissue in ORDER:
        assert (labels == tissue).any(1).mean() > 0.9


def test_radii_are_those_of_the_labels_and_of_coronary_arteries():
    drawn = frames()["real"]
    within = (drawn["labels"] < ivus.ADVENTITIA) | (drawn["labels"] == ivus.CALCIUM)
    np.testing.assert_allclose(within.sum(1) * ivus.DEPTH / SIZE, drawn["vessel_radii"], atol=0.08)
    assert (drawn["lumen_radii"] < drawn["vessel_radii"]).all()
    assert 1.0 < drawn["lumen_radii"].mean() < 2.2 and drawn["vessel_radii"].max() < ivus.DEPTH


def test_section_is_the_scan_converted():
    drawn, polar = frames()["section"], frames()["real"]
    radius = np.mean(drawn["vessel_mask"], (1, 2)) * ivus.DEPTH**2 * 4 / np.pi
    np.testing.assert_allclose(radius, np.mean(polar["vessel_radii"] ** 2, 1), rtol=0.08)
    outside = drawn["labels"] == ivus.OUTSIDE
    np.testing.assert_allclose(outside.mean(), 1 - np.pi / 4, atol=0.02)
    assert (drawn["image"][outside] == 0).all()


def test_tissues_are_as_bright_as_they_should_be():
    for domain in ("real", "simulated"):
        drawn = frames()[domain]
        mean = [drawn["image"][..., 0][drawn["labels"] == tissue].mean() for tissue in ORDER]
        lumen, plaque, media, adventitia = mean[1:]
        assert lumen < plaque < adventitia and media < plaque


def test_speckle_is_rayleigh_distributed():
    noise = jax.random.normal(jax.random.key(0), (2, 256, 256))
    amplitude = np.asarray(speckle.envelope(noise, jnp.full((256, 256), 0.5), (1.5, 2.5)))[8:-8, 8:-8]
    np.testing.assert_allclose(amplitude.mean() / amplitude.std(), 1.91, rtol=0.03)
    np.testing.assert_allclose(np.sqrt(np.mean(amplitude**2)), 0.5 * np.sqrt(2), rtol=0.03)
    np.testing.assert_allclose(speckle.compress(jnp.array([1.0, 0.1, 1e-9]), 40.0), [1, 0.5, 0], atol=1e-6)


def test_impossible_requests_are_refused():
    for options, message in (
        ({"domain": "ct"}, "domain"),
        ({"geometry": "flat"}, "geometry"),
        ({"size": 8}, "32"),
    ):
        with pytest.raises(ValueError, match=message):
            ivus.ivus_frame(jax.random.key(0), **options)
