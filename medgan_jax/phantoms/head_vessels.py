"""Arteries of the procedural head at the level of the ventricles, as a signed distance.

Lengths are those of `head_anatomy`: one unit is 120 mm.
"""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.head_anatomy import Anatomy, norm

# Courses (x, y) on the right side with the radius at their start; the left side has its own variation.
COURSES = {
    "middle_cerebral": (((0.29, -0.20), (0.33, -0.10), (0.335, 0.0), (0.31, 0.10), (0.27, 0.15)), 0.0085),
    "opercular": (((0.33, -0.06), (0.39, -0.02), (0.46, 0.01), (0.50, 0.07), (0.47, 0.19)), 0.0070),
    "frontal_branch": (((0.32, -0.12), (0.38, -0.22), (0.43, -0.30), (0.41, -0.40), (0.34, -0.50)), 0.0065),
    "parietal_branch": (((0.31, 0.09), (0.37, 0.19), (0.40, 0.30), (0.34, 0.42), (0.24, 0.54)), 0.0065),
    "anterior_cerebral": (
        ((0.01, -0.30), (0.02, -0.38), (0.01, -0.47), (0.02, -0.55), (0.07, -0.60)),
        0.0078,
    ),
    "posterior_cerebral": (((0.07, 0.25), (0.10, 0.31), (0.07, 0.38), (0.03, 0.46), (0.08, 0.57)), 0.0078),
    "perforators": (((0.13, -0.15), (0.15, -0.11), (0.17, -0.07), (0.18, -0.03), (0.19, 0.0)), 0.0016),
}
POINTS, CROSSINGS = 5, 26
NUMBERS = {"courses": 2 * len(COURSES) * (2 * POINTS + 1), "crossings": 3 * CROSSINGS}
FIELDS = {"meander": (24, 2)}


def arteries(chance: Chance, head: Anatomy) -> jax.Array:
    """Signed distance `(N, N)` to arteries in fissures and sulci, perforators, and vessels across the slice.

    Mean and SD: points of a course 2.2 mm apart from the mean course, radii 18 % and falling to 55 %.
    """
    points = np.array([course for course, _ in COURSES.values()])
    radii = np.array([radius for _, radius in COURSES.values()])
    points = np.concatenate([points, points * np.array([-1, 1])])
    radii = np.concatenate([radii, radii])
    deviates = chance.normal("courses").reshape(len(points), 2 * POINTS + 1)
    points = points + 0.018 * deviates[:, :-1].reshape(points.shape)
    radii = radii * jnp.exp(0.18 * deviates[:, -1])
    meander = 0.012 * chance.field("meander")
    x, y = head.x + meander[0], head.y + meander[1]
    taper = np.linspace(1.0, 0.55, POINTS)
    starts, ends = points[:, :-1].reshape(-1, 2), points[:, 1:].reshape(-1, 2)
    widths = radii[:, None] * taper
    pieces = jax.vmap(lambda start, end, first, last: _tube(x, y, start, end, first, last))
    tubes = pieces(starts, ends, widths[:, :-1].ravel(), widths[:, 1:].ravel())
    # Perforators enter the brain; all others lie on its surface.
    tubes = tubes.reshape(len(points), POINTS - 1, *x.shape).max(1)
    inner = np.array([name == "perforators" for name in COURSES] * 2)
    surface = jnp.minimum(jnp.max(jnp.where(inner[:, None, None], -1.0, tubes), 0), 0.014 - head.pia)
    # So fine that they fill a third of a voxel.
    inside = jnp.max(jnp.where(inner[:, None, None], tubes, -1.0), 0) - 0.003
    return jnp.maximum(jnp.maximum(surface, inside), _crossings(chance, head))


def _tube(
    x: jax.Array, y: jax.Array, start: jax.Array, end: jax.Array, first: jax.Array, last: jax.Array
) -> jax.Array:
    """Signed distance `(N, N)` to a tube between two points, its radius going from `first` to `last`."""
    along = end - start
    place = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (jnp.sum(along * along) + 1e-9)
    place = jnp.clip(place, 0, 1)
    distance = norm(x - start[0] - place * along[0], y - start[1] - place * along[1])
    return first + place * (last - first) - distance


def _crossings(chance: Chance, head: Anatomy) -> jax.Array:
    """Dots where arteries of sulci cross the slice."""
    u = chance.uniform("crossings").reshape(3, CROSSINGS)
    angle, far, radius = 2 * jnp.pi * u[0], 0.7 + 0.3 * u[1], 0.0045 + 0.003 * u[2]
    dots = jax.vmap(lambda across, along, size: size - norm(head.x - across, head.y - along))
    inside = dots(0.49 * far * jnp.cos(angle), 0.64 * far * jnp.sin(angle), radius)
    return jnp.minimum(jnp.max(inside, 0), jnp.minimum(0.010 - head.pia, head.depth + 0.01))
