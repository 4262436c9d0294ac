"""Checkpoints that verify, and weights files: the only module that knows orbax.

A checkpoint is a folder named by its step. Orbax writes the arrays, from every process its own part, into
`<step>.unfinished`; process 0 then adds `metadata.json` (the caller's metadata, the schema version, the
data type and shape of every leaf) and `SHA256SUMS`, the hash of every file in the form that `sha256sum
--check` reads, and renames the folder to `<step>`. The rename is the one moment at which a checkpoint comes
to exist: a process that is killed before it leaves an `.unfinished` folder, which is never read and which
the next save clears away.

    directory/00000200/            kind 'last'
    directory/best/00000150/       kind 'best'

Nothing read from a checkpoint or a weights file is executed: arrays, JSON and hashes only. All processes of
a run need to see the same directory; a local or shared POSIX file system is assumed.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from medgan_jax.errors import DamagedCheckpointError, UserError
from medgan_jax.training import agreement, workdir

METADATA = "metadata.json"
SUMS = "SHA256SUMS"
_STEP = re.compile(r"(\d{8,})(\.replaced)?")
_LEFTOVER = re.compile(r"\d{8,}(\.replaced)?\.(unfinished|removed)")
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")
_LISTED_LEAVES = 10
_NUMPY_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
                "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64,
                "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_, "C64": np.complex64}

Kind = Literal["last", "best"]


class _Damaged(Exception):
    """A checkpoint that does not verify; the message says what is wrong with it."""


class _Leaf(NamedTuple):
    """What a checkpoint's table says of one leaf: data type, shape and, for PRNG keys, implementation."""

    dtype: str
    shape: tuple[int, ...]
    implementation: str | None = None

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class Checkpoints:
    """The checkpoints of one run: the newest `keep` of kind 'last' and one of kind 'best'.

    With several processes all of them make the same calls in the same order.
    """

    def __init__(self, directory: str | os.PathLike, *, schema: int, keep: int = 2,
                 warn: Callable[[str], None]):
        """
        Args:
            directory: the folder of the checkpoints; made by the first save.
            schema: version of the state's meaning; a checkpoint of another version is refused.
            keep: how many of kind 'last' are kept, at least 1.
            warn: takes one line, whenever something in the folder is passed over; called in process 0 only.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self._directory = pathlib.Path(directory).absolute()
        self._schema = schema
        self._keep = keep
        self._warn = warn
        self._damaged: set[pathlib.Path] = set()
        self._warned: set[str] = set()
        self._pending: concurrent.futures.Future | None = None
        self._writer = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")

    def save(self, step: int, state, metadata: dict, *, kind: Kind = "last") -> None:
        """Starts to write `state`; the arrays may be donated or deleted as soon as this returns.

        Waits for the previous save first. A checkpoint of the same kind and step is replaced, once the new
        one is complete. Older ones are removed only after the new one is complete.

        Args:
            step: the step that the state has reached, 0 or more.
            state: any pytree of JAX arrays (PRNG key arrays too), NumPy arrays and Python numbers.
            metadata: anything that JSON can hold; NaN and infinities become null.

        Raises:
            UserError: the previous save failed (disk full, folder not writable), or this one cannot begin.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, not {step}")
        self.wait()
        target = self._folder(kind) / f"{step:08d}"
        unfinished = target.with_name(f"{target.name}.unfinished")
        leaves = _named_leaves(state)
        table = {name: _describe(name, leaf) for name, leaf in leaves.items()}
        description = {"schema": self._schema, "step": step, "kind": kind,
                       "metadata": workdir.plain(metadata), "leaves": table}
        agreement.decide_on_first(lambda: self._make_room(target))
        arrays = {name: _owned(leaf) for name, leaf in leaves.items() if math.prod(table[name].shape)}
        if not arrays:
            raise ValueError("a state without a single number cannot be saved")
        try:
            with _format():
                response = ocp.save_async(str(unfinished), arrays)
        except OSError as error:
            raise _unwritable(target, error) from error
        self._pending = self._writer.submit(self._finish, response, target, unfinished, description)

    def wait(self) -> None:
        """Waits until the save that was started is complete.

        Raises:
            UserError: it failed, in whichever process. The checkpoints before it are untouched.
        """
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        if error is not None and not isinstance(error, UserError):
            raise error
        agreement.raise_anywhere(error)

    def restore(self, template, *, kind: Kind = "last",
                step: int | None = None) -> tuple[object, dict] | None:
        """The state and metadata of the newest checkpoint that verifies.

        The hash of every file is compared before anything is loaded. A checkpoint that does not verify is
        named to `warn`, and the one before it is tried.

        Args:
            template: pytree of `jax.ShapeDtypeStruct` or arrays, NumPy arrays and Python numbers. JAX
                leaves are restored with its shardings, whatever the number of devices they were saved on;
                without a sharding on one device, or with several processes on all devices alike.
            step: only this step; the newest that verifies if None.

        Returns:
            the state, with the structure of `template`, and the metadata; None if there is no checkpoint at
            all.

        Raises:
            UserError: none of the checkpoints verifies, the schema is another, or a leaf's name, data type
                or shape is not that of the template. Nothing is ever cast or loaded in part.
        """
        self.wait()
        wanted = {name: _describe(name, leaf) for name, leaf in _named_leaves(template).items()}

        def check(folder: pathlib.Path) -> None:
            _refuse_differing(folder, _table(self._checked_description(folder)), wanted)
            _verify(folder)

        chosen = agreement.decide_on_first(lambda: self._choose(kind, step, check))
        if not chosen:
            return None
        folder = self._folder(kind) / chosen
        description = self._chosen_description(folder)
        return _load(folder, template, _table(description)), description["metadata"]

    def arrays(self, *, kind: Kind = "last") -> dict[str, np.ndarray] | None:
        """All numeric leaves of the newest checkpoint that verifies, by path such as 'params/G/kernel'.

        For taking parts of a state into another run. None if there is no checkpoint at all; raises UserError as
        `restore` does.
        """
        self.wait()

        def check(folder: pathlib.Path) -> None:
            self._checked_description(folder)
            _verify(folder)

        chosen = agreement.decide_on_first(lambda: self._choose(kind, None, check))
        if not chosen:
            return None
        folder = self._folder(kind) / chosen
        table = _table(self._chosen_description(folder))
        numeric = {name: leaf for name, leaf in table.items() if leaf.implementation is None}
        template = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in numeric.items()}
        return _load(folder, template, table)

    def metadata(self, kind: Kind = "last", step: int | None = None) -> dict | None:
        """The metadata of the newest checkpoint whose metadata verify, without its arrays; None if none is.

        Raises:
            UserError: there are checkpoints, but no metadata verify, or the schema is another.
        """
        self.wait()
        chosen = agreement.decide_on_first(lambda: self._choose(kind, step, self._checked_description))
        return self._chosen_description(self._folder(kind) / chosen)["metadata"] if chosen else None

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints of kind 'last', ascending."""
        return sorted({_step_of(folder) for folder in self._complete("last")})

    def close(self) -> None:
        """Waits for the pending save, checks it, and ends the writing thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def _folder(self, kind: Kind) -> pathlib.Path:
        return {"last": self._directory, "best": self._directory / "best"}[kind]

    def _make_room(self, target: pathlib.Path) -> str:
        """Makes the folder of `target`, clears what interrupted saves left, spares what is no checkpoint."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(target, error) from error
        self._clear_leftovers()
        if target.exists() and not (target / SUMS).is_file():
            raise UserError(f"{target} is in the way of a checkpoint and is none itself; move it elsewhere")
        return str(target)

    def _clear_leftovers(self) -> None:
        for kind in ("last", "best"):
            for entry in _entries(self._folder(kind)):
                if _LEFTOVER.match(entry.name):
                    shutil.rmtree(entry, ignore_errors=True)

    def _finish(self, response, target: pathlib.Path, unfinished: pathlib.Path, description: dict) -> None:
        """In the writing thread: waits for all processes' arrays; process 0 then seals, renames, prunes."""
        try:
            response.result()
            if jax.process_index() == 0:
                _seal(unfinished, description)
                if target.exists():
                    replaced = target.with_name(f"{target.name}.replaced")
                    shutil.rmtree(replaced, ignore_errors=True)
                    target.rename(replaced)
                unfinished.rename(target)
                workdir.synchronise(target.parent)
        # Whatever orbax raises here, a file could not be written; the cause stays attached for debugging.
        except Exception as error:
            if jax.process_index() == 0:
                self._clear_leftovers()
            raise error if isinstance(error, UserError) else _unwritable(target, error) from error
        if jax.process_index() == 0:
            self._prune(description["kind"], target)

    def _prune(self, kind: Kind, written: pathlib.Path) -> None:
        """Removes what is neither `written` nor among the newest; damaged ones and replaced ones go first."""
        self._damaged.discard(written)
        newest_of_step = {}
        for folder in self._complete(kind):
            if folder not in self._damaged:
                newest_of_step.setdefault(_step_of(folder), folder)
        others = [folder for folder in newest_of_step.values() if folder != written]
        kept = {written, *others[: (self._keep if kind == "last" else 1) - 1]}
        for folder in self._complete(kind):
            # What cannot be removed now is tried again after the next save.
            with contextlib.suppress(OSError):
                if folder not in kept:
                    removed = folder.rename(folder.with_name(f"{folder.name}.removed"))
                    shutil.rmtree(removed)

    def _complete(self, kind: Kind) -> list[pathlib.Path]:
        """Complete checkpoints, newest first; at the same step the one being replaced comes last."""
        found = [entry for entry in _entries(self._folder(kind))
                 if _STEP.fullmatch(entry.name) and (entry / SUMS).is_file()]
        return sorted(found, key=lambda folder: (_step_of(folder), not folder.suffix), reverse=True)

    def _choose(self, kind: Kind, step: int | None, check: Callable[[pathlib.Path], object]) -> str:
        """Name of the newest checkpoint that passes `check`; '' if there are none."""
        self._warn_of_strays(kind)
        folders = [folder for folder in self._complete(kind) if step is None or _step_of(folder) == step]
        for folder in folders:
            try:
                check(folder)
                return folder.name
            except _Damaged as damage:
                self._damaged.add(folder)
                self._warn_once(f"skipped checkpoint {folder}: {damage}")
        if folders:
            raise DamagedCheckpointError(f"none of the {len(folders)} checkpoints in {self._folder(kind)} verifies; "
                            "restore the directory from a copy, or start again in another work directory")
        return ""

    def _warn_of_strays(self, kind: Kind) -> None:
        for entry in _entries(self._folder(kind)):
            if _LEFTOVER.match(entry.name) and ".unfinished" in entry.name:
                self._warn_once(f"skipped checkpoint {entry}: it is unfinished (its save was interrupted)")
            elif entry.name.isdigit() and not (_STEP.fullmatch(entry.name) and (entry / SUMS).is_file()):
                self._warn_once(f"skipped {entry}: it is not a checkpoint")

    def _warn_once(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)

    def _checked_description(self, folder: pathlib.Path) -> dict:
        """What `metadata.json` holds, after its hash and its schema version are checked."""
        sums = _read_sums(folder)
        if METADATA not in sums:
            raise _Damaged(f"{SUMS} does not list {METADATA}")
        _compare(folder, METADATA, sums[METADATA])
        description = json.loads((folder / METADATA).read_text())
        if description["schema"] != self._schema:
            raise UserError(f"checkpoint {folder} has schema {description['schema']}, this version of "
                            f"medgan_jax reads schema {self._schema}; continue with the version that "
                            "wrote it, or start a new run")
        return description

    def _chosen_description(self, folder: pathlib.Path) -> dict:
        """The same, of the checkpoint that process 0 has chosen: every process must be able to read it."""
        try:
            return self._checked_description(folder)
        except _Damaged as damage:
            raise UserError(f"process {jax.process_index()} cannot read checkpoint {folder}: {damage}; all "
                            "processes need the same shared directory") from damage


def export_weights(path: str | os.PathLike, params: dict) -> str:
    """Writes a nested dict of arrays as one safetensors file with flat names such as 'encoder/kernel'.

    Returns:
        the SHA-256 of the file, in hexadecimal.

    Raises:
        UserError: the file cannot be written.
    """
    flat = {}
    for name, leaf in _named_leaves(params).items():
        flat[name] = np.asarray(jax.device_get(leaf), order="C")
    content = safetensors.numpy.save(flat, metadata={"sha256": _digest(flat)})
    workdir.write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def import_weights(path: str | os.PathLike) -> dict:
    """Reads a safetensors file into a nested dict of NumPy arrays; `checksum(path)` identifies the file.

    A file written by `export_weights` carries a hash of its arrays, which is compared.

    Raises:
        UserError: the file is missing, truncated or altered, or no safetensors file.
    """
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the weights file {path}: {workdir.reason(error)}") from error
    try:
        # `deserialize` checks the header, so that its length may be trusted afterwards.
        entries = safetensors.deserialize(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        flat = {name: np.frombuffer(entry["data"], _NUMPY_TYPES[entry["dtype"]]).reshape(entry["shape"])
                for name, entry in entries}
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"the weights file {path} is truncated, or no safetensors file "
                        f"({workdir.reason(error)}); copy it again") from error
    noted = header.get("__metadata__", {}).get("sha256")
    if noted is not None and noted != _digest(flat):
        raise UserError(f"the weights file {path} is altered: its arrays do not have the hash noted in it; "
                        "copy it again")
    return _nested(path, flat)


def checksum(path: str | os.PathLike) -> str:
    """SHA-256 of the file at `path`, in hexadecimal. UserError if it cannot be read."""
    try:
        return _hash_file(pathlib.Path(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {workdir.reason(error)}") from error


def _digest(flat: dict[str, np.ndarray]) -> str:
    """SHA-256 over the names, data types, shapes and bytes of arrays."""
    total = hashlib.sha256()
    for name in sorted(flat):
        total.update(f"{name} {flat[name].dtype} {flat[name].shape}\n".encode())
        total.update(flat[name].tobytes())
    return total.hexdigest()


def _nested(path: str | os.PathLike, flat: dict[str, np.ndarray]) -> dict:
    tree: dict = {}
    for name, array in flat.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last in place:
            raise UserError(f"the weights file {path} names both an array and a folder {name!r}")
        place[last] = array
    return tree


def _named_leaves(tree) -> dict[str, object]:
    """The leaves of a pytree by their path, such as 'params/G/kernel' or 'optimizer/0/mu/kernel'."""
    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in named:
            raise ValueError(f"two leaves have the name {name!r}")
        named[name] = leaf
    return named


def _is_key(dtype) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _describe(name: str, leaf) -> _Leaf:
    if isinstance(leaf, bool | int | float | complex):
        leaf = np.asarray(leaf)
    on_host = isinstance(leaf, np.ndarray | np.generic)
    on_device = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    if not on_device and not (on_host and leaf.dtype.kind not in "OUSMm"):
        raise ValueError(f"leaf {name!r} is a {type(leaf).__name__}; a state holds arrays and numbers only")
    concrete_key = isinstance(leaf, jax.Array) and _is_key(leaf.dtype)
    return _Leaf(str(leaf.dtype), tuple(leaf.shape), str(jax.random.key_impl(leaf)) if concrete_key else None)


def _owned(leaf):
    """An array for orbax that nobody else writes to.

    On accelerators orbax copies to the host before its call returns. On CPU the "copy" may be the device's
    own memory, which the next step is given to write on when the state is donated: there every shard is
    copied.
    """
    if not isinstance(leaf, jax.Array):
        return np.array(leaf)
    array = jax.random.key_data(leaf) if _is_key(leaf.dtype) else leaf
    if next(iter(array.sharding.device_set)).platform != "cpu":
        return array
    shards = [jax.device_put(np.array(shard.data), shard.device) for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, shards)


def _format() -> ocp.Context:
    """Arrays are written uncompressed: float32 noise shrinks by 8 %, for three times the work of a save."""
    context = ocp.Context()
    context.array.saving.use_compression = False
    return context


def _load(folder: pathlib.Path, template, table: dict[str, _Leaf]):
    """Loads a verified checkpoint with the structure and the shardings of `template`."""
    wanted = _named_leaves(template)
    abstract = {name: _abstract(leaf, table[name]) for name, leaf in wanted.items()
                if math.prod(table[name].shape)}
    try:
        loaded = ocp.load(str(folder), abstract)
    # The files verify and the table fits, so what is left is the machine: memory, devices, or another orbax.
    except Exception as error:
        why = workdir.reason(error)
        raise UserError(f"checkpoint {folder} verifies but cannot be loaded: {why}") from error
    leaves = [_restored(leaf, table[name], loaded.get(name)) for name, leaf in wanted.items()]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(template), leaves)


def _sharding(leaf) -> jax.sharding.Sharding:
    if leaf.sharding is not None:
        return leaf.sharding
    if jax.process_count() == 1:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def _abstract(leaf, saved: _Leaf):
    """What orbax is asked for: the leaf with the data type and shape that it has in the checkpoint."""
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return np.empty(saved.shape, saved.dtype)
    if not _is_key(leaf.dtype):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding(leaf))
    data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=saved.implementation)))
    return jax.ShapeDtypeStruct((*leaf.shape, *data.shape), data.dtype, sharding=_sharding(leaf))


def _restored(leaf, saved: _Leaf, loaded):
    """The leaf as the template has it: a PRNG key, an array without elements, a NumPy array or a number."""
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        if loaded is None:
            empty = np.empty(saved.shape, leaf.dtype)
            return jax.make_array_from_callback(saved.shape, _sharding(leaf), lambda index: empty[index])
        return jax.random.wrap_key_data(loaded, impl=saved.implementation) if _is_key(leaf.dtype) else loaded
    array = np.empty(saved.shape, saved.dtype) if loaded is None else np.asarray(loaded)
    if isinstance(leaf, np.ndarray):
        return array
    return array[()] if isinstance(leaf, np.generic) else array.item()


def _table(description: dict) -> dict[str, _Leaf]:
    return {name: _Leaf(dtype, tuple(shape), implementation)
            for name, (dtype, shape, implementation) in description["leaves"].items()}


def _refuse_differing(folder: pathlib.Path, saved: dict[str, _Leaf], wanted: dict[str, _Leaf]) -> None:
    """Raises UserError with the leaves that differ, unless names, data types and shapes are all the same."""
    lines = []
    for name in [*wanted, *(name for name in saved if name not in wanted)]:
        there, here = saved.get(name), wanted.get(name)
        if there is None or here is None or there[:2] != here[:2]:
            lines.append(f"{name}: saved {there or 'nothing'}, wanted {here or 'nothing'}")
    if lines:
        more = [f"and {len(lines) - _LISTED_LEAVES} more"] if len(lines) > _LISTED_LEAVES else []
        title = f"checkpoint {folder} does not fit this run's state, {len(lines)} leaves differ:"
        raise UserError("\n  ".join([title, *lines[:_LISTED_LEAVES], *more]))


def _seal(folder: pathlib.Path, description: dict) -> None:
    """Writes metadata and the hashes of all files of a checkpoint, and waits until all are on the disk."""
    workdir.write_json(folder / METADATA, description)
    files = _files(folder)
    lines = []
    for name in sorted(files):
        workdir.synchronise(files[name])
        lines.append(f"{_hash_file(files[name])}  {name}\n")
    workdir.write_bytes(folder / SUMS, "".join(lines).encode())
    for parent, _, _ in os.walk(folder):
        workdir.synchronise(pathlib.Path(parent))


def _verify(folder: pathlib.Path) -> None:
    """Raises `_Damaged` unless the files are those that were hashed, each with its hash."""
    sums = _read_sums(folder)
    files = _files(folder)
    for name in sorted({*sums, *files} - {SUMS}):
        if name not in files:
            raise _Damaged(f"{name} is missing")
        if name not in sums:
            raise _Damaged(f"{SUMS} does not list {name}")
        _compare(folder, name, sums[name])


def _compare(folder: pathlib.Path, name: str, noted: str) -> None:
    try:
        found = _hash_file(folder / name)
    except OSError as error:
        raise _Damaged(f"{name} cannot be read ({workdir.reason(error)})") from error
    if found != noted:
        raise _Damaged(f"{name} is corrupted (its SHA-256 is not the one noted)")


def _read_sums(folder: pathlib.Path) -> dict[str, str]:
    """The hash of every file by its name, from `SHA256SUMS`."""
    try:
        matches = [_SUM.fullmatch(line) for line in (folder / SUMS).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise _Damaged(f"{SUMS} cannot be read ({workdir.reason(error)})") from error
    if not matches or None in matches:
        raise _Damaged(f"{SUMS} is corrupted")
    return {match[2]: match[1] for match in matches}


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """All files under `folder` by their relative name."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}


def _hash_file(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """What lies in `folder`, by name; nothing if there is no such folder."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read the checkpoints in {folder}: {workdir.reason(error)}") from error


def _step_of(folder: pathlib.Path) -> int:
    return int(folder.name.split(".")[0])


def _unwritable(target: pathlib.Path, error: BaseException) -> UserError:
    return UserError(f"checkpoint {target} could not be written: {workdir.reason(error)}; mend that or "
                     "choose another work directory (the checkpoints before it are untouched)")
