"""TFDS builder of every phantom, by anatomy and size; it needs no download."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data.phantom_sets import PhantomSet, phantom_sets
from medgan_jax.data.processes import in_processes
from medgan_jax.data.sources import SPLITS, PhantomSource
from medgan_jax.errors import UserError

SEED = 0
# Records that one process draws at a time.
_CHUNK = 8
_SINGULAR = {"labels": "label", "masks": "mask"}


class Phantoms(tfds.core.GeneratorBasedBuilder):
    """Phantoms as their modules draw them, every record another subject.

    Floating point arrays are float32; labels, masks and other whole numbers have the smallest type that the
    drawing function's can be stored in: bool as uint8, integers as int32. Maps without a channel get one.
    processes: how many draw.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name, description=f"{one.known.anatomy}; {one.known.modality}")
        for name, one in phantom_sets().items()
    ]
    DEFAULT_CONFIG_NAME = "head_slice_t1_256"
    processes = 1

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {"id": tfds.features.Text(), "subject": tfds.features.Text()}
        for name, array in _shapes(self._set()).items():
            # Raw bytes are read several times faster than lists of numbers.
            features[name] = tfds.features.Tensor(shape=array.shape, dtype=array.dtype, encoding="bytes")
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=tfds.features.FeaturesDict(features)
        )

    def _set(self) -> PhantomSet:
        return phantom_sets()[self.builder_config.name]

    def _split_generators(self, download_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        count = self._set().counts[SPLITS.index(split)]
        draw = functools.partial(_draw, self._set(), split)
        for records in in_processes(draw, range(0, count, _CHUNK), self.processes):
            yield from records


@functools.cache
def _source(phantom: PhantomSet, split: str) -> PhantomSource:
    count = phantom.counts[SPLITS.index(split)]
    return PhantomSource(phantom.name, phantom.generate, count, SEED, split=split)


def _draw(phantom: PhantomSet, split: str, start: int) -> list[tuple[str, dict[str, Any]]]:
    from medgan_jax.training.run import use_compilation_cache

    use_compilation_cache()
    source = _source(phantom, split)
    shapes = _shapes(phantom)
    records = []
    for index in range(start, min(start + _CHUNK, len(source))):
        record = source[index]
        for name, array in record.items():
            if not isinstance(array, str) and not np.isfinite(array).all():
                raise UserError(
                    f"the phantom {phantom.name} has NaN or infinity in '{name}' of {record['id']}"
                )
        stored = {"id": record["id"], "subject": record["subject"]}
        for name, array in record.items():
            if not isinstance(array, str):
                shape = shapes[_SINGULAR.get(name, name)]
                stored[_SINGULAR.get(name, name)] = array.astype(shape.dtype).reshape(shape.shape)
        records.append((record["id"], stored))
    return records


@functools.cache
def _shapes(phantom: PhantomSet) -> Mapping[str, jax.ShapeDtypeStruct]:
    """What is stored, by field, from the drawing function's own shapes."""
    drawn = jax.eval_shape(
        phantom.generate, jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype)
    )
    spatial = drawn["image"].shape[:-1] if "image" in drawn else None
    types = {"b": np.uint8, "i": np.int32, "u": np.int32, "f": np.float32}
    return {
        _SINGULAR.get(name, name): jax.ShapeDtypeStruct(
            (*array.shape, 1) if array.shape == spatial else array.shape, types[np.dtype(array.dtype).kind]
        )
        for name, array in drawn.items()
    }
