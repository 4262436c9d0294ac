"""Fréchet and kernel distances against closed forms, SciPy and torchmetrics; bins, domains, observers,
edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, ndimage, special

from medgan_jax.errors import UserError
from medgan_jax.evaluation import distributions as d
from medgan_jax.evaluation import observers
from medgan_jax.metrics import features, generative


def test_frechet_distance_of_known_gaussians():
    assert d.gaussian_frechet([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)
    diagonals = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 1.0])
    assert d.gaussian_frechet(np.zeros(3), diagonals[0], np.ones(3), diagonals[1]) == pytest.approx(3 + 1 + 4)
    singular = np.diag([1.0, 0.0])
    assert d.gaussian_frechet(np.zeros(2), singular, np.zeros(2), singular) == pytest.approx(0, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_frechet_distance_agrees_with_the_matrix_square_root(seed, size):
    generator = np.random.default_rng(seed)
    x, y = (
        generator.normal(size=(40, size)),
        generator.normal(size=(50, size)) @ generator.normal(size=(size, size)) + 1,
    )
    covariances = [np.cov(z, rowvar=False) for z in (x, y)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(sum(covariances) - 2 * root)
    assert d.frechet_from_features(x, y) == pytest.approx(expected, rel=1e-6)
    assert d.frechet_from_features(x, x) == pytest.approx(0, abs=1e-6)
    assert d.frechet_from_features(y, x) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_agrees_with_torchmetrics():
    torch = pytest.importorskip("torch", reason="torchmetrics needs it")
    reference = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is the reference")
    x, y = np.random.default_rng(0).normal(size=(2, 30, 6))
    moments = [torch.tensor(m) for z in (x, y + 1) for m in (z.mean(0), np.cov(z, rowvar=False))]
    assert d.frechet_from_features(x, y + 1) == pytest.approx(
        float(reference._compute_fid(*moments)), rel=1e-6
    )


def test_the_name_says_which_features_and_n_is_required():
    generator = np.random.default_rng(1)
    real, generated = generator.normal(size=(2, 40, 16, 16, 1)).astype(np.float32)
    extractor = features.random_conv(channels=1, rank=2, seed=0)
    result = d.frechet_distance(real, generated, extractor=extractor, n=32)
    assert result.name == "fd[random_conv]" and (result.n, result.dimension) == (32, 224)
    assert result.kernel_name == "kd[random_conv]" and "n = 32" in str(result) and "seed 0" in str(result)
    assert np.isfinite(result.kernel_distance).all()
    own = features.pooled("proxy", "a small network", lambda images: images[..., :1])
    assert d.frechet_distance(real, generated, extractor=own, n=8).name == "fd[proxy]"
    inception = features.FeatureExtractor(features.INCEPTION, "weights of a file", extractor.function)
    assert d.frechet_distance(real, generated, extractor=inception, n=8).name == "fid"
    with pytest.raises(TypeError):
        d.frechet_distance(real, generated, extractor=extractor)
    with pytest.raises(UserError, match="n = 41"):
        d.frechet_distance(real, generated, extractor=extractor, n=41)
    real[0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        d.frechet_distance(real, generated, extractor=extractor, n=32)


def test_from_two_thousand_samples_the_frechet_distance_stands_alone():
    images = np.random.default_rng(2).normal(size=(2000, 2, 2, 1)).astype(np.float32)
    raw = features.pixels(sides=(1, 1))
    assert d.frechet_distance(images, images, extractor=raw, n=2000, batch=2000).kernel_distance is None
    below = d.frechet_distance(images, images, extractor=raw, n=1999, batch=2000)
    assert below.kernel_distance is not None and below.value == pytest.approx(0, abs=1e-6)


def test_features_order_degradations_and_do_not_depend_on_the_batch():
    generator = np.random.default_rng(3)
    real = ndimage.gaussian_filter(generator.normal(size=(2, 48, 16, 16, 1)), (0, 0, 1, 1, 0)).astype(
        np.float32
    )
    noisy = [real[1] + s * generator.normal(size=real[1].shape).astype(np.float32) for s in (0.0, 0.2, 1.0)]
    extractor = features.random_conv(channels=1, rank=2, seed=1)
    values = [d.frechet_distance(real[0], x, extractor=extractor, n=48).value for x in noisy]
    assert values == sorted(values)
    whole, parts = (features.extract(extractor, real[0], batch=b) for b in (48, 7))
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-6)
    volumes = features.random_conv(channels=2, rank=3, seed=0)(generator.normal(size=(2, 8, 8, 8, 2)))
    assert volumes.shape == (2, 224)
    with pytest.raises(ValueError, match="1-channel"):
        extractor(np.zeros((1, 16, 16, 3)))


def test_host_kernel_distance_equals_the_jitted_one():
    import jax

    x, y = np.random.default_rng(4).normal(size=(2, 50, 6)).astype(np.float32)
    host = d.kernel_distance(x, y, subsets=3, subset_size=50, seed=0)
    device = generative.kid(x, y, subsets=1, subset_size=50, key=jax.random.key(0))
    assert host[0] == pytest.approx(float(device[0]), rel=1e-3, abs=1e-5) and host[1] == 0.0
    with pytest.raises(UserError, match="subset_size"):
        d.kernel_distance(x, y, subsets=3, subset_size=51, seed=0)


def test_missing_modes_show_as_different_bins_and_less_spread():
    generator = np.random.default_rng(5)
    centres = 10 * np.eye(5)
    draw = lambda modes, n: centres[generator.integers(0, modes, n)] + generator.normal(size=(n, 5))  # noqa: E731
    options = {"bins": 5, "significance": 0.05, "seed": 0}
    real = draw(5, 600)
    assert d.ndb(real, draw(5, 600), **options).ndb <= 1
    missing = d.ndb(real, draw(3, 600), **options)
    assert missing.ndb == 5 and np.sum(missing.generated_shares < 0.01) == 2
    assert d.log_determinant_ratio(real, draw(1, 600), eps=1e-6) < -0.5
    assert d.log_determinant_ratio(real, real, eps=1e-6) == pytest.approx(0)
    twins = np.concatenate([real[:10], real[:1] + 1e-4])
    found = d.birthday_test(twins, threshold=0.01)
    assert found.collision and found.pairs.tolist() == [[0, 10]]
    with pytest.raises(UserError, match="too few"):
        d.ndb(real[:4], real, **options)


def test_proxy_a_distance_is_small_within_and_large_between_domains():
    generator = np.random.default_rng(6)
    a, b = generator.normal(size=(2, 150, 10))
    options = {"folds": 5, "seed": 0}
    assert abs(d.proxy_a_distance(a, b, **options)) < 0.5
    # Held out: 40 noise features of 30 samples separate perfectly in training, and not at all in truth.
    wide = generator.normal(size=(2, 30, 40))
    assert d.proxy_a_distance(*wide, **options) < 1.0
    assert d.proxy_a_distance(a, b + 5, **options) == pytest.approx(2.0)
    some = [d.proxy_a_distance(a, b + s, **options) for s in (0.0, 0.3, 1.0)]
    assert some == sorted(some)


def test_hotelling_observer_reaches_the_detectability_of_white_noise():
    generator = np.random.default_rng(7)
    channels = observers.laguerre_gauss_channels((24, 24), width=10.0, count=5)
    signal = 0.25 * channels[0] / channels[0].max()
    noise = generator.normal(size=(2, 1200, 24, 24))
    result = observers.channelised_hotelling_observer(
        noise[0] + signal, noise[1], channels=channels, train=600
    )
    expected = np.linalg.norm(signal)
    assert result.d_prime == pytest.approx(expected, rel=0.15)
    assert result.auc == pytest.approx(special.ndtr(expected / np.sqrt(2)), abs=0.03)
    blind = observers.channelised_hotelling_observer(noise[0], noise[1], channels=channels, train=600)
    assert abs(blind.auc - 0.5) < 0.05
    with pytest.raises(UserError, match="train"):
        observers.channelised_hotelling_observer(noise[0], noise[1], channels=channels, train=1200)


def edge(sigma, tilt=0.08, shape=(64, 48), spacing=1.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = (x - 0.5 * shape[1] - tilt * (y - 0.5 * shape[0])) / np.hypot(1, tilt)
    return special.ndtr(distance / sigma) * 500 - 200


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.5])
def test_mtf_of_a_gaussian_edge_and_disc(sigma):
    expected = np.sqrt(np.log(2) / 2) / (np.pi * sigma)
    for region in (edge(sigma), -edge(sigma), edge(sigma).T):
        assert observers.mtf_from_edge(region, spacing=1.0).mtf50 == pytest.approx(expected, rel=0.03)
    assert observers.mtf_from_edge(edge(sigma), spacing=0.5).mtf50 == pytest.approx(2 * expected, rel=0.03)
    y, x = np.mgrid[:96, :96]
    disc = special.ndtr((30 - np.hypot(y - 47.3, x - 48.6)) / sigma)
    value = observers.mtf_from_disc(disc, centre=(47.3, 48.6), radius=30.0, spacing=1.0).mtf50
    assert value == pytest.approx(expected, rel=0.05)


def test_mtf_survives_noise_and_refuses_regions_without_an_edge():
    noisy = edge(1.5) + 10 * np.random.default_rng(8).normal(size=(64, 48))
    assert observers.mtf_from_edge(noisy, spacing=1.0).mtf50 == pytest.approx(0.1249, rel=0.1)
    for bad in (np.zeros((20, 20)), np.full((20, 20), np.nan), np.zeros((4, 4))):
        with pytest.raises(UserError):
            observers.mtf_from_edge(bad, spacing=1.0)
