"""The Laplacian pyramid: exact to collapse, and of the right levels."""

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.nn.resample import average_pool, collapse_pyramid, laplacian_pyramid, upsample


@pytest.mark.parametrize("shape", [(2, 16, 8, 3), (1, 8, 8, 8, 1)])
def test_details_and_rest_are_the_image(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    pyramid = laplacian_pyramid(x, 2)
    assert [part.shape[1] for part in pyramid] == [shape[1], shape[1] // 2, shape[1] // 4]
    assert np.allclose(collapse_pyramid(pyramid), x, atol=1e-6)
    half = average_pool(x)
    assert np.allclose(pyramid[0], x - upsample(half, 2, "linear"))
    assert np.allclose(pyramid[2], average_pool(half))


def test_an_even_image_has_no_details():
    details = laplacian_pyramid(jnp.full((1, 8, 8, 1), 3.0), 3)[:-1]
    assert max(float(jnp.abs(detail).max()) for detail in details) < 1e-6
