"""Composed openers of images for generators: heads, and lesions of the skin."""

import jax
import pytest

from medgan_jax.data.dermoscopy import lesion_of_any_kind, skin_data
from medgan_jax.data.heads import head_data


@pytest.mark.parametrize("size", [8, 64])
def test_lesions_come_in_sizes_below_that_of_the_smallest_phantom(size):
    drawn = jax.eval_shape(lambda key: lesion_of_any_kind(key, size=size), jax.random.key(0))
    assert drawn["image"].shape == (size, size, 3)


def test_streams_and_cases():
    skin = skin_data("phantom", size=8, counts=(4, 2, 3), batch_size=2)
    assert (len(skin.train.source), len(skin.validation), len(skin.test)) == (4, 2, 3)
    assert (skin.train.batch_size, skin.fields) == (2, ("image",))
    twice = lambda record, generator: {"image": 2 * record["image"]}  # noqa: E731
    heads = head_data("phantom", size=16, counts=(4, 2, 3), batch_size=3, augment=twice)
    assert (heads.train.augment, heads.train.batch_size, len(heads.test)) == (twice, 3, 3)
