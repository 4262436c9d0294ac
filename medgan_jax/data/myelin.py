"""MR images of heads with multiple sclerosis beside what positron emission shows of their myelin."""

import functools

import jax
import jax.numpy as jnp

from medgan_jax.data.parts import Counts, Parts, open_parts, require_image
from medgan_jax.phantoms import head_anatomy
from medgan_jax.phantoms.head_study import LABELS, head_study
from medgan_jax.phantoms.head_volume import head_volume

FIELDS = ("A", "B", "mask")
# Numbers in `mask`: 0 is air, 1 a lesion, and any other tissue is one more than its label.
LESION, WHITE_MATTER = 1, head_anatomy.WHITE_MATTER + 1
REGIONS = len(LABELS) + 8


def open_myelin(source: str, *, size: int, rank: int, channels: int, counts: Counts) -> Parts:
    """Checked parts with `channels` MR images `A`, myelin `B` and the regions `mask`, all of sides `size`.

    What `source` names, whose masks are 1 in lesions, or phantoms of 2 or 3 dimensions (`rank`).
    """
    draw = functools.partial(_head, size=size, rank=rank, channels=channels)
    parts = open_parts(source, draw, name="head_myelin", counts=counts)
    for field, number in zip(FIELDS, (channels, 1, 1), strict=True):
        require_image(parts, channels=number, size=size, rank=rank, field=field)
    return parts


def _head(key: jax.Array, size: int, rank: int, channels: int) -> dict[str, jax.Array]:
    modalities = (*("t1", "t2", "pd", "flair")[:channels], "myelin")
    if rank == 3:
        drawn = head_volume(key, (size,) * 3, modalities=modalities, disease="lesions")
    else:
        drawn = head_study(key, size, modalities=modalities, disease="multiple_sclerosis")
    regions = jnp.where(drawn["labels"] > 0, drawn["labels"] + 1, 0)
    regions = jnp.where(drawn["labels"] == head_anatomy.LESION, LESION, regions)
    return {"A": drawn["image"][..., :-1], "B": drawn["image"][..., -1:], "mask": regions[..., None]}
