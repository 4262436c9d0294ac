"""Measures of trust on images whose faults are known."""

import numpy as np
import pytest
from scipy import stats

from medgan_jax.evaluation import trust


def images(count=6, side=32, noise=1.0, seed=0):
    return 100 + np.random.default_rng(seed).normal(scale=noise, size=(count, side, side))


def test_bias_by_tissue_slope_and_intercept():
    labels = np.broadcast_to(np.repeat([0, 1, 2, 3], 8)[:, None], (5, 32, 32))
    reference = np.array([-1000.0, 0.0, 50.0, 400.0])[labels]
    output = 0.9 * reference + 10
    found = trust.intensity_calibration(output, reference, labels, {0: "air", 1: "water", 3: "bone"})
    assert [each.name for each in found.tissues] == ["air", "water", "bone"]
    assert [each.bias for each in found.tissues] == pytest.approx([110, 10, -30])
    assert (found.slope, found.intercept) == (pytest.approx(0.9), pytest.approx(10))
    assert all(each.sd == pytest.approx(0, abs=1e-9) and each.pixels == 5 * 8 * 32 for each in found.tissues)
    expected = stats.wasserstein_distance(output.ravel(), reference.ravel())
    assert found.wasserstein == pytest.approx(expected)


def test_bands_stand_in_for_tissues():
    reference = images()
    labels, names = trust.intensity_bands(reference, 4)
    assert set(np.unique(labels)) == {0, 1, 2, 3} == set(names)
    assert reference[labels == 3].min() >= reference[labels == 2].max() - 1e-9


def test_a_shape_that_differs_is_a_mistake():
    with pytest.raises(ValueError, match="shapes differ"):
        trust.intensity_calibration(np.zeros((1, 4)), np.zeros((1, 5)), np.zeros((1, 4)), {0: "all"})


def test_noise_is_found_beside_edges():
    noisy = images(noise=2.0) + np.where(np.arange(32) > 15, 500.0, 0.0)
    assert trust.noise_deviation(noisy) == pytest.approx(2.0, rel=0.15)  # 2 of 30 columns are edge
    assert trust.noise_deviation(np.full((2, 8, 8), 3.0)) == 0


@pytest.mark.parametrize("cnr", [1.0, 4.0])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_lesions_that_are_kept_weakened_and_lost(cnr, kept):
    absent = images(400)
    template = trust.lesion((32, 32), (14, 17), 1.5)
    templates = np.broadcast_to(template, absent.shape)
    present = absent + kept * cnr * template
    height = np.full(400, cnr)
    found = trust.lesion_preservation(present, absent, templates, height=height, cnr=cnr)
    assert found.recovery == pytest.approx(kept, abs=1e-9)
    # The detectability of a known signal in white noise: Phi(d / sqrt 2), d the height over the filter's noise.
    around = trust._neighbourhood(template > 0)
    energy = ((template[around] - template[around].mean()) ** 2).sum()
    assert found.auc == pytest.approx(stats.norm.cdf(kept * cnr * np.sqrt(energy / 2)), abs=0.04)
    assert np.isnan(found.local) if kept == 0 else found.local == pytest.approx(1)


def test_a_change_far_away_is_not_local():
    absent, templates = images(8), np.broadcast_to(trust.lesion((32, 32), (8, 8), 2), (8, 32, 32))
    present = absent + templates + trust.lesion((32, 32), (24, 24), 2)
    found = trust.lesion_preservation(present, absent, templates, height=np.ones(8), cnr=1)
    assert found.local == pytest.approx(0.5)


def test_an_honest_ensemble_covers_and_an_overconfident_one_does_not():
    random = np.random.default_rng(0)
    scale = random.uniform(0.5, 3, (4, 24, 24))
    samples = random.normal(size=(200, 4, 24, 24)) * scale
    reference = random.normal(size=(4, 24, 24)) * scale
    honest = trust.uncertainty_calibration(samples, reference)
    assert honest.coverage == pytest.approx(0.9, abs=0.02) and honest.ausce < 0.03
    assert honest.spearman > 0.3
    confident = trust.uncertainty_calibration(samples / 10, reference)
    assert confident.coverage < 0.3 and confident.ausce > 0.3
    shuffled = random.permutation(samples.reshape(200, -1).T).T.reshape(samples.shape)
    assert honest.ause < trust.uncertainty_calibration(shuffled, reference).ause
    with pytest.raises(ValueError, match="two samples"):
        trust.uncertainty_calibration(samples[:1], reference)
