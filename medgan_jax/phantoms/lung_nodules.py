"""Patches and volumes of lung with a solid nodule, benign-like or malignant-like, in HU.

Round a nodule lie strands as thick and as bright as small vessels. Of a malignant one they spring
radially from its surface, as spicules do; near a benign one the same strands pass by. Volume, attenuation
and histogram have the same distribution in both classes: only how the parts are joined tells them apart.
At the border the nodule touches the chest wall, from which a threshold cannot separate it.

The field of view is 50 mm; lengths are in halves of it (25 mm). The population (mean, SD): nodule 6 (1)
mm in radius, anywhere within 10 mm of the middle along each axis, axes 10 % apart, lobes 5 %; 10 to 14
strands 6.5 (1.3) mm long and 0.9 mm in radius; lung -850 (25) HU with 5 vessels; nodule 30 (20) HU; noise
20 HU. Window: level -400, width 1400.
"""

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur, grid, norm, paint, tube
from medgan_jax.phantoms.tasks import Task
from medgan_jax.phantoms.torso import windowed

BENIGN, MALIGNANT = range(2)
LABELS = {"benign": BENIGN, "malignant": MALIGNANT}
FIELD_OF_VIEW_MM = 50.0
STRANDS, VESSELS = 14, 5
# How far from the middle of a nodule the middle of a strand that passes by may lie.
FARTHEST = 0.66

NUMBERS = {
    "nodule": 8,
    "lobes": 6,
    "strands": 9 * STRANDS,
    "vessels": 8 * VESSELS,
    "wall": 5,
    "values": 6,
}
FIELDS = {"smooth": (3, 2), "fine": (10, 2)}


def lung_nodule_patch(
    key: jax.Array,
    malignant: bool | jax.Array,
    size: int = 56,
    *,
    border: bool | jax.Array = False,
    noise: float | jax.Array = 20.0,
) -> dict[str, jax.Array]:
    """A slice through a nodule; the same key of the other class has the same nodule, lung and strands' sizes.

    border: the nodule touches the chest wall. noise: standard deviation in HU. All but `size` may be traced.
    Returns `image` `(H, W, 1)` in HU, `nodule_mask` and `lung_mask` (the nodule belongs to the lung) `(H, W)`
    bool, `centre` `(2,)` in pixels and `label` `()` int32. Raises `ValueError` for a size below 16.
    """
    return _draw(key, malignant, (size, size), border, noise)


def lung_nodule_volume(
    key: jax.Array,
    malignant: bool | jax.Array,
    size: int = 32,
    *,
    border: bool | jax.Array = False,
    noise: float | jax.Array = 20.0,
) -> dict[str, jax.Array]:
    """A volume round a nodule: arrays `(D, H, W)` with D = H = W = `size`, else as `lung_nodule_patch`."""
    return _draw(key, malignant, (size, size, size), border, noise)


def _draw(key, malignant, shape, border, noise):
    """What `lung_nodule_patch` and `lung_nodule_volume` return."""
    size, rank = shape[-1], len(shape)
    if size < 16:
        raise ValueError(f"a nodule needs at least 16 pixels a side, not {size}")
    malignant = jnp.asarray(malignant)
    chance = Chance(key, NUMBERS, FIELDS, shape)
    smooth, fine = chance.field("smooth"), chance.field("fine")
    place = [axis + jnp.zeros(shape) for axis in grid(shape)]
    centre = [0.8 * each - 0.4 for each in chance.uniform("nodule")[:rank]]
    radius = 0.24 * jnp.exp(0.16 * jnp.clip(chance.normal("nodule")[3], -2, 2))
    nodule = _nodule(chance, place, centre, radius, fine[0])
    wall = _wall(chance, place, centre, radius, border) + 0.02 * smooth[0]
    strands = _strands(chance, place, centre, radius, malignant, rank)
    solid, lung, flesh, *_ = chance.normal("values")
    tissue = 30 + 20 * solid
    softness = max(2 / size, 0.04)
    image = -850 + 25 * lung + 25 * smooth[1] + 15 * fine[1]
    for inside, value in (
        (_vessels(chance, place, rank), 0.0),
        (strands, tissue),
        (wall, 45 + 8 * flesh),
        (nodule, tissue),
    ):
        image = paint(image, inside, value, softness)
    image = blur(image, (0.5,) * rank)
    deviation = (0.5,) * rank
    image = image + noise * blur(chance.noise(*shape), deviation, white=True)
    return {
        "image": image[..., None],
        "nodule_mask": nodule > 0,
        "lung_mask": (wall < 0) | (nodule > 0),
        "centre": (jnp.stack(centre) + 1) / 2 * size,
        "label": malignant.astype(jnp.int32),
    }


def _nodule(chance: Chance, place, centre, radius, texture) -> jax.Array:
    """Signed distance to the nodule: an ellipsoid with a few lobes."""
    axes = jnp.exp(0.10 * chance.normal("nodule")[4:7])
    offsets = [(axis - middle) / stretch for axis, middle, stretch in zip(place, centre, axes, strict=False)]
    lobes = chance.normal("lobes")
    bumps = sum(jnp.sin(9 * part + 3 * lobes[i]) for i, part in enumerate(offsets))
    return radius + 0.012 * bumps + 0.006 * texture - norm(*offsets)


def _strands(chance: Chance, place, centre, radius, malignant, rank: int) -> jax.Array:
    """Signed distance to the strands, which are radial and attached, or pass by in any direction."""
    numbers = chance.normal("strands").reshape(9, STRANDS)
    towards = numbers[:rank] / jnp.linalg.norm(numbers[:rank], axis=0)
    length = 0.26 * jnp.exp(0.2 * numbers[6])
    joined = 0.8 * radius * towards
    # Those that pass by lie as near as spicules reach, so that the mean image tells no class, but do not
    # point at the nodule.
    outwards = numbers[3 : 3 + rank] / jnp.linalg.norm(numbers[3 : 3 + rank], axis=0)
    nearest = 1.15 * radius + 0.25 * length
    outermost = jnp.square(FARTHEST / nearest) - 1
    away = nearest * jnp.sqrt(1 + jnp.maximum(outermost, 0) * jax.scipy.stats.norm.cdf(numbers[7]))
    place_of = outwards * away
    aside = towards - outwards * jnp.sum(towards * outwards, axis=0)
    aside = aside / (jnp.linalg.norm(aside, axis=0) + 1e-6)
    # Spicules overlap each other and the nodule; those that pass by are shorter, to show as much tissue.
    clear = 0.72 * length
    passing = place_of - 0.5 * clear * aside
    starts = jnp.where(malignant, joined, passing)
    direction = jnp.where(malignant, towards, aside)
    reach = jnp.where(malignant, length + 0.2 * radius, clear)
    ones = (STRANDS, *(1,) * rank)
    start = [(middle + part).reshape(ones) for middle, part in zip(centre, starts, strict=True)]
    end = [a + (reach * b).reshape(ones) for a, b in zip(start, direction, strict=True)]
    present = (jnp.arange(STRANDS) < 10 + 2 * jnp.abs(numbers[8, 0])).reshape(ones)
    inside = tube(place, start, end, (0.044, 0.022))
    return jnp.max(jnp.where(present, inside, -1.0), axis=0)


def _vessels(chance: Chance, place, rank: int) -> jax.Array:
    """Signed distance to vessels that pass through the field of view."""
    numbers = chance.normal("vessels").reshape(8, VESSELS, *(1,) * rank)
    towards = numbers[:rank] / norm(*numbers[:rank])
    middle = [0.7 * each for each in numbers[3 : 3 + rank]]
    half = 0.35 * jnp.exp(0.5 * numbers[6])
    start, end = (
        [at + side * half * part for at, part in zip(middle, towards, strict=True)] for side in (-1, 1)
    )
    radii = 0.045 * jnp.exp(0.3 * numbers[7])
    return jnp.max(tube(place, start, end, (radii, 0.6 * radii)), axis=0)


def _wall(chance: Chance, place, centre, radius, border) -> jax.Array:
    """Signed distance to the chest wall, which the nodule touches at the border alone."""
    direction, bend, gap, *_ = chance.normal("wall")
    angle = jnp.pi * direction
    down, across = place[-2] - centre[-2], place[-1] - centre[-1]
    along = jnp.cos(angle) * down + jnp.sin(angle) * across
    aside = jnp.cos(angle) * across - jnp.sin(angle) * down
    near = along - radius * (0.65 + 0.1 * jnp.tanh(gap)) - 0.2 * (1 + 0.3 * bend) * jnp.square(aside)
    return jnp.where(jnp.asarray(border), near, -3.0)


def _task(key: jax.Array) -> dict[str, jax.Array]:
    """Whether a nodule is malignant."""
    malignant = jax.random.bernoulli(jax.random.fold_in(key, 1))
    drawn = lung_nodule_patch(key, malignant)
    return {"input": windowed(drawn["image"], -400, 1400), "target": malignant.astype(jnp.float32)}


TASKS = (Task("lung_nodules_malignant", "classification", _task),)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: both classes of the same subjects, at the border, and cuts of volumes."""

    def draw(key):
        patches = [lung_nodule_patch(key, label)["image"] for label in LABELS.values()]
        edge = lung_nodule_patch(key, MALIGNANT, border=True)["image"]
        cut = lung_nodule_volume(key, MALIGNANT, 48, border=True)["image"][24]
        return [windowed(image[..., 0], -400, 1400) for image in (*patches, edge, cut)]

    names = "benign", "malignant", "malignant at the chest wall", "cut of a malignant volume"
    return dict(zip(names, jax.jit(lambda keys: jax.lax.map(draw, keys))(keys), strict=True))
