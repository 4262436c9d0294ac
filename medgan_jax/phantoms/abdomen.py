"""The upper abdomen in CT (HU), MR-like and PET-like contrast: liver with lesions, spleen, kidneys, spine.

The body is a function of (z, y, x), evaluated in one slice or in many, as in `chest_ct`; a key gives the same
body in every modality. Liver lesions are of the three classes of `liver_lesions`, of equal mean attenuation:
on CT only their structure tells which of them take up tracer on PET.

To see images: `torso.windowed(image, 60, 350)` for CT; MR is in [0, 1]; PET is in SUV, 0 to 10 is shown.
Lengths are in units of 180 mm (see `torso`); z runs from the liver's dome at -0.75 to the kidneys at 0.65.

The population (mean, SD): half height 104 mm (8 %), half width 155 mm (8 %); fat 14 (6) mm; liver's size 8 %;
spleen's scale uniform in its logarithm between 1.05 (10 cm in length) and 1.05 exp(0.75 `spleen_range`), 21 cm
by default; position of organs 7 mm; lesions' radius 5 to 16 mm; attenuation of each organ 6 HU; contrast
medium (portal phase) in 80 %; MR weighting uniform from T1 to T2, so no organ has a grey value of its own.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from medgan_jax.phantoms import torso
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.liver_lesions import METASTASIS, lesion_pattern
from medgan_jax.phantoms.shapes import average, blur, ellipsoid, norm
from medgan_jax.phantoms.tasks import Task

Modality = Literal["ct", "mr", "pet"]
LABELS = {
    "air": 0,
    "fat": 1,
    "muscle": 2,
    "bone": 3,
    "bowel": 4,
    "pancreas": 5,
    "vessel": 6,
    "kidney": 7,
    "gallbladder": 8,
    "spleen": 9,
    "liver": 10,
    "lesion": 11,
}
LABEL_OF = {"organ_fat": "fat", "gas": "bowel", "stomach": "bowel", "kidney_medulla": "kidney"}
# HU without and what the portal phase adds; relative signal in T1 and in T2 weighting; SUV of FDG.
VALUES = {
    "air": (-1000.0, 0.0, 0.0, 0.0, 0.0),
    "fat": (-105.0, 0.0, 0.90, 0.62, 0.3),
    "muscle": (55.0, 10.0, 0.42, 0.22, 0.8),
    "bone": (240.0, 0.0, 0.50, 0.35, 1.2),
    "organ_fat": (-100.0, 0.0, 0.88, 0.60, 0.4),
    "bowel": (35.0, 25.0, 0.40, 0.50, 1.7),
    "gas": (-900.0, 0.0, 0.02, 0.02, 0.3),
    "stomach": (25.0, 15.0, 0.38, 0.60, 1.6),
    "pancreas": (42.0, 55.0, 0.60, 0.42, 1.4),
    "vessel": (42.0, 115.0, 0.15, 0.12, 1.7),
    "kidney": (32.0, 130.0, 0.48, 0.62, 3.0),
    "kidney_medulla": (30.0, 90.0, 0.38, 0.68, 4.5),
    "gallbladder": (10.0, 0.0, 0.30, 0.95, 0.6),
    "spleen": (48.0, 66.0, 0.40, 0.58, 1.8),
    "liver": (57.0, 52.0, 0.58, 0.34, 2.2),
}
SMALLEST_GRID = 128
MOST_LESIONS = 4

NUMBERS = {
    "level": 1,
    "pose": 4,
    "body": 5,
    "organs": 24,
    "spleen": 6,
    "values": 2 * len(VALUES),
    "style": 6,
    "ribs": 1,
    "lesions": 6 * MOST_LESIONS,
    "globules": 8 * MOST_LESIONS,
    "uptake": MOST_LESIONS,
}
SPANS = {"smooth": (4, 4, 8), "medium": (6, 9, 5), "fine": (8, 20, 5), "texture": (12, 44, 2)}


def abdomen_slice(
    key: jax.Array,
    size: int = 256,
    *,
    modality: Modality = "ct",
    level: jax.Array | float | None = None,
    lesions: bool | jax.Array = True,
    spleen_range: float = 1.0,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """One subject's axial slice; `key` decides all about it, every modality and option shows the same body.

    level: z of the slice between -0.5 and 0.5, drawn from -0.35 to 0.2 where None. lesions: 1 to 4 in the
    liver. spleen_range: how much the logarithm of the spleen's scale varies; 1.5 gives a factor of 3 between
    smallest and largest. noise: 0 for none; 1 is 18 HU on CT, 2.5 % on MR and 8 % of the square root of the
    uptake on PET. All but `size`, `modality` and `spleen_range` may be traced.

    Returns, for `size` = H = W: `image` `(H, W, 1)` in HU, in [0, 1] or in SUV; `labels` `(H, W)` int32, see
    `LABELS`; `lesion_mask`, `malignant_mask` (metastases) `(H, W)` bool; `lesion_centroids` `(4, 2)`, row and
    column in pixels, with `lesion_valid` `(4,)` bool; `level` `()`. Raises `ValueError` for an unknown
    modality or a size below 16.
    """
    return _draw(key, (size, size), modality, level, 3.0, lesions, spleen_range, noise)


def abdomen_volume(
    key: jax.Array,
    size: int = 48,
    slices: int = 48,
    *,
    modality: Modality = "ct",
    thickness_mm: float = 5.0,
    level: jax.Array | float | None = 0.0,
    lesions: bool | jax.Array = True,
    spleen_range: float = 1.0,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """`slices` touching slices of `thickness_mm` round `level`, with the options of `abdomen_slice`.

    Arrays are `(D, H, W)` with D = `slices`, `image` `(D, H, W, 1)`; centroids are `(4, 3)`.
    """
    return _draw(key, (slices, size, size), modality, level, thickness_mm, lesions, spleen_range, noise)


def _draw(key, shape, modality, level, thickness, lesions, spleen_range, noise):
    """What `abdomen_slice` and `abdomen_volume` return."""
    size, rank = shape[-1], len(shape)
    if modality not in get_args(Modality):
        raise ValueError(f"unknown modality '{modality}'; there are {', '.join(get_args(Modality))}")
    if size < 16:
        raise ValueError(f"an abdomen needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-SMALLEST_GRID // size) if rank == 2 else 1
    shape = (*shape[:-2], size * factor, size * factor)
    chance = Chance(key, NUMBERS, {}, shape)
    if level is None:
        level = -0.35 + 0.55 * chance.uniform("level")[0]
    step = thickness / torso.FIELD_OF_VIEW_MM * 2
    levels = level + (step * (jnp.arange(shape[0]) - (shape[0] - 1) / 2) if rank == 3 else 0.0)
    fields = torso.fields_at(jax.random.fold_in(key, 1), SPANS, levels, shape)
    pose = chance.normal("pose") * jnp.array([0.06, 0.04, 0.04, 0.05])
    y, x = torso.pixel_coordinates(shape, pose)
    z = levels[:, None, None] if rank == 3 else levels
    y = y + 0.012 * fields["smooth"][0] + 0.003 * fields["medium"][0]
    x = x + 0.012 * fields["smooth"][1] + 0.003 * fields["medium"][1]
    place = tuple(jnp.broadcast_to(axis, shape) for axis in (z, y, x))
    organs = _organs(chance, place, fields, spleen_range)
    spots = _lesions(chance, place, organs, fields, lesions, level, rank)
    image, labels = _paint(chance, place, organs, spots, fields, modality, shape)
    image = _acquire(chance, image, fields, modality, noise, size * factor, rank)
    middle = (..., *(slice(factor // 2, None, factor),) * 2)
    labels = labels[middle]
    masks = (spots["inside"] > 0)[middle]
    malignant = masks & (spots["class"] == METASTASIS)
    return {
        "image": (average(image, factor) if rank == 2 else image)[..., None],
        "labels": labels,
        "lesion_mask": labels == LABELS["lesion"],
        "malignant_mask": malignant.any(0),
        "lesion_centroids": jax.vmap(_centroid)(masks),
        "lesion_valid": masks.any(tuple(range(1, masks.ndim))),
        "level": jnp.asarray(level, jnp.float32),
    }


def _organs(chance: Chance, place, fields: dict, spleen_range: float) -> dict[str, jax.Array]:
    """Signed distances to body, cavity and organs."""
    z, y, x = place
    smooth = fields["smooth"]
    tall, wide, fat, round_, muscle = chance.normal("body")
    high, broad = 0.58 * jnp.exp(0.08 * tall), 0.86 * jnp.exp(0.08 * wide)
    body = torso.superellipse(y, x, (high, broad), 2.4 + 0.15 * round_)
    rind = jnp.exp(0.4 * fat) * (0.075 + 0.02 * smooth[2] + 0.03 * jax.nn.relu(-y))
    wall = 0.075 + 0.012 * muscle + 0.008 * smooth[3]
    cavity = torso.superellipse(y + 0.03, x, (high - wall - 0.085, broad - wall - 0.085), 2.4)
    cavity = jnp.minimum(cavity, body - rind - wall)
    move = 0.04 * chance.normal("organs")
    grow = jnp.exp(0.08 * chance.normal("organs")[-4:])
    right = ellipsoid(
        place,
        (-0.12 + move[0], -0.02 + move[1], -0.42 + move[2]),
        (0.58 * grow[0], 0.40, 0.36 * grow[0]),
        0.25,
    )
    left = ellipsoid(
        place, (-0.30 + move[3], -0.22, 0.02 + move[4]), (0.34, 0.17 * grow[1], 0.42 * grow[1]), 0.1
    )
    liver = jnp.logaddexp(25 * right, 25 * left) / 25 + 0.025 * smooth[4] + 0.008 * fields["medium"][2]
    spine_at = high - 0.32 - 0.4 * jnp.mean(rind)
    column = ellipsoid((y, x), (spine_at + 0.02, 0.0), (0.16, 0.16))
    inside = jnp.minimum(cavity, -column)
    # Half the cavity's width where the spleen lies.
    flank_at = 0.95 * (broad - wall - jnp.maximum(jnp.mean(rind), 0.085))
    spleen = _spleen(chance, place, fields, spleen_range, jnp.mean(flank_at))
    kidneys = [
        ellipsoid(
            place,
            (0.22 + move[6 + i], spine_at - 0.03 + move[8 + i], side * (0.36 + move[10 + i])),
            (0.33, 0.155 * grow[2], 0.125 * grow[3]),
            0.5 * side,
        )
        for i, side in enumerate((-1, 1))
    ]
    kidney = jnp.maximum(*kidneys) + 0.006 * fields["medium"][3]
    stomach = ellipsoid(
        place, (-0.22 + move[12], -0.16 + move[13], 0.36 + move[14]), (0.32, 0.20, 0.24 * grow[1]), -0.4
    )
    apart = jnp.abs(x)
    flank = ellipsoid((y, apart), (spine_at + 0.21, 0.22), (0.13, 0.19))
    loin = jnp.minimum(ellipsoid((y, apart), (spine_at + 0.03, 0.19), (0.11, 0.075)), 0.5 * (z - 0.05))
    return {
        "body": body,
        "flesh": jnp.minimum(body - rind, body),
        "cavity": cavity,
        "inside": inside,
        "liver": jnp.minimum(liver, inside - 0.006),
        "spleen": jnp.minimum(spleen, inside - 0.006),
        "kidney": jnp.minimum(kidney, inside + 0.05),
        "stomach": jnp.minimum(stomach + 0.02 * smooth[5], inside - 0.008),
        "back": jnp.maximum(jnp.minimum(flank, body - rind), loin),
        "spine": spine_at,
        "gallbladder": jnp.minimum(
            ellipsoid(place, (0.12 + move[15], -0.20 + move[16], -0.24 + move[17]), (0.20, 0.085, 0.06), 0.5),
            inside,
        ),
    }


def _spleen(chance: Chance, place, fields: dict, spleen_range: float, wall_at: jax.Array) -> jax.Array:
    """Signed distance to the spleen, a bent bean at the wall that grows forwards, inwards and down."""
    size, down, back, side, flat, tilt = chance.normal("spleen")
    # From 10 cm in length, as in health, upwards.
    scale = 1.05 * jnp.exp(0.75 * spleen_range * jax.scipy.stats.norm.cdf(size))
    z, y, x = place
    centre = -0.16 + 0.12 * (scale - 1) + 0.03 * down, 0.14 - 0.10 * (scale - 1) + 0.03 * back
    across = wall_at - 0.08 * scale - 0.02 * jnp.abs(side)
    bent = x + 0.5 * jnp.square(y - centre[1])
    radii = 0.26 * scale, 0.185 * scale * jnp.exp(-0.08 * flat), 0.095 * scale * jnp.exp(0.1 * flat)
    shape = ellipsoid((z, y, bent), (centre[0], centre[1], across), radii, 0.45 + 0.15 * tilt)
    return shape + 0.012 * fields["medium"][4]


def _lesions(
    chance: Chance, place, organs: dict, fields: dict, lesions, level, rank: int
) -> dict[str, jax.Array]:
    """Signed distances, classes `(4, 1, ...)` and patterns of the 4 possible lesions, `(4, ...)`."""
    ones = (1,) * rank
    numbers = jax.scipy.stats.norm.cdf(chance.normal("lesions")).reshape(6, MOST_LESIONS, *ones)
    deep, back, side, large, kind, present = numbers
    first = jnp.arange(MOST_LESIONS).reshape(-1, *ones)
    # Two lesions keep to the right lobe, so that most slices of the liver show one.
    down = place[1] + 0.20 - 0.34 * back
    across = place[2] + 0.62 - jnp.where(first < 2, 0.36, 0.62) * side
    depth = place[0] - level - (0.3 * (deep - 0.5) if rank == 3 else 0.0)
    radius = 0.030 + 0.058 * large
    away = norm(depth, down, across)
    lesion = jnp.floor(3 * kind).astype(jnp.int32)
    ragged = jnp.where(lesion == METASTASIS, 0.014, 0.004) * fields["fine"][2]
    inside = jnp.minimum(radius - away + ragged, organs["liver"])
    shown = jnp.asarray(lesions) & ((present < 0.6) | (first == 0))
    globules = chance.normal("globules").reshape(8, MOST_LESIONS, *ones)
    pattern = lesion_pattern(
        lesion, 1 - away / radius, jnp.arctan2(down, across), globules, fields["fine"][3]
    )
    axes = tuple(range(1, rank + 1))
    weight = (inside > 0) / jnp.maximum((inside > 0).sum(axes, keepdims=True), 1)
    pattern = pattern - (weight * pattern).sum(axes, keepdims=True)
    pattern = pattern / jnp.sqrt((weight * pattern * pattern).sum(axes, keepdims=True) + 1e-6)
    return {"inside": jnp.where(shown, inside, -1.0), "class": lesion, "pattern": pattern}


def _paint(chance: Chance, place, organs: dict, spots: dict, fields: dict, modality: Modality, shape):
    """Values of the modality and labels."""
    value = _values(chance, modality)
    layers = _layers(chance, place, organs, fields)
    softness = max(2 / shape[-1], 0.006)
    painted = [(inside, value[tissue], LABELS[LABEL_OF.get(tissue, tissue)]) for inside, tissue in layers]
    image, labels = torso.paint_tissues(painted, shape, (value["air"], LABELS["air"]), softness)
    grain = fields["texture"][0] + 0.7 * fields["fine"][4]
    size = {"ct": 3.0, "mr": 0.02, "pet": 0.0}[modality]
    image = image + jnp.where(
        image > value["gas"] + 0.5 * abs(VALUES["fat"][0]) * (modality == "ct"), size * grain, 0
    )
    malignant = spots["class"] == METASTASIS
    pattern = spots["pattern"]
    uptake = chance.normal("uptake").reshape(malignant.shape)
    level = {
        "ct": value["liver"] - 38 + 8 * uptake + 12 * pattern,
        "mr": value["liver"] + 0.30 * value["weighting"] - 0.12 + 0.05 * pattern,
        "pet": jnp.where(malignant, 6.0 * jnp.exp(0.3 * uptake), 1.6 + 0.2 * uptake),
    }[modality]
    level = jnp.broadcast_to(level, pattern.shape)
    painted = [(spots["inside"][i], level[i], LABELS["lesion"]) for i in range(MOST_LESIONS)]
    image, labels = torso.paint_tissues(painted, shape, (image, labels), softness)
    return image, labels


def _values(chance: Chance, modality: Modality) -> dict[str, jax.Array]:
    """The value of each tissue in one subject."""
    first, second = chance.normal("values").reshape(2, -1)
    phase, weighting, *_ = chance.uniform("style")
    table = jnp.array(list(VALUES.values())).T
    enhancement = (0.6 + 0.5 * chance.uniform("style")[2]) * (phase < 0.8)
    scatter = jnp.where(table[0] > -90, 1.0, jnp.where(table[0] > -800, 0.3, 0.0))
    values = {
        "ct": table[0] + enhancement * table[1] + 6 * scatter * first,
        "mr": (table[2] + weighting * (table[3] - table[2])) * jnp.exp(0.12 * first),
        "pet": table[4] * jnp.exp(0.08 * second),
    }[modality]
    return dict(zip(VALUES, values, strict=True)) | {"weighting": weighting}


def _layers(chance: Chance, place, organs: dict, fields: dict) -> list:
    """Signed distances and tissues in the order of painting."""
    z, y, x = place
    spine = torso.vertebra(y, x, organs["spine"], 0.95)
    angle = jnp.arctan2(jnp.abs(x), -(y + 0.03))
    bend = 0.3 * fields["medium"][4] + 0.5 * jnp.sign(x) * chance.normal("ribs")[0]
    rib, _ = torso.rib_sections(-organs["cavity"], angle, z, bend, 0.020)
    # The lower ribs end before they reach the front.
    rib = jnp.minimum(rib, 0.5 * jnp.minimum(y + 0.45 - 0.9 * jax.nn.relu(z + 0.2), jnp.abs(x) - 0.15))
    inside = organs["inside"]
    bowel, gas = _bowel(z, y, fields)
    r = 0.062
    spine_at = organs["spine"]
    trunk = torso.tubes(
        place,
        [
            ((-1.2, spine_at - 0.16, 0.05), (0.9, spine_at - 0.17, 0.03), (r, 0.9 * r)),
            ((-1.2, spine_at - 0.28, -0.13), (0.9, spine_at - 0.16, -0.11), (0.07, 0.06)),
            ((0.08, 0.02, 0.02), (-0.02, -0.04, -0.10), (0.038, 0.04)),
            ((0.06, 0.02, 0.02), (-0.10, 0.10, 0.48), (0.028, 0.022)),
        ],
    )
    trunk = jnp.minimum(trunk, organs["cavity"] + 0.03)
    hepatic = (-0.25, 0.12, -0.55), (-0.28, -0.22, -0.40), (-0.36, -0.28, 0.10)
    branches = torso.tubes(
        place,
        [
            ((-0.02, -0.04, -0.10), (-0.20, -0.06, -0.34), (0.04, 0.026)),
            *(((-0.52, 0.02, -0.16), end, (0.03, 0.014)) for end in hepatic),
        ],
    )
    branches = branches + 0.012 * fields["fine"][0] - 0.004
    pancreas = torso.tubes(
        place,
        [
            ((0.14, -0.10, -0.10), (0.05, -0.10, 0.05), (0.07, 0.05)),
            ((0.05, -0.10, 0.05), (-0.06, 0.04, 0.44), (0.05, 0.042)),
        ],
    )
    fluid = organs["stomach"] - 0.016
    bubble = jnp.minimum(fluid, -0.25 - y + 0.04 * fields["smooth"][6])
    rim = organs["kidney"]
    sinus = rim - 0.075
    return [
        (organs["body"], "muscle"),
        (organs["body"] - 0.012, "fat"),
        (organs["flesh"], "muscle"),
        (organs["cavity"], "organ_fat"),
        (rib, "bone"),
        (organs["back"], "muscle"),
        (jnp.minimum(bowel, inside - 0.01), "bowel"),
        (jnp.minimum(gas, inside - 0.02), "gas"),
        (jnp.minimum(pancreas + 0.012 * fields["medium"][0], inside), "pancreas"),
        (organs["stomach"], "muscle"),
        (fluid, "stomach"),
        (bubble, "gas"),
        (rim, "kidney"),
        (jnp.minimum(rim - 0.035, 0.02 * fields["fine"][1] + 0.01), "kidney_medulla"),
        (sinus, "organ_fat"),
        (trunk, "vessel"),
        (organs["spleen"], "spleen"),
        (organs["liver"], "liver"),
        (jnp.minimum(branches, organs["liver"] - 0.01), "vessel"),
        (organs["gallbladder"], "gallbladder"),
        (spine["bone"], "bone"),
        (spine["canal"], "muscle"),
    ]


def _bowel(z, y, fields: dict) -> tuple[jax.Array, jax.Array]:
    """Signed distances to loops of bowel and to the gas in them, which rises to the front."""
    front = jnp.minimum(0.10 - y, 0.5 * (z + 0.12))
    loops = jnp.minimum(0.05 * (jnp.abs(fields["medium"][3]) - 0.25) + 0.02 * fields["medium"][1], front)
    return loops, jnp.minimum(0.05 * (fields["medium"][0] - 0.9), loops - 0.012) - 0.06 * jax.nn.relu(y + 0.1)


def _acquire(chance: Chance, image, fields: dict, modality: Modality, noise, size: int, rank: int):
    """The scanner's point spread and noise."""
    white = chance.noise(*image.shape)
    if modality == "ct":
        return torso.spread(image, rank) + 18 * noise * torso.scanner_noise(white, size, rank)
    if modality == "pet":
        # 6 mm full width at half maximum.
        deviation = 2.55 * size / torso.FIELD_OF_VIEW_MM
        widths = [1.0 if rank == 3 else 0.0][: rank - 2] + [deviation] * 2
        mean = blur(image, widths)
        grain = blur(white, [0.7 * width for width in widths], white=True)
        return jnp.clip(mean + 0.08 * noise * jnp.sqrt(jnp.maximum(mean, 0.05)) * grain, 0, None)
    profile = jnp.exp(0.18 * fields["smooth"][7])
    real = torso.spread(image * profile, rank) + 0.025 * noise * white
    # The imaginary part's noise: the same numbers from far away.
    imaginary = 0.025 * noise * white[..., ::-1, ::-1]
    return jnp.clip(jnp.sqrt(real * real + imaginary * imaginary + 1e-12), 0, 1)


def _centroid(mask: jax.Array) -> jax.Array:
    """Place `(rank,)` of a mask's centre in pixels; 0 for an empty one."""
    weight = mask / jnp.maximum(mask.sum(), 1)
    places = jnp.meshgrid(*(jnp.arange(side) + 0.5 for side in mask.shape), indexing="ij")
    return jnp.stack([(weight * each).sum() for each in places])


def _organ_task(modality: Modality, organs: tuple[str, ...], levels: tuple[float, float], **options):
    """Organs of a slice between two `levels` that cut through all of them; lesions count as liver."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        level = jax.random.uniform(jax.random.fold_in(key, 2), minval=levels[0], maxval=levels[1])
        drawn = abdomen_slice(key, 96, modality=modality, level=level, **options)
        labels = jnp.where(drawn["labels"] == LABELS["lesion"], LABELS["liver"], drawn["labels"])
        target = jnp.stack([labels == LABELS[organ] for organ in organs], axis=-1)
        image = drawn["image"]
        return {
            "input": torso.windowed(image, 60, 350) if modality == "ct" else image,
            "target": target.astype(jnp.float32),
        }

    return draw


def _lesion_task(key: jax.Array) -> dict[str, jax.Array]:
    """Lesions of the liver on CT."""
    drawn = abdomen_slice(key, 96, level=-0.2)
    return {
        "input": torso.windowed(drawn["image"], 60, 350),
        "target": drawn["lesion_mask"][..., None].astype(jnp.float32),
    }


def _pet_task(key: jax.Array) -> dict[str, jax.Array]:
    """From CT to the uptake on PET, within the body; without noise in the uptake, which nothing foretells."""
    ct = abdomen_slice(key, 64, modality="ct")
    pet = abdomen_slice(key, 64, modality="pet", noise=0.0)
    return {
        "input": torso.windowed(ct["image"], 60, 350),
        "target": pet["image"] / 10,
        "weight": (ct["labels"] != LABELS["air"])[..., None].astype(jnp.float32),
    }


TASKS = (
    Task("abdomen_organs", "segmentation", _organ_task("ct", ("liver", "spleen", "kidney"), (-0.02, 0.06))),
    Task("abdomen_spleen_mr", "segmentation", _organ_task("mr", ("spleen",), (-0.25, -0.1), spleen_range=1.5)),
    Task("abdomen_lesions", "segmentation", _lesion_task),
    Task("abdomen_ct_to_pet", "translation", _pet_task),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: the same subjects in each modality, labels, and coronal cuts of volumes."""

    def draw(key):
        slices = [abdomen_slice(key, modality=modality) for modality in get_args(Modality)]
        volume = abdomen_volume(key, 96, 48, thickness_mm=5.0)["image"]
        return [each["image"][..., 0] for each in slices], slices[0]["labels"], volume[:, 44, :, 0]

    (ct, mr, pet), labels, coronal = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    return {
        "CT, level 60, width 350 HU": torso.windowed(ct, 60, 350),
        "MR-like": mr,
        "PET, 0 to 10 SUV": pet / 10,
        "labels": labels / (len(LABELS) - 1),
        "coronal cuts of CT volumes": torso.windowed(coronal, 60, 350),
    }
