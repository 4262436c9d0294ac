"""Computed tomography of a procedural spine: labelled vertebrae, ribs and trunk, in a cropped field of view.

Every subject is a pure function of a key. Volumes are in Hounsfield units, axes (z, y, x): from the feet
upwards, from front to back, and across, with voxels of equal sides. The field of view shows a random part of
the column, so that levels have to be told by their form, their ribs and their neighbours, not by their place.

Vertebrae are told from discs along one coordinate, the level: it grows by one from each centre to the next,
along a curve with cervical and lumbar lordosis and thoracic kyphosis, and planes of equal level stand square
on that curve. Bodies, arches, processes and ribs are signed distances in millimetres about it.

The population (mean, SD): stature 7 %; every vertebra's height 3 %; curvatures 25 %; scoliosis 3 mm, 14 mm in
every eighth; density of spongy bone 170 (45) HU; width of bodies 6 %; pose 0.05 rad and 6 mm; body outline
8 %; noise 22 (5) HU. Heights and widths of vertebrae: Panjabi et al., Spine 16 and 17 (1991, 1992), rounded.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur, norm
from medgan_jax.phantoms.tasks import Task

NAMES = (
    *(f"C{number}" for number in range(1, 8)),
    *(f"T{number}" for number in range(1, 13)),
    *(f"L{number}" for number in range(1, 6)),
)
VERTEBRAE = len(NAMES)
SACRUM = VERTEBRAE + 1
LABELS = {"background": 0, **{name: number for number, name in enumerate(NAMES, 1)}, "sacrum": SACRUM}
FIRST_THORACIC, FIRST_LUMBAR = NAMES.index("T1"), NAMES.index("L1")

# At levels 0, 6, 7, 12, 18, 19 and 23 (C1, C7, T1, T6, T12, L1, L5), in mm: distance to the next centre, half
# width and half depth of the body, half width of the canal, length of spinous and of transverse processes.
ANCHORS = (0, 6, 7, 12, 18, 19, 23)
TABLE = {
    "pitch": (17.0, 18.0, 19.0, 23.0, 29.0, 32.0, 36.0),
    "width": (9.0, 11.5, 13.5, 14.0, 19.5, 21.5, 26.0),
    "depth": (7.0, 8.0, 8.5, 12.5, 15.0, 16.0, 17.5),
    "canal": (13.0, 12.0, 10.5, 8.5, 10.5, 11.0, 12.0),
    "spinous": (8.0, 30.0, 33.0, 36.0, 27.0, 30.0, 24.0),
    "transverse": (34.0, 30.0, 36.0, 29.0, 22.0, 38.0, 42.0),
}
# Place of the centres behind a vertical line, mm, at levels of a column.
CURVE = (
    (-3, -8.0),
    (0, -8.0),
    (3, -14.0),
    (6, -2.0),
    (12, 27.0),
    (18, 6.0),
    (21, -15.0),
    (23, -8.0),
    (27, 34.0),
)

NUMBERS = {
    "stature": 1,
    "heights": VERTEBRAE + 6,
    "curve": 4,
    "scoliosis": 3,
    "size": 4,
    "bone": 4,
    "pose": 6,
    "view": 1,
    "trunk": 6,
    "noise": 1,
}
FIELDS = {"bend": (5, 3), "organs": (5, 2), "spongy": (22, 1)}
# A signed distance in mm that is outside at every spacing.
OUTSIDE = -100.0
# Levels beyond the ends of the column that are drawn: two above, four of the sacrum below.
ABOVE, BELOW = 2, 4


def spine_volume(
    key: jax.Array,
    shape: Sequence[int] = (64, 64, 64),
    *,
    spacing: float = 4.0,
    noise: float | jax.Array = 22.0,
) -> dict[str, jax.Array]:
    """One subject's column, or the part of it that the field of view of `shape` times `spacing` mm shows.

    `noise` is the standard deviation of soft tissue in HU. A field of view taller than the column shows all
    of it. 64 voxels of 4 mm show 7 to 13 vertebrae.

    Returns, for `shape` = (D, H, W):

    * `image` `(D, H, W, 1)`: float32, HU; a window for bone is -200 to 900;
    * `labels` `(D, H, W)`: int32, see `LABELS`: 1 to 24 for C1 to L5, 25 the sacrum;
    * `centroids` `(24, 3)`: float32, centres of the vertebral bodies (C1: of its ring) in voxels (z, y, x);
    * `visible` `(24,)`: bool, whether that centre lies in the volume;
    * `bone_mask` `(D, H, W)`: bool, vertebrae, sacrum, ribs and sternum.

    Raises `ValueError` for sides below 16 voxels or a spacing that is not positive.
    """
    if len(shape) != 3 or min(shape) < 16:
        raise ValueError(f"a spine needs three sides of at least 16 voxels, not {tuple(shape)}")
    if spacing <= 0:
        raise ValueError(f"the spacing of voxels is a positive number of mm, not {spacing}")
    chance = Chance(key, NUMBERS, FIELDS, tuple(shape))
    column = _column(chance)
    middle = _middle(chance, column["height"], shape[0] * spacing)
    z, y, x = _coordinates(chance, shape, spacing, middle)
    level, behind, across = _about_the_column(column, z, y, x)
    soft = _soft_tissue(chance, level, y, x)
    bone, spongy, labels = _vertebrae(chance, column, level, behind, across, spacing)
    ribs = _ribs(chance, column, level, z, y, x)
    share = jnp.clip(0.5 + jnp.maximum(bone, ribs) / spacing, 0, 1)
    density, cortical = _bone_density(chance)
    inner = jnp.clip(0.5 + spongy / spacing, 0, 1)
    solid = cortical + inner * (density * (1 + 0.12 * chance.field("spongy")[0]) - cortical)
    image = soft + share * (solid - soft)
    image = _scanned(chance, image, noise)
    centroids = _centroids(chance, column, shape, spacing, middle)
    inside = (centroids >= -0.5) & (centroids <= jnp.array(shape) - 0.5)
    return {
        "image": image[..., None],
        "labels": labels,
        "centroids": centroids,
        "visible": inside.all(-1),
        "bone_mask": jnp.maximum(bone, ribs) > 0,
    }


def projections(volume: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sagittal `(D, H, 1)` and coronal `(D, W, 1)` maximum intensity projections of `(D, H, W, 1)`."""
    return volume.max(2), volume.max(1)


def heat_maps(
    centroids: jax.Array, visible: jax.Array, shape: Sequence[int], *, deviation: float = 1.5
) -> tuple[jax.Array, jax.Array]:
    """Sagittal `(D, H, 25)` and coronal `(D, W, 25)` targets: background, then a Gaussian at each centroid.

    deviation: in voxels. The background is what the highest of the others leaves of one. As Btrfly Net has
    it (Sekuboyina et al., MICCAI 2018), with the background first.
    """
    places = [np.arange(side, dtype=np.float32) for side in shape]

    def bell(axis: int) -> jax.Array:
        offset = places[axis][:, None] - centroids[:, axis]
        return jnp.exp(-jnp.square(offset / deviation) / 2)

    down, maps = bell(0) * visible, []
    for axis in (1, 2):
        bells = down[:, None] * bell(axis)[None]
        maps.append(jnp.concatenate([1 - bells.max(-1, keepdims=True), bells], axis=-1))
    return tuple(maps)


@functools.cache
def _table(name: str) -> np.ndarray:
    """A row of `TABLE` or the `CURVE` for levels -2 to 27."""
    levels = np.arange(-ABOVE, VERTEBRAE + BELOW)
    if name == "curve":
        rough = np.interp(np.linspace(-ABOVE, levels[-1], 300), *np.array(CURVE).T)
        kernel = np.exp(-0.5 * (np.arange(-30, 31) / 12) ** 2)
        smooth = np.convolve(np.pad(rough, 30, mode="edge"), kernel / kernel.sum(), mode="valid")
        return np.interp(levels, np.linspace(-ABOVE, levels[-1], 300), smooth)
    return np.interp(levels, ANCHORS, TABLE[name])


def _column(chance: Chance) -> dict[str, jax.Array]:
    """Per level, -2 to 27: height, place behind and across, sizes, all in mm; height 0 lies at T12."""
    stature = jnp.exp(0.07 * chance.normal("stature")[0])
    size = jnp.exp(jnp.array([0.06, 0.06, 0.06, 0.12]) * chance.normal("size"))
    pitch = stature * _table("pitch") * jnp.exp(0.03 * chance.normal("heights"))
    # Centres are half of each neighbour's height apart.
    steps = (pitch[1:] + pitch[:-1]) / 2
    height = -jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
    height = height - height[ABOVE + FIRST_LUMBAR - 1]
    bend = chance.normal("curve")
    behind = stature * _table("curve") * (1 + 0.25 * bend[0]) + 0.04 * bend[1] * height
    sway = chance.normal("scoliosis")
    amplitude = 3 * sway[0] + 14 * jnp.where(jnp.abs(sway[1]) > 1.53, jnp.sign(sway[1]), 0)
    across = amplitude * jnp.sin(0.011 * height / stature + 2 * sway[2])
    sizes = {name: stature * _table(name) for name in TABLE}
    return sizes | {
        "pitch": pitch,
        "height": height,
        "behind": behind,
        "across": across,
        "width": sizes["width"] * size[0],
        "depth": sizes["depth"] * size[1],
        "spinous": sizes["spinous"] * size[3],
    }


def _middle(chance: Chance, height: jax.Array, field_of_view: float) -> jax.Array:
    """Height of the middle of the field of view: anywhere that keeps most of it on the column."""
    top, bottom = height[ABOVE] + 15, height[ABOVE + VERTEBRAE - 1] - 25
    reach = jnp.maximum(top - bottom - 0.92 * field_of_view, 0) / 2
    return (top + bottom) / 2 + reach * (2 * chance.uniform("view")[0] - 1)


def _coordinates(chance: Chance, shape: Sequence[int], spacing: float, middle: jax.Array) -> tuple:
    """Millimetres `(D, H, W)`: upwards from T12, backwards from the column's vertical line, to the right."""
    deviates = chance.normal("pose")
    axes = [spacing * (np.arange(side, dtype=np.float32) - (side - 1) / 2) for side in shape]
    z, y, x = jnp.meshgrid(*axes, indexing="ij")
    y, x = y - _backwards(shape, spacing) - 6 * deviates[0], x - 6 * deviates[1]
    nod, lean = 0.04 * deviates[2], 0.03 * deviates[3]
    y, x = y + nod * z, x + lean * z
    z = z - nod * y - lean * x
    bend = 2.0 * chance.field("bend")
    return z + middle + bend[0], y + bend[1], x + bend[2]


def _backwards(shape: Sequence[int], spacing: float) -> float:
    """How far the column's vertical line lies behind the middle of the field of view, mm."""
    return min(0.14 * shape[1] * spacing, 45.0)


def _about_the_column(column: dict, z: jax.Array, y: jax.Array, x: jax.Array) -> tuple:
    """Level, and mm behind and to the right of the column's axis, of places `(D, H, W)`."""
    # Levels run downwards; interpolation wants rising places.
    levels = np.arange(VERTEBRAE + ABOVE + BELOW, dtype=np.float32)[::-1] - ABOVE
    height = column["height"][::-1]

    def along(name: str, at: jax.Array) -> jax.Array:
        return jnp.interp(at, height, column[name][::-1])

    slope = jnp.gradient(column["behind"]) / jnp.gradient(column["height"])
    tilt = jnp.interp(z, height, slope[::-1])
    lean = jnp.gradient(column["across"]) / jnp.gradient(column["height"])
    sideways = jnp.interp(z, height, lean[::-1])
    # A plane square on the curve is met at another height in front than behind.
    at = z + jnp.clip(tilt, -0.6, 0.6) * (y - along("behind", z)) + sideways * (x - along("across", z))
    level = jnp.interp(at, height, levels)
    return level, y - along("behind", at), x - along("across", at)


def _at(column: dict, name: str, level: jax.Array) -> jax.Array:
    return jnp.interp(level, np.arange(VERTEBRAE + ABOVE + BELOW, dtype=np.float32) - ABOVE, column[name])


def _vertebrae(
    chance: Chance, column: dict, level: jax.Array, behind: jax.Array, across: jax.Array, spacing: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Signed distances `(D, H, W)` to vertebrae and to the spongy bone within, and labels."""
    number = jnp.round(level)
    pitch, width, depth = (_at(column, name, level) for name in ("pitch", "width", "depth"))
    canal, spinous, transverse = (_at(column, name, level) for name in ("canal", "spinous", "transverse"))
    # Millimetres above the vertebra's centre; the body takes 0.78 of the pitch, discs the rest.
    up = (number - level) * pitch
    sacral = level > VERTEBRAE - 0.5
    waist = 1 - 0.10 * jnp.clip(1 - jnp.square(up / (0.39 * pitch)), 0, 1)
    radial = (1 - norm(across / (waist * width), behind / (waist * depth))) * depth
    radial = jnp.where(behind > 0, jnp.minimum(radial, 0.8 * depth - behind), radial)
    body = jnp.minimum(radial, jnp.where(sacral, 0.5 * pitch, 0.39 * pitch - jnp.abs(up)))
    # The first vertebra is a ring; the second's tooth stands in it.
    body = jnp.where((number == 0) & (jnp.abs(across) > 6), OUTSIDE, body)
    from_canal = behind - 0.8 * depth - 0.75 * canal
    ring = 4.0 - jnp.abs(norm(across / canal, from_canal / (0.75 * canal)) - 1) * canal
    arch = jnp.minimum(ring, 0.30 * pitch - jnp.abs(up - 0.08 * pitch))
    drooping = up + 0.35 * jnp.where((number >= FIRST_THORACIC) & (number < FIRST_LUMBAR), 2.0, 0.6) * (
        jnp.maximum(from_canal, 0) - 0.75 * canal
    )
    spine = jnp.minimum(3.2 - jnp.abs(across), 0.24 * pitch - jnp.abs(drooping))
    spine = jnp.minimum(spine, jnp.minimum(from_canal - 0.6 * canal, 0.75 * canal + spinous - from_canal))
    side = jnp.abs(across)
    swept = from_canal - 0.25 * jnp.maximum(side - canal, 0)
    wing = jnp.minimum(
        4.5 - norm(swept, 0.8 * (up - 0.1 * pitch)), jnp.minimum(side - canal, transverse - side)
    )
    processes = jnp.maximum(jnp.maximum(arch, spine), wing)
    sacrum = jnp.minimum(radial, (VERTEBRAE + 3.4 - level) * 20) + (38 - 7 * (level - VERTEBRAE)) * jnp.clip(
        1 - jnp.abs(behind) / (1.2 * depth), 0, 1
    ) * (side > 0.4 * width)
    sacrum = jnp.minimum(sacrum, (62 - 13 * jnp.maximum(level - VERTEBRAE, 0)) - side)
    bone = jnp.where(
        sacral, jnp.where(level < VERTEBRAE + 3.4, sacrum, OUTSIDE), jnp.maximum(body, processes)
    )
    bone = jnp.where(level < -0.6, OUTSIDE, bone)
    labels = jnp.where(sacral, SACRUM, number.astype(jnp.int32) + 1)
    # Plates at the ends and a shell around are compact.
    return bone, jnp.maximum(body, jnp.where(sacral, sacrum, OUTSIDE)) - 2.5, jnp.where(bone > 0, labels, 0)


def _ribs(
    chance: Chance, column: dict, level: jax.Array, z: jax.Array, y: jax.Array, x: jax.Array
) -> jax.Array:
    """Signed distance `(D, H, W)` to twelve pairs of ribs and the sternum."""
    half_width, half_depth, centre = _thorax(chance, level)
    right, down = x / half_width, (y - centre) / half_depth
    radius = norm(right, down)
    # From the spine (0) along the flank to the sternum (pi).
    angle = jnp.arctan2(jnp.abs(right), down)
    drop = 62.0 * (1 - jnp.cos(angle)) / 2 + 14 * jnp.sin(angle)
    height = column["height"][::-1]
    levels = np.arange(VERTEBRAE + ABOVE + BELOW, dtype=np.float32)[::-1] - ABOVE
    origin = jnp.interp(z + drop, height, levels)
    number = jnp.round(origin)
    off = (origin - number) * _at(column, "pitch", origin)
    shell = 0.8 * half_depth * (1 - radius)
    rib = 5.0 - norm(1.3 * (shell - 5), 0.8 * off)
    last = FIRST_LUMBAR - 1
    reach = jnp.where(
        number >= last - 1, 1.2 - 0.5 * (number - last + 1), 2.5 - 0.05 * (number - FIRST_THORACIC)
    )
    rib = jnp.where((number >= FIRST_THORACIC) & (number <= last), rib, OUTSIDE)
    rib = jnp.minimum(rib, half_depth * (reach - angle))
    sternum = jnp.minimum(5 - jnp.abs(shell - 6), 17 - jnp.abs(x))
    sternum = jnp.where(
        (y < centre) & (level > FIRST_THORACIC + 1) & (level < FIRST_THORACIC + 8), sternum, OUTSIDE
    )
    return jnp.maximum(rib, sternum)


def _thorax(chance: Chance, level: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Half width, half depth and centre (mm before the column's line) of the rib cage at a level."""
    build = jnp.exp(0.08 * chance.normal("trunk"))
    levels = (5.0, 7.0, 9.0, 13.0, 18.0, 23.0)
    width = build[0] * jnp.interp(level, np.array(levels), np.array((48.0, 70.0, 102.0, 132.0, 140.0, 138.0)))
    depth = build[1] * jnp.interp(level, np.array(levels), np.array((40.0, 52.0, 70.0, 92.0, 96.0, 92.0)))
    return width, depth, 38 - depth


def _soft_tissue(chance: Chance, level: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Hounsfield units `(D, H, W)` of the trunk without bones, and of the air around it."""
    half_width, half_depth, centre = _thorax(chance, level)
    fat = 14 + 6 * jnp.tanh(chance.normal("trunk")[2])
    organs = chance.field("organs")
    depth = half_depth * (1 - norm(x / half_width, (y - centre) / half_depth))
    back = 26 - norm(26 * x / half_width, y - 44) + 4 * organs[0]
    skin = jnp.maximum(depth, back) + fat
    # Domes of the diaphragm end the lungs; the heart lies between them, to the left.
    dome = 18.5 + 1.4 * jnp.tanh(chance.normal("trunk")[3])
    dome = dome - 3.5 * jnp.exp(-jnp.square((jnp.abs(x) - 70) / 55) - jnp.square((y - centre) / 75))
    apart = jnp.abs(x + 8) - 22 - 20 * jnp.clip((level - 10) / 4, 0, 1) * (x < 0) + 8 * organs[0]
    lungs = jnp.minimum(jnp.minimum(depth - 11, apart), 8 * jnp.minimum(level - 6.5, dome - level))
    belly = jnp.minimum(depth - 16, 10 * (level - dome - 0.3))
    liver = jnp.minimum(belly, x - 10 + 14 * organs[1])
    gas = jnp.minimum(jnp.minimum(belly - 6, 7 * (organs[0] - 1.1)), 6 * (level - 18.5))
    trachea = jnp.minimum(8 - norm(x, y - centre + 0.05 * half_depth), 8 * (11.5 - level))
    drawn = jnp.full(level.shape, -1000.0)
    layers = (
        (skin, -95.0),
        (jnp.maximum(depth, back), 52.0),
        (belly, 8.0 + 30.0 * organs[1]),
        (liver, 60.0),
        (lungs, -850.0 + 35 * organs[1]),
        (gas, -700.0),
        (trachea, -980.0),
    )
    for inside, value in layers:
        drawn = drawn + jnp.clip(0.5 + inside / 3.0, 0, 1) * (value - drawn)
    return drawn


def _bone_density(chance: Chance) -> tuple[jax.Array, jax.Array]:
    """HU of spongy and of compact bone; the latter thin, so that voxels share it."""
    deviates = chance.normal("bone")
    return jnp.maximum(170 + 45 * deviates[0], 70), 520 + 90 * deviates[1]


def _scanned(chance: Chance, image: jax.Array, noise: float | jax.Array) -> jax.Array:
    """The volume after a point spread of 0.4 voxels with noise of filtered back-projection."""
    white = chance.noise(*image.shape)
    blue = blur(white, (0.0, 0.6, 0.6)) - 0.8 * blur(white, (0.0, 2.0, 2.0))
    level = noise * (1 + 0.22 * jnp.tanh(chance.normal("noise")[0]))
    return jnp.maximum(blur(image, (0.4, 0.4, 0.4)) + level * blue / jnp.std(blue), -1024)


def _centroids(
    chance: Chance, column: dict, shape: Sequence[int], spacing: float, middle: jax.Array
) -> jax.Array:
    """Centres `(24, 3)` of the bodies in voxels: where the coordinates of the column are met.

    Undoes `_coordinates` by fixed-point steps on the grid's own coordinates.
    """
    part = slice(ABOVE, ABOVE + VERTEBRAE)
    wanted = jnp.stack([column["height"][part], column["behind"][part], column["across"][part]], axis=-1)
    field = jnp.stack(_coordinates(chance, shape, spacing, middle), axis=-1)
    voxels = (wanted - jnp.array([middle, -_backwards(shape, spacing), 0.0])) / spacing
    voxels = voxels + (jnp.array(shape) - 1) / 2

    def step(_, at: jax.Array) -> jax.Array:
        # Outside, the nearest voxel's offset holds.
        inside = jnp.clip(at, 0, jnp.array(shape) - 1.0)
        sample = functools.partial(jax.scipy.ndimage.map_coordinates, coordinates=list(inside.T), order=1)
        reached = jnp.stack([sample(field[..., axis]) for axis in range(3)], axis=-1)
        return at + (wanted - reached - spacing * (at - inside)) / spacing

    return jax.lax.fori_loop(0, 12, step, voxels)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of the contact sheet: projections of the field of view and of the whole column, planes, labels."""

    def window(image: jax.Array, low: float = -200.0, high: float = 700.0) -> jax.Array:
        return jnp.clip((image[::-1] - low) / (high - low), 0, 1)

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        drawn = spine_volume(key)
        sagittal, coronal = (window(view[..., 0]) for view in projections(drawn["image"]))
        maps = heat_maps(drawn["centroids"], drawn["visible"], (64, 64, 64))
        dots = 1 - maps[0][::-1, :, 0]
        fine = spine_volume(key, (96, 80, 96), spacing=2.2)
        middle = fine["image"][..., 0]
        whole = spine_volume(key, (96, 48, 48), spacing=7.0)
        return {
            "sagittal projection": sagittal,
            "coronal projection": coronal,
            "sagittal with centres": jnp.stack([jnp.maximum(sagittal, dots), sagittal, sagittal], axis=-1),
            "coronal with centres": jnp.stack(
                [jnp.maximum(coronal, 1 - maps[1][::-1, :, 0]), coronal, coronal], axis=-1
            ),
            "sagittal plane": window(middle[:, :, 48]),
            "coronal plane": window(middle[:, 51]),
            "axial plane": window(middle[40][::-1]),
            "labels": fine["labels"][::-1, :, 48] / 25.0,
            "whole column, sagittal": window(projections(whole["image"])[0][..., 0]),
            "whole column, coronal": window(projections(whole["image"])[1][..., 0]),
        }

    return jax.lax.map(jax.jit(draw), keys)


def _regions(key: jax.Array) -> Mapping[str, jax.Array]:
    """Cervical, thoracic and lumbar vertebrae in the sagittal projection, from both projections."""
    drawn = spine_volume(key)
    sagittal, coronal = (jnp.clip((view + 200) / 1100, 0, 1) for view in projections(drawn["image"]))
    bounds = (1, FIRST_THORACIC + 1, FIRST_LUMBAR + 1, SACRUM)
    labels = drawn["labels"]
    masks = [((labels >= a) & (labels < b)).any(2) for a, b in itertools.pairwise(bounds)]
    return {
        "input": jnp.concatenate([sagittal, coronal], axis=-1),
        "target": jnp.stack(masks, axis=-1).astype(jnp.float32),
    }


TASKS = (Task("spine_regions", "segmentation", _regions),)
