"""Segmentation losses against NumPy and scikit-learn, on values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from medgan_jax.losses import segmentation

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
CLASSES = rng.integers(0, 3, (2, 4, 3))
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]


def test_class_cross_entropy_is_the_log_loss_of_softmax():
    probability = np.asarray(jax.nn.softmax(LOGITS)).reshape(-1, 3)
    expected = log_loss(CLASSES.ravel(), probability.astype(np.float64), labels=[0, 1, 2])
    assert segmentation.class_cross_entropy(LOGITS, ONE_HOT) == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_takes_each_structure_by_itself():
    probability = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = log_loss(ONE_HOT.ravel(), probability.ravel())
    assert segmentation.binary_cross_entropy(LOGITS, ONE_HOT) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(segmentation.binary_cross_entropy(1e4 * LOGITS, ONE_HOT))


def test_soft_dice_by_hand():
    target = np.zeros((2, 2, 2, 1), np.float32)
    target[0, 0] = 1
    probability = np.full((2, 2, 2, 1), 0.5, np.float32)
    # First case 1 - 2 * 1 / (1 + 2), second without a structure 1 - 0 / 1.
    assert segmentation.soft_dice(probability, target) == pytest.approx((1 / 3 + 1) / 2, rel=1e-4)
    assert segmentation.soft_dice(target, target) == pytest.approx(0, abs=1e-6)


def test_multi_scale_l1_weighs_levels_equally_whatever_their_size():
    true = [np.zeros((1, 4, 4, 1), np.float32), np.zeros((1, 2, 2, 8), np.float32)]
    predicted = [true[0] + 0.5, true[1] - 2]
    assert segmentation.multi_scale_l1(predicted, true) == pytest.approx(1.25)
    with pytest.raises(ValueError, match="shape"):
        segmentation.multi_scale_l1([jnp.zeros((1, 2))], [jnp.zeros((1, 3))])
    with pytest.raises(ValueError, match="shorter"):
        segmentation.multi_scale_l1(predicted, true[:1])
