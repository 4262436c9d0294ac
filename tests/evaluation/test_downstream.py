"""Train on synthetic, test on real: arms, seeds and intervals with classifiers whose answer is known."""

import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.evaluation.downstream import Labelled, tstr


def nearest_mean(images, labels, seed):
    """A classifier that needs no training loop; the seed leaves out one random image."""
    keep = np.random.default_rng(seed).permutation(len(images))[1:]
    means = np.stack([images[keep][labels[keep] == c].mean(0) for c in (0, 1)])
    return lambda x: np.linalg.norm(x[:, None] - means, axis=-1).argmin(1)


def right(predictions, labels):
    return predictions == labels


def data(n, seed, gap=1.0, flip=0.0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = generator.normal(size=(n, 4)) + gap * labels[:, None]
    return Labelled(images, np.where(generator.random(n) < flip, 1 - labels, labels))


def run(synthetic, **changes):
    test = data(200, 9)
    options = {
        "synthetic": synthetic,
        "real_train": data(100, 1),
        "real_test": test,
        "test_patients": np.arange(200) // 2,
        "n_synthetic": (50, 100),
        "seeds": (0, 1, 2),
        "resamples": 200,
        "confidence": 0.95,
    }
    return tstr(nearest_mean, right, **{**options, **changes})


def test_good_synthetic_images_are_as_useful_as_real_ones_and_mislabelled_ones_are_not():
    arms = run(data(100, 2))
    assert [(a.name, a.n_train) for a in arms] == [
        ("trtr", 100),
        ("tstr", 50),
        ("tsrtr", 150),
        ("tstr", 100),
        ("tsrtr", 200),
        ("trts", 100),
    ]
    assert arms[0].difference_to_trtr is None and arms[0].summary.n_seeds == 3
    good = arms[3].difference_to_trtr
    assert good.lower <= 0.02 and abs(good.value) < 0.05 and good.n_patients == 100
    bad = {a.name: a for a in run(data(100, 2, flip=0.9), n_synthetic=(100,))}
    assert bad["tstr"].difference_to_trtr.upper < -0.3
    assert bad["trts"].summary.mean < 0.3 < bad["trtr"].summary.mean


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="n_synthetic"):
        run(data(100, 2), n_synthetic=(101,))
    with pytest.raises(UserError, match="seed"):
        run(data(100, 2), seeds=())
    with pytest.raises(UserError, match="as many labels"):
        Labelled(np.zeros((3, 2)), np.zeros(2))
