"""The male pelvis round the prostate, as T1- or T2-weighted MR and as CT show it, in slices and volumes.

Every subject is a pure function of a random key: `pelvis_slice(key, size)` and `pelvis_volume` compile, and
batch with `vmap`. A key gives the same subject at every level, modality and size, with a lesion or without,
registered. `prostate_mpmr` shows the gland alone in three contrasts.

Lengths are in mm, coordinates (z, y, x) from the middle of the prostate: z along the body to the feet, y to
the back (down in the image), x to the image's right. Organs are signed distances to warped ellipsoids and
tubes, painted in turn; the same layers carry MR signal, HU and acoustic properties.

The population (mean, standard deviation): body 330 by 216 mm (6 %); prostate 44 by 31 by 40 mm (9 % each, its
transition zone 22 %); bladder, by how full it is, 24 to 40 mm of radius; rectum 15.5 mm of radius (15 %),
with gas in 60 % of the subjects and stool in the others; pose 0.04 rad and 4 mm; T1 and T2 of each tissue
6 %; coil profile 12 %. Tissue values are text-book values at 3 T and 120 kVp, rounded.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import average, blur, ellipsoid, norm, paint, tube
from medgan_jax.phantoms.tasks import Task

Modality = Literal["t2", "t1", "ct"]
Layer = tuple[jax.Array, str, int]

NAMES = (
    "air", "fat", "muscle", "bone", "femoral_head", "vessel", "bladder", "rectum", "peripheral_zone",
    "transition_zone", "urethra", "lesion",
)  # fmt: skip
LABELS = {name: number for number, name in enumerate(NAMES)}
PROSTATE = tuple(LABELS[name] for name in ("peripheral_zone", "transition_zone", "urethra", "lesion"))
FIELD_OF_VIEW_MM = 360.0
# Attenuation, mean and SD of texture in HU; proton density, T1 and T2 in ms; diffusion in 1e-3 mm^2/s.
TISSUES = {
    "air": (-1000.0, 0.0, 0.00, 1000.0, 10.0, 1.0),
    "skin": (20.0, 15.0, 0.55, 800.0, 30.0, 1.0),
    "fat": (-105.0, 10.0, 0.75, 340.0, 108.0, 0.2),
    "muscle": (55.0, 10.0, 0.78, 1150.0, 36.0, 1.2),
    "cortical_bone": (1150.0, 90.0, 0.02, 500.0, 5.0, 0.5),
    "marrow": (230.0, 45.0, 0.55, 420.0, 58.0, 0.4),
    "cartilage": (120.0, 10.0, 0.60, 1100.0, 28.0, 1.0),
    "vessel": (45.0, 4.0, 0.06, 1500.0, 40.0, 2.0),
    "vein": (45.0, 4.0, 0.95, 1700.0, 130.0, 2.0),
    "bladder_wall": (38.0, 6.0, 0.80, 1100.0, 52.0, 1.3),
    "urine": (6.0, 2.0, 1.00, 3600.0, 900.0, 2.9),
    "rectal_wall": (40.0, 8.0, 0.80, 1150.0, 58.0, 1.3),
    "gas": (-960.0, 20.0, 0.00, 1000.0, 10.0, 1.0),
    "stool": (25.0, 90.0, 0.55, 700.0, 48.0, 0.9),
    "capsule": (42.0, 4.0, 0.75, 1200.0, 40.0, 1.2),
    "peripheral_zone": (40.0, 5.0, 0.92, 1750.0, 128.0, 1.65),
    "transition_zone": (44.0, 6.0, 0.86, 1450.0, 84.0, 1.30),
    "stroma": (45.0, 5.0, 0.80, 1250.0, 58.0, 1.10),
    "urethra": (38.0, 4.0, 0.95, 1900.0, 170.0, 1.70),
    "lesion": (44.0, 5.0, 0.84, 1450.0, 68.0, 1.00),
    "aggressive_lesion": (44.0, 5.0, 0.84, 1450.0, 66.0, 0.72),
}
# Repetition and echo time in ms, and the signal that shows at 1.
PROTOCOLS = {"t2": (4500.0, 100.0, 0.42), "t1": (600.0, 10.0, 0.62)}
# What fat suppression leaves of these in diffusion-weighted images.
SUPPRESSED, SUPPRESSION = ("fat", "skin", "marrow"), 0.1
# Diffusion weighting of the third channel of `prostate_mpmr`, s/mm^2, and its echo time.
HIGH_B, DIFFUSION_ECHO = 1400.0, 75.0

NUMBERS = {
    "body": 4, "pose": 4, "prostate": 8, "bladder": 4, "rectum": 6, "bones": 4, "lesion": 10, "contents": 4,
    "tissue": 2 * len(TISSUES), "noise": 2, "level": 1, "nodules": 20, "vessels": 8,
}  # fmt: skip
# Spans of the splines over 360 mm along the body and in the slice, and how many fields.
FIELDS = {"smooth": (5, 5, 6), "medium": (12, 14, 7), "fine": (24, 36, 5), "texture": (36, 90, 1)}
PROFILE_SPANS = 2
SMALLEST_GRID = 128
NODULES = 5


class Geometry(NamedTuple):
    """Where an image lies: shape `(D, H, W)`, sides of a voxel and place of the image's middle in mm."""

    shape: tuple[int, int, int]
    voxel: tuple[float, float, float]
    middle: tuple[jax.Array | float, float, float]

    def places(self) -> list[jax.Array]:
        """Coordinates in mm along each axis."""
        return [
            middle + voxel * (jnp.arange(side) - (side - 1) / 2)
            for side, voxel, middle in zip(self.shape, self.voxel, self.middle, strict=True)
        ]


class Anatomy(NamedTuple):
    """Layers to paint in turn (signed distance in mm, tissue, label), smooth fields, depth in the body."""

    layers: list[Layer]
    fields: dict[str, jax.Array]
    body: jax.Array
    chance: Chance


def pelvis_slice(
    key: jax.Array,
    size: int = 256,
    *,
    modality: Modality = "t2",
    level: jax.Array | float | None = None,
    lesion: bool | jax.Array = False,
    field_of_view_mm: float = FIELD_OF_VIEW_MM,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """One subject's axial slice; `key` decides all about it.

    level: z in mm, -45 (bladder) to 20 (apex of the prostate), drawn in -22 to 14 where None.
    field_of_view_mm: side of the image, down to 100, round the prostate; below 128 pixels an image is the
    average of a finer one. lesion: a tumour in the peripheral or transition zone, which a slice may miss.
    noise: as a multiple of the usual level.

    Returns, for `size` = H = W: `image` `(H, W, 1)`, for MR in about [0, 1], for CT in HU (window of soft
    tissue: level 40, width 400); `labels` `(H, W)` int32, see `LABELS`; bool masks `prostate_mask`,
    `lesion_mask`, `body_mask` `(H, W)`; `landmarks` `(4, 2)`, rows and columns in pixels of the middles of
    prostate, rectum and both femoral heads; `level` `()`. Raises `ValueError` for an unknown modality, a size
    below 16 or a field of view below 100 mm.
    """
    _check(modality)
    drawn = pelvis_modalities(
        key, size, level=level, lesion=lesion, field_of_view_mm=field_of_view_mm, noise=noise
    )
    image = drawn[modality]
    return {"image": image} | {name: value for name, value in drawn.items() if name not in get_args(Modality)}


def pelvis_modalities(
    key: jax.Array,
    size: int = 256,
    *,
    level: jax.Array | float | None = None,
    lesion: bool | jax.Array = False,
    field_of_view_mm: float = FIELD_OF_VIEW_MM,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """The slice of `pelvis_slice` in every modality: `t2`, `t1` and `ct` `(H, W, 1)` in place of `image`."""
    drawn = _draw(key, 1, size, level, lesion, field_of_view_mm, field_of_view_mm / size, noise)
    landmarks = drawn.pop("landmarks")[:, 1:]
    level = drawn.pop("level")
    return {name: value[0] for name, value in drawn.items()} | {"landmarks": landmarks, "level": level}


def pelvis_volume(
    key: jax.Array,
    size: int = 64,
    slices: int = 16,
    *,
    modality: Modality = "t2",
    level: jax.Array | float | None = None,
    lesion: bool | jax.Array = False,
    field_of_view_mm: float = FIELD_OF_VIEW_MM,
    thickness_mm: float = 3.0,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """`slices` touching slices of `thickness_mm` round `level`, with the options of `pelvis_slice`.

    Arrays are `(D, H, W)` with D = `slices`, `image` `(D, H, W, 1)`, `landmarks` `(4, 3)` in voxels. Three
    slices as channels are what the 2D form of STRAINet takes.
    """
    _check(modality)
    drawn = _draw(key, slices, size, level, lesion, field_of_view_mm, thickness_mm, noise)
    image = drawn[modality]
    return {"image": image} | {name: value for name, value in drawn.items() if name not in get_args(Modality)}


def prostate_mpmr(
    key: jax.Array,
    size: int = 64,
    *,
    lesion: bool | jax.Array = True,
    aggressive: bool | jax.Array | None = None,
    field_of_view_mm: float = 64.0,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """The gland in three registered contrasts: T2-weighted, diffusion coefficient (ADC), high b-value.

    aggressive: kind of the lesion, drawn where None; both kinds have one distribution of place and size.
    Returns `image` `(H, W, 3)` in about [0, 1] (ADC in 3e-3 mm^2/s); `labels` `(H, W)`; bool
    `prostate_mask`, `lesion_mask` `(H, W)`, `aggressive` `()`, true only where a lesion is seen. Raises
    `ValueError` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"a prostate needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-64 // size)
    grid = size * factor
    chance = _chance(key)
    aggressive = chance.uniform("level")[0] > 0.5 if aggressive is None else jnp.asarray(aggressive)
    geometry = Geometry((1, grid, grid), (3.0, *[field_of_view_mm / grid] * 2), (_focus(chance)[0], 2.0, 0.0))
    anatomy = draw_anatomy(key, geometry, lesion, aggressive)
    _, _, density, t1, t2, diffusion = tissue_table(chance)
    repetition, echo, white = PROTOCOLS["t2"]
    recovered = density * (1 - jnp.exp(-repetition / t1))
    t2_weighted = recovered * jnp.exp(-echo / t2)
    left = np.array([SUPPRESSION if tissue in SUPPRESSED else 1.0 for tissue in TISSUES])
    weighted = left * recovered * jnp.exp(-DIFFUSION_ECHO / t2 - HIGH_B * 1e-3 * diffusion)
    values = jnp.stack([t2_weighted / white, diffusion / 3, weighted / 0.10], axis=-1)
    drawn, labels = paint_layers(anatomy, values, geometry)
    drawn = (drawn * _texture(anatomy, 1.0)[..., None])[0]
    level = noise * jnp.exp(0.2 * chance.normal("noise")[0]) * jnp.array([0.03, 0.05, 0.05])
    image = average(drawn, factor)
    # Diffusion is imaged on a coarser grid than T2.
    coarse = 1.2 * size / field_of_view_mm
    blurred = jnp.moveaxis(blur(jnp.moveaxis(image, -1, 0), [0.0, coarse, coarse]), 0, -1)
    image = jnp.where(np.arange(3) == 0, image, blurred) + level * chance.noise(size, size, 3)
    labels = labels[0, factor // 2 :: factor, factor // 2 :: factor]
    lesion_mask = labels == LABELS["lesion"]
    return {
        "image": jnp.clip(image, 0, 1.5),
        "labels": labels,
        "prostate_mask": is_prostate(labels),
        "lesion_mask": lesion_mask,
        "aggressive": aggressive & jnp.any(lesion_mask),
    }


def _check(modality: str) -> None:
    if modality not in get_args(Modality):
        raise ValueError(f"unknown modality '{modality}'; there are {', '.join(get_args(Modality))}")


def _draw(key, slices, size, level, lesion, field_of_view, thickness, noise):
    """What `pelvis_volume` returns, in every modality; the compiler drops those that are not asked for."""
    if size < 16 or slices < 1 or field_of_view < 100:
        raise ValueError(
            f"a pelvis needs a slice of 16 x 16 pixels over 100 mm, not {slices} of {size} x {size} over "
            f"{field_of_view:g} mm"
        )
    factor = -(-SMALLEST_GRID // size) if slices <= 3 else -(-64 // size)
    chance = _chance(key)
    level = 36 * chance.uniform("level")[0] - 22 if level is None else jnp.asarray(level, jnp.float32)
    # A small field of view lies round prostate and rectum.
    middle = 15.0 if field_of_view > 250 else 8.0
    grid = size * factor
    voxel = thickness, field_of_view / grid, field_of_view / grid
    geometry = Geometry((slices, grid, grid), voxel, (level, middle, 0.0))
    anatomy = draw_anatomy(key, geometry, lesion)
    hounsfield, rough, density, t1, t2, _ = tissue_table(chance)
    signals = [
        density * (1 - jnp.exp(-repetition / t1)) * jnp.exp(-echo / t2) / white
        for repetition, echo, white in PROTOCOLS.values()
    ]
    drawn, labels = paint_layers(anatomy, jnp.stack([hounsfield, rough, *signals], -1), geometry)
    images = {"ct": _computed_tomogram(anatomy, drawn, geometry, factor, noise)}
    for channel, modality in enumerate(PROTOCOLS, 2):
        images[modality] = magnetic_resonance(anatomy, drawn[..., channel], geometry, factor, noise)
    labels = labels[:, factor // 2 :: factor, factor // 2 :: factor]
    return {
        **{modality: image[..., None] for modality, image in images.items()},
        "labels": labels,
        "prostate_mask": is_prostate(labels),
        "lesion_mask": labels == LABELS["lesion"],
        "body_mask": labels != LABELS["air"],
        "landmarks": _landmarks(chance, geometry, factor),
        "level": level,
    }


def is_prostate(labels: jax.Array) -> jax.Array:
    """Which voxels belong to the prostate, its lesion included: bool of the shape of `labels`."""
    return (labels >= PROSTATE[0]) & (labels <= PROSTATE[-1])


def _chance(key: jax.Array) -> Chance:
    return Chance(key, NUMBERS, {}, ())


def draw_anatomy(
    key: jax.Array,
    geometry: Geometry,
    lesion: bool | jax.Array,
    aggressive: bool | jax.Array = False,
) -> Anatomy:
    """The subject's layers on the voxels of `geometry`, from the skin inwards."""
    chance = _chance(key)
    fields = _fields(key, geometry)
    # Barriers keep the compiler from computing what all layers share once for each of them.
    fields = jax.lax.optimization_barrier(fields)
    z, y, x = jax.lax.optimization_barrier(_body_coordinates(chance, geometry, fields))
    body = jax.lax.optimization_barrier(_body(chance, z, y, x))
    layers = _coats(body, fields) + _muscles(z, y, x, body, fields) + _bones(chance, z, y, x, fields)
    layers += _vessels(chance, z, y, x)
    layers += _bladder(chance, z, y, x, fields) + _rectum(chance, z, y, x, fields)
    layers += _prostate(chance, z, y, x, fields, lesion, aggressive)
    distances, *others = zip(*layers, strict=True)
    layers = list(zip(jax.lax.optimization_barrier(distances), *others, strict=True))
    return Anatomy(layers, fields, body, chance)


def _fields(key: jax.Array, geometry: Geometry) -> dict[str, jax.Array]:
    """Smooth random fields `(count, D, H, W)` of about unit variance, fixed to the body."""
    sizes = [count * (along + 5) * (within + 3) ** 2 for along, within, count in FIELDS.values()]
    total = sum(sizes) + (PROFILE_SPANS + 3) ** 2
    parts = jnp.split(jax.random.normal(jax.random.fold_in(key, 1), (total,)), np.cumsum(sizes))
    z, y, x = geometry.places()
    drawn = {}
    for part, (name, (along, within, count)) in zip(parts, FIELDS.items(), strict=False):
        coefficients = part.reshape(count, along + 5, within + 3, within + 3)
        weights = [_spline_weights(z, 120.0 / along, along + 5)]
        weights += [_spline_weights(line, FIELD_OF_VIEW_MM / within, within + 3) for line in (y - 15.0, x)]
        drawn[name] = jnp.einsum("ckmn,dk,hm,wn->cdhw", coefficients, *weights, optimize="optimal")
    # The coil's profile belongs to the image and not to the body.
    sides = [np.linspace(-180, 180, side) for side in geometry.shape[1:]]
    rows, columns = (_spline_weights(side, 360.0 / PROFILE_SPANS, PROFILE_SPANS + 3) for side in sides)
    drawn["profile"] = rows @ parts[-1].reshape(PROFILE_SPANS + 3, -1) @ columns.T
    return drawn


def _spline_weights(places: jax.Array, span: float, number: int) -> jax.Array:
    """Uniform cubic B-splines `(N, number)` at places in mm, knots `span` apart about 0, of unit variance."""
    offset = jnp.abs(places[:, None] / span - (np.arange(number) - (number - 1) / 2))
    near, far = 2 / 3 - offset**2 + offset**3 / 2, jnp.clip(2 - offset, 0, None) ** 3 / 6
    # The mean over a span of the sum of squares of uniform cubic B-splines is 151 / 315.
    return jnp.where(offset < 1, near, far) * np.sqrt(315 / 151)


def _body_coordinates(chance: Chance, geometry: Geometry, fields: dict[str, jax.Array]) -> tuple:
    """Coordinates (z, y, x) in mm, `(D, H, W)`, in a body that is turned, shifted and a little bent."""
    z, y, x = jnp.meshgrid(*geometry.places(), indexing="ij", sparse=True)
    turn, down, right = _pose(chance)
    y, x = y - down, x - right
    y, x = jnp.cos(turn) * y - jnp.sin(turn) * x, jnp.cos(turn) * x + jnp.sin(turn) * y
    smooth, medium = fields["smooth"], fields["medium"]
    y, x = y + 1.6 * smooth[0] + 0.5 * medium[0], x + 1.6 * smooth[1] + 0.5 * medium[1]
    return jnp.broadcast_to(z, x.shape), y, x


def _pose(chance: Chance) -> jax.Array:
    return jnp.clip(chance.normal("pose")[:3], -2.5, 2.5) * jnp.array([0.04, 4.0, 4.0])


def _body(chance: Chance, z: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Depth in mm below the skin: a rounded box with a cleft between the buttocks."""
    wide, deep = chance.normal("body")[:2] * 0.06 + 1
    across, along = jnp.abs(x) / (165 * wide), jnp.abs(y - 14) / (108 * deep)
    length = (across**2.6 + along**2.6 + 1e-9) ** (1 / 2.6)
    slope = norm(across**1.6 / (165 * wide), along**1.6 / (108 * deep)) / (length**1.6 + 1e-6)
    outline = (1 - length) / jnp.maximum(slope, 1 / 180)
    cleft = norm(x, jax.nn.relu(98 - 0.35 * z - y)) - 2.0
    return jnp.minimum(outline, cleft)


def _coats(body: jax.Array, fields: dict[str, jax.Array]) -> list[Layer]:
    """Skin, and the fat in which all else lies."""
    return [
        (body, "skin", LABELS["fat"]),
        (body - 2.0 - 0.4 * fields["fine"][0], "fat", LABELS["fat"]),
    ]


# Muscles of one side: middle, radii in mm, tilt of y and x.
MUSCLES = (
    ((0.0, 76.0, 62.0), (90.0, 24.0, 62.0), -0.35),  # gluteus maximus
    ((-30.0, 18.0, 132.0), (50.0, 34.0, 13.0), 0.15),  # gluteus medius
    ((10.0, -34.0, 128.0), (80.0, 26.0, 15.0), -0.35),  # tensor of the fascia
    ((0.0, -40.0, 98.0), (80.0, 16.0, 20.0), 0.3),  # iliopsoas
    ((0.0, -68.0, 104.0), (90.0, 12.0, 17.0), 0.2),  # rectus femoris and sartorius
    ((28.0, -42.0, 52.0), (28.0, 13.0, 27.0), -0.35),  # pectineus and external obturator
    ((2.0, 6.0, 54.0), (40.0, 38.0, 8.5), -0.12),  # internal obturator
    ((12.0, 44.0, 92.0), (26.0, 11.0, 30.0), 0.25),  # quadratus and gemelli
)


def _columns(rows) -> np.ndarray:
    """Numbers `(n,)` or vectors `(n, k)` as `(n, 1, 1, 1)` or `(k, n, 1, 1, 1)`, to broadcast with images."""
    return np.asarray(rows, np.float32).T[..., None, None, None]


def _muscles(z, y, x, body: jax.Array, fields: dict[str, jax.Array]) -> list[Layer]:
    side = jnp.sqrt(x * x + 4)
    ragged = 1.6 * fields["medium"][2] + 0.7 * fields["fine"][1]
    middles, radii, tilts = (_columns(part) for part in zip(*MUSCLES, strict=True))
    inside = jnp.max(ellipsoid((z, y, side), middles, radii, tilts), axis=0) + ragged
    # Levator ani: a sling round rectum and prostate.
    bowl = ellipsoid((z, y, x), (8.0, 16.0, 0.0), (46.0, 48.0, 36.0))
    sling = jnp.minimum(2.2 + 0.4 * fields["medium"][3] - jnp.abs(bowl), y + 12)
    # The straight muscles of the abdomen's wall, in front.
    wall = jnp.minimum(ellipsoid((z, y, side), (-60.0, -64.0, 22.0), (70.0, 8.0, 26.0)), body - 12)
    return [
        (jnp.minimum(jnp.maximum(inside, wall), body - 7), "muscle", LABELS["muscle"]),
        (sling, "muscle", LABELS["muscle"]),
    ]


# Bones of one side: tubes from and to a place with both radii, and balls with their radii.
HEAD = (-10.0, -4.0, 92.0)
TUBES = (
    (HEAD, (16.0, 2.0, 126.0), (15.0, 14.0)),  # neck of the femur
    ((-30.0, 22.0, 78.0), (20.0, 38.0, 66.0), (14.0, 11.0)),  # posterior column
    ((4.0, -44.0, 10.0), (-16.0, -28.0, 66.0), (12.0, 10.0)),  # upper and
    ((14.0, -40.0, 10.0), (40.0, 20.0, 48.0), (10.0, 9.0)),  # lower ramus of the pubis
)
BALLS = (
    (HEAD, (23.5, 23.5, 23.5)),
    ((18.0, 8.0, 132.0), (30.0, 21.0, 15.0)),  # greater trochanter
    (HEAD, (34.0, 33.0, 33.0)),  # acetabulum
    ((38.0, 40.0, 58.0), (26.0, 16.0, 14.0)),  # ischial tuber
)


def _bones(chance: Chance, z, y, x, fields: dict[str, jax.Array]) -> list[Layer]:
    """Pubis, ischium, acetabulum, femur and coccyx: cortex, marrow, and the joint's cartilage."""
    size = 1 + 0.04 * chance.normal("bones")[0]
    side = jnp.sqrt(x * x + 4)
    place = (z / size, y / size, side / size)
    starts, ends, radii = (_columns(part) for part in zip(*TUBES, strict=True))
    neck, *tubes = tube(place, starts, ends, radii)
    head, trochanter, cup, tuber = ellipsoid(place, *(_columns(part) for part in zip(*BALLS, strict=True)))
    femur = jnp.maximum(jnp.maximum(head, neck), trochanter)
    cup = jnp.minimum(cup, 88.0 - place[2] - 0.2 * place[1])
    coccyx = ellipsoid((z, y, x), (-22.0, 62.0, 0.0), (24.0, 9.0, 13.0))
    hip = jnp.max(jnp.stack([cup, tuber, coccyx, *tubes]), axis=0) + 0.5 * fields["medium"][4]
    hip, head, femur = jax.lax.optimization_barrier((hip, head, femur))
    joint = head + 3.0
    hip = jnp.minimum(hip, jnp.where(place[2] > 70, -joint, jnp.inf))
    cortex = 1.9 + 0.4 * fields["medium"][5]
    symphysis = jnp.minimum(ellipsoid((z, y, x), (10.0, -46.0, 0.0), (20.0, 15.0, 6.0)), 4.0 - jnp.abs(x))
    bone = LABELS["bone"]
    return [
        (jnp.minimum(joint, cup + 4), "cartilage", LABELS["muscle"]),
        (hip, "cortical_bone", bone),
        (hip - cortex, "marrow", bone),
        (symphysis, "cartilage", LABELS["muscle"]),
        (femur, "cortical_bone", bone),
        (head, "cortical_bone", LABELS["femoral_head"]),
        (femur - 1.3 - 0.3 * fields["medium"][5], "marrow", bone),
        (head - 1.3, "marrow", LABELS["femoral_head"]),
    ]


def _vessels(chance: Chance, z, y, x) -> list[Layer]:
    """Femoral artery and vein of both sides: no signal in the artery's flow, some in the vein."""
    shift = 2.0 * chance.normal("vessels")[:2]
    side = jnp.abs(x)
    artery = 4.5 - norm(y + 62 + 0.3 * z + shift[0], side - 78 + 0.2 * z)
    vein = 6.0 - norm(y + 58 + 0.3 * z + shift[0], side - 66 + 0.2 * z + shift[1])
    return [(vein, "vein", LABELS["vessel"]), (artery, "vessel", LABELS["vessel"])]


def _bladder(chance: Chance, z, y, x, fields: dict[str, jax.Array]) -> list[Layer]:
    """Urine and wall; a fuller bladder is larger, rises, and has a thinner wall."""
    full = chance.uniform("bladder")[0]
    lean, flat, neck = 0.08 * chance.normal("bladder")[1:]
    radius = 24 + 16 * full
    length = 0.95 * radius
    middle = (-10.0 - length * (1 + 0.3 * neck), -14.0 - 6 * full, 12 * lean)
    radii = (length, radius * (0.72 + flat), radius * (1.08 - flat))
    inside = ellipsoid((z, y, x), middle, radii, lean) + 1.2 * fields["medium"][2]
    wall = 4.5 - 2.2 * full
    label = LABELS["bladder"]
    return [(inside + wall, "bladder_wall", label), (inside, "urine", label)]


def _rectum(chance: Chance, z, y, x, fields: dict[str, jax.Array]) -> list[Layer]:
    """Wall and contents: gas above stool (in front, where air rises), or stool alone."""
    row, column, radius = rectum_of(chance)
    bend = 0.004 * jnp.square(z)
    kinds = chance.uniform("contents")
    down, across = y - row - bend - 0.12 * z, x - column - 3 * jnp.sin(z / 22 + 6 * kinds[1])
    flat = 1 + 0.10 * chance.normal("rectum")[3]
    radius = radius * (1 - 0.010 * jax.nn.relu(z))
    inside = radius - norm(down * flat, across / flat) + 1.2 * fields["medium"][3]
    surface = down + 0.35 * radius - 2.0 * radius * jnp.where(kinds[0] < 0.6, kinds[2], -1.0)
    label = LABELS["rectum"]
    lumen = inside - 3.2 - 0.4 * fields["fine"][2]
    return [
        (inside, "rectal_wall", label),
        (lumen, "stool", label),
        (jnp.minimum(lumen, -surface), "gas", label),
    ]


def rectum_of(chance: Chance) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Row, column and outer radius in mm of the rectum at the middle of the prostate."""
    size, left, back = jnp.clip(chance.normal("rectum")[:3], -2, 2)
    radius = 15.5 * (1 + 0.15 * size)
    return 15.5 * gland_scales(chance)[1] + 2.0 + radius + 0.6 * back, 2.0 * left, radius


def gland_scales(chance: Chance) -> jax.Array:
    """Scales of the prostate along z, y and x."""
    return jnp.exp(0.09 * jnp.clip(chance.normal("prostate")[:3], -2.5, 2.5))


def gland_distance(chance: Chance, z, y, x, fields: dict[str, jax.Array]) -> jax.Array:
    """Signed distance in mm to the prostate's surface, positive inside: flat towards the rectum."""
    high, deep, wide = gland_scales(chance)
    whole = ellipsoid((z, y, x), (0.0, 0.0, 0.0), (20 * high, 15.5 * deep, 22 * wide))
    hollow = y - (13.5 * deep - 2.4 * jnp.exp(-jnp.square(x / 8)))
    narrow = 0.35 * jax.nn.relu(z) * jnp.square(x / 23)
    return jnp.minimum(whole - narrow, -hollow) + 0.8 * fields["medium"][0] + 0.35 * fields["fine"][3]


def _prostate(chance, z, y, x, fields, lesion, aggressive) -> list[Layer]:
    """Capsule, zones with nodules, urethra, and a lesion."""
    whole = jax.lax.optimization_barrier(gland_distance(chance, z, y, x, fields))
    high, deep, wide = gland_scales(chance)
    growth = jnp.exp(0.22 * chance.normal("prostate")[3])
    side = jnp.abs(x)
    lobes = ellipsoid(
        (z, y, side),
        (-4.0, -3.5 * deep, 6.5 * wide * growth**0.5),
        (14 * high * growth**0.3, 8.5 * deep * growth**0.5, 8.5 * wide * growth**0.5),
    )
    transition = jnp.minimum(lobes + 0.9 * fields["medium"][1] + 0.5 * fields["fine"][4], whole - 1.5)
    urethra = 2.0 - norm(y + 2.0 * deep - 0.12 * z, x)
    stroma = jnp.minimum(ellipsoid((z, y, x), (0.0, -11.5 * deep, 0.0), (18.0, 5.0, 8.5)), whole - 0.5)
    low, down, right, size = chance.uniform("nodules").reshape(4, NODULES, 1, 1, 1)
    middle = (-14 + 20 * low, -3.5 * deep + 9 * (down - 0.5), 24 * wide * (right - 0.5))
    away = norm(z - middle[0], y - middle[1], x - middle[2])
    nodules = jnp.max((2.0 + 3.5 * size) * growth**0.4 - away, axis=0)
    knots = jnp.minimum(nodules + 0.5 * fields["fine"][4], transition - 0.6)
    # Veins lie round the gland, in front and beside it.
    around = jnp.minimum(whole + 6.5, 6.0 - y)
    plexus = jnp.minimum(around, 2.0 * (fields["fine"][1] - 1.0))
    layers = [
        (plexus, "vein", LABELS["vessel"]),
        (whole + 0.9, "capsule", LABELS["fat"]),
        (whole, "capsule", LABELS["peripheral_zone"]),
        (whole - 0.8, "peripheral_zone", LABELS["peripheral_zone"]),
        (transition + 0.7, "stroma", LABELS["transition_zone"]),
        (transition, "transition_zone", LABELS["transition_zone"]),
        (knots, "stroma", LABELS["transition_zone"]),
        (knots - 0.9, "urethra", LABELS["transition_zone"]),
        (stroma, "stroma", LABELS["transition_zone"]),
        (jnp.minimum(urethra, whole), "urethra", LABELS["urethra"]),
    ]
    middle, radii, tilt = _focus(chance), _lesion_radii(chance), np.pi * chance.uniform("lesion")[7]
    spot = ellipsoid((z, y, x), middle, radii, tilt) + 0.7 * fields["fine"][2]
    spot = jnp.where(jnp.asarray(lesion), jnp.minimum(spot, whole - 0.4), -1e3)
    kind = jnp.asarray(aggressive)
    label = LABELS["lesion"]
    return [
        *layers,
        (jnp.where(kind, -1e3, spot), "lesion", label),
        (jnp.where(kind, spot, -1e3), "aggressive_lesion", label),
    ]


def _focus(chance: Chance) -> jax.Array:
    """Middle (z, y, x) in mm of the lesion: in the peripheral zone in 70 % of the subjects."""
    zone, high, angle, left, down = chance.uniform("lesion")[:5]
    _, deep, wide = gland_scales(chance)
    turn = 1.35 * (2 * angle - 1)
    # The peripheral zone is a horseshoe open to the front.
    outer = jnp.stack([16 * high - 8, 10.0 * deep * jnp.cos(turn), 17.0 * wide * jnp.sin(turn)])
    inner = jnp.stack([14 * high - 10, (-6 + 5 * down) * deep, 20 * wide * (left - 0.5)])
    return jnp.where(zone < 0.7, outer, inner)


def _lesion_radii(chance: Chance) -> jax.Array:
    return 4.6 * jnp.exp(0.22 * jnp.clip(chance.normal("lesion")[5:8], -2, 2))


def tissue_table(chance: Chance) -> list[jax.Array]:
    """Columns of `TISSUES`, `(tissues,)` each, with a subject's own T1 and T2."""
    columns = [jnp.asarray(column, jnp.float32) for column in zip(*TISSUES.values(), strict=True)]
    scatter = jnp.exp(0.06 * chance.normal("tissue")).reshape(2, -1)
    return [*columns[:3], columns[3] * scatter[0], columns[4] * scatter[1], columns[5] * scatter[1]]


def paint_layers(anatomy: Anatomy, values: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    """Values `(D, H, W, C)` from those of the tissues `(tissues, C)`, in the order of `TISSUES`; labels."""
    order = list(TISSUES)
    softness = max(geometry.voxel[1], 0.7)
    distances, tissues, labels = zip(*anatomy.layers, strict=True)

    def paint_one(state, layer):
        drawn, labels = state
        inside, value, label = layer
        return (paint(drawn, inside, value, softness), jnp.where(inside > 0, label, labels)), None

    # A loop, since fifty layers in one expression take long to compile.
    stacked = jnp.stack([jnp.broadcast_to(inside, geometry.shape) for inside in distances])
    outside = jnp.broadcast_to(values[0], (*geometry.shape, values.shape[-1]))
    start = outside, jnp.zeros(geometry.shape, jnp.int32)
    painted = values[np.array([order.index(tissue) for tissue in tissues])]
    return jax.lax.scan(paint_one, start, (stacked, painted, np.array(labels, np.int32)))[0]


def _texture(anatomy: Anatomy, strength: float) -> jax.Array:
    """What multiplies the signal `(D, H, W)`: structure within tissue."""
    fields = anatomy.fields
    fine = 0.03 * fields["fine"][0] + 0.09 * fields["texture"][0]
    return jnp.exp(strength * (0.03 * fields["smooth"][2] + fine))


def magnetic_resonance(anatomy, signal, geometry, factor, noise) -> jax.Array:
    """Magnitude image `(D, H, W)`; fat septa and muscle fibres are texture."""
    field = signal * _texture(anatomy, 1.0) * jnp.exp(0.12 * anatomy.fields["profile"])
    field = blur(field, [0.0, *[0.5 / geometry.voxel[1]] * 2])
    field = _decimated(field, factor)
    level = 0.028 * noise * jnp.exp(0.25 * anatomy.chance.normal("noise")[0])
    first, second = level * anatomy.chance.noise(2, *field.shape)
    # Urine is saturated, as windows have it.
    return jnp.clip(norm(field + first, second), 0, 1)


def _decimated(field: jax.Array, factor: int) -> jax.Array:
    """Means of blocks in each slice `(D, H, W)`."""
    depth, height, width = field.shape
    return field.reshape(depth, height // factor, factor, width // factor, factor).mean((2, 4))


def _computed_tomogram(anatomy, drawn, geometry, factor, noise) -> jax.Array:
    """HU `(D, H, W)`: texture, the scanner's point spread of 0.9 mm and correlated noise of 16 HU."""
    texture = 0.6 * anatomy.fields["fine"][0] + 0.8 * anatomy.fields["texture"][0]
    image = drawn[..., 0] + drawn[..., 1] * texture
    image = _decimated(blur(image, [0.0, *[0.9 / geometry.voxel[1]] * 2]), factor)
    pixel = geometry.voxel[1] * factor
    white = anatomy.chance.noise(*image.shape)
    sharp, broad = max(0.6 / pixel, 0.3), max(1.8 / pixel, 0.9)
    grain = blur(white, (0.0, sharp, sharp)) - 0.9 * blur(white, (0.0, broad, broad))
    grain = grain / jnp.sqrt(jnp.mean(jnp.square(grain)))
    level = 16 * jnp.exp(0.15 * anatomy.chance.normal("noise")[1])
    return jnp.clip(image + noise * level * grain, -1024, 3071)


def _landmarks(chance: Chance, geometry: Geometry, factor: int) -> jax.Array:
    """Voxels (slice, row, column) of the middles of prostate, rectum and the left and right femoral head."""
    row, column, _ = rectum_of(chance)
    size = 1 + 0.04 * chance.normal("bones")[0]
    zero = jnp.zeros(())
    head = [(-10 * size, -4 * size, side * 92 * size) for side in (-1, 1)]
    points = jnp.stack([jnp.stack(p) for p in [(zero, zero, zero), (zero, row, column), *head]])
    return to_voxels(in_image(chance, points), geometry, factor)


def in_image(chance: Chance, points: jax.Array) -> jax.Array:
    """Points `(N, 3)` of the body, in mm, as the subject's pose puts them into the image."""
    turn, down, right = _pose(chance)
    y = jnp.cos(turn) * points[:, 1] + jnp.sin(turn) * points[:, 2] + down
    x = jnp.cos(turn) * points[:, 2] - jnp.sin(turn) * points[:, 1] + right
    return jnp.stack([points[:, 0], y, x], -1)


def gland_at(anatomy: Anatomy, geometry: Geometry) -> jax.Array:
    """Signed distance in mm to the prostate's surface `(D, H, W)`, positive inside, at given voxels."""
    place = _body_coordinates(anatomy.chance, geometry, anatomy.fields)
    return gland_distance(anatomy.chance, *place, anatomy.fields)


def to_voxels(points: jax.Array, geometry: Geometry, factor: int = 1) -> jax.Array:
    """Points `(N, 3)` in mm as fractional voxels of an image `factor` times coarser than `geometry`."""
    voxel = jnp.asarray([geometry.voxel[0], *[side * factor for side in geometry.voxel[1:]]])
    sides = np.array([geometry.shape[0], *[side // factor for side in geometry.shape[1:]]])
    middle = jnp.stack([jnp.asarray(m, jnp.float32) for m in geometry.middle])
    return (points - middle) / voxel + (sides - 1) / 2


def windowed(hounsfield: jax.Array, level: float = 40.0, width: float = 400.0) -> jax.Array:
    """HU of any shape shown through a window, in [0, 1]."""
    return jnp.clip((hounsfield - level) / width + 0.5, 0, 1)


def _organs_task(key: jax.Array) -> dict[str, jax.Array]:
    """Bladder, prostate and rectum in three neighbouring slices, 180 mm wide and not centred on them."""
    drawn = pelvis_volume(key, 80, 3, field_of_view_mm=225.0)
    labels = drawn["labels"][1]
    organs = labels == LABELS["bladder"], is_prostate(labels), labels == LABELS["rectum"]
    corner = *jax.random.randint(jax.random.fold_in(key, 1), (2,), 0, 17), 0
    image, target = (
        jax.lax.dynamic_slice(whole, corner, (64, 64, 3))
        for whole in (jnp.moveaxis(drawn["image"][..., 0], 0, -1), jnp.stack(organs, axis=-1))
    )
    return {"input": image, "target": target.astype(jnp.float32)}


def _synthesis_task(key: jax.Array) -> dict[str, jax.Array]:
    """CT, a window of 2000 HU shown in [0, 1], from T2-weighted MR."""
    drawn = pelvis_modalities(key, 64, noise=0.5)
    return {
        "input": drawn["t2"],
        "target": windowed(drawn["ct"], 0.0, 2000.0),
        "weight": drawn["body_mask"][..., None].astype(jnp.float32),
    }


def _lesion_task(key: jax.Array) -> dict[str, jax.Array]:
    """The lesion of a prostate in three contrasts, so noisy that no joint intensity is a lesion's alone."""
    drawn = prostate_mpmr(key, 64, noise=1.6)
    return {"input": drawn["image"], "target": drawn["lesion_mask"][..., None].astype(jnp.float32)}


TASKS = (
    Task("pelvis_organs", "segmentation", _organs_task),
    Task("pelvis_mr_to_ct", "translation", _synthesis_task),
    Task("prostate_lesions", "segmentation", _lesion_task),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """MR and CT of the same subjects, small fields of view at three levels, the gland in three contrasts."""

    def draw(key):
        drawn = pelvis_modalities(key, 192, lesion=True)
        whole = {modality: drawn[modality][..., 0] for modality in get_args(Modality)}
        whole["ct"] = windowed(whole["ct"])
        whole["labels"] = drawn["labels"] / (len(LABELS) - 1)
        near = {
            f"t2, 160 mm, z = {level:g} mm": pelvis_slice(
                key, 160, level=level, field_of_view_mm=160.0, lesion=True
            )["image"][..., 0]
            for level in (-30.0, -10.0, 5.0)
        }
        gland = prostate_mpmr(key, 96)["image"]
        names = ("prostate t2", "prostate adc", "prostate high b")
        return whole | near | {name: gland[..., i] for i, name in enumerate(names)}

    return jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
