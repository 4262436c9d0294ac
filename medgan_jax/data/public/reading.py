"""Reads the cases of public sets into records whose fields have the declared types, whole and on one grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan_jax.data import formats
from medgan_jax.data.public.layout import Case, Field, Reading
from medgan_jax.data.public.registry import SETS
from medgan_jax.errors import UserError

# Spacing or an affine of different files of one case may differ by this, in millimetres.
_TOLERANCE = 1e-3


def read_case(name: str, form: str, case: Case) -> list[tuple[str, dict[str, Any]]] | str:
    """The records of a case of SETS[name] with their ids, or the line that refuses one of its files."""
    public = SETS[name]
    fields = public.fields(form)
    try:
        if public.records is None:
            found = [("", _read_fields(public.forms[form][case.part].fields, case))]
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
    if has_gaps(fields):
        record["given"] = ",".join(["id", "subject", *found])
    for field in fields:
        record[field.name] = _stored(field, case, found.get(field.name))
    for name in geometry(fields):
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


def has_gaps(fields: Sequence[Field]) -> bool:
    """Whether some case may lack a field."""
    return any(field.optional for field in fields)


def geometry(fields: Sequence[Field]) -> dict[str, tuple[int, ...]]:
    """Shapes of spacing and affine of the volumes by name; those of the first volume have no prefix."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, field in enumerate(field for field in fields if field.geometry):
        prefix = "" if number == 0 else f"{field.name}_"
        shapes |= {f"{prefix}spacing": (3,), f"{prefix}affine": (4, 4)}
    return shapes
