"""Branching trees of tubes: how vessels and neurites grow, and their signed distance on a grid of pixels.

A tree is grown generation by generation. Every path is a smooth curve that starts on its parent at an angle
and bends towards a heading of its own; radii fall at forks, about by Murray's law (a parent's radius cubed is
the sum of its daughters' cubed; Murray, PNAS 12, 1926), and along each path. All paths of a generation are
one array, so that a tree costs a few operations however many twigs it has.

Places are `(row, column)` in any unit; an angle of 0 points along the columns, pi/2 along the rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes


class Paths(NamedTuple):
    """N curves of S straight pieces each."""

    points: jax.Array  # (N, S + 1, 2)
    angles: jax.Array  # (N, S + 1) direction of travel in radians
    radii: jax.Array  # (N, S + 1); 0 where there is no tube


class View(NamedTuple):
    """A square window on the plane: its centre, half its side, and its pixels a side."""

    centre: tuple[float | jax.Array, float | jax.Array]
    half: float
    size: int

    def pixels(self, places: jax.Array) -> jax.Array:
        """Places `(..., 2)` in pixels, where the first pixel's centre is 0."""
        return (places - jnp.stack(self.centre) + self.half) * self.scale - 0.5

    @property
    def scale(self) -> float:
        """Pixels in a unit of length."""
        return self.size / (2 * self.half)

    def coordinates(self) -> tuple[jax.Array, jax.Array]:
        """Rows `(size, 1)` and columns `(1, size)` of the pixels' centres in the plane."""
        offset = self.half * ((2 * np.arange(self.size, dtype=np.float32) + 1) / self.size - 1)
        return self.centre[0] + offset[:, None], self.centre[1] + offset[None, :]


def grow(
    starts: jax.Array,
    angles: jax.Array,
    bends: jax.Array,
    lengths: jax.Array,
    radii: jax.Array,
    wiggles: jax.Array,
    steps: int,
    *,
    taper: float = 0.5,
    haste: float = 3.0,
) -> Paths:
    """N paths from `starts` `(N, 2)`, first along `angles` `(N,)`, in the end turned by `bends` `(N,)`.

    lengths, radii: `(N,)`, the radius at the start. wiggles: `(N, M)` radians, amplitudes of M slow
    oscillations of the direction. taper: the part of the radius lost along the way. haste: how early in its
    course a path does its bend, in e-foldings.
    """
    along = np.linspace(0, 1, steps + 1, dtype=np.float32)
    waves = [
        np.sin((1.5 * k + 1) * np.pi * along + 1.3 * k) - np.sin(1.3 * k) for k in range(wiggles.shape[1])
    ]
    ease = (1 - np.exp(-haste * along)) / (1 - np.exp(-haste))
    angle = angles[:, None] + bends[:, None] * ease + wiggles @ np.stack(waves)
    middle = (angle[:, 1:] + angle[:, :-1]) / 2
    step = jnp.stack([jnp.sin(middle), jnp.cos(middle)], axis=-1) * (lengths / steps)[:, None, None]
    # Sums by a matrix compile much faster than a cumulative sum.
    points = starts[:, None] + jnp.einsum("ts,nsd->ntd", np.tri(steps + 1, steps, -1, np.float32), step)
    return Paths(points, angle, radii[:, None] * (1 - taper * along))


def sprout(paths: Paths, places: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points `(N C, 2)`, angles and radii `(N C,)` at parts `places` `(N, C)` in (0, 1) of each path."""
    steps = paths.angles.shape[1]
    near = jax.nn.relu(1 - jnp.abs(places[..., None] * (steps - 1) - np.arange(steps, dtype=np.float32)))
    angles, radii = (
        jnp.einsum("ncs,ns->nc", near, values).reshape(-1) for values in (paths.angles, paths.radii)
    )
    return jnp.einsum("ncs,nsd->ncd", near, paths.points).reshape(-1, 2), angles, radii


def inside(
    generations: Sequence[Paths],
    view: View,
    *,
    widest: float,
    longest: float,
    groups: Sequence[jax.Array] | None = None,
    count: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """Where the tubes of all `generations` lie on a view's pixels: `(count, H, W)` twice.

    First the signed distance in pixels, positive inside a tube and cut off 1.5 pixels outside; then the depth
    in the deepest tube, 1 on its axis and 0 on its wall and beyond. groups: for each generation the picture
    `(N,)`, below `count`, into which each of its paths goes. widest, longest: bounds on the radius and on a
    piece's length; what is larger is cut.
    """
    # The window of a piece moves with it, and its canvas has a margin that takes all that lies outside.
    reach = int(np.ceil((widest + longest / 2) * view.scale + 1.5))
    margin = 2 * reach + 1
    side = view.size + 2 * margin
    start, along, radius, growth = (
        jnp.concatenate(each) for each in zip(*(_pieces(paths, view) for paths in generations), strict=True)
    )
    corner = jnp.round(start + along / 2).astype(jnp.int32) - reach
    window = corner[..., None] + np.arange(margin)
    down, across = (
        window[:, 0, :, None] - start[:, 0, None, None],
        window[:, 1, None] - start[:, 1, None, None],
    )
    unit = along / (jnp.sum(along * along, axis=1, keepdims=True) + 1e-6)
    part = jnp.clip(down * unit[:, 0, None, None] + across * unit[:, 1, None, None], 0, 1)
    distance = shapes.norm(down - part * along[:, 0, None, None], across - part * along[:, 1, None, None])
    width = radius[:, None, None] + part * growth[:, None, None]
    deep = jnp.where(width > 1e-3, width - distance, -9.0)
    if groups is None:
        picture = jnp.zeros((len(start), 1), jnp.int32)
    else:
        steps = [paths.angles.shape[1] - 1 for paths in generations]
        each = [jnp.repeat(group, number) for group, number in zip(groups, steps, strict=True)]
        picture = jnp.concatenate(each).astype(jnp.int32)[:, None]
    drawn = jax.lax.scatter_max(
        jnp.broadcast_to(jnp.array([-1.5, 0.0])[:, None, None], (count, 2, side, side)),
        jnp.concatenate([picture, jnp.clip(corner + margin, 0, side - margin)], axis=1),
        jnp.stack([deep, deep / jnp.maximum(width, 1e-3)], axis=1),
        jax.lax.ScatterDimensionNumbers(
            update_window_dims=(1, 2, 3), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0, 2, 3)
        ),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    drawn = drawn[..., margin : margin + view.size, margin : margin + view.size]
    return drawn[:, 0], jnp.minimum(drawn[:, 1], 1)


def _pieces(paths: Paths, view: View) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Starts and extents `(P, 2)`, radii and their growth `(P,)` of straight pieces, in pixels."""
    nodes, radii = view.pixels(paths.points), paths.radii * view.scale
    return (
        nodes[:, :-1].reshape(-1, 2),
        jnp.diff(nodes, axis=1).reshape(-1, 2),
        radii[:, :-1].reshape(-1),
        jnp.diff(radii, axis=1).reshape(-1),
    )


def cover(inside: jax.Array, depth: jax.Array) -> jax.Array:
    """Share of each pixel that lies in a tube, from its signed distance in pixels and its depth.

    A tube thinner than a pixel covers no more than its width: the radius is distance over depth.
    """
    width = 2 * inside / jnp.maximum(depth, 1e-3)
    return jnp.clip(0.5 + inside, 0, jnp.where(inside > 0, jnp.minimum(width, 1), 0.5))
