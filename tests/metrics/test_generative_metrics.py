"""Distribution metrics against torchmetrics, POT and prdc, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.special import log_softmax

from medgan_jax.metrics import generative
from medgan_jax.metrics.image import Window

KEY = jax.random.key(0)


def features(n=60, m=60, d=8, shift=0.5, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)).astype(np.float32), (shift + generator.normal(size=(m, d))).astype(
        np.float32
    )


def test_inception_score_by_definition_and_at_its_bounds():
    logits = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * 2
    expected = []
    for part in np.array_split(log_softmax(np.float64(logits), 1), 4):
        p = np.exp(part)
        expected.append(np.exp(np.mean(np.sum(p * (part - np.log(p.mean(0))), 1))))
    value = jax.jit(lambda x: generative.inception_score(x, splits=4, key=None))(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    certain = 100 * jnp.eye(6)[jnp.arange(36) % 6]
    assert float(generative.inception_score(certain, splits=1, key=KEY)[0]) == pytest.approx(6.0, rel=1e-4)
    assert float(generative.inception_score(0 * certain, splits=1, key=KEY)[0]) == pytest.approx(
        1.0, rel=1e-5
    )


def test_kid_by_definition_is_unbiased():
    x, y = features()
    value = generative.kid(x, y, subsets=2, subset_size=60, key=KEY)
    k = lambda a, b: (np.float64(a) @ np.float64(b).T / 8 + 1) ** 3  # noqa: E731
    off = lambda m: (m.sum() - np.trace(m)) / (60 * 59)  # noqa: E731
    np.testing.assert_allclose(value, off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean(), rtol=1e-3)
    same = features(400, 400, shift=0.0)
    draws = generative.kid(*same, subsets=50, subset_size=50, key=KEY)
    assert abs(float(draws.mean())) < 3 * float(draws.std()) and bool((draws < 0).any())


def test_kid_agrees_with_torchmetrics():
    x, y = features()
    value = generative.kid(x, y, subsets=2, subset_size=60, key=KEY)
    torch = pytest.importorskip("torch", reason="torchmetrics needs it")
    reference = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics is the reference")
    expected = reference.poly_mmd(torch.tensor(x), torch.tensor(y), degree=3, gamma=None, coef=1.0)
    np.testing.assert_allclose(value, float(expected), rtol=1e-3)


def test_mmd_by_definition_is_unbiased_and_sees_what_moments_hide():
    x, y = features(50, 40)
    squares = lambda a, b: ((np.float64(a)[:, None] - b[None]) ** 2).sum(-1)  # noqa: E731
    k = lambda a, b: 64 / (64 + squares(a, b))  # noqa: E731
    off = lambda m: (m.sum() - np.trace(m)) / (len(m) * (len(m) - 1))  # noqa: E731
    expected = off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean()
    assert float(generative.mmd(x, y, scale=2.0)) == pytest.approx(expected, rel=1e-3)
    same = [float(generative.mmd(*features(60, 60, shift=0.0, seed=n), scale=1.0)) for n in range(20)]
    assert abs(np.mean(same)) < np.std(same)
    assert min(same) < 0
    # Signs have the mean, variance and skewness of normal numbers.
    generator = np.random.default_rng(0)
    signs = np.sign(generator.normal(size=(300, 2))).astype(np.float32)
    normal = generator.normal(size=(300, 2)).astype(np.float32)
    assert float(generative.mmd(normal, signs, scale=1.0)) > 5 * np.std(same)


def test_sliced_wasserstein_agrees_with_pot():
    x, y = features()
    theta = generative.random_directions(KEY, 8, 50)
    ot = pytest.importorskip("ot", reason="POT is the reference")
    for p in (1, 2):
        expected = ot.sliced_wasserstein_distance(
            np.float64(x), np.float64(y), projections=np.float64(theta).T, p=p
        )
        np.testing.assert_allclose(
            generative.sliced_wasserstein(x, y, directions=theta, p=p), expected, rtol=1e-4
        )


def test_sliced_wasserstein_of_a_shift():
    x, y = features()
    many = generative.random_directions(KEY, 8, 4000)
    shift = np.arange(8, dtype=np.float32)
    value = generative.sliced_wasserstein(x, x + shift, directions=many, p=2) ** 2
    assert float(value) == pytest.approx(float(shift @ shift) / 8, rel=0.05)
    with pytest.raises(ValueError, match="pair up"):
        generative.sliced_wasserstein(x, y[:50], directions=many, p=1)


def binomial(images):
    taps = np.array([1, 4, 6, 4, 1]) / 16
    return ndimage.convolve(images, np.outer(taps, taps)[None, :, :, None], mode="mirror")


def pyramid(image):
    """Two levels by SciPy's filters, of an image `(H, W, C)`."""
    smaller = binomial(np.float64(image)[None])[:, ::2, ::2]
    spread = np.zeros((1, *image.shape))
    spread[:, ::2, ::2] = 4 * smaller
    return np.concatenate([(image - binomial(spread)[0]).ravel(), smaller.ravel()])


def normalised(x):
    deviation = x.std() if np.ptp(x) > 1e-6 else np.nan
    return (x - x.mean()) / deviation


def patch_distance(x, y):
    """Where a neighbourhood is the whole image, only the directions are random: here many of its own."""
    x, y = (normalised(np.float64(z).reshape(len(z), -1)) for z in (x, y))
    theta = np.random.default_rng(0).normal(size=(4000, x.shape[1]))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    gaps = abs(np.sort(x @ theta.T, 0) - np.sort(y @ theta.T, 0))
    return 1000 * gaps.mean() if np.isfinite(gaps).all() else np.nan


def pixel_distance(x, y):
    """Of images of one pixel nothing is random."""
    x, y = (normalised(np.float64(z).ravel()) for z in (x, y))
    return 1000 * stats.wasserstein_distance(x, y) if np.isfinite([x, y]).all() else np.nan


def test_pyramid_and_patch_distances_of_every_kind_of_input(mixed_images, agree):
    def levels(x, y):
        parts = generative.laplacian_pyramid(x.astype(jnp.float32), levels=2)
        return jnp.concatenate([z.reshape(len(z), -1) for z in parts], axis=1)

    cases = {"laplacian_pyramid": (levels, lambda x, y: pyramid(x))}
    agree(cases, mixed_images((7, 8)), atol=1e-5)

    def distance(x, y, side):
        options = {"smallest": side, "size": side, "neighbourhoods": 1, "directions": 4000, "key": KEY}
        one = lambda pair: generative.swd_pgan(*pair, **options)[0]  # noqa: E731
        return jax.lax.map(one, (x, y))

    # The first axis of a case counts the images of a set.
    cases = {"swd_pgan": (lambda x, y: distance(x, y, 3), patch_distance)}
    agree(cases, mixed_images((9, 3, 3)), rtol=0.04, atol=0.5, examples=2)
    cases = {"swd_pgan of pixels": (lambda x, y: distance(x, y, 1), pixel_distance)}
    agree(cases, mixed_images((12, 1, 1)), rtol=1e-3, atol=1e-2, examples=2)


def test_swd_orders_noise():
    generator = np.random.default_rng(1)
    base = generator.normal(size=(24, 32, 32, 2)).astype(np.float32)
    smooth = binomial(binomial(base))
    score = jax.jit(lambda a, b: generative.swd_pgan(a, b, key=KEY, neighbourhoods=16, directions=64))
    same = score(base[:12], base[12:])
    assert same.shape == (2,)
    assert float(same[0]) < 0.9 * float(score(base[:12], smooth[12:])[0])
    with pytest.raises(ValueError, match="of one size"):
        generative.swd_pgan(base[:3], base[:4], key=KEY)


def test_prdc_agrees_with_its_authors_code():
    k, reference = 5, pytest.importorskip("prdc", reason="the authors' package is the reference")
    for x, y in (features(), features(50, 80, shift=2.0), features(shift=0.0)):
        expected = reference.compute_prdc(np.float64(x), np.float64(y), nearest_k=k)
        value = jax.jit(lambda a, b: generative.prdc(a, b, k=k))(x, y)
        for name in ("precision", "recall", "density", "coverage"):
            np.testing.assert_allclose(getattr(value, name), expected[name], atol=1e-6)


def test_prdc_of_known_sets():
    x, y = features(400, 400, shift=0.0)
    value = generative.prdc(x, y, k=5)
    assert float(value.coverage) == pytest.approx(1 - 0.5**5, abs=0.04)
    collapsed = generative.prdc(x, np.repeat(y[:1], 400, 0) + 1e-3 * y, k=5)
    assert float(collapsed.recall) < 0.2 and float(collapsed.coverage) < 0.2
    far = generative.prdc(x, y + 100, k=5)
    assert [float(v) for v in far] == [0, 0, 0, 0]
    order = np.random.default_rng(0).permutation(400)
    np.testing.assert_allclose(generative.prdc(x[order], y, k=5), value, atol=1e-6)


def test_nearest_distances_find_memorised_images():
    train, fresh = features(50, 20, shift=0.0)
    copies = train[:5] + 1e-3
    value = generative.nearest_distances(np.concatenate([copies, fresh]), train)
    brute = np.linalg.norm(np.concatenate([copies, fresh])[:, None] - train[None], axis=-1).min(1)
    np.testing.assert_allclose(value, brute, rtol=1e-4)
    assert float(value[:5].max()) < float(value[5:].min())


@pytest.mark.parametrize("d", [4, 50])
def test_vendi_counts_orthogonal_groups(d):
    groups = np.repeat(np.eye(d)[:4], 5, axis=0).astype(np.float32)
    assert float(jax.jit(generative.vendi)(groups)) == pytest.approx(4.0, rel=1e-4)
    assert float(generative.vendi(np.ones((6, d)))) == pytest.approx(1.0, rel=1e-4)
    x = np.random.default_rng(0).normal(size=(20, d))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.clip(np.linalg.eigvalsh(unit @ unit.T / 20), 1e-300, None)
    assert float(generative.vendi(x)) == pytest.approx(np.exp(-np.sum(values * np.log(values))), rel=1e-3)
    assert np.isnan(generative.vendi(np.zeros((3, d))))


def test_ms_ssim_diversity_sees_collapse():
    generator = np.random.default_rng(2)
    images = generator.random((6, 24, 24, 1)).astype(np.float32)
    pairs = generative.random_pairs(KEY, 6, 10)
    assert bool((pairs[:, 0] != pairs[:, 1]).all()) and pairs.shape == (10, 2)
    options = {"data_range": 1.0, "window": Window("gaussian", 3, 1.0, "population"), "scales": 2}
    value = generative.ms_ssim_diversity(images, pairs, **options)
    collapsed = images[:1] + 0.02 * images
    assert float(generative.ms_ssim_diversity(collapsed, pairs, **options).mean()) > float(value.mean()) + 0.3


def test_modes_that_are_known():
    centres = np.array([[0, 0], [4, 0], [0, 4], [4, 4]], np.float32)
    # 6 samples at the first mode, 3 at the second, one astray near the third, none at the fourth.
    samples = np.concatenate([np.tile(centres[:1], (6, 1)), np.tile(centres[1:2], (3, 1)), [[0, 2.5]]])
    samples += np.random.default_rng(0).uniform(-0.3, 0.3, samples.shape)
    covered = lambda least: float(generative.covered_modes(samples, centres, radius=0.5, least=least))  # noqa: E731
    assert [covered(least) for least in (0.01, 0.3, 0.31, 0.61)] == [2, 2, 1, 0]
    assert float(generative.covered_modes(samples, centres, radius=2.0, least=0.01)) == 3
    expected = np.log(4) + 0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1)
    assert float(jax.jit(generative.mode_divergence)(samples, centres)) == pytest.approx(expected, abs=1e-6)
    assert float(generative.mode_divergence(centres, centres)) == pytest.approx(0, abs=1e-6)
    assert float(generative.mode_divergence(centres[:1], centres)) == pytest.approx(np.log(4), abs=1e-6)
