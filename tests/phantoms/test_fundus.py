"""The procedural retina: vessels, disc and cup where they belong, and statistics of real photographs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from skimage.filters import gaussian

from medgan_jax.phantoms import fundus
from tests.phantoms.image_statistics import spectrum_slope

# Measured on ten images of CHASE_DB1, reduced to 128 x 128 pixels: slope of the power spectrum of the green
# channel -2.97 (SD 0.14); vessels 8.2 % (1.5 %) of the field of view; best difference of Gaussians 0.67 Dice.
CHASE_SLOPE, SLOPE_BOUND = -2.97, 0.4
SIZE, NUMBER = 128, 6
QUICK = {"xla_backend_optimization_level": 0}
KEYS = functools.partial(jax.random.split, num=NUMBER)


@functools.cache
def program(sight, size=SIZE):
    draw = functools.partial(fundus.fundus_image, size=size, sight=sight, tone="red")
    return jax.jit(
        lambda keys, lesions: jax.vmap(lambda key: draw(key, lesions=lesions))(keys), compiler_options=QUICK
    )


@functools.cache
def eyes(sight="disc", lesions=False):
    return jax.tree.map(np.asarray, program(sight)(KEYS(jax.random.key(5)), lesions))


def dice(one, other):
    return 2 * np.sum(one & other) / max(np.sum(one) + np.sum(other), 1)


def test_shapes_types_and_ranges():
    drawn = eyes()
    assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 3) and drawn["image"].dtype == np.float32
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
    assert drawn["labels"].shape == (NUMBER, SIZE, SIZE) and drawn["labels"].dtype == np.int32
    assert set(np.unique(drawn["labels"])) <= set(fundus.LABELS.values())
    for name in ("field_of_view", "vessel_mask", "disc_mask", "cup_mask", "lesion_mask"):
        assert drawn[name].shape == (NUMBER, SIZE, SIZE) and drawn[name].dtype == bool
    assert drawn["fovea"].shape == drawn["disc_centre"].shape == (NUMBER, 2)


def test_a_key_gives_the_same_eye_wherever_it_stands_and_no_two_are_alike():
    keys = KEYS(jax.random.key(5))
    turned = np.asarray(program("disc")(keys[::-1], False)["image"])[::-1]
    np.testing.assert_allclose(turned, eyes()["image"], atol=1e-5)
    masks = eyes()["vessel_mask"]
    assert all(dice(masks[i], masks[j]) < 0.6 for i in range(NUMBER) for j in range(i))


def test_sizes_of_a_key_show_the_same_eye():
    coarse = program("disc", 64)(KEYS(jax.random.key(5)), False)
    fine = eyes()["image"].reshape(NUMBER, 64, 2, 64, 2, 3).mean((2, 4))
    for one, other in zip(np.asarray(coarse["image"]), fine, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97
    np.testing.assert_allclose(2 * coarse["fovea"] + 0.5, eyes()["fovea"], atol=1e-3)


def test_the_tree_alone_is_that_of_the_photograph():
    draw = jax.jit(jax.vmap(lambda key: fundus.vessel_tree(key, SIZE, sight="disc")), compiler_options=QUICK)
    tree = draw(KEYS(jax.random.key(5)))
    np.testing.assert_array_equal(tree["vessel_mask"], eyes()["vessel_mask"])
    seen = np.isin(eyes()["labels"], [fundus.ARTERY, fundus.VEIN])
    np.testing.assert_array_equal(np.isin(tree["labels"], [fundus.ARTERY, fundus.VEIN]), seen)
    assert (
        tree["image"].shape == (NUMBER, SIZE, SIZE, 1)
        and 0 <= tree["image"].min() <= tree["image"].max() <= 1
    )


def test_vessels_fill_a_tenth_of_the_field_of_view_and_are_dark_in_green():
    drawn = eyes()
    share = drawn["vessel_mask"].sum((1, 2)) / drawn["field_of_view"].sum((1, 2))
    assert 0.06 < share.mean() < 0.12 and share.min() > 0.05
    green, red = drawn["image"][..., 1], drawn["image"][..., 0]
    retina = drawn["labels"] == fundus.RETINA
    vein, artery = ((drawn["labels"] == kind) & ~drawn["disc_mask"] for kind in (fundus.VEIN, fundus.ARTERY))
    for vessel in (vein, artery):
        assert green[vessel].mean() < 0.95 * green[retina].mean()
    assert green[vein].mean() < green[artery].mean() and red[vein].mean() > 2 * green[vein].mean()


def test_cup_lies_in_the_disc_and_they_are_bright():
    drawn = eyes("head")
    assert not np.any(drawn["cup_mask"] & ~drawn["disc_mask"]) and drawn["cup_mask"].any((1, 2)).all()
    green = drawn["image"][..., 1]
    for i in range(NUMBER):
        retina = drawn["labels"][i] == fundus.RETINA
        disc = drawn["labels"][i] == fundus.DISC
        assert green[i][disc].mean() > green[i][retina].mean() * 1.15
        heights = [mask[i].any(1).sum() for mask in (drawn["cup_mask"], drawn["disc_mask"])]
        assert abs(heights[0] / heights[1] - drawn["cup_to_disc"][i]) < 0.12
    assert np.ptp(drawn["cup_to_disc"]) > 0.1


def test_disc_is_a_distance_from_the_fovea_that_has_no_vessels():
    drawn = eyes("macula")
    distance = (
        np.linalg.norm(drawn["fovea"] - drawn["disc_centre"], axis=1) / SIZE * 2 * fundus.SIGHTS["macula"]
    )
    assert (np.abs(distance - 1) < 0.2).all()
    y, x = np.indices((SIZE, SIZE))
    for mask, (row, column) in zip(drawn["vessel_mask"], drawn["fovea"], strict=True):
        assert not mask[np.hypot(y - row, x - column) < 4].any()


def test_lesions_add_nothing_else():
    healthy, ill = eyes(), eyes(lesions=True)
    assert not healthy["lesion_mask"].any() and ill["lesion_mask"].any((1, 2)).mean() > 0.6
    np.testing.assert_array_equal(healthy["vessel_mask"], ill["vessel_mask"])
    near = np.stack([binary_dilation(mask, iterations=5) for mask in ill["lesion_mask"]])
    # Lesions too small to fill half of a pixel are in no mask.
    assert np.mean(np.abs(ill["image"] - healthy["image"])[~near] > 0.02) < 1e-3
    green = ill["image"][..., 1]
    dark, bright = ill["labels"] == fundus.DARK_LESION, ill["labels"] == fundus.BRIGHT_LESION
    assert green[dark].mean() < healthy["image"][..., 1][dark].mean() - 0.05
    if bright.any():
        assert green[bright].mean() > healthy["image"][..., 1][bright].mean() + 0.1


def test_spectrum_is_that_of_real_photographs():
    slopes = [spectrum_slope(image[..., 1].astype(np.float64)) for image in eyes()["image"]]
    assert abs(np.mean(slopes) - CHASE_SLOPE) < SLOPE_BOUND


def test_neither_brightness_nor_a_band_of_it_finds_the_vessels():
    drawn = eyes()
    scores = []
    for image, mask, seen in zip(drawn["image"], drawn["vessel_mask"], drawn["field_of_view"], strict=True):
        green = image[..., 1]
        by_brightness = max(dice((green < level) & seen, mask) for level in np.linspace(0.02, 0.6, 40))
        band = gaussian(green, 1.5) - gaussian(green, 0.4)
        levels = np.quantile(band[seen], np.linspace(0.8, 0.97, 18))
        scores.append((by_brightness, max(dice((band > level) & seen, mask) for level in levels)))
    by_brightness, by_band = np.mean(scores, 0)
    assert by_brightness < 0.5 and 0.35 < by_band < 0.72


@pytest.mark.parametrize(
    "options, message", [({"sight": "side"}, "sight"), ({"tone": "blue"}, "tone"), ({"size": 16}, "32")]
)
def test_impossible_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fundus.fundus_image(jax.random.key(0), **options)


def test_tasks_draw_what_they_say():
    for task in fundus.TASKS:
        drawn = jax.eval_shape(task.draw, jax.random.key(0))
        assert drawn["input"].shape[:2] == drawn["target"].shape[:2] and drawn["target"].dtype == jnp.float32
