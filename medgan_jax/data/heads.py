"""Slices of phantom heads, or any images of one size, as the data of a stage."""

from medgan_jax.data.parts import Counts, open_heads
from medgan_jax.data.pipeline import Augment, Data, Stream


def head_data(
    source: str, *, size: int, counts: Counts, batch_size: int, augment: Augment | None = None
) -> Data:
    """Checked images of sides `size` by `parts.open_heads`: batches of `batch_size`, changed by `augment`."""
    heads = open_heads(source, size=size, counts=counts)
    train = Stream(heads.train, batch_size, augment)
    return Data(train, heads.validation, heads.test, fields=("image",))
