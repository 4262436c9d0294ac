"""Volumes with what belongs to each: what a coarser acquisition leaves of it, or another modality."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from medgan_jax.data import transforms
from medgan_jax.data.parts import Counts, Draw, Parts, open_parts, require_volumes
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import Record, cached, mapped
from medgan_jax.errors import UserError
from medgan_jax.phantoms.head_volume import head_volume
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


def coarse_heads(
    source: str,
    *,
    size: Sequence[int],
    patch: int,
    factor: int,
    axes: Sequence[int],
    counts: Counts,
    batch_size: int,
) -> Data:
    """Patches of `patch` voxels of `open_coarse_volumes` to train on, and whole volumes to be measured.

    Phantoms are heads with a third of the usual noise, which no network could restore.
    """
    heads = functools.partial(head_volume, shape=tuple(size), noise=0.005)
    volumes = open_coarse_volumes(
        source, heads, name="head_volume", counts=counts, size=size, factor=factor, axes=axes
    )

    def cut(record, random):
        return transforms.random_crop(record, random, (patch,) * 3, fields=("image", "low"))

    train = Stream(volumes.train, batch_size, cut)
    return Data(train, volumes.validation, volumes.test, evaluation_batch_size=4, fields=("image", "low"))


def open_head_pairs(
    source: str, *, size: int, counts: Counts, least: int, version: int = 1
) -> Parts:
    """Checked parts of volumes with sides of `least` or more: `A`, MR, and `B`, CT in HU, registered.

    What `source` names, or heads of phantoms, T1-weighted, with sides of `size`.
    """
    heads = functools.partial(_head_pair, size=size)
    parts = open_parts(source, heads, name=f"head_t1_ct_{size}", counts=counts, version=version)
    require_volumes(parts, channels=1, least=least, fields=("A", "B"))
    return parts


def _head_pair(key: jax.Array, size: int) -> dict[str, jax.Array]:
    image = head_volume(key, (size,) * 3, modalities=("t1", "ct"), coats=True)["image"]
    return {"A": image[..., :1], "B": image[..., 1:]}


def _coarse(record: Record, *, size: tuple[int, ...], factor: int, axes: tuple[int, ...]) -> Record:
    if record["image"].ndim != 4 or record["image"].shape[-1] != 1:
        raise UserError(
            f"record '{record['id']}' is {record['image'].shape}: volumes (D, H, W, 1) are taken here"
        )
    record = transforms.centre_crop(record, size, fields=("image",))
    image = record["image"] / max(float(record["image"].max()), 1e-6)
    return {**record, "image": image, "low": np.asarray(truncate_kspace(image, factor, axes))}
