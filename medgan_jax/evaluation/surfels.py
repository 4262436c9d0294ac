"""Length or area of the surface through a voxel corner, for each arrangement of its 2 x 2 (x 2) neighbours.

The surface of a corner's cell cuts the edges between unlike voxels half way (marching squares and cubes).
Where a face is ambiguous (its like voxels are diagonal) the voxels in the minority of the cell are kept
apart; polygons that are not flat take the triangulation of largest area on a cube. These two rules give the
table of DeepMind's surface-distance (Nikolov et al. 2018) for every code and spacing, so areas agree with
theirs.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np

Triangle = tuple[int, int, int]


@cache
def surfel_weights(rank: int, spacing: tuple[float, ...]) -> np.ndarray:
    """Weights of all neighbour codes: length in mm for rank 2 (16 codes), area in mm^2 for rank 3 (256
    codes).

    A code has one bit for each neighbour, the first voxel in array order highest. `spacing` is in mm.
    """
    scale = np.asarray(spacing, float)
    if rank == 2:
        return np.array([_contour_length(code, scale) for code in range(16)])
    return np.array([_patch_area(code, scale) for code in range(256)])


def _contour_length(code: int, spacing: np.ndarray) -> float:
    first, second, third, fourth = ((code >> bit) & 1 for bit in (3, 2, 1, 0))
    diagonal = 0.5 * float(np.hypot(*spacing))
    if first + second + third + fourth in (1, 3):
        return diagonal
    if first + second + third + fourth != 2:
        return 0.0
    if first == fourth:
        return 2 * diagonal
    return float(spacing[1] if first == second else spacing[0])


def _patch_area(code: int, spacing: np.ndarray) -> float:
    return sum(_polygon_area(polygon, spacing) for polygon in _polygons(code))


def _polygons(code: int) -> list[np.ndarray]:
    """Closed loops of edge midpoints, `(k, 3)` in cells, that separate set from unset corners of the cube."""
    corners = product((0, 1), repeat=3)
    inside = {(i, j, k): bool(code >> (7 - (4 * i + 2 * j + k)) & 1) for i, j, k in corners}
    minority = sum(inside.values()) <= 4
    neighbours: dict[tuple, list[tuple]] = {}
    for axis, side in product(range(3), (0, 1)):
        face = [(*ring[:axis], side, *ring[axis:]) for ring in ((0, 0), (0, 1), (1, 1), (1, 0))]
        for start, end in _face_segments(face, inside, minority):
            neighbours.setdefault(start, []).append(end)
            neighbours.setdefault(end, []).append(start)
    return list(_closed_loops(neighbours))


def _face_segments(face: list[tuple], inside: dict, minority: bool) -> list[tuple[tuple, tuple]]:
    """The pieces of surface on one face, as pairs of midpoints of its crossed edges."""
    edges = [(face[i], face[(i + 1) % 4]) for i in range(4)]
    middles = [tuple((np.array(a) + np.array(b)) / 2) for a, b in edges]
    crossed = [middle for middle, (a, b) in zip(middles, edges, strict=True) if inside[a] != inside[b]]
    if len(crossed) == 2:
        return [(crossed[0], crossed[1])]
    if len(crossed) == 4:
        return [(middles[i - 1], middles[i]) for i in range(4) if inside[face[i]] == minority]
    return []


def _closed_loops(neighbours: dict[tuple, list[tuple]]) -> Iterator[np.ndarray]:
    remaining = set(neighbours)
    while remaining:
        loop = [min(remaining)]
        following = neighbours[loop[0]][0]
        while following != loop[0]:
            loop.append(following)
            first, second = neighbours[following]
            following = second if first == loop[-2] else first
        remaining -= set(loop)
        yield np.array(loop)


def _triangulations(first: int, last: int) -> Iterator[list[Triangle]]:
    """Every triangulation of the polygon with corners `first .. last`."""
    if last - first < 2:
        yield []
        return
    for apex in range(first + 1, last):
        for left in _triangulations(first, apex):
            for right in _triangulations(apex, last):
                yield [*left, (first, apex, last), *right]


def _polygon_area(polygon: np.ndarray, spacing: np.ndarray) -> float:
    def area(triangles: list[Triangle], points: np.ndarray) -> float:
        a, b, c = points[np.array(triangles)].transpose(1, 0, 2)
        return 0.5 * float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())

    best = max(_triangulations(0, len(polygon) - 1), key=lambda triangles: round(area(triangles, polygon), 9))
    return area(best, polygon * spacing)
