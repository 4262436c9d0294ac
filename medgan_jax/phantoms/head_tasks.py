"""What is to be learnt on heads: translations between modalities, tissues, lesions, tumours and effects.

There is no task of MR angiography: arteries are voids in T1 and T2, by which a joint look-up table of both
comes within 1.2 times the error of the small network (768 to 1536 heads of 128 x 128). Methods for it are
not to be judged on these heads.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.head_anatomy import CORTEX, DEEP_GREY, VENTRICLE, WHITE_MATTER
from medgan_jax.phantoms.head_study import Disease, head_effect, head_study
from medgan_jax.phantoms.hippocampus import hippocampus_volume
from medgan_jax.phantoms.tasks import Task

# Of targets: nothing foretells their noise.
NO_NOISE = 1e-3
TISSUES = CORTEX, WHITE_MATTER, DEEP_GREY, VENTRICLE


def _translation(
    key: jax.Array,
    *,
    source: Sequence[str],
    target: str,
    size: int = 64,
    disease: Disease = "none",
    whole_head: bool = False,
) -> Mapping[str, jax.Array]:
    """Modalities to one other; the error counts in the brain, or in the whole head."""
    modalities = (*source, target)
    drawn = head_study(key, size, modalities=modalities, disease=disease)
    wanted = head_study(key, size, modalities=modalities, disease=disease, noise=NO_NOISE)
    images = (*jnp.unstack(drawn["image"][..., :-1], axis=-1), wanted["image"][..., -1])
    scaled = [_scaled(image, name) for image, name in zip(images, modalities, strict=True)]
    weight = drawn["labels"] > 0 if whole_head else drawn["brain_mask"]
    return {
        "input": jnp.stack(scaled[:-1], axis=-1),
        "target": scaled[-1][..., None],
        "weight": weight[..., None].astype(jnp.float32),
    }


def _scaled(image: jax.Array, modality: str) -> jax.Array:
    """A channel in about [0, 1]."""
    if modality == "ct":
        return (jnp.clip(image, -1000, 2000) + 1000) / 3000
    return image / 10 if modality == "pet" else image


def _brain_window(key: jax.Array) -> Mapping[str, jax.Array]:
    """Uptake of glucose from CT in the window of the brain; the CT has 2.4 HU of noise, as thick slices have."""
    drawn, wanted = (head_study(key, 128, modalities=("ct", "pet"), noise=each) for each in (0.006, NO_NOISE))
    return {
        "input": jnp.clip(drawn["image"][..., :1] / 80, 0, 1),
        "target": wanted["image"][..., 1:] / 10,
        "weight": drawn["brain_mask"][..., None].astype(jnp.float32),
    }


def _tissues(key: jax.Array) -> Mapping[str, jax.Array]:
    drawn = head_study(key, 96, modalities=("t1",))
    masks = jnp.stack([drawn["labels"] == label for label in TISSUES], axis=-1)
    return {"input": drawn["image"], "target": masks.astype(jnp.float32)}


def _lesions(key: jax.Array, *, disease: Disease, modalities: Sequence[str]) -> Mapping[str, jax.Array]:
    drawn = head_study(key, 128, modalities=modalities, disease=disease)
    return {"input": drawn["image"], "target": drawn["lesion_mask"][..., None].astype(jnp.float32)}


def _tumour(key: jax.Array, *, modalities: Sequence[str]) -> Mapping[str, jax.Array]:
    drawn = head_study(key, 64, modalities=modalities, disease="tumour")
    return {"input": drawn["image"], "target": drawn["tumour_mask"].astype(jnp.float32)}


def _effect(key: jax.Array) -> Mapping[str, jax.Array]:
    """Whether the white matter fades, in front or behind; the ventricles are wide in either class."""
    choice, coin, key = jax.random.split(key, 3)
    ill = jax.random.bernoulli(coin)
    drawn = head_effect(key, 64, subtype=jax.random.randint(choice, (), 1, 3), strength=jnp.where(ill, 1.5, 0.0))
    return {"input": drawn["image"], "target": ill.astype(jnp.float32)}


def _hippocampus(key: jax.Array) -> Mapping[str, jax.Array]:
    # Half the noise: at voxels of 1.5 mm the network stays at a Dice of 0.796, with all of it at 0.792.
    drawn = hippocampus_volume(key, (32, 40, 32), noise=0.012)
    parts = jnp.stack([drawn["labels"] == part for part in (1, 2)], axis=-1)
    return {"input": drawn["image"], "target": parts.astype(jnp.float32)}


_between = functools.partial(functools.partial, _translation)

TASKS = (
    Task("head_mr_to_ct", "translation", _between(source=("t1",), target="ct", whole_head=True)),
    Task("head_ct_to_pet", "translation", _brain_window),
    Task(
        "head_mr_to_myelin",
        "translation",
        _between(source=("t1", "t2", "pd", "flair"), target="myelin", size=128, disease="multiple_sclerosis"),
    ),
    Task("head_tissues", "segmentation", _tissues),
    Task(
        "head_sclerosis",
        "segmentation",
        functools.partial(_lesions, disease="multiple_sclerosis", modalities=("t1", "t2", "flair")),
    ),
    Task(
        "head_contusions",
        "segmentation",
        functools.partial(_lesions, disease="contusion", modalities=("t1", "flair", "t2", "pd", "gre")),
    ),
    Task(
        "head_tumour",
        "segmentation",
        functools.partial(_tumour, modalities=("t1", "t1c", "t2", "flair")),
    ),
    Task("head_effect", "classification", _effect),
    Task("hippocampus_parts", "segmentation", _hippocampus),
)
