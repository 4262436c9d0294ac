"""Classical methods as rivals: their weight is the best on training cases, interpolation does not shift."""

import jax.numpy as jnp
import numpy as np

from medgan_jax import classical
from medgan_jax.physics.resolution import truncate_kspace


def test_the_weight_with_the_least_error_on_training_cases_is_taken():
    rival = classical.tuned(
        "scaled", lambda image, weight: weight * image, (0.5, 1.0, 2.0, 4.0), "a", "b", source="x", target="y"
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3)).astype(np.float32)
    # Only the first batch counts.
    weight = rival.fit(iter([{"x": x, "y": 2.1 * x}, {"x": x, "y": 4 * x}]))
    assert float(weight) == 2
    outputs = rival.apply(weight, {"x": jnp.ones((1, 3))}, None)
    assert set(outputs) == {"a", "b"}
    assert np.allclose(outputs["b"], 2)


def test_interpolation_between_samples_agrees_with_a_smooth_volume():
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    smooth = np.cos(t)[:, None, None] + np.sin(2 * t)[:, None] + 0.5 * np.cos(t)
    volume = jnp.asarray(smooth, jnp.float32)[None, ..., None]
    low = truncate_kspace(volume, 2, (-3, -2))
    rival = classical.cubic_interpolation("fine", source="low", factor=(2, 2), axes=(-3, -2))
    found = np.asarray(rival.apply((), {"low": low}, None)["fine"])
    assert found.shape == volume.shape
    assert np.abs(found - volume)[:, :, 4:-4, 4:-4].max() < 0.02


def test_noise_is_denoised_beside_the_untouched_image():
    rng = np.random.default_rng(0)
    clean = np.zeros((2, 24, 24, 1), np.float32)
    clean[:, 6:18, 6:18] = 1
    batch = {
        "low": jnp.asarray(clean + 0.1 * rng.normal(size=clean.shape), jnp.float32),
        "target": jnp.asarray(clean),
    }
    made = classical.denoisers("out", source="low", target="target", scale=0.1, untouched="low dose")
    errors = {
        rival.name: float(
            jnp.square(
                rival.apply(rival.fit(iter([batch])) if rival.fit else (), batch, None)["out"] - clean
            ).mean()
        )
        for rival in (made["baseline"], *made["others"])
    }
    assert errors["total variation"] < 0.3 * errors["low dose"]
    assert errors["non-local means"] < 0.3 * errors["low dose"]
