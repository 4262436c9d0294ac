"""Micrographs of single procedural neurons: a cell body, its dendrites and an axon.

Every neuron is a pure function of a random key: `neuron_image(key, size)` compiles, and batches with `vmap`.
A key gives the same neuron at every size and in every style, so that styles are registered.

The neuron grows by `medgan_jax.phantoms.trees`: four to seven stems fork twice, one of them, the axon, is
longer and straighter. A second tree lies out of focus. Light along the neurites waxes and wanes, and debris
and an uneven background are as bright, so that brightness alone does not find them.

The population (mean, standard deviation), lengths in halves of the picture's side: cell body 0.075 (18 %)
long, 0.7 (0.1) as wide; stems' radius 0.021 (15 %), length 0.75 (15 %); forks at 40 (11) degrees.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes, trees
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.tasks import Task

Style = Literal["fluorescence", "brightfield", "phase"]

BACKGROUND, NEURITE, SOMA = range(3)
LABELS = {"background": BACKGROUND, "neurite": NEURITE, "soma": SOMA}

STEMS, FORKS, TIPS = 7, 3, 2
STEPS = 20, 14, 10
WIDEST, LONGEST = 0.03, 0.085
NUMBERS = {
    "neuron": 10,
    "stems": 7 * STEMS,
    "forks": 7 * STEMS * FORKS,
    "tips": 7 * STEMS * FORKS * TIPS,
    "debris": 80,
}
FIELDS = {"broad": (3, 2), "smooth": (9, 2), "mottle": (30, 2), "grain": (90, 1)}
DEBRIS = 20


def neuron_image(key: jax.Array, size: int = 256, *, style: Style = "fluorescence") -> dict[str, jax.Array]:
    """One neuron; `key` decides everything about it.

    style: `fluorescence`, bright on dark with photon noise; `brightfield`, an impregnated cell, dark on a
    bright uneven ground; `phase`, grey with bright halos.

    Returns, for `size` = H = W: `image` `(H, W, 1)` float32 in [0, 1]; `labels` `(H, W)` int32, see `LABELS`;
    `neuron_mask` `(H, W)` bool, the reconstruction of body and neurites; `soma` `(2,)`, row and column of the
    body's centre in pixels. Raises `ValueError` for an unknown style or a size below 32.
    """
    if style not in get_args(Style):
        raise ValueError(f"unknown style '{style}'; there are {', '.join(get_args(Style))}")
    if size < 32:
        raise ValueError(f"a neuron needs at least 32 x 32 pixels, not {size} x {size}")
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    view = trees.View((0.0, 0.0), 1.0, size)
    centre = 0.22 * jnp.clip(chance.normal("neuron")[:2], -2, 2)
    sharp, blurred = _neurites(chance, view, centre)
    body = _soma(chance, view, centre)
    light = jnp.maximum(sharp * _luminance(chance), jnp.clip(0.5 + body * view.scale, 0, 1))
    light = jnp.maximum(light, 0.75 * _debris(chance, view))
    mask = (sharp > 0.5) | (body > 0)
    labels = jnp.where(body > 0, SOMA, jnp.where(mask, NEURITE, BACKGROUND))
    return {
        "image": _expose(chance, view, style, light, blurred)[..., None],
        "labels": labels.astype(jnp.int32),
        "neuron_mask": mask,
        "soma": view.pixels(centre),
    }


def _neurites(chance: Chance, view: trees.View, centre: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shares of pixels `(H, W)` in the neurites, and in those of a neighbour out of focus."""
    place, bend, long, wide, *wiggles = chance.normal("stems").reshape(7, STEMS)
    numbers = chance.normal("neuron")
    angle = 2 * np.pi * (np.arange(STEMS) / STEMS + numbers[2]) + 0.3 * place
    axon = np.arange(STEMS) == 0
    missing = (np.arange(STEMS) > 4 + jnp.round(jax.scipy.stats.norm.cdf(numbers[3]) * 2.98 - 0.49)) & ~axon
    radius = 0.021 * jnp.exp(0.15 * wide) * np.where(axon, 0.7, 1.0)
    stems = trees.grow(
        centre + 0.045 * jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1),
        angle,
        0.3 * bend,
        0.75 * jnp.exp(0.15 * long) * np.where(axon, 1.8, 1.0),
        jnp.where(missing, 0.0, radius),
        0.18 * jnp.stack(wiggles, -1),
        STEPS[0],
        taper=0.6,
    )
    forks = _offspring(chance, "forks", stems, FORKS, STEPS[1])
    tips = _offspring(chance, "tips", forks, TIPS, STEPS[2])
    mine = [stems, forks, tips]
    # The neighbour is the same tree without its tips, turned, moved and thicker.
    shift = 0.9 * jnp.sign(numbers[4:6]) + 0.2 * numbers[4:6]
    other = [
        trees.Paths(shift - 1.2 * (each.points - centre)[..., ::-1], each.angles, 1.2 * each.radii)
        for each in (stems, forks)
    ]
    groups = [
        jnp.full(len(each.angles), int(group), jnp.int32)
        for each, group in zip(mine + other, "00011", strict=True)
    ]
    drawn = trees.cover(
        *trees.inside(mine + other, view, widest=WIDEST, longest=LONGEST, groups=groups, count=2)
    )
    return drawn[0], shapes.blur(drawn[1], (0.02 * view.size, 0.02 * view.size))


def _offspring(chance: Chance, name: str, parents: trees.Paths, number: int, steps: int) -> trees.Paths:
    place, turn, bend, long, *wiggles = chance.normal(name).reshape(7, -1)
    place = jax.scipy.stats.norm.cdf(place.reshape(-1, number))
    starts, angles, radii = trees.sprout(parents, 0.2 + 0.75 * (np.arange(number) + place) / number)
    turn = jnp.tile(1 - 2 * (jnp.arange(number) % 2), len(place)) * (0.7 + 0.2 * turn)
    lengths = 0.55 * jnp.exp(0.25 * long) * jnp.minimum(radii / 0.016, 1.0)
    radii = jnp.where(radii < 0.006, 0.0, 0.78 * radii)
    return trees.grow(
        starts,
        angles + turn,
        -0.4 * turn + 0.3 * bend,
        lengths,
        radii,
        0.22 * jnp.stack(wiggles, -1),
        steps,
    )


def _soma(chance: Chance, view: trees.View, centre: jax.Array) -> jax.Array:
    """Signed distance `(H, W)` to the cell body."""
    tilt, long, slim = chance.normal("neuron")[6:9]
    length = 0.075 * jnp.exp(0.18 * long)
    radii = length, length * (0.7 + 0.1 * jnp.clip(slim, -2, 2))
    return (
        shapes.ellipsoid(view.coordinates(), centre, radii, np.pi * tilt) + 0.008 * chance.field("smooth")[0]
    )


def _luminance(chance: Chance) -> jax.Array:
    """How bright neurites are, `(H, W)`; in places they leave the focus."""
    return 0.16 + 0.72 * jax.nn.sigmoid(
        1.2 * chance.field("smooth")[1] + 0.9 * chance.field("mottle")[0] + 0.2
    )


def _debris(chance: Chance, view: trees.View) -> jax.Array:
    """Specks `(H, W)` as bright as neurites."""
    y, x = (jnp.asarray(axis) for axis in view.coordinates())
    down, across, size, light = jax.scipy.stats.norm.cdf(chance.normal("debris")).reshape(4, DEBRIS, 1, 1)
    spots = jnp.square(y - 2 * down + 1) + jnp.square(x - 2 * across + 1)
    return jnp.max(light * jnp.exp(-spots / jnp.square(0.008 + 0.03 * size**3)), 0)


def _expose(
    chance: Chance, view: trees.View, style: Style, light: jax.Array, blurred: jax.Array
) -> jax.Array:
    """The micrograph `(H, W)` in [0, 1] of what emits, absorbs or delays light."""
    soft, wide = 0.003 * view.size, 0.016 * view.size
    numbers = chance.normal("neuron")
    uneven = chance.field("broad")[0]
    texture = chance.field("mottle")[1]
    noise = chance.noise(view.size, view.size)
    image = shapes.blur(light, (soft, soft)) + 0.45 * blurred
    glow = shapes.blur(light, (wide, wide))
    if style == "fluorescence":
        haze = 0.11 * jnp.exp(0.6 * uneven + 0.25 * texture) + 0.25 * glow
        image = 0.72 * jnp.exp(0.15 * numbers[9]) * image * jnp.exp(0.2 * uneven) + haze
        image = image + 0.04 * jnp.sqrt(image) * noise
    elif style == "brightfield":
        ground = 0.74 * jnp.exp(0.12 * uneven + 0.05 * texture + 0.04 * chance.field("grain")[0])
        image = ground * jnp.exp(-1.1 * jnp.exp(0.15 * numbers[9]) * image - 0.3 * glow) + 0.02 * noise
    else:
        ground = 0.5 * jnp.exp(0.12 * uneven + 0.07 * texture)
        image = ground - 0.40 * image + 0.85 * glow + 0.03 * noise
    return jnp.clip(image, 0, 1)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: the three styles and the reconstruction."""

    def draw(style: Style) -> dict[str, jax.Array]:
        return jax.jit(lambda keys: jax.lax.map(lambda key: neuron_image(key, 256, style=style), keys))(keys)

    drawn = {style: draw(style) for style in get_args(Style)}
    rows = {style: each["image"][..., 0] for style, each in drawn.items()}
    return rows | {"reconstruction": drawn["phase"]["neuron_mask"]}


def _task(key: jax.Array) -> dict[str, jax.Array]:
    neuron = neuron_image(key, 96)
    return {"input": neuron["image"], "target": neuron["neuron_mask"][..., None].astype(jnp.float32)}


TASKS = (Task("neuron_reconstruction", "segmentation", _task),)
