"""Volumes of one size, each with what a coarser acquisition leaves of it: phantoms, or a folder's volumes."""

import functools
from collections.abc import Sequence

import numpy as np

from medgan_jax.data import transforms
from medgan_jax.data.parts import Counts, Draw, Parts, open_parts
from medgan_jax.data.sources import Record, cached, mapped
from medgan_jax.errors import UserError
from medgan_jax.physics.resolution import truncate_kspace


def open_coarse_volumes(
    source: str,
    phantom: Draw,
    *,
    name: str,
    counts: Counts,
    size: Sequence[int],
    factor: int,
    axes: Sequence[int],
    version: int = 1,
) -> Parts:
    """Parts with `image` (D, H, W, 1), whose largest value is 1, and `low`, of the same size.

    Volumes are cut to `size` about their middle, divided by their largest value, and for `low` lose all but
    the central 1 / `factor` of their k-space along `axes`. UserError where a volume is smaller, has several
    channels, or the factor does not divide its sides.
    """
    if any(size[axis + 1] % factor for axis in axes):
        raise UserError(f"sides of {tuple(size)} are not multiples of the factor {factor}: choose others")
    change = functools.partial(_coarse, size=tuple(size), factor=factor, axes=tuple(axes))
    parts = open_parts(source, phantom, name=name, counts=counts, version=version)
    return Parts(*(cached(mapped(part, change)) for part in (parts.train, parts.validation, parts.test)))


def _coarse(record: Record, *, size: tuple[int, ...], factor: int, axes: tuple[int, ...]) -> Record:
    if record["image"].ndim != 4 or record["image"].shape[-1] != 1:
        raise UserError(
            f"record '{record['id']}' is {record['image'].shape}: volumes (D, H, W, 1) are taken here"
        )
    record = transforms.centre_crop(record, size, fields=("image",))
    image = record["image"] / max(float(record["image"].max()), 1e-6)
    return {**record, "image": image, "low": np.asarray(truncate_kspace(image, factor, axes))}
