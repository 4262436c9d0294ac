"""Image fidelity against scikit-image, NumPy, torchmetrics and MONAI, and what a traced metric does with bad
input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_jax.metrics import image

SHAPE = (24, 20)
WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def divided(a, b):
    with np.errstate(all="ignore"):
        return a / b if b else np.nan


def float64(reference):
    return lambda x, y: reference(np.float64(x), np.float64(y))


CASES = {
    "mse": (image.mse, skimage.metrics.mean_squared_error),
    "rmse": (image.rmse, float64(lambda x, y: np.sqrt(np.mean((x - y) ** 2)))),
    "mae": (image.mae, float64(lambda x, y: np.mean(abs(x - y)))),
    "nmse": (image.nmse, float64(lambda x, y: divided(np.sum((x - y) ** 2), np.sum(y**2)))),
    "nmse_dagan": (
        image.nmse_dagan,
        float64(lambda x, y: divided(np.linalg.norm(x - y), np.linalg.norm(y))),
    ),
    "psnr": (
        lambda x, y: image.psnr(x, y, data_range=1.0),
        lambda x, y: skimage.metrics.peak_signal_noise_ratio(y, x, data_range=1.0),
    ),
    "snr_db": (
        image.snr_db,
        float64(lambda x, y: -10 * np.log10(divided(np.sum((x - y) ** 2), np.sum(y**2)))),
    ),
    "ncc": (
        image.ncc,
        float64(lambda x, y: np.corrcoef(x.ravel(), y.ravel())[0, 1] if x.std() * y.std() > 1e-9 else np.nan),
    ),
    "ssim of Wang": (
        lambda x, y: image.ssim(x, y, data_range=1.0, window=image.WANG_2004),
        float64(
            lambda x, y: skimage.metrics.structural_similarity(y[..., 0], x[..., 0], data_range=1.0, **WANG)
        ),
    ),
    "ssim of scikit-image": (
        lambda x, y: image.ssim(x, y, data_range=1.0, window=image.UNIFORM_7),
        float64(lambda x, y: skimage.metrics.structural_similarity(y[..., 0], x[..., 0], data_range=1.0)),
    ),
}
for kind in ("euclidean", "min-max", "mean"):
    CASES[f"nrmse {kind}"] = (
        lambda x, y, kind=kind: image.nrmse(x, y, denominator=kind),
        lambda x, y, kind=kind: _nrmse(np.float64(x), np.float64(y), kind),
    )


def _nrmse(x, y, kind):
    scale = {"euclidean": np.sqrt(np.mean(y * y)), "min-max": np.ptp(y), "mean": y.mean()}[kind]
    # scikit-image divides by zero without a word: undefined here.
    return skimage.metrics.normalized_root_mse(y, x, normalization=kind) if scale else np.nan


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_every_kind_of_input_agrees_with_the_reference(mixed_images, agree):
    agree(CASES, mixed_images(SHAPE), rtol=2e-5, atol=3e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 1e4), st.floats(-1e3, 1e3))
def test_generated_images_agree_with_scikit_image(seed, scale, offset):
    generator = np.random.default_rng(seed)
    y = (offset + scale * generator.random((2, *SHAPE, 1))).astype(np.float32)
    x = (y + 0.1 * scale * generator.normal(size=y.shape)).astype(np.float32)
    ssim = image.ssim(x, y, data_range=scale, window=image.WANG_2004)
    psnr = image.psnr(x, y, data_range=scale)
    for i in range(2):
        a, b = np.float64(y[i, ..., 0]), np.float64(x[i, ..., 0])
        expected = skimage.metrics.structural_similarity(a, b, data_range=scale, **WANG)
        np.testing.assert_allclose(ssim[i], expected, atol=2e-3 if abs(offset) > 50 * scale else 1e-5)
        expected = skimage.metrics.peak_signal_noise_ratio(a, b, data_range=scale)
        np.testing.assert_allclose(psnr[i], expected, rtol=1e-4)


def test_ssim_of_hounsfield_values_does_not_cancel():
    generator = np.random.default_rng(0)
    y = (-1000 + 5 * generator.normal(size=(1, 32, 32, 1))).astype(np.float32)
    x = (y + 5 * generator.normal(size=y.shape)).astype(np.float32)
    expected = skimage.metrics.structural_similarity(
        np.float64(y[0, ..., 0]), np.float64(x[0, ..., 0]), data_range=400.0, **WANG
    )
    value = image.ssim(x, y, data_range=400.0, window=image.WANG_2004)
    np.testing.assert_allclose(value[0], expected, rtol=1e-6)


def volume_similarity(x, y):
    return skimage.metrics.structural_similarity(np.float64(y[..., 0]), np.float64(x[..., 0]), data_range=1.0)


def slice_similarity(x, y):
    return np.mean([volume_similarity(p, q) for p, q in zip(x, y, strict=True)])


def test_ssim_of_volumes_uses_a_volume_window_and_slicewise_is_fastmri(mixed_images, agree):
    options = {"data_range": 1.0, "window": image.UNIFORM_7}
    cases = {
        "ssim": (lambda x, y: image.ssim(x, y, **options), volume_similarity),
        "ssim_slicewise": (lambda x, y: image.ssim_slicewise(x, y, **options), slice_similarity),
    }
    agree(cases, mixed_images((7, 9, 8)), rtol=1e-4, atol=1e-5, examples=2)
    # fastMRI's range is each volume's own maximum: scaling both images by it changes nothing.
    a, b = (x[[0, 7]] for x in mixed_images((7, 9, 8))())
    scale = np.array([3.0, 0.5], np.float32)
    scaled = (scale.reshape(2, 1, 1, 1, 1) * x for x in (a, b))
    value = image.ssim_slicewise(*scaled, data_range=scale, window=image.UNIFORM_7)
    np.testing.assert_allclose(value, [slice_similarity(*pair) for pair in zip(a, b, strict=True)], rtol=1e-4)


def test_ssim_of_colour_is_the_mean_over_channels():
    generator = np.random.default_rng(1)
    x, y = generator.random((2, 1, 20, 20, 3)).astype(np.float32)
    expected = skimage.metrics.structural_similarity(
        np.float64(y[0]), np.float64(x[0]), data_range=1.0, channel_axis=-1, **WANG
    )
    np.testing.assert_allclose(
        image.ssim(x, y, data_range=1.0, window=image.WANG_2004)[0], expected, rtol=1e-5
    )


def test_ms_ssim_agrees_with_torchmetrics_and_monai():
    torch = pytest.importorskip("torch", reason="the references of MS-SSIM are PyTorch libraries")
    functional = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is the reference")
    generator = np.random.default_rng(2)
    y = generator.random((2, 180, 178, 2)).astype(np.float32)
    y = np.cumsum(y, axis=1) / 180
    x = (y + 0.05 * generator.normal(size=y.shape)).astype(np.float32)
    # The first case is grey, twice: its value is that of one channel.
    x[0, ..., 1], y[0, ..., 1] = x[0, ..., 0], y[0, ..., 0]
    value = jax.jit(lambda a, b: image.ms_ssim(a, b, data_range=1.0, window=image.WANG_2004, scales=5))(x, y)
    first, second = (torch.tensor(np.moveaxis(z, -1, 1)) for z in (x, y))
    expected = functional.multiscale_structural_similarity_index_measure(
        first[:1, :1], second[:1, :1], data_range=1.0, reduction="none", normalize="relu"
    )
    # torchmetrics pads before it filters and crops afterwards, which equals windows that fit.
    np.testing.assert_allclose(value[:1], expected.numpy(), rtol=2e-4)
    regression = pytest.importorskip("monai.metrics.regression", reason="MONAI is the second reference")
    metric = regression.MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0)
    np.testing.assert_allclose(value, metric(first, second).numpy()[:, 0], rtol=2e-4)


def test_ms_ssim_with_one_scale_is_a_power_of_ssim_and_small_images_are_refused():
    generator = np.random.default_rng(3)
    y = generator.random((2, 24, 24, 1)).astype(np.float32)
    x = (0.8 * y + 0.2 * generator.random(y.shape)).astype(np.float32)
    options = {"data_range": 1.0, "window": image.WANG_2004}
    one = image.ms_ssim(x, y, scales=1, **options)
    np.testing.assert_allclose(one, image.ssim(x, y, **options) ** sum(image.MS_SSIM_WEIGHTS), rtol=1e-5)
    with pytest.raises(ValueError, match="at least 176"):
        image.ms_ssim(x, y, scales=5, **options)


def test_known_values():
    y = jnp.ones((1, 8, 8, 1))
    assert float(image.psnr(y + 0.1, y, data_range=1.0)[0]) == pytest.approx(20.0, abs=1e-4)
    ranges = [float(image.psnr(y + 0.1, y, data_range=r)[0]) for r in (4096.0, 400.0)]
    assert ranges[0] - ranges[1] == pytest.approx(20 * np.log10(4096 / 400), abs=1e-4)
    assert float(image.snr_db(1.1 * y, y)[0]) == pytest.approx(20.0, abs=1e-4)
    assert float(image.nmse(1.1 * y, y)[0]) == pytest.approx(0.01, rel=1e-5)
    assert float(
        image.ncc(-jnp.arange(64.0).reshape(1, 8, 8, 1), jnp.arange(64.0).reshape(1, 8, 8, 1))[0]
    ) == (pytest.approx(-1.0, abs=1e-6))


def test_shift_and_scale_and_flip_invariances(mixed_images):
    a, b = (x[[0, 7]] for x in mixed_images(SHAPE)())
    ssim = lambda x, y, r: image.ssim(x, y, data_range=r, window=image.WANG_2004)  # noqa: E731
    np.testing.assert_allclose(ssim(a, b, 1.0), ssim(100 * a, 100 * b, 100.0), rtol=1e-4)
    np.testing.assert_allclose(ssim(a, b, 1.0), ssim(b, a, 1.0), rtol=1e-6)
    np.testing.assert_allclose(ssim(a, b, 1.0), ssim(a[:, ::-1], b[:, ::-1], 1.0), rtol=1e-5)
    np.testing.assert_allclose(image.ncc(a, b), image.ncc(3 * a + 5, b), rtol=1e-4)
    np.testing.assert_allclose(image.mse(a + 1, b + 1), image.mse(a, b), rtol=1e-4)


def test_more_noise_is_worse():
    generator = np.random.default_rng(4)
    y, noise = generator.random((1, 32, 32, 1)), generator.normal(size=(5, 32, 32, 1))
    levels = np.array([0.01, 0.03, 0.1, 0.3, 1.0]).reshape(-1, 1, 1, 1)
    x, y = (y + levels * noise[:1]).astype(np.float32), np.repeat(y, 5, 0).astype(np.float32)
    assert np.all(np.diff(image.psnr(x, y, data_range=1.0)) < 0)
    assert np.all(np.diff(image.ssim(x, y, data_range=1.0, window=image.WANG_2004)) < 0)
    assert np.all(np.diff(image.nmse(x, y)) > 0)


SMALL = image.Window("gaussian", 3, 1.0, "population")
DIFFERENTIABLE = {
    "mse": image.mse,
    "rmse": image.rmse,
    "mae": image.mae,
    "nmse": image.nmse,
    "nrmse": lambda x, y: image.nrmse(x, y, denominator="euclidean"),
    "nrmse over a range that moves": lambda x, y: image.nrmse(y, x, denominator="min-max"),
    "psnr": lambda x, y: image.psnr(x, y, data_range=1.0, eps=1e-8),
    "snr_db": lambda x, y: image.snr_db(x, y, eps=1e-8),
    "ncc": lambda x, y: image.ncc(x, y, eps=1e-8),
    "ssim": lambda x, y: image.ssim(x, y, data_range=1.0, window=SMALL),
    "ms_ssim": lambda x, y: image.ms_ssim(x, y, data_range=1.0, window=SMALL, scales=2),
}


def test_gradient_is_finite_at_equality_and_on_constant_images():
    ramp = jnp.linspace(0.1, 0.9, 64).reshape(1, 8, 8, 1)
    constant = jnp.full_like(ramp, 0.5)

    @jax.jit
    def gradients(x, y):
        return {
            name: jax.grad(lambda z, m=metric: jnp.sum(m(z, y)))(x) for name, metric in DIFFERENTIABLE.items()
        }

    for x, y in ((ramp, ramp), (constant, constant), (ramp, constant), (constant, ramp)):
        for name, gradient in gradients(x, y).items():
            assert bool(jnp.all(jnp.isfinite(gradient))), name


def test_conventions_are_required_and_shapes_are_checked():
    x = jnp.ones((1, 16, 16, 1))
    for call in (image.psnr, image.ssim, image.nrmse, image.ms_ssim):
        with pytest.raises(TypeError):
            call(x, x)
    with pytest.raises(ValueError, match="but reference is"):
        image.mse(x, x[:, :8])
    with pytest.raises(ValueError, match="must be"):
        image.mse(x[0], x[0])
    with pytest.raises(ValueError, match="does not fit"):
        image.ssim(x[:, :8], x[:, :8], data_range=1.0, window=image.WANG_2004)
    with pytest.raises(ValueError, match="denominator"):
        image.nrmse(x, x, denominator="range")
    assert np.isnan(jax.jit(lambda a: image.psnr(a, a + 1, data_range=0.0))(x))
    assert np.isnan(image.ssim(x, x, data_range=-1.0, window=image.WANG_2004))


def test_masks_restrict_to_a_region():
    generator = np.random.default_rng(6)
    x, y = generator.random((2, 2, 20, 20, 2)).astype(np.float32)
    mask = np.zeros((2, 20, 20, 1), np.uint8)
    mask[0, 5:15, 5:15] = 1
    inside = x[0, 5:15, 5:15], y[0, 5:15, 5:15]
    assert float(image.mse(x, y, mask=mask)[0]) == pytest.approx(
        float(np.mean((inside[0] - inside[1]) ** 2)), rel=1e-5
    )
    assert np.isnan(image.mse(x, y, mask=mask)[1])
    _, full = skimage.metrics.structural_similarity(
        np.float64(y[0]), np.float64(x[0]), data_range=1.0, channel_axis=-1, full=True, **WANG
    )
    value = image.ssim(x, y, data_range=1.0, window=image.WANG_2004, mask=mask)[0]
    assert float(value) == pytest.approx(full[5:15, 5:15].mean(), rel=1e-5)


def test_region_ratios_of_imaging_physics():
    generator = np.random.default_rng(7)
    x = generator.normal(0, 2, (1, 40, 40, 1)).astype(np.float32)
    x[0, :10] += 100
    x[0, 10:20] += 50
    region = np.zeros((3, 1, 40, 40, 1), np.uint8)
    region[0, :, :10], region[1, :, 10:20], region[2, :, 20:] = 1, 1, 1
    deviation = x[0, 20:].std()
    options = {"signal": region[0], "background": region[2]}
    value = float(image.roi_snr(x, rayleigh_correction=False, **options)[0])
    assert value == pytest.approx(x[0, :10].mean() / deviation, rel=1e-4)
    assert float(image.roi_snr(x, rayleigh_correction=True, **options)[0]) == pytest.approx(
        0.655 * value, rel=1e-5
    )
    contrast = image.cnr(x, first=region[0], second=region[1], background=region[2])[0]
    assert float(contrast) == pytest.approx((x[0, :10].mean() - x[0, 10:20].mean()) / deviation, rel=1e-4)
    assert np.isnan(image.roi_snr(np.full_like(x, 0.1), rayleigh_correction=False, **options)[0])
