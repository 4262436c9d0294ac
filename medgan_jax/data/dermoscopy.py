"""Skin lesions of three kinds under the dermatoscope, in the frequencies of a public set."""

import functools

import jax
import numpy as np

from medgan_jax.data.parts import Counts, open_parts, require_image
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.phantoms.skin import FREQUENCIES, dermoscopy_image

# Side from which on there are phantoms; smaller images are these in the small.
SMALLEST = 32


def lesion_of_any_kind(key: jax.Array, *, size: int) -> dict[str, jax.Array]:
    """`image` `(size, size, 3)` in [0, 1] of a lesion whose kind is drawn by `FREQUENCIES`."""
    choice, key = jax.random.split(key)
    kind = jax.random.choice(choice, len(FREQUENCIES), p=np.array(FREQUENCIES))
    factor = -(-SMALLEST // size)
    image = dermoscopy_image(key, factor * size, kind=kind)["image"]
    return {"image": image.reshape(size, factor, size, factor, 3).mean((1, 3))}


def skin_data(source: str, *, size: int, counts: Counts, batch_size: int) -> Data:
    """Colour images of sides `size` for an unconditional generator: those of `source`, or phantom lesions."""
    phantom = functools.partial(lesion_of_any_kind, size=size)
    parts = open_parts(source, phantom, name=f"dermoscopy_{size}", counts=counts)
    require_image(parts, channels=3, size=size)
    train = Stream(parts.train, batch_size)
    return Data(train, parts.validation, parts.test, evaluation_batch_size=64, fields=("image",))
