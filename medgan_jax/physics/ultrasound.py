"""Pulse-echo ultrasound: scatterers, point spread, envelope, log compression, sectors and poses of the probe.

Conventions, kept by every function here:

* what the beams see is `(..., depth, beams)`, or `(..., elevation, depth, beams)` for a volume: depth is axis
  -2 and grows away from the probe, whatever the geometry of the beams;
* lengths are in samples of the grid they are given on, angles in radians, losses in nepers (1 Np = 8.686 dB);
* displayed images are Cartesian `(..., H, W)`, without channels, in [0, 1].

The model is the usual linear one: an echo is the convolution of scatterers, weighed by the echogenicity of
their tissue, with a point spread that is a product of one pulse along the depth and one beam profile across
(Bamber and Dickinson, Phys. Med. Biol. 25, 1980). Where many scatterers share a resolution cell, its envelope
is Rayleigh distributed: mean over standard deviation 1.91, whatever the echogenicity (Wagner et al., IEEE
Trans. Sonics Ultrason. 30(3), 1983). Every function is pure and works under `jit`, `vmap` and `grad`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NEPER = 20 / np.log(10)  # dB


class PointSpread(NamedTuple):
    """A Gaussian pulse of `wavelength` samples in depth and Gaussian beam profiles; deviations in samples.

    The wavelength is that of the echo's depth, half of the wavelength in tissue, and at least two samples, so
    that the carrier is sampled. `elevation` counts for volumes alone.
    """

    wavelength: float = 4.0
    axial: float = 2.0
    lateral: float = 1.5
    elevation: float = 1.5


USUAL_SPREAD = PointSpread()


def scatterers(key: jax.Array, shape: Sequence[int], *, occupancy: float | jax.Array = 1.0) -> jax.Array:
    """Amplitudes of point scatterers `shape`, zero mean and unit variance, one in each occupied sample.

    `occupancy` in (0, 1] is the fraction of samples that hold one. Speckle is fully developed while a
    resolution cell holds ten or more; with fewer its envelope varies more than Rayleigh's.
    """
    amplitude_key, place_key = jax.random.split(key)
    there = jax.random.uniform(place_key, tuple(shape)) < occupancy
    amplitude = jax.random.normal(amplitude_key, tuple(shape))
    return there * amplitude / jnp.sqrt(jnp.asarray(occupancy, jnp.float32))


def radio_frequency(reflectivity: jax.Array, spread: PointSpread) -> jax.Array:
    """Echo signals of `reflectivity` `(..., depth, beams)`: its convolution with the point spread.

    The pulse is `cos(2 pi z / wavelength)` under its Gaussian; beyond the border nothing scatters. White
    reflectivity of unit variance gives echoes of unit variance in the interior.
    """
    return _convolved(_floating(reflectivity), spread, volume=False)


def radio_frequency_volume(reflectivity: jax.Array, spread: PointSpread) -> jax.Array:
    """`radio_frequency` of a volume `(..., elevation, depth, beams)`, its slice thickness included."""
    return _convolved(_floating(reflectivity), spread, volume=True)


def analytic(signal: jax.Array) -> jax.Array:
    """The complex analytic signal of `(..., depth, beams)` along its depth: negative frequencies removed."""
    depth = signal.shape[-2]
    keep = np.zeros(depth)
    keep[0] = 1
    keep[1 : (depth + 1) // 2] = 2
    if depth % 2 == 0:
        keep[depth // 2] = 1
    return jnp.fft.ifft(jnp.fft.fft(_floating(signal), axis=-2) * keep[:, None], axis=-2)


def envelope(signal: jax.Array) -> jax.Array:
    """Envelope of echo signals `(..., depth, beams)`; where it is 0 its gradient is 0, not NaN."""
    echo = analytic(signal)
    power = jnp.square(echo.real) + jnp.square(echo.imag)
    positive = power > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, power, 1)), 0)


def log_compress(
    envelopes: jax.Array,
    *,
    dynamic_range: float | jax.Array = 60.0,
    reference: float | jax.Array | None = None,
) -> jax.Array:
    """Grey values in [0, 1] of envelopes of any shape: 1 at `reference`, 0 at `dynamic_range` dB below it.

    `reference` is a number or an array that broadcasts, by default the largest value of each `(depth, beams)`
    frame.
    """
    if reference is None:
        reference = jnp.max(envelopes, axis=(-2, -1), keepdims=True)
    relative = envelopes / jnp.maximum(reference, jnp.finfo(jnp.float32).tiny)
    # The floor is below what is shown, so that the logarithm and its gradient are finite.
    floor = 10 ** (-jnp.asarray(dynamic_range) / 20) / 2
    decibels = NEPER * jnp.log(jnp.maximum(relative, floor))
    return jnp.clip(1 + decibels / dynamic_range, 0, 1)


def two_way_transmission(attenuation: jax.Array) -> jax.Array:
    """Amplitude `exp(-2 sum attenuation)` left of an echo from each sample `(..., depth, beams)`, in (0, 1].

    `attenuation` is in nepers per sample; the sum runs over the samples before. Strong values cast shadows.
    """
    attenuation = _floating(attenuation)
    return jnp.exp(-2 * (jnp.cumsum(attenuation, axis=-2) - attenuation))


def interface_echoes(impedance: jax.Array) -> jax.Array:
    """Reflection `(Z2 - Z1) / (Z2 + Z1)` at each sample `(..., depth, beams)` of a map of impedance Z > 0.

    A boundary is seen where a beam meets it squarely, and is lost where the beam runs along it. The value
    stands at the first sample beyond the boundary.
    """
    impedance = _floating(impedance)
    before = jnp.concatenate([impedance[..., :1, :], impedance[..., :-1, :]], axis=-2)
    return (impedance - before) / (impedance + before)


def b_mode(
    echogenicity: jax.Array,
    key: jax.Array,
    *,
    spread: PointSpread = USUAL_SPREAD,
    attenuation: jax.Array | None = None,
    mirrors: jax.Array | None = None,
    compensation: float | jax.Array = 0.0,
    noise: float | jax.Array = 0.0,
    dynamic_range: float | jax.Array = 60.0,
    reference: float | jax.Array | None = None,
) -> jax.Array:
    """The grey values in [0, 1] that a scan shows of tissue along its beams, `(..., depth, beams)`.

    `echogenicity` is the amplitude that a tissue scatters with; `mirrors` are specular reflections that are
    added to it (`interface_echoes`). Both are damped by `two_way_transmission` of `attenuation`, and the gain
    of depth z restores `exp(2 compensation z)`. `noise` is the standard deviation of the electronics' noise
    in the echoes, raised by that gain too. `reference` is that of `log_compress`.
    """
    scatter_key, noise_key = jax.random.split(key)
    echogenicity = _floating(echogenicity)
    reflectivity = echogenicity * jax.random.normal(scatter_key, echogenicity.shape)
    reflectivity = reflectivity if mirrors is None else reflectivity + mirrors
    if attenuation is not None:
        reflectivity = reflectivity * two_way_transmission(attenuation)
    echoes = radio_frequency(reflectivity, spread)
    echoes = echoes + noise * jax.random.normal(noise_key, echoes.shape)
    gain = jnp.exp(2 * compensation * jnp.arange(echoes.shape[-2], dtype=jnp.float32))[:, None]
    return log_compress(envelope(echoes) * gain, dynamic_range=dynamic_range, reference=reference)


# --- geometry of the beams ---


class Sector(NamedTuple):
    """Beams from an arc: where a curved probe looks in a Cartesian image. All numbers may be traced.

    row, column: centre of the arc, in pixels of the image. near, far: radii of the probe's face and of the
    deepest sample, in pixels. opening: angle between the outermost beams; 2 pi is the full turn of an
    intravascular or transrectal probe. direction: of the middle beam, 0 towards growing rows (down), growing
    towards growing columns, so that pi is up.
    """

    row: float | jax.Array
    column: float | jax.Array
    near: float | jax.Array
    far: float | jax.Array
    opening: float | jax.Array
    direction: float | jax.Array = 0.0


def sector_positions(sector: Sector, samples: int, beams: int) -> jax.Array:
    """Places `(samples, beams, 2)` of the samples of all beams, row and column in pixels of the image.

    The first and last sample lie at the near and far radius, the first and last beam at the edges of the
    opening; a full turn has no last edge.
    """
    radius = sector.near + (sector.far - sector.near) * jnp.linspace(0, 1, samples)[:, None]
    angle = sector.direction + sector.opening * (jnp.arange(beams) / _intervals(sector, beams) - 0.5)
    return jnp.stack([sector.row + radius * jnp.cos(angle), sector.column + radius * jnp.sin(angle)], axis=-1)


def to_beams(image: jax.Array, sector: Sector, samples: int, beams: int) -> jax.Array:
    """What the beams meet, `(..., samples, beams)`, in an image `(..., H, W)`: linear interpolation.

    Beyond the border the image goes on as its outermost pixel.
    """
    positions = sector_positions(sector, samples, beams)
    limits = jnp.asarray(image.shape[-2:], jnp.float32) - 1
    return _sampled(image, jnp.clip(positions, 0, limits))


def scan_convert(frame: jax.Array, sector: Sector, shape: Sequence[int]) -> jax.Array:
    """Cartesian image `(..., H, W)` of `shape` of a frame `(..., samples, beams)`; 0 outside the sector."""
    samples, beams = frame.shape[-2:]
    depth, turn, inside = _polar(sector, shape)
    beam = turn * _intervals(sector, beams)
    # Where the turn is full, the beam after the last is the first.
    frame = jnp.concatenate([frame, frame[..., :1]], axis=-1)
    full = _is_full(sector)
    beam = jnp.where(full, beam, jnp.clip(beam, 0, beams - 1))
    positions = jnp.stack([jnp.clip(depth, 0, 1) * (samples - 1), beam], axis=-1)
    return jnp.where(inside, _sampled(frame, positions), 0)


def sector_mask(sector: Sector, shape: Sequence[int]) -> jax.Array:
    """Which pixels `(H, W)` of an image of `shape` the sector covers, bool."""
    return _polar(sector, shape)[2]


def _polar(sector: Sector, shape: Sequence[int]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Depth and angle of pixels as parts (0 to 1) of the sector's, and whether they lie in it, `(H, W)`."""
    row = jnp.arange(shape[0], dtype=jnp.float32)[:, None] - sector.row
    column = jnp.arange(shape[1], dtype=jnp.float32) - sector.column
    radius = jnp.sqrt(jnp.square(row) + jnp.square(column) + 1e-12)
    depth = (radius - sector.near) / (sector.far - sector.near)
    # Folded about the middle beam, so that the cut lies opposite to it.
    angle = jnp.arctan2(column, row) - sector.direction
    angle = jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi
    turn = angle / sector.opening + 0.5
    return depth, turn, (depth >= 0) & (depth <= 1) & (turn >= 0) & (turn <= 1)


def _is_full(sector: Sector) -> jax.Array:
    return jnp.asarray(sector.opening) > 2 * jnp.pi - 1e-4


def _intervals(sector: Sector, beams: int) -> jax.Array:
    """Spaces between beams over the opening: one fewer than beams, but for a full turn."""
    return jnp.where(_is_full(sector), beams, beams - 1)


class Pose(NamedTuple):
    """Where a probe stands in a volume: `position` `(3,)` of the middle of its face and `rotation` `(3,)`.

    The position is in voxels (slice, row, column), the rotation a vector along its axis whose length is the
    angle. At rotation zero the image lies in the plane of rows and columns and depth runs down the rows.
    """

    position: jax.Array
    rotation: jax.Array


def plane_positions(pose: Pose, shape: Sequence[int], spacing: float | jax.Array = 1.0) -> jax.Array:
    """Places `(H, W, 3)` in voxels (slice, row, column) of the pixels of the image that a probe sees.

    The first row lies on the probe's face with its middle at the position; `spacing` is in voxels. Times the
    voxel's size these are the maps of physical coordinates that condition Hu et al., RAMBO 2017.
    """
    down = jnp.arange(shape[0], dtype=jnp.float32)
    across = jnp.arange(shape[1], dtype=jnp.float32) - (shape[1] - 1) / 2
    plane = jnp.stack(jnp.broadcast_arrays(0.0, down[:, None], across[None, :]), axis=-1) * spacing
    turned = jnp.einsum("...j,ij->...i", plane, rotation_matrix(pose.rotation), precision="highest")
    return jnp.asarray(pose.position, jnp.float32) + turned


def probe_slice(volume: jax.Array, positions: jax.Array) -> jax.Array:
    """Values `(H, W)` of a volume `(D, H', W')` at `positions` `(H, W, 3)`, linear; 0 outside the volume."""
    limits = jnp.asarray(volume.shape, jnp.float32) - 1
    inside = jnp.all((positions >= 0) & (positions <= limits), axis=-1)
    values = jax.scipy.ndimage.map_coordinates(
        _floating(volume), jnp.moveaxis(jnp.clip(positions, 0, limits), -1, 0), order=1, mode="nearest"
    )
    return jnp.where(inside, values, 0)


def rotation_matrix(vector: jax.Array) -> jax.Array:
    """Rotation `(3, 3)` about `vector` `(3,)` by its length in radians: the formula of Rodrigues."""
    vector = jnp.asarray(vector, jnp.float32)
    square = jnp.sum(jnp.square(vector))
    # Both quotients have finite limits, and gradients, at the identity.
    small = square < 1e-8
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
    cosine = jnp.where(small, 0.5 - square / 24, (1 - jnp.cos(angle)) / jnp.where(small, 1.0, square))
    x, y, z = vector
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return jnp.eye(3) + sine * cross + cosine * jnp.matmul(cross, cross, precision="highest")


# --- small things ---


def _convolved(signal: jax.Array, spread: PointSpread, *, volume: bool) -> jax.Array:
    if spread.wavelength < 2:
        raise ValueError(f"a wavelength of {spread.wavelength} samples is not sampled; it needs at least 2")
    profiles = [(-2, spread.axial, spread.wavelength), (-1, spread.lateral, None)]
    if volume:
        profiles.append((-3, spread.elevation, None))
    for axis, deviation, wavelength in profiles:
        kernel = _kernel(signal.shape[axis], deviation, wavelength)
        signal = jnp.moveaxis(jnp.tensordot(signal, kernel, (axis, 1), precision="highest"), -1, axis)
    return signal


def _kernel(size: int, deviation: float, wavelength: float | None) -> np.ndarray:
    """Matrix `(N, N)` that convolves with a pulse of unit energy; without a wavelength it is a Gaussian."""
    offset = np.arange(size)[:, None] - np.arange(size)

    def pulse(place):
        gaussian = np.exp(-np.square(place / deviation) / 2)
        return gaussian if wavelength is None else gaussian * np.cos(2 * np.pi * place / wavelength)

    reach = np.arange(-np.ceil(8 * deviation), np.ceil(8 * deviation) + 1)
    return (pulse(offset) / np.linalg.norm(pulse(reach))).astype(np.float32)


def _sampled(image: jax.Array, positions: jax.Array) -> jax.Array:
    """Values `(..., a, b)` of `(..., H, W)` at `positions` `(a, b, 2)` within it, bilinear."""
    height, width = image.shape[-2:]
    flat = _floating(image).reshape(*image.shape[:-2], height * width)
    lower = jnp.clip(jnp.floor(positions), 0, jnp.array([max(height - 2, 0), max(width - 2, 0)]))
    share = positions - lower
    lower = lower.astype(jnp.int32)
    total = 0.0
    for down in (0, 1):
        for right in (0, 1):
            row, column = lower[..., 0] + min(down, height - 1), lower[..., 1] + min(right, width - 1)
            weight = jnp.abs(1 - down - share[..., 0]) * jnp.abs(1 - right - share[..., 1])
            total = total + weight * flat[..., row * width + column]
    return total


def _floating(x: jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
