"""Which sizes networks take, and what they say of others."""

import jax.numpy as jnp
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models.sizes import Sized, Sizes, halvings, sides_of


@pytest.mark.parametrize("sizes, fits, does_not, words", [
    (Sizes(multiple=16), (32, 48), (32, 40), "images whose sides are multiples of 16"),
    (Sizes(multiple=4, minimum=8), (8, 12), (4, 8), "images whose sides are multiples of 4 of at least 8"),
    (Sizes(minimum=24), (24, 25), (24, 23), "images with sides of at least 24"),
    (Sizes(exact=(64, 32)), (64, 32), (32, 64), "images of exactly 64x32"),
    (Sizes(exact=(8, 8, 8)), (8, 8, 8), (8, 8), "images of exactly 8x8x8"),
])
def test_sizes_fit_and_speak(sizes, fits, does_not, words):
    assert sizes.fit(fits)
    assert not sizes.fit(does_not)
    assert str(sizes) == words


def test_sides_and_halvings():
    assert sides_of(64, 3) == (64, 64, 64)
    assert sides_of((4, 8)) == (4, 8)
    assert halvings(256) == 8
    assert halvings((96, 64)) == 5
    assert halvings(96, smallest=4) == 4
    assert halvings(64, smallest=4) == 4
    assert halvings(256, most=3) == 3
    assert halvings(255) == 0


class Picky(Sized):
    sizes = Sizes(multiple=16)


def test_an_array_that_is_no_image_is_a_programming_error():
    with pytest.raises(ValueError, match="spatial axes"):
        Picky().check_sizes(jnp.zeros((2, 16)))
    with pytest.raises(UserError, match=r"the Picky takes images whose sides are multiples of 16; .* 17x16"):
        Picky().check_sizes(jnp.zeros((1, 17, 16, 1)))
    assert Picky().size_multiple == 16
