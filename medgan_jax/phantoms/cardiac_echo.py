"""The left ventricle in three-dimensional echocardiography, from the apex, with speckle and drop-out.

The ventricle is a half ellipsoid of muscle round a cavity, closed by the mitral valve towards the atrium.
Every tissue scatters by its echogenicity; the envelope of a complex Gaussian field that the beam has smoothed
is fully developed speckle (Rayleigh distributed: mean over standard deviation 1.91), seen after log
compression. Ribs shadow some directions, and walls along the beam drop out.

The field of view is 130 mm; axis 1 is depth from the probe, axes 0 and 2 are across; lengths are in halves
(65 mm). The population (mean, SD): cavity 87 (7) mm long and 25 (2.5) mm in radius at rest, wall 9 (1) mm;
contraction takes 25 (4) % of the radius and 12 % of the length, an ejection fraction of about 50 %;
tilt 0.12 rad and shift 4 mm; dynamic range 50 dB; 1 or 2 shadows.
"""

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur, grid, norm
from medgan_jax.phantoms.tasks import Task

BACKGROUND, CAVITY, MYOCARDIUM = range(3)
LABELS = {"background": BACKGROUND, "cavity": CAVITY, "myocardium": MYOCARDIUM}
FIELD_OF_VIEW_MM = 130.0
DYNAMIC_RANGE_DB = 50.0
# Echogenicity in dB below the brightest: blood, muscle, what lies round the heart, pericardium and valve.
ECHOES_DB = {"blood": -44.0, "muscle": -22.0, "around": -27.0, "bright": -10.0}

NUMBERS = {"pose": 5, "shape": 6, "values": 5, "shadows": 6}
FIELDS = {"smooth": (3, 4), "medium": (6, 2)}


def cardiac_echo(
    key: jax.Array,
    size: int = 32,
    *,
    contraction: jax.Array | float = 0.0,
    frame: int | jax.Array = 0,
    speckle: bool | jax.Array = True,
) -> dict[str, jax.Array]:
    """One subject's volume; `key` decides all about the anatomy and the windows through which it is seen.

    contraction: 0 at end diastole, 1 at end systole. frame: decides the speckle alone, which moving muscle
    changes. speckle: off for the mean echo. All but `size` may be traced. Returns, for `size` = D = H = W:
    `image` `(D, H, W, 1)` in [0, 1]; `labels` `(D, H, W)` int32, see `LABELS`; `cavity_ml` `()`, the cavity's
    volume on the grid. Raises `ValueError` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"an echocardiogram needs at least 16 voxels a side, not {size}")
    shape = (size, size, size)
    chance = Chance(key, NUMBERS, FIELDS, shape)
    smooth = chance.field("smooth")
    out, depth, side = _pose(chance, shape, smooth)
    cavity, wall, atrium, valve = _ventricle(chance, out, depth, side, contraction)
    labels = jnp.where(wall > 0, MYOCARDIUM, BACKGROUND)
    labels = jnp.where(cavity > 0, CAVITY, labels).astype(jnp.int32)
    echo = _echogenicity(chance, cavity, wall, atrium, valve, chance.field("medium"))
    echo = echo + _windows(chance, shape) + 2.5 * smooth[3]
    level = 10 ** (echo / 20)
    rough = _envelope(jax.random.fold_in(jax.random.fold_in(key, 1), frame), shape)
    level = level * jnp.where(jnp.asarray(speckle), rough, 1.0) + 10 ** (-DYNAMIC_RANGE_DB / 20)
    image = jnp.clip(20 * jnp.log10(level) / DYNAMIC_RANGE_DB + 1, 0, 1) * _cone(shape)
    return {
        "image": image[..., None],
        "labels": labels,
        "cavity_ml": jnp.sum(labels == CAVITY) * (FIELD_OF_VIEW_MM / size / 10) ** 3,
    }


def _pose(chance: Chance, shape, smooth) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Coordinates of the ventricle: across, along its axis from the apex, across."""
    first, second, *shift = chance.normal("pose")
    out, depth, side = grid(shape)
    out, side = out - 0.06 * shift[0], side - 0.06 * shift[1]
    depth = depth + 0.62 - 0.05 * shift[2]
    depth, side = depth + 0.12 * first * side, side - 0.12 * first * depth
    depth, out = depth + 0.12 * second * out, out - 0.12 * second * depth
    return out + 0.02 * smooth[0], depth + 0.02 * smooth[1], side + 0.02 * smooth[2]


def _ventricle(chance: Chance, out, depth, side, contraction) -> tuple[jax.Array, ...]:
    """Signed distances to cavity, outer wall and atrium, unsigned distance to the valve."""
    large, long, thick, squeeze, oval, _ = chance.normal("shape")
    contraction = jnp.asarray(contraction)
    radius, length = 0.385 * jnp.exp(0.10 * large), 1.34 * jnp.exp(0.08 * long)
    wall = 0.14 * jnp.exp(0.11 * thick)
    shrink = 1 - (0.25 + 0.04 * squeeze) * contraction
    shorten = 0.12 * length * contraction
    axis = jnp.exp(0.06 * oval)
    away = norm(out * axis, side / axis)
    # The apex stays in its place; the base comes towards it, and muscle keeps its volume.
    length = length - shorten
    thicker = jnp.sqrt(jnp.square(shrink * radius) + (2 * radius * wall + wall**2) * (1 + 0.12 * contraction))
    thicker = thicker - shrink * radius

    def half_ellipsoid(grow):
        r, tall = shrink * radius + grow, length * 0.72 + grow
        place = (depth - length * 0.72) / tall
        bow = jnp.where(place < 0, 1.0, 0.45)
        level = jnp.sqrt(jnp.square(place * bow) + jnp.square(away / r) + 1e-9)
        return (1 - level) * r

    base = length - depth
    cavity = jnp.minimum(half_ellipsoid(0.0), base)
    outer = jnp.minimum(half_ellipsoid(thicker), base)
    atrium = 0.34 - norm(depth - length - 0.30, away)
    return cavity, outer, atrium, jnp.maximum(jnp.abs(base), away - shrink * radius)


def _echogenicity(chance: Chance, cavity, wall, atrium, valve, field) -> jax.Array:
    """Mean echo of each voxel in dB."""
    scatter = 2.0 * chance.normal("values")
    outside = jnp.full(wall.shape, ECHOES_DB["around"]) + scatter[0] + 4 * field[0]
    echo = jnp.where(
        jnp.maximum(cavity, atrium) > 0, ECHOES_DB["blood"] + scatter[2], ECHOES_DB["muscle"] + scatter[1]
    )
    echo = jnp.where(jnp.maximum(wall, atrium) > 0, echo, outside)
    lining = jnp.exp(-jnp.square((wall + 0.02) / 0.035))
    echo = echo + (ECHOES_DB["bright"] - ECHOES_DB["muscle"]) * 0.7 * lining * jax.nn.sigmoid(2 * field[1])
    return jnp.where(valve < 0.03, ECHOES_DB["bright"] - 6, echo)


def _windows(chance: Chance, shape) -> jax.Array:
    """Loss in dB from shadows of ribs, from depth, and where a wall runs along the beam."""
    numbers = chance.normal("shadows")
    out, depth, side = grid(shape)
    depth = depth + 1.15
    across, elevation = jnp.arctan2(side, depth), jnp.arctan2(out, depth)
    loss = -4.0 * depth
    for i in range(2):
        turned = jnp.cos(numbers[3 * i]) * across + jnp.sin(numbers[3 * i]) * elevation
        narrow = jnp.square((jnp.abs(turned) - 0.42 - 0.05 * numbers[3 * i + 1]) / 0.10)
        loss = loss - 16 * (numbers[3 * i + 2] > -0.5 - i) * jnp.exp(-narrow) * (turned > 0)
    return loss + 4.0


def _envelope(key: jax.Array, shape) -> jax.Array:
    """Envelope of unit mean square of fully developed speckle; beams are wider than pulses are long."""
    parts = jax.random.normal(key, (2, *shape))
    scale = shape[0] / 64
    real, imaginary = (blur(part, (1.3 * scale, 0.6 * scale, 1.3 * scale), white=True) for part in parts)
    return jnp.sqrt((real * real + imaginary * imaginary) / 2 + 1e-9)


def _cone(shape) -> jax.Array:
    """One within the pyramid that the beams cover."""
    out, depth, side = grid(shape)
    depth = depth + 1.1
    inside = (jnp.abs(side) < 0.85 * depth) & (jnp.abs(out) < 0.85 * depth)
    return (inside & (norm(out, depth, side) < 2.12)).astype(jnp.float32)


def _task(key: jax.Array) -> dict[str, jax.Array]:
    """Cavity and muscle at any moment of the beat."""
    drawn = cardiac_echo(key, 32, contraction=jax.random.uniform(jax.random.fold_in(key, 2)))
    target = jnp.stack([drawn["labels"] == label for label in (CAVITY, MYOCARDIUM)], axis=-1)
    return {"input": drawn["image"], "target": target.astype(jnp.float32)}


TASKS = (Task("cardiac_echo_ventricle", "segmentation", _task),)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: cuts along and across the ventricle at both ends of the beat, and labels."""

    def draw(key):
        rest, tight = (cardiac_echo(key, 96, contraction=moment, frame=moment) for moment in (0, 1))
        cuts = [each["image"][..., 0] for each in (rest, tight)]
        return cuts[0][48], cuts[1][48], cuts[0][:, 48], rest["labels"][48], tight["labels"][48]

    rows = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    names = "end diastole", "end systole", "across", "labels at end diastole", "labels at end systole"
    scale = 1, 1, 1, len(LABELS) - 1, len(LABELS) - 1
    return {name: row / most for name, row, most in zip(names, rows, scale, strict=True)}
