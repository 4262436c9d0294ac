"""Patches of liver with a focal lesion of one of three classes that differ in structure alone, in HU.

Cyst: a sharp border and no order within. Metastasis: a hazy, lobed border, darker towards the middle.
Haemangioma: a sharp border with bright globules along it. Area, mean attenuation and the histogram within the
lesion have the same distribution in all classes (attenuation follows the rank of a class's pattern), so that
only a look at the arrangement tells them apart, as on portal-phase images of small lesions.

The population (mean, SD): radius 14 pixels of 64 (22 %), centre within 9 pixels of the middle; axes 12 %
apart; liver 105 (12) HU with branching veins 25 HU brighter; lesion 42 (9) HU darker than the liver, spread
within it 20 HU (25 %); noise 12 (2) HU, correlated over about a pixel. Window: level 85, width 250.
"""

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur, distance_to_zero, grid
from medgan_jax.phantoms.tasks import Task
from medgan_jax.phantoms.torso import windowed

CYST, METASTASIS, HAEMANGIOMA = range(3)
LABELS = {"cyst": CYST, "metastasis": METASTASIS, "haemangioma": HAEMANGIOMA}
# Border, in radii, over which each class passes into the liver.
HAZE = (0.06, 0.22, 0.06)

NUMBERS = {"shape": 12, "values": 6, "globules": 8}
FIELDS = {"smooth": (3, 2), "vessels": (5, 3), "medium": (9, 2), "fine": (18, 2)}


def liver_lesion_patch(
    key: jax.Array, lesion: int | jax.Array, size: int = 64, *, noise: float | jax.Array = 12.0
) -> dict[str, jax.Array]:
    """A patch with one lesion near its centre; lesion: see `LABELS`, may be traced.

    The same key with another class has the same liver, position, area and mean. noise: standard deviation in
    HU. Returns `image` `(H, W, 1)` in HU, `lesion_mask` `(H, W)` bool and `label` `()` int32. Raises
    `ValueError` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"a lesion needs at least 16 x 16 pixels, not {size} x {size}")
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    fields = {name: chance.field(name) for name in FIELDS}
    down, right, large, oval, tilt, *lobes = chance.normal("shape")
    lesion = jnp.asarray(lesion, jnp.int32)
    level, dark, spread, grain, *_ = chance.normal("values")
    rows, columns = grid((size, size))
    rows, columns = rows - 0.28 * jnp.tanh(down), columns - 0.28 * jnp.tanh(right)
    angle = jnp.arctan2(rows, columns) + tilt
    stretch = 1 + 0.12 * jnp.tanh(oval) * jnp.cos(2 * angle)
    wavy = sum(0.5 * lobe * jnp.cos((i + 3) * angle) / (i + 3) for i, lobe in enumerate(lobes[:4]))
    ragged = jnp.where(lesion == METASTASIS, 0.35, 0.15) * wavy + 0.03 * fields["medium"][0]
    radius = 0.44 * jnp.exp(0.22 * jnp.clip(large, -2, 2))
    # Lobes change the outline and leave the area as it is.
    outline = radius * (stretch + ragged) / jnp.sqrt(jnp.mean(jnp.square(stretch + ragged)))
    depth = 1 - jnp.sqrt(rows * rows + columns * columns + 1e-9) / outline
    liver = 105 + 12 * level + 5 * fields["smooth"][0] + _veins(fields, size) + 4 * fields["fine"][0]
    globules = chance.normal("globules").reshape(8, 1, 1)
    ranks = _ranks(lesion_pattern(lesion, depth, angle, globules, fields["fine"][1]), depth > 0)
    inside = liver - 42 - 9 * dark + 70 * jnp.exp(0.25 * spread) * (ranks - 0.5)
    haze = jnp.asarray(HAZE)[lesion]
    image = liver + jax.nn.sigmoid(4 * depth / haze) * (inside - liver)
    image = blur(image, (0.6, 0.6))
    white = blur(chance.noise(size, size), (0.6, 0.6), white=True)
    image = image + noise * jnp.exp(0.15 * grain) * white
    return {"image": image[..., None], "lesion_mask": depth > 0, "label": lesion}


def lesion_pattern(
    lesion: int | jax.Array, depth: jax.Array, angle: jax.Array, globules: jax.Array, texture: jax.Array
) -> jax.Array:
    """What orders the attenuation within a lesion of a class, in arbitrary units.

    depth: 0 at the border to 1 in the middle; angle: round the middle; globules: 8 normal numbers `(8, ...)`,
    to broadcast, that place the bright globules of a haemangioma; texture: a random field, all that orders a
    cyst.
    """
    phases, heights = globules[:4], globules[4:]
    turns = jnp.arange(1, 5).reshape(4, *(1,) * (phases.ndim - 1))
    bumps = jnp.sum((0.7 + 0.3 * heights) * jnp.cos((turns + 1) * angle + 3 * phases), axis=0)
    rim = jnp.exp(-jnp.square((depth - 0.18) / 0.2))
    patterns = (
        1.0 * texture,
        -2.2 * depth + 0.5 * texture,
        rim * (1.6 * bumps + 1.0) + 0.12 * texture,
    )
    return jnp.select([jnp.asarray(lesion) == each for each in LABELS.values()], patterns)


def _veins(fields: dict, size: int) -> jax.Array:
    """What veins add to the liver, in HU: creases where smooth fields vanish, in parts of the patch."""
    lines = [
        distance_to_zero(field, 2 / size) / width
        for field, width in zip(fields["vessels"], (0.05, 0.03), strict=False)
    ]
    present = jax.nn.sigmoid(4 * fields["vessels"][2])
    return 25 * present * jnp.maximum(*(jnp.exp(-jnp.square(line)) for line in lines))


def _ranks(pattern: jax.Array, inside: jax.Array) -> jax.Array:
    """The rank of each pixel among those inside, between 0 and 1; 0.5 outside."""
    order = jnp.argsort(jnp.where(inside, pattern, jnp.inf).ravel())
    ranks = jnp.zeros(order.shape).at[order].set(jnp.arange(order.size, dtype=jnp.float32))
    share = ranks.reshape(pattern.shape) / jnp.maximum(inside.sum(), 1)
    return jnp.where(inside, share, 0.5)


def _task(first: int, second: int, **options):
    """Whether a lesion is of the second of two classes; options: of `liver_lesion_patch`."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        target = jax.random.bernoulli(jax.random.fold_in(key, 1))
        drawn = liver_lesion_patch(key, jnp.where(target, second, first), **options)
        return {"input": windowed(drawn["image"], 85, 250), "target": target.astype(jnp.float32)}

    return draw


TASKS = (
    Task("liver_lesions_cyst_metastasis", "classification", _task(CYST, METASTASIS)),
    Task("liver_lesions_metastasis_haemangioma", "classification", _task(METASTASIS, HAEMANGIOMA)),
    # With 12 HU of noise the network stays at an AUC of 0.77.
    Task("liver_lesions_cyst_haemangioma", "classification", _task(CYST, HAEMANGIOMA, noise=7.0)),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """A row of a contact sheet for each class of the same subjects."""
    draw = jax.jit(jax.vmap(liver_lesion_patch, in_axes=(0, None)))
    return {name: windowed(draw(keys, label)["image"][..., 0], 85, 250) for name, label in LABELS.items()}
