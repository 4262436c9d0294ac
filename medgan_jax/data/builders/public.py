"""TFDS builders of the public sets that are fetched by hand, one for each description in `data.public`."""

import functools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data.processes import in_processes
from medgan_jax.data.public.layout import Case, Field, PublicSet, find_cases
from medgan_jax.data.public.reading import geometry, has_gaps, read_case
from medgan_jax.data.public.registry import SETS
from medgan_jax.errors import UserError


class PublicBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Records of one public set: its fields as stored, id, subject, and spacing and affine of volumes.

    `given` lists the fields that a case has, where some may lack. Affines map (depth, row, column) to RAS+ in
    millimetres. processes: how many read. skip_refused: leave out the cases whose files are refused, and name
    them on standard error.
    """

    VERSION = tfds.core.Version("1.0.0")
    public: PublicSet
    processes = 1
    skip_refused = False

    @property
    def form(self) -> str:
        """Name of the configuration, '' if there is one only."""
        return self.builder_config.name if self.builder_config else ""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.public.title}. {self.public.notes}",
            homepage=self.public.terms,
            citation=self.public.citation,
            license=self.public.licence,
            features=tfds.features.FeaturesDict(declared_features(self.public.fields(self.form))),
        )

    def _split_generators(self, download_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = pathlib.Path(download_manager.manual_dir)
        splits = find_cases(self.public, self.form, root)
        return {split: self._generate_examples(cases) for split, cases in splits.items()}

    def _generate_examples(self, cases: Sequence[Case]) -> Iterator[tuple[str, dict[str, Any]]]:
        read = functools.partial(read_case, self.public.name, self.form)
        kept = 0
        for records in in_processes(read, cases, self.processes):
            if isinstance(records, str):
                if not self.skip_refused:
                    raise UserError(f"{records}; mend it, or say --skip_refused to leave such cases out")
                print(f"left out: {records}", file=sys.stderr, flush=True)
                continue
            kept += len(records)
            yield from records
        if not kept:
            raise UserError(f"{self.public.name}: none of {len(cases)} cases could be used")


def declared_features(fields: Sequence[Field]) -> dict[str, Any]:
    """What records of these fields hold, in the terms of TFDS."""
    features: dict[str, Any] = {"id": tfds.features.Text(), "subject": tfds.features.Text()}
    if has_gaps(fields):
        features["given"] = tfds.features.Text()
    for field in fields:
        features[field.name] = _feature(field)
    for name, shape in geometry(fields).items():
        features[name] = tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")
    return features


def _feature(field: Field) -> Any:
    if field.dtype == "str":
        return tfds.features.Text()
    if field.classes:
        return tfds.features.ClassLabel(names=list(field.classes))
    if not field.shape:
        return tfds.features.Scalar(dtype=np.dtype(field.dtype))
    # Raw bytes are read several times faster than lists of numbers, and keep every type.
    unit = tfds.features.Documentation(desc=f"in {field.unit}") if field.unit else None
    return tfds.features.Tensor(shape=field.shape, dtype=np.dtype(field.dtype), encoding="bytes", doc=unit)


def _builder(public: PublicSet) -> type[PublicBuilder]:
    members = {
        "__module__": __name__,
        "__doc__": public.title,
        "name": public.name,
        "public": public,
        "MANUAL_DOWNLOAD_INSTRUCTIONS": public.instructions,
    }
    if list(public.forms) != [""]:
        members["BUILDER_CONFIGS"] = [tfds.core.BuilderConfig(name=form) for form in public.forms]
        members["DEFAULT_BUILDER_CONFIG_NAME"] = next(iter(public.forms))
    return type("".join(word.capitalize() for word in public.name.split("_")), (PublicBuilder,), members)


BUILDERS = {name: _builder(public) for name, public in SETS.items()}
