"""The procedural head: determinism, anatomy, statistics of real slices, phase, noise."""

import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from medgan_jax.phantoms import head, head_anatomy
from tests.phantoms.image_statistics import gradient_kurtosis, spectrum_slope

# Measured on 100 proton-density slices of IXI (256 x 256) with the two functions of `image_statistics`:
# slope -2.83 (SD 0.18), kurtosis 19.6 (SD 2.6); their histogram is 57 % air and peaks at 0.40 to 0.60.
IXI_SLOPE, SLOPE_BOUND = -2.85, 0.4
KURTOSIS_BOUNDS = 10, 40
NUMBER = 8
# Of T2 slices with lesions of the eight subjects, as the first release drew them.
T2_MEANS = [0.130593, 0.163243, 0.147206, 0.155971, 0.131753, 0.143141, 0.152423, 0.167783]
LABEL_SUMS = [5812, 6597, 6545, 6546, 5814, 6262, 5906, 6809]
IXI = pathlib.Path(os.environ["MEDGAN_JAX_TEST_DATA"]) / "brain_mr_ixi" / "images"


KEYS = functools.partial(jax.random.split, num=NUMBER)


@functools.cache
def all_subjects():
    """Every contrast, and T2 with lesions, of the same subjects, compiled as one program."""

    def draw(key):
        slices = {contrast: head.head_slice(key, contrast=contrast) for contrast in ("t1", "t2", "pd")}
        return slices | {"lesions": head.head_slice(key, contrast="t2", lesions=True)}

    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(KEYS(jax.random.key(3))))


def subjects(contrast="t1"):
    return all_subjects()[contrast]


@functools.cache
def small_slices():
    """The compiled `(keys, noise) -> slices` of 64 x 64 pixels."""
    return jax.jit(lambda keys, noise: head.head_slices(keys, 64, noise=noise, batch=4))


def test_shapes_types_and_ranges():
    slices = subjects()
    assert slices["image"].shape == (NUMBER, 256, 256, 1) and slices["image"].dtype == np.float32
    assert slices["complex"].shape == (NUMBER, 256, 256, 2)
    assert slices["labels"].shape == (NUMBER, 256, 256) and slices["labels"].dtype == np.int32
    np.testing.assert_allclose(slices["image"].max((1, 2, 3)), 1, rtol=1e-5)
    assert slices["image"].min() >= 0
    np.testing.assert_allclose(np.linalg.norm(slices["complex"], axis=-1), slices["image"][..., 0], atol=1e-6)


def test_a_key_gives_the_same_subject_again_wherever_it_stands_in_a_batch():
    keys = KEYS(jax.random.key(4))
    first = small_slices()(keys, 0.01)
    np.testing.assert_array_equal(first["image"], small_slices()(keys, 0.01)["image"])
    np.testing.assert_allclose(first["image"][::-1], small_slices()(keys[::-1], 0.01)["image"], atol=1e-5)


def test_no_two_subjects_are_alike():
    labels = subjects()["labels"]
    for i in range(NUMBER):
        for j in range(i):
            assert np.mean(labels[i] != labels[j]) > 0.05


def test_contrasts_of_a_key_are_registered_and_lesions_change_nothing_else():
    t1, t2, sick = subjects("t1"), subjects("t2"), subjects("lesions")
    np.testing.assert_array_equal(t1["labels"], t2["labels"])
    healthy_part = ~sick["lesion_mask"]
    np.testing.assert_array_equal(sick["labels"][healthy_part], t2["labels"][healthy_part])
    assert np.all(t2["labels"][sick["lesion_mask"]] == head_anatomy.WHITE_MATTER)


def test_sizes_of_a_key_show_the_same_subject():
    fine = subjects("t1")["image"].reshape(NUMBER, 64, 4, 64, 4).mean((2, 4))
    coarse = np.asarray(small_slices()(KEYS(jax.random.key(3)), 0.01)["image"][..., 0])
    for a, b in zip(fine, coarse, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("size", [16, 50, 130])
def test_any_size_can_be_drawn(size):
    shapes = jax.eval_shape(functools.partial(head.head_slice, size=size), jax.random.key(0))
    assert shapes["image"].shape == (size, size, 1) and shapes["labels"].shape == (size, size)


def test_tissues_have_the_order_of_each_contrast():
    def means(contrast):
        slices = subjects(contrast)
        tissues = {name: slices["labels"] == label for name, label in head.LABELS.items() if name != "lesion"}
        return {name: float(slices["image"][..., 0][where].mean()) for name, where in tissues.items()}

    t1, t2, pd = means("t1"), means("t2"), means("pd")
    assert t1["white_matter"] > 1.15 * t1["cortex"] > 1.15 * t1["ventricle"]
    assert t2["ventricle"] > 1.15 * t2["cortex"] > 1.15 * t2["white_matter"]
    assert pd["ventricle"] > 1.1 * pd["cortex"] > 1.1 * pd["white_matter"]
    for contrast in (t1, t2, pd):
        assert contrast["skull"] < 0.6 * contrast["cortex"] and contrast["air"] < 0.05


def test_every_tissue_is_there_in_the_proportions_of_a_head():
    labels = subjects()["labels"]
    share = {name: np.mean(labels == label, axis=(1, 2)) for name, label in head.LABELS.items()}
    brain = share["cortex"] + share["white_matter"] + share["deep_grey"]
    assert np.all((brain > 0.2) & (brain < 0.45))
    ratio = (share["cortex"] + share["deep_grey"]) / share["white_matter"]
    assert np.all((ratio > 0.6) & (ratio < 2.0))
    for tissue in ("scalp", "skull", "csf", "ventricle", "deep_grey"):
        assert np.all(share[tissue] > 0.002), tissue
    assert np.all((share["air"] > 0.4) & (share["air"] < 0.75))


def test_coats_lie_around_the_brain_and_air_around_the_head():
    slices = subjects()
    labels = slices["labels"]
    assert np.all(labels[:, [0, -1]] == head_anatomy.AIR) and np.all(
        labels[:, :, [0, -1]] == head_anatomy.AIR
    )
    inside = slices["brain_mask"]
    assert not np.any(
        np.isin(slices["labels"][inside], [head_anatomy.AIR, head_anatomy.SCALP, head_anatomy.SKULL])
    )
    neurons = np.isin(
        slices["labels"],
        [head_anatomy.CORTEX, head_anatomy.WHITE_MATTER, head_anatomy.DEEP_GREY, head_anatomy.VENTRICLE],
    )
    assert np.all(inside[neurons])


def test_lesions_are_in_most_subjects_and_bright_on_t2():
    slices = subjects("lesions")
    area = slices["lesion_mask"].sum((1, 2))
    assert np.mean(area > 20) > 0.7 and area.max() < 0.05 * 256**2
    lesion = slices["image"][..., 0][slices["lesion_mask"]].mean()
    assert lesion > 1.3 * slices["image"][..., 0][slices["labels"] == head_anatomy.WHITE_MATTER].mean()
    assert not subjects("t2")["lesion_mask"].any()


@pytest.mark.parametrize("contrast", ["t1", "t2", "pd"])
def test_spectrum_and_gradients_are_those_of_real_slices(contrast):
    images = subjects(contrast)["image"][..., 0].astype(np.float64)
    assert abs(np.mean([spectrum_slope(image) for image in images]) - IXI_SLOPE) < SLOPE_BOUND
    kurtosis = [gradient_kurtosis(image) for image in images]
    assert KURTOSIS_BOUNDS[0] < min(kurtosis) and max(kurtosis) < KURTOSIS_BOUNDS[1]


def test_histogram_is_as_near_to_real_slices_as_they_are_to_each_other():
    if not IXI.is_dir():
        pytest.skip(f"real slices are not at {IXI}")
    paths = sorted(IXI.glob("*a.png"))[:20]
    real = np.sort([np.asarray(Image.open(path), float).ravel() / 255 for path in paths])
    drawn = np.sort(subjects("pd")["image"].reshape(NUMBER, -1))
    # Between equally many samples the Wasserstein distance is the mean difference of the sorted values.
    among = [np.abs(a - b).mean() for i, a in enumerate(real) for b in real[:i]]
    between = [np.abs(a - b).mean() for a in drawn for b in real]
    assert np.median(between) < np.quantile(among, 0.95)
    assert abs(np.mean([spectrum_slope(x.reshape(256, 256)) for x in map(_grey, paths)]) - IXI_SLOPE) < 0.2


def _grey(path):
    return np.asarray(Image.open(path), float) / 255


def test_phase_is_smooth_and_within_a_quarter_turn():
    slices = subjects()
    signal = slices["complex"][..., 0] + 1j * slices["complex"][..., 1]
    phase = np.angle(signal[slices["image"][..., 0] > 0.3])
    assert np.abs(phase).max() < np.pi / 2 + 0.15
    assert np.std(phase) > 0.2
    bright = (slices["image"][:, 1:, :, 0] > 0.3) & (slices["image"][:, :-1, :, 0] > 0.3)
    step = np.angle(signal[:, 1:] * np.conj(signal[:, :-1]))
    assert np.median(np.abs(step[bright])) < 0.06


def test_noise_of_air_is_rayleigh_distributed():
    air = subjects()["image"][:, :12, :12, 0].reshape(NUMBER, -1)
    assert np.all((air.mean(1) > 0.003) & (air.mean(1) < 0.04))
    np.testing.assert_allclose(np.mean(air.mean(1) / air.std(1)), 1.91, rtol=0.05)
    quiet = small_slices()(KEYS(jax.random.key(4)), 0.0)
    np.testing.assert_array_equal(quiet["image"][:, 0], 0)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="unknown contrast 't3'"):
        head.head_slice(jax.random.key(0), 64, contrast="t3")
    with pytest.raises(ValueError, match="at least 16"):
        head.head_slice(jax.random.key(0), 8)


def test_recorded_runs_see_the_images_that_they_saw():
    draw = functools.partial(head.head_slices, size=64, contrast="t2", lesions=True)
    drawn = jax.tree.map(np.asarray, jax.jit(draw)(KEYS(jax.random.key(3))))
    np.testing.assert_allclose(drawn["image"].mean((1, 2, 3)), T2_MEANS, rtol=1e-4)
    assert [int(labels.sum()) for labels in drawn["labels"]] == LABEL_SUMS


def test_sheet_has_a_row_of_each_contrast(monkeypatch):
    def blank(keys, **_):
        return {"image": jnp.zeros((len(keys), 16, 16, 1))}

    monkeypatch.setattr(head, "head_slices", blank)
    rows = head.sheet(KEYS(jax.random.key(0)))
    assert len(rows) == 4 and all(row.shape == (NUMBER, 16, 16) for row in rows.values())
