"""Colour photographs of a procedural retina, and the vessel tree alone.

Every eye is a pure function of a random key: `fundus_image(key, size)` compiles, and batches with `vmap`. A
key gives the same eye at every size, tone, view, with lesions or without. A close-up of the optic disc is the
same eye photographed again: vessels, disc and cup are in their places, the fine texture is another.

A photograph is built in four steps. *Vessels*: arteries and veins leave the disc in four arcades and some
twigs, and fork twice (`medgan_jax.phantoms.trees`). *Fundus*: pigment epithelium and choroid, nerve fibres,
macula, optic disc with its cup and, in some, a pale or a dark crescent; lesions. *Light*: blood absorbs by
the depth of the vessel, most in blue and green; arteries shine along their axis. *Camera*: uneven
illumination, the point spread, noise, the round stop.

The population (mean, standard deviation), lengths in distances from disc to fovea (about 4.8 mm): disc's
radius 0.19 (0.016), 8 % (5 %) higher than wide; vertical cup-to-disc ratio 0.45 (0.13) within 0.15 to 0.85;
veins' radius at the disc 0.0165 (12 %), arteries 0.75 of it; fovea at 1 (0.04), 0.1 (0.06) below the disc;
colour 25 % in red, 20 % in green, 40 % in blue. Left and right eyes are equally frequent.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes, trees
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.tasks import Task

Sight = Literal["macula", "disc", "head"]
Tone = Literal["orange", "red", "pale"]

OUTSIDE, RETINA, ARTERY, VEIN, DISC, CUP, DARK_LESION, BRIGHT_LESION = range(8)
LABELS = {
    "outside": OUTSIDE,
    "retina": RETINA,
    "artery": ARTERY,
    "vein": VEIN,
    "disc": DISC,
    "cup": CUP,
    "dark_lesion": DARK_LESION,
    "bright_lesion": BRIGHT_LESION,
}

# Half the side of the picture: fields of view of about 45 and 30 degrees, and a close-up of the disc.
SIGHTS = {"macula": 1.42, "disc": 0.96, "head": 0.46}
# Red, green and blue of the retina: as most cameras show it, as in CHASE_DB1, and a lightly pigmented eye.
TONES = {"orange": (0.72, 0.36, 0.15), "red": (0.66, 0.24, 0.045), "pale": (0.80, 0.52, 0.32)}
# What the depth of the widest vessel absorbs in red, green and blue: arteries and veins.
ABSORPTION = np.array([[0.02, 0.42, 0.52], [0.06, 0.62, 0.72]], np.float32)

WIDEST, LONGEST = 0.022, 0.08
TWIGS = 8
TRUNKS, BRANCHES, TIPS = 8 + TWIGS, 6, 3
STEPS = 30, 14, 8
DARK, BRIGHT = 14, 10

NUMBERS = {
    "eye": 8,
    "disc": 8,
    "trunks": 7 * TRUNKS,
    "branches": 7 * TRUNKS * BRANCHES,
    "tips": 7 * TRUNKS * BRANCHES * TIPS,
    "light": 12,
    "dark": 5 * DARK,
    "bright": 5 * BRIGHT,
}
FIELDS = {"broad": (2, 2), "smooth": (7, 3), "mottle": (24, 3), "fine": (64, 2), "grain": (160, 1)}


def vessel_tree(key: jax.Array, size: int = 256, *, sight: Sight = "macula") -> dict[str, jax.Array]:
    """The vessels of `fundus_image` of the same key, without drawing the rest of it.

    Returns, for `size` = H = W: `image` `(H, W, 1)`, the share of each pixel that is vessel, in [0, 1];
    `vessel_mask` `(H, W)` bool; `labels` `(H, W)` int32, `ARTERY`, `VEIN`, `RETINA` or, beyond the stop,
    `OUTSIDE`. Raises `ValueError` as `fundus_image`.
    """
    _check(size, sight)
    chance = Chance(key, NUMBERS, {}, (size, size))
    view = _view(chance, size, sight)
    within, depth = _vessels(chance, view)
    stop = _stop(view, sight)
    shared = _shared(within, depth) * (stop[None] > 0)
    return {
        "image": jnp.max(shared, 0)[..., None],
        "vessel_mask": jnp.max(shared, 0) > 0.5,
        "labels": _vessel_labels(shared, jnp.where(stop > 0, RETINA, OUTSIDE)),
    }


def fundus_image(
    key: jax.Array,
    size: int = 256,
    *,
    sight: Sight = "macula",
    tone: Tone = "orange",
    lesions: bool | jax.Array = False,
) -> dict[str, jax.Array]:
    """One eye's photograph; `key` decides everything about it.

    `sight` is what stands in the middle: the macula (45 degrees), the disc (30 degrees), or the optic nerve's
    head alone, near to and not quite in the middle, without a stop. With `lesions` (it may be traced) there
    are microaneurysms and haemorrhages, and hard exudates. `tone` is the colour of camera and pigment.

    Returns, for `size` = H = W:

    * `image` `(H, W, 3)`: float32 in [0, 1];
    * `labels` `(H, W)`: int32, see `LABELS`; vessels lie over the disc;
    * `field_of_view`, `vessel_mask`, `disc_mask`, `cup_mask`, `lesion_mask` `(H, W)`: bool; the cup is part
      of the disc;
    * `fovea`, `disc_centre` `(2,)`: row and column in pixels, perhaps outside;
    * `cup_to_disc` `()`: vertical ratio.

    Raises `ValueError` for an unknown sight or tone or a size below 32.
    """
    _check(size, sight)
    if tone not in get_args(Tone):
        raise ValueError(f"unknown tone '{tone}'; there are {', '.join(get_args(Tone))}")
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    view = _view(chance, size, sight)
    pixel = 1 / view.scale
    within, depth = _vessels(chance, view)
    disc, cup, ratio = _disc(chance, view)
    dark, bright = _lesions(chance, view, jnp.asarray(lesions, jnp.float32))
    stop = _stop(view, sight)
    light = _background(chance, view, TONES[tone])
    light = _nerve_head(chance, view, TONES[tone], light, disc, cup)
    light = light * jnp.exp(-dark[..., None] * jnp.array([0.25, 0.75, 0.6]))
    light = light * jnp.exp(-jnp.einsum("khw,kc->hwc", _blood(chance, within, depth), ABSORPTION))
    light = shapes.paint(light, bright - 0.5, jnp.array([0.92, 0.80, 0.42]), 0.8)
    image = _photograph(chance, view, light) * jnp.clip(0.5 + stop / pixel, 0, 1)[..., None]
    shared = _shared(within, depth)
    labels = jnp.where(cup > 0, CUP, jnp.where(disc > 0, DISC, RETINA))
    labels = jnp.where(dark > 0.5, DARK_LESION, labels)
    labels = jnp.where(bright > 0.5, BRIGHT_LESION, _vessel_labels(shared, labels))
    seen = stop > 0
    return {
        "image": image,
        "labels": jnp.where(seen, labels, OUTSIDE),
        "field_of_view": seen,
        "vessel_mask": seen & (jnp.max(shared, 0) > 0.5),
        "disc_mask": seen & (disc > 0),
        "cup_mask": seen & (cup > 0),
        "lesion_mask": seen & ((dark > 0.5) | (bright > 0.5)),
        "fovea": view.pixels(_fovea(chance)),
        "disc_centre": view.pixels(jnp.zeros(2)),
        "cup_to_disc": ratio,
    }


def _check(size: int, sight: str) -> None:
    if sight not in SIGHTS:
        raise ValueError(f"unknown sight '{sight}'; there are {', '.join(SIGHTS)}")
    if size < 32:
        raise ValueError(f"a retina needs at least 32 x 32 pixels, not {size} x {size}")


def _side(chance: Chance) -> jax.Array:
    """1 where the fovea lies on the right of the disc, else -1."""
    return jnp.where(chance.normal("eye")[0] > 0, 1.0, -1.0)


def _fovea(chance: Chance) -> jax.Array:
    far, low = chance.normal("eye")[1:3]
    return jnp.stack([0.1 + 0.06 * low, _side(chance) * (1 + 0.04 * far)])


def _view(chance: Chance, size: int, sight: Sight) -> trees.View:
    """The camera's aim, which misses a little; the disc's centre is the origin."""
    miss = chance.normal("eye")[3:5]
    if sight == "head":
        # The head of the nerve is anywhere in the middle half, and larger or smaller in the picture.
        return trees.View(tuple(0.13 * jnp.clip(miss, -1.6, 1.6)), SIGHTS[sight], size)
    centre = {"macula": 0.85 * _fovea(chance), "disc": 0.12 * _fovea(chance)}[sight]
    return trees.View(tuple(centre + 0.05 * miss), SIGHTS[sight], size)


def _stop(view: trees.View, sight: Sight) -> jax.Array:
    """Distance `(H, W)` to the border of the camera's round stop, positive inside."""
    y, x = view.coordinates()
    radius = 9.0 if sight == "head" else 0.97 * view.half
    return radius - shapes.norm(y - view.centre[0], x - view.centre[1])


def _vessels(chance: Chance, view: trees.View) -> tuple[jax.Array, jax.Array]:
    """Signed distance in pixels and depth `(2, H, W)` of arteries and veins."""
    generations, kinds = _tree(chance)
    return trees.inside(generations, view, widest=WIDEST, longest=LONGEST, groups=kinds, count=2)


def _tree(chance: Chance) -> tuple[list[trees.Paths], list[jax.Array]]:
    """Three generations of vessels, and which of their paths are veins."""
    degree = np.pi / 180
    start, bend, long, wide, *wiggles = chance.normal("trunks").reshape(7, TRUNKS)
    # Upper and lower temporal and nasal arcades of artery and vein; then twigs, temporal and nasal.
    up = np.array([-1, 1, -1, 1] * 2)
    temporal = np.array([1, 1, 0, 0] * 2)
    vein = np.repeat([0, 1], 4)
    arcade = {
        "angle": up
        * (np.where(temporal, 84, 106) * degree + 15 * degree * start[:8] + 6 * degree * (2 * vein - 1)),
        "bend": up * np.where(temporal, -74, 26) * degree + 20 * degree * bend[:8],
        "length": np.where(temporal, 2.5, 1.8) + 0.1 * long[:8],
        "radius": np.where(vein, 0.0165, 0.0122) * np.where(temporal, 1.0, 0.8),
    }
    around = np.array([-38, -12, 14, 40, 150, 172, 196, 218]) * degree
    twig = {
        "angle": around + 9 * degree * start[8:],
        "bend": 14 * degree * bend[8:],
        "length": np.where(np.cos(around) > 0, 0.75, 1.25) + 0.1 * long[8:],
        "radius": np.where(np.cos(around) > 0, 0.0048, 0.0066) * np.ones(TWIGS),
    }
    angle, bend, long, radius = (jnp.concatenate([arcade[name], twig[name]]) for name in arcade)
    kinds = np.concatenate([vein, np.arange(TWIGS) % 2])
    width = jnp.exp(0.10 * chance.normal("eye")[5] + 0.12 * wide)
    side = _side(chance)
    seat = 0.05 * jnp.stack([jnp.sin(angle), jnp.cos(angle) - 0.8 * (1 + 0.3 * start)], axis=-1)
    trunks = trees.grow(
        seat, angle, bend, long, radius * width, 0.14 * jnp.stack(wiggles, -1), STEPS[0], taper=0.5
    )
    branches = _offspring(chance, "branches", trunks, BRANCHES, (0.16, 0.96), STEPS[1], 1.15)
    tips = _offspring(chance, "tips", branches, TIPS, (0.2, 0.98), STEPS[2], 0.62)
    generations = [_mirrored(_spared(each, chance, side), side) for each in (trunks, branches, tips)]
    return generations, [jnp.asarray(np.repeat(kinds, n)) for n in (1, BRANCHES, BRANCHES * TIPS)]


def _offspring(
    chance: Chance,
    name: str,
    parents: trees.Paths,
    number: int,
    reach: tuple[float, float],
    steps: int,
    longest: float,
) -> trees.Paths:
    """`number` forks of each parent, to both sides in turn, thinner and shorter than it."""
    place, turn, bend, ratio, *wiggles = chance.normal(name).reshape(7, -1)
    place = jax.scipy.stats.norm.cdf(place.reshape(-1, number))
    low, high = reach
    place = low + (high - low) * (np.arange(number) + place) / number
    starts, angles, radii = trees.sprout(parents, place)
    one_side = jnp.tile(1 - 2 * (jnp.arange(number) % 2), len(place))
    turn = one_side * (0.75 + 0.2 * turn)
    radii = radii * (0.62 * jnp.exp(0.25 * jnp.clip(ratio, -2, 1.4)))
    lengths = longest * jnp.minimum(radii / 0.008, 1.2) ** 0.6
    return trees.grow(
        starts,
        angles + turn,
        -0.6 * turn + 0.25 * bend,
        lengths,
        radii,
        0.2 * jnp.stack(wiggles, -1),
        steps,
        taper=0.6,
    )


def _spared(paths: trees.Paths, chance: Chance, side: jax.Array) -> trees.Paths:
    """Vessels end before the fovea and where they are thinner than a photograph shows."""
    fovea = _fovea(chance) * jnp.stack([1.0, side])
    far = shapes.norm(*(paths.points - fovea).transpose(2, 0, 1))
    radii = paths.radii * jnp.clip((far - 0.12) / 0.12, 0, 1)
    return paths._replace(radii=jnp.where(radii < 0.0016, 0, radii))


def _mirrored(paths: trees.Paths, side: jax.Array) -> trees.Paths:
    return paths._replace(points=paths.points * jnp.stack([1.0, side]))


def _shared(within: jax.Array, depth: jax.Array) -> jax.Array:
    return trees.cover(within, depth)


def _vessel_labels(shared: jax.Array, labels: jax.Array) -> jax.Array:
    seen = jnp.max(shared, 0) > 0.5
    return jnp.where(seen, jnp.where(shared[0] > shared[1], ARTERY, VEIN), labels).astype(jnp.int32)


def _blood(chance: Chance, within: jax.Array, depth: jax.Array) -> jax.Array:
    """What arteries and veins `(2, H, W)` absorb: by the chord through a round vessel, less the reflex."""
    radius = within / jnp.maximum(depth, 1e-2)
    chord = jnp.sqrt(jnp.clip(1 - jnp.square(1 - depth), 0, 1))
    # Thin vessels hold less blood; on a coarse grid a pixel shows its share.
    thin = jnp.clip(radius / jnp.maximum(jnp.max(radius), 1e-3), 0, 1) ** 0.45
    strength = jnp.exp(0.2 * chance.normal("light")[0]) * jnp.exp(0.35 * chance.field("smooth")[0])
    reflex = jnp.array([0.55, 0.25])[:, None, None] * jnp.exp(-jnp.square((1 - depth) / 0.22))
    reflex = reflex * jnp.clip(radius - 1.2, 0, 1)
    return trees.cover(within, depth) * (0.35 + 0.65 * chord) * thin * (1 - reflex) * strength


def _disc(chance: Chance, view: trees.View) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Signed distances `(H, W)` to disc and cup, and the vertical ratio of their heights."""
    y, x = view.coordinates()
    wide, high, tilt, ratio, off, low, *_ = chance.normal("disc")
    radius = 0.19 * (1 + 0.085 * wide)
    height = radius * (1 + 0.04 * (2 + high))
    wave = 0.006 * chance.field("smooth")[1]
    disc = shapes.ellipsoid((y, x), (0, 0), (height, radius), 0.2 * tilt) + wave
    ratio = jnp.clip(0.45 + 0.13 * ratio, 0.15, 0.85)
    centre = (0.012 * low, 0.012 * off + 0.02 * _side(chance) * (1 - ratio))
    cup = shapes.ellipsoid((y, x), centre, (ratio * height, 0.98 * ratio * radius), 0.2 * tilt) + 0.8 * wave
    return disc, jnp.minimum(cup, disc - 0.01), ratio


def _lesions(chance: Chance, view: trees.View, there: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How dark haemorrhages and how bright exudates are, `(H, W)` in [0, 1]; more than a half counts."""
    y, x = view.coordinates()
    ragged = 0.014 * chance.field("mottle")[0] + 0.008 * chance.field("fine")[1]

    def spots(
        part: str, number: int, centre: jax.Array, spread: float, sizes: tuple[float, float]
    ) -> jax.Array:
        down, across, size, slim, seen = chance.normal(part).reshape(5, number)
        radius = sizes[0] + (sizes[1] - sizes[0]) * jnp.power(jax.scipy.stats.norm.cdf(size), 3)
        slim = jnp.exp(0.25 * slim)
        dy = (y - centre[0])[None] - spread * down[:, None, None]
        dx = (x - centre[1])[None] - spread * across[:, None, None]
        distance = shapes.norm(dy / slim[:, None, None], dx * slim[:, None, None])
        radius = jnp.where(there * (seen > -0.6) > 0, radius, -0.1)[:, None, None]
        return jnp.max(radius - distance + ragged * jnp.clip(radius / 0.04, 0, 1), 0)

    soft = max(1 / view.scale, 0.006)
    fovea = _fovea(chance)
    ring = fovea + 0.3 * chance.normal("eye")[6:8]
    dark = spots("dark", DARK, fovea, 0.55, (0.012, 0.075))
    bright = spots("bright", BRIGHT, ring, 0.16, (0.010, 0.042))
    return tuple(jnp.clip(0.5 + each / soft, 0, 1) for each in (dark, bright))


def _base(chance: Chance, tone: tuple[float, float, float]) -> jax.Array:
    """The subject's colour `(3,)`; channels brighten together for the most part."""
    numbers = jnp.clip(chance.normal("light")[1:4], -2, 2)
    return jnp.array(tone) * jnp.exp(0.13 * numbers[0] + jnp.array([0.06, 0.13, 0.25]) * numbers)


def _background(chance: Chance, view: trees.View, tone: tuple[float, float, float]) -> jax.Array:
    """Colour `(H, W, 3)` of pigment epithelium, choroid, nerve fibres and macula."""
    y, x = view.coordinates()
    numbers = chance.normal("light")
    smooth, mottle, fine = chance.field("smooth"), chance.field("mottle"), chance.field("fine")
    # Choroidal vessels shine through, more in lightly pigmented eyes.
    choroid = jnp.tanh(1.2 * mottle[1] + 0.5 * mottle[2]) * jnp.exp(0.5 * numbers[4]) * (1 + 0.5 * smooth[2])
    log = 0.05 * choroid + 0.04 * fine[0] + 0.03 * mottle[0] + 0.06 * smooth[1]
    fovea = _fovea(chance)
    far = shapes.norm(y - fovea[0], x - fovea[1])
    macula = 0.30 * jnp.exp(-jnp.square(far / 0.22)) + 0.18 * jnp.exp(-jnp.square(far / 0.09))
    # Nerve fibres are bright streaks that leave the disc above and below.
    radius, angle = shapes.norm(y, x), jnp.arctan2(y, x)
    streaks = jnp.sin(37 * angle + 2.5 * view.half * smooth[0])
    arc = jnp.exp(-jnp.square((radius - 0.38) / 0.24)) * jnp.square(jnp.sin(angle))
    fibres = arc * (0.10 + 0.07 * streaks) * jnp.exp(0.4 * numbers[5])
    colours = jnp.array([[0.6, 1.0, 1.1], [0.6, 1.0, 0.6], [0.3, 1.0, 1.3]])
    log = jnp.stack([log, -macula, fibres])
    return _base(chance, tone) * jnp.exp(jnp.einsum("khw,kc->hwc", log, colours))


def _nerve_head(
    chance: Chance, view: trees.View, tone: tuple, light: jax.Array, disc: jax.Array, cup: jax.Array
) -> jax.Array:
    """`light` with the disc, its cup, and a crescent at its temporal border in some."""
    y, x = view.coordinates()
    pale, dark = chance.normal("disc")[6:]
    numbers = chance.normal("light")
    temporal = jax.nn.sigmoid(4 * (x * _side(chance) / shapes.norm(y, x) - 0.2))
    ring = jnp.exp(-jnp.square((disc + 0.02) / 0.022)) * temporal
    light = (
        light
        * jnp.exp(ring * (0.5 * jnp.clip(pale - 0.2, 0, 1.5) - 0.7 * jnp.clip(dark - 0.2, 0, 1.5)))[..., None]
    )
    glow = jnp.exp(-jnp.square(jnp.minimum(disc, 0) / 0.11))[..., None] * jnp.array([0.10, 0.22, 0.15])
    light = light * jnp.exp(glow * jnp.exp(0.5 * numbers[6]))
    texture = jnp.exp(0.05 * chance.field("mottle")[2] + 0.07 * chance.field("smooth")[2])[..., None]
    rim = _base(chance, tone) * jnp.array([1.7, 2.1, 2.2]) * jnp.exp(0.10 * numbers[7]) * texture
    hollow = rim * jnp.array([1.12, 1.30, 1.6]) * jnp.exp(0.08 * numbers[8])
    soft = 0.025 * jnp.exp(0.3 * numbers[9])
    light = shapes.paint(light, disc, rim, soft)
    return shapes.paint(light, cup, hollow, 2.2 * soft)


def _photograph(chance: Chance, view: trees.View, light: jax.Array) -> jax.Array:
    """The camera's picture `(H, W, 3)` in [0, 1] of the fundus: illumination, point spread, noise."""
    y, x = (axis / view.half for axis in view.coordinates())
    far = jnp.square(y - view.centre[0] / view.half) + jnp.square(x - view.centre[1] / view.half)
    numbers = chance.normal("light")
    uneven = jnp.exp(-0.28 * far * jnp.exp(0.4 * numbers[10]) + 0.16 * chance.field("broad")[0])
    light = light * uneven[..., None] * jnp.exp(0.10 * numbers[11])
    sharp = 0.0022 * view.size * 0.96 / view.half
    light = jnp.moveaxis(shapes.blur(jnp.moveaxis(light, -1, 0), (0, sharp, sharp)), 0, -1)
    white = chance.noise(view.size, view.size, 3)
    level = 0.012 * jnp.minimum(1, (256 / view.size) ** 0.5)
    grain = 0.010 * chance.field("grain")[0][..., None]
    light = light * (1 + grain) + level * white * jnp.sqrt(light + 0.02)
    return jnp.clip(1 - jnp.logaddexp(0.0, 12 * (1 - light)) / 12, 0, 1)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: the views, the tones, lesions and what the labels say."""

    def draw(**options) -> dict[str, jax.Array]:
        return jax.jit(lambda keys: jax.lax.map(lambda key: fundus_image(key, 256, **options), keys))(keys)

    disc, head = draw(sight="disc", tone="red"), draw(sight="head")
    return {
        "disc in the middle (30 degrees), red": disc["image"],
        "vessels": disc["vessel_mask"],
        "macula in the middle (45 degrees)": draw()["image"],
        "the same, lightly pigmented, with lesions": draw(tone="pale", lesions=True)["image"],
        "nerve head": head["image"],
        "disc and cup": 0.5 * head["disc_mask"] + 0.5 * head["cup_mask"],
    }


def _vessel_task(key: jax.Array) -> dict[str, jax.Array]:
    eye = fundus_image(key, 96, sight="disc")
    return {"input": eye["image"], "target": eye["vessel_mask"][..., None].astype(jnp.float32)}


def _nerve_head_task(key: jax.Array) -> dict[str, jax.Array]:
    eye = fundus_image(key, 64, sight="head")
    masks = jnp.stack([eye["disc_mask"], eye["cup_mask"]], axis=-1)
    return {"input": eye["image"], "target": masks.astype(jnp.float32)}


TASKS = (
    Task("fundus_vessels", "segmentation", _vessel_task),
    Task("fundus_disc_cup", "segmentation", _nerve_head_task),
)
