"""Cells in culture: fluorescent nuclei, spheroids in bright field, living cells in phase contrast and DIC.

Lengths are in spacings of the lattice of sites that the objects stand on (`medgan_jax.phantoms.mosaic`); the
field of view is `sites` of them wide, a nucleus about two thirds of one across.

Fluorescence (mean, SD): nuclei of radius 0.34 (13 % within an image, 12 % between images), stretched 1 to 2;
a third of the sites taken, in clumps; brightness of nuclei 28 % apart, as in the Data Science Bowl's images
(Caicedo et al., Nature Methods 16, 2019: 16 to 47 %); exposure 60 %, illumination 40 % over the field.
Clutter: haze of crowded regions, nuclei out of focus (not labelled), debris brighter than nuclei, fibres,
background light. Spheroids: 1 to 4 aggregates of radius 0.38 (25 %), whose rims are fuzzy and whose insides
pass as much light as the shaded background. Transparent cells: thickness up to 7 micrometres, refractive
index 0.03 (20 %) above that of the medium.

What deviates: fluorescence is exposed longer than in most of the Data Science Bowl's images, on a lighter
background. The mean is 0.17 of the camera's range, theirs 0.045; the Wasserstein distance of the histograms is
0.10 in the median, among real images 0.07 in the 95 % quantile.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from medgan_jax.phantoms import mosaic
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur
from medgan_jax.phantoms.tasks import Task
from medgan_jax.physics import microscopy

BACKGROUND, CELL, EDGE = range(3)
LABELS = {"background": BACKGROUND, "cell": CELL, "edge": EDGE}
# Half the width of the edge class, in spacings, and in pixels at least.
EDGE_WIDTH = 0.06
Modality = Literal["phase_contrast", "dic"]
SPHEROID_SITES = 2
DEBRIS_SITES = 10
WAVELENGTH_UM = 0.55
SMALLEST = 16


def nuclei_image(
    key: jax.Array, size: int = 128, *, sites: int = 8, clutter: bool | jax.Array = True
) -> dict[str, jax.Array]:
    """Nuclei under the fluorescence microscope; `key` decides everything about them.

    sites: width of the field of view in spacings of about 12 micrometres. clutter: haze, debris, fibres and
    nuclei out of focus, which may be traced and changes nothing else. For `size` = H = W: `image` `(H, W, 1)`
    in [0, 1]; `labels` `(H, W)` int32, see `LABELS`; `cell_mask` bool, cells with their edges; `instances`
    int32, 0 or a number of its own for each nucleus, not consecutive; `centroids` `(N, 2)`, row and column in
    pixels, and `present` `(N,)` bool, which of them are nuclei within the field of view. ValueError below 16
    pixels or without sites.
    """
    _check(size, sites)
    count, debris = mosaic.site_count(sites), mosaic.site_count(DEBRIS_SITES)
    numbers = {"image": 9, "nuclei": 13 * count, "debris": 6 * debris}
    fields = {
        "smooth": (3, 3),
        "clump": (max(2, sites // 2), 2),
        "chromatin": (5 * sites, 2),
        "fine": (9 * sites, 1),
    }
    chance = Chance(key, numbers, fields, (size, size))
    scale, crowd, round_, exposure, offset, haze, grain, noise, streaks = chance.normal("image")
    points = mosaic.pixel_places(size, sites)
    clump = chance.field("clump")
    outlines, traits = _nuclei(chance, sites, scale, crowd, round_, _at_sites(clump[0], sites))
    near = mosaic.near(points, outlines, sites)
    visible = near._replace(inside=jnp.where(near.of(traits["focused"]), near.inside, -9.0))
    labels = _labels(visible, outlines, sites, size)

    clutter = jnp.asarray(clutter, jnp.float32)
    soft = jnp.maximum(near.of(traits["softness"]), 0.7 * sites / size)
    dome = jnp.clip(0.75 + 0.25 * jnp.minimum(near.inside / near.of(outlines.radius), 1) * 1.6, 0.6, 1.05)
    chromatin = jnp.exp(
        0.16 * jnp.exp(0.5 * grain) * (chance.field("chromatin")[0] + 0.6 * chance.field("fine")[0])
    )
    there = jnp.where(near.of(traits["focused"]), 1.0, clutter)
    glow = there * near.of(traits["brightness"]) * jax.nn.sigmoid(3 * near.inside / soft) * dome
    brightest = glow.max(0)
    # Where nuclei overlap, light adds up, though less than fully: they lie at different depths.
    light = (brightest + 0.5 * (glow.sum(0) - brightest)) * chromatin
    pixel = size / sites
    crowded = blur(light, (0.5 * pixel, 0.5 * pixel)) + blur(light, (1.6 * pixel, 1.6 * pixel))
    smooth = chance.field("smooth")
    fibres = (
        jnp.exp(-jnp.square(clump[1] / 0.12))
        * jax.nn.relu(1 + smooth[2])
        * jnp.clip(0.06 + 0.06 * streaks, 0, 0.16)
    )
    light = light + clutter * (0.20 * jnp.exp(0.5 * haze) * crowded + fibres)
    light = light + clutter * _debris(chance, size, sites)
    background = 0.10 * jnp.exp(0.7 * offset) * (1 + 0.5 * jnp.tanh(smooth[1]))
    image = 0.42 * jnp.exp(0.6 * exposure) * (jnp.exp(0.40 * smooth[0]) * light + background)
    # The brightest parts come near the end of the camera's range.
    image = image / (1 + 0.4 * image)
    level = 0.006 * jnp.exp(0.4 * noise) + 0.05 * jnp.sqrt(jnp.maximum(image, 0)) * 0.4
    white = blur(chance.noise(size, size), (0.6, 0.6), white=True)
    return {"image": jnp.clip(image + level * white, 0, 1)[..., None], **labels}


def _nuclei(chance: Chance, sites: int, scale, crowd, round_, clump) -> tuple[mosaic.Outlines, dict]:
    """Outlines of the nuclei and what each looks like; `clump` `(S,)` says where they gather."""
    parts = chance.normal("nuclei").reshape(13, -1)
    place = jax.scipy.stats.norm.cdf(parts[:2]).T
    taken, focus = jax.scipy.stats.norm.cdf(parts[2:4])
    size, bright, stretch, turn, phase, *lobes = parts[4:]
    # Either round cells or spindles that lie along a common direction, by the culture.
    spindles = jax.nn.sigmoid(3 * round_)
    stretch = 1 + (0.12 + 0.7 * spindles) * jnp.abs(0.7 + 0.5 * stretch)
    angle = jnp.where(spindles > 0.5, 3 * crowd + 0.35 * turn, 4 * phase)
    present = taken < jnp.clip(0.36 * jnp.exp(0.45 * crowd + 0.9 * clump), 0.05, 0.85)
    radius = 0.34 * jnp.exp(0.12 * jnp.clip(scale, -2, 2) + 0.13 * jnp.clip(size, -2, 2))
    # A few small, bright, condensed nuclei, as before division or death.
    condensed = focus > 0.93
    radius = jnp.where(condensed, 0.7 * radius, radius)
    focused = focus > 0.14
    brightness = jnp.exp(0.28 * bright) * jnp.where(condensed, 1.7, 1.0) * jnp.where(focused, 1.0, 0.55)
    outlines = mosaic.Outlines(
        centre=jnp.asarray(mosaic.corners(sites)) + 0.08 + 0.84 * place,
        radius=jnp.where(present, jnp.where(focused, radius, 1.25 * radius), -1.0),
        stretch=jnp.minimum(stretch, 2.2),
        angle=angle,
        lobes=jnp.array([0.03, 0.03, 0.025, 0.025]) * jnp.stack(lobes, axis=-1),
    )
    softness = jnp.where(focused, 0.05 + 0.05 * jnp.square(focus), 0.40)
    return outlines, {"brightness": brightness, "focused": focused, "softness": softness}


def _debris(chance: Chance, size: int, sites: int) -> jax.Array:
    """Light of small bright pieces that are no nuclei."""
    parts = chance.uniform("debris").reshape(6, -1)
    outlines = mosaic.Outlines(
        centre=jnp.asarray(mosaic.corners(DEBRIS_SITES)) + 0.15 + 0.7 * parts[:2].T,
        radius=jnp.where(parts[2] < 0.16, 0.05 + 0.13 * parts[3] ** 2, -1.0) * DEBRIS_SITES / 8,
        stretch=1 + parts[4],
        angle=6 * parts[5],
        lobes=jnp.zeros((parts.shape[1], 4)),
    )
    near = mosaic.near(mosaic.pixel_places(size, DEBRIS_SITES), outlines, DEBRIS_SITES)
    soft = max(0.03, 0.7 * DEBRIS_SITES / size)
    return (jax.nn.sigmoid(3 * near.inside / soft) * (0.5 + 1.3 * near.of(parts[4]))).max(0)


def _at_sites(field: jax.Array, sites: int) -> jax.Array:
    """Values `(S,)` of a field `(H, W)` about the middles of the sites' cells."""
    size = field.shape[0]
    middles = (jnp.arange(-1, sites + 1) + 0.5) / sites * size
    index = jnp.clip(middles.astype(jnp.int32), 0, size - 1)
    return field[index][:, index].reshape(-1)


def _labels(near: mosaic.Near, outlines: mosaic.Outlines, sites: int, size: int) -> dict[str, jax.Array]:
    """Classes, mask, instances and centres of the objects that may be seen."""
    first, depth, edge = near.best()
    site = near.chosen(first)
    mask = depth > 0
    instances = jnp.where(mask, site + 1, 0)
    width = max(EDGE_WIDTH, 0.75 * sites / size)
    seen = jnp.zeros(outlines.radius.shape, bool).at[site.reshape(-1)].max(mask.reshape(-1))
    return {
        "labels": jnp.where(mask, jnp.where(edge < width, EDGE, CELL), BACKGROUND).astype(jnp.int32),
        "cell_mask": mask,
        "instances": instances.astype(jnp.int32),
        "centroids": outlines.centre * size / sites - 0.5,
        "present": seen & jnp.all((outlines.centre > 0) & (outlines.centre < sites), axis=1),
    }


def spheroid_image(
    key: jax.Array, size: int = 128, *, debris: bool | jax.Array = True
) -> dict[str, jax.Array]:
    """Tumour spheroids in bright field: round aggregates, fuzzy at the rim, on a shaded background.

    debris: specks, loose cells and shadows out of focus, which may be traced and changes nothing else.
    Returns what `nuclei_image` does; the field of view is about 1 mm. ValueError below 16 pixels.
    """
    _check(size, 1)
    sites = SPHEROID_SITES
    count, specks = mosaic.site_count(sites), mosaic.site_count(DEBRIS_SITES)
    numbers = {"image": 8, "spheroids": 12 * count, "debris": 6 * specks}
    fields = {"smooth": (2, 3), "warp": (7, 3), "cells": (26, 2), "fine": (60, 1)}
    chance = Chance(key, numbers, fields, (size, size))
    exposure, gain, density, halo, noise, grain, dirt, _ = chance.normal("image")
    smooth, warp, cells = chance.field("smooth"), chance.field("warp"), chance.field("cells")
    parts = chance.normal("spheroids").reshape(12, -1)
    place, taken = jax.scipy.stats.norm.cdf(parts[:2]).T, jax.scipy.stats.norm.cdf(parts[2])
    outlines = mosaic.Outlines(
        centre=jnp.asarray(mosaic.corners(sites)) + 0.15 + 0.7 * place,
        radius=jnp.where(taken < 0.55, 0.36 * jnp.exp(0.25 * jnp.clip(parts[3], -2, 1.5)), -1.0),
        stretch=1 + 0.12 * jnp.abs(parts[4]),
        angle=3 * parts[5],
        lobes=0.04 * parts[6:10].T,
    )
    points = mosaic.pixel_places(size, sites) + 0.012 * jnp.moveaxis(warp[:2] + cells, 0, -1)
    near = mosaic.near(points, outlines, sites)
    first, depth, _ = near.best()
    labels = _labels(near, outlines, sites, size)

    # Path through a ball, which is fuzzy where it begins; its core scatters more.
    radius = jnp.maximum(jnp.take_along_axis(near.of(outlines.radius), first[None], axis=0)[0], 0.05)
    tone = jnp.take_along_axis(near.of(parts[10]), first[None], axis=0)[0]
    reach = jnp.clip(depth / radius, 0, 1)
    thick = jnp.sqrt(jnp.clip(reach * (2 - reach), 0, 1))
    fuzzy = jax.nn.sigmoid(depth / (0.018 + 0.008 * jnp.abs(halo)))
    cells_seen = 0.5 * cells[0] + 0.5 * chance.field("fine")[0]
    core = 0.55 * jnp.exp(0.45 * density + 0.3 * tone)
    absorbed = fuzzy * (core * (thick - 0.45) + 0.16 * cells_seen * jnp.exp(0.2 * grain))
    ring = jnp.exp(-jnp.square((depth + 0.03) / 0.03)) * (0.12 + 0.05 * halo)
    rim = 0.30 * jnp.exp(-jnp.square((depth - 0.02) / 0.025))
    debris = jnp.asarray(debris, jnp.float32)
    dirt = _debris(chance, size, sites) * jnp.clip(0.35 + 0.15 * dirt, 0.1, 0.8)
    shadows = 0.40 * jax.nn.sigmoid(3.5 * (smooth[2] - 0.9)) + 0.25 * jax.nn.sigmoid(4 * (warp[2] - 1.6))
    loose = 0.10 * jax.nn.relu(cells[1] - 1.1)
    light = jnp.exp(-absorbed - rim * fuzzy + ring - debris * (dirt + shadows + loose))
    lamp = jnp.exp(0.28 * smooth[0] + 0.10 * smooth[1])
    image = 0.55 * jnp.exp(0.22 * exposure) * lamp * light ** jnp.exp(0.2 * gain)
    white = blur(chance.noise(size, size), (0.6, 0.6), white=True)
    image = image + 0.012 * jnp.exp(0.3 * noise) * white
    return {"image": jnp.clip(image, 0, 1)[..., None], **labels}


def transparent_cells(
    key: jax.Array, size: int = 128, *, sites: int = 5, modality: Modality = "phase_contrast"
) -> dict[str, jax.Array]:
    """Living cells without stain; the images of one key under both modalities are a registered pair.

    sites: width of the field of view in spacings of about 25 micrometres. Returns what `nuclei_image` does,
    and `phase` `(H, W, 1)`, the delay in radians. ValueError for an unknown modality, below 16 pixels, or
    without sites.
    """
    if modality not in get_args(Modality):
        raise ValueError(f"unknown modality '{modality}'; there are {', '.join(get_args(Modality))}")
    _check(size, sites)
    count = mosaic.site_count(sites)
    numbers = {"image": 7, "cells": 15 * count}
    fields = {
        "smooth": (3, 2),
        "clump": (max(2, sites // 2), 1),
        "warp": (3 * sites, 3),
        "grain": (14 * sites, 2),
    }
    chance = Chance(key, numbers, fields, (size, size))
    crowd, index, exposure, contrast, noise, round_, grain = chance.normal("image")
    parts = chance.normal("cells").reshape(15, -1)
    place, taken = jax.scipy.stats.norm.cdf(parts[:2]).T, jax.scipy.stats.norm.cdf(parts[2])
    clump = _at_sites(chance.field("clump")[0], sites)
    present = taken < jnp.clip(0.55 * jnp.exp(0.3 * crowd + 0.5 * clump), 0.1, 0.92)
    # Some cells have rounded up: small, thick and bright-rimmed.
    rounded = jax.scipy.stats.norm.cdf(parts[3]) < 0.18
    spread = jnp.where(rounded, 0.28, 0.46 * jnp.exp(0.12 * parts[4]))
    stretch = jnp.where(rounded, 1.05, 1 + jnp.abs(0.6 + 0.5 * parts[5]) * jnp.exp(0.3 * round_))
    outlines = mosaic.Outlines(
        centre=jnp.asarray(mosaic.corners(sites)) + 0.1 + 0.8 * place,
        radius=jnp.where(present, jnp.minimum(spread, 0.6), -1.0),
        stretch=jnp.clip(stretch, 1, 2.4),
        angle=3 * parts[6],
        lobes=jnp.where(rounded, 0.02, 0.09)[:, None] * parts[7:11].T,
    )
    warp, grains = chance.field("warp"), chance.field("grain")
    points = mosaic.pixel_places(size, sites) + 0.035 * jnp.moveaxis(warp[:2], 0, -1)
    near = mosaic.near(points, outlines, sites)
    labels = _labels(near, outlines, sites, size)

    height = jnp.where(rounded, 4.5, 1.5 * jnp.exp(0.25 * parts[11]))
    reach = jnp.clip(near.inside / jnp.maximum(near.of(outlines.radius), 0.05), 0, 1)
    dome = jnp.sqrt(reach * (2 - reach)) * (0.55 + 0.45 * reach)
    bodies = (near.of(height) * dome).max(0)
    along, aside = near.place
    shift = near.of(0.15 * parts[12])
    nucleus = (
        jnp.exp(-jnp.square(((along - shift) ** 2 + aside**2) / 0.22)) * near.of(1 - rounded) * (reach > 0)
    )
    organelles = (0.30 * grains[0] + 0.20 * warp[2]) * jnp.tanh(bodies / 1.5)
    micrometres = jnp.maximum(bodies + 0.9 * nucleus.max(0) + organelles * jnp.exp(0.2 * grain), 0)
    difference = 0.03 * jnp.exp(0.2 * index)
    phase = microscopy.phase_delay(micrometres, index_difference=difference, wavelength=WAVELENGTH_UM)
    # Medium and glass are not quite even either.
    phase = phase + 0.25 * chance.field("smooth")[1] + 0.02 * grains[1]
    pixel = size / sites
    if modality == "phase_contrast":
        image = 0.32 * microscopy.phase_contrast(phase, halo=0.17 * pixel, amplitude=0.6)
    else:
        image = 0.95 * microscopy.differential_interference_contrast(phase, shear=0.06 * pixel)
    lamp = jnp.exp(0.15 * exposure + 0.12 * chance.field("smooth")[0])
    spread = blur(image, (0.5, 0.5)) ** jnp.exp(0.1 * contrast) * lamp
    image = spread + 0.012 * jnp.exp(0.3 * noise) * chance.noise(size, size)
    return {"image": jnp.clip(image, 0, 1)[..., None], "phase": phase[..., None], **labels}


def _check(size: int, sites: int) -> None:
    if size < SMALLEST:
        raise ValueError(f"cells need at least {SMALLEST} x {SMALLEST} pixels, not {size} x {size}")
    if sites < 1:
        raise ValueError(f"a field of view has 1 or more sites, not {sites}")


def _nuclei_task(key: jax.Array) -> dict[str, jax.Array]:
    drawn = nuclei_image(key, 96, sites=6)
    return {"input": drawn["image"], "target": drawn["cell_mask"][..., None].astype(jnp.float32)}


def _spheroid_task(key: jax.Array) -> dict[str, jax.Array]:
    drawn = spheroid_image(key, 96)
    return {"input": drawn["image"], "target": drawn["cell_mask"][..., None].astype(jnp.float32)}


def _phase_mask_task(key: jax.Array) -> dict[str, jax.Array]:
    drawn = transparent_cells(key, 96, sites=4)
    return {"input": drawn["image"], "target": drawn["cell_mask"][..., None].astype(jnp.float32)}


def _modality_task(source: Modality, target: Modality):
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        images = (transparent_cells(key, 64, sites=3, modality=each)["image"] for each in (source, target))
        return dict(zip(("input", "target"), images, strict=True))

    return draw


TASKS = (
    Task("cells_nuclei", "segmentation", _nuclei_task),
    Task("cells_spheroids", "segmentation", _spheroid_task),
    Task("cells_phase_contrast", "segmentation", _phase_mask_task),
    Task("cells_dic_to_phase_contrast", "translation", _modality_task("dic", "phase_contrast")),
    Task("cells_phase_contrast_to_dic", "translation", _modality_task("phase_contrast", "dic")),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: nuclei with labels, spheroids with their mask, cells in both modalities."""

    def draw(key):
        nuclei, spheroid = nuclei_image(key, 160), spheroid_image(key, 160)
        phase, relief = (transparent_cells(key, 160, modality=each) for each in get_args(Modality))
        return (
            nuclei["image"][..., 0] ** 0.6,
            nuclei["labels"] / (len(LABELS) - 1),
            spheroid["image"][..., 0],
            spheroid["cell_mask"] * 1.0,
            phase["image"][..., 0],
            relief["image"][..., 0],
            phase["cell_mask"] * 1.0,
        )

    titles = (
        "fluorescent nuclei",
        "nuclei and their edges",
        "spheroids",
        "spheroid mask",
        "phase contrast",
        "differential interference contrast",
        "cell mask",
    )
    return dict(zip(titles, jax.jit(lambda keys: jax.lax.map(draw, keys))(keys), strict=True))
