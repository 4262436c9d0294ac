"""TFDS builder of complex MR head phantoms with their undersampled k-space; it needs no download."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data.processes import in_processes
from medgan_jax.data.record_files import PlainWriter, array_feature
from medgan_jax.data.sources import SPLITS, PhantomSource
from medgan_jax.phantoms.head import head_slice
from medgan_jax.physics import fourier
from medgan_jax.physics.masks import make_mask

KINDS = ("gaussian1d", "gaussian2d", "poisson2d", "radial", "spiral")
PERCENTS = (10, 20, 30, 40, 50)
SIZES = (256, 128)
# Records that one process draws at a time.
_CHUNK = 8


@dataclasses.dataclass
class HeadKspaceConfig(tfds.core.BuilderConfig):
    """One sampling pattern, the same in every record, and the numbers of subjects.

    kind, percent: pattern and retained fraction of k-space (`physics.masks`). size: pixels along a side.
    seed: of the subjects and of the pattern.
    """

    kind: str = "gaussian1d"
    percent: int = 30
    size: int = 256
    train: int = 200
    validation: int = 50
    test: int = 100
    seed: int = 0


def _config(kind: str, percent: int, size: int) -> HeadKspaceConfig:
    name = f"{kind}_{percent}" + ("" if size == SIZES[0] else f"_{size}")
    description = f"{size} x {size} pixels, {percent} % of k-space by {kind}"
    return HeadKspaceConfig(name=name, description=description, kind=kind, percent=percent, size=size)


class MrHeadKspace(tfds.core.GeneratorBasedBuilder):
    """Axial head slices `(H, W)` and what a scanner that skips part of k-space measures of them.

    image `(H, W, 1)` magnitude in [0, 1]; complex `(H, W, 2)` real and imaginary part; kspace `(H, W, 2)` the
    sampled frequencies, centred, orthonormal, zero elsewhere; sampling `(H, W, 1)` the pattern of zeros and
    ones; label `(H, W, 1)` tissue (`phantoms.head.LABELS`); id, subject. Every record is another subject.
    processes: how many draw.
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "1.1.0": "arrays as raw bytes, which are read twice as fast",
        "1.2.0": "fields that are read alone",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        _config(kind, percent, size) for size in SIZES for kind in KINDS for percent in PERCENTS
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "gaussian1d_30"
    processes = 1

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        plane = functools.partial(array_feature, dtype=np.float32)
        pattern = functools.partial(array_feature, dtype=np.uint8)
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": plane(shape=(size, size, 1)),
                    "complex": plane(shape=(size, size, 2)),
                    "kspace": plane(shape=(size, size, 2)),
                    "sampling": pattern(shape=(size, size, 1)),
                    "label": pattern(shape=(size, size, 1)),
                    "id": tfds.features.Text(),
                    "subject": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, download_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        draw = functools.partial(_draw, self.builder_config, split)
        for records in in_processes(
            draw, range(0, getattr(self.builder_config, split), _CHUNK), self.processes
        ):
            for record in records:
                yield record["id"], record

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return PlainWriter(self.info.file_format)


def _draw(config: HeadKspaceConfig, split: str, start: int) -> list[dict[str, Any]]:
    """Some of the records of a part, from that of number `start` on."""
    generate = functools.partial(head_slice, size=config.size)
    source = PhantomSource("head", generate, getattr(config, split), config.seed, split=split)
    mask = make_mask(config.kind, (config.size, config.size), config.percent / 100, config.seed)
    records = []
    for index in range(start, min(start + _CHUNK, len(source))):
        record = source[index]
        kspace = fourier.undersample(fourier.to_complex(record["complex"]), mask)
        records.append(
            {
                "image": record["image"],
                "complex": record["complex"],
                "kspace": np.asarray(fourier.to_channels(kspace)),
                "sampling": mask[..., None].astype(np.uint8),
                "label": record["labels"][..., None].astype(np.uint8),
                "id": record["id"],
                "subject": record["subject"],
            }
        )
    return records
