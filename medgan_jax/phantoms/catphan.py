"""A quality-control disc as the Catphan is, in HU: an edge, line pairs, low-contrast discs and rods.

What a radiologist's eye cannot be asked, the disc measures: sharpness (modulation transfer from the
tilted edge, line pairs per centimetre), low-contrast detectability and HU linearity. Values are those of
the maker's manual for the Catphan 600 (The Phantom Laboratory, 2013) near 70 keV; the parts that lie in
several of its modules stand in one slice here.

The field of view is 240 mm, the disc 200 mm wide. Discs differ in rotation (any), shift (2 mm), the
edge's tilt (2 to 10 degrees to the pixels) and base attenuation (0 +- 3 HU). Window: level 20, width 120
for low contrast.
"""

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import average, grid, norm, paint
from medgan_jax.phantoms.tasks import Task

FIELD_OF_VIEW_MM = 240.0
HALF_MM = FIELD_OF_VIEW_MM / 2
SMALLEST_GRID = 512
EDGE_HU = 340.0
LINE_PAIRS_PER_CM = (1, 2, 3, 4, 5, 6, 7, 8)
LINE_PAIR_HU = 1000.0
CONTRASTS_HU = (10.0, 5.0, 3.0)
DIAMETERS_MM = (15.0, 9.0, 7.0, 5.0, 3.0, 2.0)
# Teflon, Delrin, acrylic, polystyrene, LDPE, PMP, air.
RODS_HU = (990.0, 340.0, 120.0, -35.0, -100.0, -200.0, -1000.0)

NUMBERS = {"pose": 4, "values": 1}


def catphan_slice(key: jax.Array, size: int = 256, *, noise: float | jax.Array = 0.0) -> dict[str, jax.Array]:
    """One disc; `key` decides its pose. noise: standard deviation in HU, white: simulate scans for any other.

    Returns `image` `(H, W, 1)` in HU; `low_contrast_mask` `(H, W)` int32, 1 to 18 in the order of
    `CONTRASTS_HU` and, within each, `DIAMETERS_MM`, else 0; `line_pair_mask` `(H, W)` int32, the line
    pairs per centimetre, else 0; `edge` `(3,)`, row and column of the middle of the edge in pixels and
    the angle of its outward normal from the direction of rows in radians; `rods` `(7, 2)`, places in
    pixels of `RODS_HU`. Raises `ValueError` for a size below 32.
    """
    if size < 32:
        raise ValueError(f"the disc needs at least 32 x 32 pixels, not {size} x {size}")
    factor = -(-SMALLEST_GRID // size)
    side = size * factor
    chance = Chance(key, NUMBERS, {}, (side, side))
    turn, down, right, tilt = chance.uniform("pose")
    turn = 2 * jnp.pi * turn
    shift = 4 * (down - 0.5) / HALF_MM, 4 * (right - 0.5) / HALF_MM
    rows, columns = (axis - move for axis, move in zip(grid((side, side)), shift, strict=True))
    y, x = rows + 0 * columns, columns + 0 * rows
    pixel = 2 / side
    disc = 100 / HALF_MM - norm(y, x)
    base = 3.0 * chance.normal("values")[0]
    image = paint(jnp.full((side, side), -1000.0), disc, base, pixel)
    bars, groups = _line_pairs(y, x, turn)
    image = paint(image, bars, LINE_PAIR_HU, pixel)
    discs, contrast = _low_contrast(y, x, turn)
    image = image + jnp.sum(jnp.clip(0.5 + discs / pixel, 0, 1) * contrast, axis=0)
    places = _around(len(RODS_HU), 0.72, turn + 0.2)
    for hounsfield, place in zip(RODS_HU, places, strict=True):
        image = paint(image, 6.0 / HALF_MM - norm(y - place[0], x - place[1]), hounsfield, pixel)
    angle = jnp.deg2rad(2 + 8 * tilt)
    image = paint(image, _square(y, x, angle), EDGE_HU, pixel)
    white = chance.noise(size, size)
    middle = slice(factor // 2, None, factor)
    numbered = (discs > 0) * jnp.arange(1, len(discs) + 1).reshape(-1, 1, 1)
    edge = _SQUARE * jnp.cos(angle) + shift[0], _SQUARE * jnp.sin(angle) + shift[1]

    def pixels(place):
        return (place + 1) / 2 * size

    return {
        "image": (average(image, factor) + noise * white)[..., None],
        "low_contrast_mask": numbered.max(0)[middle, middle].astype(jnp.int32),
        "line_pair_mask": groups[middle, middle].astype(jnp.int32),
        "edge": jnp.stack([pixels(edge[0]), pixels(edge[1]), angle]),
        "rods": pixels(places + jnp.stack(shift)),
    }


_SQUARE = 14.0 / HALF_MM


def _square(y, x, angle) -> jax.Array:
    """Signed distance to the central square with sides 28 mm, turned by `angle`."""
    down, across = jnp.cos(angle) * y + jnp.sin(angle) * x, jnp.cos(angle) * x - jnp.sin(angle) * y
    return _SQUARE - jnp.maximum(jnp.abs(down), jnp.abs(across))


def _around(count: int, radius: float, turn) -> jax.Array:
    """`(count, 2)` places evenly round the middle."""
    angle = turn + jnp.arange(count) * (2 * jnp.pi / count)
    return radius * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def _line_pairs(y, x, turn) -> tuple[jax.Array, jax.Array]:
    """Signed distance to the bars of all groups, and which group's field a pixel is in."""
    frequency = jnp.array(LINE_PAIRS_PER_CM).reshape(-1, 1, 1)
    places = _around(len(LINE_PAIRS_PER_CM), 0.30, turn)
    angle = (turn + jnp.arange(len(places)) * (2 * jnp.pi / len(places))).reshape(-1, 1, 1)
    down, across = y - places[:, 0, None, None], x - places[:, 1, None, None]
    radial = jnp.sin(angle) * down + jnp.cos(angle) * across
    tangent = jnp.cos(angle) * down - jnp.sin(angle) * across
    period = 10.0 / frequency / HALF_MM
    # Four bars, the middle of the pattern between two of them; at most 18 mm wide.
    half = jnp.minimum(2 * period, 9.0 / HALF_MM)
    from_bar = jnp.abs(tangent / period - jnp.floor(tangent / period) - 0.5) * period
    field = jnp.minimum(7.0 / HALF_MM - jnp.abs(radial), half - jnp.abs(tangent))
    bars = jnp.minimum(period / 4 - from_bar, field)
    return bars.max(0), jnp.sum((field > 0) * frequency, axis=0)


def _low_contrast(y, x, turn) -> tuple[jax.Array, jax.Array]:
    """Signed distances `(18, H, W)` to the low-contrast discs and what each adds in HU, `(18, 1, 1)`."""
    places = _around(len(CONTRASTS_HU) * len(DIAMETERS_MM), 0.54, turn + 0.1)[:, :, None, None]
    radii = jnp.tile(jnp.array(DIAMETERS_MM) / 2 / HALF_MM, len(CONTRASTS_HU)).reshape(-1, 1, 1)
    contrast = jnp.repeat(jnp.array(CONTRASTS_HU), len(DIAMETERS_MM)).reshape(-1, 1, 1)
    return radii - norm(y - places[:, 0], x - places[:, 1]), contrast


TASKS: tuple[Task, ...] = ()


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: a wide window, and a narrow one with noise of 5 HU."""
    draw = jax.jit(lambda keys: jax.lax.map(lambda key: catphan_slice(key, noise=5.0)["image"][..., 0], keys))
    image = draw(keys)
    return {
        "level 0, width 2000 HU": jnp.clip((image + 1000) / 2000, 0, 1),
        "level 5, width 60 HU": jnp.clip((image + 25) / 60, 0, 1),
    }
