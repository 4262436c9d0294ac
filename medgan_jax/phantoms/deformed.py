"""Pairs of images of one anatomy with a deformation between them that is known everywhere.

The deformation is an affine map followed by many local ones: bumps of bounded support that push what lies
under them, few of them strongly, their sizes from small to large. Each is invertible by itself, so that their
sequence is. It is of another family than smooth Gaussian fields, B-splines and the energies that registration
is regularised by, and is evaluated at any point without interpolation.

Displacements are in voxels, components in the order of the axes, and pull: what is at `x` in the fixed image
is at `x + u(x)` in the moving one.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.head_study import head_study
from medgan_jax.phantoms.head_volume import head_volume
from medgan_jax.phantoms.hippocampus import hippocampus_volume

Anatomy = Literal["brain", "brain_family_b", "hippocampus"]

BUMPS, LANDMARKS = 24, 50
# The steepest slope of the profile (1 - r^2)^2 of a bump is 1.54 over its radius; below 1 nothing folds.
STEEPEST_SLOPE, LARGEST_SLOPE = 1.54, 0.62


def deformed_pair(
    key: jax.Array,
    shape: Sequence[int] = (96, 96),
    *,
    anatomy: Anatomy = "brain",
    strength: float | jax.Array = 1.0,
    noise: float | jax.Array = 0.015,
) -> dict[str, jax.Array]:
    """A fixed and a moving image of one subject, the moving one drawn, the fixed one pulled from it.

    `anatomy`: "brain", a slice (two sides) or a volume (three) of T1 without coats; "brain_family_b",
    another population: T2, slices by the second scanner, volumes with wider ventricles; "hippocampus" (three
    sides) with its anterior and posterior part. `strength` is a factor of the deformation; 1 moves the voxels
    of a brain by up to 4 to 10 % of the field of view. The images have a noise and a coil profile each.

    Returns, for `shape` of rank R:

    * `fixed`, `moving` `(*shape, 1)`: float32, magnitudes in about [0, 1];
    * `fixed_labels`, `moving_labels` `(*shape)`: int32, of the anatomy's module;
    * `displacement` `(*shape, R)`: float32, in voxels, from fixed to moving;
    * `fixed_landmarks`, `moving_landmarks` `(50, R)`: float32 voxel coordinates within the anatomy.

    Raises `ValueError` for an unknown anatomy or a rank that it does not have.
    """
    shape = tuple(shape)
    subject_key, pair_key = jax.random.split(key)
    image, labels, structure = _subject(subject_key, shape, anatomy)
    rank = len(shape)
    chance = Chance(pair_key, _numbers(rank), {"profile": (2, 2)}, shape)
    move = _deformation(chance, shape, strength)
    places = jnp.stack(
        jnp.meshgrid(*(jnp.arange(side, dtype=jnp.float32) for side in shape), indexing="ij"), -1
    )
    pulled = move(places)
    fixed = _sample(image, pulled, 1)
    fixed_labels = _sample(labels, pulled, 0)
    profiles = jnp.exp(0.10 * chance.field("profile"))
    deviates = noise * chance.noise(2, 2, *shape)
    views = [
        jnp.hypot(view * profile + each[0], each[1])
        for view, profile, each in zip((fixed, image), profiles, deviates, strict=True)
    ]
    landmarks = _landmarks(chance, _sample(structure.astype(jnp.int32), pulled, 0) > 0)
    return {
        "fixed": views[0][..., None],
        "moving": views[1][..., None],
        "fixed_labels": fixed_labels,
        "moving_labels": labels,
        "displacement": pulled - places,
        "fixed_landmarks": landmarks,
        "moving_landmarks": move(landmarks),
    }


def _subject(key: jax.Array, shape: tuple[int, ...], anatomy: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Noiseless image, labels, and where landmarks may lie."""
    if anatomy not in get_args(Anatomy):
        raise ValueError(f"unknown anatomy '{anatomy}'; there are {', '.join(get_args(Anatomy))}")
    other = anatomy == "brain_family_b"
    if anatomy == "hippocampus" and len(shape) == 3:
        drawn: Mapping = hippocampus_volume(key, shape, noise=0.0)
        return drawn["image"][..., 0], drawn["labels"], drawn["labels"] > 0
    contrast = ("t2",) if other else ("t1",)
    if anatomy != "hippocampus" and len(shape) == 3:
        drawn = head_volume(key, shape, modalities=contrast, ventricles=1.35 if other else 1.0, noise=0.0)
        return drawn["image"][..., 0], drawn["labels"], drawn["brain_mask"]
    if anatomy != "hippocampus" and len(shape) == 2 and shape[0] == shape[1]:
        drawn = head_study(
            key, shape[0], modalities=contrast, second_scanner=other, brain_only=True, noise=0.0
        )
        labels = jnp.where(drawn["brain_mask"], drawn["labels"], 0)
        return drawn["image"][..., 0], labels, drawn["brain_mask"]
    raise ValueError(f"there is no {anatomy} of shape {shape}: brains have 2 equal sides or 3, others 3")


def _numbers(rank: int) -> dict[str, int]:
    return {"affine": rank * rank + rank, "bumps": BUMPS * (2 * rank + 2), "landmarks": LANDMARKS}


def _deformation(chance: Chance, shape: tuple[int, ...], strength: float | jax.Array):
    """The function of voxel coordinates `(..., R)` from the fixed image into the moving one."""
    rank, sides = len(shape), np.array(shape, np.float32)
    middle = (sides - 1) / 2
    deviates = chance.normal("affine")
    matrix = jnp.eye(rank) + strength * 0.025 * deviates[: rank * rank].reshape(rank, rank)
    shift = strength * 0.01 * sides * deviates[rank * rank :]
    numbers = chance.uniform("bumps").reshape(BUMPS, 2 * rank + 2)
    centres = sides * (0.14 + 0.72 * numbers[:, :rank])
    # From an eighth to a third of the field of view, small ones more often.
    radii = sides.min() * (0.12 + 0.22 * numbers[:, rank] ** 2)
    direction = chance.normal("bumps").reshape(BUMPS, 2 * rank + 2)[:, rank + 1 : -1]
    direction = direction / (jnp.linalg.norm(direction, axis=-1, keepdims=True) + 1e-6)
    # Exponentially distributed: most bumps are weak and a few strong. In a plane more of them overlap.
    heavy = -jnp.log(1 - jnp.clip(numbers[:, -1], 0, 0.999)) * (0.13 if rank == 2 else 0.26)
    slope = LARGEST_SLOPE * jnp.tanh(strength * heavy / LARGEST_SLOPE)
    pushes = direction * (slope * radii / STEEPEST_SLOPE)[:, None]

    def move(points: jax.Array) -> jax.Array:
        points = middle + (points - middle) @ matrix.T + shift

        def one(bump: int, at: jax.Array) -> jax.Array:
            far = jnp.sum(jnp.square((at - centres[bump]) / radii[bump]), axis=-1, keepdims=True)
            return at + pushes[bump] * jnp.square(jnp.maximum(1 - far, 0))

        return jax.lax.fori_loop(0, BUMPS, one, points)

    return move


def _sample(image: jax.Array, places: jax.Array, order: int) -> jax.Array:
    return jax.scipy.ndimage.map_coordinates(image, list(jnp.moveaxis(places, -1, 0)), order, mode="nearest")


def _landmarks(chance: Chance, inside: jax.Array) -> jax.Array:
    """Voxels `(50, R)` spread at random over where `inside` is true."""
    reached = jnp.cumsum(inside.ravel().astype(jnp.float32))
    chosen = jnp.searchsorted(reached, chance.uniform("landmarks") * reached[-1])
    return jnp.stack(jnp.unravel_index(chosen, inside.shape), axis=-1).astype(jnp.float32)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of the contact sheet: pairs and the size of the displacement."""

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        rows = {}
        for anatomy, shape in (
            ("brain", (96, 96)),
            ("brain_family_b", (96, 96)),
            ("hippocampus", (48, 64, 48)),
        ):
            pair = deformed_pair(key, shape, anatomy=anatomy)
            cut = (slice(None),) * 2 if len(shape) == 2 else (slice(None), slice(None), shape[2] // 2)
            rows[f"{anatomy}, fixed"] = pair["fixed"][cut][..., 0]
            rows[f"{anatomy}, moving"] = pair["moving"][cut][..., 0]
            rows[f"{anatomy}, difference"] = 0.5 + 0.5 * (pair["moving"] - pair["fixed"])[cut][..., 0]
            rows[f"{anatomy}, displacement / 8"] = jnp.linalg.norm(pair["displacement"][cut], axis=-1) / 8
        return rows

    return jax.lax.map(jax.jit(draw), keys)
