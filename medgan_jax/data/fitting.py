"""Images of any size on the grid that an experiment is set to."""

from medgan_jax.data import transforms
from medgan_jax.data.parts import Parts
from medgan_jax.data.sources import PhantomSource, Source, cached, mapped


def fitted(parts: Parts, size: int, *, channels: int | None = None) -> Parts:
    """A folder's images of any size amid a square that is resized to `size`; phantoms are as they should be.

    channels: 1 makes them grey and 3 colours; None leaves the channels as they are.
    """
    convert = {None: lambda record: record, 1: transforms.grey, 3: transforms.colour}[channels]

    def fit(record):
        side = max(record["image"].shape[:-1])
        return transforms.resize(transforms.pad(convert(record), (side, side)), (size, size))

    def of(part: Source) -> Source:
        return part if isinstance(part, PhantomSource) else cached(mapped(part, fit))

    return Parts(of(parts.train), of(parts.validation), of(parts.test))
