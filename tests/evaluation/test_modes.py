"""Modes among images: classes that differ are told apart, a missing one is missed, noise is of none."""

import jax
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.evaluation import modes


def images(label, count, seed):
    """Images of three kinds: dark and smooth, bright and smooth, grey with fine grain."""
    generator = np.random.default_rng([label, seed])
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    place = generator.uniform(-0.5, 0.5, (2, count, 1, 1))
    blob = np.exp(-3 * ((x - place[0]) ** 2 + (y - place[1]) ** 2))
    grain = generator.normal(0, (0.02, 0.02, 0.3)[label], blob.shape)
    return ((-0.8, 0.4, -0.3)[label] + 0.5 * blob + grain)[..., None].astype(np.float32)


@pytest.fixture(scope="module")
def drawn():
    numbers = jax.jit(modes.texture_numbers)
    of = lambda seed: [np.asarray(numbers(images(label, 40, seed))) for label in range(3)]  # noqa: E731
    train, test = of(0), of(1)
    labels = np.repeat(np.arange(3), 40)
    noise = numbers(np.random.default_rng(0).uniform(-1, 1, (40, 16, 16, 1)).astype(np.float32))
    return modes.fit_regions(np.concatenate(train), labels), test, np.asarray(noise)


def test_held_out_images_are_named_rightly(drawn):
    regions, test, _ = drawn
    for label, numbers in enumerate(test):
        assert (regions.classes(numbers) == label).mean() > 0.9
    assert regions.covered(regions.classes(np.concatenate(test))) == 3


def test_noise_is_of_no_class(drawn):
    regions, _, noise = drawn
    assert (regions.classes(noise) == -1).all()
    assert regions.covered(regions.classes(noise)) == 0


def test_a_class_with_a_quarter_of_its_share_counts(drawn):
    regions, _, _ = drawn
    # Each has a third of the real images, so a twelfth of the generated ones is enough.
    for few, expected in ((9, 3), (7, 2), (0, 2)):
        assert regions.covered(np.array([0] * 45 + [1] * (55 - few) + [2] * few)) == expected


def test_one_class_cannot_be_counted():
    with pytest.raises(UserError, match="two classes"):
        modes.fit_regions(np.zeros((4, 3)), np.zeros(4, int))


def test_labels_need_not_begin_at_zero(drawn):
    _, test, _ = drawn
    regions = modes.fit_regions(np.concatenate(test), np.repeat([5, 2, 9], 40))
    assert set(regions.classes(np.concatenate(test))) <= {-1, 2, 5, 9}
    assert regions.covered(regions.classes(np.concatenate(test))) == 3
