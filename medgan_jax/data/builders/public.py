"""TFDS builders of the public sets that are fetched by hand, one for each description in `data.public`."""

import functools
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data import formats
from medgan_jax.data.processes import in_processes
from medgan_jax.data.public.layout import Case, Field, PublicSet, Reading, find_cases
from medgan_jax.data.public.registry import SETS
from medgan_jax.errors import UserError

# Spacing or an affine of different files of one case may differ by this, in millimetres.
_TOLERANCE = 1e-3


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
            features=tfds.features.FeaturesDict(_features(self.public.fields(self.form))),
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


def read_case(name: str, form: str, case: Case) -> list[tuple[str, dict[str, Any]]] | str:
    """The records of a case of SETS[name] with their ids, or the line that refuses one of its files."""
    public = SETS[name]
    fields = public.fields(form)
    try:
        if public.records is None:
            found = [("", _read_fields(fields, case))]
        else:
            found = list(public.records(fields, case))
        return [(case.id + end, _record(fields, case, case.id + end, record)) for end, record in found]
    except UserError as error:
        return str(error)


def _read_fields(fields: Sequence[Field], case: Case) -> dict[str, Any]:
    own = [field for field in fields if field.name in case.files]
    readings = {field.name: (field, field.read(case.files[field.name], case)) for field in own}
    record = {name: reading.value for name, (_, reading) in readings.items()}
    volumes = [(field, reading) for field, reading in readings.values() if field.geometry]
    for field, reading in volumes:
        if reading.affine is None or reading.spacing is None:
            raise UserError(f"{case.files[field.name][0]}: gives no spacing and orientation")
    main = next((field for field in own if field.name == "image"), own[0])
    for field, reading in readings.values():
        if field is not main and field.aligned and np.ndim(reading.value) > 2:
            _check_aligned(case, main.name, readings[main.name][1], field.name, reading)
    for number, (field, reading) in enumerate(volumes):
        prefix = "" if number == 0 else f"{field.name}_"
        record |= {f"{prefix}spacing": reading.spacing, f"{prefix}affine": reading.affine}
    return record


def _check_aligned(case: Case, first: str, one: Reading, second: str, other: Reading) -> None:
    images = [
        formats.MedicalImage(
            r.value, "", "", r.value.dtype, spacing=r.spacing, affine=r.affine, path=case.files[n][0]
        )
        for n, r in ((first, one), (second, other))
    ]
    formats.check_geometry(*images, tolerance=_TOLERANCE)


def _record(fields: Sequence[Field], case: Case, id: str, found: Mapping[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {"id": id, "subject": case.subject}
    if _has_gaps(fields):
        record["given"] = ",".join(["id", "subject", *found])
    for field in fields:
        record[field.name] = _stored(field, case, found.get(field.name))
    for name in _geometry(fields):
        missing = np.zeros((3,) if name.endswith("spacing") else (4, 4))
        value = found.get(name)
        record[name] = missing if value is None else np.asarray(value, np.float64)
    return record


def _stored(field: Field, case: Case, value: Any) -> Any:
    """A value in the type and rank that the field declares; UserError if that would change it."""
    if field.dtype == "str":
        return "" if value is None else str(value)
    dtype = np.dtype(field.dtype)
    if value is None:
        # What is not `given` is not read back; TFDS cannot read arrays of fewer bytes than axes.
        return np.array(-1, dtype) if field.classes else np.zeros([side or 2 for side in field.shape], dtype)
    array = np.asarray(value)
    if array.ndim != len(field.shape) or any(
        want not in (None, have) for want, have in zip(field.shape, array.shape, strict=True)
    ):
        path = case.files[field.name][0]
        raise UserError(
            f"{path}: '{field.name}' has the shape {array.shape}, not {_shape_in_words(field.shape)}"
        )
    if dtype.kind == "f" and array.dtype.kind == "f":
        return array.astype(dtype)
    stored = array.astype(dtype)
    if not np.array_equal(stored.astype(np.float64), array.astype(np.float64)):
        raise UserError(
            f"{case.files[field.name][0]}: '{field.name}' holds values from {array.min():g} to "
            f"{array.max():g}, "
            f"which {dtype} cannot store exactly"
        )
    return stored


def _shape_in_words(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"


def _has_gaps(fields: Sequence[Field]) -> bool:
    return any(field.optional for field in fields)


def _geometry(fields: Sequence[Field]) -> dict[str, tuple[int, ...]]:
    """The shapes of spacing and affine of the volumes; those of the first have no prefix."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, field in enumerate(field for field in fields if field.geometry):
        prefix = "" if number == 0 else f"{field.name}_"
        shapes |= {f"{prefix}spacing": (3,), f"{prefix}affine": (4, 4)}
    return shapes


def _features(fields: Sequence[Field]) -> dict[str, Any]:
    features: dict[str, Any] = {"id": tfds.features.Text(), "subject": tfds.features.Text()}
    if _has_gaps(fields):
        features["given"] = tfds.features.Text()
    for field in fields:
        features[field.name] = _feature(field)
    for name, shape in _geometry(fields).items():
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
        members["DEFAULT_CONFIG_NAME"] = next(iter(public.forms))
    return type("".join(word.capitalize() for word in public.name.split("_")), (PublicBuilder,), members)


BUILDERS = {name: _builder(public) for name, public in SETS.items()}
