"""What chest and abdomen share in computed tomography: the body's wall, spine, table and the scanner's noise.

Lengths are in halves of the field of view, 360 mm: one unit is 180 mm. Coordinates are (z, y, x): z along the
body towards the feet, y to the back (down in the image), x to the image's right, the patient's left. In a
slice z is a number, in a volume an axis of its own; every function here takes both.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import spline_basis
from medgan_jax.phantoms.shapes import blur, ellipsoid, grid, norm, paint, tube

FIELD_OF_VIEW_MM = 360.0
# Attenuation in HU without contrast medium, mid-range text-book values at 120 kVp.
AIR_HU, FAT_HU, MUSCLE_HU, SKIN_HU, MARROW_HU, CORTICAL_HU = -1000.0, -100.0, 55.0, 20.0, 190.0, 900.0


def spacing_mm(size: int) -> float:
    """Side of a pixel in mm of an image of `size` pixels."""
    return FIELD_OF_VIEW_MM / size


def windowed(hounsfield: jax.Array, level: float, width: float) -> jax.Array:
    """HU shown through a window: 0 at `level - width / 2` and below, 1 at `level + width / 2` and above."""
    return jnp.clip((hounsfield - level) / width + 0.5, 0, 1)


def pixel_coordinates(shape: Sequence[int], pose: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coordinates down and across, `(H, W)` or `(1, H, W)`, of a body that is turned, shifted and scaled.

    pose: radians, two shifts and the logarithm of the scale.
    """
    rows, columns = grid(shape)[-2:]
    turn, down, right, zoom = pose
    rows, columns = (rows - down) * jnp.exp(-zoom), (columns - right) * jnp.exp(-zoom)
    return jnp.cos(turn) * rows - jnp.sin(turn) * columns, jnp.cos(turn) * columns + jnp.sin(turn) * rows


def superellipse(
    y: jax.Array, x: jax.Array, half: Sequence[jax.Array], power: jax.Array | float
) -> jax.Array:
    """Signed distance, to first order, to a rounded rectangle of half height and half width `half`."""
    down, across = jnp.abs(y) / half[0], jnp.abs(x) / half[1]
    level = (down**power + across**power + 1e-9) ** (1 / power)
    slope = (down ** (power - 1) / half[0] + across ** (power - 1) / half[1]) / (level ** (power - 1) + 1e-6)
    return (1 - level) / jnp.maximum(slope, 1.0)


def vertebra(y: jax.Array, x: jax.Array, centre: jax.Array, scale: jax.Array) -> dict[str, jax.Array]:
    """Signed distances to a vertebra: `bone` (body, arch, processes), `marrow` within it, and `canal`."""
    y, x = (y - centre) / scale, x / scale
    apart = jnp.sqrt(x * x + 1e-6)
    # Its back is hollow towards the canal.
    hollow = ellipsoid((y, x), (0.12, 0.0), (0.05, 0.05))
    body = jnp.minimum(ellipsoid((y, x), (0.0, 0.0), (0.085, 0.110)), -hollow)
    canal = ellipsoid((y, x), (0.125, 0.0), (0.042, 0.055))
    arch = ellipsoid((y, x), (0.125, 0.0), (0.066, 0.082))
    spine = tube((y, x), (0.16, 0.0), (0.29, 0.0), (0.022, 0.014))
    wings = tube((y, apart), (0.13, 0.07), (0.16, 0.19), (0.026, 0.017))
    bone = jnp.maximum(jnp.maximum(body, arch), jnp.maximum(spine, wings))
    marrow = jnp.maximum(body - 0.010, jnp.maximum(wings, spine) - 0.009)
    return {name: part * scale for name, part in (("bone", bone), ("marrow", marrow), ("canal", canal))}


def rib_sections(
    wall: jax.Array, angle: jax.Array, z: jax.Array, bend: jax.Array, thickness: float
) -> tuple[jax.Array, jax.Array]:
    """Signed distances to ribs cut by a slice, and to their marrow.

    wall: distance outside the cavity's wall; angle: round the body, zero in front; ribs descend to the front,
    so that a slice cuts several, each along a part of the wall.
    """
    slant = 6.0 * jnp.abs(angle) / jnp.pi + 8.0 * z + bend
    from_rib = (jnp.abs(slant - jnp.round(slant)) - 0.24) * 0.35
    across = jnp.abs(wall - 0.028) - thickness
    outside = jnp.maximum(from_rib, across)
    return -outside, -outside - 0.009


def table(shape: Sequence[int], place: jax.Array | float) -> jax.Array:
    """Distance to the upper skin of the table that the body lies on, which no pose moves."""
    rows, columns = grid(shape)[-2:]
    return norm(jnp.maximum(rows, -1.0) + 1.9 - place, columns) - 1.9


def scanner_noise(white: jax.Array, size: int, rank: int) -> jax.Array:
    """Noise of unit standard deviation and the spectrum of filtered back-projection from white noise.

    A ramp that the kernel's point spread cuts off: the difference of two Gaussians of 0.55 and 1.6 mm, of the
    same white noise, in each slice.
    """
    pixels = size / FIELD_OF_VIEW_MM
    sharp = [0.0] * (rank - 2) + [max(0.55 * pixels, 0.3)] * 2
    broad = [0.0] * (rank - 2) + [max(1.6 * pixels, 0.9)] * 2
    noise = blur(white, sharp) - 0.9 * blur(white, broad)
    return noise / jnp.sqrt(jnp.mean(jnp.square(noise)))


def spread(image: jax.Array, rank: int) -> jax.Array:
    """The image blurred in each slice by the scanner's point spread, a Gaussian of 0.8 mm."""
    deviation = 0.8 * image.shape[-1] / FIELD_OF_VIEW_MM
    return blur(image, [0.0] * (rank - 2) + [deviation] * 2)


def fields_at(
    key: jax.Array, spans: Mapping[str, tuple[int, int, int]], z: jax.Array, shape: Sequence[int]
) -> dict[str, jax.Array]:
    """Smooth random fields of about unit variance of a body, in the slices at `z`, `()` or `(D,)` in (-1, 1).

    spans: for each name how many spans the cubic B-splines have along the body and in the slice, and how many
    fields there are. Returns `(count, H, W)` or `(count, D, H, W)` for `shape` `(..., H, W)`; a slice of a
    volume has the fields of that slice alone.
    """
    sizes = [count * (along + 3) * (within + 3) ** 2 for along, within, count in spans.values()]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes[:-1]))
    drawn = {}
    for part, (name, (along, within, count)) in zip(parts, spans.items(), strict=True):
        coefficients = part.reshape(count, along + 3, within + 3, within + 3)
        place = (jnp.asarray(z) + 1) / 2 * along
        offset = jnp.abs(place[..., None] - (jnp.arange(along + 3) - 1))
        near = 2 / 3 - offset**2 + offset**3 / 2
        far = jnp.clip(2 - offset, 0, None) ** 3 / 6
        # The mean of the sum of squares of uniform cubic B-splines is 151 / 315.
        basis = jnp.where(offset < 1, near, far) * np.sqrt(315 / 151)
        rows, columns = (spline_basis(side, within) for side in shape[-2:])
        planes = jnp.einsum("cknm,...k->c...nm", coefficients, basis)
        drawn[name] = jnp.einsum("c...nm,hn,wm->c...hw", planes, rows, columns)
    return drawn


def paint_tissues(
    layers: Sequence[tuple[jax.Array, jax.Array | float, int]],
    shape: Sequence[int],
    start: tuple[float, int],
    softness: float,
) -> tuple[jax.Array, jax.Array]:
    """HU and labels of layers `(signed distance, HU, label)` painted in turn; start: HU and label outside."""
    full = [[jnp.broadcast_to(part, shape) for part in layer[:2]] for layer in layers]
    # A loop over stacked layers: unrolled, the compiler would merge all of them and take minutes.
    stacked = [jnp.stack(parts).astype(jnp.float32) for parts in zip(*full, strict=True)]
    numbers = jnp.array([layer[2] for layer in layers], jnp.int32)

    def add(carry, layer):
        drawn, labels = carry
        inside, value, label = layer
        return (paint(drawn, inside, value, softness), jnp.where(inside > 0, label, labels)), None

    drawn = jnp.broadcast_to(jnp.asarray(start[0], jnp.float32), shape)
    labels = jnp.broadcast_to(jnp.asarray(start[1], jnp.int32), shape)
    return jax.lax.scan(add, (drawn, labels), (*stacked, numbers))[0]


def tubes(place: Sequence[jax.Array], pieces: Sequence[tuple[Sequence, Sequence, Sequence]]) -> jax.Array:
    """Signed distance to the union of tubes `(start, end, (first radius, last radius))` in (z, y, x)."""
    rank = max(jnp.ndim(axis) for axis in place)

    def column(numbers):
        return jnp.stack([jnp.asarray(each, jnp.float32) for each in numbers]).reshape(-1, *(1,) * rank)

    starts, ends, radii = (
        [column([piece[part][axis] for piece in pieces]) for axis in range(len(pieces[0][part]))]
        for part in range(3)
    )
    return jnp.max(tube(place, starts, ends, radii), axis=0)
