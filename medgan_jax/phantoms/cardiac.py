"""The heart in short axis: MR (cine, late enhancement) or CT; slices, cine sequences and stacks.

The left ventricle is a ring in polar coordinates round its axis. Its cavity shrinks towards the apex as a
half ellipsoid does; in contraction the wall moves inwards, by sector, and thickens so as to keep its area.
An infarct is a sector that moves little. It is invisible in any single cine frame, and bright on
late-enhancement images alone. Above the base the ring opens to the outflow tract and the atrium; below the
apex lie liver and fat.

The field of view is 128 mm, centred on the left ventricle; lengths are in halves of it (64 mm). x goes to
the image's right, y down; the right ventricle lies on the left. `position` is 0 at the base, 1 at the apex.

The population (mean, SD): end-diastolic cavity radius at the base 24 (3) mm, wall 9 (1.3) mm, radial
shortening 32 (5) %, as in healthy adults (Petersen et al., J. Cardiovasc. Magn. Reson. 19:18, 2017);
centre within 5 mm, in stacks 1.5 mm more from breath to breath; rotation 0.3 rad; infarct 60 to 150 degrees
wide, through 75 to 100 % of the wall; the grey value of each tissue 12 %, coil profile 18 %.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import average, blur, ellipsoid, grid, norm, paint
from medgan_jax.phantoms.tasks import Task

Modality = Literal["mr", "late_enhancement", "ct"]
BACKGROUND, CAVITY, MYOCARDIUM, RIGHT_VENTRICLE = range(4)
LABELS = {
    "background": BACKGROUND,
    "cavity": CAVITY,
    "myocardium": MYOCARDIUM,
    "right_ventricle": RIGHT_VENTRICLE,
}
FIELD_OF_VIEW_MM = 128.0
HALF_MM = FIELD_OF_VIEW_MM / 2
# A slice shows the base, or the apex, when its position is nearer to the end than this.
END = 0.1
SMALLEST_GRID = 96
# Grey values of steady-state cine and of late enhancement in [0, 1]; HU of contrast-enhanced CT.
VALUES = {
    "fat": (0.80, 0.62, -95.0),
    "lung": (0.08, 0.06, -840.0),
    "liver": (0.36, 0.30, 95.0),
    "muscle": (0.30, 0.24, 60.0),
    "blood": (0.74, 0.55, 340.0),
    "right_blood": (0.70, 0.56, 260.0),
    "myocardium": (0.32, 0.13, 105.0),
    "scar": (0.32, 0.90, 105.0),  # seen in late enhancement alone
}

NUMBERS = {
    "position": 1,
    "pose": 5,
    "ventricle": 8,
    "right": 6,
    "infarct": 4,
    "around": 2,
    "values": len(VALUES),
    "display": 6,
    "papillary": 6,
}
FIELDS = {"smooth": (3, 6), "medium": (7, 6), "fine": (16, 4)}


def cardiac_slice(
    key: jax.Array,
    size: int = 64,
    *,
    modality: Modality = "mr",
    position: jax.Array | float | None = None,
    contraction: jax.Array | float = 0.0,
    infarct: bool | jax.Array = False,
    framing: float = 1.0,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """One subject's short-axis slice; `key` decides all about it; options add to it and change nothing else.

    position: 0 at the base, 1 at the apex, drawn from 0.12 to 0.8 where None; the atrium lies below 0, the
    liver above 1. contraction: 0 at end diastole, 1 at end systole. infarct: one sector moves little; in late
    enhancement it is bright. framing: how much the position in the image varies. noise: 1 is 2.5 % on MR and
    22 HU on CT. Options but `modality` may be traced.

    Returns, for `size` = H = W: `image` `(H, W, 1)` in [0, 1], in HU for CT; `complex` `(H, W, 2)`, the MR
    image with a smooth phase within pi/4, zero for CT; `labels` `(H, W)` int32, see `LABELS`; `infarct_mask`
    `(H, W)` bool; `centre` `(2,)`, row and column of the left ventricle's axis in pixels; `position` `()`;
    `basal` and `apical` `()` bool, whether the slice shows either end. Raises `ValueError` for an unknown
    modality or a size below 16.
    """
    return _slice_with(key, size, modality, position, infarct, noise, contraction, 0, 0.0, framing)


def cardiac_cine(
    key: jax.Array,
    size: int = 64,
    frames: int = 8,
    *,
    modality: Modality = "mr",
    position: jax.Array | float | None = None,
    infarct: bool | jax.Array = False,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """A beat of `frames` frames from end diastole, with the options of `cardiac_slice`.

    Returns `image` `(T, H, W, 1)` with T = `frames`, `labels` `(T, H, W)`, `infarct_mask` `(H, W)` at end
    diastole, `indices` `(8,)` of it (see `infarct_indices`), and `contraction` `(T,)`.
    """
    if frames < 2:
        raise ValueError(f"a cine sequence has at least 2 frames, not {frames}")
    beat = jnp.arange(frames) / frames
    # Systole takes 38 % of a beat at rest.
    phase = jnp.where(beat < 0.38, beat / 0.38 / 2, 0.5 + (beat - 0.38) / 0.62 / 2)
    contraction = jnp.square(jnp.sin(jnp.pi * phase))

    def draw(contraction, index):
        return _slice_with(key, size, modality, position, infarct, noise, contraction, index, 0.0)

    drawn = jax.vmap(draw)(contraction, jnp.arange(frames))
    rest = drawn["infarct_mask"][0]
    return {
        "image": drawn["image"],
        "labels": drawn["labels"],
        "infarct_mask": rest,
        "indices": infarct_indices(rest, FIELD_OF_VIEW_MM / size),
        "contraction": contraction,
    }


def cardiac_stack(
    key: jax.Array,
    size: int = 64,
    slices: int = 10,
    *,
    modality: Modality = "mr",
    contraction: jax.Array | float = 0.0,
    missing_basal: int | jax.Array = 0,
    missing_apical: int | jax.Array = 0,
    noise: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """A stack of `slices` slices from base to apex, from which slices at either end may be missing.

    missing_basal, missing_apical: how many slices the stack begins too low and ends too high; its number of
    slices stays the same, so their distance shrinks. Each slice is a breath-hold of its own and shifted.

    Returns `image` `(D, H, W, 1)` with D = `slices`, `labels` `(D, H, W)`, `positions`, `basal` and `apical`
    `(D,)`, `covered` `(2,)` bool, whether base and apex are in the stack, and `spacing_mm` `(3,)` between
    slices, rows and columns.
    """
    if slices < 4:
        raise ValueError(f"a stack has at least 4 slices, not {slices}")
    jitter = jax.random.uniform(jax.random.fold_in(key, 3), (2,), minval=-0.3, maxval=0.3)
    step = 1.0 / (slices - 1)
    first = (0.03 + 0.1 * jitter[0]) + step * jnp.asarray(missing_basal)
    last = (0.97 + 0.1 * jitter[1]) - step * jnp.asarray(missing_apical)
    positions = first + (last - first) * jnp.arange(slices) / (slices - 1)

    def draw(position, index):
        return _slice_with(key, size, modality, position, False, noise, contraction, index, 1.5 / HALF_MM)

    drawn = jax.vmap(draw)(positions, jnp.arange(slices))
    pixel = FIELD_OF_VIEW_MM / size
    length = 80.0 * (last - first) / (slices - 1)
    return {
        "image": drawn["image"],
        "labels": drawn["labels"],
        "positions": positions,
        "basal": drawn["basal"],
        "apical": drawn["apical"],
        "covered": jnp.stack([drawn["basal"].any(), drawn["apical"].any()]),
        "spacing_mm": jnp.stack([length, jnp.asarray(pixel), jnp.asarray(pixel)]),
    }


def _slice_with(key, size, modality, position, infarct, noise, contraction, index, breath, framing=1.0):
    """A subject's slice with noise and a breath-hold shift, of SD `breath`, that `index` decides."""
    if modality not in get_args(Modality):
        raise ValueError(f"unknown modality '{modality}'; there are {', '.join(get_args(Modality))}")
    if size < 16:
        raise ValueError(f"a heart needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-SMALLEST_GRID // size)
    side = size * factor
    chance = Chance(key, NUMBERS, FIELDS, (side, side))
    fields = {name: chance.field(name) for name in FIELDS}
    if position is None:
        position = 0.12 + 0.68 * chance.uniform("position")[0]
    own = jax.random.fold_in(jax.random.fold_in(key, 2), index)
    shift = breath * jax.random.normal(own, (2,))
    white = jax.random.normal(jax.random.fold_in(own, 1), (2, side, side))
    drawn = _frame(
        chance, fields, side, modality, position, contraction, infarct, shift, white, noise, framing
    )
    return _reduced(drawn, factor, modality)


def _frame(chance, fields, side, modality, position, contraction, infarct, shift, white, noise, framing):
    """Everything that `cardiac_slice` returns, on the fine grid."""
    down, right, turn, zoom, _ = chance.normal("pose")
    centre = 0.075 * framing * down + shift[0], 0.075 * framing * right + shift[1]
    rows, columns = grid((side, side))
    scale = jnp.exp(-0.08 * zoom)
    y, x = (rows - centre[0]) * scale + 0 * columns, (columns - centre[1]) * scale + 0 * rows
    y = y + 0.012 * fields["smooth"][0] + 0.005 * fields["medium"][0]
    x = x + 0.012 * fields["smooth"][1] + 0.005 * fields["medium"][1]
    turned = 0.3 * turn
    y, x = jnp.cos(turned) * y - jnp.sin(turned) * x, jnp.cos(turned) * x + jnp.sin(turned) * y
    sector = _sector(chance, y, x)
    still = jnp.asarray(infarct) * sector
    parts = _ventricles(chance, fields, y, x, position, contraction, still)
    scar = _infarct(chance, parts, sector, infarct)
    value = _values(chance, modality)
    # Painting it in the muscle's own grey value would still show at the wall's soft borders.
    bright = scar if modality == "late_enhancement" else jnp.full(scar.shape, -1.0)
    image, labels = _paint(chance, fields, y, x, parts, bright, value, position, 2 / side)
    image, phased = _acquire(chance, fields, image, modality, white, noise)
    return {
        "image": image[..., None],
        "complex": phased,
        "labels": labels,
        "infarct_mask": (scar > 0) & (labels == MYOCARDIUM),
        "centre": (jnp.stack(centre) + 1) / 2 * side,
        "position": jnp.asarray(position, jnp.float32),
        "basal": jnp.abs(jnp.asarray(position)) < END,
        "apical": jnp.abs(jnp.asarray(position) - 1) < END,
    }


def _reduced(drawn: dict, factor: int, modality: Modality) -> dict:
    """Signals averaged, labels sampled, places divided by `factor`; magnitudes are taken of the averages."""
    middle = slice(factor // 2, None, factor)
    field = average(drawn["complex"], factor)
    magnitude = jnp.clip(norm(field[..., :1], field[..., 1:]), 0, 1)
    return drawn | {
        "image": average(drawn["image"], factor) if modality == "ct" else magnitude,
        "complex": field,
        "labels": drawn["labels"][middle, middle],
        "infarct_mask": drawn["infarct_mask"][middle, middle],
        "centre": drawn["centre"] / factor,
    }


def _ventricles(chance, fields, y, x, position, contraction, still=0.0) -> dict[str, jax.Array]:
    """Signed distances to cavity, outer wall and right ventricle; still: 1 where the wall does not move."""
    large, thick, squeeze, oval, tilt, *ripple = chance.normal("ventricle")
    distance, angle = norm(y, x), jnp.arctan2(y, x)
    short = jnp.clip(jnp.asarray(position), 0, 1)
    taper = jnp.sqrt(jnp.clip(1 - jnp.square(0.985 * short), 0, 1))
    base = 24 / HALF_MM * jnp.exp(0.12 * large)
    wall = 9 / HALF_MM * jnp.exp(0.14 * thick) * (0.75 + 0.25 * taper)
    ring = 1 + 0.06 * oval * jnp.cos(2 * (angle - tilt)) + 0.02 * ripple[0] * jnp.cos(3 * angle + ripple[1])
    rest = base * taper * ring - 0.05 * jax.nn.relu(short - 0.85)
    moves = (0.32 + 0.05 * squeeze) * jnp.asarray(contraction) * (1 - 0.92 * still)
    inner = rest * (1 - moves)
    # The wall keeps its volume: area grows by what the heart shortens along its axis.
    area = (jnp.square(rest + wall) - jnp.square(rest)) * (1 + 0.12 * moves / 0.32)
    outer = jnp.sqrt(jnp.square(inner) + area)
    end = jax.nn.sigmoid((1.03 - jnp.asarray(position)) / 0.01)
    cavity = inner - distance - 0.004 * fields["fine"][0] * taper
    mass = outer - distance
    right, low, reach, tall, thin, _ = chance.normal("right")
    share = jnp.sqrt(jnp.clip(1 - jnp.square(jnp.clip(jnp.asarray(position) - 0.05, 0, 2) / 0.85), 0, 1))
    pump = 1 - 0.14 * jnp.asarray(contraction)
    centre = 0.04 * low, -(base + wall) * 0.80 + 0.03 * right
    radii = (
        0.55 * jnp.exp(0.1 * tall) * share * pump + 1e-3,
        0.50 * jnp.exp(0.1 * reach) * share * pump + 1e-3,
    )
    whole = ellipsoid((y, x), centre, radii, 0.25)
    whole = jnp.where(share > 0.1, whole + 0.012 * fields["medium"][2], -1.0)
    wall_right = 0.045 + 0.008 * thin
    # The outflow tract opens the ring towards the right ventricle and the front.
    opening = 0.5 + 0.25 * jnp.tanh(ripple[2])
    open_here = jax.nn.sigmoid((0.075 - jnp.asarray(position)) / 0.012)
    gap = (opening - jnp.abs(jnp.angle(jnp.exp(1j * (angle + 2.3))))) * distance
    gap = jnp.where(open_here > 0.5, jnp.minimum(gap, mass + 0.02), -1.0)
    above = jax.nn.sigmoid((-0.06 - jnp.asarray(position)) / 0.01)
    return {
        "cavity": jnp.where(end > 0.5, jnp.maximum(cavity, jnp.minimum(gap, distance)), -1.0),
        "mass": jnp.where((end > 0.5) & (above < 0.5), mass, -1.0),
        "right": jnp.minimum(whole - wall_right, -mass),
        "right_wall": jnp.minimum(whole, -mass),
        "depth": (distance - inner) / (outer - inner),
        "atrium": jnp.where(
            jnp.asarray(position) < 0.04, ellipsoid((y, x), (0.10, 0.16), (0.34, 0.40), 0.3), -1.0
        ),
        "above": above,
    }


def _sector(chance: Chance, y, x) -> jax.Array:
    """One within the sector of the infarct, zero outside, with a border of 8 degrees."""
    where, width, *_ = chance.uniform("infarct")
    angle = jnp.angle(jnp.exp(1j * (jnp.arctan2(y, x) - 2 * jnp.pi * where)))
    half = jnp.deg2rad(30 + 45 * width)
    return jax.nn.sigmoid((half - jnp.abs(angle)) / 0.07)


def _infarct(chance: Chance, parts: dict, sector, infarct) -> jax.Array:
    """Positive in the infarct: its sector, from the inner border of the wall outwards."""
    through = 0.75 + 0.4 * chance.uniform("infarct")[2]
    inside = jnp.minimum(sector - 0.5, through - parts["depth"])
    return jnp.where(jnp.asarray(infarct), inside, -1.0)


def _values(chance: Chance, modality: Modality) -> dict[str, jax.Array]:
    """The value of each tissue in one subject."""
    scatter = chance.normal("values")
    column = get_args(Modality).index(modality)
    table = jnp.array([each[column] for each in VALUES.values()])
    values = table + 12 * scatter if modality == "ct" else table * jnp.exp(0.12 * scatter)
    return dict(zip(VALUES, values, strict=True))


def _paint(chance, fields, y, x, parts, scar, value, position, pixel: float):
    """Values and labels of the anatomy."""
    around = chance.normal("around")
    chest = -0.72 + 0.06 * around[0] - y + 0.25 * x + 0.05 * fields["smooth"][2]
    liver = y - 0.62 - 0.05 * around[1] + 0.25 * x + 0.05 * fields["smooth"][5]
    vessels = 0.045 * (jnp.abs(fields["medium"][4]) - 1.6)
    softness = max(pixel, 0.035)
    picture = value["lung"] + jnp.zeros(y.shape)
    sac = jnp.maximum(parts["mass"], parts["right_wall"]) + 0.035
    # Fat round the heart, thick on the right, where the great vessels and the breastbone are.
    pad = jnp.maximum(sac + 0.05, ellipsoid((y, x), (-0.18, -0.42), (0.62, 0.52), 0.5))
    pad = pad + 0.04 * fields["smooth"][3] + 0.02 * fields["medium"][3]
    spots = [
        0.055 * jnp.exp(0.2 * size) - norm(y - 0.20 * (1 - 0.4 * place), x - side * 0.16)
        for size, place, side in zip(chance.normal("papillary")[:2], (0.0, 0.2), (1, -0.6), strict=True)
    ]
    papillary = jnp.minimum(jnp.maximum(*spots), parts["cavity"] + 0.01)
    papillary = jnp.where((jnp.asarray(position) > 0.2) & (jnp.asarray(position) < 0.75), papillary, -1.0)
    ridges = jnp.minimum(0.06 * (fields["fine"][1] - 0.9), jnp.minimum(parts["right"], 0.05 - parts["right"]))
    below = jax.nn.sigmoid((jnp.asarray(position) - 1.04) / 0.01)
    for inside, tissue in (
        (pad, "fat"),
        (jnp.maximum(liver, jnp.where(below > 0.5, 0.6 - norm(y - 0.3, x), -1.0)), "liver"),
        (jnp.minimum(vessels, liver - 0.03), "blood"),
        (chest, "fat"),
        (chest - 0.10, "muscle"),
        (sac, "fat"),
        (parts["atrium"], "blood"),
        (parts["right_wall"], "myocardium"),
        (parts["right"], "right_blood"),
        (ridges, "myocardium"),
        (parts["mass"], "myocardium"),
        (jnp.minimum(jnp.minimum(parts["mass"], -parts["cavity"]), scar), "scar"),
        (parts["cavity"], "blood"),
        (papillary, "myocardium"),
    ):
        picture = paint(picture, inside, value[tissue], softness)
    labels = jnp.where(parts["right"] > 0, RIGHT_VENTRICLE, BACKGROUND)
    labels = jnp.where(parts["mass"] > 0, MYOCARDIUM, labels)
    labels = jnp.where((parts["cavity"] > 0) & (parts["above"] < 0.5), CAVITY, labels)
    return picture, labels.astype(jnp.int32)


def _acquire(chance, fields, picture, modality: Modality, white, noise):
    """Image `(H, W)` and its complex form `(H, W, 2)`: texture, coil profile, phase, point spread, noise."""
    profile, grain, bend, *_ = chance.normal("display")
    side = picture.shape[-1]
    deviation = 0.9 * side / FIELD_OF_VIEW_MM
    if modality == "ct":
        picture = blur(picture + 6 * fields["fine"][2], (deviation, deviation))
        rough = blur(white[0], (0.7 * deviation, 0.7 * deviation), white=True)
        image = picture + 22 * noise * jnp.exp(0.2 * grain) * rough
        return image, jnp.zeros((*image.shape, 2))
    texture = jnp.exp(0.06 * fields["fine"][2] + 0.05 * fields["medium"][5])
    shade = 0.75 * jnp.exp(0.18 * fields["smooth"][2] + 0.08 * profile)
    picture = blur(picture * texture * shade, (deviation, deviation))
    phase = jnp.pi / 8 * (fields["smooth"][3] + 0.3 * bend)
    phase = jnp.pi / 4 * jnp.tanh(phase)
    # Noise is drawn on a grid that small images average.
    level = 0.025 * noise * jnp.exp(0.25 * grain) * max(1, side // 96)
    real = picture * jnp.cos(phase) + level * white[0]
    imaginary = picture * jnp.sin(phase) + level * white[1]
    return jnp.clip(norm(real, imaginary), 0, 1), jnp.stack([real, imaginary], axis=-1)


def infarct_indices(mask: jax.Array, spacing_mm: float) -> jax.Array:
    """Indices `(8,)` of an infarct `(H, W)`.

    Area in mm^2, perimeter, centroid (row, column), major and minor axis in mm, orientation in radians, share
    of the image in percent. The perimeter is the number of pixel edges times pi/4, the mean over directions;
    the axes are those of the ellipse of equal second moments; the orientation is the major axis' angle from
    the direction of rows, within pi/2 of zero. All are 0 for an empty mask.
    """
    weight = mask.astype(jnp.float32)
    count = weight.sum()
    rows, columns = ((jnp.arange(side) + 0.5) * spacing_mm for side in mask.shape)
    total = jnp.maximum(count, 1)
    row, column = (weight.sum(1) * rows).sum() / total, (weight.sum(0) * columns).sum() / total
    dy, dx = rows[:, None] - row, columns[None, :] - column
    yy, xx, xy = ((weight * part).sum() / total for part in (dy * dy, dx * dx, dy * dx))
    middle, spread = (yy + xx) / 2, jnp.sqrt(jnp.square((yy - xx) / 2) + xy * xy + 1e-12)
    major, minor = 4 * jnp.sqrt(middle + spread), 4 * jnp.sqrt(jnp.maximum(middle - spread, 0))
    padded = jnp.pad(weight, 1)
    edges = jnp.abs(jnp.diff(padded, axis=0)).sum() + jnp.abs(jnp.diff(padded, axis=1)).sum()
    indices = jnp.stack(
        [
            count * spacing_mm**2,
            edges * spacing_mm * jnp.pi / 4,
            row,
            column,
            major,
            minor,
            0.5 * jnp.arctan2(2 * xy, yy - xx),
            100 * count / mask.size,
        ]
    )
    return jnp.where(count > 0, indices, 0.0)


def _chambers_task(key: jax.Array) -> dict[str, jax.Array]:
    """Cavity, myocardium and right ventricle on cine MR at any level and phase."""
    contraction, position = jax.random.uniform(jax.random.fold_in(key, 4), (2,))
    drawn = cardiac_slice(key, 64, contraction=contraction, position=0.1 + 0.65 * position, framing=1.5)
    target = jnp.stack([drawn["labels"] == label for label in (CAVITY, MYOCARDIUM, RIGHT_VENTRICLE)], axis=-1)
    return {"input": drawn["image"], "target": target.astype(jnp.float32)}


def _infarct_task(key: jax.Array) -> dict[str, jax.Array]:
    """The infarct in cine MR, frames as channels."""
    drawn = cardiac_cine(key, 64, 8, infarct=True, position=0.35)
    image = jnp.moveaxis(drawn["image"][..., 0], 0, -1)
    return {"input": image, "target": drawn["infarct_mask"][..., None].astype(jnp.float32)}


def _end_task(base: bool):
    """Whether a slice shows the base (or the apex) of the ventricle or what is next to it."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        target, place, phase = jax.random.uniform(jax.random.fold_in(key, 5), (3,))
        at_end = target > 0.5
        # The ventricle narrows towards the apex: its size must not tell where the slice is.
        position = jnp.where(at_end, END * (2 * place - 1) * 0.6, 0.14 + (0.3 if base else 0.18) * place)
        position = position if base else 1 - position
        drawn = cardiac_slice(key, 64, position=position, contraction=0.2 * phase, framing=3.5)
        return {"input": drawn["image"], "target": at_end.astype(jnp.float32)}

    return draw


TASKS = (
    Task("cardiac_chambers", "segmentation", _chambers_task),
    Task("cardiac_infarct", "segmentation", _infarct_task),
    Task("cardiac_basal_slice", "classification", _end_task(True)),
    Task("cardiac_apical_slice", "classification", _end_task(False)),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: each modality, systole with an infarct, labels, a stack of the first key."""

    def draw(key):
        slices = {name: cardiac_slice(key, 128, modality=name, infarct=True) for name in get_args(Modality)}
        systole = cardiac_slice(key, 128, contraction=1.0, infarct=True)
        return (
            [each["image"][..., 0] for each in slices.values()],
            systole["image"][..., 0],
            systole["labels"],
        )

    (mr, late, ct), systole, labels = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    stack = jax.jit(lambda key: cardiac_stack(key, 128, max(4, len(keys)))["image"][..., 0])(keys[0])
    outside = jax.jit(jax.vmap(lambda key, place: cardiac_slice(key, 128, position=place)["image"][..., 0]))
    return {
        "MR, end diastole": mr,
        "MR, end systole with an infarct": systole,
        "late enhancement": late,
        "CT, level 100, width 700 HU": jnp.clip((ct - 100) / 700 + 0.5, 0, 1),
        "labels at end systole": labels / (len(LABELS) - 1),
        "stack from base to apex": stack,
        "from above the base to below the apex": outside(keys, jnp.linspace(-0.2, 1.2, len(keys))),
    }
