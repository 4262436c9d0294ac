"""Tissue of two scanners: one region in two colours, unpaired training, pairs to measure."""

import jax
import numpy as np

from medgan_jax.data.scanners import scanned_tissue, scanner_data


def test_a_region_has_one_structure_and_a_colour_of_each_scanner():
    drawn = jax.jit(lambda key: {name: scanned_tissue(key, name, size=32) for name in "AB"})(jax.random.key(0))
    a, b = (np.asarray(drawn[name]["image"]) for name in "AB")
    assert a.shape == b.shape == (32, 32, 3)
    assert np.abs(a - b).mean() > 0.02
    assert np.corrcoef(a.mean(-1).ravel(), b.mean(-1).ravel())[0, 1] > 0.8
    assert int(drawn["A"]["label"]) == int(drawn["B"]["label"])


def test_training_has_other_regions_in_each_domain_and_tests_have_pairs():
    data, paired = scanner_data("phantom", size=32, channels=3, counts=(4, 2, 2), batch_size=2)
    assert paired
    assert set(data.train) == {"A", "B", "judged"}
    assert data.train["A"].source.fingerprint != data.train["B"].source.fingerprint
    assert set(data.test.blank()[0]) >= {"A", "B", "label"}
