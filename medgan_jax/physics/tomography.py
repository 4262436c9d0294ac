"""The forward model of computed tomography: line integrals, photons, beam hardening, reconstruction.

Conventions, kept by every function here:

* images are real arrays `(..., H, W)`, sinograms `(..., views, detectors)`; leading axes are cases;
* a geometry is static (hashable) and measured in pixels; the centre of rotation is the pixel `n // 2` of each
  axis and the middle detector is `detectors // 2`, as in scikit-image;
* a view at angle theta integrates along the lines `x cos(theta) + y sin(theta) = s`, with x to the right,
  y up and theta in radians, so that a view at 0 sums over rows;
* attenuation is in 1/cm, pixel sizes in cm, line integrals without a unit, images of patients in Hounsfield
  units (HU).

Rays are sampled by Joseph's method: one step for each row (or column, whichever the ray crosses more steeply)
with linear interpolation along it. A pixel at distance t from a ray then weighs `max(0, 1 - |t| / m) / m`, m
being the larger component of the ray's normal, so that projection and its adjoint are each written as a
gather; each is the gradient of the other, in reverse mode (`jvp` is not defined) and to any order.
P. M. Joseph, IEEE Trans. Med. Imaging 1(3), 1982. Every function is pure and works under `jit`, `vmap` and
`grad`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

# Water near 100 keV, 1/cm: the value in the code of Yi and Babyn (SAGAN), J. Digital Imaging 31, 2018.
WATER_ATTENUATION = 0.17
# What a scanner's 12 bits end at.
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0

# Expected photons up to which counts are drawn by inverting the Poisson distribution.
MOST_INVERTED = 30.0

# A tungsten tube near 120 kV in five lines: keV and share of the photons.
ENERGIES = (40.0, 60.0, 80.0, 100.0, 120.0)
SPECTRUM = (0.10, 0.30, 0.30, 0.20, 0.10)
# Mass attenuation in cm^2/g at those energies: NIST tables (Hubbell and Seltzer), 120 keV by interpolation.
MASS_ATTENUATION = {
    "water": (0.2683, 0.2059, 0.1837, 0.1707, 0.1613),
    "bone": (0.6655, 0.3148, 0.2229, 0.1855, 0.1676),
    "titanium": (2.214, 0.7661, 0.4052, 0.2721, 0.2172),
    "iron": (3.629, 1.205, 0.5952, 0.3717, 0.2790),
}
METAL_DENSITY = {"titanium": 4.51, "iron": 7.87}
# The energy at which an image in HU is taken to have been made: the spectrum's middle line.
REFERENCE = ENERGIES.index(80.0)
# Above the first a tissue begins to be counted as bone, from the second on it is wholly bone.
BONE_RAMP_HU = (150.0, 1200.0)
# Path lengths of water, in cm, for which the beam hardening correction is tabulated.
LONGEST_WATER_PATH = 80.0

Window = Literal["ramp", "hann"]


@dataclasses.dataclass(frozen=True)
class ParallelBeam:
    """Parallel rays: `views` angles spread over `arc` radians from 0, `detectors` every `spacing` pixels."""

    views: int
    detectors: int
    arc: float = np.pi
    spacing: float = 1.0

    def __post_init__(self):
        _check_geometry(self)


@dataclasses.dataclass(frozen=True)
class FanBeam:
    """Rays from a point at `distance` pixels from the centre, on an arc of detectors `spacing` radians apart.

    `views` positions of the source are spread evenly over `arc` radians; at 0 it stands above the image and
    the rays are numbered from left to right, a quarter turn later it stands on the left.
    """

    views: int
    detectors: int
    distance: float
    spacing: float
    arc: float = 2 * np.pi

    def __post_init__(self):
        _check_geometry(self)


Geometry = ParallelBeam | FanBeam


def parallel_beam(shape: Sequence[int], views: int | None = None) -> ParallelBeam:
    """Parallel beam that sees every corner of an image `(H, W)`; `views` defaults to its longer side."""
    detectors = 2 * int(np.ceil(np.hypot(*shape) / 2)) + 3
    return ParallelBeam(max(shape) if views is None else views, detectors)


def fan_beam(
    shape: Sequence[int], views: int = 1200, *, distance: float = 500.0, spacing: float = np.pi / 1800
) -> FanBeam:
    """Fan beam that sees every corner of an image `(H, W)`.

    The defaults are those of SAGAN's simulator for 512 x 512 pixels: views 0.3 and rays 0.1 degrees apart.
    Raises `ValueError` where the source would be within the image.
    """
    radius = float(np.hypot(*shape)) / 2 + 1
    if radius >= distance:
        raise ValueError(f"a source {distance} pixels from the centre is inside an image of {tuple(shape)}")
    return FanBeam(views, 2 * int(np.ceil(np.arcsin(radius / distance) / spacing)) + 3, distance, spacing)


def sparse_views(sinogram: jax.Array, geometry: Geometry, every: int) -> tuple[jax.Array, Geometry]:
    """Each `every`-th view of a sinogram `(..., views, detectors)`, and the geometry of what is left.

    Raises `ValueError` where `every` does not divide the views, since the rest would not be evenly spread.
    """
    if every < 1 or geometry.views % every:
        raise ValueError(f"{geometry.views} views cannot be thinned to each {every}th evenly")
    return sinogram[..., ::every, :], dataclasses.replace(geometry, views=geometry.views // every)


def project(image: jax.Array, geometry: Geometry) -> jax.Array:
    """Line integrals `A x`, `(..., views, detectors)`, of an image `(..., H, W)`: its unit times pixels."""
    return _batched(_project, image, tuple(image.shape[-2:]), geometry)


def project_adjoint(sinogram: jax.Array, geometry: Geometry, shape: Sequence[int]) -> jax.Array:
    """Adjoint `A* y` of `project`: an image `(..., H, W)` of `shape` from `(..., views, detectors)`.

    The unfiltered back-projection; `fbp` is the reconstruction.
    """
    _check_sinogram(sinogram, geometry)
    return _batched(_project_adjoint, sinogram, tuple(shape), geometry)


def fbp(
    sinogram: jax.Array, geometry: Geometry, shape: Sequence[int], *, window: Window = "ramp"
) -> jax.Array:
    """Filtered back-projection: the image `(..., H, W)` of `shape`, an inverse of `project`.

    The ramp filter is built in space, so that the mean is right; "hann" rolls it off to zero at the Nyquist
    frequency. Pixels that no ray of a view meets get nothing from that view. Kak and Slaney, Principles of
    Computerized Tomographic Imaging, 1988, equations 3.61 (parallel) and 3.4.1 (equiangular fan).

    Raises `ValueError` for a fan beam over less than a full turn, whose rays are not measured equally often.
    """
    _check_sinogram(sinogram, geometry)
    if window not in get_args(Window):
        raise ValueError(f"unknown window {window!r}; there are {', '.join(get_args(Window))}")
    filtered = _filtered(_at_least_float32(sinogram), geometry, window)
    return _batched(_interpolated_views, filtered, tuple(shape), geometry) * _view_weight(geometry)


def hounsfield_to_attenuation(image_hu: jax.Array, *, water: float = WATER_ATTENUATION) -> jax.Array:
    """Linear attenuation `water * (1 + HU / 1000)` in 1/cm, at least 0: padding becomes air."""
    return jnp.maximum(water * (1 + _at_least_float32(image_hu) / 1000), 0)


def attenuation_to_hounsfield(attenuation: jax.Array, *, water: float = WATER_ATTENUATION) -> jax.Array:
    """Hounsfield units `1000 (mu / water - 1)` of linear attenuation in 1/cm, of any shape."""
    return 1000 * (attenuation / water - 1)


def photon_counts(
    expected: jax.Array, key: jax.Array, *, electronic_noise: float | jax.Array = 0.0
) -> jax.Array:
    """Detected counts: Poisson about `expected` (any shape), plus normal noise of the electronics (its SD).

    Up to 30 expected photons the Poisson distribution is inverted; above, where its skewness hardly shows,
    the draw is normal and rounded. Gradients see the noise as a constant that is added.
    """
    few_key, many_key, electronic_key = jax.random.split(key, 3)
    mean = jax.lax.stop_gradient(_at_least_float32(expected))
    few = _inverted_poisson(
        jax.random.uniform(few_key, mean.shape, mean.dtype), jnp.minimum(mean, MOST_INVERTED)
    )
    many = jnp.round(mean + jnp.sqrt(mean) * jax.random.normal(many_key, mean.shape, mean.dtype))
    noise = jnp.where(mean < MOST_INVERTED, few, many) - mean
    noise = noise + electronic_noise * jax.random.normal(electronic_key, mean.shape, mean.dtype)
    return expected + noise


def noisy_integrals(
    integrals: jax.Array,
    photons: float | jax.Array,
    key: jax.Array,
    *,
    electronic_noise: float | jax.Array = 0.0,
    fewest: float = 5.0,
) -> jax.Array:
    """Line integrals `(..., views, detectors)` as measured with `photons` incident photons on each ray.

    Counts are drawn about `photons * exp(-p)` and their logarithm is taken; those below `fewest` are set to
    it, since a ray without a photon has no logarithm (5 in SAGAN's simulator).
    """
    counts = photon_counts(photons * jnp.exp(-integrals), key, electronic_noise=electronic_noise)
    return jnp.log(photons / jnp.maximum(counts, fewest))


def low_dose(
    image_hu: jax.Array,
    photons: float | jax.Array,
    key: jax.Array,
    *,
    pixel_size: float | jax.Array,
    geometry: Geometry | None = None,
    window: Window = "ramp",
    electronic_noise: float | jax.Array = 0.0,
    fewest: float = 5.0,
    water: float = WATER_ATTENUATION,
) -> jax.Array:
    """The image `(..., H, W)` in HU as seen with fewer photons: `x + FBP(noisy) - FBP(clean)`.

    Only noise is added, so that reconstruction blurs nothing and a low-dose image is compared with its own
    original; the noise has the streaks and the correlations of tomography. `photons` is the number incident
    on each ray (1e5 weak, 1e4 strong noise) and `pixel_size` is in cm, each one number or one for each case
    `(...,)`; the geometry defaults to `parallel_beam`. The result is not clipped.
    """
    shape = image_hu.shape[-2:]
    geometry = parallel_beam(shape) if geometry is None else geometry
    length = _per_case(pixel_size)
    clean = project(hounsfield_to_attenuation(image_hu, water=water), geometry) * length
    noisy = noisy_integrals(clean, _per_case(photons), key, electronic_noise=electronic_noise, fewest=fewest)
    # FBP is linear: the difference of two reconstructions is one of the difference.
    noise = fbp((noisy - clean) / length, geometry, shape, window=window)
    return image_hu + 1000 / water * noise


def polychromatic_transmission(
    image_hu: jax.Array,
    geometry: Geometry,
    *,
    pixel_size: float | jax.Array,
    metal_mask: jax.Array | None = None,
    metal: str = "titanium",
) -> jax.Array:
    """Part of the photons that pass, `(..., views, detectors)`: `sum_k w_k exp(-sum_m mu_m(E_k) L_m)`.

    A pixel is water of the density that its HU (taken to be made at 80 keV) imply, bone, or between 150 and
    1200 HU a mixture of both; where `metal_mask` `(..., H, W)`, a mask or a share in [0, 1], is set, it is
    solid `metal` instead. `pixel_size` is in cm, one or one for each case.
    """
    if metal not in METAL_DENSITY:
        raise ValueError(f"unknown metal {metal!r}; there are {', '.join(METAL_DENSITY)}")
    table = {name: np.asarray(values, np.float32) for name, values in MASS_ATTENUATION.items()}
    attenuation = hounsfield_to_attenuation(image_hu, water=float(table["water"][REFERENCE]))
    low, high = BONE_RAMP_HU
    share = jnp.clip((_at_least_float32(image_hu) - low) / (high - low), 0, 1)
    densities = {
        "water": (1 - share) * attenuation / table["water"][REFERENCE],
        "bone": share * attenuation / table["bone"][REFERENCE],
    }
    if metal_mask is not None:
        filled = jnp.asarray(metal_mask).astype(attenuation.dtype)
        densities = {name: (1 - filled) * density for name, density in densities.items()}
        densities[metal] = filled * METAL_DENSITY[metal]
    length = _per_case(pixel_size)
    paths = {name: project(density, geometry) * length for name, density in densities.items()}

    def line(k):
        return SPECTRUM[k] * jnp.exp(-sum(table[name][k] * path for name, path in paths.items()))

    return sum(line(k) for k in range(len(ENERGIES)))


def water_correction(integrals: jax.Array, *, water: float = WATER_ATTENUATION) -> jax.Array:
    """Line integrals of any shape as they would be if all matter were water and the beam had one energy.

    The correction that every scanner applies: the polychromatic integral is looked up in a table of paths
    through water, and the path found is multiplied by `water` (1/cm). Water is then free of cupping; bone and
    metal still leave dark bands. Beyond 80 cm of water the table's last slope goes on.
    """
    paths = np.linspace(0, LONGEST_WATER_PATH, 1601)
    transmission = np.exp(-np.outer(paths, MASS_ATTENUATION["water"])) @ np.asarray(SPECTRUM)
    table = jnp.asarray(-np.log(transmission), jnp.float32)
    path = jnp.interp(
        integrals, table, jnp.asarray(paths, jnp.float32), left="extrapolate", right="extrapolate"
    )
    return water * path


def metal_artefacts(
    image_hu: jax.Array,
    metal_mask: jax.Array,
    photons: float | jax.Array,
    key: jax.Array,
    *,
    pixel_size: float | jax.Array,
    metal: str = "titanium",
    scatter: float = 1e-3,
    geometry: Geometry | None = None,
    window: Window = "ramp",
    fewest: float = 5.0,
    water: float = WATER_ATTENUATION,
) -> jax.Array:
    """The image `(..., H, W)` in HU as a scan would show it with metal in it, clipped to [-1024, 3071] HU.

    `metal_mask` `(..., H, W)` is where the metal is. The beam has many energies, `scatter` is a constant part
    of the incident `photons`, counts are Poisson; then the correction for water, the logarithm and filtered
    back-projection that a scanner applies to all. Beam hardening and starved rays make the streaks. As in
    `low_dose`, what is added is the difference to the reconstruction of its ideal measurement,
    so that nothing else blurs; it too carries the hardening by the image's own bone.
    """
    shape = image_hu.shape[-2:]
    geometry = parallel_beam(shape) if geometry is None else geometry
    length, photons = _per_case(pixel_size), _per_case(photons)
    transmitted = polychromatic_transmission(
        image_hu, geometry, pixel_size=pixel_size, metal_mask=metal_mask, metal=metal
    )
    counts = photon_counts(photons * (transmitted + scatter), key)
    measured = water_correction(jnp.log(photons * (1 + scatter) / jnp.maximum(counts, fewest)), water=water)
    ideal = project(hounsfield_to_attenuation(image_hu, water=water), geometry) * length
    added = fbp((measured - ideal) / length, geometry, shape, window=window)
    return jnp.clip(image_hu + 1000 / water * added, LOWEST_HU, HIGHEST_HU)


def _inverted_poisson(uniform: jax.Array, mean: jax.Array) -> jax.Array:
    """Poisson numbers of means up to 30 from uniform ones: how many cumulative probabilities lie below."""

    def add_term(k, state):
        count, probability, cumulative = state
        count = count + (uniform >= cumulative)
        probability = probability * mean / (k + 1)
        return count, probability, cumulative + probability

    none = jnp.exp(-mean)
    # A count above 80 has a probability of 1e-13 at most.
    return jax.lax.fori_loop(0, 80, add_term, (jnp.zeros_like(mean), none, none))[0]


# --- projection and its adjoint, for images (N, H, W) and sinograms (N, views, detectors) ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _project(images: jax.Array, shape: tuple[int, int], geometry: Geometry) -> jax.Array:
    height, width = shape
    pixels = images.reshape(len(images), height * width).T
    # Tables of all rays, made before the loop, keep sines and divisions out of the gather.
    normal_x, normal_y, distance = _rays(geometry)
    by_rows = jnp.abs(normal_x) >= jnp.abs(normal_y)
    along, across = jnp.where(by_rows, normal_y, normal_x), jnp.where(by_rows, normal_x, normal_y)
    slope = -along / across
    centre_along = jnp.where(by_rows, height // 2, width // 2)
    start = distance / across - slope * centre_along + jnp.where(by_rows, width // 2, height // 2)

    # One step of all rays at a time: an elementwise sum, several times faster than a reduction over steps.
    def add_step(total, step):
        position = slope * step + start
        lower = jnp.floor(position)
        share = position - lower
        for offset, weight in ((0, 1 - share), (1, share)):
            other = lower.astype(jnp.int32) + offset
            row, column = jnp.where(by_rows, step, other), jnp.where(by_rows, other, step)
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.where(inside, row * width + column, 0)
            values = pixels.at[index].get(mode="promise_in_bounds")
            total = total + jnp.where(inside, weight, 0)[..., None] * values
        return total, None

    empty = jnp.zeros((*start.shape, len(images)), images.dtype)
    sums, _ = jax.lax.scan(add_step, empty, jnp.arange(max(shape)))
    return jnp.moveaxis(sums / jnp.abs(across)[..., None], -1, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _project_adjoint(sinograms: jax.Array, shape: tuple[int, int], geometry: Geometry) -> jax.Array:
    x, y = _pixel_positions(shape)
    candidates = _most_rays_beside_a_pixel(geometry, shape)

    def add_view(image, view):
        angle, normal_x, normal_y, distance, readings = view
        position, _ = _detector_positions(geometry, angle, x, y)
        first = jnp.floor(position).astype(jnp.int32) - (candidates // 2 - 1)
        for offset in range(candidates):
            ray = first + offset
            inside = (ray >= 0) & (ray < geometry.detectors)
            ray = jnp.where(inside, ray, 0)
            normal = normal_x[ray], normal_y[ray]
            largest = jnp.maximum(jnp.abs(normal[0]), jnp.abs(normal[1]))
            away = jnp.abs(normal[0] * x + normal[1] * y - distance[ray])
            weight = jnp.where(inside, jnp.maximum(1 - away / largest, 0) / largest, 0)
            image = image + weight[:, None] * readings[ray]
        return image, None

    readings = jnp.moveaxis(sinograms, 0, -1)
    empty = jnp.zeros((x.size, len(sinograms)), sinograms.dtype)
    image, _ = jax.lax.scan(add_view, empty, (_angles(geometry), *_rays(geometry), readings))
    return image.T.reshape(len(sinograms), *shape)


_project.defvjp(
    lambda images, shape, geometry: (_project(images, shape, geometry), None),
    lambda shape, geometry, _, cotangent: (_project_adjoint(cotangent, shape, geometry),),
)
_project_adjoint.defvjp(
    lambda sinograms, shape, geometry: (_project_adjoint(sinograms, shape, geometry), None),
    lambda shape, geometry, _, cotangent: (_project(cotangent, shape, geometry),),
)


def _rays(geometry: Geometry) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normals (x right, y down) and distances in pixels of all rays, `(views, detectors)` each."""
    angle = _angles(geometry)[:, None]
    offset = (jnp.arange(geometry.detectors) - geometry.detectors // 2) * geometry.spacing
    if isinstance(geometry, FanBeam):
        angle, distance = angle + offset, geometry.distance * jnp.sin(offset)
    else:
        angle, distance = jnp.broadcast_to(angle, (geometry.views, geometry.detectors)), offset
    return jnp.cos(angle), -jnp.sin(angle), jnp.broadcast_to(distance, angle.shape)


def _detector_positions(
    geometry: Geometry, angle: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Fractional detector that each pixel falls on, and the weight of fan beams `1 / L^2` (1 if parallel)."""
    beside = x * jnp.cos(angle) - y * jnp.sin(angle)
    middle = geometry.detectors // 2
    if not isinstance(geometry, FanBeam):
        return beside / geometry.spacing + middle, jnp.ones_like(beside)
    ahead = geometry.distance + x * jnp.sin(angle) + y * jnp.cos(angle)
    weight = 1 / (jnp.square(beside) + jnp.square(ahead))
    return jnp.arctan2(beside, ahead) / geometry.spacing + middle, weight


def _most_rays_beside_a_pixel(geometry: Geometry, shape: tuple[int, int]) -> int:
    """How many neighbouring rays, an even number, hold all that pass within one pixel of a pixel."""
    if not isinstance(geometry, FanBeam):
        return 2 * int(np.ceil(1 / geometry.spacing))
    nearest = geometry.distance - np.hypot(*shape) / 2 - 1
    if nearest <= 1:
        raise ValueError(f"the fan's source at {geometry.distance} pixels is inside an image of {shape}")
    return 2 * int(np.ceil(np.arcsin(1 / nearest) / geometry.spacing))


# --- filtered back-projection ---


def _filtered(sinogram: jax.Array, geometry: Geometry, window: Window) -> jax.Array:
    """Each view convolved with the ramp, times the spacing of the detectors."""
    detectors, spacing = geometry.detectors, geometry.spacing
    length = 2 ** int(np.ceil(np.log2(2 * detectors)))
    lag = np.fft.fftfreq(length, 1 / length)
    steps = lag * spacing
    if isinstance(geometry, FanBeam):
        offset = (np.arange(detectors) - detectors // 2) * spacing
        sinogram = sinogram * jnp.asarray(geometry.distance * np.cos(offset), sinogram.dtype)
        # Lags beyond the fan never meet a reading; the sine must only not vanish there.
        steps, half = np.sin(np.where(np.abs(lag) < detectors, steps, np.pi / 2)), 0.5
    else:
        half = 1.0
    odd = lag.astype(int) % 2 != 0
    kernel = np.zeros(length)
    kernel[odd] = -half / np.square(np.pi * steps[odd])
    kernel[0] = half / (4 * spacing**2)
    response = np.fft.rfft(kernel).real * spacing
    if window == "hann":
        response = response * np.cos(np.pi * np.fft.rfftfreq(length)) ** 2
    spectrum = jnp.fft.rfft(sinogram, length, axis=-1) * jnp.asarray(response, sinogram.dtype)
    return jnp.fft.irfft(spectrum, length, axis=-1)[..., :detectors]


def _interpolated_views(sinograms: jax.Array, shape: tuple[int, int], geometry: Geometry) -> jax.Array:
    """Sum over views of the readings, interpolated where each pixel falls; `(N, H, W)`."""
    x, y = _pixel_positions(shape)

    def add_view(image, view):
        angle, readings = view
        position, weight = _detector_positions(geometry, angle, x, y)
        lower = jnp.floor(position)
        share = position - lower
        for offset, part in ((0, 1 - share), (1, share)):
            detector = lower.astype(jnp.int32) + offset
            inside = (detector >= 0) & (detector < geometry.detectors)
            part = jnp.where(inside, part * weight, 0)
            image = image + part[:, None] * readings[jnp.where(inside, detector, 0)]
        return image, None

    readings = jnp.moveaxis(sinograms, 0, -1)
    empty = jnp.zeros((x.size, len(sinograms)), sinograms.dtype)
    image, _ = jax.lax.scan(add_view, empty, (_angles(geometry), readings))
    return image.T.reshape(len(sinograms), *shape)


def _view_weight(geometry: Geometry) -> float:
    """Angle that one view stands for; a full turn measures each ray twice."""
    if isinstance(geometry, FanBeam):
        if not np.isclose(geometry.arc, 2 * np.pi):
            raise ValueError("filtered back-projection of a fan beam needs a full turn (arc = 2 pi)")
        return 2 * np.pi / geometry.views
    return min(geometry.arc, np.pi) / geometry.views


# --- small things ---


def _angles(geometry: Geometry) -> jax.Array:
    return jnp.asarray(geometry.arc * np.arange(geometry.views) / geometry.views, jnp.float32)


def _pixel_positions(shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """x to the right and y down, `(H * W,)`, in pixels from the centre of rotation."""
    row, column = jnp.divmod(jnp.arange(shape[0] * shape[1]), shape[1])
    return (column - shape[1] // 2).astype(jnp.float32), (row - shape[0] // 2).astype(jnp.float32)


def _batched(function, x: jax.Array, shape: tuple[int, int], geometry: Geometry) -> jax.Array:
    """`function` of `(N, a, b)` applied to `(..., a, b)`."""
    x = _at_least_float32(x)
    result = function(x.reshape(-1, *x.shape[-2:]), shape, geometry)
    return result.reshape(*x.shape[:-2], *result.shape[-2:])


def _per_case(value: float | jax.Array) -> jax.Array:
    """A number, or one for each case `(...,)`, so that it multiplies sinograms and images."""
    return jnp.asarray(value, jnp.float32)[..., None, None]


def _check_geometry(geometry: Geometry) -> None:
    if geometry.views < 1 or geometry.detectors < 1 or not (geometry.spacing > 0 and geometry.arc > 0):
        raise ValueError(f"views, detectors, spacing and arc must be positive: {geometry}")


def _check_sinogram(sinogram: jax.Array, geometry: Geometry) -> None:
    if tuple(sinogram.shape[-2:]) != (geometry.views, geometry.detectors):
        raise ValueError(f"a sinogram of shape {sinogram.shape} does not fit {geometry}")


def _at_least_float32(x: jax.Array) -> jax.Array:
    """Integers and half precision as float32, which sums over a ray need."""
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
