"""The work directory of one run: its lock, its manifest, and files that are never half-written.

A work directory belongs to one experiment and one configuration. `manifest.json` records them with the
versions, the devices, the data's fingerprint, the source's git commit and the command; `.lock` is locked by
the process that works there. Only process 0 of a run locks and writes; the others learn whether that
succeeded.
"""

import dataclasses
import datetime
import errno
import fcntl
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import socket
import subprocess
import sys
import typing

import jax
import numpy as np

import medgan_jax
from medgan_jax.errors import UserError
from medgan_jax.training import agreement

MANIFEST = "manifest.json"
LOCK = ".lock"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_LISTED_DIFFERENCES = 10


def reason(error: BaseException) -> str:
    """Why a file operation failed, in a few words and on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    for known in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        if os.strerror(known) in text:
            return os.strerror(known)
    return text[:200] or type(error).__name__


def plain(value):
    """`value` as strict JSON has it: dicts, lists, texts, numbers; NaN and infinities become None.

    Takes dicts, sequences, dataclasses, paths, NumPy and JAX scalars and arrays. TypeError for anything else.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        numbers = np.asarray(value)
        exact = numbers if numbers.dtype.kind in "biu" else numbers.astype(np.float64)
        return plain(exact.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")


def synchronise(path: pathlib.Path) -> None:
    """Waits until the file or folder at `path` is on the disk itself (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file whole or not at all: to a temporary name beside it, to disk (fsync), then renamed.

    Raises:
        UserError: the place cannot be written, or the disk is full; an earlier file at `path` is untouched.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        synchronise(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` as strict JSON, whole or not at all. NaN and infinities, which JSON lacks, become null.

    Raises:
        UserError: the place cannot be written, or the disk is full.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_manifest(path: str | os.PathLike) -> dict:
    """The manifest of the run in the work directory `path`, without locking it.

    Raises:
        UserError: there is no run there, or its manifest cannot be read.
    """
    file = pathlib.Path(path) / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        manifest["experiment"], manifest["configuration"].items()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} holds no run: there is no {MANIFEST}; give --workdir of a run") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        mend = "restore it from a copy, or choose another work directory"
        raise UserError(f"{file} is damaged; {mend}") from error
    return manifest


def differences(there, here, name: str) -> list[str]:
    """Where two plain values differ, one `name.key: value there, value here` for each leaf."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in [*there, *(key for key in here if key not in there)]:
            if key not in here:
                found.append(f"{name}.{key}: {there[key]!r} there, absent here")
            elif key not in there:
                found.append(f"{name}.{key}: absent there, {here[key]!r} here")
            else:
                found.extend(differences(there[key], here[key], f"{name}.{key}"))
        return found
    same = there == here and isinstance(there, bool) == isinstance(here, bool)
    return [] if same else [f"{name}: {there!r} there, {here!r} here"]


class Workdir:
    """A locked work directory; a context manager that unlocks it at the end.

    Attributes:
        path: the folder, absolute.
        manifest: what `manifest.json` says.
        resumed: whether the folder held this run already.
    """

    def __init__(self, path: pathlib.Path, manifest: dict, resumed: bool, lock: int | None):
        self.path = path
        self.manifest = manifest
        self.resumed = resumed
        self._lock = lock

    def close(self) -> None:
        """Unlocks the folder; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def open_workdir(path: str | os.PathLike, *, experiment: str, configuration: dict, create: bool = True,
                 fingerprint: str | None = None) -> Workdir:
    """Creates or reopens the work directory of a run and locks it against other processes.

    Args:
        path: the folder; made where it is missing, with its parents.
        experiment: name of the experiment, for example 'reconstruction/dagan'.
        configuration: all options of the run, as `dataclasses.asdict` gives them.
        create: whether a folder without a run may be taken; False to continue runs only.
        fingerprint: fingerprint of the data; compared where both the folder and the caller have one.

    Raises:
        UserError: the folder cannot be made, written or locked; another process works in it; it holds another
            experiment, configuration or data (the message says what differs); or it holds no run and
            `create` is False. In a run of several processes it is raised in each.
    """
    path = pathlib.Path(path).absolute()
    held: list[int] = []
    lasting = {"experiment": experiment, "configuration": plain(configuration), "fingerprint": fingerprint}

    def prepare() -> str:
        lock = _lock_folder(path, create)
        try:
            resumed = _write_manifest(path, lasting, create)
        except BaseException:
            os.close(lock)
            raise
        held.append(lock)
        return "resumed" if resumed else "new"

    resumed = agreement.decide_on_first(prepare) == "resumed"
    return Workdir(path, read_manifest(path), resumed, held[0] if held else None)


def _lock_folder(path: pathlib.Path, create: bool) -> int:
    """Descriptor of the locked lock file in the folder `path`."""
    if not create and not path.is_dir():
        raise UserError(f"{path} holds no run: there is no such folder; give --workdir of a run")
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"the work directory {path} is, or lies under, a file; name a folder") from error
    except OSError as error:
        raise _unusable(path, "written", error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        mend = "wait for it or choose another"
        raise UserError(f"the work directory {path} is in use by {holder}; {mend}") from error
    except OSError as error:
        os.close(descriptor)
        raise _unusable(path, "locked", error) from error
    return descriptor


def _unusable(path: pathlib.Path, action: str, error: OSError) -> UserError:
    return UserError(f"the work directory {path} cannot be {action}: {reason(error)}; choose another")


def _holder(descriptor: int) -> str:
    """The process that holds the lock, in words."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _write_manifest(path: pathlib.Path, lasting: dict, create: bool) -> bool:
    """Writes the manifest of a new run, or checks that of an earlier one and notes the new start in it."""
    resumed = (path / MANIFEST).exists()
    if not resumed:
        if not create:
            raise UserError(f"{path} holds no run: there is no {MANIFEST}; give --workdir of a run")
        write_json(path / MANIFEST, {**lasting, **_circumstances(), "resumed": []})
        return False
    manifest = read_manifest(path)
    _refuse_another_run(path, manifest, lasting)
    manifest["fingerprint"] = manifest.get("fingerprint") or lasting["fingerprint"]
    manifest["resumed"] = [*manifest.get("resumed", []), _circumstances()]
    write_json(path / MANIFEST, manifest)
    return True


def _refuse_another_run(path: pathlib.Path, manifest: dict, lasting: dict) -> None:
    differing = []
    if manifest["experiment"] != lasting["experiment"]:
        differing.append(f"experiment: {manifest['experiment']} there, {lasting['experiment']} here")
    else:
        found = differences(manifest["configuration"], lasting["configuration"], "config")
        # An option of the experiment is called config.NAME on the command line.
        differing.extend(line.replace("config.config.", "config.", 1) for line in found)
    if manifest.get("fingerprint") and lasting["fingerprint"]:
        differing.extend(differences(manifest["fingerprint"], lasting["fingerprint"], "data fingerprint"))
    if differing:
        more = len(differing) - _LISTED_DIFFERENCES
        listed = "; ".join(differing[:_LISTED_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise UserError(f"{path} holds another run ({listed}); choose another work directory")


def _circumstances() -> dict:
    """When, how and on what a run was started."""
    versions = {name: _version(name) for name in _PACKAGES}
    device = jax.devices()[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(sys.orig_argv),
        "versions": {"python": platform.python_version(), "medgan_jax": medgan_jax.__version__, **versions},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count(),
                   "processes": jax.process_count(), "host": socket.gethostname(),
                   "processor": _processor(), "cores": _cores()},
        "git": _git_state(),
    }


def _processor() -> str:
    """The model of the host's processor, as far as the system tells."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (models or [platform.processor() or platform.machine()])[0]


def _cores() -> int | None:
    """Cores that this process may use, which can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> dict | None:
    """Commit of the repository that tracks this package, and whether files differ from it; None without
    one."""
    folder = pathlib.Path(medgan_jax.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
