"""Trees of retinal vessels beside photographs of the eyes that have them."""

import functools

import jax
import jax.numpy as jnp

from medgan_jax.data.parts import Counts, open_parts, require_image
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.phantoms.fundus import Sight, fundus_image


def eye_data(source: str, size: int, counts: Counts, batch_size: int, *, sight: Sight = "disc") -> Data:
    """Checked cases of sides `size`: `A`, vessels (H, W, 1), largest inside, and `B`, photographs (H, W, 3).

    What `source` names, or phantoms with the optic disc in `sight`: "head" is a close-up of it.
    """
    parts = open_parts(source, functools.partial(_eye, size=size, sight=sight), name=f"fundus_{sight}_{size}",
                       counts=counts)
    for field, channels in {"A": 1, "B": 3}.items():
        require_image(parts, channels=channels, size=size, field=field)
    return Data(Stream(parts.train, batch_size), parts.validation, parts.test, 16, fields=("A", "B"))


def _eye(key: jax.Array, size: int, sight: Sight) -> dict[str, jax.Array]:
    eye = fundus_image(key, size, sight=sight)
    return {"A": eye["vessel_mask"][..., None].astype(jnp.float32), "B": eye["image"]}
