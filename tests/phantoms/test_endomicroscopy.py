"""Endomicroscopy: four tissues, and detail that a bundle of fibres loses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import endomicroscopy
from medgan_jax.physics import resolution

SIZE, NUMBER = 128, 4
QUICK = {"xla_backend_optimization_level": 0}
TISSUES = list(endomicroscopy.TISSUES.values())


@functools.cache
def program():
    draw = lambda key, tissue: endomicroscopy.endomicroscopy_image(key, SIZE, tissue=tissue)  # noqa: E731
    return jax.jit(jax.vmap(draw), compiler_options=QUICK)


@functools.cache
def fields():
    keys = jnp.tile(jax.random.split(jax.random.key(4), NUMBER), len(TISSUES))
    return jax.tree.map(np.asarray, program()(keys, jnp.repeat(jnp.array(TISSUES), NUMBER)))


def of(tissue):
    return {name: values[fields()["tissue"] == tissue] for name, values in fields().items()}


def test_shapes_types_and_ranges():
    drawn = fields()
    assert drawn["image"].shape == (16, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1 and np.mean(drawn["image"] == 1) < 0.02
    assert drawn["labels"].dtype == np.int32 and set(np.unique(drawn["labels"])) == {0, 1, 2}


def test_same_key_same_field_and_no_two_alike():
    keys = jax.random.split(jax.random.key(4), NUMBER)[::-1]
    turned = program()(jnp.tile(keys, len(TISSUES)), jnp.repeat(jnp.array(TISSUES), NUMBER))["image"]
    again = np.asarray(turned).reshape(4, NUMBER, SIZE, SIZE)[:, ::-1].reshape(16, SIZE, SIZE, 1)
    np.testing.assert_allclose(again, fields()["image"], atol=1e-5)
    images = fields()["image"]
    assert all(np.abs(images[i] - images[j]).mean() > 0.02 for i in range(16) for j in range(i))


def test_borders_of_cells_shine_and_mouths_of_glands_are_dark():
    cells, crypts = of(endomicroscopy.EPITHELIUM), of(endomicroscopy.CRYPTS)
    assert np.isin(cells["labels"], [0, 1]).all()
    ground = crypts["image"][..., 0][crypts["labels"] == endomicroscopy.GROUND].mean()
    assert crypts["image"][..., 0][crypts["labels"] == endomicroscopy.LUMEN].mean() < 0.9 * ground
    assert not of(endomicroscopy.STROMA)["labels"].any()


def test_a_bundle_of_fibres_loses_detail_that_stays_in_the_image():
    # About 1400 fibres on 128 x 128 pixels, as a probe's over its field of view.
    bundle = resolution.fibre_bundle((SIZE, SIZE), 3.6, seed=0)
    assert 1200 <= len(bundle.centres) <= 1600
    image = fields()["image"]
    coarse = np.asarray(resolution.from_fibres(resolution.fibre_signals(image, bundle), bundle))
    error = np.mean((coarse - image) ** 2, (1, 2, 3))
    quality = 10 * np.log10(1 / error)
    assert (quality > 18).all() and (quality < 36).all()
    # More is lost than the noise: there is something to recover.
    assert (np.sqrt(error) > 1.3 * 0.02).mean() > 0.9


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="tissue 9"):
        endomicroscopy.endomicroscopy_image(jax.random.key(0), tissue=9)
    with pytest.raises(ValueError, match="32"):
        endomicroscopy.endomicroscopy_image(jax.random.key(0), 16)
