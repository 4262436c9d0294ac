"""Frontal chest radiographs: lungs, heart, mediastinum, ribs, clavicles, opacities, nodules and exposure.

A radiograph is drawn as what it is, a map of path lengths: soft tissue less the air of the lungs, and bone.
The lungs are cut out of a rib cage by the mediastinum, the heart and the domes of the diaphragm. Ribs are two
families of arcs (posterior and anterior), each the level lines of one function; vessels are creases along a
bent wave round the hilum. The logarithm of the detected signal passes a display curve, as a console shows it.

Lengths are in halves of the field of view (400 mm: one unit is 200 mm) of a standard chest; x goes to the
image's right, which is the patient's left; y goes down.

The population (mean, SD): pose 0.05 rad, shift 0.05, magnification 8 %, times `framing`; lung height 8 %,
width 7 %, diaphragm 0.38 (0.06) with the right dome 0.05 (0.02) higher; cardiothoracic ratio about 0.48
(0.05), text-book limit 0.5; body thickness 15 %; exposure, contrast and gamma 15 %; noise 1.0 (0.3) % of the
display range. In real chests with disease lungs are neither dark nor outlined, hence `opacities`.
"""

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import average, blur, distance_to_zero, ellipsoid, grid, norm, paint, tube
from medgan_jax.phantoms.tasks import Task

BACKGROUND, BODY, RIGHT_LUNG, LEFT_LUNG, HEART, MEDIASTINUM = range(6)
LABELS = {
    "background": BACKGROUND,
    "body": BODY,
    "right_lung": RIGHT_LUNG,
    "left_lung": LEFT_LUNG,
    "heart": HEART,
    "mediastinum": MEDIASTINUM,
}
FIELD_OF_VIEW_MM = 400.0
SMALLEST_GRID = 128
MOST_OPACITIES = 5

NUMBERS = {
    "pose": 4,
    "cage": 6,
    "lung": 8,
    "heart": 6,
    "ribs": 6,
    "clavicles": 8,
    "body": 4,
    "opacity": 7 * MOST_OPACITIES,
    "effusion": 3,
    "nodule": 6,
    "display": 5,
    "devices": 12,
    "gas": 6,
}
FIELDS = {"smooth": (4, 6), "medium": (9, 6), "fine": (20, 5), "texture": (40, 2), "grain": (90, 1)}


def chest_xray(
    key: jax.Array,
    size: int = 256,
    *,
    opacities: bool | jax.Array = True,
    nodule: bool | jax.Array = False,
    framing: float = 1.0,
    noise: float = 0.01,
) -> dict[str, jax.Array]:
    """One subject's radiograph; `key` decides everything about it.

    opacities: up to 5 consolidations and a pleural effusion, which the lung labels cover as readers draw
    them. nodule: one round opacity of 11 to 22 mm radius in a lung. Both may be traced; neither changes
    anything else. framing: how much position and magnification vary, 1 as between real radiographs. noise:
    standard deviation in the display range. Below 128 pixels an image is the average of a finer one.

    Returns, for `size` = H = W: `image` `(H, W, 1)` in [0, 1], bone bright; `labels` `(H, W)` int32, see
    `LABELS`; `rib_mask`, `clavicle_mask`, `opacity_mask`, `nodule_mask` `(H, W)` bool; `centroids` `(3, 2)`,
    row and column in pixels of right lung, left lung and heart. Raises `ValueError` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"a chest needs at least 16 x 16 pixels, not {size} x {size}")
    factor = -(-SMALLEST_GRID // size)
    side = size * factor
    chance = Chance(key, NUMBERS, FIELDS, (side, side))
    fields = {name: chance.field(name) for name in FIELDS}
    y, x = _pose(chance, side, framing)
    organs = _organs(chance, y, x, fields)
    bones = _bones(chance, y, x, organs, fields)
    opacity, nodule_inside = _pathology(chance, y, x, organs, fields, opacities, nodule)
    depth = _path_lengths(chance, y, x, organs, bones, opacity, nodule_inside, fields)
    image = _display(chance, y, x, depth, fields, noise, side)
    labels = _labels(organs)
    middle = slice(factor // 2, None, factor)
    inside = organs["right_lung"], organs["left_lung"], organs["heart"]
    return {
        "image": average(image, factor)[..., None],
        "labels": labels[middle, middle],
        "rib_mask": (jnp.maximum(bones["posterior"], bones["anterior"]) > 0)[middle, middle],
        "clavicle_mask": (bones["clavicles"] > 0)[middle, middle],
        "opacity_mask": (opacity > 0.4)[middle, middle] & (organs["lungs"] > 0)[middle, middle],
        "nodule_mask": (nodule_inside > 0)[middle, middle],
        "centroids": jnp.stack([_centroid(each > 0) for each in inside]) / factor,
    }


def _pose(chance: Chance, side: int, framing: float) -> tuple[jax.Array, jax.Array]:
    """Standard coordinates down and across of each pixel."""
    turn, down, right, zoom = framing * chance.normal("pose") * jnp.array([0.05, 0.05, 0.04, 0.08])
    rows, columns = grid((side, side))
    zoom = 0.9 * jnp.exp(zoom)
    rows, columns = (rows - down) * zoom, (columns - right) * zoom
    return jnp.cos(turn) * rows - jnp.sin(turn) * columns, jnp.cos(turn) * columns + jnp.sin(turn) * rows


def _organs(chance: Chance, y: jax.Array, x: jax.Array, fields: dict) -> dict[str, jax.Array]:
    """Signed distances to body, lungs, heart and mediastinum, and the cage's half width at each pixel."""
    smooth, medium = fields["smooth"], fields["medium"]
    x = x + 0.02 * smooth[0] + 0.006 * medium[0]
    y = y + 0.02 * smooth[1] + 0.006 * medium[1]
    tall, wide, low, right_up, sway, lean = chance.normal("cage")
    tall, wide = jnp.exp(0.08 * tall), jnp.exp(0.07 * wide)
    across = x - 0.015 * sway
    apart = jnp.abs(across)
    left = jax.nn.sigmoid(across / 0.01)
    heart = _heart(chance, y, across, wide)
    shape = chance.normal("lung")
    # A lung before anything is cut from it: an upright egg that leans towards the neck.
    lean = 0.09 + 0.03 * lean
    # Its apex lies nearer to the midline than its middle.
    down = (y - 0.25) / tall
    out = apart / wide - 0.37 - lean * y + 0.13 * jax.nn.relu(-0.2 - down)
    power = 2.3 + 0.2 * shape[0]
    level = (jnp.abs(down / 1.0) ** power + jnp.abs(out / 0.33) ** power + 1e-9) ** (1 / power)
    egg = 0.33 * (1 - level) * (0.6 + 0.4 * jnp.abs(out) / 0.33)
    dome = 0.38 + 0.06 * low + (left - 0.5) * (0.05 + 0.02 * right_up)
    falling = (
        (1.5 + 0.4 * shape[1]) * jnp.square(apart - 0.29 * wide) * jnp.where(apart > 0.29 * wide, 1.0, 0.7)
    )
    diaphragm = (dome * tall + falling - y) * 0.8
    hilum = 0.05 * jnp.exp(-jnp.square((y + 0.05) / 0.14))
    knob = left * 0.07 * jnp.exp(-jnp.square((y + 0.26 + 0.03 * shape[2]) / 0.075))
    width = 0.125 * jnp.exp(0.15 * shape[3]) + hilum + knob + 0.02 * smooth[2]
    width = width + 0.05 * jax.nn.relu(-0.45 - y)
    lungs = jnp.minimum(jnp.minimum(egg, diaphragm), jnp.minimum(apart - width, -heart))
    return {
        "body": _body(chance, y, x),
        "lungs": lungs,
        "right_lung": jnp.minimum(lungs, -across),
        "left_lung": jnp.minimum(lungs, across),
        "heart": heart,
        "mediastinum": jnp.minimum(width - apart, jnp.minimum(y + 0.8, 0.5 - y)),
        "egg": egg,
        "diaphragm": diaphragm,
        "across": across,
        "down": y,
        "left": left,
    }


def _body(chance: Chance, y: jax.Array, x: jax.Array) -> jax.Array:
    """Signed distance to the outline of neck, shoulders and trunk."""
    size, neck, slope, _ = chance.normal("body")
    shoulders = 0.24 + 0.03 * neck + 0.74 * jax.nn.sigmoid((y + 0.76 + 0.03 * slope) / 0.07)
    return shoulders * jnp.exp(0.06 * size) - jnp.abs(x)


def _heart(chance: Chance, y: jax.Array, across: jax.Array, wide: jax.Array) -> jax.Array:
    """Signed distance to the heart's shadow: an ellipse towards the apex and the right atrium's bulge."""
    down, right, long, short, tilt, atrium = chance.normal("heart")
    centre = 0.23 + 0.03 * down, (0.12 + 0.02 * right) * wide
    radii = 0.23 * jnp.exp(0.09 * short), 0.36 * jnp.exp(0.09 * long) * wide
    ventricle = ellipsoid((y, across), centre, radii, 0.5 + 0.12 * tilt)
    bulge = ellipsoid((y, across), (0.22, -0.05), (0.24, 0.14 * jnp.exp(0.1 * atrium)), 0.0)
    return jnp.logaddexp(20 * ventricle, 20 * bulge) / 20


def _bones(chance: Chance, y: jax.Array, x: jax.Array, organs: dict, fields: dict) -> dict[str, jax.Array]:
    """Signed distances to ribs, clavicles, shoulder blades and spine."""
    apart = jnp.abs(organs["across"])
    spread, start, slope, thick, front, fade = chance.normal("ribs")
    # The spacing of ribs grows downwards: equal steps of a bent coordinate.
    bend = 0.02 * fields["smooth"][3] + 0.004 * fields["medium"][2]
    height = y + bend
    spacing = 0.128 * jnp.exp(0.07 * spread)
    behind = height - (0.55 + 0.08 * slope) * jnp.square(apart) + 0.13 * apart
    before = height + (0.52 + 0.08 * front) * apart - 0.9 * jnp.square(apart)
    half = 0.024 * jnp.exp(0.1 * thick)
    cage = organs["egg"] + 0.025
    posterior = jnp.minimum(half - _to_period(behind + 0.02 * start, spacing), cage)
    anterior = jnp.minimum(0.9 * half - _to_period(before + 0.02 * fade, 1.12 * spacing), cage)
    posterior = jnp.minimum(posterior, jnp.minimum(0.62 - height, apart - 0.05))
    anterior = jnp.minimum(anterior, jnp.minimum(apart - 0.24 - 0.03 * fade, 0.45 - height))
    end = 0.02 * chance.normal("clavicles").reshape(4, 2)
    clavicles = [
        jnp.maximum(
            tube((y, side * x), (-0.50 + a[0], 0.07), (-0.56 + a[1], 0.33), (0.030, 0.020)),
            tube((y, side * x), (-0.56 + a[1], 0.33), (-0.66 + b[0], 0.66 + b[1]), (0.020, 0.024)),
        )
        for side, a, b in ((1.0, end[0], end[1]), (-1.0, end[2], end[3]))
    ]
    blade = ellipsoid((y + 0.3, apart - 0.80), (0.0, 0.0), (0.34, 0.15), 0.35 + 0.05 * slope)
    return {
        "posterior": posterior,
        "anterior": anterior,
        "clavicles": jnp.maximum(*clavicles),
        "blade": blade,
        "spine": 0.075 + 0.02 * jax.nn.relu(y) - apart,
        "discs": _to_period(y, 0.145),
        "half": half,
    }


def _to_period(level: jax.Array, spacing: jax.Array | float) -> jax.Array:
    """Unsigned distance to the nearest of the places that lie `spacing` apart."""
    return jnp.abs(level / spacing - jnp.round(level / spacing)) * spacing


def _shell(inside: jax.Array, half: jax.Array | float, marrow: float) -> jax.Array:
    """Path length through a tube with a dense shell, by distance to its surface; edges are the brightest."""
    from_axis = jnp.clip(half - inside, 0, half)
    whole = jnp.sqrt(jnp.maximum(half * half - from_axis * from_axis, 0) + 1e-8)
    core = jnp.sqrt(jnp.maximum(0.55 * half * half - from_axis * from_axis, 0) + 1e-8)
    return jnp.where(inside > 0, whole - marrow * core, 0)


def _pathology(
    chance: Chance,
    y: jax.Array,
    x: jax.Array,
    organs: dict,
    fields: dict,
    opacities: bool | jax.Array,
    nodule: bool | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """How much of the air is replaced (0 to 1), and the signed distance to the nodule."""
    spots = chance.normal("opacity").reshape(7, MOST_OPACITIES, 1, 1)
    side = jnp.where(spots[0] > 0, 1.0, -1.0)
    centre = 0.1 + 0.24 * spots[1], side * (0.36 + 0.13 * spots[2])
    radii = 0.15 * jnp.exp(0.4 * spots[3]), 0.13 * jnp.exp(0.4 * spots[4])
    ragged = 0.05 * fields["medium"][3] + 0.035 * fields["fine"][0]
    density = jax.nn.sigmoid(0.8 * spots[5] + 0.4) * (spots[6] > -0.5)
    blobs = density * jax.nn.sigmoid((ellipsoid((y, x), centre, radii) + ragged) / 0.02)
    patchy = 1 - jnp.prod(1 - blobs, axis=0)
    rise, sides, dense = chance.normal("effusion")
    # Fluid gathers at the base and climbs along the wall.
    climbing = jnp.minimum(organs["diaphragm"], organs["egg"] + 0.02) - 0.12 * jax.nn.relu(rise)
    fluid = (rise > 0) * jax.nn.sigmoid(-climbing / 0.012) * jnp.where(sides * x > 0, 1.0, 0.0)
    replaced = jnp.asarray(opacities) * jnp.maximum(patchy, (0.75 + 0.2 * jnp.tanh(dense)) * fluid)
    return replaced, _nodule(chance, y, x, organs, fields, nodule)


def _nodule(
    chance: Chance, y: jax.Array, x: jax.Array, organs: dict, fields: dict, nodule: bool | jax.Array
) -> jax.Array:
    """Signed distance to a round lesion within a lung, negative everywhere without one."""
    side, height, out, radius, *_ = chance.uniform("nodule")
    down = -0.45 + 0.57 * height
    right = jnp.where(side > 0.5, 1.0, -1.0) * (0.38 + 0.16 * down + 0.12 * out)
    inside = 0.055 + 0.055 * radius - norm(organs["down"] - down, organs["across"] - right)
    inside = jnp.minimum(inside + 0.004 * fields["fine"][1], organs["egg"])
    return jnp.where(jnp.asarray(nodule), inside, -1.0)


def _path_lengths(
    chance: Chance,
    y: jax.Array,
    x: jax.Array,
    organs: dict,
    bones: dict,
    replaced: jax.Array,
    nodule: jax.Array,
    fields: dict,
) -> jax.Array:
    """Attenuation of each ray, in that of a standard chest's thickness of soft tissue."""
    thick, heavy, _, uneven = chance.normal("body")
    rim = jnp.clip(organs["body"] / 0.25, 0, 1)
    trunk = (1 + 0.25 * jax.nn.sigmoid((y - 0.35) / 0.12)) * jnp.sqrt(rim * (2 - rim))
    trunk = trunk * (1 - 0.25 * jax.nn.sigmoid((-0.55 - y) / 0.08)) * jnp.exp(0.1 * thick)
    trunk = trunk * (1 + 0.05 * fields["smooth"][4] + 0.02 * fields["medium"][5])
    air = _air(organs, fields, heavy, uneven)
    solid = jnp.clip(nodule / 0.012, 0, 1) * jnp.sqrt(jnp.clip(nodule, 0, 0.09) / 0.09)
    air = air * (1 - replaced) - 0.32 * solid
    half = bones["half"]
    ribs = 6.0 * _shell(bones["posterior"], half, 0.75) + 3.5 * _shell(bones["anterior"], 0.9 * half, 0.8)
    bone = ribs + 9.0 * _shell(bones["clavicles"], 0.026, 0.8)
    bone = (
        bone
        + 0.05 * jax.nn.sigmoid(bones["blade"] / 0.006)
        + 0.04 * jnp.exp(-jnp.square(bones["blade"] / 0.012))
    )
    column = jax.nn.sigmoid(bones["spine"] / 0.008) * (
        0.16 + 0.07 * jax.nn.sigmoid((bones["discs"] - 0.03) / 0.006)
    )
    trachea = tube((y, organs["across"]), (-1.0, 0.0), (-0.22, 0.005), (0.042, 0.036))
    windpipe = 0.14 * jnp.sqrt(jnp.clip(trachea, 0, 0.04) / 0.04)
    return trunk - air + bone + column - windpipe - _stomach_gas(chance, y, x, organs, fields)


def _air(organs: dict, fields: dict, heavy: jax.Array, uneven: jax.Array) -> jax.Array:
    """Path through the lungs' air: least at their rims and in front of and behind the heart and liver."""
    egg = jnp.clip(organs["egg"] / 0.22, 0, 1)
    deep = 0.68 * jnp.sqrt(egg * (2 - egg) + 1e-6) * jnp.exp(0.12 * heavy)
    border = organs["lungs"]
    # The lungs reach behind the heart and below the domes, where little air is left.
    share = jnp.where(border > 0, 1.0, 0.0)
    hidden = 0.25 * jnp.exp(-jax.nn.relu(-organs["diaphragm"]) / 0.06) * (organs["egg"] > 0)
    share = hidden + (1 - hidden) * jnp.clip(0.5 + border / 0.012, 0, 1) * share
    vessels = _vessels(organs, fields)
    texture = 1 + 0.05 * fields["texture"][0] + 0.08 * fields["medium"][5] + 0.1 * uneven * organs["down"]
    return jax.nn.relu(deep * share * texture - vessels * jnp.sqrt(share))


def _vessels(organs: dict, fields: dict) -> jax.Array:
    """Path through vessels: creases that radiate from both hila, thinner and more with the distance."""
    down, out = organs["down"] + 0.02, jnp.abs(organs["across"]) - 0.12
    distance = norm(down, out) + 0.02
    angle = jnp.arctan2(down, out)
    spacing = 2 / down.shape[0]
    paths = 0.10 * jnp.exp(-jnp.square(distance / 0.13)) * (1 + 0.4 * fields["fine"][2])
    for lines, reach, width, strength, bend in (
        (5, 0.28, 0.020, 0.13, 1.0 * fields["medium"][1] + 0.5 * fields["fine"][3]),
        (11, 0.5, 0.011, 0.08, 1.3 * fields["fine"][4] + 0.8 * fields["medium"][2]),
        (23, 0.8, 0.007, 0.05, 1.8 * fields["texture"][1] + 1.2 * fields["fine"][1]),
    ):
        wave = jnp.cos(lines * angle + bend + 3 * (organs["across"] > 0))
        crease = distance_to_zero(wave, spacing) / (width * (1.2 - jnp.clip(distance, 0, 1)))
        paths = paths + strength * jnp.exp(-jnp.square(crease)) * jnp.exp(-jnp.square(distance / reach))
    return paths


def _stomach_gas(chance: Chance, y: jax.Array, x: jax.Array, organs: dict, fields: dict) -> jax.Array:
    """Air in stomach and colon, below the left dome in most subjects."""
    down, right, tall, wide, amount, _ = chance.normal("gas")
    bubble = ellipsoid(
        (y, x),
        (0.56 + 0.04 * down, 0.34 + 0.06 * right),
        (0.07 * jnp.exp(0.4 * tall), 0.13 * jnp.exp(0.3 * wide)),
        0.3 * amount,
    )
    bubble = jnp.minimum(bubble + 0.012 * fields["fine"][0], -organs["diaphragm"] - 0.015)
    return (0.15 + 0.1 * jnp.tanh(amount)) * jax.nn.sigmoid(bubble / 0.012) * (amount > -0.7)


def _display(
    chance: Chance, y: jax.Array, x: jax.Array, depth: jax.Array, fields: dict, noise: float, side: int
) -> jax.Array:
    """The console's picture `(H, W)` in [0, 1]: scatter, noise, exposure, display curve, leads and marker."""
    level, width, gamma, scatter, grain = chance.normal("display")
    spread = blur(depth, (side / 12, side / 12))
    # Part of the signal is scatter; processing then lifts detail above it again.
    detail = depth - (0.3 + 0.12 * jnp.tanh(scatter)) * spread
    low = 0.02 + 0.05 * level
    shown = (detail - low) / (0.85 * jnp.exp(0.15 * width))
    shown = _leads(chance, y, x, shown)
    shown = blur(shown, (0.0022 * side / 2, 0.0022 * side / 2))
    shown = jnp.clip(jax.nn.softplus(10 * shown) / 10, 0, None)
    shown = 1 - jax.nn.softplus(8 * (1 - shown)) / 8
    shown = jnp.clip(shown, 1e-4, 1) ** (0.95 * jnp.exp(0.15 * gamma))
    white = blur(chance.noise(side, side), (0.5, 0.5), white=True)
    return jnp.clip(shown + noise * jnp.exp(0.3 * grain) * (white + 0.4 * fields["grain"][0]), 0, 1)


def _leads(chance: Chance, y: jax.Array, x: jax.Array, shown: jax.Array) -> jax.Array:
    """Cables of a monitor and a side marker, in some subjects."""
    bend = chance.normal("devices")
    for i in range(2):
        a, b, c = bend[4 * i : 4 * i + 3]
        line = y - 0.3 * a - 0.5 * b * x - 0.8 * c * x * x
        line = line / jnp.sqrt(1 + jnp.square(0.5 * b + 1.6 * c * x))
        cable = jnp.where(bend[4 * i + 3] > 1.0, 0.16, 0.0)
        shown = paint(shown, 0.006 - jnp.abs(line), shown + cable, 0.008)
    rows, columns = grid(shown.shape)
    left = 0.82 + 0.05 * bend[8]
    letter = jnp.maximum(
        0.012 - jnp.maximum(jnp.abs(rows + 0.8) - 0.05, jnp.abs(columns - left)),
        0.012 - jnp.maximum(jnp.abs(rows + 0.75), jnp.abs(columns - left - 0.03) - 0.03),
    )
    return paint(shown, letter, jnp.where(bend[9] > 0.2, 1.0, shown), 0.012)


def _labels(organs: dict) -> jax.Array:
    """Labels `(H, W)`; the heart covers mediastinum and lungs."""
    labels = jnp.where(organs["body"] > 0, BODY, BACKGROUND)
    for name, label in (
        ("mediastinum", MEDIASTINUM),
        ("right_lung", RIGHT_LUNG),
        ("left_lung", LEFT_LUNG),
        ("heart", HEART),
    ):
        labels = jnp.where(organs[name] > 0, label, labels)
    return labels.astype(jnp.int32)


def _centroid(mask: jax.Array) -> jax.Array:
    """Row and column of a mask's centre."""
    weight = mask / jnp.maximum(mask.sum(), 1)
    rows, columns = (jnp.arange(length) + 0.5 for length in mask.shape)
    return jnp.stack([(weight.sum(1) * rows).sum(), (weight.sum(0) * columns).sum()])


def _organ_task(key: jax.Array) -> dict[str, jax.Array]:
    """Lungs and heart in radiographs with disease, framed as portable ones are."""
    drawn = chest_xray(key, 96, framing=2.8)
    organs = [drawn["labels"] == label for label in (RIGHT_LUNG, LEFT_LUNG, HEART)]
    return {"input": drawn["image"], "target": jnp.stack(organs, axis=-1).astype(jnp.float32)}


def _nodule_task(key: jax.Array) -> dict[str, jax.Array]:
    """The nodule that a radiograph shows."""
    drawn = chest_xray(key, 128, opacities=False, nodule=True)
    return {"input": drawn["image"], "target": drawn["nodule_mask"][..., None].astype(jnp.float32)}


TASKS = (
    Task("chest_xray_organs", "segmentation", _organ_task),
    Task("chest_xray_nodule", "segmentation", _nodule_task),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: healthy, with disease, with a nodule, and outlines of the organs."""

    def draw(key):
        healthy, ill = (chest_xray(key, opacities=disease) for disease in (False, True))
        nodule = chest_xray(key, opacities=False, nodule=True)
        return healthy["image"], ill["image"], nodule["image"], ill["labels"]

    healthy, ill, nodule, labels = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    return {
        "healthy": healthy[..., 0],
        "opacities and effusion": ill[..., 0],
        "nodule": nodule[..., 0],
        "labels": labels / (len(LABELS) - 1),
    }
