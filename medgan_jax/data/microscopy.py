"""Cells under four kinds of microscope: images of four modes that are easily told apart.

Unconditional generators are trained on the mixture, and the modes among their samples are counted
(`measures.mode_coverage`).
"""

import functools

import jax

from medgan_jax.data.parts import Counts, open_parts, require_image
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import PhantomSource
from medgan_jax.phantoms.cells import SMALLEST, nuclei_image, spheroid_image, transparent_cells

KINDS = {
    "fluorescence": functools.partial(nuclei_image, sites=4),
    "bright field": spheroid_image,
    "phase contrast": functools.partial(transparent_cells, sites=3, modality="phase_contrast"),
    "interference contrast": functools.partial(transparent_cells, sites=3, modality="dic"),
}


def cells_of_any_kind(key: jax.Array, *, size: int) -> dict[str, jax.Array]:
    """`image` `(size, size, 1)` in [0, 1] of one of `KINDS`, each as likely, and its number as `label`.

    Less than 16 pixels are larger images in the small.
    """
    choice, key = jax.random.split(key)
    label = jax.random.randint(choice, (), 0, len(KINDS))
    factor = -(-SMALLEST // size)
    draws = [functools.partial(_image, draw, factor * size) for draw in KINDS.values()]
    image = jax.lax.switch(label, draws, key).reshape(size, factor, size, factor, 1)
    return {"image": image.mean((1, 3)), "label": label}


def _image(draw, size, key):
    return draw(key, size)["image"]


def cell_data(source: str, *, size: int, channels: int, counts: Counts, batch_size: int) -> Data:
    """Images of sides `size` for an unconditional generator: what `source` names, or cells of the four kinds.

    Training batches have the `image` alone; cases that are measured have their `label`, too, where `source`
    has labels.
    """
    phantom = functools.partial(cells_of_any_kind, size=size)
    parts = open_parts(source, phantom, name=f"cells_{len(KINDS)}_kinds_{size}", counts=counts)
    require_image(parts, channels=channels, size=size)
    labelled = isinstance(parts.test, PhantomSource) or "label" in parts.test[0]
    train = Stream(parts.train, batch_size, fields=("image",))
    fields = ("image", "label") if labelled else ("image",)
    return Data(train, parts.validation, parts.test, evaluation_batch_size=64, fields=fields)
