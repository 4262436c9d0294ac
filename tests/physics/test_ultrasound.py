"""Ultrasound against scipy.signal and scipy.ndimage, the statistics of speckle, and geometry by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal, stats
from scipy.spatial.transform import Rotation

from medgan_jax.physics import ultrasound
from medgan_jax.physics.ultrasound import PointSpread, Pose, Sector

SPREAD = PointSpread(wavelength=4.0, axial=2.0, lateral=1.5, elevation=1.2)
SECTOR = Sector(row=4.0, column=30.0, near=6.0, far=50.0, opening=1.4)
TURN = Sector(row=32.0, column=32.0, near=5.0, far=30.0, opening=2 * np.pi)


to_beams = jax.jit(ultrasound.to_beams, static_argnames=("samples", "beams"))
scan_convert = jax.jit(ultrasound.scan_convert, static_argnames="shape")
sector_mask = jax.jit(ultrasound.sector_mask, static_argnames="shape")
sector_positions = jax.jit(ultrasound.sector_positions, static_argnames=("samples", "beams"))
plane_positions = jax.jit(ultrasound.plane_positions, static_argnames="shape")
probe_slice = jax.jit(ultrasound.probe_slice)
envelope_of = jax.jit(ultrasound.envelope)
log_compress = jax.jit(ultrasound.log_compress)


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def speckle():
    """Envelope of homogeneous tissue: 2D frames, a thinly scattered one, and a volume; borders cut off."""

    @jax.jit
    def draw(key):
        keys = jax.random.split(key, 3)
        many = ultrasound.radio_frequency(ultrasound.scatterers(keys[0], (4, 320, 256)), SPREAD)
        few = ultrasound.radio_frequency(
            ultrasound.scatterers(keys[1], (4, 320, 256), occupancy=0.01), SPREAD
        )
        volume = ultrasound.radio_frequency_volume(ultrasound.scatterers(keys[2], (40, 96, 64)), SPREAD)
        return many, [ultrasound.envelope(x) for x in (many, few, volume)]

    echoes, envelopes = draw(jax.random.key(0))
    return np.asarray(echoes), [np.asarray(x)[..., 16:-16, 16:-16] for x in envelopes]


def test_fully_developed_speckle_is_rayleigh(speckle):
    """Mean over SD is sqrt(pi / (4 - pi)) = 1.913, of the intensity 1; stated error 2 %."""
    _, (many, few, volume) = speckle
    volume = volume[8:-8]
    for envelope in (many, volume):
        assert abs(envelope.mean() / envelope.std() / 1.913 - 1) < 0.02
        assert abs((envelope**2).mean() / (envelope**2).std() - 1) < 0.04
    apart = many[:, ::16, ::12].ravel()
    scale = np.sqrt(np.mean(many**2) / 2)
    assert stats.kstest(apart, stats.rayleigh(scale=scale).cdf).pvalue > 1e-3
    assert few.mean() / few.std() < 1.3


def test_speckle_is_as_large_as_the_point_spread(speckle):
    """The correlation of echoes is that of the point spread: exp(-d^2 / 4 sigma^2) across the beams."""
    echoes = speckle[0][:, 16:-16, 16:-16]
    np.testing.assert_allclose(echoes.var(), 1, rtol=0.03)
    for lag in (1, 2, 3):
        lateral = np.mean(echoes[..., lag:] * echoes[..., :-lag])
        np.testing.assert_allclose(lateral, np.exp(-(lag**2) / (4 * 1.5**2)), atol=0.03)
        axial = np.mean(echoes[:, lag:] * echoes[:, :-lag])
        np.testing.assert_allclose(axial, np.exp(-(lag**2) / 16) * np.cos(np.pi * lag / 2), atol=0.03)


def test_echoes_are_the_convolution_of_scipy():
    reflectivity = noise(1, 40, 30)
    place = np.arange(-15, 16)
    pulse = np.exp(-(place**2) / 8) * np.cos(np.pi * place / 2)
    beam = np.exp(-(place**2) / (2 * 1.5**2))
    kernel = np.outer(pulse / np.linalg.norm(pulse), beam / np.linalg.norm(beam))
    expected = signal.convolve2d(reflectivity, kernel, mode="same")
    found = ultrasound.radio_frequency(reflectivity, SPREAD)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("depth", [32, 33])
def test_envelope_is_that_of_the_hilbert_transform(depth):
    echoes = noise(2, 3, depth, 5)
    np.testing.assert_allclose(
        envelope_of(echoes), np.abs(signal.hilbert(echoes, axis=-2)), atol=1e-5
    )


def test_compression_is_linear_in_decibels():
    envelope = jnp.asarray(10 ** (-np.array([[0.0, 10, 30, 60, 80]]) / 20))
    np.testing.assert_allclose(
        log_compress(envelope, dynamic_range=60.0), [[1, 5 / 6, 0.5, 0, 0]], atol=1e-5
    )
    np.testing.assert_allclose(log_compress(envelope, reference=10 ** (-0.5))[0, :2], [1, 1])
    # Compressed Rayleigh speckle has an SD of 5.57 dB.
    rayleigh = np.random.default_rng(3).rayleigh(size=(1, 200000)).astype(np.float32)
    grey = np.asarray(log_compress(rayleigh, dynamic_range=80.0, reference=10.0))
    np.testing.assert_allclose(80 * grey[grey > 0].std(), 5.57, rtol=0.02)


def test_attenuation_gain_and_shadows():
    loss = np.full((50, 24), 0.03, np.float32)
    np.testing.assert_allclose(
        ultrasound.two_way_transmission(loss)[:, 0], np.exp(-0.06 * np.arange(50)), rtol=1e-5
    )
    stone = loss.copy()
    stone[20:24, :12] = 1.0

    @jax.jit
    @jax.vmap
    def scan(key):
        tissue = jnp.ones((50, 24))
        return ultrasound.b_mode(tissue, key, attenuation=stone, compensation=0.03, reference=2.0)

    frame = np.asarray(scan(jax.random.split(jax.random.key(4), 40))).mean(0)
    assert abs(frame[8:15, 16:20].mean() - frame[32:44, 16:20].mean()) < 0.02
    assert frame[32:44, 2:6].mean() < frame[32:44, 16:20].mean() - 0.3


def test_interfaces_are_seen_where_the_impedance_changes_along_the_beam():
    impedance = np.ones((6, 4), np.float32)
    impedance[3:, 2:] = 1.5
    found = ultrasound.interface_echoes(impedance)
    expected = np.zeros((6, 4))
    expected[3, 2:] = 0.5 / 2.5
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("sector", "beams"), [(SECTOR, 90), (TURN, 180)], ids=["sector", "turn"])
def test_scan_conversion_undoes_the_beams(sector, beams):
    row, column = np.mgrid[:64, :64].astype(np.float32)
    image = np.sin(row / 9) + np.cos(column / 7)
    back = scan_convert(to_beams(image, sector, 80, beams), sector, (64, 64))
    mask = np.asarray(sector_mask(sector, (64, 64)))
    radius = np.hypot(row - sector.row, column - sector.column)
    angle = np.arctan2(column - sector.column, row - sector.row)
    inside = (radius >= sector.near) & (radius <= sector.far) & (np.abs(angle) <= sector.opening / 2)
    np.testing.assert_array_equal(mask, inside)
    assert np.abs(np.asarray(back) - image)[mask].max() < 0.02
    np.testing.assert_array_equal(np.asarray(back)[~mask], 0)


def test_beams_sample_as_scipy_does_and_point_where_they_are_said_to():
    image = noise(5, 64, 64)
    positions = np.asarray(sector_positions(SECTOR, 7, 5))
    np.testing.assert_allclose(positions[0, 2], [10, 30], atol=1e-4)
    np.testing.assert_allclose(positions[-1, 4], [4 + 50 * np.cos(0.7), 30 + 50 * np.sin(0.7)], atol=1e-4)
    upwards = sector_positions(SECTOR._replace(row=60.0, direction=np.pi), 7, 5)
    np.testing.assert_allclose(upwards[-1, 2], [10, 30], atol=1e-4)
    expected = ndimage.map_coordinates(image, np.moveaxis(positions, -1, 0), order=1, mode="nearest")
    np.testing.assert_allclose(to_beams(image, SECTOR, 7, 5), expected, atol=1e-4)


def test_probe_poses_are_those_of_scipy():
    vectors = np.array([[0, 0, 0], [0.3, -0.2, 0.5], [0, 0, np.pi / 2], [1e-5, 0, 0]], np.float32)
    found = jax.vmap(ultrasound.rotation_matrix)(vectors)
    np.testing.assert_allclose(found, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-6)
    volume = noise(6, 12, 20, 16)
    straight = plane_positions(Pose(jnp.array([5.0, 2.0, 7.5]), jnp.zeros(3)), (10, 16))
    np.testing.assert_array_equal(probe_slice(volume, straight), volume[5, 2:12])
    tilted = plane_positions(Pose(jnp.array([5.0, 2.0, 7.5]), vectors[1]), (14, 12), 0.8)
    expected = ndimage.map_coordinates(volume, np.moveaxis(tilted, -1, 0), order=1, mode="constant")
    inside = np.all((tilted >= 0) & (tilted <= np.array([11, 19, 15])), axis=-1)
    found = probe_slice(volume, tilted)
    np.testing.assert_allclose(np.asarray(found)[inside], expected[inside], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(found)[~inside], 0)


def test_every_step_has_finite_gradients_and_batches():
    def shown(echogenicity, near, rotation):
        sector = SECTOR._replace(near=near)
        beams = ultrasound.to_beams(echogenicity, sector, 24, 16)
        frame = ultrasound.b_mode(beams, jax.random.key(7), spread=SPREAD, noise=0.01)
        plane = plane_positions(Pose(jnp.array([1.0, 1.0, 10.0]), rotation), (9, 9))
        volume = jnp.broadcast_to(echogenicity, (3, *echogenicity.shape))
        sliced = probe_slice(volume, plane)
        return jnp.sum(ultrasound.scan_convert(frame, sector, (64, 64))) + jnp.sum(sliced)

    maps = jnp.stack([jnp.ones((64, 64)), jnp.zeros((64, 64)), jnp.abs(noise(8, 64, 64))])
    gradients = jax.jit(jax.vmap(jax.grad(shown, argnums=(0, 1, 2)), (0, None, None)))(
        maps, 6.0, jnp.zeros(3)
    )
    assert all(np.all(np.isfinite(g)) for g in gradients)
    assert np.any(gradients[0][2] != 0) and np.any(gradients[2] != 0)


def test_a_carrier_that_is_not_sampled_is_refused():
    with pytest.raises(ValueError, match="not sampled"):
        ultrasound.radio_frequency(jnp.zeros((8, 8)), PointSpread(wavelength=1.5))
