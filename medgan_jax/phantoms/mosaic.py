"""Many objects at once: each site of a lattice has one object, and a pixel meets only those near it.

An image of hundreds of cells then costs nine objects a pixel. Lengths are in spacings of the lattice, whose
first visible cell begins at 0; a ring of sites beyond the visible ones lets objects cross the border. An
object must stay within one spacing of its site's cell: centre plus radius between -1 and 2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))


class Outlines(NamedTuple):
    """Objects of S sites, each array `(S,)`; centre `(S, 2)`: row and column.

    radius, and `stretch` >= 1 of the long axis at `angle` (0 along columns) with the area kept; `lobes`
    `(S, 4)`: cosine and sine of two and of three lobes, in parts of the radius. An absent object has a
    negative radius.
    """

    centre: jax.Array
    radius: jax.Array
    stretch: jax.Array
    angle: jax.Array
    lobes: jax.Array


class Near(NamedTuple):
    """The objects near each point, leaves `(9, ...)`: site, signed distance (positive inside), place inside.

    `place` `(2, 9, ...)`: offset from the centre in radii along the long and the short axis.
    """

    site: jax.Array
    inside: jax.Array
    place: jax.Array

    def of(self, values: jax.Array) -> jax.Array:
        """`(9, ...)` values `(S,)` of the sites."""
        return values.at[self.site].get(mode="promise_in_bounds")

    def chosen(self, first: jax.Array) -> jax.Array:
        """Site `(...)` of one of the nine at each point."""
        return jnp.take_along_axis(self.site, first[None], axis=0, mode="promise_in_bounds")[0]

    def best(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the object that a point is deepest in: its place among the nine, depth, distance to its edge.

        The edge is its outline, or the line where a touching object begins.
        """
        first = jnp.argmax(self.inside, axis=0)
        depth = jnp.max(self.inside, axis=0)
        others = jnp.where(np.arange(9).reshape(9, *(1,) * depth.ndim) == first, -9.0, self.inside)
        return first, depth, jnp.minimum(depth, (depth - others.max(0)) / 2)


def site_count(cells: int) -> int:
    """Sites of a lattice of `cells` visible cells a side."""
    return (cells + 2) ** 2


def corners(cells: int) -> np.ndarray:
    """`(S, 2)` upper left corners of the sites' cells."""
    axis = np.arange(-1, cells + 1, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def pixel_places(size: int, cells: int) -> np.ndarray:
    """`(size, size, 2)` centres of pixels in spacings of the lattice."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * cells
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)


def near(points: jax.Array, outlines: Outlines, cells: int) -> Near:
    """The nine objects near each of the points `(..., 2)`; distances are of first order."""
    side = cells + 2
    cell = jnp.clip(jnp.floor(points).astype(jnp.int32) + 1, 1, cells)
    site = jnp.stack([(cell[..., 0] + down) * side + cell[..., 1] + right for down, right in NEIGHBOURS])
    # One gather of all numbers of a site costs a fraction of one for each.
    centre, angle = outlines.centre, outlines.angle
    columns = [outlines.radius, jnp.sqrt(outlines.stretch), jnp.cos(angle), jnp.sin(angle)]
    table = jnp.concatenate([jnp.stack(columns, axis=-1), centre, outlines.lobes], axis=-1)
    found = jnp.moveaxis(table.at[site].get(mode="promise_in_bounds"), -1, 0)
    radius, root, cosine, sine, row, column, *lobes = found
    down, across = points[..., 0] - row, points[..., 1] - column
    size = jnp.abs(radius) + 1e-6
    along = (cosine * across + sine * down) / (size * root)
    aside = (cosine * down - sine * across) * root / size
    square = along * along + aside * aside + 1e-9
    two, three = (along * along - aside * aside) / square, 2 * along * aside / square
    lobed = 1 + lobes[0] * two + lobes[1] * three
    length = jnp.sqrt(square)
    cosine_three = (two * along - three * aside) / length
    sine_three = (three * along + two * aside) / length
    lobed += lobes[2] * cosine_three + lobes[3] * sine_three
    # To first order: f / |grad f| of f = lobed - length in stretched coordinates.
    slope = jnp.sqrt(along * along / root**2 + aside * aside * root**2) / length
    inside = (lobed - length) * size / slope
    inside = jnp.where(radius > 0, inside, -9.0)
    return Near(site, inside, jnp.stack([along, aside]))
