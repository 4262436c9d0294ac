"""Intravascular ultrasound of a procedural coronary artery, along the beams and as a cross-section.

Every frame is a pure function of a random key: `ivus_frame(key, size)` compiles, and batches with `vmap`. A
key gives the same artery at every size, in either geometry and in either domain.

A frame is built in polar coordinates, rows along the beam, columns round the catheter: closed curves bound
lumen, plaque, media and adventitia, and echogenicity times complex noise, seen through the beam, makes
speckle (`medgan_jax.phantoms.speckle`). Two domains: `simulated` knows one echogenicity a tissue and nothing
else, as a physical simulator fed with labels does; `real` adds what such a simulator lacks: attenuation,
shadows behind calcium and the guide wire, ring-down, tissue-specific texture and flowing blood.

The population (mean, standard deviation), in mm: lumen's radius 1.55 (0.25) with 12 % (5 %) ovality; plaque
at its thickest 0.9 (0.35), round 0.75 of half a turn (0.2); media 0.16 (0.02); catheter's radius 0.5,
off-centre by 0.25 of the lumen; calcium in 45 per cent. Depth of view 4.6 mm. Compare Mintz et al., JACC 37,
2001, for sizes.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes, speckle
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.tasks import Task

Domain = Literal["simulated", "real"]
Geometry = Literal["polar", "cartesian"]

CATHETER, LUMEN, PLAQUE, MEDIA, ADVENTITIA, CALCIUM, OUTSIDE = range(7)
LABELS = {
    "catheter": CATHETER,
    "lumen": LUMEN,
    "plaque": PLAQUE,
    "media": MEDIA,
    "adventitia": ADVENTITIA,
    "calcium": CALCIUM,
    "outside": OUTSIDE,
}
# Root mean square amplitude of each, and how much of it varies in the real domain.
ECHOES = np.array([0.010, 0.016, 0.085, 0.020, 0.26, 0.9, 0.0], np.float32)
SCATTER = np.array([0.3, 0.35, 0.25, 0.3, 0.2, 0.2, 0.0], np.float32)

DEPTH, CATHETER_RADIUS = 4.6, 0.5
WAVES = 5
NUMBERS = {"artery": 14, "lumen": 2 * WAVES, "vessel": 2 * WAVES, "echoes": 7, "calcium": 8}
FIELDS = {"smooth": (8, 2), "mottle": (26, 2), "fine": (60, 2)}


def ivus_frame(
    key: jax.Array, size: int = 256, *, domain: Domain = "real", geometry: Geometry = "cartesian"
) -> dict[str, jax.Array]:
    """One frame; `key` decides everything about the artery.

    Returns, for `size` = H = W: `image` `(H, W, 1)` float32 in [0, 1], log-compressed; `labels` `(H, W)`
    int32, see `LABELS`; `lumen_mask`, `vessel_mask` `(H, W)` bool, the latter all within the outer border of
    the media; `lumen_radii`, `vessel_radii` `(H,)` in mm from the catheter, at angles `2 pi (i + 0.5) / H`.
    Polar frames have the depth along rows and the angle along columns. Raises `ValueError` for an unknown
    domain or geometry or a size below 32.
    """
    for name, choice, choices in (("domain", domain, Domain), ("geometry", geometry, Geometry)):
        if choice not in get_args(choices):
            raise ValueError(f"unknown {name} '{choice}'; there are {', '.join(get_args(choices))}")
    if size < 32:
        raise ValueError(f"an artery needs at least 32 x 32 pixels, not {size} x {size}")
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    depth = DEPTH * (np.arange(size, dtype=np.float32) + 0.5)[:, None] / size
    lumen, vessel, media = _borders(chance, size)
    labels = _labels(chance, depth, lumen, vessel, media)
    image = _scan(chance, labels, depth, domain)
    if geometry == "cartesian":
        image, labels = _scan_converted(image, labels)
    return {
        "image": image[..., None],
        "labels": labels,
        "lumen_mask": (labels == LUMEN) | (labels == CATHETER),
        "vessel_mask": labels < ADVENTITIA
        if geometry == "polar"
        else (labels < ADVENTITIA) | (labels == CALCIUM),
        "lumen_radii": lumen,
        "vessel_radii": vessel,
    }


def _angles(size: int) -> np.ndarray:
    return (2 * np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)


def _wave(chance: Chance, part: str, size: int) -> jax.Array:
    """A smooth closed curve `(size,)` of about unit variance that has no mean and no first harmonic."""
    cosines, sines = chance.normal(part).reshape(2, WAVES)
    order = np.arange(2, 2 + WAVES)
    turns = order[:, None] * _angles(size)
    weight = order**-1.0
    return (cosines * weight) @ np.cos(turns) + (sines * weight) @ np.sin(turns)


def _borders(chance: Chance, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In mm `(size,)`: from the catheter to the lumen's border and the media's outer one; its thickness."""
    angle = _angles(size)
    wide, off, where, thick, side, spread, oval, turn, layer = chance.normal("artery")[:9]
    radius = 1.55 * jnp.exp(0.16 * jnp.clip(wide, -2, 2))
    away = radius * 0.25 * jnp.abs(jnp.clip(off, -2, 2))
    away = jnp.minimum(away, radius - CATHETER_RADIUS - 0.12)
    # A circle seen from a catheter that lies `away` from its centre.
    facing = angle - np.pi * where
    lumen = away * jnp.cos(facing) + jnp.sqrt(radius**2 - jnp.square(away * jnp.sin(facing)))
    ovality = 0.12 + 0.05 * oval
    lumen = lumen * (
        1 + ovality * jnp.cos(2 * (angle - np.pi * turn)) / 2 + 0.035 * _wave(chance, "lumen", size)
    )
    lumen = jnp.maximum(lumen, CATHETER_RADIUS + 0.08)
    thickest = jnp.clip(0.9 + 0.35 * thick, 0.15, 1.7)
    reach = np.pi * jnp.clip(0.75 + 0.2 * spread, 0.35, 1.2)
    nearest = jnp.abs(jnp.mod(angle - np.pi * side + np.pi, 2 * np.pi) - np.pi)
    plaque = 0.12 + thickest * jnp.square(jnp.cos(np.pi / 2 * jnp.clip(nearest / reach, 0, 1)))
    plaque = plaque * jnp.exp(0.18 * _wave(chance, "vessel", size))
    media = (0.16 + 0.02 * layer) * jnp.clip(1.15 - 0.4 * plaque, 0.55, 1)
    return lumen, jnp.minimum(lumen + plaque + media, DEPTH - 0.35), media


def _labels(
    chance: Chance, depth: jax.Array, lumen: jax.Array, vessel: jax.Array, media: jax.Array
) -> jax.Array:
    """Tissue `(H, W)` in polar coordinates."""
    ragged = 0.03 * chance.field("mottle")[0]
    labels = jnp.full((len(depth), len(lumen)), CATHETER, jnp.int32)
    for border, label in (
        (CATHETER_RADIUS + 0 * lumen, LUMEN),
        (lumen + 0.5 * ragged, PLAQUE),
        (vessel - media, MEDIA),
        (vessel, ADVENTITIA),
    ):
        labels = jnp.where(depth > border, label, labels)
    return jnp.where(
        _calcium(chance, depth, lumen, vessel, media) + ragged > 0,
        jnp.where(labels == PLAQUE, CALCIUM, labels),
        labels,
    )


def _calcium(
    chance: Chance, depth: jax.Array, lumen: jax.Array, vessel: jax.Array, media: jax.Array
) -> jax.Array:
    """Distance `(H, W)` in mm to a flat deposit in the thick of the plaque, positive inside."""
    there, off, wide, deep, thick, *_ = chance.normal("calcium")
    middle = np.pi * (chance.normal("artery")[4] + 0.12 * off)
    nearest = jnp.abs(jnp.mod(_angles(len(lumen)) - middle + np.pi, 2 * np.pi) - np.pi)
    half = jnp.exp(0.3 * wide) * 0.38
    plaque = vessel - media - lumen
    height = lumen + plaque * (0.35 + 0.3 * jax.scipy.stats.norm.cdf(deep))
    within = 0.22 * jnp.exp(0.25 * thick) * jnp.sqrt(jnp.clip(1 - jnp.square(nearest / half), 0, 1)) - 0.12
    inside = jnp.minimum(
        within - jnp.abs(depth - height), jnp.minimum(depth - lumen, vessel - media - depth) - 0.06
    )
    return jnp.where(there < -0.12, inside, -1.0)


def _scan(chance: Chance, labels: jax.Array, depth: jax.Array, domain: Domain) -> jax.Array:
    """Log-compressed image `(H, W)` in polar coordinates."""
    size = len(labels)
    noise = chance.noise(2, size, size)
    # The beam widens with depth in millimetres, hardly in angle; its pulse is 0.06 mm long.
    deviations = max(0.026 / DEPTH * size, 0.4), max(0.0055 * size, 0.4)
    echoes = jnp.asarray(ECHOES)
    if domain == "real":
        echoes = echoes * jnp.exp(SCATTER * chance.normal("echoes"))
    strength = _look_up(echoes, labels)
    strength = shapes.blur(strength, (0.0035 * size, 0.0035 * size))
    if domain == "real":
        strength = _worn(chance, strength, labels, depth)
    amplitude = speckle.envelope(noise, strength, deviations) / np.sqrt(2)
    if domain == "real":
        white = noise[:, ::-1, ::-1]
        amplitude = shapes.norm(amplitude + _ring_down(chance, depth), 0.006 * white[0])
    gain = 1.25 * jnp.exp(0.1 * chance.normal("artery")[9]) if domain == "real" else 1.25
    return speckle.compress(gain * amplitude, 46.0)


def _look_up(values: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.einsum("hwl,l->hw", jax.nn.one_hot(labels, len(values)), values)


def _worn(chance: Chance, strength: jax.Array, labels: jax.Array, depth: jax.Array) -> jax.Array:
    """Echogenicity `(H, W)` as it returns: textured by tissue, attenuated, shadowed."""
    smooth, mottle, fine = chance.field("smooth"), chance.field("mottle"), chance.field("fine")
    layered = jnp.sin(2 * np.pi * (depth / 0.32 + 0.35 * smooth[0]))
    soft, flow = jnp.tanh(1.2 * mottle[0] + 0.6 * smooth[1]), 0.9 * fine[0] + 0.6 * mottle[1]
    texture = jnp.select(
        [labels == PLAQUE, labels == ADVENTITIA, labels == LUMEN],
        [0.55 * soft, 0.5 * layered + 0.5 * soft - 0.25 * jax.nn.relu(depth - 2.2), 0.5 * flow],
        0.2 * mottle[1],
    )
    step = DEPTH / len(labels)
    tissue = (labels >= PLAQUE) * 0.32 + (labels == CALCIUM) * 7.0
    lost = jnp.tril(jnp.full((len(labels), len(labels)), step), -1) @ tissue
    # The guide wire throws a shadow that no tissue explains.
    wire = np.pi * chance.normal("artery")[10]
    nearest = jnp.abs(jnp.mod(_angles(len(labels)) - wire + np.pi, 2 * np.pi) - np.pi)
    place = CATHETER_RADIUS + 0.28
    narrow = jnp.exp(-jnp.square(nearest / 0.10))
    lost = lost + 2.6 * narrow * jax.nn.sigmoid((depth - place) / 0.04)
    glint = 0.9 * jnp.exp(-jnp.square((depth - place) / 0.05) - jnp.square(nearest / 0.06))
    fade = 0.12 * jax.nn.relu(depth - 2.5)
    return strength * jnp.exp(texture - lost - fade) + glint


def _ring_down(chance: Chance, depth: jax.Array) -> jax.Array:
    """Bright rings `(H, 1)` of the transducer's own oscillation, near the catheter."""
    decay = jnp.exp(-jax.nn.relu(depth - 0.3) / 0.09)
    rings = 1 + 0.5 * jnp.sin(2 * np.pi * depth / 0.13 + chance.normal("artery")[11])
    return 0.35 * decay * rings * (depth > 0.28)


def _scan_converted(image: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A polar image and its labels `(H, W)` as a cross-section; what the beam does not reach is `OUTSIDE`."""
    size = len(image)
    y, x = shapes.grid((size, size))
    row = shapes.norm(y, x) * size - 0.5
    column = jnp.mod(jnp.arctan2(y, x) / (2 * np.pi), 1.0) * size - 0.5
    low = jnp.floor(row), jnp.floor(column)
    parts = row - low[0], column - low[1]

    def at(values: jax.Array, down: jax.Array, right: jax.Array) -> jax.Array:
        rows = jnp.clip(down.astype(jnp.int32), 0, size - 1)
        return values.reshape(-1)[rows * size + jnp.mod(right.astype(jnp.int32), size)]

    drawn = jnp.zeros_like(image)
    for down in (0, 1):
        for right in (0, 1):
            weight = jnp.abs(1 - down - parts[0]) * jnp.abs(1 - right - parts[1])
            drawn = drawn + weight * at(image, low[0] + down, low[1] + right)
    seen = row < size - 0.5
    named = at(labels, jnp.round(row), jnp.round(column))
    return drawn * seen, jnp.where(seen, named, OUTSIDE)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: both domains and geometries, and the tissues."""

    def draw(**options) -> dict[str, jax.Array]:
        return jax.jit(lambda keys: jax.lax.map(lambda key: ivus_frame(key, 256, **options), keys))(keys)

    real = draw()
    return {
        "real": real["image"][..., 0],
        "simulated from the labels": draw(domain="simulated")["image"][..., 0],
        "tissues": real["labels"] / OUTSIDE,
        "real, along the beams": draw(geometry="polar")["image"][..., 0],
    }


def _task(key: jax.Array) -> dict[str, jax.Array]:
    frame = ivus_frame(key, 64, geometry="polar")
    plaque = (frame["labels"] == PLAQUE) | (frame["labels"] == CALCIUM)
    return {"input": frame["image"], "target": plaque[..., None].astype(jnp.float32)}


TASKS = (Task("ivus_plaque", "segmentation", _task),)
