"""Axial slices through a procedural head at the level of the ventricles, as an MR scanner would show them.

Every subject is a pure function of a random key: `head_slice(key, size)` compiles, and batches with `vmap`.
A key gives the same subject at every size and contrast, with lesions or without: such images are registered.

A slice is built in four steps. *Anatomy*: see `head_anatomy`. *Signal*: the equation of the spin echo (T2,
PD) or of inversion recovery (T1) with each tissue's PD, T1 and T2. *Imperfection*: texture within tissue, the
smooth profile of the coils, a smooth phase. *Acquisition*: a point spread and complex white noise, so that
the magnitude of air is Rayleigh distributed.

The population (mean, standard deviation): age, uniform in 0 to 1, which widens sulci and ventricles together;
level, uniform, from the third ventricle up to the bodies of the lateral ones; pose 0.05 rad, 1.8 and 3 mm;
brain 127 (5) by 167 (6) mm; skull 5 (0.7) mm and a frontal sinus in some; scalp 6 (1) mm; cortex 3.9 (0.5)
mm; ventricles' width 15 % beyond age; T1 and T2 of each tissue 4 %, protocol 5 %; texture 5 %, coil profile
10 %; phase within pi/4 to pi/2. Everything that bends a border is a random spline besides.

Other modalities, tumours and scanners of the same subjects: `head_study`.
"""

import functools
from collections.abc import Mapping
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.head_anatomy import LABELS as LABELS
from medgan_jax.phantoms.head_anatomy import LESION, SMALLEST_GRID, HeadChance, Layer, anatomy

Contrast = Literal["t1", "t2", "pd"]

# Cortical bone and flowing blood give hardly any signal to a spin echo.
SIGNAL_VOIDS = ("bone", "artery", "venous_sinus")
# Proton density (water 1), T1 and T2 in ms near 1.5 T.
TISSUES = {
    "csf": (1.00, 4000.0, 2000.0),
    "cortex": (0.82, 950.0, 100.0),
    "deep_grey": (0.79, 850.0, 88.0),
    "white_matter": (0.70, 600.0, 76.0),
    "pallidum": (0.74, 720.0, 70.0),
    "fat": (0.65, 380.0, 150.0),
    "skin": (0.75, 700.0, 45.0),
    "muscle": (0.80, 950.0, 40.0),
    "marrow": (0.45, 400.0, 60.0),
    "lesion": (0.88, 1200.0, 170.0),
}
# Repetition, inversion (0: none) and echo time in ms; each subject's differ by a few per cent.
PROTOCOLS = {"t1": (2300.0, 900.0, 4.0), "t2": (5000.0, 0.0, 95.0), "pd": (8000.0, 0.0, 30.0)}
# How many random numbers the phase takes.
PHASE_NUMBERS = 15


def head_slice(
    key: jax.Array,
    size: int = 256,
    *,
    contrast: Contrast = "t1",
    lesions: bool = False,
    noise: float = 0.01,
) -> dict[str, jax.Array]:
    """One subject's slice; `key` decides everything about it.

    `size` is the side of the image in pixels; below 128 an image is the average of a finer one, as thick
    voxels are. `noise` is the standard deviation of the noise in the real and in the imaginary part, as a
    fraction of the brightest pixel, varied by 30 % between subjects. With `lesions`, up to 8 ovoid
    white-matter lesions lie round the ventricles (a lesion is cut off where white matter ends, so that some
    subjects have few).

    Returns, for `size` = H = W:

    * `complex` `(H, W, 2)`: real and imaginary part; the phase is smooth, within about +-pi/2;
    * `image` `(H, W, 1)`: its magnitude in [0, 1], largest value 1;
    * `labels` `(H, W)`: int32, see `LABELS`;
    * `brain_mask`, `lesion_mask` `(H, W)`: bool.

    Raises `ValueError` for an unknown contrast or a size below 16.
    """
    if contrast not in get_args(Contrast):
        raise ValueError(f"unknown contrast '{contrast}'; there are {', '.join(get_args(Contrast))}")
    if size < 16:
        raise ValueError(f"a head needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-SMALLEST_GRID // size)
    grid = size * factor
    subject_key, noise_key = jax.random.split(key)
    chance = HeadChance(subject_key, grid)
    signal = spin_signals(contrast, *signal_deviates(chance))
    phase = _phase(chance, grid)
    profile = texture_and_profile(chance)
    head = anatomy(chance, grid)
    sick = [(head.lesions, "lesion", LESION)] if lesions else []
    drawn, labels = paint_layers(head.layers + sick + head.deep, signal, grid)
    drawn = _spread(drawn * profile, grid)
    field = _average(jnp.stack([drawn * jnp.cos(phase), drawn * jnp.sin(phase)], axis=-1), factor)
    # One draw: the first number sets this subject's noise level.
    deviates = jax.random.normal(noise_key, (1 + field.size,))
    level = noise * jnp.exp(0.3 * deviates[0]) * jnp.max(jnp.linalg.norm(field, axis=-1))
    field = field + level * deviates[1:].reshape(field.shape)
    magnitude = jnp.linalg.norm(field, axis=-1, keepdims=True)
    peak = jnp.max(magnitude)
    labels, brain = (each[factor // 2 :: factor, factor // 2 :: factor] for each in (labels, head.depth > 0))
    return {
        "image": magnitude / peak,
        "complex": field / peak,
        "labels": labels,
        "brain_mask": brain,
        "lesion_mask": labels == LESION,
    }


def head_slices(keys: jax.Array, size: int = 256, *, batch: int = 16, **options) -> dict[str, jax.Array]:
    """`head_slice` of each of `keys` `(B,)`, `batch` at a time to bound memory; leaves `(B, H, W, ...)`."""
    return jax.lax.map(lambda key: head_slice(key, size, **options), keys, batch_size=batch)


def signal_deviates(chance: HeadChance) -> tuple[jax.Array, jax.Array]:
    """What a subject's `spin_signals` deviate by: of the protocol `(3,)`, of T1 and T2 `(2 tissues,)`."""
    return chance.normal(3), chance.normal(2 * len(TISSUES))


def spin_signals(contrast: Contrast, protocol: jax.Array, relaxation: jax.Array) -> dict[str, jax.Array]:
    """Signal of each tissue in one subject: `PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)`.

    That is inversion recovery; without inversion, TI = 0, it is the spin echo. protocol, relaxation: see
    `signal_deviates`.
    """
    repetition, inversion, echo = np.array(PROTOCOLS[contrast]) * jnp.exp(0.05 * protocol)
    density, t1, t2 = np.array(list(TISSUES.values())).T
    scatter = jnp.exp(0.04 * relaxation)
    t1, t2 = t1 * scatter[: len(TISSUES)], t2 * scatter[len(TISSUES) :]
    recovered = jnp.abs(1 - 2 * jnp.exp(-inversion / t1) + jnp.exp(-repetition / t1))
    signal = density * recovered * jnp.exp(-echo / t2)
    signals = {**dict.fromkeys(SIGNAL_VOIDS, 0.02), **dict(zip(TISSUES, signal, strict=True))}
    return signals | {"choroid_plexus": signals["deep_grey"]}


def paint_layers(
    layers: list[Layer], values: Mapping[str, jax.Array | float], grid: int
) -> tuple[jax.Array, jax.Array]:
    """Values of tissues and labels `(N, N)`; a voxel on a border is shared between its tissues.

    Borders are at least 1.4 mm wide, since a slice has a thickness and cuts most surfaces aslant.
    """
    voxel = max(2 / grid, 1.4 / 120)
    drawn, labels = jnp.zeros((grid, grid)), jnp.zeros((grid, grid), jnp.int32)
    for inside, tissue, label in layers:
        drawn = drawn + jnp.clip(0.5 + inside / voxel, 0, 1) * (values[tissue] - drawn)
        labels = jnp.where(inside > 0, label, labels)
    return drawn, labels


def texture_and_profile(chance: HeadChance) -> jax.Array:
    """What multiplies the signal `(N, N)`: structure within tissue, and the smooth profile of the coils."""
    texture = 0.015 * chance.field("smooth") + 0.015 * chance.field("finest") + 0.05 * chance.field("grain")
    return jnp.exp(0.10 * chance.field("profile") + texture)


def _phase(chance: HeadChance, grid: int) -> jax.Array:
    """Smooth phase `(N, N)` in radians, at most pi/2 in size: a second-order polynomial and three bumps."""
    deviates = chance.normal(PHASE_NUMBERS)
    side = jnp.linspace(-1, 1, grid)
    x, y = side[None, :], side[:, None]
    phase = sum(c * term for c, term in zip(deviates[:5], (x, y, x * y, x * x, y * y), strict=True))
    for i, width in enumerate((0.15, 0.25, 0.4)):
        height, left, down = deviates[5 + 3 * i : 8 + 3 * i] * jnp.array([1.0, 0.35, 0.35])
        phase = phase + height * jnp.exp(-(jnp.square(x - left) + jnp.square(y - down)) / (2 * width**2))
    largest = (0.75 + 0.25 * jnp.tanh(deviates[14])) * jnp.pi / 2
    return phase / jnp.max(jnp.abs(phase)) * largest


def _spread(drawn: jax.Array, grid: int) -> jax.Array:
    """The signal `(N, N)` blurred by the scanner's point spread, a Gaussian of standard deviation 0.4 mm."""
    blur = _gaussian_blur(grid, 0.4 / 240 * grid)
    return blur @ drawn @ blur.T


@functools.cache
def _gaussian_blur(grid: int, deviation: float) -> np.ndarray:
    """Matrix `(N, N)` of a Gaussian of `deviation` voxels, cut off at three; a matrix as in `_difference`."""
    offset = np.arange(grid)[:, None] - np.arange(grid)
    weight = np.exp(-0.5 * (offset / deviation) ** 2) * (np.abs(offset) <= max(1, 3 * deviation))
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def _average(field: jax.Array, factor: int) -> jax.Array:
    """Means `(N / factor, N / factor, 2)` of blocks of `factor` x `factor` voxels."""
    side = field.shape[0] // factor
    return field.reshape(side, factor, side, factor, 2).mean((1, 3))


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of the contact sheet: each contrast, and proton density with lesions."""
    kinds = {"T1": ("t1", False), "T2": ("t2", False), "PD": ("pd", False), "PD, lesions": ("pd", True)}
    rows = {}
    for title, (contrast, lesions) in kinds.items():
        draw = functools.partial(head_slices, contrast=contrast, lesions=lesions)
        rows[title] = jax.jit(draw)(keys)["image"][..., 0]
    return rows
