"""Registered slices of one head in many modalities, healthy or ill, under either of two scanners.

The subjects are those of `head`: a key gives the same head here, with arteries besides. Modalities, with the
units of their channel of `image`:

* MR: t1, t2, pd, flair, t1c (with contrast agent), gre, swi (gradient echoes), mra (time of flight):
  magnitude, largest value about 1. Air and bone are dark alike.
* ct: Hounsfield units; window -40 to 120 for the brain, -1000 to 1500 for all.
* pet: uptake of glucose (SUV), 5.5 mm wide at half height; white matter 2.6, grey matter about 8.
* myelin: share of myelin relative to normal white matter, as positron emission shows it, 2.5 mm wide.

The population (mean, SD) beyond that of `head`: T1 and T2 4 % and protocols 4 %; coil profile of each MR
image 9 %, 20 % under the second scanner; uptake and attenuation of tissues 3 %, uptake of regions of the
cortex 9 %, myelin of regions of white matter 9 %, which T1 and T2 show by a third; calcified choroid plexus
in every third subject; noise of MR, CT and PET 30 %. Diseases: `head_disease`. Arteries: `head_vessels`.

The second scanner has other protocols (T1 by spin echo), twice the noise, stronger profiles, a point spread
of 0.9 instead of 0.4 mm, and compresses intensities by the power 0.8. Only MR differs.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from medgan_jax.phantoms import head_disease, head_vessels
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.head import PHASE_NUMBERS, TISSUES, texture_and_profile
from medgan_jax.phantoms.head_anatomy import LABELS as HEALTHY_LABELS
from medgan_jax.phantoms.head_anatomy import (
    LESION,
    SKULL,
    SMALLEST_GRID,
    WHITE_MATTER,
    Anatomy,
    HeadChance,
    anatomy,
    ellipse,
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
from medgan_jax.phantoms.shapes import average, blur

Disease = Literal["none", "multiple_sclerosis", "tumour", "contusion"]

FIRST = len(HEALTHY_LABELS)
ARTERY, OEDEMA, CORE, ENHANCING, HAEMORRHAGE = range(FIRST, FIRST + 5)
LABELS = {
    **HEALTHY_LABELS,
    "artery": ARTERY,
    "oedema": OEDEMA,
    "core": CORE,
    "enhancing": ENHANCING,
    "haemorrhage": HAEMORRHAGE,
}
MODALITIES = get_args(Modality)

# Field of view in mm, and point spreads (SD in mm) of the modalities.
FIELD_OF_VIEW = 240.0
SPREADS = {"ct": 0.5, "pet": 5.5 / 2.355, "myelin": 2.5 / 2.355}
MR_SPREAD, SECOND_MR_SPREAD = 0.4, 0.9
# How much brighter a modality shows tracts with more myelin and gyri with more uptake, per SD.
TRACTS = {"myelin": 0.09, "t1": 0.03, "t1c": 0.02, "t2": -0.03, "pd": -0.01, "flair": -0.03}
GYRI = {"pet": 0.09}
NUMBERS = {
    "relaxation": 2 * len(RELAXING),
    "protocol": 3 * len(MODALITIES),
    "noise_level": len(MODALITIES),
    "scanner": len(MODALITIES),
    "calcium": 1,
    "effect": 2,
    **head_disease.NUMBERS,
    **head_vessels.NUMBERS,
}
FIELDS = {
    "profile": (2, len(MODALITIES)),
    "region": (6, 3),
    "mottle": (60, 2),
    **head_disease.FIELDS,
    **head_vessels.FIELDS,
}


class _Scene(NamedTuple):
    """What is painted: covers `(N, N)` in 0 to 1 with their tissue, labels, and the anatomy.

    fades: of a tissue, how far it differs from healthy white matter, `(N, N)` in 0 to 1.
    """

    covers: list[tuple[jax.Array, str]]
    labels: jax.Array
    head: Anatomy
    masks: dict[str, jax.Array]
    fades: Mapping[str, jax.Array]
    uptake: jax.Array | float


def head_study(
    key: jax.Array,
    size: int = 128,
    *,
    modalities: Sequence[Modality] = ("t1", "t2", "flair"),
    disease: Disease = "none",
    present: bool | jax.Array = True,
    tumour_size: float | jax.Array = 1.0,
    mass_effect: float | jax.Array = 1.0,
    second_scanner: bool | jax.Array = False,
    brain_only: bool = False,
    noise: float | jax.Array = 0.012,
) -> dict[str, jax.Array]:
    """One subject's slice in every one of `modalities`; `key` decides everything about it.

    `present` says, traced, whether the subject has the disease, so that cases and controls are one program;
    without it the head is the same healthy one. `tumour_size` and `mass_effect` are factors; where
    `mass_effect` is 0 the brain around the tumour is the healthy one. `brain_only` blackens all but the brain
    (CT: -1000). `noise` is relative to the brightest pixel in MR; CT has 400 times as much in HU, and the
    counts of PET and myelin follow it: it is above 0 for these.

    Returns, for `size` = H = W and M modalities:

    * `image` `(H, W, M)`: float32 in the units above;
    * `labels` `(H, W)`: int32, see `LABELS`;
    * `brain_mask`, `bone_mask`, `artery_mask` `(H, W)`: bool;
    * `lesion_mask` `(H, W)`: bool, all that is ill;
    * `tumour_mask` `(H, W, 3)`: bool, whole tumour, its core, its enhancing part, each within the one before.

    Raises `ValueError` for an unknown modality or disease, or a size below 16.
    """
    _require(modalities, disease, size)
    factor = -(-SMALLEST_GRID // size)
    grid = size * factor
    subject_key, chance = _chances(key, grid)
    common = HeadChance(subject_key, grid)
    texture = _texture(common)
    scene = _scene(common, chance, grid, disease, present, tumour_size, mass_effect)
    clean = _clean(modalities, scene, chance, texture, second_scanner)
    clean = {each: average(drawn, factor) for each, drawn in clean.items()}
    masks = {name: mask[factor // 2 :: factor, factor // 2 :: factor] for name, mask in scene.masks.items()}
    labels = scene.labels[factor // 2 :: factor, factor // 2 :: factor]
    if brain_only:
        clean = {
            each: jnp.where(masks["brain_mask"], drawn, -1000.0 if each == "ct" else 0.0)
            for each, drawn in clean.items()
        }
    images = _acquired(chance, clean, second_scanner, noise)
    return {"image": jnp.stack(list(images.values()), axis=-1), "labels": labels, **masks}


def head_effect(
    key: jax.Array,
    size: int = 64,
    *,
    subtype: int | jax.Array,
    modality: Modality = "t2",
    strength: float | jax.Array = 1.0,
    noise: float | jax.Array = 0.012,
) -> dict[str, jax.Array]:
    """A slice with a known effect of disease, and the map of it: for visual attribution.

    `subtype` (it may be traced) 0 is healthy; 1 and 2 have wider ventricles, and white matter that fades in
    front (1) or behind (2). `strength` scales the fading, not the ventricles; at 1 the white matter has gone
    a third of the way to a lesion's signal.

    Returns `image` `(H, W, 1)`; `effect_map` `(H, W, 1)`: what the effect added to the noiseless image;
    `effect_mask` `(H, W)`: bool, where that is more than a tenth of its maximum and the noise; `brain_mask`.
    Raises `ValueError` as `head_study` does.
    """
    _require((modality,), "none", size)
    factor = -(-SMALLEST_GRID // size)
    grid = size * factor
    subject_key, chance = _chances(key, grid)
    drawn = {}
    for ill in (False, True):
        common = HeadChance(subject_key, grid)
        texture = _texture(common)
        kind = jnp.where(ill, subtype, 0)
        scene = _scene_of_effect(common, chance, grid, kind, strength)
        drawn[ill] = average(_clean((modality,), scene, chance, texture, False)[modality], factor)
    peak = jnp.max(drawn[False])
    image = _acquired(chance, {modality: drawn[True]}, False, noise)[modality]
    if modality in MR:
        image = image * jnp.max(drawn[True]) / peak
    effect = (drawn[True] - drawn[False]) / (peak if modality in MR else 1.0)
    brain = scene.masks["brain_mask"][factor // 2 :: factor, factor // 2 :: factor]
    large = jnp.abs(effect) > jnp.maximum(0.1 * jnp.max(jnp.abs(effect)), 1e-6)
    return {
        "image": image[..., None],
        "effect_map": effect[..., None],
        "effect_mask": large,
        "brain_mask": brain,
    }


def _require(modalities: Sequence[str], disease: str, size: int) -> None:
    for modality in modalities:
        if modality not in MODALITIES:
            raise ValueError(f"unknown modality '{modality}'; there are {', '.join(MODALITIES)}")
    if disease not in get_args(Disease):
        raise ValueError(f"unknown disease '{disease}'; there are {', '.join(get_args(Disease))}")
    if size < 16:
        raise ValueError(f"a head needs at least 16 x 16 pixels, not {size} x {size}")


def _chances(key: jax.Array, grid: int) -> tuple[jax.Array, Chance]:
    """The key of the subject's anatomy, as `head` has it, and the random numbers of all else."""
    subject_key, own_key = jax.random.split(key)
    return subject_key, Chance(own_key, NUMBERS, FIELDS, (grid, grid))


def _texture(common: HeadChance) -> jax.Array:
    """Structure within tissue `(N, N)` as `head` draws it, after the numbers that `head` draws before it."""
    common.normal(3 + 2 * len(TISSUES) + PHASE_NUMBERS)
    return texture_and_profile(common)


def _scene(
    common: HeadChance,
    chance: Chance,
    grid: int,
    disease: Disease,
    present: bool | jax.Array,
    tumour_size: float | jax.Array,
    mass_effect: float | jax.Array,
) -> _Scene:
    grown = None
    if disease == "tumour":
        grown = head_disease.tumour(chance, tumour_size, mass_effect * jnp.asarray(present, jnp.float32))
    head = anatomy(common, grid, push=grown.push if grown else None)
    if disease == "tumour":
        whole, core, enhancing, necrosis = grown.regions(head)
        ill = [
            (whole, "oedema", OEDEMA),
            (core, "core", CORE),
            (necrosis, "necrosis", CORE),
            (enhancing, "enhancing", ENHANCING),
        ]
        return _compose(chance, head, grid, [], ill, present, uptake=grown.uptake)
    if disease == "multiple_sclerosis":
        inside, loss = head_disease.demyelinated_lesions(chance, head)
        return _compose(chance, head, grid, [(inside, "lesion", LESION)], [], present, fades={"lesion": loss})
    if disease == "contusion":
        whole, blood = head_disease.contusions(chance, head)
        ill = [(whole, "contusion", LESION), (blood, "haemorrhage", HAEMORRHAGE)]
        return _compose(chance, head, grid, [], ill, present)
    return _compose(chance, head, grid, [], [], present)


def _scene_of_effect(
    common: HeadChance, chance: Chance, grid: int, subtype: jax.Array, strength: float | jax.Array
) -> _Scene:
    deviates = chance.normal("effect")
    growth = jnp.where(subtype > 0, 1.22 + 0.05 * deviates[0], 1.0)
    head = anatomy(common, grid, growth=growth)
    across = jnp.abs(head.x)
    front = ellipse(across, head.y, (0.19, -0.36), (0.10, 0.13), 0.4)
    behind = ellipse(across, head.y, (0.22, 0.34), (0.10, 0.12), -0.3)
    inside = jnp.where(subtype == 2, behind, front) + 0.01 * chance.field("ragged")[0]
    inside = jnp.where(subtype > 0, jnp.minimum(inside, head.white), -1.0)
    fade = 0.34 * strength * jnp.exp(0.15 * deviates[1]) * jax.nn.sigmoid(inside / 0.015)
    return _compose(chance, head, grid, [(inside, "lesion", WHITE_MATTER)], [], True, fades={"lesion": fade})


def _compose(
    chance: Chance,
    head: Anatomy,
    grid: int,
    within: list,
    over: list,
    present: bool | jax.Array,
    fades: Mapping[str, jax.Array] | None = None,
    uptake: jax.Array | float = 1.0,
) -> _Scene:
    """Covers and labels of a head with what is ill `within` its white matter or painted `over` it."""
    voxel = max(2 / grid, 1.4 / 120)
    vessels = [(head_vessels.arteries(chance, head), "artery", ARTERY)]
    # No disease beyond an absent one: its distances lie outside everywhere.
    within, over = (
        [(jnp.where(present, inside, -1.0), tissue, label) for inside, tissue, label in layers]
        for layers in (within, over)
    )
    layers = [*head.layers, (head.sinus, "air", SKULL), *within, *head.deep, *over, *vessels]
    labels = jnp.zeros((grid, grid), jnp.int32)
    for inside, _, label in layers:
        labels = jnp.where(inside > 0, label, labels)
    covers = [(jnp.clip(0.5 + inside / voxel, 0, 1), tissue) for inside, tissue, _ in layers]
    regions = [labels >= OEDEMA, (labels == CORE) | (labels == ENHANCING), labels == ENHANCING]
    tumour = jnp.stack(regions, axis=-1) & (labels <= ENHANCING)[..., None]
    masks = {
        "brain_mask": head.depth > 0,
        "bone_mask": labels == SKULL,
        "artery_mask": labels == ARTERY,
        "lesion_mask": (labels == LESION) | (labels >= OEDEMA),
        "tumour_mask": tumour,
    }
    return _Scene(covers, labels, head, masks, fades or {}, uptake)


def _clean(
    modalities: Sequence[Modality],
    scene: _Scene,
    chance: Chance,
    texture: jax.Array,
    second_scanner: bool | jax.Array,
) -> dict[str, jax.Array]:
    """The images `(N, N)` of modalities without noise."""
    region = chance.field("region")
    parts = shares(scene.covers)
    for tissue, fade in scene.fades.items():
        parts["white_matter"] += (1 - fade) * parts[tissue]
        parts[tissue] *= fade
    # Myelin varies from tract to tract, uptake from gyrus to gyrus.
    parts["tracts"] = parts["white_matter"] * region[0]
    parts["gyri"] = parts["cortex"] * region[1]
    values = [_values(each, scene, chance, second_scanner) for each in modalities]
    painted = mixture(values, parts)
    return {
        modality: _imperfect(modality, drawn, scene, chance, texture, second_scanner)
        for modality, drawn in zip(modalities, painted, strict=True)
    }


def _values(
    modality: Modality, scene: _Scene, chance: Chance, second_scanner: bool | jax.Array
) -> dict[str, jax.Array]:
    """Values of tissues, and what tracts and gyri add at one standard deviation of their variation."""
    number = MODALITIES.index(modality)
    protocol = chance.normal("protocol")[3 * number : 3 * number + 3]
    values = tissue_values(modality, protocol, chance.normal("relaxation"), second_scanner)
    values["tracts"] = TRACTS.get(modality, 0.0) * values["white_matter"]
    values["gyri"] = GYRI.get(modality, 0.0) * values["cortex"]
    if modality == "pet":
        values |= dict.fromkeys(("core", "enhancing"), values["white_matter"] * scene.uptake)
    if modality == "ct":
        calcium = jnp.maximum(chance.normal("calcium")[0] - 0.4, 0)
        values["choroid_plexus"] = values["choroid_plexus"] + 160 * jnp.tanh(calcium)
    return values


def _imperfect(
    modality: Modality,
    drawn: jax.Array,
    scene: _Scene,
    chance: Chance,
    texture: jax.Array,
    second_scanner: bool | jax.Array,
) -> jax.Array:
    """Texture, coil profile and point spread of a modality."""
    pixel = FIELD_OF_VIEW / drawn.shape[0]
    if modality in MR:
        profile = chance.field("profile")[MODALITIES.index(modality)]
        strength = jnp.where(second_scanner, 0.20, 0.09)
        drawn = drawn * texture * jnp.exp(strength * profile)
        sharp, soft = (blur(drawn, (width / pixel,) * 2) for width in (MR_SPREAD, SECOND_MR_SPREAD))
        return jnp.where(second_scanner, soft, sharp)
    drawn = blur(drawn, (SPREADS[modality] / pixel,) * 2)
    if modality == "ct":
        # Beam hardening leaves a bright rim under the skull.
        rim = 4 * jnp.exp(-jnp.maximum(scene.head.depth, 0) / 0.05)
        tissue = 1.2 * chance.field("mottle")[0] + rim
        return drawn + jnp.where(drawn > -200, tissue, 0)
    return drawn


def _acquired(
    chance: Chance, clean: Mapping[str, jax.Array], second_scanner: bool | jax.Array, noise: float | jax.Array
) -> dict[str, jax.Array]:
    """Images `(H, W)` with the noise of their modality, each with its own."""
    size = next(iter(clean.values())).shape[0]
    deviates = chance.noise(len(MODALITIES), 2, size, size)
    images = {}
    for modality, drawn in clean.items():
        number = MODALITIES.index(modality)
        level = noise * jnp.exp(0.3 * chance.normal("noise_level")[number])
        if modality in MR:
            level = level * jnp.where(second_scanner, 2.0, 1.0)
        image = acquire(modality, drawn, (FIELD_OF_VIEW / size,) * 2, deviates[number], level)
        if modality in MR:
            image = jnp.where(second_scanner, image**0.8, image)
        images[modality] = image
    return images


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of the contact sheet: every modality, diseases, the second scanner, an effect and its map."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        every = _shown(head_study(key, 192, modalities=MODALITIES)["image"], MODALITIES)
        rows = dict(zip(MODALITIES, every, strict=True))
        tumour = ("t1", "t1c", "t2", "flair", "ct", "pet")
        drawn = head_study(key, 192, modalities=tumour, disease="tumour")
        shown = _shown(drawn["image"], tumour)
        rows |= {f"tumour, {name}": image for name, image in zip(tumour, shown, strict=True)}
        rows["tumour, regions"] = drawn["tumour_mask"].sum(-1) / 3
        sclerosis = ("t1", "flair", "myelin")
        ill = head_study(key, 192, modalities=sclerosis, disease="multiple_sclerosis")
        shown = _shown(ill["image"], sclerosis)
        rows |= {f"sclerosis, {name}": image for name, image in zip(sclerosis, shown, strict=True)}
        blow = head_study(key, 192, modalities=("flair", "gre"), disease="contusion")["image"]
        rows |= {"contusion, flair": blow[..., 0], "contusion, gre": blow[..., 1]}
        other = head_study(key, 192, modalities=("t1", "flair"), second_scanner=True)["image"]
        rows |= {"second scanner, t1": other[..., 0], "second scanner, flair": other[..., 1]}
        effect = head_effect(key, 192, subtype=1)
        rows |= {"effect in front": effect["image"][..., 0], "its map": 0.5 + effect["effect_map"][..., 0]}
        return rows

    return jax.lax.map(jax.jit(draw), keys)


WINDOWS = {"ct": (-40.0, 120.0), "pet": (0.0, 10.0), "myelin": (0.0, 1.2), "mra": (0.0, 0.7)}


def _shown(image: jax.Array, modalities: Sequence[str]) -> list[jax.Array]:
    windows = [WINDOWS.get(modality, (0.0, 0.9)) for modality in modalities]
    return [jnp.clip((image[..., i] - low) / (high - low), 0, 1) for i, (low, high) in enumerate(windows)]
