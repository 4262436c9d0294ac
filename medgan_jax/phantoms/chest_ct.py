"""Computed tomography of the chest in HU, slices and volumes: lungs, heart, vessels, nodules, calcifications.

The body is a function of (z, y, x), evaluated in one slice or in many, so a slice of a volume is the slice at
its level. Lungs are what the cavity of the ribs leaves beside the mediastinum, the heart and the organs below
the diaphragm; vessels of the lungs are the lines in which two bent waves round the hilum both vanish. To see
an image, pass it through `torso.windowed`: level -500, width 1500 for lungs; level 40, width 400 for soft
tissue.

Lengths are in units of 180 mm (see `torso`); z runs from the lungs' apices at -0.75 to their bases at 0.7.

The population (mean, SD): half height 106 mm (7 %), half width 158 mm (7 %); fat 8 (3) mm; pose 0.05 rad and
5 mm; lungs -850 (25) HU, denser to the back by 60 HU as in the supine position; heart 125 (9) mm across;
level uniform from -90 to 110 mm where none is asked; blood 42 HU, with contrast medium 250 (60) HU in vessels
and chambers. Texture within soft tissue 5 HU besides the noise.
"""

import functools

import jax
import jax.numpy as jnp

from medgan_jax.phantoms import torso
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import average, ellipsoid, norm, tube
from medgan_jax.phantoms.tasks import Task

AIR, FAT, MUSCLE, BONE, LUNG, MEDIASTINUM, HEART, VESSEL, AIRWAY, LIVER, NODULE, CALCIFICATION = range(12)
LABELS = {
    "air": AIR,
    "fat": FAT,
    "muscle": MUSCLE,
    "bone": BONE,
    "lung": LUNG,
    "mediastinum": MEDIASTINUM,
    "heart": HEART,
    "vessel": VESSEL,
    "airway": AIRWAY,
    "liver": LIVER,
    "nodule": NODULE,
    "calcification": CALCIFICATION,
}
SMALLEST_GRID = 128
MOST_NODULES, MOST_CALCIFICATIONS, LOW_CONTRAST_LESIONS = 3, 6, 4
# Agatston's weights by the peak attenuation of a calcification (Agatston et al., JACC 15, 1990).
WEIGHT_STEPS = (130.0, 200.0, 300.0, 400.0)

NUMBERS = {
    "level": 1,
    "pose": 4,
    "body": 5,
    "heart": 7,
    "vessels": 8,
    "values": 8,
    "ribs": 2,
    "nodules": 6 * MOST_NODULES,
    "calcifications": 5 * MOST_CALCIFICATIONS,
    "low_contrast": 5 * LOW_CONTRAST_LESIONS,
}
SPANS = {"smooth": (4, 4, 6), "medium": (6, 9, 6), "fine": (8, 20, 6), "texture": (12, 44, 2)}


def chest_ct_slice(
    key: jax.Array,
    size: int = 256,
    *,
    level: jax.Array | float | None = None,
    contrast: bool | jax.Array = False,
    nodules: bool | jax.Array = False,
    calcifications: int | jax.Array = 0,
    low_contrast: bool | jax.Array = False,
    noise: float | jax.Array = 20.0,
) -> dict[str, jax.Array]:
    """One subject's axial slice; `key` decides all about it; options add to it and change nothing else.

    level: z of the slice between -0.6 and 0.7, drawn where None. contrast: contrast medium in blood. nodules:
    1 to 3 solid nodules of 3 to 12 mm radius. calcifications: how many inserts, 0 to 6, of 130 to 900 HU and
    2 to 8 mm diameter lie in the mediastinum. low_contrast: 4 discs of 5 to 15 HU above or below it, of 3 to
    9 mm radius. noise: standard deviation in HU in soft tissue, correlated as filtered back-projection
    correlates it; 0 for a clean slice, as simulated acquisitions want. All but `size` may be traced.

    Returns, for `size` = H = W: `image` `(H, W, 1)` in HU; `labels` `(H, W)` int32, see `LABELS`; bool masks
    `lung_mask`, `nodule_mask`, `calcification_mask`, `low_contrast_mask` `(H, W)`; `agatston` `()`, the true
    score for a slice 3 mm thick; `level` `()`. Raises `ValueError` for a size below 16.
    """
    return _draw(key, (size, size), level, 3.0, contrast, nodules, calcifications, low_contrast, noise)


def chest_ct_volume(
    key: jax.Array,
    size: int = 64,
    slices: int = 8,
    *,
    thickness_mm: float = 3.0,
    level: jax.Array | float | None = None,
    contrast: bool | jax.Array = False,
    nodules: bool | jax.Array = False,
    calcifications: int | jax.Array = 0,
    low_contrast: bool | jax.Array = False,
    noise: float | jax.Array = 20.0,
) -> dict[str, jax.Array]:
    """`slices` touching slices of `thickness_mm` round `level`, with the options of `chest_ct_slice`.

    Arrays are `(D, H, W)` with D = `slices`, `image` `(D, H, W, 1)`; inserts are spheres and `agatston` their
    score over the volume, scaled from slices of 3 mm as is the custom.
    """
    shape = (slices, size, size)
    return _draw(key, shape, level, thickness_mm, contrast, nodules, calcifications, low_contrast, noise)


def _draw(key, shape, level, thickness, contrast, nodules, calcifications, low_contrast, noise):
    """What `chest_ct_slice` and `chest_ct_volume` return."""
    size, rank = shape[-1], len(shape)
    if size < 16:
        raise ValueError(f"a chest needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-SMALLEST_GRID // size) if rank == 2 else 1
    shape = (*shape[:-2], size * factor, size * factor)
    chance = Chance(key, NUMBERS, {}, shape)
    if level is None:
        level = -0.5 + 1.1 * chance.uniform("level")[0]
    step = thickness / torso.FIELD_OF_VIEW_MM * 2
    z = level + (step * (jnp.arange(shape[0]) - (shape[0] - 1) / 2) if rank == 3 else 0.0)
    fields = torso.fields_at(jax.random.fold_in(key, 1), SPANS, z, shape)
    pose = chance.normal("pose") * jnp.array([0.05, 0.03, 0.03, 0.0])
    y, x = torso.pixel_coordinates(shape, pose)
    z = z[:, None, None] if rank == 3 else z
    y = y + 0.012 * fields["smooth"][0] + 0.003 * fields["medium"][0]
    x = x + 0.012 * fields["smooth"][1] + 0.003 * fields["medium"][1]
    regions = _regions(chance, z, y, x, fields)
    softness = max(2 / shape[-1], 0.006)
    bed = torso.table(shape, 0.70)
    layers = [(0.007 - jnp.abs(bed), -250.0, AIR), (0.004 - jnp.abs(bed - 0.10), -700.0, AIR)]
    layers += _layers(chance, z, y, x, regions, fields, contrast)
    spots = _nodules(chance, z, y, x, regions, fields, nodules, level, rank)
    inserts, scores = _calcifications(chance, z, y, x, regions, calcifications, level, thickness, shape)
    layers += [(spots[i], value, NODULE) for i, value in enumerate(_nodule_values(chance))]
    image, labels = torso.paint_tissues(layers, shape, (torso.AIR_HU, AIR), softness)
    discs = _low_contrast(chance, z, y, x, regions, low_contrast, level, rank)
    image = image + discs.sum(0)
    painted = [(inside, value, CALCIFICATION) for inside, value in inserts]
    image, labels = torso.paint_tissues(painted, shape, (image, labels), softness)
    image = torso.spread(image + _tissue_texture(labels, fields), rank)
    image = image + noise * _noise_profile(regions) * torso.scanner_noise(
        chance.noise(*shape), shape[-1], rank
    )
    middle = (..., slice(factor // 2, None, factor), slice(factor // 2, None, factor))
    labels = labels[middle]
    return {
        "image": (average(image, factor) if rank == 2 else image)[..., None],
        "labels": labels,
        "lung_mask": (regions["lungs"] > 0)[middle],
        "nodule_mask": labels == NODULE,
        "calcification_mask": labels == CALCIFICATION,
        "low_contrast_mask": jnp.any(discs != 0, axis=0)[middle],
        "agatston": scores,
        "level": jnp.asarray(level, jnp.float32),
    }


def _regions(chance: Chance, z, y, x, fields: dict) -> dict[str, jax.Array]:
    """Signed distances to body, muscle, cavity, lungs, mediastinum, heart and the organs below."""
    tall, wide, fat, round_, deep = chance.normal("body")
    shoulder = jax.nn.sigmoid((-0.42 - z) / 0.06)
    high = 0.59 * jnp.exp(0.07 * tall) * (1 - 0.12 * shoulder)
    broad = 0.88 * jnp.exp(0.07 * wide) * (1 + 0.12 * shoulder)
    power = 2.5 + 0.15 * round_
    body = torso.superellipse(y, x, (high, broad), power)
    fat = jnp.exp(0.4 * fat) * (0.045 + 0.02 * fields["smooth"][2] + 0.03 * jax.nn.relu(-y))
    narrow = jnp.sqrt(jnp.clip(1 - jnp.square((z - 0.35) / 1.12), 0.02, 1))
    inner = (high - 0.135 - 0.02 * deep) * narrow, (broad - 0.145 - 0.07 * shoulder) * narrow**1.3
    cavity = torso.superellipse(y + 0.035, x, inner, 2.3) + 0.005 * fields["medium"][2]
    heart = _heart(chance, z, y, x, inner)
    trunk = ellipsoid((y, x), (-0.06, 0.0), (0.34, 0.16 + 0.03 * chance.normal("heart")[6]))
    septum = jnp.minimum(0.045 + 0.02 * fields["smooth"][3] - jnp.abs(x - 0.02), 0.05 - y)
    behind = ellipsoid((y, x), (high - 0.27, 0.02), (0.16, 0.15))
    hull = [
        jnp.minimum(trunk, jnp.broadcast_to((0.35 - z) * 0.5, trunk.shape)),
        septum,
        behind,
        heart + 0.012,
    ]
    hull = functools.reduce(jnp.logaddexp, [25 * part for part in hull]) / 25 - 0.012
    right = (
        ellipsoid((z, y, x), (0.98, -0.02, -0.30), (0.50, inner[0] * 1.05, 0.45)) + 0.01 * fields["smooth"][4]
    )
    left = ellipsoid((z, y, x), (1.05, 0.02, 0.30), (0.48, inner[0] * 1.0, 0.42)) + 0.01 * fields["smooth"][5]
    below = jnp.minimum(jnp.maximum(right, left), cavity)
    outside = jnp.minimum(jnp.minimum(body - fat, 1.0), body)
    return {
        "body": body,
        "flesh": outside,
        "cavity": cavity,
        "mediastinum": jnp.minimum(hull, cavity),
        "lungs": jnp.minimum(cavity, jnp.minimum(-hull, -below)),
        "heart": jnp.minimum(heart, cavity - 0.012),
        "liver": jnp.minimum(right, cavity),
        "stomach": jnp.minimum(left, cavity),
        "back": inner[0] - 0.035,
        "spine": high - 0.32 - 0.5 * jnp.mean(fat),
        "shoulder": shoulder,
        "broad": broad,
        "high": high,
    }


def _heart(chance: Chance, z, y, x, inner) -> jax.Array:
    """Signed distance to the heart, an ellipsoid that points forwards and to the left."""
    along, down, right, long, short, tilt, _ = chance.normal("heart")
    centre = 0.36 + 0.03 * along, -0.10 + 0.02 * down, 0.10 + 0.02 * right
    radii = 0.34, 0.235 * jnp.exp(0.08 * short), 0.335 * jnp.exp(0.08 * long)
    return ellipsoid((z, y, x), centre, radii, -0.45 + 0.1 * tilt)


def _layers(chance: Chance, z, y, x, regions: dict, fields: dict, contrast) -> list:
    """Tissues in the order of painting: (signed distance, HU, label)."""
    values = chance.normal("values")
    contrast = jnp.asarray(contrast)
    blood = 42 + contrast * (210 + 60 * values[0])
    air = -850 + 25 * values[1] + 75 * y + 25 * fields["medium"][3] + 12 * fields["texture"][0]
    muscle = torso.MUSCLE_HU + 4 * values[2]
    spine = torso.vertebra(y, x, regions["spine"], 0.92 * jnp.exp(0.06 * values[3]))
    angle = jnp.arctan2(jnp.abs(x), -(y + 0.03))
    bend = 0.3 * fields["medium"][4] + 0.5 * jnp.sign(x) * chance.normal("ribs")[0]
    rib, rib_marrow = torso.rib_sections(-regions["cavity"], angle, z, bend, 0.021)
    rib = jnp.minimum(rib, jnp.abs(x) - 0.09)
    layers = [
        (regions["body"], torso.SKIN_HU, FAT),
        (regions["body"] - 0.012, torso.FAT_HU + 8 * fields["fine"][0], FAT),
        (regions["flesh"], muscle + 6 * fields["fine"][1], MUSCLE),
        *_wall_fat(y, x, regions, fields),
        (regions["cavity"], torso.FAT_HU, MEDIASTINUM),
        (regions["lungs"], air, LUNG),
        (
            jnp.minimum(_lung_vessels(z, y, x, fields), regions["lungs"] - 0.004),
            40 + 0.5 * (blood - 42),
            LUNG,
        ),
        (regions["liver"], 58 + 8 * values[4] + 45 * contrast, LIVER),
        (regions["stomach"], 45 + 5 * values[5] + 50 * contrast, LIVER),
        *_cardiac(chance, z, y, x, regions, blood, contrast),
        *_great_vessels(chance, z, y, x, regions, blood),
        *_scapulae(z, y, x, regions, fields),
        (rib, torso.CORTICAL_HU * 0.75, BONE),
        (jnp.minimum(rib_marrow, rib), torso.MARROW_HU, BONE),
        (_sternum(y, x, regions), 0.5 * torso.CORTICAL_HU, BONE),
        (_sternum(y, x, regions) - 0.010, torso.MARROW_HU - 40, BONE),
        (spine["bone"], 0.7 * torso.CORTICAL_HU, BONE),
        (spine["marrow"], torso.MARROW_HU + 60 * values[6] + 60 * fields["fine"][2], BONE),
        (spine["canal"], 30.0, MUSCLE),
    ]
    return layers


def _wall_fat(y, x, regions: dict, fields: dict) -> list:
    """Planes of fat between the muscles of the back and of the chest's wall."""
    wall = jnp.minimum(regions["flesh"], -regions["cavity"] - 0.062)
    plane = 0.009 - jnp.abs(-regions["cavity"] - 0.085 - 0.02 * fields["medium"][5])
    back = 0.008 - jnp.abs(y - regions["back"] - 0.13 - 0.05 * jnp.abs(x) - 0.01 * fields["medium"][4])
    streaks = 0.010 * fields["fine"][3] - 0.012
    return [(jnp.minimum(wall, jnp.maximum(jnp.maximum(plane, back), streaks)), -85.0, FAT)]


def _lung_vessels(z, y, x, fields: dict) -> jax.Array:
    """Signed distance to the vessels of the lungs, thinner with the distance from the hilum."""
    down, out = y - 0.02, jnp.abs(x) - 0.17
    along = z - 0.08
    distance = norm(along, down, out) + 0.02
    within = norm(down, out)
    azimuth, elevation = jnp.arctan2(down, out), jnp.arctan2(along, within)
    side = jnp.where(x > 0, 2.0, 0.0)
    tubes = []
    for lines, rings, radius, start, bends in (
        (3, 3, 0.034, -0.1, (fields["medium"][2], fields["medium"][0])),
        (5, 6, 0.022, 0.1, (1.2 * fields["medium"][1] + 0.7 * fields["fine"][4], 1.3 * fields["medium"][5])),
        (10, 12, 0.017, 0.2, (1.6 * fields["fine"][5] + fields["medium"][3], 1.5 * fields["fine"][0])),
        (19, 22, 0.013, 0.3, (2.2 * fields["fine"][1] + fields["fine"][4], 2.0 * fields["fine"][3])),
    ):
        around = jnp.cos(lines * azimuth + bends[0] + side) * within / lines
        upright = jnp.cos(rings * elevation + bends[1] - side) * distance / rings
        thin = radius * jnp.exp(-distance / 0.5) * jnp.clip((distance - start) / 0.1, -1, 1)
        tubes.append(thin - norm(around, upright))
    return functools.reduce(jnp.maximum, tubes)


def _cardiac(chance: Chance, z, y, x, regions: dict, blood, contrast) -> list:
    """Heart muscle and, visible with contrast medium, its four chambers; fat round them."""
    heart = regions["heart"]
    chambers = [
        ellipsoid((z, y, x), (0.42, -0.06, 0.22), (0.20, 0.10, 0.13), -0.45),
        ellipsoid((z, y, x), (0.42, -0.19, 0.03), (0.22, 0.075, 0.15), -0.3),
        ellipsoid((z, y, x), (0.22, 0.05, 0.06), (0.14, 0.075, 0.13), 0.1),
        ellipsoid((z, y, x), (0.32, -0.06, -0.14), (0.18, 0.11, 0.08), 0.1),
    ]
    chambers = functools.reduce(jnp.maximum, chambers)
    return [
        (heart, 45 + 45 * contrast, HEART),
        (jnp.minimum(chambers, heart - 0.02), blood, HEART),
    ]


def _great_vessels(chance: Chance, z, y, x, regions: dict, blood) -> list:
    """Aorta, caval vein, pulmonary arteries, oesophagus, trachea and main bronchi."""
    wide, *moves = chance.normal("vessels")
    moves = 0.012 * jnp.stack(moves)
    r = 0.078 * jnp.exp(0.12 * wide)
    place = z, y, x
    rising = (0.30, -0.06, -0.01), (-0.16, -0.14 + moves[0], -0.07 + moves[1])
    top = rising[1], (-0.24, 0.03, 0.05)
    turn = (-0.24, 0.03, 0.05), (-0.17, 0.17 + moves[2], 0.13 + moves[3])
    falling = turn[1], (1.2, 0.21, 0.07)
    vessels = torso.tubes(
        place,
        [
            (*rising, (r, 0.92 * r)),
            (*top, (r, 0.92 * r)),
            (*turn, (r, 0.92 * r)),
            (*falling, (0.88 * r, 0.72 * r)),
            ((0.18, -0.17, 0.06), (-0.03, -0.06, 0.10 + moves[4]), (0.075, 0.07)),
            ((-0.03, -0.06, 0.08), (0.0, 0.03, -0.20), (0.06, 0.05)),
            ((-0.03, -0.06, 0.10), (0.02, 0.07, 0.24), (0.06, 0.045)),
            ((-0.6, -0.10, -0.13), (0.22, -0.09 + moves[5], -0.16), (0.04, 0.055)),
            *(
                ((-0.24, -0.04, out), (-0.75, -0.02, 2.2 * out), (0.035, 0.028))
                for out in (-0.06, 0.03, 0.08)
            ),
        ],
    )
    carina = -0.06, 0.06 + moves[6], 0.0
    airway = torso.tubes(
        place,
        [
            ((-1.0, 0.04, 0.0), carina, (0.045, 0.047)),
            *((carina, (0.12, 0.08, side * 0.20), (0.036, 0.026)) for side in (-1, 1)),
        ],
    )
    gullet = ellipsoid((y, x), (0.145 + moves[2], 0.03), (0.028, 0.04))
    inside = regions["cavity"] - 0.005
    return [
        (jnp.minimum(gullet, inside), 40.0, MEDIASTINUM),
        (jnp.minimum(vessels, inside), blood, VESSEL),
        (jnp.minimum(airway + 0.010, inside), 20.0, AIRWAY),
        (jnp.minimum(airway, inside), -990.0, AIRWAY),
    ]


def _sternum(y, x, regions: dict) -> jax.Array:
    """Signed distance to the breastbone, before the cavity."""
    return ellipsoid((y, x), (-(regions["back"] + 0.10), 0.0), (0.036, 0.11)) - 0.02 * regions["shoulder"]


def _scapulae(z, y, x, regions: dict, fields: dict) -> list:
    """Shoulder blades behind the upper ribs."""
    apart = jnp.abs(x)
    upper = jax.nn.sigmoid((0.05 - z) / 0.05)
    blade = tube((y, apart), (0.40, 0.42), (0.12 - 0.1 * regions["shoulder"], 0.72), (0.016, 0.026))
    blade = jnp.minimum(blade, regions["flesh"] - 0.01) - 0.03 * (1 - upper)
    return [(blade, 0.6 * torso.CORTICAL_HU, BONE), (blade - 0.009, torso.MARROW_HU, BONE)]


def _nodules(chance: Chance, z, y, x, regions: dict, fields: dict, nodules, level, rank: int) -> jax.Array:
    """Signed distances `(3, ...)` to nodules in the lungs, negative everywhere for absent ones."""
    numbers = jax.scipy.stats.norm.cdf(chance.normal("nodules")).reshape(6, MOST_NODULES)
    numbers = numbers.reshape(6, MOST_NODULES, *(1,) * rank)
    side = jnp.where(numbers[0] > 0.5, 1.0, -1.0)
    centre = -0.22 + 0.42 * numbers[1], side * (0.30 + 0.20 * numbers[2])
    radius = 0.018 + 0.048 * numbers[3] ** 1.5
    depth = z - level - 0.05 * (numbers[4] - 0.5) if rank == 3 else 0.0
    spots = radius - norm(depth, y - centre[0], x - centre[1]) + 0.006 * fields["fine"][4]
    present = jnp.asarray(nodules) & (
        (numbers[5] < 0.5) | (jnp.arange(MOST_NODULES) == 0).reshape(-1, *(1,) * rank)
    )
    return jnp.where(present, jnp.minimum(spots, regions["cavity"]), -1.0)


def _nodule_values(chance: Chance) -> jax.Array:
    """HU `(3,)` of the nodules."""
    return 30 + 25 * chance.normal("nodules")[-MOST_NODULES:]


def _calcifications(
    chance: Chance, z, y, x, regions, count, level, thickness: float, shape
) -> tuple[list, jax.Array]:
    """`(signed distance, HU)` of each insert and the true Agatston score of all."""
    numbers = jax.scipy.stats.norm.cdf(chance.normal("calcifications")).reshape(5, MOST_CALCIFICATIONS)
    angle = (jnp.arange(MOST_CALCIFICATIONS) + 0.5 * (numbers[0] - 0.5)) * 2 * jnp.pi / MOST_CALCIFICATIONS
    away = 0.09 + 0.05 * numbers[1]
    centre = -0.10 + away * jnp.sin(angle), 0.06 + away * jnp.cos(angle)
    diameter = 2 + 6 * numbers[2]
    values = 130 + 770 * numbers[3] ** 2
    unit = torso.FIELD_OF_VIEW_MM / 2
    radius = diameter / 2 / unit
    slab = 0.5 * shape[0] * thickness / unit if len(shape) == 3 else 0.0
    depth = level + slab * (numbers[4] - 0.5)
    present = jnp.arange(MOST_CALCIFICATIONS) < count
    weight = sum((values >= step).astype(jnp.float32) for step in WEIGHT_STEPS)
    levels = jnp.reshape(z, (-1, 1)) if len(shape) == 3 else jnp.reshape(jnp.asarray(level), (1, 1))
    area = jnp.pi * jnp.clip(jnp.square(radius) - jnp.square(levels - depth), 0) * unit**2
    score = jnp.sum(jnp.where(present, area * weight, 0)) * thickness / 3
    inserts = []
    for i in range(MOST_CALCIFICATIONS):
        away = (z - depth[i],) if len(shape) == 3 else ()
        inside = radius[i] - norm(*away, y - centre[0][i], x - centre[1][i])
        inserts.append((jnp.where(present[i], inside, -1.0), values[i]))
    return inserts, score


def _low_contrast(chance: Chance, z, y, x, regions: dict, present, level, rank: int) -> jax.Array:
    """HU that faint discs (spheres in volumes) in the mediastinum add, `(4, ...)`."""
    numbers = jax.scipy.stats.norm.cdf(chance.normal("low_contrast")).reshape(5, LOW_CONTRAST_LESIONS)
    numbers = numbers.reshape(5, LOW_CONTRAST_LESIONS, *(1,) * rank)
    angle = (jnp.arange(LOW_CONTRAST_LESIONS).reshape(-1, *(1,) * rank) + 0.6 * numbers[0]) * jnp.pi / 2
    centre = -0.10 + 0.09 * jnp.sin(angle), 0.08 + 0.11 * jnp.cos(angle)
    radius = 0.018 + 0.032 * numbers[1]
    height = (5 + 10 * numbers[2]) * jnp.where(numbers[3] > 0.5, 1.0, -1.0)
    depth = z - level if rank == 3 else 0.0
    inside = radius - norm(depth, y - centre[0], x - centre[1])
    return jnp.where((inside > 0) & jnp.asarray(present), height, 0.0)


def _tissue_texture(labels: jax.Array, fields: dict) -> jax.Array:
    """Structure within soft tissue, about 5 HU."""
    soft = (labels != AIR) & (labels != LUNG) & (labels != AIRWAY)
    return jnp.where(soft, 3.5 * fields["texture"][1] + 3.0 * fields["fine"][2], 0.0)


def _noise_profile(regions: dict) -> jax.Array:
    """How noise varies over the slice: most where rays are longest, about one in soft tissue."""
    return 0.55 + 0.6 * jnp.clip(regions["body"] / regions["high"], 0, 1)


def _denoising_task(key: jax.Array) -> dict[str, jax.Array]:
    """From a slice at a small fraction of the dose to the same slice without noise, in the soft-tissue window.

    At 50 and 100 HU a table of intensities comes within 1.3 and 1.8 times the error of the small network.
    """
    low, clean = (chest_ct_slice(key, 128, low_contrast=True, noise=noise) for noise in (180.0, 0.0))
    images = [torso.windowed(each["image"], 40, 400) for each in (low, clean)]
    soft = (clean["labels"] != AIR) & (clean["labels"] != LUNG)
    return {"input": images[0], "target": images[1], "weight": soft[..., None].astype(jnp.float32)}


TASKS = (Task("chest_ct_denoising", "translation", _denoising_task),)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: soft tissue and lung windows, nodules, inserts and a volume."""

    def draw(key):
        plain = chest_ct_slice(key)
        enhanced = chest_ct_slice(key, contrast=True, nodules=True)
        inserts = chest_ct_slice(key, level=0.25, calcifications=6, low_contrast=True, noise=0.0)
        volume = chest_ct_volume(key, 128, 24, thickness_mm=10.0, level=0.0, contrast=True)["image"]
        return plain["image"], enhanced["image"], inserts["image"], volume[:, 64], enhanced["labels"]

    plain, enhanced, inserts, coronal, labels = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    return {
        "soft tissue window": torso.windowed(plain[..., 0], 40, 400),
        "lung window": torso.windowed(plain[..., 0], -500, 1500),
        "contrast medium": torso.windowed(enhanced[..., 0], 40, 400),
        "nodules": torso.windowed(enhanced[..., 0], -500, 1500),
        "calcifications and low contrast, no noise": torso.windowed(inserts[..., 0], 50, 150),
        "coronal cut of a volume": torso.windowed(coronal[..., 0], 0, 1000),
        "labels": labels / (len(LABELS) - 1),
    }
