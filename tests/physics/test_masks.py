"""Sampling masks: rates, centres, densities, determinism and refusals."""

import numpy as np
import pytest

from medgan_jax.physics.masks import MASK_KINDS, describe_mask, make_mask

LINES = ("gaussian1d", "cartesian_vardens", "power1d")
SHAPE = (256, 256)


def full_run(line):
    """Length of the run of ones about the centre of a line."""
    middle = len(line) // 2
    left = np.argmin(np.append(line[middle::-1], 0))
    right = np.argmin(np.append(line[middle:], 0))
    return int(left + right - 1)


def full_square(mask):
    """Side of the largest full square about the centre."""

    def square(side):
        top, left = (length // 2 - side // 2 for length in mask.shape)
        return mask[top : top + side, left : left + side]

    return next(side for side in range(1, min(mask.shape)) if not square(side + 1).all())


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_entries_are_zero_or_one_and_the_centre_is_measured(kind, rate):
    mask = make_mask(kind, SHAPE, rate, seed=7)
    assert mask.shape == SHAPE and mask.dtype == np.float32
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert mask[128, 128] == 1


def nearest(rate, whole):
    """The number of `whole` whose share comes nearest to a rate."""
    return int(np.abs(np.arange(whole + 1) / whole - rate).argmin())


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("columns", [256, 128, 81])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.5])
def test_as_many_columns_are_kept_as_come_nearest_to_the_rate(kind, columns, rate):
    mask = make_mask(kind, (8, columns), rate, seed=7)
    assert mask[0].sum() == nearest(rate, columns)


def test_a_tenth_of_256_columns_is_26_of_them():
    """Which no number of columns hits within 1 %: 25 are 0.0977, 26 are 0.1016."""
    assert make_mask("gaussian1d", SHAPE, 0.1)[0].sum() == 26


@pytest.mark.parametrize("kind", [kind for kind in MASK_KINDS if kind not in LINES])
@pytest.mark.parametrize("shape", [SHAPE, (64, 64), (48, 81)])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.5])
def test_points_hit_the_rate_within_one_percent_and_to_one_sample(kind, shape, rate):
    mask = make_mask(kind, shape, rate, seed=7)
    assert abs(mask.mean() / rate - 1) < 0.01
    assert mask.sum() == nearest(rate, mask.size)


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("shape", [(64, 64), (48, 81), (33, 20)])
def test_other_sizes_work_too(kind, shape):
    mask = make_mask(kind, shape, 0.25, seed=1)
    assert mask.shape == shape
    kept = mask[0] if kind in LINES else mask
    assert kept.sum() == nearest(0.25, kept.size)


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_seed_decides_and_cases_differ(kind):
    first = make_mask(kind, (64, 64), 0.3, seed=(5, 0))
    np.testing.assert_array_equal(first, make_mask(kind, (64, 64), 0.3, seed=(5, 0)))
    assert np.any(first != make_mask(kind, (64, 64), 0.3, seed=(5, 1)))


@pytest.mark.parametrize("kind", LINES)
def test_one_dimensional_masks_are_whole_columns(kind):
    mask = make_mask(kind, SHAPE, 0.3, seed=2)
    np.testing.assert_array_equal(mask, np.broadcast_to(mask[0], SHAPE))


@pytest.mark.parametrize(("rate", "band"), [(0.1, 10), (0.2, 20), (0.3, 26), (0.4, 36), (0.5, 48)])
def test_gaussian_columns_have_the_measured_centre_band(rate, band):
    runs = [full_run(make_mask("gaussian1d", SHAPE, rate, seed)[0]) for seed in range(5)]
    assert min(runs) >= band


@pytest.mark.parametrize(("rate", "side"), [(0.1, 10), (0.2, 18), (0.3, 26), (0.4, 34), (0.5, 44)])
def test_gaussian_points_have_the_measured_centre_square(rate, side):
    assert side <= full_square(make_mask("gaussian2d", SHAPE, rate, 1))


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_poisson_disc_has_its_centre_square_and_keeps_its_distances(rate):
    mask = make_mask("poisson2d", SHAPE, rate, 1)
    assert full_square(mask) >= 30
    # Neighbouring pairs far from the centre: fewer than as many points drawn independently would have.
    outer = mask[:64].astype(bool)
    pairs = np.mean(outer[:, 1:] & outer[:, :-1])
    assert pairs < 0.6 * outer.mean() ** 2


def test_poisson_disc_thins_towards_the_edge():
    mask = make_mask("poisson2d", SHAPE, 0.3, 1)
    assert mask[96:160, 60:80].mean() > 1.5 * mask[:24].mean()


@pytest.mark.parametrize("kind", [kind for kind in MASK_KINDS if kind not in ("radial", "spiral")])
def test_random_masks_are_denser_in_the_middle(kind):
    masks = np.mean([make_mask(kind, (64, 64), 0.25, seed) for seed in range(20)], axis=0)
    columns = masks.mean(0)
    assert columns[24:40].mean() > 1.5 * np.r_[columns[:12], columns[-12:]].mean()


def test_fixed_lines_of_the_published_recipes_are_there():
    assert all(make_mask("cartesian_vardens", SHAPE, 0.125, s)[0, 123:133].all() for s in range(5))
    assert all(make_mask("power1d", SHAPE, 0.1, s)[0, 127:130].all() for s in range(5))


def test_radial_mask_is_its_own_mirror_image():
    mask = make_mask("radial", (65, 65), 0.3, 4)
    assert np.mean(mask != mask[::-1, ::-1]) < 0.01


def test_spiral_stays_in_its_disc_and_widens_outwards():
    mask = make_mask("spiral", SHAPE, 0.2, 4)
    y, x = np.indices(SHAPE) - 128
    radius = np.hypot(y, x)
    assert mask[radius > 129].sum() == 0
    assert mask[radius < 30].mean() > 1.5 * mask[(radius > 90) & (radius < 120)].mean()


def test_volume_repeats_the_plane_along_the_readout():
    volume = make_mask("gaussian2d", (5, 32, 24), 0.3, 9)
    assert volume.shape == (5, 32, 24)
    np.testing.assert_array_equal(volume[3], make_mask("gaussian2d", (32, 24), 0.3, 9))


@pytest.mark.parametrize("kind", ["gaussian1d", "gaussian2d", "poisson2d"])
def test_a_named_centre_is_kept(kind):
    mask = make_mask(kind, (64, 64), 0.4, 0, centre=12)
    assert mask[26:38, 26:38].all()


@pytest.mark.parametrize("kind", [k for k in MASK_KINDS if k != "spiral"])
def test_a_rate_of_one_keeps_everything(kind):
    assert make_mask(kind, (32, 32), 1.0).all()


@pytest.mark.parametrize(
    ("kind", "shape", "rate", "options", "message"),
    [
        ("gaussan1d", (8, 8), 0.3, {}, "unknown mask"),
        ("gaussian1d", (8, 8), 0.0, {}, "lies in"),
        ("gaussian1d", (8, 8), 1.1, {}, "lies in"),
        ("gaussian1d", (8, 8), float("nan"), {}, "lies in"),
        ("gaussian1d", (8, 8), 0.01, {}, "leaves no sample"),
        ("gaussian1d", (64, 64), 0.1, {"centre": 20}, "exceeds"),
        ("poisson2d", (64, 64), 0.1, {"centre": 30}, "exceeds"),
        ("spiral", (64, 64), 0.9, {}, "cannot cover"),
        ("radial", (8, 8), 0.3, {"spread": 1.0}, "takes no option"),
        ("radial", (8,), 0.3, {}, "two or three sides"),
    ],
)
def test_impossible_masks_are_refused(kind, shape, rate, options, message):
    with pytest.raises(ValueError, match=message):
        make_mask(kind, shape, rate, **options)


def test_a_mask_is_described_by_what_it_keeps_and_what_that_determines():
    mask = np.zeros((4, 4), np.float32)
    mask[:, 2:] = 1  # frequencies 0 and 1; the mirror of 1 is -1, so only -2 is not determined
    words = describe_mask("gaussian1d", 0.5, mask)
    assert "nominal 50 %, keeps 50.0 %" in words and "determine 75.0 %" in words
