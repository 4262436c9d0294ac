"""Diseases of the procedural head's brain as signed distances: tumours, demyelinated lesions, contusions.

Lengths are those of `head_anatomy`: one unit is 120 mm.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.head_anatomy import Anatomy, Push, ellipse, norm

MOST_LESIONS, MOST_CONTUSIONS = 14, 3
NUMBERS = {"tumour": 12, "lesions": 1 + 7 * MOST_LESIONS, "contusions": 1 + 6 * MOST_CONTUSIONS}
FIELDS = {"ragged": (13, 4), "frayed": (26, 3)}


class Tumour(NamedTuple):
    """A glioma.

    push: displaces the brain around it. regions: anatomy -> signed distances `(N, N)` to the whole tumour,
    its core, the enhancing part and the necrosis, each within the one before. enhancing: whether it takes up
    contrast agent, as high-grade gliomas do. uptake: of glucose, relative to white matter.
    """

    push: Push
    regions: Callable[[Anatomy], tuple[jax.Array, jax.Array, jax.Array, jax.Array]]
    enhancing: jax.Array
    uptake: jax.Array


def tumour(chance: Chance, size: float | jax.Array, mass_effect: float | jax.Array) -> Tumour:
    """One glioma in the white matter of a hemisphere; `size` and `mass_effect` are factors.

    Mean and SD of the whole tumour's radius: 24 (6) mm; of the core's share of it: 0.60 (0.09). Three of ten
    are low-grade: without enhancement and necrosis, with less oedema, of low uptake.
    """
    u = chance.uniform("tumour")
    side = jnp.where(u[0] > 0.5, 1.0, -1.0)
    across, along = side * (0.17 + 0.14 * u[1]), -0.36 + 0.68 * u[2]
    radius = size * (0.12 + 0.17 * u[3])
    share = 0.45 + 0.3 * u[4]
    high_grade = u[5] > 0.3
    share = jnp.where(high_grade, share, share + 0.2)
    radii = radius * jnp.stack([jnp.exp(0.5 * (u[6] - 0.5)), jnp.exp(0.5 * (0.5 - u[6]))])
    tilt = jnp.pi * u[7]
    ragged, frayed = chance.field("ragged"), chance.field("frayed")

    def push(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        right, down = x - across, y - along
        part = norm(right, down) / radius
        # Towards the skull the brain has nowhere to go.
        free = jax.nn.sigmoid(30 * (0.86 - norm(x / 0.495, y / 0.65)))
        inward = 1 - 0.42 * mass_effect * share * free * jnp.exp(-part * part / 2)
        return across + right * inward, along + down * inward

    def regions(head: Anatomy) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        x, y = head.x, head.y
        body = ellipse(x, y, (across, along), radii, tilt)
        bumps = radius * (0.16 * ragged[0] + 0.08 * frayed[0])
        whole = body + bumps + 0.10 * radius * ragged[1]
        # Oedema runs along white matter and spares cortex and ventricles.
        whole = jnp.minimum(jnp.minimum(whole, head.white + 0.012), 0.004 - head.ventricles)
        core = ellipse(x, y, (across, along), share * radii, tilt) + 0.8 * share * bumps
        core = jnp.minimum(core, head.pia)
        rim = (0.018 + 0.025 * u[8]) * jnp.exp(0.45 * ragged[2])
        ring = jnp.minimum(core - 0.002, rim - core)
        broken = 0.02 * (frayed[2] + 1.3)
        enhancing = jnp.where(high_grade, jnp.minimum(ring, broken), -1.0)
        necrosis = jnp.where(high_grade, jnp.minimum(core - rim - 0.01, 0.05 * (ragged[3] + 0.9)), -1.0)
        return jnp.maximum(whole, core), core, enhancing, necrosis

    return Tumour(push, regions, high_grade, jnp.where(high_grade, 2.0 + 1.8 * u[9], 0.55 + 0.3 * u[9]))


def demyelinated_lesions(chance: Chance, head: Anatomy) -> tuple[jax.Array, jax.Array]:
    """Signed distance to the lesions of multiple sclerosis, and their demyelination in 0 to 1, `(N, N)` each.

    3 to 14 ovoids of 2 to 8 mm radius, two of three beside the ventricles and pointing at them, the others
    farther out, all cut off where white matter ends.
    """
    u = chance.uniform("lesions")
    number = 3 + jnp.floor(u[0] * (MOST_LESIONS - 2))
    angle, far, reach, long, wide, turn, loss = u[1:].reshape(7, MOST_LESIONS)
    angle = 2 * jnp.pi * angle
    # Beside the lateral ventricles in front and behind, seldom at the sides, where the basal ganglia are.
    distance = jnp.where(far < 0.65, 0.75 + 0.45 * reach, 1.2 + 0.45 * reach)
    across, along = 0.27 * distance * jnp.cos(angle), 0.36 * distance * jnp.sin(angle)
    wide = 0.015 + 0.028 * wide * wide
    long = wide * (1.1 + 0.9 * long)
    tilt = jnp.arctan2(along, across) + 0.5 * (turn - 0.5)
    spots = jax.vmap(lambda *spot: ellipse(head.x, head.y, spot[:2], spot[2:4], spot[4]))
    inside = spots(across, along, long, wide, tilt)
    inside = jnp.where(jnp.arange(MOST_LESIONS)[:, None, None] < number, inside, -1.0)
    nearest = jax.nn.one_hot(jnp.argmax(inside, 0), MOST_LESIONS, axis=0)
    demyelination = jnp.tensordot(0.35 + 0.65 * loss, nearest, axes=1)
    ragged = jnp.max(inside, 0) + 0.005 * chance.field("frayed")[0]
    return jnp.minimum(ragged, head.white), demyelination


def contusions(chance: Chance, head: Anatomy) -> tuple[jax.Array, jax.Array]:
    """Signed distances `(N, N)` to 1 to 3 contusions, oedema and blood, and to the blood within them.

    They lie under the skull, at the frontal and temporal poles rather than behind.
    """
    u = chance.uniform("contusions")
    number = 1 + jnp.floor(u[0] * MOST_CONTUSIONS)
    angle, deep, long, wide, share, turn = u[1:].reshape(6, MOST_CONTUSIONS)
    angle = jnp.pi * (1.5 + 1.1 * (angle - 0.5) + jnp.sign(angle - 0.5) * 0.12)
    deep = 0.80 + 0.12 * deep
    centre = 0.46 * deep * jnp.cos(angle), 0.60 * deep * jnp.sin(angle)
    radii = 0.05 + 0.07 * long, 0.035 + 0.035 * wide
    spots = jax.vmap(lambda *spot: ellipse(head.x, head.y, spot[:2], spot[2:4], spot[4]))
    tilt = angle + jnp.pi / 2 + 0.6 * (turn - 0.5)
    bumps = 0.014 * chance.field("ragged")[0] + 0.008 * chance.field("frayed")[1]
    there = jnp.arange(MOST_CONTUSIONS)[:, None, None] < number
    whole = jnp.max(jnp.where(there, spots(*centre, *radii, tilt), -1.0), 0) + bumps
    share = 0.2 + 0.5 * share
    inner = spots(*centre, *(share * each for each in radii), tilt)
    blood = jnp.max(jnp.where(there, inner, -1.0), 0) + 0.6 * bumps
    whole = jnp.minimum(whole, head.pia)
    return whole, jnp.minimum(blood, whole)
