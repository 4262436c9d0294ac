"""Macular B-scans of a procedural retina, as spectral-domain optical coherence tomography would show them.

Every scan is a pure function of a random key: `oct_slice(key)` and `oct_patch(key)` can be compiled, and
batched with `vmap` over keys. The same key gives the same retina in the slice (at every size) and in the
patch, which is the part of the slice round its focus; only the speckle is drawn anew.

A scan is built in four steps. *Anatomy*: thicknesses of the layers as smooth random curves, thinned by the
foveal dip and stacked on Bruch's membrane. *Disease*: cysts that swell their layer, a lens of subretinal
fluid and drusen that lift what lies above, hyper-reflective foci. *Light*: reflectivity of each layer on the
logarithmic scale that scanners display, retinal vessels and their shadows, attenuation in the choroid.
*Acquisition*: log-normal speckle correlated along and across the beam, additive noise, a gain and an offset
of each scan.

Lengths are in micrometres; heights are above Bruch's membrane, the lowest boundary.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.tasks import Task

# Tissues in the order of the beam, then what is drawn over them.
NAMES = ("vitreous", "nerve_fibres", "ganglion_cells", "inner_plexiform", "inner_nuclear", "outer_plexiform",
         "outer_nuclear", "ellipsoid", "outer_segments", "subretinal_fluid", "pigment_epithelium", "drusen",
         "choroid", "cyst", "focus")  # fmt: skip
LABELS = {name: label for label, name in enumerate(NAMES)}
FLUID = LABELS["subretinal_fluid"], LABELS["cyst"]
ANOMALIES = *FLUID, LABELS["drusen"], LABELS["focus"]

# Thickness outside the fovea, its factor in the fovea's centre, and reflectivity. Thicknesses: about those of
# healthy adults; the outer nuclear layer includes Henle's fibres and the inner segments.
LAYERS = {
    "nerve_fibres": (30.0, 0.05, 0.60),
    "ganglion_cells": (38.0, 0.06, 0.42),
    "inner_plexiform": (36.0, 0.15, 0.47),
    "inner_nuclear": (34.0, 0.25, 0.28),
    "outer_plexiform": (28.0, 0.60, 0.43),
    "outer_nuclear": (88.0, 1.35, 0.24),
    "ellipsoid": (18.0, 1.10, 0.66),
    "outer_segments": (24.0, 1.30, 0.42),
    "subretinal_fluid": (0.0, 1.0, 0.14),
    "pigment_epithelium": (22.0, 1.0, 0.74),
    "drusen": (0.0, 1.0, 0.48),
}
VITREOUS, CHOROID = 0.10, 0.50

SLICE_WIDTH, SLICE_DEPTH, SLICE_ABOVE = 5632.0, 1120.0, 760.0
PATCH_WIDTH, PATCH_DEPTH, PATCH_ABOVE = 1408.0, 560.0, 465.0
# The smallest grid on which a patch is drawn; smaller patches are averages of it.
SMALLEST_PATCH = 64
# Speckle: standard deviation of its logarithm, and of its grain in depth and along the scan.
SPECKLE, GRAIN = 0.18, (5.0, 14.0)
CYSTS, FOCI, DRUSEN, VESSELS = 7, 4, 5, 7

# Random numbers of each part of a scan.
SCALARS = {
    "focus": 1,
    "lift": 1,
    "bend": 5,
    "anatomy": 2 + 2 * len(LAYERS),
    "vessels": 4 * VESSELS,
    "fluid": 5 + 5 * CYSTS,
    "foci": 1 + 4 * FOCI,
    "drusen": 3 * DRUSEN,
    "exposure": 4,
}
# Name: spans of the spline in the depth (0: a curve) and the width of a slice, number of splines.
SPLINES = {"curve": (0, 7, 12), "broad": (12, 20, 1), "ragged": (30, 70, 1), "fine": (64, 160, 1)}


def oct_slice(
    key: jax.Array,
    height: int = 128,
    width: int = 256,
    *,
    fluid: bool | jax.Array = False,
    drusen: bool | jax.Array = False,
    flatten: bool = True,
) -> dict[str, jax.Array]:
    """One B-scan, 5.6 mm wide and 1.1 mm deep, through the fovea; `key` decides everything about it.

    With `fluid` (it may be traced) there are intraretinal cysts, subretinal fluid or both, at times with
    hyper-reflective foci; with `drusen`, bumps under the pigment epithelium. With `flatten`, Bruch's membrane
    is straight; without, it is bowed and tilted. A key gives the same retina with and without each of them.

    Returns, for `height` = H and `width` = W:

    * `image` `(H, W, 1)`: float32 in [0, 1], on a logarithmic scale as displayed;
    * `labels` `(H, W)`: int32, see `LABELS`;
    * `fluid_mask` `(H, W)`: bool, cysts and subretinal fluid;
    * `anomaly_mask` `(H, W)`: bool, these, foci and drusen.

    Raises `ValueError` for fewer than 64 rows or columns.
    """
    if min(height, width) < 64:
        raise ValueError(f"a B-scan needs at least 64 x 64 pixels, not {height} x {width}")
    chance = _Chance(key)
    window = _Window(
        rows=SLICE_ABOVE - SLICE_DEPTH * _centres(height),
        columns=SLICE_WIDTH * _centres(width),
        pixel=(SLICE_DEPTH / height, SLICE_WIDTH / width),
    )
    bend = _bend(chance, window.columns)
    return _scan(chance, window, 0 if flatten else bend, _focus(chance), fluid, drusen)


def oct_patch(key: jax.Array, size: int = 64, *, fluid: bool | jax.Array = False) -> dict[str, jax.Array]:
    """Part of a flattened B-scan, 1.4 mm wide and 0.56 mm deep: the whole retina at a random place.

    With `fluid` (it may be traced), at least 1.5 per cent of the patch is fluid. Patches of fewer than 64
    pixels are averages of finer ones, with milder speckle.

    Returns `image` and `fluid_mask`, `(size, size, 1)` float32: brightness in [0, 1], and 1 in fluid.
    Raises `ValueError` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"a retina needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-SMALLEST_PATCH // size)
    grid = size * factor
    chance = _Chance(key)
    focus = _focus(chance)
    lift = 12 * jnp.clip(chance.normal("lift"), -2, 2)
    window = _Window(
        rows=PATCH_ABOVE + lift - PATCH_DEPTH * _centres(grid),
        columns=focus + PATCH_WIDTH * (_centres(grid) - 0.5),
        pixel=(PATCH_DEPTH / grid, PATCH_WIDTH / grid),
    )
    scan = _scan(chance, window, 0, focus, fluid, False)
    image, mask = (
        field.reshape(size, factor, size, factor, 1).mean((1, 3))
        for field in (scan["image"], scan["fluid_mask"].astype(jnp.float32))
    )
    return {"image": image, "fluid_mask": (mask >= 0.5).astype(jnp.float32)}


class _Window(NamedTuple):
    """Where a scan is seen: heights `(H,)` of its rows, places `(W,)` of its columns, size of a pixel."""

    rows: jax.Array
    columns: jax.Array
    pixel: tuple[float, float]


class _Chance:
    """A retina's random numbers, from one draw of fixed length: separate draws would cost compilation time.

    Each part of the scan has its own, so that no part depends on which others are drawn.
    """

    def __init__(self, key: jax.Array):
        key, self._noise_key = jax.random.split(key)
        shapes = dict.fromkeys(SCALARS, ()) | {
            name: (count, depth + 3, width + 3) if depth else (count, width + 3)
            for name, (depth, width, count) in SPLINES.items()
        }
        lengths = [SCALARS.get(name, int(np.prod(shape))) for name, shape in shapes.items()]
        parts = jnp.split(jax.random.normal(key, (sum(lengths),)), np.cumsum(lengths[:-1]))
        parts = dict(zip(shapes, parts, strict=True))
        self._scalars = {name: parts[name] for name in SCALARS}
        self.coefficients = {name: parts[name].reshape(shapes[name]) for name in SPLINES}

    def normal(self, part: str) -> jax.Array:
        """All standard normal numbers of a part of the scan."""
        return self._scalars[part]

    def uniform(self, part: str) -> jax.Array:
        """The same numbers, uniform in (0, 1)."""
        return jax.scipy.stats.norm.cdf(self._scalars[part])

    def noise(self, height: int, width: int) -> jax.Array:
        """`(height, width)` white normal noise."""
        return jax.random.normal(self._noise_key, (height, width))


class _Lesions(NamedTuple):
    """Places and sizes of all that is ill, in micrometres."""

    places: jax.Array  # (CYSTS,) along the scan
    radii: jax.Array  # (2, CYSTS) in depth and along the scan; 0: no such cyst
    layers: jax.Array  # (CYSTS, layers) one where the cyst lies, else zero
    swelling: jax.Array  # (CYSTS,) what the cyst adds to its layer's thickness
    lens: jax.Array  # (3,) place, half width and height of the subretinal fluid
    foci: jax.Array  # (3, FOCI) place, height as a part of the retina's thickness, radius
    drusen: jax.Array  # (3, DRUSEN) place, width and height


def _scan(
    chance: _Chance,
    window: _Window,
    bend: jax.Array | float,
    focus: jax.Array,
    fluid: bool | jax.Array,
    drusen: bool | jax.Array,
) -> dict[str, jax.Array]:
    """The B-scan in a window; `bend` `(W,)` is the height of Bruch's membrane there."""
    fovea = SLICE_WIDTH / 2 + 250 * jnp.clip(chance.normal("anatomy")[0], -2, 2)
    lesions = _lesions(chance, focus, fovea, fluid, drusen)
    splines = _splines(chance, window)
    tops = _boundaries(chance, window.columns, fovea, splines["curve"], lesions)
    height = window.rows[:, None] - bend
    light, labels = _paint_layers(chance, window, height, tops, splines)
    light = _vessels(chance, window, height, fovea, tops, light)
    light, labels = _paint_lesions(window, height, tops, splines["ragged"][0], lesions, light, labels)
    return {
        "image": _acquire(chance, window, splines["curve"], light)[..., None],
        "labels": labels,
        "fluid_mask": functools.reduce(jnp.logical_or, [labels == label for label in FLUID]),
        "anomaly_mask": functools.reduce(jnp.logical_or, [labels == label for label in ANOMALIES]),
    }


def _focus(chance: _Chance) -> jax.Array:
    """Centre of the patch, and of what is ill: anywhere where the patch lies within the slice."""
    return PATCH_WIDTH / 2 + (SLICE_WIDTH - PATCH_WIDTH) * chance.uniform("focus")[0]


def _bend(chance: _Chance, columns: jax.Array) -> jax.Array:
    """Height `(W,)` of Bruch's membrane in the unflattened scan: bowed, tilted and a little wavy."""
    tilt, bow, *waves = chance.normal("bend")
    across = columns / SLICE_WIDTH - 0.5
    wave = sum(wave * jnp.cos((3 + i) * jnp.pi * across + i) for i, wave in enumerate(waves))
    return 90 * jnp.tanh(tilt) * across + (240 + 60 * bow) * (across**2 - 0.08) + 8 * wave


def _lesions(
    chance: _Chance, focus: jax.Array, fovea: jax.Array, fluid: bool | jax.Array, drusen: bool | jax.Array
) -> _Lesions:
    """Lesions round the focus; the first cyst, or most of the lens, lies within the patch there."""
    fluid, drusen = jnp.asarray(fluid, jnp.float32), jnp.asarray(drusen, jnp.float32)
    (kind, number, side, wide, high), cysts = jnp.split(chance.uniform("fluid"), [5])
    across, deep, long, swelling, layer = cysts.reshape(5, CYSTS)
    first = np.arange(CYSTS) == 0
    there = fluid * (kind < 0.62) * (first | (np.arange(CYSTS) < 1 + number * CYSTS))
    long = jnp.where(first, 130 + 110 * long, 35 + 75 * long)
    deep = there * jnp.where(first, 34 + 16 * deep, long * (0.22 + 0.20 * deep))
    places = focus + (2 * across - 1) * jnp.where(first, PATCH_WIDTH / 2 - long, PATCH_WIDTH / 2)
    # In the fovea only the outer nuclear layer is thick enough.
    outer = (layer < 0.5) | (jnp.abs(places - fovea) < 900)
    layers = jnp.where(outer[:, None], _one_hot("outer_nuclear"), _one_hot("inner_nuclear"))
    lens = (
        focus + (2 * side - 1) * (PATCH_WIDTH / 2 - 260),
        280 + 320 * wide,
        fluid * (kind > 0.42) * (45 + 40 * high),
    )
    across, height, radius, seen = chance.uniform("foci")[1:].reshape(4, FOCI)
    seen = fluid * (chance.uniform("foci")[0] < 0.4) * (seen < 0.7)
    foci = focus + PATCH_WIDTH * (across - 0.5), 0.35 + 0.5 * height, seen * (12 + 8 * radius)
    across, wide, high = chance.uniform("drusen").reshape(3, DRUSEN)
    bumps = focus + 2.5 * PATCH_WIDTH * (across - 0.5), 60 + 110 * wide, drusen * (20 + 40 * high)
    return _Lesions(
        places=places,
        radii=jnp.stack([deep, long]),
        layers=layers,
        swelling=2 * deep * 0.55 * swelling,
        lens=jnp.stack(lens),
        foci=jnp.stack(foci),
        drusen=jnp.stack(bumps),
    )


def _boundaries(
    chance: _Chance, columns: jax.Array, fovea: jax.Array, curves: jax.Array, lesions: _Lesions
) -> jax.Array:
    """Heights `(layers + 1, W)` of the layers' tops above Bruch's membrane, and zero, that of the choroid."""
    thickness, centre, _ = np.array(list(LAYERS.values())).T[..., None]
    _, whole, *numbers = chance.normal("anatomy")
    scatter = jnp.exp(0.065 * whole + 0.07 * jnp.stack(numbers[: len(LAYERS)])[:, None])
    distance = (columns - fovea) / 1000
    dip = jnp.exp(-jnp.square(distance / 0.55))
    rim = jnp.exp(-jnp.square((jnp.abs(distance) - 1.0) / 0.5))
    # The rim is of ganglion cells; nerve fibres gather towards the optic disc, here on the right.
    shape = 1 + (centre - 1) * dip
    shape += _one_hot("ganglion_cells")[:, None] * (0.35 * rim - 0.08 * jnp.abs(distance))
    shape += _one_hot("nerve_fibres")[:, None] * 0.20 * distance * (1 - dip)
    healthy = thickness * scatter * jnp.maximum(shape * (1 + 0.06 * curves[: len(LAYERS)]), 0.02)
    swollen = jnp.einsum(
        "cl,cw->lw",
        lesions.layers,
        lesions.swelling[:, None] * _bumps(columns, lesions.places, 60 + 1.3 * lesions.radii[1]),
    )
    place, half, high = lesions.lens
    lens = high * jax.nn.relu(1 - jnp.square((columns - place) / half))
    place, wide, high = lesions.drusen
    drusen = (high[:, None] * _bumps(columns, place, wide)).max(0)
    # The outer nuclear layer gives way, so that the inner retina is lifted less.
    yielding = _one_hot("outer_nuclear")[:, None] * (0.6 * drusen + 0.5 * lens)
    lifted = _one_hot("subretinal_fluid")[:, None] * lens + _one_hot("drusen")[:, None] * drusen - yielding
    tops = jnp.cumsum(jax.nn.relu(healthy + swollen + lifted)[::-1], axis=0)[::-1]
    return jnp.concatenate([tops, jnp.zeros((1, columns.size))])


def _paint_layers(
    chance: _Chance, window: _Window, height: jax.Array, tops: jax.Array, splines: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Reflectivity and label `(H, W)`; a pixel on a boundary is shared between its layers."""
    numbers = chance.normal("anatomy")[2 + len(LAYERS) :, None]
    light = np.array([values[-1] for values in LAYERS.values()])[:, None] * jnp.exp(
        0.05 * numbers + 0.04 * splines["curve"][: len(LAYERS)]
    )
    light = jnp.concatenate([jnp.full_like(light[:1], VITREOUS), light, jnp.full_like(light[:1], CHOROID)])
    depth = jax.nn.relu(-height)
    steps = light[1:] - light[:-1]
    softness = max(window.pixel[0], 7.0)
    below = tops[:, None] - height
    drawn = light[:1] + (steps[:, None] * jnp.clip(0.5 + below / softness, 0, 1)).sum(0)
    labels = (below > 0).sum(0, dtype=jnp.int32)
    membrane = tops[LABELS["ellipsoid"] - 1] + 26
    drawn = drawn + 0.09 * jnp.exp(-jnp.square((height - membrane) / 6))
    # The choroid: dark vessels in a stroma whose light is lost with depth.
    lumina = jax.nn.sigmoid(5 * splines["ragged"][0] - 2) * jnp.tanh(jnp.square(depth / 40))
    stroma = jnp.exp(-depth / 150) * (1 - 0.45 * lumina)
    tissue = 1 + 0.05 * splines["broad"][0] + 0.07 * splines["fine"][0]
    return drawn * tissue * stroma, labels


def _vessels(
    chance: _Chance, window: _Window, height: jax.Array, fovea: jax.Array, tops: jax.Array, light: jax.Array
) -> jax.Array:
    """Retinal vessels: bright in the inner retina, with a shadow below; none in the fovea."""
    across, wide, dark, deep = chance.uniform("vessels").reshape(4, VESSELS)
    places = (jnp.arange(VESSELS) + across) / VESSELS * SLICE_WIDTH
    wide, dark = 22 + 26 * wide, 0.22 + 0.38 * dark
    dark = dark * jax.nn.sigmoid((jnp.abs(places - fovea) - 550) / 60)
    middle = tops[1] - (tops[1] - tops[3]) * 0.8 * deep[:, None]
    across = jnp.square((window.columns - places[:, None]) / wide[:, None])
    below = middle[:, None] - height
    wide, dark, across = wide[:, None, None], dark[:, None, None], across[:, None]
    lumen = (dark * jnp.exp(-across - jnp.square(below / (0.8 * wide)))).max(0)
    shadow = (dark * jnp.exp(-0.7 * jnp.square(across)) * jax.nn.sigmoid((below - wide) / 8)).max(0)
    return (light + 0.55 * lumen * (0.7 - light)) * (1 - shadow)


def _paint_lesions(
    window: _Window,
    height: jax.Array,
    tops: jax.Array,
    ragged: jax.Array,
    lesions: _Lesions,
    light: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Cysts and foci over the layers."""
    middles = (tops[:-1] + tops[1:]) / 2
    ellipsoid = LABELS["ellipsoid"] - 1
    # Cysts end before the retina's surface and the external limiting membrane.
    within = jnp.minimum(tops[0] - 12 - height, height - tops[ellipsoid] - 12) / window.pixel[0]
    down = (height - (lesions.layers @ middles)[:, None]) / window.pixel[0]
    across = (window.columns - lesions.places[:, None]) / window.pixel[1]
    radii = lesions.radii / np.array(window.pixel)[:, None]
    cysts = _ellipse(down, across[:, None], jnp.maximum(radii, 1e-3)[..., None, None])
    cysts = jnp.where(radii[0, :, None, None] > 0, cysts, -2)
    inside = jnp.minimum(cysts.max(0) + 0.35 * ragged, within)
    fluid = LAYERS["subretinal_fluid"][-1]
    light = light + jnp.clip(0.5 + inside, 0, 1) * (fluid - light)
    labels = jnp.where(inside > 0, LABELS["cyst"], labels)
    place, part, radius = lesions.foci[..., None]
    middle = tops[ellipsoid] + part * (tops[0] - tops[ellipsoid])
    radius = jnp.maximum(radius, 1e-3)[..., None]
    across = (window.columns - place)[:, None] / (1.6 * radius)
    dots = (jnp.square((height - middle[:, None]) / radius) + jnp.square(across)).min(0)
    light = light + jnp.exp(-0.7 * dots) * (0.9 - light)
    labels = jnp.where(dots < 1, LABELS["focus"], labels)
    return light, labels


def _acquire(chance: _Chance, window: _Window, curves: jax.Array, light: jax.Array) -> jax.Array:
    """The displayed image `(H, W)`: speckle, noise, and how well the scan was lit."""
    gain, offset, level, noise = chance.normal("exposure")
    white = chance.noise(*light.shape)
    spread = [
        _point_spread(size, width / pixel)
        for size, width, pixel in zip(light.shape, GRAIN, window.pixel, strict=True)
    ]
    speckle = SPECKLE * jnp.exp(0.15 * level) * (spread[0] @ white @ spread[1].T)
    light = light * jnp.exp(speckle - jnp.square(SPECKLE) / 2 + 0.06 * curves[-1])
    # The same numbers turned by half a circle, far from where they made the speckle, spare a second draw.
    light = light + 0.022 * jnp.exp(0.2 * noise) * white[::-1, ::-1]
    return jnp.clip(jnp.exp(0.13 * gain) * light + 0.02 * jnp.clip(offset, -2, 2), 0, 1)


def _splines(chance: _Chance, window: _Window) -> dict[str, jax.Array]:
    """Smooth random curves `(count, W)` and fields `(count, H, W)` of about unit variance, by their names."""
    smooth = {}
    for name, (deep, wide, _) in SPLINES.items():
        across = _spline_basis(window.columns / SLICE_WIDTH, wide)
        smooth[name] = chance.coefficients[name] @ across.T
        if deep:
            along = _spline_basis((SLICE_ABOVE - window.rows) / SLICE_DEPTH, deep)
            smooth[name] = along @ smooth[name]
    return smooth


def _spline_basis(place: jax.Array, spans: int) -> jax.Array:
    """Uniform cubic B-splines `(N, spans + 3)` at places in (0, 1), scaled to a mean variance of one."""
    offset = jnp.abs(place[:, None] * spans - (jnp.arange(spans + 3) - 1))
    near = 2 / 3 - offset**2 + offset**3 / 2
    far = jnp.clip(2 - offset, 0, None) ** 3 / 6
    # The mean over a span of the sum of squares of uniform cubic B-splines is 151 / 315.
    return jnp.where(offset < 1, near, far) * np.sqrt(315 / 151)


@functools.cache
def _point_spread(size: int, deviation: float) -> np.ndarray:
    """Matrix `(N, N)` of a Gaussian of `deviation` pixels that keeps the variance of white noise."""
    offset = np.arange(size)[:, None] - np.arange(size)
    weight = np.exp(-0.5 * (offset / deviation) ** 2)
    return (weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32)


def _centres(count: int) -> np.ndarray:
    """Centres `(count,)` of pixels between 0 and 1."""
    return (np.arange(count, dtype=np.float32) + 0.5) / count


def _one_hot(layer: str) -> np.ndarray:
    """`(layers,)`: one at a layer, zero elsewhere."""
    return np.array([name == layer for name in LAYERS], np.float32)


def _bumps(columns: jax.Array, places: jax.Array, widths: jax.Array) -> jax.Array:
    """`(N, W)`: Gaussian bumps of height one at N places."""
    return jnp.exp(-jnp.square((columns - places[:, None]) / widths[:, None]))


def _ellipse(down: jax.Array, across: jax.Array, radii: jax.Array) -> jax.Array:
    """Signed distance `(N, H, W)` to first order, positive inside, to N ellipses."""
    p, q = down / radii[0], across / radii[1]
    norm = jnp.sqrt(p * p + q * q + 1e-12)
    slope = jnp.sqrt(jnp.square(p / radii[0]) + jnp.square(q / radii[1]) + 1e-12)
    return norm * (1 - norm) / slope


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: slices and patches, healthy and ill, and what is ill in them."""

    def draw(function, **options) -> dict[str, jax.Array]:
        return jax.jit(jax.vmap(functools.partial(function, **options)))(keys)

    ill, patch = draw(oct_slice, fluid=True, drusen=True), draw(oct_patch, fluid=True)
    return {
        "as it is bowed": draw(oct_slice, flatten=False)["image"][..., 0],
        "flattened, with fluid and drusen": ill["image"][..., 0],
        "what is ill, fluid white": 0.5 * ill["anomaly_mask"] + 0.5 * ill["fluid_mask"],
        "healthy patch": draw(oct_patch)["image"][..., 0],
        "patch with fluid": patch["image"][..., 0],
        "its fluid": patch["fluid_mask"][..., 0],
    }


def _fluid_task(key: jax.Array) -> dict[str, jax.Array]:
    """Whether there is fluid in a part of a patch, which lies anywhere in it: its place tells nothing."""
    key, coin, place = jax.random.split(key, 3)
    drawn = oct_patch(key, 128, fluid=jax.random.bernoulli(coin, 0.8))
    corner = *jax.random.randint(place, (2,), 0, 65), 0
    image, mask = (
        jax.lax.dynamic_slice(drawn[name], corner, (64, 64, 1)) for name in ("image", "fluid_mask")
    )
    return {"input": image, "target": (mask.mean() > 0.01).astype(jnp.float32)}


def _segmentation_task(key: jax.Array) -> dict[str, jax.Array]:
    patch = oct_patch(key, 64, fluid=True)
    return {"input": patch["image"], "target": patch["fluid_mask"]}


TASKS = (
    Task("oct_fluid", "classification", _fluid_task),
    Task("oct_fluid_mask", "segmentation", _segmentation_task),
)
