"""A head in three dimensions, registered in every modality of `head_study`: brain with or without coats.

Axes are (z, y, x): from the neck to the vertex, from front to back, and across. The field of view is a cube
of 200 mm whatever the shape, so that thin stacks have thick slices. Volumes of fewer than 48 voxels along an
axis are averages of finer ones.

Nested, bent ellipsoids make the coats and the brain; sulci run along the zero surfaces of two smooth random
fields, besides the interhemispheric and lateral fissures; cortex is what lies within its thickness of them.
Within are the ventricles, basal ganglia, thalami and hippocampi; below, cerebellum with folia and brain stem.

The population (mean, SD): brain 139 (6) by 170 (7) by 128 (5) mm; age, uniform, widens sulci and ventricles
together, these by 18 % besides; pose 0.06 rad and 2.5 mm; every border bent by 2.5 mm; cortex 3.8 (0.4) mm;
skull 6 (1) mm, scalp 6 (1) mm; T1, T2, protocols and noise as in `head_study`.

Lengths are in units of 100 mm.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from medgan_jax.phantoms import head_study
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.head_anatomy import (
    CORTEX,
    CSF,
    DEEP_GREY,
    LESION,
    SCALP,
    SKULL,
    VENTRICLE,
    WHITE_MATTER,
    Layer,
)
from medgan_jax.phantoms.head_modalities import (
    MR,
    RELAXING,
    Modality,
    acquire,
    mixture,
    shares,
    tissue_values,
)
from medgan_jax.phantoms.head_study import CORE, ENHANCING, MODALITIES, OEDEMA, SPREADS
from medgan_jax.phantoms.shapes import blur, distance_to_zero, ellipsoid, grid, norm, tube

Disease = Literal["none", "lesions", "tumour"]

LABELS = dict(head_study.LABELS)
CEREBELLUM, BRAIN_STEM = len(LABELS), len(LABELS) + 1
LABELS |= {"cerebellum": CEREBELLUM, "brain_stem": BRAIN_STEM}

FIELD_OF_VIEW = 200.0
SMALLEST_GRID = 48
MOST_LESIONS = 10
NUMBERS = {
    "pose": 9,
    "shape": 10,
    "relaxation": 2 * len(RELAXING),
    "protocol": 3 * len(MODALITIES),
    "noise_level": len(MODALITIES),
    "lesions": 1 + 6 * MOST_LESIONS,
    "tumour": 8,
}
FIELDS = {
    "bend": (4, 3),
    "smooth": (7, 4),
    "sulci": (11, 1),
    "fine_sulci": (16, 1),
    "ragged": (16, 2),
    "grain": (28, 1),
    "profile": (2, len(MODALITIES)),
}


class _Brain(NamedTuple):
    """Layers in order of painting, the deep ones apart; signed distances to brain and white matter."""

    layers: list[Layer]
    deep: list[Layer]
    place: tuple[jax.Array, jax.Array, jax.Array]
    brain: jax.Array
    pia: jax.Array
    white: jax.Array


def head_volume(
    key: jax.Array,
    shape: Sequence[int] = (32, 32, 32),
    *,
    modalities: Sequence[Modality] = ("t1",),
    disease: Disease = "none",
    present: bool | jax.Array = True,
    ventricles: float | jax.Array = 1.0,
    coats: bool = False,
    second_scanner: bool | jax.Array = False,
    noise: float | jax.Array = 0.015,
) -> dict[str, jax.Array]:
    """One subject's volume in every one of `modalities`; `key` decides everything about it.

    `disease` is drawn where `present` (it may be traced): up to ten small lesions of white matter, or a
    tumour with oedema, core and enhancing rim. `ventricles` is a factor of their width. Without `coats` all
    but the brain and the fluid in it is black (CT: -1000). `noise` and units are those of
    `head_study.head_study`.

    Returns, for `shape` = (D, H, W) and M modalities:

    * `image` `(D, H, W, M)`: float32;
    * `labels` `(D, H, W)`: int32, see `LABELS`;
    * `brain_mask`, `bone_mask`, `lesion_mask` `(D, H, W)`: bool;
    * `tumour_mask` `(D, H, W, 3)`: bool, whole tumour, its core, its enhancing part.

    Raises `ValueError` for an unknown modality or disease, or a shape with a side below 8.
    """
    for modality in modalities:
        if modality not in MODALITIES:
            raise ValueError(f"unknown modality '{modality}'; there are {', '.join(MODALITIES)}")
    if disease not in get_args(Disease):
        raise ValueError(f"unknown disease '{disease}'; there are {', '.join(get_args(Disease))}")
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f"a head needs three sides of at least 8 voxels, not {tuple(shape)}")
    factors = [-(-SMALLEST_GRID // side) for side in shape]
    fine = tuple(side * factor for side, factor in zip(shape, factors, strict=True))
    chance = Chance(key, NUMBERS, FIELDS, fine)
    brain = _brain(chance, fine, ventricles)
    layers = brain.layers + brain.deep + _ill(chance, brain, disease, present)
    labels = jnp.zeros(fine, jnp.int32)
    for inside, _, label in layers:
        labels = jnp.where(inside > 0, label, labels)
    inside_brain = brain.brain > 0
    if not coats:
        labels = jnp.where(inside_brain, labels, 0)
    images = []
    clean = _clean(modalities, chance, layers, fine, second_scanner)
    for modality, drawn in zip(modalities, clean, strict=True):
        if not coats:
            drawn = jnp.where(inside_brain, drawn, -1000.0 if modality == "ct" else 0.0)
        images.append(_acquired(modality, chance, _averaged(drawn, factors), second_scanner, noise))
    middle = tuple(slice(factor // 2, None, factor) for factor in factors)
    labels, inside_brain = labels[middle], inside_brain[middle]
    regions = [
        (labels >= OEDEMA) & (labels <= ENHANCING),
        (labels >= CORE) & (labels <= ENHANCING),
        labels == ENHANCING,
    ]
    return {
        "image": jnp.stack(images, axis=-1),
        "labels": labels,
        "brain_mask": inside_brain,
        "bone_mask": labels == SKULL,
        "lesion_mask": (labels == LESION) | regions[0],
        "tumour_mask": jnp.stack(regions, axis=-1),
    }


def _brain(chance: Chance, shape: tuple[int, ...], ventricles: float | jax.Array) -> _Brain:
    numbers, age = chance.normal("shape"), chance.uniform("shape")[0]
    smooth, ragged = chance.field("smooth"), chance.field("ragged")
    place = _standard_coordinates(chance, shape)
    z, y, x = place
    side = (z, y, jnp.abs(x))
    spacing = 2 / max(shape)
    cerebrum = ellipsoid(place, (0.10, 0.0, 0.0), (0.60, 0.84, 0.68)) + 0.02 * smooth[0]
    # The base rises from the temporal lobes to the frontal ones.
    base = z + 0.30 + 0.12 * jnp.tanh(6 * (y + 0.22)) + 0.03 * smooth[1]
    cerebrum = jnp.minimum(cerebrum, base)
    cerebellum = ellipsoid(side, (-0.40, 0.46, 0.20), (0.22, 0.27, 0.34)) + 0.015 * smooth[1]
    stem = tube(place, (-0.15, 0.14, 0.0), (-0.62, 0.20, 0.0), (0.15, 0.10))
    hull = jnp.maximum(jnp.maximum(cerebrum, cerebellum), stem)
    pia, white = _cortex(chance, side, cerebrum, age, spacing)
    folia = jnp.cos(52 * norm(z + 0.36, 1.2 * (y - 0.28)) + 1.5 * ragged[0])
    arbor = jnp.minimum(cerebellum - 0.025, 0.012 * folia + 0.35 * (cerebellum - 0.07))
    brain = jnp.maximum(jnp.maximum(jnp.maximum(pia, 0.9 * hull - 0.02), cerebellum), stem)
    layers = _coats(chance, place, hull, numbers)
    layers += [
        (hull + 0.02 + 0.015 * age, "csf", CSF),
        (pia, "cortex", CORTEX),
        (white, "white_matter", WHITE_MATTER),
        (cerebellum, "cortex", CEREBELLUM),
        (arbor, "white_matter", CEREBELLUM),
        (stem, "brain_stem", BRAIN_STEM),
    ]
    width = (0.75 + 0.55 * age) * jnp.exp(0.18 * numbers[1]) * ventricles
    return _Brain(layers, _deep_structures(place, side, width, ragged[1]), place, brain, pia, white)


def _standard_coordinates(chance: Chance, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    deviates = chance.normal("pose")
    turn = 0.06 * deviates[:3]
    axes = [axis - 0.025 * shift for axis, shift in zip(grid(shape), deviates[3:6], strict=True)]
    axes = [axis + 0.025 * bend for axis, bend in zip(axes, chance.field("bend"), strict=True)]
    for angle, (first, second) in zip(turn, ((0, 1), (0, 2), (1, 2)), strict=True):
        one, other = axes[first], axes[second]
        axes[first] = jnp.cos(angle) * one - jnp.sin(angle) * other
        axes[second] = jnp.cos(angle) * other + jnp.sin(angle) * one
    return tuple(axis / (1.0 + 0.04 * scale) for axis, scale in zip(axes, deviates[6:], strict=True))


def _coats(chance: Chance, place: tuple, hull: jax.Array, numbers: jax.Array) -> list[Layer]:
    """Scalp, skull with marrow, and the soft parts below the skull's base."""
    z, y, x = place
    smooth = chance.field("smooth")
    skull = 0.06 + 0.01 * numbers[2] + 0.012 * smooth[2]
    scalp = jnp.maximum(0.06 + 0.01 * numbers[3] + 0.01 * smooth[3], 0.03)
    inner = hull + 0.03
    neck = 0.52 - norm(0.85 * x, 0.75 * (y - 0.05)) - 0.5 * jnp.maximum(z + 0.1, 0)
    head = jnp.maximum(inner + skull + scalp, neck)
    outer = inner + skull
    return [
        (head, "skin", SCALP),
        (head - 0.015, "fat", SCALP),
        (jnp.minimum(neck - 0.06, -0.25 - z), "muscle", SCALP),
        (outer, "bone", SKULL),
        (0.16 * skull - jnp.abs(outer - 0.5 * skull), "marrow", SKULL),
    ]


def _cortex(
    chance: Chance, side: tuple, cerebrum: jax.Array, age: jax.Array, spacing: float
) -> tuple[jax.Array, jax.Array]:
    """Signed distances to the pial surface and to the white matter of the cerebrum."""
    z, y, across = side
    smooth, ragged = chance.field("smooth"), chance.field("ragged")
    # The corpus callosum and what lies under it join the hemispheres.
    joined = 1 - norm((y + 0.02) / 0.42, (z - 0.0) / 0.30)
    fissure = norm(across, jnp.maximum(joined * 0.3, 0)) - 0.006 - 0.005 * age
    ends = jnp.maximum(jnp.abs(y + 0.02) - 0.34, 0)
    bent = z - 0.02 - 0.42 * y - 0.05 * ragged[1] - 0.04 * smooth[0]
    lateral = norm(bent, jnp.maximum(0.38 - across, 0), ends)
    pia = jnp.minimum(jnp.minimum(cerebrum, fissure), lateral - 0.006 - 0.008 * age)
    hull = jnp.minimum(cerebrum, fissure)
    width = 0.004 + 0.012 * age + 0.004 * smooth[2]
    for name, reach in (("sulci", 0.22), ("fine_sulci", 0.11)):
        wave = distance_to_zero(chance.field(name)[0], spacing)
        reach = reach * (1 + 0.3 * smooth[3])
        pia = jnp.minimum(pia, norm(wave, jnp.maximum(hull - reach, 0)) - width)
    return pia, pia - 0.038 - 0.004 * ragged[0]


def _deep_structures(place: tuple, side: tuple, width: jax.Array, ragged: jax.Array) -> list[Layer]:
    """Basal ganglia, thalami, hippocampi and ventricles; `width` is a factor of the ventricles'."""

    def pipe(*points: tuple) -> jax.Array:
        """A tube through points (z, y, x, radius)."""
        pieces = itertools.pairwise(points)
        tubes = [tube(side, a[:3], b[:3], (width * a[3], width * b[3])) for a, b in pieces]
        return functools.reduce(jnp.maximum, tubes)

    lateral = pipe(
        (0.02, -0.34, 0.10, 0.030),
        (0.12, -0.18, 0.06, 0.050),
        (0.20, 0.06, 0.08, 0.042),
        (0.14, 0.26, 0.17, 0.065),
        (0.08, 0.44, 0.18, 0.025),
    )
    temporal = pipe((0.14, 0.26, 0.17, 0.05), (-0.08, 0.16, 0.27, 0.025), (-0.16, -0.06, 0.28, 0.018))
    third = ellipsoid(place, (0.0, 0.02, 0.0), (0.11, 0.16, 0.018)) - 0.012 * (1 - width)
    fourth = ellipsoid(place, (-0.36, 0.30, 0.0), (0.09, 0.05, 0.06)) - 0.012 * (1 - width)
    chambers = functools.reduce(jnp.maximum, (lateral, temporal, third, fourth)) + 0.004 * ragged
    caudate = jnp.maximum(
        tube(side, (0.06, -0.27, 0.13), (0.17, -0.05, 0.16), (0.055, 0.03)),
        tube(side, (0.17, -0.05, 0.16), (0.17, 0.18, 0.19), (0.03, 0.015)),
    )
    return [
        (caudate, "deep_grey", DEEP_GREY),
        (ellipsoid(side, (0.04, -0.05, 0.27), (0.13, 0.21, 0.055)), "deep_grey", DEEP_GREY),
        (ellipsoid(side, (0.02, -0.01, 0.20), (0.09, 0.13, 0.04)), "pallidum", DEEP_GREY),
        (ellipsoid(side, (0.08, 0.13, 0.10), (0.11, 0.16, 0.085)), "deep_grey", DEEP_GREY),
        (tube(side, (-0.20, -0.08, 0.27), (-0.10, 0.20, 0.25), (0.055, 0.035)), "deep_grey", DEEP_GREY),
        (chambers, "csf", VENTRICLE),
    ]


def _ill(chance: Chance, brain: _Brain, disease: Disease, present: bool | jax.Array) -> list[Layer]:
    """Layers of what is ill; far outside everywhere in those who are well."""
    if disease == "none":
        return []
    ragged = chance.field("ragged")
    if disease == "lesions":
        u = chance.uniform("lesions")
        number = 2 + jnp.floor(u[0] * (MOST_LESIONS - 1))
        turn, high, far, *radii = u[1:].reshape(6, MOST_LESIONS)
        angle = 2 * jnp.pi * turn
        far = 0.8 + 0.6 * far
        centres = 0.05 + 0.35 * high, 0.36 * far * jnp.sin(angle), 0.26 * far * jnp.cos(angle)
        radii = [0.025 + 0.04 * each * each for each in radii]
        spots = jax.vmap(lambda *spot: ellipsoid(brain.place, spot[:3], spot[3:]))(*centres, *radii)
        spots = jnp.where(jnp.arange(MOST_LESIONS)[:, None, None, None] < number, spots, -1.0)
        inside = jnp.minimum(jnp.max(spots, 0) + 0.008 * ragged[1], brain.white)
        return [(jnp.where(present, inside, -1.0), "lesion", LESION)]
    u = chance.uniform("tumour")
    centre = 0.02 + 0.34 * u[0], -0.36 + 0.68 * u[1], jnp.where(u[2] > 0.5, 1.0, -1.0) * (0.22 + 0.16 * u[3])
    radius = 0.15 + 0.17 * u[4]
    radii = radius * jnp.exp(0.3 * (u[5] - 0.5)), radius, radius * jnp.exp(0.3 * (0.5 - u[5]))
    share, rim = 0.5 + 0.25 * u[6], 0.035 + 0.02 * u[7]
    oedema = ellipsoid(brain.place, centre, radii) + 0.25 * radius * ragged[0]
    oedema = jnp.minimum(jnp.minimum(oedema, brain.white + 0.02), -brain.deep[-1][0])
    core = ellipsoid(brain.place, centre, [share * each for each in radii]) + 0.12 * radius * ragged[1]
    core = jnp.minimum(core, brain.pia)
    ring = jnp.minimum(core - 0.004, rim * jnp.exp(0.3 * ragged[0]) - core)
    whole = jnp.maximum(oedema, core)
    ill = [(whole, "oedema", OEDEMA), (core, "core", CORE), (ring, "enhancing", ENHANCING)]
    return [(jnp.where(present, inside, -1.0), tissue, label) for inside, tissue, label in ill]


def _clean(
    modalities: Sequence[Modality],
    chance: Chance,
    layers: list[Layer],
    shape: tuple[int, ...],
    second_scanner: bool | jax.Array,
) -> list[jax.Array]:
    """The volumes of modalities on the fine grid, without noise."""
    soft = 1.2 * 2 / max(shape)
    parts = shares((jnp.clip(0.5 + inside / soft, 0, 1), tissue) for inside, tissue, _ in layers)
    # The brain stem's tracts and nuclei are too fine to tell apart.
    stem = parts.pop("brain_stem")
    parts["white_matter"] += 0.75 * stem
    parts["deep_grey"] += 0.25 * stem
    numbers = [MODALITIES.index(modality) for modality in modalities]
    protocols = [chance.normal("protocol")[3 * number : 3 * number + 3] for number in numbers]
    values = [
        tissue_values(modality, protocol, chance.normal("relaxation"), second_scanner)
        for modality, protocol in zip(modalities, protocols, strict=True)
    ]
    painted = mixture(values, parts)
    texture = 0.04 * chance.field("grain")[0]
    strength = jnp.where(second_scanner, 0.20, 0.09)
    images = []
    for modality, number, drawn in zip(modalities, numbers, painted, strict=True):
        if modality in MR:
            drawn = drawn * jnp.exp(texture + strength * chance.field("profile")[number])
            blurred = blur(drawn, [0.9 * side / FIELD_OF_VIEW for side in shape])
            images.append(jnp.where(second_scanner, blurred, drawn))
        else:
            images.append(blur(drawn, [SPREADS[modality] * side / FIELD_OF_VIEW for side in shape]))
    return images


def _averaged(volume: jax.Array, factors: Sequence[int]) -> jax.Array:
    """Means over as many voxels along each axis."""
    for axis, factor in enumerate(factors):
        before, side, after = volume.shape[:axis], volume.shape[axis], volume.shape[axis + 1 :]
        volume = volume.reshape(*before, side // factor, factor, *after).mean(axis + 1)
    return volume


def _acquired(
    modality: Modality,
    chance: Chance,
    drawn: jax.Array,
    second_scanner: bool | jax.Array,
    noise: float | jax.Array,
) -> jax.Array:
    number = MODALITIES.index(modality)
    level = noise * jnp.exp(0.3 * chance.normal("noise_level")[number])
    # Each modality takes its own part of the draw.
    deviates = chance.noise(len(MODALITIES), 2, *drawn.shape)[number]
    spacing = [FIELD_OF_VIEW / side for side in drawn.shape]
    if modality not in MR:
        return acquire(modality, drawn, spacing, deviates, level)
    image = acquire(modality, drawn, spacing, deviates, level * jnp.where(second_scanner, 2.0, 1.0))
    return jnp.where(second_scanner, image**0.8, image)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of the contact sheet: the planes of a volume in T1, other modalities, and diseases."""
    shown = ("t1", "t2", "ct")

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        well = head_volume(key, (64, 64, 64), modalities=shown, coats=True)
        image = well["image"].at[..., 2].set(jnp.clip((well["image"][..., 2] + 200) / 1000, 0, 1))
        rows = {}
        for number, name in enumerate(shown):
            rows |= {
                f"{name}, axial": image[34, ..., number],
                f"{name}, coronal": image[::-1, 30, :, number],
                f"{name}, sagittal": image[::-1, :, 36, number],
            }
        brain = head_volume(key, (64, 64, 64))
        rows |= {"brain, axial": brain["image"][36, ..., 0], "brain, coronal": brain["image"][::-1, 34, :, 0]}
        rows["labels, sagittal"] = well["labels"][::-1, :, 36] / len(LABELS)
        small = head_volume(key, (32, 32, 32))["image"]
        rows["32 cubed, axial"] = jnp.kron(small[18, ..., 0], jnp.ones((2, 2)))
        ill = head_volume(key, (64, 64, 64), modalities=("flair",), disease="lesions")["image"]
        rows["lesions, FLAIR"] = ill[40, ..., 0]
        mass = head_volume(key, (64, 64, 64), modalities=("flair", "t1c"), disease="tumour")
        slices = mass["tumour_mask"][..., 0].sum((1, 2))
        level = jnp.argmax(slices)
        rows |= {"tumour, FLAIR": mass["image"][level, ..., 0], "tumour, T1c": mass["image"][level, ..., 1]}
        rows["tumour, regions"] = mass["tumour_mask"][level].sum(-1) / 3
        return rows

    return jax.lax.map(jax.jit(draw), keys)
