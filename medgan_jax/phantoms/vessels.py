"""Coronary arteries: centrelines with radii, angiograms, and CT volumes of a stretch of tube.

Every subject is a pure function of a random key; all three functions compile, and batch with `vmap`.

`coronary_centreline` runs along the grooves of an ellipsoidal heart and shows no image: it is what a
generator of vessel geometry learns. `angiogram` is an X-ray projection of a tree filled with contrast agent.
`vessel_volume` is the neighbourhood of a stretch of a centreline in CT angiography. With `stenosis` one
smooth narrowing of known grade lies on the main vessel; the rest of the subject stays as it was.

The population (mean, standard deviation): heart's half axes 42, 40 and 52 mm (6 %); radius at the ostium 1.9
(0.25), 1.75 (0.25) and 1.95 (0.3) mm of left anterior descending, circumflex and right artery (Dodge et al.,
Circulation 86, 1992), 35 % (8 %) of it after 150 mm; length uniform in 50 to 150 mm if not asked for; grade
of a stenosis, as part of the diameter, uniform in 0.3 to 0.85, its length 4 to 14 mm.
"""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes, trees
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.tasks import Task

DESCENDING, CIRCUMFLEX, RIGHT = range(3)
ARTERIES = {"left_anterior_descending": DESCENDING, "circumflex": CIRCUMFLEX, "right": RIGHT}
SHORTEST, LONGEST = 50.0, 250.0
# Points of the fine curve from which a centreline is cut, and the way it could go, in mm.
FINE = 384
OSTIA = (1.9, 1.75, 1.95), (0.25, 0.25, 0.3)

LINE_NUMBERS = {"artery": 4, "heart": 3, "path": 2 * 6, "radius": 10, "stenosis": 3}

BACKGROUND, VESSEL, CATHETER = range(3)
LABELS = {"background": BACKGROUND, "vessel": VESSEL, "catheter": CATHETER}
SIDE, TWIGS = 7, 4
STEPS = 40, 16, 10
IMAGE_NUMBERS = {
    "main": 12,
    "side": 7 * SIDE,
    "twigs": 7 * SIDE * TWIGS,
    "catheter": 4,
    "stenosis": 3,
    "body": 12,
}
IMAGE_FIELDS = {"broad": (3, 2), "smooth": (8, 3), "mottle": (20, 2), "fine": (70, 1)}

FAT, MYOCARDIUM, LUMEN, CALCIUM = range(4)
VOLUME_LABELS = {"fat": FAT, "myocardium": MYOCARDIUM, "lumen": LUMEN, "calcium": CALCIUM}
SIDE_OF_VOLUME = 24.0
VOLUME_FIELDS = {"broad": (2, 2), "smooth": (5, 2), "fine": (14, 1)}
VOLUME_NUMBERS = {"tissue": 6}


def coronary_centreline(
    key: jax.Array,
    points: int = 64,
    *,
    length: float | jax.Array | None = None,
    stenosis: bool | jax.Array = False,
) -> dict[str, jax.Array]:
    """One artery as a curve with radii; `key` decides everything about it.

    points: N, equally far apart. length: along the curve in mm, at most 250, or None for one drawn. stenosis:
    whether there is one; may be traced, as may the length.

    Returns `centreline` `(N, 3)` in mm, first at the ostium; `radii` `(N,)` in mm; `code` `(N, 4)`, steps
    from the point before (the first is zero) and radius; `length` `()` in mm; `artery` `()` int32, see
    `ARTERIES`; `stenosis_grade` `()`, the part of the diameter lost, 0 without; `stenosis_place` `()`, the
    part of the way. Raises `ValueError` for fewer than 8 points or, where it is not traced, a length out of
    (0, 250].
    """
    if points < 8:
        raise ValueError(f"a centreline needs at least 8 points, not {points}")
    if length is not None and not isinstance(length, jax.core.Tracer):
        wanted = np.asarray(length)
        if np.any(wanted <= 0) or np.any(wanted > LONGEST):
            raise ValueError(
                f"a centreline of {length} mm cannot be drawn; it may be up to {LONGEST:g} mm long"
            )
    chance = Chance(key, LINE_NUMBERS, {}, (1,))
    which, long, *_ = chance.uniform("artery")
    artery = jnp.floor(3 * which).astype(jnp.int32)
    length = SHORTEST + (150 - SHORTEST) * long if length is None else jnp.asarray(length, jnp.float32)
    curve = _on_the_heart(chance, artery)
    gone = jnp.concatenate(
        [jnp.zeros(1), jnp.tril(jnp.ones((FINE - 1, FINE - 1))) @ shapes.norm(*jnp.diff(curve, axis=0).T)]
    )
    # The curve is stretched, if need be, to be as long as is asked.
    stretch = jnp.maximum(length / gone[-1], 1.0)
    places = jnp.linspace(0, 1, points) * length / stretch
    line = jnp.stack([jnp.interp(places, gone, axis) for axis in curve.T], axis=-1) * stretch
    grade, place, radii = _radii(
        chance, artery, jnp.linspace(0, 1, points) * length, length, jnp.asarray(stenosis)
    )
    steps = jnp.concatenate([jnp.zeros((1, 3)), jnp.diff(line, axis=0)])
    return {
        "centreline": line,
        "radii": radii,
        "code": jnp.concatenate([steps, radii[:, None]], axis=-1),
        "length": length,
        "artery": artery,
        "stenosis_grade": grade,
        "stenosis_place": place,
    }


def _on_the_heart(chance: Chance, artery: jax.Array) -> jax.Array:
    """A fine curve `(FINE, 3)` in mm from the ostium along a groove of the heart."""
    along = np.linspace(0, 1, FINE, dtype=np.float32)
    cosines, sines = chance.normal("path").reshape(2, 6)
    order = np.arange(1, 7)
    waves = np.sin(np.pi * order[:, None] * along), np.sin(np.pi * (order[:, None] + 0.5) * along)
    # Angle round the long axis, and from the base to the apex, at the start, half-way and the end.
    stations = jnp.array(
        [
            [[0.0, 0.10, 0.05], [0.42, 0.95, 1.45]],
            [[0.1, 1.60, 2.30], [0.42, 0.62, 1.25]],
            [[-0.5, -2.20, -3.05], [0.45, 0.60, 1.30]],
        ]
    )[artery] * np.array([[1.0], [np.pi / 2]])
    first, middle, last = stations[:, 0, None], stations[:, 1, None], stations[:, 2, None]
    way = first + (4 * middle - 3 * first - last) * along + 2 * (first + last - 2 * middle) * along**2
    weight = 0.11 * order**-1.1
    turn = way[0] + (cosines * weight) @ waves[0]
    down = way[1] + 0.7 * (sines * weight) @ waves[1]
    depth, wide, long = np.array([42.0, 40.0, 52.0]) * jnp.exp(0.06 * chance.normal("heart"))
    curve = jnp.stack(
        [depth * jnp.sin(down) * jnp.cos(turn), wide * jnp.sin(down) * jnp.sin(turn), -long * jnp.cos(down)],
        -1,
    )
    return curve - curve[:1]


def _radii(
    chance: Chance, artery: jax.Array, way: jax.Array, length: jax.Array, stenosis: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Grade and place of the narrowing, and radii `(N,)` in mm at distances `way` `(N,)` from the ostium."""
    numbers = chance.normal("radius")
    mean, deviation = (jnp.array(each)[artery] for each in OSTIA)
    first = jnp.clip(mean + deviation * numbers[0], 1.0, 3.2)
    last = jnp.clip(0.35 + 0.08 * numbers[1], 0.15, 0.6)
    radii = first * last ** (way / 150)
    # Each of three side branches takes its share at once.
    forks = length * (np.arange(3) + jax.scipy.stats.norm.cdf(numbers[2:5])) / 3
    radii = radii * jnp.prod(1 - 0.05 * jax.nn.sigmoid((way[:, None] - forks) / 0.8), axis=1)
    waves = jnp.sin(way[:, None] * np.array([0.11, 0.23, 0.41, 0.73]) + 3 * numbers[5:9])
    radii = radii * jnp.exp(0.03 * waves.sum(1))
    grade, place, wide = chance.uniform("stenosis")
    grade = stenosis * (0.3 + 0.55 * grade)
    place = 0.15 + 0.7 * place
    sigma = (4 + 10 * wide) / 4
    dip = jnp.exp(-0.5 * jnp.square((way - place * length) / sigma))
    return grade.astype(jnp.float32), place, radii * (1 - grade * dip)


def angiogram(key: jax.Array, size: int = 256, *, stenosis: bool | jax.Array = False) -> dict[str, jax.Array]:
    """An X-ray projection of a coronary tree filled with contrast agent.

    Returns, for `size` = H = W: `image` `(H, W, 1)` float32 in [0, 1], vessels dark; `labels` `(H, W)` int32,
    see `LABELS`; `vessel_mask` `(H, W)` bool; `centreline` `(41, 2)` of the main vessel, row and column in
    pixels, with `radii` `(41,)` in pixels; `stenosis_grade` `()`, 0 without; `stenosis_place` `()`, the part
    of the way. Raises `ValueError` for a size below 32.
    """
    if size < 32:
        raise ValueError(f"an angiogram needs at least 32 x 32 pixels, not {size} x {size}")
    chance = Chance(key, IMAGE_NUMBERS, IMAGE_FIELDS, (size, size))
    view = trees.View((0.0, 0.0), 1.0, size)
    main, others, catheter, grade, place = _coronary_tree(chance, jnp.asarray(stenosis))
    groups = [jnp.full(len(each.angles), group, jnp.int32) for each, group in ((main, 0), (catheter, 1))]
    groups = [groups[0], *(jnp.zeros(len(each.angles), jnp.int32) for each in others), groups[1]]
    within, depth = trees.inside(
        [main, *others, catheter], view, widest=0.05, longest=0.09, groups=groups, count=2
    )
    share = trees.cover(within, depth)
    image = _x_ray(chance, view, within, depth, share)
    labels = jnp.where(share[1] > 0.5, CATHETER, BACKGROUND)
    labels = jnp.where(share[0] > 0.5, VESSEL, labels)
    return {
        "image": image[..., None],
        "labels": labels.astype(jnp.int32),
        "vessel_mask": share[0] > 0.5,
        "centreline": view.pixels(main.points[0]),
        "radii": main.radii[0] * view.scale,
        "stenosis_grade": grade,
        "stenosis_place": place,
    }


def _coronary_tree(chance: Chance, stenosis: jax.Array) -> tuple:
    """Main vessel, its branches, the catheter that fills it; grade and place of the narrowing."""
    across, down, turn, bend, long, wide, hand, *wiggles = chance.normal("main")
    side = jnp.where(hand > 0, 1.0, -1.0)
    start = jnp.stack([-0.55 + 0.08 * down, side * (-0.5 + 0.1 * across)])
    angle = 0.5 * np.pi - side * (0.75 + 0.25 * turn)
    trunk = trees.grow(
        start[None], angle[None], (side * (0.9 + 0.35 * bend))[None], (1.55 + 0.12 * long)[None],
        (0.036 * jnp.exp(0.12 * wide))[None], 0.16 * jnp.stack(wiggles[:4])[None], STEPS[0],
        taper=0.65, haste=1.0,
    )  # fmt: skip
    grade, place, width = chance.uniform("stenosis")
    grade = (stenosis * (0.3 + 0.55 * grade)).astype(jnp.float32)
    place = 0.15 + 0.7 * place
    dip = jnp.exp(-0.5 * jnp.square((np.linspace(0, 1, STEPS[0] + 1) - place) / (0.02 + 0.025 * width)))
    main = trunk._replace(radii=trunk.radii * (1 - grade * dip))
    branches = _branches(chance, "side", trunk, SIDE, STEPS[1], 0.75)
    twigs = _branches(chance, "twigs", branches, TWIGS, STEPS[2], 0.45)
    off, lean, *_ = chance.normal("catheter")
    catheter = trees.grow(
        start[None], (-0.5 * np.pi - side * (0.5 + 0.2 * off))[None], (side * (0.8 + 0.2 * lean))[None],
        jnp.full(1, 1.2), jnp.full(1, 0.021), jnp.zeros((1, 1)), STEPS[1], taper=0.0, haste=1.0,
    )  # fmt: skip
    return main, [branches, twigs], catheter, grade, place


def _branches(
    chance: Chance, name: str, parents: trees.Paths, number: int, steps: int, longest: float
) -> trees.Paths:
    place, turn, bend, ratio, *wiggles = chance.normal(name).reshape(7, -1)
    place = jax.scipy.stats.norm.cdf(place.reshape(-1, number))
    starts, angles, radii = trees.sprout(parents, 0.1 + 0.85 * (np.arange(number) + place) / number)
    turn = jnp.tile(1 - 2 * (jnp.arange(number) % 2), len(place)) * (0.85 + 0.2 * turn)
    radii = radii * 0.68 * jnp.exp(0.18 * jnp.clip(ratio, -2, 2))
    lengths = longest * jnp.minimum(radii / 0.02, 1.2)
    radii = jnp.where(radii < 0.008, 0.0, radii)
    return trees.grow(
        starts, angles + turn, -0.7 * turn + 0.3 * bend, lengths, radii, 0.18 * jnp.stack(wiggles, -1), steps
    )


def _x_ray(
    chance: Chance, view: trees.View, within: jax.Array, depth: jax.Array, share: jax.Array
) -> jax.Array:
    """Detector image `(H, W)`: the body's attenuation, that of contrast agent by its depth, quanta, blur."""
    y, x = view.coordinates()
    numbers = chance.normal("body")
    smooth, mottle = chance.field("smooth"), chance.field("mottle")
    # Diaphragm, spine and ribs, and the heart, darker than lung.
    spine = jax.nn.sigmoid((0.22 - jnp.abs(x - 0.25 * numbers[0] + 0.08 * y)) / 0.05)
    spine = spine * (1 + 0.25 * jnp.sin(9 * y + 3 * numbers[1]))
    diaphragm = jax.nn.sigmoid(
        (y - 0.75 + 0.15 * numbers[2] + 0.35 * jnp.square(x - 0.4 * numbers[3])) / 0.02
    )
    heart = jax.nn.sigmoid((0.85 + 0.1 * numbers[4] - shapes.norm(y - 0.1, x - 0.2 * numbers[5])) / 0.06)
    bent = y - 0.25 * jnp.square(x) * jnp.sign(numbers[6]) + 0.1 * smooth[0]
    ribs = jax.nn.sigmoid((jnp.cos(7.5 * bent + 3 * numbers[7]) - 0.72) / 0.08)
    body = 0.28 * spine + 0.55 * diaphragm + 0.20 * heart + 0.13 * ribs + 0.10 * smooth[1] + 0.09 * mottle[0]
    body = body + 0.15 * chance.field("broad")[0]
    # Vessels that agent has left or not yet reached are faint.
    chord = jnp.sqrt(jnp.clip(1 - jnp.square(1 - depth), 0, 1))
    radius = within / jnp.maximum(depth, 1e-2) / view.scale
    filling = jnp.exp(0.18 * numbers[8] + 0.30 * smooth[2])
    agent = share[0] * (0.4 + 0.6 * chord[0]) * jnp.clip(radius[0] / 0.036, 0, 1.2) ** 0.6
    wall = share[1] * (0.35 + 0.45 * jnp.exp(-jnp.square(depth[1] / 0.3)))
    log = 0.62 + 0.15 * numbers[9] - 0.6 * (body + 0.85 * filling * agent + 0.45 * wall)
    light = jnp.exp(log - 1.15)
    blurred = shapes.blur(light, (0.0035 * view.size, 0.0035 * view.size))
    quanta = 0.035 * jnp.exp(0.2 * numbers[10]) * jnp.sqrt(jnp.maximum(blurred, 0.02))
    return jnp.clip(blurred + quanta * chance.noise(view.size, view.size), 0, 1)


def vessel_volume(
    key: jax.Array, size: int = 48, *, stenosis: bool | jax.Array = False, points: int = 24
) -> dict[str, jax.Array]:
    """A cube of 24 mm about a coronary artery in CT angiography.

    It is centred on the narrowing, or where that would be. In a stenosis lies some calcium.

    Returns, for `size` = D = H = W: `image` `(D, H, W)` float32 in HU (show -200 to 700); `labels` `(D, H,
    W)` int32, see `VOLUME_LABELS`; `vessel_mask` bool, the lumen; `centreline` `(points, 3)` in voxels,
    partly outside, `radii` `(points,)` in mm; `stenosis_grade` `()`. Raises `ValueError` for a size below 16.
    """
    if size < 16:
        raise ValueError(f"a vessel's volume needs at least 16 voxels a side, not {size}")
    line_key, image_key = jax.random.split(key)
    artery = coronary_centreline(line_key, 128, stenosis=stenosis)
    chance = Chance(image_key, VOLUME_NUMBERS, VOLUME_FIELDS, (size,) * 3)
    # The stretch that can be in the cube, to either side of its middle.
    way = artery["stenosis_place"] * artery["length"] + jnp.linspace(-20, 20, points)
    places = jnp.linspace(0, 1, 128) * artery["length"]
    line = jnp.stack([jnp.interp(way, places, axis) for axis in artery["centreline"].T], -1)
    radii = jnp.interp(way, places, artery["radii"])
    middle = jnp.stack([jnp.interp(way.mean(), places, axis) for axis in artery["centreline"].T])
    line = line - middle
    coordinates = [axis * SIDE_OF_VOLUME / 2 for axis in shapes.grid((size,) * 3)]
    inside = _tube(coordinates, line, radii)
    image, labels = _tissues(chance, coordinates, inside, artery["stenosis_grade"], SIDE_OF_VOLUME / size)
    return {
        "image": image,
        "labels": labels,
        "vessel_mask": labels == LUMEN,
        "centreline": (line + SIDE_OF_VOLUME / 2) * size / SIDE_OF_VOLUME - 0.5,
        "radii": radii,
        "stenosis_grade": artery["stenosis_grade"],
    }


def _tube(coordinates: list[jax.Array], line: jax.Array, radii: jax.Array) -> jax.Array:
    """Signed distance `(D, H, W)` in mm to a tube along `line` `(N, 3)`, piece by piece."""

    def nearer(inside: jax.Array, piece: tuple) -> tuple[jax.Array, None]:
        start, end, first, last = piece
        return jnp.maximum(inside, shapes.tube(coordinates, start, end, (first, last))), None

    shape = jnp.broadcast_shapes(*(axis.shape for axis in coordinates))
    pieces = line[:-1], line[1:], radii[:-1], radii[1:]
    return jax.lax.scan(nearer, jnp.full(shape, -99.0), pieces)[0]


def _tissues(
    chance: Chance, coordinates: list[jax.Array], inside: jax.Array, grade: jax.Array, voxel: float
) -> tuple[jax.Array, jax.Array]:
    """HU and labels `(D, H, W)`: fat, the heart's wall to one side, lumen, calcium beside a narrowing."""
    numbers = chance.normal("tissue")
    broad, smooth, fine = chance.field("broad"), chance.field("smooth"), chance.field("fine")
    muscle = 3 * broad[0] + 1.2 * smooth[0] - 1.5
    # Muscle keeps a coat of fat about the artery, and is as bright as a poorly filled vessel.
    muscle = jnp.minimum(muscle, -inside - 0.6)
    image = -85 + 8 * smooth[1] + 12 * fine[0]
    image = shapes.paint(image, muscle, 110 + 12 * fine[0] + 15 * numbers[0], 1.2 * voxel)
    image = shapes.paint(image, inside, 370 + 50 * jnp.clip(numbers[1], -2, 2), 1.2 * voxel)
    off = 1.2 * jnp.tanh(numbers[2:5])
    deposit = jnp.where(grade > 0, 0.9, -9.0) - shapes.norm(
        *(axis - o for axis, o in zip(coordinates, off, strict=True))
    )
    deposit = jnp.minimum(deposit + 0.3 * smooth[1], 0.35 - jnp.abs(inside + 0.35))
    image = shapes.paint(image, deposit, 900.0, 1.2 * voxel)
    image = shapes.blur(image, (0.35 / voxel,) * 3)
    image = image + 24 * jnp.exp(0.2 * numbers[5]) * shapes.blur(
        chance.noise(*image.shape), (0.6,) * 3, white=True
    )
    labels = jnp.where(muscle > 0, MYOCARDIUM, FAT)
    labels = jnp.where(inside > 0, LUMEN, labels)
    return image, jnp.where(deposit > 0, CALCIUM, labels).astype(jnp.int32)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: angiograms without and with a narrowing, masks, volumes, centrelines."""

    def draw(function, *arguments, **options) -> dict[str, jax.Array]:
        return jax.jit(lambda keys: jax.lax.map(lambda key: function(key, *arguments, **options), keys))(keys)

    narrow, volume = draw(angiogram, 256, stenosis=True), draw(vessel_volume, 64, stenosis=True)
    return {
        "angiogram": draw(angiogram, 256)["image"][..., 0],
        "with a stenosis": narrow["image"][..., 0],
        "vessels": narrow["vessel_mask"],
        "CT: brightest of 6 mm about a stenosis": jnp.clip(
            (volume["image"][:, 24:40].max(1) + 200) / 900, 0, 1
        ),
        "centreline with radii, from the front": draw(_silhouette, stenosis=True),
    }


def _silhouette(key: jax.Array, size: int = 192, stenosis: bool = False) -> jax.Array:
    """Projection `(size, size)` of a centreline with its radii doubled, to look at."""
    artery = coronary_centreline(key, stenosis=stenosis)
    line = artery["centreline"] @ np.array([[0.0, 0.35], [0.0, 1.0], [-1.0, 0.0]])
    low, high = line.min(0), line.max(0)
    view = trees.View(tuple((low + high) / 2), 75.0, size)
    paths = trees.Paths(line[None], jnp.zeros((1, len(line))), 2 * artery["radii"][None])
    return trees.cover(*trees.inside([paths], view, widest=6.0, longest=4.5))[0]


def _task(key: jax.Array) -> dict[str, jax.Array]:
    case = angiogram(key, 96)
    return {"input": case["image"], "target": case["vessel_mask"][..., None].astype(jnp.float32)}


TASKS = (Task("angiogram_vessels", "segmentation", _task),)
