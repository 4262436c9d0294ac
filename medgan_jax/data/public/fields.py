"""The kinds of field that most public data sets are made of."""

from collections.abc import Callable
from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.layout import Field

VOLUME = (None, None, None, 1)


def photograph(files: str | tuple[str, ...], read: Callable = readers.image, channels: int = 3) -> Field:
    """A picture of 8 bits."""
    return Field("image", files, read, "uint8", (None, None, channels), unit="raw")


def radiograph(files: str | tuple[str, ...], read: Callable = readers.image, dtype: str = "uint8") -> Field:
    """A grey picture."""
    return Field("image", files, read, dtype, unit="raw")


def mask(name: str, files: str | tuple[str, ...], read: Callable = readers.mask, **options) -> Field:
    """A mask of zeros and ones on the grid of the image."""
    return Field(name, files, read, unit="label", **options)


def ct(files: str | tuple[str, ...], read: Callable = readers.image, name: str = "image", **options) -> Field:
    """A CT volume in whole Hounsfield units, with its geometry."""
    return Field(name, files, read, "int16", VOLUME, unit="HU", geometry=True, **options)


def mr(
    files: str | tuple[str, ...],
    read: Callable = readers.image,
    name: str = "image",
    channels: int = 1,
    **options,
) -> Field:
    """An MR volume in the scanner's units, with its geometry."""
    shape = (*VOLUME[:-1], channels)
    return Field(name, files, read, "float32", shape, unit="raw", geometry=True, **options)


def labels(
    files: str | tuple[str, ...],
    read: Callable = readers.label,
    name: str = "label",
    dtype: str = "uint8",
    **options,
) -> Field:
    """A volume of labels on the grid of the image."""
    return Field(name, files, read, dtype, VOLUME, unit="label", **options)


def text(name: str, files: str, read: Callable, **options) -> Field:
    """A word or number about the case, as text."""
    return Field(name, files, read, "str", (), **options)


def class_of(files: str | tuple[str, ...], classes: tuple[str, ...], read: Callable, **options) -> Field:
    """The class of the case; `read` takes `classes`."""
    read = partial(read, classes=classes)
    return Field("label", files, read, "int32", (), unit="class", classes=classes, **options)


def places(name: str, files: str, read: Callable, unit: str) -> Field:
    """Points with a number each, `(K, 4)`: the number, then three coordinates."""
    return Field(name, files, read, "float32", (None, 4), unit, aligned=False)
