"""TFDS builder of every phantom, by anatomy and size; it needs no download."""

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from medgan_jax.data.needs import Offer
from medgan_jax.data.phantom_records import CHUNK, draw, shapes
from medgan_jax.data.phantom_sets import PhantomSet, phantom_sets
from medgan_jax.data.processes import in_processes
from medgan_jax.data.sources import SPLITS


class Phantoms(tfds.core.GeneratorBasedBuilder):
    """Phantoms as their modules draw them, every record another subject.

    Floating point arrays are float32, masks uint8, other whole numbers int32. Maps without a channel get one.
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
        for name, array in shapes(self._set()).items():
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
        starts = range(0, self._set().counts[SPLITS.index(split)], CHUNK)
        for records in in_processes(functools.partial(draw, self._set(), split), starts, self.processes):
            yield from records


def offers() -> dict[str, Offer]:
    """What each configuration has, by name."""
    found = {}
    for name, phantom in phantom_sets().items():
        fields = shapes(phantom)
        image = fields.get("image", next(iter(fields.values())))
        found[name] = Offer(frozenset(fields), len(image.shape) - 1, image.shape[-1] if image.shape else None)
    return found
