"""Sections of glandular tissue in haematoxylin and eosin, by two laboratories, and their unstained spectra.

A patch is drawn as amounts of both stains and shown by `medgan_jax.physics.staining`. Lengths are in
micrometres; the field of view is 96 wide unless said otherwise, 1.5 a pixel at 64 pixels.

Benign or low grade: separate round glands of radius 24 (18 %), one layer of nuclei at the base of an
epithelium 13 (15 %) high, an open lumen or one with secretion; nuclei of radius 2.6 (10 %), upright.
Malignant or high grade: glands fused into sheets with small punched-out lumina, nuclei of radius 3.1 (20 %)
anywhere and at any angle, pale with dark nucleoli. Both have stroma with spindle nuclei, lymphocytes and red
cells, tears, pyknotic nuclei, and the same spread of nuclear density and of white area, so that neither
colour nor its area tells them apart. After the descriptions of Gleason's patterns 3 and 4 (Epstein et al.,
Am. J. Surg. Pathol. 29, 2005).

A slide, which many patches may share, has its own section thickness (15 %), uptake of each stain (28 %),
stain vectors (each component 0.08), and size of nuclei (8 %). Scanner B also blurs and adds noise.
"""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import mosaic
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur
from medgan_jax.phantoms.tasks import Task
from medgan_jax.physics import staining

LUMEN, STROMA, EPITHELIUM, NUCLEUS, MITOSIS = range(5)
LABELS = {
    "lumen": LUMEN,
    "stroma": STROMA,
    "epithelium": EPITHELIUM,
    "nucleus": NUCLEUS,
    "mitosis": MITOSIS,
}
FIELD_UM = 96.0
GLAND_SPACING_UM = 60.0
HOLE_SPACING_UM = 24.0
NUCLEUS_SPACING_UM = 8.0
BASAL_UM = 4.5
SMALLEST = 16
# Blur in micrometres and white noise of each scanner.
OPTICS = {"A": (0.5, 0.012), "B": (1.0, 0.022)}
Laboratory = Literal["A", "B"]


@dataclasses.dataclass(frozen=True)
class _Patch:
    """One patch while it is drawn: its random numbers, class, slide and pixel size in micrometres."""

    chance: Chance
    malignant: jax.Array
    slide: jax.Array
    field: float
    pixel: float

    def cells(self, spacing: float) -> int:
        """Visible cells of a lattice with this spacing, with room for a random shift."""
        return int(np.ceil(self.field / spacing)) + 1


def tissue_patch(
    key: jax.Array,
    size: int = 64,
    *,
    scanner: Laboratory = "A",
    malignant: bool | jax.Array = False,
    mitosis: bool | jax.Array = False,
    slide: jax.Array | None = None,
    field: float = FIELD_UM,
    noise: float = 1.0,
) -> dict[str, jax.Array]:
    """A stained patch; `key` decides everything in it but its slide.

    scanner: the laboratory that shows it; the same key under both is a registered pair. malignant: benign
    or low grade, or malignant or high grade; may be traced. mitosis: whether one epithelial cell divides,
    which changes nothing else; may be traced. slide: key of the slide, or None for one of its own; patches of
    a slide share its stain. field: width in micrometres. noise: in parts of the scanner's. For `size` = H
    = W:

    * `image` `(H, W, 3)`: transmitted light in [0, 1]; `concentrations` `(H, W, 2)` of both stains;
    * `labels` `(H, W)` int32, see `LABELS`; `gland_mask` (with lumina), `nuclei_mask`, `mitosis_mask` bool;
    * `gland_instances`, `nuclei_instances` int32: 0, or a number for each object, not consecutive;
    * `centroids` `(N, 2)`: row and column of nuclei in pixels; `present` `(N,)` bool: those in the patch.

    ValueError for an unknown scanner, below 16 pixels, or a field that is not positive.
    """
    if scanner not in get_args(Laboratory):
        raise ValueError(f"unknown scanner '{scanner}'; there are {', '.join(get_args(Laboratory))}")
    if size < SMALLEST or not field > 0:
        raise ValueError(
            f"tissue needs {SMALLEST} pixels or more and a positive field, not {size} and {field}"
        )
    slide_key = jax.random.fold_in(key, 1) if slide is None else slide
    lattices = {
        "glands": (10, GLAND_SPACING_UM),
        "holes": (6, HOLE_SPACING_UM),
        "nuclei": (15, NUCLEUS_SPACING_UM),
    }
    cells = {name: int(np.ceil(field / spacing)) + 1 for name, (_, spacing) in lattices.items()}
    numbers = {name: each * mosaic.site_count(cells[name]) for name, (each, _) in lattices.items()}
    spans = field / FIELD_UM
    fields = {
        "broad": (max(2, round(3 * spans)), 3),
        "warp": (max(2, round(8 * spans)), 4),
        "fibre": (round(30 * spans) + 1, 3),
        "chromatin": (round(60 * spans) + 1, 2),
    }
    patch = _Patch(
        Chance(key, {"patch": 10, **numbers, "shift": 4}, fields, (size, size)),
        jnp.asarray(malignant, jnp.float32),
        jax.random.normal(slide_key, (12,)),
        field,
        field / size,
    )
    glands = _Glands(patch)
    nuclei = _Nuclei(patch, glands, jnp.asarray(mitosis, jnp.float32))
    amounts, labels = _paint(patch, glands, nuclei)
    masks = _masks(patch, nuclei, labels, size)
    light = _show(patch, amounts, scanner, noise)
    return {
        "image": light,
        "concentrations": amounts,
        "labels": labels,
        "gland_mask": glands.depth > 0,
        "gland_instances": jnp.where(glands.depth > 0, glands.site + 1, 0).astype(jnp.int32),
        **masks,
    }


class _Glands:
    """Depth in glands (micrometres, positive inside) and in lumina, at any place and at each pixel."""

    def __init__(self, patch: _Patch):
        self.patch = patch
        chance, malignant = patch.chance, patch.malignant
        spread, open_, filled, fused, *_ = chance.normal("patch")
        self.shift = jax.scipy.stats.norm.cdf(chance.normal("patch")[4:6])
        self.hole_shift = chance.uniform("shift")[:2]
        parts = chance.normal("glands").reshape(10, -1)
        self.cells = patch.cells(GLAND_SPACING_UM)
        *place, taken = jax.scipy.stats.norm.cdf(parts[:3])
        separate = 0.40 * jnp.exp(0.10 * spread + 0.15 * parts[3])
        merged = 0.60 * jnp.exp(0.10 * spread + 0.12 * parts[3])
        # Fused glands are larger: fewer of them cover as much. One, anywhere in the patch, is always there.
        share = jnp.where(malignant > 0, 0.34 + 0.22 * jnp.tanh(fused), 0.72 + 0.22 * jnp.tanh(fused))
        centre = jnp.asarray(mosaic.corners(self.cells)) + 0.25 + 0.5 * jnp.stack(place, -1)
        sure = (
            self.shift + jax.scipy.stats.norm.cdf(chance.normal("patch")[8:]) * patch.field / GLAND_SPACING_UM
        )
        away = jnp.linalg.norm(centre - sure, axis=-1)
        chosen = (taken < share) | (jnp.arange(taken.size) == jnp.argmin(away))
        radius = jnp.where(malignant > 0, jnp.minimum(merged, 0.80), jnp.clip(separate, 0.24, 0.54))
        self.outlines = mosaic.Outlines(
            centre=centre,
            radius=jnp.where(chosen, radius, -1.0),
            stretch=1 + 0.22 * jnp.abs(parts[4]),
            angle=3 * parts[5],
            lobes=(0.05 + 0.02 * malignant) * parts[6:10].T,
        )
        self.height = 13.0 * jnp.exp(0.15 * jnp.clip(open_, -2, 2))
        self.secretion = jax.nn.sigmoid(4 * (filled - 0.2))
        self.open = open_
        parts = chance.normal("holes").reshape(6, -1)
        *place, taken = jax.scipy.stats.norm.cdf(parts[:3])
        self.holes = mosaic.Outlines(
            centre=jnp.asarray(mosaic.corners(patch.cells(HOLE_SPACING_UM)))
            + 0.2
            + 0.6 * jnp.stack(place, -1),
            radius=jnp.where(
                taken < 0.60 + 0.20 * jnp.tanh(self.open), 0.31 * jnp.exp(0.22 * parts[3]), -1.0
            ),
            stretch=1 + 0.3 * jnp.abs(parts[4]),
            angle=3 * parts[5],
            lobes=jnp.zeros((parts.shape[1], 4)),
        )
        warp = chance.field("warp")
        points = mosaic.pixel_places(warp.shape[-1], 1) * patch.field + 1.3 * jnp.moveaxis(warp[:2], 0, -1)
        self.depth, self.site = self.at(points)
        self.lumen = self.lumen_at(points, self.depth)

    def at(self, points: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Depth at points `(..., 2)` in micrometres, and the gland."""
        near = mosaic.near(points / GLAND_SPACING_UM + self.shift, self.outlines, self.cells)
        first, depth, edge = near.best()
        site = near.chosen(first)
        # A thread of stroma parts glands that touch; glands that are fused have none.
        threaded = jnp.minimum(depth, edge - 0.008)
        return GLAND_SPACING_UM * jnp.where(self.patch.malignant > 0, depth, threaded), site

    def lumen_at(self, points: jax.Array, depth: jax.Array) -> jax.Array:
        """Depth in lumina: what the epithelium leaves of a gland, or holes punched into sheets."""
        places = points / HOLE_SPACING_UM + self.hole_shift
        holes = mosaic.near(places, self.holes, self.patch.cells(HOLE_SPACING_UM))
        holes = HOLE_SPACING_UM * holes.inside.max(0)
        return jnp.where(self.patch.malignant > 0, jnp.minimum(holes, depth - 5), depth - self.height)


class _Nuclei:
    """Nuclei of all kinds near each pixel, on a lattice over the whole patch."""

    def __init__(self, patch: _Patch, glands: _Glands, mitosis: jax.Array):
        chance, malignant = patch.chance, patch.malignant
        dense, inflamed = chance.normal("patch")[6:8]
        self.cells = patch.cells(NUCLEUS_SPACING_UM)
        parts = chance.normal("nuclei").reshape(15, -1)
        *place, chosen, kind, divides = jax.scipy.stats.norm.cdf(parts[:5])
        # Without a shift of the lattice the mean of many patches would show it.
        shift = chance.uniform("shift")[2:]
        centre = jnp.asarray(mosaic.corners(self.cells)) + 0.15 + 0.7 * jnp.stack(place, -1)
        centre = NUCLEUS_SPACING_UM * (centre - shift)
        depth, uphill = _slope(lambda points: glands.at(points)[0], centre)
        lumen = glands.lumen_at(centre, depth)
        # Benign nuclei move to the base of the epithelium, where they form one layer.
        layer = BASAL_UM + 0.8 * parts[5]
        move = jnp.clip(layer - depth, -4, 4)
        basal = jnp.abs(layer - depth) < 4.0
        centre = centre + ((1 - malignant) * basal * (depth > -3) * move)[:, None] * uphill
        thinned = 0.85 * jnp.exp(0.12 * dense)
        benign = jnp.where(basal, chosen < thinned, (chosen < 0.08) & (depth > 0)) & (lumen < -3)
        solid = (depth > 2) & (lumen < -2.5) & (chosen < 0.62 * jnp.exp(0.16 * dense))
        epithelial = jnp.where(malignant > 0, solid, benign & (depth > -4))
        stromal = (depth < -2.5) & (chosen < 0.34 * jnp.exp(0.35 * dense))
        # Lymphocytes gather in some patches; red cells and pyknotic nuclei are anywhere.
        lymphocyte = stromal & (kind < 0.45 * jax.nn.sigmoid(2 * inflamed))
        red = stromal & (kind > 0.90)
        pyknotic = epithelial & (kind > 0.96)
        round_ = lymphocyte | red | pyknotic

        size = jnp.exp(0.08 * jnp.clip(patch.slide[0], -2, 2))
        spread = jnp.where(malignant > 0, 3.1 * jnp.exp(0.20 * parts[6]), 2.6 * jnp.exp(0.10 * parts[6]))
        radius = jnp.where(epithelial, spread, 2.3 * jnp.exp(0.10 * parts[6]))
        radius = jnp.where(round_, jnp.where(red, 2.9, 2.1), radius) * size
        stretch = jnp.where(malignant > 0, 1 + 0.30 * jnp.abs(parts[7]), 1.35 + 0.2 * parts[7])
        stretch = jnp.where(epithelial, stretch, 2.3 + 0.4 * parts[7])
        stretch = jnp.where(round_, 1.05, jnp.clip(stretch, 1, 3))
        along = jnp.arctan2(uphill[:, 0], uphill[:, 1])
        fibre = 2.5 * dense + 0.5 * parts[8]
        angle = jnp.where(epithelial, jnp.where(malignant > 0, 4 * parts[8], along + 0.15 * parts[8]), fibre)

        # One epithelial cell within the patch divides: a dense ragged plate without a membrane.
        candidate = jnp.all((centre > 0.08 * patch.field) & (centre < 0.92 * patch.field), axis=1)
        eligible = divides + epithelial * candidate * ~pyknotic
        dividing = (mitosis > 0) & (jnp.arange(eligible.size) == jnp.argmax(eligible))
        radius, stretch = jnp.where(dividing, 2.5, radius), jnp.where(dividing, 2.6, stretch)
        lobes = jnp.where(round_, 0.02, jnp.where(malignant > 0, 0.07, 0.03))[:, None] * parts[9:13].T
        shown = jnp.where(epithelial | stromal | dividing, radius, -1.0)
        self.centre = centre
        self.outlines = mosaic.Outlines(
            centre=centre / NUCLEUS_SPACING_UM + shift,
            radius=jnp.minimum(shown / NUCLEUS_SPACING_UM, 0.62),
            stretch=stretch,
            angle=angle,
            lobes=lobes,
        )
        self.dividing, self.red = dividing, red
        pale = jnp.where(epithelial, jnp.where(malignant > 0, 0.66, 0.58), 0.30) + 0.12 * parts[13]
        self.pale = jnp.where(dividing | round_, 0.0, jnp.clip(pale, 0, 0.8))
        dark = 0.85 * jnp.exp(0.24 * parts[14])
        self.amount = jnp.where(dividing, 1.7, jnp.where(pyknotic, 1.5, jnp.where(lymphocyte, 1.2, dark)))
        self.nucleolus = epithelial * ~round_ * ~dividing * (0.25 + 0.55 * malignant)
        points = mosaic.pixel_places(chance.field("warp").shape[-1], 1) * patch.field
        ragged = 0.25 * jnp.moveaxis(chance.field("fibre")[:2], 0, -1)
        places = (points + ragged) / NUCLEUS_SPACING_UM + shift
        self.near = mosaic.near(places, self.outlines, self.cells)
        first, depth, _ = self.near.best()
        self.depth = NUCLEUS_SPACING_UM * depth
        self.site = self.near.chosen(first)
        self.place = jnp.take_along_axis(self.near.place, first[None, None], axis=1)[:, 0]


def _slope(function, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Value and unit gradient `(S, 2)` of a distance at points `(S, 2)`."""
    steps = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    value, down, right = function(points + steps[:, None])
    gradient = jnp.stack([down - value, right - value], axis=-1)
    return value, gradient / jnp.maximum(jnp.linalg.norm(gradient, axis=-1, keepdims=True), 1e-3)


def _paint(patch: _Patch, glands: _Glands, nuclei: _Nuclei) -> tuple[jax.Array, jax.Array]:
    """Amounts of both stains `(H, W, 2)`, and labels."""
    chance = patch.chance
    broad, warp, fibre = chance.field("broad"), chance.field("warp"), chance.field("fibre")
    chromatin = chance.field("chromatin")
    soft = max(0.8, patch.pixel)

    def cover(depth):
        return jnp.clip(0.5 + depth / soft, 0, 1)[..., None]

    # Collagen: waves along a direction of the patch that bend with the tissue.
    turn = 2.5 * chance.normal("patch")[6]
    size = warp.shape[-1]
    places = mosaic.pixel_places(size, 1) * patch.field
    across = jnp.cos(turn) * places[..., 0] - jnp.sin(turn) * places[..., 1]
    waves = jnp.sin(1.1 * across + 3.0 * warp[2] + 4.0 * broad[0]) * (0.6 + 0.4 * warp[3]) + 0.7 * fibre[0]
    stroma = jnp.stack(
        [0.12 * jnp.exp(0.4 * patch.slide[11]) + 0.03 * fibre[1], 0.52 + 0.08 * waves + 0.06 * broad[1]],
        axis=-1,
    )
    basophilia = 0.20 * jnp.exp(0.45 * patch.slide[1])
    grains = 0.05 * fibre[2] + 0.03 * chromatin[1]
    cytoplasm = jnp.stack([basophilia + grains, 0.42 + 0.05 * warp[3] + 1.5 * grains], axis=-1)
    lumen = jnp.stack([0.01 + 0 * fibre[0], 0.02 + glands.secretion * (0.20 + 0.04 * warp[3])], axis=-1)
    amounts = stroma + cover(glands.depth) * (cytoplasm - stroma)
    amounts = amounts + cover(glands.lumen) * (lumen - amounts)
    # Tears and retraction: white cracks in the stroma.
    crack = 5 * (0.10 + 0.05 * jnp.tanh(broad[2]) - jnp.abs(warp[2] + 0.5 * warp[0]))
    crack = jnp.minimum(jnp.where(broad[1] > 0.3, crack, -1), -glands.depth - 1.5)
    amounts = amounts + cover(6 * crack) * (0.02 - amounts)

    depth, site = nuclei.depth, nuclei.site
    pale = nuclei.pale[site]
    interior = jnp.clip((depth - 0.5) / 0.9, 0, 1)
    along, aside = nuclei.place
    nucleolus = jnp.exp(-((along - 0.15) ** 2 + (aside + 0.1) ** 2) / 0.035) * nuclei.nucleolus[site]
    mottled = 1 + (0.20 + 0.25 * pale) * (0.8 * chromatin[0] + 0.6 * fibre[0])
    blue = nuclei.amount[site] * (1 - pale * interior) * mottled + nucleolus
    red = nuclei.red[site]
    nucleus = jnp.stack([jnp.where(red, 0.02, jnp.maximum(blue, 0.05)), jnp.where(red, 0.95, 0.22)], axis=-1)
    # The cell that divides has a clear cytoplasm.
    cleared = jnp.where(
        nuclei.near.of(nuclei.dividing), jnp.exp(-jnp.square(nuclei.near.inside / 0.35)), 0
    ).max(0)
    amounts = amounts * (1 - 0.5 * cleared[..., None])
    amounts = amounts + cover(depth) * (nucleus - amounts)
    labels = jnp.where(glands.depth > 0, EPITHELIUM, STROMA)
    labels = jnp.where((glands.lumen > 0) | (crack > 0), LUMEN, labels)
    kind = jnp.where(nuclei.dividing[site], MITOSIS, NUCLEUS)
    labels = jnp.where((depth > 0) & ~red, kind, labels).astype(jnp.int32)
    thickness = jnp.exp(0.15 * patch.slide[2] + 0.06 * broad[0])
    return jnp.maximum(amounts, 0) * thickness[..., None], labels


def _masks(patch: _Patch, nuclei: _Nuclei, labels: jax.Array, size: int) -> dict[str, jax.Array]:
    mask = (labels == NUCLEUS) | (labels == MITOSIS)
    centre = nuclei.centre
    seen = jnp.zeros(nuclei.red.shape, bool).at[nuclei.site.reshape(-1)].max(mask.reshape(-1))
    return {
        "nuclei_mask": mask,
        "mitosis_mask": labels == MITOSIS,
        "nuclei_instances": jnp.where(mask, nuclei.site + 1, 0).astype(jnp.int32),
        "centroids": centre * size / patch.field - 0.5,
        "present": seen & jnp.all((centre > 0) & (centre < patch.field), axis=1),
    }


def _show(patch: _Patch, amounts: jax.Array, scanner: Laboratory, noise: float) -> jax.Array:
    """The image `(H, W, 3)` of a slide under a scanner."""
    made = staining.SCANNERS[scanner]
    stains = jnp.asarray(made.stains) + 0.08 * patch.slide[3:9].reshape(2, 3)
    strengths = jnp.asarray(made.strengths) * jnp.exp(0.28 * patch.slide[9:11])
    light = staining.scan(
        amounts, dataclasses.replace(made, stains=jnp.maximum(stains, 0.02), strengths=strengths)
    )
    deviation, level = OPTICS[scanner]
    spread = jnp.moveaxis(light, -1, 0)
    spread = blur(spread.swapaxes(1, 2), (0, 0, deviation / patch.pixel)).swapaxes(1, 2)
    spread = blur(spread, (0, 0, deviation / patch.pixel))
    white = patch.chance.noise(*light.shape)
    # Each scanner has noise of its own.
    white = white if scanner == "A" else white[::-1, ::-1]
    return jnp.clip(jnp.moveaxis(spread, 0, -1) + noise * level * white, 0, 1)


def unstained_pair(
    key: jax.Array, size: int = 64, *, bands: int = 16, noise: float = 0.01, **options
) -> dict[str, jax.Array]:
    """`tissue_patch` with `spectra` `(H, W, bands)`, transmission of the section before it was stained."""
    drawn = tissue_patch(key, size, **options)
    noise_key = jax.random.fold_in(key, 2)
    spectra = staining.hyperspectral(drawn["concentrations"], bands, noise=noise, key=noise_key)
    return {**drawn, "spectra": spectra}


def _grade_task(key: jax.Array) -> dict[str, jax.Array]:
    malignant = jax.random.bernoulli(jax.random.fold_in(key, 3))
    drawn = tissue_patch(key, malignant=malignant)
    return {"input": drawn["image"], "target": malignant.astype(jnp.float32)}


def _nuclei_task(key: jax.Array) -> dict[str, jax.Array]:
    malignant = jax.random.bernoulli(jax.random.fold_in(key, 3))
    drawn = tissue_patch(key, 96, malignant=malignant)
    return {"input": drawn["image"], "target": drawn["nuclei_mask"][..., None].astype(jnp.float32)}


def _gland_task(key: jax.Array) -> dict[str, jax.Array]:
    drawn = tissue_patch(key, 96, field=2 * FIELD_UM)
    return {"input": drawn["image"], "target": drawn["gland_mask"][..., None].astype(jnp.float32)}


# Translations are no tasks here: paired, one laboratory to the other is a table of colours by nature, and of
# stains from grey images a look-up table comes within 1.6 times the error of the small network.
TASKS = (
    Task("tissue_grade", "classification", _grade_task),
    Task("tissue_nuclei", "segmentation", _nuclei_task),
    Task("tissue_glands", "segmentation", _gland_task),
)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: both classes in both laboratories, a mitosis, glands, and label maps."""

    def draw(key):
        benign, ill, other = (
            tissue_patch(key, 160, malignant=malignant, scanner=scanner)
            for malignant, scanner in ((False, "A"), (True, "A"), (True, "B"))
        )
        divided = tissue_patch(key, 160, malignant=True, mitosis=True, field=0.5 * FIELD_UM)
        glands = tissue_patch(key, 160, field=2 * FIELD_UM, scanner="B")
        return (
            benign["image"],
            benign["labels"] / (len(LABELS) - 1),
            ill["image"],
            ill["labels"] / (len(LABELS) - 1),
            other["image"],
            divided["image"],
            glands["image"],
            glands["gland_instances"] % 7 / 6,
        )

    titles = (
        "benign, scanner A",
        "labels",
        "malignant, scanner A",
        "labels of malignant",
        "malignant, scanner B",
        "with a mitosis",
        "glands, scanner B",
        "glands by number",
    )
    return dict(zip(titles, jax.jit(lambda keys: jax.lax.map(draw, keys))(keys), strict=True))
