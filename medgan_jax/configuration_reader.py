"""An experiment's configuration from the plain values that a run has stored, checked against its types."""

import dataclasses
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from medgan_jax.arguments import in_words
from medgan_jax.errors import UserError

MEND = "the run was made by another version; use that version, or train anew in another work directory"


def read_configuration(kind: type, values: Any, name: str = "config") -> Any:
    """An instance of the dataclass `kind` from `values`, as `configuration.as_dict` and JSON have left them.

    Takes nested dataclasses, tuples, mappings, optional values and literals. Raises UserError, with the
    dotted name of the field, where a field is unknown or missing or a value has another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{name} of the run is {values!r} instead of fields; {MEND}")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for unknown in sorted(set(values) - set(fields)):
        raise UserError(f"{name}.{unknown} of the run is not a field of {kind.__name__}; {MEND}")
    for missing in sorted(set(fields) - set(values)):
        raise UserError(f"{name}.{missing} is missing in the run; {MEND}")
    hints = typing.get_type_hints(kind)
    return kind(**{field: _value(hints[field], values[field], f"{name}.{field}") for field in fields})


def _value(kind: Any, value: Any, name: str) -> Any:
    """`value` as type `kind`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return read_configuration(kind, value, name)
    if origin is Annotated:
        return _value(inner[0], value, name)
    if origin in (typing.Union, types.UnionType):
        return _alternative(inner, value, name)
    if origin is Literal and any(value == each and type(value) is type(each) for each in inner):
        return value
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return origin(_elements(inner, value, name))
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _value(inner[1], each, f"{name}.{key}") for key, each in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (bool, int, str, type(None)) and type(value) is kind:
        return value
    if kind is pathlib.Path and isinstance(value, str):
        return pathlib.Path(value)
    raise UserError(f"{name} of the run is {value!r} where {in_words(kind)} belongs; {MEND}")


def _alternative(kinds: tuple, value: Any, name: str) -> Any:
    """`value` as the first of the types that takes it."""
    refusal = None
    for kind in kinds:
        try:
            return _value(kind, value, name)
        except UserError as error:
            refusal = error
    raise refusal


def _elements(kinds: tuple, values: Any, name: str) -> list:
    if kinds[-1] is Ellipsis or len(kinds) == 1:
        kinds = (kinds[0],) * len(values)
    if len(kinds) != len(values):
        raise UserError(f"{name} of the run has {len(values)} values instead of {len(kinds)}; {MEND}")
    pairs = enumerate(zip(kinds, values, strict=True))
    return [_value(kind, value, f"{name}[{index}]") for index, (kind, value) in pairs]
