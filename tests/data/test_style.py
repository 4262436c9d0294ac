"""Style images: a file in its own range, and one line about what is wrong with it."""

import numpy as np
import pytest
from PIL import Image

from medgan_jax.data.style import fibres_and_nuclei, open_style
from medgan_jax.errors import UserError


def test_a_file_comes_in_its_own_range(tmp_path):
    path = tmp_path / "style.png"
    Image.fromarray(np.array([[[10, 20, 30], [110, 60, 30]]] * 2, np.uint8)).save(path)
    style = open_style(str(path), 2, 3, smallest=2)
    np.testing.assert_allclose(style[0, 0], [-1, -0.8, -0.6], atol=1e-5)
    assert style.max() == pytest.approx(1)
    with pytest.raises(UserError, match="sides of at least 4"):
        open_style(str(path), 4, 3, smallest=4)
    with pytest.raises(UserError, match="H, W, 1"):
        open_style(str(path), 2, 1, smallest=2)
    Image.fromarray(np.full((2, 2), 7, np.uint8)).save(path)
    with pytest.raises(UserError, match="no style"):
        open_style(str(path), 2, 1, smallest=2)


def test_the_texture_is_the_same_everywhere():
    style = open_style("", 96, 3, smallest=64)
    assert np.array_equal(style, fibres_and_nuclei(96, 3))
    assert np.abs(style).max() <= 1
    halves = style[:48], style[48:]
    np.testing.assert_allclose(halves[0].mean((0, 1)), halves[1].mean((0, 1)), atol=0.08)
    np.testing.assert_allclose(halves[0].std((0, 1)), halves[1].std((0, 1)), atol=0.08)
    assert style.std((0, 1)).min() > 0.2
    assert open_style("", 96, 1, smallest=64).shape == (96, 96, 1)
