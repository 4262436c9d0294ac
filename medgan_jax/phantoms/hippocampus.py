"""T1-weighted crops round a procedural hippocampus with its anterior and posterior part.

Axes are (x, y, z) as files of brain crops have them: towards the midline, to the front, and up. The field
of view is 48 by 64 by 48 mm at every shape. The hippocampus is a bent tube with a bulging head and a thin
tail; round it lie the amygdala, the parahippocampal gyrus and cortex of like brightness, the temporal horn,
the cistern and the midbrain, so that brightness alone does not find it.

The population (mean, SD), set beside crops of the Medical Segmentation Decathlon's task 4: volume 3400
(350) cubic mm, half of it anterior; length 39 (2) mm; place 1.2 mm and pose 0.06 rad; every border bent by
1.0 mm; atrophy widens the temporal horn; white matter 0.88, grey 0.50, fluid 0.15 of the brightest, each 4 %;
coil profile 8 %; texture 4 %; noise 2.5 % (30 %).

Lengths are in millimetres.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import distance_to_zero, ellipsoid, norm, tube

LABELS = {"background": 0, "anterior": 1, "posterior": 2}
FIELD_OF_VIEW = (48.0, 64.0, 48.0)
# Centre line from the tail to the head: x, y, z, radius.
COURSE = (
    (6.0, -17.0, 9.0, 2.9),
    (0.0, -13.0, 6.0, 4.3),
    (-4.5, -5.0, 1.0, 5.0),
    (-4.5, 2.5, -3.0, 5.3),
    (-1.0, 9.5, -6.0, 6.1),
    (4.5, 13.5, -6.0, 4.6),
)
NUMBERS = {"pose": 9, "course": 4 * len(COURSE), "build": 6, "tissue": 5, "noise": 1}
FIELDS = {"bend": (5, 3), "ragged": (12, 2), "folds": (6, 2), "profile": (2, 1), "grain": (26, 1)}


def hippocampus_volume(
    key: jax.Array,
    shape: Sequence[int] = (48, 64, 48),
    *,
    atrophy: float | jax.Array = 0.0,
    noise: float | jax.Array = 0.025,
) -> dict[str, jax.Array]:
    """One subject's crop; `key` decides everything about it.

    `atrophy` in 0 to 1 (it may be traced) thins the hippocampus by up to 15 % and widens the horn. `noise` is
    relative to the brightest voxel.

    Returns `image` `(*shape, 1)`: float32 magnitude, about 0 to 1; `labels` `(*shape)`: int32, see `LABELS`.
    Raises `ValueError` for a shape that has not three sides of at least 16 voxels.
    """
    if len(shape) != 3 or min(shape) < 16:
        raise ValueError(f"a hippocampus needs three sides of at least 16 voxels, not {tuple(shape)}")
    chance = Chance(key, NUMBERS, FIELDS, tuple(shape))
    place = _coordinates(chance, shape)
    x, y, z = place
    ragged = chance.field("ragged")
    body = _tube(chance, place, 1 - 0.15 * atrophy)
    body = body + 0.5 * ragged[0]
    build = chance.normal("build")
    horn = 0.3 + 1.1 * atrophy + 0.35 * build[0]
    tissue = 1 + 0.04 * chance.normal("tissue")
    white, grey, fluid = 0.88 * tissue[0], 0.50 * tissue[1], 0.15 * tissue[2]
    ribbon, groove = _cortex(chance, place, ragged[1])
    midbrain = ellipsoid(place, (21.0 + build[1], -3.0, 6.0), (10.5, 14.0, 21.0))
    amygdala = ellipsoid(place, (1.0, 17.5 + build[2], 3.5), (8.5, 7.0, 6.5)) + 0.8 * ragged[1]
    gyrus = norm(x - 3, 1.4 * (z + 15 - 0.25 * y)) - 7
    # Fluid on the outer side of the hippocampus, and between it and the midbrain.
    lateral = jnp.minimum(horn + 1.2 + body, -2.0 - x) - jnp.maximum(z - 8, 0)
    cistern = jnp.minimum(1.1 - jnp.abs(midbrain + 2.2), 0.4 * (13 - norm(z - 2, y)) + ragged[1])
    layers = (
        (ribbon, grey),
        (groove, fluid),
        (2.2 - jnp.abs(gyrus), grey),
        (midbrain, 0.95 * white),
        (cistern, fluid),
        (lateral, fluid),
        (amygdala, 1.04 * grey),
        (body + 1.0, 0.5 * (white + grey)),
        (body, 0.96 * grey),
        # The dentate gyrus's border shows as a faint bright line.
        (0.45 - jnp.abs(body - 2.4 + 0.5 * ragged[1]), 0.75 * grey + 0.25 * white),
    )
    soft = max(width / side for width, side in zip(FIELD_OF_VIEW, shape, strict=True)) * 1.1
    drawn = jnp.full(tuple(shape), 1.0) * white
    for inside, value in layers:
        drawn = drawn + jnp.clip(0.5 + inside / soft, 0, 1) * (value - drawn)
    drawn = drawn * jnp.exp(0.04 * chance.field("grain")[0] + 0.08 * chance.field("profile")[0])
    deviates = chance.noise(2, *shape)
    level = noise * jnp.exp(0.3 * chance.normal("noise")[0])
    image = jnp.hypot(drawn + level * deviates[0], level * deviates[1])
    # Readers part head and body by a coronal plane.
    labels = jnp.where(body > 0, jnp.where(y > 2.5 + build[3], 1, 2), 0)
    return {"image": image[..., None], "labels": labels.astype(jnp.int32)}


def _coordinates(chance: Chance, shape: Sequence[int]) -> tuple[jax.Array, jax.Array, jax.Array]:
    deviates = chance.normal("pose")
    sides = zip(shape, FIELD_OF_VIEW, strict=True)
    axes = [width * ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5) for side, width in sides]
    axes = list(jnp.meshgrid(*axes, indexing="ij"))
    bend = 1.0 * chance.field("bend")
    axes = [
        (axis - 1.2 * shift) / (1 + 0.035 * scale) + each
        for axis, shift, scale, each in zip(axes, deviates[3:6], deviates[6:], bend, strict=True)
    ]
    for angle, (first, second) in zip(0.06 * deviates[:3], ((0, 1), (0, 2), (1, 2)), strict=True):
        one, other = axes[first], axes[second]
        axes[first] = jnp.cos(angle) * one - jnp.sin(angle) * other
        axes[second] = jnp.cos(angle) * other + jnp.sin(angle) * one
    return tuple(axes)


def _tube(chance: Chance, place: tuple, thickness: float | jax.Array) -> jax.Array:
    """Signed distance to the hippocampus."""
    deviates = chance.normal("course").reshape(len(COURSE), 4)
    course = np.array(COURSE)
    points = course[:, :3] + 0.6 * deviates[:, :3]
    radii = course[:, 3] * jnp.exp(0.05 * deviates[:, 3]) * thickness
    pieces = range(len(COURSE) - 1)
    tubes = [tube(place, points[i], points[i + 1], (radii[i], radii[i + 1])) for i in pieces]
    return functools.reduce(jnp.maximum, tubes)


def _cortex(chance: Chance, place: tuple, ragged: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Signed distances to the grey ribbon of the temporal lobe's cortex and to the fluid in its sulci."""
    x, y, z = place
    spacing = FIELD_OF_VIEW[1] / x.shape[1]
    folds = chance.field("folds")
    first = jnp.abs(distance_to_zero(folds[0], spacing))
    second = jnp.abs(distance_to_zero(folds[1], spacing))
    # Only towards the brain's surface: outwards, downwards and behind.
    outward = jnp.maximum(jnp.maximum(-x - 11, -z - 13), jnp.maximum(-y - 22, 0.6 * (z - 15)))
    outward = outward + 2.5 * ragged
    crease = jnp.minimum(first, second + 2)
    ribbon = jnp.minimum(3.2 - crease, outward)
    return ribbon, jnp.minimum(0.6 - crease, outward - 1.5)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of the contact sheet: the three planes of crops and of their labels."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        drawn = hippocampus_volume(key)
        image, labels = drawn["image"][..., 0], drawn["labels"] / 2.0
        return {
            "across z": image[:, :, 20],
            "labels, across z": labels[:, :, 20],
            "across y": image[:, 36],
            "labels, across y": labels[:, 36],
            "across x": image[22],
            "labels, across x": labels[22],
        }

    return jax.lax.map(jax.jit(draw), keys)
