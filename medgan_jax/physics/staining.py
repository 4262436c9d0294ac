"""Stained tissue in transmitted light: the law of Beer and Lambert, scanners, colour normalisation, spectra.

Conventions, kept by every function here:

* images are transmitted light `(..., H, W, 3)` in [0, 1], red first, 1 where nothing absorbs;
* concentrations are `(..., H, W, stains)`, at least 0; a concentration of 1 along a stain vector of unit
  length absorbs an optical density of 1 (natural logarithm);
* stain matrices are `(stains, channels)`, one optical density vector a row, haematoxylin first, then eosin.

Every function is pure and works under `jit`, `vmap` and `grad`; the two normalisers, which are baselines, are
meant for evaluation and not for gradients.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

# Optical density of haematoxylin and eosin in red, green and blue: Ruifrok and Johnston, Anal. Quant. Cytol.
# Histol. 23, 2001.
HAEMATOXYLIN_EOSIN = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))
# An 8-bit image holds nothing darker than this but black.
DARKEST = 1 / 255

# Peaks in the absorption of unstained tissue, (nm, width in nm, height), on a background that falls with the
# wavelength: made-up spectra whose shapes follow nucleic acid and protein with some blood (415, 542, 577 nm).
SPECTRA = {
    "nucleus": (((430.0, 60.0, 0.25), (640.0, 80.0, 0.08)), 0.35),
    "cytoplasm": (((415.0, 15.0, 0.35), (542.0, 18.0, 0.14), (577.0, 12.0, 0.14)), 0.20),
}
VISIBLE_NM = (420.0, 720.0)

# From linear RGB to the response of the cones, and on to the axes l, alpha, beta: Reinhard et al., IEEE
# Computer Graphics and Applications 21(5), 2001, after Ruderman et al. 1998.
CONES = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
OPPONENTS = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


@dataclasses.dataclass(frozen=True)
class Scanner:
    """How a laboratory and its scanner show a section.

    `stains` are the vectors of haematoxylin and eosin, `strengths` how much of each the tissue takes up,
    `white` the light (red, green, blue) where there is no tissue, `gamma` the exponent of the tone curve.
    """

    stains: tuple[tuple[float, float, float], ...]
    strengths: tuple[float, ...]
    white: tuple[float, float, float]
    gamma: float


# Two made-up laboratories: A, with the vectors that users of Macenko's method take as reference, is pink and
# light; B is purple and dark.
SCANNERS = {
    "A": Scanner(((0.56, 0.72, 0.41), (0.22, 0.80, 0.56)), (0.9, 1.0), (0.96, 0.95, 0.96), 1.0),
    "B": Scanner(((0.75, 0.62, 0.21), (0.34, 0.89, 0.30)), (1.3, 0.8), (0.90, 0.90, 0.93), 1.15),
}


def optical_density(image: jax.Array) -> jax.Array:
    """Optical density `-log I` of transmitted light of any shape; what is below 1/255 counts as 1/255."""
    return -jnp.log(jnp.maximum(jnp.asarray(image, jnp.float32), DARKEST))


def stain(concentrations: jax.Array, stains: jax.Array = HAEMATOXYLIN_EOSIN) -> jax.Array:
    """Transmitted light `exp(-c S)`, `(..., channels)`, of concentrations `(..., stains)`."""
    return jnp.exp(-_times(concentrations, jnp.asarray(stains, jnp.float32)))


def unstain(image: jax.Array, stains: jax.Array = HAEMATOXYLIN_EOSIN) -> jax.Array:
    """Concentrations `(..., stains)` that explain an image `(..., channels)` best, in least squares of its
    optical density: the inverse of `stain` wherever light comes through. Noise can make some negative.
    """
    return _times(optical_density(image), jnp.linalg.pinv(jnp.asarray(stains, jnp.float32)))


def scan(concentrations: jax.Array, scanner: Scanner) -> jax.Array:
    """The image `(..., H, W, 3)` in [0, 1] that `scanner` makes of `concentrations` `(..., H, W, 2)`.

    The same tissue under two of `SCANNERS` is a registered pair.
    """
    strengths = jnp.asarray(scanner.strengths, jnp.float32)
    light = stain(concentrations * strengths, _unit(jnp.asarray(scanner.stains, jnp.float32)))
    return jnp.asarray(scanner.white, jnp.float32) * light**scanner.gamma


def grey(image: jax.Array) -> jax.Array:
    """Luminance `(..., 1)` of an image `(..., 3)` with the weights of ITU-R BT.601: the colour-free form."""
    return _times(image, jnp.asarray([[0.299], [0.587], [0.114]]))


def wavelengths(bands: int) -> np.ndarray:
    """Centres of `bands` evenly spaced bands of visible light, in nm."""
    return np.linspace(*VISIBLE_NM, bands)


def tissue_spectra(bands: int) -> jax.Array:
    """Absorption of unstained nuclei and cytoplasm `(2, bands)`, optical density at a concentration of 1.

    Smooth made-up curves (see `SPECTRA`), weak as in unstained tissue, and not parallel: two bands or more
    tell the components apart, no band alone does.
    """
    wave = wavelengths(bands)
    curves = [
        background * (VISIBLE_NM[0] / wave) ** 2
        + sum(height * np.exp(-np.square((wave - peak) / width) / 2) for peak, width, height in peaks)
        for peaks, background in SPECTRA.values()
    ]
    return jnp.asarray(np.stack(curves), jnp.float32)


def hyperspectral(
    concentrations: jax.Array, bands: int, *, noise: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """Transmission `(..., H, W, bands)` of the tissue without stain, from `concentrations` `(..., H, W, 2)`.

    The concentrations of haematoxylin and eosin that `scan` renders stand for nucleus and cytoplasm here, so
    that cube and stained image are a registered pair. `noise` is the standard deviation of white noise, which
    needs a `key`. After the task of Bayramoglu et al., ICCV Workshops 2017.
    """
    cube = stain(concentrations, tissue_spectra(bands))
    if key is not None:
        cube = cube + noise * jax.random.normal(key, cube.shape, cube.dtype)
    elif not (isinstance(noise, (int, float)) and noise == 0):
        raise ValueError("noise in a hyperspectral cube needs a random key")
    return cube


def macenko_stains(image: jax.Array, *, threshold: float = 0.15, percentile: float = 1.0) -> jax.Array:
    """The two stain vectors `(2, 3)` of an image `(H, W, 3)`, of unit length, haematoxylin first.

    In the plane of the two strongest directions of optical density, the extreme angles (`percentile` and 100
    minus it) among pixels whose density is longer than `threshold`; haematoxylin is the one that takes
    more of the red. Macenko et al., ISBI 2009. NaN where fewer than three pixels are that dense.
    """
    density = optical_density(image).reshape(-1, 3)
    tissue = jnp.linalg.norm(density, axis=-1) > threshold
    weight = tissue.astype(density.dtype)[:, None]
    total = jnp.sum(weight)
    centred = weight * (density - jnp.sum(weight * density, 0) / jnp.maximum(total, 1))
    _, vectors = jnp.linalg.eigh(jnp.matmul(centred.T, centred, precision="highest"))
    # Strongest first, and pointing to where densities are: a plane's angles are then about zero.
    plane = vectors[:, ::-1][:, :2]
    plane = plane * jnp.where(jnp.sum(plane, axis=0) < 0, -1, 1)
    along, across = _times(density, plane).T
    angle = jnp.where(tissue, jnp.arctan2(across, along), jnp.nan)
    extremes = jnp.nanpercentile(angle, jnp.array([percentile, 100 - percentile]))
    found = _unit(_times(jnp.stack([jnp.cos(extremes), jnp.sin(extremes)], axis=-1), plane.T))
    ordered = jnp.where(found[0, 0] > found[1, 0], found, found[::-1])
    return jnp.where(total >= 3, ordered, jnp.nan)


def macenko(image: jax.Array, reference: jax.Array, *, percentile: float = 99.0) -> jax.Array:
    """`image` `(H, W, 3)` in the stains of `reference` `(h, w, 3)`, in [0, 1]: the baseline of Macenko et al.

    Each image is taken apart with its own `macenko_stains`; the concentrations are scaled so that their high
    percentiles agree, and put together with the vectors of the reference.
    """
    stains, target = macenko_stains(image), macenko_stains(reference)
    amounts = unstain(image, stains)
    high, wanted = (
        jnp.percentile(unstain(x, s).reshape(-1, 2), percentile, axis=0)
        for x, s in ((image, stains), (reference, target))
    )
    return jnp.clip(stain(amounts * wanted / jnp.maximum(high, 1e-6), target), 0, 1)


def reinhard(image: jax.Array, reference: jax.Array) -> jax.Array:
    """`image` `(H, W, 3)` with the mean and spread of `reference` `(h, w, 3)` on the axes l, alpha, beta.

    Clipped to [0, 1]. Reinhard et al., IEEE Computer Graphics and Applications 21(5), 2001.
    """
    source, target = opponent_colours(image), opponent_colours(reference)
    (mean, spread), (wanted_mean, wanted_spread) = (
        (jnp.mean(x, axis=(0, 1)), jnp.std(x, axis=(0, 1))) for x in (source, target)
    )
    moved = (source - mean) * wanted_spread / jnp.maximum(spread, 1e-6) + wanted_mean
    cones = 10 ** _times(moved, jnp.asarray(np.linalg.inv(OPPONENTS).T, jnp.float32))
    return jnp.clip(_times(cones, jnp.asarray(np.linalg.inv(CONES).T, jnp.float32)), 0, 1)


def opponent_colours(image: jax.Array) -> jax.Array:
    """The decorrelated axes l, alpha, beta `(..., 3)` of Ruderman et al. of an image `(..., 3)` in [0, 1]."""
    cones = _times(jnp.maximum(jnp.asarray(image, jnp.float32), DARKEST), jnp.asarray(CONES, jnp.float32).T)
    return _times(jnp.log10(cones), jnp.asarray(OPPONENTS.T, jnp.float32))


def _times(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """`x @ matrix` over the last axis, in full float32 on every platform."""
    return jnp.matmul(x, matrix, precision="highest")


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
