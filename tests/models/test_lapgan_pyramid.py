"""The pyramid of LAPGAN: levels of an image, what a stage sees of them, and the way back."""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.intensity import MinMax
from medgan_jax.models.lapgan import from_coarse_to_fine, pyramid, pyramid_and_noise
from medgan_jax.nn.resample import average_pool, upsample

X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 2)), jnp.float32)


def test_details_bring_the_image_back():
    images, enlarged = pyramid(X, (4, 8, 16))
    assert {side: image.shape for side, image in images.items()} == {
        side: (3, side, side, 2) for side in (4, 8, 16)
    }
    assert set(enlarged) == {8, 16}
    assert np.allclose(enlarged[16], upsample(average_pool(X), 2, "linear"), atol=1e-6)
    back = from_coarse_to_fine(images[4], (8, 16), lambda side, l: images[side] - enlarged[side])
    assert np.allclose(back, X, atol=1e-5)
    # Without details it is the coarsest image, enlarged twice.
    smooth = from_coarse_to_fine(images[4], (8, 16), lambda side, l: jnp.zeros_like(l))
    assert np.allclose(smooth, upsample(upsample(images[4], 2, "linear"), 2, "linear"), atol=1e-6)


def test_a_stage_sees_levels_and_noise_of_each():
    prepare = pyramid_and_noise(MinMax(0, 2, "input", (-1, 1)), (8, 16), latent=5)
    batch = prepare({"image": 1 + X, "label": jnp.arange(3)}, jax.random.key(0))
    assert set(batch) == {"image", "label", "x", "I", "l", "z"}
    assert np.allclose(batch["x"], X, atol=1e-6)
    assert np.allclose(batch["I"][8], average_pool(X), atol=1e-6)
    assert {side: z.shape for side, z in batch["z"].items()} == {8: (3, 5), 16: (3, 16, 16, 1)}
    noise = np.concatenate([z.ravel() for z in batch["z"].values()])
    assert -1 <= noise.min() < -0.9
    assert 0.9 < noise.max() < 1
