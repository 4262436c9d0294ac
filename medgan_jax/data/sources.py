"""Sources of records: folders, TFDS, phantoms and arrays, opened by what `--data.source` says."""

import concurrent.futures
import functools
import pathlib
import threading
from collections.abc import Callable, Mapping

import jax
import numpy as np

from medgan_jax.data.folders import SPLITS, ArchiveSource, FolderSource, open_domains, open_folder
from medgan_jax.data.records import (
    ArraySource,
    Record,
    Records,
    Source,
    cached,
    common_shape,
    digest,
    divided,
    folds,
    joined,
    mapped,
    ordered_pairs,
    split_validation,
    subset,
    where,
)
from medgan_jax.errors import UserError

__all__ = [
    "SPLITS",
    "ArchiveSource",
    "ArraySource",
    "FolderSource",
    "PhantomSource",
    "Record",
    "Source",
    "cached",
    "common_shape",
    "divided",
    "folds",
    "joined",
    "mapped",
    "open_domains",
    "open_folder",
    "open_source",
    "ordered_pairs",
    "split_validation",
    "subset",
    "where",
]

Generate = Callable[[jax.Array], Mapping[str, jax.Array]]

# Records are drawn in chunks of one size, whatever is asked for: another size could round differently.
_CHUNK = 8


class PhantomSource(Records):
    """`count` phantoms, each its own subject, as arrays in memory.

    generate: key -> `{field: array}` of one record, pure, for `jit` and `vmap`. Record i of a part is a
    function of (seed, split, i) alone, on any number of devices; the parts draw from different keys, so no
    subject is in two. version: part of the fingerprint, to be raised when `generate` draws other images;
    parameters: what it was made with (None: the keywords of a `functools.partial`). Drawn on the CPU, in
    chunks, when a record is first read.
    """

    in_memory = True

    def __init__(
        self,
        name: str,
        generate: Generate,
        count: int,
        seed: int,
        *,
        split: str = "train",
        version: int = 1,
        parameters: Mapping[str, float | int | str] | None = None,
    ):
        ids = [f"{split}-{index:05d}" for index in range(count)]
        super().__init__(f"phantom:{name}", ids, ids)
        parameters = dict(parameters or getattr(generate, "keywords", {}))
        self.fingerprint = digest(self.name, version, parameters, seed, split, count)
        self._generate, self._seed, self._split = generate, seed, SPLITS.index(split)
        self._chunks = _drawn(self.fingerprint, *_identity(generate))
        self._lock = threading.Lock()

    def blank(self) -> Source:
        """The same records filled with zeros: shapes without drawing."""
        arrays = {
            field: np.broadcast_to(np.zeros((), leaf.dtype), (len(self), *leaf.shape))
            for field, leaf in _record_shapes(*_identity(self._generate)).items()
        }
        return ArraySource(arrays, self.subjects, self.name, self.ids)

    def read(self, index: int) -> Record:
        number, row = divmod(index, _CHUNK)
        with self._lock:
            if number not in self._chunks:
                self._chunks[number] = self._draw_chunk(number)
        return {field: array[row] for field, array in self._chunks[number].items()}

    def _draw_chunk(self, number: int) -> dict[str, np.ndarray]:
        # In a thread of its own, which knows nothing of a trace: a function that reads a record may be traced.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(self._drawn_chunk, number).result()

    def _drawn_chunk(self, number: int) -> dict[str, np.ndarray]:
        with jax.default_device(_cpu()):
            part = jax.random.fold_in(jax.random.key(self._seed), self._split)
            draw = _compiled(*_identity(self._generate))
            drawn = jax.device_get(draw(part, number * _CHUNK + np.arange(_CHUNK)))
        for array in drawn.values():
            array.flags.writeable = False
        return drawn


def _identity(generate: Generate) -> tuple[Callable, tuple, tuple]:
    """Function, arguments and options of a generator: equal for partials that draw the same."""
    if isinstance(generate, functools.partial):
        return generate.func, generate.args, tuple(sorted(generate.keywords.items()))
    return generate, (), ()


@functools.lru_cache(maxsize=32)
def _drawn(
    fingerprint: str, generate: Generate, arguments: tuple, options: tuple
) -> dict[int, dict[str, np.ndarray]]:
    """Chunks that this process has drawn, shared by equal sources."""
    return {}


@functools.lru_cache(maxsize=32)
def _record_shapes(generate: Generate, arguments: tuple, options: tuple) -> dict[str, jax.ShapeDtypeStruct]:
    return jax.eval_shape(lambda key: generate(*arguments, key, **dict(options)), jax.random.key(0))


@functools.lru_cache(maxsize=32)
def _compiled(generate: Generate, arguments: tuple, options: tuple) -> Callable:
    def record(part: jax.Array, index: jax.Array) -> Mapping[str, jax.Array]:
        return generate(*arguments, jax.random.fold_in(part, index), **dict(options))

    return jax.jit(jax.vmap(record, (None, 0)))


def open_source(
    source: str,
    *,
    split: str,
    phantom: Callable[[str], Source],
    directory: str | pathlib.Path | None = None,
) -> Source:
    """One part of what `--data.source` names: 'phantom', 'tfds:NAME[/CONFIG]', or a folder.

    phantom: split -> the experiment's phantom. directory: where TFDS keeps its data (None: its own default).
    Raises UserError where there is no such source or part.
    """
    if source == "phantom":
        return phantom(split)
    if source.startswith("phantom:"):
        raise UserError(f"data source '{source}': the phantom belongs to the experiment, say 'phantom'")
    if source.startswith("tfds:"):
        from medgan_jax.data.prepared import open_prepared

        return open_prepared(source.removeprefix("tfds:"), split=split, directory=directory)
    return open_folder(source, split=split)


def _cpu() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError(
            "phantoms are drawn on the CPU: add it to JAX_PLATFORMS, as in JAX_PLATFORMS=cuda,cpu"
        ) from error
