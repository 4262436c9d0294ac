"""The one image whose texture a method takes over, and the images that are to have it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data import parts
from medgan_jax.data.formats import read_image
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import Counts
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.records import numbered
from medgan_jax.errors import UserError
from medgan_jax.phantoms.head import head_slice

# Red, green, blue of fibres and of nuclei, in [-1, 1].
PINK, PURPLE = np.array([0.75, 0.3, 0.6]), np.array([-0.3, -0.7, 0.1])


def open_style(path: str, size: int, channels: int, *, smallest: int) -> np.ndarray:
    """The image at `path` (H, W, channels) in [-1, 1]; where that is empty, `fibres_and_nuclei` of `size`.

    UserError where the file has another number of channels, a side below `smallest`, or one value.
    """
    if not path:
        return fibres_and_nuclei(size, channels)
    image = np.asarray(read_image(path).array, np.float32)
    if image.ndim != 3 or image.shape[-1] != channels or min(image.shape[:2]) < smallest:
        raise UserError(
            f"{path} is {image.shape}; the style takes an image (H, W, {channels}) with sides of at least "
            f"{smallest}"
        )
    if image.min() == image.max():
        raise UserError(f"{path} is {image.min():g} everywhere: it has no style")
    intensity = MinMax(float(image.min()), float(image.max()), "input", (-1, 1))
    return np.asarray(intensity.forward(image), np.float32)


def open_contents(
    source: str, size: int, channels: int, counts: Counts, batch_size: int
) -> tuple[Data, Data, MinMax]:
    """Checked `image` (size, size, channels) of what `source` names, or of heads, alike in all channels.

    All training images in a batch, and `batch_size` of them, both with their `number`; and the map of their
    values onto [-1, 1].
    """
    draw = functools.partial(_head, size=size, channels=channels)
    opened = parts.open_parts(source, draw, name=f"head_t1_{size}", counts=counts)
    parts.require_image(opened, channels=channels, size=size)
    train = numbered(opened.train)
    streams = (Stream(train, batch, fields=("image", "number")) for batch in (len(train), batch_size))
    every, some = (Data(each, opened.validation, opened.test, fields=("image",)) for each in streams)
    return every, some, parts.symmetric_range(opened.train)


def _head(key: jax.Array, size: int, channels: int) -> dict[str, jax.Array]:
    return {"image": jnp.broadcast_to(head_slice(key, size)["image"], (size, size, channels))}


def fibres_and_nuclei(size: int, channels: int, seed: int = 0) -> np.ndarray:
    """A texture in the colours of stained tissue (size, size, channels) in [-1, 1], or in grey.

    Wavy fibres 8 pixels apart, and spindles 12 pixels long in their direction, at random places.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size].astype(np.float64)
    across = y + 4 * np.sin(x / 11) + 3 * np.sin((x + y) / 17)
    fibres = 0.25 * np.sin(2 * np.pi * across / 8)
    nuclei = np.zeros((size, size, 1))
    for row, column in random.uniform(0, size, (max(4, size * size // 150), 2)):
        near = tuple(slice(max(0, int(centre) - 9), int(centre) + 10) for centre in (row, column))
        down, along = y[near] - row, x[near] - column
        inside = 1 - np.sqrt(np.square((down - along / 3) / 2.5) + np.square(along / 6))
        nuclei[near] = np.maximum(nuclei[near], np.clip(2 * inside + 0.5, 0, 1)[..., None])
    image = (1 - nuclei) * (PINK + fibres[..., None]) + nuclei * PURPLE
    image = np.clip(image + 0.03 * random.normal(size=(size, size, 1)), -1, 1).astype(np.float32)
    return image if channels == 3 else np.broadcast_to(image.mean(-1, keepdims=True), (size, size, channels))
