"""What a source of records is, and the sources made of other sources or of arrays in memory."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from medgan_jax.errors import UserError

Record = dict[str, np.ndarray | str]

VALIDATION_FRACTION = 0.2


class Source(Protocol):
    """Random access to records.

    A record is `{'image': (H, W, C) or (D, H, W, C) float32 in natural units, targets by name ('label',
    'mask', 'target', ...), 'id': str, 'subject': str}`; paired domains stand under their own names instead of
    'image'. `name` is the resolved source ('phantom:head', 'tfds:NAME', the folder's name); `fingerprint` the
    SHA-256 in hex of what it holds. `subjects`, `ids` and `metadata` (what tables say of each record) are
    known without reading images; `class_names` are the words for the values of a class 'label', if it has
    any.
    """

    name: str
    fingerprint: str
    subjects: tuple[str, ...]
    ids: tuple[str, ...]
    metadata: tuple[Mapping[str, str], ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def shapes(self, field: str) -> list[tuple[int, ...]] | None: ...

    def with_fields(self, fields: Sequence[str]) -> "Source": ...

    def blank(self) -> "Source": ...


class Records:
    """Base of the sources: what is known without reading; subclasses give `read` and `fingerprint`.

    in_memory: whether reading a record costs next to nothing, once it has been read.
    """

    in_memory = False

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        subjects: Sequence[str],
        metadata: Sequence[Mapping[str, str]] | None = None,
        class_names: Sequence[str] = (),
    ):
        self.name = name
        self.ids = tuple(ids)
        self.subjects = tuple(subjects)
        self.metadata = tuple(metadata) if metadata is not None else ({},) * len(self.ids)
        self.class_names = tuple(class_names)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Record:
        position = range(len(self))[index]
        return {**self.read(position), "id": self.ids[position], "subject": self.subjects[position]}

    def read(self, index: int) -> Record:
        raise NotImplementedError

    def shapes(self, field: str) -> list[tuple[int, ...]] | None:
        """The shape of `field` in each record where that is known without reading, else None."""
        return None

    def with_fields(self, fields: Sequence[str]) -> Source:
        """The same records, of which `fields` alone are wanted; what others hold may be left unread."""
        return self

    def blank(self) -> Source:
        """A source whose records have the same shapes and cost nothing; itself where reading is cheap."""
        return self


class ArraySource(Records):
    """Records from arrays in memory, `{field: (N, ...)}`, which are not copied.

    subjects: the subject of each record; each record is its own where it is None. Raises UserError if an
    array holds a value that is not finite, ValueError if lengths differ.
    """

    in_memory = True

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        subjects: Sequence[str] | None = None,
        name: str = "arrays",
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] = (),
    ):
        lengths = {field: len(array) for field, array in arrays.items()}
        count = next(iter(lengths.values()), 0)
        ids = [str(index) for index in range(count)] if ids is None else ids
        subjects = ids if subjects is None else subjects
        if {*lengths.values(), len(ids), len(subjects)} != {count}:
            raise ValueError(f"lengths differ: {lengths}, {len(ids)} ids, {len(subjects)} subjects")
        super().__init__(name, ids, subjects, class_names=class_names)
        self._arrays = {field: _read_only(np.asarray(array)) for field, array in arrays.items()}
        for field, array in self._arrays.items():
            _check_finite_rows(array, field, name, self.ids)

    @functools.cached_property
    def fingerprint(self) -> str:
        arrays = (
            (field, array.dtype.str, array.shape, _digest(array)) for field, array in self._arrays.items()
        )
        return digest(self.name, self.ids, self.subjects, list(arrays))

    def read(self, index: int) -> Record:
        return {field: array[index] for field, array in self._arrays.items()}


class _Subset(Records):
    def __init__(self, source: Source, indices: Sequence[int], name: str | None = None):
        self._source, self._indices = source, tuple(range(len(source))[index] for index in indices)
        ids, subjects, metadata = (
            [values[index] for index in self._indices]
            for values in (source.ids, source.subjects, source.metadata)
        )
        super().__init__(name or source.name, ids, subjects, metadata, source.class_names)

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest(self._source.fingerprint, self._indices)

    def read(self, index: int) -> Record:
        return self._source[self._indices[index]]

    def shapes(self, field: str) -> list[tuple[int, ...]] | None:
        known = self._source.shapes(field)
        return known and [known[index] for index in self._indices]

    def with_fields(self, fields: Sequence[str]) -> Source:
        return _Subset(self._source.with_fields(fields), self._indices, self.name)

    def blank(self) -> Source:
        return _Subset(self._source.blank(), self._indices, self.name)


class _Mapped(Records):
    def __init__(self, source: Source, function: Callable[[Record], Record]):
        super().__init__(source.name, source.ids, source.subjects, source.metadata, source.class_names)
        self._source, self._function, self.fingerprint = source, function, source.fingerprint

    def read(self, index: int) -> Record:
        return self._function(self._source[index])

    def blank(self) -> Source:
        return _Mapped(self._source.blank(), self._function)


class _Pairs(Records):
    def __init__(self, source: Source, names: tuple[str, str]):
        count = len(source)
        self._source, self._names = source, names
        self._pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        ids, subjects = (
            [f"{values[a]}|{values[b]}" for a, b in self._pairs] for values in (source.ids, source.subjects)
        )
        super().__init__(source.name, ids, subjects)

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest("pairs", self._source.fingerprint)

    def read(self, index: int) -> Record:
        record = {}
        for name, number in zip(self._names, self._pairs[index], strict=True):
            for field, value in self._source[number].items():
                if not isinstance(value, str):
                    record[name if field == "image" else f"{name}_{field}"] = value
        return record


class _Cached(Records):
    def __init__(self, source: Source):
        super().__init__(source.name, source.ids, source.subjects, source.metadata, source.class_names)
        self._source, self.fingerprint = source, source.fingerprint
        self._records: dict[int, Record] = {}

    def read(self, index: int) -> Record:
        if index not in self._records:
            record = self._source[index]
            arrays = {field: value for field, value in record.items() if not isinstance(value, str)}
            self._records[index] = {**record, **{f: _read_only(np.asarray(x)) for f, x in arrays.items()}}
        return self._records[index]

    def shapes(self, field: str) -> list[tuple[int, ...]] | None:
        return self._source.shapes(field)


class _Joined(Records):
    def __init__(self, sources: Mapping[str, Source]):
        self._sources = {name: source.with_fields(("image",)) for name, source in sources.items()}
        length = min(len(source) for source in sources.values())
        ids = ["|".join(source.ids[index] for source in sources.values()) for index in range(length)]
        subjects = [
            "|".join(source.subjects[index] for source in sources.values()) for index in range(length)
        ]
        super().__init__("+".join(source.name for source in sources.values()), ids, subjects)

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest([(name, source.fingerprint) for name, source in self._sources.items()])

    def read(self, index: int) -> Record:
        return {name: source[index]["image"] for name, source in self._sources.items()}


def subset(source: Source, indices: Iterable[int]) -> Source:
    """The records of `source` at `indices`, in that order."""
    return _Subset(source, list(indices))


def divided(source: Source, first: int) -> tuple[Source, Source]:
    """The `first` records of `source`, and the others."""
    every = range(len(source))
    return subset(source, every[:first]), subset(source, every[first:])


def where(source: Source, **values: Any) -> Source:
    """The records whose metadata hold these values, such as `where(source, label='normal')`.

    Raises UserError, naming the values that there are, if none does.
    """
    kept = [
        index
        for index, row in enumerate(source.metadata)
        if all(row.get(column) == str(value) for column, value in values.items())
    ]
    if not kept:
        there = {column: sorted({row.get(column, "") for row in source.metadata})[:12] for column in values}
        wanted = ", ".join(f"{column}={value}" for column, value in values.items())
        found = "; ".join(f"{column} is one of {', '.join(have)}" for column, have in there.items())
        raise UserError(f"no record of '{source.name}' has {wanted}: {found}")
    return subset(source, kept)


def mapped(source: Source, function: Callable[[Record], Record]) -> Source:
    """The records after `function`, such as a resize that evaluation and training share.

    The function is pure and takes no randomness; the fingerprint stays that of the data as they came.
    """
    return _Mapped(source, function)


def numbered(source: Source) -> Source:
    """The records with their place in `source` as `number` (int32), which shuffled batches keep."""
    numbers = {id: np.int32(index) for index, id in enumerate(source.ids)}
    return _Mapped(source, lambda record: {**record, "number": numbers[record["id"]]})


def cached(source: Source) -> Source:
    """The same records, kept in memory once they were read: for files that are slow to decode or `mapped`."""
    return _Cached(source)


def joined(sources: Mapping[str, Source]) -> Source:
    """Record i holds the image of record i of each source under that source's name; as long as the shortest.

    It makes one evaluation source of unpaired domains. Ids and subjects are joined by '|'.
    """
    return _Joined(sources)


def ordered_pairs(source: Source, names: tuple[str, str]) -> Source:
    """Every ordered pair of two records: their images under `names`, their other fields as 'name_field'.

    Pairs with the same first record follow each other. Ids and subjects are joined by '|'.
    """
    return _Pairs(source, names)


def folds(source: Source, count: int) -> list[Source]:
    """`count` parts of about equal size that share no subject, in the order of the SHA-256 of their names.

    UserError where there are fewer subjects than parts.
    """
    distinct = sorted(set(source.subjects), key=lambda subject: digest("folds", subject))
    if len(distinct) < count:
        raise UserError(f"'{source.name}' has {len(distinct)} training subjects, too few for {count} parts")
    part_of = {subject: number % count for number, subject in enumerate(distinct)}
    return [
        subset(source, [index for index, subject in enumerate(source.subjects) if part_of[subject] == part])
        for part in range(count)
    ]


def split_validation(source: Source, fraction: float = VALIDATION_FRACTION) -> tuple[Source, Source]:
    """(training, validation) parts of a training source, by subject.

    The subjects are ordered by the SHA-256 of their names and the first `fraction` of them (at least one)
    validates, so the parts depend neither on a seed nor on the order of the records. Raises UserError with
    fewer than two subjects.
    """
    held = held_out(source.subjects, fraction, "validation", source.name)
    parts = ([], [])
    for index, subject in enumerate(source.subjects):
        parts[subject in held].append(index)
    return subset(source, parts[0]), subset(source, parts[1])


def held_out(subjects: Iterable[str], fraction: float, purpose: str, name: str) -> frozenset[str]:
    """The `fraction` of the distinct subjects whose hashes for this purpose come first; at least one."""
    distinct = sorted(set(subjects), key=lambda subject: digest(purpose, subject))
    if len(distinct) < 2:
        raise UserError(
            f"'{name}' has {len(distinct)} subject, and holding out a {purpose} part needs two: "
            "add subjects, or name the parts in the column 'split' of split.csv"
        )
    count = min(max(round(fraction * len(distinct)), 1), len(distinct) - 1)
    return frozenset(distinct[:count])


def common_shape(source: Source, field: str = "image") -> tuple[int, ...]:
    """The shape that `field` has in every record; reads them where the source does not know it.

    Raises UserError naming two records that differ.
    """
    known = source.shapes(field) or (source[index][field].shape for index in range(len(source)))
    shape = None
    for index, found in enumerate(known):
        if shape is not None and found != shape:
            raise UserError(
                f"'{source.name}' mixes sizes: {source.ids[0]} is {shape}, {source.ids[index]} is {found}; "
                "choose an image size"
            )
        shape = found
    return shape


def digest(*parts: Any) -> str:
    """SHA-256 in hex of the parts' JSON."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _digest(array: np.ndarray) -> str:
    if array.dtype.kind == "U":
        return digest(array.tolist())
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _check_finite_rows(array: np.ndarray, field: str, name: str, ids: Sequence[str]) -> None:
    if array.dtype.kind != "f":
        return
    for row, record in zip(array, ids, strict=True):
        if not np.isfinite(row).all():
            raise UserError(
                f"'{field}' of '{record}' in '{name}' holds NaN or infinity: mend or remove the record"
            )
