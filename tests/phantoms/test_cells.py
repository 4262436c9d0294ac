"""Cells in culture: objects and their labels agree, the modalities show one specimen, and light is uneven."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medgan_jax.phantoms import cells, mosaic

COUNT = 4
SIZE = 64
# Few images of many programs: compiling costs more than drawing.
QUICK = {"xla_backend_optimization_level": 0}
MODES = ("nuclei", "spheroid", "phase_contrast", "dic")


def nuclei(key, clutter, size=SIZE):
    return {"nuclei": cells.nuclei_image(key, size, sites=4, clutter=clutter)}


def spheroid(key, debris):
    return {"spheroid": cells.spheroid_image(key, SIZE, debris=debris)}


def transparent(key, _):
    return {
        name: cells.transparent_cells(key, SIZE, sites=3, modality=name) for name in ("phase_contrast", "dic")
    }


@functools.cache
def compiled(draw):
    return jax.jit(jax.vmap(draw), compiler_options=QUICK)


@functools.cache
def drawn(mode, turn=0):
    """Four specimens and the same ones without clutter, the keys turned round by so many places."""
    draw = {"nuclei": nuclei, "spheroid": spheroid}.get(mode, transparent)
    keys = jnp.roll(jax.random.split(jax.random.key(5), COUNT), turn)
    specimens = compiled(draw)(jnp.tile(keys, 2), jnp.arange(2 * COUNT) < COUNT)
    return jax.tree.map(np.asarray, specimens[mode])


@pytest.mark.parametrize("mode", MODES)
def test_shapes_types_and_range(mode):
    image, labels = drawn(mode)["image"], drawn(mode)["labels"]
    assert image.shape == (*labels.shape, 1) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.01
    assert labels.dtype == drawn(mode)["instances"].dtype == np.int32
    assert set(np.unique(labels)) <= set(cells.LABELS.values())


@pytest.mark.parametrize("mode", MODES)
def test_no_two_are_alike_and_the_place_in_a_batch_does_not_matter(mode):
    images = drawn(mode)["image"][:COUNT]
    assert all(np.abs(images[i] - images[j]).mean() > 0.01 for i in range(COUNT) for j in range(i))
    np.testing.assert_allclose(drawn(mode, turn=1)["image"][1:COUNT], images[:-1], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_labels_instances_and_centres_agree(mode):
    specimen = drawn(mode)
    for case in range(COUNT):
        labels, instances = specimen["labels"][case], specimen["instances"][case]
        mask = specimen["cell_mask"][case]
        np.testing.assert_array_equal(mask, instances > 0)
        np.testing.assert_array_equal(mask, labels != cells.BACKGROUND)
        assert {*(np.unique(instances[mask]) - 1)} >= {*np.flatnonzero(specimen["present"][case])}
        for number in np.flatnonzero(specimen["present"][case]):
            middle = ndimage.center_of_mass(instances == number + 1)
            reach = np.sqrt((instances == number + 1).sum()) + 2
            assert np.linalg.norm(middle - specimen["centroids"][case][number]) < reach


@pytest.mark.parametrize("mode", ["nuclei", "phase_contrast"])
def test_an_edge_lies_where_another_object_or_none_begins(mode):
    labels, instances = drawn(mode)["labels"][:COUNT], drawn(mode)["instances"][:COUNT]
    differs = np.zeros(labels.shape, bool)
    for axis in (1, 2):
        change = np.diff(instances, axis=axis) != 0
        pad = [(0, 0)] * 3
        for side in ((0, 1), (1, 0)):
            pad[axis] = side
            differs |= np.pad(change, pad)
    on_border = differs & (instances > 0)
    assert (labels[on_border] == cells.EDGE).mean() > 0.97
    inside = np.stack([ndimage.distance_transform_edt(~each) for each in differs]) > 4
    assert (labels[inside & (instances > 0)] == cells.CELL).mean() > 0.97


@pytest.mark.parametrize("mode", ["nuclei", "spheroid"])
def test_clutter_adds_nothing_else(mode):
    specimen = drawn(mode)
    for name in ("labels", "instances", "centroids"):
        np.testing.assert_array_equal(specimen[name][:COUNT], specimen[name][COUNT:])
    assert np.abs(specimen["image"][:COUNT] - specimen["image"][COUNT:]).mean() > 0.003


def test_both_modalities_show_one_specimen():
    one, other = drawn("phase_contrast"), drawn("dic")
    np.testing.assert_array_equal(one["labels"], other["labels"])
    np.testing.assert_array_equal(one["phase"], other["phase"])
    assert np.abs(one["image"] - other["image"]).mean() > 0.05


def test_cells_delay_light_and_phase_contrast_darkens_them():
    specimen = drawn("phase_contrast")
    mask = specimen["cell_mask"]
    assert specimen["phase"][mask].mean() > specimen["phase"][~mask].mean() + 0.15
    assert specimen["image"][mask].mean() < specimen["image"][~mask].mean()


def test_relief_is_the_slope_of_the_phase():
    specimen = drawn("dic")
    # Between the grain of noise and the shading of the lamp.
    phase, image = (
        ndimage.gaussian_filter(specimen[name][..., 0], (0, 1, 1))
        - ndimage.gaussian_filter(specimen[name][..., 0], (0, 5, 5))
        for name in ("phase", "image")
    )
    slope = np.gradient(phase, axis=1) + np.gradient(phase, axis=2)
    assert np.corrcoef(slope.ravel(), image.ravel())[0, 1] > 0.6


def test_the_same_subject_at_another_size():
    keys, clutter = jax.random.split(jax.random.key(5), COUNT)[:2], jnp.ones(2)
    large = compiled(functools.partial(nuclei, size=2 * SIZE))(keys, clutter)["nuclei"]
    small = drawn("nuclei")
    reduced = np.asarray(large["image"]).reshape(2, SIZE, 2, SIZE, 2).mean((2, 4))
    assert np.corrcoef(reduced.ravel(), small["image"][:2, ..., 0].ravel())[0, 1] > 0.94
    assert (np.asarray(large["cell_mask"])[:, ::2, ::2] == small["cell_mask"][:2]).mean() > 0.96


def test_an_object_is_a_disc_where_nothing_disturbs_it():
    count = mosaic.site_count(2)
    outlines = mosaic.Outlines(
        centre=jnp.asarray(mosaic.corners(2)) + 0.5,
        radius=jnp.full(count, 0.3),
        stretch=jnp.ones(count),
        angle=jnp.zeros(count),
        lobes=jnp.zeros((count, 4)),
    )
    points = mosaic.pixel_places(32, 2)
    first, depth, edge = jax.jit(lambda points: mosaic.near(points, outlines, 2).best())(points)
    offset = points - (np.floor(points) + 0.5)
    np.testing.assert_allclose(depth, 0.3 - np.linalg.norm(offset, axis=-1), atol=1e-3)
    np.testing.assert_array_equal(first, 4)
    assert (edge <= depth + 1e-6).all()


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="at least 16"):
        cells.nuclei_image(key, 8)
    with pytest.raises(ValueError, match="1 or more sites"):
        cells.nuclei_image(key, 32, sites=0)
    with pytest.raises(ValueError, match="unknown modality 'electron'"):
        cells.transparent_cells(key, 32, modality="electron")
