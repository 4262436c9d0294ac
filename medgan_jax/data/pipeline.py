"""Batches in a deterministic, resumable order from sources of records.

The batch of a step is a function of (seed, step) alone, so that no data position is ever saved. This is the
only file that imports grain.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import grain.python as grain
import numpy as np

from medgan_jax.data.sources import Record, Source, common_shape
from medgan_jax.errors import UserError

Batch = np.ndarray | dict[str, Any]
Augment = Callable[[Record, np.random.Generator], Record]

_NARROW = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}


@dataclasses.dataclass(frozen=True)
class Stream:
    """Records of one source as training batches, in its own shuffled order.

    batch_size: rows of the global batch, over all hosts. augment: (record, generator) -> record, on the host;
    it gets the whole record and must not write into its arrays. fields: the record's arrays that a batch
    holds; None takes `Data.fields`, and all arrays where that is None too. Without `augment` nothing else is
    decoded of a prepared set.
    """

    source: Source
    batch_size: int
    augment: Augment | None = None
    fields: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Data:
    """What one stage trains on and is evaluated on.

    train: one stream, whose batches are `{field: (B, ...)}`; or several by name, whose batches are `{name:
    batch}`, where the batch of a stream with a single field is that array itself. fields: the default for
    streams and the choice for evaluation batches.
    """

    train: Stream | Mapping[str, Stream]
    validation: Source | None = None
    test: Source | None = None
    evaluation_batch_size: int = 8
    fields: tuple[str, ...] | None = None


def train_batches(
    data: Data,
    *,
    seed: int,
    start_step: int = 0,
    repeats: int = 1,
    host_index: int = 0,
    host_count: int = 1,
    threads: int = 4,
    lookahead: int = 4,
) -> Iterator[Batch]:
    """Endless training batches, from that of `start_step` on; each epoch is shuffled anew.

    repeats: batches that a step draws; above 1 the leaves are `(repeats, B, ...)`. A host gets rows
    `host_index * B / host_count` and on of each batch of B rows; shuffling and augmentation come before that
    slice, so the hosts' rows join to the same batch for any number of hosts. threads: readers per stream;
    lookahead: steps that they may run ahead. Raises UserError where the hosts do not divide a batch size, a
    source is empty, a field is missing, or the records of a batch differ in size.
    """
    streams = data.train if isinstance(data.train, Mapping) else {"": data.train}
    iterators = {}
    for name, stream in streams.items():
        rows = _rows_per_host(name, stream, host_count)

        def position(index: int, size=stream.batch_size, rows=rows) -> int:
            batch, row = divmod(index, rows)
            return (start_step * repeats + batch) * size + host_index * rows + row

        fields = _choose_fields(stream.source, stream.fields or data.fields, stream.augment is not None)
        if stream.augment is None:
            stream = dataclasses.replace(stream, source=_narrowed(stream.source, fields))
        if stream.augment is None and getattr(stream.source, "in_memory", False):
            reader = _gathered(_order(name, stream, seed), position)
        else:
            dataset = _ordered(name, stream, seed)
            reader = _reader(dataset, position, sys.maxsize, threads, lookahead * repeats * rows)
        iterators[name] = _stacked(reader, rows, repeats, fields)
    if not isinstance(data.train, Mapping):
        return iterators[""]
    return _together(iterators)


def evaluation_batches(
    source: Source,
    batch_size: int,
    *,
    host_index: int = 0,
    host_count: int = 1,
    fields: tuple[str, ...] | None = None,
    threads: int = 4,
    lookahead: int = 2,
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """The records once, in order, as (this host's rows of a batch, number of real rows in the global batch).

    The last batch is filled up by repeating the last record, so every batch has `batch_size` rows in all.
    Raises UserError like `train_batches`.
    """
    rows = _rows_per_host("", Stream(source, batch_size), host_count)
    fields = _choose_fields(source, fields, False)
    source = _narrowed(source, fields)
    size, batches = len(source), -(-len(source) // batch_size)

    def position(index: int) -> int:
        batch, row = divmod(index, rows)
        return min(batch * batch_size + host_index * rows + row, size - 1)

    reader = _reader(grain.MapDataset.source(source), position, batches * rows, threads, lookahead * rows)
    counts = [min(batch_size, size - start) for start in range(0, size, batch_size)]
    return zip(_stacked(reader, rows, 1, fields), counts, strict=False)


class Prefetch:
    """Runs an iterator and `put` (such as the transfer to the device) ahead on a thread.

    `seconds_waited` is the time that the caller has spent in `next`. An error on the thread is raised again
    in the caller, at the place of the batch that it spoiled. Use it in a `with` block, or call `close`.
    """

    def __init__(self, iterator: Iterable[Any], put: Callable[[Any], Any] = lambda x: x, ahead: int = 2):
        self.seconds_waited = 0.0
        self._iterator = iter(iterator)
        self._put = put
        self._queue = queue.Queue(maxsize=ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medgan-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> "Prefetch":
        return self

    def __next__(self) -> Any:
        if self._closed.is_set():
            raise StopIteration
        start = time.perf_counter()
        item, error = self._queue.get()
        self.seconds_waited += time.perf_counter() - start
        if error is None:
            return item
        self._closed.set()
        raise error

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the thread and the iterator; the batches read ahead are dropped."""
        self._closed.set()
        while self._thread.is_alive():
            # The thread may be waiting for room in the queue.
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=0.01)
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._iterator:
                if self._closed.is_set():
                    break
                self._queue.put((self._put(item), None))
            else:
                self._queue.put((None, StopIteration()))
        except BaseException as error:
            self._queue.put((None, error))
        finally:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()


class _Reordered:
    """Random access to the elements `dataset[position(0)], dataset[position(1)], ...`."""

    def __init__(self, dataset: Any, position: Callable[[int], int], length: int):
        self._dataset, self._position, self._length = dataset, position, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> "Record | _Failure":
        try:
            return self._dataset[self._position(index)]
        except Exception as error:
            # Raised here it would come out with lines about grain in its message.
            return _Failure(error)


@dataclasses.dataclass(frozen=True)
class _Failure:
    error: Exception


class _Shuffled:
    """The records of a source without end, in another order in each epoch.

    Grain's own shuffle draws from 65,536 numbers until one is below the length: 3.5 ms a record for ten
    records.
    """

    def __init__(self, source: Source, seed: int):
        self._source, self._seed = source, seed
        self._order = functools.lru_cache(maxsize=16)(self._draw_order)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Record:
        epoch, row = divmod(index, len(self._source))
        return self._source[int(self._order(epoch)[row])]

    def _draw_order(self, epoch: int) -> np.ndarray:
        numbers = np.random.Philox(key=self._seed, counter=[0, 0, 0, epoch]).random_raw(len(self._source))
        return np.argsort(numbers, kind="stable")


def _ordered(name: str, stream: Stream, seed: int) -> grain.MapDataset:
    """The stream's records by global index: shuffled in each epoch, without end, augmented."""
    dataset = grain.MapDataset.source(_order(name, stream, seed))
    if stream.augment is None:
        return dataset
    return dataset.random_map(stream.augment, seed=_derived(seed, name, "augment"))


def _order(name: str, stream: Stream, seed: int) -> _Shuffled:
    return _Shuffled(stream.source, _derived(seed, name, "order"))


def _gathered(order: _Shuffled, position: Callable[[int], int]) -> Iterator[Record]:
    """The records that `_reader` reads on threads, without threads: they lie in memory, and the way costs more."""
    for index in itertools.count():
        yield order[position(index)]


def _derived(seed: int, name: str, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/{purpose}".encode()).digest()[:4], "big")


def _reader(dataset: Any, position: Callable[[int], int], length: int, threads: int, buffer: int) -> Any:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer if threads else 0)
    return iter(grain.MapDataset.source(_Reordered(dataset, position, length)).to_iter_dataset(options))


def _rows_per_host(name: str, stream: Stream, host_count: int) -> int:
    where = f" of stream '{name}'" if name else ""
    if len(stream.source) == 0:
        raise UserError(f"data source '{stream.source.name}' holds no records")
    if stream.batch_size < 1:
        raise UserError(f"batch size {stream.batch_size}{where} is not positive: use 1 or more")
    if stream.batch_size % host_count:
        raise UserError(
            f"batch size {stream.batch_size}{where} cannot be divided over {host_count} hosts: "
            f"use a multiple of {host_count}"
        )
    return stream.batch_size // host_count


def _choose_fields(source: Source, fields: tuple[str, ...] | None, augmented: bool) -> tuple[str, ...] | None:
    """The fields asked for; unless augmented, that records have them in one size is checked."""
    if not augmented:
        for field in _pick(source[0], fields):
            if source.shapes(field) is not None:
                common_shape(source, field)
    return fields


def _narrowed(source: Source, fields: tuple[str, ...] | None) -> Source:
    """The source without the cost of decoding what no batch holds."""
    return source if fields is None else source.with_fields(fields)


def _pick(record: Record, fields: tuple[str, ...] | None) -> dict[str, np.ndarray]:
    arrays = {name: value for name, value in record.items() if not isinstance(value, str)}
    if fields is None:
        return arrays
    for name in fields:
        if name not in arrays:
            raise UserError(f"record '{record.get('id')}' has no array '{name}'; it has {', '.join(arrays)}")
    return {name: arrays[name] for name in fields}


def _stacked(
    reader: Any, rows: int, repeats: int, fields: tuple[str, ...] | None
) -> Iterator[dict[str, np.ndarray]]:
    """Dictionaries of `(rows, ...)` arrays, or `(repeats, rows, ...)` where repeats are above 1."""
    try:
        while records := list(map(_unwrapped, itertools.islice(reader, rows * repeats))):
            batch = _stack(records, fields)
            if repeats > 1:
                batch = {name: x.reshape(repeats, rows, *x.shape[1:]) for name, x in batch.items()}
            yield batch
    finally:
        reader.close()


def _unwrapped(element: Record | _Failure) -> Record:
    if isinstance(element, _Failure):
        raise element.error
    return element


def _stack(records: list[Record], fields: tuple[str, ...] | None) -> dict[str, np.ndarray]:
    picked = [_pick(record, fields) for record in records]
    batch = {}
    for name, first in picked[0].items():
        arrays = [np.asarray(arrays[name]) for arrays in picked]
        for record, array in zip(records, arrays, strict=True):
            if array.shape != np.shape(first):
                raise UserError(
                    f"'{name}' differs in size: {np.shape(first)} in '{records[0].get('id')}', {array.shape} "
                    f"in '{record.get('id')}'; choose an image size, or leave '{name}' out of the fields"
                )
        stacked = np.stack(arrays)
        batch[name] = stacked.astype(_NARROW.get(stacked.dtype, stacked.dtype), copy=False)
    return batch


def _together(iterators: Mapping[str, Iterator[dict[str, np.ndarray]]]) -> Iterator[dict[str, Any]]:
    try:
        for batches in zip(*iterators.values(), strict=True):
            yield {name: _bare(batch) for name, batch in zip(iterators, batches, strict=True)}
    finally:
        for iterator in iterators.values():
            iterator.close()


def _bare(batch: dict[str, np.ndarray]) -> Batch:
    return next(iter(batch.values())) if len(batch) == 1 else batch
