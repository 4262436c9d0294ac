"""TFDS builder of every phantom, by anatomy and size; it needs no download."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from medgan_jax.data.needs import Offer
from medgan_jax.data.phantom_records import CHUNK, draw, shapes
from medgan_jax.data.phantom_sets import PhantomSet, phantom_sets
from medgan_jax.data.processes import in_processes
from medgan_jax.data.record_files import PlainWriter, array_feature
from medgan_jax.data.sources import SPLITS


class Phantoms(tfds.core.GeneratorBasedBuilder):
    """Phantoms as their modules draw them, every record another subject.

    Floating point arrays are float32, masks and maps of classes uint8, other whole numbers int32. Maps without
    a channel get one. processes: how many draw.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.1.0": "fields that are read alone; maps of classes in bytes"}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name, description=f"{one.known.anatomy}; {one.known.modality}")
        for name, one in phantom_sets().items()
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "head_slice_t1_256"
    processes = 1

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {"id": tfds.features.Text(), "subject": tfds.features.Text()}
        for name, array in shapes(self._set()).items():
            features[name] = array_feature(array.shape, array.dtype)
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

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return PlainWriter(self.info.file_format)


def offers(names: Iterable[str] | None = None) -> dict[str, Offer]:
    """What configurations have, by name; of all of them without `names`."""
    found = {}
    for name in phantom_sets() if names is None else names:
        fields = shapes(phantom_sets()[name])
        image = fields.get("image", next(iter(fields.values())))
        maps = {
            field
            for field, one in fields.items()
            if one.dtype.kind in "iu" and len(one.shape) == len(image.shape) and one.shape[:-1] == image.shape[:-1]
        }
        channels = image.shape[-1] if image.shape else None
        found[name] = Offer(frozenset(fields), len(image.shape) - 1, channels, maps=frozenset(maps))
    return found
