"""Axial slices through a procedural head at the level of the ventricles, as an MR scanner would show them.

Every subject is a pure function of a random key: `head_slice(key, size)` can be compiled, and batched with `vmap`
over keys. The same key gives the same subject at every size and contrast, so contrasts and sizes are registered.

A slice is built in four steps. *Anatomy*: signed distances to nested, warped surfaces (scalp, skull, brain), to
creases (fissures and two generations of sulci, which a smooth random phase bends and joins) and to deep structures
(ventricles, basal ganglia, thalami); cortex is what lies within its thickness of a crease or of the brain's surface.
*Signal*: the spin-echo equation `PD (1 - exp(-TR / T1)) exp(-TE / T2)` by tissue. *Imperfection*: texture within
tissue, a smooth coil profile, a smooth phase. *Acquisition*: a point spread and complex white noise,
so that the air of the magnitude image is Rayleigh distributed.

Lengths are in halves of the field of view (240 mm: one unit is 120 mm) of a standard head.

`python -m medgan_jax.phantoms.head --output sheet.png [--folder DIRECTORY]` draws a contact sheet.
"""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

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

# Proton density (water 1), T1 and T2 in ms: textbook values near 1.5 T; cortical bone and flowing blood give no signal.
TISSUES = {
    "csf": (1.00, 4000.0, 2000.0),
    "cortex": (0.82, 950.0, 100.0),
    "deep_grey": (0.79, 850.0, 88.0),
    "white_matter": (0.70, 600.0, 76.0),
    "pallidum": (0.74, 720.0, 70.0),
    "fat": (0.95, 300.0, 90.0),
    "skin": (0.75, 700.0, 45.0),
    "muscle": (0.80, 950.0, 40.0),
    "marrow": (0.45, 400.0, 60.0),
    "lesion": (0.88, 1200.0, 170.0),
}
# Repetition and echo time in ms; each subject's differ by a few per cent.
PROTOCOLS = {"t1": (550.0, 12.0), "t2": (5000.0, 95.0), "pd": (8000.0, 30.0)}

# The smallest grid on which the cortex can be drawn; smaller images are averages of it, as thick voxels are.
SMALLEST_GRID = 128
MOST_LESIONS = 8


def head_slice(
    key: jax.Array,
    size: int = 256,
    *,
    contrast: Contrast = "t1",
    lesions: bool = False,
    noise: float = 0.008,
) -> dict[str, jax.Array]:
    """One subject's slice; `key` decides everything about it.

    `size` is the side of the square image in pixels (a divisor or multiple of 128, or anything above), `noise` the
    standard deviation of the complex noise in each channel as a fraction of the brightest pixel, varied by a half
    between subjects. With `lesions`, 2 to 8 ovoid white-matter lesions lie round the ventricles.

    Returns, for `size` = H = W:

    * `complex` `(H, W, 2)`: real and imaginary part; the phase is smooth, within about +-pi/2;
    * `image` `(H, W, 1)`: its magnitude, largest value 1;
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
    anatomy_key, signal_key, texture_key, phase_key, noise_key = jax.random.split(key, 5)
    layers, brain = _anatomy(_Chance(anatomy_key, grid, scalars=96, smooth=12, fine=10, finest=6), grid, lesions)
    drawn, labels = _paint(layers, _signals(signal_key, contrast), grid)
    drawn = _spread(drawn * _texture_and_profile(texture_key, grid), grid)
    phase = _phase(phase_key, grid)
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
    """`head_slice` for each of `keys` `(B,)`, `batch` of them at a time to bound the memory; leaves `(B, H, W, ...)`."""
    return jax.lax.map(lambda key: head_slice(key, size, **options), keys, batch_size=batch)


class _Chance:
    """A subject's random numbers and smooth random fields, each used once.

    They come from a few large draws, because every separate draw costs about a second of compilation.
    `smooth`, `fine` and `finest` fields have features of about a 15th, 30th and 50th of the field of view.
    """

    KNOTS = {"smooth": 9, "fine": 17, "finest": 28}

    def __init__(self, key: jax.Array, grid: int, *, scalars: int, **fields: int):
        keys = jax.random.split(key, 1 + len(fields))
        self._scalars, self._used = jax.random.normal(keys[0], (scalars,)), 0
        self._fields = {
            name: iter(_fields(field_key, grid, self.KNOTS[name], count))
            for field_key, (name, count) in zip(keys[1:], fields.items(), strict=True)
        }

    def normal(self, count: int = 1) -> jax.Array:
        """`(count,)` standard normal numbers, or a scalar for one."""
        first, self._used = self._used, self._used + count
        if self._used > len(self._scalars):
            raise ValueError("a subject has used up its random numbers")
        return self._scalars[first] if count == 1 else self._scalars[first : self._used]

    def uniform(self, count: int = 1) -> jax.Array:
        """`(count,)` numbers uniform in (0, 1), or a scalar for one."""
        return jax.scipy.stats.norm.cdf(self.normal(count))

    def smooth(self) -> jax.Array:
        """A smooth field `(N, N)` of unit variance."""
        return next(self._fields["smooth"])

    def fine(self) -> jax.Array:
        """A field `(N, N)` of unit variance with features half as large."""
        return next(self._fields["fine"])

    def finest(self) -> jax.Array:
        """A field `(N, N)` of unit variance with features a third as large."""
        return next(self._fields["finest"])


def _anatomy(chance: _Chance, grid: int, lesions: bool) -> tuple[list, jax.Array]:
    """Layers `(signed distance (N, N), tissue, label)` in order of painting, and the brain's mask `(N, N)`."""
    # Age widens sulci and ventricles together; level goes from the third ventricle up to the ventricles' bodies.
    age, level = chance.uniform(2)
    x, y = _standard_coordinates(chance, grid)
    depth = _brain_depth(chance, x, y, grid)
    layers = _coats(chance, x, y, depth, age)
    pia, white = _cortex(chance, x, y, depth, age, grid)
    # Half the distance: the border of cortex and white matter is seldom cut squarely, so it is drawn softer.
    layers += [(depth, "csf", CSF), (pia, "cortex", CORTEX), (0.5 * white, "white_matter", WHITE_MATTER)]
    deep = _deep_structures(chance, x, y, age, level)
    vessels = _vessels(chance, x, y, pia, depth)
    if lesions:
        # Drawn last of all, so that a key gives the same head with lesions and without.
        layers.append((jnp.minimum(_lesions(chance, x, y), white), "lesion", LESION))
    return layers + deep + vessels, depth > 0


def _standard_coordinates(chance: _Chance, grid: int) -> tuple[jax.Array, jax.Array]:
    """Coordinates `(N, N)` in the standard head: x to the image's right, y to the back (down)."""
    angle, left, down = chance.normal(3) * jnp.array([0.05, 0.015, 0.025])
    wide, long, egg = chance.normal(3) * jnp.array([0.04, 0.04, 0.03]) + jnp.array([1.0, 1.0, 0.05])
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
    return _distance(1 - norm, grid) + 0.008 * chance.smooth()


def _coats(chance: _Chance, x: jax.Array, y: jax.Array, depth: jax.Array, age: jax.Array) -> list:
    """Scalp, muscle, skull with marrow, and the fluid outside the brain, from the skin inwards."""
    front = jnp.exp(-jnp.square((y + 0.66) / 0.14) - jnp.square(x / 0.2))
    temple = (jnp.abs(x) > 0.2) * jnp.exp(-jnp.square((y + 0.14) / 0.22))
    fluid = 0.006 + 0.012 * age + 0.004 * chance.smooth()
    sinus = 0.06 * jax.nn.relu(chance.normal() - 0.3)
    skull = 0.044 + 0.006 * chance.normal() + 0.006 * chance.smooth() + sinus * front
    scalp = 0.046 + 0.008 * chance.normal() + 0.005 * chance.smooth() + 0.012 * y
    scalp = jnp.maximum(scalp, 0.024)
    muscle = 0.042 * temple * jnp.exp(0.3 * chance.normal()) + 0.004 + 0.008 * chance.fine()
    marrow = 0.12 * skull + 0.008 * chance.finest() - 0.7 * sinus * front
    inner = depth + fluid
    outer = inner + skull
    skin = outer + scalp
    return [
        (skin, "skin", SCALP),
        (skin - 0.012 - 0.006 * chance.fine(), "fat", SCALP),
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
    fissure = jnp.hypot(x - 0.010 * chance.smooth(), beyond) - 0.004 - 0.006 * age
    sylvian = _sylvian_fissure(chance, x, y) - 0.004 - 0.008 * age - 0.004 * chance.fine()
    hull = jnp.minimum(depth, fissure)
    pia = jnp.minimum(hull, sylvian)
    # Along the midline spokes would crowd, and the joining field alone makes the sulci.
    lateral = jnp.tanh(jnp.square(x / 0.15))
    angle = jnp.arctan2(y, x)
    open_width = 0.005 * age + 0.0025 * chance.smooth()
    for lines, reach, bend, blend in (
        (13, 0.12, 1.3 * chance.fine(), 0.8 * chance.finest()),
        (21, 0.05, 1.6 * chance.fine(), 0.9 * chance.finest()),
    ):
        wave = lateral * jnp.cos(lines * angle + bend) + blend
        crease = jnp.hypot(_distance(wave, grid), jax.nn.relu(hull - reach * (1 + 0.6 * chance.fine())))
        pia = jnp.minimum(pia, crease - open_width)
    return pia, pia - 0.036 - 0.005 * chance.fine()


def _sylvian_fissure(chance: _Chance, x: jax.Array, y: jax.Array) -> jax.Array:
    """Distance `(N, N)` to the two lateral fissures: the insula's curve and the cleft that leads to it."""
    across = jnp.abs(x + 0.015 * chance.smooth()) + 0.012 * chance.fine()
    along = y + 0.025 * chance.smooth()
    points = [(0.29, -0.22), (0.335, -0.08), (0.325, 0.06), (0.28, 0.14), (0.52, 0.02)]
    cleft = (0.33, -0.04), points.pop()
    pieces = [*zip(points, points[1:], strict=False), cleft]
    return functools.reduce(jnp.minimum, [_segment(across, along, *piece)[0] for piece in pieces])


def _deep_structures(
    chance: _Chance, x: jax.Array, y: jax.Array, age: jax.Array, level: jax.Array
) -> list:
    """Layers of the deep grey matter, the ventricles and the choroid plexus within them."""
    x = x + 0.014 * chance.smooth()
    y = y + 0.018 * chance.smooth() + 0.02 * chance.normal()
    asymmetry = 1 + 0.12 * chance.normal() * jnp.tanh(x / 0.05)
    scale = asymmetry * (0.7 + 0.7 * age) * jnp.exp(0.15 * chance.normal())
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
    ventricles = functools.reduce(jnp.maximum, chambers) + 0.003 * chance.finest()
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
        jnp.maximum, [0.009 - jnp.hypot(x - side[i] * across[i], y - along[i]) for i in range(number)]
    )
    place = 0.008 * chance.normal(2)
    sinus = 0.022 - jnp.hypot(x - place[0], 1.3 * (y - 0.645 - place[1]))
    return [
        (jnp.minimum(dots, 0.016 - pia), "void", CSF),
        (jnp.minimum(sinus, 0.02 - depth), "void", CSF),
    ]


def _lesions(chance: _Chance, x: jax.Array, y: jax.Array) -> jax.Array:
    """Signed distance `(N, N)` to 2 to 8 ovoid lesions, with ragged borders, scattered round the ventricles."""
    number = 2 + jnp.floor(chance.uniform() * (MOST_LESIONS - 1))
    angle, tilt = 2 * jnp.pi * chance.uniform(MOST_LESIONS), jnp.pi * chance.uniform(MOST_LESIONS)
    distance = 0.75 + 0.5 * chance.uniform(MOST_LESIONS)
    centres = jnp.stack([0.27 * distance * jnp.cos(angle), 0.36 * distance * jnp.sin(angle)])
    radii = 0.024 * jnp.exp(0.35 * chance.normal(2 * MOST_LESIONS)).reshape(2, MOST_LESIONS)
    spots = [
        jnp.where(i < number, _ellipse(x, y, centres[:, i], radii[:, i], tilt[i]), -1.0)
        for i in range(MOST_LESIONS)
    ]
    return functools.reduce(jnp.maximum, spots) + 0.006 * chance.finest()


def _signals(key: jax.Array, contrast: Contrast) -> dict[str, jax.Array]:
    """Signal of each tissue in one subject: the spin-echo equation with jittered protocol and tissue."""
    deviates = jax.random.normal(key, (1 + len(TISSUES), 2))
    repetition, echo = np.array(PROTOCOLS[contrast]) * jnp.exp(0.05 * deviates[0])
    density, t1, t2 = np.array(list(TISSUES.values())).T
    times = jnp.exp(0.04 * deviates[1:])
    signal = density * (1 - jnp.exp(-repetition / (t1 * times[:, 0]))) * jnp.exp(-echo / (t2 * times[:, 1]))
    return {"bone": 0.02, "void": 0.02, **dict(zip(TISSUES, signal, strict=True))}


def _paint(layers: list, signal: dict[str, jax.Array], grid: int) -> tuple[jax.Array, jax.Array]:
    """Signal and label `(N, N)`; a voxel on a border is shared between its tissues."""
    voxel = 2 / grid
    drawn, labels = jnp.zeros((grid, grid)), jnp.zeros((grid, grid), jnp.int32)
    for inside, tissue, label in layers:
        drawn = drawn + jnp.clip(0.5 + inside / voxel, 0, 1) * (signal[tissue] - drawn)
        labels = jnp.where(inside > 0, label, labels)
    return drawn, labels


def _texture_and_profile(key: jax.Array, grid: int) -> jax.Array:
    """What multiplies the signal `(N, N)`: structure within tissue, and the smooth profile of the coils."""
    profile, coarse, medium, grain = (
        _fields(part, grid, knots, 1)[0] for part, knots in zip(jax.random.split(key, 4), (2, 12, 40, 90), strict=True)
    )
    return jnp.exp(0.10 * profile + 0.025 * coarse + 0.03 * medium + 0.03 * grain)


def _phase(key: jax.Array, grid: int) -> jax.Array:
    """Smooth phase `(N, N)` in radians: a polynomial of second order and three bumps, at most pi/2 in size."""
    deviates = jax.random.normal(key, (15,))
    side = jnp.linspace(-1, 1, grid)
    x, y = side[None, :], side[:, None]
    phase = sum(c * term for c, term in zip(deviates[:5], (x, y, x * y, x * x, y * y), strict=True))
    for i, width in enumerate((0.15, 0.25, 0.4)):
        height, left, down = deviates[5 + 3 * i : 8 + 3 * i] * jnp.array([1.0, 0.35, 0.35])
        phase = phase + height * jnp.exp(-(jnp.square(x - left) + jnp.square(y - down)) / (2 * width**2))
    largest = (0.75 + 0.25 * jnp.tanh(deviates[14])) * jnp.pi / 2
    return phase / jnp.max(jnp.abs(phase)) * largest


def _spread(drawn: jax.Array, grid: int) -> jax.Array:
    """The signal `(N, N)` blurred by a Gaussian of 0.5 mm, the scanner's point spread."""
    deviation = 0.5 / 240 * grid
    weight = np.exp(-0.5 * (np.arange(-2, 3) / deviation) ** 2)
    weight /= weight.sum()
    for axis in (0, 1):
        drawn = sum(w * jnp.roll(drawn, i - 2, axis) for i, w in enumerate(weight))
    return drawn


def _average(field: jax.Array, factor: int) -> jax.Array:
    """Means `(N / factor, N / factor, 2)` of blocks of `factor` x `factor` voxels."""
    side = field.shape[0] // factor
    return field.reshape(side, factor, side, factor, 2).mean((1, 3))


def _fields(key: jax.Array, grid: int, knots: int, count: int) -> jax.Array:
    """Smooth random fields `(count, N, N)` of about unit variance: cubic B-splines with `knots` spans a side."""
    basis = _spline_basis(grid, knots)
    return basis @ jax.random.normal(key, (count, knots + 3, knots + 3)) @ basis.T


@functools.cache
def _spline_basis(grid: int, knots: int) -> np.ndarray:
    """Uniform cubic B-splines `(N, knots + 3)` at pixel centres, scaled to a mean variance of one per axis."""
    place = (np.arange(grid) + 0.5) / grid * knots
    offset = np.abs(place[:, None] - (np.arange(knots + 3) - 1))
    near = 2 / 3 - offset**2 + offset**3 / 2
    far = np.clip(2 - offset, 0, None) ** 3 / 6
    basis = np.where(offset < 1, near, far)
    return (basis / np.sqrt(np.mean(np.sum(basis**2, axis=1)))).astype(np.float32)


def _distance(level: jax.Array, grid: int) -> jax.Array:
    """First-order signed distance `(N, N)` to the zero line of a smooth function: `f / |grad f|`."""
    down, across = jnp.gradient(level, 2 / grid)
    return level / jnp.sqrt(jnp.square(down) + jnp.square(across) + 1e-4)


def _segment(x: jax.Array, y: jax.Array, start: tuple, end: tuple) -> tuple[jax.Array, jax.Array]:
    """Distance `(N, N)` to the straight segment between the points `(x, y)` `start` and `end`, and where along it."""
    along = end[0] - start[0], end[1] - start[1]
    length = along[0] ** 2 + along[1] ** 2
    part = jnp.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
    return jnp.hypot(x - start[0] - part * along[0], y - start[1] - part * along[1]), part


def _ellipse(x: jax.Array, y: jax.Array, centre: tuple, radii: tuple, tilt: float | jax.Array) -> jax.Array:
    """Signed distance `(N, N)`, positive inside, to an ellipse turned by `tilt` radians (to first order)."""
    across, along = x - centre[0], y - centre[1]
    p = (jnp.cos(tilt) * across + jnp.sin(tilt) * along) / radii[0]
    q = (jnp.cos(tilt) * along - jnp.sin(tilt) * across) / radii[1]
    norm = jnp.sqrt(p * p + q * q + 1e-12)
    slope = jnp.sqrt(jnp.square(p / radii[0]) + jnp.square(q / radii[1]) + 1e-12)
    return norm * (1 - norm) / slope
