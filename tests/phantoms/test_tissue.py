"""Stained tissue: one section in two laboratories, glands in order or fused, nuclei where they belong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import tissue

COUNT = 8
SIZE = 64
# Few images of many programs: compiling costs more than drawing.
QUICK = {"xla_backend_optimization_level": 0}


def section(key, malignant, mitosis, slide):
    """One patch in both laboratories."""
    options = {"malignant": malignant, "mitosis": mitosis, "slide": slide}
    return {name: tissue.tissue_patch(key, SIZE, scanner=name, **options) for name in ("A", "B")}


@functools.cache
def compiled():
    return jax.jit(jax.vmap(section), compiler_options=QUICK)


@functools.cache
def drawn(scanner="A", turn=0, one_slide=False):
    """Eight benign patches, the same keys as malignant ones, and these again with a mitosis."""
    keys = jnp.roll(jax.random.split(jax.random.key(9), COUNT), turn)
    slides = jnp.broadcast_to(keys[0], keys.shape) if one_slide else keys
    number = jnp.arange(3 * COUNT)
    patches = compiled()(jnp.tile(keys, 3), number >= COUNT, number >= 2 * COUNT, jnp.tile(slides, 3))
    return jax.tree.map(np.asarray, patches[scanner])


BENIGN, MALIGNANT, DIVIDING = (slice(part * COUNT, (part + 1) * COUNT) for part in range(3))


def test_shapes_types_and_range():
    patch = drawn()
    assert patch["image"].shape == (3 * COUNT, SIZE, SIZE, 3) and patch["image"].dtype == np.float32
    assert patch["image"].min() >= 0 and patch["image"].max() <= 1
    assert patch["concentrations"].shape == (3 * COUNT, SIZE, SIZE, 2) and patch["concentrations"].min() >= 0
    assert patch["labels"].dtype == patch["nuclei_instances"].dtype == np.int32
    assert set(np.unique(patch["labels"])) == set(tissue.LABELS.values())


def test_no_two_are_alike():
    images = drawn()["image"]
    assert all(np.abs(images[i] - images[j]).mean() > 0.03 for i in range(COUNT) for j in range(i))


def test_the_place_in_a_batch_does_not_matter():
    np.testing.assert_allclose(drawn(turn=1)["image"][1:COUNT], drawn()["image"][: COUNT - 1], atol=1e-4)


def test_two_laboratories_show_one_section():
    one, other = drawn("A"), drawn("B")
    for name in ("concentrations", "labels", "nuclei_instances"):
        np.testing.assert_array_equal(one[name], other[name])
    assert np.abs(one["image"] - other["image"]).mean() > 0.08
    for first, second in zip(one["image"], other["image"], strict=True):
        assert np.corrcoef(first[..., 1].ravel(), second[..., 1].ravel())[0, 1] > 0.7


def test_masks_and_labels_agree():
    patch = drawn()
    nuclei = np.isin(patch["labels"], [tissue.NUCLEUS, tissue.MITOSIS])
    np.testing.assert_array_equal(patch["nuclei_mask"], nuclei)
    np.testing.assert_array_equal(patch["nuclei_instances"] > 0, nuclei)
    np.testing.assert_array_equal(patch["gland_instances"] > 0, patch["gland_mask"])
    assert patch["gland_mask"][patch["labels"] == tissue.EPITHELIUM].all()
    assert not patch["gland_mask"][patch["labels"] == tissue.STROMA].any()
    for case in range(3 * COUNT):
        assert {*np.flatnonzero(patch["present"][case]) + 1} <= {*patch["nuclei_instances"][case].ravel()}


def test_stains_go_where_they_belong():
    haematoxylin, eosin = np.moveaxis(drawn()["concentrations"], -1, 0)
    labels = drawn()["labels"]
    means = {name: haematoxylin[labels == number].mean() for name, number in tissue.LABELS.items()}
    assert means["lumen"] < means["stroma"] < means["epithelium"] < means["nucleus"] < means["mitosis"]
    assert eosin[labels == tissue.STROMA].mean() > eosin[labels == tissue.NUCLEUS].mean()
    assert eosin[labels == tissue.LUMEN].mean() < 0.25


def test_a_mitosis_is_one_dense_plate_and_changes_nothing_else():
    patch = drawn()
    before, after = (jax.tree.map(lambda x: x[part], patch) for part in (MALIGNANT, DIVIDING))
    assert not before["mitosis_mask"].any()
    area = after["mitosis_mask"].sum((1, 2))
    assert (area > 2).all() and (area < 60).all()
    changed = np.abs(after["concentrations"] - before["concentrations"]).max(-1) > 1e-3
    assert (changed.mean((1, 2)) < 0.06).all()
    assert after["concentrations"][..., 0][after["mitosis_mask"]].mean() > 1


def test_benign_nuclei_line_the_base_and_malignant_ones_fill_the_sheet():
    patch, share = drawn(), []
    for part in (BENIGN, MALIGNANT):
        epithelium = patch["gland_mask"][part] & (patch["labels"][part] != tissue.LUMEN)
        nuclei = patch["nuclei_mask"][part] & epithelium
        share.append(nuclei.sum() / epithelium.sum())
    assert 0.1 < share[0] < 0.5 and 0.1 < share[1] < 0.5


def test_patches_of_a_slide_share_its_stain():
    spread = [drawn(one_slide=alike)["image"][BENIGN].mean((1, 2)).std(0).mean() for alike in (True, False)]
    assert spread[0] < 0.8 * spread[1]


def test_spectra_belong_to_the_section_before_it_was_stained():
    key = jax.random.key(0)
    pair = jax.eval_shape(lambda key: tissue.unstained_pair(key, SIZE, bands=16), key)
    assert pair["spectra"].shape == (SIZE, SIZE, 16) and pair["image"].shape == (SIZE, SIZE, 3)


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="unknown scanner 'C'"):
        tissue.tissue_patch(key, 32, scanner="C")
    with pytest.raises(ValueError, match="16 pixels or more"):
        tissue.tissue_patch(key, 8)
    with pytest.raises(ValueError, match="positive field"):
        tissue.tissue_patch(key, 32, field=0)
