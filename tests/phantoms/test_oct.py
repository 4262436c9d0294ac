"""The OCT phantom: a retina in order, fluid where it is promised, and no short way to find it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.feature import match_template
from sklearn.metrics import roc_auc_score

from medgan_jax.phantoms import oct

COUNT = 192
# Few images of many programs: compiling costs more than drawing.
QUICK = {"xla_backend_optimization_level": 0}


def draw(function, **options):
    """A function of keys and of what is ill, batched and compiled without optimisation."""
    return jax.jit(jax.vmap(functools.partial(function, **options)), compiler_options=QUICK)


@pytest.fixture(scope="module")
def slices():
    """Three retinas: healthy, with fluid, with fluid and drusen; the same keys as `patches`."""
    scan = draw(lambda key, fluid, drusen: oct.oct_slice(key, fluid=fluid, drusen=drusen))
    keys = jnp.tile(jax.random.split(jax.random.key(3), 6), 3)
    healthy = np.arange(18) < 6
    return jax.tree.map(np.asarray, scan(keys, jnp.array(~healthy), jnp.arange(18) >= 12))


@pytest.fixture(scope="module")
def patches():
    scan = draw(lambda key, fluid: oct.oct_patch(key, 64, fluid=fluid))
    keys = jnp.tile(jax.random.split(jax.random.key(3), 6), 2)
    return jax.tree.map(np.asarray, scan(keys, jnp.arange(12) >= 6))


@pytest.fixture(scope="module")
def cases():
    """Patches of 32 pixels: healthy ones, others with fluid, and other healthy ones to learn from."""
    keys = jax.random.split(jax.random.key(7), 3 * COUNT)
    ill = (jnp.arange(3 * COUNT) >= COUNT) & (jnp.arange(3 * COUNT) < 2 * COUNT)
    scan = jax.jit(
        lambda keys, ill: jax.lax.map(
            lambda case: oct.oct_patch(case[0], 32, fluid=case[1]), (keys, ill), batch_size=64
        ),
        compiler_options=QUICK,
    )
    return jax.tree.map(np.asarray, scan(keys, ill))


def shortcut_auc(score):
    """Area under the ROC curve of scores of healthy, then ill cases, whichever way round they work."""
    auc = roc_auc_score(np.arange(2 * COUNT) >= COUNT, score[: 2 * COUNT])
    return max(auc, 1 - auc)


def test_shapes_types_and_range(slices, patches):
    assert slices["image"].shape == (18, 128, 256, 1) and slices["labels"].shape == (18, 128, 256)
    assert slices["labels"].dtype == np.int32 and slices["fluid_mask"].dtype == bool
    assert slices["anomaly_mask"].dtype == bool
    for name in ("image", "fluid_mask"):
        assert patches[name].shape == (12, 64, 64, 1) and patches[name].dtype == np.float32
    for image in (slices["image"], patches["image"]):
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        assert np.mean(image == 1) < 0.02


def test_layers_come_in_the_order_of_the_beam(slices):
    labels = slices["labels"]
    tissue = np.where(labels <= oct.LABELS["choroid"], labels, -1)
    for column in tissue.transpose(0, 2, 1).reshape(-1, 128):
        column = column[column >= 0]
        assert (np.diff(column) >= 0).all()
        assert column[0] == oct.LABELS["vitreous"] and column[-1] == oct.LABELS["choroid"]
    layers = set(range(oct.LABELS["choroid"] + 1)) - {oct.LABELS["subretinal_fluid"], oct.LABELS["drusen"]}
    assert all(layers <= set(np.unique(image)) for image in labels)


def test_retina_is_as_thick_as_in_adults_and_thinnest_in_the_fovea(slices):
    retina = (slices["labels"][:6] > 0) & (slices["labels"][:6] < oct.LABELS["choroid"])
    thickness = retina.sum(1) * oct.SLICE_DEPTH / 128
    assert ((thickness.min(1) > 160) & (thickness.min(1) < 270)).all()
    assert ((thickness.max(1) > 270) & (thickness.max(1) < 450)).all()
    assert (np.abs(thickness.argmin(1) - 128) < 40).all()


def test_flattening_makes_the_lowest_boundary_a_row(slices):
    lowest = (slices["labels"] == oct.LABELS["choroid"]).argmax(1)
    assert (np.ptp(lowest, axis=1) == 0).all()
    keys = jax.random.split(jax.random.key(3), 6)
    lowest = (draw(oct.oct_slice, flatten=False)(keys)["labels"] == oct.LABELS["choroid"]).argmax(1)
    assert ((np.ptp(lowest, axis=1) >= 4) & (np.ptp(lowest, axis=1) <= 30)).all()


def test_masks_say_what_is_ill(slices):
    fluid, anomaly = slices["fluid_mask"], slices["anomaly_mask"]
    assert not anomaly[:6].any()
    assert fluid[6:].any((1, 2)).all() and (anomaly | ~fluid).all()
    drusen = slices["labels"] == oct.LABELS["drusen"]
    assert not drusen[:12].any() and drusen[12:].any((1, 2)).all() and (anomaly | ~drusen).all()
    image = slices["image"][..., 0]
    outer = slices["labels"] == oct.LABELS["outer_nuclear"]
    assert image[fluid].mean() < 0.75 * image[outer].mean()


def test_an_ill_retina_is_the_healthy_one_elsewhere(slices):
    # Fluid lies within about a third of the slice; vessels, speckle and light are the same in the rest.
    healthy, ill = slices["image"][:6], slices["image"][6:12]
    same = np.isclose(healthy, ill, atol=1e-3).mean((1, 2, 3))
    assert (same > 0.6).all() and (same < 1).all()


def test_patch_is_part_of_the_slice(slices, patches):
    for mask, whole in zip(patches["fluid_mask"][6:, ..., 0], slices["fluid_mask"][6:12], strict=True):
        assert match_template(whole.astype(np.float32), mask).max() > 0.8


def test_every_key_is_another_retina(slices, patches):
    for images in (slices["image"][:6], patches["image"][:6]):
        assert min(np.abs(one - other).mean() for one, other in itertools.combinations(images, 2)) > 0.03


def test_patches_hold_fluid_when_asked_and_only_then(cases, patches):
    ill = np.arange(3 * COUNT) // COUNT == 1
    share = cases["fluid_mask"].mean((1, 2, 3))
    assert set(np.unique(cases["fluid_mask"])) == {0, 1}
    assert share[ill].min() >= 0.015 and share[ill].max() < 0.3 and not share[~ill].any()
    share = patches["fluid_mask"].mean((1, 2, 3))
    assert share[6:].min() >= 0.015 and not share[:6].any()


def test_whole_retina_lies_in_a_patch(cases):
    image = cases["image"][..., 0][:COUNT]
    # Vitreous at the top and the choroid's fading light at the bottom, bright retina between.
    rows = image.mean((0, 2))
    assert rows[:3].max() < 0.15 and rows[-1] < 0.35 and rows[12:27].min() > 0.2 and rows.max() > 0.45


@pytest.mark.parametrize("threshold", [0.15, 0.2, 0.25, 0.3, 0.5])
def test_area_under_a_threshold_does_not_tell(cases, threshold):
    assert shortcut_auc((cases["image"] < threshold).mean((1, 2, 3))) <= 0.65


def test_statistics_of_brightness_do_not_tell(cases):
    flat = cases["image"].reshape(3 * COUNT, -1)
    assert shortcut_auc(flat.mean(1)) <= 0.6
    assert shortcut_auc(flat.std(1)) <= 0.6
    assert shortcut_auc(flat.max(1)) <= 0.6
    assert shortcut_auc(flat.min(1)) <= 0.6


def test_mean_image_and_look_up_table_help_little(cases):
    image = cases["image"].reshape(3 * COUNT, -1)
    healthy = image[2 * COUNT :]
    assert 0.6 <= shortcut_auc(np.abs(image - healthy.mean(0)).sum(1)) <= 0.75
    # Look-up: how rare each brightness is among healthy pixels, wherever they are.
    rarity = -np.log(np.histogram(healthy, bins=32, range=(0, 1), density=True)[0] + 1e-3)
    assert shortcut_auc(rarity[np.minimum((image * 32).astype(int), 31)].mean(1)) <= 0.65


def test_healthy_patches_have_structure_that_few_components_hold(cases):
    # A small generative model must be able to learn them, and noise must not hide the fluid.
    healthy = cases["image"].reshape(3 * COUNT, -1)[2 * COUNT :]
    spectrum = np.linalg.svd(healthy - healthy.mean(0), compute_uv=False) ** 2
    assert 0.4 < spectrum[:20].sum() / spectrum.sum() < 0.95


def test_sizes_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="16"):
        oct.oct_patch(jax.random.key(0), 8)
    with pytest.raises(ValueError, match="64"):
        oct.oct_slice(jax.random.key(0), 32, 256)


def test_tasks_draw_what_they_say():
    for task in oct.TASKS:
        drawn = jax.eval_shape(task.draw, jax.random.key(0))
        assert drawn["input"].shape == (64, 64, 1)
        assert drawn["target"].shape == (() if task.kind == "classification" else (64, 64, 1))
