"""The anatomy of a procedural head in an axial slice at the level of the ventricles, as signed distances.

Nested, warped surfaces (scalp, skull, brain), creases (fissures, and two generations of sulci along the zero
lines of a smoothly bent wave) and deep structures (ventricles, basal ganglia, thalami); cortex is what lies
within its thickness of a crease or of the brain's surface. `medgan_jax.phantoms.head` says how subjects
differ; it and its siblings make images of this anatomy.

Lengths are in halves of the field of view (240 mm: one unit is 120 mm) of a standard head. Distances are
positive inside.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import settled, spline_basis

AIR, SCALP, SKULL, CSF, CORTEX, WHITE_MATTER, DEEP_GREY, VENTRICLE, LESION = range(9)
LABELS = {
    "air": AIR,
    "scalp": SCALP,
    "skull": SKULL,
    "csf": CSF,
    "cortex": CORTEX,
    "white_matter": WHITE_MATTER,
    "deep_grey": DEEP_GREY,
    "ventricle": VENTRICLE,
    "lesion": LESION,
}

# The smallest grid on which the cortex can be drawn; smaller images are averages of it, as thick voxels are.
SMALLEST_GRID = 128
MOST_LESIONS = 8
# How many random numbers a subject has, and fields: name, spans of the spline over the field of view, number.
SCALARS = 128
FIELDS = {"profile": (2, 1), "smooth": (9, 13), "fine": (17, 12), "finest": (28, 6), "grain": (90, 1)}

Layer = tuple[jax.Array, str, int]
Push = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Anatomy(NamedTuple):
    """One subject's slice.

    layers, deep: (signed distance `(N, N)`, tissue, label) in order of painting, up to the white matter and
    within it. x, y: standard coordinates `(N, N)`. Signed distances `(N, N)`: depth, below the brain's
    surface; pia, white, to the pial surface and to white matter; sinus, to the air of the frontal sinus;
    lesions, to white-matter lesions, cut off where white matter ends.
    """

    layers: list[Layer]
    deep: list[Layer]
    x: jax.Array
    y: jax.Array
    depth: jax.Array
    pia: jax.Array
    white: jax.Array
    sinus: jax.Array
    lesions: jax.Array

    @property
    def ventricles(self) -> jax.Array:
        """Signed distance `(N, N)` to the ventricles."""
        return next(inside for inside, tissue, _ in self.deep if tissue == "csf")


class HeadChance:
    """A subject's random numbers and smooth random fields, each used once.

    All come from one draw of fixed length: separate draws would cost about a second of compilation each, and
    a subject would not be the same at every size.
    """

    def __init__(self, key: jax.Array, grid: int):
        sizes = [count * (knots + 3) ** 2 for knots, count in FIELDS.values()]
        deviates = settled(jax.random.normal(key, (SCALARS + sum(sizes),)))
        self._scalars, *parts = jnp.split(deviates, np.cumsum([SCALARS, *sizes[:-1]]))
        self._used = 0
        self._fields = {
            name: iter(_fields(part.reshape(count, knots + 3, knots + 3), grid))
            for part, (name, (knots, count)) in zip(parts, FIELDS.items(), strict=True)
        }

    def normal(self, count: int) -> jax.Array:
        """`(count,)` standard normal numbers."""
        first, self._used = self._used, self._used + count
        if self._used > SCALARS:
            raise ValueError(f"a subject has {SCALARS} random numbers and wants {self._used}")
        return self._scalars[first : self._used]

    def uniform(self, count: int) -> jax.Array:
        """`(count,)` numbers uniform in (0, 1)."""
        return settled(jax.scipy.stats.norm.cdf(self.normal(count)))

    def field(self, name: str) -> jax.Array:
        """A random field `(N, N)` of about unit variance, as smooth as `FIELDS` says."""
        return next(self._fields[name])


def anatomy(
    chance: HeadChance, grid: int, *, push: Push | None = None, growth: float | jax.Array = 1.0
) -> Anatomy:
    """The slice of a subject on a grid of `(grid, grid)` voxels.

    push: where what is drawn at `x, y` `(N, N)` within the brain comes from, for a mass that pushes it away.
    growth: of the ventricles, a factor of their width. Draws the subject's numbers in an order that recorded
    runs rest upon.
    """
    # Age widens sulci and ventricles together; level rises from the third ventricle to the lateral ones.
    age, level = chance.uniform(2)
    x, y = _standard_coordinates(chance, grid)
    depth = _brain_depth(chance, x, y, grid)
    layers, sinus = _coats(chance, x, y, depth, age)
    place = (x, y) if push is None else push(x, y)
    pia, white = _cortex(chance, *place, depth, age, grid)
    # Less than the distance: the border of cortex and white matter is seldom cut squarely and looks softer.
    layers += [(depth, "csf", CSF), (pia, "cortex", CORTEX), (0.8 * white, "white_matter", WHITE_MATTER)]
    deep = _deep_structures(chance, *place, age, level, growth)
    deep += _vessels(chance, *place, pia, depth)
    # Drawn last of all, so that a key gives the same head with lesions and without.
    lesions = jnp.minimum(_white_matter_lesions(chance, x, y), white)
    return Anatomy(layers, deep, x, y, depth, pia, white, sinus, lesions)


def _standard_coordinates(chance: HeadChance, grid: int) -> tuple[jax.Array, jax.Array]:
    """Coordinates `(N, N)` in the standard head: x to the image's right, y to the back (down)."""
    angle, left, down = chance.normal(3) * jnp.array([0.05, 0.015, 0.025])
    wide, long, egg = chance.normal(3) * jnp.array([0.035, 0.03, 0.03]) + jnp.array([1.07, 1.07, 0.05])
    side = (jnp.arange(grid) + 0.5) / grid * 2 - 1
    across, along = side[None, :] - left, side[:, None] - down
    x = (jnp.cos(angle) * across + jnp.sin(angle) * along) / wide
    y = (jnp.cos(angle) * along - jnp.sin(angle) * across) / long
    # Narrower in front: an egg, as heads are.
    return x * (1 - egg * y / 0.65), y


def _brain_depth(chance: HeadChance, x: jax.Array, y: jax.Array, grid: int) -> jax.Array:
    """Distance `(N, N)` below the brain's surface, negative outside: a bumpy superellipse."""
    across, along, power = chance.normal(3) * jnp.array([0.01, 0.013, 0.1]) + jnp.array([0.495, 0.65, 2.15])
    norm = (jnp.abs(x / across) ** power + jnp.abs(y / along) ** power + 1e-9) ** (1 / power)
    return distance(1 - norm, grid) + 0.008 * chance.field("smooth")


def _coats(
    chance: HeadChance, x: jax.Array, y: jax.Array, depth: jax.Array, age: jax.Array
) -> tuple[list[Layer], jax.Array]:
    """Scalp, muscle, skull with marrow, and the fluid outside the brain, from the skin inwards; the sinus."""
    front = jnp.exp(-jnp.square((y + 0.66) / 0.14) - jnp.square(x / 0.2))
    temple = (jnp.abs(x) > 0.2) * jnp.exp(-jnp.square((y + 0.14) / 0.22))
    fluid = 0.009 * age + 0.006 * chance.field("smooth")
    sinus, bone, skin, temporalis = chance.normal(4)
    sinus = 0.06 * jax.nn.relu(sinus - 0.3)
    skull = 0.038 + 0.006 * bone + 0.006 * chance.field("smooth") + sinus * front
    scalp = 0.046 + 0.008 * skin + 0.005 * chance.field("smooth") + 0.012 * y
    scalp = jnp.maximum(scalp, 0.024)
    muscle = 0.042 * temple * jnp.exp(0.3 * temporalis) + 0.004 + 0.008 * chance.field("fine")
    marrow = 0.12 * skull + 0.008 * chance.field("finest") - 0.7 * sinus * front
    inner = depth + fluid
    outer = inner + skull
    skin = outer + scalp
    # Air between two tables of bone, where the skull is thick enough in front.
    air = 0.5 * skull - 0.012 - jnp.abs(outer - 0.5 * skull) - 0.03 * (1 - front)
    air = jnp.where(sinus > 0, air, -1.0)
    return [
        (skin, "skin", SCALP),
        (skin - 0.012 - 0.006 * chance.field("fine"), "fat", SCALP),
        (jnp.minimum(outer + muscle, skin - 0.014), "muscle", SCALP),
        (outer, "bone", SKULL),
        (marrow - jnp.abs(outer - 0.5 * skull), "marrow", SKULL),
        (inner, "csf", CSF),
    ], air


def _cortex(
    chance: HeadChance, x: jax.Array, y: jax.Array, depth: jax.Array, age: jax.Array, grid: int
) -> tuple[jax.Array, jax.Array]:
    """Signed distances `(N, N)` to the pial surface and to white matter, both positive inside."""
    ends = 0.02 * chance.normal(2) + jnp.array([-0.33, 0.30])
    beyond = jax.nn.relu(-jnp.maximum(ends[0] - y, y - ends[1]))
    fissure = norm(x - 0.010 * chance.field("smooth"), beyond) - 0.004 * age - 0.003 * chance.field("smooth")
    sylvian = _sylvian_fissure(chance, x, y) - 0.005 * age - 0.005 * chance.field("fine")
    hull = jnp.minimum(depth, fissure)
    pia = jnp.minimum(hull, sylvian)
    # Along the midline spokes would crowd, and the joining field alone makes the sulci.
    lateral = jnp.tanh(jnp.square(x / 0.15))
    angle = jnp.arctan2(y, x)
    open_width = 0.005 * age - 0.001 + 0.0025 * chance.field("smooth")
    for lines, reach, bend, blend in (
        (13, 0.14, 1.3 * chance.field("fine"), 0.6 * chance.field("finest")),
        (22, 0.05, 1.5 * chance.field("fine"), 0.8 * chance.field("finest")),
    ):
        wave = lateral * jnp.cos(lines * angle + bend) + blend
        crease = norm(distance(wave, grid), jax.nn.relu(hull - reach * (1 + 0.6 * chance.field("fine"))))
        pia = jnp.minimum(pia, crease - open_width)
    return pia, pia - 0.030 - 0.004 * chance.field("fine")


def _sylvian_fissure(chance: HeadChance, x: jax.Array, y: jax.Array) -> jax.Array:
    """Distance `(N, N)` to the two lateral fissures: the insula's curve and the cleft that leads to it."""
    across = jnp.abs(x + 0.015 * chance.field("smooth")) + 0.012 * chance.field("fine")
    along = y + 0.025 * chance.field("smooth") + 0.012 * chance.field("fine")
    points = [(0.29, -0.22), (0.335, -0.08), (0.325, 0.06), (0.28, 0.14), (0.52, 0.02)]
    cleft = (0.33, -0.04), points.pop()
    pieces = [*itertools.pairwise(points), cleft]
    return functools.reduce(jnp.minimum, [segment(across, along, *piece)[0] for piece in pieces])


def _deep_structures(
    chance: HeadChance,
    x: jax.Array,
    y: jax.Array,
    age: jax.Array,
    level: jax.Array,
    growth: float | jax.Array,
) -> list[Layer]:
    """Layers of the deep grey matter, the ventricles and the choroid plexus within them."""
    x = x + 0.014 * chance.field("smooth")
    shift, lean, spread = chance.normal(3)
    y = y + 0.018 * chance.field("smooth") + 0.02 * shift
    scale = (1 + 0.12 * lean * jnp.tanh(x / 0.05)) * (0.6 + 0.7 * age) * jnp.exp(0.15 * spread) * growth
    across = jnp.abs(x)
    body = jnp.clip(3 * level - 1.5, -0.5, 1)
    third = jnp.clip(2 - 3 * level, -0.5, 1)
    size = 1.1 - 0.25 * level

    def tube(start: tuple, end: tuple, radii: tuple) -> jax.Array:
        distance, part = segment(across, y, start, end)
        return scale * (radii[0] + part * (radii[1] - radii[0])) - distance

    chambers = [
        tube((0.018, -0.07), (0.042, -0.19), (0.008, 0.022)),
        tube((0.042, -0.19), (0.115, -0.29), (0.024, 0.013)),
        tube((0.150, 0.165), (0.205, 0.245), (0.012, 0.040)),
        tube((0.205, 0.245), (0.245, 0.345), (0.040, 0.012)),
        tube((0.040, -0.12), (0.085, 0.06), (0.030 * body, 0.030 * body)),
        tube((0.085, 0.06), (0.190, 0.22), (0.030 * body, 0.040 * body)),
        tube((0.0, -0.03), (0.0, 0.10), (0.008 * third, 0.014 * third)),
        tube((0.0, 0.185), (0.028, 0.205), (0.024 * third, 0.012 * third)),
    ]
    ventricles = functools.reduce(jnp.maximum, chambers) + 0.003 * chance.field("finest")
    tuft = 0.012 - segment(across, y, (0.175, 0.19), (0.20, 0.235))[0]
    return [
        (ellipse(across, y, (0.125, -0.195), (0.034 * size, 0.062 * size), 0.35), "deep_grey", DEEP_GREY),
        (ellipse(across, y, (0.235, -0.060), (0.042 * size, 0.125 * size), -0.12), "deep_grey", DEEP_GREY),
        (ellipse(across, y, (0.178, -0.020), (0.026 * size, 0.070 * size), -0.35), "pallidum", DEEP_GREY),
        (ellipse(across, y, (0.088, 0.090), (0.066 * size, 0.105 * size), -0.30), "deep_grey", DEEP_GREY),
        (ventricles, "csf", VENTRICLE),
        (jnp.minimum(tuft, ventricles - 0.006), "choroid_plexus", VENTRICLE),
    ]


def _vessels(chance: HeadChance, x: jax.Array, y: jax.Array, pia: jax.Array, depth: jax.Array) -> list[Layer]:
    """Flow voids: arteries in the lateral fissures and the sagittal sinus between skull and fissure."""
    number = 6
    across = 0.35 + 0.03 * chance.normal(number)
    along = -0.04 + 0.09 * chance.normal(number)
    side = jnp.sign(chance.normal(number))
    dots = functools.reduce(
        jnp.maximum, [0.0075 - norm(x - side[i] * across[i], y - along[i]) for i in range(number)]
    )
    place = 0.008 * chance.normal(2)
    sinus = 0.022 - norm(x - place[0], 1.3 * (y - 0.645 - place[1]))
    return [
        (jnp.minimum(dots, 0.016 - pia), "artery", CSF),
        (jnp.minimum(sinus, 0.02 - depth), "venous_sinus", CSF),
    ]


def _white_matter_lesions(chance: HeadChance, x: jax.Array, y: jax.Array) -> jax.Array:
    """Signed distance `(N, N)` to 2 to 8 ragged ovoid lesions, scattered round the ventricles."""
    number = 2 + jnp.floor(chance.uniform(1)[0] * (MOST_LESIONS - 1))
    angle, tilt = 2 * jnp.pi * chance.uniform(MOST_LESIONS), jnp.pi * chance.uniform(MOST_LESIONS)
    distance = 0.75 + 0.5 * chance.uniform(MOST_LESIONS)
    centres = jnp.stack([0.27 * distance * jnp.cos(angle), 0.36 * distance * jnp.sin(angle)])
    radii = 0.024 * jnp.exp(0.35 * chance.normal(2 * MOST_LESIONS)).reshape(2, MOST_LESIONS)
    spots = [
        jnp.where(i < number, ellipse(x, y, centres[:, i], radii[:, i], tilt[i]), -1.0)
        for i in range(MOST_LESIONS)
    ]
    return functools.reduce(jnp.maximum, spots) + 0.006 * chance.field("finest")


def _fields(coefficients: jax.Array, grid: int) -> jax.Array:
    """Smooth fields `(count, N, N)` of about unit variance: cubic B-splines of normal `coefficients`."""
    basis = spline_basis(grid, coefficients.shape[-1] - 3)
    return basis @ coefficients @ basis.T


def distance(level: jax.Array, grid: int) -> jax.Array:
    """First-order signed distance `(N, N)` to the zero line of a smooth function: `f / |grad f|`."""
    return level / jnp.maximum(norm(_difference(grid) @ level, level @ _difference(grid).T), 0.01)


@functools.cache
def _difference(grid: int) -> np.ndarray:
    """Matrix `(N, N)` of central differences in halves of the field of view.

    A matrix, because the compiler merges shifted reads with all that comes before and computes it once a
    shift.
    """
    return np.gradient(np.eye(grid, dtype=np.float32), 2 / grid, axis=0)


def norm(x: jax.Array, y: jax.Array) -> jax.Array:
    """Length of the vector `(x, y)`; its gradient is finite at zero."""
    return jnp.sqrt(x * x + y * y + 1e-12)


def segment(x: jax.Array, y: jax.Array, start: tuple, end: tuple) -> tuple[jax.Array, jax.Array]:
    """Distance `(N, N)` to the segment between two points `(x, y)`, and the nearest point's place on it."""
    along = end[0] - start[0], end[1] - start[1]
    length = along[0] ** 2 + along[1] ** 2
    part = jnp.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
    return norm(x - start[0] - part * along[0], y - start[1] - part * along[1]), part


def ellipse(x: jax.Array, y: jax.Array, centre: tuple, radii: tuple, tilt: float | jax.Array) -> jax.Array:
    """Signed distance `(N, N)`, positive inside, to an ellipse turned by `tilt` radians (to first order)."""
    across, along = x - centre[0], y - centre[1]
    p = (jnp.cos(tilt) * across + jnp.sin(tilt) * along) / radii[0]
    q = (jnp.cos(tilt) * along - jnp.sin(tilt) * across) / radii[1]
    norm = jnp.sqrt(p * p + q * q + 1e-12)
    slope = jnp.sqrt(jnp.square(p / radii[0]) + jnp.square(q / radii[1]) + 1e-12)
    return norm * (1 - norm) / slope
