"""Openers of images with what belongs to them: myelin beside MR, CT beside MR, coarse volumes, eyes and vessels."""

import numpy as np
import pytest

from medgan_jax.data.eyes import eye_data
from medgan_jax.data.myelin import LESION, REGIONS, WHITE_MATTER, open_myelin
from medgan_jax.data.volumes import coarse_heads, open_head_pairs
from medgan_jax.errors import UserError


def test_regions_of_myelin_are_numbered_and_white_matter_has_the_most():
    record = open_myelin("phantom", size=64, rank=2, channels=3, counts=(1, 1, 1)).train[0]
    assert {name: record[name].shape[-1] for name in ("A", "B", "mask")} == {"A": 3, "B": 1, "mask": 1}
    regions, myelin = record["mask"], record["B"]
    assert regions.min() >= 0 and regions.max() < REGIONS
    air, white, lesions = (myelin[regions == number] for number in (0, WHITE_MATTER, LESION))
    assert np.abs(air).mean() < 0.1 < lesions.mean() < white.mean()


def test_mr_and_ct_are_volumes_of_one_head():
    record = open_head_pairs("phantom", size=16, counts=(1, 1, 1), least=12).train.blank()[0]
    assert record["A"].shape == record["B"].shape == (16, 16, 16, 1)
    with pytest.raises(UserError, match="at least 20"):
        open_head_pairs("phantom", size=16, counts=(1, 1, 1), least=20)


def test_patches_of_coarse_heads_to_train_on():
    options = dict(size=(16, 16, 16), factor=2, axes=(-3, -2), counts=(1, 1, 1), batch_size=1)
    data = coarse_heads("phantom", patch=8, **options)
    assert data.fields == ("image", "low")
    record = {name: np.zeros((16, 16, 16, 1), np.float32) for name in data.fields}
    patch = data.train.augment(record, np.random.default_rng(0))
    assert {name: patch[name].shape for name in data.fields} == dict.fromkeys(data.fields, (8, 8, 8, 1))


def test_eyes_are_vessels_and_photographs():
    data = eye_data("phantom", 32, (1, 1, 1), 1)
    record = data.test.blank()[0]
    assert {name: record[name].shape for name in data.fields} == {"A": (32, 32, 1), "B": (32, 32, 3)}
