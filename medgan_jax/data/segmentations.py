"""Checked parts of images with masks, from what `--data.source` names or from phantoms.

Gliomas, organs of the chest, glands, retinal vessels. A folder's images of other sizes are fitted to `size`.
"""

import functools

import jax
import jax.numpy as jnp

from medgan_jax.data import parts
from medgan_jax.data.augmentations import turned
from medgan_jax.data.fitting import fitted
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import Counts, Parts
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import divided
from medgan_jax.phantoms.chest_xray import HEART, LEFT_LUNG, RIGHT_LUNG, chest_xray
from medgan_jax.phantoms.fundus import fundus_image
from medgan_jax.phantoms.head_study import head_study
from medgan_jax.phantoms.tissue import tissue_patch
from medgan_jax.physics.staining import grey


def open_gliomas(source: str, *, size: int, modalities: tuple[str, ...], counts: Counts) -> Parts:
    """`image` (H, W, modalities) and `mask` (H, W, 1): 0 none, 1 oedema, 2 core, 3 enhancing."""
    draw = functools.partial(_glioma, size=size, modalities=modalities)
    opened = parts.open_parts(source, draw, name=f"head_tumour_{'_'.join(modalities)}_{size}", counts=counts)
    return _checked(fitted(opened, size), size, image=len(modalities), mask=1)


def _glioma(key: jax.Array, size: int, modalities: tuple[str, ...]) -> dict[str, jax.Array]:
    drawn = head_study(key, size, modalities=modalities, disease="tumour")
    levels = drawn["tumour_mask"].sum(-1, keepdims=True)
    return {"image": drawn["image"], "mask": levels.astype(jnp.int32)}


def open_chests(source: str, *, size: int, framing: float, counts: Counts) -> Parts:
    """`image` (H, W, 1) and `mask`: (H, W, 1) with 0 none, 1 right lung, 2 left lung, 3 heart.

    A folder's mask may have a channel for each organ instead. framing: how much place and size of phantoms
    vary.
    """
    draw = functools.partial(_chest, size=size, framing=framing)
    opened = parts.open_parts(source, draw, name=f"chest_organs_{size}_{framing:g}", counts=counts)
    opened = fitted(opened, size, channels=1)
    given = {} if source == "phantom" else opened.train[0]
    return _checked(opened, size, image=1, mask=given["mask"].shape[-1] if "mask" in given else 1)


def _chest(key: jax.Array, size: int, framing: float) -> dict[str, jax.Array]:
    drawn = chest_xray(key, size, framing=framing)
    organs = enumerate((RIGHT_LUNG, LEFT_LUNG, HEART), start=1)
    mask = sum(number * (drawn["labels"] == label) for number, label in organs)
    return {"image": drawn["image"], "mask": mask[..., None].astype(jnp.int32)}


def label_map(mask: jax.Array, classes: int) -> jax.Array:
    """Classes 0 to `classes` as (B, H, W, 1), of such a mask or of one with a channel for each class.

    Where channels overlap, later ones count.
    """
    if mask.shape[-1] == 1:
        return mask
    return jnp.max((mask[..., :classes] > 0) * jnp.arange(1, classes + 1), -1, keepdims=True)


def most_probable(probability: jax.Array) -> dict[str, jax.Array]:
    """Class probabilities (B, H, W, classes + 1) -> `probability` and the most probable class of each pixel.

    The latter as `labels` (B, H, W, 1), and as `mask` (B, H, W, classes), a channel for each but class 0.
    """
    labels = probability.argmax(-1)
    mask = jax.nn.one_hot(labels, probability.shape[-1])[..., 1:]
    return {"probability": probability, "labels": labels[..., None].astype(jnp.float32), "mask": mask}


def likely(probability: jax.Array) -> dict[str, jax.Array]:
    """Probabilities of structures that may overlap (B, H, W, K): `probability`, and `mask` where it is above 1/2."""
    return {"probability": probability, "mask": (probability > 0.5).astype(jnp.float32)}


def open_glands(source: str, *, size: int, channels: int, field: float, counts: Counts) -> Parts:
    """`image` (H, W, channels), in colour (3) or grey (1), and `label` (H, W, 1), a number for each object.

    field: width of phantoms in micrometres.
    """
    draw = functools.partial(_glands, size=size, channels=channels, field=field)
    opened = parts.open_parts(source, draw, name=f"tissue_glands_{size}_{channels}_{field:g}", counts=counts)
    return _checked(fitted(opened, size, channels=channels), size, image=channels, label=1)


def _glands(key: jax.Array, size: int, channels: int, field: float) -> dict[str, jax.Array]:
    drawn = tissue_patch(key, size, field=field)
    image = grey(drawn["image"]) if channels == 1 else drawn["image"]
    return {"image": image, "label": drawn["gland_instances"][..., None]}


def partly_annotated_glands(
    source: str, *, size: int, channels: int, field: float, counts: Counts, annotated: int, batch_size: int
) -> tuple[Data, MinMax]:
    """`open_glands`, whose first `annotated` training images keep their `label`; and the map onto [-1, 1].

    Training draws `batch_size` `annotated` records and as many `unannotated` images, mirrored and turned.
    """
    tissue = open_glands(source, size=size, channels=channels, field=field, counts=counts)
    known, others = divided(tissue.train, annotated)
    train = {
        "annotated": Stream(known, batch_size, turned()),
        "unannotated": Stream(others, batch_size, turned(), ("image",)),
    }
    cases = Data(train, tissue.validation, tissue.test, evaluation_batch_size=16, fields=("image", "label"))
    return cases, parts.symmetric_range(tissue.train)


def open_retinas(
    source: str, *, size: int, channels: int, vessels: str, field_of_view: str, counts: Counts
) -> Parts:
    """`image` (H, W, channels), in colour (3) or green (1), and two masks (H, W, 1) by the names given."""
    names = {"vessels": vessels, "field_of_view": field_of_view}
    draw = functools.partial(_retina, size=size, channels=channels, **names)
    opened = parts.open_parts(source, draw, name=f"fundus_disc_{size}_{channels}", counts=counts)
    return _checked(fitted(opened, size), size, image=channels, **{vessels: 1, field_of_view: 1})


def _retina(
    key: jax.Array, size: int, channels: int, vessels: str, field_of_view: str
) -> dict[str, jax.Array]:
    drawn = fundus_image(key, size, sight="disc")
    image = drawn["image"] if channels == 3 else drawn["image"][..., 1:2]
    masks = {vessels: drawn["vessel_mask"], field_of_view: drawn["field_of_view"]}
    return {"image": image, **{name: mask[..., None].astype(jnp.int32) for name, mask in masks.items()}}


def _checked(opened: Parts, size: int, **channels: int) -> Parts:
    """`opened`, whose records must have these fields with so many channels."""
    for field, count in channels.items():
        parts.require_image(opened, channels=count, size=size, field=field)
    return opened
