"""Confocal laser endomicroscopy of mucosa as a perfect instrument would see it, in four tissues.

Every field of view is a pure function of a random key: `endomicroscopy_image(key, size)` compiles, and
batches with `vmap`. The fibre bundle of a probe, which sees this through some thousand fibres, is the
business of `medgan_jax.physics.resolution` (`fibre_bundle`, `fibre_signals`, `from_fibres`).

Fluorescein shines in what it reaches: capillaries and the stroma between glands, not the cells' nuclei or
mucus. `crypts`: round glands of the colon with dark goblet cells about a dark mouth; `glands`: crowded,
irregular and branching ones, as in neoplasia; `epithelium`: polygonal cells with bright borders, as on villi
and in squamous epithelium; `stroma`: bright bundles of fibres and thin capillaries.

The population (mean, standard deviation): 5 glands or 11 cells across the picture, each of radius 0.40 (10 %)
of its site; brightness 20 %; detail finer than a probe's fibres has 10 % contrast.
"""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import mosaic, shapes
from medgan_jax.phantoms.chance import Chance

CRYPTS, GLANDS, EPITHELIUM, STROMA = range(4)
TISSUES = {"crypts": CRYPTS, "glands": GLANDS, "epithelium": EPITHELIUM, "stroma": STROMA}

GROUND, CELL, LUMEN = range(3)
LABELS = {"ground": GROUND, "cell": CELL, "lumen": LUMEN}

COARSE, DENSE = 5, 11
NUMBERS = {
    "field": 8,
    "coarse": 9 * mosaic.site_count(COARSE),
    "dense": 9 * mosaic.site_count(DENSE),
}
FIELDS = {"broad": (2, 1), "smooth": (6, 4), "mottle": (16, 3), "mesh": (40, 3), "fine": (70, 2)}


def endomicroscopy_image(
    key: jax.Array, size: int = 128, *, tissue: int | jax.Array = CRYPTS, noise: float = 0.02
) -> dict[str, jax.Array]:
    """One field of view, about 0.5 mm wide; `key` decides everything but the tissue.

    tissue: see `TISSUES`, may be traced. noise: standard deviation of what is added.

    Returns, for `size` = H = W: `image` `(H, W, 1)` float32 in [0, 1]; `labels` `(H, W)` int32, see `LABELS`
    (all ground in stroma); `tissue` `()` int32. Raises `ValueError` for a size below 32 or, where it is not
    traced, a tissue that is none.
    """
    if size < 32:
        raise ValueError(f"mucosa needs at least 32 x 32 pixels, not {size} x {size}")
    if not isinstance(tissue, jax.core.Tracer) and not np.all(
        np.isin(np.asarray(tissue), list(TISSUES.values()))
    ):
        raise ValueError(f"tissue {tissue} is none of {TISSUES}")
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    number = jnp.asarray(tissue, jnp.int32)
    # Glands and cells are drawn both, and chosen from: a tissue may differ within a batch.
    irregular = (number == GLANDS).astype(jnp.float32)
    glands = _glands(chance, size, irregular)
    cells = _cells(chance, size)
    stroma = _stroma(chance), jnp.zeros((size, size), jnp.int32)
    light, labels = (
        jnp.where(number == STROMA, third, jnp.where(number == EPITHELIUM, second, first))
        for first, second, third in zip(glands, cells, stroma, strict=True)
    )
    bright, uneven = chance.normal("field")[:2]
    detail = 0.10 * chance.field("fine")[0] + 0.05 * chance.field("mottle")[0]
    light = light * jnp.exp(detail + 0.15 * bright + 0.18 * jnp.exp(0.3 * uneven) * chance.field("broad")[0])
    light = shapes.blur(light, (0.0045 * size, 0.0045 * size)) + noise * chance.noise(size, size)
    return {
        "image": jnp.clip(0.9 * light, 0, 1)[..., None],
        "labels": labels.astype(jnp.int32),
        "tissue": number,
    }


def _near(
    chance: Chance, part: str, size: int, cells: int, wild: jax.Array | float, radius: float
) -> mosaic.Near:
    """What is near each pixel of a jittered lattice; `wild` in [0, 1] is how irregular it is."""
    sites = mosaic.site_count(cells)
    down, across, large, long, turn, *lobes = chance.normal(part).reshape(9, sites)
    smooth = chance.field("smooth")
    shift = jnp.clip(jnp.stack([down, across], -1), -1.5, 1.5)
    # Every other row is moved by half a site, as the closest packing of round things is.
    row = np.repeat(np.arange(cells + 2) % 2, cells + 2)
    packed = mosaic.corners(cells) + 0.5 + 0.25 * (2 * row[:, None] - 1) * np.array([0.0, 1.0])
    bent = jnp.moveaxis((0.14 + 0.12 * wild) * smooth[:2], 0, -1)
    outlines = mosaic.Outlines(
        centre=packed + (0.06 + 0.09 * wild) * shift,
        radius=radius * jnp.exp(0.10 * jnp.clip(large, -2, 2)),
        stretch=jnp.exp(jnp.abs((0.12 + 0.30 * wild) * jnp.clip(long, -2, 2))),
        angle=np.pi * turn,
        lobes=jnp.stack(lobes, -1) * (0.03 + 0.07 * wild),
    )
    return mosaic.near(mosaic.pixel_places(size, cells) + bent, outlines, cells)


def _glands(chance: Chance, size: int, irregular: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Light and label `(H, W)` of glands in a bright stroma with capillaries."""
    near = _near(chance, "coarse", size, COARSE, irregular, 0.40)
    first, depth, edge = near.best()
    smooth, mottle, mesh = chance.field("smooth"), chance.field("mottle"), chance.field("mesh")
    spacing = 1 / COARSE * size
    inside = jnp.clip(0.5 + edge * spacing / 1.5, 0, 1)
    place = jnp.take_along_axis(near.place, first[None, None], axis=1)[:, 0]
    turn, reach = jnp.arctan2(place[1], place[0]), shapes.norm(*place)
    # Cells stand round the mouth; goblets among them are dark, and a seam between cells is faint.
    seams = 0.5 + 0.5 * jnp.cos(21 * turn + 1.5 * smooth[0])
    goblets = jax.nn.sigmoid(4 * (mesh[0] - 0.3)) * jax.nn.sigmoid((reach - 0.42) / 0.05)
    mouth = (0.26 + 0.10 * irregular) * (1 + 0.15 * mottle[1])
    wall = 0.34 + 0.07 * seams + 0.08 * mesh[1] - 0.16 * goblets
    lumen = jax.nn.sigmoid((mouth - reach) / 0.05)
    gland = wall + lumen * (0.10 + 0.15 * jax.nn.sigmoid(2 * mottle[2]) - wall)
    membrane = 0.16 * jnp.exp(-jnp.square(edge / 0.03))
    light = _stroma(chance) * 0.85
    light = light + inside * (gland - light) + membrane
    labels = jnp.where(depth > 0, jnp.where(lumen > 0.5, LUMEN, CELL), GROUND)
    return light, labels


def _cells(chance: Chance, size: int) -> tuple[jax.Array, jax.Array]:
    """Light and label `(H, W)` of polygonal cells with bright borders and dark nuclei."""
    near = _near(chance, "dense", size, DENSE, 0.5, 0.66)
    first, depth, edge = near.best()
    mottle, mesh = chance.field("mottle"), chance.field("mesh")
    brightness = jnp.exp(0.22 * chance.normal("dense")[: mosaic.site_count(DENSE)])
    own = jnp.take_along_axis(near.of(brightness), first[None], axis=0)[0]
    reach = shapes.norm(*jnp.take_along_axis(near.place, first[None, None], axis=1)[:, 0])
    border = jnp.exp(-jnp.square(jax.nn.relu(edge) / 0.07))
    nucleus = jax.nn.sigmoid((0.32 - reach) / 0.05)
    light = 0.38 * own * (1 - 0.35 * nucleus) + 0.05 * mesh[0] + 0.34 * border * jnp.exp(0.3 * mottle[1])
    return light, jnp.where(depth > 0, CELL, GROUND)


def _stroma(chance: Chance) -> jax.Array:
    """Light `(H, W)` of bundles of fibres that wind, and thin capillaries."""
    smooth, mottle, mesh = chance.field("smooth"), chance.field("mottle"), chance.field("mesh")
    fibres = jnp.exp(-jnp.square((mottle[1] + 0.6 * smooth[2]) / 0.30))
    thin = jnp.exp(-jnp.square((mesh[2] + 0.8 * mottle[2]) / 0.28))
    capillaries = jnp.exp(-jnp.square((smooth[3] + 0.25 * mottle[0]) / 0.10))
    return 0.34 + 0.26 * fibres + 0.16 * thin + 0.24 * capillaries + 0.06 * smooth[0]


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: the four tissues."""
    draw = jax.jit(
        lambda keys, tissue: jax.lax.map(lambda key: endomicroscopy_image(key, 192, tissue=tissue), keys)
    )
    return {name: draw(keys, tissue)["image"][..., 0] for name, tissue in TISSUES.items()}
