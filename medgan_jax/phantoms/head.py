"""Axial slices through a procedural head at the level of the ventricles, as an MR scanner would show them.

Every subject is a pure function of a random key: `head_slice(key, size)` compiles, and batches with `vmap`.
A key gives the same subject at every size and contrast, with lesions or without: such images are registered.

A slice is built in four steps. *Anatomy*: signed distances to nested, warped surfaces (scalp, skull, brain),
to creases (fissures, and two generations of sulci along the zero lines of a smoothly bent wave) and to deep
structures (ventricles, basal ganglia, thalami); cortex is what lies within its thickness of a crease or of
the brain's surface. *Signal*: the equation of the spin echo (T2, PD) or of inversion recovery (T1) with each
tissue's PD, T1 and T2. *Imperfection*: texture within tissue, the smooth profile of the coils, a smooth
phase. *Acquisition*: a point spread and complex white noise, so that the magnitude of air is Rayleigh
distributed.

The population (mean, standard deviation): age, uniform in 0 to 1, which widens sulci and ventricles together;
level, uniform, from the third ventricle up to the bodies of the lateral ones; pose 0.05 rad, 1.8 and 3 mm;
brain 127 (5) by 167 (6) mm; skull 5 (0.7) mm and a frontal sinus in some; scalp 6 (1) mm; cortex 3.9 (0.5)
mm; ventricles' width 15 % beyond age; T1 and T2 of each tissue 4 %, protocol 5 %; texture 5 %, coil profile
10 %; phase within pi/4 to pi/2. Everything that bends a border is a random spline besides.

Lengths are in halves of the field of view (240 mm: one unit is 120 mm) of a standard head.

`python -m medgan_jax.phantoms.head --output sheet.png [--folder DIRECTORY]` draws a contact sheet, beside
real images if a folder of them is named.
"""

import argparse
import functools
import itertools
import pathlib
import sys
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from medgan_jax.errors import UserError

Contrast = Literal["t1", "t2", "pd"]

AIR, SCALP, SKULL, CSF, CORTEX, WHITE_MATTER, DEEP_GREY, VENTRICLE, LESION = range(9)
LABELS = {
    "air": AIR,
    "scalp": SCALP,
    "skull": SKULL,
    "csf": CSF,
    "cortex": CORTEX,
    "white_matter": WHITE_MATTER,
    "deep_grey": DEEP_GREY,
    "ventricle": VENTRICLE,
    "lesion": LESION,
}

# Proton density (water 1), T1 and T2 in ms near 1.5 T; cortical bone and flowing blood give no signal.
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

# The smallest grid on which the cortex can be drawn; smaller images are averages of it, as thick voxels are.
SMALLEST_GRID = 128
MOST_LESIONS = 8
# How many random numbers a subject has, and fields: name, spans of the spline over the field of view, number.
SCALARS = 128
FIELDS = {"profile": (2, 1), "smooth": (9, 13), "fine": (17, 12), "finest": (28, 6), "grain": (90, 1)}


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
    chance = _Chance(subject_key, grid)
    signal = _signals(chance, contrast)
    phase = _phase(chance, grid)
    profile = _texture_and_profile(chance)
    layers, brain = _anatomy(chance, grid, lesions)
    drawn, labels = _paint(layers, signal, grid)
    drawn = _spread(drawn * profile, grid)
    field = _average(jnp.stack([drawn * jnp.cos(phase), drawn * jnp.sin(phase)], axis=-1), factor)
    # One draw: the first number sets this subject's noise level.
    deviates = jax.random.normal(noise_key, (1 + field.size,))
    level = noise * jnp.exp(0.3 * deviates[0]) * jnp.max(jnp.linalg.norm(field, axis=-1))
    field = field + level * deviates[1:].reshape(field.shape)
    magnitude = jnp.linalg.norm(field, axis=-1, keepdims=True)
    peak = jnp.max(magnitude)
    labels, brain = (voxels[factor // 2 :: factor, factor // 2 :: factor] for voxels in (labels, brain))
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


class _Chance:
    """A subject's random numbers and smooth random fields, each used once.

    All come from one draw of fixed length: separate draws would cost about a second of compilation each, and
    a subject would not be the same at every size.
    """


    def __init__(self, key: jax.Array, grid: int):
        sizes = [count * (knots + 3) ** 2 for knots, count in FIELDS.values()]
        deviates = jax.random.normal(key, (SCALARS + sum(sizes),))
        self._scalars, *parts = jnp.split(deviates, np.cumsum([SCALARS, *sizes[:-1]]))
        self._used = 0
        self._fields = {
            name: iter(_fields(part.reshape(count, knots + 3, knots + 3), grid))
            for part, (name, (knots, count)) in zip(parts, FIELDS.items(), strict=True)
        }

    def normal(self, count: int) -> jax.Array:
        """`(count,)` standard normal numbers."""
        first, self._used = self._used, self._used + count
        if self._used > SCALARS:
            raise ValueError(f"a subject has {SCALARS} random numbers and wants {self._used}")
        return self._scalars[first : self._used]

    def uniform(self, count: int) -> jax.Array:
        """`(count,)` numbers uniform in (0, 1)."""
        return jax.scipy.stats.norm.cdf(self.normal(count))

    def field(self, name: str) -> jax.Array:
        """A random field `(N, N)` of about unit variance, as smooth as `FIELDS` says."""
        return next(self._fields[name])


def _anatomy(chance: _Chance, grid: int, lesions: bool) -> tuple[list, jax.Array]:
    """Layers `(signed distance (N, N), tissue, label)` in order of painting, and the brain mask `(N, N)`."""
    # Age widens sulci and ventricles together; level rises from the third ventricle to the lateral ones.
    age, level = chance.uniform(2)
    x, y = _standard_coordinates(chance, grid)
    depth = _brain_depth(chance, x, y, grid)
    layers = _coats(chance, x, y, depth, age)
    pia, white = _cortex(chance, x, y, depth, age, grid)
    # Less than the distance: the border of cortex and white matter is seldom cut squarely and looks softer.
    layers += [(depth, "csf", CSF), (pia, "cortex", CORTEX), (0.8 * white, "white_matter", WHITE_MATTER)]
    deep = _deep_structures(chance, x, y, age, level)
    vessels = _vessels(chance, x, y, pia, depth)
    if lesions:
        # Drawn last of all, so that a key gives the same head with lesions and without.
        layers.append((jnp.minimum(_lesions(chance, x, y), white), "lesion", LESION))
    return layers + deep + vessels, depth > 0


def _standard_coordinates(chance: _Chance, grid: int) -> tuple[jax.Array, jax.Array]:
    """Coordinates `(N, N)` in the standard head: x to the image's right, y to the back (down)."""
    angle, left, down = chance.normal(3) * jnp.array([0.05, 0.015, 0.025])
    wide, long, egg = chance.normal(3) * jnp.array([0.035, 0.03, 0.03]) + jnp.array([1.07, 1.07, 0.05])
    side = (jnp.arange(grid) + 0.5) / grid * 2 - 1
    across, along = side[None, :] - left, side[:, None] - down
    x = (jnp.cos(angle) * across + jnp.sin(angle) * along) / wide
    y = (jnp.cos(angle) * along - jnp.sin(angle) * across) / long
    # Narrower in front: an egg, as heads are.
    return x * (1 - egg * y / 0.65), y


def _brain_depth(chance: _Chance, x: jax.Array, y: jax.Array, grid: int) -> jax.Array:
    """Distance `(N, N)` below the brain's surface, negative outside: a bumpy superellipse."""
    across, along, power = chance.normal(3) * jnp.array([0.01, 0.013, 0.1]) + jnp.array([0.495, 0.65, 2.15])
    norm = (jnp.abs(x / across) ** power + jnp.abs(y / along) ** power + 1e-9) ** (1 / power)
    return _distance(1 - norm, grid) + 0.008 * chance.field("smooth")


def _coats(chance: _Chance, x: jax.Array, y: jax.Array, depth: jax.Array, age: jax.Array) -> list:
    """Scalp, muscle, skull with marrow, and the fluid outside the brain, from the skin inwards."""
    front = jnp.exp(-jnp.square((y + 0.66) / 0.14) - jnp.square(x / 0.2))
    temple = (jnp.abs(x) > 0.2) * jnp.exp(-jnp.square((y + 0.14) / 0.22))
    fluid = 0.009 * age + 0.006 * chance.field("smooth")
    sinus, bone, skin, temporalis = chance.normal(4)
    sinus = 0.06 * jax.nn.relu(sinus - 0.3)
    skull = 0.038 + 0.006 * bone + 0.006 * chance.field("smooth") + sinus * front
    scalp = 0.046 + 0.008 * skin + 0.005 * chance.field("smooth") + 0.012 * y
    scalp = jnp.maximum(scalp, 0.024)
    muscle = 0.042 * temple * jnp.exp(0.3 * temporalis) + 0.004 + 0.008 * chance.field("fine")
    marrow = 0.12 * skull + 0.008 * chance.field("finest") - 0.7 * sinus * front
    inner = depth + fluid
    outer = inner + skull
    skin = outer + scalp
    return [
        (skin, "skin", SCALP),
        (skin - 0.012 - 0.006 * chance.field("fine"), "fat", SCALP),
        (jnp.minimum(outer + muscle, skin - 0.014), "muscle", SCALP),
        (outer, "bone", SKULL),
        (marrow - jnp.abs(outer - 0.5 * skull), "marrow", SKULL),
        (inner, "csf", CSF),
    ]


def _cortex(
    chance: _Chance, x: jax.Array, y: jax.Array, depth: jax.Array, age: jax.Array, grid: int
) -> tuple[jax.Array, jax.Array]:
    """Signed distances `(N, N)` to the pial surface and to white matter, both positive inside."""
    ends = 0.02 * chance.normal(2) + jnp.array([-0.33, 0.30])
    beyond = jax.nn.relu(-jnp.maximum(ends[0] - y, y - ends[1]))
    fissure = _norm(x - 0.010 * chance.field("smooth"), beyond) - 0.004 * age - 0.003 * chance.field("smooth")
    sylvian = _sylvian_fissure(chance, x, y) - 0.005 * age - 0.005 * chance.field("fine")
    hull = jnp.minimum(depth, fissure)
    pia = jnp.minimum(hull, sylvian)
    # Along the midline spokes would crowd, and the joining field alone makes the sulci.
    lateral = jnp.tanh(jnp.square(x / 0.15))
    angle = jnp.arctan2(y, x)
    open_width = 0.005 * age - 0.001 + 0.0025 * chance.field("smooth")
    for lines, reach, bend, blend in (
        (13, 0.14, 1.3 * chance.field("fine"), 0.6 * chance.field("finest")),
        (22, 0.05, 1.5 * chance.field("fine"), 0.8 * chance.field("finest")),
    ):
        wave = lateral * jnp.cos(lines * angle + bend) + blend
        crease = _norm(_distance(wave, grid), jax.nn.relu(hull - reach * (1 + 0.6 * chance.field("fine"))))
        pia = jnp.minimum(pia, crease - open_width)
    return pia, pia - 0.030 - 0.004 * chance.field("fine")


def _sylvian_fissure(chance: _Chance, x: jax.Array, y: jax.Array) -> jax.Array:
    """Distance `(N, N)` to the two lateral fissures: the insula's curve and the cleft that leads to it."""
    across = jnp.abs(x + 0.015 * chance.field("smooth")) + 0.012 * chance.field("fine")
    along = y + 0.025 * chance.field("smooth") + 0.012 * chance.field("fine")
    points = [(0.29, -0.22), (0.335, -0.08), (0.325, 0.06), (0.28, 0.14), (0.52, 0.02)]
    cleft = (0.33, -0.04), points.pop()
    pieces = [*itertools.pairwise(points), cleft]
    return functools.reduce(jnp.minimum, [_segment(across, along, *piece)[0] for piece in pieces])


def _deep_structures(
    chance: _Chance, x: jax.Array, y: jax.Array, age: jax.Array, level: jax.Array
) -> list:
    """Layers of the deep grey matter, the ventricles and the choroid plexus within them."""
    x = x + 0.014 * chance.field("smooth")
    shift, lean, spread = chance.normal(3)
    y = y + 0.018 * chance.field("smooth") + 0.02 * shift
    scale = (1 + 0.12 * lean * jnp.tanh(x / 0.05)) * (0.6 + 0.7 * age) * jnp.exp(0.15 * spread)
    across = jnp.abs(x)
    body = jnp.clip(3 * level - 1.5, -0.5, 1)
    third = jnp.clip(2 - 3 * level, -0.5, 1)
    size = 1.1 - 0.25 * level

    def tube(start: tuple, end: tuple, radii: tuple) -> jax.Array:
        distance, part = _segment(across, y, start, end)
        return scale * (radii[0] + part * (radii[1] - radii[0])) - distance

    chambers = [
        tube((0.018, -0.07), (0.042, -0.19), (0.008, 0.022)),
        tube((0.042, -0.19), (0.115, -0.29), (0.024, 0.013)),
        tube((0.150, 0.165), (0.205, 0.245), (0.012, 0.040)),
        tube((0.205, 0.245), (0.245, 0.345), (0.040, 0.012)),
        tube((0.040, -0.12), (0.085, 0.06), (0.030 * body, 0.030 * body)),
        tube((0.085, 0.06), (0.190, 0.22), (0.030 * body, 0.040 * body)),
        tube((0.0, -0.03), (0.0, 0.10), (0.008 * third, 0.014 * third)),
        tube((0.0, 0.185), (0.028, 0.205), (0.024 * third, 0.012 * third)),
    ]
    ventricles = functools.reduce(jnp.maximum, chambers) + 0.003 * chance.field("finest")
    tuft = 0.012 - _segment(across, y, (0.175, 0.19), (0.20, 0.235))[0]
    return [
        (_ellipse(across, y, (0.125, -0.195), (0.034 * size, 0.062 * size), 0.35), "deep_grey", DEEP_GREY),
        (_ellipse(across, y, (0.235, -0.060), (0.042 * size, 0.125 * size), -0.12), "deep_grey", DEEP_GREY),
        (_ellipse(across, y, (0.178, -0.020), (0.026 * size, 0.070 * size), -0.35), "pallidum", DEEP_GREY),
        (_ellipse(across, y, (0.088, 0.090), (0.066 * size, 0.105 * size), -0.30), "deep_grey", DEEP_GREY),
        (ventricles, "csf", VENTRICLE),
        (jnp.minimum(tuft, ventricles - 0.006), "deep_grey", VENTRICLE),
    ]


def _vessels(chance: _Chance, x: jax.Array, y: jax.Array, pia: jax.Array, depth: jax.Array) -> list:
    """Flow voids: arteries in the lateral fissures and the sagittal sinus between skull and fissure."""
    number = 6
    across = 0.35 + 0.03 * chance.normal(number)
    along = -0.04 + 0.09 * chance.normal(number)
    side = jnp.sign(chance.normal(number))
    dots = functools.reduce(
        jnp.maximum, [0.0075 - _norm(x - side[i] * across[i], y - along[i]) for i in range(number)]
    )
    place = 0.008 * chance.normal(2)
    sinus = 0.022 - _norm(x - place[0], 1.3 * (y - 0.645 - place[1]))
    return [
        (jnp.minimum(dots, 0.016 - pia), "void", CSF),
        (jnp.minimum(sinus, 0.02 - depth), "void", CSF),
    ]


def _lesions(chance: _Chance, x: jax.Array, y: jax.Array) -> jax.Array:
    """Signed distance `(N, N)` to 2 to 8 ragged ovoid lesions, scattered round the ventricles."""
    number = 2 + jnp.floor(chance.uniform(1)[0] * (MOST_LESIONS - 1))
    angle, tilt = 2 * jnp.pi * chance.uniform(MOST_LESIONS), jnp.pi * chance.uniform(MOST_LESIONS)
    distance = 0.75 + 0.5 * chance.uniform(MOST_LESIONS)
    centres = jnp.stack([0.27 * distance * jnp.cos(angle), 0.36 * distance * jnp.sin(angle)])
    radii = 0.024 * jnp.exp(0.35 * chance.normal(2 * MOST_LESIONS)).reshape(2, MOST_LESIONS)
    spots = [
        jnp.where(i < number, _ellipse(x, y, centres[:, i], radii[:, i], tilt[i]), -1.0)
        for i in range(MOST_LESIONS)
    ]
    return functools.reduce(jnp.maximum, spots) + 0.006 * chance.field("finest")


def _signals(chance: _Chance, contrast: Contrast) -> dict[str, jax.Array]:
    """Signal of each tissue in one subject: `PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)`.

    That is inversion recovery; without inversion, TI = 0, it is the spin echo.
    """
    repetition, inversion, echo = np.array(PROTOCOLS[contrast]) * jnp.exp(0.05 * chance.normal(3))
    density, t1, t2 = np.array(list(TISSUES.values())).T
    scatter = jnp.exp(0.04 * chance.normal(2 * len(TISSUES)))
    t1, t2 = t1 * scatter[: len(TISSUES)], t2 * scatter[len(TISSUES) :]
    recovered = jnp.abs(1 - 2 * jnp.exp(-inversion / t1) + jnp.exp(-repetition / t1))
    signal = density * recovered * jnp.exp(-echo / t2)
    return {"bone": 0.02, "void": 0.02, **dict(zip(TISSUES, signal, strict=True))}


def _paint(layers: list, signal: dict[str, jax.Array], grid: int) -> tuple[jax.Array, jax.Array]:
    """Signal and label `(N, N)`; a voxel on a border is shared between its tissues.

    Borders are at least 1.4 mm wide, since a slice has a thickness and cuts most surfaces aslant.
    """
    voxel = max(2 / grid, 1.4 / 120)
    drawn, labels = jnp.zeros((grid, grid)), jnp.zeros((grid, grid), jnp.int32)
    for inside, tissue, label in layers:
        drawn = drawn + jnp.clip(0.5 + inside / voxel, 0, 1) * (signal[tissue] - drawn)
        labels = jnp.where(inside > 0, label, labels)
    return drawn, labels


def _texture_and_profile(chance: _Chance) -> jax.Array:
    """What multiplies the signal `(N, N)`: structure within tissue, and the smooth profile of the coils."""
    texture = 0.015 * chance.field("smooth") + 0.015 * chance.field("finest") + 0.05 * chance.field("grain")
    return jnp.exp(0.10 * chance.field("profile") + texture)


def _phase(chance: _Chance, grid: int) -> jax.Array:
    """Smooth phase `(N, N)` in radians, at most pi/2 in size: a second-order polynomial and three bumps."""
    deviates = chance.normal(15)
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


def _fields(coefficients: jax.Array, grid: int) -> jax.Array:
    """Smooth fields `(count, N, N)` of about unit variance: cubic B-splines of normal `coefficients`."""
    basis = _spline_basis(grid, coefficients.shape[-1] - 3)
    return basis @ coefficients @ basis.T


@functools.cache
def _spline_basis(grid: int, knots: int) -> np.ndarray:
    """Uniform cubic B-splines `(N, knots + 3)` at pixel centres, scaled to a mean variance of one an axis."""
    place = (np.arange(grid) + 0.5) / grid * knots
    offset = np.abs(place[:, None] - (np.arange(knots + 3) - 1))
    near = 2 / 3 - offset**2 + offset**3 / 2
    far = np.clip(2 - offset, 0, None) ** 3 / 6
    basis = np.where(offset < 1, near, far)
    return (basis / np.sqrt(np.mean(np.sum(basis**2, axis=1)))).astype(np.float32)


def _distance(level: jax.Array, grid: int) -> jax.Array:
    """First-order signed distance `(N, N)` to the zero line of a smooth function: `f / |grad f|`."""
    return level / jnp.maximum(_norm(_difference(grid) @ level, level @ _difference(grid).T), 0.01)


@functools.cache
def _difference(grid: int) -> np.ndarray:
    """Matrix `(N, N)` of central differences in halves of the field of view.

    A matrix, because the compiler merges shifted reads with all that comes before and computes it once a
    shift.
    """
    return np.gradient(np.eye(grid, dtype=np.float32), 2 / grid, axis=0)


def _norm(x: jax.Array, y: jax.Array) -> jax.Array:
    """Length of the vector `(x, y)`; its gradient is finite at zero."""
    return jnp.sqrt(x * x + y * y + 1e-12)


def _segment(x: jax.Array, y: jax.Array, start: tuple, end: tuple) -> tuple[jax.Array, jax.Array]:
    """Distance `(N, N)` to the segment between two points `(x, y)`, and the nearest point's place on it."""
    along = end[0] - start[0], end[1] - start[1]
    length = along[0] ** 2 + along[1] ** 2
    part = jnp.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
    return _norm(x - start[0] - part * along[0], y - start[1] - part * along[1]), part


def _ellipse(x: jax.Array, y: jax.Array, centre: tuple, radii: tuple, tilt: float | jax.Array) -> jax.Array:
    """Signed distance `(N, N)`, positive inside, to an ellipse turned by `tilt` radians (to first order)."""
    across, along = x - centre[0], y - centre[1]
    p = (jnp.cos(tilt) * across + jnp.sin(tilt) * along) / radii[0]
    q = (jnp.cos(tilt) * along - jnp.sin(tilt) * across) / radii[1]
    norm = jnp.sqrt(p * p + q * q + 1e-12)
    slope = jnp.sqrt(jnp.square(p / radii[0]) + jnp.square(q / radii[1]) + 1e-12)
    return norm * (1 - norm) / slope


def contact_sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Images `(B, H, W)` in [0, 1] in rows of `columns`, as bytes; B is a multiple of `columns`."""
    rows = [np.hstack(images[i : i + columns]) for i in range(0, len(images), columns)]
    return np.rint(255 * np.clip(np.vstack(rows), 0, 1)).astype(np.uint8)


def _read_folder(folder: pathlib.Path, number: int, size: int) -> np.ndarray:
    """The first `number` PNG images under `folder` as grey values `(number, size, size)` in [0, 1]."""
    paths = sorted(folder.rglob("*.png"))[:number]
    if len(paths) < number:
        raise UserError(f"{folder} holds {len(paths)} PNG images, the sheet wants {number}; name another")
    images = [Image.open(path).convert("L").resize((size, size), Image.Resampling.BICUBIC) for path in paths]
    return np.stack([np.asarray(image, np.float32) / 255 for image in images])


def main(arguments: list[str] | None = None) -> int:
    """Writes the sheet: a row of each contrast, one with lesions, and real images if a folder is named."""
    parser = argparse.ArgumentParser(prog="python -m medgan_jax.phantoms.head", description="MR heads")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="PNG file to write")
    parser.add_argument("--folder", type=pathlib.Path, help="folder of real images to show below")
    parser.add_argument("--size", type=int, default=256, help="side of an image in pixels")
    parser.add_argument("--columns", type=int, default=6, help="subjects in a row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        keys = jax.random.split(jax.random.key(options.seed), options.columns)
        rows = []
        for contrast, lesions in (("t1", False), ("t2", False), ("pd", False), ("pd", True)):
            draw = functools.partial(head_slices, size=options.size, contrast=contrast, lesions=lesions)
            rows.append(np.asarray(jax.jit(draw)(keys)["image"])[..., 0])
        if options.folder is not None:
            rows.append(_read_folder(options.folder, 2 * options.columns, options.size))
        try:
            Image.fromarray(contact_sheet(np.concatenate(rows), options.columns)).save(options.output)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot write {options.output}: {error}") from None
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
